"""Cubes of the DESI Legacy Imaging Surveys' cutout service, with inverse variance where it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cutouts import Cutout
from galineage.errors import FileFormatError
from galineage.sources.images.checks import agree, check_content, choose_bands, grid_of, nanomaggies
from galineage.sources.images.limits import Plane, number, text
from galineage.sources.images.psfs import read_psf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PIXEL_SCALE", "is_legacy", "read_legacy"]

PIXEL_SCALE = 0.262
"""Side of a pixel of the coadds, arcsec."""


def is_legacy(planes: Sequence[Plane]) -> bool:
    """Tell whether a file is of the cutout service: it names its bands."""
    return text(planes[0].header, "SURVEY").startswith("LegacySurvey") or (
        "BANDS" in planes[0].header and "BAND0" in planes[0].header
    )


def read_legacy(
    path: Path,
    planes: Sequence[Plane],
    *,
    bands: Sequence[str] | None = None,
    pixel_scale: float | None = None,
    zero_point: float | None = None,
    psf: Any = None,
    redshift: float | None = None,
) -> Cutout:
    """Read a cube such as ``cutout.fits?...&bands=grz`` gives it.

    Parameters
    ----------
    path : path
        For messages.
    planes : sequence of Plane
        The image, and the inverse variance (``IMAGETYP`` ``INVVAR``) where there is one.
    bands, pixel_scale, zero_point, psf, redshift
        As `galineage.sources.images.read_cutout`. The service resamples when it is asked for pixels other than
        0.262 arcsec, and does not keep the flux in that: such a cube is refused unless you say ``pixel_scale``.

    Returns
    -------
    Cutout
        Nanomaggies; bands ``decam-g``, ``decam-r``, ``decam-z`` (and ``decam-i``). Variance is NaN where nothing was
        observed.

    Raises
    ------
    DataError
        If a band is missing, or pixel scale or zero point are not as expected.
    FileFormatError
        If the header's bands do not fit each other or the cube, or a band holds no data.
    """
    images = [plane for plane in planes if plane.values is not None]
    where = str(path)
    kinds = {text(plane.header, "IMAGETYP").upper() or "IMAGE": plane for plane in reversed(images)}
    if "IMAGE" not in kinds:
        raise FileFormatError("there is no image", where=where, expected="a cube with IMAGETYP = 'IMAGE'")
    plane = kinds["IMAGE"]
    cube, letters = np.asarray(plane.values), _letters(plane, where)
    cube = cube[np.newaxis] if cube.ndim == 2 else cube
    if len(letters) != len(cube):
        raise FileFormatError(
            f"there are {len(cube)} images and {len(letters)} bands ({letters})", where=where, expected="one for each"
        )
    which = choose_bands([f"decam-{letter}" for letter in letters], bands, where)
    names = [f"decam-{letters[k]}" for k in which]
    said = number(plane.header, "MAGZERO")
    factor = nanomaggies(agree(said, zero_point, 22.5, "zero point", "mag", where))
    values = cube[which] * cube.dtype.type(factor)
    check_content(values, names, where)
    return Cutout(
        values=values,
        bands=tuple(names),
        pixel_scale=agree(grid_of(plane.header, where), pixel_scale, PIXEL_SCALE, "pixel scale", "arcsec", where),
        variance=_variance(kinds, cube.shape, which, factor, where),
        psf=None if psf is None else read_psf(psf, names),
        redshift=redshift,
        name=path.name,
        meta={
            "format": "legacy",
            "file": path.name,
            "domain": f"LegacySurvey {text(planes[0].header, 'VERSION')}".strip(),
            "ra": number(plane.header, "CRVAL1"),
            "dec": number(plane.header, "CRVAL2"),
        },
    )


def _letters(plane: Plane, where: str) -> str:
    """Bands of the cube, in its order, which two places of the header must agree on."""
    letters = text(plane.header, "BANDS").replace(",", "").replace(" ", "").lower()
    each = ""
    while f"BAND{len(each)}" in plane.header and len(each) < 16:
        each += (text(plane.header, f"BAND{len(each)}").lower() or "?")[:1]
    found = letters or each
    if not found or (letters and each and letters != each) or len(set(found)) < len(found):
        raise FileFormatError(
            f"the header names the bands {letters or 'nowhere'} and {each or 'nowhere'}",
            where=where,
            expected="BANDS = 'grz' and BAND0, BAND1, BAND2 alike",
            advice="the order of the bands is not known: fetch the cube again",
        )
    return found


def _variance(
    kinds: dict[str, Plane], shape: tuple[int, ...], which: list[int], factor: float, where: str
) -> NDArray[np.float64] | None:
    """Variance (bands, rows, columns), nanomaggies squared; NaN where the inverse is 0."""
    if "INVVAR" not in kinds:
        return None
    inverse = np.asarray(kinds["INVVAR"].values, dtype=np.float64)
    inverse = inverse[np.newaxis] if inverse.ndim == 2 else inverse
    if inverse.shape != shape:
        raise FileFormatError(f"the inverse variance has the shape {inverse.shape}", where=where, expected=str(shape))
    inverse = inverse[which]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(inverse > 0, factor**2 / inverse, np.nan)
