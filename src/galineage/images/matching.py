"""Pairs of galaxies of two samples that are alike in what can be observed: redshift, magnitude, size, or mass."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["MASS_BOX", "PUBLISHED_BOX", "Matches", "match_greedy", "match_optimal"]

PUBLISHED_BOX = MappingProxyType({"redshift": 0.01, "magnitude": 0.1, "r90": 0.84})
"""Eisert+2024 (authors' code): redshift, i magnitude (mag), and Petrosian R90 (arcsec; 5 pixels of HSC)."""

MASS_BOX = MappingProxyType({"log_mass": 0.1})
"""For figures of populations: logarithm of the stellar mass, dex."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs without replacement.

    Attributes
    ----------
    first, second : array (k,) of int
        Rows of the two samples, pair by pair, in the order of ``first``.
    distance : array (k,)
        Root of the sum of squared differences in units of the box, no unit.
    unmatched : array (m,) of int
        Rows of the first sample that have no partner.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: Array
    unmatched: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)


def match_greedy(
    first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]], box: Mapping[str, float], *, seed: int = 42
) -> Matches:
    """Match as published: galaxies of the first sample in random order, each with a random unused one of its box.

    Parameters
    ----------
    first, second : mapping of str to array (n,), (m,)
        Quantities by name, in the units of ``box``. Rows with NaN are not matched.
    box : mapping of str to float
        Largest difference of each quantity, such as `PUBLISHED_BOX`. Others are not looked at.
    seed : int
        Of the order, and of each choice.

    Returns
    -------
    Matches

    Raises
    ------
    DataError
        If a quantity is missing, or of another length than the others.
    ConfigError
        If a size of the box is not positive.
    """
    left, right, rows, others = _scaled(first, second, box)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(left))
    draws = rng.random(len(left))
    used = np.zeros(len(right), dtype=bool)
    partner = np.full(len(left), -1)
    tree = _tree(right)
    for start in range(0, len(order), 1024):
        chunk = order[start : start + 1024]
        near = _candidates(tree, left, right, chunk)
        for row, places in zip(chunk, near, strict=True):
            free = places[~used[places]]
            if len(free):
                partner[row] = free[int(draws[row] * len(free))]
                used[partner[row]] = True
    return _matches(partner, left, right, rows, others, len(_first_of(first)))


def match_optimal(
    first: Mapping[str, NDArray[Any]],
    second: Mapping[str, NDArray[Any]],
    box: Mapping[str, float],
    *,
    nearest: int = 50,
) -> Matches:
    """Match as many galaxies as can be, with the smallest sum of squared distances in units of the box.

    A sparse assignment (Jonker & Volgenant 1987 in scipy's form) over the nearest neighbours inside of the box. It is
    the best one if no galaxy has more than ``nearest`` candidates, and nearly that otherwise.

    Parameters
    ----------
    first, second, box
        As in `match_greedy`.
    nearest : int
        Candidates of each galaxy of the first sample, at most.

    Returns
    -------
    Matches

    Raises
    ------
    DataError, ConfigError
        As `match_greedy`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if nearest < 1:
        raise ConfigError(f"nearest is {nearest}", expected="1 or more")
    left, right, rows, others = _scaled(first, second, box)
    partner = np.full(len(left), -1)
    if len(left) and len(right):
        near = _tree(right).query(left, k=np.arange(1, min(nearest, len(right)) + 1))[1]
        source = np.repeat(np.arange(len(left)), near.shape[1])
        target = near.ravel()
        inside = (np.abs(left[source] - right[target]) <= 1 + 1e-9).all(axis=1)
        source, target = source[inside], target[inside]
        cost = np.square(left[source] - right[target]).sum(axis=1)
        # each galaxy may stay alone, at a price that no chain of swaps between pairs can reach
        alone = 2.0 * left.shape[1] * (min(len(left), len(right)) + 1)
        table = coo_array(
            (
                np.concatenate([cost + 1.0, np.full(len(left), alone + 1.0)]),
                (
                    np.concatenate([source, np.arange(len(left))]),
                    np.concatenate([target, len(right) + np.arange(len(left))]),
                ),
            ),
            shape=(len(left), len(right) + len(left)),
        ).tocsr()
        found, chosen = min_weight_full_bipartite_matching(table)
        partner[found] = np.where(chosen < len(right), chosen, -1)
    return _matches(partner, left, right, rows, others, len(_first_of(first)))


def _first_of(sample: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return any column (n,), in its unit, for its length."""
    return np.asarray(next(iter(sample.values()), np.zeros(0)))


def _scaled(
    first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]], box: Mapping[str, float]
) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.int64]]:
    """Rows without NaN of both samples (n, d), (m, d) in units of the box, and which rows these are."""
    if not box or not all(0 < size < np.inf for size in box.values()):
        raise ConfigError(f"the box is {dict(box)}", expected="positive sizes, one for each quantity to match")
    sides = []
    for which, sample in (("first", first), ("second", second)):
        missing = [name for name in box if name not in sample]
        lengths = {np.shape(sample[name]) for name in box if name in sample}
        if missing or len(lengths) != 1 or len(next(iter(lengths))) != 1:
            raise DataError(
                f"the {which} sample has no {missing[0]!r}" if missing else f"its columns have the shapes {lengths}",
                where=f"{which} sample",
                expected="one column of numbers for each of " + ", ".join(box),
            )
        values = np.stack([np.asarray(sample[name], dtype=np.float64) / size for name, size in box.items()], axis=1)
        rows = np.flatnonzero(np.isfinite(values).all(axis=1))
        sides.append((values[rows], rows))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def _tree(values: Array) -> Any:
    from scipy.spatial import KDTree

    return KDTree(values)


def _candidates(tree: Any, left: Array, right: Array, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of ``right`` in the box of each of some rows of ``left``, ascending."""
    near = tree.query_ball_point(left[rows], r=1 + 1e-6, p=np.inf, return_sorted=True)
    found = []
    for row, places in zip(rows, near, strict=True):
        places = np.asarray(places, dtype=np.int64)
        # quantities are told to about 1e-9 of the box: a difference of 0.01 in float64 counts as 0.01
        inside = (np.abs(right[places] - left[row]) <= 1 + 1e-9).all(axis=1)
        found.append(places[inside])
    return found


def _matches(
    partner: NDArray[np.int64],
    left: Array,
    right: Array,
    rows: NDArray[np.int64],
    others: NDArray[np.int64],
    total: int,
) -> Matches:
    paired = np.flatnonzero(partner >= 0)
    apart = left[paired] - right[partner[paired]]
    return Matches(
        first=rows[paired],
        second=others[partner[paired]],
        distance=np.sqrt(np.square(apart).sum(axis=1)),
        unmatched=np.setdiff1d(np.arange(total), rows[paired]),
    )
