"""Which tests a figure of a study is about, and how their tables and sentences are put together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from astropy.table import Table

    from galineage.evaluation import Scores, Verdict
    from galineage.evaluation.joint_scores import JointScores
    from galineage.study.results import Results

__all__ = ["chosen", "chosen_joint", "label", "labelled", "stack"]

T = TypeVar("T", "Scores", "JointScores")


def chosen(results: Results, options: Mapping[str, Any]) -> list[Scores]:
    """Return the tests named by ``experiment``, ``model`` (or ``models``), ``pairs`` (within, across, all), ``target``.

    The target is the experiment's first if none is named; ``target = "all"`` takes every one.
    """
    spec = results.study.experiment(options["experiment"])
    target = options.get("target", results.study.targets(spec)[0])
    found = results.scores(options["experiment"])
    return _filtered(results, options, [item for item in found if target in (item.target, "all")])


def chosen_joint(results: Results, options: Mapping[str, Any]) -> list[JointScores]:
    """Return the joint tests named by ``experiment``, ``model`` (or ``models``) and ``pairs``."""
    return _filtered(results, options, results.joint(options["experiment"]))


def _filtered(results: Results, options: Mapping[str, Any], tests: Sequence[T]) -> list[T]:
    models = options.get("models", [options["model"]] if "model" in options else None)
    pairs = results.pairs(options["experiment"], options.get("pairs", "all"))
    found = [item for item in tests if (models is None or item.model in models) and (item.train, item.test) in pairs]
    if not found:
        raise ConfigError(f"the study file asks for tests that were not run: {dict(options)}")
    if models is not None:
        found.sort(key=lambda item: (pairs.index((item.train, item.test)), models.index(item.model)))
    return found


def stack(tables: list[Table], labels: list[str]) -> Table:
    """One table of several, with a first column that says whose rows they are."""
    from astropy.table import Column, vstack

    for table, whose in zip(tables, labels, strict=True):
        table.add_column(Column([whose] * len(table), description="which curve or panel"), name="which", index=0)
        table.meta = {}
    return vstack(tables, metadata_conflicts="silent")


def label(item: Scores | JointScores) -> str:
    """``model: train → test``."""
    return f"{item.model}: {item.label}"


def labelled(verdicts: Iterable[Verdict], labels: list[str]) -> tuple[Verdict, ...]:
    """Put in front of every sentence whose it is."""
    return tuple(
        replace(verdict, sentence=f"{whose}: {verdict.sentence}")
        for whose, verdict in zip(labels, verdicts, strict=True)
    )
