"""Bins of truth or stellar mass, and running percentiles in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["MIN_COUNT", "Along", "Point", "Running", "abscissa", "assign", "bin_edges", "point_estimate", "running"]

MIN_COUNT = 5
"""Bins with fewer galaxies give NaN: their percentiles would be single galaxies."""

Point = Literal["mean", "median", "map"]
"""Which number stands for a posterior."""

Along = Literal["truth", "mstar"]
"""The quantity along which errors are followed."""

_POINTS = {"mean": "mean", "median": "p50", "map": "map"}


def point_estimate(scores: Scores, point: Point = "mean") -> Array:
    """Posterior mean, median or mode of every galaxy.

    Returns
    -------
    array (n,), in the target's unit

    Raises
    ------
    ConfigError
        If ``point`` is another word.
    DataError
        If the scores are empty.
    """
    if point not in _POINTS:
        raise ConfigError(f"there is no point estimate {point!r}", expected="mean, median or map")
    if len(scores) == 0:
        raise DataError(
            "the scores hold no galaxies",
            where=f"model {scores.model or 'unnamed'}, {scores.label}",
            advice="check the selection and the skip list",
        )
    return np.asarray(getattr(scores, _POINTS[point]), dtype=float)


def abscissa(scores: Scores, along: Along) -> Array:
    """Truth in the target's unit, or log10 of the stellar mass in Msun; shape (n,), NaN where the mass is not positive.

    Raises
    ------
    ConfigError
        If ``along`` is neither ``truth`` nor ``mstar``.
    """
    if along == "truth":
        return scores.truth
    if along != "mstar":
        raise ConfigError(f"cannot follow errors along {along!r}", expected="truth or mstar")
    positive = scores.mstar > 0
    return np.where(positive, np.log10(np.where(positive, scores.mstar, 1.0)), np.nan)


def bin_edges(values: Array, bins: int | Sequence[float]) -> Array:
    """Edges of bins.

    Parameters
    ----------
    values : array (n,)
        Any unit. NaN is left out.
    bins : int or sequence of float
        Number of equal bins between the smallest and largest value, or ascending edges in the unit of ``values``.

    Returns
    -------
    array (bins + 1,), in the unit of ``values``
        A single bin of width 1 around them if all values are equal.

    Raises
    ------
    ConfigError
        If the number is below 1 or the edges do not ascend.
    DataError
        If no value is finite.
    """
    if not isinstance(bins, int | np.integer):
        edges = np.asarray(bins, dtype=float)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ConfigError(f"bin edges are {bins}", expected="two or more ascending numbers")
        return edges
    if bins < 1:
        raise ConfigError(f"the number of bins is {bins}", expected="at least 1")
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        raise DataError("no finite value to bin", advice="check the column that is used as abscissa")
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    return np.linspace(low, high, int(bins) + 1)


def assign(values: Array, edges: Array) -> NDArray[np.int64]:
    """Return the bin of each value (any unit, that of the edges), shape (n,): 0 to ``len(edges) - 2``.

    -1 outside and for NaN. The last bin holds its upper edge.
    """
    which = np.searchsorted(edges, values, side="right") - 1
    which = np.where(values == edges[-1], len(edges) - 2, which)
    return np.where((which < 0) | (which > len(edges) - 2) | ~np.isfinite(values), -1, which)


@dataclass(frozen=True)
class Running:
    """Percentiles of y in bins of x.

    Attributes
    ----------
    edges : array (k + 1,)
        Bin edges, unit of x.
    x : array (k,)
        Median x of each bin; its middle where the bin has too few galaxies.
    n : array of int (k,)
        Galaxies in each bin.
    p16, p50, p84 : array (k,)
        Percentiles of y, unit of y; NaN in bins with too few galaxies.
    p50_error, half_width, half_width_error : array (k,)
        Bootstrap error of the median; half the 16-84 range and its bootstrap error. Unit of y.
    """

    edges: Array
    x: Array
    n: NDArray[np.int64]
    p16: Array
    p50: Array
    p84: Array
    p50_error: Array
    half_width: Array
    half_width_error: Array

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Which bins hold enough galaxies, shape (k,)."""
        return np.isfinite(self.p50)

    @property
    def worst(self) -> int:
        """Bin whose median is farthest from zero beyond its error; there must be a filled one."""
        return int(np.nanargmax(np.abs(self.p50) - np.nan_to_num(self.p50_error)))

    @property
    def typical(self) -> float:
        """Mean distance of the medians from zero, weighted by galaxies; unit of y, NaN without a filled bin."""
        keep = self.filled
        return float(np.average(np.abs(self.p50[keep]), weights=self.n[keep])) if keep.any() else float("nan")


def running(
    x: Array,
    y: Array,
    edges: Array,
    *,
    min_count: int = MIN_COUNT,
    n_boot: int = N_BOOT,
    seed: int = 0,
    galaxies: NDArray[Any] | None = None,
) -> Running:
    """Compute median and 16th and 84th percentile of ``y`` in bins of ``x``.

    Parameters
    ----------
    x : array (n,)
        Any unit; NaN falls in no bin.
    y : array (n,) or (n, m)
        Any unit, finite; m numbers of each galaxy are taken together.
    edges : array (k + 1,)
        Ascending, in the unit of ``x``.
    min_count : int
        Bins with fewer galaxies are NaN.
    n_boot, seed : int
        Bootstrap resamples of the galaxies within each bin, and their seed.
    galaxies : array (n,), optional
        Whose row each is, as in `galineage.evaluation.bootstrap.bootstrap`. Default: each row is a galaxy.
    """
    which = assign(x, edges)
    k = len(edges) - 1
    centre = 0.5 * (edges[1:] + edges[:-1])
    n = np.bincount(which[which >= 0], minlength=k)
    values = np.full((4, k), np.nan)
    errors = np.full((4, k), np.nan)
    for i in np.flatnonzero(n >= min_count):
        inside = y[which == i]
        centre[i] = np.median(x[which == i])
        values[:, i] = _percentiles(inside[None])[0]
        whose = None if galaxies is None else galaxies[which == i]
        replicates = bootstrap(_percentiles, inside, n_boot=n_boot, seed=seed + int(i), galaxies=whose)
        errors[:, i] = spread(replicates, len(inside) if whose is None else len(np.unique(whose)))
    return Running(edges, centre, n, values[0], values[1], values[2], errors[1], values[3], errors[3])


def _percentiles(y: Array) -> Array:
    low, middle, high = np.percentile(y.reshape(len(y), -1), [16, 50, 84], axis=-1)
    return np.stack([low, middle, high, 0.5 * (high - low)], axis=-1)
