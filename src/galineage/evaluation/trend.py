"""Error against stellar mass or truth, for one model or several beside each other (figures 7, 8, 14, A23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bins import Along, Point, Running, abscissa, bin_edges, point_estimate, running
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
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

__all__ = ["WELL_FILLED", "Trend", "compute", "draw", "judge"]

WELL_FILLED = 50
"""Bins of stellar mass with fewer galaxies are drawn but their bias is not judged."""

_Pairs = tuple[tuple[float, float], ...]
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
    rmse : tuple of (float, float)
        Root mean square of prediction - truth of every curve over all galaxies, with its bootstrap error.
    behind : tuple of (float, float)
        RMSE of the first model minus that of every curve, with its error, in the target's unit: from the same resamples
        of the galaxies where both have the same identifiers, from independent errors otherwise.
    spread : float
        Standard deviation of the first model's truths, in the target's unit.
    target : str
        Field name.
    """

    along: Along
    names: tuple[str, ...]
    curves: tuple[Running, ...]
    rmse: tuple[tuple[float, float], ...]
    behind: tuple[tuple[float, float], ...]
    spread: float
    target: str

    def to_table(self) -> Table:
        """One row per model and bin; the RMSE over all galaxies is repeated in each row of a model."""
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
            ("n", "galaxies, or views of them", ""),
            ("p16", "16th percentile of prediction - truth", unit),
            ("p50", "median of prediction - truth", unit),
            ("p84", "84th percentile of prediction - truth", unit),
            ("p50_error", "bootstrap error of the median", unit),
            ("half_width", "half the 16-84 % range of prediction - truth", unit),
            ("half_width_error", "bootstrap error of half_width", unit),
        ):
            columns.append((name, np.concatenate([getattr(run, name) for run in self.curves]), its_unit, meaning))
        rmse, rmse_error = (np.repeat([pair[i] for pair in self.rmse], k) for i in (0, 1))
        columns += [
            ("rmse_all", rmse, unit, "root mean square of prediction - truth over all galaxies of the model"),
            ("rmse_all_error", rmse_error, unit, "bootstrap error of rmse_all"),
        ]
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
        Bootstrap resamples, of galaxies with all of their rows, and their seed.

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
    rmse, behind = _rmse(several, errors, n_boot, seed)
    return Trend(
        along=along,
        names=_names(several),
        curves=tuple(
            running(x, y, edges, n_boot=n_boot, seed=seed, galaxies=item.ids)
            for x, y, item in zip(xs, errors, several, strict=True)
        ),
        rmse=rmse,
        behind=behind,
        spread=float(several[0].truth.std()),
        target=several[0].target,
    )


def judge(result: Trend) -> Verdict:
    """Name the first model's worst bin and compare its RMSE with that of the best baseline, if there are any.

    Passes if the bias is small and no baseline has an RMSE smaller by more than two errors of the difference. Along
    mass the bias is small if no bin of at least `WELL_FILLED` galaxies has a median error beyond half its half-width
    and two errors; along truth if the mean over galaxies stays below half the spread of the truth, since at the ends of
    the range even a perfect posterior mean is drawn towards the average.
    """
    unit = target_unit(result.target)
    first = result.curves[0]
    if not first.filled.any():
        return Verdict(f"{result.names[0]}: too few galaxies for bins.", passed=False, kind="too few")
    worst = first.worst
    what = "log10 M*" if result.along == "mstar" else "true value"
    offset = plus_minus(float(first.p50[worst]), float(first.p50_error[worst]), unit, sign=True)
    sentence = (
        f"{result.names[0]}: the median error is largest at {what} {first.x[worst]:.3g}, {offset}; "
        f"RMSE {plus_minus(*result.rmse[0], unit)}"
    )
    flat = not _biased(first).any() if result.along == "mstar" else first.typical <= 0.5 * result.spread
    faults = [] if flat else ["biased in places"]
    if len(result.names) > 1:
        best = min(range(1, len(result.names)), key=lambda i: result.rmse[i][0])
        sentence += f" against {plus_minus(*result.rmse[best], unit)} of the best baseline ({result.names[best]})"
        difference, error = result.behind[best]
        if difference > 2 * np.nan_to_num(error):
            faults.append("beaten by a baseline")
    kind = " and ".join(faults) or "flat"
    return Verdict(f"{sentence}: {kind}.", passed=not faults, kind=kind)


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


def _biased(run: Running) -> NDArray[np.bool_]:
    """Well-filled bins whose median error is large against the scatter and against its own error, shape (k,)."""
    limit = np.maximum(0.5 * run.half_width, 2 * np.nan_to_num(run.p50_error))
    return (run.n >= WELL_FILLED) & (np.abs(run.p50) > limit)


def _rmse(several: Sequence[Scores], errors: Sequence[Array], n_boot: int, seed: int) -> tuple[_Pairs, _Pairs]:
    """RMSE of every curve, and that of the first minus it, each with its error."""
    orders = [np.argsort(item.ids, kind="stable") for item in several]
    ids = [item.ids[order] for item, order in zip(several, orders, strict=True)]
    # one seed and one order of galaxies: the same galaxies are drawn for every model that has them all
    squares = [error[order] ** 2 for error, order in zip(errors, orders, strict=True)]
    replicates = [
        bootstrap(_root_mean, square, n_boot=n_boot, seed=seed, galaxies=whose)
        for square, whose in zip(squares, ids, strict=True)
    ]
    counts = [len(np.unique(whose)) for whose in ids]
    rmse = [
        (float(_root_mean(square)), float(spread(found, count)))
        for square, found, count in zip(squares, replicates, counts, strict=True)
    ]
    behind = []
    for i, (value, error) in enumerate(rmse):
        if np.array_equal(ids[i], ids[0]):
            error = float(spread(replicates[0] - replicates[i], counts[0]))
        else:
            error = float(np.hypot(rmse[0][1], error))
        behind.append((rmse[0][0] - value, error))
    return tuple(rmse), tuple(behind)


def _root_mean(square: Array) -> Array:
    return np.asarray(np.sqrt(square.mean(axis=-1)))


def _names(several: Sequence[Scores]) -> tuple[str, ...]:
    """Shortest labels that tell the scores apart: model, domains, or both."""
    models = [item.model or "model" for item in several]
    if len(set(models)) == len(models):
        return tuple(models)
    labels = [item.label for item in several]
    return tuple(
        f"{model}, {label}" if len(set(models)) > 1 else label for model, label in zip(models, labels, strict=True)
    )
