"""The figures and tables a study can ask for in its file, each made from finished results.

A new kind is one function with the signature of `Maker` and one line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError
from galineage.evaluation import (
    DIAGNOSTICS,
    accuracy,
    balance,
    boxes,
    coverage,
    figure_of,
    inputs,
    prediction,
    relation,
    transfer,
    trend,
)
from galineage.evaluation.style import new_figure, style
from galineage.reporting import Grid, Panel
from galineage.study.answer_page import make_answers
from galineage.study.choosing import chosen, label, labelled, stack
from galineage.study.error_bar_pages import make_error_bars
from galineage.study.joint_pages import (
    make_joint,
    make_never,
    make_relation_of_two,
    make_target_errors,
    make_widths,
)
from galineage.study.ladder_pages import make_ladder
from galineage.study.map_pages import make_attribution, make_example_maps, make_gradients, make_pixel_sums, make_umap
from galineage.study.representation_pages import (
    make_domain_overlap,
    make_landscape,
    make_population,
    make_property_transfer,
    make_shift_power,
)
from galineage.study.results import Results
from galineage.study.shift_page import make_shift

if TYPE_CHECKING:
    from astropy.table import Table

    from galineage.evaluation import Scores
    from galineage.galaxy import Catalogue

__all__ = ["KINDS", "Maker", "accuracy_table"]

Maker = Callable[[Results, Mapping[str, Any]], list[Panel | Grid]]
"""A kind of figure: results and the options of the study file in, panels and grids out."""


def make_balance(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Histograms of the target before and after earlier snapshots, or views, were added (Figure 1)."""
    found = balance.compute(
        [(name, _whole(results, name, options.get("rows", "all"))) for name in options["domains"]],
        views=bool(options.get("views")),
    )
    return [
        Panel(
            options["name"],
            options["title"],
            options["caption"],
            figure_of(balance.draw(found)),
            (balance.judge(found),),
            found.to_table(),
        )
    ]


def _whole(results: Results, domain: str, rows: str | None, *features: str) -> Catalogue:
    """Galaxies of a domain whose target, and features, are known."""
    return results.catalogue(domain, rows).complete([results.study.target, *features])


def make_corner(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Draw inputs and target of several domains against each other (Figure 2)."""
    catalogues = [
        (name, _whole(results, name, options.get("rows"), *options["features"])) for name in options["domains"]
    ]
    found = inputs.compute(catalogues, options["features"], target=results.study.target)
    figure = figure_of([ax for ax in np.ravel(inputs.draw(found)) if ax is not None])
    verdicts = (inputs.judge(found),)
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, found.to_table(), wide=True)]


def make_prediction(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Prediction against truth with the error below, one column per test (Figures 5 and 6)."""
    tests = chosen(results, options)
    found = [prediction.compute(item) for item in tests]
    with style():
        figure = new_figure(5.6 * len(found), 6.6)
        for part, result in zip(np.ravel(figure.subfigures(1, len(found), squeeze=False)), found, strict=True):
            prediction.draw(result, part)
    table = stack([result.to_table() for result in found], [label(item) for item in tests])
    verdicts = labelled(map(prediction.judge, found), [item.label for item in tests])
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, table, wide=len(found) > 1)]


def make_boxes(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Box plots of the error for every model and pair (Figure 9, catalogue networks)."""
    found = boxes.compute(chosen(results, options))
    verdicts = (boxes.judge(found),)
    return [
        Panel(
            options["name"],
            options["title"],
            options["caption"],
            figure_of(boxes.draw(found)),
            verdicts,
            found.to_table(),
            wide=True,
        )
    ]


def make_relation(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Recovered relation of the target with stellar mass, one panel per test domain (Figure 10)."""
    tests = chosen(results, options)
    domains = list(dict.fromkeys(item.test for item in tests))
    found, labels = [], []
    with style():
        figure = new_figure(5.6 * len(domains), 4.6)
        for ax, domain in zip(np.ravel(figure.subplots(1, len(domains), squeeze=False)), domains, strict=True):
            for index, item in enumerate([test for test in tests if test.test == domain]):
                result = relation.compute(item, point=options.get("point", "posterior"))
                relation.draw(replace(result, model=f"trained on {item.train}"), ax, index=index)
                ax.set_title(f"tested on {domain}")
                found.append(result)
                labels.append(item.label)
    verdicts = labelled(map(relation.judge, found), labels)
    table = stack([item.to_table() for item in found], labels)
    return [
        Panel(options["name"], options["title"], options["caption"], figure, verdicts, table, wide=len(domains) > 1)
    ]


def make_coverage(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Coverage of the tests, left inside a domain and right across (Figure 11), or of one kind of ``pairs``."""
    found, labels = [], []
    with style():
        asked = options.get("pairs", "all")
        parts = [which for which in ("within", "across") if asked in (which, "all")]
        parts = [which for which in parts if results.pairs(options["experiment"], which)]
        figure = new_figure(5.6 * len(parts), 5.6)
        for ax, which in zip(np.ravel(figure.subplots(1, len(parts), squeeze=False)), parts, strict=True):
            for index, item in enumerate(chosen(results, {**options, "pairs": which})):
                result = coverage.compute(item, method=options.get("method", "central"))
                coverage.draw(result, ax, index=index)
                found.append(result)
                labels.append(label(item))
            ax.set_title("same simulation" if which == "within" else "other simulation")
            ax.get_legend().set(loc="upper left")
    table = stack([item.to_table() for item in found], labels)
    verdicts = labelled(map(coverage.judge, found), labels)
    wide = len(parts) > 1
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, table, wide=wide)]


def make_error_mass(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Error against stellar mass or truth, models together, one panel per pair (Figures 7, 8 and 14)."""
    tests = chosen(results, options)
    pairs = list(dict.fromkeys((item.train, item.test) for item in tests))
    found = [
        trend.compute([t for t in tests if (t.train, t.test) == pair], along=options.get("along", "mstar"))
        for pair in pairs
    ]
    columns = 2 if len(pairs) > 1 else 1
    rows = -(-len(pairs) // columns)
    with style():
        figure = new_figure(5.6 * columns, 4.1 * rows)
        axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for ax, result, pair in zip(axes, found, pairs, strict=False):
            trend.draw(result, ax)
            ax.set_title(" → ".join(pair))
        for ax in axes[len(pairs) :]:
            ax.set_visible(False)
    labels = [" → ".join(pair) for pair in pairs]
    verdicts = labelled(map(trend.judge, found), labels)
    table = stack([item.to_table() for item in found], labels)
    return [Panel(options["name"], options["title"], options["caption"], figure, verdicts, table, wide=columns > 1)]


def make_transfer(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Train-on-A, test-on-B matrix (bias, scatter, RMSE, R2, coverage with errors)."""
    found = transfer.compute(chosen(results, options), model=options["model"])
    verdicts = (transfer.judge(found),)
    return [
        Panel(
            options["name"],
            options["title"],
            options["caption"],
            figure_of(transfer.draw(found)),
            verdicts,
            found.to_table(),
            wide=True,
        )
    ]


def make_diagnostics(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Single-test diagnostics by name, for every pair asked for."""
    panels: list[Panel | Grid] = []
    several = len(results.study.targets(results.study.experiment(options["experiment"]))) > 1
    for name in options["diagnostics"]:
        if name not in DIAGNOSTICS:
            raise ConfigError(f"there is no diagnostic {name!r}", expected="one of " + ", ".join(DIAGNOSTICS))
        diagnostic = DIAGNOSTICS[name]
        for item in chosen(results, options):
            result = diagnostic.compute(item)
            whose = f"{item.target}, {label(item)}" if several else label(item)
            stem = f"{options['name']}_{name}_{item.train}_to_{item.test}".replace(".", "-").replace(" ", "-")
            panels.append(
                Panel(
                    stem,
                    f"{diagnostic.title}: {whose}",
                    diagnostic.caption,
                    diagnostic.figure(result),
                    (diagnostic.judge(result),),
                    result.to_table(),
                )
            )
    return panels


def accuracy_table(tests: list[Scores]) -> Table:
    """Return every metric of `galineage.evaluation.accuracy` with its bootstrap error, for every test.

    One row for all galaxies of a test, then its rows in bins of truth and of stellar mass.
    """
    from astropy.table import vstack

    tables = []
    for item in tests:
        row = accuracy.compute(item).to_table()
        row.meta = {}
        for place, (name, text, value) in enumerate(
            (
                ("model", "estimator", item.model),
                ("train", "trained on", item.train),
                ("test", "tested on", item.test),
                ("target", "field name", item.target),
            )
        ):
            row.add_column([value] * len(row), name=name, index=place)
            row[name].description = text
        tables.append(row)
    if len({item.target for item in tests}) > 1:
        for table in tables:  # one column cannot have the units of several targets
            for name in table.colnames:
                table[name].unit = "Msun" if name.startswith("mstar_") else None
    return vstack(tables, metadata_conflicts="silent")


_ON_PAGE = {
    "bias_median": "bias",
    "bias_p50": "bias p50",
    "scatter": "scatter",
    "rmse": "RMSE",
    "r2": "R²",
    "coverage68": "in 68 %",
    "nll": "NLL",
    "crps": "CRPS",
}


def readable(table: Table) -> Table:
    """Join the main metrics with their errors as text, for the page; the files hold all of them apart."""
    from astropy.table import Column, Table

    table = table[np.asarray(table["bins"]) == "all"]
    shown = Table()
    several = ("target",) if len(set(table["target"])) > 1 else ()
    for name in ("model", "train", "test", *several, "n"):
        shown[name] = table[name]
    for name, title in _ON_PAGE.items():
        pairs = zip(table[name], table[f"{name}_error"], strict=True)
        # short, so that the columns fit on the page
        texts = [f"{float(value):.3f}±{float(error):.3f}" for value, error in pairs]
        shown[title] = Column(texts, description=table[name].description)
    return shown


def make_accuracy(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """All metrics of all models and pairs with bootstrap errors."""
    table = accuracy_table(chosen(results, options))
    return [Grid(options["name"], options["title"], options["caption"], table, readable(table))]


def make_published(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Set published readings beside the paper's set-up run here and the study's own."""
    from astropy.table import Column, Table

    from galineage.evaluation.verdict import plus_minus

    rows: dict[str, list[str]] = {"test": [], "published reading": []}
    columns = options["columns"]
    for entry in options["published"]:
        rows["test"].append(f"{entry['train']} → {entry['test']}")
        rows["published reading"].append(entry["reading"])
        for column in columns:
            item = results.score(column["experiment"], column["model"], entry["train"], entry["test"])
            values = accuracy.compute(item).values
            text = "; ".join(
                f"{word} {plus_minus(*values[metric], sign=metric.startswith('bias'))}"
                for word, metric in (("bias", "bias_median"), ("scatter", "scatter"), ("RMSE", "rmse"), ("R²", "r2"))
            )
            rows.setdefault(column["title"], []).append(text)
    meanings = {column["title"]: column["meaning"] for column in columns}
    table = Table({name: Column(values, description=meanings.get(name, name)) for name, values in rows.items()})
    return [Grid(options["name"], options["title"], options["caption"], table)]


def make_toy_relations(_: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Compare the toy universe with published relations."""
    from galineage.toy.compare import figure

    return [Panel(options["name"], options["title"], options["caption"], figure(), wide=True)]


KINDS: dict[str, Maker] = {
    "answers": make_answers,
    "balance": make_balance,
    "example-maps": make_example_maps,
    "pixel-sums": make_pixel_sums,
    "gradients": make_gradients,
    "umap": make_umap,
    "attribution": make_attribution,
    "corner": make_corner,
    "prediction": make_prediction,
    "boxes": make_boxes,
    "relation": make_relation,
    "coverage": make_coverage,
    "error-mass": make_error_mass,
    "transfer": make_transfer,
    "diagnostics": make_diagnostics,
    "accuracy": make_accuracy,
    "published": make_published,
    "widths": make_widths,
    "target-errors": make_target_errors,
    "never": make_never,
    "relation-of-two": make_relation_of_two,
    "joint": make_joint,
    "ladder": make_ladder,
    "error-bars": make_error_bars,
    "shift": make_shift,
    "landscape": make_landscape,
    "domain-overlap": make_domain_overlap,
    "shift-power": make_shift_power,
    "property-transfer": make_property_transfer,
    "population": make_population,
    "toy-relations": make_toy_relations,
}
"""Every kind of figure or table by its name in study files."""
