"""Multilayer perceptrons with a distribution as output: the paper's network (Table A1) and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError
from galineage.models.base import Estimator
from galineage.models.heads import Head, head_settings, make_head
from galineage.models.layers import MemberBatchNorm, MemberDropout, MemberLinear

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.distributions import Distribution

__all__ = ["Perceptron"]

_ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Perceptron(Estimator):
    """Dense layers, each followed by batch normalisation and dropout if asked for, and a head.

    With ``hidden=(32, 16, 16)``, ``batch_norm=True`` and the Gaussian head this is Table A1 of Angeloudi+2023:
    1,378 parameters with 8 inputs (1,250 of them trainable, the rest running statistics).

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs.
    target : str
        Field name of the target.
    members : int
        Networks in the ensemble, trained and evaluated together.
    hidden : sequence of int
        Widths of the hidden layers.
    head : Head or mapping
        The distribution, see `galineage.models.heads`.
    batch_norm : bool
        Batch normalisation after each hidden layer.
    dropout : float
        Dropout rate after each hidden layer. The paper does not give its rate.
    activation : {"relu", "silu", "tanh"}
        Nonlinearity. The paper does not give its own.
    initial : {"fan-in", "published"}
        Initial weights. ``published`` cycles through the dense initialisers of the authors' code
        (normal 0.2, normal 0.2, normal 0.2, truncated normal 0.05, truncated normal 0.05).
    seed : int
        Seed of the initial weights.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    kind = "perceptron"

    def __init__(
        self,
        features: Sequence[str],
        target: str = "f_ex",
        members: int = 5,
        *,
        hidden: Sequence[int] = (128, 128),
        head: Head | Mapping[str, Any] | None = None,
        batch_norm: bool = False,
        dropout: float = 0.1,
        activation: Literal["relu", "silu", "tanh"] = "relu",
        initial: Literal["fan-in", "published"] = "fan-in",
        seed: int = 0,
    ) -> None:
        super().__init__(features, target, members)
        self.hidden = tuple(int(width) for width in hidden)
        self.head = head if isinstance(head, Head) else make_head(head or {"kind": "bounded"})
        self.batch_norm, self.dropout, self.activation = bool(batch_norm), float(dropout), activation
        self.initial, self.seed = initial, int(seed)
        self._check()
        layers: list[nn.Module] = []
        width = len(self.features)
        for units in self.hidden:
            layers += [MemberLinear(members, width, units), _ACTIVATIONS[activation]()]
            if batch_norm:
                layers.append(MemberBatchNorm(members, units))
            layers.append(MemberDropout(self.dropout))
            width = units
        layers.append(MemberLinear(members, width, self.head.outputs))
        self.network = nn.Sequential(*layers)
        self._initialise()

    def _check(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"hidden is {list(self.hidden)}", expected="widths of 1 or more")
        if self.head.bounded:
            self.require_fraction()
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}", expected="0 up to, not including, 1")
        if self.activation not in _ACTIVATIONS:
            raise ConfigError(f"activation is {self.activation!r}", expected="one of " + ", ".join(_ACTIVATIONS))
        if self.initial not in ("fan-in", "published"):
            raise ConfigError(f"initial is {self.initial!r}", expected="fan-in or published")

    def _initialise(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        for layer in self.network:
            if isinstance(layer, MemberLinear):
                layer.reset(generator)
                if self.initial == "published":
                    _published_start(layer, generator)

    def forward(self, context: Tensor) -> Distribution:
        """Condition on features (n, d) or (E, n, d); see `Estimator.forward`."""
        return self.head.distribution(self.network(self.scaled(context)))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {
            "features": list(self.features),
            "target": self.target,
            "members": self.members,
            "hidden": list(self.hidden),
            "head": head_settings(self.head),
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
            "activation": self.activation,
            "initial": self.initial,
            "seed": self.seed,
        }

    def count_parameters(self, *, trainable: bool = False) -> int:
        """Count the numbers of one member; running statistics count too unless ``trainable``."""
        tensors: list[Tensor] = list(self.network.parameters())
        if not trainable:
            tensors += list(self.network.buffers())
        return sum(tensor.numel() for tensor in tensors) // self.members


@torch.no_grad()
def _published_start(layer: MemberLinear, generator: torch.Generator) -> None:
    layer.bias.zero_()
    for member, weight in enumerate(layer.weight):
        if member % 5 < 3:
            nn.init.normal_(weight, 0.0, 0.2, generator=generator)
        else:
            nn.init.trunc_normal_(weight, 0.0, 0.05, -0.1, 0.1, generator=generator)
