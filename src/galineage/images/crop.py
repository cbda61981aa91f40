"""The middle of an image, on as many pixels as a network wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.cutouts import Cutout

    Array = NDArray[np.float64]

__all__ = ["Resampling", "crop_cutout", "resize", "resize_cutout"]

Resampling = Literal["bilinear", "area"]

LARGEST = 4096
"""Pixels on a side at most."""


def crop_cutout(cutout: Cutout, side: float, centre: tuple[float, float] | None = None) -> Cutout:
    """Cut a square out of a cutout.

    Parameters
    ----------
    cutout : Cutout
        Arrays (bands, rows, columns) in their units.
    side : float, arcsec
        Of the square; rounded to whole pixels, at least 4. As published it is four times R90.
    centre : (float, float), optional
        Row and column, in pixels from the middle of the first one. None: the middle of the image, as published. A
        square that would stick out is moved inside.

    Returns
    -------
    Cutout
        With mask, variance and PSF. If the image is smaller than the square, its largest central square; ``full`` of
        the step in ``meta`` says so.

    Raises
    ------
    ConfigError
        If the side is not positive.
    """
    if not 0 < side < np.inf:
        raise ConfigError(f"a square of {side} arcsec", expected="a positive side")
    shape = cutout.values.shape[1:]
    wanted = max(round(side / cutout.pixel_scale), 4)
    length = min(wanted, *shape)
    middle = [(own - 1) / 2 for own in shape] if centre is None else list(centre)
    start = [
        int(np.clip(np.floor(place - (length - 1) / 2 + 0.5), 0, own - length))
        for place, own in zip(middle, shape, strict=True)
    ]
    window = (slice(None), slice(start[0], start[0] + length), slice(start[1], start[1] + length))
    step = {"step": "crop", "row": start[0], "column": start[1], "pixels": length, "full": wanted > min(shape)}
    parts: dict[str, Any] = {name: getattr(cutout, name) for name in ("mask", "variance")}
    return cutout.after(
        step,
        values=cutout.values[window],
        **{name: None if array is None else array[window] for name, array in parts.items()},
    )


def _weights(old: int, new: int, method: Resampling) -> Array:
    """Part of each old pixel in each new one (new, old), no unit; rows have the sum 1."""
    ratio = old / new
    centres = (np.arange(new) + 0.5)[:, np.newaxis] * ratio
    pixels = np.arange(old)
    if method == "area":
        low, high = centres - ratio / 2, centres + ratio / 2
        weights = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0.0, None)
    else:  # a triangle, as wide as the wider of the two pixels to both sides: no aliasing where pixels grow
        weights = np.clip(1 - np.abs(centres - pixels - 0.5) / max(ratio, 1.0), 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def resize(values: NDArray[Any], pixels: int, method: Resampling = "bilinear") -> Array:
    """Bring images to other numbers of pixels, keeping their surface brightness.

    Parameters
    ----------
    values : array (..., rows, columns)
        Any unit. NaN pixels are left out; a new pixel that is more of them than of others is NaN.
    pixels : int
        On each side of the new images.
    method : str
        ``bilinear`` interpolates, and averages over larger pixels where there are fewer (as torch does with
        ``antialias``). ``area`` shares pixels by their area: the sum of values times pixel area stays the same exactly,
        and enlarged images show the old pixels.

    Returns
    -------
    array (..., pixels, pixels) of float64
        In the unit of ``values`` per *old* pixel: an even image stays as it is.

    Raises
    ------
    ConfigError
        If the number or the method is not possible.
    """
    if not 1 <= pixels <= LARGEST or method not in ("bilinear", "area"):
        raise ConfigError(f"{pixels} pixels by {method!r}", expected=f"1 to {LARGEST}; bilinear or area")
    rows, columns = (_weights(side, pixels, method) for side in np.shape(values)[-2:])
    finite = np.isfinite(values)
    if finite.all():
        return _mixed(np.asarray(values, dtype=np.float64), rows, columns)
    part = _mixed(finite.astype(np.float64), rows, columns)
    light = _mixed(np.where(finite, values, 0.0).astype(np.float64), rows, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(part >= 0.5, light / part, np.nan)


def _mixed(values: Array, rows: Array, columns: Array) -> Array:
    """Apply weights to the rows and columns of images (..., rows, columns), in any unit.

    Hardly any weight is not 0; besides, threads of dense products wait for each other where cores are busy.
    """
    from scipy.sparse import csr_array

    down, across = csr_array(rows), csr_array(columns)
    images = values.reshape(-1, *values.shape[-2:])
    done = [np.asarray((across @ np.asarray(down @ image).T).T) for image in images]
    return np.asarray(done).reshape(*values.shape[:-2], len(rows), len(columns))


def resize_cutout(cutout: Cutout, pixels: int, method: Resampling = "bilinear") -> Cutout:
    """Bring a square cutout (bands, rows, columns) to other numbers of pixels: nanomaggies per *new* pixel.

    With ``area`` the flux stays the same exactly, with ``bilinear`` nearly. Variance and mask are left out, for
    neighbours become correlated; so is the PSF: give that of the new pixels.

    Raises
    ------
    ConfigError
        If the cutout is not square, or as `resize`.
    """
    rows, columns = cutout.values.shape[1:]
    if rows != columns:
        raise ConfigError(
            f"the cutout has {rows} x {columns} pixels", where=cutout.name or None, advice="crop_cutout makes it square"
        )
    ratio = rows / pixels if pixels > 0 else 1.0
    step = {"step": "resize", "from_pixels": rows, "to_pixels": pixels, "method": method}
    return cutout.after(
        step,
        values=resize(cutout.values, pixels, method) * ratio**2,
        pixel_scale=cutout.pixel_scale * ratio,
        mask=None,
        variance=None,
        psf=None,
    )
