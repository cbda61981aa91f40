"""Light inside of growing ellipses, and the Petrosian radii that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.images.detection import CentralSource

    Array = NDArray[np.float64]

__all__ = ["Growth", "grow", "petrosian_radius"]

SEEN = 0.15
"""Part of a ring that must have usable pixels for its surface brightness to be measured."""


EXACT = 12.0
"""Semi-minor axis, pixels, from which an ellipse's edge is straight inside of a pixel: an error of 6e-4 of its area."""


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
        self.filled, self.valid, self.source = filled, valid, source
        rows, columns = (np.arange(side, dtype=np.float64) for side in filled.shape)
        y, x = (rows - source.row)[:, np.newaxis], columns - source.column
        turn = np.deg2rad(source.angle)
        major = x * np.cos(turn) + y * np.sin(turn)
        minor = (y * np.cos(turn) - x * np.sin(turn)) / source.axis_ratio
        self.radius = np.hypot(major, minor)
        steep = minor / source.axis_ratio
        slope = np.maximum(np.hypot(major, steep), 1e-9)
        # pixels from one ellipse to the next one that is a pixel larger, and the direction across
        self.pace = np.where(self.radius > 1e-6, self.radius / slope, 1.0)
        across = (
            np.abs(major * np.cos(turn) - steep * np.sin(turn)),
            np.abs(major * np.sin(turn) + steep * np.cos(turn)),
        )
        self.long = np.maximum(np.maximum(*across) / slope, 0.5)
        self.short = np.minimum(*across) / slope

    def inside(self, radius: float) -> tuple[float, float]:
        """Sum of the usable pixels, in their unit, and their area in pixels: two scalars."""
        if radius * self.source.axis_ratio >= EXACT:
            weights = self._straight(radius)
            return float(np.vdot(weights, self.filled)), float(weights[self.valid].sum())
        from photutils.aperture import EllipticalAperture

        place, turn = (self.source.column, self.source.row), np.deg2rad(self.source.angle)
        aperture = EllipticalAperture(place, radius, radius * self.source.axis_ratio, theta=turn)
        weights = aperture.to_mask(method="exact")
        cut, small = weights.get_overlap_slices(self.filled.shape)
        if cut is None:
            return 0.0, 0.0
        part = weights.data[small]
        return float((part * self.filled[cut]).sum()), float((part * self.valid[cut]).sum())

    def _straight(self, radius: float) -> Array:
        """Part of each pixel (rows, columns), in [0, 1], on the inner side of the ellipse's tangent next to it."""
        away = (radius - self.radius) * self.pace
        weights = (away > 0).astype(np.float64)
        edge = np.abs(away) < 0.7072
        far, long, short = np.abs(away[edge]), self.long[edge], self.short[edge]
        corner = np.maximum((long + short) / 2 - far, 0.0)
        cut = np.square(corner) / (2 * long * np.maximum(short, 1e-9))
        outer = np.where(far <= (long - short) / 2, 0.5 - far / long, cut)
        weights[edge] = np.where(away[edge] > 0, 1 - outer, outer)
        return weights


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
