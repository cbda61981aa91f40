"""From raw maps to network inputs: mask, logarithm, clip, fill, smooth, standardise (Angeloudi+2023, section 2.5).

Raw maps are kept apart, so that this step can be done again with other settings. The order of the published code has
consequences, and what can be changed about it is a named setting: masked pixels are filled with zero *before* smoothing
and count in mean and standard deviation, so that the level of a map is not fully removed, and the aperture comes last,
so that a small aperture still sees the mean of the whole map.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from galineage.compiling import compiled, compiled_sums
from galineage.errors import ConfigError, DataError
from galineage.fields import SOLAR_METALLICITY
from galineage.views.maps import CHANNELS
from galineage.views.masks import circle, particle_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from galineage.views.maps import Maps

    Floats = NDArray[np.float32] | NDArray[np.float64]

__all__ = ["APERTURE_FIRST", "PUBLISHED", "VALID_ONLY", "Refined", "Refinement", "refine", "refine_values"]

# of _logarithm
_MANTISSA = np.int32(23)
_ROOT_HALF = np.int32(0x3F3504F3)  # bits of sqrt(1/2): m lies between it and sqrt(2)
_THIRD, _FIFTH, _SEVENTH, _NINTH = (np.float32(1 / n) for n in (3, 5, 7, 9))
_LOG_TWO, _TWO_LOG_E = np.log10(2.0), np.float32(2 / np.log(10.0))

Standardise = Literal["all", "valid", "none"]
Order = Literal["after", "before"]


@dataclass(frozen=True)
class Refinement:
    """Settings of the refinement; the defaults are the published ones (`PUBLISHED`).

    Attributes
    ----------
    channels : tuple of str
        Channels of the result.
    percentile, least : float
        A pixel is kept if its count is above both (`galineage.views.masks.particle_mask`).
    velocity_limit : float, km/s
        Velocities are clipped symmetrically at the smallest of this and the absolute values of the map's extremes.
    sigma_limit : float, km/s
        Upper limit of the dispersion.
    metallicity_limit : float, dex
        Limit of abs(log10 Z / Zsun), with Zsun = 0.0127.
    smooth : float, pixels
        Standard deviation of the Gaussian, cut at four of them; 0: none.
    standardise : {"all", "valid", "none"}
        Mean 0 and standard deviation 1 over all pixels, masked ones (zeros) included, as published; or over the kept
        pixels alone, with 0 elsewhere; or not at all. A deviation is at least 1 / sqrt(pixels used).
    aperture : float, r_half, or None
        Radius; 0 outside.
    aperture_order : {"after", "before"}
        After standardising, as published; or before everything: pixels outside are masked like those with few stars.
    aperture_centre : {"pixel", "middle"}
        See `galineage.views.masks.circle`; ``pixel`` as published.

    Raises
    ------
    ConfigError
        If a channel or word is unknown, or a number out of range.
    """

    channels: tuple[str, ...] = ("mass", "velocity", "sigma", "metallicity", "age")
    percentile: float = 75.0
    least: float = 2.0
    velocity_limit: float = 250.0
    sigma_limit: float = 350.0
    metallicity_limit: float = 1.0
    smooth: float = 0.6
    standardise: Standardise = "all"
    aperture: float | None = None
    aperture_order: Order = "after"
    aperture_centre: Literal["pixel", "middle"] = "pixel"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if not self.channels or not set(self.channels) <= set(CHANNELS):
            raise ConfigError(f"channels are {self.channels}", expected="some of " + ", ".join(CHANNELS))
        words = {"standardise": get_args(Standardise), "aperture_order": get_args(Order),
                 "aperture_centre": ("pixel", "middle")}  # fmt: skip
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}", expected="one of " + ", ".join(allowed))
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not 0 <= value < np.inf:
                raise ConfigError(f"{item.name} is {value}", expected="zero or a positive number")
        if self.percentile > 100:
            raise ConfigError(f"percentile is {self.percentile}", expected="0 to 100")

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types, to be stored with the data."""
        return {**asdict(self), "channels": list(self.channels)}


PUBLISHED = Refinement()
"""Angeloudi+2023 and their code: standardised over all pixels, aperture last."""

VALID_ONLY = Refinement(standardise="valid")
"""Standardised over the kept pixels only: the level of a map is truly removed."""

APERTURE_FIRST = Refinement(aperture_order="before")
"""The aperture (set it with `dataclasses.replace`) masks before anything is averaged: nothing outside leaks in."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Network inputs made from maps.

    Attributes
    ----------
    values : array (views, channels, pixels, pixels) of float32
        No NaN. After standardising pure numbers; without it log10 Msun, km/s, log10 Z / Zsun, Gyr. A missing channel is
        zero everywhere.
    mask : array (views, pixels, pixels) of bool
        Pixels that were kept; with an aperture before, those inside it.
    channels : tuple of str
        Names along the second axis.
    missing : tuple of str
        Channels that the maps do not have.
    config : Refinement
        Settings.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    channels: tuple[str, ...]
    missing: tuple[str, ...]
    config: Refinement


def refine(maps: Maps, config: Refinement = PUBLISHED) -> Refined:
    """Refine all maps of a galaxy; views that were flipped from another are flipped again.

    Parameters
    ----------
    maps : Maps
        Raw maps.
    config : Refinement
        Settings.

    Returns
    -------
    Refined
        A view with no pixel left is zero everywhere.
    """
    values, mask = refine_values(maps.values, maps.channels, maps.config.half_width, config, maps.mirrors)
    missing = tuple(name for name in config.channels if name not in maps)
    return Refined(values, mask, config.channels, missing, config)


def refine_values(
    values: Floats,
    channels: Sequence[str],
    half_width: float,
    config: Refinement = PUBLISHED,
    mirrors: Sequence[tuple[int, int] | None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Refine maps given as an array, as they lie in a store.

    Parameters
    ----------
    values : array (views, channels, s, s), float32 or float64 (float16 is widened)
        As `galineage.views.Maps.values`. Masked pixels may hold NaN.
    channels : sequence of str
        Names along the second axis; ``count`` among them.
    half_width : float, r_half
        From the centre to the edge of a map; for the aperture.
    config : Refinement
        Settings.
    mirrors : sequence, one entry for each view, optional
        (earlier view, axis) for a view that is an earlier one flipped: it is flipped again.

    Returns
    -------
    values : array (views, channels of the settings, s, s) of float32
        Channels that are missing are zero.
    mask : array (views, s, s) of bool
        True: kept.

    Raises
    ------
    DataError
        If there is no count, or the array does not fit its names.
    """
    if values.ndim != 4 or values.shape[1] != len(channels) or values.shape[2] != values.shape[3]:
        raise DataError(f"maps have shape {values.shape}", expected=f"(views, {len(channels)}, side, side)")
    if "count" not in channels:
        raise DataError("the maps have no count, by which pixels are masked", advice="keep the channel 'count'")
    side, kind = values.shape[2], np.float64 if values.dtype == np.float64 else np.float32
    raw = np.ascontiguousarray(values, dtype=kind)
    out = np.empty((len(values), len(config.channels), side, side), np.float32)
    mask = np.empty((len(values), side, side), np.bool_)
    aperture = _aperture(side, half_width, config)
    work = _Work(config, side, channels, aperture)
    for view in range(len(values)):
        pair = mirrors[view] if mirrors is not None else None
        if pair is not None and (aperture is None or config.aperture_centre == "middle"):
            earlier, axis = pair
            _flip(out[earlier], mask[earlier], axis, config.channels, out[view], mask[view])
            continue
        work.run(raw[view], out[view], mask[view])
    return out, mask


def _aperture(side: int, half_width: float, config: Refinement) -> NDArray[np.bool_] | None:
    if config.aperture is None:
        return None
    return circle(config.aperture, side, half_width, centre=config.aperture_centre)


def _flip(
    values: Any, mask: Any, axis: int, channels: Sequence[str], out_values: NDArray[Any], out_mask: NDArray[Any]
) -> None:
    """Flip maps (channels, s, s) and mask (s, s) along rows (0) or columns (1); velocities change their sign."""
    out_values[...] = np.flip(values, 1 + axis)
    out_mask[...] = np.flip(mask, axis)
    if "velocity" in channels:
        at = list(channels).index("velocity")
        np.negative(out_values[at], out=out_values[at])


_LOGARITHM, _EVENLY, _ABOVE = 0, 1, 2


class _Work:
    """Settings as the compiled loops want them, and their scratch memory; not for several threads at once."""

    def __init__(self, config: Refinement, side: int, channels: Sequence[str], aperture: NDArray[Any] | None) -> None:
        recipes = {
            "mass": (_LOGARITHM, 1.0, np.inf),
            "velocity": (_EVENLY, 1.0, config.velocity_limit),
            "sigma": (_ABOVE, 1.0, config.sigma_limit),
            "metallicity": (_LOGARITHM, SOLAR_METALLICITY, config.metallicity_limit),
        }
        slots = [list(channels).index(name) if name in channels else -1 for name in config.channels]
        self.slots = np.array([list(channels).index("count"), *slots])
        self.recipes = np.array([recipes.get(name, (_ABOVE, 1.0, np.inf)) for name in config.channels])
        self.rule = config.percentile, config.least, get_args(Standardise).index(config.standardise)
        radius = int(4 * config.smooth + 0.5)
        at = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (at / config.smooth) ** 2) if config.smooth > 0 else np.ones(1)
        self.weights = (weights / weights.sum()).astype(np.float32)
        # the last row of the first stays zero
        shapes = (side + 1, side), (side, side), (side + 2 * radius,)
        self.scratch = tuple(np.zeros(shape, np.float32) for shape in shapes)
        whole = np.ones((side, side), np.bool_)
        before = aperture is not None and config.aperture_order == "before"
        self.before = aperture if aperture is not None and before else whole
        self.after = aperture if aperture is not None and not before else whole[:0]

    def run(self, raw: Floats, out: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Refine the maps (channels, s, s) of one view into ``out``, and write its mask."""
        _refine_view(
            raw, self.slots, self.recipes, self.rule, self.weights, self.scratch, self.before, self.after, mask, out
        )


# Loops over flat arrays, conditions written as choices between values: what compilers turn into vector instructions.
# Numbers without the type of the array would turn the whole into float64. Rows without a kept pixel are left out: most
# of a small galaxy's map.


@compiled
def _bits(value: Any) -> Any:
    return np.float32(value).view(np.int32)


@compiled
def _float(bits: Any) -> Any:
    return np.int32(bits).view(np.float32)


@compiled_sums
def _logarithm(raw: Any, mask: Any, unit: Any, limit: Any, out: Any) -> None:
    """log10 of kept pixels in units of ``unit``, clipped at +-limit; exactly 0 counts as 1 unit, as published.

    Several times faster than a library, which takes one logarithm at a time: the number is 2^e m with m around 1, and
    log m = 2 atanh t with t = (m - 1) / (m + 1), whose series is cut where float32 no longer sees it. The result is
    within one unit of the last place.
    """
    raw, mask, out = raw.ravel(), mask.ravel(), out.ravel()
    one = np.float32(1.0)
    for i in range(len(raw)):
        # what is not kept is 1, whose logarithm is the 0 to fill in
        bits = _bits(raw[i] / unit if mask[i] and raw[i] > 0 and raw[i] < np.inf else one)
        exponent = np.int32(np.int32(bits - _ROOT_HALF) >> _MANTISSA)
        m = _float(bits - np.int32(exponent << _MANTISSA))
        t = (m - one) / (m + one)
        s = t * t
        series = one + s * (_THIRD + s * (_FIFTH + s * (_SEVENTH + s * _NINTH)))
        value = np.float32(np.float64(exponent) * _LOG_TWO + np.float64(_TWO_LOG_E * t * series))
        value = value if value < limit else limit
        out[i] = value if value > -limit else -limit


@compiled
def _keep(count: Any, limit: float, aperture: Any, mask: Any) -> Any:
    """Write the mask of pixels above the limit and inside; return the first row with one, and that after the last."""
    first, last = len(mask), 0
    for row in range(len(mask)):
        some = False
        counts, inside, kept = count[row], aperture[row], mask[row]
        for column in range(len(kept)):
            kept[column] = (counts[column] > limit) & inside[column]
            some |= kept[column]
        if some:
            first, last = min(first, row), row + 1
    return min(first, last), last


@compiled_sums
def _clip_evenly(raw: Any, mask: Any, limit: Any, out: Any) -> None:
    """Kept pixels clipped at +-, the smallest of the limit and the extremes' absolute values; 0 elsewhere."""
    raw, mask, out = raw.ravel(), mask.ravel(), out.ravel()
    low, high = raw.dtype.type(np.inf), raw.dtype.type(-np.inf)
    for i in range(len(raw)):
        use = mask[i] and abs(raw[i]) < np.inf
        low = raw[i] if use and raw[i] < low else low
        high = raw[i] if use and raw[i] > high else high
    limit = min(limit, abs(low), abs(high))
    for i in range(len(raw)):
        value = raw[i] if raw[i] < limit else limit
        value = value if value > -limit else -limit
        out[i] = np.float32(value) if mask[i] and abs(raw[i]) < np.inf else np.float32(0.0)


@compiled_sums
def _clip_above(raw: Any, mask: Any, limit: Any, out: Any) -> None:
    """Kept pixels clipped from above; 0 elsewhere."""
    raw, mask, out = raw.ravel(), mask.ravel(), out.ravel()
    for i in range(len(raw)):
        value = raw[i] if raw[i] < limit else limit
        out[i] = np.float32(value) if mask[i] and abs(raw[i]) < np.inf else np.float32(0.0)


@compiled
def _reflected(index: int, side: int) -> int:
    """Row or column beyond an edge that is mirrored at it, edge pixel included: scipy's "reflect"."""
    index %= 2 * side
    return index if index < side else 2 * side - 1 - index


@compiled
def _reflect_ends(line: Any, r: int) -> None:
    """Fill r numbers at both ends of a line (s + 2 r,) whose middle is set."""
    side = len(line) - 2 * r
    for i in range(r):
        line[r - 1 - i] = line[r + _reflected(i, side)]
        line[r + side + i] = line[r + _reflected(side + i, side)]


@compiled
def _source(row: int, first: int, last: int, side: int) -> int:
    """Row to read for ``row``, which may lie beyond an edge; ``side``, the row of zeros, where nothing is kept."""
    row = _reflected(row, side)
    return row if first <= row < last else side


@compiled_sums
def _five(source: Any, step: int, weights: Any, out: Any) -> None:
    """Symmetric sums of five numbers, ``step`` apart in the source, for a whole block at once."""
    outer, inner, middle, size = weights[0], weights[1], weights[2], len(out)
    a, b, c = source[:size], source[step : step + size], source[2 * step : 2 * step + size]
    d, e = source[3 * step : 3 * step + size], source[4 * step : 4 * step + size]
    for i in range(size):
        out[i] = outer * (a[i] + e[i]) + inner * (b[i] + d[i]) + middle * c[i]


@compiled_sums
def _smooth_five(values: Any, weights: Any, between: Any, first: int, last: int, out: Any) -> None:
    """Do what `_smooth` does for five weights (the published width) and 8 pixels or more, several times faster.

    Blocks of rows are taken as one long line, and what that spoils at the edges is set right. between: scratch (s, s).
    """
    side, low, high = len(out), max(first - 2, 0), min(last + 2, len(out))
    out[:low] = np.float32(0.0)
    out[high:] = np.float32(0.0)
    values[max(first - 4, 0) : first] = np.float32(0.0)
    values[last : min(last + 4, side)] = np.float32(0.0)
    outer, inner, middle = weights[0], weights[1], weights[2]
    flat, half, result = values.ravel(), between.ravel(), out.ravel()
    start, stop = max(low, 2), min(high, side - 2)
    _five(flat[(start - 2) * side : (stop + 2) * side], side, weights, half[start * side : stop * side])
    for row in range(low, high):
        if row < 2 or row >= side - 2:
            a, b = values[_source(row - 2, first, last, side)], values[_source(row - 1, first, last, side)]
            d, e = values[_source(row + 1, first, last, side)], values[_source(row + 2, first, last, side)]
            between[row] = outer * (a + e) + inner * (b + d) + middle * values[_source(row, first, last, side)]
    _five(half[low * side : high * side], 1, weights, result[low * side + 2 : high * side - 2])
    for row in range(low, high):
        line, end = between[row], side - 1
        out[row, 0] = outer * (line[1] + line[2]) + inner * (line[0] + line[1]) + middle * line[0]
        out[row, 1] = outer * (line[0] + line[3]) + inner * (line[0] + line[2]) + middle * line[1]
        out[row, end] = (
            outer * (line[end - 2] + line[end - 1]) + inner * (line[end - 1] + line[end]) + middle * line[end]
        )
        out[row, end - 1] = (
            outer * (line[end - 3] + line[end]) + inner * (line[end - 2] + line[end]) + middle * line[end - 1]
        )


@compiled_sums
def _smooth(values: Any, weights: Any, line: Any, first: int, last: int, out: Any) -> None:
    """Convolve a map with (2 r + 1,) symmetric weights along both axes.

    values (s + 1, s): the map, of which rows ``first`` to ``last`` are not zero, and a row of zeros; line: scratch
    (s + 2 r,). Beyond an edge the map is mirrored at it.
    """
    r, side = len(weights) // 2, len(out)
    middle = line[r : r + side]
    for row in range(side):
        result = out[row]
        result[:] = np.float32(0.0)
        if last <= first or row < first - r or row >= last + r:
            continue
        middle[:] = np.float32(0.0)
        for k in range(len(weights)):
            middle += weights[k] * values[_source(row + k - r, first, last, side)]
        _reflect_ends(line, r)
        for k in range(len(weights)):
            result += weights[k] * line[k : k + side]


@compiled_sums
def _standardise_all(values: Any, first: int, last: int) -> None:
    """Mean 0 and deviation 1 over all pixels (s, s), in place, of which rows ``first`` to ``last`` are not zero.

    Sums are float64 (a nearly empty map needs it), the deviation at least 1/s.
    """
    flat, number = values[first:last].ravel(), values.size
    total = 0.0
    for i in range(len(flat)):
        total += np.float64(flat[i])
    mean = total / number
    square = (number - len(flat)) * mean * mean
    for i in range(len(flat)):
        apart = np.float64(flat[i]) - mean
        square += apart * apart
    scale = 1 / max(np.sqrt(square / number), 1 / np.sqrt(number))
    for i in range(len(flat)):
        flat[i] = np.float32((np.float64(flat[i]) - mean) * scale)
    values[:first] = np.float32(-mean * scale)
    values[last:] = np.float32(-mean * scale)


@compiled_sums
def _standardise_valid(values: Any, mask: Any) -> None:
    """Mean 0 and deviation 1 over kept pixels, in place; 0 elsewhere."""
    flat, kept = values.ravel(), mask.ravel()
    total, count = 0.0, 0
    for i in range(len(flat)):
        total += np.float64(flat[i]) if kept[i] else 0.0
        count += 1 if kept[i] else 0
    mean = total / max(count, 1)
    square = 0.0
    for i in range(len(flat)):
        apart = np.float64(flat[i]) - mean if kept[i] else 0.0
        square += apart * apart
    scale = 1 / max(np.sqrt(square / max(count, 1)), 1 / np.sqrt(max(count, 1)))
    for i in range(len(flat)):
        flat[i] = np.float32((np.float64(flat[i]) - mean) * scale) if kept[i] else np.float32(0.0)


@compiled
def _refine_view(
    raw: Any,
    slots: Any,
    recipes: Any,
    rule: Any,
    weights: Any,
    scratch: Any,
    before: Any,
    after: Any,
    mask: Any,
    out: Any,
) -> None:
    """Refine all maps of a view in one call: other threads wait less for their turn in Python.

    slots: place in ``raw`` of the count, then of each channel or -1; recipes (channels, 3): kind, unit and limit.
    """
    percentile, least, standardise = rule
    clean, between, line = scratch
    side, reach, kind = mask.shape[0], len(weights) // 2, raw.dtype.type
    count = raw[slots[0]]
    first, last = _keep(count, particle_limit(count, percentile, least), before, mask)
    for channel in range(len(recipes)):
        image, slot = out[channel], slots[1 + channel]
        if slot < 0 or last <= first:
            image[:] = np.float32(0.0)
            continue
        used, kept, ready = raw[slot][first:last], mask[first:last], clean[first:last]
        unit, limit = kind(recipes[channel, 1]), kind(recipes[channel, 2])
        if recipes[channel, 0] == _LOGARITHM:
            _logarithm(used, kept, unit, limit, ready)
        elif recipes[channel, 0] == _EVENLY:
            _clip_evenly(used, kept, limit, ready)
        else:
            _clip_above(used, kept, limit, ready)
        if reach == 2 and side >= 8:
            _smooth_five(clean, weights, between, first, last, image)
        else:
            _smooth(clean, weights, line, first, last, image)
        if standardise == 0:
            _standardise_all(image, max(first - reach, 0), min(last + reach, side))
        elif standardise == 1:
            _standardise_valid(image, mask)
        if len(after):
            _cut(image, after)


@compiled
def _cut(image: Any, aperture: Any) -> None:
    """Set pixels outside of an aperture to zero."""
    for row in range(len(image)):
        for column in range(len(image)):
            if not aperture[row, column]:
                image[row, column] = np.float32(0.0)
