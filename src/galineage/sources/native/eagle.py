"""EAGLE snapshots: units and exponents from the files themselves, membership by group numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cosmology import Cosmology
from galineage.errors import DataError, FileFormatError, GalineageError
from galineage.galaxy import Catalogue, Skip
from galineage.sources.native.files import attributes, number, opened, part
from galineage.sources.native.rows import ages_of, nearest
from galineage.sources.native.selection import Selection
from galineage.stars import Galaxy, Stars, half_mass_radius

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import h5py
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["EagleGalaxy", "EagleSource", "shrinking_centre"]

UNBOUND = 2**30
"""Subgroup number of particles that belong to no subhalo."""

_CGS = {"length": 3.085678e21, "velocity": 1e5, "mass": 1.989e33}
"""cm in a kpc, cm/s in a km/s, g in a Msun, as the files have them (group ``Constants``), so that they cancel."""

_FIELDS = {
    "Coordinates": "length",
    "Velocity": "velocity",
    "Mass": "mass",
    "InitialMass": "mass",
    "StellarFormationTime": "",
    "Metallicity": "",
    "SmoothedMetallicity": "",
    "SmoothingLength": "length",
    "ParticleIDs": "",
}
_NEEDED = ("Coordinates", "Velocity", "Mass", "StellarFormationTime")


@dataclass(frozen=True)
class EagleGalaxy:
    """What the database says of a galaxy, in registry units.

    Attributes
    ----------
    id : str
        GalaxyID.
    group, subgroup : int
        GroupNumber and SubGroupNumber in the snapshot.
    centre, velocity : array (3,), kpc and km/s, or None
        Physical position of the potential minimum, peculiar velocity. None: found from the stars.
    r_half : float, kpc, or None
        3-D stellar half-mass radius. None: measured on the stars.
    root : str or None
        The z = 0 descendant.
    truth : mapping of str to float
        Targets and catalogue values by field name.
    """

    id: str
    group: int
    subgroup: int
    centre: Array | None = None
    velocity: Array | None = None
    r_half: float | None = None
    root: str | None = None
    truth: Mapping[str, float] | None = None


class EagleSource:
    """An EAGLE snapshot, or a part of one, on disk.

    Parameters
    ----------
    path : path
        Folder with the files of one snapshot (``snap_028_z000p000.0.hdf5`` and so on), or one such file.
    domain : str
        What the run is called.
    table : sequence of EagleGalaxy, optional
        Galaxies as the database has them. Default: every subgroup in the files, with centre, velocity and radius
        found from its stars, and ``group-subgroup`` as its id.

    Raises
    ------
    FileFormatError
        If there is no file.
    """

    def __init__(
        self, path: str | os.PathLike[str], domain: str = "EAGLE", table: Sequence[EagleGalaxy] | None = None
    ) -> None:
        self.domain, self.path = domain, Path(path)
        self._table = None if table is None else tuple(table)
        if self.path.is_dir():
            found = [file for file in self.path.iterdir() if re.fullmatch(r"snap_\d+_z\d+p\d+\.\d+\.hdf5", file.name)]
            self.files = tuple(sorted(found, key=lambda file: int(file.name.split(".")[-2])))
        else:
            self.files = (self.path,)
        if not self.files:
            raise FileFormatError(
                "the folder holds no EAGLE snapshot", where=str(path), expected="snap_028_z000p000.0.hdf5 and so on"
            )

    @property
    def name(self) -> str:
        """What messages and reports call it."""
        return f"{self.domain}, {self.path.name}"

    @cached_property
    def _header(self) -> dict[str, Any]:
        with opened(self.files[0]) as file:
            return attributes(file)

    @cached_property
    def cosmology(self) -> Cosmology:
        """Cosmology of the header."""
        where = self.files[0]
        return Cosmology(number(self._header, "HubbleParam", where), number(self._header, "Omega0", where))

    @property
    def scale_factor(self) -> float:
        """Scale factor of the snapshot."""
        a = number(self._header, "Time", self.files[0])
        return 1.0 if abs(a - 1) < 1e-6 else a

    @property
    def snapshot(self) -> int | None:
        """Number of the snapshot, if the files tell it by header or name."""
        if "ExtractedFromSnapshot" in self._header:
            return int(self._header["ExtractedFromSnapshot"])
        match = re.match(r"snap_(\d+)_z", self.files[0].name)
        return int(match[1]) if match else None

    @cached_property
    def table(self) -> tuple[EagleGalaxy, ...]:
        """The galaxies, of the database or all subgroups of the files."""
        if self._table is not None:
            return self._table
        keys = [np.unique(self._keys(path)) for path in self.files]
        every = np.unique(np.concatenate(keys))
        every = every[(every % 2**31 != UNBOUND) & (every >= 0)]
        return tuple(EagleGalaxy(f"{key >> 31}-{key % 2**31}", int(key >> 31), int(key % 2**31)) for key in every)

    def catalogue(self, selection: Selection | None = None) -> Catalogue:
        """Select galaxies of the table.

        Parameters
        ----------
        selection : Selection, optional
            Default: stellar mass above 1e10 Msun. Galaxies whose mass or fraction the table does not tell are taken.

        Returns
        -------
        Catalogue
            ``snapshot`` if the files tell, and those truths that every galaxy has; ``root`` if it is known for all.
        """
        chosen = selection or Selection()
        mass = np.array([(one.truth or {}).get("mstar", np.inf) for one in self.table])
        f_ex = np.array([(one.truth or {}).get("f_ex", np.nan) for one in self.table])
        outside = (f_ex < chosen.f_ex_min) | (f_ex >= chosen.f_ex_max)
        heavy = mass > chosen.mstar_min
        kept = [one for one, use in zip(self.table, heavy & ~outside, strict=True) if use]
        skipped = tuple(
            Skip(int(k), self.table[k].id, "f_ex", str(f_ex[k]), "outside the range of f_ex")
            for k in np.flatnonzero(heavy & outside)
        )
        shared = set.intersection(*(set(one.truth or {}) for one in kept)) if kept else set()
        columns: dict[str, Any] = {
            name: np.array([(one.truth or {})[name] for one in kept], dtype=np.float64) for name in sorted(shared)
        }
        if self.snapshot is not None:
            columns["snapshot"] = np.full(len(kept), self.snapshot)
        roots = [one.root for one in kept]
        root = None if None in roots else np.array(roots, dtype=str)
        ids = np.array([one.id for one in kept], dtype=str)
        return Catalogue(columns, ids, np.full(len(kept), self.domain), root, skipped, {"file": str(self.path)})

    def __reduce__(self) -> tuple[Any, ...]:
        return (EagleSource, (str(self.path), self.domain, self._table))

    def _keys(self, path: Path) -> NDArray[np.int64]:
        """Group and subgroup of every star of a file in one number; -1 for stars of no group."""
        with opened(path) as file:
            promised = np.asarray(attributes(file).get("NumPart_ThisFile", 0))
            if "PartType4" not in file and promised.size == 6 and not promised[4]:
                return np.zeros(0, dtype=np.int64)
            count = len(file["PartType4/GroupNumber"]) if "PartType4/GroupNumber" in file else 0
            group = part(file, "PartType4/GroupNumber", 0, count).astype(np.int64)
            subgroup = part(file, "PartType4/SubGroupNumber", 0, count).astype(np.int64)
        return np.where((group >= 0) & (subgroup >= 0), (group << 31) + subgroup, -1)

    def galaxies(self, ids: Iterable[Any] | None = None) -> Iterator[Galaxy | Skip]:
        """Read the stars of galaxies: the numbers of groups first, then each file once.

        Parameters
        ----------
        ids : iterable of str or int, optional
            GalaxyIDs; default: all of the table.

        Yields
        ------
        Galaxy or Skip
            As soon as the last file with stars of a galaxy is read. One that cannot be read is a `Skip`.

        Raises
        ------
        DataError
            If the table has no such galaxy.
        """
        known = {one.id: one for one in self.table}
        names = list(known) if ids is None else [str(one) for one in ids]
        for name in names:
            if name not in known:
                raise DataError(f"there is no galaxy {name}", where=self.name, expected="one of the table")
        by_key = {(known[name].group << 31) + known[name].subgroup: known[name] for name in names}
        keys = np.array(sorted(by_key), dtype=np.int64)
        members = [_members(self._keys(path), keys) for path in self.files]
        left = np.sum([[len(rows) for rows in one] for one in members], axis=0)
        held: dict[int, list[dict[str, Any]]] = {}
        for empty in np.flatnonzero(left == 0):
            yield self._skip(by_key[int(keys[empty])], 0, "it has no stars")
        for path, mine in zip(self.files, members, strict=True):
            here = [k for k, rows in enumerate(mine) if len(rows)]
            for k, found in zip(here, self._read(path, [mine[k] for k in here]), strict=True):
                held.setdefault(k, []).append(found)
                left[k] -= len(mine[k])
                if not left[k]:
                    yield self._made(by_key[int(keys[k])], held.pop(k))

    def _read(self, path: Path, rows: Sequence[NDArray[np.int64]]) -> list[dict[str, Any]]:
        """Datasets of some galaxies of a file, in kpc, km/s, Msun; in place of them the error that prevents it."""
        if not rows:
            return []
        try:
            with opened(path) as file:
                low, high = min(int(one[0]) for one in rows), max(int(one[-1]) for one in rows) + 1
                read = {name: self._column(file, name, kind, low, high) for name, kind in _FIELDS.items()}
        except FileFormatError as error:
            return [{"error": error} for _ in rows]
        present = {name: values for name, values in read.items() if values is not None}
        return [{name: values[one - low] for name, values in present.items()} for one in rows]

    def _column(self, file: h5py.File, name: str, kind: str, low: int, high: int) -> NDArray[Any] | None:
        path = f"PartType4/{name}"
        if path not in file:
            return None
        values = part(file, path, low, high)
        if not kind:
            return values
        own = {key: np.asarray(value).reshape(-1)[0] for key, value in file[path].attrs.items() if np.size(value) == 1}
        powers = [number(own, key, f"{file.filename}, {path}") for key in ("aexp-scale-exponent", "h-scale-exponent")]
        unit = number(own, "CGSConversionFactor", f"{file.filename}, {path}")
        factor = unit / _CGS[kind] * self.scale_factor ** powers[0] * self.cosmology.h ** powers[1]
        return np.asarray(np.multiply(values, factor, dtype=np.float64))

    def _skip(self, one: EagleGalaxy, stars: int, reason: str) -> Skip:
        return Skip(-1, one.id, "stars", str(stars), reason)

    def _made(self, one: EagleGalaxy, parts: Sequence[dict[str, Any]]) -> Galaxy | Skip:
        try:
            for item in parts:
                if "error" in item:
                    raise item["error"]
            shared = [name for name in parts[0] if all(name in other for other in parts)]
            return self._galaxy(one, {name: np.concatenate([item[name] for item in parts]) for name in shared})
        except GalineageError as error:
            return self._skip(one, sum(len(item.get("Mass", ())) for item in parts), str(error))

    def _galaxy(self, one: EagleGalaxy, rows: Mapping[str, NDArray[Any]]) -> Galaxy:
        absent = [name for name in _NEEDED if name not in rows]
        if absent:
            raise FileFormatError(f"PartType4 has no {', '.join(absent)}", where=str(self.path))
        mass = rows["Mass"]
        if not (mass > 0).all():  # before a centre is made with it
            raise DataError(
                f"mass of star {int(np.argmin(mass > 0))} is {mass[~(mass > 0)][0]:g}", expected="above 0 Msun"
            )
        box = number(self._header, "BoxSize", self.files[0]) * 1e3 * self.scale_factor / self.cosmology.h
        centre = one.centre if one.centre is not None else shrinking_centre(rows["Coordinates"], mass, box)
        position = nearest(rows["Coordinates"] - centre, box)
        velocity = one.velocity if one.velocity is not None else mass @ rows["Velocity"] / mass.sum()
        metallicity = rows.get("Metallicity", rows.get("SmoothedMetallicity"))
        stars = Stars(
            position=position,
            velocity=rows["Velocity"] - velocity,
            mass=mass,
            age=ages_of(rows["StellarFormationTime"], self.scale_factor, self.cosmology),
            metallicity=metallicity,
            initial_mass=rows.get("InitialMass"),
            smoothing=rows.get("SmoothingLength"),
            ids=rows.get("ParticleIDs"),
        )
        return Galaxy(
            id=one.id,
            domain=self.domain,
            stars=stars,
            r_half=one.r_half or half_mass_radius(stars),
            redshift=1 / self.scale_factor - 1,
            snapshot=self.snapshot,
            centre=centre,
            velocity=velocity,
            root=one.root,
            truth=dict(one.truth or {}),
            meta={"file": str(self.path), "group": one.group, "subgroup": one.subgroup},
        )


def _members(of_stars: NDArray[np.int64], keys: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each key (k,), ascending."""
    order = np.argsort(of_stars, kind="stable")
    ordered = of_stars[order]
    low, high = np.searchsorted(ordered, keys, side="left"), np.searchsorted(ordered, keys, side="right")
    return [order[a:b] for a, b in zip(low, high, strict=True)]


def shrinking_centre(position: Array, mass: Array, box: float = 0.0, keep: int = 100) -> Array:
    """Find the densest place of a galaxy by spheres that shrink around their centre of mass (Power+2003).

    Parameters
    ----------
    position : array (n, 3), kpc
    mass : array (n,), Msun
    box : float, kpc
        Side of the periodic box; 0: none.
    keep : int
        Stars at which it stops.

    Returns
    -------
    array (3,), kpc
        Inside the box, if there is one.
    """
    near = position - position[0]
    if box > 0:
        near -= box * np.rint(near / box)
    centre = mass @ near / mass.sum()
    radius = float(np.sqrt(((near - centre) ** 2).sum(axis=1)).max())
    while True:
        inside = ((near - centre) ** 2).sum(axis=1) <= radius**2
        if inside.sum() < min(keep, len(mass)) or radius == 0:
            found = position[0] + centre
            return np.asarray(found % box if box > 0 else found)
        centre = mass[inside] @ near[inside] / mass[inside].sum()
        radius *= 0.975
