"""How a study adapts its models to a domain they were not taught: from its inputs alone, never its truth."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.decomposition import PCA

from galineage.adaptation import adapt, correct_prior, fit_matching, importance_weights
from galineage.fields import field
from galineage.galaxy import concatenate
from galineage.training.map_training import network_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.models.bundle import Bundle
    from galineage.study.spec import ModelSpec

__all__ = [
    "TESTED",
    "TOGETHER",
    "TRAINED",
    "adapted_versions",
    "all_but",
    "joined_sources",
    "training_options",
    "variant_label",
]

_AXES = 12

TRAINED: Mapping[str, str] = MappingProxyType(
    {
        "weights": "training galaxies weighted by the density ratio of the domains",
        "coral": "penalty on the difference of the last layer's covariances",
        "mmd": "penalty on the maximum mean discrepancy of the last layer",
        "sinkhorn": "penalty on the Sinkhorn divergence of the last layer",
        "dann": "a discriminator that the last layer must deceive",
        "sources": "trained on all other domains, each matched to the tested one by rank",
        "together": "trained on galaxies of all domains, those of the tested one with their truth",
    }
)
"""Adaptations that need a training of their own for every tested domain, and what they do."""

TOGETHER = "all domains"
"""The label of a training on every domain."""

TESTED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "matching": {"kind": "marginal", "views": ("matched",)},
        "matching at mass": {"kind": "at-mass", "views": ("matched",)},
        "raw and matching": {"kind": "marginal", "views": ("raw", "matched")},
        "prior": {"degree": 2},
    }
)
"""Adaptations of a trained model, with the options of `galineage.adaptation.adapt`; ``prior``: of `correct_prior`."""


def variant_label(name: str, variant: str) -> str:
    """Return the label of a model that is adapted at the time of testing."""
    return f"{name} + {variant}"


def all_but(name: str) -> str:
    """Return the label of the union of all domains but one."""
    return f"all but {name}"


def training_options(
    model: ModelSpec, kept: Catalogue, others: Sequence[Catalogue], features: Sequence[str], seed: int
) -> dict[str, Any]:
    """Return what `galineage.training.train` needs to adapt to other domains' inputs.

    Parameters
    ----------
    model : ModelSpec
        Its adaptation is a key of `TRAINED` that needs no truth of other domains, or ``none``.
    kept : Catalogue
        n training galaxies.
    others : sequence of Catalogue
        Galaxies of the domains to adapt to; only their features and maps are read.
    features : sequence of str
        Field names of the inputs.
    seed : int
        Of the classifier behind the weights.
    """
    if model.adaptation == "none":
        return {}
    there = concatenate([_inputs(item, features) for item in others])
    if model.adaptation != "weights":
        return {"alignment": model.adaptation, "unlabelled": there}
    if not model.sees_maps:
        return {"weights": importance_weights(kept.features(features), there.features(features), seed=seed)}
    return {"weights": _weights_by_maps(model, kept, there, seed)}


def _weights_by_maps(model: ModelSpec, kept: Catalogue, there: Catalogue, seed: int) -> NDArray[np.float64]:
    """Weights (n,), no unit, by how the maps that the network sees look in rings; 0 for views it cannot use."""
    network = network_for(kept, model.preset, model.features, members=1, options=model.options)
    mine = network.usable(kept)
    here, other = (network.likeness(network.inputs(item.select(network.usable(item)))) for item in (kept, there))
    # a few dozen means and scatters, most of which say the same: the density ratio is one of the main directions
    axes = PCA(min(_AXES, here.shape[1]), whiten=True).fit(np.concatenate([here, other]))
    weights = np.zeros(len(kept))
    weights[mine] = importance_weights(axes.transform(here), axes.transform(other), seed=seed)
    return weights


def _inputs(catalogue: Catalogue, features: Sequence[str]) -> Catalogue:
    """Return a catalogue of the inputs alone, so that no truth can be looked at."""
    return replace(catalogue, columns={name: catalogue[name] for name in features})


def adapted_versions(
    bundle: Bundle, kept: Catalogue, test: Catalogue, name: str, variants: Sequence[str]
) -> dict[str, Bundle]:
    """Return the trained model and its versions adapted to a test set's inputs, by label."""
    found = {name: bundle}
    for variant in variants:
        seen = _inputs(test, bundle.estimator.features)
        change = correct_prior if variant == "prior" else adapt
        found[variant_label(name, variant)] = change(bundle, seen, source=kept, **TESTED[variant])
    return found


def joined_sources(
    sources: Sequence[Catalogue], test: Catalogue, features: Sequence[str], target: str
) -> tuple[Catalogue, NDArray[np.float64]]:
    """Return several domains as one training set for another domain.

    The features of each are mapped by rank on the distribution that they have in the tested domain, so that what is
    learned is the relation between ranks and the target. A domain of n galaxies gets the total weight n ** 0.5, so
    that a small one is heard and does not rule.

    Parameters
    ----------
    sources : sequence of Catalogue
        Labelled galaxies of each domain.
    test : Catalogue
        Galaxies of the tested domain; only their features are read.
    features, target : sequence of str, str
        Field names.

    Returns
    -------
    Catalogue
        n galaxies with features, target and ``mstar``.
    array (n,)
        Weights, no unit.
    """
    frame = test.features(features)
    parts, weights = [], []
    for item in sources:
        x = item.features(features)
        moved = fit_matching(frame, x, features).transform(torch.from_numpy(x.astype(np.float32))).double().numpy()
        columns = {name: _registry_unit(name, moved[:, column]) for column, name in enumerate(features)}
        columns = {"mstar": item["mstar"], **columns, target: item[target]}
        parts.append(replace(item, columns=columns))
        weights.append(np.full(len(item), len(item) ** -0.5))
    return concatenate(parts), np.concatenate(weights)


def _registry_unit(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Undo `galineage.fields.to_feature`: dex (n,) back to the registry's unit, inside the field's range."""
    item = field(name)
    return np.clip(10**values if item.scale == "log" else values, item.low, item.high)
