"""Many images made ready for a network: size measured, cropped, resized, stretched; failures told apart."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from galineage.errors import ConfigError, GalineageError, MissingDependencyError
from galineage.galaxy import Skip
from galineage.images.crop import Resampling, crop_cutout, resize
from galineage.images.petrosian import Petrosian, PetrosianConfig, measure_petrosian
from galineage.images.stretch import LogStretch, Stretch, stretch_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from galineage.cutouts import Cutout

__all__ = ["ImageRecipe", "PreparedImages", "Readable", "prepare_images"]

CHUNK = 32
"""Images that one worker takes at a time."""


class Readable(Protocol):
    """Images by row, as `galineage.sources.images` opens them."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Identifiers of the galaxies, by row."""

    def __len__(self) -> int:
        """Return the number of images."""

    def read(self, row: int) -> Cutout:
        """Return the cutout (bands, rows, columns) of a row, in nanomaggies; errors of galineage are skips."""


@dataclass(frozen=True)
class ImageRecipe:
    """What is done to every image, and what it must be; stored with the images and the models trained on them.

    Attributes
    ----------
    bands : tuple of str
        Wanted, in the order of the channels.
    pixels : int
        On a side: 128 or 256 as published.
    times : float
        Side of the crop in R90.
    around : str
        ``image``: the crop is in the middle of the image, as published; ``galaxy``: around the measured centre.
    pixel_scale : float, arcsec, or None
        Of the images, within 1 %; others are skipped. None: any.
    petrosian : PetrosianConfig
        How sizes are measured.
    resampling : str
        As `galineage.images.resize`.
    stretch : LogStretch, ColourStretch or None
        None: pictures, which are stretched already (their values are kept).

    Raises
    ------
    ConfigError
        If a setting is not possible.
    """

    bands: tuple[str, ...]
    pixels: int = 128
    times: float = 4.0
    around: Literal["image", "galaxy"] = "image"
    pixel_scale: float | None = None
    petrosian: PetrosianConfig = field(default_factory=PetrosianConfig)
    resampling: Resampling = "bilinear"
    stretch: Stretch | None = field(default_factory=LogStretch)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(self.bands))
        if not self.bands or len(set(self.bands)) < len(self.bands):
            raise ConfigError(f"bands are {self.bands}", expected="one or more, each once")
        if not (4 <= self.pixels <= 4096 and 0 < self.times < np.inf and self.around in ("image", "galaxy")):
            raise ConfigError(
                f"impossible recipe: {self}", expected="4 to 4096 pixels, a positive crop, image or galaxy"
            )

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        kind = type(self.stretch).__name__ if self.stretch else None
        return {**dataclasses.asdict(self), "bands": list(self.bands), "stretch_kind": kind}


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Images that are ready, and what became of the others.

    Attributes
    ----------
    values : array (n, bands, pixels, pixels) of float32
        In [0, 1], no unit, no NaN.
    rows : array (n,) of int
        Rows of the input.
    ids : tuple of str
        Identifiers of those rows.
    sizes : mapping of str to array (n,)
        Numbers of `Petrosian` by name, in its units; ``pixels`` on a side of the crop, and ``full``: 1 where the crop
        would have been larger than the image.
    magnitudes : array (n, bands), AB mag
        Of all pixels of the crop; NaN where they are not positive together.
    redshift : array (n,)
        No unit; NaN where not known.
    skipped : tuple of Skip
        The others, each with its reason.
    recipe : mapping
        `ImageRecipe.describe`.
    facts : tuple of mapping
        What the source of each image knows of its galaxy, in JSON types: ``facts`` of the cutout's ``meta``.
    """

    values: NDArray[np.float32]
    rows: NDArray[np.int64]
    ids: tuple[str, ...]
    sizes: Mapping[str, NDArray[np.float64]]
    magnitudes: NDArray[np.float64]
    redshift: NDArray[np.float64]
    skipped: tuple[Skip, ...]
    recipe: Mapping[str, Any]
    facts: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        """Return the number of images that are ready."""
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class _One:
    values: NDArray[np.float64]
    size: Petrosian
    magnitudes: NDArray[np.float64]
    redshift: float
    pixels: int
    full: bool
    facts: Mapping[str, Any]


def prepare_images(
    images: Readable,
    recipe: ImageRecipe,
    *,
    executor: Executor | None = None,
    tick: Callable[[int], None] | None = None,
) -> PreparedImages:
    """Make images ready for a network.

    Parameters
    ----------
    images : Readable
        Of `galineage.sources.images.open_images` or `open_pictures`, or anything with ``ids`` and ``read``.
    recipe : ImageRecipe
        What is done.
    executor : Executor, optional
        Threads or processes; the answer does not depend on it.
    tick : callable, optional
        Called with the number of images done since the last call.

    Returns
    -------
    PreparedImages
        An image that cannot be read, is not as the recipe wants it, has no size, or no contrast is in ``skipped``.
    """
    starts = range(0, len(images), CHUNK)
    jobs = [(images, recipe, range(start, min(start + CHUNK, len(images)))) for start in starts]
    done, skipped = [], []
    for part in (executor.map if executor else map)(_chunk, jobs):
        done += part[0]
        skipped += part[1]
        if tick:
            tick(len(part[0]) + len(part[1]))
    return _gathered(images, recipe, done, skipped)


def _chunk(
    job: tuple[Readable, ImageRecipe, range],
) -> tuple[list[tuple[int, _One, NDArray[np.float32]]], list[Skip]]:
    """Prepare some rows; images are stretched together."""
    images, recipe, rows = job
    found: list[tuple[int, _One]] = []
    skipped = []
    for row in rows:
        one = _one(images, row, recipe)
        if isinstance(one, Skip):
            skipped.append(one)
        else:
            found.append((row, one))
    if not found:
        return [], skipped
    stack = np.stack([one.values for _, one in found])
    shown, reasons = (
        (stack.astype(np.float32), [""] * len(found)) if recipe.stretch is None else stretch_all(stack, recipe.stretch)
    )
    done = []
    for (row, one), image, reason in zip(found, shown, reasons, strict=True):
        if reason:
            skipped.append(Skip(row, images.ids[row], "stretch", "", reason))
        else:
            done.append((row, one, image))
    return done, sorted(skipped, key=lambda skip: skip.row)


def _one(images: Readable, row: int, recipe: ImageRecipe) -> _One | Skip:
    """Read, measure, crop and resize one image, or say why not."""
    from galineage.sources.images.checks import check_cutout

    name = images.ids[row]
    try:
        cutout = images.read(row)
        check_cutout(cutout, pixel_scale=recipe.pixel_scale)
        missing = [band for band in recipe.bands if band not in cutout.bands]
        if missing:
            return Skip(row, name, "bands", ", ".join(cutout.bands), f"there is no image in {', '.join(missing)}")
        if recipe.stretch is not None and cutout.meta.get("picture"):
            return Skip(row, name, "image", cutout.name, "a picture is stretched already: ImageRecipe(stretch=None)")
        size = measure_petrosian(cutout, recipe.petrosian)
    except MissingDependencyError:
        raise  # that is no image's fault
    except GalineageError as error:
        return Skip(row, name, "image", "", error.what)
    if not size.ok:
        return Skip(row, name, "r90", "nan", size.reason)
    centre = None if recipe.around == "image" else (size.row, size.column)
    crop = crop_cutout(cutout, recipe.times * size.r90, centre)
    which = [crop.bands.index(band) for band in recipe.bands]
    values = resize(crop.values[which], recipe.pixels, recipe.resampling)
    if recipe.stretch is None and not np.isfinite(values).all():
        return Skip(row, name, "image", "nan", "the picture holds values that are not finite")
    return _One(
        values=values,
        size=size,
        magnitudes=crop.magnitudes[which],
        redshift=np.nan if crop.redshift is None else crop.redshift,
        pixels=crop.values.shape[-1],
        full=bool(crop.meta["steps"][-1]["full"]),
        facts=crop.meta.get("facts", {}),
    )


def _gathered(
    images: Readable,
    recipe: ImageRecipe,
    done: list[tuple[int, _One, NDArray[np.float32]]],
    skipped: list[Skip],
) -> PreparedImages:
    shape = (len(recipe.bands), recipe.pixels, recipe.pixels)
    each = [one for _, one, _ in done]
    sizes = {name: np.array([one.size.numbers()[name] for one in each]) for name in Petrosian().numbers()}
    sizes["pixels"] = np.array([float(one.pixels) for one in each])
    sizes["full"] = np.array([float(one.full) for one in each])
    return PreparedImages(
        values=np.stack([image for *_, image in done]) if done else np.zeros((0, *shape), dtype=np.float32),
        rows=np.array([row for row, *_ in done], dtype=np.int64),
        ids=tuple(images.ids[row] for row, *_ in done),
        sizes=MappingProxyType(sizes),
        magnitudes=np.stack([one.magnitudes for one in each]) if each else np.zeros((0, len(recipe.bands))),
        redshift=np.array([one.redshift for one in each]),
        skipped=tuple(skipped),
        recipe=MappingProxyType(recipe.describe()),
        facts=tuple(one.facts for one in each),
    )
