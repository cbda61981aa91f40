"""Maps of one galaxy from several views, and the settings they were made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.views.psf import PSF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.views.cameras import View
    from galineage.views.smoothing import Adaptive

    Floats = NDArray[np.float32] | NDArray[np.float64]

__all__ = ["CHANNELS", "HERMITE", "UNITS", "MapConfig", "Maps", "Sigma", "Systemic", "Weighting"]

UNITS = {
    "count": "",
    "mass": "Msun",
    "velocity": "km/s",
    "sigma": "km/s",
    "metallicity": "mass fraction",
    "age": "Gyr",
}
"""Unit of each channel; a light channel has that of the light it was given."""

CHANNELS = tuple(UNITS)
"""Channels of a galaxy whose stars have everything, in the order of `Maps.values`."""

HERMITE = ("h3", "h4")
"""Channels that come after those where they are asked for: shape of the velocity distribution, no unit."""

Weighting = Literal["number", "mass", "light"]
"""What weighs velocity and dispersion."""

Systemic = Literal["given", "bound", "inner"]
"""Which velocity is the galaxy's own; see `MapConfig.systemic`."""

Sigma = Literal["population", "sample"]
"""Of what the dispersion is; see `MapConfig.sigma`."""


@dataclass(frozen=True)
class MapConfig:
    """How maps are made; the defaults are those of Angeloudi+2023.

    Attributes
    ----------
    pixels : int
        On each side of the square map.
    half_width : float, r_half
        From the centre to the edge of the map.
    weighting : {"number", "mass", "light"}
        Weight of velocity and dispersion: stars count alike (Angeloudi+2023), by mass, or by the first light given.
        Metallicity and age are always weighted by mass.
    systemic : {"given", "bound", "inner"}
        Velocity that is taken off. ``given``: that of the galaxy's frame. ``bound``: mean of the stars whose potential
        is below the 5th percentile (Angeloudi+2023, TNG). ``inner``: mean of the stars within 0.1 r_half (EAGLE). Stars
        count alike in both.
    smoothing : Adaptive or None
        Adaptive smoothing; counts are then not whole numbers.
    psf : PSF or None
        Blurs the sums before anything is divided.
    exact : bool
        Compute in float64 throughout, every view by itself, and give float64 maps: a star falls exactly where
        `numpy.histogram2d` puts it. Otherwise coordinates are float32, and a few stars of a million fall into the pixel
        beside.
    sigma : {"population", "sample"}
        ``population``: of the stars themselves, divided by n, 0 for one star (Angeloudi+2023). ``sample``: of what they
        are drawn from, divided by n - 1, with weights by the effective number (`galineage.views.moments.sample_sigma`);
        NaN for one star. Not with smoothing or a PSF, which mix the stars of many pixels.
    hermite : bool
        Whether to make the maps ``h3`` and ``h4``, the skewness and excess kurtosis of velocities in the form of
        Gauss-Hermite coefficients (`galineage.views.moments.hermite`); takes about five times as long.

    Raises
    ------
    ConfigError
        If a number is out of range, a word unknown, or the pixels cannot be halved as often as the smoothing asks.
    """

    pixels: int = 128
    half_width: float = 2.0
    weighting: Weighting = "number"
    systemic: Systemic = "given"
    smoothing: Adaptive | None = None
    psf: PSF | None = None
    exact: bool = False
    sigma: Sigma = "population"
    hermite: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.pixels <= 2048:
            raise ConfigError(f"maps of {self.pixels} pixels", expected="1 to 2048 on each side")
        if not 0 < self.half_width < np.inf:
            raise ConfigError(f"half_width is {self.half_width}", expected="a positive number of r_half")
        words = (("weighting", Weighting), ("systemic", Systemic), ("sigma", Sigma))
        for name, allowed in ((name, get_args(word)) for name, word in words):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}", expected="one of " + ", ".join(allowed))
        if self.smoothing is not None and self.pixels % 2**self.smoothing.levels:
            raise ConfigError(
                f"{self.pixels} pixels cannot be halved {self.smoothing.levels} times",
                expected=f"a multiple of {2**self.smoothing.levels}",
                advice="take fewer levels of smoothing, or another number of pixels",
            )
        if self.sigma == "sample" and (self.psf is not None or self.smoothing is not None):
            raise ConfigError(
                "counts are of stars in a pixel, and smoothing or a PSF brings in those of its neighbours",
                expected="sigma='population'",
            )
        if self.psf is not None and not isinstance(self.psf, PSF):
            raise ConfigError(f"psf is {self.psf!r}", expected="GaussianPSF, DoubleGaussianPSF or ArrayPSF")

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types, to be stored with the maps.

        Settings that came later are there only where they are not the default: stores made before stay comparable.
        """
        later = {"sigma": self.sigma, "hermite": self.hermite}
        return {
            "pixels": self.pixels,
            "half_width_r_half": self.half_width,
            "weighting": self.weighting,
            "systemic": self.systemic,
            "smoothing": None if self.smoothing is None else self.smoothing.describe(),
            "psf": None if self.psf is None else self.psf.describe(),
            "exact": self.exact,
            **{name: value for name, value in later.items() if value not in ("population", False)},
        }


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of one galaxy; rows go up (along the view's ``up``), columns to the right.

    Attributes
    ----------
    values : array (views, channels, pixels, pixels), float32, or float64 if made exactly
        Units in `UNITS`. ``count`` and ``mass`` are sums in a pixel, 0 where no star is. ``velocity`` is the mean along
        the line of sight, ``sigma`` the standard deviation (by default divided by n, 0 for one star), ``metallicity``
        and ``age`` are mass-weighted means; these are NaN where no star is. ``h3`` and ``h4``, if asked for, are NaN
        where there are fewer than 16 stars or no dispersion.
    channels : tuple of str
        Names along the second axis.
    views : tuple of View
        Names along the first axis: each holds its matrix and the sign of its velocities.
    galaxy, domain : str
        Which galaxy.
    r_half, pixel : float, kpc
        Half-mass radius, and side of a pixel.
    systemic : array (3,), km/s
        Velocity that was taken off, in the frame of the galaxy's stars.
    config : MapConfig
        Settings.
    missing : tuple of str
        Channels that are not there because the stars do not have the quantity.
    mirrors : tuple of (int, int) or None, one for each view
        Which views were flipped from another, and along which axis (`galineage.views.cameras.mirrors`).
    outside : array (views,)
        Stars that do not fall on the grid: the map, or with a PSF or smoothing the map and its border.
    """

    values: Floats
    channels: tuple[str, ...]
    views: tuple[View, ...]
    galaxy: str
    domain: str
    r_half: float
    pixel: float
    systemic: NDArray[np.float64]
    config: MapConfig
    missing: tuple[str, ...]
    mirrors: tuple[tuple[int, int] | None, ...]
    outside: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of views."""
        return len(self.views)

    def __contains__(self, channel: str) -> bool:
        """Tell whether there is such a channel."""
        return channel in self.channels

    def __getitem__(self, channel: str) -> Floats:
        """Return the maps (views, pixels, pixels) of one channel.

        Raises
        ------
        DataError
            If there is no such channel.
        """
        if channel not in self.channels:
            raise DataError(
                f"there is no map of {channel!r}",
                where=f"galaxy {self.galaxy} of {self.domain}",
                expected="one of " + ", ".join(self.channels),
                advice="the source does not have it" if channel in self.missing else None,
            )
        return self.values[:, self.channels.index(channel)]

    @property
    def half_width(self) -> float:
        """From the centre to the edge of a map, kpc."""
        return self.config.half_width * self.r_half

    def unit(self, channel: str) -> str:
        """Return the unit of a channel; empty for counts and light."""
        return UNITS.get(channel, "")

    def describe(self) -> dict[str, Any]:
        """Return what the maps are, without their values, in JSON types: to be stored with them."""
        return {
            "galaxy": self.galaxy,
            "domain": self.domain,
            "channels": list(self.channels),
            "units": {channel: self.unit(channel) for channel in self.channels},
            "missing": list(self.missing),
            "r_half_kpc": self.r_half,
            "pixel_kpc": self.pixel,
            "systemic_km_s": self.systemic.tolist(),
            "views": [
                {"name": view.name, "matrix": view.matrix.tolist(), "velocity_sign": view.sign} for view in self.views
            ],
            "mirrors": [None if pair is None else list(pair) for pair in self.mirrors],
            "outside": self.outside.tolist(),
            "config": self.config.describe(),
        }
