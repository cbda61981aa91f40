"""Do groups differ at an equal third quantity? A permutation test in strata, and Holm's correction for many of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["FEWEST", "PERMUTATIONS", "Comparison", "compare", "holm"]

PERMUTATIONS = 2000
"""Default number of permutations: the smallest probability that 15 tests corrected by Holm can have is 0.0075."""

FEWEST = 8
"""A group with fewer members in a stratum is left out of it: its variance is not known."""

_CHUNK = 2_000_000


@dataclass(frozen=True)
class Comparison:
    """Whether groups differ, for each of several quantities.

    Attributes
    ----------
    p_value : array (k,)
        Probability of so large differences by chance; NaN where no stratum has two groups.
    size : array (k,)
        Root mean square difference of the groups' means in units of the scatter within a group, strata weighted by
        what they tell, without what noise adds to it; no unit, 0 where noise explains it all, NaN as above.
    """

    p_value: Array
    size: Array


def compare(
    values: Array,
    along: Array,
    groups: NDArray[np.int64],
    strata: NDArray[np.int64],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Comparison:
    """Test whether groups have the same mean at an equal third quantity.

    The statistic is the sum over strata, and over pairs of groups, of t squared: of the difference of the groups' means
    at an equal third quantity (with a slope along it that both share, as in an analysis of covariance, so that groups
    that fill a stratum differently are not mistaken for different ones) over its error, each group with its own
    variance. Without a slope this is Welch's t. Its distribution comes from permuting the groups' labels within strata
    after the slope has been taken off (Freedman & Lane 1983); because t is studentised this holds for groups of
    different scatter too, if they are not small (Janssen 1997; Chung & Romano 2013).

    Parameters
    ----------
    values : array (n, k)
        k quantities of n independent things, any unit. A NaN leaves its row out for that quantity.
    along : array (n,)
        The third quantity, any unit; finite.
    groups, strata : array (n,) of int
        Group and stratum of each thing, from 0.
    permutations : int
        How many.
    seed : int
        Seed of the generator.

    Returns
    -------
    Comparison

    Raises
    ------
    ConfigError
        If there are fewer than 20 permutations.
    """
    if permutations < 20:
        raise ConfigError(
            f"{permutations} permutations", expected="20 or more", advice=f"{PERMUTATIONS} is a good number"
        )
    p_value, size = np.full((2, values.shape[1]), np.nan)
    known = np.isfinite(values)
    for pattern in np.unique(known, axis=1).T:
        columns = np.flatnonzero((known == pattern[:, None]).all(axis=0))
        parts = _parts(values[pattern][:, columns], along[pattern], groups[pattern], strata[pattern])
        if parts:
            p_value[columns], size[columns] = _tested(parts, permutations, seed)
    return Comparison(p_value, size)


def holm(p_value: Array) -> Array:
    """Correct probabilities for being the smallest of many (Holm 1979).

    Parameters
    ----------
    p_value : array, any shape
        NaN is not counted.

    Returns
    -------
    array, the same shape
        Blaming those below a level blames any wrongly no more often than that level.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    flat = np.asarray(p_value, dtype=float).ravel()
    out = np.full(flat.shape, np.nan)
    order = np.argsort(flat, kind="stable")[: int(np.isfinite(flat).sum())]
    factors = np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(flat[order] * factors), 1)
    return out.reshape(np.shape(p_value))


_Part = tuple["Array", "Array", "NDArray[np.int64]"]
"""Values (n, k) without slope, the third quantity (n,), and groups (n,), of one stratum."""


def _parts(values: Array, along: Array, groups: NDArray[np.int64], strata: NDArray[np.int64]) -> list[_Part]:
    """Strata in which two groups or more have members enough."""
    found = []
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        counts = np.bincount(groups[inside])
        inside = inside[counts[groups[inside]] >= FEWEST]
        if len(np.unique(groups[inside])) > 1:
            mine = np.unique(groups[inside], return_inverse=True)[1]
            found.append((_levelled(values[inside], along[inside], mine), _scaled(along[inside]), mine))
    return found


def _scaled(values: Array) -> Array:
    """Centre, and scale to a deviation of 1, for the sake of rounding."""
    centred = values - values.mean(axis=0)
    scatter = centred.std(axis=0)
    return np.asarray(centred / np.where(scatter > 0, scatter, 1))


def _levelled(values: Array, along: Array, groups: NDArray[np.int64]) -> Array:
    """Take off the slope common to all groups."""
    x = _scaled(along)
    inner = x - (np.bincount(groups, weights=x) / np.bincount(groups))[groups]
    power = float(inner @ inner)
    scaled = _scaled(values)
    slope = inner @ scaled / power if power > 0 else np.zeros(values.shape[1])
    return _scaled(scaled - np.outer(x, slope))


def _tested(parts: list[_Part], permutations: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    width = parts[0][0].shape[1]
    observed, chance = np.zeros(width), np.zeros((permutations, width))
    squares, weight = np.zeros(width), 0.0
    for values, along, groups in parts:
        for difference, noise, scatter, its_weight in _pairs(values, along, groups[None]):
            observed += (difference**2 / noise)[0]
            squares += its_weight * ((difference**2 - noise) / scatter)[0]
            weight += its_weight
        step = max(1, _CHUNK // len(groups))
        for start in range(0, permutations, step):
            rows = min(step, permutations - start)
            shuffled = rng.permuted(np.tile(groups, (rows, 1)), axis=1)
            for difference, noise, _, _ in _pairs(values, along, shuffled):
                chance[start : start + rows] += difference**2 / noise
    # a permutation that gives the groups back counts as well, whatever its rounding
    reached = (chance >= observed * (1 - 1e-9) - 1e-9).sum(axis=0)
    return (1 + reached) / (1 + permutations), np.sqrt(np.maximum(squares, 0) / weight)


def _pairs(values: Array, along: Array, groups: NDArray[np.int64]) -> Iterator[tuple[Array, Array, Array, float]]:
    """Yield for every pair of groups, for labels (b, n): difference, its variance, mean variance (b, k), and a weight.

    Differences are of means at an equal third quantity, with a slope that both groups share.
    """
    sums = [_moments(values, along, groups == g) for g in range(int(groups.max()) + 1)]
    for a, one in enumerate(sums):
        for other in sums[a + 1 :]:
            power = one.xx + other.xx
            with np.errstate(invalid="ignore", divide="ignore"):
                slope = np.where(power > 0, (one.xy + other.xy) / power, 0.0)
                lever = np.where(power > 0, (one.x - other.x) / power, 0.0)
            difference = one.y - other.y - slope * (one.x - other.x)
            first, second = one.variance(slope), other.variance(slope)
            noise = first / one.n + second / other.n + lever**2 * (first * one.xx + second * other.xx)
            yield difference, noise, 0.5 * (first + second), one.n * other.n / (one.n + other.n)


@dataclass(frozen=True)
class _Moments:
    """Of one group, for b sets of labels: number; means, and sums of squares and products about them (b, 1 or k)."""

    n: int
    x: Array
    y: Array
    xx: Array
    xy: Array
    yy: Array

    def variance(self, slope: Array) -> Array:
        """Variance (b, k) about a line of this slope (b, k)."""
        squares = self.yy - 2 * slope * self.xy + slope**2 * self.xx
        return np.asarray(np.maximum(squares / (self.n - 1), 1e-12))


def _moments(values: Array, along: Array, mask: NDArray[np.bool_]) -> _Moments:
    mine = mask.astype(float)
    n = int(mask[0].sum())
    x, y = (mine @ along / n)[:, None], mine @ values / n
    xx = (mine @ along**2)[:, None] - n * x**2
    xy = mine @ (along[:, None] * values) - n * x * y
    return _Moments(n, x, y, xx, xy, mine @ values**2 - n * y**2)
