"""What the eight sums of one pass do not hold: third and fourth moments of velocity, and squares of weights.

A second pass with another record gives them, only where they are asked for: w and w v^2 in place of 1 and m in a star's
record make the sums w, w^2, w v, w v^2, w v^3, w v^4. They are sums, so that smoothing and point-spread functions act
on them as on the others, before anything is divided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.compiling import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["LEAST_STARS", "hermite", "sample_sigma", "weigh"]

LEAST_STARS = 16
"""Stars that a pixel must have for h3 and h4: of so many drawn from a Gaussian, h3 scatters by 0.07 and h4 by 0.04, and
what galaxies have lies within 0.2. With a fifth of them, moments say more of the number of stars than of the galaxy."""

COLDEST = 1e-3
"""Dispersion, in units of the root mean square velocity in the galaxy's frame, below which the fourth moment is lost in
the rounding of its sums."""

ALONE = 1e-6
"""By how much the effective number of stars must exceed one."""

_WEIGHT, _SQUARE, _FIRST, _SECOND, _THIRD, _FOURTH = 0, 2, 4, 5, 6, 7
"""Where the sums lie in a pixel's record that was made of what `weigh` writes."""


@compiled
def weigh(motion: Any, weights: Any, scale: float, away: Any, record: Any) -> None:
    """Write the records of stars for the second pass.

    Parameters
    ----------
    motion : array (6, n)
        Positions and velocities (km/s), as the deposit has them.
    weights : array (n,)
        Of any unit.
    scale : float
        Weights are multiplied with it: their squares must not overflow.
    away : array (3,) of the number type of ``motion``
        Direction away from the observer.
    record : array (n, 4) of float64
        Filled with w, w v^2 (km/s squared), w^2, 0, where v is the very number that the deposit computes.
    """
    vx, vy, vz = motion[3], motion[4], motion[5]
    for i in range(len(record)):
        velocity = np.float64(away[0] * vx[i] + away[1] * vy[i] + away[2] * vz[i])
        weight = np.float64(weights[i]) * scale
        record[i, 0] = weight
        record[i, 1] = weight * velocity * velocity
        record[i, 2] = weight * weight
        record[i, 3] = 0.0


def hermite(sums: Array, count: NDArray[Any]) -> tuple[Array, Array]:
    """Skewness and excess kurtosis of velocities as Gauss-Hermite coefficients.

    h3 = skewness / (4 sqrt 3) and h4 = excess kurtosis / (8 sqrt 6): to first order these are the coefficients of the
    Gauss-Hermite series of van der Marel & Franx (1993), with the pixel's own mean and dispersion. Moments can be
    blurred and smoothed, because they are sums; a fit of the series cannot. Moments feel the wings more than a fit:
    where a distribution is far from a Gaussian, they differ, see docs/howto/maps.md.

    Parameters
    ----------
    sums : array (s, s, 8)
        Of the second pass.
    count : array (s, s)
        Stars in each pixel.

    Returns
    -------
    h3, h4 : array (s, s), no unit
        NaN in pixels with fewer than `LEAST_STARS` stars, without weight, and without dispersion (`COLDEST`).
    """
    weight = sums[..., _WEIGHT]
    with np.errstate(invalid="ignore", divide="ignore"):
        one, two, three, four = (sums[..., lane] / weight for lane in (_FIRST, _SECOND, _THIRD, _FOURTH))
        variance = two - one**2
        known = (count >= LEAST_STARS) & (weight > 0) & (variance > COLDEST**2 * two)
        variance = np.where(known, variance, np.nan)
        skewness = (three - 3 * one * two + 2 * one**3) / variance**1.5
        kurtosis = (four - 4 * one * three + 6 * one**2 * two - 3 * one**4) / variance**2 - 3
    return skewness / (4 * np.sqrt(3)), kurtosis / (8 * np.sqrt(6))


def sample_sigma(sigma: NDArray[Any], weight: NDArray[Any], squares: NDArray[Any]) -> Array:
    """Dispersion of which the stars are a sample: sqrt(n / (n - 1)) times that of the stars.

    With weights, n is the effective number (sum w)^2 / sum w^2 (Kish 1965): the variance is divided by
    1 - sum w^2 / (sum w)^2, which makes it unbiased for weights that have nothing to do with velocities.

    Parameters
    ----------
    sigma : array (s, s), km/s
        Of the stars themselves.
    weight, squares : array (s, s)
        Sums of weights, and of their squares; both the number of stars where these count alike.

    Returns
    -------
    array (s, s), km/s
        NaN where there is effectively one star or less.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        number = weight.astype(np.float64) ** 2 / squares
        return np.asarray(np.where(number > 1 + ALONE, sigma * np.sqrt(number / (number - 1)), np.nan))
