"""Light inside of growing ellipses, and the Petrosian radii that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.compiling import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.images.detection import CentralSource

    Array = NDArray[np.float64]

__all__ = ["Growth", "grow", "petrosian_radius"]

SEEN = 0.15
"""Part of a ring that must have usable pixels for its surface brightness to be measured."""


EXACT = 12.0
"""Semi-minor axis, pixels, from which an ellipse's edge is straight inside of a pixel: an error of 6e-4 of its area."""
ASIDE = 1e-6
"""How far, in pixels and radians, ellipses are moved and turned before exact overlaps are taken.

Where an ellipse touches a pixel's edge or passes through its corner exactly, photutils 3.0 gives NaN or misses pixels:
of 22,080 ellipses around places such as (0, 0.5), of axis ratios such as 0.5, it errs for 93, by up to all of the area.
Moved by 1e-7 to 1e-5 pixels, none.
"""


@dataclass(frozen=True, eq=False)
class Growth:
    """Curve of growth.

    Attributes
    ----------
    radii : array (k,), pixels
        Semi-major axes of the ellipses, growing.
    flux : array (k,), unit of the image
        Inside of each; a ring's unusable pixels are taken to be as bright as its usable ones.
    brightness : array (k - 1,), unit of the image per pixel
        Mean in the ring between each ellipse and the next.
    seen : array (k,), pixels
        Usable area inside of each ellipse.
    axis_ratio : float
        Of all ellipses.
    """

    radii: Array
    flux: Array
    brightness: Array
    seen: Array
    axis_ratio: float

    def inside(self, radius: float) -> float:
        """Flux inside of an ellipse of this semi-major axis (pixels), a scalar in the unit of the image."""
        from scipy.interpolate import PchipInterpolator

        return float(PchipInterpolator(self.radii, self.flux)(min(radius, self.radii[-1])))

    def radius_of(self, flux: float) -> float:
        """Semi-major axis, pixels, of the smallest ellipse that holds this flux; NaN if none does."""
        from scipy.interpolate import PchipInterpolator

        fine = np.linspace(0, self.radii[-1], 20 * len(self.radii))
        curve = PchipInterpolator(self.radii, self.flux)(fine)
        over = int(np.argmax(curve >= flux))
        if curve[over] < flux:
            return float("nan")
        if over == 0:
            return 0.0
        part = (flux - curve[over - 1]) / (curve[over] - curve[over - 1])
        return float(fine[over - 1] + part * (fine[over] - fine[over - 1]))

    def unseen(self, radius: float) -> float:
        """Part of an ellipse of this semi-major axis (pixels), in [0, 1], that has no usable pixels."""
        area = np.pi * self.axis_ratio * radius**2
        return float(np.clip(1 - np.interp(radius, self.radii, self.seen) / area, 0.0, 1.0))


def _steps(most: float) -> Array:
    """Semi-major axes (k,) in pixels: half pixels in the middle, 5 % steps outside."""
    inner = np.arange(0.0, 10.0, 0.5)
    outer = 10.0 * 1.05 ** np.arange(int(np.log(max(most, 11.0) / 10) / np.log(1.05)) + 2)
    return np.concatenate([inner, outer])


def grow(image: Array, valid: NDArray[np.bool_], source: CentralSource, *, eta: float, reach: float) -> Growth:
    """Measure the curve of growth, as far as it is needed.

    Parameters
    ----------
    image : array (rows, columns)
        Any unit, less its sky, finite where valid.
    valid : array (rows, columns) of bool
        Usable pixels; other sources are not.
    source : CentralSource
        Centre and shape of the ellipses.
    eta, reach : float
        It ends when ``reach`` Petrosian radii of this eta are inside, or rings have no pixels left.

    Returns
    -------
    Growth
    """
    ellipses = _Ellipses(np.where(valid, image, 0.0), valid, source)
    rows: list[tuple[float, float, float, float]] = [(0.0, 0.0, 0.0, 0.0)]
    brightness: list[float] = []
    end = np.inf
    for radius in _steps(0.6 * float(np.hypot(*image.shape)))[1:]:
        light, area = ellipses.inside(radius)
        ring = np.pi * source.axis_ratio * (radius**2 - rows[-1][0] ** 2)
        new = area - rows[-1][3]
        if new < SEEN * ring:  # covered by neighbours: one wider ring with the next; or outside
            continue
        brightness.append((light - rows[-1][2]) / new)
        rows.append((radius, rows[-1][1] + brightness[-1] * ring, light, area))
        if radius > end:
            break
        if end == np.inf and len(rows) > 6 and len(rows) % 4 == 0:
            found = petrosian_radius(_growth(rows, brightness, source.axis_ratio), eta, settled=True)
            end = found * reach if np.isfinite(found) else np.inf
    return _growth(rows, brightness, source.axis_ratio)


class _Ellipses:
    """Sums over ellipses of one shape: exact ones (photutils) in the middle, with straight edges in pixels outside."""

    def __init__(self, filled: Array, valid: NDArray[np.bool_], source: CentralSource) -> None:
        self.filled = np.require(filled, np.float64, ["C", "W"])
        self.valid = np.require(valid, np.bool_, ["C", "W"])
        self.source = source
        self.turn = float(np.deg2rad(source.angle))

    def inside(self, radius: float) -> tuple[float, float]:
        """Sum of the usable pixels, in their unit, and their area in pixels: two scalars."""
        source = self.source
        rows, columns = self._box(radius)
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            return 0.0, 0.0
        if radius * source.axis_ratio >= EXACT:
            shape = (radius, source.axis_ratio, np.cos(self.turn), np.sin(self.turn))
            light, area = _straight_sums(self.filled, self.valid, (source.row, source.column), shape, (*rows, *columns))
            return float(light), float(area)
        from photutils.geometry import elliptical_overlap_grid

        low, high = (place - 0.5 - source.column - ASIDE for place in columns)
        bottom, top = (place - 0.5 - source.row - 0.6 * ASIDE for place in rows)
        weights = elliptical_overlap_grid(
            *(low, high, bottom, top, columns[1] - columns[0], rows[1] - rows[0]),
            *(radius, radius * source.axis_ratio, self.turn + ASIDE, 1, 1),
        )
        cut = (slice(*rows), slice(*columns))
        return float((weights * self.filled[cut]).sum()), float((weights * self.valid[cut]).sum())

    def _box(self, radius: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """First pixel and the one after the last that an ellipse touches, along rows and columns."""
        long, short = radius, radius * self.source.axis_ratio
        across = np.hypot(long * np.cos(self.turn), short * np.sin(self.turn))
        up = np.hypot(long * np.sin(self.turn), short * np.cos(self.turn))
        found = []
        for place, reach, side in zip(
            (self.source.row, self.source.column), (up, across), self.filled.shape, strict=True
        ):
            low, high = int(np.floor(place - reach - 1)), int(np.ceil(place + reach + 2))
            found.append((min(max(low, 0), side), min(max(high, 0), side)))
        return found[0], found[1]


@compiled
def _straight_sums(filled: Any, valid: Any, place: Any, shape: Any, box: Any) -> Any:
    """Sum of an image (rows, columns), in its unit, and area, in pixels, inside of an ellipse: two scalars.

    A pixel counts as far as it is on the inner side of the ellipse's tangent next to it.
    """
    radius, ratio, cos, sin = shape
    light, area = 0.0, 0.0
    # pixels are cut only this near to the edge
    near, far = radius - 0.7072 / ratio, radius + 0.7072 / ratio
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            y, x = row - place[0], column - place[1]
            major, minor = x * cos + y * sin, (y * cos - x * sin) / ratio
            square = major * major + minor * minor
            if square >= far * far:
                continue
            weight = 1.0
            if near < 0 or square > near * near:
                weight = _part(radius, np.sqrt(square), major, minor / ratio, cos, sin)
            light += weight * filled[row, column]
            area += weight * valid[row, column]
    return light, area


@compiled
def _part(radius: Any, own: Any, major: Any, steep: Any, cos: Any, sin: Any) -> Any:
    """Part of a pixel, in [0, 1], inside of the tangent; ``own``, pixels: the ellipse through its middle (a scalar)."""
    slope = max(np.hypot(major, steep), 1e-9)
    # from one ellipse to the next one that is a pixel larger, and the direction across
    away = (radius - own) * (own / slope if own > 1e-6 else 1.0)
    if np.abs(away) >= 0.7072:
        return 1.0 if away > 0 else 0.0
    one, other = np.abs(major * cos - steep * sin), np.abs(major * sin + steep * cos)
    long, short = max(max(one, other) / slope, 0.5), min(one, other) / slope
    distance = np.abs(away)
    if distance <= (long - short) / 2:
        outer = 0.5 - distance / long
    else:
        outer = max((long + short) / 2 - distance, 0.0) ** 2 / (2 * long * max(short, 1e-9))
    return 1 - outer if away > 0 else outer


def _growth(rows: list[tuple[float, float, float, float]], brightness: list[float], axis_ratio: float) -> Growth:
    radii, flux, _, seen = np.array(rows).T
    return Growth(radii, flux, np.array(brightness), seen, axis_ratio)


def petrosian_radius(growth: Growth, eta: float, *, settled: bool = False) -> float:
    """Semi-major axis, pixels, where the local surface brightness falls to ``eta`` times the mean inside.

    The local one is the mean of a ring around each radius that reaches 5 % of it to both sides, and a pixel in the
    inner ten. The first radius counts after which it is below for the next ring too, for one ring may be low by noise;
    if there is none (and not only ``settled`` ones count), the first one. NaN if it never falls so far.
    """
    from scipy.interpolate import PchipInterpolator

    radii, flux = growth.radii, growth.flux
    if len(radii) < 8:
        return float("nan")
    place = np.arange(2, len(radii) - 2)
    # about a pixel to each side in the middle, one step outside: no radius between is needed
    wide = np.where(radii[place] < 10, 2, 1)
    low, high = radii[place - wide], radii[place + wide]
    local = (flux[place + wide] - flux[place - wide]) / (high**2 - low**2)
    # the mean of a ring is the brightness at the radius that halves its area
    middle = np.sqrt((low**2 + high**2) / 2)
    light = PchipInterpolator(radii, flux)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = local * middle**2 / light(middle)
    ratio[light(middle) <= 0] = np.nan
    below = (ratio[1:] < eta) & (ratio[:-1] >= eta)
    stays = np.append(ratio[2:] < eta, False)
    places = np.flatnonzero(below & stays)
    places = np.flatnonzero(below) if not len(places) and not settled else places
    if not len(places):
        return float("nan")
    k = int(places[0])
    part = (ratio[k] - eta) / (ratio[k] - ratio[k + 1])
    return float(middle[k] + part * (middle[k + 1] - middle[k]))
