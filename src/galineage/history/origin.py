"""Which stars of a galaxy formed outside its main progenitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from galineage.trees import Tree

    Array = NDArray[Any]

__all__ = ["birthplaces", "classify", "ex_situ_fraction"]


def birthplaces(ids: Array, snapshots: Iterable[tuple[int, Array, Array]]) -> tuple[Array, Array]:
    """Find in which subhalo each star first appears, where no catalogue tells.

    Parameters
    ----------
    ids : array (n,) of int
        Particle identifiers of the stars in question, all different.
    snapshots : iterable of (number, array (m,) of int, array (m,) of int)
        Snapshots in the order of time: number, identifiers of all stars, and the subhalo that each is in, -1: none.
        One snapshot is in memory at a time.

    Returns
    -------
    array (n,) of int, array (n,) of int
        Snapshot and subhalo of the first appearance; -1 for a star that never appears, subhalo -1 for one that formed
        outside every subhalo.

    Raises
    ------
    DataError
        If an identifier occurs twice.
    """
    order = np.argsort(ids)
    ordered = ids[order]
    if len(ids) > 1 and (ordered[1:] == ordered[:-1]).any():
        raise DataError("a particle identifier occurs twice among the stars", advice="one galaxy or snapshot at a time")
    first, host = np.full(len(ids), -1), np.full(len(ids), -1)
    for number, every, subhalo in snapshots:
        place = np.searchsorted(ordered, every)
        known = place < len(ordered)
        known[known] = ordered[place[known]] == every[known]
        rows = order[place[known]]
        new = first[rows] < 0
        first[rows[new]], host[rows[new]] = number, subhalo[known][new]
    return first, host


def classify(tree: Tree, row: int, snapshot: Array, subhalo: Array) -> Array:
    """Tell which stars formed on the main branch of a galaxy (Rodriguez-Gomez+2016, section 3.1).

    Parameters
    ----------
    tree : Tree
    row : int
        The galaxy.
    snapshot, subhalo : array (n,) of int
        Where each star was in the first snapshot after its formation; -1: unknown or outside every subhalo.

    Returns
    -------
    array (n,) of bool
        True: ex situ. A star that formed outside every subhalo is ex situ too.
    """
    branch = tree.main_branch(row)
    width = int(max(tree.subhalo[branch].max(initial=0), subhalo.max(initial=0))) + 2
    main = (tree.snapshot[branch] + 1) * width + tree.subhalo[branch] + 1
    stars = (np.asarray(snapshot, dtype=np.int64) + 1) * width + np.asarray(subhalo, dtype=np.int64) + 1
    return ~np.isin(stars, main)


def ex_situ_fraction(mass: Array, ex_situ: Array) -> float:
    """Return the fraction of stellar mass (n,) Msun that is ex situ; NaN without stars.

    In-situ and ex-situ mass add up to the total by construction.
    """
    total = float(mass.sum())
    return float(mass[ex_situ].sum() / total) if total > 0 else np.nan
