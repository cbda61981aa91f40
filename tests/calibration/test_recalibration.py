"""The map of levels: mends what is wrong, leaves alone what is right, and is a smooth, invertible map."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from calibration_cases import places, true_coverage
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from galineage.calibration import Recalibration
from galineage.errors import ConfigError, DataError

LEVELS = torch.linspace(0.001, 0.999, 333, dtype=torch.float64)


def test_a_calibrated_model_is_left_alone():
    change = {0.68: [], 0.95: []}
    for seed in range(20):
        found = Recalibration.fit(places(500, 0, 1, seed))
        for level, values in change.items():
            values.append(abs(true_coverage(found, level, 0, 1) - level))
    # the empirical distribution function of 500 would change the coverage by 2.1 % in the rms
    assert np.max(change[0.68]) < 0.015
    assert np.max(change[0.95]) < 0.015
    assert np.sqrt(np.mean(np.square(change[0.68]))) < 0.007


@pytest.mark.parametrize(("bias", "width"), [(0, 0.8), (0, 0.5), (0, 1.5), (0.3, 1), (0.5, 0.7), (-0.5, 1.4)])
def test_biased_and_too_narrow_or_wide_posteriors_are_mended(bias, width):
    found = Recalibration.fit(places(3000, bias, width))
    assert true_coverage(found, 0.68, bias, width) == pytest.approx(0.68, abs=0.03)
    assert true_coverage(found, 0.95, bias, width) == pytest.approx(0.95, abs=0.015)
    assert found.departure > 0.99
    fresh = found.forward(places(4000, bias, width, seed=9)).numpy()
    assert np.abs(np.sort(fresh) - np.linspace(0, 1, 4000)).max() < 0.04


def test_more_galaxies_mend_better():
    rms = []
    for count in (60, 300, 3000):
        missed = [true_coverage(Recalibration.fit(places(count, 0, 0.7, s)), 0.68, 0, 0.7) - 0.68 for s in range(6)]
        rms.append(np.sqrt(np.mean(np.square(missed))))
    assert rms[2] < rms[1] < rms[0] < 0.68 - true_coverage(Recalibration.identity(), 0.68, 0, 0.7) + 0.03


def test_weights_stand_for_copies():
    pit = places(400, 0.2, 0.7)
    times = np.random.default_rng(1).integers(1, 4, 400)
    weighted = Recalibration.fit(pit, times)
    copied = Recalibration.fit(np.repeat(pit, times))
    # copies pretend to be more galaxies than there are, so that the weighted map is shrunk a little more
    difference = (weighted.forward(LEVELS) - copied.forward(LEVELS)).abs().max()
    assert difference < 0.03
    assert weighted.size == pytest.approx(times.sum() ** 2 / (times**2).sum())
    np.testing.assert_allclose(Recalibration.fit(pit, np.full(400, 7.0)).values, Recalibration.fit(pit).values)


def test_weights_recover_another_mix_and_its_absence_does_not():
    rng = np.random.default_rng(3)
    # the model is too narrow for galaxies with large x only, and large x is common in the target domain
    x = rng.uniform(0, 1, 4000)
    pit = ndtr(rng.normal(0, 1 + x))
    weights = 2 * x
    target_x = np.sqrt(rng.uniform(0, 1, 40_000))
    fresh = ndtr(rng.normal(0, 1 + target_x))

    def coverage(found):
        level = found.forward(fresh).numpy()
        return ((level > 0.16) & (level < 0.84)).mean()

    assert coverage(Recalibration.fit(pit, weights)) == pytest.approx(0.68, abs=0.02)
    assert coverage(Recalibration.fit(pit)) < 0.66


@pytest.mark.parametrize("case", [(0, 0.6), (0.8, 0.5), (0, 2.0), (2.0, 1.0)])
def test_forward_inverse_and_slope_belong_together(case):
    found = Recalibration.fit(places(500, *case))
    there = found.forward(LEVELS)
    assert bool((there.diff() > 0).all())
    np.testing.assert_allclose(found.inverse(there), LEVELS, atol=1e-9)
    step = 1e-6
    numeric = (found.forward(LEVELS + step) - found.forward(LEVELS - step)) / (2 * step)
    np.testing.assert_allclose(found.log_slope(LEVELS).exp(), numeric, rtol=1e-3)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    np.testing.assert_array_equal(found.forward(ends), ends)
    np.testing.assert_array_equal(found.inverse(ends), ends)
    assert bool(torch.isfinite(found.log_slope(ends)).all())
    assert bool(torch.isnan(found.forward(torch.tensor([torch.nan]))).all())
    assert bool(torch.isnan(found.inverse(torch.tensor([torch.nan]))).all())


def test_the_density_of_levels_integrates_to_one():
    found = Recalibration.fit(places(1000, 0.3, 0.6))
    z = torch.linspace(-5.2, 5.2, 20_001, dtype=torch.float64)
    u = torch.special.ndtr(z)
    mass = torch.trapezoid(found.log_slope(u).exp() * torch.exp(-0.5 * z * z) / np.sqrt(2 * np.pi), z)
    assert float(mass) == pytest.approx(1, abs=1e-3)


def test_identity_changes_nothing():
    found = Recalibration.identity()
    np.testing.assert_allclose(found.forward(LEVELS), LEVELS, atol=1e-12)
    np.testing.assert_allclose(found.inverse(LEVELS), LEVELS, atol=1e-12)
    np.testing.assert_allclose(found.log_slope(LEVELS), 0, atol=1e-12)


def test_settings_go_through_json_and_back():
    found = Recalibration.fit(places(200, 0, 0.5), np.linspace(0.5, 1.5, 200))
    again = Recalibration.from_settings(json.loads(json.dumps(found.settings(), allow_nan=False)))
    assert again == found


def test_the_assumption_is_said():
    pit = places(100, 0, 1)
    assert Recalibration.fit(pit).assumption.startswith("exchangeable")
    assert "importance weights are right" in Recalibration.fit(pit, np.ones(100)).assumption


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=40, max_size=80),
    st.sampled_from(["as is", "zeros", "ends", "same"]),
    st.floats(0, 3),
)
def test_any_places_give_an_increasing_map_or_a_plain_error(values, kind, smooth):
    pit = np.array(values)
    if kind != "as is":
        pit = {"zeros": np.zeros_like(pit), "ends": np.round(pit), "same": np.full_like(pit, pit[0])}[kind]
    try:
        found = Recalibration.fit(pit, smooth=smooth)
    except DataError:
        return
    there = found.forward(LEVELS)
    assert bool((there.diff() >= 0).all())
    assert bool(((there >= 0) & (there <= 1)).all())


@pytest.mark.parametrize(
    ("pit", "weights", "words"),
    [
        (np.linspace(0, 1, 39), None, "too few"),
        (np.append(np.linspace(0, 1, 50), np.nan), None, "row 50"),
        (np.append(np.linspace(0, 1, 50), 1.01), None, "1.01"),
        (np.ones((50, 2)), None, "shape"),
        (np.linspace(0, 1, 50), np.ones(49), "weights have shape"),
        (np.linspace(0, 1, 50), np.full(50, -1.0), "negative"),
        (np.linspace(0, 1, 50), np.append(np.full(49, 1e-9), 1.0), "effective galaxies"),
    ],
)
def test_unusable_galaxies_are_refused(pit, weights, words):
    with pytest.raises(DataError, match=words):
        Recalibration.fit(pit, weights)


@pytest.mark.parametrize("smooth", [-1.0, np.nan, np.inf])
def test_unusable_smoothness_is_refused(smooth):
    with pytest.raises(ConfigError, match="smooth"):
        Recalibration.fit(places(50, 0, 1), smooth=smooth)


@pytest.mark.parametrize(
    "change",
    [
        {"knots": [0.0]},
        {"knots": [1.0, 0.0, 2.0]},
        {"values": [0.0, 0.0, 1.0]},
        {"slopes": [1.0, -1.0, 1.0]},
        {"slopes": [1.0, 9.0, 1.0]},
        {"values": [0.0, float("nan"), 1.0]},
        {"values": [0.0, 1.0, 1e9]},
        {"knots": "abc"},
        {"size": "many"},
        {"slopes": None},
    ],
)
def test_foreign_settings_are_refused(change):
    right = {"knots": [-1.0, 0.0, 1.0], "values": [-1.0, 0.0, 1.0], "slopes": [1.0] * 3, "size": 1.0}
    right |= {"weighted": False, "departure": 1.0}
    Recalibration.from_settings(right)
    with pytest.raises(ConfigError):
        Recalibration.from_settings(right | change)
