"""A toy box in the files of EAGLE: a snapshot with unit attributes, and exports of the database's tables."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from galineage.atomic import writing
from galineage.errors import ConfigError
from galineage.progress import bar
from galineage.stars import specific_spin
from galineage.toy.assembly import check_request
from galineage.toy.box import Item, Plan, loose_stars, plan_box
from galineage.toy.hdf5_tables import CutTable, GrowingTable, cuts, new_file
from galineage.toy.particles import ToyGalaxy, known, nearly_in_order
from galineage.toy.snapshots import EAGLE
from galineage.toy.trees import Numbering, Tree, grow_tree

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import h5py
    from numpy.typing import NDArray

    from galineage.stars import Stars

__all__ = ["SNAPSHOT", "UNBOUND", "write_eagle_box"]

SNAPSHOT = 28
"""Number of the only snapshot written."""

BOX_SIDE = 67.77
"""Side of the box, cMpc/h."""

UNBOUND = 2**30
"""Group and subgroup number of stars that belong to none."""

TREE_STEP = 10**5
"""GalaxyIDs of the tree of subhalo k start at 1 + k times this."""

SHUFFLED = 100_000
"""Stars that are mixed before they are written: the real files are not sorted by galaxy."""

_H = EAGLE.hubble

_UNITS: dict[str, tuple[float, float, float, str]] = {
    "Coordinates": (3.085678e24, 1.0, -1.0, "Co-moving coordinates. Physical: r = a x = Coordinates h^-1 a U_L [cm]"),
    "Velocity": (1e5, 0.5, 0.0, "Co-moving velocities. Physical v_p = a dx/dt = Velocities a^1/2 U_V [cm/s]"),
    "Mass": (1.989e43, 0.0, -1.0, "Particle mass. Physical m = Mass h^-1 U_M [g]"),
    "InitialMass": (1.989e43, 0.0, -1.0, "Star particle mass at formation time. Physical m = InitialMass h^-1 U_M [g]"),
    "Metallicity": (1.0, 0.0, 0.0, "Mass fraction of elements heavier than Helium"),
    "SmoothedMetallicity": (1.0, 0.0, 0.0, "Smoothed mass fraction of elements heavier than Helium"),
    "StellarFormationTime": (1.0, 0.0, 0.0, "Expansion factor a when star particle was born"),
    "ParticleIDs": (1.0, 0.0, 0.0, "Unique particle identifier"),
    "GroupNumber": (1.0, 0.0, 0.0, "FoF group number particle is in"),
    "SubGroupNumber": (1.0, 0.0, 0.0, "Subgroup number particle is in"),
}
"""CGS factor, exponents of a and h, and meaning of each dataset, as in the public files."""

_SUBHALO = (
    *("GalaxyID", "DescendantID", "LastProgID", "TopLeafID", "SnapNum", "Redshift", "GroupNumber", "SubGroupNumber"),
    *(f"{name}_{axis}" for name in ("CentreOfPotential", "Velocity", "Stars_Spin") for axis in "xyz"),
    *("MassType_Star", "HalfMassRad_Star", "Stars_Metallicity", "Spurious"),
)
_SIZES = ("GalaxyID", "R_halfmass30", "R_halfmass100")


def write_eagle_box(
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
    """Write toy galaxies at z = 0 as the files of an EAGLE run.

    ``snapshot_028_z000p000/snap_028_z000p000.N.hdf5`` has every dataset with its CGS factor and exponents of h and a;
    a star's galaxy is told by ``GroupNumber`` (from 1) and ``SubGroupNumber`` (from 0, 2^30: unbound), and galaxies are
    mixed. ``SUITE_SubHalo.csv`` and ``SUITE_Sizes.csv`` are exports of the database; of progenitors only the tree
    columns and ``MassType_Star`` mean anything (positions are the descendant's, radii and spins 0). Two files go beyond
    the public ones: ``star_birth_028.hdf5`` gives for every star the galaxy and the snapshot in which it was first seen
    (-1: outside galaxies), ``toy_galaxies_028.hdf5`` which toy galaxy a GalaxyID is and what is true of it.

    Parameters
    ----------
    folder : path
        Made if needed; files of the same names are replaced.
    suite, count, seed, stars
        As for `galineage.toy.make_galaxies`. The same arguments give the same bytes.
    chunks : int
        Files of the snapshot.
    compression : str or None
        Of the snapshot's datasets, as h5py takes it.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Path
        The folder. Memory is that of 100,000 stars and about 1 kB per galaxy.

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
    plan = plan_box(suite, count, seed, stars, 1e3 * BOX_SIDE / _H, wind=False)
    galaxy = nearly_in_order(suite, count, seed, stars)
    with ExitStack() as stack:
        writer = _Writer(stack, base, plan, suite, seed, chunks, compression)
        for item in bar(plan.items, label=f"{suite} stars", show=progress):
            writer.add(item, galaxy(item.galaxy) if item.kind == "galaxy" else None)
        writer.flush()
    return base


class _Writer:
    """The open files of a box."""

    def __init__(
        self, stack: ExitStack, base: Path, plan: Plan, suite: str, seed: int, chunks: int, compression: str | None
    ) -> None:
        self.plan, self.seed, self.suite = plan, seed, suite
        self.edges = cuts(plan.particles, chunks)
        self.numbering = Numbering(EAGLE, plan.subhalos)
        self.rng = np.random.default_rng([5, seed])
        self.held: list[dict[str, NDArray]] = []
        attributes = {
            name: {
                "CGSConversionFactor": factor,
                "VarDescription": np.bytes_(meaning),
                "aexp-scale-exponent": np.float32(a),
                "h-scale-exponent": np.float32(h),
            }
            for name, (factor, a, h, meaning) in _UNITS.items()
        }
        folder = base / "snapshot_028_z000p000"
        self.snapshot = stack.enter_context(
            CutTable(
                lambda chunk: folder / f"snap_028_z000p000.{chunk}.hdf5",
                self.edges,
                self._header,
                "PartType4",
                compression,
                attributes,
            )
        )
        self.births = GrowingTable(stack.enter_context(new_file(base / "star_birth_028.hdf5")))
        self.truth = GrowingTable(stack.enter_context(new_file(base / "toy_galaxies_028.hdf5")))
        self.subhalos = stack.enter_context(_export(base / f"{suite}_SubHalo.csv", f"{suite}_SubHalo", _SUBHALO))
        self.sizes = stack.enter_context(_export(base / f"{suite}_Sizes.csv", f"{suite}_Sizes", _SIZES))

    def add(self, item: Item, toy: ToyGalaxy | None) -> None:
        """Write one item of the plan."""
        if toy is not None:
            self._galaxy(item, toy)
            return
        stars = loose_stars(self.plan, item, self.seed) if item.stars else None
        if stars is not None:
            nothing = np.full(len(stars), -1)
            self._particles(item, stars, nothing, EAGLE.formed(known(stars.age)))
        if item.subhalo >= 0:
            number = item.subhalo * TREE_STEP + 1
            tree = {"DescendantID": number, "LastProgID": number, "TopLeafID": number}
            self._row({"GalaxyID": number, **tree, **self._measured(item, stars), "Spurious": int(stars is not None)})
            self._size(number, stars)

    def flush(self) -> None:
        """Write the stars that are held back, mixed."""
        if self.held:
            joined = {name: np.concatenate([part[name] for part in self.held]) for name in self.held[0]}
            order = self.rng.permutation(len(joined["ParticleIDs"]))
            joined = {name: values[order] for name, values in joined.items()}
            birth = {name: joined.pop(name) for name in ("GalaxyIDAtFormation", "SnapNumAtFormation")}
            self.births.append({"ParticleIDs": joined["ParticleIDs"], **birth})
            self.snapshot.append(joined)
            self.held = []

    def _galaxy(self, item: Item, toy: ToyGalaxy) -> None:
        stars = toy.galaxy.stars
        age = known(stars.age)
        tree = grow_tree(toy.assembly, EAGLE, toy.merger, age)
        formed = EAGLE.formed(age)
        base = item.subhalo * TREE_STEP + 1
        self._particles(item, stars, base + tree.row_at(toy.merger, formed), formed)
        numbers = self.numbering.give(tree, item.subhalo)
        self._tree(item, tree, numbers, self._measured(item, stars), base)
        self._size(base, stars)
        truth = toy.galaxy.truth
        row = {"GalaxyID": base, "galaxy": item.galaxy, "n_major": int(truth["n_major"])}
        real = ("f_ex", "t_last_major", "mstar_last_major", "t_mean_merger", "mu_mean_merger", "central")
        self.truth.append({name: np.array([value]) for name, value in {**row, **{k: truth[k] for k in real}}.items()})

    def _particles(self, item: Item, stars: Stars, galaxy: NDArray[np.int64], formed: NDArray[np.int64]) -> None:
        self.held.append(
            {
                **star_columns(stars, item.centre, item.velocity, self.plan.side),
                "GroupNumber": np.full(len(stars), UNBOUND if item.group < 0 else item.group + 1, dtype=np.int32),
                "SubGroupNumber": np.full(len(stars), self._subgroup(item), dtype=np.int32),
                "GalaxyIDAtFormation": galaxy,
                "SnapNumAtFormation": formed.astype(np.int16),
            }
        )
        if sum(len(part["ParticleIDs"]) for part in self.held) >= SHUFFLED:
            self.flush()

    def _subgroup(self, item: Item) -> int:
        return UNBOUND if item.subhalo < 0 else int(item.subhalo - self.plan.firsts[item.group])

    def _measured(self, item: Item, stars: Stars | None) -> dict[str, Any]:
        """Columns of a galaxy at z = 0: cMpc, km/s, Msun, pkpc."""
        found: dict[str, Any] = {"SnapNum": SNAPSHOT, "Redshift": 0.0, "Spurious": 0}
        found |= {"GroupNumber": item.group + 1, "SubGroupNumber": self._subgroup(item), "MassType_Star": 0.0}
        mean, spin = np.zeros(3), np.zeros(3)
        found |= {"HalfMassRad_Star": 0.0, "Stars_Metallicity": 0.0}
        if stars is not None:
            total = stars.mass.sum()
            mean, spin = stars.mass @ known(stars.velocity) / total, specific_spin(stars)
            found["MassType_Star"] = float(total)
            found["HalfMassRad_Star"] = _half_mass(stars, np.inf)
            found["Stars_Metallicity"] = float(stars.mass @ known(stars.metallicity) / total)
        for axis, name in enumerate("xyz"):
            found[f"CentreOfPotential_{name}"] = float(item.centre[axis] / 1e3)
            found[f"Velocity_{name}"] = float(item.velocity[axis] + mean[axis])
            found[f"Stars_Spin_{name}"] = float(spin[axis])
        return found

    def _tree(self, item: Item, tree: Tree, numbers: NDArray[np.int64], now: dict[str, Any], base: int) -> None:
        later = {name: now[name] for name in now if name.startswith("CentreOfPotential")}
        blank = {**dict.fromkeys(_SUBHALO, 0.0), **later, "GroupNumber": item.group + 1, "Spurious": 0}
        for row in range(len(tree.snapshot)):
            links = {
                "GalaxyID": base + row,
                # the last galaxy of a branch is its own descendant
                "DescendantID": base + max(int(tree.descendant[row]), 0),
                "LastProgID": base + int(tree.last_progenitor[row]),
                "TopLeafID": base + int(tree.leaf[row]),
            }
            if row == 0:
                self._row({**now, **links})
                continue
            snapshot = int(tree.snapshot[row])
            when = {"SnapNum": snapshot, "Redshift": float(EAGLE.redshift[snapshot])}
            what = {"SubGroupNumber": int(numbers[row]), "MassType_Star": float(tree.mstar[row])}
            self._row({**blank, **links, **when, **what})

    def _row(self, values: dict[str, Any]) -> None:
        self.subhalos.write(",".join(_text(values[name]) for name in _SUBHALO) + "\n")

    def _size(self, number: int, stars: Stars | None) -> None:
        sizes = [0.0 if stars is None else _half_mass(stars, limit) for limit in (30.0, 100.0)]
        self.sizes.write(",".join(_text(value) for value in (number, *sizes)) + "\n")

    def _header(self, file: h5py.File, chunk: int) -> None:
        here, total = np.zeros(6, dtype=np.uint32), np.zeros(6, dtype=np.uint32)
        here[4], total[4] = self.edges[chunk + 1] - self.edges[chunk], self.plan.particles % 2**32
        high = np.zeros(6, dtype=np.uint32)
        high[4] = self.plan.particles // 2**32
        groups: dict[str, dict[str, Any]] = {
            "Header": {
                "BoxSize": BOX_SIDE,
                "E(z)": 1.0,
                "ExpansionFactor": 1.0,
                "H(z)": 100 * _H * 1e5 / 3.085678e24,
                "HubbleParam": _H,
                "MassTable": np.zeros(6),
                "NumFilesPerSnapshot": np.int32(len(self.edges) - 1),
                "NumPart_ThisFile": here,
                "NumPart_Total": total,
                "NumPart_Total_HighWord": high,
                "Omega0": EAGLE.omega_matter,
                "OmegaBaryon": EAGLE.omega_baryon,
                "OmegaLambda": 1 - EAGLE.omega_matter,
                "Redshift": 0.0,
                "RunLabel": np.bytes_(f"galineage {self.suite}, not a simulation"),
                "Time": 1.0,
            },
            "Constants": {"CM_PER_MPC": 3.085678e24, "SOLAR_MASS": 1.989e33, "Z_Solar": 0.012663729},
            "Units": {"UnitLength_in_cm": 3.085678e24, "UnitMass_in_g": 1.989e43, "UnitVelocity_in_cm_per_s": 1e5},
        }
        for group, attributes in groups.items():
            target = file.create_group(group).attrs
            for name, value in attributes.items():
                target[name] = value


def star_columns(
    stars: Stars, centre: NDArray[np.float64], velocity: NDArray[np.float64], side: float
) -> dict[str, NDArray]:
    """Star particles as PartType4 has them at z = 0, without group numbers.

    Parameters
    ----------
    stars : Stars
        With every quantity but smoothing length and potential.
    centre : array (3,), kpc
    velocity : array (3,), km/s
    side : float, kpc
        Positions are folded into the periodic box.

    Returns
    -------
    dict of str to array (n, ...)
        In cMpc/h, km/s sqrt(a), 1e10 Msun/h, mass fraction, scale factor. The toy does not smooth metallicities, so
        both of them are the same.
    """
    metals = known(stars.metallicity).astype(np.float32)
    return {
        "Coordinates": np.mod(stars.position + centre, side) * (_H / 1e3),
        "Velocity": (known(stars.velocity) + velocity).astype(np.float32),
        "Mass": (stars.mass * _H / 1e10).astype(np.float32),
        "InitialMass": (known(stars.initial_mass) * _H / 1e10).astype(np.float32),
        "Metallicity": metals,
        "SmoothedMetallicity": metals,
        "StellarFormationTime": EAGLE.scale_at(known(stars.age)).astype(np.float32),
        "ParticleIDs": known(stars.ids).astype(np.uint64),
    }


def _half_mass(stars: Stars, limit: float) -> float:
    """Half-mass radius of the stars within ``limit`` kpc of the centre; 0 without any."""
    radius = np.linalg.norm(stars.position, axis=1)
    order = np.argsort(radius)
    order = order[radius[order] <= limit]
    if not len(order):
        return 0.0
    inside = np.cumsum(stars.mass[order])
    return float(np.interp(0.5 * inside[-1], inside, radius[order]))


@contextmanager
def _export(path: Path, table: str, columns: Sequence[str]) -> Iterator[IO[str]]:
    """Open an export: comment lines as the database's web page writes them, then the names."""
    query = f"#SQL= SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - a comment, never run
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(f"#OK\n{query}\n#galineage toy universe, not a simulation\n{','.join(columns)}\n")
        yield stream


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, int | np.integer) else f"{value:.9g}"
