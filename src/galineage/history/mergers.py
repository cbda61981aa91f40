"""Mergers on the main branch of a tree, and the statistics of them that networks infer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.trees import Tree

    Array = NDArray[Any]

__all__ = ["MAJOR", "Mergers", "find_mergers", "statistics"]

MAJOR = 0.25
"""Stellar mass ratio from which a merger is major (Rodriguez-Gomez+2015)."""


@dataclass(frozen=True)
class Mergers:
    """Completed mergers of a galaxy, most recent first.

    Attributes
    ----------
    secondary : array (m,) of int
        Row in the tree of the secondary at its last appearance.
    time : array (m,), Gyr
        Lookback time, from the galaxy's own redshift, of the snapshot in which the two are one.
    ratio : array (m,)
        Stellar mass of the secondary over that of the primary, both when the secondary was most massive. Above 1 if
        the secondary was the larger one then.
    mstar : array (m,), Msun
        Largest stellar mass of the secondary.
    """

    secondary: Array
    time: Array
    ratio: Array
    mstar: Array

    def __len__(self) -> int:
        """Return the number of mergers."""
        return len(self.secondary)


def find_mergers(tree: Tree, row: int, ages: Array, least: float = 0.0) -> Mergers:
    """Walk a main branch and list what merged onto it (Rodriguez-Gomez+2015, section 2.3).

    Parameters
    ----------
    tree : Tree
        With all progenitors of the galaxy.
    row : int
        The galaxy.
    ages : array (snapshots,), Gyr
        Age of the universe at every snapshot.
    least : float, Msun
        Secondaries that never had more stars are left out.

    Returns
    -------
    Mergers
        A secondary that reaches its largest mass before the main branch begins, or when the primary has no stars, has
        an unknown ratio and is left out.

    Raises
    ------
    DataError
        If the tree has not all progenitors, or a snapshot has no age.
    """
    branch = tree.main_branch(row)
    everything = tree.progenitors(row)
    if int(tree.snapshot[everything].max()) >= len(ages):
        raise DataError(f"snapshot {tree.snapshot[everything].max()} has no age", expected=f"{len(ages)} snapshots")
    on_branch = np.zeros(int(everything[-1]) + 1, dtype=bool)
    on_branch[branch] = True
    primary = dict(zip(tree.snapshot[branch].tolist(), branch.tolist(), strict=True))
    place = {int(number): int(where) for number, where in zip(tree.id[branch], branch, strict=True)}
    found = []
    for secondary in everything[~on_branch[everything]]:
        target = place.get(int(tree.descendant[secondary]))
        if target is None:
            continue
        own = tree.main_branch(int(secondary))
        best = int(own[np.argmax(tree.mstar[own])])
        mass, other = float(tree.mstar[best]), primary.get(int(tree.snapshot[best]))
        if mass <= least or other is None or not tree.mstar[other] > 0:
            continue
        time = float(ages[tree.snapshot[row]] - ages[tree.snapshot[target]])
        found.append((int(secondary), time, mass / float(tree.mstar[other]), mass))
    found.sort(key=lambda one: (one[1], one[0]))
    columns = np.array(found, dtype=np.float64).reshape(-1, 4).T
    return Mergers(columns[0].astype(np.int64), columns[1], columns[2], columns[3])


def statistics(mergers: Mergers, major: float = MAJOR) -> dict[str, float]:
    """Reduce mergers to the numbers of a galaxy's history.

    Parameters
    ----------
    mergers : Mergers
    major : float
        Ratio from which a merger is major, either way round.

    Returns
    -------
    dict of str to float
        ``n_major``; ``t_last_major`` (Gyr) and ``mstar_last_major`` (Msun), NaN: never; ``t_mean_merger`` (Gyr) and
        ``mu_mean_merger``, means weighted by the secondary's largest mass (Rodriguez-Gomez+2017), NaN without mergers.
        Ratios above 1 count as their inverse: which of two is the primary is the tree's choice.
    """
    ratio = np.minimum(mergers.ratio, 1 / np.maximum(mergers.ratio, 1e-30))
    large = np.flatnonzero(ratio >= major)
    total = float(mergers.mstar.sum())
    last = int(large[0]) if len(large) else None
    return {
        "n_major": float(len(large)),
        "t_last_major": np.nan if last is None else float(mergers.time[last]),
        "mstar_last_major": np.nan if last is None else float(mergers.mstar[last]),
        "t_mean_merger": float(mergers.mstar @ mergers.time / total) if total > 0 else np.nan,
        "mu_mean_merger": float(mergers.mstar @ ratio / total) if total > 0 else np.nan,
    }
