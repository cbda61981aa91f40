"""The loop that turns stars into light: find a star between four populations of the table, and interpolate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.compiling import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["CLAMPED", "guide_of", "look_up"]

CLAMPED = ("younger", "older", "metal-poor", "metal-rich")
"""In which ways a star can lie outside of the table, in the order in which they are counted."""

_LOG10 = float(np.log(10.0))


def guide_of(log_age: Array) -> NDArray[np.int64]:
    """Where to begin to look for an age: indices (4096,) for equal parts of the range of ``log_age`` (ages,), dex."""
    parts = np.linspace(log_age[0], log_age[-1], 4097)[:-1]
    return np.clip(np.searchsorted(log_age, parts, side="right") - 1, 0, len(log_age) - 2).astype(np.int64)


@compiled
def look_up(stars: Any, axes: Any, guide: Any, grid: Any, young: float, factors: Any, out: Any, counts: Any) -> None:
    """Write the light of every star in every band.

    Parameters
    ----------
    stars : tuple of three arrays (n,)
        Age (Gyr), metallicity (mass fraction), and by what the light of a solar mass formed is multiplied (Msun).
        Finite, not negative.
    axes : tuple of two arrays (Z,), (ages,), dex
        log10 of metallicity and of age in yr, rising.
    guide : array (4096,) of int
        Of `guide_of`.
    grid : array (Z, ages, bands), mag
        Per solar mass; interpolated linearly in the logarithms, and held at its edges.
    young : float, Gyr
        Up to this age the first row of ``factors`` counts, later the second.
    factors : array (2, bands)
        Multiply the light; no unit.
    out : array (bands, n)
        Filled with 10^(-0.4 magnitude): for nanomaggies give magnitudes less 22.5.
    counts : array (4,) of int
        Added to: stars outside of the table, in the order of `CLAMPED`.
    """
    ages, metals, weights = stars
    log_z, log_age = axes
    last_age, last_z, bands = len(log_age) - 1, len(log_z) - 1, grid.shape[2]
    low, high = log_age[0], log_age[last_age]
    rate, parts = len(guide) / (high - low), len(guide)
    for i in range(len(ages)):
        t = np.log10(ages[i]) + 9.0 if ages[i] > 0 else low - 1.0
        z = np.log10(metals[i]) if metals[i] > 0 else log_z[0] - 1.0
        counts[0] += t < low
        counts[1] += t > high
        counts[2] += z < log_z[0]
        counts[3] += z > log_z[last_z]
        t, z = min(max(t, low), high), min(max(z, log_z[0]), log_z[last_z])
        a = guide[min(int((t - low) * rate), parts - 1)]
        while a < last_age - 1 and log_age[a + 1] < t:
            a += 1
        m = 0
        while m < last_z - 1 and log_z[m + 1] < z:
            m += 1
        u = (t - log_age[a]) / (log_age[a + 1] - log_age[a])
        v = (z - log_z[m]) / (log_z[m + 1] - log_z[m])
        screen = 0 if ages[i] <= young else 1
        for b in range(bands):
            poor = (1 - u) * grid[m, a, b] + u * grid[m, a + 1, b]
            rich = (1 - u) * grid[m + 1, a, b] + u * grid[m + 1, a + 1, b]
            value = (1 - v) * poor + v * rich
            out[b, i] = weights[i] * factors[screen, b] * np.exp(-0.4 * _LOG10 * value)
