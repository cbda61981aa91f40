"""Conversions of star particles that all simulations share, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.cosmology import Cosmology

    Array = NDArray[np.float64]

__all__ = ["ages_of", "nearest"]

OUTSIDE = 3.0
"""Sides of the box that a star may be away from its galaxy: files hold places in the box, cut-outs unwrapped ones."""

ROUNDING = 1e-4
"""By how much the scale factor at which a star formed may be later than the snapshot's: a rounding error."""


def nearest(position: Array, box: float) -> Array:
    """Take the nearest periodic image of places relative to a galaxy.

    Parameters
    ----------
    position : array (n, 3), kpc
        May be changed. NaN and infinity stay, to be refused by `galineage.stars.Stars`.
    box : float, kpc
        Side of the periodic box; 0: none.

    Returns
    -------
    array (n, 3), kpc

    Raises
    ------
    DataError
        If a place is far outside of the box: folded back into it, any number would pass for a place.
    """
    farthest = float(np.abs(position).max(initial=0.0)) if box > 0 else 0.0
    if not np.isfinite(farthest):
        return position
    if farthest > OUTSIDE * box:
        star = int(np.argmax(np.abs(position).max(axis=1)))
        raise DataError(
            f"position of star {star} is {farthest:g} kpc from its galaxy",
            expected=f"about the side of the box at most, {box:g} kpc",
            advice="look at the units of the source: factors of h and a, Mpc",
        )
    if farthest > 0.5 * box:
        position -= box * np.rint(position / box)
    return position


def ages_of(formed: NDArray[np.floating], scale_factor: float, cosmology: Cosmology) -> Array:
    """Ages of stars, Gyr, from the scale factors at which they formed.

    Parameters
    ----------
    formed : array (n,)
        Scale factors. NaN stays, to be refused by `galineage.stars.Stars`.
    scale_factor : float
        Of the snapshot; a star may be younger by a rounding error, its age is then 0.
    cosmology : Cosmology

    Returns
    -------
    array (n,), Gyr

    Raises
    ------
    DataError
        If a star formed after the snapshot, or before the beginning.
    """
    wrong = (formed < 0) | (formed > scale_factor * (1 + ROUNDING))
    if wrong.any():
        star = int(np.argmax(wrong))
        raise DataError(
            f"formation time of star {star} is {formed[star]:g}",
            expected=f"a scale factor, 0 to that of the snapshot, {scale_factor:g}",
            advice="look at the units of the source: ages in Gyr are no scale factors",
        )
    return np.asarray(cosmology.age(scale_factor) - cosmology.age(formed)).clip(0)
