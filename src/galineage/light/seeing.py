"""Point-spread functions on the sky, in arcsec, as kernels that keep the light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from galineage.errors import ConfigError
from galineage.light.resampling import rebin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["GaussianSeeing", "MeasuredSeeing", "MoffatSeeing", "Seeing", "convolve"]

_SIGMAS = 5.0
_LARGEST = 1023
_FINE, _MOST_FINE = 20, 51
"""Points across the full width at half maximum at which a Moffat function is averaged over pixels; most in a pixel."""


@runtime_checkable
class Seeing(Protocol):
    """What an observation asks of a point-spread function."""

    def kernel(self, pixel_scale: float) -> Array:
        """Weights (p, p), odd, sum 1, a pure number, on pixels of a size in arcsec."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        ...


def _check(value: float, name: str, low: float = 0.0) -> None:
    if not low < value < np.inf:
        raise ConfigError(f"{name} of a PSF is {value!r}", expected=f"more than {low:g}, in arcsec where it is a width")


def _side(reach: float, pixel_scale: float) -> int:
    """Odd number of pixels that hold a radius of ``reach`` arcsec."""
    if not 0 < pixel_scale < np.inf:
        raise ConfigError(f"the pixel scale is {pixel_scale!r}", expected="a positive number of arcsec")
    side = 2 * max(int(np.ceil(reach / pixel_scale)), 1) + 1
    if side > _LARGEST:
        raise ConfigError(f"the PSF spans {side} pixels", expected=f"at most {_LARGEST}", advice="look at the units")
    return side


@dataclass(frozen=True)
class GaussianSeeing:
    """A round Gaussian, averaged over pixels, out to 5 standard deviations.

    Attributes
    ----------
    fwhm : float, arcsec
        Full width at half maximum.

    Raises
    ------
    ConfigError
        If the width is not positive.
    """

    fwhm: float

    def __post_init__(self) -> None:
        _check(self.fwhm, "fwhm")

    def kernel(self, pixel_scale: float) -> Array:
        """Weights (p, p), sum 1, a pure number, on pixels of a size in arcsec."""
        from scipy.special import erf

        sigma = self.fwhm / (2 * np.sqrt(2 * np.log(2)))
        side = _side(_SIGMAS * sigma, pixel_scale)
        edges = (np.arange(side + 1) - side / 2) * pixel_scale
        line = np.diff(erf(edges / (np.sqrt(2) * sigma)))
        return np.asarray(np.outer(line, line) / line.sum() ** 2)

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {"kind": "gaussian", "fwhm_arcsec": self.fwhm}


@dataclass(frozen=True)
class MoffatSeeing:
    """A Moffat function (1 + r^2 / a^2)^-beta (Moffat 1969), averaged over pixels, scaled to sum 1 within ``reach``.

    Attributes
    ----------
    fwhm : float, arcsec
        Full width at half maximum.
    beta : float
        Slope of the wings, above 1; 3 to 5 for the ground.
    reach : float, fwhm
        Radius at which it is cut off. At beta 3 the light beyond 8 is 0.02 %.

    Raises
    ------
    ConfigError
        If the width or the reach is not positive, or beta not above 1.
    """

    fwhm: float
    beta: float = 3.5
    reach: float = 8.0

    def __post_init__(self) -> None:
        _check(self.fwhm, "fwhm")
        _check(self.beta, "beta", 1.0)
        _check(self.reach, "reach")

    def kernel(self, pixel_scale: float) -> Array:
        """Weights (p, p), sum 1, a pure number, on pixels of a size in arcsec."""
        side = _side(self.reach * self.fwhm, pixel_scale)
        a = self.fwhm / (2 * np.sqrt(2 ** (1 / self.beta) - 1))
        points = min(2 * int(_FINE * pixel_scale / self.fwhm / 2) + 1, _MOST_FINE)
        fine = ((np.arange(side * points) + 0.5) / points - side / 2) * pixel_scale
        values = (1 + (fine[:, np.newaxis] ** 2 + fine**2) / a**2) ** -self.beta
        pixels = values.reshape(side, points, side, points).sum(axis=(1, 3))
        return np.asarray(pixels / pixels.sum())

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {"kind": "moffat", "fwhm_arcsec": self.fwhm, "beta": self.beta, "reach_fwhm": self.reach}


@dataclass(frozen=True, eq=False)
class MeasuredSeeing:
    """The image of a star, as a survey gives it.

    Attributes
    ----------
    values : array (p, q)
        No unit; finite, odd in both lengths, centred; scaled to sum 1. Small negative values, as measured PSFs have
        them, stay.
    pixel_scale : float, arcsec
        Of its pixels; on others it is rebinned by area.

    Raises
    ------
    ConfigError
        If a length is even, a value not finite, or the sum not positive.
    """

    values: Array
    pixel_scale: float

    def __post_init__(self) -> None:
        _check(self.pixel_scale, "pixel_scale")
        values = np.array(self.values, dtype=np.float64)
        if values.ndim != 2 or not all(side % 2 and side <= _LARGEST for side in values.shape):
            raise ConfigError(
                f"the PSF has the shape {values.shape}", expected="two odd numbers, its peak in the middle"
            )
        if not (np.isfinite(values).all() and values.sum() > 0):
            raise ConfigError("the PSF has a value that is not finite, or no positive sum", advice="mend it")
        values /= values.sum()
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def kernel(self, pixel_scale: float) -> Array:
        """Weights (p, q), sum 1, a pure number, on pixels of a size in arcsec."""
        if abs(pixel_scale / self.pixel_scale - 1) < 1e-6:
            return self.values
        _side(max(self.values.shape) * self.pixel_scale / 2, pixel_scale)
        found = rebin(self.values, self.pixel_scale, pixel_scale)
        return np.asarray(found / found.sum())

    def describe(self) -> dict[str, Any]:
        """Return what it is, in JSON types, without its values."""
        return {"kind": "measured", "shape": list(self.values.shape), "pixel_scale_arcsec": self.pixel_scale}


def convolve(image: NDArray[Any], kernel: Array) -> Array:
    """Blur an image (rows, columns) of any unit, which it keeps, by a kernel (p, q); zero outside.

    The light stays, but for what leaves at the edges. Transforms leave about 1e-16 of the brightest pixel where there
    is nothing, which can be negative.

    Raises
    ------
    ConfigError
        If the image holds a value that is not finite: it would spread over all of it.
    """
    from scipy.signal import fftconvolve

    if not np.isfinite(image).all():
        raise ConfigError("the image holds values that are not finite", advice="blur first, and mask after it")
    return np.asarray(fftconvolve(np.asarray(image, dtype=np.float64), kernel, mode="same"))
