"""Errors by resampling galaxies with replacement: seeded, vectorised, with bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["N_BOOT", "bootstrap", "bootstrap_ecdf", "ecdf", "spread"]

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


def bootstrap_ecdf(values: NDArray[Any], grid: NDArray[Any], *, n_boot: int = N_BOOT, seed: int = 0) -> Array:
    """Bootstrap an empirical distribution function on a grid.

    Resampling n galaxies and counting them between grid points is a multinomial draw with the observed fractions, so
    the cost does not grow with n.

    Parameters
    ----------
    values : array (n,)
        Any unit; finite.
    grid : array (k,)
        Ascending points in the same unit.
    n_boot, seed : int
        As in `bootstrap`.

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
    cells = np.diff(ecdf(values, grid), prepend=0.0, append=1.0).clip(0.0)
    counts = np.random.default_rng(seed).multinomial(n, cells / cells.sum(), size=n_boot)
    return np.cumsum(counts[:, :-1], axis=1) / n


def _check(n: int, n_boot: int) -> None:
    if n == 0:
        raise DataError("there are no galaxies to evaluate", advice="check the selection and the skip list")
    if n_boot < 2:
        raise ConfigError(f"n_boot is {n_boot}", expected="at least 2", advice=f"{N_BOOT} is a good number")
