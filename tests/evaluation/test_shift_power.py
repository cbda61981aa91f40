"""False alarms and power of the shift scores under shifts of known size."""

from __future__ import annotations

import numpy as np
import pytest
from represented import domain

from galineage.errors import ConfigError, DataError
from galineage.evaluation import figure_of, shift_power
from galineage.evaluation.sample import Sample

QUICK = ("neighbours", "mahalanobis")


@pytest.fixture(scope="module")
def found():
    others = [domain("b", 200, seed=2), domain("c", 200, shift=6.0, seed=3)]
    return shift_power.compute(domain("a", 600, seed=1), others, kinds=QUICK)


@pytest.mark.parametrize("kind", QUICK)
def test_power_grows_with_the_shift(found, kind):
    own = found.of(kind, "none")[0]
    assert own.n == 200
    assert own.flagged[0] == pytest.approx(0.05, abs=0.05)
    for shift in ("mean", "width"):
        sizes, flagged = zip(*((item.size, item.flagged[0]) for item in found.of(kind, shift)), strict=True)
        assert list(sizes) == sorted(sizes)
        assert flagged[-1] > 0.95
        assert np.diff(flagged).min() > -0.05
    like, unlike = found.of(kind, "domain")
    assert like.flagged[0] < 0.2 < 0.8 < unlike.flagged[0]


def test_false_alarms_are_five_per_cent_on_average():
    for kind in QUICK:
        own = [
            shift_power.compute(domain("a", 450, seed=s), kinds=[kind], mean_moved=(), widened=(), seed=s).items[0]
            for s in range(12)
        ]
        fractions, errors = np.array([item.flagged for item in own]).T
        assert fractions.mean() == pytest.approx(0.05, abs=0.02)
        assert 0.5 < errors.mean() / fractions.std(ddof=1) < 4


def test_more_coordinates_than_galaxies_raise_no_alarm():
    sample = domain("a", 180, seed=4, width=150)
    found = shift_power.compute(sample, kinds=["mahalanobis"], mean_moved=(8.0,), widened=())
    alarms = found.of("mahalanobis", "none")[0].flagged
    assert abs(alarms[0] - 0.05) < 3.5 * alarms[1]


def test_the_flow_stands_beside_them():
    found = shift_power.compute(domain("a", 240), kinds=["flow"], mean_moved=(8.0,), widened=(3.0,))
    assert found.of("flow", "width")[0].flagged[0] > 0.5
    assert "flow density" in shift_power.judge(found).sentence


def test_verdict_table_and_figure(found):
    verdict = shift_power.judge(found)
    assert verdict.passed
    assert "5 % promised" in verdict.sentence
    assert "seen best by" in verdict.sentence
    table = found.to_table()
    assert len(table) == len(QUICK) * (1 + len(shift_power.MEAN_MOVED) + len(shift_power.WIDENED) + 2)
    assert table.meta["fitted"] == 400
    axes = shift_power.draw(found)
    assert len(axes) == 3
    figure_of(axes).canvas.draw()


def test_scores_that_cry_wolf_do_not_pass(found):
    wrong = [
        shift_power.Tested(item.score, item.shift, item.domain, item.size, item.n, (0.4, 0.03))
        for item in found.items
        if item.shift == "none"
    ]
    assert shift_power.judge(shift_power.Power(tuple(wrong), "a", 400)).kind == "false alarms off"


def test_what_is_refused():
    with pytest.raises(ConfigError, match="scores"):
        shift_power.compute(domain("a"), kinds=["entropy"])
    with pytest.raises(ConfigError, match="scores"):
        shift_power.compute(domain("a"), kinds=[])
    with pytest.raises(DataError, match="100 galaxies are too few"):
        shift_power.compute(domain("a", 100))
    with pytest.raises(DataError, match="all representations are equal"):
        shift_power.compute(Sample("a", np.ones((200, 4))), kinds=["neighbours"])
