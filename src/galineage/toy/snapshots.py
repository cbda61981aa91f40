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

_TNG_REDSHIFTS = (
    "20.05 14.99 11.98 10.98 10.00 9.39 9.00 8.45 8.01 7.60 7.24 7.01 6.49 6.01 5.85 5.53 5.23 5.00 4.66 4.43 4.18 "
    "4.01 3.71 3.49 3.28 3.01 2.90 2.73 2.58 2.44 2.32 2.21 2.10 2.00 1.90 1.82 1.74 1.67 1.60 1.53 1.50 1.41 1.36 "
    "1.30 1.25 1.21 1.15 1.11 1.07 1.04 1.00 0.95 0.92 0.89 0.85 0.82 0.79 0.76 0.73 0.70 0.68 0.64 0.62 0.60 0.58 "
    "0.55 0.52 0.50 0.48 0.46 0.44 0.42 0.40 0.38 0.36 0.35 0.33 0.31 0.30 0.27 0.26 0.24 0.23 0.21 0.20 0.18 0.17 "
    "0.15 0.14 0.13 0.11 0.10 0.08 0.07 0.06 0.05 0.03 0.02 0.01 0.00"
)
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


TNG = Timeline(np.array(_TNG_REDSHIFTS.split(), dtype=float), cosmology.TNG, 0.0486)
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
