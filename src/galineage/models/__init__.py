"""Estimators: networks and baselines that answer features with a distribution over the target.

A new estimator is one file here and one line in `ESTIMATORS`; a named set of settings is one line in `PRESETS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galineage.errors import ConfigError
from galineage.models.base import DirectEstimator, Estimator
from galineage.models.boosting import BoostedTrees
from galineage.models.forest import RandomForest
from galineage.models.heads import BoundedHead, FlowHead, GaussianHead
from galineage.models.mass_spline import MassSpline
from galineage.models.perceptron import Perceptron

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ESTIMATORS",
    "PRESETS",
    "BoostedTrees",
    "BoundedHead",
    "DirectEstimator",
    "Estimator",
    "FlowHead",
    "GaussianHead",
    "MassSpline",
    "Perceptron",
    "RandomForest",
    "make_estimator",
]

ESTIMATORS: dict[str, type[Estimator]] = {
    item.kind: item for item in (Perceptron, MassSpline, RandomForest, BoostedTrees)
}
"""Every estimator class by its kind."""

_TABLE_A1: dict[str, Any] = {"hidden": (32, 16, 16), "batch_norm": True, "dropout": 0.1, "initial": "published"}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": ("perceptron", {**_TABLE_A1, "head": GaussianHead()}),
    "paper-bounded": ("perceptron", {**_TABLE_A1, "head": BoundedHead()}),
    "mdn": ("perceptron", {"head": BoundedHead()}),
    "flow": ("perceptron", {"head": FlowHead()}),
    "spline": ("spline", {}),
    "forest": ("forest", {}),
    "boosting": ("boosting", {}),
}
"""Named estimators: ``paper`` is Table A1 of Angeloudi+2023 with its Gaussian head, ``mdn`` the recommended one."""


def make_estimator(
    name: str, features: Sequence[str], target: str = "f_ex", *, members: int = 5, seed: int = 0, **options: Any
) -> Estimator:
    """Build an untrained estimator from a preset.

    Parameters
    ----------
    name : str
        A key of `PRESETS`.
    features : sequence of str
        Field names of the inputs.
    target : str
        Field name of the target.
    members : int
        Networks in the ensemble; the baselines are single.
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
    arguments: dict[str, Any] = {**settings, **options}
    if kind == "perceptron":
        arguments.update(members=members, seed=seed)
    try:
        return ESTIMATORS[kind](features, target, **arguments)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model {name!r}: {error}") from error
