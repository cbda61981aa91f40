"""Cosmic time for the toy universe: Planck 2015, tabulated once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AGE_OF_UNIVERSE", "TimeGrid", "redshift_at", "time_grid"]

AGE_OF_UNIVERSE = 13.797
"""Age of the universe in Gyr (`astropy.cosmology.Planck15`, which is the cosmology of TNG)."""

Z_MAX = 8.0
"""Redshift at which the toy's histories start (lookback 13.15 Gyr). Adopted: 5 % of the TNG100 galaxies had their
last major merger before 13.1 Gyr."""

STEPS = 120
"""Steps between today and `Z_MAX`, uniform in ln(1 + z): 0.26 Gyr today, 0.02 Gyr at the start."""


@dataclass(frozen=True)
class TimeGrid:
    """Edges of the time steps, from today into the past.

    Attributes
    ----------
    z : array (k + 1,)
        Redshift of the edges, rising from 0.
    lookback : array (k + 1,)
        Lookback time of the edges, Gyr.
    expansion : array (k,)
        H(z) / H0 at the middle of each step in ln(1 + z).
    """

    z: NDArray[np.float64]
    lookback: NDArray[np.float64]
    expansion: NDArray[np.float64]

    @property
    def z_mid(self) -> NDArray[np.float64]:
        """Redshift at the middle of each step in ln(1 + z), shape (k,)."""
        return np.sqrt((1 + self.z[1:]) * (1 + self.z[:-1])) - 1

    @property
    def width(self) -> NDArray[np.float64]:
        """Length of each step, Gyr, shape (k,)."""
        return np.diff(self.lookback)

    @property
    def middle(self) -> NDArray[np.float64]:
        """Lookback time at the middle of each step, Gyr, shape (k,)."""
        return (self.lookback[1:] + self.lookback[:-1]) / 2


@cache
def time_grid(z_max: float = Z_MAX, steps: int = STEPS) -> TimeGrid:
    """Time steps uniform in ln(1 + z) for the Planck 2015 cosmology (Planck Collaboration XIII 2016).

    Parameters
    ----------
    z_max : float
        Redshift of the last edge, above 0.
    steps : int
        Number of steps, at least 1.

    Returns
    -------
    TimeGrid
        Its arrays are read-only: the grid is computed once and shared.

    Raises
    ------
    ConfigError
        If ``z_max`` or ``steps`` is not positive.
    """
    if not (z_max > 0 and steps >= 1):
        raise ConfigError(f"no time grid with {steps} steps to redshift {z_max}", expected="both positive")
    from astropy.cosmology import Planck15

    z = np.expm1(np.linspace(0.0, np.log1p(z_max), steps + 1))
    middle = np.sqrt((1 + z[1:]) * (1 + z[:-1])) - 1
    grid = TimeGrid(z, np.asarray(Planck15.lookback_time(z).value), np.asarray(Planck15.efunc(middle)))
    for values in (grid.z, grid.lookback, grid.expansion):
        values.setflags(write=False)
    return grid


def redshift_at(lookback: NDArray[np.float64]) -> NDArray[np.float64]:
    """Redshift of a lookback time, linear between the edges of a fine grid to z = 30.

    Parameters
    ----------
    lookback : array, any shape, Gyr
        0 to 13.69 (z = 30); earlier times return 30. NaN stays NaN.

    Returns
    -------
    array, same shape
    """
    fine = time_grid(30.0, 2000)
    return np.interp(lookback, fine.lookback, fine.z)
