"""The command that makes stores of images: of a survey's files, of pictures, or of a snapshot's galaxies."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.cli.particles import is_snapshot, traced
from galineage.cli.scheduler import executor_of
from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from argparse import Namespace

    from galineage.galaxy import Catalogue
    from galineage.images import ImageRecipe
    from galineage.images.preparing import Readable
    from galineage.store.image_store import ImageStore

__all__ = ["images"]

_OF_SNAPSHOTS = ("births", "export", "keep", "skies", "snapshot")


def images(options: Namespace) -> None:
    """Make images ready for a network, and put them into a store."""
    from galineage.store.image_store import prepare_image_store

    mocks = is_snapshot(Path(options.source)) or bool(options.export)
    if not mocks and (given := [name for name in _OF_SNAPSHOTS if getattr(options, name) is not None]):
        raise ConfigError(f"--{given[0]} goes with a snapshot, and this is none", where=options.source)
    found, recipe, catalogue, domain = _mocks(options) if mocks else _files(options)
    print(f"{len(found)} images of {domain}", flush=True)
    with executor_of(options.scheduler) as executor:
        store = prepare_image_store(
            found,
            options.out,
            recipe,
            domain=domain,
            catalogue=catalogue,
            executor=executor,
            workers=options.workers or 2,
        )
    _tell(store, domain, Path(options.out))


def _files(options: Namespace) -> tuple[Readable, ImageRecipe, Catalogue | None, str]:
    """Open what a survey gave."""
    from galineage.sources.images import open_images, open_pictures

    domain = options.domain or Path(options.source).resolve().name
    recipe = _recipe(options, picture=options.pictures is not None)
    found: Readable
    if options.pictures:
        if options.pixel_scale is None or len(recipe.bands) != 3:
            raise ConfigError("pictures need --pixel-scale, and three --bands, blue first", where=options.source)
        blue, green, red = recipe.bands
        found = open_pictures(
            options.source,
            table=options.pictures,
            bands=(red, green, blue),
            pixel_scale=options.pixel_scale,
            id=options.id,
            file=options.file,
        )
        return found, recipe, _catalogue(options), domain
    said = {name: getattr(options, name) for name in ("pixel_scale", "zero_point")}
    found = open_images(options.source, bands=recipe.bands, **{k: v for k, v in said.items() if v is not None})
    return found, recipe, _catalogue(options), domain


def _mocks(options: Namespace) -> tuple[Readable, ImageRecipe, Catalogue | None, str]:
    """Open a snapshot whose galaxies are to be observed."""
    import numpy as np

    from galineage.light import GaussianSeeing, ImageConfig, hsc_wide
    from galineage.sources.images import open_images
    from galineage.sources.native import Selection
    from galineage.store.mock_images import MockConfig, SnapshotImages

    if len(options.redshift) > 2:
        raise ConfigError(f"--redshift has {len(options.redshift)} numbers", expected="one, or the ends of a range")
    source = traced(options.source, options)
    catalogue = source.catalogue(Selection(mstar_min=options.mstar_min))
    if options.limit:
        catalogue = catalogue.select(np.arange(min(options.limit, len(catalogue))))
    recipe = _recipe(options, picture=False)
    seen = hsc_wide(recipe.bands)
    sky = np.ravel(np.asarray(seen.sky, dtype=np.float64)) * options.noise
    config = MockConfig(
        images=ImageConfig(bands=recipe.bands, half_width=MockConfig().images.half_width),
        redshift=options.redshift[0] if len(options.redshift) == 1 else (min(options.redshift), max(options.redshift)),
        observation=replace(seen, seeing=GaussianSeeing(options.fwhm), sky=tuple(sky.tolist())),
        views=options.views,
        seed=options.seed,
    )
    skies = None if options.skies is None else open_images(options.skies, bands=recipe.bands, need_psf=True)
    found = SnapshotImages(source, catalogue.ids, config, skies=skies, keep=options.keep)
    return found, replace(recipe, pixel_scale=config.images.pixel_scale), catalogue, options.domain or source.domain


def _recipe(options: Namespace, *, picture: bool) -> ImageRecipe:
    from galineage.images import ColourStretch, ImageRecipe, LogStretch, PetrosianConfig

    how: Any = {"log": LogStretch(), "joint": LogStretch(joint=True), "colour": ColourStretch()}[options.stretch]
    return ImageRecipe(
        options.bands,
        pixels=options.pixels,
        pixel_scale=options.pixel_scale,
        petrosian=PetrosianConfig(subtract_sky=picture),
        stretch=None if picture else how,
    )


def _catalogue(options: Namespace) -> Catalogue | None:
    """Read the table of what is known of the galaxies."""
    from galineage.sources import open_source

    if options.table is None:
        if options.mapping or options.rows:
            raise ConfigError("--mapping and --rows say how to read --table, which is not given")
        return None
    return open_source(options.table, options.mapping).read(options.rows, keep_missing=True)


def _tell(store: ImageStore, domain: str, out: Path) -> None:
    from galineage.cli.particles import write_skipped
    from galineage.tables import write_catalogue

    mine = [row for row in store.rows if row["domain"] == domain]
    print(f"{len(mine)} images of {len({row['id'] for row in mine})} galaxies of {domain} in {out}")
    if mine:
        table = out / (re.sub(r"[^A-Za-z0-9_.-]", "_", domain) + ".ecsv")
        try:
            write_catalogue(store.galaxies(domain), table)
            print(f"what was measured on them, and the truth where it is known: {table}")
        except DataError as error:  # the images are there all the same
            print(f"note: no table of galaxies was written: {error}")
    if store.skipped:
        path = out / "skipped.ecsv"
        write_skipped(store.skipped, path)
        print(f"{len(store.skipped)} images were skipped; each with its reason in {path}")
        for (name, reason), count in Counter((one["field"], one["reason"]) for one in store.skipped).most_common(5):
            print(f"  {count} x {name}: {reason}")
    print(f"look at them:  galineage inspect {out} --figure images.png")
