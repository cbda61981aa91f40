"""Conditional normalising flows of coupling blocks, affine (GLOW) or rational-quadratic splines, members side by side.

Everything here is in columns: a tensor holds (members, quantities, draws, galaxies), so that what is done alike to
many galaxies lies side by side in memory. Weights of all blocks lie in one tensor per layer, members leading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from galineage.errors import ConfigError
from galineage.models.base import require_counts
from galineage.models.coupling_pass import Later, Layers, Passing, differentiable
from galineage.models.monotone import Affine, RationalQuadratic

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ColumnNet", "Conditioned", "CouplingFlow"]

_QUIET = 0.1  # scale of the last layer's first weights: a flow starts near the identity
_LOG_2PI = math.log(2 * math.pi)


def _fan_in(tensor: Tensor, width: int, generator: torch.Generator, scale: float = 1.0) -> None:
    nn.init.uniform_(tensor, -scale * width**-0.5, scale * width**-0.5, generator=generator)


class ColumnNet(nn.Module):
    """Dense layers with ReLU between them, one network per member.

    Parameters
    ----------
    members : int
        Number of networks.
    widths : sequence of int
        Inputs, hidden widths, outputs.
    """

    def __init__(self, members: int, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        self.weights = nn.ParameterList(torch.empty(members, out, into) for out, into in pairs)
        self.biases = nn.ParameterList(torch.zeros(members, out, 1) for out, _ in pairs)

    def reset(self, generator: torch.Generator) -> None:
        """Draw weights and biases uniformly within ``1/sqrt(inputs)`` (torch's default for linear layers)."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            _fan_in(weight, weight.shape[-1], generator)
            _fan_in(bias, weight.shape[-1], generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map columns (E, inputs, n) to (E, outputs, n), in scaled units; a NaN in a column gives a column of NaN."""
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, weight, x)
            if index < last:
                x = torch.relu_(x)
        return x


class _Subnets(nn.Module):
    """The networks of one half in all blocks: every tensor is (E, blocks, ...)."""

    def __init__(self, members: int, blocks: int, inputs: int, context: int, hidden: Sequence[int], out: int) -> None:
        super().__init__()
        self.enter = nn.Parameter(torch.empty(members, blocks, hidden[0], inputs)) if inputs else None
        self.context = nn.Parameter(torch.empty(members, blocks, hidden[0], context))
        self.start = nn.Parameter(torch.zeros(members, blocks, hidden[0], 1))
        pairs = list(zip((*hidden[1:], out), hidden, strict=True))
        self.weights = nn.ParameterList(torch.empty(members, blocks, after, before) for after, before in pairs)
        self.biases = nn.ParameterList(torch.zeros(members, blocks, after, 1) for after, _ in pairs)

    def reset(self, generator: torch.Generator) -> None:
        width = self.context.shape[-1] + (0 if self.enter is None else self.enter.shape[-1])
        for tensor in (self.enter, self.context, self.start):
            if tensor is not None:
                _fan_in(tensor, width, generator)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            scale = _QUIET if index == last else 1.0
            _fan_in(weight, weight.shape[-1], generator, scale)
            _fan_in(bias, weight.shape[-1], generator, scale)

    def condition(self, context: Tensor) -> Layers:
        """Give columns of context (E, C, n) to the first layers of all blocks in one product."""
        firsts = torch.baddbmm(self.start.flatten(1, 2), self.context.flatten(1, 2), context)
        return Layers(firsts, self.enter, tuple(self.weights), tuple(self.biases))

    def await_context(self, context: Tensor) -> Layers:
        """Keep columns of context (E, C, n) for the first layers, until each block's turn comes."""
        later = Later(self.start, self.context, context)
        return Layers(later, self.enter, tuple(self.weights), tuple(self.biases))


class CouplingFlow(nn.Module):
    """An invertible map between ``size`` standardised quantities and as many standard normals, given a context.

    Each block transforms the first half of the quantities with a network that sees the second half, then the second
    half with one that sees the transformed first (the layout of GLOW, Kingma & Dhariwal 2018, as in FrEIA). Between
    blocks the quantities are permuted. One quantity alone is transformed by the context (and ``extra``) only.

    Parameters
    ----------
    members : int
        Number of flows held side by side, E.
    size : int
        Number of quantities, T.
    context : int
        Width of the context, C.
    extra : int
        Number of further inputs of every network that differ from draw to draw, X.
    coupling : {"affine", "spline"}
        ``affine``: scale and shift, the logarithm of the scale within ``clamp``. ``spline``: monotone
        rational-quadratic splines on [-5, 5], identity outside (Durkan+2019, arXiv:1906.04032).
    blocks : int
        Number of blocks; each has two networks, or one if there is one quantity.
    hidden : sequence of int
        Hidden widths of the networks.
    clamp : float
        Soft limit of the absolute logarithm of a scale (affine only).
    bins : int
        Bins of a spline.
    seed : int
        Seed of the permutations.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    orders: Tensor
    returns: Tensor

    def __init__(
        self,
        members: int,
        size: int,
        context: int,
        extra: int = 0,
        *,
        coupling: Literal["affine", "spline"] = "affine",
        blocks: int = 12,
        hidden: Sequence[int] = (128, 128),
        clamp: float = 1.0,
        bins: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_counts(members=members, size=size, context=context, blocks=blocks)
        require_counts(2, bins=bins)
        if coupling not in ("affine", "spline"):
            raise ConfigError(f"coupling is {coupling!r}", expected="affine or spline")
        if not 0 < clamp <= 10:
            raise ConfigError(f"clamp is {clamp}", expected="more than 0, up to 10")
        self.size, self.extra, self.blocks = size, extra, blocks
        self.transform = Affine(clamp) if coupling == "affine" else RationalQuadratic(bins)
        self.halves = (size // 2, size - size // 2)
        self.networks = [
            _Subnets(members, blocks, seen + extra, context, tuple(hidden), self.transform.outputs(moved))
            for moved, seen in (self.halves, self.halves[::-1])
            if moved
        ]
        self.subnets = nn.ModuleList(self.networks)
        orders = [np.random.default_rng([seed, block]).permutation(size) for block in range(blocks)]
        for name, arrays in (("orders", orders), ("returns", [np.argsort(order) for order in orders])):
            self.register_buffer(name, torch.as_tensor(np.stack(arrays)), persistent=False)

    def reset(self, generator: torch.Generator) -> None:
        """Draw first weights: torch's default for linear layers, the last layer of each network ten times smaller."""
        for part in self.networks:
            part.reset(generator)

    def condition(self, context: Tensor) -> Conditioned:
        """Give the flow its context, columns (E, C, n), scaled units; first layers see it here, not per draw."""
        return Conditioned(self, context)


@dataclass(frozen=True)
class Conditioned:
    """A flow with its context: maps (E, T, S, n), S draws of n galaxies, standardised units.

    Attributes
    ----------
    flow : CouplingFlow
        The flow.
    context : Tensor (E, C, n)
        Scaled units.
    """

    flow: CouplingFlow
    context: Tensor

    @cached_property
    def _layers(self) -> tuple[Layers, ...]:
        return tuple(part.condition(self.context) for part in self.flow.networks)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map quantities to standard normals.

        Parameters
        ----------
        x : Tensor (E, T, S, n)
            Standardised quantities.
        extra : Tensor (E, X, S, n), optional
            Further inputs; left out if the flow has none.

        Returns
        -------
        (Tensor (E, T, S, n), Tensor (E, S, n))
            Latents, and the natural logarithm of the absolute determinant of the map's derivative.
        """
        passing = self._passing(x, extra)
        flat = x.flatten(2) if passing.flat else x
        if torch.is_grad_enabled() and x.shape[2] == 1 and not (extra is not None and extra.requires_grad):
            z, slope = differentiable(passing, flat.flatten(2))
        else:
            z, slope = passing.forward(flat)
        return z.view(x.shape), slope.view(len(x), *x.shape[2:])

    def inverse(self, z: Tensor, extra: Tensor | None = None) -> Tensor:
        """Map standard normals (E, T, S, n) to standardised quantities, same shape; ``extra`` as for `forward`."""
        passing = self._passing(z, extra)
        return passing.inverse(z.flatten(2) if passing.flat else z).view(z.shape)

    def log_prob(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        """Logarithm of the density at (E, T, S, n), standardised; returns (E, S, n)."""
        z, slope = self.forward(x, extra)
        return slope - 0.5 * z.square().sum(dim=1) - 0.5 * self.flow.size * _LOG_2PI

    def _passing(self, x: Tensor, extra: Tensor | None) -> Passing:
        flow = self.flow
        flat = None if extra is None or not flow.extra else extra.flatten(2)
        single = x.shape[2] == 1
        if single and flow.size > 1 and not torch.is_grad_enabled():
            # what all first layers get would be the largest tensor by far, and is needed once
            layers = tuple(part.await_context(self.context) for part in flow.networks)
        else:
            layers = self._layers
        return Passing(flow.transform, flow.halves, flow.orders, flow.returns, layers, flat, single)
