"""Images on pixels of another size, by the area that pixels share: what an image holds stays the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.cutouts import Cutout

    Array = NDArray[np.float64]

__all__ = ["enough", "rebin", "rebin_cutout"]

LARGEST = 16_384
"""Pixels on a side at most."""


def _shares(old: int, new: int, ratio: float) -> Array:
    """Part of each old pixel that lies in each new one (new, old); ``ratio``: old pixels in one new."""
    left = (np.arange(new) - new / 2) * ratio
    edges = np.arange(old) - old / 2
    low = np.maximum(left[:, np.newaxis], edges)
    high = np.minimum(left[:, np.newaxis] + ratio, edges + 1)
    return np.clip(high - low, 0.0, None)


def rebin(values: NDArray[Any], old: float, new: float, shape: tuple[int, int] | None = None) -> Array:
    """Bring images to pixels of another size, around the same centre.

    Parameters
    ----------
    values : array (..., rows, columns)
        Sums in pixels (fluxes, variances), any unit; light is spread evenly in a pixel. A NaN spoils the new pixels
        that it touches.
    old, new : float
        Sides of a pixel, in one unit.
    shape : (int, int), optional
        New rows and columns; what sticks out is cut off, and zeros are put where nothing was. Default: as many as it
        takes to hold the old image, even where the old number is even.

    Returns
    -------
    array (..., rows, columns) of float64
        Sums, in the same unit.

    Raises
    ------
    ConfigError
        If a size is not positive, or the new image has more than 16,384 pixels on a side.
    """
    if not (0 < old < np.inf and 0 < new < np.inf):
        raise ConfigError(f"pixels of {old} become pixels of {new}", expected="positive sizes")
    ratio = new / old
    sides = shape or tuple(enough(side, ratio) for side in values.shape[-2:])
    if not all(1 <= side <= LARGEST for side in sides):
        raise ConfigError(f"an image of {sides} pixels", expected=f"1 to {LARGEST} on a side", advice="larger pixels")
    if ratio == 1 and not any((side - new_side) % 2 for side, new_side in zip(values.shape[-2:], sides, strict=True)):
        return _framed(values, sides)
    rows, columns = (_shares(side, new_side, ratio) for side, new_side in zip(values.shape[-2:], sides, strict=True))
    return np.asarray(rows @ np.asarray(values, dtype=np.float64) @ columns.T)


def _framed(values: NDArray[Any], sides: tuple[int, ...]) -> Array:
    """Cut an image (..., rows, columns), or put zeros around it; pixels stay as they are."""
    out = np.zeros((*values.shape[:-2], *sides))
    own, new = [], []
    for side, new_side in zip(values.shape[-2:], sides, strict=True):
        cut, border = max((side - new_side) // 2, 0), max((new_side - side) // 2, 0)
        own.append(slice(cut, cut + min(side, new_side)))
        new.append(slice(border, border + min(side, new_side)))
    out[..., new[0], new[1]] = values[..., own[0], own[1]]
    return out


def enough(side: int, ratio: float) -> int:
    """Pixels that hold ``side`` old ones, ``ratio`` of which are one; odd or even as before, so the centre stays."""
    needed = int(np.ceil(side / ratio - 1e-9))
    return max(needed + (needed - side) % 2, 1)


def rebin_cutout(cutout: Cutout, pixel_scale: float) -> Cutout:
    """Bring a cutout, arrays (bands, rows, columns) in its units, to pixels of another size in arcsec.

    The variance becomes the sum of what the new pixel covers, which neglects that neighbours are then correlated. A
    mask has no sizes between, and is left out, as is the PSF: give that of the new pixels.

    Raises
    ------
    ConfigError
        As `rebin`.
    """
    if pixel_scale == cutout.pixel_scale:
        return cutout
    step = {"step": "rebin", "from_arcsec": cutout.pixel_scale, "to_arcsec": pixel_scale}
    variance = cutout.variance
    return cutout.after(
        step,
        values=rebin(cutout.values, cutout.pixel_scale, pixel_scale),
        variance=None if variance is None else rebin(variance, cutout.pixel_scale, pixel_scale),
        pixel_scale=float(pixel_scale),
        mask=None,
        psf=None,
    )
