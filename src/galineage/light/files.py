"""Images as FITS files: raw and observed ones together, with everything that was done to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.atomic import writing
from galineage.cutouts import ZERO_POINT
from galineage.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from galineage.cutouts import Cutout

__all__ = ["write_images"]


def write_images(path: str | os.PathLike[str], images: Mapping[str, Cutout]) -> None:
    """Write images of one galaxy to a FITS file, an extension for each band.

    Parameters
    ----------
    path : path
        ``.fits`` or ``.fits.gz``.
    images : mapping of str to Cutout
        By what they are, for example ``{"RAW": raw, "OBSERVED": seen}``. Extensions are named ``RAW HSC-G``, and
        ``OBSERVED HSC-G MASK``, ``VARIANCE`` (nanomaggies squared) and ``PSF`` where there are such. Headers hold
        ``BUNIT``, ``MAGZERO`` (AB), ``PIXSCALE`` (arcsec), ``REDSHIFT``, ``FILTER``, ``CAMERA``, the line of sight, the
        settings as JSON in ``COMMENT`` of the primary header and the steps as JSON in ``HISTORY`` of each extension.

    Raises
    ------
    ConfigError
        If there is no image.
    FileFormatError
        If the file cannot be written.
    """
    from astropy.io import fits

    if not images:
        raise ConfigError("there is no image to write")
    hdus = fits.HDUList([_primary(next(iter(images.values())))])
    for role, cutout in images.items():
        for place, band in enumerate(cutout.bands):
            name = f"{role} {band}".upper()
            hdus.append(_hdu(cutout.values[place], name, "nmgy", cutout, place))
            for part, unit in (("mask", ""), ("variance", "nmgy2"), ("psf", "")):
                values = getattr(cutout, part)
                if values is not None:
                    hdus.append(_hdu(values[place], f"{name} {part.upper()}", unit, cutout, place))
    with writing(path) as temporary:
        hdus.writeto(temporary, overwrite=True, checksum=True)


def _primary(cutout: Cutout) -> Any:
    from astropy.io import fits

    hdu = fits.PrimaryHDU()
    meta = {name: value for name, value in cutout.meta.items() if name != "steps"}
    for key, name, comment in (
        ("GALAXY", "galaxy", "identifier in the snapshot"),
        ("DOMAIN", "domain", "simulation run or survey"),
        ("RHALF", "r_half_kpc", "[kpc] 3-D stellar half-mass radius"),
    ):
        if name in meta:
            hdu.header[key] = (meta[name], comment)
    for line in _lines(json.dumps(meta, sort_keys=True, default=str)):
        hdu.header.add_comment(line)
    return hdu


def _hdu(values: Any, name: str, unit: str, cutout: Cutout, place: int) -> Any:
    from astropy.io import fits

    values = np.asarray(values)
    if values.dtype.kind == "u":
        values = values.astype(np.int64)
    hdu = fits.ImageHDU(values, name=name)
    header = hdu.header
    if unit:
        header["BUNIT"] = (unit, "AB nanomaggies per pixel" if unit == "nmgy" else "squared AB nanomaggies")
        header["MAGZERO"] = (ZERO_POINT, "[mag] AB magnitude of 1 nanomaggy")
    header["FILTER"] = (cutout.bands[place], "band")
    header["PIXSCALE"] = (cutout.pixel_scale, "[arcsec] side of a pixel")
    header["REDSHIFT"] = (cutout.redshift, "of the galaxy as observed")
    view = cutout.meta.get("view")
    if view is not None:
        header["CAMERA"] = (view["name"], "view")
        for axis, row in zip(("RGT", "UP", "LOS"), view["matrix"], strict=True):
            for number, value in enumerate(row):
                header[f"{axis}{'XYZ'[number]}"] = (value, "row of the camera's matrix")
    _grid(header, values.shape, cutout.pixel_scale)
    for line in _lines(json.dumps(list(cutout.meta.get("steps", ())), sort_keys=True, default=str)):
        header.add_history(line)
    return hdu


def _grid(header: Any, shape: tuple[int, ...], pixel_scale: float) -> None:
    """Write offsets from the centre in arcsec as the coordinates; a simulated galaxy has no place on the sky."""
    for axis, (side, label) in enumerate(((shape[1], "XOFFSET"), (shape[0], "YOFFSET")), start=1):
        header[f"CTYPE{axis}"] = label
        header[f"CUNIT{axis}"] = "arcsec"
        header[f"CRPIX{axis}"] = (side + 1) / 2
        header[f"CRVAL{axis}"] = 0.0
        header[f"CDELT{axis}"] = pixel_scale


def _lines(text: str) -> list[str]:
    """Cut ASCII text into cards; joined again they are the text, so none may end with a space, which FITS drops."""
    lines = []
    while text:
        line = text[:70].rstrip(" ") or text[:70]
        lines.append(line)
        text = text[len(line) :]
    return lines
