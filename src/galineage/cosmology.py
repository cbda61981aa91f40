"""Cosmic time in a flat universe of matter and a cosmological constant, as simulations use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["EAGLE", "ILLUSTRIS", "TNG", "TNG_REDSHIFTS", "Cosmology"]

HUBBLE_TIME = 977.792221
"""1 / (1 km/s/Mpc) in Gyr (IAU 2012 parsec, Julian year)."""


@dataclass(frozen=True)
class Cosmology:
    """A flat universe; radiation is left out, as in the simulations' own ages.

    Attributes
    ----------
    h : float
        Hubble constant in units of 100 km/s/Mpc.
    omega_m : float
        Matter density today; the rest is the cosmological constant.
    """

    h: float
    omega_m: float

    def __post_init__(self) -> None:
        if not (0.2 < self.h < 1.5 and 0.01 < self.omega_m < 1):
            raise ConfigError(
                f"h is {self.h}, omega_m is {self.omega_m}", expected="h 0.2 to 1.5, omega_m 0.01 to 1 (flat universe)"
            )

    def age(self, scale_factor: ArrayLike) -> NDArray[np.float64]:
        """Age of the universe in Gyr, any shape: t = 2 / (3 H0 sqrt(OL)) asinh(sqrt(OL / Om) a^1.5) (Peebles 1993)."""
        a, omega_l = np.asarray(scale_factor, dtype=np.float64), 1 - self.omega_m
        scale = 2 * HUBBLE_TIME / (300 * self.h * np.sqrt(omega_l))
        return np.asarray(scale * np.arcsinh(np.sqrt(omega_l / self.omega_m) * a * np.sqrt(a)))

    def hubble(self, scale_factor: float) -> float:
        """Hubble rate in km/s per physical kpc."""
        return float(0.1 * self.h * np.sqrt(self.omega_m / scale_factor**3 + 1 - self.omega_m))


TNG = Cosmology(0.6774, 0.3089)
"""Planck Collaboration 2016, as used by IllustrisTNG."""

EAGLE = Cosmology(0.6777, 0.307)
"""Planck Collaboration 2014, as used by EAGLE."""

ILLUSTRIS = Cosmology(0.704, 0.2726)
"""WMAP-9, as used by Illustris."""

# fmt: off
TNG_REDSHIFTS = (
    20.05, 14.99, 11.98, 10.98, 10.0, 9.39, 9.0, 8.45, 8.01, 7.6, 7.24, 7.01, 6.49, 6.01, 5.85, 5.53, 5.23, 5.0,
    4.66, 4.43, 4.18, 4.01, 3.71, 3.49, 3.28, 3.01, 2.9, 2.73, 2.58, 2.44, 2.32, 2.21, 2.1, 2.0, 1.9, 1.82, 1.74,
    1.67, 1.6, 1.53, 1.5, 1.41, 1.36, 1.3, 1.25, 1.21, 1.15, 1.11, 1.07, 1.04, 1.0, 0.95, 0.92, 0.89, 0.85, 0.82,
    0.79, 0.76, 0.73, 0.7, 0.68, 0.64, 0.62, 0.6, 0.58, 0.55, 0.52, 0.5, 0.48, 0.46, 0.44, 0.42, 0.4, 0.38, 0.36,
    0.35, 0.33, 0.31, 0.3, 0.27, 0.26, 0.24, 0.23, 0.21, 0.2, 0.18, 0.17, 0.15, 0.14, 0.13, 0.11, 0.1, 0.08, 0.07,
    0.06, 0.05, 0.03, 0.02, 0.01, 0.0,
)
# fmt: on
"""Redshifts of the 100 snapshots of TNG, as its documentation lists them, to two decimals."""
