"""The subhaloes of a TNG or Illustris group catalogue, in physical units."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cosmology import Cosmology
from galineage.errors import FileFormatError
from galineage.sources.native.files import attributes, number, opened, part

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from galineage.sources.native.tng_layout import TngFolder

    Array = NDArray[Any]

__all__ = ["STARS", "Frame", "MissingChunksWarning", "Subhaloes", "frame_of", "read_subhaloes"]

STARS = 4
"""Particle type of stars and wind."""

_MASS = 1e10


class MissingChunksWarning(UserWarning):
    """Chunks of a group catalogue are not there, and with them the galaxies they hold."""


@dataclass(frozen=True)
class Frame:
    """What a snapshot's numbers must be multiplied with.

    Attributes
    ----------
    scale_factor : float
        a; at z = 0 rounded to 1, as headers miss it by a rounding error.
    box : float
        Side of the periodic box, physical kpc; 0 if the run is not periodic or a cut-out does not say.
    cosmology : Cosmology
    """

    scale_factor: float
    box: float
    cosmology: Cosmology

    @property
    def redshift(self) -> float:
        """Redshift."""
        return 1 / self.scale_factor - 1

    @property
    def length(self) -> float:
        """Physical kpc of one ckpc/h."""
        return self.scale_factor / self.cosmology.h

    @property
    def mass(self) -> float:
        """Msun of one 1e10 Msun/h."""
        return _MASS / self.cosmology.h


def frame_of(header: dict[str, Any], where: object) -> Frame:
    """Read the frame off a TNG or Illustris header (box in ckpc/h)."""
    a = number(header, "Time", where)
    if not 0 < a <= 1.0001:
        raise FileFormatError(f"the header's Time is {a:g}", where=str(where), expected="a scale factor up to 1")
    a = 1.0 if abs(a - 1) < 1e-6 else a
    cosmology = Cosmology(number(header, "HubbleParam", where), number(header, "Omega0", where))
    return Frame(a, number(header, "BoxSize", where) * a / cosmology.h, cosmology)


@dataclass(frozen=True)
class Subhaloes:
    """Subhaloes of the chunks that are there, ordered by number.

    Attributes
    ----------
    id : array (n,) of int
        Subfind number in the snapshot.
    group : array (n,) of int
        Number of the FoF group.
    central : array (n,) of bool
        Whether it is its group's first.
    mstar : array (n,), Msun
        Stars without wind, which the catalogue counts as gas in all masses.
    r_half : array (n,), kpc
        3-D stellar half-mass radius; 0 without stars.
    position, velocity : array (n, 3), kpc and km/s
        Physical position of the potential minimum; peculiar velocity.
    spin : array (n, 3), kpc km/s
        Specific angular momentum of all its matter.
    stars : array (n,) of int
        Particles of type 4, wind among them.
    flag : array (n,) of bool
        False: not of cosmological origin (SubhaloFlag). True where the catalogue has no such column.
    first_star : array (n,) of int
        Row of its first star in the snapshot; -1 if the chunks at hand do not tell.
    total : int
        Subhaloes in the whole catalogue.
    frame : Frame
    """

    id: Array
    group: Array
    central: Array
    mstar: Array
    r_half: Array
    position: Array
    velocity: Array
    spin: Array
    stars: Array
    flag: Array
    first_star: Array
    total: int
    frame: Frame

    def __len__(self) -> int:
        """Return the number of subhaloes."""
        return len(self.id)


_COLUMNS = {
    "mass_type": "SubhaloMassType",
    "radius_type": "SubhaloHalfmassRadType",
    "position": "SubhaloPos",
    "velocity": "SubhaloVel",
    "spin": "SubhaloSpin",
    "length_type": "SubhaloLenType",
    "group": "SubhaloGrNr",
}
_HEADER = (
    *("Time", "HubbleParam", "Omega0", "BoxSize"),
    *("Nsubgroups_Total", "Ngroups_ThisFile", "Nsubgroups_ThisFile"),
)
_GROUP_COLUMNS = {"first": "GroupFirstSub", "subs": "GroupNsubs", "length_type": "GroupLenType"}


def read_subhaloes(folder: TngFolder) -> Subhaloes:
    """Read the group catalogue: every chunk once, only the columns needed.

    Chunks may be empty or absent; a `MissingChunksWarning` says how many subhaloes are absent with them. Numbers of
    subhaloes come from ``GroupFirstSub``, so that a few chunks of a large catalogue are enough to know whose rows they
    hold. The row of the first star comes from the offsets file if there is one, and otherwise from the lengths of
    groups and subhaloes, for which all chunks up to that one are needed.

    Returns
    -------
    Subhaloes
        Rows in the order of the chunks, which is that of their numbers.

    Raises
    ------
    FileFormatError
        If a chunk is damaged, or the lengths of groups and subhaloes contradict each other.
    """
    parts: list[dict[str, Array]] = []
    before: int | None = 0
    frame, total, expected = None, 0, 0
    for chunk, path in sorted(folder.group_files().items()):
        if chunk != expected:
            before = None  # an absent chunk: how many stars lie in its groups is not known
        expected = chunk + 1
        with opened(path) as file:
            header = attributes(file, names=_HEADER)
            frame = frame or frame_of(header, path)
            total = int(number(header, "Nsubgroups_Total", path))
            found, before = _chunk(file, header, path, before)
        if found is not None:
            parts.append(found)
    if frame is None or not parts:
        raise FileFormatError("the group catalogue holds no subhalo", where=str(folder.path))
    joined = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    if len(joined["id"]) < total:
        warnings.warn(
            f"{folder.path}: {total - len(joined['id'])} of {total} subhaloes are in chunks of the group catalogue "
            "that are not there; their galaxies will be missing",
            MissingChunksWarning,
            stacklevel=2,
        )
    return _physical(joined, total, frame, _first_stars(folder, joined))


def _chunk(
    file: h5py.File, header: dict[str, Any], path: Path, before: int | None
) -> tuple[dict[str, Array] | None, int | None]:
    groups = int(number(header, "Ngroups_ThisFile", path))
    count = int(number(header, "Nsubgroups_ThisFile", path))
    group = (
        {name: part(file, f"Group/{dataset}", 0, groups) for name, dataset in _GROUP_COLUMNS.items()} if groups else {}
    )
    stars_of_groups = int(group["length_type"][:, STARS].astype(np.int64).sum()) if groups else 0
    after = None if before is None else before + stars_of_groups
    if not count:
        return None, after
    found = {name: part(file, f"Subhalo/{dataset}", 0, count) for name, dataset in _COLUMNS.items()}
    if "Subhalo/SubhaloFlag" in file:
        found["flag"] = part(file, "Subhalo/SubhaloFlag", 0, count).astype(bool)
    else:
        found["flag"] = np.ones(count, dtype=bool)
    subs, first = group.get("subs", np.zeros(0, int)), group.get("first", np.zeros(0, int))
    if subs.sum() != count:
        raise FileFormatError(
            f"groups say {int(subs.sum())} subhaloes, the header {count}", where=str(path), advice="get the file again"
        )
    rank = np.arange(count) - np.repeat(np.cumsum(subs) - subs, subs)
    found["id"] = np.repeat(first, subs).astype(np.int64) + rank
    found["central"] = rank == 0
    lengths = found["length_type"][:, STARS].astype(np.int64)
    own = np.cumsum(lengths) - lengths
    own -= np.repeat(own[rank == 0], subs[subs > 0])
    all_groups = group["length_type"][:, STARS].astype(np.int64)
    start = np.repeat(np.cumsum(all_groups) - all_groups, subs)
    found["first_star"] = np.full(count, -1) if before is None else before + start + own
    return found, after


def _first_stars(folder: TngFolder, joined: dict[str, Array]) -> Array:
    path = folder.offsets()
    if path is None:
        return joined["first_star"]
    with opened(path) as file:
        offsets = part(file, "Subhalo/SnapByType", 0, int(joined["id"].max()) + 1)
    found = offsets[joined["id"], STARS].astype(np.int64)
    known = joined["first_star"] >= 0
    # a subhalo without stars has no first one: catalogues differ in what they write for it
    wrong = known & (joined["length_type"][:, STARS] > 0) & (found != joined["first_star"])
    if wrong.any():
        raise FileFormatError(
            f"the offset of subhalo {joined['id'][np.argmax(wrong)]} contradicts the lengths of the group catalogue",
            where=str(path),
            advice="get the offsets of this very snapshot",
        )
    return found


def _physical(joined: dict[str, Array], total: int, frame: Frame, first_star: Array) -> Subhaloes:
    wide = {name: values.astype(np.float64) for name, values in joined.items() if values.dtype.kind == "f"}
    return Subhaloes(
        id=joined["id"],
        group=joined["group"].astype(np.int64),
        central=joined["central"],
        mstar=wide["mass_type"][:, STARS] * frame.mass,
        r_half=wide["radius_type"][:, STARS] * frame.length,
        position=wide["position"] * frame.length,
        velocity=wide["velocity"],
        spin=wide["spin"] / frame.cosmology.h,
        stars=joined["length_type"][:, STARS].astype(np.int64),
        flag=joined["flag"],
        first_star=first_star,
        total=total,
        frame=frame,
    )
