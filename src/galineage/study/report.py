"""From a study's finished jobs to its report, its bundles with their measured quality, and every number as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage import __version__
from galineage.errors import ConfigError, DataError
from galineage.evaluation import DIAGNOSTICS, JOINT_DIAGNOSTICS, Scores, accuracy
from galineage.evaluation.assess import Evaluation
from galineage.fields import FIELDS, listed
from galineage.guard import parse_json, read_text
from galineage.models import ESTIMATORS, PRESETS, DirectEstimator
from galineage.models.bundle import load, save
from galineage.reporting import Grid, Panel, Section, write_report
from galineage.sources import skip_table
from galineage.study.image_steps import learn_representation
from galineage.study.jobs import Job, slug
from galineage.study.pages import KINDS, accuracy_table, readable
from galineage.study.results import Results
from galineage.study.runner import run_jobs
from galineage.study.spec import Study, load_study
from galineage.tables import write_table
from galineage.training import with_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    from galineage.evaluation import Diagnostic
    from galineage.study.spec import DomainSpec, ModelSpec

__all__ = ["build_report", "report", "run_study"]


def run_study(
    study: Study | str | Path,
    data: str | Path,
    out: str | Path,
    *,
    executor: Executor | None = None,
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Run a study from tables to report; what is done already is not done again.

    Parameters
    ----------
    study : Study, str or path
        A study, the name of a shipped one, or its TOML file.
    data : path
        Folder with the tables that the study names.
    out : path
        Folder of the output.
    executor : concurrent.futures.Executor, optional
        Where jobs run; default a local process pool.
    workers : int
        Processes of the local pool; 0 means one per core.
    say : callable
        Gets lines of progress.

    Returns
    -------
    Path
        The report's HTML page.

    Raises
    ------
    GalineageError
        For a wrong study file, missing tables, and what reading and training raise.
    """
    chosen = study if isinstance(study, Study) else load_study(study)
    check_figures(chosen)
    learn_representation(chosen, data, say=say)
    run_jobs(chosen, Path(data), Path(out), executor=executor, workers=workers, say=say)
    return build_report(chosen, data, out, say=say)


def check_figures(study: Study) -> None:
    """Refuse a study whose report asks for unknown kinds, experiments or models, before hours are spent.

    Raises
    ------
    ConfigError
        Naming the figure.
    """
    for entry in study.figures:
        where = f"section {entry.section!r}, figure {entry.options.get('name', '?')!r}"
        if entry.kind not in KINDS:
            raise ConfigError(f"there is no kind {entry.kind!r}", where=where, expected="one of " + ", ".join(KINDS))
        if "experiment" in entry.options:
            known = {label for model in study.experiment(entry.options["experiment"]).models for label in model.labels}
            asked = {
                *entry.options.get("models", ()),
                *(entry.options[key] for key in ("model",) if key in entry.options),
            }
            if asked - known:
                raise ConfigError(f"models {sorted(asked - known)} are not in the experiment", where=where)


def build_report(study: Study, data: str | Path, out: str | Path, *, say: Callable[[str], None] = print) -> Path:
    """Write report, tables and bundles of a finished study; returns the report's HTML page.

    Raises
    ------
    ConfigError
        If the study file asks for tests that are not finished.
    """
    results = Results(study, Path(data), Path(out))
    sections = []
    for title, lead in study.sections:
        items, missing = _items(results, title)
        for line in missing:
            say(line)
        sections.append(Section(title, "\n\n".join([lead, *missing]).strip(), tuple(items)))
    say("drawing the report")
    page = write_report(
        Path(out),
        title=study.title,
        lead=study.lead,
        sections=tuple(sections),
        facts=_facts(results),
        warning=study.warning,
        progress=False,
    )
    for experiment in study.experiments:
        tests = results.scores(experiment.name)
        _finish_bundles(results, experiment.name, tests)
    _write_skips(results)
    return page


def _items(results: Results, section: str) -> tuple[list[Panel | Grid], list[str]]:
    """Make the figures and tables of a section; a figure whose galaxies do not suffice is a sentence instead."""
    items: list[Panel | Grid] = []
    missing = []
    for entry in results.study.figures:
        if entry.section != section:
            continue
        try:
            items += KINDS[entry.kind](results, entry.options)
        except DataError as error:
            name = entry.options.get("title") or entry.options.get("name")
            missing.append(f"Not drawn: {name} ({error.what}).")
    return items, missing


def report(
    source: Evaluation | str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Write a report page with its figures and tables.

    Parameters
    ----------
    source : Evaluation or path
        What `galineage.evaluate` found; or the folder of a finished study, whose report is made again.
    out : path, optional
        Folder of the report; needed for an evaluation, and the study's own folder for a study.
    data : path, optional
        Folder with the tables of the study, if it has moved since the run.
    say : callable
        Gets lines of progress.

    Returns
    -------
    Path
        The HTML page.

    Raises
    ------
    ConfigError
        If no folder is given, or the folder holds no study.
    """
    if isinstance(source, Evaluation):
        if out is None:
            raise ConfigError("no folder was given for the report", advice="report(evaluation, folder)")
        return _evaluation_page(source, Path(out))
    path = Path(source) / "study.json"
    try:
        stored = parse_json(read_text(path, 8_000_000))
        study, tables = Study.from_dict(stored["study"]), Path(data or stored["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"this folder holds no study: {error}", where=str(path), advice="give the --out folder of `galineage run`"
        ) from error
    return build_report(study, tables, Path(source), say=say)


def _evaluation_page(found: Evaluation, out: Path) -> Path:
    scores = found.scores
    sections = [
        Section(
            "Diagnostics",
            "Each answers one question; the sentence below a figure is its answer.",
            _panels(found, DIAGNOSTICS, ""),
        )
    ]
    write_table(scores.to_table(), out / "scores.ecsv")
    if found.joint is not None:
        lead = "Over all targets together. Draws of every galaxy are in joint.parquet."
        sections.insert(0, Section("All targets together", lead, _panels(found, JOINT_DIAGNOSTICS, "joint.")))
        found.joint.write(out / "joint.parquet")
    for name, other in found.others.items():
        lead = f"Of the galaxies in which it is defined: {FIELDS[name].meaning}."
        sections.append(Section(f"Diagnostics of {name}", lead, _panels(found, DIAGNOSTICS, f"{name}.")))
        write_table(other.to_table(), out / f"scores_{name}.ecsv")
    numbers = [scores, *found.others.values()]
    table = accuracy_table(numbers)
    return write_report(
        out,
        title=f"{scores.model}: trained on {scores.train}, tested on {scores.test}",
        lead=f"{len(scores)} galaxies whose {FIELDS[scores.target].meaning} is known.",
        sections=(
            Section(
                "Numbers",
                "",
                (Grid("summary", "Accuracy", "With bootstrap errors over galaxies.", table, readable(table)),),
            ),
            *sections,
        ),
        facts={
            "galineage": __version__,
            "galaxies": str(len(found.joint or scores)),
            "targets": ", ".join(item.target for item in numbers),
        },
        warning=found.warning,
        progress=False,
    )


def _panels(found: Evaluation, diagnostics: Mapping[str, Diagnostic], mark: str) -> tuple[Panel, ...]:
    """Panels of the diagnostics whose results are called ``mark`` and their name."""
    return tuple(
        Panel(
            f"{mark}{name}".replace(".", "_"),
            diagnostic.title,
            diagnostic.caption,
            diagnostic.figure(found.results[mark + name]),
            (found.verdicts[mark + name],),
            found.results[mark + name].to_table(),
        )
        for name, diagnostic in diagnostics.items()
        if mark + name in found.results
    )


def _facts(results: Results) -> dict[str, str]:
    study = results.study
    facts = {"galineage": __version__, "study": study.name, "seed": str(study.seed), "target": study.target}
    for domain in study.domains:
        facts[f"table of {domain.name}"] = _about(domain, results)
    for experiment in study.experiments:
        counts = [
            f"{len(usable)} of {len(usable) + missing} galaxies of {name}"
            for name, (usable, missing) in results.usable(experiment.name).items()
        ]
        facts[f"experiment {experiment.name}"] = (
            f"{experiment.title}: inputs {listed(experiment.features) or 'maps'}; targets "
            f"{', '.join(study.targets(experiment))}; {', '.join(counts)} have all that is needed; models "
            + ", ".join(_count(model) for model in experiment.models)
            + f"; split by {experiment.split}, "
            + (f"{experiment.folds} folds" if experiment.folds else f"{experiment.holdout:.0%} held out")
        )
    return facts


def _about(domain: DomainSpec, results: Results) -> str:
    """Say where the galaxies of a domain come from."""
    catalogue = results.catalogue(domain.name)
    if domain.toy:
        return f"toy universe, {len(catalogue)} galaxies, seed {results.study.seed}"
    if not domain.has_table:
        return f"map store {domain.maps}, {len(catalogue)} galaxies"
    return (
        f"{domain.file}, rows {domain.rows}, {len(catalogue)} galaxies"
        + (f" above {domain.mstar_min:g} Msun" if domain.mstar_min else "")
        + f", {len(catalogue.skipped)} skipped, sha256 {catalogue.meta.get('sha256', '')}"
    )


def _count(model: ModelSpec) -> str:
    single = issubclass(ESTIMATORS[PRESETS[model.preset][0]], DirectEstimator)
    return model.name if single else f"{model.name} x {model.members}"


def _finish_bundles(results: Results, experiment: str, tests: list[Scores]) -> None:
    """Copy each model trained on a whole domain to ``bundles/``, with what the tests found on its card."""
    spec = results.study.experiment(experiment)
    part = "whole" if spec.folds else "holdout"
    for model in spec.models:
        for domain in spec.train_domains if model.adaptation == "none" else ():
            folder = results.out / Job(experiment, model.name, domain, part).folder / "bundle"
            metrics: dict[str, Any] = {}
            several = len(results.study.targets(spec, model)) > 1
            for item in tests:
                if (item.model, item.train) == (model.name, domain):
                    values = accuracy.compute(item).values
                    way = f"{spec.folds}-fold inside" if spec.folds and item.test == domain else "tested on"
                    whose = f"{item.target}: " if several else ""
                    metrics[f"{whose}{way} {item.test}"] = ", ".join(
                        f"{name} {values[name][0]:.3f} ± {values[name][1]:.3f}"
                        for name in ("r2", "rmse", "bias_median", "coverage68")
                    )
            save(
                with_metrics(load(folder), metrics),
                results.out / "bundles" / f"{experiment}-{slug(model.name)}-{slug(domain)}",
            )


def _write_skips(results: Results) -> None:
    for domain in results.study.domains:
        skipped = results.catalogue(domain.name).skipped
        write_table(skip_table(skipped), results.out / "tables" / f"skipped_{slug(domain.name)}.ecsv")
