"""Correction of a prior: right where only the prior differs, harmless where nothing does, else refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Normal

import galineage
from galineage.adaptation import correct_prior, estimate_prior
from galineage.errors import ConfigError, DataError
from galineage.galaxy import Catalogue
from galineage.models import make_estimator
from galineage.models.prior_corrected import PriorCorrected
from galineage.posterior import Posterior
from galineage.training import TrainConfig, train

NOISE = 0.12


def made(count, power, seed):
    """Galaxies whose one input is their fraction with noise; how often a fraction occurs is ``power``'s business."""
    rng = np.random.default_rng(seed)
    f_ex = rng.beta(*power, count)
    # a column that may have any sign is needed: spin in dex
    seen = 10 ** (f_ex + NOISE * rng.standard_normal(count))
    ids = np.arange(count)
    return Catalogue({"f_ex": f_ex, "spin": seen, "mstar": np.full(count, 1e10)}, ids, np.asarray(f"made {power}"))


@pytest.fixture(scope="module")
def model():
    config = TrainConfig(max_epochs=40, patience=10, device="cpu")
    with torch.random.fork_rng(devices=[]):
        return train(made(6000, (1.2, 3.0), 1), ("spin",), "mdn", members=1, config=config, progress=False, split="row")


def posterior(bundle, catalogue):
    with torch.no_grad():
        return Posterior(bundle.estimator(torch.tensor(catalogue.features(("spin",)), dtype=torch.float32)))


def test_a_shifted_prior_is_found_and_bias_is_gone(model):
    here, there = made(6000, (1.2, 3.0), 1), made(4000, (2.5, 2.5), 2)
    corrected = correct_prior(model, there, source=here)
    told = corrected.card["adapted"]
    truth = np.histogram(there["f_ex"], told["edges"])[0] / len(there)
    # distribution functions: half of the old one lies where the new one has next to nothing
    gaps = [np.abs(np.cumsum(told[name]) - np.cumsum(truth)).max() for name in ("prior", "estimated")]
    assert gaps[0] > 0.35
    assert gaps[1] < 0.2 * gaps[0]
    before, after = posterior(model, there), posterior(corrected, there)
    bias = [float(np.mean(item.mean.numpy() - there["f_ex"])) for item in (before, after)]
    assert bias[0] < -0.03
    assert abs(bias[1]) < abs(bias[0]) / 3
    low, high = after.quantile([0.16, 0.84]).numpy()
    assert abs(np.mean((low < there["f_ex"]) & (there["f_ex"] < high)) - 0.68) < 0.04
    assert "look the same in both domains" in corrected.card["limits"][0]


def test_the_same_prior_is_left_alone(model):
    here = made(6000, (1.2, 3.0), 1)
    corrected = correct_prior(model, made(4000, (1.2, 3.0), 5), source=here)
    told = corrected.card["adapted"]
    assert np.abs(np.cumsum(told["estimated"]) - np.cumsum(told["prior"])).max() < 0.02
    test = made(300, (1.2, 3.0), 6)
    one, other = posterior(model, test), posterior(corrected, test)
    np.testing.assert_allclose(one.mean, other.mean, atol=0.02)


def test_a_ratio_of_one_changes_nothing_but_the_grain(model):
    test = made(50, (1.2, 3.0), 6)
    same = PriorCorrected(("spin",), inner=model.estimator, edges=np.linspace(0, 1, 9).tolist(), ratio=[3.0] * 8)
    one, other = posterior(model, test), posterior(replace(model, estimator=same), test)
    levels = [0.025, 0.16, 0.5, 0.84, 0.975]
    np.testing.assert_allclose(one.quantile(levels), other.quantile(levels), atol=2e-3)
    np.testing.assert_allclose(one.std, other.std, atol=1e-3)


def test_density_is_what_bayes_says(model):
    """Against the product of a posterior and a ratio on a grid, made the long way."""
    ratio, edges = [0.2, 5.0, 1.0], [0.0, 0.25, 0.5, 1.0]
    made_estimator = PriorCorrected(("spin",), inner=model.estimator, edges=edges, ratio=ratio)
    test = made(20, (1.2, 3.0), 7)
    grid = torch.linspace(0.0051, 0.9951, 199)
    inner = posterior(model, test).log_prob(grid[:, None].expand(-1, 20)).exp()
    factor = torch.tensor(ratio)[torch.bucketize(grid, torch.tensor(edges[1:-1]))]
    found = posterior(replace(model, estimator=made_estimator), test).log_prob(grid[:, None].expand(-1, 20)).exp()
    constant = found / (inner * factor[:, None])
    for galaxy in range(20):
        mine = constant[:, galaxy][inner[:, galaxy] > 0.05]
        assert float(mine.std() / mine.mean()) < 0.02


def test_estimate_stays_with_the_prior_where_nothing_is_known():
    prior, values = np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.5, 1.0])
    blind = np.tile(prior, (100, 1))
    np.testing.assert_allclose(estimate_prior(blind, prior, values), 1, atol=1e-6)
    sure = np.eye(3)[np.repeat([0, 1, 2], [10, 10, 80])]
    np.testing.assert_allclose(prior * estimate_prior(sure, prior, values), [0.1, 0.1, 0.8], atol=0.02)
    assert (estimate_prior(sure[:20], prior, values) > 0).all()


def test_it_is_saved_and_loaded(model, tmp_path):
    there = made(200, (4.0, 2.0), 2)
    corrected = correct_prior(model, there, source=made(500, (1.2, 3.0), 1))
    galineage.save(corrected, tmp_path / "bundle")
    loaded = galineage.load(tmp_path / "bundle")
    one, other = (galineage.predict(item, there) for item in (corrected, loaded))
    np.testing.assert_array_equal(one["fexsitu_p50"], other["fexsitu_p50"])


def test_what_cannot_be_corrected_is_refused(model):
    here, there = made(500, (1.2, 3.0), 1), made(200, (4.0, 2.0), 2)
    corrected = correct_prior(model, there, source=here)
    with pytest.raises(ConfigError, match="cannot be corrected"):
        correct_prior(corrected, there, source=here)
    with pytest.raises(DataError, match="39 galaxies of the other"):
        correct_prior(model, there.select(np.arange(39)), source=here)
    with pytest.raises(ConfigError, match="degree"):
        correct_prior(model, there, source=here, degree=0)
    for edges, ratio in (([0, 1], [1, 1]), ([0, 0.5, 0.4, 1], [1, 1, 1]), ([0, 1], [np.nan]), ([0, 1], [0.0])):
        with pytest.raises(ConfigError):
            PriorCorrected(("spin",), inner=model.estimator, edges=edges, ratio=ratio)


def test_a_corrected_model_is_not_adapted_once_more(model):
    corrected = correct_prior(model, made(200, (4.0, 2.0), 2), source=made(500, (1.2, 3.0), 1))
    with pytest.raises(ConfigError, match="kind 'prior-corrected' cannot be adapted"):
        galineage.adapt(corrected, made(200, (4.0, 2.0), 2))
    adapted = galineage.adapt(model, made(200, (4.0, 2.0), 2))
    both = correct_prior(adapted, made(200, (4.0, 2.0), 2), source=made(500, (1.2, 3.0), 1))
    assert np.isfinite(galineage.predict(both, made(20, (4.0, 2.0), 3))["fexsitu_p50"]).all()


def test_what_lies_outside_of_the_range_is_cut():
    estimator = make_estimator("paper", ("spin",), members=1)
    ratio = PriorCorrected(("spin",), inner=estimator, edges=(0.0, 0.5, 1.0), ratio=(1.0, 1.0))
    found = ratio._corrected(Normal(torch.tensor([[0.0, 9.0]]), torch.tensor([[0.1, 0.01]])))
    assert float(found.cdf(torch.tensor([[0.0, 0.0]]))[0, 0]) == 0
    # nothing is left of the second: it says nothing, and is no NaN
    assert bool(torch.isfinite(found.mean).all())
