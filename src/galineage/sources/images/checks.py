"""What a cutout must be before it is used: its bands in their order, its pixels, its unit, its PSF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cutouts import ZERO_POINT
from galineage.errors import DataError, FileFormatError
from galineage.sources.images.limits import number, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from galineage.cutouts import Cutout

__all__ = ["agree", "check_content", "check_cutout", "choose_bands", "grid_of", "nanomaggies"]

TOLERANCE = 0.01
"""Relative difference of pixel scales that is still called the same."""


def choose_bands(there: Sequence[str], wanted: Sequence[str] | None, where: str) -> list[int]:
    """Return the places of the wanted bands among those that are there; all, if none are named.

    Raises
    ------
    DataError
        If one is missing.
    """
    if wanted is None:
        return list(range(len(there)))
    missing = [band for band in wanted if band not in there]
    if missing:
        raise DataError(
            f"there is no image in {', '.join(missing)}",
            where=where,
            expected="bands among " + ", ".join(there),
            advice="leave them out of bands=, or fetch the galaxy with them",
        )
    return [list(there).index(band) for band in wanted]


def agree(said: float | None, stated: float | None, usual: float, what: str, unit: str, where: str) -> float:
    """Return a scale that header, user and survey agree on.

    Parameters
    ----------
    said : float or None
        By the header.
    stated : float or None
        By the user, who may know better than the survey's usual number but not than the header.
    usual : float
        Of the survey.
    what, unit, where : str
        For the message.

    Raises
    ------
    DataError
        If the header says something else than the user, or, where the user says nothing, than the survey.
    """
    expected = usual if stated is None else stated
    found = expected if said is None else said
    # magnitudes are logarithms already
    apart = abs(found - expected) if unit == "mag" else abs(found / expected - 1)
    if not (apart <= (0.005 if unit == "mag" else TOLERANCE)):
        keyword = what.replace(" ", "_")
        raise DataError(
            f"the {what} is {found:.6g} {unit}",
            where=where,
            expected=f"{expected:.6g} {unit}, as {'the survey has' if stated is None else 'you say'}",
            advice=f"if the header is right, say so: {keyword}={found:.6g}",
        )
    return expected


def grid_of(header: Mapping[str, Any], where: str) -> float | None:
    """Pixel scale in arcsec from a header's coordinates on the sky; None if it has none.

    Raises
    ------
    DataError
        If pixels are not square, or the image is mirrored (north up and east to the right).
    """
    if not text(header, "CTYPE1").upper().startswith("RA"):
        return None
    steps = [1.0 if (found := number(header, f"CDELT{axis}")) is None else found for axis in (1, 2)]
    prefix = "CD" if any(f"CD{a}_{b}" in header for a in (1, 2) for b in (1, 2)) else "PC"
    matrix = np.eye(2) if prefix == "PC" else np.zeros((2, 2))
    for row in (0, 1):
        for column in (0, 1):
            found = number(header, f"{prefix}{row + 1}_{column + 1}")
            matrix[row, column] = matrix[row, column] if found is None else found
    if prefix == "PC":
        matrix = matrix * np.array(steps)[:, np.newaxis]
    sides = np.hypot(*matrix) * 3600
    if not (sides > 0).all() or abs(sides[0] / sides[1] - 1) > 0.01:
        raise DataError(f"pixels are {sides[0]:.4g} x {sides[1]:.4g} arcsec", where=where, expected="square ones")
    if np.linalg.det(matrix) > 0:
        raise DataError(
            "the image is mirrored: seen with north up, east is to the right",
            where=where,
            expected="east to the left, as on the sky",
            advice="flip it along its columns, and its header with it",
        )
    return float(np.sqrt(sides[0] * sides[1]))


def nanomaggies(zero_point: float) -> float:
    """Nanomaggies in one count, of an image whose count has this AB magnitude (``zero_point``, mag)."""
    return float(10.0 ** (-0.4 * (zero_point - ZERO_POINT)))


def check_content(values: NDArray[Any], bands: Sequence[str], where: str) -> None:
    """Refuse images (bands, rows, columns), in any unit, that hold nothing: no number, or one number everywhere.

    Raises
    ------
    FileFormatError
        Naming the band.
    """
    for image, band in zip(values, bands, strict=True):
        finite = image[np.isfinite(image)]
        if finite.size and finite.min() < finite.max():
            continue
        what = f"{finite[0]:g} everywhere" if finite.size else "without a finite pixel"
        raise FileFormatError(
            f"the image in {band} is {what}",
            where=where,
            expected="an observed field",
            advice="the survey has no data there: take another field, or leave the band out",
        )


def check_cutout(
    cutout: Cutout, *, bands: Sequence[str] | None = None, pixel_scale: float | None = None, psf: bool = False
) -> None:
    """Refuse a cutout that is not as a model or another sample has its images.

    Parameters
    ----------
    cutout : Cutout
        To be used.
    bands : sequence of str, optional
        Wanted, in this order.
    pixel_scale : float, arcsec, optional
        Wanted within 1 %.
    psf : bool
        Whether a PSF of every band is wanted.

    Raises
    ------
    DataError
        Saying what differs, and what would mend it.
    """
    where = cutout.name or None
    if bands is not None and cutout.bands != tuple(bands):
        there, wanted = ", ".join(cutout.bands), ", ".join(bands)
        missing = [band for band in bands if band not in cutout.bands]
        if missing:
            raise DataError(f"there is no image in {', '.join(missing)}", where=where, expected=wanted)
        what = "bands are in the order" if set(cutout.bands) == set(bands) else "there are more bands:"
        raise DataError(f"{what} {there}", where=where, expected=wanted, advice="choose and order with bands=")
    if pixel_scale is not None and not abs(cutout.pixel_scale / pixel_scale - 1) <= TOLERANCE:
        raise DataError(
            f"pixels are {cutout.pixel_scale:.4g} arcsec",
            where=where,
            expected=f"{pixel_scale:.4g} arcsec",
            advice="rebin_cutout brings an image to other pixels",
        )
    if psf and cutout.psf is None:
        raise DataError(
            "the cutout has no PSF", where=where, expected="one for each band", advice="give the survey's with psf="
        )
