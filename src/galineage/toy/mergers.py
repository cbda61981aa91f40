"""Merger histories: drawn backwards in time from the published merger rate, so that mass is conserved exactly.

Going back one step, a galaxy of mass M loses first its mergers, each splitting M into M / (1 + mu) and
mu M / (1 + mu), then the stars it formed. What was lost in mergers, in-situ stars and the seed add up to the mass at
z = 0 by construction, so the ex-situ fraction lies in [0, 1] without any clipping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.toy.cosmology import TimeGrid, time_grid
from galineage.toy.growth import draw_halo_mass, halo_growth, insitu_growth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.toy.suites import Suite

__all__ = ["MAJOR", "MU_MIN", "Histories", "Mergers", "draw_histories", "merger_rate", "rate_above"]

MU_MIN = 1e-3
"""Smallest stellar mass ratio that is followed (the lower end of the fit's range, Rodriguez-Gomez+2015)."""

MAJOR = 0.25
"""Stellar mass ratio from which a merger is major (Rodriguez-Gomez+2015)."""

FIT_Z_MAX = 4.0
"""Redshift up to which the published rate is used as it stands; the fit was made for z < 4 or so (adopted)."""

BEYOND_SLOPE = 3.3
"""Extra slope in (1 + z) beyond `FIT_Z_MAX` (adopted), set so that 2 to 4 % of the galaxies never had a major merger,
3.1 % as in the TNG100 table lying between the suites. These early mergers bring in next to no mass."""

SEED_MASS = 3e4
"""A main progenitor below this stellar mass is the seed of the galaxy and has no mergers, Msun (adopted)."""

GROWTH_SCATTER = 0.4
"""Galaxy-to-galaxy scatter of ln(halo growth rate), constant in time for each galaxy (adopted)."""

SATELLITE_FRACTION = 0.385
"""Fraction of satellites at z = 0 above 1e10 Msun (TNG100 table 0.387, EAGLE table 0.379)."""

INFALL_MAX = 9.0
"""Satellites became satellites at lookback times uniform between 0 and this, Gyr (adopted)."""


@dataclass(frozen=True)
class Mergers:
    """Every merger onto the main branch of every galaxy, one row each; ordered back in time for each galaxy.

    Attributes
    ----------
    galaxy : array of int (m,)
        Index of the galaxy.
    lookback : array (m,)
        Lookback time, Gyr.
    mu : array (m,)
        Stellar mass ratio secondary / primary, 1/1000 to 1.
    mstar : array (m,)
        Stellar mass brought in by the secondary, Msun.
    primary : array (m,)
        Stellar mass of the main progenitor just before, Msun.
    """

    galaxy: NDArray[np.int64]
    lookback: NDArray[np.float64]
    mu: NDArray[np.float64]
    mstar: NDArray[np.float64]
    primary: NDArray[np.float64]


@dataclass(frozen=True)
class Histories:
    """Growth of n galaxies: where each one's stars came from, and when.

    Attributes
    ----------
    mstar : array (n,)
        Stellar mass at z = 0, Msun: in-situ plus ex-situ.
    halo_mass : array (n,)
        Halo mass at z = 0, Msun (of a satellite: the mass it would have as a central).
    infall : array (n,)
        Lookback time at which it became a satellite, Gyr; 0 for centrals.
    insitu : array (n, k + 1)
        Stars formed in each time step, Msun; the last column is the seed at the start of the history.
    mergers : Mergers
    grid : TimeGrid
        The k time steps.
    """

    mstar: NDArray[np.float64]
    halo_mass: NDArray[np.float64]
    infall: NDArray[np.float64]
    insitu: NDArray[np.float64]
    mergers: Mergers
    grid: TimeGrid

    def summed(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add ``weights`` (m,), one per merger, for each galaxy; shape (n,), 0 without mergers."""
        return np.bincount(self.mergers.galaxy, weights, minlength=len(self.mstar)).astype(float)

    @property
    def exsitu(self) -> NDArray[np.float64]:
        """Stellar mass brought in by mergers, Msun, shape (n,)."""
        return self.summed(self.mergers.mstar)

    @property
    def central(self) -> NDArray[np.bool_]:
        """Whether it is a central galaxy, shape (n,)."""
        return self.infall == 0


def merger_rate(mstar: NDArray[np.float64], z: float | NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Normalisation and slope of the galaxy merger rate (Rodriguez-Gomez+2015, equation 9 and Table 1).

    d2N / (dmu dt) = A(z) (M / 1e10)^alpha(z) [1 + (M / 2e11)^delta(z)] mu^beta(M, z) with A = A0 (1 + z)^eta,
    alpha = alpha0 (1 + z)^alpha1, delta = delta0 (1 + z)^delta1, beta = beta0 (1 + z)^beta1 + gamma log10(M / 1e10);
    log10 A0 = -2.2287 (1/Gyr), eta = 2.4644, alpha0 = 0.2241, alpha1 = -1.1759, delta0 = 0.7668, delta1 = -0.4695,
    beta0 = -1.2595, beta1 = 0.0611, gamma = -0.0477. The numbers were checked against a public code that quotes
    the table; that delta is the exponent inside the bracket was not. Beyond z = 4 the rate is multiplied by
    ((1 + z) / 5)^`BEYOND_SLOPE` (adopted).

    Parameters
    ----------
    mstar : array, any shape, Msun
        Stellar mass of the descendant.
    z : float or array of the same shape

    Returns
    -------
    tuple of two arrays, same shape
        Rate per unit ratio at mu = 1, 1/Gyr, and slope beta in mu.
    """
    growth = 1 + np.asarray(z)
    x = mstar / 1e10
    norm = 10**-2.2287 * growth**2.4644 * np.maximum(growth / (1 + FIT_Z_MAX), 1.0) ** BEYOND_SLOPE
    norm = norm * x ** (0.2241 * growth**-1.1759) * (1 + (mstar / 2e11) ** (0.7668 * growth**-0.4695))
    return norm, -1.2595 * growth**0.0611 - 0.0477 * np.log10(x)


def rate_above(
    mstar: NDArray[np.float64], z: float | NDArray[np.float64], mu_min: float = MAJOR
) -> NDArray[np.float64]:
    """Mergers per Gyr with stellar mass ratio between ``mu_min`` and 1: the integral of `merger_rate`.

    Parameters
    ----------
    mstar : array, any shape, Msun
        Stellar mass of the descendant.
    z : float or array of the same shape
    mu_min : float
        Above 0, at most 1.

    Returns
    -------
    array, same shape, 1/Gyr
    """
    norm, slope = merger_rate(mstar, z)
    return norm * (1 - mu_min ** (1 + slope)) / (1 + slope)


def _draw_ratios(slope: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Ratios from mu^slope between `MU_MIN` and 1, one per entry of ``slope`` (m,)."""
    low = MU_MIN ** (1 + slope)
    ratios: NDArray[np.float64] = (low + rng.random(len(slope)) * (1 - low)) ** (1 / (1 + slope))
    return np.clip(ratios, MU_MIN, 1.0)  # rounding only


def _split(
    mass: NDArray[np.float64], count: NDArray[np.int64], ratios: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Undo the mergers of one step, last one first.

    Parameters
    ----------
    mass : array (n,), Msun
        Mass after the mergers.
    count : array (n,)
        Mergers of each galaxy in this step.
    ratios : array (count.sum(),)
        Their mass ratios, galaxy by galaxy.

    Returns
    -------
    tuple of arrays (count.sum(),)
        Masses of primary and secondary before each merger, Msun.
    """
    shrink = np.log1p(ratios)
    before = np.cumsum(shrink)
    first = np.cumsum(count) - count
    offset = np.repeat(np.concatenate([[0.0], before])[first], count)
    primary = np.repeat(mass, count) * np.exp(offset - before)
    return primary, primary * ratios


def _merger_share(infall: NDArray[np.float64], lookback: float) -> NDArray[np.float64]:
    """Factor (n,) on the published rate: 0 for satellites after infall, and more for the others, with mean 1.

    The fit counts all galaxies. Satellites hardly merge, so what they lack is given to those which are not
    satellites at that time, in proportion to their expected number.
    """
    satellites = SATELLITE_FRACTION * max(1 - lookback / INFALL_MAX, 0.0)
    return np.where(infall > lookback, 0.0, 1 / (1 - satellites))


def draw_histories(mstar: NDArray[np.float64], suite: Suite, rng: np.random.Generator) -> Histories:
    """Draw the history of each galaxy, from today back to the start of the time grid.

    Mergers are a Poisson process with the rate of `merger_rate` at the mass which the galaxy then had. Star
    formation follows `growth.insitu_growth` with the suite's feedback, and dies out after infall with the suite's
    ``satellite_quench_time``. Stellar evolution is left out: every mass is what is left today.

    Parameters
    ----------
    mstar : array (n,), Msun
        Stellar masses at z = 0.
    suite : Suite
    rng : numpy Generator

    Returns
    -------
    Histories
    """
    grid = time_grid()
    n = len(mstar)
    halo = halo_now = draw_halo_mass(mstar, rng)
    pace = np.exp(GROWTH_SCATTER * rng.standard_normal(n) - GROWTH_SCATTER**2 / 2)
    infall = np.where(rng.random(n) < SATELLITE_FRACTION, INFALL_MAX * rng.random(n), 0.0)
    mass = mstar.astype(float)
    insitu = np.zeros((n, len(grid.width) + 1))
    found: list[tuple[NDArray, ...]] = []
    for step, (z, width, middle) in enumerate(zip(grid.z_mid, grid.width, grid.middle, strict=True)):
        expected = rate_above(mass, z, MU_MIN) * width * _merger_share(infall, middle)
        expected[mass < SEED_MASS] = 0.0
        count = rng.poisson(expected)
        galaxy = np.repeat(np.arange(n), count)
        ratios = _draw_ratios(merger_rate(mass[galaxy], z)[1], rng)
        primary, secondary = _split(mass, count, ratios)
        lookback = grid.lookback[step] + width * rng.random(len(galaxy))
        lookback = lookback[np.lexsort((lookback, galaxy))]  # back in time, as the mergers were undone
        found.append((galaxy, lookback, ratios, secondary, primary))
        mass = mass - np.bincount(galaxy, secondary, minlength=n)
        accreted = halo_growth(halo, z, float(grid.expansion[step])) * pace * width
        response = insitu_growth(halo, z, suite.quench_offset, suite.quench_slope, suite.efficiency)
        fading = np.exp(-np.maximum(infall - middle, 0.0) / suite.satellite_quench_time)
        insitu[:, step] = -mass * np.expm1(-response * accreted * fading)
        mass = mass - insitu[:, step]
        halo = halo * np.exp(-accreted)
    insitu[:, -1] = mass
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    mergers = Mergers(*(values[order] for values in columns))
    return Histories(mstar.astype(float), halo_now, infall, insitu, mergers, grid)
