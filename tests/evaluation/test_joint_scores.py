"""Diagnostics of joint posteriors: a right one passes, each way of being wrong is caught and named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from joint_known import RANGE, Estimator, Known, catalogue
from scipy import stats

from galineage.errors import DataError
from galineage.evaluation import (
    DIAGNOSTICS,
    JOINT_DIAGNOSTICS,
    JointScores,
    coverage,
    join_joint,
    joint_errors,
    joint_latent,
    joint_never,
    joint_relation,
    tarp,
)
from galineage.evaluation.joint_scoring import score_joint


def scored(n=1500, seed=0, **wrong):
    return score_joint(Estimator(**wrong), catalogue(n, seed), model="known", train="a", test="b", seed=seed)


@pytest.fixture(scope="module")
def right():
    return scored()


def test_each_target_has_its_rows_and_all_single_diagnostics_run(right):
    joint, each = right
    assert list(each) == list(Known.targets)
    assert len(each["f_ex"]) == len(joint) == 1500
    assert 0 < joint.never.sum() == 1500 - len(each["t_last_major"])
    for scores in each.values():
        for name, item in DIAGNOSTICS.items():
            if not item.needs(scores):
                continue
            verdict = item.judge(item.compute(scores))
            if name in ("coverage", "pit", "sbc", "tarp", "relation"):
                assert verdict.passed, (scores.target, verdict.sentence)


def test_a_right_joint_posterior_passes(right):
    for name, item in JOINT_DIAGNOSTICS.items():
        assert item.needs(right[0])
        verdict = item.judge(item.compute(right[0]))
        assert verdict.passed, (name, verdict.sentence)


def test_marginals_are_those_of_the_known_distribution(right):
    _, each = right
    x = catalogue()["age"]
    z = stats.norm.ppf([0.16, 0.5, 0.84])
    exact = 1 / (1 + np.exp(-(-1 + x[:, None] + 0.6 * z)))
    found = np.stack([each["f_ex"].p16, each["f_ex"].p50, each["f_ex"].p84], axis=1)
    assert np.abs(found - exact).mean() < 0.01
    logit = np.log(each["f_ex"].truth / (1 - each["f_ex"].truth))
    slope = np.log(each["f_ex"].truth * (1 - each["f_ex"].truth))
    density = stats.norm.logpdf(logit, -1 + x, 0.6) - slope
    assert np.median(np.abs(each["f_ex"].log_prob - density)) < 0.1


@pytest.mark.parametrize(
    ("wrong", "tests"),
    [
        ({"width": 0.7}, ("tarp", "latent")),
        ({"width": 1.4}, ("tarp", "latent")),
        ({"shift": 0.5}, ("latent",)),
        ({"correlation": 0.0}, ("latent", "relation")),
        ({"odds": 0.8}, ("never",)),
        ({"odds": -0.8}, ("never",)),
    ],
)
def test_each_wrong_posterior_is_caught(wrong, tests):
    joint, _ = scored(1500, 1, **wrong)
    found = {name: item.judge(item.compute(joint)) for name, item in JOINT_DIAGNOSTICS.items()}
    for name in tests:
        assert not found[name].passed, (name, found[name].sentence)
    if "odds" in wrong:
        assert found["never"].kind == ("too high" if wrong["odds"] > 0 else "too low")
        assert found["tarp"].passed
    if wrong.get("correlation") == 0.0:
        assert found["relation"].kind == "too weak"


def test_wrong_correlation_is_invisible_to_the_marginals():
    _, each = scored(1500, 2, correlation=0.0)
    for scores in each.values():
        assert coverage.judge(coverage.compute(scores)).passed


def test_the_relation_knows_joint_from_apart(right):
    found = joint_relation.compute(right[0])
    assert found.overall["truth"] < -0.4
    assert abs(found.overall["joint"] - found.overall["truth"]) < 0.1
    assert abs(found.overall["apart"]) < abs(found.overall["joint"]) - 0.2
    assert found.within == pytest.approx(-0.68, abs=0.05)  # of a normal pair with correlation -0.7


def test_spearman_is_scipys(rng):
    a = rng.normal(size=(3, 60))
    b = a + rng.normal(size=(3, 60))
    expected = [stats.spearmanr(one, two).statistic for one, two in zip(a, b, strict=True)]
    np.testing.assert_allclose(joint_relation._spearman(a, b), expected)


def test_reliability_bins_hold_every_galaxy_once(right):
    found = joint_never.compute(right[0])
    assert found.n.sum() == found.total == 1500
    np.testing.assert_allclose((found.n * found.stated).sum(), found.expected)
    np.testing.assert_allclose((found.n * found.observed).sum(), found.found)
    assert found.skill > 0


def test_spiegelhalter_is_standard_normal_for_right_probabilities(right):
    rng = np.random.default_rng(5)
    joint, deviations = right[0], []
    for _ in range(200):
        never = rng.uniform(size=len(joint)) < joint.p_never
        truth = np.where(never[:, None] & np.array([False, True]), np.nan, np.full(joint.truth.shape, 0.5))
        deviations.append(joint_never.compute(replace(joint, truth=truth), n_boot=2).deviation)
    assert abs(np.mean(deviations)) < 0.25
    assert abs(np.std(deviations) - 1) < 0.2


def test_probabilities_that_spread_too_far_are_overconfident(right):
    odds = np.log(right[0].p_never / (1 - right[0].p_never))
    found = {}
    for factor in (2.5, 0.3):
        p = 1 / (1 + np.exp(-(odds.mean() + factor * (odds - odds.mean()))))
        p *= right[0].never.sum() / p.sum()  # the number is right, only the spread is not
        result = joint_never.compute(replace(right[0], p_never=np.clip(p, 1e-4, 0.999)))
        assert abs(result.slope - 1 / factor) < 0.4 / factor
        found[factor] = joint_never.judge(result).kind
    assert found == {2.5: "overconfident", 0.3: "underconfident"}
    exact = joint_never.compute(right[0])
    assert abs(exact.slope - 1) < 3 * exact.slope_error


def test_a_dull_but_right_probability_passes_without_skill(right):
    joint = replace(right[0], p_never=np.full(len(right[0]), right[0].never.mean()))
    found = joint_never.compute(joint)
    assert found.skill == pytest.approx(0, abs=1e-9)
    assert joint_never.judge(found).passed


def test_few_galaxies_are_not_judged(right):
    few = right[0].select(np.flatnonzero(~right[0].never)[:15])
    assert joint_never.judge(joint_never.compute(few)).kind == "too few"
    assert joint_latent.judge(joint_latent.compute(few)).kind == "too few"
    assert not joint_relation.possible(few)
    with pytest.raises(DataError, match="no bin of stellar mass"):
        joint_relation.compute(few)


def test_no_target_needs_a_merger(right):
    only = replace(
        right[0],
        targets=("f_ex",),
        **{name: getattr(right[0], name)[..., :1] for name in ("truth", "draws", "latent")},
    )
    assert not only.has_never
    assert not only.never.any()
    assert [name for name, item in JOINT_DIAGNOSTICS.items() if item.needs(only)] == ["tarp", "latent"]
    with pytest.raises(DataError, match="no probability of no major merger"):
        joint_never.compute(only)


def test_numbers_of_every_target_are_the_obvious_ones(right):
    _, each = right
    found = joint_errors.compute(list(each.values()))
    item = each["t_last_major"]
    error = item.p50 - item.truth
    row = found.targets.index("t_last_major")
    assert found.values["close"][row] == np.mean(np.abs(error) <= 1)
    assert found.values["mae"][row] == pytest.approx(np.abs(error).mean())
    assert found.values["nmad"][row] == pytest.approx(stats.median_abs_deviation(error, scale=1 / 1.4826))
    assert found.values["ratio"][row] == pytest.approx(item.std.mean() / item.truth.std())
    assert joint_errors.judge(found).passed
    assert (found.errors["close"] > 0).all()
    table = found.to_table()
    assert list(table["unit"]) == ["-", "Gyr"]
    with pytest.raises(DataError, match="no tests"):
        joint_errors.compute([])


def test_scores_survive_their_file(right, tmp_path):
    joint = right[0].select(np.arange(40))
    joint.write(tmp_path / "joint.parquet")
    again = JointScores.read(tmp_path / "joint.parquet")
    for name in ("ids", "mstar", "truth", "p_never", "latent", "log_prob", "tarp"):
        np.testing.assert_array_equal(getattr(again, name), getattr(joint, name))
    np.testing.assert_allclose(again.draws, joint.draws, rtol=1e-6)
    assert (again.targets, again.label, again.model) == (joint.targets, joint.label, joint.model)
    table = joint.to_table()
    assert all(table[name].description for name in table.colnames)
    table.remove_column("p_never")
    from galineage.tables import write_table

    write_table(table, tmp_path / "less.parquet")
    with pytest.raises(DataError, match="no joint scores"):
        JointScores.read(tmp_path / "less.parquet")


def test_folds_are_joined_row_by_row(right):
    joint = right[0]
    parts = [joint.select(np.arange(700)), joint.select(np.arange(700, 1500))]
    again = join_joint(parts)
    np.testing.assert_array_equal(again.p_never, joint.p_never)
    np.testing.assert_array_equal(again.draws, joint.draws)


def test_wrong_shapes_are_refused(right):
    with pytest.raises(DataError, match="'truth' have shape"):
        replace(right[0], truth=right[0].truth[:, :1])
    with pytest.raises(DataError, match="no target 'age'"):
        right[0].column("age")


def test_every_figure_can_be_drawn_and_has_its_numbers(right):
    joint, each = right
    for name, item in JOINT_DIAGNOSTICS.items():
        result = item.compute(joint)
        figure = item.figure(result)
        assert figure.axes, name
        table = result.to_table()
        assert len(table)
        assert all(table[column].description for column in table.colnames)
    both = [*each.values(), *(replace(scores, train="b") for scores in each.values())]
    axes = joint_errors.draw(joint_errors.compute(both))
    assert "standard deviation" in axes.get_xlabel()


def test_every_model_and_pair_of_domains_looks_its_own_way(right):
    tests = [
        replace(scores, model=model, train=train, test=train)
        for model in "klmn" for train in "ab" for scores in right[1].values()
    ]  # fmt: skip
    handles, _ = joint_errors.draw(joint_errors.compute(tests, n_boot=5)).get_legend_handles_labels()
    looks = {(line.get_color(), line.get_marker()) for line, *_ in handles}
    assert len(looks) == 8


def test_draws_stay_in_range_and_members_are_kept_apart(right):
    joint = right[0]
    assert joint.draws.shape == (1500, 32, 2)
    assert joint.latent.shape == (1500, 2, 2)
    defined = joint.draws[..., 1][np.isfinite(joint.draws[..., 1])]
    assert (defined >= 0).all()
    assert (defined <= RANGE).all()


def test_joint_tarp_leaves_never_merged_galaxies_out(right):
    joint = right[0]
    np.testing.assert_array_equal(np.isnan(joint.tarp), joint.never)
    assert tarp.compute_joint(joint).test.n == (~joint.never).sum()
