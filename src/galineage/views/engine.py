"""From a galaxy's stars to maps: project, sum, blur, divide, for every view that is not the mirror of another."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.compiling import compiled
from galineage.errors import ConfigError, DataError
from galineage.views.cameras import mirrors
from galineage.views.kernel import LANES, aligned, arrange, deposit_exact, deposit_function, deposit_plain
from galineage.views.maps import CHANNELS, HERMITE, MapConfig, Maps
from galineage.views.moments import hermite, sample_sigma, weigh
from galineage.views.smoothing import PAD, collapse, levels_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from galineage.stars import Galaxy, Stars
    from galineage.views.cameras import View

    Array = NDArray[np.float64]

__all__ = ["make_maps", "systemic_velocity"]

_MOST_LIGHT = 4
_NOTHING = 1e-300
"""Weight up to which a pixel has no means: the reciprocal of a smaller one is infinite."""

_KEPT = 64 * 2**20
"""Bytes of scratch memory that a thread keeps at most for each purpose."""
_NEEDED = {
    **dict.fromkeys(("velocity", "sigma", *HERMITE), "velocity"),
    "metallicity": "metallicity",
    "age": "age",
}
"""Channels that a galaxy can lack, and what its stars need for them."""

_KINEMATICS = {"number": (0, 4, 5), "mass": (1, 6, 7), "light": (0, 4, 5)}
"""Where a record holds weight, weight x v, weight x v^2."""


_thread = threading.local()


def _scratch(purpose: str, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    """Return uninitialised memory that is this thread's until the next request for the same purpose.

    Fresh memory costs more than what is done with it: the system clears it page by page at the first touch.
    """
    needed = prod(shape) * np.dtype(kind).itemsize
    if needed > _KEPT:
        return aligned(shape, kind)
    kept: NDArray[Any] | None = getattr(_thread, purpose, None)
    if kept is None or kept.nbytes < needed:
        kept = aligned((needed + needed // 4,), np.uint8)
        setattr(_thread, purpose, kept)
    return kept[:needed].view(kind).reshape(shape)


def systemic_velocity(galaxy: Galaxy, rule: str) -> Array:
    """Velocity of a galaxy as a whole, relative to the frame its stars are given in.

    Parameters
    ----------
    galaxy : Galaxy
        With the potential of its stars, for ``bound``.
    rule : {"given", "bound", "inner"}
        See `galineage.views.MapConfig`.

    Returns
    -------
    array (3,), km/s
        Zero for ``given``.

    Raises
    ------
    DataError
        If the stars have no velocity or no potential, or none lies in the part that the rule averages.
    """
    stars = galaxy.stars
    if rule == "given":
        return np.zeros(3)
    if stars.velocity is None:
        raise _refused(galaxy, "has no velocities to average", "take systemic='given'")
    if rule == "bound":
        if stars.potential is None:
            raise _refused(galaxy, "has no potential to tell the most bound stars", "take systemic='inner' or 'given'")
        chosen = stars.potential < np.percentile(stars.potential, 5)
        if not chosen.any():  # so few stars, or all alike, that none is below: the most bound one or ones
            chosen = stars.potential == stars.potential.min()
    else:
        radius = np.linalg.norm(stars.position, axis=1)
        chosen = radius <= 0.1 * galaxy.r_half
        if not chosen.any():
            raise _refused(galaxy, "has no star within 0.1 r_half", "take systemic='given'")
    return np.asarray(stars.velocity[chosen].mean(axis=0))


def _refused(galaxy: Galaxy, what: str, advice: str) -> DataError:
    return DataError(f"galaxy {galaxy.id} of {galaxy.domain} {what}", advice=advice)


@dataclass(frozen=True)
class _Prepared:
    """Stars as the deposit wants them, in groups: one for each level of smoothing, finest first."""

    motion: list[NDArray[Any]]
    record: list[NDArray[Any]]
    light: list[NDArray[Any]] | None
    reference: Array


@compiled
def _quotients(sums: Any, kinematics: Any, lanes: Any, shift: float, slots: Any, out: Any) -> None:
    """Divide sums (s, s, 8) into maps out (channels, s, s); slots: where each of CHANNELS goes, -1 for nowhere."""
    side = len(sums)
    weight, first, second = lanes
    moves, metals, ages = slots[2] >= 0, slots[4] >= 0, slots[5] >= 0
    for row in range(side):
        # a channel that is not there is written over the count, which is written last
        counts, masses = out[slots[0], row], out[slots[1], row]
        velocities, sigmas = out[slots[2] if moves else 0, row], out[slots[3] if moves else 0, row]
        metallicities, times = out[slots[4] if metals else 0, row], out[slots[5] if ages else 0, row]
        for column in range(side):
            m, w = sums[row, column, 1], kinematics[row, column, weight]
            mean, sigma, metallicity, age = np.nan, np.nan, np.nan, np.nan
            if w > _NOTHING:
                share = 1 / w
                mean = kinematics[row, column, first] * share
                sigma = np.sqrt(max(kinematics[row, column, second] * share - mean * mean, 0.0))
            if m > _NOTHING:
                share = 1 / m
                metallicity, age = sums[row, column, 2] * share, sums[row, column, 3] * share
            velocities[column], sigmas[column] = mean + shift, sigma
            metallicities[column], times[column] = metallicity, age
            masses[column], counts[column] = m, sums[row, column, 0]


def make_maps(
    galaxy: Galaxy,
    views: Sequence[View],
    config: MapConfig | None = None,
    *,
    light: Mapping[str, ArrayLike] | None = None,
) -> Maps:
    """Make the maps of a galaxy from several views.

    Stars are never cut by depth: every star along the line of sight counts. A view from the opposite side of an earlier
    one is flipped, not computed, unless maps are to be exact: the two differ by stars exactly between two pixels.

    Parameters
    ----------
    galaxy : Galaxy
        At least one star. Whatever its frame, `Maps.systemic` says what was taken off its velocities.
    views : sequence of View
        At least one.
    config : MapConfig, optional
        Settings; the defaults are those of Angeloudi+2023.
    light : mapping of str to array (n,), optional
        Up to four luminosities of each star, in any unit: each becomes a channel ``light NAME``, summed in pixels.

    Returns
    -------
    Maps
        Without the channels for which the stars have no velocity, metallicity or age; a galaxy with no star in the
        field gives empty maps (count and mass 0, the rest NaN).

    Raises
    ------
    DataError
        If the galaxy has no stars, or no velocity by the rule asked for; or a light is negative, not finite, or of
        another length.
    ConfigError
        If there is no view, more than four lights, or weighting by light without any.
    """
    config, stars = config or MapConfig(), galaxy.stars
    if not len(views):
        raise ConfigError("no view is asked for", expected="at least one", advice="see polyhedron(12)")
    if not len(stars):
        raise _refused(galaxy, "has no stars", "leave it out")
    bands = _bands(galaxy, light or {}, config)
    systemic = systemic_velocity(galaxy, config.systemic)
    pixel = 2 * config.half_width * galaxy.r_half / config.pixels
    prepared = _prepare(stars, pixel, bands, config)
    every = CHANNELS + (HERMITE if config.hermite else ())
    missing = tuple(name for name in every if name in _NEEDED and getattr(stars, _NEEDED[name]) is None)
    channels = tuple(name for name in every if name not in missing) + tuple(f"light {name}" for name in bands)
    # a star exactly between two pixels would fall to the other one in a flipped map
    pairs = (None,) * len(views) if config.exact else mirrors(views)
    kind = np.float64 if config.exact else np.float32
    values = np.empty((len(views), len(channels), config.pixels, config.pixels), kind)
    outside = np.zeros(len(views), np.int64)
    maker = _Maker(prepared, config, pixel, channels, systemic)
    for index, (view, pair) in enumerate(zip(views, pairs, strict=True)):
        if pair is None:
            outside[index] = maker.fill(view, values[index])
        else:
            _mirror(values[pair[0]], pair[1], channels, values[index])
            outside[index] = outside[pair[0]]
    for array in (values, outside, systemic):
        array.setflags(write=False)
    return Maps(
        values=values,
        channels=channels,
        views=tuple(views),
        galaxy=galaxy.id,
        domain=galaxy.domain,
        r_half=galaxy.r_half,
        pixel=pixel,
        systemic=systemic,
        config=config,
        missing=missing,
        mirrors=pairs,
        outside=outside,
    )


def _mirror(values: NDArray[Any], axis: int, channels: tuple[str, ...], out: NDArray[Any]) -> None:
    """Write maps (channels, s, s) flipped along rows (0) or columns (1), odd moments of velocity with another sign."""
    out[...] = values[:, ::-1] if axis == 0 else values[:, :, ::-1]
    for name in ("velocity", "h3"):
        if name in channels:
            odd = out[channels.index(name)]
            np.negative(odd, out=odd)


def _bands(galaxy: Galaxy, light: Mapping[str, ArrayLike], config: MapConfig) -> dict[str, Array]:
    """Return the luminosities as arrays (n,), checked."""
    if len(light) > _MOST_LIGHT:
        raise ConfigError(f"{len(light)} luminosities are given", expected=f"at most {_MOST_LIGHT} in one call")
    if config.weighting == "light" and not light:
        raise ConfigError("kinematics are to be weighted by light, and none is given", advice="give light={'r': ...}")
    bands = {name: np.asarray(values, dtype=np.float64) for name, values in light.items()}
    for name, values in bands.items():
        if values.shape != galaxy.stars.mass.shape:
            raise DataError(f"light {name!r} has shape {values.shape}", expected=str(galaxy.stars.mass.shape))
        if not (np.isfinite(values) & (values >= 0)).all():
            raise _refused(galaxy, f"has light {name!r} that is negative or not finite", "look at where it comes from")
    return bands


def _prepare(stars: Stars, pixel: float, bands: Mapping[str, Array], config: MapConfig) -> _Prepared:
    """Arrange the stars, grouped by level where there is smoothing."""
    kind = np.float64 if config.exact else np.float32
    motion, record = _scratch("motion", (6, len(stars)), kind), _scratch("record", (len(stars), 4), kind)
    # velocities are rounded and squared relative to about their mean: nothing is lost however fast the galaxy moves
    velocity = np.zeros_like(stars.position) if stars.velocity is None else stars.velocity
    reference = velocity[:: len(stars) // 1000 + 1].mean(axis=0)
    none = np.zeros(0 if stars.metallicity is not None and stars.age is not None else len(stars))
    columns = tuple(none if each is None else each for each in (stars.mass, stars.metallicity, stars.age))
    arrange(np.ascontiguousarray(stars.position), np.ascontiguousarray(velocity), reference, columns, motion, record)
    light = None
    if bands:
        light = np.zeros((len(stars), _MOST_LIGHT), kind)
        for column, values in enumerate(bands.values()):
            light[:, column] = values
    if config.smoothing is None:
        return _Prepared([motion], [record], None if light is None else [light], reference)
    levels = levels_of(stars, pixel, config.smoothing)
    order = np.argsort(levels, kind="stable")
    ends = np.cumsum(np.bincount(levels, minlength=config.smoothing.levels + 1))[:-1]
    groups = np.split(order, ends)
    return _Prepared(
        [np.take(motion, group, axis=1) for group in groups],
        [record[group] for group in groups],
        None if light is None else [light[group] for group in groups],
        reference,
    )


class _Maker:
    """Makes one view after the other, in the same scratch memory; not for several threads at once."""

    def __init__(
        self, prepared: _Prepared, config: MapConfig, pixel: float, channels: tuple[str, ...], systemic: Array
    ) -> None:
        self.prepared, self.config, self.pixel, self.systemic = prepared, config, pixel, systemic
        self.channels = channels
        self.slots = np.array([channels.index(name) if name in channels else -1 for name in CHANNELS])
        self.margin = 0
        if config.psf is not None:
            # room for what the PSF brings in from beside the field, in whole pixels of the coarsest grid
            step = 2**config.smoothing.levels if config.smoothing else 1
            self.margin = -(-config.psf.reach(pixel) // step) * step
        side = config.pixels + 2 * self.margin
        smooth = config.smoothing is not None
        self.sides = [side // 2**level + 2 * PAD * smooth for level in range(len(prepared.motion))]
        self.grids = [
            _scratch(f"grid{level}", (each * each + 1, len(LANES)), np.float64) for level, each in enumerate(self.sides)
        ]

    def fill(self, view: View, out: NDArray[Any]) -> int:
        """Write the maps of a view into ``out`` (channels, s, s); return how many stars fell outside of the grid."""
        away = -view.sign * view.los
        sums = self._sums(self.prepared.record, view, away)
        outside = int(sum(grid[-1, 0] for grid in self.grids))
        kinematics = sums
        if self.prepared.light is not None:
            sums = sums.copy()  # the scratch memory is used again
            bright = self._sums(self.prepared.light, view, away)
            lights = [place for place, name in enumerate(self.channels) if name.startswith("light ")]
            for band, place in enumerate(lights):
                out[place] = bright[..., band]
            kinematics = bright if self.config.weighting == "light" else sums
        shift = float(away @ (self.prepared.reference - self.systemic))
        _quotients(sums, kinematics, _KINEMATICS[self.config.weighting], shift, self.slots, out)
        if (self.config.hermite or self.config.sigma == "sample") and "velocity" in self.channels:
            self._shape(view, away, out)
        return outside

    def _shape(self, view: View, away: Array, out: NDArray[Any]) -> None:
        """Write h3 and h4, and the dispersion over as that of a sample, as far as they are asked for."""
        count, sigma = out[self.slots[0]], out[self.slots[3]]
        if not self.config.hermite and self.config.weighting == "number":
            sigma[...] = sample_sigma(sigma, count, count)  # needs no second pass
            return
        sums = self._sums(self._weighed(away), view, away)
        if self.config.sigma == "sample":
            sigma[...] = sample_sigma(sigma, sums[..., 0], sums[..., 2])
        if self.config.hermite:
            for name, values in zip(HERMITE, hermite(sums, count), strict=True):
                out[self.channels.index(name)] = values

    def _weighed(self, away: Array) -> list[NDArray[Any]]:
        """Return the records of the second pass, for every level."""
        prepared = self.prepared
        source = prepared.light if prepared.light and self.config.weighting == "light" else prepared.record
        column = 1 if self.config.weighting == "mass" else 0
        weights = [record[:, column] for record in source]
        most = max((float(each.max(initial=0.0)) for each in weights), default=0.0)
        records = []
        for level, (motion, each) in enumerate(zip(prepared.motion, weights, strict=True)):
            record = _scratch(f"weighed{level}", (len(each), 4), np.float64)
            weigh(motion, each, 1 / most if most > 0 else 1.0, away.astype(motion.dtype), record)
            records.append(record)
        return records

    def _sums(self, record: list[NDArray[Any]], view: View, away: Array) -> Array:
        """Return the sums (s, s, 8) of one view, smoothed and blurred."""
        shaped = []
        for level, (side, grid) in enumerate(zip(self.sides, self.grids, strict=True)):
            grid.fill(0.0)
            size = self.pixel * 2**level
            self._deposit(self.prepared.motion[level], record[level], view, away, size, grid)
            shaped.append(grid[:-1].reshape(side, side, 8))
        sums = shaped[0] if self.config.smoothing is None else collapse(shaped)
        if self.config.psf is not None:
            sums = self.config.psf.apply(sums, self.pixel)
        inner = slice(self.margin, self.margin + self.config.pixels)
        return sums[inner, inner]

    def _deposit(
        self, motion: NDArray[Any], record: NDArray[Any], view: View, away: Array, size: float, grid: Array
    ) -> None:
        side = round(np.sqrt(len(grid) - 1))
        if self.config.exact:
            edges = np.linspace(-side / 2 * size, side / 2 * size, side + 1)
            deposit_exact(motion, record, np.stack([view.right, view.up, away]), edges, grid)
            return
        camera = np.empty((3, 4), np.float32)
        np.divide(view.matrix, size, out=camera[:, :3], casting="same_kind")
        camera[2, :3] = away
        camera[:, 3] = side / 2
        # only single-precision records can be added by hand-written instructions
        deposit = deposit_plain if record.dtype == np.float64 else deposit_function()
        deposit(motion, record, camera, side, grid)
