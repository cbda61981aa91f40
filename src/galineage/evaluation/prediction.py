"""Prediction against truth with the error below (figures 5 and 6 of Angeloudi+2023)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.evaluation.bins import Point, Running, bin_edges, point_estimate, running
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.style import INK, MUTED, axis_label, colour, curve_name, new_figure, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import SMALL_BIAS, Verdict, plus_minus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["Prediction", "compute", "draw", "judge"]


@dataclass(frozen=True)
class Prediction:
    """Predictions, truths, and running percentiles of the error. All arrays in the target's unit.

    Attributes
    ----------
    truth, point, low, high : array (n,)
        Truth, point estimate, and the 16-84 % interval of every galaxy, or view of one.
    galaxies : int
        How many galaxies these are.
    shown : array of int (m,)
        Randomly chosen rows that get error bars in the figure.
    error : Running
        Percentiles of prediction - truth in bins of truth.
    median, median_error, scatter, scatter_error : float
        Median error and half 16-84 range over all galaxies, with bootstrap errors.
    bias_p50, bias_p50_error : float
        Median error of the posterior median, whatever the point estimate, with its bootstrap error; it is judged.
    target, model, label : str
        Field name, estimator, ``train → test``.
    """

    truth: Array
    point: Array
    low: Array
    high: Array
    galaxies: int
    shown: NDArray[np.int64]
    error: Running
    median: float
    median_error: float
    scatter: float
    scatter_error: float
    bias_p50: float
    bias_p50_error: float
    target: str
    model: str
    label: str

    def to_table(self) -> Table:
        """One row per bin of truth: percentiles of the error and bootstrap errors."""
        unit = target_unit(self.target)
        run = self.error
        columns = [
            ("truth_low", run.edges[:-1], unit, "lower edge of the bin of truth"),
            ("truth_high", run.edges[1:], unit, "upper edge of the bin of truth"),
            ("n", run.n, "", "galaxies, or views of them"),
            ("error_p16", run.p16, unit, "16th percentile of prediction - truth"),
            ("error_p50", run.p50, unit, "median of prediction - truth"),
            ("error_p84", run.p84, unit, "84th percentile of prediction - truth"),
            ("error_p50_error", run.p50_error, unit, "bootstrap error of the median"),
        ]
        return make_table(columns, {"model": self.model, "domains": self.label, "target": self.target})


def compute(
    scores: Scores,
    *,
    point: Point = "mean",
    bins: int | Sequence[float] = 20,
    shown: int = 128,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Prediction:
    """Compute running percentiles of the error in bins of truth.

    Parameters
    ----------
    scores : Scores
        Predictions beside the truth.
    point : {"mean", "median", "map"}
        Point estimate.
    bins : int or sequence of float
        Number of bins of truth, or edges in the target's unit.
    shown : int
        How many random galaxies, or views of them, get error bars.
    n_boot, seed : int
        Bootstrap resamples and the seed of these and of the random choice.

    Raises
    ------
    DataError
        If the scores are empty.
    """
    predicted = point_estimate(scores, point)
    error = predicted - scores.truth
    n, count = len(scores), len(np.unique(scores.ids))
    chosen = np.sort(np.random.default_rng(seed).choice(n, size=min(shown, n), replace=False))
    value = _middle(error)
    drawn: dict[str, Any] = {"n_boot": n_boot, "seed": seed, "galaxies": scores.ids}
    uncertainty = spread(bootstrap(_middle, error, **drawn), count)
    below = scores.p50 - scores.truth
    bias_error = spread(bootstrap(partial(np.median, axis=-1), below, **drawn), count)
    return Prediction(
        truth=scores.truth,
        point=predicted,
        low=scores.p16,
        high=scores.p84,
        galaxies=count,
        shown=chosen,
        error=running(scores.truth, error, bin_edges(scores.truth, bins), **drawn),
        median=float(value[0]),
        median_error=float(uncertainty[0]),
        scatter=float(value[1]),
        scatter_error=float(uncertainty[1]),
        bias_p50=float(np.median(below)),
        bias_p50_error=float(bias_error),
        target=scores.target,
        model=scores.model,
        label=scores.label,
    )


def judge(result: Prediction) -> Verdict:
    """Give median error, scatter, and the offset in bins of truth.

    Passes if the median error of the posterior median is small against the scatter, and that of the prediction in a
    bin, averaged over galaxies, at most half the spread of the truth. The worst bin does not decide: at the ends of the
    range even a perfect posterior mean is drawn towards the average.
    """
    unit = target_unit(result.target)
    run = result.error
    bias = plus_minus(result.median, result.median_error, unit, sign=True)
    scatter = plus_minus(result.scatter, result.scatter_error, unit)
    judged = plus_minus(result.bias_p50, result.bias_p50_error, unit, sign=True)
    who = result.model or "the model"
    numbers = f"Errors of {who} have median {bias} (of posterior medians {judged}) and scatter {scatter}"
    if not run.filled.any():
        return Verdict(f"{numbers}; too few galaxies for bins of truth.", passed=False, kind="too few")
    worst = run.worst
    biased = abs(result.bias_p50) > max(SMALL_BIAS * result.scatter, 2 * np.nan_to_num(result.bias_p50_error))
    passed = bool(run.typical <= 0.5 * float(result.truth.std()) and not biased)
    typical = plus_minus(run.typical, float("nan"), unit)
    where = f"{run.edges[worst]:.2g} to {run.edges[worst + 1]:.2g}{f' {unit}' if unit else ''}"
    offset = plus_minus(float(run.p50[worst]), float(run.p50_error[worst]), unit, sign=True)
    side = "high" if result.bias_p50 > 0 else "low"
    kind = "follows the truth" if passed else (f"biased {side}" if biased else "departs from the truth")
    return Verdict(
        f"{numbers}; the typical offset at a given truth is {typical}, the largest {offset} at {where}: {kind}.",
        passed=passed,
        kind=kind,
    )


@styled
def draw(result: Prediction, ax: Figure | SubFigure | Sequence[Axes] | None = None) -> tuple[Axes, Axes]:
    """Draw prediction against truth above, error against truth below.

    Parameters
    ----------
    result : Prediction
    ax : Figure, SubFigure or two axes, optional
        Where to draw; a new figure if left out.

    Returns
    -------
    upper, lower : Axes
    """
    upper, lower = _two_axes(ax)
    run, keep = result.error, result.error.filled
    truth, error = result.truth, result.point - result.truth
    for panel, y in ((upper, result.point), (lower, error)):
        panel.plot(truth, y, ".", color=MUTED, ms=2.5, alpha=0.6, rasterized=True, zorder=1)
    bars = result.shown
    rows = "galaxies" if result.galaxies == len(truth) else "views"
    reach = np.clip([result.point[bars] - result.low[bars], result.high[bars] - result.point[bars]], 0, None)
    upper.errorbar(
        truth[bars], result.point[bars], reach, fmt="o", ms=3, lw=0.7, color=colour(0), alpha=0.75, zorder=2,
        label=f"{len(bars)} random {rows}, 68 % intervals",
    )  # fmt: skip
    x = run.x[keep]
    for panel, base in ((upper, x), (lower, 0.0)):
        panel.fill_between(x, base + run.p16[keep], base + run.p84[keep], color=colour(1), alpha=0.22, lw=0, zorder=3)
        panel.plot(x, base + run.p50[keep], color=colour(1), zorder=4, label="running median, 16-84 %")
    low, high = float(truth.min()), float(truth.max())
    pad = 0.03 * (high - low) or 0.5
    upper.plot([low - pad, high + pad], [low - pad, high + pad], color=INK, ls="--", lw=0.9, zorder=5)
    lower.axhline(0, color=INK, ls="--", lw=0.9, zorder=5)
    lower.set_xlim(low - pad, high + pad)
    largest = 1.15 * float(np.percentile(np.abs(error), 99.5)) or 1.0
    lower.set_ylim(-largest, largest)
    upper.set_ylabel(axis_label(result.target, "Predicted"))
    lower.set_ylabel("Predicted - true")
    lower.set_xlabel(axis_label(result.target, "True"))
    upper.set_title(curve_name(result.model, result.label))
    upper.legend(loc="upper left")
    upper.tick_params(labelbottom=False)
    return upper, lower


def _two_axes(ax: Figure | SubFigure | Sequence[Axes] | None) -> tuple[Axes, Axes]:
    figure: Any = new_figure(6.4, 7.0) if ax is None else ax
    if hasattr(figure, "add_gridspec"):
        grid = figure.add_gridspec(2, 1, height_ratios=(3, 1.2), hspace=0.03)
        upper = figure.add_subplot(grid[0])
        return upper, figure.add_subplot(grid[1], sharex=upper)
    upper, lower = figure
    return upper, lower


def _middle(error: Array) -> Array:
    p16, p50, p84 = np.percentile(error, [16, 50, 84], axis=-1)
    return np.stack([p50, 0.5 * (p84 - p16)], axis=-1)
