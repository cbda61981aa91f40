"""Images that galineage wrote itself (`galineage.light.write_images`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cutouts import Cutout
from galineage.errors import DataError, FileFormatError
from galineage.sources.images.checks import agree, check_content, choose_bands, nanomaggies
from galineage.sources.images.limits import Plane, number, text
from galineage.sources.images.psfs import read_psf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["is_own", "read_own"]


def is_own(planes: Sequence[Plane]) -> bool:
    """Tell whether a file was written by galineage."""
    return len(planes) > 1 and all(name in planes[1].header for name in ("MAGZERO", "PIXSCALE", "FILTER"))


def read_own(
    path: Path,
    planes: Sequence[Plane],
    *,
    role: str | None = None,
    bands: Sequence[str] | None = None,
    pixel_scale: float | None = None,
    zero_point: float | None = None,
    psf: Any = None,
    redshift: float | None = None,
) -> Cutout:
    """Read one of the images of a file.

    Parameters
    ----------
    path : path
        For messages.
    planes : sequence of Plane
        Extensions ``OBSERVED HSC-G``, with ``MASK``, ``VARIANCE`` and ``PSF``.
    role : str, optional
        Which, for example ``RAW``. None: ``OBSERVED``, or the only one.
    bands, pixel_scale, zero_point, psf, redshift
        As `galineage.sources.images.read_cutout`.

    Returns
    -------
    Cutout
        Nanomaggies, with the steps that made it in ``meta``.

    Raises
    ------
    DataError
        If there is no such image or band, or pixel scale or zero point are others than stated.
    """
    named = {plane.name: plane for plane in planes if plane.values is not None}
    images = [plane for name, plane in named.items() if name.split()[-1] not in ("MASK", "VARIANCE", "PSF")]
    roles = list(dict.fromkeys(plane.name.split()[0] for plane in images))
    chosen = (role or ("OBSERVED" if "OBSERVED" in roles or len(roles) > 1 else roles[0])).upper()
    if chosen not in roles:
        raise DataError(
            f"there is no image {chosen!r}", where=str(path), expected=", ".join(roles), advice="give role="
        )
    images = [plane for plane in images if plane.name.split()[0] == chosen]
    there = [text(plane.header, "FILTER") for plane in images]
    which = choose_bands(there, bands, str(path))
    images, names = [images[k] for k in which], [there[k] for k in which]
    header = images[0].header
    factor = nanomaggies(agree(number(header, "MAGZERO"), zero_point, 22.5, "zero point", "mag", str(path)))
    parts = {
        part: [found.values for plane in images if (found := named.get(f"{plane.name} {part}"))]
        for part in ("MASK", "VARIANCE", "PSF")
    }
    values = _stack(path, [plane.values for plane in images]) * factor
    check_content(values, names, str(path))
    scale = number(header, "PIXSCALE") or 0.0
    kernels = psf if psf is not None else _stack(path, parts["PSF"]) if parts["PSF"] else None
    return Cutout(
        values=values,
        bands=tuple(names),
        pixel_scale=agree(scale, pixel_scale, scale or 1.0, "pixel scale", "arcsec", str(path)),
        mask=_stack(path, parts["MASK"]) if parts["MASK"] else None,
        variance=_stack(path, parts["VARIANCE"]) * factor**2 if parts["VARIANCE"] else None,
        psf=None if kernels is None else read_psf(kernels, names),
        redshift=number(header, "REDSHIFT") if redshift is None else redshift,
        name=path.name,
        meta={**_json(planes[0].comments, {}), "format": "galineage", "steps": _json(images[0].history, [])},
    )


def _stack(path: Path, arrays: Sequence[Any]) -> Any:
    """Arrays of the bands (bands, rows, columns), in the file's unit."""
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 2:
        raise FileFormatError("bands are of different sizes", where=str(path), expected="one size")
    return np.stack(arrays)


def _json(content: str, otherwise: Any) -> Any:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return otherwise
    return found if isinstance(found, type(otherwise)) else otherwise
