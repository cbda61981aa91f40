"""Multilayer perceptrons with a distribution as output: the paper's network (Table A1) and ours."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError
from galineage.models.base import Estimator
from galineage.models.heads import Head, head_settings, make_head
from galineage.models.layers import MemberBatchNorm, MemberDropout, MemberLinear
from galineage.models.subsets import check_subsets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from torch.distributions import Distribution

    from galineage.models.fused import Dense

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
    subsets : sequence of sequences of str, optional
        Member e sees only the features of subset e modulo their number; ``members`` must be a multiple of it. The
        others are set to their mean. What is told of one subset is then not told of all, and members that rest on
        different features disagree where the relation between these has changed.
    seed : int
        Seed of the initial weights.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    kind = "perceptron"
    seen: Tensor | None

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
        subsets: Sequence[Sequence[str]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(features, target, members)
        self.hidden = tuple(int(width) for width in hidden)
        self.head = head if isinstance(head, Head) else make_head(head or {"kind": "bounded"})
        self.batch_norm, self.dropout, self.activation = bool(batch_norm), float(dropout), activation
        self.initial, self.seed = initial, int(seed)
        self._check()
        self.subsets = None if subsets is None else check_subsets(subsets, self.features, members)
        # made from the settings, so that no file need hold it
        self.register_buffer("seen", self._mask(), persistent=False)
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
        self._dense: list[Dense] | None = None
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

    def _mask(self) -> Tensor | None:
        """Which features each member sees, (E, 1, d) of 0 and 1; None for all."""
        if self.subsets is None:
            return None
        rows = [[float(name in subset) for name in self.features] for subset in self.subsets]
        return torch.tensor(rows).repeat(self.members // len(rows), 1).unsqueeze(1)

    def scaled(self, context: Tensor) -> Tensor:
        """Return the context in scaled units, (E, n, d), zero where a member does not look; NaN stays NaN."""
        z = super().scaled(context)
        return z if self.seen is None else z * self.seen

    def forward(self, context: Tensor) -> Distribution:
        """Condition on features (n, d) or (E, n, d); see `Estimator.forward`."""
        return self.head.distribution(self._through(self.scaled(context), slice(None)))

    def represent(self, context: Tensor) -> Tensor:
        """Return the last hidden layer, shape (E, n, width), scaled units; see `Estimator.represent`."""
        return self._through(self.scaled(context), slice(-1))

    def answer(self, representation: Tensor) -> Distribution:
        """Apply the last layer and the head to (E, n, width), scaled units; see `Estimator.answer`."""
        return self.head.distribution(self._through(representation, slice(-1, None)))

    def _through(self, values: Tensor, part: slice) -> Tensor:
        """Pass values (E, n, width) through the dense layers of ``part``, each with what follows it."""
        on_cpu = values.device.type == "cpu" and values.dtype == torch.float32
        if self.training and torch.is_grad_enabled() and on_cpu and self.activation == "relu":
            from galineage.models.fused import run_layers

            return run_layers(values, self._dense_layers()[part])
        modules = list(self.network)
        # the last dense layer has nothing after it
        for module in modules[part]:
            values = module(values)
        return values

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; see `torch.nn.Module.train`."""
        self._dense = None
        return super().train(mode)

    def _dense_layers(self) -> list[Dense]:
        """Describe the network to `galineage.models.fused`, once for as long as the weights stay in their place."""
        if self._dense is None or any(layer.moved() for layer in self._dense):
            from galineage.models.fused import Dense

            self._dense = []
            for linear, *others in _groups(self.network):
                settings: dict[str, Any] = {}
                for module in others:
                    if isinstance(module, MemberBatchNorm):
                        settings["norm"] = (module.weight, module.bias, module.running_mean, module.running_var)
                        settings |= {"momentum": module.momentum, "eps": module.eps}
                    elif isinstance(module, MemberDropout):
                        settings["dropout"] = module.rate
                    else:
                        settings["rectify"] = True
                self._dense.append(Dense(linear.weight, linear.bias, **settings))
        return self._dense

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
            # left out where there are none, as in models that were saved before there could be any
            **({} if self.subsets is None else {"subsets": [list(subset) for subset in self.subsets]}),
            "seed": self.seed,
        }

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count the weights of the dense layers that the settings ask for."""
        outputs = make_head(settings["head"]).outputs if "head" in settings else 1
        widths = [len(settings["features"]), *settings.get("hidden", []), outputs]
        return int(settings.get("members", 1)) * sum(a * b for a, b in itertools.pairwise(widths))

    def count_parameters(self, *, trainable: bool = False) -> int:
        """Count the numbers of one member; running statistics count too unless ``trainable``."""
        tensors: list[Tensor] = list(self.network.parameters())
        if not trainable:
            tensors += list(self.network.buffers())
        return sum(tensor.numel() for tensor in tensors) // self.members


def _groups(network: nn.Sequential) -> list[list[Any]]:
    """Divide a network into its affine maps, each with what follows it."""
    groups: list[list[Any]] = []
    for module in network:
        if isinstance(module, MemberLinear):
            groups.append([])
        groups[-1].append(module)
    return groups


@torch.no_grad()
def _published_start(layer: MemberLinear, generator: torch.Generator) -> None:
    layer.bias.zero_()
    for member, weight in enumerate(layer.weight):
        if member % 5 < 3:
            nn.init.normal_(weight, 0.0, 0.2, generator=generator)
        else:
            nn.init.trunc_normal_(weight, 0.0, 0.05, -0.1, 0.1, generator=generator)
