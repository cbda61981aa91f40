"""A trained estimator whose posteriors are taken from the prior it was trained with to another one."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from galineage.errors import ConfigError
from galineage.models.base import Estimator, require_counts
from galineage.models.bounded import Histogram
from galineage.models.wrapping import Wrapper, inner_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch.distributions import Distribution

    from galineage.galaxy import Catalogue
    from galineage.models.base import Inputs

__all__ = ["PriorCorrected"]

_FINE = 512
_TINY = 1e-12


class PriorCorrected(Wrapper):
    """Multiplies every posterior by the ratio of two priors, ``p'(y | x) ~ p(y | x) p'(y) / p(y)``.

    Exact where the domains differ in how often a value of the target occurs, and galaxies of one value look the same in
    both (label shift). The ratio is constant in bins; posteriors become histograms of 512 pieces, normalised, each
    member by itself. What a Gaussian has outside of 0 to 1 is cut off.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs; those of the inner estimator.
    target : str
        Field name of the target, a fraction.
    inner : Estimator or mapping
        The trained estimator, or its ``kind`` and ``settings``.
    edges : sequence of float, length K + 1
        Bins of the target, from 0 to 1, increasing; no unit.
    ratio : sequence of float, length K
        New prior over old in each bin, above 0; any factor.

    Raises
    ------
    ConfigError
        If parts do not fit each other, or the inner estimator is a joint or an adapted one.
    """

    kind = "prior-corrected"
    _fine: Tensor
    _factor: Tensor

    def __init__(
        self,
        features: Sequence[str],
        target: str = "f_ex",
        *,
        inner: Estimator | Mapping[str, Any],
        edges: Sequence[float],
        ratio: Sequence[float],
    ) -> None:
        _require_plain(type(inner) if isinstance(inner, Estimator) else inner_class(inner))
        made = inner if isinstance(inner, Estimator) else inner_class(inner)(**inner["settings"])
        self.sees_maps = made.sees_maps  # type: ignore[misc]
        super().__init__(features, target, made.members)
        if (made.features, made.target) != (self.features, self.target):
            raise ConfigError(
                f"the estimator is for {', '.join(made.features)} and {made.target}",
                expected=f"{', '.join(self.features)} and {self.target}",
            )
        self.require_fraction()
        self.inner = made
        self.edges, self.ratio = tuple(map(float, edges)), tuple(map(float, ratio))
        self._check()
        pieces = [max(1, math.ceil(_FINE * (high - low))) for low, high in itertools.pairwise(self.edges)]
        parts = [torch.linspace(*pair, count + 1)[:-1] for pair, count in zip(itertools.pairwise(self.edges), pieces,
                 strict=True)]  # fmt: skip
        # made from the settings, so that no file need hold them
        self.register_buffer("_fine", torch.cat([*parts, torch.ones(1)]), persistent=False)
        self.register_buffer(
            "_factor", torch.tensor(self.ratio).repeat_interleave(torch.tensor(pieces)), persistent=False
        )

    def _check(self) -> None:
        require_counts(**{"bins of the ratio": len(self.ratio)})
        edges = torch.tensor(self.edges, dtype=torch.float64)
        if len(edges) != len(self.ratio) + 1 or edges[0] != 0 or edges[-1] != 1 or not bool((edges.diff() > 0).all()):
            raise ConfigError(f"edges are {list(self.edges)}", expected=f"{len(self.ratio) + 1} rising from 0 to 1")
        if not all(0 < value < float("inf") for value in self.ratio):
            raise ConfigError(f"the ratio of priors is {list(self.ratio)}", expected="numbers above 0")

    def forward(self, context: Tensor) -> Distribution:
        """Condition the inner estimator, and correct; context, shape and unit as it has them, batch shape (E, n)."""
        return self._corrected(self.inner(context))

    def _corrected(self, found: Distribution) -> Histogram:
        below = found.cdf(self._fine[:, None, None]).movedim(0, -1)
        masses = below.diff(dim=-1).clamp_min(0) * self._factor
        # where all of a posterior lies outside of 0 to 1 nothing is known
        masses = masses + _TINY
        return Histogram(masses / masses.sum(-1, keepdim=True), self._fine)

    def inputs(self, catalogue: Catalogue) -> Inputs:
        """Return what `forward` takes, for the rows of a catalogue; see `Estimator.inputs`."""
        return self.inner.inputs(catalogue)

    def describe_inputs(self) -> list[str]:
        """Return lines (Markdown) that say what the inner estimator looks at beside its features."""
        return self.inner.describe_inputs()

    def usable(self, catalogue: Catalogue) -> NDArray[np.bool_]:
        """Tell which rows (n,) have every input; see `Estimator.usable`."""
        return self.inner.usable(catalogue)

    def likeness(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the numbers (n, k), any unit, by which galaxies are compared; see `Estimator.likeness`."""
        return self.inner.likeness(inputs)

    @property
    def likeness_width(self) -> int:
        """How many numbers `likeness` gives for a galaxy."""
        return self.inner.likeness_width

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {
            "features": list(self.features),
            "target": self.target,
            "inner": self.inner_settings(),
            "edges": list(self.edges),
            "ratio": list(self.ratio),
        }

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count the inner estimator's weights that settings ask for."""
        inner = settings.get("inner", {})
        kind = inner_class(inner)
        _require_plain(kind)
        return kind.count_numbers(inner["settings"]) + _FINE + 2 * len(settings.get("ratio", ()))


def _require_plain(kind: type[Estimator]) -> None:
    if kind.joint or kind is PriorCorrected:
        raise ConfigError(
            f"the prior of an estimator of kind {kind.kind!r} cannot be corrected",
            expected="a model of one target, corrected once",
        )
