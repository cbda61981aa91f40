"""Permutation tests in strata: right false alarms, known shifts found and measured, Welch's t as the twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from galineage.errors import ConfigError
from galineage.evaluation import permutation


def two(rng, n=240, shift=0.0, scatter=(1.0, 1.0), lean=0.0, slope=0.0):
    """Two groups over four strata of x; ``lean`` moves one group's x within the strata."""
    groups = (rng.random(n) < 0.4).astype(np.int64)
    strata = rng.integers(0, 4, n)
    x = strata + np.where(groups == 1, rng.beta(1 + lean, 1, n), rng.beta(1, 1 + lean, n))
    y = slope * x + shift * groups + np.asarray(scatter)[groups] * rng.standard_normal(n)
    return y[:, None], x, groups, strata


@pytest.mark.parametrize(
    "kind", [{}, {"slope": 3.0, "lean": 1.5}, {"scatter": (1.0, 3.0)}], ids=["same", "uneven in f_ex", "uneven scatter"]
)
def test_identical_populations_give_uniform_probabilities(kind):
    rng = np.random.default_rng(0)
    found = np.array([permutation.compare(*two(rng, **kind), permutations=199, seed=k).p_value[0] for k in range(300)])
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 5 <= (found <= 0.05).sum() <= 27  # 15 expected; three standard deviations and one


def test_a_known_shift_is_found_and_measured():
    rng = np.random.default_rng(1)
    found = [permutation.compare(*two(rng, 400, shift=0.5), permutations=199, seed=k) for k in range(60)]
    assert np.mean([item.p_value[0] <= 0.01 for item in found]) > 0.8
    assert np.mean([item.size[0] for item in found]) == pytest.approx(0.5, abs=0.05)
    none = [permutation.compare(*two(rng), permutations=20, seed=k).size[0] for k in range(60)]
    assert np.median(none) < 0.1


def test_differences_of_opposite_sign_do_not_cancel():
    rng = np.random.default_rng(2)
    y, x, groups, strata = two(rng, 1500)
    y = y + (0.7 * groups * np.where(strata % 2, 1, -1))[:, None]
    found = permutation.compare(y, x, groups, strata)
    assert found.p_value[0] == pytest.approx(1 / 2001)
    assert found.size[0] == pytest.approx(0.7, abs=0.15)


def test_the_statistic_of_two_groups_is_the_square_of_welchs():
    rng = np.random.default_rng(3)
    values, groups = rng.standard_normal((60, 3)), np.repeat([0, 1], [22, 38])
    ((difference, noise, _, _),) = permutation._pairs(values, np.zeros(60), groups[None])
    theirs = stats.ttest_ind(values[:22], values[22:], equal_var=False).statistic ** 2
    np.testing.assert_allclose((difference**2 / noise)[0], theirs, rtol=1e-9)


def test_with_a_slope_it_is_that_of_least_squares():
    rng = np.random.default_rng(9)
    x, groups = rng.standard_normal(80), np.repeat([0, 1], 40)
    x = x + 0.8 * groups
    y = 2 * x + rng.standard_normal(80)
    ((difference, noise, _, _),) = permutation._pairs(y[:, None], x, groups[None])
    design = np.stack([np.ones(80), groups, x], axis=1)
    best, left = np.linalg.lstsq(design, y)[:2]
    error = left[0] / 77 * np.linalg.inv(design.T @ design)[1, 1]
    assert difference[0, 0] == pytest.approx(-best[1])
    assert noise[0, 0] == pytest.approx(error, rel=0.1)  # each group's own variance here


def test_three_groups_and_the_one_that_differs():
    rng = np.random.default_rng(4)
    groups, strata, x = rng.integers(0, 3, 450), rng.integers(0, 3, 450), rng.random(450)
    y = rng.standard_normal((450, 2))
    y[:, 1] += 0.8 * (groups == 2)
    found = permutation.compare(y, x, groups, strata, permutations=400)
    assert found.p_value[1] == pytest.approx(1 / 401)
    assert found.p_value[0] > 0.01
    assert found.size[1] == pytest.approx(0.8 * (2 / 3) ** 0.5, abs=0.15)


def test_same_seed_same_numbers_and_units_do_not_matter():
    y, x, groups, strata = two(np.random.default_rng(5), shift=0.2)
    one, again, scaled = (
        permutation.compare(values, x, groups, strata, seed=7, permutations=300) for values in (y, y, 1e9 + 1e6 * y)
    )
    assert one.p_value[0] == again.p_value[0] == scaled.p_value[0]
    assert scaled.size[0] == pytest.approx(one.size[0], rel=1e-5)


def test_missing_values_and_small_groups_are_left_out():
    y, x, groups, strata = two(np.random.default_rng(6), 300, shift=1.0)
    values = np.concatenate([y, y, np.full_like(y, np.nan)], axis=1)
    gone = np.arange(300) < 40
    values[gone, 1] = np.nan
    found = permutation.compare(values, x, groups, strata, permutations=200)
    alone = permutation.compare(y[~gone], x[~gone], groups[~gone], strata[~gone], permutations=200)
    assert found.size[1] == alone.size[0]
    assert np.isnan([found.p_value[2], found.size[2]]).all()
    few = np.where(np.arange(300) < permutation.FEWEST - 1, 1, 0)
    assert np.isnan(permutation.compare(y, x, few, np.zeros(300, dtype=int)).p_value).all()


def test_constant_values_tell_nothing():
    _, x, groups, strata = two(np.random.default_rng(7))
    found = permutation.compare(np.ones((240, 1)), x, groups, strata, permutations=50)
    assert found.p_value[0] == 1
    assert found.size[0] == 0


def test_too_few_permutations_are_refused():
    with pytest.raises(ConfigError, match="5 permutations"):
        permutation.compare(*two(np.random.default_rng(0)), permutations=5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_definition(found):
    p = np.array(found)
    order = np.argsort(p, kind="stable")
    expected = np.empty(len(p))
    worst = 0.0
    for rank, k in enumerate(order):
        worst = max(worst, min(1.0, p[k] * (len(p) - rank)))
        expected[k] = worst
    np.testing.assert_allclose(permutation.holm(p), expected)
    assert np.isnan(permutation.holm(np.array([*found, np.nan]))[-1])


def test_holm_seldom_blames_any_of_many():
    rng = np.random.default_rng(8)
    blamed = [(permutation.holm(rng.random((5, 3))) < 0.05).any() for _ in range(2000)]
    assert np.mean(blamed) <= 0.065
