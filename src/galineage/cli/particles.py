"""Commands that read star particles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.cli.scheduler import executor_of
from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from argparse import Namespace

    from galineage.history import TracedEagle
    from galineage.sources.native import EagleSource, TngSource
    from galineage.stars import Galaxy
    from galineage.store.map_store import MapStore
    from galineage.store.settings import StoreConfig

__all__ = ["draw_galaxy", "is_snapshot", "prepare", "traced", "write_box", "write_skipped"]


def write_box(options: Namespace) -> None:
    """Write toy galaxies with their stars in the file layout of a simulation."""
    from galineage.toy import write_eagle_box, write_tng_box

    work = write_tng_box if options.box == "tng" else write_eagle_box
    path = Path(work(options.out, options.suite, options.n, options.seed, options.stars, progress=True))
    print(f"{options.n} galaxies of {options.suite} with their stars in {path}")
    where, births = str(path), ""
    if options.box == "eagle":
        where = f"{next(path.glob('snapshot_*'))} --export {next(path.glob('*_SubHalo.csv'))}"
        births = f" --births {next(path.glob('star_birth_*.hdf5'))}"
    where += f" --domain {options.suite}"
    print(f"which there are:  galineage inspect {where}")
    print(f"make maps:        galineage prepare {where}{births} --out maps")


def is_snapshot(path: Path) -> bool:
    """Tell whether a folder holds a snapshot of a simulation (and no bundle)."""
    names = {item.name for item in path.iterdir()} if path.is_dir() else set()
    return any(name.startswith(("snapdir_", "groups_", "snap_")) for name in names) or (path / "output").is_dir()


def prepare(options: Namespace) -> None:
    """Make maps of the galaxies of a snapshot."""
    import numpy as np

    from galineage.sources.native import Selection
    from galineage.store.prepare import prepare as make_store
    from galineage.tables import write_catalogue

    source = traced(options.snapshots, options)
    selection = Selection(mstar_min=options.mstar_min, f_ex_min=options.f_ex_min, f_ex_max=options.f_ex_max)
    catalogue = source.catalogue(selection)
    if "f_ex" not in catalogue and (options.f_ex_min > 0 or options.f_ex_max < float("inf")):
        raise ConfigError(
            "--f-ex-min and --f-ex-max need the fractions before stars are read, and no catalogue tells them",
            where=source.name,
            advice="prepare all galaxies, and select by the truth in the store's table",
        )
    print(f"{len(catalogue)} galaxies of {source.name}, {len(catalogue.skipped)} left out by the selection", flush=True)
    if options.limit:
        catalogue = catalogue.select(np.arange(min(options.limit, len(catalogue))))
    config = _settings(options)
    with executor_of(options.scheduler) as executor:
        store = make_store(source, catalogue, options.out, config, executor=executor, workers=options.workers or 2)
    print(f"{len(store)} maps of {len({(row['domain'], row['id']) for row in store.rows})} galaxies in {options.out}")
    if any(row["domain"] == source.domain for row in store.rows):
        table = Path(options.out) / (re.sub(r"[^A-Za-z0-9_.-]", "_", source.domain) + ".ecsv")
        try:
            write_catalogue(store.galaxies(source.domain), table)
            print(f"what was measured on their stars, and the truth: {table} (read it with --mapping galineage)")
        except DataError as error:  # the maps are there all the same
            print(f"note: no table of galaxies was written: {error}")
    if store.skipped:
        path = Path(options.out) / "skipped.ecsv"
        write_skipped(store.skipped, path)
        print(f"{len(store.skipped)} galaxies were skipped; reasons in {path}")
    if not isinstance(config.views, int):
        mine = [row for row in store.rows if row["domain"] == source.domain]
        if unknown := len({row["id"] for row in mine if row["truth"].get("f_ex") is None}):
            print(f"note: the f_ex of {unknown} galaxies is unknown: they got the fewest views of the table")
    _tell_doubts(store)


def _tell_doubts(store: MapStore) -> None:
    """Say of which galaxies the stars and the catalogue disagree; their maps are there."""
    from galineage.store.consistency import doubts

    found = list(doubts(store))
    for one in found[:10]:
        print(f"in doubt: {one.domain} {one.id}: {one}")
    if len(found) > 10:
        print(f"... and {len(found) - 10} more: galineage.store.consistency.doubts")


def traced(path: str | Path, options: Namespace) -> TngSource | EagleSource | TracedEagle:
    """Open a snapshot; where no catalogue tells the histories of its galaxies, a tree does."""
    from galineage.history import TracedEagle
    from galineage.sources.native import TngSource, open_snapshot

    source = open_snapshot(path, snapshot=options.snapshot, domain=options.domain, export=options.export)
    if options.births and (isinstance(source, TngSource) or not options.export):
        raise ConfigError(
            "--births goes with an EAGLE snapshot and --export",
            where=str(path),
            advice="StellarAssembly files of a TNG run are found by themselves",
        )
    if isinstance(source, TngSource) or not options.export:
        return source
    return TracedEagle(source, options.export, options.births)


def _settings(options: Namespace) -> StoreConfig:
    from galineage.sources.native import EAGLE_VIEWS, TNG_VIEWS
    from galineage.store.settings import StoreConfig
    from galineage.views import MapConfig

    tables: dict[str, Any] = {"tng": TNG_VIEWS, "eagle": EAGLE_VIEWS}
    if options.views not in tables and not options.views.isdigit():
        raise ConfigError(f"--views {options.views}", expected="a number, tng or eagle")
    views = tables.get(options.views) or int(options.views)
    maps = MapConfig(pixels=options.pixels, half_width=options.half_width, systemic=options.systemic)
    return StoreConfig(maps=maps, views=views, rotate=options.rotate, number=options.number, seed=options.seed)


def write_skipped(skipped: Any, path: Path) -> None:
    """Write identifiers and reasons of what is not in a store."""
    from astropy.table import Table

    from galineage.tables import write_table

    names = ("id", "reason")
    write_table(Table({name: [str(one[name]) for one in skipped] for name in names}), path)


def draw_galaxy(options: Namespace) -> None:
    """Draw the maps of one galaxy of a snapshot, face-on, edge-on and as it lies in the box."""
    from galineage.atomic import writing
    from galineage.evaluation import figure_of, galaxy_maps
    from galineage.galaxy import Skip
    from galineage.sources.native import open_snapshot
    from galineage.stars import measure
    from galineage.views import MapConfig, edge_on, face_on, make_maps, polyhedron

    source = open_snapshot(options.thing, snapshot=options.snapshot, domain=options.domain, export=options.export)
    if options.galaxy is None:
        catalogue = source.catalogue()
        shown = ", ".join(str(one) for one in catalogue.ids[:8])
        print(
            f"{source.name}: {len(catalogue)} galaxies above 1e10 Msun: {shown}{' ...' if len(catalogue) > 8 else ''}"
        )
        print("--galaxy ID says what one of them is, and --figure FILE draws it")
        return
    (found,) = source.galaxies([options.galaxy])
    if isinstance(found, Skip):
        raise DataError(f"galaxy {found.id} cannot be read: {found.reason}", where=source.name)
    print(_told(found, measure(found)))
    if options.figure:
        views = [polyhedron(1)[0]]
        if found.stars.velocity is not None:
            views = [face_on(found.stars), edge_on(found.stars), *views]
        maps = make_maps(found, views, MapConfig(pixels=options.pixels))
        figure = figure_of(galaxy_maps.draw(maps))
        with writing(options.figure) as temporary:
            figure.savefig(temporary, dpi=150, format=Path(options.figure).suffix[1:] or "png")
        print(f"figure: {options.figure} (from above: face-on, edge-on, along the box's z axis)")


def _told(galaxy: Galaxy, measured: dict[str, float]) -> str:
    from galineage.fields import field

    lines = [f"galaxy {galaxy.id} of {galaxy.domain}: {len(galaxy.stars)} stars, redshift {galaxy.redshift:.3g}"]
    for name, value in {**{f"{key} (catalogue)": number for key, number in galaxy.truth.items()}, **measured}.items():
        unit = field(name.removesuffix(" (catalogue)")).unit
        lines.append(f"  {name:24} {value:.5g} {unit}".rstrip())
    if galaxy.stars.missing:
        lines.append("  not in the files: " + ", ".join(galaxy.stars.missing))
    return "\n".join(lines)
