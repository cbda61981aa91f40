"""From fluxes over five decades to numbers in [0, 1] that a network can look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.images.detection import sky_level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["ColourStretch", "LogStretch", "Stretch", "stretch", "stretch_all"]


NO_LIGHT = "a band has no positive pixel in the middle, or no contrast there"


@dataclass(frozen=True)
class LogStretch:
    """The published stretch (Eisert+2024, as in the authors' code): logarithmic, for each band of each image alone.

    Pixels that are not positive, or whose logarithm is below ``floor``, are set to the lower limit, which is the median
    of the others; the upper limit is a quantile of the central pixels. Absolute surface brightness and colour are lost,
    and the sky below its median is flat.

    Attributes
    ----------
    floor : float
        Of the base-10 logarithm, in nanomaggies per pixel.
    quantile : float
        Upper limit, in [0, 1].
    centre : int
        Pixels on a side of the central square.
    joint : bool
        Take both limits over all bands together, so that colours stay visible.
    """

    floor: float = -7.0
    quantile: float = 0.99
    centre: int = 20
    joint: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.quantile <= 1 and self.centre >= 1 and np.isfinite(self.floor)):
            raise ConfigError(f"impossible stretch: {self}", expected="a quantile in (0, 1], a centre of 1 or more")


@dataclass(frozen=True)
class ColourStretch:
    """A stretch that keeps colours (Lupton+2004): all bands of a pixel are multiplied by one factor.

    It brings I, the mean of the bands, to ``asinh(I / softening) / asinh(white / softening)``. Where a band would be
    above 1, the pixel's bands are divided by the highest, so that its colour stays. Negative values become 0.

    Attributes
    ----------
    softening : float, nanomaggies per pixel, or None
        Where it goes from linear to logarithmic. None: five times the noise of each image's sky.
    white : float, nanomaggies per pixel, or None
        What becomes 1. None: the quantile 0.99 of each image's central pixels. With both given, surface brightness
        stays comparable from image to image.
    centre : int
        Pixels on a side of the central square.
    """

    softening: float | None = None
    white: float | None = None
    centre: int = 20

    def __post_init__(self) -> None:
        sizes = [value for value in (self.softening, self.white) if value is not None]
        if not (all(0 < value < np.inf for value in sizes) and self.centre >= 1):
            raise ConfigError(f"impossible stretch: {self}", expected="positive numbers, or None")


Stretch = LogStretch | ColourStretch


def stretch(values: NDArray[Any], how: Stretch | None = None, *, eight_bit: bool = False) -> NDArray[Any]:
    """Stretch one image.

    Parameters
    ----------
    values : array (bands, rows, columns)
        Nanomaggies per pixel; NaN: no data.
    how : LogStretch or ColourStretch, optional
        Settings; None: as published.
    eight_bit : bool
        Round to 256 steps.

    Returns
    -------
    array (bands, rows, columns) of float32, or of uint8
        In [0, 1], or 0 to 255; no unit, no NaN.

    Raises
    ------
    DataError
        If an image has no positive pixel, or its limits are the same.
    """
    done, reasons = stretch_all(np.asarray(values)[np.newaxis], how, eight_bit=eight_bit)
    if reasons[0]:
        raise DataError(reasons[0], expected="an image with some contrast")
    return np.asarray(done[0])


def stretch_all(
    values: NDArray[Any], how: Stretch | None = None, *, eight_bit: bool = False
) -> tuple[NDArray[Any], list[str]]:
    """Stretch many images.

    Parameters
    ----------
    values : array (n, bands, rows, columns)
        Nanomaggies per pixel; NaN: no data.
    how, eight_bit
        As in `stretch`.

    Returns
    -------
    array (n, bands, rows, columns) of float32, or of uint8
        As in `stretch`; 0 everywhere where it failed.
    list of str, length n
        Why an image failed; empty if it did not.

    Raises
    ------
    ConfigError
        If the array has another number of axes.
    """
    values = np.asarray(values)
    if values.ndim != 4:
        raise ConfigError(f"images of the shape {values.shape}", expected="(n, bands, rows, columns)")
    how = how or LogStretch()
    out = np.zeros(values.shape, dtype=np.float32)
    reasons = [
        _colour(image, place, how) if isinstance(how, ColourStretch) else ""
        for image, place in zip(values, out, strict=True)
    ]
    if isinstance(how, LogStretch):
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log10(values)
        logs[~(logs >= how.floor)] = np.nan
        reasons = [_logarithmic(image, place, how) for image, place in zip(logs, out, strict=True)]
    if not eight_bit:
        return out, reasons
    return np.rint(out * np.float32(255)).astype(np.uint8), reasons


def _middle(image: NDArray[Any], centre: int) -> NDArray[Any]:
    """Return the central square (..., c, c) of an image, in its unit."""
    rows, columns = ((side - min(centre, side)) // 2 for side in image.shape[-2:])
    return image[..., rows : rows + centre, columns : columns + centre]


def _limits(image: NDArray[Any], how: LogStretch) -> tuple[float, float] | None:
    """Median of the finite pixels of logarithms (..., rows, columns), and the quantile of the central ones."""
    finite = image[np.isfinite(image)]
    inner = _middle(image, how.centre)
    inner = inner[np.isfinite(inner)]
    if not inner.size:
        return None
    limits = float(np.median(finite)), float(np.quantile(inner, how.quantile))
    return limits if limits[1] > limits[0] else None


def _logarithmic(image: NDArray[Any], out: NDArray[np.float32], how: LogStretch) -> str:
    """Stretch logarithms (bands, rows, columns) of nanomaggies into ``out``; return why not."""
    together = _limits(image, how) if how.joint else None
    found = [together if how.joint else _limits(band, how) for band in image]
    for limits, band, place in zip(found, image, out, strict=True):
        if limits is None:
            out[...] = 0.0
            return NO_LIGHT
        low, high = limits
        scaled = (np.clip(band, low, high) - low) / (high - low)
        place[...] = np.where(np.isnan(scaled), 0.0, scaled)
    return ""


def _colour(image: NDArray[Any], out: NDArray[np.float32], how: ColourStretch) -> str:
    """Stretch fluxes (bands, rows, columns), nanomaggies per pixel, into ``out``; return why not."""
    image = np.asarray(image, dtype=np.float64)
    finite = np.isfinite(image).all(axis=0)
    mean = np.where(finite, image, 0.0).mean(axis=0)
    softening, white = how.softening, how.white
    inner = _middle(np.where(finite, mean, np.nan), how.centre)
    inner = inner[np.isfinite(inner)]
    if not (inner.size and inner.max() > 0):
        return NO_LIGHT
    if white is None:
        # a single bright pixel on nothing is above every quantile
        white = max(float(np.quantile(inner, 0.99)), 1e-6 * float(inner.max()))
    if softening is None:
        noise = sky_level(mean, finite)[1]
        softening = 5 * noise if noise > 0 else white / 1000
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.arcsinh(mean / softening) / np.arcsinh(white / softening) / mean
    factor = np.where(finite & (mean > 0), factor, 0.0)
    scaled = np.clip(np.where(finite, image, 0.0) * factor, 0.0, None)
    out[...] = scaled / np.maximum(scaled.max(axis=0), 1.0)
    return ""
