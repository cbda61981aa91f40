"""Importance weights: the known density ratio, its limits, and that no truth has a place in them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from galineage.adaptation import effective_size, importance_weights
from galineage.errors import ConfigError, DataError


def gaussians(n=1500, m=1000, away=0.7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) + np.array([away, 0])


def test_the_ratio_of_two_gaussians_is_found():
    x, other = gaussians()
    found = importance_weights(x, other, clip=50.0)
    true = np.exp(0.7 * x[:, 0] - 0.5 * 0.7**2)
    assert found.mean() == pytest.approx(1)
    assert np.corrcoef(np.log(found), np.log(true))[0, 1] > 0.97
    assert np.abs(np.log(found / true)).mean() < 0.15


def test_weighted_means_become_those_of_the_target():
    x, other = gaussians()
    w = importance_weights(x, other)
    assert (w @ x / w.sum())[0] == pytest.approx(other[:, 0].mean(), abs=0.1)


def test_equal_domains_need_no_weights():
    x, other = gaussians(away=0.0)
    found = importance_weights(x, other)
    assert effective_size(found) > 0.98 * len(x)
    assert np.abs(np.log(found)).max() < 0.4


def test_trees_find_what_no_quadratic_function_can():
    rng = np.random.default_rng(0)
    x, other = rng.uniform(-1, 1, (1500, 2)), rng.uniform(-1, 1, (1500, 2))
    other = other[np.cos(9 * other[:, 0]) > 0]
    found = importance_weights(x, other)
    inside = np.cos(9 * x[:, 0]) > 0
    assert found[inside].mean() > 3 * found[~inside].mean()


def test_no_galaxy_counts_more_than_the_clip():
    x, other = gaussians(n=400, m=300, away=3.0)
    found = importance_weights(x, other, clip=4.0)
    free = importance_weights(x, other, clip=1e6)
    assert (found > 0).all()
    assert found.max() / np.median(found[found > 0]) <= free.max() / np.median(free[free > 0])
    assert effective_size(found) > effective_size(free)


def test_it_repeats_itself_and_depends_on_nothing_but_features_and_seed():
    x, other = gaussians(n=200, m=150)
    assert np.array_equal(importance_weights(x, other, seed=3), importance_weights(x, other, seed=3))
    assert set(inspect.signature(importance_weights).parameters) == {"source_x", "target_x", "seed", "clip"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source_x": np.ones((10, 2))}, DataError, r"source features have shape \(10, 2\)"),
        ({"target_x": np.full((50, 2), np.nan)}, DataError, "target features are not finite"),
        ({"target_x": np.ones((50, 3))}, DataError, "2 and 3 columns"),
        ({"clip": 1.0}, ConfigError, "clip is 1.0"),
        ({"clip": float("nan")}, ConfigError, "clip is nan"),
    ],
)
def test_what_cannot_be_weighted_is_refused(change, error, message):
    x, other = gaussians(n=60, m=60)
    with pytest.raises(error, match=message):
        importance_weights(**{"source_x": x, "target_x": other, **change})
