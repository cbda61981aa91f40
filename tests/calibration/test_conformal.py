"""Conformal intervals: the promised coverage for finite samples, and what breaks the promise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from calibration_cases import places
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from galineage.calibration import ConformalIntervals, conformal_quantile
from galineage.errors import ConfigError, DataError

WIDE = (-50.0, 50.0)
TAILS = np.array([0.16, 0.025, 0.84, 0.975])


def slow_quantile(scores, level, weights, test_weight):
    """Equation 7 of Tibshirani+2019, one galaxy at a time: the smallest score with enough weight at or below it."""
    total = math.fsum(weights) + test_weight
    for candidate in sorted(scores):
        below = math.fsum(w for s, w in zip(scores, weights, strict=True) if s <= candidate)
        if below / total >= level - 1e-12:
            return candidate
    return math.inf


def fit(kind, truth, center, width, **options):
    """Fit on galaxies whose model says N(center, width)."""
    if kind == "pit":
        return ConformalIntervals.from_pit(ndtr((truth - center) / width), support=WIDE, **options)
    values = center + width * ndtri(TAILS)[:, None]
    return ConformalIntervals.from_quantiles(truth, values[:2], values[2:], support=WIDE, **options)


def hit_rate(found, truth, center, width, test_weights=None):
    """Fraction of truths inside, at both levels."""
    levels = found.needed(test_weights)
    levels = levels if levels.ndim == 2 else levels[:, None]
    low, high, _ = found.intervals(center + width * ndtri(levels), test_weights)
    return ((low <= truth) & (truth <= high)).mean(axis=1)


# --- the quantile -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(0, 10_000), st.floats(0.01, 0.99), st.floats(0, 5), st.booleans())
def test_the_quantile_is_that_of_its_slow_twin(n, seed, level, test_weight, ties):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n).round(1 if ties else 12)
    weights = rng.exponential(size=n)
    (found,) = conformal_quantile(scores, level, weights, test_weight)
    assert found == slow_quantile(scores.tolist(), level, weights.tolist(), test_weight)


@pytest.mark.parametrize(("n", "level", "rank"), [(99, 0.95, 95), (100, 0.95, 96), (19, 0.95, 19), (49, 0.68, 34)])
def test_equal_weights_give_the_ceil_of_n_plus_one_th(n, level, rank):
    assert conformal_quantile(np.arange(1, n + 1), level)[0] == rank


def test_too_few_galaxies_promise_nothing():
    assert conformal_quantile(np.arange(18), 0.95)[0] == math.inf


# --- the promise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pit", "cqr"])
def test_marginal_coverage_holds_over_repetitions_whatever_the_model(kind):
    rng = np.random.default_rng(5)
    repetitions, n, m = 200, 60, 50
    hits = []
    for _ in range(repetitions):
        center = rng.normal(size=n + m)
        truth = center + rng.logistic(size=n + m) * (0.3 + 0.3 * np.abs(center))
        found = fit(kind, truth[:n], center[:n] + 0.4, np.full(n, 0.7))
        hits.append(hit_rate(found, truth[n:], center[n:] + 0.4, 0.7))
    mean, error = np.mean(hits, axis=0), np.std(hits, axis=0) / np.sqrt(repetitions)
    assert (mean >= np.array([0.68, 0.95]) - 3 * error).all()
    # not wasteful either: the excess is at most one galaxy of the sixty
    assert (mean <= np.array([0.68, 0.95]) + 1 / (n + 1) + 3 * error).all()


def covariate_shift(rng, n):
    """Galaxies with x uniform; target ones with density 2 x; the model is too narrow for large x."""
    x = rng.uniform(0, 1, n)
    target_x = np.sqrt(rng.uniform(0, 1, n))
    spread = [0.3 + 2 * part**2 for part in (x, target_x)]
    return x, rng.normal(0, spread[0]), target_x, rng.normal(0, spread[1])


@pytest.mark.parametrize("kind", ["pit", "cqr"])
def test_exact_weights_hold_under_covariate_shift_and_no_weights_do_not(kind):
    rng = np.random.default_rng(6)
    weighted, plain, default = [], [], []
    for _ in range(200):
        x, truth, target_x, target_truth = covariate_shift(rng, 300)
        center, width = np.zeros(300), np.full(300, 1.0)
        found = fit(kind, truth, center, width, weights=2 * x)
        weighted.append(hit_rate(found, target_truth, 0.0, 1.0, 2 * target_x))
        default.append(hit_rate(found, target_truth, np.zeros(300), 1.0))
        plain.append(hit_rate(fit(kind, truth, center, width), target_truth, np.zeros(300), 1.0))
    error = np.std(weighted, axis=0) / np.sqrt(200)
    assert (np.mean(weighted, axis=0) >= np.array([0.68, 0.95]) - 3 * error).all()
    assert (np.mean(weighted, axis=0) <= np.array([0.68, 0.95]) + 0.02).all()
    # the heaviest calibration galaxy's weight for all new ones is never narrower
    assert (np.mean(default, axis=0) >= np.mean(weighted, axis=0) - 1e-3).all()
    assert (np.mean(plain, axis=0) < np.array([0.68, 0.95]) - 0.03).all()


@pytest.mark.parametrize("kind", ["pit", "cqr"])
def test_nothing_holds_when_the_relation_itself_changes(kind):
    """Concept shift: the same inputs, another truth. No method without the target's truths can know."""
    rng = np.random.default_rng(7)
    x = rng.uniform(0, 1, 2000)
    truth, other = rng.normal(x, 0.2), rng.normal(x + 0.3, 0.2)
    for weights in (None, np.ones(2000)):
        found = fit(kind, truth, x, np.full(2000, 0.2), weights=weights)
        inside = hit_rate(found, other, x, 0.2)
        assert (inside < np.array([0.68, 0.95]) - 0.2).all()


# --- intervals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pit", "cqr"])
def test_infinite_intervals_are_the_whole_range_and_counted(kind):
    rng = np.random.default_rng(8)
    weights = np.append(np.ones(399), 40.0)
    truth = rng.normal(size=400)
    found = fit(kind, truth, np.zeros(400), np.ones(400), weights=weights)
    low, high, infinite = found.intervals(ndtri(found.needed())[:, None] * np.ones(3))
    assert found.infinite_levels == (0.95,)
    np.testing.assert_array_equal(infinite, [[False] * 3, [True] * 3])
    np.testing.assert_array_equal(low[1], WIDE[0])
    np.testing.assert_array_equal(high[1], WIDE[1])
    assert (np.abs(low[0]) < 3).all()
    single = found.intervals(ndtri(found.needed([0.1, 40.0])), [0.1, 40.0])[2]
    np.testing.assert_array_equal(single[1], [False, True])


def test_too_wide_models_are_narrowed_without_crossing():
    rng = np.random.default_rng(9)
    truth = rng.normal(0, 1e-3, 200)
    found = fit("cqr", truth, np.zeros(200), np.ones(200))
    assert all(item < 0 for item in found.corrections)
    values = np.array([[0.0, -0.9], [0.0, -2.0], [0.0, 0.9], [0.0, 2.0]])
    low, high, _ = found.intervals(values)
    assert (low <= high).all()


def test_intervals_stay_in_the_range_of_the_target():
    truth = np.random.default_rng(10).uniform(0, 1, 300)
    quantiles = np.clip(truth + np.array([[0.3], [0.2], [0.4], [0.5]]), 0, 1)
    found = ConformalIntervals.from_quantiles(truth, quantiles[:2], quantiles[2:], support=(0, 1))
    low, high, _ = found.intervals(quantiles)
    assert ((low >= 0) & (high <= 1) & (low <= high)).all()


def test_missing_predictions_stay_missing():
    found = fit("pit", np.zeros(400), np.zeros(400), np.ones(400), weights=np.append(np.ones(399), 40.0))
    low, high, _ = found.intervals(np.full((4, 2), np.nan))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_settings_go_through_json_and_back():
    found = ConformalIntervals.from_pit(places(400, 0, 1), support=(0, 1), weights=np.append(np.ones(399), 40.0))
    again = ConformalIntervals.from_settings(json.loads(json.dumps(found.settings(), allow_nan=False)))
    assert again == found
    assert again.infinite_levels == (0.95,)
    with pytest.raises(DataError, match="saved"):
        again.needed([1.0])


def test_the_assumption_is_said():
    pit = places(100, 0, 1)
    plain = ConformalIntervals.from_pit(pit, support=(0, 1))
    assert plain.assumption.startswith("exchangeable")
    weighted = ConformalIntervals.from_pit(pit, support=(0, 1), weights=np.ones(100))
    assert "relation between inputs and truth is the same" in weighted.assumption


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "magic"},
        {"levels": []},
        {"levels": [0.0, 0.5]},
        {"corrections": [0.1]},
        {"corrections": [0.1, -0.1]},
        {"corrections": [0.1, float("nan")]},
        {"support": [1, 0]},
        {"support": 3},
        {"size": None},
    ],
)
def test_foreign_settings_are_refused(change):
    right = ConformalIntervals.from_pit(places(100, 0, 1), support=(0, 1)).settings()
    with pytest.raises(ConfigError):
        ConformalIntervals.from_settings(right | change)


def test_unusable_galaxies_are_refused():
    with pytest.raises(DataError, match="too few"):
        ConformalIntervals.from_pit(places(39, 0, 1), support=(0, 1))
    with pytest.raises(DataError, match="shape"):
        ConformalIntervals.from_quantiles(np.zeros(50), np.zeros((1, 50)), np.zeros((2, 50)), support=(0, 1))
    with pytest.raises(DataError, match="finite"):
        ConformalIntervals.from_quantiles(np.full(50, np.nan), np.zeros((2, 50)), np.zeros((2, 50)), support=(0, 1))
    with pytest.raises(DataError, match="quantiles"):
        ConformalIntervals.from_pit(places(50, 0, 1), support=(0, 1)).intervals(np.zeros((3, 5)))
