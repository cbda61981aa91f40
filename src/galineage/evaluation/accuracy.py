"""How far predictions are from the truth: the table of numbers, overall and in bins of truth and stellar mass."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.evaluation.bins import MIN_COUNT, Along, Point, abscissa, assign, bin_edges, point_estimate
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.style import INK, axis_label, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import SMALL_BIAS, Verdict, counted, plus_minus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["METRICS", "Accuracy", "Binned", "compute", "draw", "judge"]

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "bias_median": "median of prediction - truth",
        "bias_p50": "median of posterior median - truth",
        "bias_mean": "mean of prediction - truth",
        "scatter": "half the 16-84 % range of prediction - truth",
        "rmse": "root mean square of prediction - truth",
        "mae": "mean absolute value of prediction - truth",
        "r2": "1 - sum of squared errors / sum of squares of truth about its mean",
        "nll": "mean of -ln posterior density at the truth",
        "crps": "mean continuous ranked probability score",
        "coverage68": "fraction of truths inside the 16-84 % interval (expected 0.68)",
        "coverage95": "fraction of truths inside the 2.5-97.5 % interval (expected 0.95)",
    }
)
"""Name and meaning of every number, in the order of tables."""

_IN_TARGET_UNIT = frozenset({"bias_median", "bias_p50", "bias_mean", "scatter", "rmse", "mae", "crps"})


@dataclass(frozen=True)
class Binned:
    """The same numbers in bins.

    Attributes
    ----------
    along : {"truth", "mstar"}
        What is binned.
    edges : array (k + 1,)
        Target's unit, or log10 of Msun.
    n : array of int (k,)
        Galaxies, or views of them, per bin.
    values : mapping of metric name to (values (k,), errors (k,))
        NaN in bins with too few galaxies.
    """

    along: Along
    edges: Array
    n: NDArray[np.int64]
    values: Mapping[str, tuple[Array, Array]]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one set of scores.

    Attributes
    ----------
    values : mapping of metric name to (value, error)
        Keys of `METRICS`; errors by bootstrap over galaxies, NaN for a single galaxy.
    by_truth, by_mass : Binned
        The same in bins.
    n, galaxies : int
        Number of rows, and of galaxies, each of which may have several views.
    point : {"mean", "median", "map"}
        Which point estimate the errors are of.
    target, model, label : str
        Field name, estimator, ``train → test``.
    """

    values: Mapping[str, tuple[float, float]]
    by_truth: Binned
    by_mass: Binned
    n: int
    galaxies: int
    point: Point
    target: str
    model: str
    label: str

    def to_table(self) -> Table:
        """One row for all galaxies, then one per bin of truth and of stellar mass; value and error of each metric."""
        parts = (self.by_truth, self.by_mass)
        unit = target_unit(self.target)
        counts = np.concatenate([[self.n], *(part.n for part in parts)])
        along = ["all"] + [part.along for part in parts for _ in part.n]
        truth_edges = _edge_columns(self.by_truth.edges, 1, len(self.by_mass.n))
        mass_edges = _edge_columns(10**self.by_mass.edges, 1 + len(self.by_truth.n), 0)
        columns = [
            ("bins", along, "", "what is binned: all galaxies, truth or stellar mass"),
            ("truth_low", truth_edges[0], unit, "lower edge of the bin of truth"),
            ("truth_high", truth_edges[1], unit, "upper edge of the bin of truth"),
            ("mstar_low", mass_edges[0], "Msun", "lower edge of the bin of stellar mass"),
            ("mstar_high", mass_edges[1], "Msun", "upper edge of the bin of stellar mass"),
            ("n", counts, "", "galaxies, or views of them"),
        ]
        for name, meaning in METRICS.items():
            its_unit = unit if name in _IN_TARGET_UNIT else ""
            value, error = (
                np.concatenate([[self.values[name][i]], *(part.values[name][i] for part in parts)]) for i in (0, 1)
            )
            columns += [
                (name, value, its_unit, meaning),
                (f"{name}_error", error, its_unit, f"bootstrap error of {name}"),
            ]
        meta = {"model": self.model, "domains": self.label, "target": self.target, "point": self.point}
        return make_table(columns, meta)


def compute(
    scores: Scores,
    *,
    point: Point = "mean",
    truth_bins: int | Sequence[float] = 8,
    mass_bins: int | Sequence[float] = 8,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Accuracy:
    """Compute every accuracy number with its bootstrap error.

    Parameters
    ----------
    scores : Scores
        Predictions beside the truth.
    point : {"mean", "median", "map"}
        Point estimate.
    truth_bins, mass_bins : int or sequence of float
        Number of bins, or edges in the target's unit and in log10 of Msun.
    n_boot, seed : int
        Number of bootstrap resamples and their seed.

    Returns
    -------
    Accuracy
        ``r2`` is NaN if all truths are equal.

    Raises
    ------
    DataError
        If the scores are empty.
    ConfigError
        If ``point`` or the bins make no sense.
    """
    columns = np.stack(
        [
            point_estimate(scores, point) - scores.truth,
            scores.p50 - scores.truth,
            scores.truth,
            -scores.log_prob,
            scores.crps,
            (scores.p16 <= scores.truth) & (scores.truth <= scores.p84),
            (scores.p025 <= scores.truth) & (scores.truth <= scores.p975),
        ]
    )
    value, error = _measure(columns, n_boot, seed, scores.ids)
    binned = []
    for along, bins in (("truth", truth_bins), ("mstar", mass_bins)):
        x = abscissa(scores, along)  # type: ignore[arg-type]
        binned.append(_in_bins(columns, along, x, bin_edges(x, bins), n_boot, seed, scores.ids))  # type: ignore[arg-type]
    return Accuracy(
        values=MappingProxyType({name: (float(value[i]), float(error[i])) for i, name in enumerate(METRICS)}),
        by_truth=binned[0],
        by_mass=binned[1],
        n=len(scores),
        galaxies=len(np.unique(scores.ids)),
        point=point,
        target=scores.target,
        model=scores.model,
        label=scores.label,
    )


def judge(result: Accuracy) -> Verdict:
    """Say how large the errors are; passes if the model beats the mean of the truth and its bias is small.

    The bias that is judged is that of the posterior median, which is zero if posteriors are calibrated: the mean of a
    skewed posterior has a median error even then. Small means at most `SMALL_BIAS` of the scatter, or within two of its
    own errors of zero.
    """
    values = result.values
    bias, bias_error = values["bias_p50"]
    r2, r2_error = values["r2"]
    unit = target_unit(result.target)
    numbers = (
        f"Median error {plus_minus(*values['bias_median'], unit, sign=True)} "
        f"(of posterior medians {plus_minus(bias, bias_error, unit, sign=True)}), "
        f"scatter {plus_minus(*values['scatter'], unit)}, RMSE {plus_minus(*values['rmse'], unit)}, "
        f"R² {plus_minus(r2, r2_error)} over {counted(result.n, result.galaxies)}"
    )
    if result.n < 2 or not np.isfinite(r2):
        return Verdict(f"{numbers}: too few different galaxies to judge.", passed=False, kind="too few")
    if r2 - 2 * r2_error <= 0:
        return Verdict(f"{numbers}: no better than always answering the mean.", passed=False, kind="uninformative")
    if abs(bias) > max(SMALL_BIAS * values["scatter"][0], 2 * np.nan_to_num(bias_error)):
        side = "high" if bias > 0 else "low"
        return Verdict(f"{numbers}: the typical prediction is too {side}.", passed=False, kind=f"biased {side}")
    return Verdict(f"{numbers}: the bias is small against the scatter.", passed=True, kind="accurate")


@styled
def draw(result: Accuracy, ax: Axes | None = None) -> Axes:
    """Draw bias and scatter in bins of stellar mass with bootstrap errors; dashed lines for all galaxies together."""
    ax = new_axes(ax, height=4.0)
    x = 0.5 * (result.by_mass.edges[1:] + result.by_mass.edges[:-1])
    ax.axhline(0, color=INK, lw=0.8)
    for i, (name, label, marker) in enumerate((("bias_median", "median error", "o"), ("scatter", "scatter", "s"))):
        value, error = result.by_mass.values[name]
        kept = np.isfinite(value)
        bars = np.nan_to_num(error[kept])
        ax.errorbar(x[kept], value[kept], bars, fmt=marker, ls="-", ms=5, capsize=2, color=colour(i), label=label)
        ax.axhline(result.values[name][0], color=colour(i), ls="--", lw=1)
    ax.set_xlabel(axis_label("mstar"))
    ax.set_ylabel(f"Error of {axis_label(result.target)}")
    ax.legend(loc="best")
    return ax


def _statistics(columns: Array) -> Array:
    """Every metric from (7, ..., n) columns; shape (..., metrics)."""
    error, median_error, truth, nll, crps, in68, in95 = columns
    p16, p50, p84 = np.percentile(error, [16, 50, 84], axis=-1)
    square = (error**2).mean(axis=-1)
    # the variance of equal numbers is not exactly zero
    varied = truth.max(axis=-1) > truth.min(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(varied, 1 - square / truth.var(axis=-1), np.nan)
    return np.stack(
        [
            p50,
            np.median(median_error, axis=-1),
            error.mean(axis=-1),
            0.5 * (p84 - p16),
            np.sqrt(square),
            np.abs(error).mean(axis=-1),
            r2,
            nll.mean(axis=-1),
            crps.mean(axis=-1),
            in68.mean(axis=-1),
            in95.mean(axis=-1),
        ],
        axis=-1,
    )


def _measure(columns: Array, n_boot: int, seed: int, ids: NDArray[Any]) -> tuple[Array, Array]:
    replicates = bootstrap(
        lambda *parts: _statistics(np.stack(parts)), *columns, n_boot=n_boot, seed=seed, galaxies=ids
    )
    return _statistics(columns), spread(replicates, columns.shape[1])


def _in_bins(columns: Array, along: Along, x: Array, edges: Array, n_boot: int, seed: int, ids: NDArray[Any]) -> Binned:
    which = assign(x, edges)
    k = len(edges) - 1
    n = np.bincount(which[which >= 0], minlength=k)
    value, error = np.full((2, len(METRICS), k), np.nan)
    for i in np.flatnonzero(n >= MIN_COUNT):
        value[:, i], error[:, i] = _measure(columns[:, which == i], n_boot, seed + 1 + int(i), ids[which == i])
    return Binned(along, edges, n, MappingProxyType({name: (value[i], error[i]) for i, name in enumerate(METRICS)}))


def _edge_columns(edges: Array, before: int, after: int) -> tuple[Array, Array]:
    blank = np.full(before, np.nan), np.full(after, np.nan)
    return np.concatenate([blank[0], edges[:-1], blank[1]]), np.concatenate([blank[0], edges[1:], blank[1]])
