"""What can be seen of a toy galaxy, and the truth about its history: metallicity, age, size, spin from the merger list.

Every relation names its paper; what a suite adopts is explained in `galineage.toy.suites.Suite`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.fields import SOLAR_METALLICITY
from galineage.toy.cosmology import AGE_OF_UNIVERSE, redshift_at
from galineage.toy.mergers import MAJOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.toy.mergers import Histories
    from galineage.toy.suites import Suite

__all__ = [
    "Parts",
    "circular_velocity",
    "disc_size",
    "draw_parts",
    "mass_metallicity",
    "observe",
    "truths",
    "virial_growth",
]

FORMATION_Z = 0.8
"""Redshift at which discs of the size relation formed their average star (adopted; mean age 7 Gyr)."""

SATELLITE_METAL_SCATTER = 0.1
"""Scatter of log10 Z between accreted galaxies of one mass, dex (adopted)."""

SCALE_LENGTHS = 1.678
"""Half-mass radius of an exponential disc in scale lengths."""


def truths(histories: Histories) -> dict[str, NDArray]:
    """Compute the targets, as the merger-history catalogues of simulations define them.

    Parameters
    ----------
    histories : Histories
        Of n galaxies.

    Returns
    -------
    dict of str to array (n,)
        ``f_ex`` (no unit); ``t_last_major`` (Gyr, NaN = never), ``mstar_last_major`` (Msun, NaN = never),
        ``t_mean_merger`` (Gyr) and ``mu_mean_merger``, weighted by the secondary's mass as in Rodriguez-Gomez+2017
        (NaN without any merger), and ``n_major``.
    """
    mergers = histories.mergers
    n = len(histories.mstar)
    exsitu = histories.exsitu
    major = np.flatnonzero(mergers.mu >= MAJOR)
    hosts, first = np.unique(mergers.galaxy[major], return_index=True)  # mergers go back in time: first is last
    t_last, mass_last = np.full(n, np.nan), np.full(n, np.nan)
    t_last[hosts] = mergers.lookback[major[first]]
    mass_last[hosts] = mergers.mstar[major[first]]
    weight = np.where(exsitu > 0, exsitu, np.nan)
    return {
        "f_ex": exsitu / (exsitu + histories.insitu.sum(axis=1)),
        "t_last_major": t_last,
        "mstar_last_major": mass_last,
        "t_mean_merger": histories.summed(mergers.mstar * mergers.lookback) / weight,
        "mu_mean_merger": histories.summed(mergers.mstar * mergers.mu) / weight,
        "n_major": np.bincount(mergers.galaxy[major], minlength=n),
    }


@dataclass(frozen=True)
class Parts:
    """What each galaxy's observables are made of: in-situ stars, and one entry per merger.

    Attributes
    ----------
    insitu : array (n,), Msun
        Stellar mass formed in the galaxy itself.
    insitu_age : array (n,), Gyr
        Mass-weighted age of those stars.
    disc : array (n,), kpc
        Their half-mass radius had no merger come.
    r_half : array (n,), kpc
        Half-mass radius of all stars.
    insitu_metallicity : array (n,)
        Mean metal mass fraction of those stars over `galineage.fields.SOLAR_METALLICITY`.
    accreted_metallicity : array (m,)
        The same of each merger's stars.
    insitu_spin : array (n,), kpc km/s
        Angular momentum of the in-situ stars over the mass of *all* stars.
    orbits : array (m, 3), kpc km/s
        Angular momentum that each merger brought, over the mass of all stars; the third axis is the in-situ spin's.
    """

    insitu: NDArray[np.float64]
    insitu_age: NDArray[np.float64]
    disc: NDArray[np.float64]
    r_half: NDArray[np.float64]
    insitu_metallicity: NDArray[np.float64]
    accreted_metallicity: NDArray[np.float64]
    insitu_spin: NDArray[np.float64]
    orbits: NDArray[np.float64]


def draw_parts(histories: Histories, suite: Suite, rng: np.random.Generator) -> Parts:
    """Draw what the observables are made of; `observe` sums it, `galineage.toy.particles` makes stars of it.

    Parameters
    ----------
    histories : Histories
        Of n galaxies with m mergers.
    suite : Suite
    rng : numpy Generator

    Returns
    -------
    Parts
    """
    n = len(histories.mstar)
    times = np.append(histories.grid.middle, histories.grid.lookback[-1])
    insitu = histories.insitu.sum(axis=1)
    insitu_age = histories.insitu @ times / insitu
    size_offset = suite.size_scatter * disc_scatter(insitu) * rng.standard_normal(n)
    size_offset -= suite.size_evolution * np.log10((1 + redshift_at(insitu_age)) / (1 + FORMATION_Z))
    disc = suite.size_norm * disc_size(insitu) * 10**size_offset
    r_half = disc * np.exp(suite.puffing * histories.summed(_swelling(histories)))
    own_metals, brought_metals = _metallicities(histories, suite, insitu, size_offset, rng)
    own_spin, orbits = _spins(histories, suite, insitu, r_half, rng)
    return Parts(insitu, insitu_age, disc, r_half, own_metals, brought_metals, own_spin, orbits)


def observe(
    histories: Histories, suite: Suite, rng: np.random.Generator, parts: Parts | None = None
) -> dict[str, NDArray]:
    """Integrated observables of each galaxy.

    Parameters
    ----------
    histories : Histories
        Of n galaxies.
    suite : Suite
    rng : numpy Generator
        Unused if ``parts`` are given.
    parts : Parts, optional
        As `draw_parts` drew them; default: drawn here.

    Returns
    -------
    dict of str to array (n,)
        ``metallicity`` (mass fraction), ``age`` (Gyr), ``r_half`` (kpc), ``spin`` (kpc km/s); no NaN.
    """
    parts = draw_parts(histories, suite, rng) if parts is None else parts
    metals = parts.insitu * parts.insitu_metallicity
    metals = metals + histories.summed(histories.mergers.mstar * parts.accreted_metallicity)
    total = np.stack([histories.summed(parts.orbits[:, axis]) for axis in range(3)])
    total[2] += parts.insitu_spin
    return {
        "metallicity": SOLAR_METALLICITY * metals / histories.mstar,
        "age": _age(histories, suite, parts.insitu, parts.insitu_age),
        "r_half": parts.r_half,
        "spin": np.asarray(np.linalg.norm(total, axis=0)),
    }


def disc_size(mstar: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median half-light radius of late-type galaxies (Shen+2003, equation 18 and Table 1).

    R = 0.1 (M/Msun)^0.14 (1 + M / 3.98e10 Msun)^(0.39 - 0.14) kpc.

    Parameters
    ----------
    mstar : array, any shape, Msun

    Returns
    -------
    array, same shape, kpc
    """
    return 0.1 * mstar**0.14 * (1 + mstar / 3.98e10) ** 0.25


def disc_scatter(mstar: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scatter of log10 R of late-type galaxies (Shen+2003, equation 19 and Table 1).

    sigma(ln R) = 0.34 + (0.47 - 0.34) / (1 + (M / 3.98e10 Msun)^2).

    Parameters
    ----------
    mstar : array, any shape, Msun

    Returns
    -------
    array, same shape, dex
    """
    return (0.34 + 0.13 / (1 + (mstar / 3.98e10) ** 2)) / np.log(10)


def circular_velocity(mstar: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation velocity of a galaxy of this baryonic mass: M = 50 V^4 (McGaugh 2005), stars only (adopted).

    Parameters
    ----------
    mstar : array, any shape, Msun

    Returns
    -------
    array, same shape, km/s
    """
    return (mstar / 50) ** 0.25


def virial_growth(mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Growth of ln r in a merger without gas: ln[(1 + mu)^2 / (1 + mu eps)] (virial argument of Naab+2009).

    eps, the ratio of the squared velocity dispersions, is mu^0.44: M / r along r ~ M^0.56, the slope of early-type
    galaxies (Shen+2003). Equal partners double r, and mass brought in by small partners counts twice. Both
    statements are quoted from memory of the papers.

    Parameters
    ----------
    mu : array, any shape
        Stellar mass ratio, 0 to 1.

    Returns
    -------
    array, same shape, no unit
    """
    return 2 * np.log1p(mu) - np.log1p(mu**1.44)


def mass_metallicity(mstar: NDArray[np.float64], suite: Suite) -> NDArray[np.float64]:
    """Base-10 logarithm of Z/Zsun at z = 0: metal_plateau - log10(1 + (M / 10^metal_mass)^-metal_slope).

    The saturating shape is that of the observed relation (Gallazzi+2005); the numbers are the suite's.

    Parameters
    ----------
    mstar : array, any shape, Msun
    suite : Suite

    Returns
    -------
    array, same shape, dex
    """
    return suite.metal_plateau - np.log10(1 + 10 ** (-suite.metal_slope * (np.log10(mstar) - suite.metal_mass)))


def _swelling(histories: Histories) -> NDArray[np.float64]:
    """Virial growth of each merger, weighted by the share of today's mass which was there: later stars settle anew."""
    mergers = histories.mergers
    share = (mergers.primary + mergers.mstar) / histories.mstar[mergers.galaxy]
    return share * virial_growth(mergers.mu)


def _age(
    histories: Histories, suite: Suite, insitu: NDArray[np.float64], insitu_age: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mass-weighted age, Gyr: accreted stars had the mean age satellite_age x (age of the universe) on merging."""
    lookback = histories.mergers.lookback
    accreted_age = lookback + suite.satellite_age * (AGE_OF_UNIVERSE - lookback)
    return (insitu * insitu_age + histories.summed(histories.mergers.mstar * accreted_age)) / histories.mstar


def _metallicities(
    histories: Histories,
    suite: Suite,
    insitu: NDArray[np.float64],
    size_offset: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metals over solar of the in-situ stars (n,), and of each accreted galaxy (m,), which has its own, fewer ones.

    At fixed mass compact galaxies are metal-richer (potential M / R, Barone+2018).
    """
    mergers = histories.mergers
    log_insitu = mass_metallicity(insitu, suite) + suite.metal_potential * size_offset
    log_insitu += suite.metal_scatter * rng.standard_normal(len(insitu))
    log_accreted = mass_metallicity(mergers.mstar, suite)
    log_accreted -= suite.metal_evolution * np.log10(1 + redshift_at(mergers.lookback))
    log_accreted += SATELLITE_METAL_SCATTER * rng.standard_normal(len(mergers.mstar))
    return 10**log_insitu, 10**log_accreted


def _spins(
    histories: Histories,
    suite: Suite,
    insitu: NDArray[np.float64],
    r_half: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Specific angular momentum, kpc km/s: a disc that major mergers disturb (n,), and orbits of any direction (m, 3).

    An exponential disc has j = 2 h V (Romanowsky & Fall 2012) with h = r_half / 1.678. Each merger adds its stars'
    share of orbital angular momentum in an isotropic direction.
    """
    mergers = histories.mergers
    share = mergers.mstar / histories.mstar[mergers.galaxy]
    velocity = circular_velocity(histories.mstar)
    lost = suite.spin_loss * histories.summed(np.where(mergers.mu >= MAJOR, share, 0.0))
    own = suite.spin_norm * 2 * r_half / SCALE_LENGTHS * velocity * np.exp(-lost)
    own *= insitu / histories.mstar * 10 ** (suite.spin_scatter * rng.standard_normal(len(insitu)))
    direction = rng.standard_normal((len(share), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    orbits = suite.orbit * share * (r_half * velocity)[mergers.galaxy]
    return own, orbits[:, None] * direction
