"""Predictions beside the truth: every column is what its definition says, and no galaxy is dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from galineage.errors import DataError
from galineage.evaluation.scores import ARRAYS, Scores, join
from galineage.evaluation.scoring import score
from galineage.galaxy import Catalogue
from galineage.models import make_estimator
from galineage.posterior import Posterior

FEATURES = ("mstar", "age")


@pytest.fixture(scope="module")
def estimator():
    found = make_estimator("mdn", FEATURES, members=3, hidden=(16,), seed=1)
    found.fit_scaling(torch.tensor([[9.0, 3.0], [12.0, 12.0]]))
    return found.eval()


def features(n, seed=0):
    return np.random.default_rng(seed).uniform([9, 3], [12, 12], (n, 2))


def galaxies(estimator, n, seed=0):
    """Galaxies whose truth is drawn from the estimator's own posterior: it is calibrated by construction."""
    x = features(n, seed)
    with torch.no_grad():
        truth = Posterior(estimator(torch.tensor(x, dtype=torch.float32))).sample(1, seed=seed + 99)[0]
    columns = {"mstar": 10 ** x[:, 0], "age": x[:, 1], "f_ex": truth.double().numpy()}
    return Catalogue(columns, np.arange(n) + 7, "toy-a")


def test_columns_are_those_of_the_posterior(estimator):
    cat = galaxies(estimator, 50)
    found = score(estimator, cat, model="mdn", train="toy-a", test="toy-b", draws=99, seed=4)
    with torch.no_grad():
        posterior = Posterior(estimator(torch.tensor(cat.features(FEATURES), dtype=torch.float32)))
    truth = torch.tensor(cat["f_ex"], dtype=torch.float32)
    np.testing.assert_allclose(found.truth, cat["f_ex"], atol=1e-7)
    np.testing.assert_allclose(found.pit, posterior.cdf(truth), atol=1e-6)
    np.testing.assert_allclose(found.log_prob, posterior.log_prob(truth), atol=1e-5)
    np.testing.assert_allclose(found.crps, posterior.crps(truth), atol=1e-6)
    np.testing.assert_allclose(found.p16, posterior.quantile([0.16])[0], atol=1e-5)
    np.testing.assert_allclose(found.aleatoric**2 + found.epistemic**2, found.std**2, rtol=1e-3)
    samples = posterior.sample(99, 4 + 2)
    assert found.rank.tolist() == (samples < truth).sum(0).tolist()
    assert found.ids.tolist() == [str(value) for value in cat.ids]
    assert (found.draws, found.target, found.label, found.model) == (99, "f_ex", "toy-a → toy-b", "mdn")
    assert len(found) == 50


def test_a_calibrated_model_has_uniform_pit_ranks_and_tarp(estimator):
    found = score(estimator, galaxies(estimator, 3000), draws=199)
    for values in (found.pit, (found.rank + 0.5) / 200, found.tarp):
        assert stats.kstest(values, "uniform").statistic < 0.035
    assert found.rank.min() >= 0
    assert found.rank.max() <= 199
    assert ((found.tarp >= 0) & (found.tarp <= 1)).all()


def test_scores_repeat_with_their_seed(estimator):
    cat = galaxies(estimator, 30)
    first, again, other = (score(estimator, cat, draws=49, seed=seed) for seed in (1, 1, 2))
    for name in ARRAYS:
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.rank, other.rank)
    assert np.array_equal(first.pit, other.pit)


def test_a_galaxy_with_a_missing_input_is_refused_not_dropped(estimator):
    cat = Catalogue({"mstar": [1e10, 1e10], "age": [5.0, np.nan], "f_ex": [0.1, 0.2]}, np.arange(2), "a")
    with pytest.raises(DataError, match="NaN") as caught:
        score(estimator, cat)
    assert "row 1" in caught.value.where
    with pytest.raises(DataError, match="no column 'f_ex'"):
        score(estimator, Catalogue({"mstar": [1e10], "age": [5.0]}, np.arange(1), "a"))


def test_single_precision_columns_are_read_without_complaint(estimator):
    cat = galaxies(estimator, 20)
    columns = {name: cat[name].astype(np.float32) for name in cat.columns}
    found = score(estimator, Catalogue(columns, cat.ids, "a"), draws=9)
    assert found.truth.dtype == np.float64


def test_rows_that_are_not_finite_or_not_there_are_refused(estimator):
    good = score(estimator, galaxies(estimator, 5), draws=9)
    crps = good.crps.copy()
    crps[3] = np.nan
    with pytest.raises(DataError, match="'crps' holds nan") as caught:
        replace(good, crps=crps, model="mdn")
    assert "row 3, id 10, model mdn" in caught.value.where
    with pytest.raises(DataError, match="shape"):
        replace(good, pit=good.pit[:3])


def test_selecting_and_joining_are_inverse(estimator):
    good = score(estimator, galaxies(estimator, 9), draws=9, test="toy-b")
    back = join([good.select(np.arange(4)), good.select(np.arange(9) >= 4)])
    assert isinstance(back, Scores)
    for name in ARRAYS:
        assert np.array_equal(getattr(back, name), getattr(good, name))
    assert back.test == "toy-b"
