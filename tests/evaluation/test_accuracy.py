"""Numbers against twins written with numpy, scikit-learn and scoringrules; errors against formulas."""

import numpy as np
import pytest
import scoringrules
from astropy import units
from hypothesis import given, settings
from hypothesis import strategies as st
from known import gaussian, scores, skewed, universe
from sklearn import metrics

from galineage.errors import ConfigError, DataError
from galineage.evaluation import accuracy, boxes, prediction
from galineage.evaluation.bins import Running, abscissa, assign, bin_edges, point_estimate, running
from galineage.evaluation.bootstrap import bootstrap, bootstrap_ecdf, ecdf, spread
from galineage.evaluation.verdict import Verdict, percent, plus_minus


@pytest.fixture(scope="module")
def known():
    return scores("right", 3000, 1, model="cnn", train="a", test="b")


@pytest.mark.parametrize("point", ["mean", "median", "map"])
def test_values_equal_their_twins(known, point):
    result = accuracy.compute(known, point=point, n_boot=5)
    value = {name: number for name, (number, _) in result.values.items()}
    predicted = point_estimate(known, point)
    error = predicted - known.truth
    assert value["rmse"] == pytest.approx(metrics.root_mean_squared_error(known.truth, predicted))
    assert value["mae"] == pytest.approx(metrics.mean_absolute_error(known.truth, predicted))
    assert value["r2"] == pytest.approx(metrics.r2_score(known.truth, predicted))
    assert value["bias_median"] == pytest.approx(np.median(error))
    assert value["bias_p50"] == pytest.approx(np.median(known.p50 - known.truth))
    assert value["bias_mean"] == pytest.approx(error.mean())
    assert value["scatter"] == pytest.approx((np.quantile(error, 0.84) - np.quantile(error, 0.16)) / 2)
    assert value["nll"] == pytest.approx(scoringrules.logs_normal(known.truth, known.mean, known.std).mean())
    assert value["crps"] == pytest.approx(scoringrules.crps_normal(known.truth, known.mean, known.std).mean())
    assert value["coverage68"] == pytest.approx(((known.pit > 0.16) & (known.pit < 0.84)).mean())
    assert value["coverage95"] == pytest.approx(((known.pit > 0.025) & (known.pit < 0.975)).mean())


def test_bootstrap_errors_equal_formulas(known):
    values = accuracy.compute(known, n_boot=1000).values
    n, sigma = len(known), 0.08
    assert values["bias_mean"][1] == pytest.approx(sigma / np.sqrt(n), rel=0.1)
    assert values["bias_median"][1] == pytest.approx(sigma * np.sqrt(np.pi / 2 / n), rel=0.2)
    assert values["rmse"][1] == pytest.approx(sigma / np.sqrt(2 * n), rel=0.1)
    assert values["coverage68"][1] == pytest.approx(np.sqrt(0.68 * 0.32 / n), rel=0.1)
    assert values["nll"][1] == pytest.approx(known.log_prob.std() / np.sqrt(n), rel=0.1)


def test_errors_tell_how_far_values_scatter_between_samples():
    samples = [accuracy.compute(scores("right", 400, seed), n_boot=50, truth_bins=1, mass_bins=1) for seed in range(60)]
    for name in ("bias_median", "scatter", "rmse", "r2", "crps"):
        values, errors = np.array([sample.values[name] for sample in samples]).T
        assert values.std() == pytest.approx(np.median(errors), rel=0.4)


def test_bins_equal_the_same_computation_on_the_rows_of_the_bin(known):
    result = accuracy.compute(known, n_boot=5, truth_bins=[0, 0.1, 0.5], mass_bins=[10.5, 11, 11.5])
    inside = known.select((np.log10(known.mstar) >= 11) & (np.log10(known.mstar) <= 11.5))
    twin = accuracy.compute(inside, n_boot=5)
    assert result.by_mass.n[1] == len(inside)
    for name, (value, _) in twin.values.items():
        assert result.by_mass.values[name][0][1] == pytest.approx(value)
    assert result.by_truth.n.tolist() == [
        ((known.truth >= 0) & (known.truth < 0.1)).sum(),
        ((known.truth >= 0.1) & (known.truth <= 0.5)).sum(),
    ]


def test_the_same_seed_gives_the_same_numbers(known):
    one, other, third = (accuracy.compute(known, n_boot=20, seed=seed) for seed in (1, 1, 2))
    assert dict(one.values) == dict(other.values)
    assert one.values["rmse"] != third.values["rmse"]
    assert one.values["rmse"][0] == third.values["rmse"][0]


def test_table_has_units_descriptions_and_all_rows(known):
    result = accuracy.compute(known, n_boot=5)
    table = result.to_table()
    assert len(table) == 1 + len(result.by_truth.n) + len(result.by_mass.n)
    assert table["mstar_low"].unit == units.Msun
    assert all(table[name].description for name in table.colnames)
    assert table["rmse"][0] == result.values["rmse"][0]
    assert table.meta["model"] == "cnn"
    lookback = accuracy.compute(scores("right", 50, target="t_last_major"), n_boot=5).to_table()
    assert lookback["rmse"].unit == units.Gyr
    assert lookback["r2"].unit is None


def test_verdicts():
    judged = {kind: accuracy.judge(accuracy.compute(scores(kind, 1000, 1))) for kind in ("right", "high", "prior")}
    assert judged["right"].passed
    assert "R² 0." in judged["right"].sentence
    assert not judged["prior"].passed
    assert "no better than always answering the mean" in judged["prior"].sentence
    rng = np.random.default_rng(0)
    truth, mstar = universe(1000, rng)
    shifted = gaussian(truth, truth + 0.1 + 0.05 * rng.standard_normal(1000), 0.05, mstar, rng)
    assert accuracy.judge(accuracy.compute(shifted)).kind == "biased high"


@pytest.mark.parametrize("module", [accuracy, prediction, boxes])
def test_the_skew_of_a_right_posterior_is_no_bias(module):
    """The median error of its mean is large against the scatter, and passes; a true bias of its median does not."""

    def judged(known):
        return module.judge(module.compute([known] if module is boxes else known, n_boot=30))

    known = [skewed(3000, seed, width=0.9) for seed in range(12)] + [scores("right", 3000, seed) for seed in range(12)]
    values = accuracy.compute(known[0], n_boot=30).values
    assert values["bias_median"][0] > 0.18 * values["scatter"][0]
    assert abs(values["bias_p50"][0]) < 4 * values["bias_p50"][1]
    assert all(judged(item).kind in ("accurate", "follows the truth", "small bias") for item in known)
    assert not judged(skewed(3000, 1, shift=0.6)).passed
    assert judged(skewed(3000, 1, shift=-0.6)).kind in ("biased low", "biased somewhere")


def test_one_galaxy_and_constant_values_have_an_outcome():
    single = accuracy.compute(scores("right", 1))
    assert np.isnan(single.values["rmse"][1])
    assert single.values["mae"][0] > 0
    assert accuracy.judge(single).kind == "too few"
    assert len(single.to_table()) == 3
    rng = np.random.default_rng(0)
    flat = gaussian(np.full(50, 0.3), 0.3, 0.1, np.full(50, 1e11), rng)
    result = accuracy.compute(flat)
    assert np.isnan(result.values["r2"][0])
    assert result.values["rmse"] == (0.0, 0.0)
    assert not accuracy.judge(result).passed
    with pytest.raises(DataError, match="no galaxies"):
        accuracy.compute(flat.select(np.zeros(50, dtype=bool)))
    with pytest.raises(ConfigError):
        accuracy.compute(flat, point="best")


def test_bootstrap_and_its_refusals():
    values = np.arange(10.0)
    assert bootstrap(lambda x: x.mean(axis=-1), values, n_boot=7).shape == (7,)
    with pytest.raises(ConfigError, match="n_boot"):
        bootstrap(np.mean, values, n_boot=1)
    with pytest.raises(DataError, match="no galaxies"):
        bootstrap(np.mean, np.array([]))
    with pytest.raises(DataError, match="length"):
        bootstrap(np.mean, values, values[:4])
    assert np.isnan(spread(np.array([1.0, 2.0]), 1))
    assert spread(np.array([1.0, np.nan, 3.0]), 5) == pytest.approx(np.sqrt(2))


def test_fast_bootstrap_of_a_distribution_equals_resampling():
    values = np.random.default_rng(1).random(300)
    grid = np.linspace(0, 1, 21)
    fast = bootstrap_ecdf(values, grid, n_boot=3000, seed=1)
    slow = bootstrap(lambda rows: (rows[:, None, :] <= grid[:, None]).mean(axis=-1), values, n_boot=3000, seed=2)
    np.testing.assert_allclose(fast.mean(axis=0), slow.mean(axis=0), atol=3e-3)
    np.testing.assert_allclose(np.cov(fast.T), np.cov(slow.T), atol=1e-4)
    np.testing.assert_allclose(ecdf(values, grid), [(values <= x).mean() for x in grid])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.integers(1, 9))
def test_every_value_lies_in_a_bin(values, k):
    values = np.array(values)
    edges = bin_edges(values, k)
    which = assign(values, edges)
    assert ((which >= 0) & (which < len(edges) - 1)).all()
    assert (edges[which] <= values).all()
    assert (values <= edges[which + 1]).all()


def test_bins_refuse_and_skip():
    assert assign(np.array([np.nan, -1.0, 2.0, 1.0]), np.array([0.0, 1.0])).tolist() == [-1, -1, -1, 0]
    for bad in (0, [1.0], [1.0, 0.5], [[1.0, 2.0]]):
        with pytest.raises(ConfigError):
            bin_edges(np.arange(3.0), bad)
    with pytest.raises(DataError):
        bin_edges(np.array([np.nan]), 3)
    with pytest.raises(ConfigError):
        abscissa(scores("right", 5), "age")
    x = np.array([0.1] * 6 + [0.9] * 2)
    run = running(x, x, np.array([0.0, 0.3, 0.6, 1.0]), n_boot=5)
    assert isinstance(run, Running)
    assert run.n.tolist() == [6, 0, 2]
    assert run.filled.tolist() == [True, False, False]


def test_masses_that_are_not_positive_are_left_out_of_mass_bins():
    known = scores("right", 40)
    known.mstar[:10] = 0
    assert accuracy.compute(known, n_boot=5).by_mass.n.sum() == 30
    known.mstar[:] = 0
    with pytest.raises(DataError, match="no finite value"):
        accuracy.compute(known)


def test_numbers_are_written_with_sensible_digits():
    assert plus_minus(0.5, np.nan) == "0.5"
    assert plus_minus(np.nan, 1) == "unknown"
    assert plus_minus(1234.5, 67.0, "Gyr") == "1234 ± 67 Gyr"
    assert percent(0.612, 0.006) == "61.2 ± 0.6 %"
    assert str(Verdict("Fine.", passed=True)) == "Fine."
    with pytest.raises(DataError):
        Verdict(" ", passed=True)
