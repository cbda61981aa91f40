"""Cosmic time in a flat universe of matter and a cosmological constant, as simulations use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["EAGLE", "ILLUSTRIS", "TNG", "Cosmology"]

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
