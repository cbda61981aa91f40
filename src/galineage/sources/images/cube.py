"""Cubes that do not say their bands or zero point: FITS, and numpy archives with mask, variance and PSFs."""

from __future__ import annotations

import math
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cutouts import Cutout
from galineage.errors import DataError, FileFormatError, GalineageError
from galineage.guard import check_size, require_file
from galineage.sources.images.checks import check_content, choose_bands, grid_of, nanomaggies
from galineage.sources.images.limits import Plane, check_shape
from galineage.sources.images.psfs import read_psf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_archive", "read_cube"]

_PARTS = {"images": "values", "image": "values", "mask": "mask", "variance": "variance", "psfs": "psf", "psf": "psf"}


def read_cube(
    path: Path,
    planes: Sequence[Plane],
    *,
    bands: Sequence[str] | None = None,
    pixel_scale: float | None = None,
    zero_point: float | None = None,
    psf: Any = None,
    redshift: float | None = None,
) -> Cutout:
    """Read a FITS cube, or one image, whose bands and zero point you say.

    Parameters
    ----------
    path : path
        For messages.
    planes : sequence of Plane
        One of them an image.
    bands, pixel_scale, zero_point, psf, redshift
        As `galineage.sources.images.read_cutout`. ``bands`` (all of the cube's, in its order) and ``zero_point`` are
        needed, and ``pixel_scale`` where the header has no coordinates.

    Returns
    -------
    Cutout
        Nanomaggies.

    Raises
    ------
    DataError
        If something is not said, or the header says it differently.
    FileFormatError
        If there is not one image.
    """
    images = [plane for plane in planes if plane.values is not None]
    if len(images) != 1:
        raise FileFormatError(f"there are {len(images)} images", where=str(path), expected="one cube of all bands")
    cube = np.asarray(images[0].values)
    cube = cube[np.newaxis] if cube.ndim == 2 else cube
    _need(path, bands=bands, zero_point=zero_point)
    said = grid_of(images[0].header, str(path))
    if said is not None and pixel_scale is not None and abs(said / pixel_scale - 1) > 0.01:
        raise DataError(f"the pixel scale is {said:.6g} arcsec", where=str(path), expected=f"{pixel_scale:.6g} arcsec")
    scale = pixel_scale if said is None else said
    _need(path, pixel_scale=scale)
    return _made(path, {"values": cube}, tuple(bands or ()), None, scale, zero_point, psf, redshift)


def read_archive(
    path: Path,
    *,
    bands: Sequence[str] | None = None,
    pixel_scale: float | None = None,
    zero_point: float | None = None,
    psf: Any = None,
    redshift: float | None = None,
) -> Cutout:
    """Read a numpy archive (npz) with ``images``, ``filters``, and perhaps ``mask``, ``variance`` and ``psfs``.

    Parameters
    ----------
    path : path
        As scarlet's examples have them. ``filters`` holds single letters; their prefix is that of ``bands``.
    bands, pixel_scale, zero_point, psf, redshift
        As `galineage.sources.images.read_cutout`; ``bands``, ``pixel_scale`` and ``zero_point`` are needed.

    Returns
    -------
    Cutout
        Nanomaggies.

    Raises
    ------
    DataError
        If something is not said, or a band is missing.
    FileFormatError
        If the archive cannot be read, unpacks to more than its size explains, or holds Python objects.
    """
    _need(path, bands=bands, pixel_scale=pixel_scale, zero_point=zero_point)
    arrays = _arrays(path)
    wanted = tuple(bands or ())
    there = None
    if "filters" in arrays:
        prefix = wanted[0].rpartition("-")[0]
        there = tuple(f"{prefix}-{letter}".lstrip("-").lower() for letter in arrays["filters"].astype(str))
    parts = {_PARTS[name]: values for name, values in arrays.items() if name in _PARTS}
    if "values" not in parts or parts["values"].ndim != 3:
        raise FileFormatError(
            f"the archive holds {', '.join(arrays)}", where=str(path), expected="images (b, rows, columns)"
        )
    return _made(path, parts, wanted, there, pixel_scale, zero_point, psf, redshift)


def _need(path: Path, **said: Any) -> None:
    for name, value in said.items():
        if value is None:
            raise DataError(
                f"the file does not say its {name.replace('_', ' ')}",
                where=str(path),
                advice=f"say it: read_cutout(PATH, {name}=...)",
            )


def _made(
    path: Path,
    parts: dict[str, NDArray[Any]],
    wanted: tuple[str, ...],
    there: tuple[str, ...] | None,
    pixel_scale: float | None,
    zero_point: float | None,
    psf: Any,
    redshift: float | None,
) -> Cutout:
    cube = parts["values"]
    named = wanted if there is None else there
    if len(named) != len(cube):
        raise DataError(
            f"there are {len(cube)} images", where=str(path), expected=f"one for each of {', '.join(named)}"
        )
    which = choose_bands(named, wanted, str(path))
    factor = nanomaggies(float(zero_point or 0.0))
    values = np.asarray(cube[which], dtype=np.float64) * factor
    check_content(values, wanted, str(path))
    kernels = psf if psf is not None else parts["psf"][which] if "psf" in parts else None
    variance = parts.get("variance")
    return Cutout(
        values=values,
        bands=wanted,
        pixel_scale=float(pixel_scale or 0.0),
        mask=parts["mask"][which] if "mask" in parts else None,
        variance=None if variance is None else np.asarray(variance[which], dtype=np.float64) * factor**2,
        psf=None if kernels is None else read_psf(kernels, wanted),
        redshift=redshift,
        name=path.name,
        meta={"format": "cube", "file": path.name, "zero_point": zero_point},
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an archive, none of which claims more than its bytes hold."""
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [item for item in archive.infolist() if item.filename.endswith(".npy")]
            check_size(path, sum(item.file_size for item in members), f"{len(members)} arrays")
            return {item.filename[:-4]: _array(path, archive, item) for item in members[:64]}
    except GalineageError:
        raise
    except Exception as error:  # damaged bytes fail in zipfile and numpy in many ways
        raise FileFormatError(
            f"the archive cannot be read: {error}", where=str(path), advice="fetch it again"
        ) from error


def _array(path: Path, archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> NDArray[Any]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(item) as stream:
        shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize > item.file_size:
            raise FileFormatError(
                f"{item.filename} claims {shape} of {dtype}", where=str(path), expected="plain numbers"
            )
        if dtype.kind in "fiu" and len(shape) > 1:
            check_shape(shape, f"{path}, {item.filename}")
    with archive.open(item) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
