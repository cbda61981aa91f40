"""The small files beside a toy snapshot: group catalogue, offsets, stellar assembly per galaxy, merger history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from galineage.atomic import writing
from galineage.stars import specific_spin
from galineage.toy.hdf5_tables import cuts
from galineage.toy.mergers import MAJOR
from galineage.toy.observables import circular_velocity
from galineage.toy.particles import known
from galineage.toy.snapshots import TNG

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from galineage.stars import Stars
    from galineage.toy.box import Item, Plan
    from galineage.toy.particles import ToyGalaxy
    from galineage.toy.trees import Tree

    Array = NDArray[np.float64]

__all__ = ["BOX_SIDE", "Catalogues", "merger_history", "simulation_header", "write_catalogues"]

BOX_SIDE = 75_000.0
"""Side of the box, ckpc/h."""

MINOR = 0.1
"""Stellar mass ratio from which a merger is at least minor (Rodriguez-Gomez+2015)."""

_H = TNG.hubble
_MASS = _H / 1e10
_NOW = len(TNG.redshift) - 1

_SINCE = {
    "Last250Myr": 0.25,
    "Last500Myr": 0.5,
    "LastGyr": 1.0,
    "Last2Gyr": 2.0,
    "Last5Gyr": 5.0,
    "SinceRedshiftOne": 7.9249,
    "SinceRedshiftTwo": 10.5187,
    "Total": 20.0,
}
"""Spans of the merger counts, Gyr before z = 0."""


def simulation_header() -> dict[str, Any]:
    """Header attributes that snapshot and group catalogue share."""
    return {
        "BoxSize": BOX_SIDE,
        "HubbleParam": _H,
        "Omega0": TNG.omega_matter,
        "OmegaLambda": 1 - TNG.omega_matter,
        "Redshift": 0.0,
        "Time": 1.0,
        "Git_commit": np.bytes_("unknown"),
    }


class Catalogues:
    """Rows of all small catalogues, gathered while particles are written: a few hundred bytes per galaxy."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.subhalos = _Table(plan.subhalos)
        self.groups = _Table(plan.groups)
        self.assembly = _Table(plan.subhalos)
        self.history = _Table(plan.subhalos)
        self.toy = _Table(plan.subhalos)
        self.links = _Table(plan.subhalos)

    def add_dark(self, item: Item) -> None:
        """Add a halo without stars."""
        self._subhalo(item, flag=True, dark=1e11 * _MASS)

    def add_wind(self, item: Item, mass: float) -> None:
        """Add wind mass, 1e10 Msun/h: it counts as gas."""
        if item.subhalo >= 0:
            row = self.subhalos.row(item.subhalo)
            row["SubhaloWindMass"] = mass
            row["SubhaloMassType"][0] += mass
        if item.group >= 0:
            row = self.groups.row(item.group)
            row["GroupWindMass"] = row.get("GroupWindMass", 0.0) + mass
            self._group_mass(item, 0, mass)

    def add_loose(self, item: Item, stars: Stars) -> None:
        """Add the stars of a clump or of the fuzz."""
        mass = float(stars.mass.sum()) * _MASS
        if item.kind == "clump":
            self._subhalo(item, flag=False, dark=0.0)
            self._stars(item, stars, _radius(stars))
        if item.group >= 0:
            self._group_mass(item, 4, mass)
            if item.kind == "fuzz":
                self._group_row(item)

    def add_galaxy(
        self, item: Item, toy: ToyGalaxy, tree: Tree, after: NDArray[np.bool_], tree_row: int, base: int
    ) -> None:
        """Add a galaxy to every catalogue.

        Parameters
        ----------
        item : Item
        toy : ToyGalaxy
        tree : Tree
        after : array (n,) of bool
            Whether each star formed after the infall of the galaxy it formed in.
        tree_row : int
            Row of its tree's first row among all tree files.
        base : int
            SubhaloID of that row.
        """
        stars = toy.galaxy.stars
        self._subhalo(item, flag=True, dark=toy.assembly.halo_mass * _MASS)
        self._stars(item, stars, toy.galaxy.r_half)
        self.subhalos.row(item.subhalo)["SubhaloVmax"] = float(circular_velocity(np.array(toy.assembly.mstar)))
        self._group_mass(item, 4, float(stars.mass.sum()) * _MASS)
        if self.plan.firsts[item.group] == item.subhalo:
            halo = toy.assembly.halo_mass
            radius = (halo / 1e12) ** (1 / 3) * 206.0  # 200 times the critical density of today
            self.groups.row(item.group).update({"Group_M_Crit200": halo * _MASS, "Group_R_Crit200": radius * _H})
        self.assembly.row(item.subhalo).update(_assembly_columns(toy, tree, after))
        self.history.row(item.subhalo).update(merger_history(tree))
        self.links.row(item.subhalo).update(
            {"RowNum": tree_row, "LastProgenitorID": base + len(tree.snapshot) - 1, "SubhaloID": base}
        )
        truth = {name: value for name, value in toy.galaxy.truth.items() if name != "central"}
        self.toy.row(item.subhalo).update({"galaxy": item.galaxy, **truth, "central": toy.assembly.central})

    def _subhalo(self, item: Item, flag: bool, dark: float) -> None:
        lengths = np.zeros(6, dtype=np.int32)
        lengths[4] = item.stars + item.wind
        masses = np.zeros(6)
        masses[1] = dark
        self.subhalos.row(item.subhalo).update(
            {
                "SubhaloFlag": flag,
                "SubhaloGrNr": item.group,
                "SubhaloLen": lengths[4],
                "SubhaloLenType": lengths,
                "SubhaloMassType": masses,
                "SubhaloPos": item.centre * _H,
                "SubhaloVel": item.velocity,
            }
        )
        self._group_mass(item, 1, dark)
        self._group_row(item)

    def _stars(self, item: Item, stars: Stars, r_half: float) -> None:
        row = self.subhalos.row(item.subhalo)
        row.update(_star_columns(item, stars, r_half))
        row["SubhaloMassType"][4] = float(stars.mass.sum()) * _MASS

    def _group_row(self, item: Item) -> None:
        row = self.groups.row(item.group)
        row.setdefault("GroupPos", item.centre * _H)
        row.setdefault("GroupVel", item.velocity)
        row["GroupFirstSub"] = self.plan.firsts[item.group]
        row["GroupNsubs"] = row.get("GroupNsubs", 0) + (item.subhalo >= 0)
        lengths = row.setdefault("GroupLenType", np.zeros(6, dtype=np.int32))
        lengths[4] += item.stars + item.wind

    def _group_mass(self, item: Item, kind: int, mass: float) -> None:
        self.groups.row(item.group).setdefault("GroupMassType", np.zeros(6))[kind] += mass


class _Table:
    """Rows that are filled one by one and become columns in the end."""

    def __init__(self, rows: int) -> None:
        self._rows: list[dict[str, Any]] = [{} for _ in range(rows)]

    def row(self, number: int) -> dict[str, Any]:
        return self._rows[number]

    def columns(self, types: dict[str, tuple[Any, Any]]) -> dict[str, NDArray]:
        """Columns of the given types; a row that lacks a value gets the second of each pair."""
        return {
            name: np.array([row.get(name, missing) for row in self._rows], dtype=kind)
            for name, (kind, missing) in types.items()
        }


def _radius(stars: Stars) -> float:
    return float(np.median(np.linalg.norm(stars.position, axis=1)))


def _star_columns(item: Item, stars: Stars, r_half: float) -> dict[str, Any]:
    """Measure on the stars what Subfind does, in the units of the catalogue."""
    radius = np.linalg.norm(stars.position, axis=1)
    total = float(stars.mass.sum())
    sizes, within, inner = np.zeros(6), np.zeros(6), np.zeros(6)
    sizes[4] = r_half * _H
    within[4] = float(stars.mass[radius <= 2 * r_half].sum()) * _MASS
    inner[4] = float(stars.mass[radius <= r_half].sum()) * _MASS
    metals = stars.mass * np.asarray(stars.metallicity)
    near = radius <= 2 * r_half
    motion = known(stars.velocity)
    mean = stars.mass @ motion / total
    spread = motion - mean
    return {
        "SubhaloHalfmassRadType": sizes,
        "SubhaloMassInRadType": within,
        "SubhaloMassInHalfRadType": inner,
        "SubhaloSpin": specific_spin(stars) * _H,
        "SubhaloCM": (item.centre + stars.mass @ stars.position / total) * _H,
        "SubhaloVel": item.velocity + mean,
        "SubhaloVelDisp": float(np.sqrt(stars.mass @ np.einsum("ij,ij->i", spread, spread) / total / 3)),
        "SubhaloStarMetallicity": float(metals[near].sum() / stars.mass[near].sum()),
        "SubhaloIDMostbound": int(np.asarray(stars.ids)[0]),
    }


def _assembly_columns(toy: ToyGalaxy, tree: Tree, after: NDArray[np.bool_]) -> dict[str, float]:
    """Masses of `StellarAssembly`, 1e10 Msun/h: every accreted star of the toy came in a completed merger."""
    mass, brought = toy.galaxy.stars.mass * _MASS, toy.merger >= 0
    ratio = np.append(tree.mergers.ratio, -1.0)[np.where(brought, toy.merger, -1)]
    accreted = float(mass[brought].sum())
    return {
        "StellarMassTotal": float(mass.sum()),
        "StellarMassInSitu": float(mass[~brought].sum()),
        "StellarMassExSitu": accreted,
        "StellarMassBeforeInfall": float(mass[brought & ~after].sum()),
        "StellarMassAfterInfall": float(mass[brought & after].sum()),
        "StellarMassFromCompletedMergers": accreted,
        "StellarMassFromCompletedMergersMajor": float(mass[ratio >= MAJOR].sum()),
        "StellarMassFromCompletedMergersMajorMinor": float(mass[ratio >= MINOR].sum()),
    }


_ASSEMBLY = (
    "StellarMassTotal",
    "StellarMassInSitu",
    "StellarMassExSitu",
    "StellarMassBeforeInfall",
    "StellarMassAfterInfall",
    "StellarMassFormedOutsideGalaxies",
    *(
        f"StellarMassFrom{kind}{ratio}"
        for kind in ("CompletedMergers", "OngoingMergers", "Flybys")
        for ratio in ("", "Major", "MajorMinor")
    ),
)


def merger_history(tree: Tree) -> dict[str, Any]:
    """Merger statistics as a walk along the tree finds them.

    A merger counts for the first snapshot at which the satellite is gone; its ratio is that of the stellar masses in
    the snapshot at which the satellite was heaviest. Means are weighted by the satellites' largest masses.

    Parameters
    ----------
    tree : Tree

    Returns
    -------
    dict
        Names of `MergerHistory`; masses in 1e10 Msun/h, times in Gyr; snapshot -1 and mass -1: there was none.
    """
    found: dict[str, Any] = {}
    mergers = tree.mergers
    ratio, past = mergers.ratio.astype(np.float32), TNG.lookback[mergers.snapshot]
    for name, low, high in (("Major", MAJOR, np.inf), ("Minor", MINOR, MAJOR), ("", 0.0, np.inf)):
        which = (ratio >= low) & (ratio < high)
        # of several between the same two snapshots the heaviest: a tree does not tell which came last
        last = int(np.lexsort((mergers.peak, np.where(which, mergers.snapshot, -1)))[-1]) if which.any() else -1
        found[f"SnapNumLast{name}Merger"] = int(mergers.snapshot[last]) if which.any() else -1
        found[f"SnapNumNext{name}Merger"] = -1
        found[f"MassLast{name}Merger"] = float(mergers.peak[last]) * _MASS if which.any() else -1.0
        for span, length in _SINCE.items():
            found[f"Num{name}Mergers{span}"] = int((which & (past <= length)).sum())
    weight = mergers.peak / max(float(mergers.peak.sum()), 1e-30)
    some = len(weight) > 0
    found["MeanLookbackTime"] = float(weight @ past) if some else -1.0
    found["MeanMassRatio"] = float(weight @ mergers.ratio) if some else -1.0
    return found


def write_catalogues(base: Path, catalogues: Catalogues, edges: NDArray[np.int64], chunks: int) -> None:
    """Write group catalogue, offsets, ``galaxies_099``, merger histories and the toy's own truth.

    Parameters
    ----------
    base : path
    catalogues : Catalogues
        Filled.
    edges : array (chunks + 1,) of int
        First particle of each snapshot chunk.
    chunks : int

    Raises
    ------
    FileFormatError
        If a file cannot be written.
    """
    post = base / "postprocessing"
    groups, subhalos = _catalogue_columns(catalogues)
    group_edges = cuts(len(groups["GroupFirstSub"]), chunks)
    firsts = np.append(np.cumsum(groups["GroupNsubs"]) - groups["GroupNsubs"], len(subhalos["SubhaloFlag"]))
    subhalo_edges = firsts[group_edges]
    for chunk in range(chunks):
        path = base / "output" / "groups_099" / f"fof_subhalo_tab_099.{chunk}.hdf5"
        with writing(path) as temporary, h5py.File(temporary, "w") as file:
            _write_chunk(file, groups, subhalos, group_edges, subhalo_edges, chunk)
    _write_offsets(post / "offsets" / "offsets_099.hdf5", catalogues, edges, group_edges, subhalo_edges, groups)
    assembly = catalogues.assembly.columns(dict.fromkeys(_ASSEMBLY, (np.float32, 0.0)))
    _write_flat(post / "StellarAssembly" / "galaxies_099.hdf5", assembly)
    names = merger_history_names()
    history = catalogues.history.columns({name: (np.float32 if _real(name) else np.int32, -1) for name in names})
    _write_flat(post / "MergerHistory" / "merger_history_099.hdf5", history)
    truth = ("f_ex", "t_last_major", "mstar_last_major", "t_mean_merger", "mu_mean_merger")
    kinds: dict[str, tuple[Any, Any]] = {"galaxy": (np.int64, -1), "n_major": (np.int32, -1), "central": (np.int8, -1)}
    _write_flat(
        post / "Toy" / "galaxies_099.hdf5",
        catalogues.toy.columns({**kinds, **dict.fromkeys(truth, (np.float64, np.nan))}),
    )


def merger_history_names() -> list[str]:
    """Names of all merger-history columns."""
    names = [f"{item}{kind}Merger" for kind in ("Major", "Minor", "") for item in _LASTS]
    names += [f"Num{kind}Mergers{span}" for kind in ("Major", "Minor", "") for span in _SINCE]
    return [*names, "MeanLookbackTime", "MeanMassRatio"]


_LASTS = ("SnapNumLast", "SnapNumNext", "MassLast")


def _real(name: str) -> bool:
    return name.startswith(("Mass", "Mean"))


def _catalogue_columns(catalogues: Catalogues) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    none, nothing = np.zeros(3), np.zeros(6)
    real, whole = np.float32, np.int32
    groups = catalogues.groups.columns(
        {
            "GroupFirstSub": (whole, -1),
            "GroupNsubs": (whole, 0),
            "GroupLenType": (whole, nothing),
            "GroupMassType": (real, nothing),
            "GroupPos": (real, none),
            "GroupVel": (real, none),
            "GroupWindMass": (real, 0.0),
            "Group_M_Crit200": (real, 0.0),
            "Group_R_Crit200": (real, 0.0),
        }
    )
    groups["GroupLen"] = groups["GroupLenType"].sum(axis=1).astype(whole)
    groups["GroupMass"] = groups["GroupMassType"].sum(axis=1).astype(real)
    per_type = ("SubhaloMassType", "SubhaloHalfmassRadType", "SubhaloMassInRadType", "SubhaloMassInHalfRadType")
    vectors = ("SubhaloPos", "SubhaloCM", "SubhaloVel", "SubhaloSpin")
    numbers = ("SubhaloVelDisp", "SubhaloStarMetallicity", "SubhaloVmax", "SubhaloWindMass")
    subhalos = catalogues.subhalos.columns(
        {
            "SubhaloFlag": (bool, False),
            "SubhaloGrNr": (whole, -1),
            "SubhaloLen": (whole, 0),
            "SubhaloLenType": (whole, nothing),
            "SubhaloIDMostbound": (np.uint64, 0),
            **dict.fromkeys(per_type, (real, nothing)),
            **dict.fromkeys(vectors, (real, none)),
            **dict.fromkeys(numbers, (real, 0.0)),
        }
    )
    subhalos["SubhaloMass"] = subhalos["SubhaloMassType"].sum(axis=1).astype(real)
    return groups, subhalos


def _write_chunk(
    file: h5py.File,
    groups: dict[str, NDArray],
    subhalos: dict[str, NDArray],
    group_edges: NDArray[np.int64],
    subhalo_edges: NDArray[np.int64],
    chunk: int,
) -> None:
    header = file.create_group("Header").attrs
    for name, value in simulation_header().items():
        header[name] = value
    header["FlagDoubleprecision"] = np.int32(0)
    header["NumFiles"] = np.int32(len(group_edges) - 1)
    for kind, name, edges in (("Group", "groups", group_edges), ("Subhalo", "subgroups", subhalo_edges)):
        # illustris_python asks for these names
        header[f"N{name}_ThisFile"] = np.int32(edges[chunk + 1] - edges[chunk])
        header[f"N{name}_Total"] = np.int32(edges[-1])
        target = file.create_group(kind)
        here = slice(int(edges[chunk]), int(edges[chunk + 1]))
        if here.stop > here.start:
            for column, values in (groups if kind == "Group" else subhalos).items():
                target.create_dataset(column, data=values[here])


def _write_offsets(
    path: Path,
    catalogues: Catalogues,
    edges: NDArray[np.int64],
    group_edges: NDArray[np.int64],
    subhalo_edges: NDArray[np.int64],
    groups: dict[str, NDArray],
) -> None:
    plan = catalogues.plan
    counts = np.array([item.stars + item.wind for item in plan.items])
    first = np.cumsum(counts) - counts
    subhalo = np.zeros((plan.subhalos, 6), dtype=np.int64)
    for item, offset in zip(plan.items, first, strict=True):
        if item.subhalo >= 0:
            subhalo[item.subhalo, 4] = offset
    group = np.cumsum(groups["GroupLenType"].astype(np.int64), axis=0) - groups["GroupLenType"]
    chunks = np.zeros((len(edges) - 1, 6), dtype=np.int64)
    chunks[:, 4] = edges[:-1]
    kinds = {"RowNum": np.int32, "LastProgenitorID": np.int64, "SubhaloID": np.int64}
    links = catalogues.links.columns({name: (kind, -1) for name, kind in kinds.items()})
    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        file["FileOffsets/Group"], file["FileOffsets/Subhalo"] = group_edges[:-1], subhalo_edges[:-1]
        file["FileOffsets/SnapByType"] = chunks
        file["Group/SnapByType"], file["Subhalo/SnapByType"] = group, subhalo
        for name, values in links.items():
            file[f"Subhalo/SubLink/{name}"] = values


def _write_flat(path: Path, columns: dict[str, NDArray]) -> None:
    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values)
