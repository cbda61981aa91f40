"""A declared experiment: domains x inputs x models x tests, read from one TOML file into frozen dataclasses."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from dataclasses import field as default
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.errors import ConfigError
from galineage.fields import check_features, expanded_features, field
from galineage.guard import parse_toml, read_text
from galineage.models import ESTIMATORS, PRESETS
from galineage.study.adapting import TESTED, TRAINED, variant_label
from galineage.training import TrainConfig, recommended_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.training.contrastive import ContrastiveConfig

__all__ = [
    "DomainSpec",
    "Experiment",
    "FigureSpec",
    "ModelSpec",
    "RepresentationSpec",
    "Study",
    "available_studies",
    "load_study",
]


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class DomainSpec:
    """One simulation of a study.

    Attributes
    ----------
    name : str
        Label, for example ``TNG100-1``.
    file : str
        File name below the data folder; empty if the map store holds the galaxies too.
    mapping : str
        Shipped mapping, or a TOML file below the data folder.
    rows : str
        Row filter of the mapping that is used for results: one row per galaxy.
    mstar_min : float
        Smallest stellar mass in Msun; 0 for all.
    toy : int
        Number of galaxies of the toy suite called ``name``, which the run makes itself; 0 for a table.
    maps : str
        Folder of a map store, or of a store of images, below the data folder, which has this domain; empty for none.
    stand_in : str
        The toy suite that takes its place where the study is run on toys; empty: told by its place in the study.
    """

    name: str
    file: str = ""
    mapping: str = ""
    rows: str = "z0"
    mstar_min: float = 0.0
    toy: int = 0
    maps: str = ""
    stand_in: str = ""

    def __post_init__(self) -> None:
        if not self.toy and not self.maps and not (self.file and self.mapping):
            raise ConfigError(f"domain {self.name} has no table", expected="file and mapping, or maps, or toy = N")
        if bool(self.file) != bool(self.mapping):
            raise ConfigError(f"domain {self.name} has a file or a mapping, and not both", expected="both, or neither")
        if self.toy < 0:
            raise ConfigError(f"domain {self.name} has {self.toy} toy galaxies", expected="0 or more")

    @property
    def has_table(self) -> bool:
        """Whether its galaxies are those of a file; else of its map store, or toys."""
        return bool(self.file) and not self.toy


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
    training : mapping
        Settings of the training that replace the recommended ones.
    name : str
        Label in tables and figures, and name of its folder; default: the preset.
    features : tuple of str
        Inputs that replace the experiment's: some of these.
    adaptation : str
        How the training is adapted to the unlabelled galaxies of the domain that is tested, a key of
        `galineage.study.adapting.TRAINED`; ``none`` for not at all.
    variants : tuple of str
        How the trained model is adapted at the time of testing, keys of `galineage.study.adapting.TESTED`: each is
        one more result across domains.
    """

    preset: str
    members: int = 5
    options: Mapping[str, Any] = default(default_factory=dict)
    training: Mapping[str, Any] = default(default_factory=dict)
    name: str = ""
    features: tuple[str, ...] = ()
    adaptation: str = "none"
    variants: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"there is no model called {self.preset!r}", expected="one of " + ", ".join(PRESETS))
        if not self.name:
            object.__setattr__(self, "name", self.preset)
        object.__setattr__(self, "variants", tuple(self.variants))
        object.__setattr__(self, "features", expanded_features(self.features))
        check_features(self.features)
        for given, known in ((self.adaptation, ("none", *TRAINED)), *((item, TESTED) for item in self.variants)):
            if given not in known:
                raise ConfigError(f"model {self.name}: unknown adaptation {given!r}", expected=", ".join(known))
        unknown = set(self.training) - {item.name for item in fields(recommended_config(self.preset))}
        if unknown:
            raise ConfigError(f"model {self.name} has unknown training settings {sorted(unknown)}")

    @property
    def labels(self) -> list[str]:
        """Names of its results: its own and those of its variants."""
        return [self.name, *(variant_label(self.name, item) for item in self.variants)]

    @property
    def sees_maps(self) -> bool:
        """Whether the model looks at maps; ``features`` are then what it is given beside them."""
        return ESTIMATORS[PRESETS[self.preset][0]].sees_maps

    @property
    def joint(self) -> bool:
        """Whether the model infers several targets together; the others infer the first one."""
        return ESTIMATORS[PRESETS[self.preset][0]].joint


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
        What is trained. Joint models infer all targets, the others the first.
    targets : tuple of str
        Field names of what is inferred; empty for the study's target.
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
    trains, tests : tuple of str
        Domains to train on, and to test on when it is another one; empty for all.
    views : bool
        Whether rows are views of galaxies, with maps, from the domains' map stores, instead of the rows of their
        tables. Views of a galaxy stay together; each counts as a test.
    siblings : tuple of tuple of str
        Domains that hold the same galaxies, or others of the same initial conditions: what is tested on one of them is
        not trained on the truth of another.
    """

    name: str
    title: str
    domains: tuple[str, ...]
    features: tuple[str, ...]
    models: tuple[ModelSpec, ...]
    targets: tuple[str, ...] = ()
    rows: str | None = None
    split: str = "root"
    folds: int = 5
    holdout: float = 0.15
    across: bool = True
    epochs: int = 500
    trains: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    views: bool = False
    siblings: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", expanded_features(self.features))
        check_features(self.features)
        for name in self.targets:
            field(name)
        if self.folds == 1 or self.folds < 0:
            raise ConfigError(f"experiment {self.name}: folds is {self.folds}", expected="0 (hold-out) or 2 and more")
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"an experiment is called {self.name!r}", expected="letters, digits, - and _")
        if len({model.name for model in self.models}) < len(self.models):
            raise ConfigError(f"experiment {self.name} lists a model twice", advice="give each its own name")
        blind = [model.name for model in self.models if model.sees_maps and not self.views]
        if blind:
            raise ConfigError(f"experiment {self.name}: {', '.join(blind)} needs maps", advice="add views = true")
        if self.folds == 0 and any(model.adaptation == "sources" for model in self.models):
            raise ConfigError(f"experiment {self.name} learns from all but one domain", expected="folds")
        if self.folds and any(model.adaptation == "together" for model in self.models):
            raise ConfigError(f"experiment {self.name} trains on all domains and has folds", expected="folds = 0")
        unknown = {*self.trains, *self.tests, *(name for group in self.siblings for name in group)} - set(self.domains)
        if unknown:
            raise ConfigError(f"experiment {self.name} names domains {sorted(unknown)} that it does not have")

    def related(self, domain: str) -> set[str]:
        """Return a domain and its siblings."""
        return {domain, *(name for group in self.siblings if domain in group for name in group)}

    @property
    def train_domains(self) -> tuple[str, ...]:
        """Domains that models are trained on."""
        return self.trains or self.domains

    @property
    def test_domains(self) -> tuple[str, ...]:
        """Domains that models of another domain are tested on."""
        return self.tests or self.domains

    def inputs(self, model: ModelSpec) -> tuple[str, ...]:
        """Return the fields that a model is given: its own, or the experiment's; beside maps only its own."""
        return model.features if model.sees_maps else model.features or self.features

    def config(self, model: ModelSpec, seed: int) -> TrainConfig:
        """Return the training settings of a model: the recommended ones, the paper's for the paper's network."""
        config = replace(recommended_config(model.preset), **model.training)
        return replace(config, seed=seed, max_epochs=min(self.epochs, config.max_epochs))


@dataclass(frozen=True)
class RepresentationSpec:
    """How a study learns what it sees in images, before anything else; see `galineage.study.image_steps`.

    Attributes
    ----------
    images : str
        Folder of the store of images, below the data folder.
    domains : tuple of str
        Whose images are learned from, but for those that experiments hold out.
    encoder : str
        ``representation`` or ``resnet18``.
    widths : tuple of int
        Channels of its stages; empty for its own.
    training : mapping
        Settings of `galineage.training.contrastive.ContrastiveConfig` that replace its own.
    probe : tuple of str
        Fields that are inferred from the representation in passing, to watch the training.
    """

    images: str
    domains: tuple[str, ...]
    encoder: str = "representation"
    widths: tuple[int, ...] = ()
    training: Mapping[str, Any] = default(default_factory=dict)
    probe: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("domains", "widths", "probe"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        if not self.images or not self.domains:
            raise ConfigError("a representation has no images to learn from", expected="images and domains")
        for name in self.probe:
            field(name)
        self.config(0)

    def config(self, seed: int) -> ContrastiveConfig:
        """Return the settings of the training."""
        from galineage.training.augmentation import Augmentation
        from galineage.training.contrastive import ContrastiveConfig

        given = dict(self.training)
        unknown = set(given) - {item.name for item in fields(ContrastiveConfig)}
        if unknown:
            raise ConfigError(f"the representation has unknown training settings {sorted(unknown)}")
        if "augmentation" in given:
            given["augmentation"] = Augmentation(**given["augmentation"])
        return ContrastiveConfig(**{**given, "seed": seed})


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
    representation : RepresentationSpec, optional
        What is learned from images first.
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
    representation: RepresentationSpec | None = None

    def __post_init__(self) -> None:
        field(self.target)
        known = {item.name for item in self.domains}
        if self.representation is not None and set(self.representation.domains) - known:
            raise ConfigError("the representation learns from unknown domains", expected=", ".join(known))
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

    def targets(self, experiment: Experiment, model: ModelSpec | None = None) -> tuple[str, ...]:
        """Return the targets of an experiment, or those of them that a model infers."""
        every = experiment.targets or (self.target,)
        return every if model is None or model.joint else every[:1]

    def smaller(
        self, *, epochs: int, members: int, folds: int = 100, toys: int = 1500, looks: int | None = None
    ) -> Study:
        """Return the same study with shorter training, fewer folds, members and toys, for a quick look.

        ``looks`` is the most epochs of the representation, ``epochs`` that of all other networks and, without
        ``looks``, of both. Few galaxies make few steps an epoch, so that networks of tables need more epochs, not less.
        """
        return replace(
            self,
            representation=_shorter(self.representation, epochs if looks is None else looks),
            domains=tuple(replace(item, toy=min(item.toy, toys)) for item in self.domains),
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
        values["representation"] = _representation(values.get("representation"))
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
        values = parse_toml(read_text(path))
    except ValueError as error:
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
    values["representation"] = _representation(values.get("representation"))
    names = {item.name for item in fields(Study)}
    unknown = set(values) - names
    if unknown:
        raise ConfigError(f"the study has unknown settings {sorted(unknown)}", expected=", ".join(sorted(names)))
    return Study(**values, domains=domains, experiments=experiments, figures=tuple(figures), sections=tuple(sections))


def _representation(values: dict[str, Any] | None) -> RepresentationSpec | None:
    return None if values is None else RepresentationSpec(**values)


def _shorter(spec: RepresentationSpec | None, epochs: int) -> RepresentationSpec | None:
    if spec is None:
        return None
    return replace(spec, training={**spec.training, "epochs": min(epochs, spec.config(0).epochs)})


def _experiment(values: dict[str, Any]) -> Experiment:
    models = tuple(ModelSpec(item) if isinstance(item, str) else ModelSpec(**item) for item in values.pop("models"))
    for key in ("domains", "features", "targets", "trains", "tests"):
        values[key] = tuple(values.get(key, ()))
    values["siblings"] = tuple(tuple(group) for group in values.get("siblings", ()))
    return Experiment(models=models, **values)
