"""Orbits in a logarithmic potential: tables that give place and velocity for any energy, circularity and phase.

With a constant circular velocity V the potential is V^2 ln r. It has no scale, so that one table in units of V and of
the radius R of the circular orbit of the same energy serves every orbit of every galaxy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CIRCULARITY", "KPC_PER_KMS", "OrbitTable", "Places", "orbit_table"]

KPC_PER_KMS = 0.977792
"""One kpc / (km/s) in Gyr."""

CIRCULARITY = (0.03, 0.985)
"""Range of the angular momentum over that of the circular orbit of the same energy, in the table."""

_ANGLES = 400
_PHASES = 65
_CIRCULARITIES = 48


@dataclass(frozen=True)
class Places:
    """Where stars are on their orbits; every array has shape (n,).

    Attributes
    ----------
    radius : array
        In units of R.
    radial, tangential : array
        Velocities in units of V; the first is negative on the way in.
    angle : array, rad
        In the orbital plane, from the pericentre passed last.
    """

    radius: NDArray[np.float64]
    radial: NDArray[np.float64]
    tangential: NDArray[np.float64]
    angle: NDArray[np.float64]


@dataclass(frozen=True)
class OrbitTable:
    """Half an orbit, from pericentre to apocentre, for a grid of circularities.

    Attributes
    ----------
    circularity : array (c,)
    period : array (c,)
        Radial period in units of R / V.
    advance : array (c,), rad
        Angle swept in one radial period.
    radius, angle : array (c, p)
        At p phases, equal steps of time.
    """

    circularity: NDArray[np.float64]
    period: NDArray[np.float64]
    advance: NDArray[np.float64]
    radius: NDArray[np.float64]
    angle: NDArray[np.float64]

    def periods(self, circularity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radial period in units of R / V; any shape in, same shape out."""
        return np.interp(circularity, self.circularity, self.period)

    def advances(self, circularity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Angle swept in one radial period, in units of rad; any shape in, same shape out."""
        return np.interp(circularity, self.circularity, self.advance)

    def places(self, circularity: NDArray[np.float64], phase: NDArray[np.float64]) -> Places:
        """Find stars on their orbits.

        Parameters
        ----------
        circularity : array (n,)
            Inside `CIRCULARITY`.
        phase : array (n,)
            Time since pericentre over the radial period; only the part after the point counts.

        Returns
        -------
        Places
            Speeds follow from energy and angular momentum, not from the table, so that both are exact.
        """
        phase = phase - np.floor(phase)
        inward = phase > 0.5
        folded = np.where(inward, 1 - phase, phase) * 2 * (self.radius.shape[1] - 1)
        column = np.minimum(folded.astype(np.intp), self.radius.shape[1] - 2)
        step = self.circularity[1] - self.circularity[0]
        along = np.clip((circularity - self.circularity[0]) / step, 0, len(self.circularity) - 1 - 1e-9)
        row = along.astype(np.intp)
        right, up = folded - column, along - row
        radius = _between(self.radius, row, column, up, right)
        angle = _between(self.angle, row, column, up, right)
        tangential = circularity / radius
        radial = np.sqrt(np.maximum(1 - 2 * np.log(radius) - tangential**2, 0.0))
        swept = self.advances(circularity)
        return Places(radius, np.where(inward, -radial, radial), tangential, np.where(inward, swept - angle, angle))


def _between(
    table: NDArray[np.float64],
    row: NDArray[np.intp],
    column: NDArray[np.intp],
    up: NDArray[np.float64],
    right: NDArray[np.float64],
) -> NDArray[np.float64]:
    flat, first = table.ravel(), row * table.shape[1] + column
    below = flat[first] * (1 - right) + flat[first + 1] * right
    above = flat[first + table.shape[1]] * (1 - right) + flat[first + table.shape[1] + 1] * right
    return below * (1 - up) + above * up


@cache
def orbit_table() -> OrbitTable:
    """Compute the table once: quadratures of dt = dr / v_r with v_r^2 = 1 - 2 ln r - (circularity / r)^2.

    Returns
    -------
    OrbitTable
        Good to 0.1 % of R (Binney & Tremaine 2008, section 3.1, for the method).
    """
    circularities = np.linspace(*CIRCULARITY, _CIRCULARITIES)
    rows = [_half_orbit(float(value)) for value in circularities]
    period, advance, radius, angle = (np.array(parts) for parts in zip(*rows, strict=True))
    return OrbitTable(circularities, period, advance, radius, angle)


def _half_orbit(circularity: float) -> tuple[float, float, NDArray[np.float64], NDArray[np.float64]]:
    """Radial period, angle swept in it, and radius and angle at equal steps of time from peri- to apocentre."""
    from scipy.optimize import brentq

    def squared(radius: float) -> float:
        return float(1 - 2 * np.log(radius) - (circularity / radius) ** 2)

    near, far = brentq(squared, circularity / 5, circularity), brentq(squared, 1.0, 2.0)
    # r = middle - half cos(theta) takes the square-root ends out of the integral; midpoints never touch them
    theta = (np.arange(_ANGLES) + 0.5) * np.pi / _ANGLES
    radius = (far + near) / 2 - (far - near) / 2 * np.cos(theta)
    speed = np.sqrt(np.maximum(1 - 2 * np.log(radius) - (circularity / radius) ** 2, 1e-12))
    weight = (far - near) / 2 * np.sin(theta) / speed * np.pi / _ANGLES
    time = np.concatenate([[0.0], np.cumsum(weight)])
    swept = np.concatenate([[0.0], np.cumsum(weight * circularity / radius**2)])
    edges = (far + near) / 2 - (far - near) / 2 * np.cos(np.arange(_ANGLES + 1) * np.pi / _ANGLES)
    wanted = np.linspace(0.0, time[-1], _PHASES)
    return 2 * time[-1], 2 * swept[-1], np.interp(wanted, time, edges), np.interp(wanted, time, swept)
