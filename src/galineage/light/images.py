"""Images of a galaxy's stars as a telescope without atmosphere, noise and neighbours would see them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from galineage.cosmology import TNG
from galineage.cutouts import Cutout
from galineage.errors import ConfigError
from galineage.light.distances import astropy_cosmology, describe_cosmology, kpc_per_arcsec
from galineage.light.starlight import Photometry, starlight
from galineage.light.table import check_bands
from galineage.views import Adaptive, MapConfig, make_maps
from galineage.views.smoothing import neighbour_radius

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from galineage.light.dust import TwoScreens
    from galineage.stars import Galaxy
    from galineage.views import View

__all__ = ["ImageConfig", "make_images"]

_AT_ONCE = 4
_LARGEST = 2048


@dataclass(frozen=True)
class ImageConfig:
    """How images are made; the defaults are HSC's g, r and i.

    Attributes
    ----------
    bands : tuple of str
        Of `galineage.light.BANDS`.
    redshift : float or None
        At which the galaxy is observed; above 0. None: that of its snapshot. Its stars keep their ages.
    pixel_scale : float, arcsec
        Side of a pixel; 0.168 is HSC's.
    pixels : int or None
        On each side. None: as many as ``half_width`` takes.
    half_width : float, r_half
        From the centre to the edge, at least, where ``pixels`` is None.
    smoothing : Adaptive or None
        Adaptive smoothing of the stars. Pixels must be divisible by 2^levels; None rounds nothing.
    dust : TwoScreens or None
        None: no dust.
    photometry : {"auto", "table"}
        See `galineage.light.starlight`.
    cosmology : Cosmology or cosmology of astropy
        For distances.

    Raises
    ------
    ConfigError
        If a band, number or word is not possible.
    """

    bands: tuple[str, ...] = ("hsc-g", "hsc-r", "hsc-i")
    redshift: float | None = None
    pixel_scale: float = 0.168
    pixels: int | None = None
    half_width: float = 10.0
    smoothing: Adaptive | None = field(default_factory=Adaptive)
    dust: TwoScreens | None = None
    photometry: Photometry = "auto"
    cosmology: Any = TNG

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", check_bands(self.bands))
        for name in ("pixel_scale", "half_width"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigError(f"{name} of images is {getattr(self, name)!r}", expected="a positive number")
        if self.redshift is not None and not 0 < self.redshift <= 1:
            raise ConfigError(f"galaxies are to be seen at redshift {self.redshift!r}", expected="above 0, up to 1")
        if self.photometry not in get_args(Photometry):
            raise ConfigError(f"photometry is {self.photometry!r}", expected="auto or table")
        if self.pixels is not None:
            self._check_pixels(self.pixels)
        astropy_cosmology(self.cosmology)

    def _check_pixels(self, pixels: int) -> None:
        step = self._step
        if not 1 <= pixels <= _LARGEST or pixels % step:
            raise ConfigError(
                f"images of {pixels} pixels on a side",
                expected=f"a multiple of {step}, at most {_LARGEST}",
                advice="take larger pixels, a smaller half_width, or fewer levels of smoothing",
            )

    @property
    def _step(self) -> int:
        return 1 if self.smoothing is None else 2**self.smoothing.levels

    def side(self, r_half: float, redshift: float) -> int:
        """Pixels on a side of the image of a galaxy with a half-mass radius in kpc.

        Raises
        ------
        ConfigError
            If there are more than 2048.
        """
        if self.pixels is not None:
            return self.pixels
        wanted = 2 * self.half_width * r_half / (self.pixel_scale * kpc_per_arcsec(redshift, self.cosmology))
        side = max(int(np.ceil(wanted / self._step)), 1) * self._step
        self._check_pixels(side)
        return side

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {
            "bands": list(self.bands),
            "redshift": self.redshift,
            "pixel_scale_arcsec": self.pixel_scale,
            "pixels": self.pixels,
            "half_width_r_half": self.half_width,
            "smoothing": None if self.smoothing is None else self.smoothing.describe(),
            "dust": None if self.dust is None else self.dust.describe(),
            "photometry": self.photometry,
            "cosmology": describe_cosmology(self.cosmology),
        }


def make_images(
    galaxy: Galaxy, views: Sequence[View], config: ImageConfig | None = None, *, warn: bool = True
) -> tuple[Cutout, ...]:
    """Make the images of a galaxy from several views, without PSF and noise.

    The light of the stars is summed in pixels, each band by itself; dust does not know where a star is, so an image has
    no dust lanes. What lies in front and behind is all there.

    Parameters
    ----------
    galaxy : Galaxy
        Stars with age, metallicity, and initial mass or photometry.
    views : sequence of View
        At least one.
    config : ImageConfig, optional
        Settings.
    warn : bool
        Say it if stars lie outside of the table of populations; ``meta["light"]`` counts them anyhow.

    Returns
    -------
    tuple of Cutout, one per view
        Images (bands, s, s) of float32, nanomaggies per pixel. ``meta`` holds the galaxy, the view, the settings, the
        size of a pixel in kpc, and the magnitudes of all stars together, in the field or not.

    Raises
    ------
    ConfigError
        If the redshift is 0 and none is given, or the image would be too large.
    DataError
        If the galaxy has no stars, or these lack what it takes to give light.
    """
    config = config or ImageConfig()
    redshift = galaxy.redshift if config.redshift is None else config.redshift
    scale = kpc_per_arcsec(redshift, config.cosmology)
    side = config.side(galaxy.r_half, redshift)
    light = starlight(
        galaxy.stars,
        config.bands,
        redshift,
        cosmology=config.cosmology,
        dust=config.dust,
        photometry=config.photometry,
        warn=warn,
    )
    pixel = config.pixel_scale * scale
    maps = MapConfig(pixels=side, half_width=side * pixel / (2 * galaxy.r_half), smoothing=config.smoothing)
    smooth = _smoothed(galaxy, config)
    images = np.empty((len(views), len(config.bands), side, side), np.float32)
    for start in range(0, len(config.bands), _AT_ONCE):
        some = config.bands[start : start + _AT_ONCE]
        found = make_maps(smooth, views, maps, light=dict(zip(some, light.flux[start:], strict=False)))
        for place, band in enumerate(some):
            images[:, start + place] = found[f"light {band}"]
    about = {
        "galaxy": galaxy.id,
        "domain": galaxy.domain,
        "kpc_per_pixel": pixel,
        "r_half_kpc": galaxy.r_half,
        "light": {**light.describe(), "magnitudes": [float(each) for each in light.magnitudes]},
        "settings": config.describe(),
    }
    return tuple(_cutout(image, view, redshift, config, about) for image, view in zip(images, views, strict=True))


def _smoothed(galaxy: Galaxy, config: ImageConfig) -> Galaxy:
    """Return the galaxy with smoothing lengths where they are needed, so that they are searched for once."""
    stars = galaxy.stars
    if config.smoothing is None or stars.smoothing is not None or not len(stars):
        return galaxy
    radius = neighbour_radius(stars.position, config.smoothing.neighbours)
    return replace(galaxy, stars=replace(stars, smoothing=radius))


def _cutout(
    image: NDArray[np.float32], view: View, redshift: float, config: ImageConfig, about: dict[str, Any]
) -> Cutout:
    step = {"step": "stars", "smoothing": about["settings"]["smoothing"], "dust": about["settings"]["dust"]}
    camera = {"name": view.name, "matrix": view.matrix.tolist()}
    return Cutout(
        values=image,
        bands=config.bands,
        pixel_scale=config.pixel_scale,
        redshift=redshift,
        name=f"{about['domain']} {about['galaxy']}",
        meta={**about, "view": camera, "steps": [step]},
    )
