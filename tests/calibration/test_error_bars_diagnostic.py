"""Coverage and width of error bars by method: known numbers, plain verdicts, a drawing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from galineage.errors import DataError
from galineage.evaluation import figure_of, recalibration
from galineage.evaluation.recalibration import Intervals

TAILS = ndtri(np.array([0.84, 0.975]))[:, None]
TRUTH = np.random.default_rng(0).normal(0, 0.1, 4000)


def bars(width, infinite=None):
    return Intervals(*(sign * width * TAILS * np.ones(4000) for sign in (-1, 1)), infinite)


def test_coverage_and_width_are_the_known_ones():
    result = recalibration.compute(TRUTH, {"model": bars(0.05), "pit": bars(0.1)}, label="A → B")
    np.testing.assert_allclose(result.coverage, [[0.381, 0.673], [0.68, 0.95]], atol=0.02)
    np.testing.assert_allclose(result.width[1], 0.2 * TAILS[:, 0])
    np.testing.assert_allclose(result.width_error, 0, atol=1e-12)
    np.testing.assert_allclose(result.coverage_error[1], np.sqrt([0.68 * 0.32 / 4000, 0.95 * 0.05 / 4000]), rtol=0.3)
    table = result.to_table()
    assert len(table) == 4
    assert table.meta["domains"] == "A → B"
    verdict = recalibration.judge(result)
    assert verdict.passed
    assert verdict.kind == "mended"
    assert "2.00 times the width" in verdict.sentence


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (0.05, [0.1], "mended"),
        (0.05, [0.06], "not mended"),
        (0.05, [0.06, 0.1], "mended in part"),
        (0.1, [0.1], "calibrated"),
        (0.1, [0.05], "made worse"),
        (0.1, [], "calibrated"),
        (0.05, [], "not mended"),
    ],
)
def test_verdicts(before, after, kind):
    methods = {"model": bars(before), **{f"m{i}": bars(width) for i, width in enumerate(after)}}
    assert recalibration.judge(recalibration.compute(TRUTH, methods)).kind == kind


def test_infinite_intervals_are_counted():
    infinite = np.zeros((2, 4000), dtype=bool)
    infinite[1, :1000] = True
    result = recalibration.compute(TRUTH, {"model": bars(0.1, infinite)})
    np.testing.assert_array_equal(result.infinite, [[0, 0.25]])


def test_the_drawing_names_every_method():
    result = recalibration.compute(TRUTH, {"model": bars(0.05), "pit": bars(0.1)}, label="A → B")
    axes = recalibration.draw(result)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["model", "pit"]
    assert figure_of(axes) is axes.figure


def test_unusable_intervals_are_refused():
    with pytest.raises(DataError, match="no intervals"):
        recalibration.compute(TRUTH, {})
    with pytest.raises(DataError, match="shape"):
        recalibration.compute(TRUTH[:10], {"model": bars(0.1)})
