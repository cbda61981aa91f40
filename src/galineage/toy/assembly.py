"""How single toy galaxies were put together: histories drawn in blocks of fixed size, so that numbering is lasting."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError
from galineage.fields import SOLAR_METALLICITY
from galineage.toy.growth import draw_stellar_mass
from galineage.toy.mergers import Histories, draw_histories
from galineage.toy.observables import Parts, draw_parts, observe, truths
from galineage.toy.suites import SUITES, Suite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Assembly", "check_request", "draw_assemblies", "star_generator"]

BLOCK = 64
"""Histories are drawn this many at a time; part of what a seed means."""

MAX_STARS = 5_000_000
"""Most stars per galaxy: memory is linear in it."""

_HISTORY, _STARS = 0, 1
"""What a seed is used for."""


@dataclass(frozen=True)
class Assembly:
    """How one galaxy was put together; its m mergers go back in time.

    Attributes
    ----------
    suite : str
    number : int
        Which galaxy of its suite and seed.
    mstar, halo_mass : float, Msun
        Today (of a satellite: the halo it would have as a central).
    central : bool
    infall : float, Gyr
        Lookback time at which it became a satellite; 0 for centrals.
    insitu : array (k + 1,), Msun
        Stars formed in each step of `galineage.toy.cosmology.time_grid`, the seed last.
    insitu_metallicity : float, mass fraction
        Mean of those stars.
    insitu_spin : float, kpc km/s
        Their angular momentum over ``mstar``.
    disc : float, kpc
        Half-mass radius they would have without mergers.
    lookback, mu, merged, primary : array (m,)
        Of each merger: lookback time (Gyr), stellar mass ratio, mass brought in, mass of the main progenitor (Msun).
    metallicity : array (m,), mass fraction
        Mean of what it brought.
    orbit : array (m, 3), kpc km/s
        Angular momentum it brought, over ``mstar``; the third axis is that of the disc.
    table : dict of str to float
        What the toy table says of this galaxy: observables and truth, in registry units.
    """

    suite: str
    number: int
    mstar: float
    halo_mass: float
    central: bool
    infall: float
    insitu: Array
    insitu_metallicity: float
    insitu_spin: float
    disc: float
    lookback: Array
    mu: Array
    merged: Array
    primary: Array
    metallicity: Array
    orbit: Array
    table: dict[str, float]

    @property
    def insitu_mass(self) -> float:
        """Stellar mass formed in the galaxy itself, Msun."""
        return float(self.insitu.sum())


def check_request(suite: str, count: int, seed: int, start: int, stars: int) -> None:
    """Refuse what cannot be made.

    Raises
    ------
    ConfigError
        If there is no such suite, or a number is out of range.
    """
    if suite not in SUITES:
        raise ConfigError(f"there is no toy suite {suite!r}", expected="one of " + ", ".join(SUITES))
    if count < 1 or seed < 0 or start < 0:
        raise ConfigError(
            f"cannot make {count} galaxies from number {start} with seed {seed}",
            expected="count >= 1, start >= 0 and seed >= 0",
        )
    if not 10 <= stars <= MAX_STARS:
        raise ConfigError(f"cannot make galaxies of {stars} stars", expected=f"10 to {MAX_STARS} stars")


def star_generator(suite: str, seed: int, number: int) -> np.random.Generator:
    """Return the generator of one galaxy's stars."""
    return _generator(suite, seed, _STARS, number)


def draw_assemblies(suite: str, count: int, seed: int, start: int = 0) -> Iterator[Assembly]:
    """Draw how galaxies were put together, without stars: about 1 ms each.

    Parameters
    ----------
    suite : str
        A key of `SUITES`.
    count, seed, start : int
        How many, the seed, and the number of the first one. Galaxy k does not depend on ``count`` or ``start``.

    Yields
    ------
    Assembly

    Raises
    ------
    ConfigError
        As `check_request` does.
    """
    check_request(suite, count, seed, start, 10)
    block: list[Assembly] = []
    for number in range(start, start + count):
        if not block or number % BLOCK == 0:
            block = _draw_block(suite, seed, number // BLOCK)
        yield block[number % BLOCK]


def _generator(suite: str, seed: int, use: int, number: int) -> np.random.Generator:
    # a leading 1 keeps these seeds apart from those of the tables
    return np.random.default_rng([1, seed, zlib.crc32(suite.encode()), use, number])


def _draw_block(name: str, seed: int, block: int) -> list[Assembly]:
    rng, suite = _generator(name, seed, _HISTORY, block), SUITES[name]
    histories = draw_histories(draw_stellar_mass(BLOCK, rng), suite, rng)
    parts = draw_parts(histories, suite, rng)
    table = _table(histories, suite, parts, rng)
    ends = np.searchsorted(histories.mergers.galaxy, np.arange(BLOCK + 1))
    return [
        _one(name, block * BLOCK + row, histories, parts, table, row, slice(ends[row], ends[row + 1]))
        for row in range(BLOCK)
    ]


def _table(histories: Histories, suite: Suite, parts: Parts, rng: np.random.Generator) -> dict[str, NDArray]:
    columns = {"mstar": histories.mstar, **observe(histories, suite, rng, parts), **truths(histories)}
    return {**columns, "central": histories.central}


def _one(
    suite: str, number: int, histories: Histories, parts: Parts, table: dict[str, NDArray], row: int, mine: slice
) -> Assembly:
    mergers = histories.mergers
    return Assembly(
        suite=suite,
        number=number,
        mstar=float(histories.mstar[row]),
        halo_mass=float(histories.halo_mass[row]),
        central=bool(histories.central[row]),
        infall=float(histories.infall[row]),
        insitu=histories.insitu[row],
        insitu_metallicity=float(SOLAR_METALLICITY * parts.insitu_metallicity[row]),
        insitu_spin=float(parts.insitu_spin[row]),
        disc=float(parts.disc[row]),
        lookback=mergers.lookback[mine],
        mu=mergers.mu[mine],
        merged=mergers.mstar[mine],
        primary=mergers.primary[mine],
        metallicity=SOLAR_METALLICITY * parts.accreted_metallicity[mine],
        orbit=parts.orbits[mine],
        table={name: float(values[row]) for name, values in table.items()},
    )
