"""The moments at which simulations wrote their snapshots, in lookback time, and their cosmologies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage import cosmology

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.cosmology import Cosmology

__all__ = ["EAGLE", "EARLIEST", "TNG", "Timeline", "last_before"]

EARLIEST = 13.3
"""No star of the toy formed before this lookback time, Gyr (redshift 9.4): every galaxy is then in every tree."""

_EAGLE_REDSHIFTS = (
    "20.00 15.13 9.993 8.988 8.075 7.050 5.971 5.487 5.037 4.485 3.984 3.528 3.017 2.478 2.237 2.012 1.737 1.487 "
    "1.259 1.004 0.865 0.736 0.615 0.503 0.366 0.271 0.183 0.101 0.000"
)


@dataclass(frozen=True)
class Timeline:
    """Snapshots of a simulation in a flat universe of matter and a cosmological constant.

    Attributes
    ----------
    redshift : array (s,)
        Falling to 0.
    cosmology : Cosmology
    omega_baryon : float
    """

    redshift: NDArray[np.float64]
    cosmology: Cosmology
    omega_baryon: float

    @property
    def hubble(self) -> float:
        """H0 / (100 km/s/Mpc)."""
        return self.cosmology.h

    @property
    def omega_matter(self) -> float:
        """Matter density today."""
        return self.cosmology.omega_m

    @property
    def scale(self) -> NDArray[np.float64]:
        """Scale factor of each snapshot, no unit, shape (s,)."""
        return 1 / (1 + self.redshift)

    @property
    def lookback(self) -> NDArray[np.float64]:
        """Lookback time of each snapshot from z = 0, Gyr, shape (s,), falling."""
        return self.cosmology.age(1.0) - self.cosmology.age(self.scale)

    def scale_at(self, lookback: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale factor at a lookback time from z = 0 in Gyr; any shape.

        Inverts `galineage.cosmology.Cosmology.age`: a = (Om / OL)^(1/3) sinh(3/2 H0 sqrt(OL) t)^(2/3).
        """
        matter = self.omega_matter
        ratio = np.sqrt((1 - matter) / matter)
        today = float(self.cosmology.age(1.0))
        unit = today / np.arcsinh(ratio)
        return np.asarray((np.sinh((today - lookback) / unit) / ratio) ** (2 / 3))

    def formed(self, lookback: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the first snapshot at or after a lookback time (n,) in Gyr."""
        return np.searchsorted(-self.lookback, -np.asarray(lookback), "left").astype(np.int64)


TNG = Timeline(np.array(cosmology.TNG_REDSHIFTS), cosmology.TNG, 0.0486)
"""The 100 snapshots of TNG (redshifts of its documentation, two decimals)."""

EAGLE = Timeline(np.array(_EAGLE_REDSHIFTS.split(), dtype=float), cosmology.EAGLE, 0.0482519)
"""The 29 snapshots of EAGLE (redshifts after McAlpine+2016, quoted from memory)."""


def last_before(lookback: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lookback time of the last moment at which both simulations had looked before these times.

    A star that formed in a satellite after the satellite's last snapshot would be counted for the descendant by anyone
    who walks the tree. The toy's satellites therefore stop forming stars at the earlier of the two last snapshots.

    Parameters
    ----------
    lookback : array (m,), Gyr
        Of mergers, at most 13.15.

    Returns
    -------
    array (m,), Gyr
        Larger than ``lookback``.
    """
    found = [line.lookback[np.maximum(line.formed(lookback) - 1, 0)] for line in (TNG, EAGLE)]
    return np.maximum(*found)
