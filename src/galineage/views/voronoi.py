"""Voronoi binning: pixels joined into compact bins of about equal signal-to-noise ratio.

Written from the published algorithms: bin accretion and its criteria after Cappellari & Copin (2003, MNRAS 342, 345,
section 5.1), then either their centroidal tessellation (section 4.1) or the weighted one of Diehl & Statler (2006,
MNRAS 368, 497), each an iteration of Lloyd's kind. Noise of different pixels is taken to be independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from galineage.compiling import compiled
from galineage.errors import ConfigError, DataError
from galineage.views.maps import HERMITE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from galineage.views.maps import Maps

    Array = NDArray[np.float64]

__all__ = ["Bins", "bin_maps", "voronoi_bins"]

Method = Literal["weighted", "centroidal", "accretion"]

_ROUND = 0.3
"""Largest roundness of a bin that is grown (Cappellari & Copin 2003, eq. 5)."""

_ENOUGH = 0.8
"""Part of the target that makes a grown bin a success."""

_SUMS = ("count", "mass")


@dataclass(frozen=True, eq=False)
class Bins:
    """Pixels joined into bins.

    Attributes
    ----------
    labels : array (s, s) of int
        Bin of each pixel, from 0 on; -1: not binned.
    signal_to_noise : array (bins,)
        Of each bin: sum of signals / root of the sum of squared noises.
    pixels : array (bins,) of int
        Pixels in each bin.
    centres : array (bins, 2)
        Mean column and row of each bin's pixels.
    """

    labels: NDArray[np.int64]
    signal_to_noise: Array
    pixels: NDArray[np.int64]
    centres: Array

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.pixels)


def voronoi_bins(
    signal: ArrayLike,
    noise: ArrayLike | None = None,
    *,
    target: float,
    mask: NDArray[np.bool_] | None = None,
    method: Method = "weighted",
    rounds: int = 50,
) -> Bins:
    """Join pixels into bins of a signal-to-noise ratio around ``target``.

    Parameters
    ----------
    signal : array (s, s)
        Signal of each pixel, for example the count of stars.
    noise : array (s, s), optional
        Standard deviation of each pixel. None: the root of the signal, as for counts.
    target : float
        Wanted signal-to-noise ratio. Pixels that have it already stay alone.
    mask : array (s, s) of bool, optional
        Pixels to bin. None: those with positive signal.
    method : {"weighted", "centroidal", "accretion"}
        What follows the accretion: the tessellation of Diehl & Statler (2006), the one of Cappellari & Copin (2003), or
        only the assignment of pixels to the nearest bin.
    rounds : int
        Most iterations of the tessellation; it usually rests much sooner.

    Returns
    -------
    Bins
        Every pixel of the mask is in a bin.

    Raises
    ------
    DataError
        If shapes differ, a value in the mask is not finite or a noise not positive, no pixel is there, or all pixels
        together stay below the target.
    ConfigError
        If the target is not positive or the method unknown.
    """
    values = np.asarray(signal, dtype=np.float64)
    if not 0 < target < np.inf or method not in get_args(Method) or rounds < 0:
        raise ConfigError(
            f"target {target}, method {method!r}, rounds {rounds}",
            expected="a positive target, one of " + ", ".join(get_args(Method)),
        )
    inside = values > 0 if mask is None else np.asarray(mask, dtype=bool)
    spread = np.sqrt(np.maximum(values, 0)) if noise is None else np.asarray(noise, dtype=np.float64)
    if values.ndim != 2 or spread.shape != values.shape or inside.shape != values.shape:
        raise DataError(
            f"signal {values.shape}, noise {spread.shape}, mask {inside.shape}", expected="one shape, two axes"
        )
    rows, columns = (axis.astype(np.int64) for axis in np.nonzero(inside))
    light, variance = values[inside], spread[inside] ** 2
    if not (np.isfinite(light).all() and np.isfinite(variance).all() and (variance > 0).all()):
        raise DataError(
            "a pixel has signal or noise that cannot be used",
            expected="finite signal, positive noise",
            advice="leave such pixels out with the mask",
        )
    reached = light.sum() / np.sqrt(variance.sum()) if len(light) else 0.0
    if reached < target:
        raise DataError(
            f"all {len(light)} pixels together reach a signal-to-noise ratio of {reached:.3g}",
            expected=f"at least {target:g}",
            advice="ask for a lower target, or leave this map out",
        )
    found, good = _accrete(rows, columns, light, variance, values.shape[0], values.shape[1], target)
    label = _tessellate(rows, columns, light, variance, found, good, method, rounds)
    return _summary(rows, columns, light, variance, label, values.shape)


@compiled
def _nearest_free(rows: Any, columns: Any, label: Any, row: float, column: float) -> int:
    """Free pixel (label -1) closest to a place; -1 if none is left."""
    best, least = -1, np.inf
    for i in range(len(rows)):
        if label[i] < 0:
            distance = (rows[i] - row) ** 2 + (columns[i] - column) ** 2
            if distance < least:
                best, least = i, distance
    return best


@compiled
def _touches(places: Any, label: Any, row: int, column: int, bin_: int) -> bool:
    """Whether one of a pixel's four neighbours is in a bin; places (s, t): number of each pixel, -1 for none."""
    for step in range(4):
        r = row + (step == 0) - (step == 1)
        c = column + (step == 2) - (step == 3)
        if 0 <= r < places.shape[0] and 0 <= c < places.shape[1]:
            i = places[r, c]
            if i >= 0 and label[i] == bin_:
                return True
    return False


@compiled
def _roundness(rows: Any, columns: Any, members: Any, size: int) -> float:
    """Return the roundness of a bin of ``size`` pixels: largest distance from its centroid / radius of its area - 1."""
    row, column = 0.0, 0.0
    for k in range(size):
        row += rows[members[k]]
        column += columns[members[k]]
    row, column, most = row / size, column / size, 0.0
    for k in range(size):
        most = max(most, (rows[members[k]] - row) ** 2 + (columns[members[k]] - column) ** 2)
    return np.sqrt(most) / np.sqrt(size / np.pi) - 1


@compiled
def _accrete(rows: Any, columns: Any, signal: Any, variance: Any, height: int, width: int, target: float) -> Any:
    """Grow bins from the brightest pixel outwards: label (n,) of each pixel, and whether each bin is a success."""
    n = len(rows)
    places = np.full((height, width), -1)
    for i in range(n):
        places[rows[i], columns[i]] = i
    label, good = np.full(n, -1), np.zeros(n, np.bool_)
    members = np.empty(n, np.int64)
    start, bins = int(np.argmax(signal / np.sqrt(variance))), 0
    seen_row, seen_column, seen = 0.0, 0.0, 0
    while start >= 0:
        members[0], size = start, 1
        label[start] = bins
        total, noise = signal[start], variance[start]
        row, column = float(rows[start]), float(columns[start])
        ratio = total / np.sqrt(noise)
        while ratio < target:
            i = _nearest_free(rows, columns, label, row, column)
            if i < 0 or not _touches(places, label, rows[i], columns[i], bins):
                break
            members[size] = i
            new = (total + signal[i]) / np.sqrt(noise + variance[i])
            # not round, or farther from the target with the pixel than without: the bin is done
            if _roundness(rows, columns, members, size + 1) > _ROUND or abs(new - target) > abs(ratio - target):
                break
            label[i] = bins
            row, column = (row * size + rows[i]) / (size + 1), (column * size + columns[i]) / (size + 1)
            size += 1
            total, noise, ratio = total + signal[i], noise + variance[i], new
        good[bins] = ratio >= _ENOUGH * target
        bins += 1
        seen_row, seen_column, seen = seen_row + row * size, seen_column + column * size, seen + size
        start = _nearest_free(rows, columns, label, seen_row / seen, seen_column / seen)
    return label, good[:bins]


def _tessellate(
    rows: Any, columns: Any, signal: Array, variance: Array, label: Any, good: Any, method: Method, rounds: int
) -> NDArray[np.int64]:
    """Give the pixels of failed bins to the nearest success, then move all borders until they rest."""
    if not good.any():  # one bin holds everything: together the pixels do reach the target
        return np.zeros(len(rows), np.int64)
    at = np.stack([columns, rows], axis=1).astype(np.float64)
    kept = np.flatnonzero(good)
    centres = _centres(at, np.searchsorted(kept, label), np.isin(label, kept), np.ones(len(at)), len(kept))
    near = _nearest(at, centres, np.ones(len(kept)))
    label = np.where(good[label], np.searchsorted(kept, label), near)
    if method == "accretion":
        return np.asarray(label)
    every = np.ones(len(at), dtype=bool)
    # the centroid of density squared makes bins of equal signal-to-noise (Cappellari & Copin 2003, section 4.1)
    weight = signal**2 / variance if method == "centroidal" else np.ones(len(at))
    weight = np.maximum(weight, 1e-12 * weight.max()) ** (2.0 if method == "centroidal" else 1.0)
    scale = np.ones(len(kept))
    for _ in range(rounds):
        centres = _centres(at, label, every, weight, len(scale))
        if method == "weighted":
            area, ratio = _ratios(signal, variance, label, len(scale))
            scale = np.sqrt(area / np.maximum(ratio, 1e-12))
        moved = _nearest(at, centres, scale)
        _, moved = np.unique(moved, return_inverse=True)  # a bin that lost all its pixels is no more
        if len(scale) != moved.max() + 1:
            scale = np.ones(moved.max() + 1)
        elif np.array_equal(moved, label):
            break
        label = moved
    return np.asarray(label)


def _centres(at: Array, label: Any, use: NDArray[np.bool_], weight: Array, bins: int) -> Array:
    """Weighted means (bins, 2) of the places (n, 2) used."""
    total = np.bincount(label[use], weight[use], minlength=bins)
    sums = [np.bincount(label[use], (weight * at[:, axis])[use], minlength=bins) for axis in range(2)]
    return np.stack(sums, axis=1) / total[:, np.newaxis]


def _ratios(signal: Array, variance: Array, label: Any, bins: int) -> tuple[Array, Array]:
    """Pixels in, and signal-to-noise ratio of, each bin."""
    total, noise = (np.bincount(label, each, minlength=bins) for each in (signal, variance))
    return np.bincount(label, minlength=bins).astype(np.float64), total / np.sqrt(noise)


@compiled
def _nearest(at: Any, centres: Any, scale: Any) -> Any:
    """Closest centre of each place (n, 2), distances divided by each centre's scale."""
    found = np.empty(len(at), np.int64)
    factor = 1 / scale**2
    for i in range(len(at)):
        least = np.inf
        for k in range(len(centres)):
            distance = ((at[i, 0] - centres[k, 0]) ** 2 + (at[i, 1] - centres[k, 1]) ** 2) * factor[k]
            if distance < least:
                least, found[i] = distance, k
    return found


def _summary(rows: Any, columns: Any, signal: Array, variance: Array, label: Any, shape: tuple[int, ...]) -> Bins:
    labels = np.full(shape, -1)
    labels[rows, columns] = label
    bins = int(label.max()) + 1
    pixels, ratio = _ratios(signal, variance, label, bins)
    at = np.stack([columns, rows], axis=1).astype(np.float64)
    centres = _centres(at, label, np.ones(len(at), dtype=bool), np.ones(len(at)), bins)
    return Bins(labels, ratio, pixels.astype(np.int64), centres)


def bin_maps(maps: Maps, bins: Bins, view: int = 0) -> dict[str, Array]:
    """Average the maps of one view over bins, as an instrument would see them: a bin's pixels all have its value.

    Parameters
    ----------
    maps : Maps
        Raw maps.
    bins : Bins
        Of the same number of pixels.
    view : int
        Which view.

    Returns
    -------
    dict of str to array (s, s)
        By channel, in its unit; NaN outside the bins. Sums (count, mass, light) are the mean of a pixel of the bin, so
        that their total stays; the rest is averaged with its own weight, and differences of mean velocity between the
        pixels of a bin become dispersion. h3 and h4 are left out: those of a bin do not follow from its pixels'.

    Raises
    ------
    DataError
        If the shapes differ, or the dispersion is that of a sample (`galineage.views.MapConfig.sigma`), which cannot be
        averaged.
    """
    if maps.config.sigma == "sample":
        raise DataError("dispersions of samples cannot be averaged", advice="make the maps with sigma='population'")
    if bins.labels.shape != maps.values.shape[2:]:
        raise DataError(f"bins have shape {bins.labels.shape}", expected=str(maps.values.shape[2:]))
    inside = bins.labels >= 0
    label = bins.labels[inside]
    number = len(bins)
    channels = [name for name in maps.channels if name not in HERMITE]
    image = {name: np.asarray(maps[name][view][inside], dtype=np.float64) for name in channels}
    light = [name for name in maps.channels if name.startswith("light ")]
    weights = {"number": "count", "mass": "mass", "light": light[0] if light else "mass"}

    def mean(values: Array, weight: Array) -> Array:
        used = weight > 0  # an empty pixel has NaN, and no say
        total = np.bincount(label[used], weight[used], minlength=number)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(label[used], (weight * values)[used], minlength=number) / total)

    kinematic = image[weights[maps.config.weighting]]
    found = {name: np.bincount(label, image[name], minlength=number) / bins.pixels for name in (*_SUMS, *light)}
    if "velocity" in maps:
        found["velocity"] = mean(image["velocity"], kinematic)
        apart = image["velocity"] - found["velocity"][label]
        found["sigma"] = np.sqrt(mean(image["sigma"] ** 2 + apart**2, kinematic))
    for name in ("metallicity", "age"):
        if name in maps:
            found[name] = mean(image[name], image["mass"])
    out = {}
    for name in channels:
        out[name] = np.full(bins.labels.shape, np.nan)
        out[name][inside] = found[name][label]
    return out
