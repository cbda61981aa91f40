"""What telescope, atmosphere and sky do to an image: pixels, PSF, photon and sky noise, or a real piece of sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cutouts import ZERO_POINT
from galineage.errors import ConfigError, DataError
from galineage.light.resampling import enough, rebin
from galineage.light.seeing import GaussianSeeing, MeasuredSeeing, Seeing, convolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from galineage.cutouts import Cutout

    Array = NDArray[np.float64]

__all__ = ["Insertion", "Observation", "hsc_wide", "insert", "observe", "sky_noise"]


def _per_band(value: float | tuple[float, ...], bands: tuple[str, ...], name: str) -> Array:
    """Return one number for each band (bands,), in the unit of ``value``."""
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if values.ndim != 1 or len(values) not in (1, len(bands)):
        raise ConfigError(f"{name} has {values.size} numbers", expected=f"one, or {len(bands)}: {', '.join(bands)}")
    return np.broadcast_to(values, len(bands))


def _check_numbers(value: Any, name: str, unit: str) -> None:
    if value is None:
        return
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if not (np.isfinite(values) & (values > 0)).all():
        raise ConfigError(f"{name} is {value!r}", expected=f"positive, {unit}: one, or one for each band; None: none")


@dataclass(frozen=True)
class Observation:
    """How an image is observed without a real sky.

    Attributes
    ----------
    seeing : Seeing, tuple of Seeing, or None
        PSF of all bands, or one for each. None: no blurring.
    pixel_scale : float, arcsec, or None
        Of the detector. None: as the image has it.
    pixels : int or None
        On each side of what is observed, around the centre. None: all.
    electrons : float, tuple of float, or None
        Detected for one nanomaggy, in all bands or each: exposure time times throughput. None: no photon noise.
    sky : float, tuple of float, or None
        Standard deviation of the sky in a pixel, nanomaggies (see `sky_noise`). None: no sky.

    Raises
    ------
    ConfigError
        If a number is not positive.
    """

    seeing: Seeing | tuple[Seeing, ...] | None = None
    pixel_scale: float | None = None
    pixels: int | None = None
    electrons: float | tuple[float, ...] | None = None
    sky: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, unit in (("pixel_scale", "arcsec"), ("pixels", "a number of pixels")):
            _check_numbers(getattr(self, name), name, unit)
        for name, unit in (("electrons", "per nanomaggy"), ("sky", "nanomaggies in a pixel")):
            _check_numbers(getattr(self, name), name, unit)
        for each in self.seeing if isinstance(self.seeing, tuple) else (self.seeing,):
            if each is not None and not isinstance(each, Seeing):
                raise ConfigError(
                    f"seeing is {each!r}", expected="GaussianSeeing, MoffatSeeing or MeasuredSeeing, one or a tuple"
                )

    def seeing_of(self, bands: tuple[str, ...]) -> tuple[Seeing | None, ...]:
        """Return the PSF of each band; raises ConfigError if there are fewer or more of them than bands."""
        if not isinstance(self.seeing, tuple):
            return (self.seeing,) * len(bands)
        if len(self.seeing) != len(bands):
            raise ConfigError(f"there are {len(self.seeing)} PSFs", expected=f"{len(bands)}: {', '.join(bands)}")
        return self.seeing


@dataclass(frozen=True)
class Insertion:
    """How an image is put into a real piece of sky.

    Attributes
    ----------
    pixels : int or None
        On each side of the result. None: as many as the image has on the survey's pixels.
    allowed : int
        Bits of the survey's mask that a place may have. 0: none, as published for HSC mocks.
    edge : float
        Fraction of the sky's smaller side that stays free at its edges (0.1 as published); the result lies wholly
        inside of the sky anyhow.
    clear : float, arcsec
        Distance from the place to the nearest pixel that is not clean, at least.
    electrons : float, tuple of float, or None
        Detected for one nanomaggy: adds the photon noise of the inserted galaxy. None: only what the sky has.

    Raises
    ------
    ConfigError
        If a number is not possible.
    """

    pixels: int | None = None
    allowed: int = 0
    edge: float = 0.1
    clear: float = 0.0
    electrons: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_numbers(self.pixels, "pixels", "a number of pixels")
        _check_numbers(self.electrons, "electrons", "per nanomaggy")
        if not (0 <= self.edge < 0.5 and 0 <= self.clear < np.inf and self.allowed >= 0):
            raise ConfigError(f"impossible insertion: {self}", expected="edge 0 to 0.5, clear and allowed 0 or more")


def sky_noise(depth: float, kernel: Array, sigmas: float = 5.0) -> float:
    """Sky noise of a pixel, nanomaggies, from the depth of a survey for point sources.

    Parameters
    ----------
    depth : float, AB mag
        Of a point source that is detected at ``sigmas`` standard deviations with its PSF as the weight.
    kernel : array (p, q)
        The PSF on the survey's pixels, sum 1, no unit.
    sigmas : float
        Significance at the depth.

    Returns
    -------
    float
        sigma = f / sigmas x sqrt(sum of PSF^2), for noise that is independent from pixel to pixel.
    """
    return float(10.0 ** (-0.4 * (depth - ZERO_POINT)) / sigmas * np.sqrt(np.square(kernel).sum()))


def _blurred(
    raw: Cutout, kernels: Sequence[Array | None], pixel_scale: float, shape: tuple[int, int] | None
) -> tuple[Array, tuple[int, int]]:
    """Bring an image to other pixels, around its centre, and blur it: (bands, *shape), nanomaggies.

    Blurring is done with as much more around the shape as the PSF reaches.
    """
    ratio = pixel_scale / raw.pixel_scale
    rows, columns = shape or (enough(raw.values.shape[1], ratio), enough(raw.values.shape[2], ratio))
    seen = np.empty((len(raw.bands), rows, columns))
    for band, kernel in enumerate(kernels):
        margin = (0, 0) if kernel is None else (kernel.shape[0] // 2, kernel.shape[1] // 2)
        wide = rebin(raw.values[band], raw.pixel_scale, pixel_scale, (rows + 2 * margin[0], columns + 2 * margin[1]))
        full = wide if kernel is None else convolve(wide, kernel)
        seen[band] = full[margin[0] : margin[0] + rows, margin[1] : margin[1] + columns]
    return seen, (rows, columns)


def _stacked(kernels: Sequence[Array | None]) -> Array | None:
    """Kernels in one array (bands, p, q), the small ones in a border of zeros; None if one band has none."""
    known = [kernel for kernel in kernels if kernel is not None]
    if len(known) < len(kernels):
        return None
    sides = tuple(max(kernel.shape[axis] for kernel in known) for axis in (0, 1))
    out = np.zeros((len(known), *sides))
    for place, kernel in zip(out, known, strict=True):
        low = tuple((side - own) // 2 for side, own in zip(sides, kernel.shape, strict=True))
        place[low[0] : low[0] + kernel.shape[0], low[1] : low[1] + kernel.shape[1]] = kernel
    return out


def _photons(values: Array, electrons: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return values (bands, rows, columns) with photon noise, nanomaggies, and its variance."""
    rate = electrons[:, np.newaxis, np.newaxis]
    bright = np.maximum(values, 0.0)
    return values - bright + rng.poisson(bright * rate) / rate, bright / rate


def observe(raw: Cutout, config: Observation, *, seed: int) -> Cutout:
    """Observe an image: pixels of the detector, PSF, photon noise, sky noise, in this order.

    Parameters
    ----------
    raw : Cutout
        Images (bands, rows, columns) without noise, nanomaggies per pixel. They stay as they are.
    config : Observation
        Settings.
    seed : int
        Of the noise.

    Returns
    -------
    Cutout
        With the PSF where each band has one, the variance where there is noise, and the steps in ``meta``. Light that
        the PSF brings beyond the edge is lost; light beyond the edge of ``raw`` is not there to be brought in.

    Raises
    ------
    ConfigError
        If there are not as many PSFs or numbers as bands, or the image holds values that are not finite.
    """
    pixel_scale = raw.pixel_scale if config.pixel_scale is None else config.pixel_scale
    seeing = config.seeing_of(raw.bands)
    kernels = [None if each is None else each.kernel(pixel_scale) for each in seeing]
    values, _ = _blurred(raw, kernels, pixel_scale, None if config.pixels is None else (config.pixels,) * 2)
    steps: list[dict[str, Any]] = []
    if pixel_scale != raw.pixel_scale or config.pixels is not None:
        steps.append({"step": "rebin", "from_arcsec": raw.pixel_scale, "to_arcsec": pixel_scale})
    if any(each is not None for each in seeing):
        steps.append({"step": "psf", "psf": [None if each is None else each.describe() for each in seeing]})
    rng, variance = np.random.default_rng(seed), np.zeros_like(values)
    if config.electrons is not None:
        electrons = _per_band(config.electrons, raw.bands, "electrons")
        values, variance = _photons(values, electrons, rng)
        steps.append({"step": "photon noise", "electrons_per_nanomaggy": electrons.tolist(), "seed": seed})
    if config.sky is not None:
        sky = _per_band(config.sky, raw.bands, "sky")[:, np.newaxis, np.newaxis]
        values, variance = values + sky * rng.standard_normal(values.shape), variance + sky**2
        steps.append({"step": "sky noise", "sigma_nanomaggies": sky.ravel().tolist(), "seed": seed})
    noisy = config.electrons is not None or config.sky is not None
    return raw.after(
        *steps,
        values=values,
        pixel_scale=float(pixel_scale),
        mask=None,
        variance=variance if noisy else None,
        psf=_stacked(kernels),
    )


def insert(raw: Cutout, sky: Cutout, config: Insertion | None = None, *, seed: int) -> Cutout:
    """Put an image into a real piece of sky: its pixels, its PSF, a random clean place (Bottrell+2019, RealSim).

    Parameters
    ----------
    raw : Cutout
        Images (bands, rows, columns) without noise, nanomaggies per pixel. They stay as they are.
    sky : Cutout
        With the bands of ``raw`` (others are left aside) and their PSFs; mask and variance are kept where it has them.
    config : Insertion, optional
        Settings.
    seed : int
        Of the place, and of the photon noise.

    Returns
    -------
    Cutout
        A stamp of the sky with the galaxy in its middle, on the sky's pixels, with its mask, variance and PSF. ``meta``
        says where it was put.

    Raises
    ------
    ConfigError
        If the image holds values that are not finite.
    DataError
        If the sky lacks a band or has no PSF, is smaller than the stamp, or has no clean place.
    """
    config = config or Insertion()
    missing = [band for band in raw.bands if band not in sky.bands]
    if missing or sky.psf is None:
        raise _useless(sky, f"has no image in {', '.join(missing)}" if missing else "has no PSF", "give another piece")
    which = [sky.bands.index(band) for band in raw.bands]
    kernels: list[Array] = [MeasuredSeeing(sky.psf[k], sky.pixel_scale).values for k in which]
    shape = None if config.pixels is None else (config.pixels, config.pixels)
    values, (rows, columns) = _blurred(raw, kernels, sky.pixel_scale, shape)
    rng = np.random.default_rng(seed)
    row, column = _place(sky, which, (rows, columns), config, rng)
    window = (which, slice(row - rows // 2, row - rows // 2 + rows), slice(column - columns // 2, None))
    variance = None if sky.variance is None else sky.variance[window][..., :columns].astype(np.float64)
    photons: Any = None
    if config.electrons is not None:
        electrons = _per_band(config.electrons, raw.bands, "electrons")
        values, extra = _photons(values, electrons, rng)
        variance = None if variance is None else variance + extra
        photons = electrons.tolist()
    step = {
        "step": "insert",
        "sky": sky.name,
        "row": row,
        "column": column,
        "from_arcsec": raw.pixel_scale,
        "to_arcsec": sky.pixel_scale,
        "allowed_bits": config.allowed,
        "edge": config.edge,
        "clear_arcsec": config.clear,
        "electrons_per_nanomaggy": photons,
        "seed": seed,
    }
    return raw.after(
        step,
        values=values + sky.values[window][..., :columns],
        pixel_scale=sky.pixel_scale,
        mask=None if sky.mask is None else sky.mask[window][..., :columns],
        variance=variance,
        psf=np.stack(kernels),
    )


def _place(
    sky: Cutout, which: list[int], shape: tuple[int, int], config: Insertion, rng: np.random.Generator
) -> tuple[int, int]:
    """Choose the row and column of the middle of the stamp: every clean place is as likely as any other."""
    sides = sky.values.shape[1:]
    free = int(np.ceil(config.edge * min(sides)))
    spans = []
    for side, own in zip(sides, shape, strict=True):
        low, high = max(free, own // 2), min(side - free, side - own + own // 2 + 1)
        if low >= high:
            raise _useless(sky, f"of {sides} pixels has no room for {shape}", "ask for fewer pixels, or a smaller edge")
        spans.append(slice(low, high))
    dirty = ~np.isfinite(sky.values[which]).all(axis=0)
    if sky.mask is not None:
        dirty |= ((sky.mask[which] & ~np.int64(config.allowed)) != 0).any(axis=0)
    if config.clear > 0 and dirty.any():
        from scipy.ndimage import distance_transform_edt

        dirty = distance_transform_edt(~dirty) * sky.pixel_scale <= config.clear
    places = np.argwhere(~dirty[spans[0], spans[1]])
    if not len(places):
        raise _useless(
            sky, "has no clean place", "allow bits of its mask that do no harm (such as detections), or a smaller clear"
        )
    row, column = places[rng.integers(len(places))]
    return int(row) + spans[0].start, int(column) + spans[1].start


def _useless(sky: Cutout, what: str, advice: str) -> DataError:
    return DataError(f"the piece of sky {what}", where=sky.name or None, advice=advice)


_HSC_WIDE = {"g": 4.3e-4, "r": 7.0e-4, "i": 8.5e-4, "z": 1.86e-3, "y": 4.2e-3}
"""Sky noise of a pixel, nanomaggies: mean of what two pieces of HSC-SSP Wide (S21A) have where nothing is detected."""


def hsc_wide(bands: Sequence[str], pixels: int | None = None, fwhm: float = 0.6) -> Observation:
    """Return an observation like one of HSC-SSP Wide: pixels of 0.168 arcsec, Gaussian seeing, sky noise.

    Real skies are better (`insert`): in this one the noise of neighbouring pixels is independent, and there is no other
    galaxy. The noise is that of the sky of two released mocks (Bottrell+2024), which differ from each other by a factor
    of 1.8 in g and 1.2 in the others.

    Parameters
    ----------
    bands : sequence of str
        Of HSC.
    pixels : int, optional
        On each side of what is observed.
    fwhm : float, arcsec
        Of the seeing in all bands; 0.6 is the median in i (Aihara+2019).

    Raises
    ------
    ConfigError
        If a band is not one of HSC.
    """
    names = [band.removeprefix("hsc-") for band in bands]
    if not all(band.startswith("hsc-") and name in _HSC_WIDE for band, name in zip(bands, names, strict=True)):
        raise ConfigError(
            f"HSC does not observe {', '.join(bands)}", expected=", ".join(f"hsc-{name}" for name in _HSC_WIDE)
        )
    sky = tuple(_HSC_WIDE[name] for name in names)
    return Observation(GaussianSeeing(fwhm), pixel_scale=0.168, pixels=pixels, sky=sky)
