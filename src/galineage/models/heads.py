"""Heads: raw network outputs in, a distribution over the target out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal
from torch.nn.functional import softplus

from galineage.errors import ConfigError
from galineage.models.base import require_counts
from galineage.models.bounded import TruncatedMixture, TruncatedSplineFlow, WidenedLogit

__all__ = ["HEADS", "BoundedHead", "FlowHead", "GaussianHead", "Head", "make_head"]


def _require_between(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            raise ConfigError(f"{name} is {value}", expected=f"{low:g} to {high:g}")


class Head(ABC):
    """Turns the last layer's outputs into a distribution.

    Attributes
    ----------
    kind : str
        Name in `HEADS` and in saved models.
    bounded : bool
        Whether the distribution lives on [0, 1].
    """

    kind: ClassVar[str]
    bounded: ClassVar[bool] = True

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many numbers per galaxy the head needs."""

    @abstractmethod
    def distribution(self, raw: Tensor) -> Distribution:
        """Build the distribution.

        Parameters
        ----------
        raw : Tensor (..., outputs)
            Unconstrained network outputs.

        Returns
        -------
        Distribution
            Batch shape (...,), event shape (), in the target's unit.
        """


@dataclass(frozen=True)
class GaussianHead(Head):
    """Mixture of Gaussians on the whole real line: the published head with one component (A23 section 3.1).

    It can leave [0, 1]; it is kept to reproduce the paper.

    Attributes
    ----------
    components : int
        Number of Gaussians; the paper found that more than one did not help.
    floor : float
        Smallest standard deviation, in the target's unit, against collapse on single galaxies.
    """

    components: int = 1
    floor: float = 1e-3
    kind: ClassVar[str] = "gaussian"
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_counts(components=self.components)
        _require_between(1e-6, 1.0, floor=self.floor)

    @property
    def outputs(self) -> int:
        """Return location and scale, and a weight where there are several components."""
        return 2 if self.components == 1 else 3 * self.components

    def distribution(self, raw: Tensor) -> Distribution:
        """Build the mixture from (..., outputs); batch shape (...,), in the target's unit."""
        if self.components == 1:
            loc, scale = raw.unbind(dim=-1)
            return Normal(loc, softplus(scale) + self.floor, validate_args=False)
        loc, scale, logits = raw.chunk(3, dim=-1)
        # spread the starting points, otherwise equal components never part
        start = torch.linspace(-0.2, 0.2, self.components, dtype=raw.dtype, device=raw.device)
        return MixtureSameFamily(
            Categorical(logits=logits, validate_args=False),
            Normal(loc + start, softplus(scale) + self.floor, validate_args=False),
            validate_args=False,
        )


@dataclass(frozen=True)
class BoundedHead(Head):
    """Mixture of normals in widened-logit space, truncated to [0, 1]: no mass outside, finite at 0 and 1.

    Attributes
    ----------
    components : int
        Number of normals.
    margin : float
        Widening of the unit interval, see `galineage.models.bounded.WidenedLogit`.
    floor : float
        Smallest scale in logit space.
    """

    components: int = 3
    margin: float = 0.01
    floor: float = 0.02
    kind: ClassVar[str] = "bounded"

    def __post_init__(self) -> None:
        require_counts(components=self.components)
        _require_between(1e-4, 1.0, margin=self.margin)
        _require_between(1e-3, 1.0, floor=self.floor)

    @property
    def outputs(self) -> int:
        """Return weight, location and scale per component."""
        return 3 * self.components

    def distribution(self, raw: Tensor) -> Distribution:
        """Build the mixture from (..., outputs); batch shape (...,), no unit."""
        link = WidenedLogit(self.margin)
        loc, scale, logits = raw.chunk(3, dim=-1)
        start = torch.linspace(-1.0, 1.0, self.components, dtype=raw.dtype, device=raw.device) - 1.0
        # a location outside the interval would leave a component almost no mass and blow up its gradient
        loc = link.limit * torch.tanh((loc + start) / link.limit)
        return TruncatedMixture(logits, loc, softplus(scale) + self.floor, link)


@dataclass(frozen=True)
class FlowHead(Head):
    """Conditional normalising flow: affine map, then a rational-quadratic spline (Durkan+2019; zuko), on [0, 1].

    Attributes
    ----------
    bins : int
        Bins of the spline.
    margin : float
        Widening of the unit interval, see `galineage.models.bounded.WidenedLogit`.
    floor : float
        Smallest scale of the affine map in logit space.
    """

    bins: int = 8
    margin: float = 0.01
    floor: float = 0.02
    kind: ClassVar[str] = "flow"

    def __post_init__(self) -> None:
        require_counts(2, bins=self.bins)
        _require_between(1e-4, 1.0, margin=self.margin)
        _require_between(1e-3, 1.0, floor=self.floor)

    @property
    def outputs(self) -> int:
        """Return location, scale, bin widths and heights, inner slopes."""
        return 2 + 3 * self.bins - 1

    def distribution(self, raw: Tensor) -> Distribution:
        """Build the flow from (..., outputs); batch shape (...,), no unit."""
        link = WidenedLogit(self.margin)
        loc, scale, widths, heights, slopes = raw.split([1, 1, self.bins, self.bins, self.bins - 1], dim=-1)
        loc = link.limit * torch.tanh((loc.squeeze(-1) - 1.0) / link.limit)
        return TruncatedSplineFlow(loc, softplus(scale.squeeze(-1)) + self.floor, widths, heights, slopes, link)


HEADS: dict[str, type[Any]] = {head.kind: head for head in (GaussianHead, BoundedHead, FlowHead)}
"""Every head by name."""


def make_head(settings: Mapping[str, Any]) -> Head:
    """Build a head from ``{"kind": name, **parameters}``.

    Raises
    ------
    ConfigError
        If the kind or a parameter is unknown.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"head is {settings!r}", expected="a mapping", advice='for example {"kind": "bounded"}')
    options = dict(settings)
    kind = options.pop("kind", None)
    if kind not in HEADS:
        raise ConfigError(f"there is no head called {kind!r}", expected="one of " + ", ".join(HEADS))
    try:
        return HEADS[kind](**options)
    except TypeError as error:
        raise ConfigError(f"head {kind!r}: {error}") from error


def head_settings(head: Head) -> dict[str, Any]:
    """Return the inverse of `make_head`: JSON values."""
    return {"kind": head.kind, **asdict(head)}  # type: ignore[call-overload]
