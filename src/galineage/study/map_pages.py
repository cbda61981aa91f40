"""Figures of maps: examples, sums of pixels, gradients (Figures 3, 4 and 13 of Angeloudi+2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.evaluation import attribution, embedding, example_maps, figure_of, gradients, pixel_sums
from galineage.models.bundle import load
from galineage.reporting import Panel
from galineage.store.splits import held_out_groups, split_labels
from galineage.study.jobs import Job, read_complete

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.galaxy import Catalogue
    from galineage.reporting import Grid
    from galineage.study.results import Results
    from galineage.study.spec import Experiment

__all__ = ["make_attribution", "make_example_maps", "make_gradients", "make_pixel_sums", "make_umap"]


def make_example_maps(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Draw refined maps of the galaxies nearest to some values of f_ex, a value for each domain (Figure 3)."""
    store, rows = results.maps(options["domains"])
    of_domain = np.array([store.rows[row]["domain"] for row in rows])
    chosen = [
        example_maps.choose(store, rows[of_domain == domain], [wanted])[0]
        for domain, wanted in zip(options["domains"], options["f_ex"], strict=True)
    ]
    found = example_maps.compute(store, chosen)
    return [_panel(options, found, figure_of(example_maps.draw(found)), example_maps.judge(found))]


def make_pixel_sums(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Draw the sum of each map's pixels against f_ex, before and after standardisation (Figure 4)."""
    found = pixel_sums.compute(*results.maps(options["domains"]))
    return [_panel(options, found, figure_of(pixel_sums.draw(found)), pixel_sums.judge(found))]


def make_gradients(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Draw radial gradients of the maps against f_ex (Figure 13)."""
    found = gradients.compute(*results.maps(options["domains"]), bins=int(options.get("bins", 8)))
    return [_panel(options, found, figure_of(gradients.draw(found)), gradients.judge(found))]


def _panel(options: Mapping[str, Any], found: Any, figure: Any, verdict: Any) -> Panel:
    return Panel(options["name"], options["title"], options["caption"], figure, (verdict,), found.to_table(), wide=True)


def make_umap(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Draw what the last convolution of a network makes of its own and the other domain, for each model (Figure 12)."""
    spec = results.study.experiment(options["experiment"])
    train = options.get("train", spec.train_domains[0])
    panels: list[Panel | Grid] = []
    for number, model in enumerate(options["models"]):
        part = "whole" if spec.folds else "holdout"
        bundle = load(results.out / Job(spec.name, model, train, part).folder / "bundle")
        order = [train, *(name for name in spec.domains if name != train)]
        seen = [_convolved(results, spec, name, bundle.estimator, int(options.get("views", 1200))) for name in order]
        values, truth = (np.concatenate(each) for each in zip(*seen, strict=True))
        domain = np.repeat(order, [len(each) for _, each in seen])
        found = embedding.compute(values, truth, domain, seed=results.study.seed)
        named = {**options, "name": f"{options['name']}_{number + 1}", "title": f"{options['title']}: {model}"}
        panels.append(_panel(named, found, figure_of(embedding.draw(found)), embedding.judge(found)))
    return panels


def make_attribution(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Draw what a network looks at in the held-out views of each domain."""
    spec = results.study.experiment(options["experiment"])
    train = options.get("train", spec.train_domains[0])
    job = Job(spec.name, options["model"], train, "whole" if spec.folds else "holdout")
    network: Any = load(results.out / job.folder / "bundle").estimator
    panels: list[Panel | Grid] = []
    for number, name in enumerate([train, *(name for name in spec.domains if name != train)]):
        views = _held_out(results, spec, name, network)
        found = attribution.compute(network, network.inputs(views), rings=int(options.get("rings", 8)))
        named = {**options, "name": f"{options['name']}_{number + 1}", "title": f"{options['title']}: {train} → {name}"}
        panels.append(_panel(named, found, figure_of(attribution.draw(found)), attribution.judge(found)))
    return panels


def _held_out(results: Results, spec: Experiment, name: str, network: Any) -> Catalogue:
    views = read_complete(results.study, spec, name, results.data)
    held = held_out_groups(split_labels(views, spec.split), spec.holdout, results.study.seed)
    return views.select(held & network.usable(views))


def _convolved(results: Results, spec: Experiment, name: str, network: Any, most: int) -> tuple[Any, Any]:
    """Return what the last convolution makes of some held-out views of a domain (n, k), and their f_ex (n,)."""
    views = _held_out(results, spec, name, network)
    rows = np.sort(np.random.default_rng(results.study.seed).permutation(len(views))[:most])
    inputs = network.inputs(views.select(rows))
    with torch.inference_mode():
        parts = [network.last_convolution(inputs[k : k + 256]) for k in range(0, len(inputs), 256)]
    return torch.cat(parts).double().numpy(), np.asarray(views["f_ex"][rows], dtype=float)
