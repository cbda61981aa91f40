"""The toy suites: three galaxy-formation models that share gravity and merger rates; toy-c is there to be held out."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError
from galineage.galaxy import Catalogue
from galineage.toy.growth import draw_stellar_mass
from galineage.toy.mergers import draw_histories
from galineage.toy.observables import observe, truths

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SUITES", "Suite", "make_toy"]

BLOCK = 20_000
"""Galaxies drawn at once: keeps memory flat (about 0.2 GB) however many are asked for."""


@dataclass(frozen=True)
class Suite:
    """What one galaxy-formation model makes of the shared merger histories; every number is adopted.

    Attributes
    ----------
    meaning : str
        One line for the documentation.
    quench_offset : float
        Halo mass at which star formation is halved, in dex above the turnover M1(z) of Moster+2013.
    quench_slope : float
        How sharply star formation fades with halo mass.
    efficiency : float
        Factor on the star formation per halo growth.
    satellite_quench_time : float
        Star formation in satellites fades with this time constant after infall, Gyr.
    satellite_age : float
        Mean age of an accreted galaxy's stars when it merged, in units of the age of the universe then.
    metal_plateau : float
        log10(Z/Zsun) that massive galaxies reach.
    metal_mass : float
        Base-10 logarithm of the stellar mass (Msun) below which the mass-metallicity relation bends.
    metal_slope : float
        Slope of the relation at low mass.
    metal_evolution : float
        Drop of log10 Z per unit of log10(1 + z) for accreted galaxies.
    metal_potential : float
        Change of in-situ log10 Z per dex of disc size at fixed mass, negative: compact galaxies keep their metals.
    metal_scatter : float
        Scatter of in-situ log10 Z, dex.
    size_norm : float
        In-situ half-mass radius over the half-light radius of Shen+2003.
    size_evolution : float
        Discs that formed early are smaller by (1 + z)^-size_evolution.
    size_scatter : float
        Scatter of the in-situ size over that of Shen+2003.
    puffing : float
        How much of the virial size growth of Naab+2009 mergers cause.
    spin_norm : float
        Specific angular momentum of in-situ stars over that of an exponential disc of the same size.
    spin_loss : float
        e-folds of in-situ angular momentum lost per unit of mass brought in by major mergers.
    spin_scatter : float
        Scatter of the in-situ angular momentum, dex.
    orbit : float
        Orbital angular momentum which a merger leaves in its stars, over half-mass radius times circular velocity.
    """

    meaning: str
    quench_offset: float
    quench_slope: float
    efficiency: float
    satellite_quench_time: float
    satellite_age: float
    metal_plateau: float
    metal_mass: float
    metal_slope: float
    metal_evolution: float
    metal_potential: float
    metal_scatter: float
    size_norm: float
    size_evolution: float
    size_scatter: float
    puffing: float
    spin_norm: float
    spin_loss: float
    spin_scatter: float
    orbit: float

    def __post_init__(self) -> None:
        signed = {"quench_offset", "metal_plateau", "metal_potential", "metal_evolution"}
        for item in fields(self)[1:]:
            value = getattr(self, item.name)
            if not np.isfinite(value) or (value < 0 and item.name not in signed):
                raise ConfigError(f"{item.name} of a toy suite is {value}", expected="a finite number, not negative")
        if not 0 <= self.satellite_age <= 1:
            raise ConfigError(f"satellite_age is {self.satellite_age}", expected="0 to 1")
        if self.satellite_quench_time == 0:
            raise ConfigError("satellite_quench_time is 0", expected="a positive time in Gyr")


SUITES: dict[str, Suite] = {
    "toy-a": Suite(
        meaning="late star formation, compact discs, metals tied to the depth of the potential (after TNG100)",
        quench_offset=0.1,
        quench_slope=1.9,
        efficiency=1.4,
        satellite_quench_time=1.5,
        satellite_age=0.5,
        metal_plateau=0.24,
        metal_mass=8.4,
        metal_slope=0.6,
        metal_evolution=0.35,
        metal_potential=-0.3,
        metal_scatter=0.05,
        size_norm=0.8,
        size_evolution=0.75,
        size_scatter=1.0,
        puffing=1.8,
        spin_norm=0.85,
        spin_loss=2.5,
        spin_scatter=0.15,
        orbit=1.5,
    ),
    "toy-b": Suite(
        meaning="early star formation, extended discs, metals only loosely tied to size (after EAGLE)",
        quench_offset=0.0,
        quench_slope=1.4,
        efficiency=1.15,
        satellite_quench_time=2.5,
        satellite_age=0.55,
        metal_plateau=0.25,
        metal_mass=8.7,
        metal_slope=0.6,
        metal_evolution=0.7,
        metal_potential=-0.25,
        metal_scatter=0.06,
        size_norm=1.1,
        size_evolution=0.75,
        size_scatter=0.9,
        puffing=1.5,
        spin_norm=0.7,
        spin_loss=3.5,
        spin_scatter=0.2,
        orbit=1.5,
    ),
    "toy-c": Suite(
        meaning="held out: fast discs that puff up little, slow enrichment (set to no table)",
        quench_offset=0.05,
        quench_slope=1.65,
        efficiency=1.25,
        satellite_quench_time=1.0,
        satellite_age=0.45,
        metal_plateau=0.15,
        metal_mass=9.0,
        metal_slope=0.5,
        metal_evolution=0.5,
        metal_potential=-0.15,
        metal_scatter=0.07,
        size_norm=0.95,
        size_evolution=0.6,
        size_scatter=0.8,
        puffing=1.3,
        spin_norm=0.95,
        spin_loss=2.0,
        spin_scatter=0.18,
        orbit=1.2,
    ),
}
"""Every toy suite by name; a new one is one entry."""


def make_toy(name: str, n: int, seed: int) -> Catalogue:
    """Make a catalogue of toy galaxies at z = 0.

    Parameters
    ----------
    name : str
        A key of `SUITES`.
    n : int
        Number of galaxies, at least 1.
    seed : int
        Not negative. The same name, ``n`` and ``seed`` give the same numbers; suites with the same seed are
        independent of each other.

    Returns
    -------
    Catalogue
        Columns in registry units: mstar, metallicity, age, r_half, spin, f_ex, t_last_major, mstar_last_major,
        t_mean_merger, mu_mean_merger (NaN as the registry says), n_major, central, snapshot (99), redshift (0).
        ``domain`` is the suite's name, ``ids`` are 0 to n - 1, and each galaxy is its own root.

    Raises
    ------
    ConfigError
        If there is no such suite, or ``n`` or ``seed`` is out of range.
    """
    if name not in SUITES:
        raise ConfigError(f"there is no toy suite {name!r}", expected="one of " + ", ".join(SUITES))
    if n < 1 or seed < 0:
        raise ConfigError(f"cannot make {n} galaxies with seed {seed}", expected="n >= 1 and seed >= 0")
    suite = SUITES[name]
    blocks = -(-n // BLOCK)
    seeds = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).spawn(blocks)
    parts = [
        _make_block(suite, min(BLOCK, n - BLOCK * number), np.random.default_rng(sequence))
        for number, sequence in enumerate(seeds)
    ]
    ids = np.arange(n)
    return Catalogue(
        columns={column: np.concatenate([part[column] for part in parts]) for column in parts[0]},
        ids=ids,
        domain=np.asarray(name),
        root=np.char.add(f"{name}:", ids.astype(str)),
        meta={"toy": True, "note": "toy universe, not a simulation", "suite": name, "seed": seed, **asdict(suite)},
    )


def _make_block(suite: Suite, n: int, rng: np.random.Generator) -> dict[str, NDArray]:
    histories = draw_histories(draw_stellar_mass(n, rng), suite, rng)
    return {
        "mstar": histories.mstar,
        **observe(histories, suite, rng),
        **truths(histories),
        "central": histories.central,
        "snapshot": np.full(n, 99),
        "redshift": np.zeros(n),
    }
