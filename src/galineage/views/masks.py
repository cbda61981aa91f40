"""Which pixels count: enough stars in them, and inside an aperture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from galineage.compiling import compiled
from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

__all__ = ["circle", "hexagon", "particle_limit", "particle_mask", "signal_mask"]

_CAP = 4096
"""Counts from here on share a place of the counting histogram; a limit among them is found by sorting."""


@compiled
def particle_limit(count: Any, percentile: float, least: float) -> float:
    """Count that a pixel must exceed to be kept, as Angeloudi+2023's map maker has it.

    Parameters
    ----------
    count : array (s, s)
        Stars in each pixel; not whole numbers after smoothing or a PSF.
    percentile : float
        Nearest rank over all pixels, the empty ones too: element ``int(percentile / 100 * pixels)`` of the sorted
        counts.
    least : float
        The limit is never below this.

    Returns
    -------
    float
        The larger of the two. A counting histogram finds it without sorting.
    """
    flat = count.ravel()
    rank = min(int(percentile / 100 * len(flat)), len(flat) - 1)
    places = np.zeros(_CAP, np.int64)
    whole = True
    for value in flat:
        place = int(min(value, _CAP - 1))
        whole &= place == value or value >= _CAP
        places[place] += 1
    passed = 0
    for place in range(_CAP - 1):
        passed += places[place]
        if passed > rank and whole:
            return max(float(place), least)
    return max(float(np.sort(flat)[rank]), least)


def particle_mask(count: NDArray[Any], percentile: float = 75.0, least: float = 2.0) -> Mask:
    """Pixels that are kept: count above the larger of a percentile of all pixels and ``least``.

    As published (Angeloudi+2023, section 2.5.1): strictly above, so at most a quarter of the pixels and at least three
    stars in each; for small galaxies far less than a quarter is left.

    Parameters
    ----------
    count : array (s, s) or (views, s, s)
        Stars in each pixel. Each view has its own limit.
    percentile : float
        0 to 100, nearest rank.
    least : float
        Not below zero.

    Returns
    -------
    array of bool, same shape
        True: kept.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    """
    if not (0 <= percentile <= 100 and 0 <= least < np.inf):
        raise ConfigError(
            f"percentile {percentile}, least {least}", expected="0 to 100, and a count that is not negative"
        )
    if count.ndim == 2:
        return np.asarray(count > particle_limit(np.ascontiguousarray(count), float(percentile), float(least)))
    return np.stack([particle_mask(each, percentile, least) for each in count])


def signal_mask(count: NDArray[Any], target: float) -> Mask:
    """Pixels whose signal-to-noise ratio is at least ``target``; that of n stars is sqrt(n) (Poisson).

    Parameters
    ----------
    count : array, any shape
        Stars in each pixel.
    target : float
        Signal-to-noise ratio.

    Returns
    -------
    array of bool, same shape
        True: kept.
    """
    return np.asarray(np.sqrt(count) >= target)


def _grid(pixels: int, half_width: float, centre: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of pixels (1, pixels) to the right and (pixels, 1) up, in r_half."""
    if pixels < 1 or not 0 < half_width < np.inf:
        raise ConfigError(f"{pixels} pixels, half_width {half_width}", expected="positive numbers")
    middle = {"middle": (pixels - 1) / 2, "pixel": pixels // 2}
    if centre not in middle:
        raise ConfigError(f"centre is {centre!r}", expected="middle or pixel")
    at = (np.arange(pixels) - middle[centre]) * 2 * half_width / pixels
    return at[np.newaxis, :], at[:, np.newaxis]


def circle(
    radius: float, pixels: int = 128, half_width: float = 2.0, *, centre: Literal["middle", "pixel"] = "middle"
) -> Mask:
    """Round aperture: pixels whose centre lies at most ``radius`` from the middle of the map.

    Parameters
    ----------
    radius : float, r_half
        The apertures "4, 2, 1 r_e" of Angeloudi+2023 are diameters: radii of 2, 1, 0.5.
    pixels : int
        On each side of the map.
    half_width : float, r_half
        From the centre to the edge of the map.
    centre : {"middle", "pixel"}
        ``pixel`` centres it on the pixel right of and above the middle, as the published code does.

    Returns
    -------
    array (pixels, pixels) of bool
        True: inside.

    Raises
    ------
    ConfigError
        If a number is not positive.
    """
    _positive(radius)
    x, y = _grid(pixels, half_width, centre)
    return np.asarray(np.hypot(x, y) <= radius * (1 + 1e-12))


def hexagon(radius: float, pixels: int = 128, half_width: float = 2.0, *, angle: float = 0.0) -> Mask:
    """Six-sided aperture, the shape of a MaNGA fibre bundle.

    Parameters
    ----------
    radius : float, r_half
        From the centre to a corner. MaNGA's bundles reach 1.5 or 2.5 effective radii along the major axis.
    pixels, half_width : int, float
        As in `circle`.
    angle : float, degrees
        Counter-clockwise turn; at 0 two corners lie on the horizontal axis.

    Returns
    -------
    array (pixels, pixels) of bool
        True: the pixel's centre is inside.

    Raises
    ------
    ConfigError
        If a number is not positive.
    """
    _positive(radius)
    x, y = _grid(pixels, half_width, "middle")
    inside = np.ones((pixels, pixels), dtype=bool)
    for side in np.radians(np.array([30.0, 90.0, 150.0]) + angle):
        inside &= np.abs(np.cos(side) * x + np.sin(side) * y) <= radius * np.sqrt(0.75) * (1 + 1e-12)
    return inside


def _positive(radius: float) -> None:
    if not 0 < radius < np.inf:
        raise ConfigError(f"radius of an aperture is {radius}", expected="a positive number of r_half")
