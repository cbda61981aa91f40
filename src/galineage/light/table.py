"""Magnitudes of simple stellar populations: one small table, over band, redshift, metallicity and age.

The numbers are derived from the spectra of Bruzual & Charlot (2003, MNRAS 344, 1000; Padova 1994 tracks, Chabrier
initial mass function, low resolution) and the response curves that speclite ships; ``docs/make_ssp_table.py`` is the
recipe. No spectrum is in the package. There are no nebular lines and no dust.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["BANDS", "PopulationTable", "check_bands", "decode", "encode", "population_table", "slice_of"]

STEP = 0.002
"""The table is kept in whole numbers of this, mag."""

FILTERS = {
    **{f"hsc-{band}": f"hsc2017-{band}" for band in "grizy"},
    **{f"sdss-{band}": f"sdss2010-{band}" for band in "ugriz"},
    **{f"decam-{band}": f"decam2014-{band}" for band in "griz"},
}
"""Band to the name of its response curve in speclite: detector, optics and atmosphere included."""

BANDS = tuple(FILTERS)
"""Bands that there are: HSC, SDSS, and DECam for the Legacy Surveys."""


@dataclass(frozen=True, eq=False)
class PopulationTable:
    """AB magnitudes of a population per solar mass formed.

    Attributes
    ----------
    bands : tuple of str
        Names along the first axis.
    pivot : array (bands,), Angstrom
        Pivot wavelengths.
    redshifts : array (z,)
        From 0, rising.
    log_z : array (Z,), dex
        log10 of the metal mass fraction.
    log_age : array (ages,), dex
        log10 of the age in yr.
    magnitudes : array (bands, z, Z, ages), mag
        Apparent magnitude in the observer's band less the distance modulus: at redshift 0 the absolute magnitude, at
        others with the K-correction in it.
    """

    bands: tuple[str, ...]
    pivot: Array
    redshifts: Array
    log_z: Array
    log_age: Array
    magnitudes: Array


def encode(magnitudes: Array) -> NDArray[np.int16]:
    """Return the table (bands, z, Z, ages), mag, as differences along z and age in steps of 0.002 mag, int16."""
    whole = np.rint(magnitudes / STEP).astype(np.int32)
    return np.diff(np.diff(whole, axis=1, prepend=0), axis=3, prepend=0).astype(np.int16)


def decode(steps: NDArray[np.int16]) -> Array:
    """Undo `encode`: magnitudes (bands, z, Z, ages), mag."""
    return np.asarray(np.cumsum(np.cumsum(steps.astype(np.int64), axis=3), axis=1) * STEP)


@cache
def population_table() -> PopulationTable:
    """Read the table of the package, once."""
    with (
        resources.files("galineage.light").joinpath("bc03_chabrier.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        found: dict[str, Any] = {name: stored[name] for name in stored.files}
    arrays = {name: found[name].astype(np.float64) for name in ("pivot", "redshifts", "log_z", "log_age")}
    arrays["magnitudes"] = decode(found["steps"])
    for values in arrays.values():
        values.setflags(write=False)
    return PopulationTable(bands=tuple(str(band) for band in found["bands"]), **arrays)


def check_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Return bands as a tuple.

    Raises
    ------
    ConfigError
        If there is none, one is unknown, or one is listed twice.
    """
    chosen = (bands,) if isinstance(bands, str) else tuple(bands)
    unknown = [band for band in chosen if band not in BANDS]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"the bands are {', '.join(chosen) or 'none'}",
            where=f"band {unknown[0]!r}" if unknown else None,
            expected="each once, of " + ", ".join(BANDS),
        )
    return chosen


@lru_cache(maxsize=32)
def slice_of(bands: tuple[str, ...], redshift: float) -> tuple[Array, Array]:
    """Table at one redshift, by a cubic spline through those it has.

    Parameters
    ----------
    bands : tuple of str
        Of `BANDS`.
    redshift : float
        Not above that of the last one.

    Returns
    -------
    grid : array (Z, ages, bands), mag
        Per solar mass formed; the distance modulus is to be added.
    wavelength : array (bands,), Angstrom
        Pivot wavelengths of the bands, at rest in the galaxy.

    Raises
    ------
    ConfigError
        If the redshift is outside of the table: a K-correction is not made up.
    """
    from scipy.interpolate import CubicSpline

    table = population_table()
    if not 0 <= redshift <= table.redshifts[-1]:
        raise ConfigError(
            f"there is no photometry at redshift {redshift}", expected=f"0 to {table.redshifts[-1]:g}", where="light"
        )
    which = [table.bands.index(band) for band in bands]
    spline = CubicSpline(table.redshifts, table.magnitudes[which], axis=1)
    grid = np.ascontiguousarray(np.moveaxis(spline(redshift), 0, -1))
    wavelength = table.pivot[which] / (1 + redshift)
    for values in (grid, wavelength):
        values.setflags(write=False)
    return grid, wavelength
