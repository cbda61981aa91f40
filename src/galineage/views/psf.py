"""Blurring by atmosphere and telescope, applied to a pixel's sums: velocity and dispersion are divided after it.

A blurred map of velocities would weigh a bright and a faint pixel alike; a spectrograph sees blurred light. The sums of
mass, m v, m v^2 and so on are blurred and then divided, so a steep velocity field becomes dispersion, as it does at the
telescope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["PSF", "ArrayPSF", "DoubleGaussianPSF", "GaussianPSF"]

_FWHM = 2 * np.sqrt(2 * np.log(2))
_REACH = 5.0
"""Standard deviations after which a Gaussian is cut; the six in ten million beyond are given back by scaling."""


@runtime_checkable
class PSF(Protocol):
    """What the engine asks of a point-spread function."""

    def reach(self, pixel: float) -> int:
        """Pixels from a star to the farthest that it lights, for pixels of ``pixel`` kpc."""
        ...

    def apply(self, sums: Array, pixel: float) -> Array:
        """Blur sums (rows, columns, k), zero outside, for pixels of ``pixel`` kpc; totals stay, but for what leaves."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        ...


def _integrated(sigma: float) -> Array:
    """Weights (2 r + 1,) of a Gaussian of ``sigma`` pixels, integrated over pixels, with sum 1."""
    from scipy.special import erf

    radius = max(int(np.ceil(_REACH * sigma)), 1)
    edges = np.arange(-radius, radius + 2) - 0.5
    weights = np.diff(erf(edges / (np.sqrt(2) * sigma)))
    return np.asarray(weights / weights.sum())


def _blurred(sums: Array, sigma: float) -> Array:
    from scipy.ndimage import correlate1d

    weights = _integrated(sigma)
    return np.asarray(
        correlate1d(correlate1d(sums, weights, axis=0, mode="constant"), weights, axis=1, mode="constant")
    )


def _positive(value: float, name: str) -> None:
    if not 0 < value < np.inf:
        raise ConfigError(f"{name} of a PSF is {value!r}", expected="a positive number of kpc at the galaxy")


@dataclass(frozen=True)
class GaussianPSF:
    """A round Gaussian.

    Attributes
    ----------
    fwhm : float, kpc
        Full width at half maximum, at the galaxy. From arcsec: times the angular-diameter distance / 206,265.

    Raises
    ------
    ConfigError
        If the width is not positive.
    """

    fwhm: float

    def __post_init__(self) -> None:
        _positive(self.fwhm, "fwhm")

    def reach(self, pixel: float) -> int:
        """Pixels from a star to the farthest that it lights."""
        return len(_integrated(self.fwhm / _FWHM / pixel)) // 2

    def apply(self, sums: Array, pixel: float) -> Array:
        """Blur sums (rows, columns, k) of any unit, which they keep; zero outside."""
        return _blurred(sums, self.fwhm / _FWHM / pixel)

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {"kind": "gaussian", "fwhm_kpc": self.fwhm}


@dataclass(frozen=True)
class DoubleGaussianPSF:
    """Seeing of MaNGA: 9/13 of a Gaussian of FWHM t and 4/13 of one of 2 t, t = FWHM / 1.05 (Bottrell & Hani 2022).

    Attributes
    ----------
    fwhm : float, kpc
        Full width at half maximum of the whole, at the galaxy.

    Raises
    ------
    ConfigError
        If the width is not positive.
    """

    fwhm: float

    def __post_init__(self) -> None:
        _positive(self.fwhm, "fwhm")

    def reach(self, pixel: float) -> int:
        """Pixels from a star to the farthest that it lights."""
        return GaussianPSF(2 * self.fwhm / 1.05).reach(pixel)

    def apply(self, sums: Array, pixel: float) -> Array:
        """Blur sums (rows, columns, k) of any unit, which they keep; zero outside."""
        narrow = self.fwhm / 1.05 / _FWHM / pixel
        return (9 * _blurred(sums, narrow) + 4 * _blurred(sums, 2 * narrow)) / 13

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {"kind": "double gaussian", "fwhm_kpc": self.fwhm}


@dataclass(frozen=True, eq=False)
class ArrayPSF:
    """A measured PSF.

    Attributes
    ----------
    values : array (p, q)
        Not negative, odd in both lengths, centred; scaled to sum 1. Rows go up and columns to the right, as in maps,
        and its pixels are as large as those of the maps.

    Raises
    ------
    ConfigError
        If a length is even, a value negative or not finite, or all are zero.
    """

    values: Array

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        if values.ndim != 2 or not all(length % 2 for length in values.shape):
            raise ConfigError(f"the PSF has shape {values.shape}", expected="two odd numbers, its peak in the middle")
        if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
            raise ConfigError("the PSF has a negative value, one that is not finite, or only zeros", advice="mend it")
        values /= values.sum()
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def reach(self, pixel: float) -> int:
        """Pixels from a star to the farthest that it lights; ``pixel`` is not looked at."""
        del pixel
        return max(self.values.shape) // 2

    def apply(self, sums: Array, pixel: float) -> Array:
        """Blur sums (rows, columns, k) of any unit, which they keep; zero outside.

        What the transforms leave of nothing is set to exactly zero.
        """
        from scipy.signal import fftconvolve

        del pixel
        blurred = np.asarray(fftconvolve(sums, self.values[:, :, np.newaxis], mode="same", axes=(0, 1)))
        blurred[blurred[..., 0] < 1e-9 * blurred[..., 0].max()] = 0.0
        return blurred

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {"kind": "array", "values": self.values.tolist()}
