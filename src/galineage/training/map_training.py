"""From a catalogue of views to a bundle: training of networks that see maps."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError
from galineage.fields import MERGER_TARGETS
from galineage.models import make_estimator
from galineage.models.bundle import Bundle
from galineage.models.map_inputs import MapInputs
from galineage.models.map_network import MapNetwork
from galineage.store.splits import split_labels
from galineage.training.alignment import make_alignment
from galineage.training.card import fit_shift, learned_from, prior_width, result_of, shifted_towards, weights_of
from galineage.training.map_loop import fit_map_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from galineage.galaxy import Catalogue
    from galineage.training.alignment import Alignment
    from galineage.training.config import MapTrainConfig

__all__ = ["network_for", "train_on_maps"]


def train_on_maps(
    catalogue: Catalogue,
    features: Sequence[str],
    model: str,
    target: str | Sequence[str],
    members: int | None,
    config: MapTrainConfig,
    options: dict[str, Any],
    given: dict[str, Any],
) -> Bundle:
    """Train a network on the maps of a catalogue of views.

    Parameters
    ----------
    catalogue : Catalogue
        With maps. Views that lack a channel, a feature or the target are left out.
    features, model, target, members, config, options
        As `galineage.training.train` has them.
    given : mapping
        Its ``split``, ``folder``, ``progress``, ``label``, ``weights``, ``alignment``, ``unlabelled``, of which only
        the maps are read, and ``start``.

    Returns
    -------
    Bundle

    Raises
    ------
    ConfigError, DataError, TrainingError
        As `galineage.training.train` does.
    """
    start = given.get("start")
    if start is not None:
        options = {**options, "encoder": start.encoder_name, "widths": start.widths}
    estimator = network_for(catalogue, model, features, target, members, config.seed, options)
    if start is not None:
        start.check(estimator.inputs(catalogue))
        estimator.start_from(start.encoder)
    undefined = MERGER_TARGETS if estimator.joint else ()
    needed = [*estimator.features, *(name for name in estimator.targets if name not in undefined)]
    usable = catalogue.complete(needed)
    usable = usable.select(estimator.usable(usable))
    weights = weights_of(given["weights"], catalogue, catalogue.has(needed) & estimator.usable(catalogue))
    y = np.stack([np.asarray(usable[name], dtype=float) for name in estimator.targets], axis=1)
    inputs, groups = estimator.inputs(usable), split_labels(usable, given["split"])
    result = fit_map_network(
        estimator,
        inputs,
        y if estimator.joint else y[:, 0],
        config,
        groups=groups,
        weights=weights,
        alignment=(penalty := _alignment(given["alignment"], config.seed)),
        unlabelled=_unlabelled(given["unlabelled"], estimator),
        folder=given["folder"],
        progress=given["progress"],
        label=given["label"] or f"train {model}",
    )
    shift = fit_shift(estimator.likeness(inputs), groups, config.seed)
    card = {"model": model, **learned_from(usable, estimator, shift)}
    settings = {**asdict(config), "split": given["split"]}
    if start is not None:
        settings["start"] = f"encoder {start.encoder_name} of a representation, {estimator.started_from[:12]}"
    told = result_of(settings, result)
    told |= shifted_towards(weights, penalty, given["unlabelled"])
    return Bundle(estimator, {**card, **told, "prior_width": prior_width(estimator, y)}, shift)


def network_for(
    catalogue: Catalogue,
    model: str,
    features: Sequence[str] = (),
    target: str | Sequence[str] = "f_ex",
    members: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> MapNetwork:
    """Build an untrained network that fits the maps of a catalogue of views.

    Parameters
    ----------
    catalogue : Catalogue
        With maps: their channels, pixels, field and recipe become the network's.
    model, features, target, members, options
        As `galineage.training.train` has them.
    seed : int
        Of the initial weights.

    Raises
    ------
    ConfigError, DataError
        If the model does not see maps; if there are none.
    """
    inputs = MapInputs.of(catalogue)
    recipe = dict(inputs.maps.recipe)
    known = {"channels": inputs.maps.channels, "pixels": inputs.pixels, "recipe": recipe}
    if "maps" in recipe:
        known["half_width"] = recipe["maps"]["half_width_r_half"]
    estimator = make_estimator(model, features, target, members=members, seed=seed, **{**known, **(options or {})})
    if not isinstance(estimator, MapNetwork):
        raise ConfigError(f"model {model!r} does not see maps", advice="give it the settings of a table's network")
    return estimator


def _alignment(given: Alignment | str | None, seed: int) -> Alignment | None:
    """Return the alignment, whose settings each member follows with one of its own."""
    return make_alignment(given, 1, 1, seed=seed) if isinstance(given, str) else given


def _unlabelled(catalogue: Catalogue | None, estimator: MapNetwork) -> MapInputs | None:
    """Return contexts of the unlabelled views that have all that the network sees."""
    return None if catalogue is None else estimator.inputs(catalogue.select(estimator.usable(catalogue)))
