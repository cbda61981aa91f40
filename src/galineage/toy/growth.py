"""Growth of galaxies without mergers: stellar mass function, halo masses and growth, star formation inside a halo.

Masses are in Msun, rates per Gyr, z is redshift. Every formula names its paper; "adopted" marks a choice of this toy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw_halo_mass", "draw_stellar_mass", "halo_growth", "insitu_growth", "stellar_mass_of_halo"]

M_MIN = 1e10
"""Smallest stellar mass at z = 0, Msun: the selection of Angeloudi+2023."""

LOG_M_MAX = 12.0
"""Base-10 logarithm of the largest stellar mass at z = 0, Msun (adopted)."""

HALO_SCATTER = 0.2
"""Scatter of halo mass at fixed stellar mass, dex (adopted)."""


def draw_stellar_mass(n: int, rng: np.random.Generator, flat_fraction: float = 0.08) -> NDArray[np.float64]:
    """Draw stellar masses at z = 0 from the GAMA mass function above 1e10 Msun.

    The double Schechter function of Baldry+2012 (abstract): log M* = 10.66, phi1 = 3.96e-3 Mpc^-3, alpha1 = -0.35,
    phi2 = 0.79e-3 Mpc^-3, alpha2 = -1.47. Its exponential end falls faster than the TNG100 and EAGLE tables, which
    hold all bound stars (5 and 3 % above 2e11 Msun; the function gives 1 %). So 8 % are drawn uniformly
    in log M* between 10 and 12 (adopted), which a training set wants anyway.

    Parameters
    ----------
    n : int
        How many.
    rng : numpy Generator
    flat_fraction : float
        Share drawn uniformly in the logarithm, 0 to 1.

    Returns
    -------
    array (n,), Msun
    """
    log_mass = np.linspace(np.log10(M_MIN), LOG_M_MAX, 2001)
    x = 10 ** (log_mass - 10.66)
    schechter = np.exp(-x) * (3.96e-3 * x**0.65 + 0.79e-3 * x**-0.47)
    density = (1 - flat_fraction) * schechter / schechter.mean() + flat_fraction
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return 10 ** np.interp(rng.random(n), cumulative / cumulative[-1], log_mass)


def stellar_mass_of_halo(halo_mass: NDArray[np.float64], z: float) -> NDArray[np.float64]:
    """Mean stellar mass of a halo (Moster, Naab & White 2013, equations 2 and 11 to 14, Table 1).

    m = 2 N M / ((M/M1)^-beta + (M/M1)^gamma), with log M1 = 11.590 + 1.195 w, N = 0.0351 - 0.0247 w,
    beta = 1.376 - 0.826 w, gamma = 0.608 + 0.329 w and w = z / (1 + z).

    Parameters
    ----------
    halo_mass : array, any shape, Msun
    z : float

    Returns
    -------
    array, same shape, Msun
    """
    w = z / (1 + z)
    x = halo_mass / 10 ** (11.590 + 1.195 * w)
    return 2 * (0.0351 - 0.0247 * w) * halo_mass / (x ** -(1.376 - 0.826 * w) + x ** (0.608 + 0.329 * w))


def draw_halo_mass(mstar: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Halo masses at z = 0: the inverse of `stellar_mass_of_halo` with log-normal scatter of 0.2 dex (adopted).

    Simulations count all bound stars, also the diffuse light of groups and clusters that abundance matching leaves
    out; so the mean relation is raised by (1 + M_halo / 10^13.5 Msun)^0.4 (adopted).

    Parameters
    ----------
    mstar : array (n,), Msun
    rng : numpy Generator

    Returns
    -------
    array (n,), Msun
        Capped at 10^15 Msun: no halo is much larger, and the mean relation flattens there.
    """
    log_halo = np.linspace(10.0, 15.0, 2001)
    log_stars = np.log10(stellar_mass_of_halo(10**log_halo, 0.0)) + 0.4 * np.log10(1 + 10 ** (log_halo - 13.5))
    log_mean = np.interp(np.log10(mstar), log_stars, log_halo)
    return 10 ** np.minimum(log_mean + HALO_SCATTER * rng.standard_normal(len(mstar)), 15.0)


def halo_growth(halo_mass: NDArray[np.float64], z: float, expansion: float) -> NDArray[np.float64]:
    """Mean specific growth rate of a halo, dln M / dt in 1/Gyr (Fakhouri, Ma & Boylan-Kolchin 2010, equation 2).

    dM/dt = 46.1 Msun/yr (M / 1e12 Msun)^1.1 (1 + 1.11 z) H(z)/H0.

    Parameters
    ----------
    halo_mass : array, any shape, Msun
    z : float
    expansion : float
        H(z) / H0.

    Returns
    -------
    array, same shape, 1/Gyr
    """
    return 0.0461 * (halo_mass / 1e12) ** 0.1 * (1 + 1.11 * z) * expansion


def insitu_growth(
    halo_mass: NDArray[np.float64], z: float, quench_offset: float, quench_slope: float, efficiency: float
) -> NDArray[np.float64]:
    """Growth of stellar mass by star formation, per growth of the halo: dln M* / dln M_halo (no unit).

    Below its turnover the relation of Moster+2013 is M* ~ M_halo^(1 + beta): a galaxy fed by its halo grows 1 + beta
    times as fast. Above the turnover mass M1(z) the relation is flattened by quenching; what growth is left
    there is by mergers, which this toy draws separately, so star formation is cut by
    1 / (1 + (M_halo / M_q)^quench_slope) with M_q = M1(z) 10^quench_offset (the form and the two numbers are adopted:
    they stand for a simulation's feedback).

    Parameters
    ----------
    halo_mass : array, any shape, Msun
    z : float
    quench_offset : float, dex
    quench_slope : float
    efficiency : float
        Factor on 1 + beta (adopted, near 1).

    Returns
    -------
    array, same shape, no unit
    """
    w = z / (1 + z)
    excess = np.log10(halo_mass) - (11.590 + 1.195 * w + quench_offset)
    return efficiency * (1 + 1.376 - 0.826 * w) / (1 + 10 ** (quench_slope * excess))
