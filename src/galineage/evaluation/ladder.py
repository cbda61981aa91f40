"""Several ways to do the same test, side by side: what each gains in error, bias and coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation import accuracy
from galineage.evaluation.style import colour, new_figure, styled
from galineage.evaluation.verdict import Verdict
from galineage.fields import field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["COLUMNS", "Ladder", "compute", "draw", "judge"]

COLUMNS = {
    "rmse": "root mean square error of posterior means",
    "bias_median": "median error of posterior means",
    "bias_p50": "median error of posterior medians",
    "coverage68": "fraction of truths inside the 68 % interval",
    "nll": "mean negative log density at the truth",
    "crps": "continuous ranked probability score",
}
"""Metrics of `galineage.evaluation.accuracy` that are compared, and what they mean."""

_SHOWN = {"rmse": "RMSE", "bias_median": "median error", "coverage68": "truths in 68 % interval"}
_POINT = "posterior means"


@dataclass(frozen=True)
class Ladder:
    """Metrics of several methods in one test.

    Attributes
    ----------
    labels : tuple of str, length m
        Names of the methods, in the order given.
    train, test : tuple of str, length m; str
        Trained on; tested on.
    target : str
        Field name of the target.
    values, errors : mapping of str to array (m,)
        Metrics by the keys of `COLUMNS` with their bootstrap errors, in the target's unit, coverage and densities in
        none.
    """

    labels: tuple[str, ...]
    train: tuple[str, ...]
    test: str
    target: str
    values: Mapping[str, Array]
    errors: Mapping[str, Array]

    def to_table(self) -> Table:
        """Return one row per method: ``method``, ``train``, ``test``, and each metric with its ``_err``."""
        from astropy.table import Column, Table

        unit = field(self.target).unit or None
        table = Table()
        for name, texts, meaning in (
            ("method", self.labels, "estimator and adaptation"),
            ("train", self.train, "trained on"),
            ("test", [self.test] * len(self.labels), "tested on"),
        ):
            table[name] = Column(list(texts), description=meaning)
        for name, meaning in COLUMNS.items():
            own = None if name in ("coverage68", "nll") else unit
            table[name] = Column(self.values[name], unit=own, description=meaning)
            table[f"{name}_err"] = Column(self.errors[name], unit=own, description=f"bootstrap error of {name}")
        return table


def compute(tests: Sequence[Scores], *, n_boot: int = 200, seed: int = 0) -> Ladder:
    """Compare methods on the galaxies of one test domain.

    Parameters
    ----------
    tests : sequence of Scores, length m
        One for each method, all of one test domain and target.
    n_boot, seed : int
        Bootstrap replicates and their seed.

    Returns
    -------
    Ladder

    Raises
    ------
    DataError
        If there is no test, or test domains or targets differ.
    """
    if not tests or len({(item.test, item.target) for item in tests}) > 1:
        raise DataError(f"{len(tests)} tests of different domains or targets", expected="one domain, one target")
    found = [accuracy.compute(item, n_boot=n_boot, seed=seed).values for item in tests]
    return Ladder(
        tuple(item.model for item in tests),
        tuple(item.train for item in tests),
        tests[0].test,
        tests[0].target,
        {name: np.array([item[name][0] for item in found]) for name in COLUMNS},
        {name: np.array([item[name][1] for item in found]) for name in COLUMNS},
    )


def judge(result: Ladder) -> Verdict:
    """Say which method has the smallest error, what it gains over the first, and whether its error bars hold."""
    best = int(np.argmin(result.values["rmse"]))
    first, least = result.values["rmse"][[0, best]]
    error = float(np.hypot(result.errors["rmse"][0], result.errors["rmse"][best]))
    covered, noise = result.values["coverage68"][best], result.errors["coverage68"][best]
    holds = abs(covered - 0.68) <= 0.04
    gain = (
        "nothing gains on the first row beyond the noise"
        if first - least <= 2 * error
        else f"{result.labels[best]} has the smallest error, {least:.4f} instead of {first:.4f} (RMSE)"
    )
    return Verdict(
        f"{result.train[best]} → {result.test}: {gain}; its 68 % intervals hold {100 * covered:.0f} ± "
        f"{100 * noise:.0f} % of the truths, median error {result.values['bias_median'][best]:+.3f}.",
        bool(holds),
    )


@styled
def draw(
    result: Ladder, figure: Figure | SubFigure | None = None, *, goals: Mapping[str, float] | None = None
) -> list[Axes]:
    """Draw error, bias and coverage of every method, one row each, with bootstrap errors.

    Error and bias are those of posterior means; open circles are the bias of posterior medians.

    Parameters
    ----------
    result : Ladder
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.
    goals : mapping, optional
        ``rmse`` (largest wanted) and ``bias`` (largest wanted size), drawn as shading; coverage is shaded from 64 to
        72 %.

    Returns
    -------
    list of Axes
    """
    goals = goals or {}
    figure = figure or new_figure(9.6, 0.9 + 0.3 * len(result.labels))
    axes = list(figure.subplots(1, 3, sharey=True))
    places = np.arange(len(result.labels))[::-1]
    for ax, (name, title) in zip(axes, _SHOWN.items(), strict=True):
        ax.errorbar(
            result.values[name], places, xerr=result.errors[name], fmt="o", color=colour(0), capsize=2, label=_POINT
        )
        ax.set_xlabel(title)
        ax.grid(axis="x", alpha=0.3)
        ax.set_ylim(-0.6, len(places) - 0.4)
    if "rmse" in goals:
        axes[0].axvspan(axes[0].get_xlim()[0], goals["rmse"], color=colour(2), alpha=0.15, lw=0)
    axes[1].plot(result.values["bias_p50"], places, "o", mfc="white", color=colour(1), label="posterior medians")
    axes[1].axvline(0, color="0.4", lw=1, ls="--")
    if "bias" in goals:
        axes[1].axvspan(-goals["bias"], goals["bias"], color=colour(2), alpha=0.15, lw=0)
    axes[2].axvline(0.68, color="0.4", lw=1, ls="--")
    axes[2].axvspan(0.64, 0.72, color=colour(2), alpha=0.15, lw=0)
    several = len(set(result.train)) > 1
    names = [
        f"{label} ({train})" if several else label for label, train in zip(result.labels, result.train, strict=True)
    ]
    axes[0].set_yticks(places, names)
    title = f"{result.train[0]} → {result.test}" if not several else f"tested on {result.test}"
    axes[1].set_title(title, pad=24)
    axes[1].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, borderaxespad=0.2)
    return axes
