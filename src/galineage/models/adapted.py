"""A trained estimator behind a map of its inputs: a model adapted to galaxies of another domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from galineage.errors import ConfigError
from galineage.models.base import Estimator
from galineage.models.joining import join_members
from galineage.models.matching import QuantileMatching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributions import Distribution

__all__ = ["Adapted"]

_VIEWS = ("raw", "matched")


class Adapted(Estimator):
    """Asks a trained estimator about one or two views of each galaxy, and pools the answers.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs; those of the inner estimator.
    target : str
        Field name of the target; that of the inner estimator.
    inner : Estimator or mapping
        The trained estimator, or its ``kind`` and ``settings``.
    matching : QuantileMatching or mapping
        The map of the inputs, or its settings.
    views : sequence of {"raw", "matched"}
        ``raw``: the inputs as they are. ``matched``: mapped onto the distribution of the training galaxies. With both,
        the members answer for each, and the posterior is wide where the map matters.

    Raises
    ------
    ConfigError
        If parts do not fit each other, or the inner estimator cannot be adapted (joint ones, adapted ones).
    """

    kind = "adapted"

    def __init__(
        self,
        features: Sequence[str],
        target: str = "f_ex",
        *,
        inner: Estimator | Mapping[str, Any],
        matching: QuantileMatching | Mapping[str, Any],
        views: Sequence[str] = _VIEWS,
    ) -> None:
        views = _checked_views(views)
        made = inner if isinstance(inner, Estimator) else _inner_class(inner)(**inner["settings"])
        _require_single(made.kind)
        super().__init__(features, target, len(views) * made.members)
        self.inner, self.views = made, views
        self.matching = matching if isinstance(matching, QuantileMatching) else _made_matching(matching)
        for part, name in ((self.inner, "estimator"), (self.matching, "matching")):
            if part.features != self.features:
                raise ConfigError(
                    f"the {name} is for the features {', '.join(part.features)}", expected=", ".join(self.features)
                )
        if self.inner.target != self.target:
            raise ConfigError(f"the estimator infers {self.inner.target!r}", expected=self.target)

    def forward(self, context: Tensor) -> Distribution:
        """Condition on features (n, d) or (E, n, d) of the other domain; see `Estimator.forward`.

        The members of the first view come first, then those of the second.
        """
        self.refuse_other_width(context)
        parts = context.split(self.inner.members) if context.dim() == 3 else (context,) * len(self.views)
        seen = (
            part if view == "raw" else self.matching.transform(part)
            for view, part in zip(self.views, parts, strict=True)
        )
        return join_members([self.inner(part) for part in seen])

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {
            "features": list(self.features),
            "target": self.target,
            "inner": {"kind": self.inner.kind, "settings": self.inner.settings()},
            "matching": self.matching.settings(),
            "views": list(self.views),
        }

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count the inner estimator's weights and the knots that settings ask for."""
        inner, matching = settings.get("inner", {}), settings.get("matching", {})
        kind = _inner_class(inner)
        if not isinstance(matching, Mapping) or "features" not in matching:
            raise ConfigError(f"matching is {matching!r}", expected="settings of a matching")
        return kind.count_numbers(inner["settings"]) + QuantileMatching.count_numbers(matching)

    def fit_scaling(self, x: Tensor) -> None:
        """Refuse: an adapted model is not trained (x (n, d), features' units, is not looked at).

        Raises
        ------
        ConfigError
            Always.
        """
        del x
        raise ConfigError("an adapted model cannot be trained", advice="train a model, then adapt it")

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put saved weights and knots back, by name, of the shapes saved (scaled units inside); see `Estimator`.

        Raises
        ------
        RuntimeError
            If names or shapes differ, or the knots are not finite or fall.
        """
        inner = {name.removeprefix("inner."): value for name, value in tensors.items() if name.startswith("inner.")}
        self.inner.load_tensors(inner)
        own = {name: value for name, value in self.state_dict().items() if name.startswith("inner.")}
        self.load_state_dict(own | {name: value for name, value in tensors.items() if name not in own})
        knots = (self.matching.target, self.matching.source, self.matching.masses)
        if not all(bool(torch.isfinite(part).all() and (part.diff(dim=-1) >= 0).all()) for part in knots):
            raise RuntimeError("the knots of the matching are not finite, or fall")


def _checked_views(views: Sequence[str]) -> tuple[str, ...]:
    found = (views,) if isinstance(views, str) else tuple(views)
    if not found or len(set(found)) < len(found) or not set(found) <= set(_VIEWS):
        raise ConfigError(f"views are {list(found)}", expected="raw, matched or both")
    return found


def _inner_class(inner: Any) -> type[Estimator]:
    """Look up the class that a description of the inner estimator names, after refusing what cannot be adapted."""
    # the list of estimators has this class in it
    from galineage.models import ESTIMATORS

    settings = inner.get("settings") if isinstance(inner, Mapping) else None
    if not isinstance(settings, Mapping) or "features" not in settings or inner.get("kind") not in ESTIMATORS:
        raise ConfigError(f"the inner estimator is {inner!r}", expected="kind and settings of an estimator")
    _require_single(inner["kind"])
    return ESTIMATORS[inner["kind"]]


def _require_single(kind: str) -> None:
    if kind in ("adapted", "joint", "maps", "maps-joint"):
        raise ConfigError(
            f"an estimator of kind {kind!r} cannot be adapted",
            expected="a model of one target as it was trained",
            advice="adapt the model it was made from" if kind == "adapted" else "train a model for each target",
        )


def _made_matching(settings: Mapping[str, Any]) -> QuantileMatching:
    if not isinstance(settings, Mapping):
        raise ConfigError(f"matching is {settings!r}", expected="settings of a matching")
    return QuantileMatching(**settings)
