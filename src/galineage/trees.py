"""Merger trees as arrays, in the depth-first order that SubLink and EAGLE's D-Trees share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["Tree"]


@dataclass(frozen=True)
class Tree:
    """Subhaloes of one or more merger trees, a row each.

    Identifiers run depth first (Lemson & Springel 2006): the progenitors of a row, all of them, follow it without a gap
    up to its last progenitor, and its main branch up to its main leaf.

    Attributes
    ----------
    id : array (n,) of int
        Identifier in the tree, ascending.
    descendant : array (n,) of int
        Identifier of the descendant; -1: none.
    last_progenitor, main_leaf : array (n,) of int
        Identifiers of the last of all progenitors, and of the last on the main branch.
    root : array (n,) of int
        Identifier of the final descendant.
    snapshot : array (n,) of int
        Number of the snapshot.
    subhalo : array (n,) of int
        Number (Subfind) or identifier (EAGLE) in that snapshot.
    mstar : array (n,), Msun
        Stellar mass.
    gaps : bool
        Whether rows may be missing between others, as in an export of the galaxies above some mass. Without gaps a tree
        that is not complete is told from one that is.

    Raises
    ------
    DataError
        If lengths differ, identifiers do not ascend, or a link leaves its own tree.
    """

    id: Array
    descendant: Array
    last_progenitor: Array
    main_leaf: Array
    root: Array
    snapshot: Array
    subhalo: Array
    mstar: Array
    gaps: bool = False

    def __post_init__(self) -> None:
        for item in fields(self)[:-1]:
            values = np.array(getattr(self, item.name), dtype=np.float64 if item.name == "mstar" else np.int64)
            if values.shape != (len(self.id),):
                raise DataError(f"{item.name} of the tree has shape {values.shape}", expected=f"({len(self.id)},)")
            values.setflags(write=False)
            object.__setattr__(self, item.name, values)
        if (np.diff(self.id) <= 0).any():
            raise DataError("identifiers of the tree do not ascend", advice="sort the rows by identifier")
        if not (np.isfinite(self.mstar) & (self.mstar >= 0)).all():
            raise DataError("stellar masses of the tree are not finite and positive")
        if ((self.main_leaf < self.id) | (self.last_progenitor < self.main_leaf)).any():
            row = int(np.argmax((self.main_leaf < self.id) | (self.last_progenitor < self.main_leaf)))
            raise DataError(f"the progenitors of {self.id[row]} are not in depth-first order")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.id)

    def find(self, snapshot: int, subhalo: int) -> int:
        """Return the row of a subhalo of a snapshot.

        Raises
        ------
        DataError
            If the tree does not have it.
        """
        rows = np.flatnonzero((self.snapshot == snapshot) & (self.subhalo == subhalo))
        if not len(rows):
            raise DataError(f"subhalo {subhalo} of snapshot {snapshot} is in no tree at hand")
        return int(rows[0])

    def main_branch(self, row: int) -> Array:
        """Return the row numbers (k,) of the main branch of a row, itself first, back in time; indices, no unit.

        Raises
        ------
        DataError
            If the rows at hand do not hold all of it.
        """
        return self._run(row, int(self.main_leaf[row]))

    def progenitors(self, row: int) -> Array:
        """Return the row numbers (k,) of all progenitors of a row, itself first; indices, no unit."""
        return self._run(row, int(self.last_progenitor[row]))

    def _run(self, row: int, last: int) -> Array:
        stop = int(np.searchsorted(self.id, last, side="right"))
        if self.gaps:
            return np.arange(row, stop)
        if self.id[stop - 1] != last or stop - row != last - self.id[row] + 1:
            raise DataError(
                f"progenitors of {self.id[row]} up to {last} are not all at hand", advice="read the whole tree of it"
            )
        return np.arange(row, stop)
