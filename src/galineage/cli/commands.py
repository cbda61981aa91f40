"""What each command does; heavy packages are imported here, when a command runs."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.atomic import write_text, writing
from galineage.errors import ConfigError, DataError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from galineage.galaxy import Catalogue
    from galineage.models.contrastive import ContrastiveNetwork
    from galineage.store.image_store import ImageStore
    from galineage.study import Study

__all__ = [
    "adapt",
    "calibrate",
    "contrast",
    "demo",
    "evaluate",
    "images",
    "inspect",
    "predict",
    "prepare",
    "report",
    "represent",
    "run",
    "toy",
    "train",
]

_ALL = 10**9
"""A limit that is none."""


def demo(options: Namespace) -> None:
    """Write toy snapshots, make maps, tables and images of them, run both studies on them, name the reports."""
    from galineage.study import load_study, run_study
    from galineage.study.universe import Box, make_universe

    out = Path(options.out)
    study = load_study("demo")
    galaxies = 1500
    if options.small:
        study, galaxies = study.smaller(epochs=40, folds=2, members=3), 500
    boxes = [
        Box(domain.name, layout, galaxies, stars=4000, seed=seed)
        for seed, (domain, layout) in enumerate(zip(study.domains, ("tng", "eagle"), strict=True), 1)
    ]
    make_universe(boxes, out / "data", workers=options.workers or 2, say=_say)
    page = run_study(study, out / "data", out, workers=options.workers, say=_say)
    try:
        _name_report(_image_demo(out / "images", options))
    except MissingDependencyError as error:
        print(f"the part about images is left out: {error}")
    _name_report(page)


def _image_demo(out: Path, options: Namespace) -> Path:
    """Observe toy galaxies, learn from their images, and run the study of 2026 at a small size."""
    from galineage.study import load_study, run_study
    from galineage.study.image_steps import on_image_toys
    from galineage.study.image_universe import make_image_universe

    study = load_study("eisert2026").smaller(epochs=_ALL, looks=8 if options.small else 30, members=2)
    study, boxes = on_image_toys(study, 170 if options.small else 200, stars=4000)
    make_image_universe(boxes, out / "data", workers=options.workers or 2, say=_say)
    return run_study(study, out / "data", out, workers=options.workers, say=_say)


def toy(options: Namespace) -> None:
    """Write a toy catalogue, or a snapshot with stars."""
    if options.box:
        from galineage.cli.particles import write_box

        write_box(options)
        return
    from galineage.tables import write_catalogue
    from galineage.toy import measure_toy

    write_catalogue(measure_toy(options.suite, options.n, options.seed, options.stars), options.out)
    print(f"{options.n} toy galaxies of {options.suite} in {options.out}")


def run(options: Namespace) -> None:
    """Run a study."""
    from galineage.study import available_studies, load_study

    if options.list or not options.study:
        for name, path in available_studies().items():
            print(f"{name:28} {load_study(path).title}")
        return
    study = load_study(options.study)
    if options.small:
        study = study.smaller(epochs=8, folds=2, members=2)
    if options.epochs or options.members:
        study = study.smaller(epochs=options.epochs or _ALL, members=options.members or _ALL, toys=_ALL)
    if options.toys:
        _run_on_toys(study, options)
        return
    if not options.data:
        files = ", ".join(dict.fromkeys(domain.file or domain.maps for domain in study.domains))
        raise ConfigError(
            "no data folder was given", expected=f"a folder with {files}", advice="add --data DIR, or --toys 1500"
        )
    _run(study, Path(options.data), options.out or f"runs/{study.name}", options)


def _run(study: Study, data: Path, out: str | Path, options: Namespace) -> None:
    from galineage.cli.scheduler import executor_of
    from galineage.study import run_study

    with executor_of(options.scheduler) as executor:
        page = run_study(study, data, out, executor=executor, workers=options.workers, say=_say)
    _name_report(page)


def _run_on_toys(study: Study, options: Namespace) -> None:
    from galineage.study.universe import make_universe, on_toys

    out = Path(options.out or f"runs/{study.name}-toys")
    if study.representation is None:
        study, boxes = on_toys(study, options.toys)
        make_universe(boxes, out / "data", workers=options.workers or 2, say=_say)
    else:
        from galineage.study.image_steps import on_image_toys
        from galineage.study.image_universe import make_image_universe

        study, boxes = on_image_toys(study, options.toys)
        make_image_universe(boxes, out / "data", workers=options.workers or 2, say=_say)
    _run(study, out / "data", out, options)


def train(options: Namespace) -> None:
    """Train an estimator and save it; a stopped training goes on."""
    from dataclasses import replace

    from galineage.fields import expanded_features
    from galineage.models.bundle import save
    from galineage.training import DEFAULT_FEATURES, MapTrainConfig, recommended_config
    from galineage.training import train as train_model

    config = recommended_config(options.model)
    maps = isinstance(config, MapTrainConfig)
    config = replace(config, max_epochs=options.epochs or config.max_epochs, **_machine(options, maps))
    features = expanded_features(options.features or (() if maps else DEFAULT_FEATURES))
    start = _start(options, maps)
    catalogue = _read(options, only=(*features, *options.target, "mstar"), maps=maps)
    _require_representation(catalogue, features, options)
    out = Path(options.out)
    scratch = out.with_name(out.name + ".training")
    bundle = train_model(
        catalogue,
        features,
        options.model,
        target=options.target if len(options.target) > 1 else options.target[0],
        members=options.members,
        config=config,
        **_window(options, maps),
        start=start,
        split="root" if catalogue.root is not None else "row",
        folder=scratch,
    )
    save(bundle, out)
    if (scratch / "history.csv").exists():
        write_text(out / "history.csv", (scratch / "history.csv").read_text(encoding="utf-8"))
    for log in (scratch / "tensorboard").glob("events.out.tfevents.*"):
        with writing(out / "tensorboard" / log.name) as temporary:
            shutil.copyfile(log, temporary)
    shutil.rmtree(scratch, ignore_errors=True)
    for name, value in bundle.card["metrics"].items():
        print(f"{name}: {value}")
    if catalogue.root is None:
        print("note: the descendants of these rows are unknown, so validation rows were drawn one by one and may leak")
    rows = f"{bundle.card['rows']} {'views' if 'view' in catalogue else 'galaxies'}"
    print(f"{bundle.name}: {rows}. Bundle: {out}; its card: {out / 'README.md'}")


def _machine(options: Namespace, maps: bool) -> dict[str, Any]:
    """Return seed and devices of a training."""
    known = {"seed": options.seed, "device": options.device}
    if maps:
        return {**known, "devices": options.devices}
    if options.devices != 1:
        raise ConfigError(
            f"model {options.model!r} does not see maps, and is trained on one device", advice="leave out --devices"
        )
    return known


def _window(options: Namespace, maps: bool) -> dict[str, Any]:
    """Return what a map network is to see."""
    given = {"seen": options.channels, "aperture": options.aperture}
    known = {name: value for name, value in given.items() if value is not None}
    if known and not maps:
        raise ConfigError(f"model {options.model!r} does not see maps", advice="leave out --channels and --aperture")
    return known


def _start(options: Namespace, maps: bool) -> ContrastiveNetwork | None:
    """Read the representation whose encoder a network for images starts from."""
    if options.start is None:
        return None
    if not maps:
        raise ConfigError(
            f"model {options.model!r} does not see images, and cannot start from an encoder of them",
            advice="take --model maps-cinn; or write tables with `galineage represent`, and --features representation",
        )
    from galineage.models.representation_files import load_representation

    return load_representation(options.start)[0]


def _require_representation(catalogue: Catalogue, features: Sequence[str], options: Namespace) -> None:
    """Refuse features of a representation that the galaxies do not have, in one line instead of a list of columns."""
    missing = [name for name in features if name.startswith("rep_") and name not in catalogue]
    if missing:
        raise DataError(
            f"the galaxies have no representation: no column {missing[0]}",
            where=str(options.table),
            advice="write a table that has one, `galineage represent REP IMAGES`, and train on that",
        )


def adapt(options: Namespace) -> None:
    """Adapt a bundle to the inputs of a table and save the result as a new bundle."""
    from galineage.adaptation import adapt as adapt_model
    from galineage.models.bundle import load, save

    _refuse_same(options.bundle, options.out)
    bundle = load(options.bundle)
    catalogue = _read(options, only=bundle.estimator.features, keep_missing=True)
    made = adapt_model(bundle, catalogue, kind=options.kind, mass=options.mass, views=options.views)
    out = Path(options.out)
    save(made, out)
    told = made.card["adapted"]
    print(f"{made.name}, by {told['rows']} galaxies. The adapted model {told['assumption']}.")
    print(f"Bundle: {out}; its card: {out / 'README.md'}")
    _write_skips(catalogue, out.with_name(out.name + ".ecsv"))


def _refuse_same(bundle: str, out: str) -> None:
    if Path(bundle).resolve() == Path(out).resolve():
        raise ConfigError(
            "the new model would replace the one that it is made from", where=str(out), advice="give --out another name"
        )


def prepare(options: Namespace) -> None:
    """Make maps of the galaxies of a snapshot."""
    from galineage.cli.particles import prepare as make_maps

    make_maps(options)


def images(options: Namespace) -> None:
    """Make images ready for a network."""
    from galineage.cli.images import images as make_store

    make_store(options)


def contrast(options: Namespace) -> None:
    """Learn a representation of images."""
    from galineage.cli.representing import contrast as learn

    learn(options)


def represent(options: Namespace) -> None:
    """Write representations of images as tables."""
    from galineage.cli.representing import represent as write_tables

    write_tables(options)


def predict(options: Namespace) -> None:
    """Apply a bundle to a table."""
    from galineage.models.bundle import load
    from galineage.prediction import FLAGS
    from galineage.prediction import predict as predict_table
    from galineage.tables import format_of, write_table

    format_of(options.out)
    bundle = load(options.bundle)
    estimator = bundle.estimator
    catalogue = _read(options, only=estimator.features, keep_missing=True, maps=estimator.sees_maps)
    table = predict_table(bundle, catalogue, progress=True)
    write_table(table, options.out)
    print(f"{len(table)} predictions in {options.out}")
    for bit, text in FLAGS.items():
        count = int(((table["flag"] & bit) > 0).sum())
        if count:
            one, many = ("view", "views") if "view" in table.colnames else ("galaxy", "galaxies")
            print(f"  flag {bit}: {count} {one if count == 1 else many}: {text}")
    _write_skips(catalogue, Path(options.out))


def evaluate(options: Namespace) -> None:
    """Test a bundle and write a report."""
    from galineage.evaluation.assess import evaluate as evaluate_model
    from galineage.models.bundle import load
    from galineage.study.report import report as write_page

    bundle = load(options.bundle)
    estimator = bundle.estimator
    catalogue = _read(options, only=(*estimator.features, *estimator.targets, "mstar"), maps=estimator.sees_maps)
    found = evaluate_model(bundle, catalogue, progress=True)
    print(found)
    out = Path(options.out)
    _write_skips(catalogue, out / "scores.ecsv")
    _name_report(write_page(found, out))


def calibrate(options: Namespace) -> None:
    """Mend a bundle's error bars."""
    from galineage.evaluation.calibrate import calibrate as calibrate_model
    from galineage.models.bundle import load, save

    _refuse_same(options.bundle, options.out)
    if options.for_mapping and not options.meant_for:
        raise ConfigError("--for-mapping says how to read the table of --for, which is not given")
    bundle = load(options.bundle)
    features, maps = bundle.estimator.features, bundle.estimator.sees_maps
    if options.meant_for and maps:
        raise ConfigError(
            "--for compares features, and a network for maps looks at maps", advice="calibrate it without --for"
        )
    catalogue = _read(options, only=(*features, *bundle.estimator.targets), maps=maps).complete(
        (*features, *bundle.estimator.targets)
    )
    weights, name = None, ""
    if options.meant_for:
        from galineage.adaptation.weights import importance_weights

        table = Namespace(table=options.meant_for, mapping=options.for_mapping, rows=options.for_rows)
        other = _read(table, only=features).complete(features)
        name = ", ".join(sorted({str(domain) for domain in other.domain}))
        weights = importance_weights(catalogue.features(features), other.features(features), seed=options.seed)
    made = calibrate_model(bundle, catalogue, method=options.method, weights=weights, meant_for=name)
    save(made, options.out)
    facts = made.card["calibration"][-1]
    print(f"{facts['galaxies']} calibration galaxies" + (f", worth {facts['effective']:g} by weight" if name else ""))
    print(f"The error bars hold under the assumption: {facts['assumption']}")
    for level in made.conformal.infinite_levels if made.conformal else ():
        print(f"note: too few galaxies for {100 * level:g} % intervals, which are the whole range")
    print(f"Bundle: {options.out}")
    _write_skips(catalogue, Path(options.out).with_name(Path(options.out).name + ".ecsv"))


def report(options: Namespace) -> None:
    """Make the report of a run again."""
    from galineage.study.report import report as write_page

    _name_report(write_page(options.run, data=options.data, say=_say))


def inspect(options: Namespace) -> None:
    """Describe a table, a store, a bundle or a representation."""
    thing = Path(options.thing)
    from galineage.cli.particles import draw_galaxy, is_snapshot

    if options.galaxy is not None or is_snapshot(thing):
        draw_galaxy(options)
        return
    from galineage.cli.representing import describe_representation, is_representation

    if is_representation(thing):
        print(describe_representation(thing))
        return
    if thing.is_dir() and not _is_store(thing):
        from galineage.models.bundle import card_text, load

        print(card_text(load(thing)))
        return
    from galineage.cli.inspection import describe, draw, draw_images

    options.table = options.thing
    catalogue = _read(options)
    print(describe(catalogue))
    if options.figure:
        store = _images_in(thing)
        figure = draw(catalogue) if store is None else draw_images(store, options.rows)
        with writing(options.figure) as temporary:
            figure.savefig(temporary, dpi=150)
        print(f"figure: {options.figure}")


def _read(
    options: Namespace, *, only: Iterable[str] | None = None, keep_missing: bool = False, maps: bool = False
) -> Catalogue:
    if _is_store(options.table):
        return _of_store(options, maps=maps)
    from galineage.sources import open_source

    source = open_source(options.table, options.mapping)
    catalogue = source.read(options.rows, only=only, keep_missing=keep_missing)
    count = len(catalogue.skipped)
    galaxies = len(set(zip(catalogue.domain.tolist(), catalogue.ids.tolist(), strict=True)))
    rows = f"{len(catalogue)} views of {galaxies}" if "view" in catalogue else f"{len(catalogue)}"
    print(f"{rows} galaxies from {options.table}" + (f", {count} rows skipped" if count else ""), flush=True)
    return catalogue


def _is_store(path: str | Path) -> bool:
    return (Path(path) / "store.json").is_file()


def _images_in(path: Path) -> ImageStore | None:
    """Return the store of images at a place, if there is one."""
    from galineage.store.image_store import ImageStore
    from galineage.store.opening import open_store

    store = open_store(path) if _is_store(path) else None
    return store if isinstance(store, ImageStore) else None


def _of_store(options: Namespace, *, maps: bool) -> Catalogue:
    """Take the views of a store of maps or images, or its galaxies if neither is wanted; of the domain of --rows."""
    from galineage.store.opening import open_store

    store = open_store(options.table)
    if options.mapping:
        raise ConfigError(f"--mapping says how to read a table, and this is a {store.CALLED}", where=str(options.table))
    found = store.views(options.rows) if maps else store.galaxies(options.rows)
    views = f"{len(found)} views of " if maps else ""
    galaxies = len(set(zip(found.domain.tolist(), found.ids.tolist(), strict=True)))
    print(f"{views}{galaxies} galaxies from {options.table}", flush=True)
    if store.unfinished:
        parts = ", ".join(sorted(store.unfinished))
        print(
            f"note: {parts} is not finished, and galaxies are missing; {store.WRITTEN_BY} goes on with it", flush=True
        )
    return found


def _write_skips(catalogue: Catalogue, beside: Path) -> None:
    from galineage.sources import skip_table
    from galineage.tables import write_table

    if catalogue.skipped:
        path = beside.with_name(beside.stem + ".skipped.ecsv")
        write_table(skip_table(catalogue.skipped), path)
        print(f"{len(catalogue.skipped)} rows were skipped; reasons in {path}")


def _say(text: str) -> None:
    print(text, flush=True)


def _name_report(page: Path) -> None:
    print(f"\nreport: {page}\nOpen it in a browser; figures (PDF, PNG) and every number (ECSV, JSON) lie beside it.")
