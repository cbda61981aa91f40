"""The figure that opens a page: the first questions of a reader, answered; see `galineage.study.pages`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galineage.evaluation import answers, figure_of
from galineage.reporting import Grid, Panel
from galineage.study.adapting import TOGETHER
from galineage.study.choosing import chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.study.results import Results

__all__ = ["make_answers"]


def make_answers(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Error, bias, coverage and flags of every model of an experiment; ``main`` is the one the sentences begin with.

    Models that learned from all domains, with the truth of the one tested, are left out: they cross nothing.
    """
    tests = [item for item in chosen(results, options) if item.train != TOGETHER]
    found = answers.compute(tests, main=options.get("main", ""))
    figure = figure_of(answers.draw(found))
    verdicts = answers.judge(found)
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, found.to_table(), wide=True)]
