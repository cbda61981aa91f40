"""Star particles of toy galaxies: every star knows when it formed, where, and with which merger it came.

Histories and integrated observables are drawn as for the toy tables (`galineage.toy.mergers`, `.observables`); this
module turns them into stars, so that what is measured on the stars agrees with the table. Galaxy k of a suite and seed
is the same whatever number is asked for: histories are drawn in blocks of fixed size, stars from a seed of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.galaxy import Catalogue
from galineage.progress import bar
from galineage.stars import Galaxy, Stars, half_mass_radius, measure
from galineage.toy.assembly import check_request, draw_assemblies, star_generator
from galineage.toy.components import place
from galineage.toy.cosmology import AGE_OF_UNIVERSE, time_grid
from galineage.toy.snapshots import EARLIEST, TNG, last_before
from galineage.toy.suites import SUITES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from galineage.toy.assembly import Assembly

    Array = NDArray[np.float64]

__all__ = ["ToyGalaxy", "draw_galaxies", "known", "make_galaxies", "measure_toy", "nearly_in_order"]

ID_STEP = 10_000_000
"""Particle identifiers of galaxy k start at k times this."""

METAL_SCATTER = 0.12
"""Scatter of log10 Z between in-situ stars of one age and place, dex (adopted)."""

ACCRETED_METAL_SCATTER = 0.25
"""Scatter of log10 Z between the stars of one satellite, dex (adopted)."""

METAL_GRADIENT, METAL_AGE = -0.15, -0.03
"""Change of in-situ log10 Z per dex of radius and per Gyr of age (adopted)."""

_TRUTHS = ("t_last_major", "mstar_last_major", "t_mean_merger", "mu_mean_merger", "n_major", "central")


@dataclass(frozen=True)
class ToyGalaxy:
    """A galaxy of stars with everything that is known about it.

    Attributes
    ----------
    galaxy : Galaxy
        As `make_galaxies` yields it.
    assembly : Assembly
    merger : array (n,) of int
        For every star the row of its merger in ``assembly``; -1: formed in the galaxy itself.
    """

    galaxy: Galaxy
    assembly: Assembly
    merger: NDArray[np.int64]


def make_galaxies(suite: str, count: int, seed: int, stars: int = 8000, start: int = 0) -> Iterator[Galaxy]:
    """Make toy galaxies of star particles at z = 0, one after another.

    Parameters
    ----------
    suite : str
        A key of `galineage.toy.SUITES`.
    count : int
        How many, at least 1.
    seed : int
        Not negative. Galaxy k of a suite and seed does not depend on ``count`` or ``start``.
    stars : int
        Star particles of each galaxy, at least 10.
    start : int
        Number of the first galaxy.

    Yields
    ------
    Galaxy
        Stars, from the most to the least bound, have position, velocity, mass, metallicity, age, initial mass,
        potential, ids and ``ex_situ``, but no smoothing length. ``truth`` holds f_ex (of the stars), the merger
        targets and ``central``; ``meta`` holds ``merger`` (n,) (row of the merger that brought a star, -1: none),
        ``formed`` (n,) (first TNG snapshot after its birth), ``table`` (the toy table's row), ``spin_axis`` (3,) of the
        disc, ``suite``, ``seed`` and ``toy``.

    Raises
    ------
    ConfigError
        If there is no such suite, or a number is out of range.
    """
    check_request(suite, count, seed, start, stars)
    return (toy.galaxy for toy in draw_galaxies(suite, count, seed, stars, start))


def draw_galaxies(suite: str, count: int, seed: int, stars: int = 8000, start: int = 0) -> Iterator[ToyGalaxy]:
    """Make toy galaxies with their assembly; parameters and errors as `make_galaxies`.

    Yields
    ------
    ToyGalaxy
    """
    check_request(suite, count, seed, start, stars)
    return (dress(assembly, seed, stars) for assembly in draw_assemblies(suite, count, seed, start))


def measure_toy(suite: str, count: int, seed: int, stars: int = 8000, *, progress: bool = False) -> Catalogue:
    """Make the toy table by measuring star particles.

    Parameters
    ----------
    suite, count, seed, stars
        As for `make_galaxies`.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Catalogue
        Columns as `galineage.toy.make_toy` has them; mstar, r_half, spin, f_ex and (inside 2 r_half) age and
        metallicity are measured on the stars, the rest is the truth of the histories. Row k is galaxy k of
        `make_galaxies`, which is another galaxy than row k of `make_toy`.

    Raises
    ------
    ConfigError
        As `make_galaxies` does.
    """
    galaxies = bar(make_galaxies(suite, count, seed, stars), total=count, label=f"{suite} stars", show=progress)
    rows: list[dict[str, Any]] = [{**item.truth, **measure(item)} for item in galaxies]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    columns |= {"central": columns["central"].astype(bool), "n_major": columns["n_major"].astype(int)}
    ids = np.arange(count)
    return Catalogue(
        columns={**columns, "snapshot": np.full(count, 99), "redshift": np.zeros(count)},
        ids=ids,
        domain=np.asarray(suite),
        root=np.char.add(f"{suite}:", ids.astype(str)),
        meta={"toy": True, "note": "toy universe, not a simulation", "suite": suite, "seed": seed, "stars": stars},
    )


def dress(assembly: Assembly, seed: int, stars: int) -> ToyGalaxy:
    """Turn an assembly into stars.

    Parameters
    ----------
    assembly : Assembly
    seed : int
        That of the suite.
    stars : int
        How many.

    Returns
    -------
    ToyGalaxy
    """
    rng = star_generator(assembly.suite, seed, assembly.number)
    step, merger = _origins(assembly, stars, rng)
    birth = _births(assembly, step, merger, rng)
    mass = _masses(assembly, stars, rng)
    placed = place(assembly, merger, birth, mass, rng)
    radius = np.sqrt(np.einsum("ij,ij->i", placed.position, placed.position))
    potential = placed.speed**2 * np.log(np.maximum(radius, 0.05) / 300)
    energy = potential + np.einsum("ij,ij->i", placed.velocity, placed.velocity) / 2
    frame = _rotation(rng)
    order = np.argsort(energy, kind="stable")
    found = Stars(
        position=(placed.position @ frame.T)[order],
        velocity=(placed.velocity @ frame.T)[order],
        mass=mass[order],
        metallicity=_metals(assembly, merger, birth, radius, mass, rng)[order],
        age=birth[order],
        initial_mass=(mass / (1 - _lost(birth)))[order],
        potential=potential[order],
        ids=assembly.number * ID_STEP + 1 + rng.permutation(stars),  # must not tell the origin
        ex_situ=(merger >= 0)[order],
    )
    merger = merger[order]
    return ToyGalaxy(_galaxy(assembly, found, merger, frame[:, 2], seed), assembly, merger)


def known(values: NDArray[Any] | None) -> NDArray[Any]:
    """Return a quantity that toy stars always have, for the type checker; shape and unit stay."""
    return np.asarray(values)


def nearly_in_order(suite: str, count: int, seed: int, stars: int) -> Callable[[int], ToyGalaxy]:
    """Return a function that makes any of the first ``count`` galaxies, each once.

    Memory holds the assemblies between the last one in order and the furthest asked for, never stars.
    """
    source = draw_assemblies(suite, count, seed)
    waiting: dict[int, Assembly] = {}

    def galaxy(number: int) -> ToyGalaxy:
        while number not in waiting:
            assembly = next(source)
            waiting[assembly.number] = assembly
        return dress(waiting.pop(number), seed, stars)

    return galaxy


def _galaxy(assembly: Assembly, stars: Stars, merger: NDArray[np.int64], axis: Array, seed: int) -> Galaxy:
    truth = {name: assembly.table[name] for name in _TRUTHS}
    age, ex_situ = np.asarray(stars.age), np.asarray(stars.ex_situ)
    return Galaxy(
        id=str(assembly.number),
        domain=assembly.suite,
        stars=stars,
        r_half=half_mass_radius(stars),
        snapshot=99,
        root=f"{assembly.suite}:{assembly.number}",
        truth={"f_ex": float(stars.mass @ ex_situ / stars.mass.sum()), **truth},
        meta={
            "toy": True,
            "suite": assembly.suite,
            "seed": seed,
            "merger": merger,
            "formed": TNG.formed(age),
            "table": assembly.table,
            "spin_axis": axis,
        },
    )


def _origins(assembly: Assembly, stars: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Time step (in situ) or merger of every star: each gets its share of the stars up to rounding.

    Returns
    -------
    tuple of arrays (n,) of int
        Step of the time grid, -1 for accreted stars; merger, -1 for in-situ stars.
    """
    shares = np.concatenate([assembly.insitu, assembly.merged])
    edges = np.concatenate([[0.0], np.cumsum(shares)]) / shares.sum() * stars
    count = np.diff(np.clip(np.floor(edges + rng.random()), 0, stars)).astype(np.int64)
    count[0] += stars - count.sum()  # rounding at the two ends
    steps = len(assembly.insitu)
    if not count[:steps].any():
        # so few stars that chance would leave none of the galaxy's own
        count[np.argmax(count)] -= 1
        count[np.argmax(assembly.insitu)] = 1
    cell = np.repeat(np.arange(len(shares)), count)
    return np.where(cell < steps, cell, -1), np.where(cell < steps, -1, cell - steps)


def _births(assembly: Assembly, step: NDArray[np.int64], merger: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """Lookback time of birth (n,), Gyr: even inside a step; accreted before the satellite was last seen."""
    edges = np.append(time_grid().lookback, EARLIEST)
    uniform = rng.random(len(step))
    birth = edges[step] + uniform * (edges[step + 1] - edges[step])
    last = last_before(assembly.lookback)
    old = SUITES[assembly.suite].satellite_age
    mean = assembly.lookback + old * (AGE_OF_UNIVERSE - assembly.lookback)
    place_in_life = np.clip((mean - last) / (EARLIEST - last), 0.05, 0.95)
    brought = np.flatnonzero(merger >= 0)
    which = merger[brought]
    share = rng.beta(4 * place_in_life[which], 4 * (1 - place_in_life[which]))
    birth[brought] = last[which] + np.clip(share, 1e-6, 1.0) * (EARLIEST - last)[which]
    return birth


def _masses(assembly: Assembly, stars: int, rng: np.random.Generator) -> Array:
    """Masses (n,), Msun, within 8 % of each other, whatever a star's origin, and together those of the galaxy."""
    mass = 1 + 0.08 * (2 * rng.random(stars) - 1)
    return mass * (assembly.mstar / mass.sum())


def _metals(
    assembly: Assembly,
    merger: NDArray[np.int64],
    birth: Array,
    radius: Array,
    mass: Array,
    rng: np.random.Generator,
) -> Array:
    """Metal mass fraction (n,): in-situ stars with age and radial trends, others around their satellite's mean."""
    own = merger < 0
    noise = rng.standard_normal(len(merger))
    trend = METAL_GRADIENT * np.log10(radius / assembly.table["r_half"] + 0.1) + METAL_AGE * birth
    metals = 10 ** (trend + METAL_SCATTER * noise)
    metals[own] *= assembly.insitu_metallicity * mass[own].sum() / (mass[own] @ metals[own])
    spread = 10 ** (ACCRETED_METAL_SCATTER * noise[~own] - ACCRETED_METAL_SCATTER**2 * np.log(10) / 2)
    metals[~own] = assembly.metallicity[merger[~own]] * spread
    return np.clip(metals, 1e-6, 0.2)


def _lost(age: Array) -> Array:
    """Share of its mass that a population has lost by this age, Gyr (Leitner & Kravtsov 2011; from memory)."""
    return np.asarray(0.046 * np.log1p(age / 2.76e-4))


def _rotation(rng: np.random.Generator) -> Array:
    """Draw a proper rotation (3, 3), from a random unit quaternion."""
    w, x, y, z = (quaternion := rng.standard_normal(4)) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
