"""Batches in several threads give what one thread gives, and leave torch as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from galineage.errors import DataError
from galineage.models import make_estimator
from galineage.prediction import _BATCH, summarise


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def estimator():
    return make_estimator("mdn", ["mstar", "age"], members=2, hidden=(8,)).eval()


@pytest.fixture
def x(rng):
    return rng.uniform([9, 3], [12, 12], (2 * _BATCH + 7, 2))


def test_two_threads_give_what_batches_one_by_one_give(estimator, x, two_threads):
    found = summarise(estimator, x)
    parts = [summarise(estimator, x[start : start + _BATCH]) for start in range(0, len(x), _BATCH)]
    for name, values in found.items():
        np.testing.assert_allclose(values, np.concatenate([part[name] for part in parts], axis=-1), atol=3e-5)


def test_the_number_of_threads_is_as_before_also_after_an_error(estimator, x, two_threads):
    summarise(estimator, x)
    assert torch.get_num_threads() == 2
    x[_BATCH + 3, 1] = np.nan
    with pytest.raises(DataError, match="NaN"):
        summarise(estimator, x)
    assert torch.get_num_threads() == 2


def test_what_draws_samples_is_the_same_with_any_number_of_threads(estimator, x, two_threads):
    def draw(posterior, rows):
        return {"draw": posterior.sample(1, seed=rows.start).squeeze(0)}

    two = summarise(estimator, x, extra=draw, mode=False)["draw"]
    torch.set_num_threads(1)
    np.testing.assert_allclose(two, summarise(estimator, x, extra=draw, mode=False)["draw"], atol=1e-5)
