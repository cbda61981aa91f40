"""Cutouts of HSC-SSP as its archive gives them: a file for each band, with mask and variance, and a PSF beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cutouts import Cutout
from galineage.errors import DataError, FileFormatError
from galineage.sources.images.checks import agree, check_content, choose_bands, grid_of, nanomaggies
from galineage.sources.images.limits import Plane, number, read_planes, text
from galineage.sources.images.psfs import read_psf
from galineage.sources.images.skirt_hsc import PIXEL_SCALE

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = ["is_hsc_ssp", "read_hsc_ssp"]

ZERO_POINT = 27.0
"""AB magnitude of one count in every data release of HSC-SSP (FLUXMAG0 = 10^10.8)."""

_BAND = re.compile(r"HSC-([GRIZY])\d?(?![A-Za-z])")
_ORDER = "grizy"


def is_hsc_ssp(planes: Sequence[Plane]) -> bool:
    """Tell whether extensions are those of one band's cutout: nothing, image, mask, variance."""
    shapes = [None if plane.values is None else plane.values.shape for plane in planes[:4]]
    return len(shapes) == 4 and shapes[0] is None and shapes[1] == shapes[2] == shapes[3] is not None


def read_hsc_ssp(
    files: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
    *,
    bands: Sequence[str] | None = None,
    pixel_scale: float | None = None,
    zero_point: float | None = None,
    psf: Any = None,
    redshift: float | None = None,
) -> Cutout:
    """Read a cutout of the DAS service (``image``, ``mask`` and ``variance`` asked for), and its PSFs.

    Parameters
    ----------
    files : path or mapping of str to path
        A folder with the files of one galaxy (PSFs are those with ``psf`` in their names), one file, or a file for
        each band, such as ``{"hsc-g": ...}``. Bands are told by ``FILTER`` in the header and by ``HSC-G`` in names.
    bands, pixel_scale, zero_point, psf, redshift
        As `galineage.sources.images.read_cutout`.

    Returns
    -------
    Cutout
        Nanomaggies; NaN where the mask has ``NO_DATA``; ``meta["mask_bits"]`` names the bits of the mask.

    Raises
    ------
    DataError
        If a band is missing, bands are not of one field and size, or pixel scale or zero point are not as expected.
    FileFormatError
        If a file cannot be read, its band is not known, or it lacks mask or variance.
    """
    found, kernels = _files(files)
    where = str(files) if not isinstance(files, Mapping) else ", ".join(map(str, files.values()))
    there = sorted(found, key=lambda band: _ORDER.index(band[-1]))
    names = [there[k] for k in choose_bands(there, bands, where)]
    read = [_read_band(Path(found[band]), band, pixel_scale, zero_point) for band in names]
    corners = {(*part["values"].shape, part["place"]) for part in read}
    if len(corners) > 1:
        raise DataError(f"bands cover different pixels: {sorted(map(str, corners))}", where=where, expected="one grid")
    values = np.stack([part["values"] for part in read])
    check_content(values, names, where)
    given = kernels if psf is None and kernels else psf
    return Cutout(
        values=values,
        bands=tuple(names),
        pixel_scale=read[0]["scale"],
        mask=np.stack([part["mask"] for part in read]),
        variance=np.stack([part["variance"] for part in read]),
        psf=None if given is None else read_psf(given, names),
        redshift=redshift,
        name=Path(found[names[0]]).name,
        meta={
            "format": "hsc-ssp",
            "files": [Path(found[band]).name for band in names],
            "domain": "HSC-SSP",
            "mask_bits": read[0]["bits"],
        },
    )


def _files(files: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find the images and the PSFs, by band."""
    if isinstance(files, Mapping):
        unknown = [band for band in files if band not in {f"hsc-{letter}" for letter in _ORDER}]
        if unknown:
            raise DataError(f"there is no band {unknown[0]!r} in HSC-SSP", expected="hsc-g, hsc-r, hsc-i, hsc-z, hsc-y")
        return dict(files), {}
    folder = Path(files)
    images: dict[str, Any] = {}
    kernels: dict[str, Any] = {}
    paths = sorted(folder.glob("*.fits*")) if folder.is_dir() else [folder]
    for path in paths:
        band = _BAND.search(path.name)
        letter = band[1].lower() if band else _letter(read_planes(path), path)
        chosen = kernels if "psf" in path.name.lower() else images
        if f"hsc-{letter}" in chosen:
            raise DataError(f"there are two files of hsc-{letter}", where=str(folder), advice="give a mapping of paths")
        chosen[f"hsc-{letter}"] = path
    if not images:
        raise FileFormatError("there is no FITS file", where=str(folder), expected="one for each band")
    return images, kernels


def _letter(planes: Sequence[Plane], path: Path) -> str:
    for plane in planes:
        found = _BAND.search(text(plane.header, "FILTER").upper())
        if found:
            return found[1].lower()
    raise FileFormatError(
        "the file does not say its band",
        where=str(path),
        expected="FILTER = 'HSC-R' in the header, or HSC-R in the name",
        advice='give the bands: {"hsc-r": PATH, ...}',
    )


def _read_band(path: Path, band: str, pixel_scale: float | None, zero_point: float | None) -> dict[str, Any]:
    """Image, mask and variance (rows, columns) of a band in nanomaggies, and what the headers say of them."""
    planes = read_planes(path)
    where = str(path)
    if not is_hsc_ssp(planes):
        raise FileFormatError(
            f"the extensions are {', '.join(plane.name or 'unnamed' for plane in planes)}",
            where=where,
            expected="image, mask and variance of one size after an empty one",
            advice="ask the cutout service for mask and variance too",
        )
    said = [letter[1].lower() for plane in planes if (letter := _BAND.search(text(plane.header, "FILTER").upper()))]
    if said and said[0] != band[-1]:
        raise FileFormatError(f"this is an image in hsc-{said[0]}", where=where, expected=band)
    flux = [found for plane in planes[:2] if (found := number(plane.header, "FLUXMAG0")) is not None and found > 0]
    if not flux and zero_point is None:
        raise FileFormatError("there is no FLUXMAG0", where=where, advice="say the zero point: zero_point=27.0")
    told = 2.5 * float(np.log10(flux[0])) if flux else None
    factor = nanomaggies(agree(told, zero_point, ZERO_POINT, "zero point", "mag", where))
    image, mask, variance = (np.asarray(plane.values) for plane in planes[1:4])
    if mask.dtype.kind not in "iu":
        raise FileFormatError(f"the mask holds {mask.dtype}", where=where, expected="integers")
    bits = {key[3:]: int(value) for key, value in planes[2].header.items() if _is_bit(key, value)}
    values = image.astype(np.float64) * factor
    if "NO_DATA" in bits:
        values[(mask >> bits["NO_DATA"]) & 1 == 1] = np.nan
    header = planes[1].header
    scale = agree(grid_of(header, where), pixel_scale, PIXEL_SCALE, "pixel scale", "arcsec", where)
    place = tuple(round(number(header, name) or 0.0, 3) for name in ("CRPIX1", "CRPIX2"))
    return {
        "values": values,
        "mask": mask,
        "variance": variance.astype(np.float64) * factor**2,
        "bits": bits,
        "scale": scale,
        "place": place,
    }


def _is_bit(key: str, value: Any) -> bool:
    return key.startswith("MP_") and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 63
