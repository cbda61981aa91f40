"""Medians of galaxies in the hexagonal cells of a plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Hexagons", "hexagons"]


@dataclass(frozen=True, eq=False)
class Hexagons:
    """Cells of a hexagonal grid that hold galaxies enough.

    Attributes
    ----------
    x, y : array (h,)
        Middles of the cells, in the units of the plane.
    n : array of int (h,)
        Galaxies in each.
    medians : mapping of str to array (h,)
        Of each quantity, in its unit.
    limits : ((float, float), (float, float))
        Range of the plane that the cells cover.
    across : int
        Cells side by side.
    """

    x: Array
    y: Array
    n: NDArray[np.int64]
    medians: Mapping[str, Array]
    limits: tuple[tuple[float, float], tuple[float, float]]
    across: int


def hexagons(x: Array, y: Array, quantities: Mapping[str, Array], *, across: int = 14, fewest: int = 3) -> Hexagons:
    """Take medians in the hexagonal cells of a plane (Carr+1987).

    Two rectangular grids, shifted by half a cell, are laid over the plane; a galaxy belongs to the nearer middle of the
    two, as in matplotlib's ``hexbin``. Cells look regular where the plane is drawn square.

    Parameters
    ----------
    x, y : array (n,)
        Places, in any unit, finite.
    quantities : mapping of str to array (n,)
        What to take medians of, in any unit; NaN is left out.
    across : int
        Cells side by side between the 0.5 and 99.5 % quantiles of x; galaxies outside of those are left out.
    fewest : int
        Cells with fewer galaxies are left out.
    """
    limits = _limits(x), _limits(y)
    down = max(1, int(across / np.sqrt(3)))
    u, v = (
        (part - low) / (high - low) * cells
        for part, (low, high), cells in zip((x, y), limits, (across, down), strict=True)
    )
    inside = (u >= -0.5) & (u <= across + 0.5) & (v >= -0.5) & (v <= down + 0.5)
    first = np.stack([np.round(u), np.round(v)])
    second = np.stack([np.floor(u) + 0.5, np.floor(v) + 0.5])
    nearer = (u - first[0]) ** 2 + 3 * (v - first[1]) ** 2 <= (u - second[0]) ** 2 + 3 * (v - second[1]) ** 2
    middle = np.where(nearer, first, second)[:, inside]
    cells, which, count = np.unique(middle, axis=1, return_inverse=True, return_counts=True)
    which = np.ravel(which)
    used = np.flatnonzero(count >= fewest)
    rows = [np.flatnonzero(inside)[which == cell] for cell in used]
    medians = {
        name: np.array([_median(np.asarray(values, dtype=np.float64)[mine]) for mine in rows])
        for name, values in quantities.items()
    }
    places = [
        low + (high - low) * cells[i, used] / scale
        for i, ((low, high), scale) in enumerate(zip(limits, (across, down), strict=True))
    ]
    return Hexagons(places[0], places[1], count[used], medians, limits, across)


def _limits(values: Array) -> tuple[float, float]:
    low, high = (float(value) for value in np.quantile(values, [0.005, 0.995]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
