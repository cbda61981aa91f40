"""The figure that sets ways to cross from one simulation to another side by side; see `galineage.study.pages`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galineage.evaluation import figure_of, ladder
from galineage.reporting import Grid, Panel
from galineage.study.adapting import TOGETHER, all_but
from galineage.study.choosing import chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.study.results import Results

__all__ = ["make_ladder"]


def make_ladder(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Error, bias and coverage of every method: one panel for each of ``pairs``, with ``goals`` shaded."""
    panels: list[Panel | Grid] = []
    every = chosen(results, options)
    for number, (train, test) in enumerate(options["pairs_shown"]):
        extra = [item for item in every if item.train in (all_but(test), TOGETHER) and item.test == test]
        tests = [item for item in every if (item.train, item.test) == (train, test)]
        result = ladder.compute([*tests, *(extra if train != test else [])])
        goals = dict(options.get("goals", {}).get(f"{train} to {test}", {}))
        name = f"{options['name']}_{number + 1}"
        title = f"{options['title']}: {train} → {test}"
        figure = figure_of(ladder.draw(result, goals=goals))
        panels.append(
            Panel(name, title, options["caption"], figure, (ladder.judge(result),), result.to_table(), wide=True)
        )
    return panels
