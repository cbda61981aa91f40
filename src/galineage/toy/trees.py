"""Merger trees of toy galaxies, as a simulation's snapshots would show them: depth first, one tree per galaxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.toy.cosmology import time_grid
from galineage.toy.mergers import MAJOR
from galineage.toy.snapshots import EARLIEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.toy.assembly import Assembly
    from galineage.toy.snapshots import Timeline

    Array = NDArray[np.float64]
    Index = NDArray[np.int64]

__all__ = ["INFALL", "Numbering", "Tree", "TreeMergers", "grow_tree"]

INFALL = 1.5
"""Satellites enter their host's halo this long before they merge, Gyr (adopted)."""


@dataclass(frozen=True)
class TreeMergers:
    """What a walk along the tree's main branch finds, one row per merger in the order of the assembly.

    Attributes
    ----------
    snapshot : array (m,) of int
        First snapshot at which the satellite is gone.
    peak : array (m,), Msun
        Largest stellar mass of the satellite, which it has in the snapshot before.
    ratio : array (m,)
        That mass and the main progenitor's in the same snapshot, the smaller over the larger.
    infall : array (m,) of int
        First snapshot at which the satellite is in its host's halo.
    """

    snapshot: Index
    peak: Array
    ratio: Array
    infall: Index


@dataclass(frozen=True)
class Tree:
    """One tree; row 0 is the galaxy at z = 0 and every index counts rows from there.

    Attributes
    ----------
    snapshot : array (r,) of int
    merger : array (r,) of int
        The merger whose satellite this row is; -1 on the main branch.
    descendant, next_progenitor : array (r,) of int
        -1: none.
    first_progenitor : array (r,) of int
        -1: none; otherwise always the next row.
    last_progenitor : array (r,) of int
        Last row of the part of the tree that ends in this row.
    leaf : array (r,) of int
        Earliest row of the branch.
    host : array (r,) of int
        The row which is the central galaxy of this row's halo (itself for the main branch and before infall).
    mstar : array (r,), Msun
    start : array (m,) of int
        First (latest) row of each merger's satellite.
    mergers : TreeMergers
    """

    snapshot: Index
    merger: Index
    descendant: Index
    next_progenitor: Index
    first_progenitor: Index
    last_progenitor: Index
    leaf: Index
    host: Index
    mstar: Array
    start: Index
    mergers: TreeMergers

    def row_at(self, merger: Index, snapshot: Index) -> Index:
        """Row of the branch ``merger`` (n,) (-1: the main branch) at a snapshot (n,) at which it exists."""
        start = np.append(self.start, 0)[merger]  # -1 picks the last entry: row 0
        return start + self.snapshot[start] - snapshot


def grow_tree(assembly: Assembly, timeline: Timeline, merger: Index, birth: Array) -> Tree:
    """Lay out the tree of one galaxy.

    The masses of the main branch are those of the history. In the last snapshot before a merger the main progenitor has
    the mass which the history gives it just before, so that the walk finds the drawn mass ratio; of several mergers
    between two snapshots this holds for the last major one, or else for the largest, and the others stay on their side
    of 1/4 where one mass can do that for all.

    Parameters
    ----------
    assembly : Assembly
        With m mergers.
    timeline : Timeline
    merger : array (n,) of int
        The merger that brought a star; -1: in situ.
    birth : array (n,), Gyr
        Lookback time of the stars' formation. Every star's birth has a row: its satellite, or the main branch, exists
        in the first snapshot after.

    Returns
    -------
    Tree
    """
    now, begin = len(timeline.redshift) - 1, int(timeline.formed(np.array([EARLIEST]))[0])
    gone = timeline.formed(assembly.lookback)
    count = len(gone)
    early = gone - 2
    brought = merger >= 0
    np.minimum.at(early, merger[brought], timeline.formed(birth[brought]))
    early = np.clip(early, begin, gone - 1)
    infall = np.clip(timeline.formed(assembly.lookback + INFALL), early, gone - 1)
    main = _main_masses(assembly, timeline, gone)
    length = gone - early
    order = np.lexsort((-assembly.merged, gone))  # depth first: the earliest mergers follow the main branch's leaf
    start = np.empty(count, dtype=np.int64)
    trunk = now - begin + 1
    start[order] = trunk + np.concatenate([[0], np.cumsum(length[order])[:-1]]) if count else start[order]
    rows = trunk + int(length.sum())
    snapshot, branch = np.empty(rows, dtype=np.int64), np.full(rows, -1)
    snapshot[:trunk] = now - np.arange(trunk)
    branch[trunk:] = np.repeat(order, length[order])
    offset = np.arange(trunk, rows) - start[branch[trunk:]]
    snapshot[trunk:] = gone[branch[trunk:]] - 1 - offset
    mstar = np.empty(rows)
    mstar[:trunk] = main[snapshot[:trunk]]
    mstar[trunk:] = _satellite_masses(assembly, timeline, gone, branch[trunk:], snapshot[trunk:])
    seen = assembly.merged / main[gone - 1]
    mergers = TreeMergers(gone, assembly.merged, np.minimum(seen, 1 / seen), infall)
    links = _links(now, trunk, branch, snapshot, start, order, length, mergers)
    return Tree(snapshot=snapshot, merger=branch, mstar=mstar, start=start, mergers=mergers, **links)


def _links(
    now: int,
    trunk: int,
    branch: Index,
    snapshot: Index,
    start: Index,
    order: Index,
    length: Index,
    mergers: TreeMergers,
) -> dict[str, Index]:
    rows, satellite = len(branch), branch[trunk:]
    index = np.arange(rows)
    leaf = np.full(rows, trunk - 1)
    leaf[trunk:] = start[satellite] + length[satellite] - 1
    descendant = index - 1
    top = start[order]
    descendant[top] = now - mergers.snapshot[order]
    following = np.full(rows, -1)
    # first comes the main progenitor, then the satellites that merge into the same row, heaviest first
    same = mergers.snapshot[order][1:] == mergers.snapshot[order][:-1]
    following[top[:-1][same]] = top[1:][same]
    leads = np.flatnonzero(np.append(True, ~same)) if len(order) else np.zeros(0, dtype=np.int64)
    following[now - (mergers.snapshot[order][leads] - 1)] = top[leads]
    last = leaf.copy()
    merged_by = np.searchsorted(mergers.snapshot[order], snapshot[:trunk], "right")
    ends = np.append(trunk - 1, leaf[top])
    last[:trunk] = ends[merged_by]
    host = index.copy()
    inside = snapshot[trunk:] >= mergers.infall[satellite]
    host[trunk:] = np.where(inside, now - snapshot[trunk:], index[trunk:])
    return {
        "descendant": descendant,
        "next_progenitor": following,
        "first_progenitor": np.where(index == leaf, -1, index + 1),
        "last_progenitor": last,
        "leaf": leaf,
        "host": host,
    }


def _main_masses(assembly: Assembly, timeline: Timeline, gone: Index) -> Array:
    """Stellar mass of the main progenitor at every snapshot, Msun, shape (s,)."""
    edges = np.append(time_grid().lookback, EARLIEST)
    since = np.concatenate([[0.0], np.cumsum(assembly.insitu)])  # in-situ mass formed after each edge
    lookback = timeline.lookback
    later = np.searchsorted(assembly.lookback, lookback)  # mergers that are still to come
    brought = np.concatenate([[0.0], np.cumsum(assembly.merged)])[later]
    mass = np.maximum(assembly.mstar - np.interp(lookback, edges, since) - brought, 1e-6 * assembly.insitu[-1])
    for snapshot in np.unique(gone - 1):
        mass[snapshot] = _seen(assembly, np.flatnonzero(gone - 1 == snapshot))
    return mass


def _seen(assembly: Assembly, which: Index) -> float:
    """Return the main progenitor's mass in the snapshot before the mergers ``which``, which go back in time."""
    ratio, merged = assembly.mu[which], assembly.merged[which]
    major = ratio >= MAJOR
    leader = which[np.argmax(major)] if major.any() else which[np.argmax(ratio)]
    mass = float(assembly.primary[leader])
    if (~major).any():
        mass = max(mass, float(merged[~major].max()) / MAJOR * (1 + 1e-5))
    if major.any():
        # rounding to float32 must not move a ratio of exactly 1/4 across
        mass = min(mass, float(assembly.merged[leader]) / MAJOR * (1 - 1e-6), float(merged[major].min()) / MAJOR)
    return mass


def _satellite_masses(assembly: Assembly, timeline: Timeline, gone: Index, branch: Index, snapshot: Index) -> Array:
    """Stellar masses of satellites, Msun: they rise as the 1.5th power of time and are largest when last seen."""
    lookback, origin = timeline.lookback, EARLIEST + 0.1
    share = (origin - lookback[snapshot]) / (origin - lookback[gone[branch] - 1])
    return np.asarray(assembly.merged[branch] * share**1.5)


class Numbering:
    """Numbers of subhaloes: main branches keep their z = 0 number, satellites follow in the order they are written.

    Parameters
    ----------
    timeline : Timeline
    taken : int
        Numbers below this one belong to main branches.
    """

    def __init__(self, timeline: Timeline, taken: int) -> None:
        self.used = np.full(len(timeline.redshift), taken)

    def give(self, tree: Tree, subhalo: int) -> Index:
        """Return the numbers (r,) of a tree's rows, unique in their snapshot; ``subhalo`` is its main branch's."""
        numbers = np.full(len(tree.snapshot), subhalo)
        other = tree.merger >= 0
        snapshot = tree.snapshot[other]
        order = np.argsort(snapshot, kind="stable")
        counts = np.bincount(snapshot, minlength=len(self.used))
        rank = np.empty(len(snapshot), dtype=np.int64)
        rank[order] = np.arange(len(snapshot)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers[other] = self.used[snapshot] + rank
        self.used += counts
        return numbers
