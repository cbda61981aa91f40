"""Figures of representations: where domains lie, what they hold of each other, what neighbours know, populations.

Figures 7, 8 and 12 of Eisert+2026; see `galineage.study.pages`. The representation of a galaxy is in the columns
``rep_000`` and so on of its catalogue.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.evaluation import domain_overlap, figure_of, landscape, population, property_transfer, shift_power
from galineage.evaluation.population import Members
from galineage.evaluation.sample import Sample, property_unit
from galineage.fields import representation_features, to_feature
from galineage.joint_posterior import Marginal, joint_batches
from galineage.models.bundle import load
from galineage.posterior import Posterior
from galineage.reporting import Panel
from galineage.reporting.interactive import write_interactive
from galineage.store.image_store import ImageStore
from galineage.store.opening import is_store, open_store
from galineage.study.choosing import chosen_joint
from galineage.study.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from galineage.evaluation.joint_scores import JointScores
    from galineage.evaluation.landscape import Landscape
    from galineage.galaxy import Catalogue
    from galineage.reporting import Grid
    from galineage.study.results import Results

    Array = NDArray[np.float64]

__all__ = [
    "make_domain_overlap",
    "make_landscape",
    "make_population",
    "make_property_transfer",
    "make_shift_power",
    "samples",
    "write_map",
]

_DRAWS = 400
_AT_A_TIME = 512


def make_landscape(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Map of all ``domains`` with a contour for each, coloured by ``properties`` (Figure 7).

    With ``interactive`` the same map is written as a page of its own beside the report: ``NAME.html``.
    """
    catalogues = _catalogues(results, options)
    shown = _samples(catalogues, options)
    found = landscape.compute(
        shown, _known(shown, options), most=int(options.get("most", 3000)), seed=results.study.seed
    )
    if options.get("interactive"):
        write_map(results.out / f"{options['name']}.html", found, catalogues, str(options["title"]))
    return [_panel(options, figure_of(landscape.draw(found)), landscape.judge(found), found)]


def make_property_transfer(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """``properties`` taken over from the nearest galaxies within and across ``domains``, or between ``pairs_shown``."""
    shown = _samples(_catalogues(results, options), options)
    pairs = [tuple(pair) for pair in options["pairs_shown"]] if "pairs_shown" in options else None
    properties = list(options["properties"])
    found = property_transfer.compute(
        shown, properties, pairs=pairs, k=int(options.get("k", property_transfer.NEIGHBOURS)), seed=results.study.seed
    )
    return [_panel(options, figure_of(property_transfer.draw(found)), property_transfer.judge(found), found)]


def make_domain_overlap(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Out-of-domain scores of every one of ``domains`` against every other (Figure 8)."""
    found = domain_overlap.compute(
        _samples(_catalogues(results, options), options),
        published=bool(options.get("published")),
        most=int(options["most"]) if "most" in options else None,
        seed=results.study.seed,
    )
    return [_panel(options, figure_of(domain_overlap.draw(found)), domain_overlap.judge(found), found)]


def make_shift_power(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Show false alarms and power of every shift score that is fitted to the first of ``domains``."""
    first, *others = _samples(_catalogues(results, options), options)
    scores = {"kinds": list(options["scores"])} if "scores" in options else {}
    found = shift_power.compute(first, others, **scores, seed=results.study.seed)
    return [_panel(options, figure_of(shift_power.draw(found)), shift_power.judge(found), found)]


def make_population(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Posterior samples of the ``observed`` domain beside those of the ``simulated`` ones (Figure 12).

    Simulated galaxies are the held-out ones of the experiment's joint model. Observed ones are all predicted by the
    model trained on ``train``; of a domain whose truth is learned from, held-out ones are taken too.
    ``simulated_truth`` puts the simulations' truth in the place of their posteriors; ``size`` names the column
    (``r_half`` if left out), ``matched = false`` leaves masses as they are. ``resembling = true`` leaves out observed
    galaxies whose out-of-domain score against the training galaxies is above 1 (Eisert+2026), and says how many.
    """
    target = str(options.get("target", "f_ex"))
    spec = results.study.experiment(options["experiment"])
    simulated = [
        item
        for item in _tests(results, options, options["simulated"])
        if item.train == item.test or item.train not in options["simulated"]
    ]
    if not simulated:
        raise ConfigError("no test of a simulated domain was run", where=str(dict(options)))
    models = [
        _members(results, options, item, target, truth_only=bool(options.get("simulated_truth"))) for item in simulated
    ]
    observed = [
        _members(results, options, item, target)
        for item in _tests(results, options, [options["observed"]])
        if item.train == options.get("train", item.train) and options["observed"] in spec.train_domains
    ]
    shown, caption = (observed[0], options["caption"]) if observed else _predicted(results, options, target)
    found = population.compute(
        shown,
        _joined(models, str(options.get("simulated_name", " + ".join(dict.fromkeys(item.name for item in models))))),
        target=target,
        matched=bool(options.get("matched", True)),
        seed=results.study.seed,
    )
    told = {**options, "caption": caption}
    return [_panel(told, figure_of(population.draw(found)), population.judge(found), found)]


def write_map(path: Path, found: Landscape, catalogues: Sequence[Catalogue], title: str) -> None:
    """Write a landscape as a page to walk about in, with images where the catalogues have maps of three bands.

    Parameters
    ----------
    path : path
        The HTML file.
    found : Landscape
        Of these catalogues.
    catalogues : sequence of Catalogue
        In the order of the landscape's domains.
    title : str
        Heading.

    Raises
    ------
    FileFormatError
        If the file cannot be written.
    """
    images = [
        _thumbnails(catalogue, found.row[found.domain == name])
        for name, catalogue in zip(found.domains, catalogues, strict=True)
    ]
    pictures = [part for part in images if part is not None]
    alike = len(pictures) == len(images) and len({part.shape[1:] for part in pictures}) == 1
    ids = [
        np.asarray(catalogue.ids).astype(str)[found.row[found.domain == name]]
        for name, catalogue in zip(found.domains, catalogues, strict=True)
    ]
    write_interactive(
        path,
        found.place,
        np.concatenate(pictures) if alike else None,
        {_plain(name): values for name, values in found.properties.items()},
        found.domain,
        title,
        ids=np.concatenate(ids),
        lead="Every point is a galaxy; near ones look alike to the network. Distances across the map mean little.",
    )


def _plain(name: str) -> str:
    """Name of a property with its unit, without mathematics."""
    unit = property_unit(name)
    return f"log10 {name}" if unit == "dex" else f"{name} [{unit}]" if unit else name


def _thumbnails(catalogue: Catalogue, rows: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    """Images (n, side, side, 3) in steps of 1/255, reddest band first; None where there are none of three bands."""
    if catalogue.maps is None or len(catalogue.maps.channels) < 3:
        return None
    parts = [
        _shrunk(catalogue.maps.read(rows[start : start + _AT_A_TIME])) for start in range(0, len(rows), _AT_A_TIME)
    ]
    return np.concatenate(parts)


def _shrunk(maps: NDArray[Any]) -> NDArray[np.uint8]:
    """Average images (n, bands, s, s) to about 64 pixels; those not yet between 0 and 1 are scaled one by one."""
    values = np.nan_to_num(np.asarray(maps, dtype=np.float32)[:, 2::-1])
    factor = max(1, values.shape[-1] // 64)
    side = values.shape[-1] // factor
    cut = values[..., : side * factor, : side * factor].reshape(*values.shape[:2], side, factor, side, factor)
    small = cut.mean(axis=(3, 5))
    if small.min() < 0 or small.max() > 1:
        low, high = (np.quantile(small, level, axis=(1, 2, 3), keepdims=True) for level in (0.02, 0.998))
        small = np.clip((small - low) / np.maximum(high - low, 1e-12), 0, 1)
    # the first row of an array is the lowest of an image
    return np.rint(255 * np.moveaxis(small, 1, -1)[:, ::-1]).astype(np.uint8)


def _catalogues(results: Results, options: Mapping[str, Any]) -> list[Catalogue]:
    """Galaxies of each of ``domains`` that have a representation; with their images, where a page is to show them."""
    names = representation_features(int(options.get("width", 256)))
    found = []
    for domain in options["domains"]:
        catalogue = results.catalogue(domain, options.get("rows"))
        if names[0] not in catalogue:
            raise DataError(
                "the galaxies have no representation",
                where=f"domain {domain!r}",
                expected=f"columns {names[0]} to {names[-1]}",
                advice="let a trained network represent their images first",
            )
        whole = catalogue.complete(names)
        found.append(_with_images(results, domain, whole) if options.get("interactive") else whole)
    return found


def _with_images(results: Results, domain: str, catalogue: Catalogue) -> Catalogue:
    """Give rows of a table, which name a galaxy and a view, their images, if the domain's store has all of them."""
    if catalogue.maps is not None or "view" not in catalogue:
        return catalogue
    folder = results.study.domain(domain).maps
    if not folder or not is_store(results.data / folder):
        return catalogue
    store = open_store(results.data / folder)
    known = {row["domain"] for row in store.rows}
    if not isinstance(store, ImageStore) or domain not in known:
        return catalogue
    views = store.views(domain)
    told = tuple(name for name in ("snapshot", "view") if name in views and name in catalogue)
    place = {name: row for row, name in enumerate(_names(views, told))}
    rows = [place.get(name) for name in _names(catalogue, told)]
    if views.maps is None or None in rows:
        return catalogue
    return replace(catalogue, maps=views.maps.select(np.array(rows, dtype=np.int64)))


def _names(catalogue: Catalogue, told: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return identifier and whole numbers ``told`` of each row."""
    numbers = [np.asarray(catalogue[name], dtype=int).tolist() for name in told]
    return list(zip(np.asarray(catalogue.ids).astype(str).tolist(), *numbers, strict=True))


def _samples(catalogues: Sequence[Catalogue], options: Mapping[str, Any]) -> list[Sample]:
    wanted = [str(name) for name in options.get("properties", ())]
    return samples(options["domains"], catalogues, wanted, int(options.get("width", 256)))


def samples(
    names: Sequence[str], catalogues: Sequence[Catalogue], properties: Sequence[str], width: int = 256
) -> list[Sample]:
    """Return representations and what is known, for the figures of representations.

    Parameters
    ----------
    names : sequence of str
        Of the domains.
    catalogues : sequence of Catalogue
        One for each, with columns ``rep_000`` and so on.
    properties : sequence of str
        Field names; of each domain those are taken that it has.
    width : int
        Numbers in a representation.
    """
    features = representation_features(width)
    return [
        Sample(
            domain,
            catalogue.features(features),
            {name: np.asarray(catalogue[name], dtype=float) for name in properties if name in catalogue},
            _whose(catalogue),
        )
        for domain, catalogue in zip(names, catalogues, strict=True)
    ]


def _whose(catalogue: Catalogue) -> NDArray[np.str_]:
    """Galaxy of each row (n,), unique over domains."""
    if catalogue.root is not None:
        return np.asarray(catalogue.root).astype(str)
    return np.char.add(np.char.add(catalogue.domain.astype(str), "/"), np.asarray(catalogue.ids).astype(str))


def _known(shown: Sequence[Sample], options: Mapping[str, Any]) -> list[str]:
    """Properties asked for that some domain has: a survey has no truth, and may be alone."""
    return [name for name in options.get("properties", ()) if any(name in item.properties for item in shown)]


def _panel(options: Mapping[str, Any], figure: Any, verdict: Any, found: Any) -> Panel:
    return Panel(options["name"], options["title"], options["caption"], figure, (verdict,), found.to_table(), wide=True)


def _tests(results: Results, options: Mapping[str, Any], domains: Sequence[str]) -> list[JointScores]:
    """Joint tests of these domains; none where the experiment has no joint model or no such test."""
    try:
        found = chosen_joint(results, {**options, "pairs": "all"})
    except ConfigError:
        return []
    return [item for item in found if item.test in domains]


def _members(
    results: Results, options: Mapping[str, Any], item: JointScores, target: str, *, truth_only: bool = False
) -> Members:
    """Posteriors of a test, with sizes from its catalogue; galaxies without a size or a truth are left out."""
    column = item.column(target)
    sizes = _sizes(results.catalogue(item.test, options.get("rows")), options, item.ids)
    truth = np.asarray(item.truth[:, column], dtype=float)
    keep = np.isfinite(sizes) & (sizes > 0) & (item.mstar > 0) & np.isfinite(truth)
    draws = np.asarray(item.draws[keep][..., column], dtype=float)
    if truth_only:
        nothing = np.zeros(keep.sum())
        return Members(
            item.test, truth[keep, None], item.mstar[keep], sizes[keep], truth[keep], nothing, galaxies=item.ids[keep]
        )
    return _of_draws(item.test, target, draws, item.mstar[keep], sizes[keep], truth[keep], item.ids[keep])


def _of_draws(
    name: str, target: str, draws: Array, mstar: Array, size: Array, truth: Array | None, ids: NDArray[Any]
) -> Members:
    """Members from draws (n, K) as networks see the target; those with too few defined draws are left out."""
    marginal = Marginal(target, draws.T)
    known = np.flatnonzero(marginal.known)
    parts: dict[str, Any] = {"draws": draws, "mstar": mstar, "size": size, "mode": marginal.map, "std": marginal.std}
    parts["galaxies"] = np.char.add(f"{name}/", np.asarray(ids).astype(str))
    chosen: dict[str, Any] = {key: part[known] for key, part in parts.items()}
    return Members(name, **chosen, truth=None if truth is None else truth[known])


def _sizes(catalogue: Catalogue, options: Mapping[str, Any], ids: NDArray[Any]) -> Array:
    """Size (n,) in kpc of rows by identifier; NaN where there is none. Views of a galaxy are in their order."""
    column = np.asarray(catalogue[str(options.get("size", "r_half"))], dtype=float)
    known: dict[str, list[float]] = {}
    for name, value in zip(np.asarray(catalogue.ids).astype(str).tolist(), column.tolist(), strict=True):
        known.setdefault(name, []).append(value)
    seen: dict[str, int] = {}
    found = np.full(len(ids), np.nan)
    for row, name in enumerate(np.asarray(ids).astype(str).tolist()):
        values, turn = known.get(name, []), seen.get(name, 0)
        seen[name] = turn + 1
        if values:
            found[row] = values[min(turn, len(values) - 1)]
    return found


def _predicted(results: Results, options: Mapping[str, Any], target: str) -> tuple[Members, str]:
    """Let the model that was trained on all rows of ``train`` predict the observed galaxies; and the caption."""
    spec = results.study.experiment(options["experiment"])
    train = options.get("train", spec.train_domains[0])
    job = Job(spec.name, options["model"], train, "whole" if spec.folds else "holdout")
    bundle = load(results.out / job.folder / "bundle")
    estimator, caption = bundle.estimator, str(options["caption"])
    size = str(options.get("size", "r_half"))
    galaxies = results.catalogue(options["observed"], options.get("rows")).complete(estimator.features)
    galaxies = galaxies.select(galaxies.has(["mstar", size]))
    if options.get("resembling") and bundle.shift is not None:
        known = bundle.shift.score(estimator.likeness(estimator.inputs(galaxies))) <= 1
        caption += (
            f" Of {len(galaxies)} images of {options['observed']}, {int(known.sum())} resemble those that the network "
            "was trained on (score of 1 or less); the others are left out."
        )
        galaxies = galaxies.select(known)
    x = galaxies.features(estimator.features)
    if estimator.joint:
        batches = joint_batches(estimator, x, draws=_DRAWS, seed=results.study.seed)
        draws = np.concatenate([posterior.marginal(target).samples.T for *_, posterior in batches])
    else:
        draws = _single(estimator, x, target, results.study.seed)
    found = _of_draws(options["observed"], target, draws, galaxies["mstar"], galaxies[size], None, galaxies.ids)
    return found, caption


def _single(estimator: Any, x: Array, target: str, seed: int) -> Array:
    """Draws (n, K) of a model of one target, as networks see it."""
    import torch

    if estimator.target != target:
        raise ConfigError(f"the model predicts {estimator.target}", expected=target)
    parts = []
    for start in range(0, len(x), 4096):
        with torch.inference_mode():
            rows = torch.from_numpy(x[start : start + 4096].astype(np.float32))
            parts.append(Posterior(estimator(rows)).sample(_DRAWS, seed + start).double().numpy().T)
    return to_feature(target, np.concatenate(parts))


def _joined(parts: Sequence[Members], name: str) -> Members:
    """One population of several; the truth only where all have it."""
    width = min(part.draws.shape[1] for part in parts)
    columns: dict[str, Any] = {
        key: np.concatenate([np.asarray(getattr(part, key)) for part in parts])
        for key in ("mstar", "size", "mode", "std", "galaxies")
    }
    truths = [part.truth for part in parts if part.truth is not None]
    truth = np.concatenate(truths) if len(truths) == len(parts) else None
    return Members(name, np.concatenate([part.draws[:, :width] for part in parts]), **columns, truth=truth)
