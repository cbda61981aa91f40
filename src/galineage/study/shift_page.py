"""Whom to believe, as a figure of a study: shift scores and errors of its tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from galineage.errors import ConfigError
from galineage.evaluation import figure_of, shift
from galineage.reporting import Grid, Panel
from galineage.study.choosing import chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.study.results import Results

__all__ = ["make_shift"]


def make_shift(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Scores of the galaxies tested and errors by score, a curve and a sentence for each test (of one ``train``)."""
    tests = [item for item in chosen(results, options) if options.get("train", item.train) == item.train]
    tests = [item for item in tests if shift.has_shift(item)]
    if not tests:
        raise ConfigError("none of the tests asked for has a shift score", where=str(dict(options)))
    found = shift.compute(tests)
    verdicts = tuple(
        replace(verdict, sentence=f"{curve.label}: {verdict.sentence}")
        for curve in found.curves
        for verdict in [shift.judge(replace(found, curves=(curve,)))]
    )
    figure = figure_of(shift.draw(found))
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, found.to_table())]
