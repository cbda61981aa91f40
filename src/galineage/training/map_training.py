"""From a catalogue of views to a bundle: training of networks that see maps."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError
from galineage.models import make_estimator
from galineage.models.bundle import Bundle
from galineage.models.map_inputs import MapInputs
from galineage.models.map_network import MapNetwork
from galineage.store.splits import split_labels
from galineage.training.card import fit_shift, learned_from, prior_width, result_of
from galineage.training.map_loop import fit_map_network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galineage.galaxy import Catalogue
    from galineage.training.config import MapTrainConfig

__all__ = ["train_on_maps"]


def train_on_maps(
    catalogue: Catalogue,
    features: Sequence[str],
    model: str,
    target: str | Sequence[str],
    members: int | None,
    config: MapTrainConfig,
    options: dict[str, Any],
    where: dict[str, Any],
) -> Bundle:
    """Train a network on the maps of a catalogue of views.

    Parameters
    ----------
    catalogue : Catalogue
        With maps. Views that lack a channel, a feature or the target are left out.
    features, model, target, members, config, options
        As `galineage.training.train` has them.
    where : mapping
        Its ``split``, ``folder``, ``progress`` and ``label``.

    Returns
    -------
    Bundle

    Raises
    ------
    ConfigError, DataError, TrainingError
        As `galineage.training.train` does.
    """
    inputs = MapInputs.of(catalogue)
    recipe = dict(inputs.maps.recipe)
    known = {"channels": inputs.maps.channels, "pixels": inputs.pixels, "recipe": recipe}
    if "maps" in recipe:
        known["half_width"] = recipe["maps"]["half_width_r_half"]
    estimator = make_estimator(model, features, target, members=members, seed=config.seed, **{**known, **options})
    if not isinstance(estimator, MapNetwork):
        raise ConfigError(f"model {model!r} does not see maps", advice="give it the settings of a table's network")
    usable = catalogue.complete([*estimator.features, estimator.target])
    usable = usable.select(estimator.usable(usable))
    inputs, groups = estimator.inputs(usable), split_labels(usable, where["split"])
    result = fit_map_network(
        estimator,
        inputs,
        np.asarray(usable[estimator.target], dtype=float),
        config,
        groups=groups,
        folder=where["folder"],
        progress=where["progress"],
        label=where["label"] or f"train {model}",
    )
    shift = fit_shift(estimator.likeness(inputs), groups, config.seed)
    card = {"model": model, **learned_from(usable, estimator, shift)}
    told = result_of({**asdict(config), "split": where["split"]}, result)
    y = np.asarray(usable[estimator.target], dtype=float)[:, None]
    return Bundle(estimator, {**card, **told, "prior_width": prior_width(estimator, y)}, shift)
