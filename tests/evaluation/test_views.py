"""Rows that are views of one galaxy: every diagnostic's errors are those of the galaxies, not of the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from joint_known import Estimator, catalogue
from known import scores
from scipy import stats

from galineage.evaluation import (
    accuracy,
    boxes,
    coverage,
    joint_latent,
    joint_never,
    pit,
    prediction,
    relation,
    sbc,
    shift,
    tarp,
    trend,
)
from galineage.evaluation.bootstrap import bootstrap_ecdf, ecdf, effective, fraction, spread
from galineage.evaluation.calibration import uniformity
from galineage.evaluation.joint_scoring import score_joint

VIEWS = 6


@pytest.fixture(scope="module")
def one():
    return scores("narrow", 600, 4, model="cnn", train="a", test="b")


@pytest.fixture(scope="module")
def many(one):
    """The same galaxies, each with so many equal views."""
    return one.select(np.repeat(np.arange(len(one)), VIEWS))


def unnamed(item):
    """The same rows as if each were another galaxy."""
    return replace(item, ids=np.arange(len(item)).astype(str))


def widths(result):
    return (result.high - result.low)[5:-5]


@pytest.mark.parametrize("module", [coverage, sbc, tarp])
def test_curves_of_equal_views_are_as_uncertain_as_the_galaxies(module, one, many):
    single, views, naive = (widths(module.compute(item, n_boot=400)).mean() for item in (one, many, unnamed(many)))
    assert views == pytest.approx(single, rel=0.1)
    assert naive == pytest.approx(single / VIEWS**0.5, rel=0.1)
    for name in ("band_low", "band_high"):
        ours, theirs = (getattr(module.compute(item, n_boot=5), name) for item in (many, one))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("module", [coverage, sbc, tarp, pit])
def test_sentences_about_equal_views_are_those_about_the_galaxies(module):
    one = scores("narrow", 120, 4)
    many = one.select(np.repeat(np.arange(len(one)), VIEWS))
    tests = [module.compute(item, n_boot=5).test for item in (one, many, unnamed(many))]
    assert tests[1].n == VIEWS * len(one)
    assert tests[1].effective == tests[0].effective == len(one)
    for name in ("shift_error", "spread_error", "p_shift", "p_spread", "p_distance"):
        assert getattr(tests[1], name) == pytest.approx(getattr(tests[0], name), rel=0.1, abs=1e-3)
    assert tests[2].shift_error < 0.6 * tests[0].shift_error


def test_rows_that_are_views_are_called_views(one, many):
    """In the sentence of accuracy and in the legend of predictions."""
    for item, said, drawn in ((one, "over 600 galaxies", "galaxies"), (many, "over 3600 views of 600 gal", "views")):
        assert said in str(accuracy.judge(accuracy.compute(item, n_boot=5)))
        upper, _ = prediction.draw(prediction.compute(item, n_boot=5))
        labels = [text.get_text() for text in upper.get_legend().get_texts()]
        assert f"128 random {drawn}, 68 % intervals" in labels


def test_histograms_trends_and_relations_too(one, many):
    for items, errors in (
        ([pit.compute(item, bins=10, n_boot=400) for item in (one, many)], lambda found: found.error),
        ([trend.compute(item, bins=5, n_boot=400) for item in (one, many)], lambda found: found.curves[0].p50_error),
        ([relation.compute(item, bins=5, n_boot=400) for item in (one, many)], lambda found: found.offset_error),
        ([relation.compute(item, bins=5, n_boot=400) for item in (one, many)], lambda found: found.truth.p50_error),
    ):
        single, views = (errors(found) for found in items)
        kept = np.isfinite(single) & (single > 0)
        assert kept.sum() >= 3
        assert np.median(views[kept] / single[kept]) == pytest.approx(1, abs=0.2)
    rmse = [trend.compute(item, bins=5, n_boot=400).rmse[0] for item in (one, many)]
    assert rmse[1] == pytest.approx(rmse[0], rel=0.1)
    assert pit.compute(many, n_boot=5).band == pit.compute(one, n_boot=5).band


def box_errors(item):
    found = boxes.compute([item], n_boot=400)
    return [*found.errors[0], *found.bias_error]


def prediction_errors(item):
    found = prediction.compute(item, bins=4, n_boot=400)
    return [found.median_error, found.scatter_error, found.bias_p50_error, *found.error.p50_error]


def shift_errors(item):
    (found,) = shift.compute(item, n_boot=400).curves
    filled = found.count >= 20 * len(item) // 600  # the same bins, however many views there are
    return [found.flagged[1], found.accepted_rmse[1], found.flagged_rmse[1], found.behind[1], *found.rmse_error[filled]]


@pytest.mark.parametrize("errors", [box_errors, prediction_errors, shift_errors])
def test_boxes_predictions_and_shifts_are_as_uncertain_as_the_galaxies(errors, one, many):
    single, views, naive = (np.array(errors(item), dtype=float) for item in (one, many, unnamed(many)))
    assert len(views) == len(single) == len(naive) >= 4
    assert np.isfinite(views).all()
    np.testing.assert_allclose(views, single, rtol=0.25)
    assert np.median(views / single) == pytest.approx(1, abs=0.1)
    assert np.median(naive / single) == pytest.approx(VIEWS**-0.5, rel=0.15)


def test_differences_of_models_are_of_the_same_galaxies(many):
    other = replace(many, model="other", mean=many.mean + 0.01)
    result = trend.compute([many, other], bins=3, n_boot=100)
    assert result.behind[0] == (0.0, 0.0)
    assert 0 < result.behind[1][1] < 0.5 * result.rmse[0][1]


def test_a_bin_of_one_galaxy_has_no_error(one):
    alone = one.select(np.zeros(8, dtype=int))
    assert np.isnan(trend.compute(alone, bins=1, n_boot=20).curves[0].p50_error).all()
    assert np.isnan(relation.compute(alone, bins=1, n_boot=20).offset_error).all()
    assert np.isnan(trend.compute(alone, n_boot=20).rmse[0][1])
    assert coverage.judge(coverage.compute(alone, n_boot=5)).kind == "too few"


@pytest.mark.parametrize("module", [coverage, sbc, tarp, pit, trend, relation, boxes, shift, prediction])
def test_names_do_not_matter_where_each_galaxy_has_one_row(module, one):
    renamed = replace(one, ids=np.char.add("galaxy-", np.arange(len(one)).astype("U4")))
    given = [[item] if module is boxes else item for item in (one, renamed)]
    result, again = (module.compute(item, n_boot=20, seed=2).to_table() for item in given)
    for name in set(result.colnames) - ({"rmse_all_error"} if module is trend else set()):
        np.testing.assert_array_equal(result[name], again[name])


@pytest.fixture(scope="module")
def joint():
    return score_joint(Estimator(), catalogue(500, 3), model="known", train="a", test="b", seed=3)[0]


def test_no_merger_in_equal_views_is_as_uncertain_as_in_the_galaxies(joint):
    many = joint.select(np.repeat(np.arange(len(joint)), VIEWS))
    single, views, naive = (joint_never.compute(item) for item in (joint, many, unnamed(many)))
    assert (views.total, views.galaxies, views.effective) == (VIEWS * 500, 500, 500)
    assert views.found == VIEWS * single.found
    np.testing.assert_allclose(views.high - views.low, single.high - single.low, rtol=0.05)  # borders split views
    for name in ("excess", "deviation", "slope", "slope_error"):
        assert getattr(views, name) == pytest.approx(getattr(single, name), rel=1e-6)
    assert views.skill_error == pytest.approx(single.skill_error, rel=0.15)
    assert naive.excess == pytest.approx(VIEWS**0.5 * single.excess)
    ours, theirs = (joint_never.judge(item) for item in (views, single))
    assert ours.kind == theirs.kind
    assert f"of {VIEWS * 500} views of 500 galaxies are said" in ours.sentence
    assert "of 500 galaxies are said" in theirs.sentence
    few = joint.select(np.repeat(np.flatnonzero(joint.never)[:4], VIEWS))
    assert joint_never.judge(joint_never.compute(few)).kind == "too few"


def test_statements_of_no_merger_that_hold_are_seldom_blamed_for_having_views(joint):
    rng = np.random.default_rng(5)
    label = np.repeat(np.arange(len(joint)), rng.integers(1, 5, len(joint)))
    many = joint.select(label)
    found = []
    for _ in range(200):
        never = (rng.uniform(size=len(joint)) < joint.p_never)[label]
        truth = np.where(never[:, None] & np.array([False, True]), np.nan, 0.5)
        result = joint_never.compute(replace(many, truth=truth), n_boot=2)
        found.append([result.excess, result.deviation, (result.slope - 1) / result.slope_error])
    np.testing.assert_allclose(np.std(found, axis=0), 1, atol=0.17)
    np.testing.assert_allclose(np.mean(found, axis=0), 0, atol=0.25)


def test_latent_values_of_equal_views_are_as_uncertain_as_the_galaxies(joint):
    many = joint.select(np.repeat(np.arange(len(joint)), VIEWS))
    single, views, naive = (joint_latent.compute(item, n_boot=300) for item in (joint, many, unnamed(many)))
    np.testing.assert_array_equal(views.n, single.n)
    np.testing.assert_array_equal(views.band_high, single.band_high)
    assert naive.band_high.max() < 0.6 * views.band_high.max()
    for name in ("mean_error", "std_error", "residual_error"):
        np.testing.assert_allclose(getattr(views, name), getattr(single, name), rtol=0.2)


def clustered(rng, galaxies, alike):
    """Uniform numbers of galaxies with 1 to 12 views, whose normal scores have this correlation within a galaxy."""
    label = np.repeat(np.arange(galaxies), rng.integers(1, 13, galaxies))
    common = rng.standard_normal(galaxies)[label]
    return stats.norm.cdf(alike**0.5 * common + (1 - alike) ** 0.5 * rng.standard_normal(len(label))), label


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
def test_calibrated_models_are_seldom_blamed_for_having_views(alike):
    rng = np.random.default_rng(1)
    blamed = np.zeros(2)
    for _ in range(400):
        u, label = clustered(rng, 60, alike)
        blamed += [bool(uniformity(u, galaxies=whose).kinds(tolerance=0)) for whose in (label, None)]
    assert blamed[0] <= 10  # 1 % of 400 and three standard deviations
    if alike:
        assert blamed[1] > 40


def test_errors_of_fractions_are_the_scatter_of_samples():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(400):
        u, label = clustered(rng, 80, 0.7)
        found.append((*fraction(u < 0.3, label), *spread(bootstrap_ecdf(u, np.array([0.3]), galaxies=label), 80)))
    value, error, resampled = np.array(found).T
    assert error.mean() == pytest.approx(value.std(), rel=0.12)
    assert resampled.mean() == pytest.approx(value.std(), rel=0.12)
    assert value.mean() == pytest.approx(0.3, abs=0.01)


def test_how_many_galaxies_views_count_for():
    values = np.random.default_rng(0).standard_normal(900)
    assert effective(values) == effective(values, np.arange(900)) == 900
    assert effective(np.repeat(values, 4), np.repeat(np.arange(900), 4)) == 900
    assert effective(values, np.repeat(np.arange(300), 3)) == pytest.approx(900, rel=0.12)
    assert effective(values, np.zeros(900)) == 1
    assert effective(np.ones(12), np.repeat(np.arange(4), 3)) == 4


def test_the_middle_of_resampled_curves_is_the_curve():
    u, label = clustered(np.random.default_rng(3), 200, 0.5)
    grid = np.linspace(0, 1, 21)
    curves = bootstrap_ecdf(u, grid, galaxies=label, n_boot=500)
    np.testing.assert_allclose(curves.mean(axis=0), ecdf(u, grid), atol=0.006)
    assert (np.diff(curves, axis=1) >= 0).all()
    assert (curves[:, -1] == 1).all()
