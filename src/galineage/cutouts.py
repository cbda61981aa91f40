"""A piece of sky in several bands, with what is needed to use it: mask, variance, PSF. Made or observed alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as default
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["ZERO_POINT", "Cutout"]

ZERO_POINT = 22.5
"""AB magnitude of one nanomaggy; the sources convert to it, and nothing else is used inside."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """Images of one field in several bands, on one grid of pixels.

    Attributes
    ----------
    values : array (bands, rows, columns), nanomaggies per pixel
        Rows go up, columns to the right. NaN: no data.
    bands : tuple of str
        Names along the first axis, such as ``hsc-g``.
    pixel_scale : float, arcsec
        Side of a pixel.
    mask : array (bands, rows, columns) of int or None
        Bits as the survey documents them; 0: nothing to remark.
    variance : array (bands, rows, columns), nanomaggies squared, or None
        Of each pixel. NaN or infinite: not known.
    psf : array (bands, p, q) or None
        Point-spread functions, a pure number per pixel with sum 1, odd in both lengths, on the same pixels.
    redshift : float or None
        Of the galaxy in the middle.
    name : str
        For messages and files.
    meta : mapping
        Provenance in JSON types; ``steps`` lists what was done to the image, first to last.

    Raises
    ------
    DataError
        If the arrays do not fit each other, a band is named twice, or the pixel scale is not positive.
    """

    values: NDArray[Any]
    bands: tuple[str, ...]
    pixel_scale: float
    mask: NDArray[Any] | None = None
    variance: NDArray[Any] | None = None
    psf: NDArray[Any] | None = None
    redshift: float | None = None
    name: str = ""
    meta: Mapping[str, Any] = default(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(self.bands))
        if not 0 < self.pixel_scale < np.inf:
            raise self._wrong(f"the pixel scale is {self.pixel_scale!r}", "a positive number of arcsec")
        if len(set(self.bands)) < len(self.bands):
            raise self._wrong(f"a band is named twice: {', '.join(self.bands)}", "each once")
        shape = np.shape(self.values)
        if len(shape) != 3 or shape[0] != len(self.bands) or 0 in shape:
            raise self._wrong(f"the image has the shape {shape}", f"({len(self.bands)}, rows, columns)")
        for name in ("values", "mask", "variance", "psf"):
            given = getattr(self, name)
            if given is None:
                continue
            array = np.asarray(given).view()
            if name != "psf" and array.shape != shape:
                raise self._wrong(f"{name} has the shape {array.shape}", f"{shape}, that of the image")
            if array.dtype.kind not in ("iu" if name == "mask" else "f"):
                raise self._wrong(f"{name} holds {array.dtype}", "integers" if name == "mask" else "floats")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.psf is not None:
            self._check_psf(self.psf)
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def _check_psf(self, psf: NDArray[Any]) -> None:
        if psf.ndim != 3 or len(psf) != len(self.bands) or not all(side % 2 for side in psf.shape[1:]):
            raise self._wrong(f"psf has the shape {psf.shape}", f"({len(self.bands)}, two odd lengths)")
        if not (np.isfinite(psf).all() and (np.abs(psf.sum(axis=(1, 2)) - 1) < 0.05).all()):
            raise self._wrong("a PSF is not finite, or its sum is not 1", "sum 1 within 5 %")

    def _wrong(self, what: str, expected: str) -> DataError:
        return DataError(what, where=f"cutout {self.name}".rstrip(), expected=expected)

    def __reduce__(self) -> tuple[Any, ...]:
        # a mapping proxy cannot be sent to another process
        parts = [getattr(self, name) for name in self.__dataclass_fields__]
        return (Cutout, (*parts[:-1], dict(self.meta)))

    def __getitem__(self, band: str) -> NDArray[Any]:
        """Image (rows, columns) of a band, in the unit nanomaggy per pixel.

        Raises
        ------
        DataError
            If there is no such band.
        """
        if band not in self.bands:
            raise self._wrong(f"there is no band {band!r}", "one of " + ", ".join(self.bands))
        return self.values[self.bands.index(band)]

    @property
    def flux(self) -> Array:
        """Sum of each band (bands,), in the unit nanomaggy; NaN pixels are left out."""
        return np.asarray(np.nansum(self.values, axis=(1, 2), dtype=np.float64))

    @property
    def magnitudes(self) -> Array:
        """AB magnitude of all pixels together (bands,), mag; NaN where the sum is not positive."""
        return _magnitude(self.flux)

    def surface_brightness(self) -> Array:
        """Surface brightness (bands, rows, columns), AB mag/arcsec^2; NaN where a pixel is not positive."""
        return _magnitude(np.asarray(self.values, dtype=np.float64) / self.pixel_scale**2)

    def after(self, *done: Mapping[str, Any], **changes: Any) -> Cutout:
        """Return the image with other arrays, and with what was done (JSON types) added to its provenance."""
        steps = [*self.meta.get("steps", ()), *(dict(step) for step in done)]
        return replace(self, **changes, meta={**self.meta, "steps": steps})


def _magnitude(flux: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flux > 0, ZERO_POINT - 2.5 * np.log10(flux), np.nan)
