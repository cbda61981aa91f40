"""What estimators that hold a trained one share: its description, its weights, and that they are not trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from galineage.errors import ConfigError
from galineage.models.base import Estimator

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Wrapper", "inner_class"]


class Wrapper(Estimator):
    """An estimator made from a trained one, its ``inner``."""

    inner: Estimator

    def inner_settings(self) -> dict[str, Any]:
        """Return the description of the inner estimator, in JSON values; `inner_class` is the way back."""
        return {"kind": self.inner.kind, "settings": self.inner.settings()}

    def fit_scaling(self, x: Tensor) -> None:
        """Refuse: such a model is not trained (x (n, d), features' units, is not looked at).

        Raises
        ------
        ConfigError
            Always.
        """
        del x
        raise ConfigError(f"a model of kind {self.kind!r} cannot be trained", advice="train the one it is made from")

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put saved weights back, by name, of the shapes saved (scaled units inside); see `Estimator`.

        Raises
        ------
        RuntimeError
            If names or shapes differ.
        """
        inner = {name.removeprefix("inner."): value for name, value in tensors.items() if name.startswith("inner.")}
        self.inner.load_tensors(inner)
        own = {name: value for name, value in self.state_dict().items() if name.startswith("inner.")}
        self.load_state_dict(own | {name: value for name, value in tensors.items() if name not in own})


def inner_class(inner: Any) -> type[Estimator]:
    """Look up the class that a description of an inner estimator names.

    Raises
    ------
    ConfigError
        If it is none.
    """
    # the list of estimators has the wrappers in it
    from galineage.models import ESTIMATORS

    settings = inner.get("settings") if isinstance(inner, Mapping) else None
    if not isinstance(settings, Mapping) or "features" not in settings or inner.get("kind") not in ESTIMATORS:
        raise ConfigError(f"the inner estimator is {inner!r}", expected="kind and settings of an estimator")
    return ESTIMATORS[inner["kind"]]
