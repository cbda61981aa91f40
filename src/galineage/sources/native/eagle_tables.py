"""Exports of the EAGLE database: galaxies with their frames, and their merger trees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError, FileFormatError
from galineage.sources.native.eagle import EagleGalaxy
from galineage.trees import Tree

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from galineage.cosmology import Cosmology

    Array = NDArray[Any]

__all__ = ["EagleExport"]

_WHOLE = ("GalaxyID", "DescendantID", "LastProgID", "TopLeafID", "SnapNum", "GroupNumber", "SubGroupNumber")
_REAL = (
    *(f"CentreOfPotential_{axis}" for axis in "xyz"),
    *(f"Velocity_{axis}" for axis in "xyz"),
    "MassType_Star",
    "HalfMassRad_Star",
    "Redshift",
)


@dataclass(frozen=True)
class EagleExport:
    """Rows of the table ``RefL0100N1504_SubHalo``, as the database's web page and ``eagleSqlTools`` save them.

    Attributes
    ----------
    columns : dict of str to array (n,)
        By their names in the database, ordered by ``GalaxyID``.
    domain : str
        What the run is called.
    """

    columns: dict[str, Array]
    domain: str

    @classmethod
    def read(cls, path: str | os.PathLike[str], domain: str = "EAGLE") -> EagleExport:
        """Read a comma-separated export; lines that begin with # are comments.

        Raises
        ------
        FileFormatError
            If it is no table, or lacks one of the columns that are needed.
        """
        from astropy.io import ascii as text

        try:
            content = Path(path).read_text()
            table = text.read(content.splitlines(), format="csv", comment="#", guess=False)
        except (OSError, ValueError, text.InconsistentTableError) as error:
            raise FileFormatError(f"{Path(path).name} is no comma-separated table: {error}", where=str(path)) from error
        if not content.endswith("\n"):
            raise FileFormatError(
                f"{Path(path).name} ends in the middle of a line",
                where=str(path),
                advice="get it again; if it is whole, end its last line",
            )
        absent = [name for name in (*_WHOLE, *_REAL) if name not in table.colnames]
        if absent:
            raise FileFormatError(
                f"the export lacks {', '.join(absent)}", where=str(path), advice="select these columns in the query too"
            )
        try:
            empty = [name for name in (*_WHOLE, *_REAL) if np.ma.getmaskarray(table[name]).any()]
            if empty:
                raise ValueError(f"a cell of {empty[0]} is empty")
            columns = {name: np.asarray(table[name], dtype=np.int64) for name in _WHOLE}
            columns |= {name: np.asarray(table[name], dtype=np.float64) for name in _REAL}
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"a column of {Path(path).name} is not numbers: {error}", where=str(path)) from error
        order = np.argsort(columns["GalaxyID"])
        return cls({name: values[order] for name, values in columns.items()}, domain)

    @cached_property
    def tree(self) -> Tree:
        """The merger trees, without the galaxies that the query left out."""
        found = self.columns
        return Tree(
            id=found["GalaxyID"],
            # the last galaxy of a branch has itself as descendant in the database
            descendant=np.where(found["DescendantID"] == found["GalaxyID"], -1, found["DescendantID"]),
            last_progenitor=found["LastProgID"],
            main_leaf=found["TopLeafID"],
            root=self._roots(),
            snapshot=found["SnapNum"],
            subhalo=found["GalaxyID"],
            mstar=found["MassType_Star"],
            gaps=True,
        )

    def branch(self, id: str) -> tuple[Tree, int]:  # noqa: A002
        """Return the trees and the row of a galaxy in them.

        Raises
        ------
        DataError
            If the export does not have it.
        """
        number = self.columns["GalaxyID"]
        wanted = int(id) if id.isdigit() else -1
        row = int(np.searchsorted(number, wanted))
        if row == len(number) or number[row] != wanted:
            raise DataError(f"galaxy {id} is in no tree of the export", where=self.domain)
        return self.tree, row

    def ages(self, cosmology: Cosmology) -> Array:
        """Age of the universe at every snapshot (snapshots,), Gyr; NaN for one of which the export has no galaxy."""
        numbers, first = np.unique(self.columns["SnapNum"], return_index=True)
        ages = np.full(int(numbers.max(initial=-1)) + 1, np.nan)
        ages[numbers] = cosmology.age(1 / (1 + self.columns["Redshift"][first]))
        return ages

    def _roots(self) -> Array:
        """Return the identifier of every row's final descendant (n,): the one whose progenitors enclose it."""
        number, last = self.columns["GalaxyID"], self.columns["LastProgID"]
        final = np.flatnonzero(self.columns["SnapNum"] == self.columns["SnapNum"].max())
        place = np.searchsorted(number[final], number, side="right") - 1
        inside = (place >= 0) & (number <= last[final][place.clip(0)]) if len(final) else np.zeros(len(number), bool)
        return np.where(inside, number[final][place.clip(0)], -1)

    def galaxies(self, snapshot: int, mstar_min: float = 1e10) -> list[EagleGalaxy]:
        """List the galaxies of a snapshot for `EagleSource`.

        Parameters
        ----------
        snapshot : int
        mstar_min : float, Msun
            Smallest stellar mass.

        Returns
        -------
        list of EagleGalaxy
            Physical kpc (the database has comoving Mpc for positions), km/s, Msun.
        """
        found, roots = self.columns, self._roots()
        rows = np.flatnonzero((found["SnapNum"] == snapshot) & (found["MassType_Star"] > mstar_min))
        centre = np.stack([found[f"CentreOfPotential_{axis}"] for axis in "xyz"], axis=1)
        centre = centre * (1e3 / (1 + found["Redshift"][:, None]))
        velocity = np.stack([found[f"Velocity_{axis}"] for axis in "xyz"], axis=1)
        return [
            EagleGalaxy(
                id=str(found["GalaxyID"][row]),
                group=int(found["GroupNumber"][row]),
                subgroup=int(found["SubGroupNumber"][row]),
                centre=centre[row],
                velocity=velocity[row],
                r_half=float(found["HalfMassRad_Star"][row]) or None,
                root=None if roots[row] < 0 else f"{self.domain}:{roots[row]}",
                truth={"mstar": float(found["MassType_Star"][row])},
            )
            for row in rows
        ]
