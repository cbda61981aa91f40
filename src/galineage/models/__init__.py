"""Estimators: networks and baselines that answer features with a distribution over the target.

A new estimator is one file here and one line in `ESTIMATORS`; a named set of settings is one line in `PRESETS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galineage.errors import ConfigError
from galineage.fields import check_features
from galineage.models.adapted import Adapted
from galineage.models.base import DirectEstimator, Estimator
from galineage.models.boosting import BoostedTrees
from galineage.models.forest import RandomForest
from galineage.models.heads import BoundedHead, FlowHead, GaussianHead
from galineage.models.joint import JointDistribution, JointFlow
from galineage.models.map_flow import MapFlow
from galineage.models.map_network import MapNetwork
from galineage.models.mass_spline import MassSpline
from galineage.models.perceptron import Perceptron
from galineage.models.prior_corrected import PriorCorrected
from galineage.models.subsets import POOL_KEEP, every_subset, pool_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ESTIMATORS",
    "PRESETS",
    "Adapted",
    "BoostedTrees",
    "BoundedHead",
    "DirectEstimator",
    "Estimator",
    "FlowHead",
    "GaussianHead",
    "JointDistribution",
    "JointFlow",
    "MapFlow",
    "MapNetwork",
    "MassSpline",
    "Perceptron",
    "PriorCorrected",
    "RandomForest",
    "every_subset",
    "make_estimator",
]

ESTIMATORS: dict[str, type[Estimator]] = {
    item.kind: item
    for item in (
        *(Perceptron, MapNetwork, MapFlow, JointFlow, MassSpline, RandomForest, BoostedTrees, Adapted, PriorCorrected),
    )
}
"""Every estimator class by its kind."""

_TABLE_A1: dict[str, Any] = {"hidden": (32, 16, 16), "batch_norm": True, "dropout": 0.1, "initial": "published"}

_EISERT: dict[str, Any] = {
    "hidden": (128, 128, 128),
    "condition": (128, 128, 128, 128),
    "never": "sentinel",
    "bounded": False,
    "initial": "published",
    "label_noise": 0.025,
}

_FLOW: dict[str, Any] = {
    "coupling": "spline",
    "blocks": 6,
    "condition": (64, 32),
    "chance": (),
    "chance_gain": 5.0,
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": ("perceptron", {**_TABLE_A1, "head": GaussianHead()}),
    "paper-bounded": ("perceptron", {**_TABLE_A1, "head": BoundedHead()}),
    "mdn": ("perceptron", {"head": BoundedHead()}),
    "flow": ("perceptron", {"head": FlowHead()}),
    "pool": ("perceptron", {"head": BoundedHead()}),
    "cinn": (
        "joint",
        {**_FLOW, "condition": (128, 128, 32)},
    ),
    "cinn-published": ("joint", _EISERT),
    "maps": ("maps", {"encoder": "small", "head": BoundedHead()}),
    "maps-paper": ("maps", {"encoder": "table-a2", "head": GaussianHead(), "dropout": 0.2}),
    "maps-code": ("maps", {"encoder": "code", "head": GaussianHead(), "dropout": 0.2}),
    "maps-cinn": ("maps-joint", {"encoder": "small", "flow": _FLOW}),
    "spline": ("spline", {}),
    "forest": ("forest", {}),
    "boosting": ("boosting", {}),
}
"""Named estimators: ``paper`` is Table A1 of Angeloudi+2023 with its Gaussian head, ``mdn`` the recommended one.

``maps-paper`` is the convolutional network of Angeloudi+2023, Table A2; ``maps-code`` what the authors' code has in its
place (dropout, L2 penalties and a layer of 10 that the table does not have); ``maps`` the recommended one, with 183,000
weights instead of 8.5 million. ``maps-cinn`` infers several targets at once from maps: the encoder of ``maps``, and the
density of ``cinn``.

``cinn-published`` is the conditional invertible network of Eisert+2023, for several targets at once, with the sizes of
the authors' code. ``cinn`` is the recommended one for that: splines, a Bernoulli factor for galaxies without a major
merger, and targets that stay in their range (docs/howto/eisert2023.md compares the two on galaxies that neither had
seen).

``pool`` is ``mdn`` with members that see different features: every subset of them that holds those in the option
``keep`` (default: mass, size and spin, as far as they are features). In the simulation it was trained in the subsets
agree. Under a change of simulation they disagree, as the relations of metallicity and age to the history change most
between TNG and EAGLE, and those of size and kinematics least (Angeloudi+2023 section 7.1.2); the pooled posterior is
wider there.
"""


def make_estimator(
    name: str,
    features: Sequence[str],
    target: str | Sequence[str] = "f_ex",
    *,
    members: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Estimator:
    """Build an untrained estimator from a preset.

    Parameters
    ----------
    name : str
        A key of `PRESETS`.
    features : sequence of str
        Field names of the inputs.
    target : str or sequence of str
        Field name of the target; several for ``cinn``, ``cinn-published`` and ``maps-cinn``.
    members : int, optional
        Networks in the ensemble; the baselines are single. Default: 5. The preset ``pool`` rounds up to a multiple of
        the number of its subsets; its default is 5 for each of them.
    seed : int
        Seed of the initial weights.
    **options
        Settings that replace those of the preset.

    Raises
    ------
    ConfigError
        If there is no such preset or a setting is wrong.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no model called {name!r}", expected="one of " + ", ".join(PRESETS))
    kind, settings = PRESETS[name]
    if not ESTIMATORS[kind].joint and not isinstance(target, str):
        if len(target) != 1:
            raise ConfigError(
                f"model {name!r} infers one target, and {len(target)} were given",
                expected="one field name",
                advice="use model 'cinn' for several targets at once, 'maps-cinn' from maps",
            )
        target = target[0]
    arguments: dict[str, Any] = {**settings, **options}
    if name == "pool":
        keep = arguments.pop("keep", POOL_KEEP)
        members, arguments["subsets"] = pool_settings(check_features(features), keep, members)
    if kind in ("perceptron", "joint", "maps", "maps-joint"):
        arguments.update(members=5 if members is None else members, seed=seed)
    build: Any = ESTIMATORS[kind]
    try:
        return build(features, target, **arguments)  # type: ignore[no-any-return]
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model {name!r}: {error}") from error
