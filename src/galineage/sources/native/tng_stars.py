"""Star particles of TNG and Illustris files in the galaxy's frame and in physical units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError, FileFormatError
from galineage.sources.native.rows import ages_of, nearest
from galineage.stars import Stars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from galineage.sources.native.tng_groups import Frame

    Array = NDArray[np.float64]

__all__ = ["FIELDS", "PHOTOMETRY", "to_stars"]

FIELDS = (
    "Coordinates",
    "Velocities",
    "Masses",
    "GFM_StellarFormationTime",
    "GFM_Metallicity",
    "GFM_InitialMass",
    "StellarHsml",
    "Potential",
    "ParticleIDs",
)
"""Datasets of PartType4 that are read; the first four are needed, mini snapshots and cut-outs may lack others."""

PHOTOMETRY = "GFM_StellarPhotometrics"
"""Dataset of magnitudes, which makes a star half as large again: read from cut-outs that have it, else on demand."""

TINY = 1e-9
"""Mass fraction below which the sign of a metallicity is that of a rounding error (-2e-30 in Illustris-1)."""

_NEEDED = ("Coordinates", "Masses", "GFM_StellarFormationTime")


def to_stars(
    rows: Mapping[str, NDArray[Any]],
    frame: Frame,
    centre: Array,
    velocity: Array,
    in_situ: NDArray[Any] | None = None,
    where: str = "",
) -> Stars:
    """Convert what a file holds of one galaxy; wind particles are dropped.

    Parameters
    ----------
    rows : mapping of str to array (n, ...)
        Datasets of PartType4 in the file's units: ckpc/h, km/s divided by sqrt(a), 1e10 Msun/h, scale factors.
    frame : Frame
        Scale factor, box and cosmology.
    centre, velocity : array (3,), kpc and km/s
        Physical position of the galaxy in the box, and its peculiar velocity.
    in_situ : array (n,) of int, optional
        1 in situ, 0 ex situ, -1 not known (StellarAssembly, Rodriguez-Gomez+2016).
    where : str
        For messages.

    Returns
    -------
    Stars
        Positions take the nearest periodic image. Quantities that the file lacks are None; ``ex_situ`` is None too if
        it is not known for every star.

    Raises
    ------
    FileFormatError
        If positions, masses or formation times are missing.
    DataError
        If a value is not possible.
    """
    absent = [name for name in _NEEDED if name not in rows]
    if absent:
        raise FileFormatError(f"PartType4 has no {', '.join(absent)}", where=where)
    formed = rows["GFM_StellarFormationTime"]
    uneven = [name for name, values in rows.items() if np.shape(values)[:1] != np.shape(formed)]
    if uneven:
        raise DataError(
            f"{uneven[0]} has the shape {np.shape(rows[uneven[0]])}", where=where, expected=f"{np.shape(formed)} rows"
        )
    real = ~(formed <= 0)  # a NaN is not wind: it goes on to be refused
    # conversions make new arrays; what needs none is left in 32 bits
    taken = dict(rows) if real.all() else _taken(rows, np.flatnonzero(real))
    position = _shifted(np.multiply(taken["Coordinates"], frame.length, dtype=np.float64), centre)
    return Stars(
        position=nearest(position, frame.box),
        velocity=_moving(taken.get("Velocities"), frame.scale_factor, velocity),
        mass=np.multiply(taken["Masses"], frame.mass, dtype=np.float64),
        age=ages_of(taken["GFM_StellarFormationTime"], frame.scale_factor, frame.cosmology),
        metallicity=_not_negative(taken.get("GFM_Metallicity")),
        initial_mass=_scaled(taken.get("GFM_InitialMass"), frame.mass),
        smoothing=_scaled(taken.get("StellarHsml"), frame.length),
        potential=_scaled(taken.get("Potential"), 1 / frame.scale_factor),
        ids=taken.get("ParticleIDs"),
        ex_situ=_ex_situ(in_situ, real),
        photometry=taken.get(PHOTOMETRY),
    )


def _taken(rows: Mapping[str, NDArray[Any]], which: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    # by number: a mask over rows of three takes four times as long
    return {name: np.take(values, which, axis=0) for name, values in rows.items()}


def _shifted(vectors: Array, origin: Array) -> Array:
    if vectors.shape[1:] != (3,):
        return vectors  # to be refused by `Stars`
    for axis in range(3):  # column by column: an inner loop over three numbers takes four times as long
        vectors[:, axis] -= origin[axis]
    return vectors


def _scaled(values: Array | None, factor: float) -> Array | None:
    return None if values is None else np.multiply(values, factor, dtype=np.float64)


def _moving(values: Array | None, scale_factor: float, velocity: Array) -> Array | None:
    if values is None:
        return None
    return _shifted(np.multiply(values, np.sqrt(scale_factor), dtype=np.float64), velocity)


def _not_negative(metallicity: Array | None) -> Array | None:
    """Put zero for the tiny negative values that enrichment leaves in a few stars; others go on to be refused."""
    if metallicity is None or not len(metallicity) or not metallicity.min() < 0:
        return metallicity
    return np.where(np.abs(metallicity) < TINY, np.abs(metallicity), metallicity)


def _ex_situ(in_situ: NDArray[Any] | None, real: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    if in_situ is None:
        return None
    mine = in_situ[real]
    return None if (mine < 0).any() else mine == 0
