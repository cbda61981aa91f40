"""Stores of images that are ready for a network: made from any images, shard by shard, and read like maps."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from galineage.atomic import write_json
from galineage.cosmology import TNG
from galineage.errors import ConfigError, DataError
from galineage.fields import FIELDS
from galineage.galaxy import Skip
from galineage.guard import parse_json
from galineage.images import ImageRecipe, Petrosian, prepare_images
from galineage.light import kpc_per_arcsec
from galineage.lock import locked
from galineage.store.parts import agree, part_name, part_path, plain, work_through
from galineage.store.row_store import PLAN, RowStore
from galineage.store.shards import read_shard, shard_path, write_shard

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from galineage.cutouts import Cutout
    from galineage.galaxy import Catalogue
    from galineage.images import PreparedImages
    from galineage.images.preparing import Readable

__all__ = ["ImageStore", "make_image_shard", "prepare_image_store"]

FORMAT = 2
ARRAY = "images"
LARGEST_SHARD = 65_536


class ImageStore(RowStore):
    """Images of many galaxies on disk, ready for a network; it is read as a store of maps is, and bands are channels.

    Parameters
    ----------
    path : path
        Folder that `prepare_image_store` wrote.

    Attributes
    ----------
    settings : dict
        With which it was made.
    rows : tuple of dict
        What each image is: ``id``, ``domain``, ``snapshot``, ``root``, ``view`` of ``views``, ``redshift`` at which it
        shows the galaxy, ``r_half`` (kpc), ``crop`` (``pixels`` on a side, and whether it is the ``full`` image because
        that is smaller than wanted), ``pixel_scale`` (arcsec), ``los`` and ``up`` of mocks, ``truth``, and what was
        ``measured`` on the image and on the stars by field name. None: not known.
    skipped : tuple of dict
        Images that are not there: ``id``, ``view``, ``field``, ``value`` and ``reason``.

    Raises
    ------
    FileFormatError
        If the folder is no store of images.

    Examples
    --------
    >>> store = ImageStore("images")  # doctest: +SKIP
    >>> views = store.views("survey")  # doctest: +SKIP
    >>> views["r90"], views.maps.read(np.arange(16)).shape  # doctest: +SKIP
    """

    CALLED: ClassVar[str] = "image store"
    WRITTEN_BY: ClassVar[str] = "`galineage images`"
    SETTING: ClassVar[str] = "images"
    PER_SHARD: ClassVar[str] = "images_per_shard"
    DEFAULT: ClassVar[str] = ARRAY
    HELD: ClassVar[str] = "images"
    VIEWS_DIFFER: ClassVar[bool] = True

    @property
    def channels(self) -> tuple[str, ...]:
        """Bands of the images."""
        return tuple(self.settings["images"]["bands"])

    @property
    def recipe(self) -> dict[str, Any]:
        """Settings that decide what an image looks like; not how a mock was observed, which `sources` tells."""
        return {"images": self.settings["images"]}

    @property
    def pixels(self) -> int:
        """Side of an image."""
        return int(self.settings["images"]["pixels"])

    def sources(self) -> dict[str, list[Any]]:
        """Return what the images of each domain were made from, part by part, in JSON types; None for files."""
        found: dict[str, list[Any]] = {}
        for part in sorted((self.path / "parts").iterdir()):
            plan = parse_json((part / PLAN).read_text(encoding="utf-8"))
            found.setdefault(plan["domain"], []).append(plan["source"])
        return found


def prepare_image_store(
    images: Readable,
    out: str | os.PathLike[str],
    recipe: ImageRecipe,
    *,
    domain: str,
    catalogue: Catalogue | None = None,
    executor: Executor | None = None,
    workers: int = 2,
    progress: bool = True,
    per_shard: int = 256,
) -> ImageStore:
    """Make images ready for a network and put them into a store.

    A store grows by parts, one for each domain and snapshot; what is there is never changed. A run that is stopped, in
    whatever way, goes on where it was when it is started again with the same arguments, and ends with the same bytes.

    Parameters
    ----------
    images : Readable
        Files (`galineage.sources.images.open_images`, `open_pictures`), mocks
        (`galineage.store.mock_images.SnapshotImages`), or anything with ``ids`` and ``read``. Images with one
        identifier are views of one galaxy, in their order. With ``select(rows)`` workers get their own rows only, and
        ``describe()`` says how the images came about.
    out : path
        Folder of the store.
    recipe : ImageRecipe
        What is done to every image; a store has one.
    domain : str
        What the survey or simulation is called.
    catalogue : Catalogue, optional
        Of the galaxies, of one ``snapshot`` if it tells: columns go into the store as the truth, by identifier, and so
        does ``root``. An image whose galaxy it does not have is skipped.
    executor : concurrent.futures.Executor, optional
        Who makes the shards: a process pool, a Dask client, anything with ``submit``. Default: ``workers`` threads.
    workers : int
        Threads.
    progress : bool
        Show a bar with the time left on a terminal.
    per_shard : int
        Images in a shard: what is lost at most when a run is stopped.

    Returns
    -------
    ImageStore
        An image that cannot be read, has no size, no contrast or other bands or pixels is in ``skipped``.

    Raises
    ------
    ConfigError
        If the store or this part of it was made with other settings or images; says which.
    DataError
        If there is no image, or an identifier occurs twice in the catalogue.
    FileFormatError
        If something cannot be written. What was finished stays.
    TrainingError
        If another run is at work in the store.
    """
    if not 1 <= per_shard <= LARGEST_SHARD:
        raise ConfigError(f"{per_shard} images per shard", expected=f"1 to {LARGEST_SHARD}")
    if not len(images):
        raise DataError("there is no image", where=domain)
    known = _known(catalogue, domain)
    root = Path(out)
    with locked(root):
        part = _plan(root, images, recipe, domain, catalogue, per_shard)
        numbers = range(-(-len(images) // per_shard))
        missing = [number for number in numbers if read_shard(shard_path(part, number)) is None]
        views = _views(images.ids)
        every = range(len(images))
        jobs = [
            (*_job(images, recipe, domain, known, views, every[k * per_shard :][:per_shard]), shard_path(part, k))
            for k in missing
        ]
        with contextlib.ExitStack() as stack:
            pool = executor or stack.enter_context(ThreadPoolExecutor(max(1, workers)))
            ahead = 2 * max(1, workers)
            work_through(pool, make_image_shard, jobs, ahead=ahead, total=len(numbers), label="images", show=progress)
        write_json(part / "done.json", {"shards": len(numbers), "format": FORMAT})
    return ImageStore(root)


def _plan(
    root: Path, images: Readable, recipe: ImageRecipe, domain: str, catalogue: Catalogue | None, per_shard: int
) -> Path:
    """Write down what is to be made, or compare it with what was written down before."""
    # the pixel scale is a filter: files may leave it open where mocks do not, and every row has its own
    told = {name: value for name, value in recipe.describe().items() if name != "pixel_scale"}
    settings = {"images": told, "number": "float16", "images_per_shard": per_shard}
    agree(root / "store.json", _json({"format": FORMAT, "settings": settings}), "the store")
    part = part_path(root, part_name(domain, catalogue))
    describe = getattr(images, "describe", None)
    plan = {
        "format": FORMAT,
        "domain": domain,
        "ids": list(images.ids),
        "pixel_scale": recipe.pixel_scale,
        "source": None if describe is None else describe(),
        "known": None if catalogue is None else _fingerprint(catalogue),
    }
    agree(part / PLAN, _json(plan), f"part {part.name} of the store")
    return part


def _fingerprint(catalogue: Catalogue) -> dict[str, Any]:
    """Return what tells one table of facts from another, in JSON types."""
    digest = hashlib.sha256()
    parts = {"id": catalogue.ids, "root": catalogue.root, **catalogue.columns}
    for name, values in parts.items():
        digest.update(repr((name, None if values is None else np.asarray(values).tolist())).encode())
    return {"rows": len(catalogue), "columns": list(catalogue.columns), "sha256": digest.hexdigest()}


def _json(value: Any) -> Any:
    """Return settings as they are read back: lists for tuples."""
    return json.loads(json.dumps(value))


def _views(ids: Sequence[str]) -> list[tuple[int, int]]:
    """Return which view of its galaxy each image is, and of how many."""
    count, seen = Counter(ids), Counter[str]()
    found = []
    for name in ids:
        found.append((seen[name], count[name]))
        seen[name] += 1
    return found


def _known(catalogue: Catalogue | None, domain: str) -> dict[str, dict[str, Any]] | None:
    """Return facts by identifier."""
    if catalogue is None:
        return None
    names = [str(one) for one in catalogue.ids]
    if len(set(names)) < len(names):
        raise DataError(
            "an identifier occurs twice in the catalogue",
            where=domain,
            expected="each galaxy once",
            advice="take one snapshot, or one row for each galaxy",
        )
    roots = [None] * len(names) if catalogue.root is None else [str(one) for one in catalogue.root]
    return {
        name: {"root": roots[k], "truth": {column: plain(values[k]) for column, values in catalogue.columns.items()}}
        for k, name in enumerate(names)
    }


@dataclass(frozen=True)
class _Some:
    """Some rows of images."""

    images: Any
    rows: Sequence[int]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.images.ids[row] for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def broken(self) -> Exception | None:
        return getattr(self.images, "broken", None)

    def read(self, row: int) -> Cutout:
        return self.images.read(self.rows[row])  # type: ignore[no-any-return]


def _job(
    images: Any,
    recipe: ImageRecipe,
    domain: str,
    known: dict[str, dict[str, Any]] | None,
    views: list[tuple[int, int]],
    rows: range,
) -> tuple[Any, ...]:
    some = images.select(rows) if hasattr(images, "select") else _Some(images, rows)
    names = [images.ids[row] for row in rows]
    facts = None if known is None else [known.get(name) for name in names]
    return (some, recipe, domain, names, [views[row] for row in rows], facts)


def make_image_shard(
    images: Readable,
    recipe: ImageRecipe,
    domain: str,
    ids: Sequence[str],
    views: Sequence[tuple[int, int]],
    known: Sequence[dict[str, Any] | None] | None,
    path: Path,
) -> str:
    """Make some images ready and write them as one shard; return its folder.

    What is wrong with one image puts it on the skip list. What concerns all of them (a full disk) is raised.
    """
    wanted = range(len(ids)) if known is None else [k for k, one in enumerate(known) if one is not None]
    skips = [
        Skip(k, ids[k], "id", ids[k], "the catalogue does not have this galaxy")
        for k in sorted(set(range(len(ids))) - set(wanted))
    ]
    found = prepare_images(_Some(images, wanted), recipe)
    if (broken := getattr(images, "broken", None)) is not None:
        raise broken
    skips += [Skip(wanted[one.row], one.id, one.field, one.value, one.reason) for one in found.skipped]
    rows = [
        _row(found, k, domain, ids[wanted[row]], views[wanted[row]], None if known is None else known[wanted[row]])
        for k, row in enumerate(found.rows)
    ]
    skipped = [
        {"id": one.id, "view": views[one.row][0], "field": one.field, "value": one.value, "reason": one.reason}
        for one in sorted(skips, key=lambda skip: skip.row)
    ]
    return str(write_shard(path, {ARRAY: found.values.astype(np.float16)}, rows, skipped).path)


def _row(
    found: PreparedImages, k: int, domain: str, name: str, view: tuple[int, int], known: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what is known of an image: the catalogue goes before the galaxy's own facts."""
    facts = dict(found.facts[k])
    catalogued = {} if known is None else {key: value for key, value in known["truth"].items() if value is not None}
    told = {} if known is None else known["truth"]
    truth = {**told, **facts.get("truth", {}), **catalogued}
    redshift = plain(found.redshift[k])
    if redshift is None:
        redshift = truth.get("redshift")
    truth.pop("redshift", None)  # of the snapshot; the image shows the galaxy at another one
    snapshot = facts.get("snapshot")
    return {
        "id": name,
        "domain": domain,
        "snapshot": truth.get("snapshot") if snapshot is None else snapshot,
        "root": (known or {}).get("root") or facts.get("root"),
        "view": view[0],
        "views": view[1],
        "redshift": redshift,
        "r_half": plain(facts.get("r_half")),
        "pixel_scale": float(found.sizes["pixel_scale"][k]),
        "crop": {"pixels": int(found.sizes["pixels"][k]), "full": bool(found.sizes["full"][k])},
        "missing": [],
        "los": facts.get("los"),
        "up": facts.get("up"),
        "truth": {key: plain(value) for key, value in truth.items()},
        "measured": {**facts.get("measured", {}), **_measured(found, k, redshift)},
    }


def _measured(found: PreparedImages, k: int, redshift: float | None) -> dict[str, float | None]:
    """Return the fields that are measured on an image."""
    size = Petrosian(**{name: found.sizes[name][k] for name in Petrosian().numbers()})
    out: dict[str, Any] = {}
    if found.recipe["stretch"] is not None:  # what pictures show is no flux
        out["app_petro"] = size.magnitude
        for band, magnitude in zip(found.recipe["bands"], found.magnitudes[k], strict=True):
            out.setdefault(f"app_{band[-1]}", magnitude)
    out |= {name: getattr(size, name) for name in ("r_petro", "r50", "r90", "concentration", "axis_ratio")}
    out["r90_kpc"] = np.nan if not redshift or redshift < 0 else size.r90 * kpc_per_arcsec(redshift, TNG)
    return {name: plain(value) for name, value in out.items() if name in FIELDS}
