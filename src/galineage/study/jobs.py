"""The units of work of a study: train one estimator on one set of rows and score it; done once, found again later."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage import __version__
from galineage.atomic import sha256, write_json
from galineage.errors import ConfigError, DataError, FileFormatError
from galineage.evaluation.joint_scores import JointScores, join_joint
from galineage.evaluation.joint_scoring import score_joint
from galineage.evaluation.scores import SCORES_FORMAT, Scores, join
from galineage.evaluation.scoring import score, with_shift
from galineage.fields import MERGER_TARGETS
from galineage.galaxy import concatenate
from galineage.guard import parse_json, read_text
from galineage.models import make_estimator
from galineage.models.bundle import save
from galineage.sources import open_source
from galineage.store.map_store import MapStore
from galineage.store.splits import folds, held_out_by_name, held_out_groups, split_labels
from galineage.study.adapting import (
    TESTED,
    TOGETHER,
    adapted_versions,
    all_but,
    joined_sources,
    training_options,
)
from galineage.toy import make_toy
from galineage.training import needed_fields, train

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.models.bundle import Bundle
    from galineage.study.spec import DomainSpec, Experiment, ModelSpec, Study

__all__ = ["Job", "plan", "read_domain", "run_job"]

_DONE = "done.json"


@dataclass(frozen=True)
class Job:
    """One training and its tests.

    Attributes
    ----------
    experiment, model, train : str
        Names of the experiment, the model and the training domain, ``all but`` a domain, or ``all domains``.
    part : str
        ``fold-K`` trains on the other folds and tests on fold K; ``whole`` trains on all rows and tests on the other
        domains; ``to-NAME`` trains on all rows, adapts to domain NAME and tests there (with a hold-out set: trains on
        and adapts to all but the held-out rows, and tests on those, the first time at home too); ``holdout`` trains on
        all but the held-out rows and tests on those, here and in the other domains.
    """

    experiment: str
    model: str
    train: str
    part: str

    @property
    def folder(self) -> Path:
        """Folder below the study's output."""
        return Path("cells") / self.experiment / slug(self.model) / slug(self.train) / slug(self.part)

    @property
    def label(self) -> str:
        """Words for progress lines."""
        return f"{self.experiment}: {self.model} on {self.train}, {self.part}"


def slug(name: str) -> str:
    """Return a name fit for files: letters, digits, dots, dashes and underscores."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)


def plan(study: Study) -> list[Job]:
    """List every job of a study, slow ones first so that parallel workers end together."""
    order = {"maps-paper": -2, "maps-code": -2, "maps": -1, "flow": 1, "mdn": 1}
    order |= dict.fromkeys(("cinn", "cinn-published", "paper", "paper-bounded", "pool"), 0)
    jobs = [
        (order.get(model.preset, 2), Job(experiment.name, model.name, domain, part))
        for experiment in study.experiments
        for model in experiment.models
        for domain, part in _parts(experiment, model)
    ]
    return [job for _, job in sorted(jobs, key=lambda pair: pair[0])]


def _parts(experiment: Experiment, model: ModelSpec) -> list[tuple[str, str]]:
    """Training domain and part of every job of a model."""
    if model.adaptation == "sources":
        return [(all_but(name), f"to-{name}") for name in experiment.test_domains]
    if model.adaptation == "together":
        return [(TOGETHER, "holdout")]
    if model.adaptation != "none":
        # what an adaptation costs at home is measured on one fold: each costs a training
        home = ("fold-0",) if experiment.folds else ()
        return [
            (domain, part)
            for domain in experiment.train_domains
            for part in (*home, *(f"to-{name}" for name in experiment.test_domains if name != domain))
        ]
    parts = [f"fold-{k}" for k in range(experiment.folds)] or ["holdout"]
    parts += ["whole"] if experiment.folds else []
    return [(domain, part) for domain in experiment.train_domains for part in parts]


def data_path(domain: DomainSpec, data: Path) -> Path:
    """Return where the table of a domain should lie."""
    return Path(data) / domain.file


def check_tables(study: Study, data: Path) -> None:
    """Make sure that every table the experiments need is there and can be read, before hours are spent.

    Raises
    ------
    FileFormatError
        If tables are missing; names all of them and what the folder holds instead.
    """
    used = dict.fromkeys(name for item in study.experiments for name in item.domains)
    names = [name for name in used if study.domain(name).has_table]
    with_maps = dict.fromkeys(name for item in study.experiments if item.views for name in item.domains)
    for name in {**with_maps, **{name: None for name in used if not (name in names or study.domain(name).toy)}}:
        map_store(study.domain(name), data)
    files = [study.domain(name).file for name in names]
    missing = [file for file in files if not (Path(data) / file).is_file()]
    if missing:
        here = sorted(item.name for item in Path(data).iterdir())[:12] if Path(data).is_dir() else []
        raise FileFormatError(
            f"{len(missing)} of the {len(files)} tables of study {study.name!r} are not there: {', '.join(missing)}",
            where=str(data),
            expected=", ".join(files)
            + (f"; the folder holds {', '.join(here)}" if here else "; there is no such folder"),
            advice="give the folder that holds the tables with --data DIR; the page 'Data' says where they come from",
        )
    for name in names:
        read_domain(study, name, data)


def _state(path: Path) -> tuple[Path, int, int]:
    """Return what tells one version of a file from another without reading it."""
    facts = path.stat()
    return path, facts.st_mtime_ns, facts.st_size


@lru_cache(maxsize=16)
def _read(state: tuple[Path, int, int], mapping: str, rows: str) -> Catalogue:
    # an experiment leaves out who lacks what it needs, and nobody else
    return open_source(state[0], mapping).read(rows, keep_missing=True)


@lru_cache(maxsize=8)
def _toy(suite: str, galaxies: int, seed: int) -> Catalogue:
    return make_toy(suite, galaxies, seed)


def _mapping(domain: DomainSpec, data: Path) -> str:
    return str(Path(data) / domain.mapping) if domain.mapping.endswith(".toml") else domain.mapping


def read_domain(study: Study, name: str, data: Path, rows: str | None = None) -> Catalogue:
    """Read the galaxies of a domain, in registry units, above the domain's smallest mass.

    Parameters
    ----------
    study : Study
        The study.
    name : str
        Name of the domain.
    data : Path
        Folder with the tables.
    rows : str, optional
        Row filter instead of the domain's own.
    """
    domain = study.domain(name)
    if domain.toy:
        return _toy(name, domain.toy, study.seed)
    if domain.has_table:
        catalogue = _read(_state(data_path(domain, data)), _mapping(domain, data), rows or domain.rows)
    else:
        catalogue = map_store(domain, data).galaxies(name)
    return catalogue.select(catalogue["mstar"] >= domain.mstar_min) if domain.mstar_min else catalogue


def read_views(study: Study, name: str, data: Path, rows: str | None = None) -> Catalogue:
    """Read the views of a domain with their maps, above the domain's smallest mass; ``rows`` has no meaning here.

    Raises
    ------
    ConfigError
        If the study names no map store for the domain.
    """
    del rows
    domain = study.domain(name)
    views = map_store(domain, data).views(name)
    return views.select(views["mstar"] >= domain.mstar_min) if domain.mstar_min else views


def map_store(domain: DomainSpec, data: Path) -> MapStore:
    """Open the map store of a domain.

    Raises
    ------
    ConfigError
        If the study names none.
    FileFormatError
        If there is none at that place, or it is not finished: some of its galaxies would not be there.
    """
    if not domain.maps:
        raise ConfigError(
            f"domain {domain.name} has no maps",
            advice="prepare a store (`galineage prepare`), and name its folder as maps = ... in the study",
        )
    path = Path(data) / domain.maps
    store = _store(path, tuple(_state(card) for card in sorted(path.glob("parts/*/shards/*/card.json"))))
    if store.unfinished:
        raise FileFormatError(
            f"parts of the map store are not finished: {', '.join(sorted(store.unfinished))}",
            where=str(path),
            advice="run `galineage prepare` again with the same arguments: it makes what is missing",
        )
    return store


@lru_cache(maxsize=4)
def _store(path: Path, cards: tuple[tuple[Path, int, int], ...]) -> MapStore:
    del cards  # a store that has grown is another one
    return MapStore(path)


_ELSEWHERE = ("title", "models", "siblings")


def identity(study: Study, job: Job, data: Path) -> str:
    """Hash everything that a job's result depends on: settings down to their defaults, tables, mappings, versions."""
    import torch

    experiment = study.experiment(job.experiment)
    model = _model(experiment, job.model)
    domains = [study.domain(name) for name in experiment.domains]
    tables = [item for item in domains if item.has_table]
    alone = [item for item in domains if not item.has_table and not item.toy]
    targets = study.targets(experiment, model)
    given = [model.preset, experiment.inputs(model), targets, model.members, study.seed, dict(model.options)]
    spec = {
        "job": asdict(job),
        "experiment": {key: value for key, value in asdict(experiment).items() if key not in _ELSEWHERE},
        # only what learns from several domains depends on which of them are left out
        **({"siblings": experiment.siblings} if experiment.siblings and model.adaptation == "sources" else {}),
        "estimator": _estimator(json.dumps(given)),
        "adaptation": [model.adaptation, *((name, dict(TESTED[name])) for name in model.variants)],
        "training": asdict(experiment.config(model, study.seed)),
        "domains": [asdict(domain) for domain in domains],
        "mappings": [repr(open_source(data_path(item, data), _mapping(item, data)).mapping) for item in tables],
        "data": [_checksum(_state(data_path(item, data))) for item in tables],
        **({"maps": [map_store(item, data).digest for item in domains]} if experiment.views else {}),
        **({"stores": [map_store(item, data).digest for item in alone]} if alone else {}),
        "targets": targets,
        "seed": study.seed,
        "scores": SCORES_FORMAT,
        "versions": [__version__, torch.__version__],
    }
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache(maxsize=256)
def _estimator(given: str) -> list[Any]:
    """Kind and settings of an estimator, defaults too; kept, because a large network takes a second to build."""
    preset, features, targets, members, seed, options = json.loads(given)
    estimator = make_estimator(preset, features, targets, members=members, seed=seed, **options)
    return [estimator.kind, estimator.settings()]


@lru_cache(maxsize=64)
def _checksum(state: tuple[Path, int, int]) -> str:
    return sha256(state[0])


def _model(experiment: Experiment, name: str) -> ModelSpec:
    return next(item for item in experiment.models if item.name == name)


def finished_files(study: Study, job: Job, data: Path, out: Path) -> dict[str, Path] | None:
    """Return a finished job's files by name, or None if it is not done for this very study and data."""
    path = out / job.folder / _DONE
    try:
        facts = parse_json(read_text(path, 8_000_000))
        files = {str(name): path.parent / str(name) for name in facts["files"]}
        whole = all(sha256(files[name]) == digest for name, digest in facts["files"].items())
        return files if whole and facts["identity"] == identity(study, job, data) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # missing, half-written or foreign: the job is simply run again


def is_done(study: Study, job: Job, data: Path, out: Path) -> bool:
    """Tell whether a job's result lies in ``out`` and belongs to this very study and data."""
    return finished_files(study, job, data, out) is not None


def run_job(
    study: Study, job: Job, data: Path, out: Path, *, threads: int | None = None, progress: bool = False
) -> str:
    """Run one job, write its scores, and mark it done last.

    Parameters
    ----------
    study, job : Study, Job
        What to do.
    data, out : Path
        Folder of the tables, folder of the study's output.
    threads : int, optional
        Threads for torch in this process; 1 is best when several jobs run side by side.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    str
        The job's label.

    Raises
    ------
    GalineageError
        As reading, training and scoring do.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    experiment = study.experiment(job.experiment)
    folder = out / job.folder
    mark = identity(study, job, data)
    model = _model(experiment, job.model)
    kept, tests, adapted = _rows(study, experiment, job, data)
    # the name keeps runs of other settings apart; theirs are of no use any more
    scratch = folder / f"training-{mark[:12]}"
    for old in folder.glob("training-*"):
        if old != scratch:
            shutil.rmtree(old, ignore_errors=True)
    bundle = train(
        kept,
        experiment.inputs(model),
        model.preset,
        target=study.targets(experiment, model),
        members=model.members,
        config=experiment.config(model, study.seed),
        split=experiment.split,
        folder=scratch,
        progress=progress,
        label=job.label,
        **adapted,
        **model.options,
    )
    files = {}
    for name, catalogue in tests.items():
        variants = model.variants if name != job.train else ()
        for version, made in adapted_versions(bundle, kept, catalogue, model.name, variants).items():
            labels = {"model": version, "train": job.train, "test": name}
            for stem, result in _scored(made, catalogue, labels, _seed(study, job)).items():
                path = folder / f"{stem}.parquet"
                result.write(path)
                files[path.name] = sha256(path)
    if job.part in ("whole", "holdout"):
        save(bundle, folder / "bundle")
        files["bundle/bundle.json"] = sha256(folder / "bundle" / "bundle.json")
    write_json(folder / _DONE, {"identity": mark, "files": files})
    (scratch / "checkpoint.safetensors").unlink(missing_ok=True)
    return job.label


def _scored(bundle: Bundle, catalogue: Catalogue, labels: dict[str, Any], seed: int) -> dict[str, Scores | JointScores]:
    """Scores of a test set by the stem of their file; several and the joint ones for a joint model."""
    test, estimator = f"{slug(labels['test'])}.{slug(labels['model'])}", bundle.estimator
    usable = catalogue.complete(needed_fields(estimator))
    usable = usable.select(estimator.usable(usable))
    if not estimator.joint:
        return {f"scores-{test}": with_shift(score(estimator, usable, seed=seed, **labels), bundle, usable)}
    joint, each = score_joint(estimator, usable, seed=seed, **labels)
    found = {f"scores-{test}.{name}": with_shift(item, bundle, usable) for name, item in each.items()}
    return {f"joint-{test}": joint, **found}


def read_complete(study: Study, experiment: Experiment, domain: str, data: Path) -> Catalogue:
    """Read the galaxies of a domain that an experiment can use: the same for all of its models."""
    undefined = MERGER_TARGETS if any(model.joint for model in experiment.models) else ()
    targets = [name for name in study.targets(experiment) if name not in undefined]
    read = read_views if experiment.views else read_domain
    return read(study, domain, data, experiment.rows).complete([*experiment.features, *targets, "mstar"])


def _rows(
    study: Study, experiment: Experiment, job: Job, data: Path
) -> tuple[Catalogue, dict[str, Catalogue], dict[str, Any]]:
    """Training rows, test sets, and options of the training that adapt it to other domains."""
    model = _model(experiment, job.model)
    features = experiment.inputs(model)
    complete = {
        name: read_complete(study, experiment, name, data)
        for name in (experiment.domains if experiment.across else (job.train,))
    }
    if job.part.startswith("to-"):
        name = job.part.removeprefix("to-")
        tests = {name: complete[name]}
        if model.adaptation == "sources":
            labelled = [item for domain, item in complete.items() if domain not in experiment.related(name)]
            if not labelled:
                raise ConfigError(f"experiment {experiment.name} has no domain to learn from for {name}")
            kept, weights = joined_sources(labelled, complete[name], features, study.targets(experiment)[0])
            return kept, tests, {"weights": weights}
        mine = complete[job.train]
        if not experiment.folds:
            return _adapted_holdout(study, experiment, job, complete)
        return mine, tests, training_options(model, mine, [complete[name]], features, study.seed)
    if job.train == TOGETHER:
        held = _held(study, experiment, complete)
        kept = concatenate([complete[name].select(~held[name]) for name in experiment.train_domains])
        return kept, {name: item.select(held[name]) for name, item in complete.items()}, {}
    mine = complete[job.train]
    others = {name: item for name, item in complete.items() if name != job.train and name in experiment.test_domains}
    if job.part == "whole":
        return mine, others, {}
    if job.part == "holdout":
        held = _held(study, experiment, complete)
        return mine.select(~held[job.train]), {name: item.select(held[name]) for name, item in complete.items()}, {}
    fold = int(job.part.removeprefix("fold-"))
    test = folds(split_labels(mine, experiment.split), experiment.folds, study.seed) == fold
    if not test.any():
        raise DataError(f"fold {fold} of {job.train} is empty", advice="use fewer folds")
    kept = mine.select(~test)
    options = training_options(model, kept, list(others.values()), features, study.seed)
    return kept, {job.train: mine.select(np.asarray(test))}, options


def _held(study: Study, experiment: Experiment, complete: dict[str, Catalogue]) -> dict[str, NDArray[np.bool_]]:
    """Tell which rows of each domain are held out."""
    # what the representation has not seen must not depend on who else is in a table
    if study.representation is not None:
        return {
            name: held_out_by_name(catalogue, experiment.holdout, study.seed) for name, catalogue in complete.items()
        }
    return {
        name: held_out_groups(split_labels(catalogue, experiment.split), experiment.holdout, study.seed)
        for name, catalogue in complete.items()
    }


def _adapted_holdout(
    study: Study, experiment: Experiment, job: Job, complete: dict[str, Catalogue]
) -> tuple[Catalogue, dict[str, Catalogue], dict[str, Any]]:
    """Return what `_rows` does, for a training that is adapted to rows that are not held out and tested on others."""
    model, name, held = _model(experiment, job.model), job.part.removeprefix("to-"), _held(study, experiment, complete)
    kept = complete[job.train].select(~held[job.train])
    options = training_options(model, kept, [complete[name].select(~held[name])], experiment.inputs(model), study.seed)
    foreign = [item for item in experiment.test_domains if item != job.train]
    tested = (name, job.train) if name == foreign[0] else (name,)
    return kept, {item: complete[item].select(held[item]) for item in tested}, options


def _seed(study: Study, job: Job) -> int:
    """Seed of posterior samples and reference points: another one for every part, so that folds are independent."""
    return study.seed + 1_000_003 * (1 + int(hashlib.sha256(job.part.encode()).hexdigest()[:4], 16))


def read_scores(study: Study, data: Path, out: Path, experiment: Experiment) -> list[Scores]:
    """Read every test of an experiment, folds joined, in the order models x training x test domains x targets.

    Raises
    ------
    ConfigError
        If a job of it is not done, or was done with other settings or tables.
    """
    found: dict[tuple[str, str, str, str], list[Scores]] = {}
    for job, path in _finished(study, data, out, experiment, "scores-"):
        scores = Scores.read(path)
        found.setdefault((scores.model, job.train, scores.test, scores.target), []).append(scores)
    targets = study.targets(experiment)
    places = sorted(found, key=lambda key: (*_place(experiment, key), targets.index(key[3])))
    return [join(found[key]) for key in places]


def read_joint_scores(study: Study, data: Path, out: Path, experiment: Experiment) -> list[JointScores]:
    """Read every test of the joint models of an experiment, folds joined, in the order of `read_scores`.

    Raises
    ------
    ConfigError
        As `read_scores` does.
    """
    found: dict[tuple[str, str, str], list[JointScores]] = {}
    for job, path in _finished(study, data, out, experiment, "joint-"):
        scores = JointScores.read(path)
        found.setdefault((scores.model, job.train, scores.test), []).append(scores)
    return [join_joint(found[key]) for key in sorted(found, key=lambda key: _place(experiment, key))]


def _place(experiment: Experiment, key: tuple[str, ...]) -> tuple[int, int, int]:
    models = [label for model in experiment.models for label in model.labels]
    trains = [*experiment.domains, *map(all_but, experiment.domains), TOGETHER]
    return models.index(key[0]), trains.index(key[1]), experiment.domains.index(key[2])


def _finished(study: Study, data: Path, out: Path, experiment: Experiment, stem: str) -> Iterator[tuple[Job, Path]]:
    """Yield the files of an experiment's jobs whose name begins with ``stem``."""
    for job in plan(study):
        if job.experiment != experiment.name:
            continue
        files = finished_files(study, job, data, out)
        if files is None:
            raise ConfigError(
                f"the job {job.label!r} is not done, or was done with other settings or tables",
                where=str(out),
                advice="run the study again with `galineage run`: it does what is missing",
            )
        yield from ((job, files[name]) for name in sorted(files) if name.startswith(stem))
