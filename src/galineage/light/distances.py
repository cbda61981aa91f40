"""Distances and angles at a redshift."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from galineage.cosmology import Cosmology
from galineage.errors import ConfigError

__all__ = ["astropy_cosmology", "describe_cosmology", "distance_modulus", "kpc_per_arcsec"]

_ARCSEC = np.pi / 648_000


def astropy_cosmology(cosmology: Any) -> Any:
    """Return the cosmology as an object of `astropy.cosmology`: a `Cosmology` of galineage, or one already.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if isinstance(cosmology, Cosmology):
        return _flat(cosmology)
    if hasattr(cosmology, "luminosity_distance") and hasattr(cosmology, "angular_diameter_distance"):
        return cosmology
    raise ConfigError(
        f"the cosmology is {cosmology!r}", expected="a galineage.cosmology.Cosmology or one of astropy.cosmology"
    )


@lru_cache(maxsize=16)
def _flat(cosmology: Cosmology) -> Any:
    """Make it once: astropy takes 20 ms to compose its units."""
    from astropy.cosmology import FlatLambdaCDM

    return FlatLambdaCDM(H0=100 * cosmology.h, Om0=cosmology.omega_m)


def describe_cosmology(cosmology: Any) -> dict[str, Any]:
    """Return a cosmology in JSON types; raises as `astropy_cosmology`."""
    if isinstance(cosmology, Cosmology):
        return {"h": cosmology.h, "omega_m": cosmology.omega_m}
    known = astropy_cosmology(cosmology)
    return {"name": str(known.name), "h": float(known.h), "omega_m": float(known.Om0)}


def distance_modulus(redshift: float, cosmology: Any) -> float:
    """Distance modulus in mag, of the luminosity distance; 0 (that is 10 pc) at redshift 0.

    Raises
    ------
    ConfigError
        As `astropy_cosmology`.
    """
    if redshift == 0:
        return 0.0
    known = isinstance(cosmology, Cosmology)
    distance = _distance(redshift, cosmology) if known else _measured(redshift, astropy_cosmology(cosmology))
    # luminosity distance: (1 + z)^2 times that by angle
    return float(5 * np.log10(distance * (1 + redshift) ** 2) - 5)


def kpc_per_arcsec(redshift: float, cosmology: Any) -> float:
    """Physical kpc that one arcsec spans at a redshift.

    Raises
    ------
    ConfigError
        If the redshift is not positive, or as `astropy_cosmology`.
    """
    if not 0 < redshift < np.inf:
        raise ConfigError(
            f"nothing has a size on the sky at redshift {redshift}",
            expected="a positive redshift",
            advice="say at which redshift the galaxy is to be seen: ImageConfig(redshift=0.05)",
        )
    known = isinstance(cosmology, Cosmology)
    distance = _distance(redshift, cosmology) if known else _measured(redshift, astropy_cosmology(cosmology))
    return float(distance / 1000 * _ARCSEC)


@lru_cache(maxsize=256)
def _distance(redshift: float, cosmology: Cosmology) -> float:
    """Return the angular-diameter distance in pc; the galaxies of a snapshot ask for the same one."""
    return _measured(redshift, astropy_cosmology(cosmology))


def _measured(redshift: float, cosmology: Any) -> float:
    return float(cosmology.angular_diameter_distance(redshift).to_value("pc"))
