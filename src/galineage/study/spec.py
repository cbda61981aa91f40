"""A declared experiment: domains x inputs x models x tests, read from one TOML file into frozen dataclasses."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from dataclasses import field as default
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.errors import ConfigError
from galineage.fields import check_features, field
from galineage.models import PRESETS
from galineage.training import recommended_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.training import TrainConfig

__all__ = ["DomainSpec", "Experiment", "FigureSpec", "ModelSpec", "Study", "available_studies", "load_study"]


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class DomainSpec:
    """One simulation of a study.

    Attributes
    ----------
    name : str
        Label, for example ``TNG100-1``.
    file : str
        File name below the data folder.
    mapping : str
        Shipped mapping, or a TOML file below the data folder.
    rows : str
        Row filter of the mapping that is used for results: one row per galaxy.
    mstar_min : float
        Smallest stellar mass in Msun; 0 for all.
    """

    name: str
    file: str
    mapping: str
    rows: str = "z0"
    mstar_min: float = 0.0


@dataclass(frozen=True)
class ModelSpec:
    """One estimator of an experiment.

    Attributes
    ----------
    preset : str
        A key of `galineage.models.PRESETS`.
    members : int
        Networks in the ensemble.
    options : mapping
        Settings of the estimator that replace the preset's.
    """

    preset: str
    members: int = 5
    options: Mapping[str, Any] = default(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"there is no model called {self.preset!r}", expected="one of " + ", ".join(PRESETS))


@dataclass(frozen=True)
class Experiment:
    """Estimators with the same inputs, trained and tested the same way.

    Attributes
    ----------
    name, title : str
        Short name for files, and a title for pages.
    domains : tuple of str
        Each is trained on, and tested with, in turn.
    features : tuple of str
        Field names of the inputs.
    models : tuple of ModelSpec
        What is trained.
    rows : str or None
        Row filter that replaces the domains' own, such as ``all``.
    split : {"root", "row"}
        What stays together; ``row`` is the 2023 paper's and leaks between snapshots.
    folds : int
        Cross-validation folds inside a domain; 0 for one hold-out set.
    holdout : float
        Fraction of the rows tested where ``folds`` is 0.
    across : bool
        Whether each domain's model is also tested on the others: trained on all its rows, tested on all of theirs
        (with a hold-out set: on theirs).
    epochs : int
        Longest training.
    """

    name: str
    title: str
    domains: tuple[str, ...]
    features: tuple[str, ...]
    models: tuple[ModelSpec, ...]
    rows: str | None = None
    split: str = "root"
    folds: int = 5
    holdout: float = 0.15
    across: bool = True
    epochs: int = 500

    def __post_init__(self) -> None:
        check_features(self.features)
        if self.folds == 1 or self.folds < 0:
            raise ConfigError(f"experiment {self.name}: folds is {self.folds}", expected="0 (hold-out) or 2 and more")
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"an experiment is called {self.name!r}", expected="letters, digits, - and _")
        if len({model.preset for model in self.models}) < len(self.models):
            raise ConfigError(f"experiment {self.name} lists a model twice")

    def config(self, model: ModelSpec, seed: int) -> TrainConfig:
        """Return the training settings of a model: the paper's for the paper's network."""
        return replace(recommended_config(model.preset), seed=seed, max_epochs=self.epochs)


@dataclass(frozen=True)
class FigureSpec:
    """One entry of the report: a kind of figure and its options.

    Attributes
    ----------
    kind : str
        A key of `galineage.study.pages.KINDS`.
    section : str
        Title of the report section it belongs to.
    options : mapping
        What the kind needs: experiment, model, title ...
    """

    kind: str
    section: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A whole study.

    Attributes
    ----------
    name, title, lead : str
        File name, page title, first paragraph.
    target : str
        Field name of what is inferred.
    domains : tuple of DomainSpec
        Every simulation.
    experiments : tuple of Experiment
        What is run.
    figures : tuple of FigureSpec
        What is shown.
    sections : tuple of (title, first paragraphs)
        In the order of the page.
    warning : str
        Banner of the report, for toys.
    seed : int
        Seed of splits, weights and samples.
    """

    name: str
    title: str
    lead: str
    target: str
    domains: tuple[DomainSpec, ...]
    experiments: tuple[Experiment, ...]
    figures: tuple[FigureSpec, ...]
    sections: tuple[tuple[str, str], ...]
    warning: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        field(self.target)
        known = {item.name for item in self.domains}
        for experiment in self.experiments:
            unknown = set(experiment.domains) - known
            if unknown:
                raise ConfigError(f"experiment {experiment.name} uses unknown domains {sorted(unknown)}")

    def domain(self, name: str) -> DomainSpec:
        """Return the domain called ``name``."""
        return next(item for item in self.domains if item.name == name)

    def experiment(self, name: str) -> Experiment:
        """Return the experiment called ``name``.

        Raises
        ------
        ConfigError
            If there is none.
        """
        for item in self.experiments:
            if item.name == name:
                return item
        raise ConfigError(f"study {self.name} has no experiment {name!r}")

    def smaller(self, *, epochs: int, folds: int, members: int) -> Study:
        """Return the same study with shorter training, fewer folds and smaller ensembles, for a quick look."""
        return replace(
            self,
            experiments=tuple(
                replace(
                    item,
                    epochs=min(item.epochs, epochs),
                    folds=min(item.folds, folds),
                    models=tuple(replace(model, members=min(model.members, members)) for model in item.models),
                )
                for item in self.experiments
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for hashing and storing."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Study:
        """Return the inverse of `as_dict`, from JSON; raises KeyError and TypeError if something is missing."""
        values = dict(values)
        values["domains"] = tuple(DomainSpec(**item) for item in values["domains"])
        values["experiments"] = tuple(_experiment(dict(item)) for item in values["experiments"])
        values["figures"] = tuple(FigureSpec(**item) for item in values["figures"])
        values["sections"] = tuple((title, lead) for title, lead in values["sections"])
        return cls(**values)


def available_studies() -> dict[str, Path]:
    """Return the studies that come with the package: name to file."""
    folder = Path(str(resources.files("galineage") / "studies"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_study(name_or_path: str | Path) -> Study:
    """Read a study.

    Parameters
    ----------
    name_or_path : str or path
        Name of a shipped study, or a TOML file.

    Returns
    -------
    Study

    Raises
    ------
    ConfigError
        If there is no such study, the file is no TOML, or a setting is missing, unknown or wrong.
    """
    known = available_studies()
    path = known.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise ConfigError(
            f"there is no study {str(name_or_path)!r}",
            expected="one of " + ", ".join(known) + ", or a TOML file",
            advice="galineage run --help",
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the study is not valid TOML: {error}", where=str(path)) from error
    try:
        return _build(values)
    except KeyError as error:
        raise ConfigError(f"the study lacks {error}", where=str(path)) from error
    except TypeError as error:
        raise ConfigError(f"the study has a wrong setting: {error}", where=str(path)) from error


def _build(values: dict[str, Any]) -> Study:
    values = dict(values)
    domains = tuple(DomainSpec(name=name, **options) for name, options in values.pop("domains").items())
    experiments = tuple(_experiment(dict(item)) for item in values.pop("experiments"))
    sections: list[tuple[str, str]] = []
    figures: list[FigureSpec] = []
    for section in values.pop("sections"):
        sections.append((section["title"], section.get("lead", "")))
        figures += [
            FigureSpec(item["kind"], section["title"], {key: item[key] for key in item if key != "kind"})
            for item in section.get("items", [])
        ]
    names = {item.name for item in fields(Study)}
    unknown = set(values) - names
    if unknown:
        raise ConfigError(f"the study has unknown settings {sorted(unknown)}", expected=", ".join(sorted(names)))
    return Study(**values, domains=domains, experiments=experiments, figures=tuple(figures), sections=tuple(sections))


def _experiment(values: dict[str, Any]) -> Experiment:
    models = tuple(ModelSpec(item) if isinstance(item, str) else ModelSpec(**item) for item in values.pop("models"))
    for key in ("domains", "features"):
        values[key] = tuple(values[key])
    return Experiment(models=models, **values)
