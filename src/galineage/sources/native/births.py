"""Where stars were first seen: the table that tells in-situ from accreted stars where no catalogue does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import FileFormatError
from galineage.sources.native.files import opened, part

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["StarBirths"]

_COLUMNS = {"ids": "ParticleIDs", "snapshot": "SnapNumAtFormation", "galaxy": "GalaxyIDAtFormation"}


@dataclass(frozen=True)
class StarBirths:
    """The first snapshot of each star, and the galaxy it was in.

    Attributes
    ----------
    ids : array (n,) of int
        Particle identifiers, ascending.
    snapshot, galaxy : array (n,) of int
        Number of the snapshot; identifier of the galaxy in it, as the tree has it; -1: outside all galaxies.
    """

    ids: Array
    snapshot: Array
    galaxy: Array

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> StarBirths:
        """Read an HDF5 file with ``ParticleIDs``, ``SnapNumAtFormation`` and ``GalaxyIDAtFormation``.

        `galineage.history.birthplaces` finds these numbers in a run's snapshots. All of the file is held in memory: 18
        bytes for each star.

        Raises
        ------
        FileFormatError
            If the file is absent or damaged, lengths differ, or a star occurs twice.
        """
        with opened(Path(path)) as file:
            sizes = {name: len(file[name]) if name in file else 0 for name in _COLUMNS.values()}
            if len(set(sizes.values())) > 1:
                raise FileFormatError(f"datasets have different lengths: {sizes}", where=str(path))
            found = {key: part(file, name, 0, sizes[name]) for key, name in _COLUMNS.items()}
        order = np.argsort(found["ids"], kind="stable")
        ids = found["ids"][order]
        if len(ids) and (ids[1:] == ids[:-1]).any():
            raise FileFormatError("a particle identifier occurs twice", where=str(path))
        return cls(ids, found["snapshot"][order], found["galaxy"][order])

    def of(self, ids: Array) -> tuple[Array, Array]:
        """Return snapshot and galaxy of birth of stars (n,) by their identifiers; -1, -1 for a star not listed."""
        if not len(self.ids):
            return np.full(len(ids), -1), np.full(len(ids), -1)
        # signed beside unsigned numbers would be compared as floats, which know 53 bits
        ids = np.asarray(ids).astype(self.ids.dtype, copy=False)
        place = np.searchsorted(self.ids, ids).clip(0, len(self.ids) - 1)
        known = self.ids[place] == ids
        return np.where(known, self.snapshot[place], -1), np.where(known, self.galaxy[place], -1)
