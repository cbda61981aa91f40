"""Error bars before and after they were mended: how often intervals hold the truth, and what that costs in width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.style import INK, axis_label, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["TOLERANCE", "ErrorBars", "Intervals", "compute", "draw", "judge", "of_scores"]

LEVELS = (0.68, 0.95)
"""Nominal probabilities that are compared; not taken from `galineage.calibration`, which loads torch."""

TOLERANCE = 0.02
"""Departure from the nominal coverage that is not blamed."""


@dataclass(frozen=True)
class Intervals:
    """Intervals of n galaxies at L levels by one method.

    Attributes
    ----------
    low, high : array (L, n)
        Both ends, in the target's unit.
    infinite : bool array (L, n) or None
        Where the method could only give the whole range; None if nowhere.
    """

    low: Array
    high: Array
    infinite: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ErrorBars:
    """Coverage and width of k methods at L levels; the first method is what the model said by itself.

    Attributes
    ----------
    methods : tuple of str, length k
        Their names.
    levels : tuple of float, length L
        Nominal probabilities.
    coverage, coverage_error : array (k, L)
        Fraction of truths inside, and its bootstrap error.
    width, width_error : array (k, L)
        Mean width, in the target's unit, and its bootstrap error.
    infinite : array (k, L)
        Fraction of galaxies for which only the whole range could be given.
    n : int
        Number of galaxies.
    target, label : str
        Field name, and what was tested.
    """

    methods: tuple[str, ...]
    levels: tuple[float, ...]
    coverage: Array
    coverage_error: Array
    width: Array
    width_error: Array
    infinite: Array
    n: int
    target: str
    label: str

    def to_table(self) -> Table:
        """One row per method and level: coverage and mean width with errors, fraction of infinite intervals."""
        unit, k = target_unit(self.target), len(self.methods)
        columns = [
            ("method", np.repeat(self.methods, len(self.levels)), "", "how the error bars were made"),
            ("level", np.tile(self.levels, k), "", "probability that the interval claims"),
            ("coverage", self.coverage.ravel(), "", "fraction of truths inside"),
            ("coverage_error", self.coverage_error.ravel(), "", "bootstrap error of coverage"),
            ("width", self.width.ravel(), unit, "mean width"),
            ("width_error", self.width_error.ravel(), unit, "bootstrap error of width"),
            ("infinite", self.infinite.ravel(), "", "fraction of galaxies given the whole range"),
        ]
        return make_table(columns, {"target": self.target, "domains": self.label, "n": self.n})


def of_scores(scores: Scores) -> Intervals:
    """Return the central 68 and 95 % intervals of a posterior, arrays (2, n), in the target's unit."""
    return Intervals(np.stack([scores.p16, scores.p025]), np.stack([scores.p84, scores.p975]))


def compute(
    truth: Array,
    intervals: Mapping[str, Intervals],
    *,
    levels: tuple[float, ...] = LEVELS,
    target: str = "f_ex",
    label: str = "",
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> ErrorBars:
    """Compare error bars of one model on galaxies whose truth is known and was used for none of them.

    Parameters
    ----------
    truth : array (n,)
        True values, in the target's unit.
    intervals : mapping of str to Intervals
        By method; the first is what the model said by itself.
    levels : tuple of float, length L
        Nominal probabilities.
    target, label : str
        Field name; ``train → test`` for titles.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If there are no methods or galaxies, or shapes differ.
    """
    if not intervals:
        raise DataError("there are no intervals to compare", expected="one method or more")
    shape = (len(levels), len(truth))
    rows = []
    for name, item in intervals.items():
        if item.low.shape != shape or item.high.shape != shape:
            raise DataError(f"intervals of {name} have shape {item.low.shape}", expected=f"{shape}")
        inside = ((item.low <= truth) & (truth <= item.high)).astype(float)
        width = item.high - item.low
        never = np.zeros(shape) if item.infinite is None else item.infinite.astype(float)
        both = np.concatenate([inside, width])
        replicates = bootstrap(_means, *both, n_boot=n_boot, seed=seed)
        rows.append((both.mean(axis=1), spread(replicates, len(truth)), never.mean(axis=1)))
    means, errors, infinite = (np.stack(part) for part in zip(*rows, strict=True))
    cut = len(levels)
    return ErrorBars(
        tuple(intervals), levels, means[:, :cut], errors[:, :cut], means[:, cut:], errors[:, cut:], infinite,
        len(truth), target, label,
    )  # fmt: skip


def _means(*columns: Array) -> Array:
    return np.stack([column.mean(axis=-1) for column in columns], axis=-1)


def judge(result: ErrorBars, *, tolerance: float = TOLERANCE) -> Verdict:
    """Say which methods keep their promise at every level, and what they cost in width.

    A method keeps it if no level is missed by more than ``tolerance`` or two of its errors. Passes if the mended error
    bars (the model's own, if there are no others) all keep it.
    """
    miss = np.abs(result.coverage - np.array(result.levels))
    kept = (miss <= np.maximum(tolerance, 2 * np.nan_to_num(result.coverage_error))).all(axis=1)
    texts = []
    for row, name in enumerate(result.methods):
        parts = [
            f"{100 * level:g} % intervals hold {percent(result.coverage[row, i], result.coverage_error[row, i])}"
            for i, level in enumerate(result.levels)
        ]
        wide = f" at {result.width[row, 0] / result.width[0, 0]:.2f} times the width" if row else ""
        texts.append(f"{name}: {', '.join(parts)}{wide}" + ("" if kept[row] else " (broken)"))
    mended = kept[1:] if len(kept) > 1 else kept
    kind = "mended" if mended.all() else "mended in part" if mended.any() else "not mended"
    if kept[0]:
        kind = "calibrated" if mended.all() else "made worse"
    return Verdict(f"{'; '.join(texts)}: {kind}.", passed=bool(mended.all()), kind=kind)


@styled
def draw(result: ErrorBars, ax: Axes | None = None) -> Axes:
    """Draw coverage against mean width, a colour per method, a marker per level; good is on the line and far left."""
    ax = new_axes(ax, 6.4, 4.6)
    for level in result.levels:
        ax.axhline(level, color=INK, lw=0.8, ls="--")
        ax.annotate(
            f"{100 * level:g} % wanted", (1, level), xycoords=("axes fraction", "data"), xytext=(-4, 3),
            textcoords="offset points", ha="right", fontsize=9, color="#666666",
        )  # fmt: skip
    for row, name in enumerate(result.methods):
        ax.errorbar(
            result.width[row], result.coverage[row], yerr=result.coverage_error[row], xerr=result.width_error[row],
            color=colour(row), marker="osD^v"[row % 5], ms=7 if row else 9, mfc=None if row else "white", lw=1,
            capsize=3, label=name, zorder=3 + row,
        )  # fmt: skip
    ax.set_xlabel(f"Mean width of the interval, {axis_label(result.target)}")
    ax.set_ylabel("Fraction of truths inside")
    ax.set_ylim(min(0.5, float(result.coverage.min()) - 0.05), 1.0)
    ax.set_title(result.label)
    ax.legend(loc="lower right")
    return ax
