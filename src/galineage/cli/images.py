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
    from galineage.sources.images import ImageFiles, PictureFolder
    from galineage.store.image_store import ImageStore

__all__ = ["images"]

_MOCKS: dict[str, Any] = {
    "births": None,
    "export": None,
    "fwhm": 0.6,
    "keep": None,
    "mstar_min": 1e10,
    "noise": 1.0,
    "redshift": (0.1,),
    "seed": 0,
    "skies": None,
    "snapshot": None,
    "views": 2,
}
"""Options that say how galaxies of a snapshot are observed, and what they are if not given."""

_PICTURES: dict[str, Any] = {"id": "id", "file": "file"}
_FILES: dict[str, Any] = {"table": None, "mapping": None, "rows": None, "pixel_scale": None, "zero_point": None}
_STRETCH = ("stretch", "fixed")


def images(options: Namespace) -> None:
    """Make images ready for a network, and put them into a store."""
    from galineage.store.image_store import prepare_image_store

    mocks = is_snapshot(Path(options.source)) or bool(options.export)
    _refuse_unfit(options, mocks=mocks)
    for name, value in {**_MOCKS, **_PICTURES}.items():
        setattr(options, name, value if getattr(options, name) is None else getattr(options, name))
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


def _refuse_unfit(options: Namespace, *, mocks: bool) -> None:
    """Refuse options that would change nothing: who gives them expects that they do."""
    every = (*_MOCKS, *_PICTURES, *_FILES, *_STRETCH, "pictures")
    given = [name for name in every if getattr(options, name) is not None]
    unfit = {
        **dict.fromkeys(() if mocks else _MOCKS, "goes with a snapshot, and this is none"),
        **dict.fromkeys((*_PICTURES, *_FILES, "pictures") if mocks else (), "goes with files, and this is a snapshot"),
        **dict.fromkeys(() if mocks or options.pictures else _PICTURES, "goes with --pictures, which is not given"),
        **dict.fromkeys(
            ("fwhm", "noise") if options.skies else (), "and --skies: a real sky has its own seeing and noise"
        ),
        **dict.fromkeys(
            ("zero_point", *_STRETCH) if options.pictures else (), "and --pictures: what they show is no flux"
        ),
    }
    for name in given:
        if name in unfit:
            raise ConfigError(
                f"--{name.replace('_', '-')} {unfit[name]}", where=options.source, advice="leave one of them out"
            )


def _files(options: Namespace) -> tuple[Readable, ImageRecipe, Catalogue | None, str]:
    """Open what a survey gave."""
    from galineage.sources.images import open_images, open_pictures

    domain = options.domain or Path(options.source).resolve().name
    recipe = _recipe(options, picture=options.pictures is not None)
    found: ImageFiles | PictureFolder
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
        return _first(found, options), recipe, _catalogue(options), domain
    said = {name: getattr(options, name) for name in ("pixel_scale", "zero_point")}
    found = open_images(options.source, bands=recipe.bands, **{k: v for k, v in said.items() if v is not None})
    return _first(found, options), recipe, _catalogue(options), domain


def _first(found: ImageFiles | PictureFolder, options: Namespace) -> Readable:
    """Return the first images of some, if no more are wanted."""
    return found.select(range(min(options.limit, len(found)))) if options.limit else found


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
    observation = None
    if options.skies is None:
        seen = hsc_wide(recipe.bands)
        sky = np.ravel(np.asarray(seen.sky, dtype=np.float64)) * options.noise
        observation = replace(seen, seeing=GaussianSeeing(options.fwhm), sky=tuple(sky.tolist()))
    config = MockConfig(
        images=ImageConfig(bands=recipe.bands, half_width=MockConfig().images.half_width),
        redshift=options.redshift[0] if len(options.redshift) == 1 else (min(options.redshift), max(options.redshift)),
        observation=observation,
        views=options.views,
        seed=options.seed,
    )
    skies = None if options.skies is None else open_images(options.skies, bands=recipe.bands, need_psf=True)
    found = SnapshotImages(source, catalogue.ids, config, skies=skies, keep=options.keep)
    # in real skies images have the pixels of the survey, whatever these are
    scale = config.images.pixel_scale if skies is None else None
    return found, replace(recipe, pixel_scale=scale), catalogue, options.domain or source.domain


def _recipe(options: Namespace, *, picture: bool) -> ImageRecipe:
    from galineage.images import ColourStretch, ImageRecipe, LogStretch, PetrosianConfig

    if options.fixed and options.stretch != "colour":
        this = options.stretch or "log"
        raise ConfigError(f"--fixed goes with --stretch colour, and this is {this}", where=options.source)
    colour = ColourStretch(*options.fixed) if options.fixed else ColourStretch()
    how: Any = {"log": LogStretch(), "joint": LogStretch(joint=True), "colour": colour}[options.stretch or "log"]
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
