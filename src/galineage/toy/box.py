"""What lies in a toy box: groups of galaxies, clumps, empty halos, and stars that are bound to nothing."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from galineage.errors import ConfigError
from galineage.stars import Stars
from galineage.toy.assembly import draw_assemblies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Item", "Plan", "loose_stars", "plan_box", "wind_count"]

Kind = Literal["galaxy", "clump", "dark", "fuzz"]

CLUMP_STARS, INNER_FUZZ, OUTER_FUZZ = 12, 15, 40
"""Stars of a clump (flagged as no galaxy), of a group outside its galaxies, and outside all groups."""

WIND = 50
"""One wind particle is written for so many stars."""


@dataclass(frozen=True)
class Item:
    """A run of star particles in the order of a snapshot.

    Attributes
    ----------
    number : int
        Its place in the plan.
    kind : {"galaxy", "clump", "dark", "fuzz"}
        ``dark`` halos have no stars; ``fuzz`` belongs to no subhalo.
    group : int
        Number of the group; -1: outside all groups.
    subhalo : int
        Number of the subhalo; -1 for fuzz.
    galaxy : int
        Which toy galaxy; -1 otherwise.
    stars, wind : int
        How many particles.
    centre : array (3,), kpc
        Inside the box.
    velocity : array (3,), km/s
    """

    number: int
    kind: Kind
    group: int
    subhalo: int
    galaxy: int
    stars: int
    wind: int
    centre: Array
    velocity: Array


@dataclass(frozen=True)
class Plan:
    """Everything in a box, in the order of the snapshot: group by group, subhalo by subhalo, each group's fuzz after.

    Attributes
    ----------
    items : tuple of Item
    groups, subhalos : int
    side : float, kpc
        Length of the periodic box.
    """

    items: tuple[Item, ...]
    groups: int
    subhalos: int
    side: float

    @property
    def particles(self) -> int:
        """Number of stars and wind particles."""
        return sum(item.stars + item.wind for item in self.items)

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """First subhalo of every group, -1 if it has none; shape (groups,)."""
        found = np.full(self.groups, -1)
        for item in reversed(self.items):
            if item.group >= 0 and item.subhalo >= 0:
                found[item.group] = item.subhalo
        return found


def wind_count(stars: int) -> int:
    """Return how many wind particles lie among so many stars."""
    return max(stars // WIND, 1)


def plan_box(suite: str, count: int, seed: int, stars: int, side: float, wind: bool) -> Plan:
    """Decide what lies where.

    A central galaxy and the satellites drawn after it make a group. Groups lie anywhere in the box, the first one in
    its corner, so that its galaxies reach across the border.

    Parameters
    ----------
    suite, count, seed, stars
        As for `galineage.toy.make_galaxies`.
    side : float, kpc
        Length of the box.
    wind : bool
        Whether wind particles lie among the stars.

    Returns
    -------
    Plan
        Memory is about 1 kB per galaxy.

    Raises
    ------
    ConfigError
        As `galineage.toy.make_galaxies` does.
    """
    if not side > 2000:
        raise ConfigError(f"a box of {side} kpc is too small", expected="more than 2,000 kpc")
    groups: list[list[int]] = []
    early: list[int] = []
    for assembly in draw_assemblies(suite, count, seed):
        if assembly.central:
            groups.append([assembly.number])
        else:
            (groups[-1] if groups else early).append(assembly.number)
    if early:
        # satellites that were drawn before any central galaxy; without one, an empty halo is their central
        groups = [[groups[0][0], *early, *groups[0][1:]], *groups[1:]] if groups else [[-1, *early]]
    rng = np.random.default_rng([2, seed, zlib.crc32(suite.encode())])
    builder = _Builder(stars, wind, side, rng)
    for members in groups:
        builder.add_group(members)
    builder.add_bare_group()
    builder.add("fuzz", OUTER_FUZZ, -1, side * rng.random(3), np.zeros(3), group=-1)
    return Plan(tuple(builder.items), builder.group, builder.subhalo, side)


class _Builder:
    def __init__(self, stars: int, wind: bool, side: float, rng: np.random.Generator) -> None:
        self.items: list[Item] = []
        self.stars, self.wind, self.side, self.rng = stars, wind, side, rng
        self.group = self.subhalo = 0

    def add(
        self, kind: Kind, stars: int, galaxy: int, centre: Array, velocity: Array, group: int | None = None
    ) -> None:
        wind = wind_count(stars) if self.wind and stars else 0
        subhalo = -1 if kind == "fuzz" else self.subhalo
        group = self.group if group is None else group
        place = np.mod(centre, self.side)
        self.items.append(Item(len(self.items), kind, group, subhalo, galaxy, stars, wind, place, velocity))
        self.subhalo += kind != "fuzz"

    def add_group(self, members: list[int]) -> None:
        rng = self.rng
        centre = self.side * rng.random(3) if self.group else np.array([3.0, self.side - 2.0, 1.0])
        velocity = 250 * rng.standard_normal(3)
        for place, galaxy in enumerate(members):
            direction = rng.standard_normal(3)
            away = 0.0 if place == 0 else 250 + 350 * rng.random()
            where = centre + away * direction / np.linalg.norm(direction)
            motion = velocity + (250 * rng.standard_normal(3) if place else 0.0)
            self.add("galaxy" if galaxy >= 0 else "dark", self.stars if galaxy >= 0 else 0, galaxy, where, motion)
        if self.group % 3 == 0:
            self.add("clump", CLUMP_STARS, -1, centre + 30 * rng.standard_normal(3), velocity)
        if self.group % 3 == 1:
            self.add("dark", 0, -1, centre + 300 * rng.standard_normal(3), velocity)
        if self.group % 2 == 0:
            self.add("fuzz", INNER_FUZZ, -1, centre, velocity)
        self.group += 1

    def add_bare_group(self) -> None:
        self.add("fuzz", INNER_FUZZ, -1, self.side * self.rng.random(3), np.zeros(3))
        self.group += 1


def loose_stars(plan: Plan, item: Item, seed: int) -> Stars:
    """Make the stars of a clump or of the fuzz.

    Parameters
    ----------
    plan : Plan
    item : Item
        Not a galaxy.
    seed : int

    Returns
    -------
    Stars
        Around ``item.centre``: within about 1 kpc in a clump, 100 kpc in a group, the whole box outside.
    """
    rng = np.random.default_rng([3, seed, item.number])
    spread = {"clump": 1.0, "fuzz": 100.0}[item.kind]
    position = spread * rng.standard_normal((item.stars, 3))
    if item.group < 0:
        position = plan.side * (rng.random((item.stars, 3)) - 0.5)
    mass = 1e6 * (1 + 0.1 * rng.random(item.stars))
    return Stars(
        position=position,
        velocity=30 * rng.standard_normal((item.stars, 3)),
        mass=mass,
        metallicity=0.005 * (1 + rng.random(item.stars)),
        age=1 + 11 * rng.random(item.stars),
        initial_mass=1.6 * mass,
        potential=-1e4 * (1 + rng.random(item.stars)),
        # galaxies number their stars from the lower end
        ids=2**40 + item.number * 1000 + np.arange(item.stars),
    )
