"""Is the median relation between f_ex and stellar mass recovered? (figures 10 and 15 of Angeloudi+2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import special

from galineage.evaluation.bins import MIN_COUNT, Point, Running, abscissa, assign, bin_edges, point_estimate, running
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.style import INK, axis_label, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, percent
from galineage.fields import field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["JUDGED_COUNT", "Relation", "compute", "draw", "judge"]

JUDGED_COUNT = 20
"""Bins with fewer galaxies are drawn but not judged."""


@dataclass(frozen=True)
class Relation:
    """True and recovered median relation with stellar mass.

    Attributes
    ----------
    truth, predicted : Running
        Percentiles in the same bins of log10 M* / Msun, in the target's unit.
    offset, offset_error : array (k,)
        (predicted - true median) / true median per bin, and its bootstrap error. NaN in bins with too few galaxies or
        a true median of zero.
    split : float
        log10 of the stellar mass in Msun that divides low from high.
    below, above : (float, float, float)
        The bin on either side of ``split`` whose offset, more than two errors from zero, is the largest: log10 of its
        mass in Msun, offset and error. Where none is, the bin farthest from zero in errors; NaN without bins of
        `JUDGED_COUNT` galaxies there.
    target, model, label : str
        Field name, estimator, ``train → test``.
    """

    truth: Running
    predicted: Running
    offset: Array
    offset_error: Array
    split: float
    below: tuple[float, float, float]
    above: tuple[float, float, float]
    target: str
    model: str
    label: str

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Which bins have an offset and galaxies enough to be judged, shape (k,)."""
        return np.isfinite(self.offset) & (self.truth.n >= JUDGED_COUNT)

    def to_table(self) -> Table:
        """One row per bin of stellar mass."""
        unit = target_unit(self.target)
        columns = [
            ("mstar_low", 10 ** self.truth.edges[:-1], "Msun", "lower edge of the bin of stellar mass"),
            ("mstar_high", 10 ** self.truth.edges[1:], "Msun", "upper edge of the bin of stellar mass"),
            ("n", self.truth.n, "", "galaxies, or views of them"),
        ]
        for name, run in (("true", self.truth), ("predicted", self.predicted)):
            columns += [
                (f"{name}_{quantile}", getattr(run, quantile), unit, f"{quantile} of {name} values")
                for quantile in ("p16", "p50", "p84")
            ]
            columns.append((f"{name}_p50_error", run.p50_error, unit, f"bootstrap error of {name}_p50"))
        columns += [
            ("offset", self.offset, "", "(predicted - true median) / true median"),
            ("offset_error", self.offset_error, "", "bootstrap error of offset"),
        ]
        return make_table(columns, {"model": self.model, "domains": self.label, "target": self.target})


def compute(
    scores: Scores,
    *,
    point: Point | Literal["posterior"] = "posterior",
    bins: int | Sequence[float] = 10,
    split: float = 10.5,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Relation:
    """Compute the true and the recovered median in bins of stellar mass.

    Parameters
    ----------
    scores : Scores
        Predictions beside the truth.
    point : {"posterior", "mean", "median", "map"}
        ``posterior`` takes all posteriors of a bin together, so that median and band are those of the population and
        a calibrated model has no offset. The others take one number per galaxy, as the paper does; medians of posterior
        means lie above those of a skewed truth even if every posterior is right.
    bins : int or sequence of float
        Number of bins, or edges in log10 of Msun.
    split : float
        log10 of the mass in Msun on either side of which the worst bin is named.
    n_boot, seed : int
        Bootstrap resamples (truth and prediction together, of galaxies with all of their rows) and their seed.

    Raises
    ------
    DataError
        If the scores are empty or no stellar mass is positive.
    """
    predicted = _posterior_points(scores) if point == "posterior" else point_estimate(scores, point)
    mass = abscissa(scores, "mstar")
    edges = bin_edges(mass, bins)
    which = assign(mass, edges)
    runs = [running(mass, y, edges, n_boot=n_boot, seed=seed, galaxies=scores.ids) for y in (scores.truth, predicted)]
    k = len(edges) - 1
    offset, error = np.full((2, k), np.nan)
    for i in np.flatnonzero(runs[0].n >= MIN_COUNT):
        pair = scores.truth[which == i], predicted[which == i]
        offset[i] = _offset(pair[0][None], pair[1][None])[0]
        whose = scores.ids[which == i]
        replicates = bootstrap(_offset, *pair, n_boot=n_boot, seed=seed + int(i), galaxies=whose)
        error[i] = spread(replicates, len(np.unique(whose)))
    high = runs[0].x >= split
    judged = np.isfinite(offset) & (runs[0].n >= JUDGED_COUNT)
    return Relation(
        truth=runs[0],
        predicted=runs[1],
        offset=offset,
        offset_error=error,
        split=split,
        below=_side(runs[0].x, offset, error, judged & ~high),
        above=_side(runs[0].x, offset, error, judged & high),
        target=scores.target,
        model=scores.model,
        label=scores.label,
    )


def judge(result: Relation, *, tolerance: float = 0.1) -> Verdict:
    """Give the largest significant relative offset below and above the dividing mass.

    Passes if the offset of every bin with at least `JUDGED_COUNT` galaxies is below ``tolerance`` or within three of
    its errors of zero. Bins are not averaged: offsets of opposite sign would cancel.
    """
    keep = result.judged
    if not keep.any():
        return Verdict("Too few galaxies to follow the relation with stellar mass.", passed=False, kind="too few")
    parts = []
    for side, (mass, value, error) in (("below", result.below), ("above", result.above)):
        where = f"{side} 10^{result.split:g} Msun"
        if np.isfinite(value) and _significant(value, error):
            parts.append(f"off by up to {percent(value, error, sign=True)} {where} (at 10^{mass:.1f})")
        elif np.isfinite(value):
            parts.append(f"right within its errors {where}")
    limit = np.maximum(tolerance, 3 * np.nan_to_num(result.offset_error))
    passed = bool((np.abs(result.offset) <= limit)[keep].all())
    kind = "recovered" if passed else "distorted"
    return Verdict(f"The median relation with stellar mass is {' and '.join(parts)}: {kind}.", passed, kind)


@styled
def draw(result: Relation, ax: Axes | None = None, *, index: int = 0) -> Axes:
    """Draw true and recovered median with their 16-84 ranges; call again with another ``index`` to add a model."""
    ax = new_axes(ax, height=4.4)
    curves = [(result.predicted, colour(index), "o", result.model or "predicted")]
    if not ax.has_data():
        curves.insert(0, (result.truth, INK, "s", "truth"))
    for run, shade, marker, name in curves:
        keep = run.filled
        ax.fill_between(run.x[keep], run.p16[keep], run.p84[keep], color=shade, alpha=0.18, lw=0)
        bars = np.nan_to_num(run.p50_error[keep])
        line = "--" if shade == INK else "-"
        ax.errorbar(run.x[keep], run.p50[keep], bars, color=shade, marker=marker, ms=4, ls=line, capsize=2, label=name)
    ax.set_xlabel(axis_label("mstar"))
    ax.set_ylabel(axis_label(result.target, "Median"))
    ax.set_title(result.label.strip(" →"))
    ax.legend(loc="best", title="median, 16-84 %", title_fontsize=9)
    return ax


def _offset(truth: Array, predicted: Array) -> Array:
    true_median = np.median(truth, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(
            true_median != 0, np.median(predicted.reshape(len(predicted), -1), axis=-1) / true_median - 1, np.nan
        )


def _significant(value: Any, error: Any) -> Any:
    """Whether numbers are more than two errors from zero; unknown errors count as zero."""
    return np.abs(value) > 2 * np.nan_to_num(error)


def _side(mass: Array, offset: Array, error: Array, which: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Mass, offset and error of the worst bin: the largest significant one, else the one farthest in errors."""
    if not which.any():
        return float("nan"), float("nan"), float("nan")
    bins = np.flatnonzero(which)
    clear = bins[_significant(offset[bins], error[bins])]
    size = np.abs(offset[clear]) if len(clear) else np.abs(offset[bins]) / np.maximum(np.nan_to_num(error[bins]), 1e-12)
    worst = (clear if len(clear) else bins)[np.argmax(size)]
    return float(mass[worst]), float(offset[worst]), float(error[worst])


def _posterior_points(scores: Scores) -> Array:
    """Ten evenly probable points of every posterior, shape (n, 10), from its five quantiles.

    Quantiles are joined by lines on the scale of normal scores, where a Gaussian is a line; the outer lines go on.
    """
    point_estimate(scores)
    knots = special.ndtri([0.025, 0.16, 0.5, 0.84, 0.975])
    z = special.ndtri((np.arange(10) + 0.5) / 10)
    left = np.clip(np.searchsorted(knots, z) - 1, 0, len(knots) - 2)
    share = (z - knots[left]) / (knots[left + 1] - knots[left])
    weights = np.zeros((len(knots), len(z)))
    weights[left, np.arange(len(z))] = 1 - share
    weights[left + 1, np.arange(len(z))] += share
    points = np.stack([scores.p025, scores.p16, scores.p50, scores.p84, scores.p975], axis=1) @ weights
    item = field(scores.target)
    return points if item.scale == "log" else np.clip(points, item.low, item.high)
