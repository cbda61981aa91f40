"""SubLink merger trees of TNG and Illustris: the rows of one galaxy, from local chunks or from a cut-out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError, FileFormatError
from galineage.sources.native.files import opened, part
from galineage.sources.native.tng_groups import STARS
from galineage.trees import Tree

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import h5py
    from numpy.typing import NDArray

    from galineage.sources.native.tng_layout import TngFolder

    Array = NDArray[Any]

__all__ = ["SubLink", "read_tree_cutout"]

_COLUMNS = {
    "id": "SubhaloID",
    "descendant": "DescendantID",
    "last_progenitor": "LastProgenitorID",
    "main_leaf": "MainLeafProgenitorID",
    "root": "RootDescendantID",
    "snapshot": "SnapNum",
    "subhalo": "SubfindID",
}


class SubLink:
    """The trees of a run on disk.

    Parameters
    ----------
    folder : TngFolder
        Of the snapshot whose galaxies are asked for; its offsets file says where each one's rows are.
    mass : float, Msun
        Of one 1e10 Msun/h.

    Raises
    ------
    FileFormatError
        If there are no trees or no offsets.
    """

    def __init__(self, folder: TngFolder, mass: float) -> None:
        self._files, self._mass = folder.trees(), mass
        offsets = folder.offsets()
        if not self._files or offsets is None:
            raise FileFormatError(
                "there are no SubLink trees, or no offsets into them",
                where=str(folder.path),
                expected="postprocessing/trees/SubLink/tree_extended.0.hdf5 and postprocessing/offsets",
            )
        with opened(offsets) as file:
            names = ("RowNum", "SubhaloID", "LastProgenitorID")
            count = len(file[f"Subhalo/SubLink/{names[0]}"]) if f"Subhalo/SubLink/{names[0]}" in file else 0
            self._row, self._id, self._last = (
                part(file, f"Subhalo/SubLink/{name}", 0, count).astype(np.int64) for name in names
            )
        lengths = []
        for path in self._files:
            with opened(path) as file:
                lengths.append(_length(file))
        self._start = np.concatenate([[0], np.cumsum(lengths)])

    def tree(self, number: int) -> Tree:
        """Read all progenitors of a subhalo of the snapshot.

        Raises
        ------
        DataError
            If it is in no tree.
        FileFormatError
            If a chunk is damaged.
        """
        if not 0 <= number < len(self._row) or self._row[number] < 0:
            raise DataError(f"subhalo {number} is in no tree")
        first = int(self._row[number])
        return self._rows(first, first + int(self._last[number] - self._id[number]) + 1)

    def roots(self, numbers: Sequence[int]) -> list[int | None]:
        """Return the identifier of the final descendant of subhaloes; None for those in no tree."""
        found: list[int | None] = [None] * len(numbers)
        rows = np.array([self._row[one] if 0 <= one < len(self._row) else -1 for one in numbers], dtype=np.int64)
        for k, path in enumerate(self._files):
            here = np.flatnonzero((rows >= self._start[k]) & (rows < self._start[k + 1]))
            if not len(here):
                continue
            with opened(path) as file:
                for one in here:
                    row = int(rows[one] - self._start[k])
                    found[one] = int(part(file, "RootDescendantID", row, row + 1)[0])
        return found

    def _rows(self, first: int, stop: int) -> Tree:
        columns: dict[str, Any] = {name: self._column(dataset, first, stop) for name, dataset in _COLUMNS.items()}
        mass = self._column("SubhaloMassType", first, stop)[:, STARS].astype(np.float64) * self._mass
        return Tree(**columns, mstar=mass)

    def _column(self, name: str, first: int, stop: int) -> Array:
        pieces = []
        for k, path in enumerate(self._files):
            low, high = max(first, int(self._start[k])), min(stop, int(self._start[k + 1]))
            if low < high:
                with opened(path) as file:
                    pieces.append(part(file, name, low - int(self._start[k]), high - int(self._start[k])))
        if sum(len(piece) for piece in pieces) != stop - first:
            raise FileFormatError(
                f"rows {first} to {stop} of the trees are not all there", where=str(self._files[0].parent)
            )
        return np.concatenate(pieces)


def read_tree_cutout(path: str | os.PathLike[str], h: float) -> Tree:
    """Read a tree from a file of the TNG web API: a main branch (``mpb``) or all progenitors (``full``).

    Parameters
    ----------
    path : path
        HDF5 file.
    h : float
        Hubble constant in units of 100 km/s/Mpc; the file does not hold it.

    Returns
    -------
    Tree
        With a main branch alone, mergers cannot be found; asking for them says so.

    Raises
    ------
    FileFormatError
        If the file is damaged or no tree.
    """
    with opened(Path(path)) as file:
        count = _length(file)
        columns: dict[str, Any] = {name: part(file, dataset, 0, count) for name, dataset in _COLUMNS.items()}
        mass = part(file, "SubhaloMassType", 0, count)[:, STARS].astype(np.float64) * 1e10 / h
    order = np.argsort(columns["id"])
    columns = {name: values[order] for name, values in columns.items()}
    return Tree(**columns, mstar=mass[order])


def _length(file: h5py.File) -> int:
    if "SubhaloID" not in file:
        raise FileFormatError("there is no SubhaloID", where=file.filename, expected="a SubLink tree")
    return len(file["SubhaloID"])
