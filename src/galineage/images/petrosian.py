"""Petrosian sizes of galaxies, measured alike on mocks and on survey images."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cutouts import ZERO_POINT
from galineage.errors import ConfigError
from galineage.images.detection import CentralSource, find_central, sky_level
from galineage.images.growth import grow, petrosian_radius

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.cutouts import Cutout

    Array = NDArray[np.float64]

__all__ = ["Petrosian", "PetrosianConfig", "measure_petrosian"]


@dataclass(frozen=True)
class PetrosianConfig:
    """How sizes are measured; the same for every sample that is compared.

    Attributes
    ----------
    band : str or None
        Of the measurement. None: the band whose name ends with ``r``, or the only one.
    eta : float
        Local surface brightness over the mean inside, at the Petrosian radius (SDSS: 0.2).
    aperture : float
        Radius that is taken to hold all light, in Petrosian radii (SDSS: 2).
    elliptical : bool
        Ellipses of the galaxy's shape, radii along the major axis; or circles.
    sigmas, connected, kernel
        Threshold of detection in standard deviations, pixels above it, and smoothing (FWHM, pixels) before: 3, 16 and
        3 as published.
    contrast : float or None
        Part of the flux that makes a peak a neighbour. None: neighbours that touch the galaxy stay in.
    reach : float
        Of the source from the image's middle, in parts of the smaller side.
    bad_bits : int
        Bits of the mask that make a pixel unusable.
    subtract_sky : bool
        Take the median of what no source covers off. Surveys have done so already.
    most_unseen : float
        Part of the aperture without usable pixels, at most.

    Raises
    ------
    ConfigError
        If a number is not possible.
    """

    band: str | None = None
    eta: float = 0.2
    aperture: float = 2.0
    elliptical: bool = True
    sigmas: float = 3.0
    connected: int = 16
    kernel: float = 3.0
    contrast: float | None = 0.01
    reach: float = 0.1
    bad_bits: int = 0
    subtract_sky: bool = False
    most_unseen: float = 0.5

    def __post_init__(self) -> None:
        parts = all(0 < value < 1 for value in (self.eta, self.reach))
        sizes = all(0 < value < np.inf for value in (self.aperture, self.sigmas, self.kernel, self.connected))
        if not (parts and sizes and 0 <= self.most_unseen <= 1 and self.bad_bits >= 0):
            raise ConfigError(f"impossible settings: {self}", expected="positive numbers; eta and reach below 1")
        if self.contrast is not None and not 0 <= self.contrast <= 1:
            raise ConfigError(f"contrast is {self.contrast}", expected="0 to 1, or None")


@dataclass(frozen=True)
class Petrosian:
    """Sizes of one galaxy. All numbers are NaN if ``reason`` says why there are none.

    Attributes
    ----------
    r_petro, r50, r90 : float, arcsec
        Petrosian radius, and the radii that hold 50 % and 90 % of the flux within ``aperture`` Petrosian radii:
        semi-major axes. The PSF is in them.
    flux : float, nanomaggies
        In the band, within that aperture.
    row, column : float
        Centre, in pixels from the middle of the first one.
    axis_ratio, angle : float
        Minor over major axis; degrees of the major one from the columns' direction towards the rows'.
    unseen : float
        Part of the aperture, in [0, 1], that was masked, covered by neighbours, or outside of the image.
    noise : float, nanomaggies
        Standard deviation of a sky pixel.
    pixel_scale : float, arcsec
        Of the image.
    reason : str
        Why it failed; empty if it did not.
    """

    r_petro: float = np.nan
    r50: float = np.nan
    r90: float = np.nan
    flux: float = np.nan
    row: float = np.nan
    column: float = np.nan
    axis_ratio: float = np.nan
    angle: float = np.nan
    unseen: float = np.nan
    noise: float = np.nan
    pixel_scale: float = np.nan
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was measured."""
        return not self.reason

    @property
    def magnitude(self) -> float:
        """AB magnitude within the aperture; NaN if the flux is not positive."""
        return float(ZERO_POINT - 2.5 * np.log10(self.flux)) if self.flux > 0 else float("nan")

    @property
    def concentration(self) -> float:
        """R90 over R50, a pure number."""
        return self.r90 / self.r50

    def numbers(self) -> dict[str, float]:
        """All numbers by name, in the units above."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "reason"}


def measure_petrosian(cutout: Cutout, config: PetrosianConfig | None = None) -> Petrosian:
    """Measure the galaxy in the middle of a cutout.

    The local surface brightness at a radius over the mean inside of it is eta(r); the Petrosian radius is where it
    falls to 0.2, and the flux within twice that is the Petrosian flux (Petrosian 1976; Blanton+2001; Graham & Driver
    2005 for the definition by the local brightness that is used here). Apertures are exact (photutils); pixels of
    neighbours, and unusable ones, are taken to be as bright as the rest of their ring.

    Parameters
    ----------
    cutout : Cutout
        Values (bands, rows, columns) in nanomaggies. NaN, and pixels with one of ``bad_bits``, are not used.
    config : PetrosianConfig, optional
        Settings.

    Returns
    -------
    Petrosian
        For a bad image, one whose ``reason`` says what is wrong: ``no finite pixel``, ``flat image``, ``masked
        centre``, ``no source at the centre``, ``radius beyond the image``, ``aperture beyond the image``, ``no flux``.

    Raises
    ------
    ConfigError
        If the cutout does not have the band.
    """
    config = config or PetrosianConfig()
    band = _band(cutout, config.band)
    image = np.asarray(cutout.values[band], dtype=np.float64)
    valid = np.isfinite(image)
    if cutout.mask is not None and config.bad_bits:
        valid &= (cutout.mask[band] & config.bad_bits) == 0
    reason = _unusable(image, valid)
    if reason:
        return Petrosian(reason=reason)
    # a galaxy may be as faint as it likes: numbers near 1 keep squares from vanishing
    unit = float(np.abs(image[valid]).max())
    image = np.where(valid, image / unit, 0.0)
    source = find_central(
        image,
        valid,
        sigmas=config.sigmas,
        connected=config.connected,
        kernel=config.kernel,
        contrast=config.contrast,
        reach=config.reach * min(image.shape),
    )
    if isinstance(source, str):
        return Petrosian(reason=source)
    return _measured(image, valid, source, config, unit, cutout.pixel_scale)


def _band(cutout: Cutout, wanted: str | None) -> int:
    if wanted is None:
        fitting = [band for band in cutout.bands if band.rpartition("-")[2] == "r"]
        wanted = (fitting or list(cutout.bands))[0] if fitting or len(cutout.bands) == 1 else None
    if wanted not in cutout.bands:
        raise ConfigError(
            f"there is no band {wanted!r} to measure in" if wanted else "there is no band r to measure in",
            where=cutout.name or None,
            expected="one of " + ", ".join(cutout.bands),
            advice="name it: PetrosianConfig(band=...)",
        )
    return cutout.bands.index(wanted)


def _unusable(image: Array, valid: NDArray[np.bool_]) -> str:
    if not valid.any():
        return "no finite pixel"
    if image[valid].min() == image[valid].max():
        return "flat image"
    row, column = (side // 2 for side in image.shape)
    middle = valid[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2]
    return "" if middle.any() else "masked centre"


def _measured(
    image: Array,
    valid: NDArray[np.bool_],
    source: CentralSource,
    config: PetrosianConfig,
    unit: float,
    pixel_scale: float,
) -> Petrosian:
    """Sizes on an image (rows, columns) in units of ``unit`` nanomaggies."""
    sky, noise = sky_level(image, valid & ~source.own & ~source.others) if _room(valid, source) else (0.0, 0.0)
    if not config.elliptical:
        source = CentralSource(source.row, source.column, 1.0, 0.0, source.own, source.others)
    usable = valid & ~source.others
    if not usable[_near(source, image.shape)]:
        return Petrosian(reason="masked centre")
    level = sky if config.subtract_sky else 0.0
    growth = grow(image - level, usable, source, eta=config.eta, reach=config.aperture)
    radius = petrosian_radius(growth, config.eta)
    if not np.isfinite(radius):
        return Petrosian(reason="radius beyond the image")
    aperture = config.aperture * radius
    unseen = growth.unseen(aperture)
    if unseen > config.most_unseen:
        return Petrosian(reason="aperture beyond the image")
    flux = growth.inside(aperture)
    half, most = growth.radius_of(0.5 * flux), growth.radius_of(0.9 * flux)
    if not (flux > 0 and 0 < half < most):
        return Petrosian(reason="no flux")
    return Petrosian(
        r_petro=radius * pixel_scale,
        r50=half * pixel_scale,
        r90=most * pixel_scale,
        flux=flux * unit,
        row=source.row,
        column=source.column,
        axis_ratio=source.axis_ratio,
        angle=source.angle,
        unseen=unseen,
        noise=noise * unit,
        pixel_scale=pixel_scale,
    )


def _room(valid: NDArray[np.bool_], source: CentralSource) -> bool:
    return int((valid & ~source.own & ~source.others).sum()) > 50


def _near(source: CentralSource, shape: Any) -> tuple[int, int]:
    return (
        int(np.clip(round(source.row), 0, shape[0] - 1)),
        int(np.clip(round(source.column), 0, shape[1] - 1)),
    )
