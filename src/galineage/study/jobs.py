"""The units of work of a study: train one estimator on one set of rows and score it; done once, found again later."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage import __version__
from galineage.atomic import sha256, write_json
from galineage.errors import DataError, FileFormatError
from galineage.evaluation.scores import Scores
from galineage.evaluation.scoring import score
from galineage.models.bundle import save
from galineage.sources import open_source
from galineage.store.splits import folds, held_out_groups, split_labels
from galineage.training import train

if TYPE_CHECKING:
    from galineage.galaxy import Catalogue
    from galineage.study.spec import DomainSpec, Experiment, ModelSpec, Study

__all__ = ["Job", "plan", "read_domain", "run_job"]

_DONE = "done.json"


@dataclass(frozen=True)
class Job:
    """One training and its tests.

    Attributes
    ----------
    experiment, model, train : str
        Names of the experiment, the preset and the training domain.
    part : str
        ``fold-K`` trains on the other folds and tests on fold K; ``whole`` trains on all rows and tests on the other
        domains; ``holdout`` trains on all but the held-out rows and tests on those, here and in the other domains.
    """

    experiment: str
    model: str
    train: str
    part: str

    @property
    def folder(self) -> Path:
        """Folder below the study's output."""
        return Path("cells") / self.experiment / self.model / slug(self.train) / self.part

    @property
    def label(self) -> str:
        """Words for progress lines."""
        return f"{self.experiment}: {self.model} on {self.train}, {self.part}"


def slug(name: str) -> str:
    """Return a name fit for files: letters, digits, dots, dashes and underscores."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)


def plan(study: Study) -> list[Job]:
    """List every job of a study, slow ones first so that parallel workers end together."""
    jobs = []
    for experiment in study.experiments:
        parts = [f"fold-{k}" for k in range(experiment.folds)] or ["holdout"]
        if experiment.folds:
            parts.append("whole")
        jobs += [
            Job(experiment.name, model.preset, domain, part)
            for model in experiment.models
            for domain in experiment.domains
            for part in parts
        ]
    order = {"paper": 0, "paper-bounded": 0, "flow": 1, "mdn": 1}
    return sorted(jobs, key=lambda job: order.get(job.model, 2))


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
    names = list(dict.fromkeys(name for item in study.experiments for name in item.domains))
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


@lru_cache(maxsize=16)
def _read(path: Path, mapping: str, rows: str) -> Catalogue:
    return open_source(path, mapping).read(rows)


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
    mapping = domain.mapping
    if mapping.endswith(".toml"):
        mapping = str(Path(data) / mapping)
    catalogue = _read(data_path(domain, data), mapping, rows or domain.rows)
    return catalogue.select(catalogue["mstar"] >= domain.mstar_min) if domain.mstar_min else catalogue


def identity(study: Study, job: Job, data: Path) -> str:
    """Hash everything that a job's result depends on: settings, data and version."""
    experiment = study.experiment(job.experiment)
    spec = {
        "job": asdict(job),
        "experiment": {key: value for key, value in asdict(experiment).items() if key not in ("title", "models")},
        "model": asdict(_model(experiment, job.model)),
        "domains": [asdict(study.domain(name)) for name in experiment.domains],
        "data": [_checksum(data_path(study.domain(name), data)) for name in experiment.domains],
        "target": study.target,
        "seed": study.seed,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache(maxsize=64)
def _checksum(path: Path) -> str:
    return sha256(path)


def _model(experiment: Experiment, preset: str) -> ModelSpec:
    return next(item for item in experiment.models if item.preset == preset)


def is_done(study: Study, job: Job, data: Path, out: Path) -> bool:
    """Tell whether a job's result lies in ``out`` and belongs to this very study and data."""
    path = out / job.folder / _DONE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return facts["identity"] == identity(study, job, data) and all(
            sha256(path.parent / name) == digest for name, digest in facts["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # missing, half-written or foreign: the job is simply run again


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
    kept, tests = _rows(study, experiment, job, data)
    model = _model(experiment, job.model)
    bundle = train(
        kept,
        experiment.features,
        model.preset,
        target=study.target,
        members=model.members,
        config=experiment.config(model, study.seed),
        split=experiment.split,
        folder=folder / "training",
        progress=progress,
        label=job.label,
        **model.options,
    )
    files = {}
    for name, catalogue in tests.items():
        result = score(bundle.estimator, catalogue, model=model.preset, train=job.train, test=name, seed=study.seed)
        path = folder / f"scores-{slug(name)}.parquet"
        result.write(path)
        files[path.name] = sha256(path)
    if job.part in ("whole", "holdout"):
        save(bundle, folder / "bundle")
        files["bundle/bundle.json"] = sha256(folder / "bundle" / "bundle.json")
    write_json(folder / _DONE, {"identity": identity(study, job, data), "files": files})
    (folder / "training" / "checkpoint.safetensors").unlink(missing_ok=True)
    return job.label


def _rows(study: Study, experiment: Experiment, job: Job, data: Path) -> tuple[Catalogue, dict[str, Catalogue]]:
    """Training rows and test sets of a job."""
    complete = {
        name: read_domain(study, name, data, experiment.rows).complete([*experiment.features, study.target, "mstar"])
        for name in (experiment.domains if experiment.across else (job.train,))
    }
    mine = complete[job.train]
    groups = split_labels(mine, experiment.split)
    others = {name: catalogue for name, catalogue in complete.items() if name != job.train}
    if job.part == "whole":
        return mine, others
    if job.part == "holdout":
        held = {
            name: held_out_groups(split_labels(catalogue, experiment.split), experiment.holdout, study.seed)
            for name, catalogue in complete.items()
        }
        return mine.select(~held[job.train]), {name: item.select(held[name]) for name, item in complete.items()}
    fold = int(job.part.removeprefix("fold-"))
    test = folds(groups, experiment.folds, study.seed) == fold
    if not test.any():
        raise DataError(f"fold {fold} of {job.train} is empty", advice="use fewer folds")
    return mine.select(~test), {job.train: mine.select(np.asarray(test))}


def read_scores(out: Path, experiment: Experiment) -> list[Scores]:
    """Read every test of an experiment, folds joined, in the order models x training x test domains."""
    from galineage.evaluation.scores import join

    found: dict[tuple[str, str, str], list[Scores]] = {}
    for model in experiment.models:
        for train_name in experiment.domains:
            folder = (out / Job(experiment.name, model.preset, train_name, "x").folder).parent
            for test_name in experiment.domains:
                paths = sorted(folder.glob(f"*/scores-{slug(test_name)}.parquet"), key=_part_order)
                inside = [p for p in paths if _belongs(p.parent.name, experiment, same=test_name == train_name)]
                if inside:
                    found[model.preset, train_name, test_name] = [Scores.read(path) for path in inside]
    return [join(parts) for parts in found.values()]


def _part_order(path: Path) -> Any:
    return path.parent.name


def _belongs(part: str, experiment: Experiment, *, same: bool) -> bool:
    if not experiment.folds:
        return part == "holdout"
    return part in {f"fold-{k}" for k in range(experiment.folds)} if same else part == "whole"
