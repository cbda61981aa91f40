"""From a source of galaxies to a map store: shard by shard, resumable, one bad galaxy at a time."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from galineage.atomic import write_json
from galineage.errors import DataError, GalineageError
from galineage.galaxy import Skip
from galineage.lock import locked
from galineage.sources.native import view_counts
from galineage.stars import measure
from galineage.store.map_store import PLAN, MapStore
from galineage.store.parts import agree, part_name, part_path, plain, work_through
from galineage.store.settings import StoreConfig, kept
from galineage.store.shards import read_shard, shard_path, write_shard
from galineage.views import CHANNELS, make_maps, refine

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.stars import Galaxy

__all__ = ["Galaxies", "make_shard", "prepare"]

FORMAT = 1


class Galaxies(Protocol):
    """A source of galaxies with their stars, such as `galineage.sources.native.TngSource`; it can be pickled."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def domain(self) -> str:
        """Domain of its galaxies."""

    def galaxies(self, ids: Iterable[Any]) -> Iterator[Galaxy | Skip]:
        """Yield a galaxy, or the reason why there is none, for every identifier."""


def prepare(
    source: Galaxies,
    catalogue: Catalogue,
    out: str | os.PathLike[str],
    config: StoreConfig | None = None,
    *,
    executor: Executor | None = None,
    workers: int = 2,
    progress: bool = True,
) -> MapStore:
    """Make the maps of all galaxies of a catalogue and put them into a store.

    A store grows by parts, one for each domain and snapshot; what is there is never changed. A run that is stopped, in
    whatever way, goes on where it was when it is started again with the same arguments, and ends with the same bytes.

    Parameters
    ----------
    source : Galaxies
        Where the stars come from.
    catalogue : Catalogue
        Galaxies that are wanted, for example ``source.catalogue()``: their ``ids`` are asked for, in this order, and
        its columns go into the store's table as the truth.
    out : path
        Folder of the store.
    config : StoreConfig, optional
        Settings; a store has one.
    executor : concurrent.futures.Executor, optional
        Who makes the shards: a process pool, a Dask client, anything with ``submit``. Default: ``workers`` threads.
    workers : int
        Threads.
    progress : bool
        Show a bar with the time left on a terminal.

    Returns
    -------
    MapStore

    Raises
    ------
    ConfigError
        If the store or this part of it was made with other settings or galaxies; says which.
    DataError
        If there is no galaxy, or one identifier occurs twice.
    FileFormatError
        If something cannot be written. What was finished stays.
    TrainingError
        If another run is at work in the store.
    """
    config = config or StoreConfig()
    root = Path(out)
    if not len(catalogue):
        raise DataError("there is no galaxy to make maps of", where=source.name)
    if len(set(map(str, catalogue.ids))) < len(catalogue):
        raise DataError(
            "an identifier occurs twice in the catalogue",
            where=source.name,
            expected="each galaxy once",
            advice="prepare one snapshot at a time, into the same folder",
        )
    with locked(root):
        part, plan = _plan(root, source, catalogue, config)
        numbers = range(-(-len(plan["ids"]) // config.galaxies_per_shard))
        missing = [number for number in numbers if read_shard(shard_path(part, number)) is None]
        jobs = [_job(source, catalogue, plan, config, part, number) for number in missing]
        with contextlib.ExitStack() as stack:
            pool = executor or stack.enter_context(ThreadPoolExecutor(max(1, workers)))
            work_through(
                pool, make_shard, jobs, ahead=2 * max(1, workers), total=len(numbers), label="maps", show=progress
            )
        write_json(part / "done.json", {"shards": len(numbers), "format": FORMAT})
    return MapStore(root)


def _plan(root: Path, source: Galaxies, catalogue: Catalogue, config: StoreConfig) -> tuple[Path, dict[str, Any]]:
    """Write down what is to be made, or compare it with what was written down before."""
    agree(root / "store.json", {"format": FORMAT, "settings": config.describe()}, "the store")
    part = part_path(root, part_name(source.domain, catalogue))
    plan = {
        "format": FORMAT,
        "domain": source.domain,
        "ids": [str(one) for one in catalogue.ids],
        "views": _views(catalogue, config),
    }
    agree(part / PLAN, plan, f"part {part.name} of the store")
    return part, plan


def _views(catalogue: Catalogue, config: StoreConfig) -> list[int]:
    """Return the views of each galaxy; 0 where they go by an ex-situ fraction that its stars will tell."""
    if isinstance(config.views, int):
        return [config.views] * len(catalogue)
    if "f_ex" not in catalogue:
        return [0] * len(catalogue)
    return [int(one) for one in view_counts(catalogue["f_ex"], config.views)]


def _job(
    source: Galaxies, catalogue: Catalogue, plan: dict[str, Any], config: StoreConfig, part: Path, number: int
) -> tuple[Any, ...]:
    rows = slice(number * config.galaxies_per_shard, (number + 1) * config.galaxies_per_shard)
    truth = [
        {name: plain(values[k]) for name, values in catalogue.columns.items()}
        for k in range(*rows.indices(len(catalogue)))
    ]
    roots = None if catalogue.root is None else [str(one) for one in catalogue.root[rows]]
    return (source, plan["ids"][rows], plan["views"][rows], truth, roots, config, shard_path(part, number))


def make_shard(
    source: Galaxies,
    ids: Sequence[str],
    views: Sequence[int],
    truth: Sequence[dict[str, Any]],
    roots: Sequence[str] | None,
    config: StoreConfig,
    path: Path,
) -> str:
    """Make the maps of a few galaxies and write them as one shard; return its folder.

    What a galaxy's own numbers forbid (no stars, NaN, a broken file) puts it on the skip list. What concerns all of
    them (a full disk) is raised.
    """
    place = {one: k for k, one in enumerate(ids)}
    found: dict[int, tuple[list[dict[str, Any]], Any, Any]] = {}
    skipped: dict[int, dict[str, Any]] = {}
    for item in source.galaxies(ids):
        k = place[str(item.id)]
        if isinstance(item, Skip):
            skipped[k] = {"id": str(item.id), "reason": item.reason}
            continue
        try:
            found[k] = _rows_of(item, views[k], config)
        except GalineageError as error:
            skipped[k] = {"id": str(item.id), "reason": str(error)}
    for k, one in enumerate(ids):
        if k not in found and k not in skipped:
            skipped[k] = {"id": one, "reason": "the source did not give it"}
    rows = []
    for k in sorted(found):
        root = roots[k] if roots is not None else None
        known = {name: value for name, value in truth[k].items() if value is not None}
        rows += [
            {**row, "root": root or row["root"], "truth": {**truth[k], **row["truth"], **known}} for row in found[k][0]
        ]
    arrays = _joined([found[k] for k in sorted(found)], config)
    shard = write_shard(path, arrays, rows, [skipped[k] for k in sorted(skipped)])
    return str(shard.path)


def _rows_of(galaxy: Galaxy, views: int, config: StoreConfig) -> tuple[list[dict[str, Any]], Any, Any]:
    measured = measure(galaxy)
    truth = {**({"f_ex": measured["f_ex"]} if "f_ex" in measured else {}), **galaxy.truth}
    if not views:
        views = int(view_counts(truth.get("f_ex", np.nan), config.views))  # type: ignore[arg-type]
    maps = make_maps(galaxy, config.place(views, f"{galaxy.domain}:{galaxy.id}"), config.maps)
    raw = np.full((len(maps), len(CHANNELS), *maps.values.shape[2:]), np.nan, dtype=np.float32)
    for slot, channel in enumerate(CHANNELS):
        if channel in maps:
            raw[:, slot] = maps[channel]
    refined = None if config.refinement is None else kept(refine(maps, config.refinement).values, config.number)
    about = {
        "id": galaxy.id,
        "domain": galaxy.domain,
        "snapshot": galaxy.snapshot,
        "root": galaxy.root,
        "redshift": galaxy.redshift,
        "r_half": galaxy.r_half,
        "pixel": maps.pixel,
        "stars": len(galaxy.stars),
        "missing": list(maps.missing),
        "systemic": maps.systemic.tolist(),
        "truth": {name: plain(value) for name, value in truth.items()},
        "measured": {name: plain(value) for name, value in measured.items()},
    }
    rows = [
        {**about, "view": k, "views": len(maps), "los": view.los.tolist(), "up": view.up.tolist()}
        for k, view in enumerate(maps.views)
    ]
    return rows, raw if config.raw else None, refined


def _joined(found: Sequence[tuple[Any, Any, Any]], config: StoreConfig) -> dict[str, NDArray[Any]]:
    """Arrays of a shard; of one without a galaxy they are empty, and still have channels and pixels."""
    side = config.maps.pixels
    arrays: dict[str, NDArray[Any]] = {}
    if config.raw:
        empty = np.zeros((0, len(CHANNELS), side, side), dtype=np.float32)
        arrays["raw"] = np.concatenate([empty, *(raw for _, raw, _ in found)])
    if config.refinement is not None:
        empty = np.zeros((0, len(config.refinement.channels), side, side), dtype=config.number)
        arrays["refined"] = np.concatenate([empty, *(refined for _, _, refined in found)])
    return arrays
