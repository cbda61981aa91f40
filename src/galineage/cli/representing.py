"""The commands of representations: learned from stores of images, written as tables, drawn as a map, described."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.errors import BundleError, ConfigError, DataError, FileFormatError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from galineage.galaxy import Catalogue
    from galineage.store.image_store import ImageStore
    from galineage.training.contrastive import ContrastiveConfig

__all__ = ["contrast", "describe_representation", "is_representation", "represent"]

_OURS = re.compile(
    r"representation\.json|README\.md|history\.csv|held_out\.ecsv|weights(-[0-9a-f]{12})?\.safetensors|\..*"
)
"""Files of a representation, and temporary ones beside them."""

_PROPERTIES = ("mstar", "f_ex", "r90_kpc", "concentration", "app_r")
"""What a map is coloured by, where nothing is asked for and something is known."""


def contrast(options: Namespace) -> None:
    """Learn a representation of the images of a store, and save it; a stopped training goes on."""
    from galineage.atomic import write_text
    from galineage.models.representation_files import save_representation
    from galineage.training.contrastive import train_representation

    out = Path(options.out)
    _refuse_others(out)
    config = _config(options)
    store = _images(options.images)
    every = {name: store.views(name) for name in _domains(store, options.domains)}
    kept, held = _held_out(every, options.hold_out, config.seed)
    counts = ", ".join(f"{len(views)} of {name}" for name, views in kept.items())
    print(f"learning what is in the images ({counts}), without their truth", flush=True)
    scratch = out.with_name(out.name + ".training")
    network, history = train_representation(
        kept, config, encoder=options.encoder, probe=options.probe or (), folder=scratch
    )
    last = history[-1]
    card: dict[str, Any] = {
        "domains": list(kept),
        "images": {name: len(views) for name, views in kept.items()},
        "held_out": {"fraction": options.hold_out, "galaxies": {name: _count(views) for name, views in held.items()}},
        "store": store.digest,
        "training": config.describe(),
        "loss": last["train_loss"],
        **{name: value for name, value in last.items() if name.startswith("probe_")},
    }
    save_representation(network, out, card)
    write_text(out / "history.csv", (scratch / "history.csv").read_text(encoding="utf-8"))
    shutil.rmtree(scratch, ignore_errors=True)
    print(f"loss: {last['train_loss']:.3f} after {len(history)} epochs")
    for name in options.probe or ():
        found = last.get(f"probe_{name}")
        told = "was not asked for when it learned" if found is None else f"R2 {found:.3f}"
        print(f"{name} from the nearest galaxies in the representation: {told}")
    _write_held_out(held, out)
    print(f"Representation: {out}; its card: {out / 'README.md'}")
    print(f"next:  galineage represent {out} {options.images} --out tables")


def represent(options: Namespace) -> None:
    """Write the representations of the images of a store as tables, and a map of them if asked for."""
    from galineage.models.map_inputs import MapInputs
    from galineage.models.representation_files import load_representation
    from galineage.models.representing import represent as add_columns
    from galineage.tables import FORMATS, write_catalogue

    network, _ = load_representation(options.representation)
    store = _images(options.images)
    names = [options.domain] if options.domain else _domains(store, None)
    out = Path(options.out)
    one_file = out.suffix.lower() in FORMATS
    if one_file and len(names) > 1:
        raise ConfigError(
            f"the store has {len(names)} domains, and {out} is one table",
            expected="a table for each domain, called like it",
            advice=f"give --out a folder, or --domain {names[0]}",
        )
    if out.suffix and not one_file:
        raise ConfigError(
            f"cannot write a table called {out.name}", expected="a folder, or one of " + ", ".join(FORMATS)
        )
    every = {name: store.views(name) for name in names}
    for views in every.values():  # before any work: one store has one recipe
        network.check(MapInputs.of(views))
    found = []
    for name, views in every.items():
        found.append(add_columns(network, views))
        path = out if one_file else out / f"{_file_name(name)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_catalogue(found[-1], path)
        print(f"{len(views)} images of {_count(views)} galaxies of {name}, {network.width} numbers each: {path}")
        if path.stem != name:
            print(f"note: the table will be read as domain {path.stem}, because that is what the file is called")
    if options.map:
        _draw_map(options, names, found, network.width)


def _draw_map(options: Namespace, names: Sequence[str], found: Sequence[Catalogue], width: int) -> None:
    """Write the page of a map of all galaxies."""
    from galineage.evaluation import landscape
    from galineage.study.representation_pages import samples, write_map

    wanted = options.properties or _PROPERTIES
    shown = samples(names, found, wanted, width)
    known = [item for item in wanted if any(item in one.properties for one in shown)]
    if options.properties and (unknown := [item for item in options.properties if item not in known]):
        raise DataError(
            f"no galaxy's {unknown[0]} is known", where=str(options.images), advice="leave it out of --properties"
        )
    made = landscape.compute(shown, known, seed=options.seed)
    path = Path(options.map)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_map(path, made, found, f"{Path(options.images).name} as {Path(options.representation).name} sees them")
    print(landscape.judge(made).sentence)
    print(f"map: {path}\nOpen it in a browser.")


def is_representation(path: str | Path) -> bool:
    """Tell whether a folder looks like a saved representation, without loading what reads it (seconds, for torch)."""
    return (Path(path) / "representation.json").exists()


def describe_representation(path: str | Path) -> str:
    """Return the card of a saved representation (Markdown); raises `BundleError` if it is damaged."""
    from galineage.models.representation_files import load_representation, representation_text

    return representation_text(*load_representation(path))


def _images(path: str) -> ImageStore:
    """Open a store of images.

    Raises
    ------
    FileFormatError
        If there is none, or one of maps.
    """
    from galineage.store.image_store import ImageStore
    from galineage.store.opening import open_store

    store = open_store(path)
    if not isinstance(store, ImageStore):
        raise FileFormatError(
            f"this is a {store.CALLED}", where=path, expected="a store of images", advice="make one: `galineage images`"
        )
    if store.unfinished:
        parts = ", ".join(sorted(store.unfinished))
        print(f"note: {parts} is not finished, and images are missing; {store.WRITTEN_BY} goes on with it", flush=True)
    return store


def _domains(store: ImageStore, wanted: Sequence[str] | None) -> list[str]:
    """Return the domains that are asked for, each once, or all of the store."""
    known = list(dict.fromkeys(str(row["domain"]) for row in store.rows))
    if not known:
        raise DataError("the store has no image", where=str(store.path), advice="its skip list says why")
    for name in wanted or ():
        if name not in known:
            raise DataError(
                f"the store has no domain {name!r}", where=str(store.path), expected="some of " + ", ".join(known)
            )
    return list(dict.fromkeys(wanted or known))


def _config(options: Namespace) -> ContrastiveConfig:
    """Return the settings of the training: what is not given is the variant's own."""
    from galineage.training.contrastive import ContrastiveConfig

    names = ("epochs", "batch_size", "queue", "temperature")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    given |= {"seed": options.seed, "device": options.device}
    if options.variant == "published":
        return ContrastiveConfig.published(**given)
    return ContrastiveConfig(variant=options.variant, **given)


def _held_out(
    every: dict[str, Catalogue], fraction: float, seed: int
) -> tuple[dict[str, Catalogue], dict[str, Catalogue]]:
    """Split the views of each domain, roots whole, into those to learn from and those to leave out."""
    from galineage.store.splits import held_out_by_name

    if not 0 <= fraction < 1:
        raise ConfigError(f"--hold-out is {fraction:g}", expected="0 up to, not including, 1")
    if not fraction:
        return every, {}
    out = {name: held_out_by_name(views, fraction, seed) for name, views in every.items()}
    return (
        {name: views.select(~out[name]) for name, views in every.items()},
        {name: views.select(out[name]) for name, views in every.items()},
    )


def _write_held_out(held: dict[str, Catalogue], out: Path) -> None:
    """Write who was left out: galaxies to test on."""
    if not held:
        return
    from astropy.table import Table

    from galineage.tables import write_table

    rows = [(name, *one) for name, views in held.items() for one in _galaxies(views)]
    table = Table(rows=rows, names=("domain", "Snapshot", "GalaxyID"))
    table["domain"].description = "domain of the galaxy"
    table["Snapshot"].description = "number of its snapshot; empty where there is none"
    table["GalaxyID"].description = "galaxy that the representation was not learned from"
    path = out / "held_out.ecsv"
    write_table(table, path)
    print(f"{len(rows)} galaxies were held out, and are named in {path}")


def _galaxies(views: Catalogue) -> list[tuple[str, str]]:
    """Return snapshot and identifier of each galaxy once: the same number in another snapshot is another galaxy."""
    import numpy as np

    ids = np.asarray(views.ids).astype(str).tolist()
    if "snapshot" not in views:
        return [("", one) for one in dict.fromkeys(ids)]
    numbers = np.asarray(views["snapshot"], dtype=float).tolist()
    whole = ["" if np.isnan(one) else str(int(one)) for one in numbers]
    return list(dict.fromkeys(zip(whole, ids, strict=True)))


def _count(views: Catalogue) -> int:
    """Count galaxies."""
    return len(_galaxies(views))


def _file_name(domain: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", domain)


def _refuse_others(out: Path) -> None:
    """Refuse, before hours of training, a place where something else is; what a killed run left is ours."""
    theirs = [out.name] if out.is_file() else [one.name for one in out.glob("*") if not _OURS.fullmatch(one.name)]
    if theirs:
        raise BundleError(
            f"there is something else at this place: {theirs[0]}", where=str(out), advice="give --out a new folder"
        )
