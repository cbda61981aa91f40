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
from galineage.models.wrapping import Wrapper, inner_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributions import Distribution

__all__ = ["Adapted"]

_VIEWS = ("raw", "matched")


class Adapted(Wrapper):
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
        _require_single(type(inner) if isinstance(inner, Estimator) else inner_class(inner))
        made = inner if isinstance(inner, Estimator) else inner_class(inner)(**inner["settings"])
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
            "inner": self.inner_settings(),
            "matching": self.matching.settings(),
            "views": list(self.views),
        }

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count the inner estimator's weights and the knots that settings ask for."""
        inner, matching = settings.get("inner", {}), settings.get("matching", {})
        kind = inner_class(inner)
        _require_single(kind)
        if not isinstance(matching, Mapping) or "features" not in matching:
            raise ConfigError(f"matching is {matching!r}", expected="settings of a matching")
        return kind.count_numbers(inner["settings"]) + QuantileMatching.count_numbers(matching)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put saved weights and knots back, by name, of the shapes saved (scaled units inside); see `Estimator`.

        Raises
        ------
        RuntimeError
            If names or shapes differ, or the knots are not finite or fall.
        """
        super().load_tensors(tensors)
        knots = (self.matching.target, self.matching.source, self.matching.masses)
        if not all(bool(torch.isfinite(part).all() and (part.diff(dim=-1) >= 0).all()) for part in knots):
            raise RuntimeError("the knots of the matching are not finite, or fall")


def _checked_views(views: Sequence[str]) -> tuple[str, ...]:
    found = (views,) if isinstance(views, str) else tuple(views)
    if not found or len(set(found)) < len(found) or not set(found) <= set(_VIEWS):
        raise ConfigError(f"views are {list(found)}", expected="raw, matched or both")
    return found


def _require_single(kind: type[Estimator]) -> None:
    made = issubclass(kind, Wrapper)
    if kind.joint or kind.sees_maps or made:
        raise ConfigError(
            f"an estimator of kind {kind.kind!r} cannot be adapted",
            expected="a model of one target and of features, as it was trained",
            advice="adapt the model it was made from" if made else "train a model of features for each target",
        )


def _made_matching(settings: Mapping[str, Any]) -> QuantileMatching:
    if not isinstance(settings, Mapping):
        raise ConfigError(f"matching is {settings!r}", expected="settings of a matching")
    return QuantileMatching(**settings)
