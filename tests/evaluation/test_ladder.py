"""Ways side by side: the numbers are those of each way alone, and the figure and the sentence say what they say."""

from __future__ import annotations

import numpy as np
import pytest
from known import scores

from galineage.errors import DataError
from galineage.evaluation import accuracy, ladder


@pytest.fixture(scope="module")
def ways():
    kinds = {"plain": "narrow", "better": "right"}
    return [scores(kind, 1500, 3, model=name, train="a", test="b") for name, kind in kinds.items()]


def test_numbers_are_those_of_each_way_alone(ways):
    result = ladder.compute(ways, n_boot=20, seed=1)
    for index, item in enumerate(ways):
        alone = accuracy.compute(item, n_boot=20, seed=1).values
        for name in ladder.COLUMNS:
            assert (result.values[name][index], result.errors[name][index]) == alone[name]
    table = result.to_table()
    assert list(table["method"]) == ["plain", "better"]
    np.testing.assert_array_equal(table["bias_p50"], result.values["bias_p50"])


def test_the_figure_has_means_medians_and_goals(ways):
    result = ladder.compute(ways, n_boot=5)
    error, bias, covered = ladder.draw(result, goals={"rmse": 0.1, "bias": 0.01})
    assert [text.get_text() for text in error.get_yticklabels()] == ["plain", "better"]
    drawn = [line.get_xdata() for line in bias.get_lines()]
    for name in ("bias_median", "bias_p50"):
        assert any(np.array_equal(values, result.values[name]) for values in drawn)
    assert len(bias.patches) == len(covered.patches) == len(error.patches) == 1


@pytest.mark.parametrize(("covered", "passed"), [(0.68, True), (0.645, True), (0.6, False), (0.75, False)])
def test_the_sentence_names_the_smallest_error_and_whether_its_error_bars_hold(covered, passed):
    values = {name: np.array([0.2, 0.1]) for name in ladder.COLUMNS} | {"coverage68": np.array([0.68, covered])}
    errors = {name: np.full(2, 0.01) for name in ladder.COLUMNS}
    made = ladder.Ladder(("plain", "better"), ("a", "a"), "b", "f_ex", values, errors)
    verdict = ladder.judge(made)
    assert verdict.passed is passed
    assert "better has the smallest error, 0.1000 instead of 0.2000" in verdict.sentence
    errors["rmse"] = np.full(2, 0.1)
    assert "nothing gains" in ladder.judge(made).sentence


def test_different_domains_are_refused(ways):
    with pytest.raises(DataError, match="different domains"):
        ladder.compute([ways[0], scores("right", 1500, 3, model="x", train="a", test="c")])
    with pytest.raises(DataError, match="0 tests"):
        ladder.compute([])
