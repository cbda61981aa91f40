"""From stars to the light of each of them, as an observer at some distance receives it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from galineage.cosmology import TNG
from galineage.cutouts import ZERO_POINT
from galineage.errors import ConfigError, DataError
from galineage.light.distances import distance_modulus
from galineage.light.lookup import CLAMPED, guide_of, look_up
from galineage.light.table import check_bands, population_table, slice_of
from galineage.stars import PHOTOMETRY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from galineage.light.dust import TwoScreens
    from galineage.stars import Stars

    Array = NDArray[np.float64]

__all__ = ["OutsideTableWarning", "Photometry", "Starlight", "population_magnitudes", "starlight"]

Photometry = Literal["auto", "table"]
"""Whether magnitudes that the simulation made are used where there are any."""

_ANCHORS = tuple(name for name in PHOTOMETRY if name in "griz")


class OutsideTableWarning(UserWarning):
    """Stars lie outside of the table of stellar populations and get the light of its edge."""


@dataclass(frozen=True, eq=False)
class Starlight:
    """Light of stars in several bands.

    Attributes
    ----------
    flux : array (bands, n), nanomaggies
        Of each star, with dust if asked for. At redshift 0: as seen from 10 pc.
    bands : tuple of str
        Names along the first axis.
    redshift : float
        Of the galaxy as observed.
    source : {"table", "simulation"}
        ``simulation``: the stars' own magnitudes at rest; the table gives only the step from there to the observed
        band.
    clamped : mapping of str to int
        Stars outside of the table, by the side on which they are (`galineage.light.lookup.CLAMPED`).
    clamped_mass : float
        Fraction of the mass formed that these stars hold; of all mass at present where the former is not known.
    """

    flux: Array
    bands: tuple[str, ...]
    redshift: float
    source: Literal["table", "simulation"]
    clamped: Mapping[str, int]
    clamped_mass: float

    @property
    def magnitudes(self) -> Array:
        """AB magnitude of all stars together (bands,), mag; absolute at redshift 0. NaN without light."""
        total = self.flux.sum(axis=1)
        with np.errstate(divide="ignore"):
            return np.where(total > 0, ZERO_POINT - 2.5 * np.log10(total), np.nan)

    def describe(self) -> dict[str, Any]:
        """Return what the light was made from, without the light, in JSON types."""
        return {
            "bands": list(self.bands),
            "redshift": self.redshift,
            "source": self.source,
            "clamped": dict(self.clamped),
            "clamped_mass": self.clamped_mass,
        }


@cache
def _guide() -> NDArray[np.int64]:
    return guide_of(population_table().log_age)


def _looked_up(
    columns: tuple[Array, Array, Array], grid: Array, young: float, factors: Array
) -> tuple[Array, NDArray[np.int64]]:
    """Return the light (bands, n) of stars, and how many are outside of the table on each of the four sides."""
    table = population_table()
    out, counts = np.empty((grid.shape[2], len(columns[0]))), np.zeros(4, np.int64)
    axes = (np.array(table.log_z), np.array(table.log_age))
    # frozen arrays are another type to the compiler, and every mixture of types would be compiled anew
    plain = tuple(np.require(each, np.float64, ["C", "W"]) for each in columns)
    look_up(plain, axes, _guide(), np.array(grid), young, factors, out, counts)
    return out, counts


def population_magnitudes(
    age: ArrayLike, metallicity: ArrayLike, bands: Sequence[str], redshift: float = 0.0
) -> NDArray[np.float64]:
    """AB magnitudes of simple stellar populations, per solar mass formed.

    Parameters
    ----------
    age : array (n,), Gyr
        Since formation.
    metallicity : array (n,)
        Mass fraction of metals.
    bands : sequence of str
        Of `galineage.light.BANDS`.
    redshift : float
        At which the bands are observed, 0 to 1.

    Returns
    -------
    array (bands, n), mag
        Apparent magnitude less the distance modulus (Bruzual & Charlot 2003, Chabrier). Ages and metallicities outside
        of the table get its edge, with one `OutsideTableWarning`. NaN for a NaN.

    Raises
    ------
    ConfigError
        If a band or the redshift is not in the table.
    DataError
        If an age or metallicity is negative or infinite, or their shapes differ.
    """
    chosen = check_bands(bands)
    ages, metals = (np.asarray(each, dtype=np.float64) for each in (age, metallicity))
    if ages.shape != metals.shape or ages.ndim != 1:
        raise DataError(f"ages have the shape {ages.shape}, metallicities {metals.shape}", expected="(n,), both")
    known = ~(np.isnan(ages) | np.isnan(metals))
    given = np.stack([ages[known], metals[known]])
    if not (np.isfinite(given) & (given >= 0)).all():
        raise DataError("an age or metallicity is negative or infinite", expected="0 or more")
    grid, _ = slice_of(chosen, float(redshift))
    flux, counts = _looked_up((given[0], given[1], np.ones(given.shape[1])), grid, 0.0, np.ones((2, len(chosen))))
    _warn(dict(zip(CLAMPED, counts.tolist(), strict=True)), given.shape[1])
    out = np.full((len(chosen), len(ages)), np.nan)
    out[:, known] = -2.5 * np.log10(flux)
    return out


def _warn(clamped: Mapping[str, int], stars: int, share: float | None = None) -> None:
    outside = {name: count for name, count in clamped.items() if count}
    if not outside:
        return
    sides = ", ".join(f"{count} {name}" for name, count in outside.items())
    mass = "" if share is None else f", {100 * share:.2g} % of their mass"
    warnings.warn(
        f"of {stars} stars{mass}, some lie outside of the table of stellar populations ({sides}): "
        "they get the light of its edge",
        OutsideTableWarning,
        stacklevel=3,
    )


def starlight(
    stars: Stars,
    bands: Sequence[str],
    redshift: float,
    *,
    cosmology: Any = TNG,
    dust: TwoScreens | None = None,
    photometry: Photometry = "auto",
    warn: bool = True,
) -> Starlight:
    """Light of each star as observed from a redshift.

    A star is a population of one age and metallicity; its light follows from the mass it was born with, not from what
    is left of it. Where the simulation gives magnitudes at rest (``GFM_StellarPhotometrics`` of TNG), they are used,
    and the table adds the difference between the observed band and the SDSS band that is nearest to it at rest.

    Parameters
    ----------
    stars : Stars
        With age and metallicity, and initial mass or photometry.
    bands : sequence of str
        Of `galineage.light.BANDS`.
    redshift : float
        0 to 1. 0: seen from 10 pc, so that magnitudes are absolute.
    cosmology : Cosmology or cosmology of astropy
        For the distance.
    dust : TwoScreens, optional
        At the wavelength of the band at rest. Default: none.
    photometry : {"auto", "table"}
        ``table``: leave the simulation's own magnitudes aside.
    warn : bool
        Say it if stars lie outside of the table; they are counted in the result anyhow.

    Returns
    -------
    Starlight

    Raises
    ------
    ConfigError
        If a band or the redshift is not in the table, or a word unknown.
    DataError
        If the stars lack what it takes; nothing is made up.
    """
    chosen = check_bands(bands)
    if photometry not in get_args(Photometry):
        raise ConfigError(f"photometry is {photometry!r}", expected="one of " + ", ".join(get_args(Photometry)))
    own = photometry == "auto" and stars.photometry is not None
    age, metallicity, mass = _columns(stars, own)
    redshift = float(redshift)
    grid, wavelength = slice_of(chosen, redshift)
    factors = np.ones((2, len(chosen))) if dust is None else dust.transmission(wavelength)
    # magnitudes of nanomaggies, at the distance
    grid = grid + (distance_modulus(redshift, cosmology) - ZERO_POINT)
    young = 0.0 if dust is None else dust.age
    if own and stars.photometry is not None:
        nearest, anchors = _anchors(wavelength)
        rest, _ = slice_of(anchors, 0.0)
        step, counts = _looked_up((age, metallicity, np.ones(len(stars))), grid - rest, young, factors)
        flux = step * 10.0 ** (-0.4 * stars.photometry[:, nearest].T)
    else:
        flux, counts = _looked_up((age, metallicity, mass), grid, young, factors)
    clamped = dict(zip(CLAMPED, counts.tolist(), strict=True))
    share = _share_outside(age, metallicity, mass) if any(clamped.values()) else 0.0
    if warn:
        _warn(clamped, len(stars), share)
    flux.setflags(write=False)
    return Starlight(flux, chosen, redshift, "simulation" if own else "table", clamped, share)


def _columns(stars: Stars, own: bool) -> tuple[Array, Array, Array]:
    """Return age, metallicity and mass formed (n,); with photometry of its own a star's present mass may stand in."""
    if stars.age is None or stars.metallicity is None:
        lacking = "age" if stars.age is None else "metallicity"
        raise DataError(f"stars without {lacking} give no light", advice="ask for it when reading or cutting out")
    if stars.initial_mass is not None:
        return stars.age, stars.metallicity, stars.initial_mass
    if not own:
        raise DataError(
            "stars without initial mass give no light: the table is per solar mass formed, and about half is left",
            advice="read GFM_InitialMass (TNG) or InitialMass (EAGLE)",
        )
    return stars.age, stars.metallicity, stars.mass


def _anchors(wavelength: Array) -> tuple[list[int], tuple[str, ...]]:
    """Columns of `PHOTOMETRY` and SDSS bands (of length bands) nearest to wavelengths (bands,) at rest, Angstrom."""
    table = population_table()
    names = [f"sdss-{name}" for name in _ANCHORS]
    places = np.array([table.pivot[table.bands.index(name)] for name in names])
    chosen = np.argmin(np.abs(np.log(wavelength[:, np.newaxis] / places)), axis=1)
    return [PHOTOMETRY.index(_ANCHORS[k]) for k in chosen], tuple(names[k] for k in chosen)


def _share_outside(age: Array, metallicity: Array, mass: Array) -> float:
    table = population_table()
    with np.errstate(divide="ignore"):
        t, z = np.log10(age) + 9, np.log10(metallicity)
    inside = (t >= table.log_age[0]) & (t <= table.log_age[-1]) & (z >= table.log_z[0]) & (z <= table.log_z[-1])
    total = float(mass.sum())
    return float(mass[~inside].sum() / total) if total > 0 else 0.0
