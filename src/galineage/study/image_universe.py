"""Toy snapshots as mock images: written in the files of TNG and EAGLE, read back, observed, put into one store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError
from galineage.images import ImageRecipe
from galineage.light import MoffatSeeing, Observation, hsc_wide
from galineage.sources.native import Selection
from galineage.store.image_store import ImageStore, prepare_image_store
from galineage.store.mock_images import MockConfig, SnapshotImages
from galineage.study.universe import LEAST_MASS, write_and_open
from galineage.tables import write_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from galineage.galaxy import Catalogue
    from galineage.study.universe import Box

__all__ = ["STORE", "SURVEY", "make_image_universe", "noisy_survey"]

SURVEY = "survey"
"""What the domain is called that stands in the place of a survey."""

STORE = "images"
"""Folder of the store of images."""


def noisy_survey(bands: Sequence[str], *, fwhm: float = 0.9, noise: float = 2.0) -> Observation:
    """Return an observation worse than HSC's: seeing with wings, and a brighter sky.

    Parameters
    ----------
    bands : sequence of str
        Of HSC.
    fwhm : float, arcsec
        Of a Moffat function with beta 3.
    noise : float
        Sky noise, in that of `galineage.light.hsc_wide`.

    Raises
    ------
    ConfigError
        If a band is not one of HSC, or a number is not positive.
    """
    clean = hsc_wide(bands)
    sky = np.ravel(np.asarray(clean.sky, dtype=np.float64)) * noise
    return replace(clean, seeing=MoffatSeeing(fwhm, 3.0), sky=tuple(sky.tolist()))


def make_image_universe(
    boxes: Sequence[Box],
    folder: Path,
    *,
    views: int = 2,
    pixels: int = 64,
    redshift: float | tuple[float, float] = 0.1,
    survey: str | None = "toy-c",
    mocks: MockConfig | None = None,
    workers: int = 2,
    executor: Executor | None = None,
    say: Callable[[str], None] = print,
) -> ImageStore:
    """Write boxes of toy galaxies, and observe them; what is done is not done again.

    Parameters
    ----------
    boxes : sequence of Box
        One for each suite.
    folder : Path
        Boxes go into folders called ``SUITE-LAYOUT``, images into the store ``images``, and what is known of the
        galaxies into tables ``DOMAIN.ecsv`` (mapping ``galineage``).
    views : int
        Of each galaxy.
    pixels : int
        On each side of an image.
    redshift : float or (float, float)
        At which galaxies are seen: one, or a range from which each draws its own.
    survey : str, optional
        The suite of which every other galaxy is observed by a worse telescope (`noisy_survey`) and belongs to the
        domain ``survey``; the others stay held out under its name, seen as the other suites are. None: no survey.
    mocks : MockConfig, optional
        Settings of the mocks; views, redshift and seed are replaced.
    workers : int
        Threads, where no executor is given.
    executor : Executor, optional
        Who makes the images.
    say : callable
        Gets lines of progress.

    Returns
    -------
    ImageStore
        Domains are the suites and ``survey``; each galaxy knows its truth, those of the survey too.

    Raises
    ------
    ConfigError
        If two boxes are of one suite.
    """
    if len({box.suite for box in boxes}) < len(boxes):
        raise ConfigError("two boxes are of one suite", expected="each suite once")
    base = mocks or MockConfig()
    recipe = ImageRecipe(base.images.bands, pixels=pixels, pixel_scale=base.images.pixel_scale)
    store = folder / STORE
    for box in boxes:
        source = write_and_open(box, folder, say)
        config = replace(base, views=views, redshift=redshift, seed=box.seed)
        catalogue = source.catalogue(Selection(mstar_min=LEAST_MASS))
        for domain, part, seen in _parts(box.suite, catalogue, config, survey):
            say(f"observing {len(part)} galaxies of {source.name} as {domain}, {views} views each -> {store}")
            images = SnapshotImages(source, part.ids, seen)
            made = prepare_image_store(
                images, store, recipe, domain=domain, catalogue=part, workers=workers, executor=executor, per_shard=128
            )
            write_catalogue(made.galaxies(domain), folder / f"{domain}.ecsv")
    return ImageStore(store)


def _parts(
    suite: str, catalogue: Catalogue, config: MockConfig, survey: str | None
) -> Iterator[tuple[str, Catalogue, MockConfig]]:
    """Yield domains, their galaxies, and how they are observed."""
    if suite != survey:
        yield suite, catalogue, config
        return
    rows = np.arange(len(catalogue))
    yield suite, catalogue.select(rows[::2]), config
    yield SURVEY, catalogue.select(rows[1::2]), replace(config, observation=noisy_survey(config.images.bands))
