"""Error against stellar mass or truth, for one model or several beside each other (figures 7, 8, 14, A23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bins import Along, Point, Running, abscissa, bin_edges, point_estimate, running
from galineage.evaluation.bootstrap import N_BOOT
from galineage.evaluation.scores import Scores
from galineage.evaluation.style import INK, axis_label, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, plus_minus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Trend", "compute", "draw", "judge"]

_LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Trend:
    """Percentiles of the error in bins, one curve per model.

    Attributes
    ----------
    along : {"truth", "mstar"}
        Abscissa: truth in the target's unit, or log10 of the stellar mass in Msun.
    names : tuple of str
        One name per curve; the first is the model that is judged, the others are baselines.
    curves : tuple of Running
        Percentiles of prediction - truth, in the target's unit, all on the same bins.
    spread : float
        Standard deviation of the first model's truths, in the target's unit.
    target : str
        Field name.
    """

    along: Along
    names: tuple[str, ...]
    curves: tuple[Running, ...]
    spread: float
    target: str

    def to_table(self) -> Table:
        """One row per model and bin."""
        unit = target_unit(self.target)
        k = len(self.curves[0].n)
        low, high = self.curves[0].edges[:-1], self.curves[0].edges[1:]
        if self.along == "mstar":
            low, high = 10**low, 10**high
        x_unit = "Msun" if self.along == "mstar" else unit
        columns = [
            ("model", np.repeat(self.names, k), "", "model and domains"),
            (f"{self.along}_low", np.tile(low, len(self.names)), x_unit, "lower edge of the bin"),
            (f"{self.along}_high", np.tile(high, len(self.names)), x_unit, "upper edge of the bin"),
        ]
        for name, meaning, its_unit in (
            ("n", "number of galaxies", ""),
            ("p16", "16th percentile of prediction - truth", unit),
            ("p50", "median of prediction - truth", unit),
            ("p84", "84th percentile of prediction - truth", unit),
            ("p50_error", "bootstrap error of the median", unit),
            ("half_width", "half the 16-84 % range of prediction - truth", unit),
            ("half_width_error", "bootstrap error of half_width", unit),
        ):
            columns.append((name, np.concatenate([getattr(run, name) for run in self.curves]), its_unit, meaning))
        return make_table(columns, {"target": self.target})


def compute(
    scores: Scores | Sequence[Scores],
    *,
    along: Along = "mstar",
    point: Point = "mean",
    bins: int | Sequence[float] = 12,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Trend:
    """Compute median and 16-84 range of the error along stellar mass or truth.

    Parameters
    ----------
    scores : Scores or sequence of Scores
        One model, or the model followed by its baselines; all of the same target.
    along : {"mstar", "truth"}
        Abscissa.
    point : {"mean", "median", "map"}
        Point estimate.
    bins : int or sequence of float
        Number of bins over the range of all of them, or edges in log10 of Msun or the target's unit.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If there are no scores, one is empty, or targets differ.
    """
    several = [scores] if isinstance(scores, Scores) else list(scores)
    if not several:
        raise DataError("there are no scores to compare", expected="at least one model")
    if len({item.target for item in several}) > 1:
        raise DataError("scores of different targets cannot share a figure", where=str({s.target for s in several}))
    errors = [point_estimate(item, point) - item.truth for item in several]
    xs = [abscissa(item, along) for item in several]
    edges = bin_edges(np.concatenate(xs), bins)
    return Trend(
        along=along,
        names=_names(several),
        curves=tuple(running(x, y, edges, n_boot=n_boot, seed=seed) for x, y in zip(xs, errors, strict=True)),
        spread=float(several[0].truth.std()),
        target=several[0].target,
    )


def judge(result: Trend) -> Verdict:
    """Name the first model's worst bin and, if there are baselines, compare the typical scatter.

    Passes if the median error stays below half the spread of the truth and no baseline has a scatter smaller by more
    than the errors. Along mass it must do so in every bin; along truth on average over galaxies, since at the ends of
    the range even a perfect posterior mean is drawn towards the average.
    """
    unit = target_unit(result.target)
    first = result.curves[0]
    if not first.filled.any():
        return Verdict(f"{result.names[0]}: too few galaxies for bins.", passed=False, kind="too few")
    worst = first.worst
    what = "log10 M*" if result.along == "mstar" else "true value"
    offset = plus_minus(float(first.p50[worst]), float(first.p50_error[worst]), unit, sign=True)
    limit = 0.5 * result.spread
    flat = first.within(limit) if result.along == "mstar" else first.typical <= limit
    mean, mean_error = _typical(first)
    sentence = (
        f"{result.names[0]}: the median error is largest at {what} {first.x[worst]:.3g}, {offset}; "
        f"mean scatter over the bins {plus_minus(mean, mean_error, unit)}"
    )
    rivals = [(name, *_typical(run)) for name, run in zip(result.names[1:], result.curves[1:], strict=True)]
    rivals = [rival for rival in rivals if np.isfinite(rival[1])]
    ahead = True
    if rivals:
        name, value, error = min(rivals, key=lambda item: item[1])
        ahead = mean <= value + 2 * float(np.hypot(mean_error, error))
        sentence += f", against {plus_minus(value, error, unit)} of the best baseline ({name})"
    kind = "flat" if flat and ahead else ("beaten by a baseline" if flat else "biased in places")
    return Verdict(f"{sentence}: {kind}.", passed=flat and ahead, kind=kind)


@styled
def draw(result: Trend, ax: Axes | None = None) -> Axes:
    """Draw the median error of each model with its 16-84 range: a band for the first, thin lines for the others."""
    ax = new_axes(ax, height=4.4)
    ax.axhline(0, color=INK, lw=0.8, ls="--")
    for i, (name, run) in enumerate(zip(result.names, result.curves, strict=True)):
        keep = run.filled
        line = _LINES[i % len(_LINES)]
        if i == 0:
            ax.fill_between(run.x[keep], run.p16[keep], run.p84[keep], color=colour(i), alpha=0.2, lw=0)
        else:
            for edge in (run.p16, run.p84):
                ax.plot(run.x[keep], edge[keep], color=colour(i), lw=0.9, ls=line)
        bars = np.nan_to_num(run.p50_error[keep])
        ax.errorbar(
            run.x[keep], run.p50[keep], bars, color=colour(i), ls=line, marker="o", ms=4, capsize=2, elinewidth=1,
            label=name,
        )  # fmt: skip
    ax.set_xlabel(axis_label("mstar") if result.along == "mstar" else axis_label(result.target, "True"))
    ax.set_ylabel(f"Error of {axis_label(result.target)} (predicted - true)")
    ax.legend(loc="best", title="median, 16-84 %", title_fontsize=9)
    return ax


def _typical(run: Running) -> tuple[float, float]:
    keep = run.filled
    if not keep.any():
        return float("nan"), float("nan")
    return float(run.half_width[keep].mean()), float(np.sqrt((run.half_width_error[keep] ** 2).sum()) / keep.sum())


def _names(several: Sequence[Scores]) -> tuple[str, ...]:
    """Shortest labels that tell the scores apart: model, domains, or both."""
    models = [item.model or "model" for item in several]
    if len(set(models)) == len(models):
        return tuple(models)
    labels = [item.label for item in several]
    return tuple(
        f"{model}, {label}" if len(set(models)) > 1 else label for model, label in zip(models, labels, strict=True)
    )
