"""Released mocks: SKIRT images of simulated galaxies in real fields of HSC-SSP (Bottrell+2024)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cutouts import Cutout
from galineage.errors import FileFormatError
from galineage.sources.images.checks import agree, check_content, choose_bands, nanomaggies
from galineage.sources.images.limits import Plane, number, text
from galineage.sources.images.psfs import read_psf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["PIXEL_SCALE", "is_skirt_hsc", "read_skirt_hsc"]

PIXEL_SCALE = 0.168
"""Side of a pixel of HSC-SSP's coadds, arcsec."""

_NAME = re.compile(r"SUBARU_HSC\.([GRIZY])( MASK| VARIANCE| PSF)?$")
_UNIT = re.compile(r"AB nanomaggies(?:, m_AB ?= ?([\d.]+) ?- ?2\.5 ?log10\(f\))?$")
_PIVOT = {"g": 0.480, "r": 0.622, "i": 0.770, "z": 0.890, "y": 0.978}


def is_skirt_hsc(planes: Sequence[Plane]) -> bool:
    """Tell whether extensions are those of a mock."""
    return any(_NAME.match(plane.name) for plane in planes)


def read_skirt_hsc(
    path: Path,
    planes: Sequence[Plane],
    *,
    bands: Sequence[str] | None = None,
    pixel_scale: float | None = None,
    zero_point: float | None = None,
    psf: Any = None,
    redshift: float | None = None,
) -> Cutout:
    """Read a mock ``shalo_SSS-ID_vC_HSC_GRIZY.fits``.

    Parameters
    ----------
    path : path
        For messages.
    planes : sequence of Plane
        Extensions ``SUBARU_HSC.G`` and so on, with ``MASK``, ``VARIANCE`` and ``PSF`` where there are such.
    bands, pixel_scale, zero_point, psf, redshift
        As `galineage.sources.images.read_cutout`.

    Returns
    -------
    Cutout
        Nanomaggies; bands ``hsc-g`` ... ``hsc-y``, blue first.

    Raises
    ------
    DataError
        If a band is missing, or pixel scale or zero point are others than stated.
    FileFormatError
        If an extension's name and its ``FILTER`` or pivot wavelength name different bands, or a unit is unknown.
    """
    parts: dict[str, dict[str, Plane]] = {"": {}, "mask": {}, "variance": {}, "psf": {}}
    for plane in planes:
        found = _NAME.match(plane.name)
        if found and plane.values is not None:
            parts[(found[2] or "").strip().lower()][f"hsc-{found[1].lower()}"] = plane
    images = parts[""]
    there = [f"hsc-{band}" for band in "grizy" if f"hsc-{band}" in images]
    names = [there[k] for k in choose_bands(there, bands, str(path))]
    zero_points = [_band_checked(path, band, images[band]) for band in names]
    factor = nanomaggies(agree(zero_points[0], zero_point, 22.5, "zero point", "mag", str(path)))
    if len(set(zero_points)) > 1:
        raise FileFormatError(f"bands have zero points {zero_points}", where=str(path), expected="one")
    header = images[names[0]].header
    side = np.asarray(images[names[0]].values).shape
    values = _stack(path, names, images, side, "image") * factor
    check_content(values, names, str(path))
    variance = _stack(path, names, parts["variance"], side, "variance") * factor**2 if parts["variance"] else None
    kernels = {band: parts["psf"][band].values for band in names if band in parts["psf"]} if psf is None else psf
    return Cutout(
        values=values,
        bands=tuple(names),
        pixel_scale=_pixel_scale(path, header, side, pixel_scale),
        mask=_stack(path, names, parts["mask"], side, "mask") if parts["mask"] else None,
        variance=variance,
        psf=read_psf(kernels, names) if psf is not None or kernels else None,
        redshift=number(header, "REDSHIFT") if redshift is None else redshift,
        name=path.name,
        meta={
            "format": "skirt-hsc",
            "file": path.name,
            "domain": text(header, "SIMTAG"),
            "snapshot": header.get("SNAPNUM"),
            "galaxy": header.get("SUBHALO"),
            "camera": text(header, "CAMERA"),
            "rerun": text(header, "RERUN"),
            "kpc_per_arcsec": number(header, "KPCARC"),
        },
    )


def _band_checked(path: Path, band: str, plane: Plane) -> float:
    """Zero point, mag, of a band whose name, filter and pivot wavelength agree."""
    letter, named = band[-1], text(plane.header, "FILTER")
    pivot = number(plane.header, "WLPIVOT")
    told = named.rpartition(".")[2].lower()
    if (named and told != letter) or (pivot is not None and abs(pivot - _PIVOT[letter]) > 0.04):
        raise FileFormatError(
            f"the extension {plane.name} holds an image in {named or f'{pivot} micron'}",
            where=str(path),
            expected=f"Subaru_HSC.{letter}",
            advice="bands were swapped when the file was written: make it again from the original",
        )
    unit = _UNIT.match(text(plane.header, "BUNIT"))
    if not unit:
        raise FileFormatError(
            f"the unit of {plane.name} is {text(plane.header, 'BUNIT')!r}",
            where=str(path),
            expected="AB nanomaggies",
            advice="convert the images to nanomaggies, and say so in BUNIT",
        )
    return float(unit[1] or 22.5)


def _stack(path: Path, bands: Sequence[str], planes: dict[str, Plane], side: tuple[int, ...], what: str) -> Any:
    """Arrays of one kind (bands, rows, columns), in the file's unit."""
    arrays = [planes[band].values if band in planes else None for band in bands]
    for band, values in zip(bands, arrays, strict=True):
        if values is None or values.shape != side or len(side) != 2:
            shape = "absent" if values is None else f"of the shape {values.shape}"
            raise FileFormatError(
                f"the {what} in {band} is {shape}", where=str(path), expected=f"(rows, columns) {side}"
            )
    return np.stack([values for values in arrays if values is not None])


def _pixel_scale(path: Path, header: Any, side: tuple[int, ...], stated: float | None) -> float:
    """Side of a pixel, arcsec; the field's size must be that of the pixels, to one of them."""
    field = number(header, "FOVARC")
    usual = PIXEL_SCALE if stated is None else stated
    if field is None or abs(field / usual - side[1]) <= 1.5:
        return usual
    return agree(field / side[1], stated, PIXEL_SCALE, "pixel scale", "arcsec", str(path))
