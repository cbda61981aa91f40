"""Toy snapshots for a study: written in the files of TNG and EAGLE, read back, turned into maps and tables."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from galineage.atomic import write_json
from galineage.errors import ConfigError
from galineage.history import TracedEagle
from galineage.sources.native import EAGLE_VIEWS, TNG_VIEWS, Selection, open_snapshot
from galineage.store.map_store import MapStore
from galineage.store.prepare import prepare
from galineage.store.settings import StoreConfig
from galineage.tables import write_catalogue
from galineage.toy import write_eagle_box, write_tng_box
from galineage.views import MapConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from galineage.sources.native import TngSource
    from galineage.study.spec import Study

__all__ = ["LEAST_MASS", "Box", "make_universe", "on_toys", "write_and_open"]

WARNING = (
    "This is a toy universe in the place of simulations: it shows the machinery, not the Universe. What "
    "transfers between its suites was built into them."
)

LEAST_MASS = 1e9
"""Galaxies of the toy suites begin here, Msun."""


@dataclass(frozen=True)
class Box:
    """A toy suite in the files of a simulation.

    Attributes
    ----------
    suite : str
        A key of `galineage.toy.SUITES`.
    layout : {"tng", "eagle"}
        Whose files.
    galaxies, stars, seed : int
        As `galineage.toy.make_galaxies` takes them.
    """

    suite: str
    layout: str
    galaxies: int
    stars: int
    seed: int


def make_universe(
    boxes: Sequence[Box],
    folder: Path,
    *,
    pixels: int = 48,
    workers: int = 2,
    say: Callable[[str], None] = print,
) -> MapStore:
    """Write boxes of toy galaxies, and read them as anybody's snapshots are read; what is done is not done again.

    Parameters
    ----------
    boxes : sequence of Box
        One for each suite.
    folder : Path
        Boxes go into folders called ``SUITE-LAYOUT``, maps into the store ``maps``, and what is measured on the stars,
        with the truth, into tables ``SUITE.ecsv`` (mapping ``galineage``).
    pixels : int
        On each side of a map.
    workers : int
        Threads.
    say : callable
        Gets lines of progress.

    Returns
    -------
    MapStore
        Views as published: more of galaxies with large ex-situ fractions, TNG's numbers for the first box's layout,
        EAGLE's are kept for an EAGLE box alone.
    """
    settings = StoreConfig(
        maps=MapConfig(pixels=pixels),
        views=TNG_VIEWS if boxes[0].layout == "tng" else EAGLE_VIEWS,
        rotate=True,
        number="float16",
        galaxies_per_shard=64,
        seed=boxes[0].seed,
    )
    store = folder / "maps"
    for box in boxes:
        source = write_and_open(box, folder, say)
        catalogue = source.catalogue(Selection(mstar_min=LEAST_MASS))
        say(f"reading {source.name} back, making maps of {len(catalogue)} galaxies -> {store}")
        made = prepare(source, catalogue, store, settings, workers=workers)
        write_catalogue(made.galaxies(box.suite), folder / f"{box.suite}.ecsv")
    return MapStore(store)


def on_toys(study: Study, galaxies: int, stars: int = 6000) -> tuple[Study, tuple[Box, ...]]:
    """Put toy suites in the place of a study's two simulations.

    Parameters
    ----------
    study : Study
        With two domains, which both have maps.
    galaxies, stars : int
        Of each suite, and of each galaxy.

    Returns
    -------
    Study, tuple of Box
        The study with toy-a and toy-b as its domains, and what `make_universe` must make for it.

    Raises
    ------
    ConfigError
        If the study has other domains.
    """
    if len(study.domains) != 2 or not all(domain.maps for domain in study.domains):
        raise ConfigError(
            f"study {study.name} has no two domains with maps that toys could take the place of",
            advice="run it on tables, with --data DIR",
        )
    suites = {domain.name: suite for domain, suite in zip(study.domains, ("toy-a", "toy-b"), strict=True)}
    values = renamed(study.as_dict(), suites)
    values["domains"] = [
        {"name": suite, "file": f"{suite}.ecsv", "mapping": "galineage", "maps": "maps", "rows": "all"}
        for suite in suites.values()
    ]
    values["warning"] = WARNING
    layouts = ("tng", "eagle")
    boxes = tuple(
        Box(suite, layout, galaxies, stars, seed) for seed, (suite, layout) in enumerate(zip(suites.values(), layouts,
        strict=True), 1)
    )  # fmt: skip
    return type(study).from_dict(values), boxes


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a study's values with other names of domains, at any depth: whole strings."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        return {key: renamed(each, names) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [renamed(each, names) for each in value]
    return value


def write_and_open(box: Box, folder: Path, say: Callable[[str], None]) -> TngSource | TracedEagle:
    """Write a box into its folder below ``folder``, unless it is there, and open it as anybody's snapshot is opened."""
    place = folder / f"{box.suite}-{box.layout}"
    if not _is_written(place, box):
        say(f"toy universe: {box.galaxies} galaxies of {box.suite} in the files of {box.layout.upper()} -> {place}")
        write = write_tng_box if box.layout == "tng" else write_eagle_box
        write(place, box.suite, box.galaxies, box.seed, stars=box.stars, progress=True)
        write_json(place / "box.json", asdict(box))
    return _opened(place, box)


def _is_written(place: Path, box: Box) -> bool:
    try:
        return bool(json.loads((place / "box.json").read_text(encoding="utf-8")) == asdict(box))
    except (OSError, ValueError):
        return False


def _opened(place: Path, box: Box) -> TngSource | TracedEagle:
    if box.layout == "tng":
        return open_snapshot(place, domain=box.suite)  # type: ignore[return-value]
    export = place / f"{box.suite}_SubHalo.csv"
    source = open_snapshot(next(place.glob("snapshot_*")), domain=box.suite, export=export)
    return TracedEagle(source, export, next(place.glob("star_birth_*.hdf5")))  # type: ignore[arg-type]
