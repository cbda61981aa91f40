"""Radii and velocity dispersions of the toy's stellar components, in a host with a flat rotation curve."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SPHEROID_HALF", "disc_radii", "spheroid_dispersion", "spheroid_radii"]

DISC_END = 8.0
"""Discs end at this many scale lengths (adopted)."""

SPHEROID_END = 12.0
"""Spheroids end at this many Hernquist scale radii (adopted)."""

_SPHEROID_MASS = (SPHEROID_END / (1 + SPHEROID_END)) ** 2

SPHEROID_HALF = float(np.sqrt(_SPHEROID_MASS / 2) / (1 - np.sqrt(_SPHEROID_MASS / 2)))
"""Half-mass radius of the truncated Hernquist sphere in scale radii."""


def disc_radii(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius inside which an exponential disc holds this share of its mass, in scale lengths.

    Inverts M(x) = 1 - (1 + x) exp(-x), cut off at 8 scale lengths.

    Parameters
    ----------
    share : array, any shape, 0 to 1

    Returns
    -------
    array, same shape, no unit
    """
    radius, inside = _disc_table()
    return np.interp(share, inside, radius)


def spheroid_radii(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius inside which a Hernquist (1990) sphere holds this share of its mass, in scale radii.

    Inverts M(x) = x^2 / (1 + x)^2, cut off at 12 scale radii.

    Parameters
    ----------
    share : array, any shape, 0 to 1

    Returns
    -------
    array, same shape, no unit
    """
    root = np.sqrt(share * _SPHEROID_MASS)
    return root / (1 - root)


def spheroid_dispersion(radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-dimensional velocity dispersion of a Hernquist sphere in a logarithmic potential, over its circular velocity.

    Isotropic Jeans equation with v_circ constant: sigma^2 = v_circ^2 / rho * integral from r of rho / r dr, which falls
    from 1 in the centre to 1/4 far out.

    Parameters
    ----------
    radius : array, any shape
        In Hernquist scale radii.

    Returns
    -------
    array, same shape, no unit
    """
    log_radius, dispersion = _dispersion_table()
    return np.interp(np.log(np.maximum(radius, 1e-4)), log_radius, dispersion)


@cache
def _disc_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    radius = np.linspace(0.0, DISC_END, 2001)
    inside = 1 - (1 + radius) * np.exp(-radius)
    return radius, inside / inside[-1]


@cache
def _dispersion_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    log_radius = np.linspace(np.log(1e-4), np.log(1e4), 4001)
    density = 1 / (np.exp(log_radius) * (1 + np.exp(log_radius)) ** 3)
    steps = (density[1:] + density[:-1]) / 2 * np.diff(log_radius)
    beyond = np.append(np.cumsum(steps[::-1])[::-1], 0.0) + density[-1] / 4  # rho ~ r^-4 outside the table
    return log_radius, np.sqrt(beyond / density)
