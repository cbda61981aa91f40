"""A toy box in the files of TNG: snapshot, group catalogue, offsets, SubLink tree, stellar assembly, merger history."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError
from galineage.progress import bar
from galineage.toy.assembly import check_request
from galineage.toy.box import Plan, loose_stars, plan_box
from galineage.toy.hdf5_tables import CutTable, GrowingTable, cuts, new_file
from galineage.toy.particles import ToyGalaxy, known, nearly_in_order
from galineage.toy.snapshots import TNG
from galineage.toy.tng_catalogues import BOX_SIDE, Catalogues, simulation_header, write_catalogues
from galineage.toy.trees import Numbering, Tree, grow_tree

if TYPE_CHECKING:
    import os

    import h5py
    from numpy.typing import NDArray

    from galineage.stars import Stars
    from galineage.toy.box import Item

__all__ = ["SNAPSHOT", "write_tng_box"]

SNAPSHOT = 99
"""Number of the only snapshot written."""

TREE_STEP = 10**8
"""SubhaloIDs of the tree of subhalo k start at k times this."""

_H = TNG.hubble


def write_tng_box(
    folder: str | os.PathLike[str],
    suite: str,
    count: int,
    seed: int,
    stars: int = 8000,
    chunks: int = 4,
    compression: str | None = None,
    *,
    progress: bool = False,
) -> Path:
    """Write toy galaxies at z = 0 as the files of a TNG run.

    ``output/snapdir_099``, ``output/groups_099`` (`illustris_python` takes ``output`` as its base path),
    ``postprocessing/offsets``, ``trees/SubLink``, ``StellarAssembly`` and ``MergerHistory``. Lengths are in ckpc/h,
    masses in 1e10 Msun/h, velocities in km/s sqrt(a), formation times are scale factors, with the h of TNG. Wind
    particles (formation time below 0) lie among the stars, and fuzz after each group's last subhalo; some chunks are
    empty; there is no gas or dark matter in the snapshot. One file goes beyond the published ones:
    ``postprocessing/Toy/galaxies_099.hdf5`` says which toy galaxy each subhalo is and what is true of it.

    Parameters
    ----------
    folder : path
        Made if needed; files of the same names are replaced.
    suite, count, seed, stars
        As for `galineage.toy.make_galaxies`. The same arguments give the same bytes.
    chunks : int
        Files of the snapshot; the group catalogue has as many, the tree half as many.
    compression : str or None
        Of the snapshot's datasets, as h5py takes it ("gzip", "lzf").
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Path
        The folder. Memory is that of one galaxy and a few hundred bytes per galaxy more.

    Raises
    ------
    ConfigError
        If there is no such suite, or a number is out of range.
    FileFormatError
        If a file cannot be written.
    """
    check_request(suite, count, seed, 0, stars)
    if not 1 <= chunks <= 1000:
        raise ConfigError(f"cannot write {chunks} chunks", expected="1 to 1000")
    base = Path(folder)
    plan = plan_box(suite, count, seed, stars, BOX_SIDE / _H, wind=True)
    _Writer(base, plan, suite, count, seed, stars, chunks, compression).write(progress)
    return base


class _Writer:
    def __init__(
        self,
        base: Path,
        plan: Plan,
        suite: str,
        count: int,
        seed: int,
        stars: int,
        chunks: int,
        compression: str | None,
    ) -> None:
        self.base, self.plan, self.seed, self.stars = base, plan, seed, stars
        self.suite, self.count, self.chunks, self.compression = suite, count, chunks, compression
        self.edges = cuts(plan.particles, chunks)
        self.numbering = Numbering(TNG, plan.subhalos)
        self.catalogues = Catalogues(plan)
        self.tree_files = min(max(chunks // 2, 1), count)  # a tree lies in one file, and no file is empty
        self.tree_rows = 0
        self.rooted = {item.subhalo for item in plan.items if item.kind == "galaxy"}

    def write(self, progress: bool) -> None:
        """Write everything, galaxy by galaxy."""
        number = f"{SNAPSHOT:03d}"
        folder = self.base / "output" / f"snapdir_{number}"
        assembly_file = self.base / "postprocessing" / "StellarAssembly" / f"stars_{number}.hdf5"
        with ExitStack() as stack:
            snapshot = stack.enter_context(
                CutTable(
                    lambda chunk: folder / f"snap_{number}.{chunk}.hdf5",
                    self.edges,
                    self._header,
                    "PartType4",
                    self.compression,
                )
            )
            origins = GrowingTable(stack.enter_context(new_file(assembly_file)))
            trees = stack.enter_context(ExitStack())
            galaxy = nearly_in_order(self.suite, self.count, self.seed, self.stars)
            table, share, done = self._tree_table(trees, 0), 0, 0
            for item in bar(self.plan.items, label=f"{self.suite} stars", show=progress):
                if item.kind == "galaxy":
                    if done * self.tree_files // self.count > share:
                        share += 1
                        trees.close()
                        table = self._tree_table(trees, share)
                    done += 1
                    self._galaxy(item, galaxy(item.galaxy), snapshot, origins, table)
                elif item.stars:
                    self._loose(item, snapshot, origins)
                else:
                    self.catalogues.add_dark(item)
        write_catalogues(self.base, self.catalogues, self.edges, self.chunks)

    def _tree_path(self, number: int) -> Path:
        return self.base / "postprocessing" / "trees" / "SubLink" / f"tree_extended.{number}.hdf5"

    def _tree_table(self, stack: ExitStack, number: int) -> GrowingTable:
        return GrowingTable(stack.enter_context(new_file(self._tree_path(number))))

    def _header(self, file: h5py.File, chunk: int) -> None:
        here = np.zeros(6, dtype=np.int32)
        here[4] = self.edges[chunk + 1] - self.edges[chunk]
        total = np.array([0, 0, 0, 0, self.plan.particles, 0], dtype=np.uint64)
        attributes = file.create_group("Header").attrs
        for name, value in {
            **simulation_header(),
            "Flag_DoublePrecision": np.int32(0),
            "MassTable": np.zeros(6),
            "NumFilesPerSnapshot": np.int32(self.chunks),
            "NumPart_ThisFile": here,
            "NumPart_Total": (total & np.uint64(2**32 - 1)).astype(np.uint32),
            "NumPart_Total_HighWord": (total >> np.uint64(32)).astype(np.uint32),
            "OmegaBaryon": TNG.omega_baryon,
            "UnitLength_in_cm": 3.085678e21,
            "UnitMass_in_g": 1.989e43,
            "UnitVelocity_in_cm_per_s": 1e5,
            "SimulationName": np.bytes_(f"galineage {self.suite}, not a simulation"),
        }.items():
            attributes[name] = value
        file.create_group("Config")
        file.create_group("Parameters")

    def _galaxy(
        self, item: Item, toy: ToyGalaxy, snapshot: CutTable, origins: GrowingTable, table: GrowingTable
    ) -> None:
        tree = grow_tree(toy.assembly, TNG, toy.merger, known(toy.galaxy.stars.age))
        subfind = self.numbering.give(tree, item.subhalo)
        birth = TNG.formed(known(toy.galaxy.stars.age))
        rows = tree.row_at(toy.merger, birth)
        brought = toy.merger >= 0
        which = np.maximum(toy.merger, 0)
        ratio = np.append(tree.mergers.ratio, -1.0)[np.where(brought, which, -1)]
        host = np.append(tree.mergers.infall, 0)[np.where(brought, which, -1)]
        infall = TNG.formed(np.array([toy.assembly.infall]))[0] if toy.assembly.infall else SNAPSHOT + 1
        after = np.where(brought, birth >= host, birth >= infall)
        origin: dict[str, NDArray] = {
            "SubfindID": np.full(len(birth), item.subhalo, dtype=np.int32),
            "SubfindIDAtFormation": subfind[rows].astype(np.int32),
            "SnapNumAtFormation": birth.astype(np.int16),
            "InSitu": np.where(brought, 0, 1).astype(np.int8),
            "AfterInfall": after.astype(np.int8),
            "AccretionOrigin": np.where(brought, 0, -1).astype(np.int8),
            "MergerMassRatio": ratio.astype(np.float32),
        }
        self.catalogues.add_galaxy(item, toy, tree, after, self.tree_rows, tree_base(item.subhalo))
        self._particles(item, toy.galaxy.stars, origin, snapshot, origins)
        table.append(_tree_columns(tree, subfind, item, toy, self._central(item)))
        self.tree_rows += len(tree.snapshot)

    def _central(self, item: Item) -> int:
        """First SubhaloID of the central galaxy's tree; its own if the central is an empty halo, which has no tree."""
        first = int(self.plan.firsts[item.group])
        return tree_base(first if first in self.rooted else item.subhalo)

    def _loose(self, item: Item, snapshot: CutTable, origins: GrowingTable) -> None:
        stars = loose_stars(self.plan, item, self.seed)
        nothing = np.full(len(stars), -1)
        origin: dict[str, NDArray] = {
            "SubfindID": np.full(len(stars), item.subhalo, dtype=np.int32),
            "SubfindIDAtFormation": nothing.astype(np.int32),
            "SnapNumAtFormation": TNG.formed(known(stars.age)).astype(np.int16),
            "InSitu": nothing.astype(np.int8),
            "AfterInfall": nothing.astype(np.int8),
            "AccretionOrigin": nothing.astype(np.int8),
            "MergerMassRatio": nothing.astype(np.float32),
        }
        self.catalogues.add_loose(item, stars)
        self._particles(item, stars, origin, snapshot, origins)

    def _particles(
        self, item: Item, stars: Stars, origin: dict[str, NDArray], snapshot: CutTable, origins: GrowingTable
    ) -> None:
        """Write stars and the wind among them, and where each came from."""
        columns = star_columns(stars, item.centre, item.velocity, self.plan.side)
        rng = np.random.default_rng([4, self.seed, int(known(stars.ids)[0])])
        at = np.sort(rng.integers(0, len(stars) + 1, item.wind))
        twin = rng.integers(0, len(stars), item.wind)
        wind = {name: values[twin] for name, values in columns.items()}
        wind["ParticleIDs"] = (wind["ParticleIDs"] // 1000 * 1000 + 2**48 + np.arange(item.wind)).astype(np.uint64)
        wind["GFM_StellarFormationTime"] = -rng.random(item.wind).astype(np.float32)
        columns = {name: np.insert(values, at, wind[name], axis=0) for name, values in columns.items()}
        missing = {name: np.insert(values, at, -1) for name, values in origin.items()}
        missing["SubfindID"][:] = item.subhalo
        snapshot.append(columns)
        origins.append({"ParticleID": columns["ParticleIDs"], **missing})
        self.catalogues.add_wind(item, float(wind["Masses"].astype(np.float64).sum()))


def star_columns(
    stars: Stars, centre: NDArray[np.float64], velocity: NDArray[np.float64], side: float
) -> dict[str, NDArray]:
    """Star particles as PartType4 has them at z = 0.

    Parameters
    ----------
    stars : Stars
        With every quantity but the smoothing length.
    centre : array (3,), kpc
    velocity : array (3,), km/s
    side : float, kpc
        Positions are folded into the periodic box.

    Returns
    -------
    dict of str to array (n, ...)
        In the units and types of TNG.
    """
    return {
        "Coordinates": np.mod(stars.position + centre, side) * _H,
        "Velocities": (known(stars.velocity) + velocity).astype(np.float32),
        "Masses": (stars.mass * _H / 1e10).astype(np.float32),
        "GFM_InitialMass": (known(stars.initial_mass) * _H / 1e10).astype(np.float32),
        "GFM_Metallicity": known(stars.metallicity).astype(np.float32),
        "GFM_StellarFormationTime": TNG.scale_at(known(stars.age)).astype(np.float32),
        "ParticleIDs": known(stars.ids).astype(np.uint64),
        "Potential": known(stars.potential).astype(np.float32),
    }


def tree_base(subhalo: int) -> int:
    """First SubhaloID of the tree that ends in a subhalo at z = 0."""
    return subhalo * TREE_STEP


def _tree_columns(
    tree: Tree, subfind: NDArray[np.int64], item: Item, toy: ToyGalaxy, central: int
) -> dict[str, NDArray]:
    def ids(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(rows < 0, -1, rows + base)

    rows, base = len(tree.snapshot), tree_base(item.subhalo)
    host = tree.host + base
    fallen = (tree.merger < 0) & (TNG.lookback[tree.snapshot] < toy.assembly.infall)
    host = np.where(fallen, SNAPSHOT - tree.snapshot + central, host)
    masses = np.zeros((rows, 6), dtype=np.float32)
    masses[:, 4] = tree.mstar * _H / 1e10
    return {
        "SubhaloID": np.arange(rows) + base,
        "SubhaloIDRaw": tree.snapshot * 10**12 + subfind,
        "TreeID": np.full(rows, base),
        "DescendantID": ids(tree.descendant),
        "FirstProgenitorID": ids(tree.first_progenitor),
        "NextProgenitorID": ids(tree.next_progenitor),
        "LastProgenitorID": ids(tree.last_progenitor),
        "MainLeafProgenitorID": ids(tree.leaf),
        "RootDescendantID": np.full(rows, base),
        "FirstSubhaloInFOFGroupID": host,
        "SnapNum": tree.snapshot.astype(np.int16),
        "SubfindID": subfind.astype(np.int32),
        "SubhaloGrNr": np.full(rows, item.group, dtype=np.int32),
        "SubhaloMassType": masses,
        "SubhaloMass": masses[:, 4].copy(),
    }
