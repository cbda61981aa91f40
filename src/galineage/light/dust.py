"""Dust as two screens: one before the youngest stars, in their birth clouds, and one before all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["TwoScreens"]

_V = 5500.0


@dataclass(frozen=True)
class TwoScreens:
    """Attenuation exp(-tau (lambda / 5500 A)^slope) at rest, with another tau for young stars.

    The form is that of Charlot & Fall (2000): tau_V = 1, of which a third lies outside of the birth clouds, slope -0.7,
    10 Myr. The defaults are the values with 0.3, as Bruzual & Charlot (2003) and Nelson et al. (2018, MNRAS 475, 624,
    for the colours of TNG galaxies) take them. The screens are the same for every galaxy and from every side: there is
    no dust lane in an edge-on disc.

    Attributes
    ----------
    young, old : float
        Optical depth at 5500 A before stars up to ``age`` and before older ones; no unit.
    slope : float
        Of the optical depth with wavelength.
    age : float, Gyr
        Until which a star is in its birth cloud.

    Raises
    ------
    ConfigError
        If an optical depth or the age is negative or not finite, or the slope not finite.
    """

    young: float = 1.0
    old: float = 0.3
    slope: float = -0.7
    age: float = 0.010

    def __post_init__(self) -> None:
        depths = (self.young, self.old, self.age)
        if not (all(0 <= each < np.inf for each in depths) and np.isfinite(self.slope)):
            raise ConfigError(
                f"impossible dust: {self}", expected="optical depths and an age of 0 or more, a finite slope"
            )

    def transmission(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Fraction of light that gets through (2, n), young stars first, at wavelengths (n,) at rest, Angstrom."""
        shape = (np.asarray(wavelength, dtype=np.float64) / _V) ** self.slope
        return np.exp(-np.stack([self.young * shape, self.old * shape]))

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {"tau_young": self.young, "tau_old": self.old, "slope": self.slope, "age_gyr": self.age}
