"""The figures and tables of joint models that a study can ask for; see `galineage.study.pages`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError
from galineage.evaluation import JOINT_DIAGNOSTICS, figure_of, joint_errors, joint_never, joint_relation
from galineage.evaluation.style import new_figure, style
from galineage.reporting import Grid, Panel
from galineage.study.choosing import chosen, chosen_joint, label, labelled, stack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from astropy.table import Table

    from galineage.evaluation import Scores
    from galineage.study.results import Results

__all__ = ["make_joint", "make_never", "make_relation_of_two", "make_target_errors", "make_widths"]

_SHOWN = {
    "r2": "R²",
    "close": "close",
    "mae": "MAE",
    "nmad": "NMAD",
    "bias": "bias",
    "ratio": "width",
    "in68": "in 68 %",
}


def _tests(results: Results, options: Mapping[str, Any]) -> list[Scores]:
    """Return the tests of every target of one or several experiments; of several, models are called after these."""
    names = options.get("experiments", [options["experiment"]] if "experiment" in options else [])
    found = []
    for name in names:
        tests = chosen(results, {"target": "all", **options, "experiment": name})
        title = results.study.experiment(name).title
        several = len({item.model for item in tests}) > 1
        found += [
            replace(item, model=f"{title}: {item.model}" if several else title) if len(names) > 1 else item
            for item in tests
        ]
    return found


def make_widths(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Posterior over prior width of every target."""
    found = joint_errors.compute(_tests(results, options))
    figure = figure_of(joint_errors.draw(found))
    verdicts = (joint_errors.judge(found),)
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, found.to_table())]


def make_target_errors(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """All numbers of every target, with bootstrap errors."""
    table = joint_errors.compute(_tests(results, options)).to_table()
    return [Grid(options["name"], options["title"], options["caption"], table, _readable(table))]


def _readable(table: Table) -> Table:
    """Join the numbers with their errors as text, for the page."""
    from astropy.table import Column, Table

    shown = Table()
    shown["model"] = table["model"]
    shown["trained → tested"] = [
        train if train == test else f"{train} → {test}"
        for train, test in zip(table["train"], table["test"], strict=True)
    ]
    shown["target"] = [
        name if unit == "-" else f"{name} [{unit}]" for name, unit in zip(table["target"], table["unit"], strict=True)
    ]
    shown["n"] = table["n"]
    for name, title in _SHOWN.items():
        pairs = zip(table[name], table[f"{name}_error"], strict=True)
        texts = [f"{float(value):.3f}±{float(error):.3f}" for value, error in pairs]
        shown[title] = Column(texts, description=table[name].description)
    return shown


def make_never(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Reliability of P(no major merger), all tests on one pair of axes."""
    tests = chosen_joint(results, options)
    found = [joint_never.compute(item) for item in tests]
    with style():
        figure = new_figure(6.6, 5.6)
        ax = figure.add_subplot()
        for index, result in enumerate(found):
            joint_never.draw(result, ax, index=index)
    labels = [label(item) for item in tests]
    table = stack([item.to_table() for item in found], labels)
    verdicts = labelled(map(joint_never.judge, found), labels)
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, table)]


def make_relation_of_two(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Rank correlation of two targets at fixed mass, a row of panels for each test."""
    tests = chosen_joint(results, options)
    pair = {key: options[key] for key in ("first", "second") if key in options}
    found = [joint_relation.compute(item, **pair) for item in tests]
    with style():
        figure = new_figure(12.6, 4.3 * len(found))
        for part, result in zip(np.ravel(figure.subfigures(len(found), 1, squeeze=False)), found, strict=True):
            joint_relation.draw(result, part)
            if len(found) > 1:
                part.suptitle(result.label)
    labels = [label(item) for item in tests]
    table = stack([item.to_table() for item in found], labels)
    verdicts = labelled(map(joint_relation.judge, found), labels)
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, table, wide=True)]


def make_joint(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Diagnostics of joint posteriors by name, for every pair asked for."""
    panels: list[Panel | Grid] = []
    for name in options["diagnostics"]:
        if name not in JOINT_DIAGNOSTICS:
            raise ConfigError(
                f"there is no joint diagnostic {name!r}", expected="one of " + ", ".join(JOINT_DIAGNOSTICS)
            )
        diagnostic = JOINT_DIAGNOSTICS[name]
        for item in chosen_joint(results, options):
            result = diagnostic.compute(item)
            stem = f"{options['name']}_{name}_{item.model}_{item.train}_to_{item.test}"
            panels.append(
                Panel(
                    stem.replace(".", "-").replace(" ", "-"),
                    f"{diagnostic.title}: {label(item)}",
                    diagnostic.caption,
                    diagnostic.figure(result),
                    (diagnostic.judge(result),),
                    result.to_table(),
                    wide=name in ("latent", "relation"),
                )
            )
    return panels
