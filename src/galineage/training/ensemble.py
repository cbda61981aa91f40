"""From a catalogue to a saved-model bundle in one call."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import ConfigError
from galineage.fields import MERGER_TARGETS
from galineage.models import make_estimator
from galineage.models.bundle import Bundle
from galineage.store.splits import split_labels
from galineage.training.alignment import make_alignment
from galineage.training.card import (
    feature_ranges,
    fit_shift,
    learned_from,
    prior_width,
    result_of,
    shifted_towards,
    weights_of,
)
from galineage.training.config import MapTrainConfig, TrainConfig, recommended_config
from galineage.training.loop import fit_estimator
from galineage.training.map_training import train_on_maps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.models.base import Estimator
    from galineage.models.contrastive import ContrastiveNetwork
    from galineage.training.alignment import Alignment

__all__ = ["DEFAULT_FEATURES", "feature_ranges", "needed_fields", "train"]

DEFAULT_FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
"""The five stellar quantities of Angeloudi+2023 Table A3 that mean the same in TNG and EAGLE tables."""


def train(
    catalogue: Catalogue,
    features: Sequence[str] | None = None,
    model: str = "mdn",
    *,
    target: str | Sequence[str] = "f_ex",
    members: int | None = None,
    config: TrainConfig | None = None,
    weights: NDArray[np.float64] | None = None,
    alignment: Alignment | str | None = None,
    unlabelled: Catalogue | None = None,
    start: ContrastiveNetwork | None = None,
    split: str = "root",
    folder: Path | None = None,
    progress: bool = True,
    label: str | None = None,
    **options: Any,
) -> Bundle:
    """Train an ensemble (or a baseline) on a catalogue; it comes back in evaluation mode, on the CPU.

    Parameters
    ----------
    catalogue : Catalogue
        Galaxies with features and target, in registry units. Rows in which one is missing are left out.
    features : sequence of str, optional
        Names of the inputs. Default: `DEFAULT_FEATURES`; for networks that see maps none beside these.
    model : str
        A key of `galineage.models.PRESETS`: ``mdn`` (default), ``flow``, ``pool``, ``paper``, ``spline`` and others;
        ``maps``, ``maps-paper`` or ``maps-code`` for a catalogue of views (`galineage.MapStore.views`).
    target : str or sequence of str
        What to infer; several for the joint models, ``cinn`` and others. A galaxy that never had a major merger stays,
        with NaN in what a major merger is needed for.
    members : int, optional
        Networks in the ensemble. Default: 5, or 5 for each subset of ``pool``.
    config : TrainConfig, optional
        Training settings. Default: `galineage.training.recommended_config`.
    weights : array (n,), optional
        Weight of each galaxy in the loss, no unit; for example `galineage.importance_weights`.
    alignment : Alignment or str, optional
        Penalty for a difference between what networks make of both catalogues, see `galineage.training.alignment`.
    unlabelled : Catalogue, optional
        Galaxies of the domain to align with. Only their features, or maps, are read.
    start : ContrastiveNetwork, optional
        What a network that sees images starts from: the encoder of every member is that of the representation, and is
        trained on.
    split : {"root", "row"}
        What stays together when validation galaxies are drawn.
    folder, progress, label, **options
        Where checkpoint and history go (a run found there is continued); whether to show a bar on a terminal, the text
        beside it; settings of the estimator in place of the preset's.

    Returns
    -------
    Bundle

    Raises
    ------
    ConfigError, DataError, TrainingError
        For wrong settings, unusable data, and training that cannot go on.
    """
    config = config or recommended_config(model)
    told: dict[str, Any] = {"weights": weights, "alignment": alignment, "unlabelled": unlabelled, "label": label}
    told |= {"split": split, "folder": folder, "progress": progress}
    if isinstance(config, MapTrainConfig):
        told["start"] = start
        return train_on_maps(catalogue, features or (), model, target, members, config, options, told)
    if start is not None:
        raise ConfigError(f"model {model!r} sees no images", advice="give it the representation as features")
    features = DEFAULT_FEATURES if features is None else features
    estimator = make_estimator(model, features, target, members=members, seed=config.seed, **options)
    return _train_on_features(catalogue, estimator, model, config, told)


def _train_on_features(
    catalogue: Catalogue, estimator: Estimator, model: str, config: TrainConfig, given: Mapping[str, Any]
) -> Bundle:
    """Train an estimator that sees no maps; ``given`` holds the other arguments of `train`."""
    x = (usable := catalogue.complete(needed_fields(estimator))).features(estimator.features)
    y = np.stack([np.asarray(usable[name], dtype=float) for name in estimator.targets], axis=1)
    result = fit_estimator(
        *(estimator, x, y if len(estimator.targets) > 1 else y[:, 0], config),
        groups=split_labels(usable, given["split"]),
        weights=weights_of(given["weights"], catalogue, catalogue.has(needed_fields(estimator))),
        alignment=(penalty := _alignment(estimator, given["alignment"], config.seed)),
        unlabelled=_unlabelled_features(given["unlabelled"], estimator),
        folder=given["folder"],
        progress=given["progress"],
        label=given["label"] or f"train {model}",
    )
    shift = fit_shift(x, usable.root, config.seed)
    towards = shifted_towards(given["weights"], penalty, given["unlabelled"])
    card = {"model": model, **learned_from(usable, estimator, shift), **towards}
    card |= {**result_of({**asdict(config), "split": given["split"]}, result), "prior_width": prior_width(estimator, y)}
    return Bundle(estimator, card, shift)


def _unlabelled_features(unlabelled: Catalogue | None, estimator: Estimator) -> NDArray[np.float64] | None:
    """Features (m, d), registry units or dex, of the unlabelled galaxies that have all of them."""
    if unlabelled is None:
        return None
    x = unlabelled.features(estimator.features)
    return x[np.isfinite(x).all(axis=1)]


def _alignment(estimator: Estimator, alignment: Alignment | str | None, seed: int) -> Alignment | None:
    """Return the alignment, built for the estimator where it is given by name."""
    if not isinstance(alignment, str):
        return alignment
    # in evaluation mode nothing is drawn, and no running statistics move; the loop sets the mode it needs
    with torch.no_grad():
        width = estimator.eval().represent(torch.zeros(1, len(estimator.features))).shape[-1]
    return make_alignment(alignment, estimator.members, width, seed=seed)


def needed_fields(estimator: Estimator) -> list[str]:
    """Return the fields that a training or test row must have: inputs, and targets that every galaxy has."""
    undefined = MERGER_TARGETS if estimator.joint else ()
    return list(dict.fromkeys([*estimator.features, *(name for name in estimator.targets if name not in undefined)]))


def with_metrics(bundle: Bundle, metrics: dict[str, Any]) -> Bundle:
    """Return the bundle with more measured numbers (name to text or number) on its card."""
    return replace(bundle, card={**bundle.card, "metrics": {**bundle.card.get("metrics", {}), **metrics}})
