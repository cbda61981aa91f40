"""A recalibrated posterior answers like a posterior: one distribution, whatever it is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from calibration_cases import bounded, gaussian, places

from galineage.calibration import RecalibratedPosterior, Recalibration
from galineage.errors import DataError

WIDER = Recalibration.fit(places(2000, 0.3, 0.6))
NARROWER = Recalibration.fit(places(2000, 0, 1.6))
MAKERS = [gaussian, bounded]


@pytest.mark.parametrize("make", MAKERS)
def test_the_identity_gives_the_same_answers(make):
    plain = make()
    same = RecalibratedPosterior(plain, Recalibration.identity())
    assert len(same) == len(plain)
    levels = [0.025, 0.16, 0.5, 0.84, 0.975]
    np.testing.assert_allclose(same.quantile(levels), plain.quantile(levels), atol=2e-5)
    np.testing.assert_allclose(same.mean, plain.mean, atol=1e-3)
    np.testing.assert_allclose(same.std, plain.std, rtol=5e-3)
    np.testing.assert_allclose(same.map(), plain.map(), atol=0.02)
    truth = plain.quantile([0.3])[0]
    np.testing.assert_allclose(same.crps(truth), plain.crps(truth), rtol=1e-4)
    np.testing.assert_allclose(same.log_prob(truth), plain.log_prob(truth), atol=1e-5)
    np.testing.assert_array_equal(same.aleatoric, plain.aleatoric)
    np.testing.assert_array_equal(same.epistemic, plain.epistemic)


@pytest.mark.parametrize("recalibration", [WIDER, NARROWER])
@pytest.mark.parametrize("make", MAKERS)
def test_quantiles_density_and_moments_are_of_one_distribution(make, recalibration):
    plain = make()
    found = RecalibratedPosterior(plain, recalibration)
    levels = [0.01, 0.2, 0.5, 0.8, 0.99]
    np.testing.assert_allclose(
        found.cdf(found.quantile(levels)), np.repeat(np.array(levels)[:, None], len(plain), axis=1), atol=2e-4
    )
    # slow twin: the density on a fine grid
    part = torch.sin(torch.linspace(0, torch.pi / 2, 20_001))[:, None] ** 2
    grid = found.low + (found.high - found.low) * part
    density = found.log_prob(grid).exp().double()
    grid = grid.double()
    np.testing.assert_allclose(torch.trapezoid(density, grid, dim=0), 1, atol=0.01)
    mean = torch.trapezoid(density * grid, grid, dim=0)
    std = torch.trapezoid(density * (grid - mean) ** 2, grid, dim=0).sqrt()
    np.testing.assert_allclose(found.mean, mean, atol=0.01)
    np.testing.assert_allclose(found.std, std, rtol=0.03, atol=2e-3)
    best = found.log_prob(found.map())
    inner = density[100:-100].amax(0).log()  # a density may rise without limit at the very bound
    assert bool((best >= inner - 0.02).all())


@pytest.mark.parametrize("recalibration", [WIDER, NARROWER])
def test_samples_follow_and_stay_inside(recalibration):
    found = RecalibratedPosterior(bounded(), recalibration)
    draws = found.sample(4000, seed=3)
    assert draws.shape == (4000, len(found))
    assert bool(((draws >= 0) & (draws <= 1)).all())
    np.testing.assert_allclose(draws.mean(0), found.mean, atol=0.02)
    np.testing.assert_array_equal(draws, found.sample(4000, seed=3))
    levels = found.cdf(draws)
    np.testing.assert_allclose((levels < 0.16).double().mean(0), 0.16, atol=0.025)


def test_bounded_stays_bounded():
    found = RecalibratedPosterior(bounded(), WIDER)
    ends = found.quantile([1e-6, 1 - 1e-6])
    assert bool(((ends >= 0) & (ends <= 1)).all())
    assert bool((found.log_prob(torch.full((len(found),), 1.2)) == -torch.inf).all())


def test_crps_is_that_of_samples():
    found = RecalibratedPosterior(gaussian(), WIDER)
    truth = found.quantile([0.7])[0]
    one, two = found.sample(20_000, seed=1), found.sample(20_000, seed=2)
    expected = (one - truth).abs().mean(0) - 0.5 * (one - two).abs().mean(0)
    np.testing.assert_allclose(found.crps(truth), expected, rtol=0.05)


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_levels_outside_are_refused(level):
    with pytest.raises(DataError, match="probabilities"):
        RecalibratedPosterior(gaussian(), WIDER).quantile([0.5, level])
