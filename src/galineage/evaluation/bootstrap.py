"""Errors by resampling galaxies with replacement: seeded, vectorised, with bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["N_BOOT", "bootstrap", "bootstrap_ecdf", "ecdf", "effective", "fraction", "spread"]

N_BOOT = 200
"""Default number of resamples: errors are then known to 5 per cent of themselves."""

_CHUNK = 2_000_000


def bootstrap(
    statistic: Callable[..., Array],
    *arrays: Array,
    n_boot: int = N_BOOT,
    seed: int = 0,
    galaxies: NDArray[Any] | None = None,
) -> Array:
    """Evaluate a statistic on resampled galaxies (Efron 1979).

    Parameters
    ----------
    statistic : callable
        Takes as many arrays as given here, each of shape (b, n), and reduces the last axis; returns shape (b,) or
        (b, ...). Use ``axis=-1`` or ``axis=1`` inside.
    *arrays : array (n,)
        Columns of the same galaxies, resampled together. NaN is passed on to the statistic.
    n_boot : int
        Number of resamples.
    seed : int
        Seed of the generator.
    galaxies : array (n,), optional
        Whose row each is: rows of one galaxy, such as its views, are drawn together, until there are n rows. Default:
        each row is a galaxy.

    Returns
    -------
    array (n_boot, ...)
        In the unit of the statistic.

    Raises
    ------
    DataError
        If there are no rows, or the arrays differ in length.
    ConfigError
        If ``n_boot`` is below 2.
    """
    n = len(arrays[0])
    _check(n, n_boot)
    if any(len(array) != n for array in arrays):
        raise DataError(
            "columns of different length", expected=f"{n} rows", where=str([len(array) for array in arrays])
        )
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    parts = []
    together = None if galaxies is None else _members(galaxies)
    for start in range(0, n_boot, step):
        shape = min(step, n_boot - start), n
        rows = rng.integers(0, n, size=shape) if together is None else _drawn(together, shape, rng)
        parts.append(statistic(*(array[rows] for array in arrays)))
    return np.concatenate(parts)


def _members(galaxies: NDArray[Any]) -> list[NDArray[np.int64]] | None:
    """Rows of each galaxy; None if each has one."""
    _, label, counts = np.unique(galaxies, return_inverse=True, return_counts=True)
    if counts.max() == 1:
        return None
    return np.split(np.argsort(label, kind="stable"), np.cumsum(counts)[:-1])


def _drawn(together: list[NDArray[np.int64]], shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw galaxies with all of their rows, for each replicate as many as it takes; rows of ``shape``."""
    out = np.empty(shape, dtype=np.int64)
    for line in out:
        filled = 0
        while filled < len(line):
            chosen = rng.integers(0, len(together), size=len(together))
            rows = np.concatenate([together[k] for k in chosen])[: len(line) - filled]
            line[filled : filled + len(rows)] = rows
            filled += len(rows)
    return out


def spread(replicates: Array, n: int) -> Array:
    """Bootstrap standard error.

    Parameters
    ----------
    replicates : array (n_boot, ...)
        From `bootstrap`. NaN replicates (an undefined statistic) are left out.
    n : int
        Number of galaxies behind them.

    Returns
    -------
    array (...)
        Standard deviation over the resamples, in the unit of the statistic. NaN if ``n`` is 1, since one galaxy says
        nothing about the spread, or if fewer than two replicates are defined.
    """
    defined = np.isfinite(replicates)
    count = defined.sum(axis=0)
    kept = np.where(defined, replicates, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = kept.sum(axis=0) / count
        variance = (np.where(defined, replicates - mean, 0.0) ** 2).sum(axis=0) / (count - 1)
    return np.where((count >= 2) & (n >= 2), np.sqrt(variance), np.nan)


def ecdf(values: NDArray[Any], grid: NDArray[Any]) -> Array:
    """Fraction of ``values`` (n,) at or below each point of ``grid`` (k,); shape (k,), no unit."""
    return np.searchsorted(np.sort(values), grid, side="right") / len(values)


def fraction(inside: NDArray[np.bool_], galaxies: NDArray[Any] | None = None) -> tuple[float, float]:
    """Fraction of rows that are true, and its standard error.

    Parameters
    ----------
    inside : array (n,) of bool
        At least one row.
    galaxies : array (n,), optional
        Whose row each is. Where several rows are one galaxy's, deviations are added up over each galaxy before they are
        squared (Cochran 1977, section 9A; a ratio to the number of rows); else the error is binomial.

    Returns
    -------
    value, error : float
        No unit. The error is NaN for one galaxy.
    """
    p, n = float(inside.mean()), len(inside)
    label, count = _labels(galaxies, n)
    if count < 2:
        return p, float("nan")
    if count == n:
        return p, float(np.sqrt(p * (1 - p) / n))
    sums = np.bincount(label, weights=inside - p)
    return p, float(np.sqrt(count / (count - 1) * (sums**2).sum()) / n)


def effective(values: NDArray[Any], galaxies: NDArray[Any] | None = None) -> int:
    """As how many independent rows these count.

    Rows of one galaxy, such as its views, say less than as many galaxies do. The mean of n rows has the variance of a
    mean of n / (1 + (m - 1) r) independent ones (Kish 1965, section 5.4), where m is the mean number of rows of a
    galaxy, each row counted once, and r the correlation of two rows of one galaxy, estimated by analysis of variance
    and kept within 0 and 1.

    Parameters
    ----------
    values : array (n,)
        Any unit; finite.
    galaxies : array (n,), optional
        Whose row each is. Default: each row is a galaxy.

    Returns
    -------
    int
        From the number of galaxies, less if some have far more rows than others, to n.
    """
    n = len(values)
    label, count = _labels(galaxies, n)
    if count == n or count < 2:
        return min(n, count)
    rows = np.bincount(label)
    means = np.bincount(label, weights=values) / rows
    within = float(((values - means[label]) ** 2).sum()) / (n - count)
    between = float((rows * (means - np.mean(values)) ** 2).sum()) / (count - 1)
    usual = (n - float((rows**2).sum()) / n) / (count - 1)
    total = between + (usual - 1) * within
    alike = float(np.clip((between - within) / total, 0, 1)) if total > 0 else 1.0
    return max(1, round(n / (1 + (float((rows**2).sum()) / n - 1) * alike)))


def _labels(galaxies: NDArray[Any] | None, n: int) -> tuple[NDArray[np.int64], int]:
    """Return the number of the galaxy of each row, and how many galaxies there are."""
    if galaxies is None:
        return np.arange(n), n
    names, label = np.unique(galaxies, return_inverse=True)
    return label, len(names)


def bootstrap_ecdf(
    values: NDArray[Any],
    grid: NDArray[Any],
    *,
    n_boot: int = N_BOOT,
    seed: int = 0,
    galaxies: NDArray[Any] | None = None,
) -> Array:
    """Bootstrap an empirical distribution function on a grid.

    Resampling n galaxies and counting them between grid points is a multinomial draw with the observed fractions, so
    the cost does not grow with n. Where galaxies have several rows, whole galaxies are drawn, as many as there are.

    Parameters
    ----------
    values : array (n,)
        Any unit; finite.
    grid : array (k,)
        Ascending points in the same unit.
    n_boot, seed : int
        As in `bootstrap`.
    galaxies : array (n,), optional
        Whose row each is. Default: each row is a galaxy.

    Returns
    -------
    array (n_boot, k)
        Fraction of each resample at or below each point.

    Raises
    ------
    DataError
        If there are no rows.
    """
    n = len(values)
    _check(n, n_boot)
    label, count = _labels(galaxies, n)
    if count < n:
        return _clustered_ecdf(np.searchsorted(grid, values), len(grid), label, count, n_boot, seed)
    cells = np.diff(ecdf(values, grid), prepend=0.0, append=1.0).clip(0.0)
    counts = np.random.default_rng(seed).multinomial(n, cells / cells.sum(), size=n_boot)
    return np.cumsum(counts[:, :-1], axis=1) / n


def _clustered_ecdf(
    cell: NDArray[np.int64], k: int, label: NDArray[np.int64], count: int, n_boot: int, seed: int
) -> Array:
    rng = np.random.default_rng(seed)
    out = np.empty((n_boot, k))
    for line in out:
        times = np.bincount(rng.integers(0, count, size=count), minlength=count)[label]
        found = np.cumsum(np.bincount(cell, weights=times, minlength=k + 1))
        line[:] = found[:-1] / found[-1]
    return out


def _check(n: int, n_boot: int) -> None:
    if n == 0:
        raise DataError("there are no galaxies to evaluate", advice="check the selection and the skip list")
    if n_boot < 2:
        raise ConfigError(f"n_boot is {n_boot}", expected="at least 2", advice=f"{N_BOOT} is a good number")
