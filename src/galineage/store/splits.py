"""Splits of galaxies into training, validation and test sets: by root, seeded, never by row unless asked for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue

__all__ = ["folds", "held_out_by_name", "held_out_groups", "split_labels"]


def split_labels(catalogue: Catalogue, by: str = "root") -> NDArray[Any]:
    """Return the group of every row that a split must keep together.

    Parameters
    ----------
    catalogue : Catalogue
        n galaxies.
    by : {"root", "row"}
        ``root``: the z=0 descendant. ``row``: every row for itself, as published in 2023; it leaks when several
        snapshots of a galaxy are present. Views of one galaxy stay together all the same.

    Returns
    -------
    array (n,)

    Raises
    ------
    DataError
        If roots are asked for and unknown.
    """
    if by == "row":
        if catalogue.maps is None:
            return np.arange(len(catalogue))
        return np.char.add(np.char.add(catalogue.domain.astype(str), ":"), catalogue.ids.astype(str))
    if by != "root":
        raise ConfigError(f"split is {by!r}", expected="root or row")
    if catalogue.root is None:
        raise DataError(
            "the descendants of these galaxies are unknown, so a split by root cannot be made",
            where=str(catalogue.meta.get("file", "in memory")),
            advice="use the z=0 rows only, add a root column to the mapping, or accept a leaking split='row'",
        )
    return catalogue.root


def held_out_groups(groups: NDArray[Any], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose whole groups at random until about ``fraction`` of the groups are held out.

    Parameters
    ----------
    groups : array (n,)
        Group label of each row.
    fraction : float
        Between 0 and 1.
    seed : int
        Of the draw.

    Returns
    -------
    array (n,) of bool
        True for rows that are held out; at least one row on either side.

    Raises
    ------
    DataError
        If there are fewer than two groups.
    """
    unique, index = np.unique(groups, return_inverse=True)
    if len(unique) < 2:
        raise DataError("all rows belong to one group, so nothing can be held out", expected="two or more roots")
    count = min(max(1, round(fraction * len(unique))), len(unique) - 1)
    held = np.zeros(len(unique), dtype=bool)
    held[np.random.default_rng(seed).permutation(len(unique))[:count]] = True
    return held[index]


def held_out_by_name(catalogue: Catalogue, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose about ``fraction`` of the roots, each by its name alone, whoever else is there.

    For what is learned in several steps, from rows that need not be the same in each: nothing that one step held out is
    seen by another. A store and a table of one domain name their roots with the domain or without: it is the same root.

    Parameters
    ----------
    catalogue : Catalogue
        n rows with roots.
    fraction : float
        Between 0 and 1.
    seed : int
        Of the choice.

    Returns
    -------
    array (n,) of bool
        True for rows that are held out.

    Raises
    ------
    DataError
        If the roots are unknown, or all end on one side.
    """
    whose = zip(split_labels(catalogue).tolist(), catalogue.domain.tolist(), strict=True)
    names = [f"{domain}:{str(root).removeprefix(f'{domain}:')}" for root, domain in whose]
    unique, index = np.unique(np.array(names), return_inverse=True)
    drawn = [int.from_bytes(hashlib.sha256(f"{seed}:{one}".encode()).digest()[:8], "big") / 2**64 for one in unique]
    held = np.asarray(np.array(drawn) < fraction)
    if len(held) == 0 or held.all() or not held.any():
        raise DataError(
            f"{int(held.sum())} of {len(held)} roots would be held out",
            advice="take more galaxies, or another fraction",
        )
    return np.asarray(held[index])


def folds(groups: NDArray[Any], count: int, seed: int) -> NDArray[np.int64]:
    """Assign every row to one of ``count`` test folds, whole groups together, sizes as equal as can be.

    Parameters
    ----------
    groups : array (n,)
        Group label of each row.
    count : int
        Number of folds, 2 or more.
    seed : int
        Of the draw.

    Returns
    -------
    array (n,) of int64
        Fold of each row, 0 to ``count - 1``.

    Raises
    ------
    ConfigError
        If there are fewer groups than folds.
    """
    unique, index = np.unique(groups, return_inverse=True)
    if not 2 <= count <= len(unique):
        raise ConfigError(f"{count} folds of {len(unique)} groups", expected="at least 2 folds and one group for each")
    fold_of_group = np.empty(len(unique), dtype=np.int64)
    fold_of_group[np.random.default_rng(seed).permutation(len(unique))] = np.arange(len(unique)) % count
    return fold_of_group[index]
