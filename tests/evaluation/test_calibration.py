"""Calibration diagnostics against analytic values and oracles; how often they are right: tests/reliability."""

import numpy as np
import pytest
from known import scores
from scipy import stats

from galineage.errors import ConfigError, DataError
from galineage.evaluation import accuracy, coverage, pit, sbc, sharpness, tarp
from galineage.evaluation.calibration import LEVEL, simultaneous_band, uniformity

N = 500


def test_gaussian_coverage_of_gaussian_posteriors_is_the_central_one():
    known = scores("narrow", 800, 3)
    one, other = coverage.compute(known), coverage.compute(known, method="gaussian")
    np.testing.assert_allclose(one.observed, other.observed, atol=2e-3)
    assert other.at68[0] == pytest.approx(np.mean(np.abs(known.truth - known.mean) <= known.std))
    assert "1 sigma" in coverage.judge(other).sentence


def test_both_figures_with_a_68_per_cent_interval_show_the_same_number():
    known = scores("narrow", 777, 3)
    result, values = coverage.compute(known, n_boot=5), accuracy.compute(known, n_boot=5).values
    assert (result.at68[0], result.at95[0]) == (values["coverage68"][0], values["coverage95"][0])


def test_coverage_has_the_analytic_value_and_binomial_error():
    known = scores("narrow", 40_000, 1)
    result = coverage.compute(known)
    expected = 2 * stats.norm.cdf(0.7 * stats.norm.ppf(0.84)) - 1
    assert result.at68[0] == pytest.approx(expected, abs=4 * result.at68[1])
    assert result.at68[1] == pytest.approx(np.sqrt(expected * (1 - expected) / 40_000), rel=0.01)
    np.testing.assert_allclose(
        result.observed, 2 * stats.norm.cdf(0.7 * stats.norm.ppf(0.5 + result.nominal / 2)) - 1, atol=0.012
    )
    spread = (result.high - result.low)[68] / 2
    assert spread == pytest.approx(result.at68[1], rel=0.25)


def test_verdict_gives_the_factor_and_the_shift():
    narrow = pit.compute(scores("narrow", 20_000, 1)).test
    assert narrow.spread == pytest.approx(1 / 0.7, abs=4 * narrow.spread_error)
    high = pit.compute(scores("high", 20_000, 1))
    assert high.test.shift == pytest.approx(-0.5, abs=4 * high.test.shift_error)
    assert f"{abs(high.test.shift):.3f} ± 0.007 of their width above the truth" in pit.judge(high).sentence


def test_small_departures_pass_however_well_they_are_measured():
    rng = np.random.default_rng(0)
    u = stats.norm.cdf(1.03 * rng.standard_normal(200_000))
    test = uniformity(u)
    assert test.p_value < 1e-6
    assert test.kinds() == ()
    assert "tolerance of 3 %" in test.verdict("Ranks").sentence
    assert test.kinds(tolerance=0.005) == ("too narrow",)


def test_wrong_shape_is_caught_where_centre_and_width_are_right():
    rng = np.random.default_rng(0)
    two_lumps = np.where(rng.random(4000) < 0.5, -1, 1) * np.sqrt(1 - 0.2**2) + 0.2 * rng.standard_normal(4000)
    assert uniformity(stats.norm.cdf(two_lumps)).kinds() == ("wrong shape",)


def test_ks_and_level_agree_with_scipy():
    u = np.random.default_rng(5).random(300) ** 1.1
    test = uniformity(u)
    oracle = stats.kstest(u, "uniform")
    assert test.distance == pytest.approx(oracle.statistic)
    assert test.p_distance == pytest.approx(oracle.pvalue, rel=0.02)


def test_false_alarms_keep_the_level():
    rng = np.random.default_rng(1)
    blamed = [bool(uniformity(rng.random(200)).kinds(tolerance=0)) for _ in range(4000)]
    assert np.mean(blamed) <= LEVEL + 3 * np.sqrt(LEVEL / 4000)


@pytest.mark.parametrize("draws", [5, 20, 100, 1000])
def test_few_draws_do_not_look_like_wide_posteriors(draws):
    rng = np.random.default_rng(2)
    test = uniformity(rng.integers(0, draws + 1, 20_000), draws)
    assert test.spread == pytest.approx(1, abs=4 * test.spread_error)
    assert test.kinds() == ()


@pytest.mark.parametrize("n", [50, 500, 3000])
def test_simultaneous_band_holds_whole_curves(n):
    grid = np.linspace(0.01, 0.99, 99)
    low, high = simultaneous_band(n, grid)
    rng = np.random.default_rng(77)
    curves = np.stack([np.searchsorted(np.sort(rng.random(n)), grid, side="right") / n for _ in range(3000)])
    inside = ((curves >= low) & (curves <= high)).all(axis=1).mean()
    assert 0.982 <= inside <= 0.998


def test_a_calibrated_sbc_curve_stays_in_its_band_and_a_narrow_one_does_not():
    assert sbc.compute(scores("right", N, 4)).outside == 0
    narrow = sbc.compute(scores("narrow", N, 4))
    assert narrow.outside > 0.3
    # the rank distribution of too narrow posteriors is above the diagonal on the left and below it on the right
    assert narrow.difference[10] > 0 > narrow.difference[-10]


def test_tarp_follows_lemos_definition():
    known = scores("narrow", 2000, 4)
    result = tarp.compute(known)
    twin = [(known.tarp <= level).mean() for level in result.level]
    np.testing.assert_allclose(result.coverage, twin)
    p = result.coverage[15]
    assert result.error[15] == pytest.approx(np.sqrt(p * (1 - p) / 2000), rel=0.25)


def test_pit_histogram_counts_every_galaxy_and_knows_its_errors():
    result = pit.compute(scores("right", 4000, 2), bins=10)
    assert result.density.mean() == pytest.approx(1)
    assert result.error.mean() == pytest.approx(np.sqrt(0.1 * 0.9 / 4000) * 10, rel=0.1)
    low, high = result.band
    assert low == pytest.approx(1 - 1.96 * 10 * np.sqrt(0.09 / 4000), abs=0.01)
    assert high == pytest.approx(1 + 1.96 * 10 * np.sqrt(0.09 / 4000), abs=0.01)


def test_sharpness_ratio_and_prior():
    known = scores("right", 1000, 1)
    assert sharpness.compute(known).ratio == pytest.approx(0.08 / known.truth.std())
    wide_prior = sharpness.compute(known, prior=np.array([0.0, 1.0]))
    assert wide_prior.ratio == pytest.approx(0.16)
    with pytest.raises(DataError, match="no width"):
        sharpness.compute(known, prior=np.array([0.4, 0.4]))


@pytest.mark.parametrize("module", [coverage, pit, sbc, tarp])
def test_few_galaxies_are_not_judged(module):
    for n in (1, 2, 19):
        verdict = module.judge(module.compute(scores("right", n, 1), n_boot=5))
        assert verdict.kind == "too few"
        assert not verdict.passed
        assert f"{n} galaxies are too few" in verdict.sentence


@pytest.mark.parametrize("module", [coverage, pit, sbc, tarp, sharpness])
def test_no_galaxies_is_an_error(module):
    with pytest.raises(DataError):
        module.compute(scores("right", 30).select(np.zeros(30, dtype=bool)))


def test_degenerate_probabilities_have_an_outcome():
    assert uniformity(np.full(100, 0.5)).kinds() == ("too wide",)
    assert "biased low" in uniformity(np.ones(100)).kinds()
    assert "biased high" in uniformity(np.zeros(100)).kinds()
    with pytest.raises(DataError):
        uniformity(np.array([0.1, np.nan]))
    with pytest.raises(DataError):
        uniformity(np.array([-1, 3]), draws=10)
    with pytest.raises(ConfigError):
        simultaneous_band(10, np.array([0.5]), 1.5)
    with pytest.raises(ConfigError):
        coverage.compute(scores("right", 30), method="other")
    with pytest.raises(ConfigError):
        pit.compute(scores("right", 30), bins=1)
