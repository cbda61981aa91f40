"""Point-spread functions that come in files of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.sources.images.limits import read_planes, text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["read_psf"]


def read_psf(given: Any, bands: Sequence[str]) -> NDArray[np.float64]:
    """Bring PSFs from arrays or files to one array, each with sum 1.

    Parameters
    ----------
    given : array (bands, p, q), path, or mapping of str to array (p, q) or path
        A FITS file holds an image for each band, told apart by ``BAND`` or ``FILTER`` in its header, or in the order
        of ``bands``. A mapping has bands as keys; PSFs of fewer pixels get a border of zeros.
    bands : sequence of str
        Wanted, such as ``hsc-g``.

    Returns
    -------
    array (bands, p, q) of float64
        Pure numbers.

    Raises
    ------
    DataError
        If a band has none, a side is even, or a PSF is not finite or its sum not 1 within 5 %.
    FileFormatError
        If a file cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        kernels = _of_file(given, bands)
    elif isinstance(given, Mapping):
        missing = [band for band in bands if band not in given]
        if missing:
            raise DataError(f"there is no PSF of {', '.join(missing)}", expected=", ".join(bands))
        kernels = [
            _of_file(given[band], [band])[0] if isinstance(given[band], str | os.PathLike) else np.asarray(given[band])
            for band in bands
        ]
    else:
        kernels = list(np.asarray(given, dtype=np.float64))
    if len(kernels) != len(bands):
        raise DataError(f"there are {len(kernels)} PSFs", expected=f"{len(bands)}: {', '.join(bands)}")
    return _stacked([_checked(kernel, band) for kernel, band in zip(kernels, bands, strict=True)])


def _of_file(path: str | os.PathLike[str], bands: Sequence[str]) -> list[NDArray[Any]]:
    planes = [plane for plane in read_planes(path) if plane.values is not None]
    images = [image for plane in planes for image in _images(plane.values)]
    names = [(text(plane.header, "BAND") or text(plane.header, "FILTER")).lower() for plane in planes]
    if len(planes) == len(images) and all(names) and len(bands) > 1:
        places = {name.rpartition("-")[2]: image for name, image in zip(names, images, strict=True)}
        missing = [band for band in bands if band.rpartition("-")[2] not in places]
        if missing:
            raise DataError(f"there is no PSF of {', '.join(missing)}", where=str(path), expected=", ".join(places))
        return [places[band.rpartition("-")[2]] for band in bands]
    if len(images) != len(bands):
        raise DataError(f"there are {len(images)} PSFs", where=str(path), expected=f"{len(bands)}: {', '.join(bands)}")
    return images


def _images(values: Any) -> list[NDArray[Any]]:
    return [values] if values.ndim == 2 else list(values)


def _checked(kernel: NDArray[Any], band: str) -> Array:
    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim != 2 or not all(side % 2 for side in kernel.shape):
        raise DataError(f"the PSF of {band} has the shape {kernel.shape}", expected="two odd lengths")
    total = kernel.sum()
    if not (np.isfinite(kernel).all() and abs(total - 1) < 0.05):
        raise DataError(f"the PSF of {band} is not finite, or its sum is {total:.3g}", expected="1 within 5 %")
    return np.asarray(kernel / total)


def _stacked(kernels: list[Array]) -> Array:
    sides = [max(kernel.shape[axis] for kernel in kernels) for axis in (0, 1)]
    margins = [[(side - own) // 2 for side, own in zip(sides, kernel.shape, strict=True)] for kernel in kernels]
    return np.stack([np.pad(kernel, [(m, m) for m in margin]) for kernel, margin in zip(kernels, margins, strict=True)])
