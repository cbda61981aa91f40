"""What comes before a study of images: a representation is learned, and tables of it are written for every domain."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage import __version__
from galineage.atomic import sha256, write_json
from galineage.errors import ConfigError, FileFormatError
from galineage.guard import parse_json, read_text
from galineage.models.representation_files import load_representation, save_representation
from galineage.models.representing import represent
from galineage.store.image_store import ImageStore
from galineage.store.splits import held_out_by_name
from galineage.study.universe import WARNING, Box, renamed
from galineage.tables import write_catalogue
from galineage.training.contrastive import train_representation

if TYPE_CHECKING:
    from collections.abc import Callable

    from galineage.study.spec import RepresentationSpec, Study

__all__ = ["REPRESENTATION", "learn_representation", "on_image_toys"]

REPRESENTATION = "representation"
"""Folder of the network, below the data folder."""

_MARK = "done.json"


def learn_representation(
    study: Study, data: str | Path, *, progress: bool = True, say: Callable[[str], None] = print
) -> None:
    """Learn a study's representation and write a table with it for each domain; what is done is not done again.

    Galaxies that the experiments hold out are held out here too: the network never sees them.

    Parameters
    ----------
    study : Study
        With a representation.
    data : path
        Folder with the store of images; the network goes into ``representation``, and tables where the domains' files
        are named. Where there is no store, but every table is there, nothing is done.
    progress : bool
        Show a bar with the time left on a terminal.
    say : callable
        Gets lines of progress.

    Raises
    ------
    ConfigError
        If the experiments do not hold out the same galaxies, or a table that somebody else wrote is in the way.
    FileFormatError
        If the store of images is not finished.
    GalineageError
        As reading images and training do.
    """
    spec, data = study.representation, Path(data)
    if spec is None:
        return
    tables = {domain.name: data / domain.file for domain in study.domains}
    if not (data / spec.images).exists() and all(path.is_file() for path in tables.values()):
        return
    store = ImageStore(data / spec.images)
    if store.unfinished:
        raise FileFormatError(
            f"parts of the store of images are not finished: {', '.join(sorted(store.unfinished))}",
            where=str(store.path),
            advice="run `galineage images` again with the same arguments: it makes what is missing",
        )
    folder = data / REPRESENTATION
    mark = _mark(study, spec, store)
    if _is_done(folder / _MARK, mark, tables):
        say(f"the representation is learned already -> {folder}")
        return
    _refuse_foreign(folder / _MARK, tables)
    holdout = _holdout(study)
    every = {name: store.views(name) for name in spec.domains}
    held = {name: held_out_by_name(views, holdout, study.seed) for name, views in every.items()}
    kept = {name: every[name].select(~held[name]) for name in spec.domains}
    counts = ", ".join(f"{len(views)} of {name}" for name, views in kept.items())
    say(f"learning what is in the images ({counts}), without their truth -> {folder}")
    network, history = train_representation(
        kept,
        spec.config(study.seed),
        encoder=spec.encoder,
        widths=spec.widths,
        probe=spec.probe,
        folder=folder / f"training-{mark[:12]}",
        progress=progress,
    )
    card = {
        "domains": list(spec.domains),
        "images": {name: len(views) for name, views in kept.items()},
        "training": spec.config(study.seed).describe(),
        "loss": history[-1]["train_loss"],
    }
    save_representation(network, folder, card)
    network, _ = load_representation(folder)
    # said before: a run that is stopped among its tables knows them as its own
    write_json(folder / _MARK, {"mark": "", "tables": {}, "writing": sorted(tables)})
    for name, path in tables.items():
        write_catalogue(represent(network, store.views(name)), path)
    write_json(folder / _MARK, {"mark": mark, "tables": {name: sha256(path) for name, path in tables.items()}})


def _holdout(study: Study) -> float:
    found = {(experiment.holdout, experiment.folds, experiment.split) for experiment in study.experiments}
    if len(found) != 1 or next(iter(found))[1:] != (0, "root"):
        raise ConfigError(
            f"the experiments of study {study.name} test on different galaxies",
            expected="folds = 0, split = root, and one holdout: the representation is learned from the others",
        )
    return next(iter(found))[0]


def _mark(study: Study, spec: RepresentationSpec, store: ImageStore) -> str:
    """Hash everything that the representation depends on."""
    import torch

    told = {
        "images": store.digest,
        "domains": list(spec.domains),
        "tables": [domain.file for domain in study.domains],
        "encoder": [spec.encoder, list(spec.widths)],
        "training": spec.config(study.seed).decisive(),
        "holdout": _holdout(study),
        "seed": study.seed,
        "versions": [__version__, torch.__version__],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _is_done(path: Path, mark: str, tables: dict[str, Path]) -> bool:
    try:
        known = parse_json(read_text(path, 1_000_000))
        whole = all(sha256(file) == known["tables"][name] for name, file in tables.items())
        return bool(whole and known["mark"] == mark)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refuse_foreign(path: Path, tables: dict[str, Path]) -> None:
    """Refuse to replace a table that was not written here."""
    try:
        found = parse_json(read_text(path, 1_000_000))
        known, writing = dict(found["tables"]), list(found.get("writing", ()))
    except (OSError, ValueError, KeyError, TypeError):
        known, writing = {}, []
    for name, file in tables.items():
        if file.exists() and name not in writing and sha256(file) != known.get(name):
            raise ConfigError(
                f"the table {file.name} was not written by this study, and would be replaced",
                where=str(file),
                advice="move it elsewhere; or the store of images, if the tables hold representations already",
            )


def on_image_toys(study: Study, galaxies: int, stars: int = 6000) -> tuple[Study, tuple[Box, ...]]:
    """Put toy suites in the place of the simulations and the survey of a study of images.

    Parameters
    ----------
    study : Study
        Whose domains name their stand-ins.
    galaxies, stars : int
        Of each suite, and of each galaxy.

    Returns
    -------
    Study, tuple of Box
        The study on toys, and what `galineage.study.image_universe.make_image_universe` must make for it.

    Raises
    ------
    ConfigError
        If a domain names no stand-in.
    """
    from galineage.study.image_universe import STORE, SURVEY

    missing = [domain.name for domain in study.domains if not domain.stand_in]
    if missing:
        raise ConfigError(f"domains {', '.join(missing)} of study {study.name} have no stand_in", advice="use --data")
    suites = {domain.name: domain.stand_in for domain in study.domains}
    values: dict[str, Any] = renamed(study.as_dict(), suites)
    values["domains"] = [
        {"name": suite, "file": f"{suite}.parquet", "mapping": "galineage", "maps": STORE, "rows": "all",
         "stand_in": suite}
        for suite in suites.values()
    ]  # fmt: skip
    values["representation"]["images"] = STORE
    for experiment in values["experiments"]:  # the truth of a toy survey is known: it is tested on too
        experiment["domains"] = [*experiment["domains"], *({SURVEY} & set(suites.values()) - {*experiment["domains"]})]
    told = ", ".join(f"{suite} in that of {name}" for name, suite in suites.items())
    values["warning"] = f"{WARNING} Here {told}."
    boxes = tuple(
        Box(suite, "eagle" if suite == "toy-b" else "tng", galaxies, stars, seed)
        for seed, suite in enumerate((suite for suite in suites.values() if suite != SURVEY), 1)
    )
    return type(study).from_dict(values), boxes
