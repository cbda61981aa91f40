"""The way through the blocks of a coupling flow, forward, back, and with its gradient as one step.

The gradient is written out because a training step of flows this small is bound by bookkeeping: torch records some
forty steps for each block, and one here. The tests compare it with torch's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galineage.models.monotone import Affine, RationalQuadratic

__all__ = ["Layers", "Passing", "differentiable"]


class Later(NamedTuple):
    """What the first layers need to see a context, when they see it.

    Attributes
    ----------
    start, weights : Tensor (E, blocks, width, 1) and (E, blocks, width, C)
        Biases, and weights for the context; no unit.
    context : Tensor (E, C, n)
        Scaled units.
    """

    start: Tensor
    weights: Tensor
    context: Tensor


class Layers(NamedTuple):
    """The networks of one half in all blocks.

    Attributes
    ----------
    firsts : Tensor (E, blocks * width, n) or Later
        What the context gives the first layers, scaled units.
    enter : Tensor (E, blocks, width, k) or None
        Weights of the first layers for the other half and the further inputs; None if there are none.
    weights, biases : tuple of Tensor (E, blocks, out, in) and (E, blocks, out, 1)
        The other layers.
    """

    firsts: Tensor | Later
    enter: Tensor | None
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def blocks(self) -> list[_Net]:
        """Return the networks block by block."""
        count, width = self.biases[0].shape[1], self.weights[0].shape[-1]
        firsts: Iterable[Any]
        if isinstance(self.firsts, Later):
            starts, context_weights, context = self.firsts
            firsts = zip(starts.unbind(1), context_weights.unbind(1), [context] * count, strict=True)
        else:
            firsts = self.firsts.split(width, dim=1)
        enters = [None] * count if self.enter is None else self.enter.unbind(1)
        weights = zip(*(weight.unbind(1) for weight in self.weights), strict=True)
        biases = zip(*(bias.unbind(1) for bias in self.biases), strict=True)
        return [_Net(*parts) for parts in zip(firsts, enters, weights, biases, strict=True)]

    def together(self) -> _Net:
        """Return the networks of all blocks as one that has members times blocks members, to be called once."""
        width = self.weights[0].shape[-1]
        if isinstance(self.firsts, Later):
            raise TypeError("networks of all blocks at once need their context")
        return _Net(
            self.firsts.unflatten(1, (-1, width)).flatten(0, 1),
            None if self.enter is None else self.enter.flatten(0, 1),
            tuple(weight.flatten(0, 1) for weight in self.weights),
            tuple(bias.flatten(0, 1) for bias in self.biases),
        )


class _Net(NamedTuple):
    """One block's network; its first layer may be the three tensors that it comes from."""

    first: Any
    enter: Tensor | None
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def run(self, x: Tensor | None, kept: list[Tensor] | None = None) -> Tensor:
        """Map columns (E, k, S n), or nothing, to (E, P, S n), or (E, P, n); hidden layers are put into ``kept``."""
        if isinstance(self.first, tuple):
            h = torch.baddbmm(*self.first)
            h = torch.relu_(h if x is None or self.enter is None else h.baddbmm_(self.enter, x))
        elif x is None or self.enter is None:
            h = torch.relu(self.first)
        elif x.shape[2] == self.first.shape[2]:
            h = torch.relu_(torch.baddbmm(self.first, self.enter, x))
        else:
            h = torch.bmm(self.enter, x)
            h.unflatten(2, (-1, self.first.shape[2])).add_(self.first.unsqueeze(2))
            h = torch.relu_(h)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if kept is not None:
                kept.append(h)
            h = torch.baddbmm(bias, weight, h)
            if index < last:
                h = torch.relu_(h)
        return h

    def gradient(self, grad: Tensor, x: Tensor | None, kept: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Return gradients over first, enter (if there is one), weights, biases; and over x."""
        weights, biases = [], []
        for weight, h in zip(reversed(self.weights), reversed(kept), strict=True):
            weights.append(torch.bmm(grad, h.mT))
            biases.append(grad.sum(dim=2, keepdim=True))
            grad = torch.ops.aten.threshold_backward.default(torch.bmm(weight.mT, grad), h, 0)
        if x is None or self.enter is None:
            return [grad, *reversed(weights), *reversed(biases)], None
        entered = torch.bmm(grad, x.mT)
        return [grad, entered, *reversed(weights), *reversed(biases)], torch.bmm(self.enter.mT, grad)


@dataclass(frozen=True)
class Passing:
    """A flow's blocks, ready for columns.

    Attributes
    ----------
    transform : Affine or RationalQuadratic
        What is done to a half.
    halves : (int, int)
        How many quantities each half has.
    orders, returns : Tensor (blocks, T)
        Permutation after each block, and back.
    layers : tuple of Layers
        The networks of both halves, or of the second if the first is empty.
    extra : Tensor (E, X, S n) or None
        Further inputs of the networks.
    single : bool
        Whether there is one draw for each galaxy.
    """

    transform: Affine | RationalQuadratic
    halves: tuple[int, int]
    orders: Tensor
    returns: Tensor
    layers: tuple[Layers, ...]
    extra: Tensor | None
    single: bool

    @property
    def flat(self) -> bool:
        """Whether columns come as (E, T, S n); otherwise, where draws change nothing, as (E, T, S, n)."""
        return self.single or self.halves[0] > 0 or self.extra is not None

    def _seen(self, half: Tensor) -> Tensor:
        return half if self.extra is None else torch.cat([half, self.extra], dim=1)

    def _alone(self, kept: list[Tensor] | None = None) -> tuple[_Net, Tensor | None, tuple[Tensor, ...]]:
        """For one quantity: the networks of all blocks as one, what they see, and what they say, block by block."""
        net = self.layers[0].together()
        blocks = len(self.orders)
        seen = None
        if self.extra is not None:
            seen = self.extra.unsqueeze(1).expand(-1, blocks, -1, -1).flatten(0, 1)
        raws = net.run(seen, kept).unflatten(0, (-1, blocks)).unbind(1)
        return net, seen, raws if self.flat else tuple(raw.unsqueeze(2) for raw in raws)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map standardised quantities to latents, same shape; also the log determinant, without dimension 1."""
        slopes = []
        if not self.halves[0]:
            for raw in self._alone()[2]:
                x, slope, _ = self.transform.map(x, raw)
                slopes.append(slope.expand_as(x))
            return x, torch.cat(slopes, dim=1).sum(dim=1)
        for first, second, order in zip(*(part.blocks() for part in self.layers), self.orders.unbind(), strict=True):
            a, b = x.split(self.halves, dim=1)
            a, slope, _ = self.transform.map(a, first.run(self._seen(b)))
            slopes.append(slope)
            b, slope, _ = self.transform.map(b, second.run(self._seen(a)))
            slopes.append(slope)
            x = torch.cat([a, b], dim=1).index_select(1, order)
        return x, torch.cat(slopes, dim=1).sum(dim=1)

    def inverse(self, x: Tensor) -> Tensor:
        """Map latents to standardised quantities of the same shape."""
        if not self.halves[0]:
            for raw in reversed(self._alone()[2]):
                x = self.transform.inverse(x, raw)
            return x
        steps = list(zip(*(part.blocks() for part in self.layers), self.returns.unbind(), strict=True))
        for first, second, order in reversed(steps):
            a, b = x.index_select(1, order).split(self.halves, dim=1)
            b = self.transform.inverse(b, second.run(self._seen(a)))
            a = self.transform.inverse(a, first.run(self._seen(b)))
            x = torch.cat([a, b], dim=1)
        return x


def differentiable(passing: Passing, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``passing.forward(x)`` returns for x (E, T, n), one draw for each galaxy, with a fast gradient.

    The gradient reaches x, the context's share of the first layers and all weights, but not ``extra``; it cannot be
    differentiated again.
    """
    tensors = [
        tensor
        for part in passing.layers
        for tensor in (part.firsts, *(() if part.enter is None else (part.enter,)), *part.weights, *part.biases)
    ]
    return _Pass.apply(passing, x, *tensors)  # type: ignore[no-any-return,no-untyped-call]


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passing: Passing, x: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        layers, rest = [], list(tensors)
        for part in passing.layers:  # the same tensors, without their history
            depth = len(part.weights)
            firsts, enter = rest.pop(0), None if part.enter is None else rest.pop(0)
            layers.append(Layers(firsts, enter, tuple(rest[:depth]), tuple(rest[depth : 2 * depth])))
            rest = rest[2 * depth :]
        ctx.passing = replace(passing, layers=tuple(layers))
        ctx.tape = []
        found = (_alone_forward if not passing.halves[0] else _blocks_forward)(ctx.passing, x, ctx.tape)
        # the gradient reads the weights: torch must notice if they were changed in between
        ctx.save_for_backward(*tensors)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_z: Tensor, by_slope: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors
        backward = _alone_backward if not ctx.passing.halves[0] else _blocks_backward
        by_x, grads = backward(ctx.passing, by_z, by_slope.unsqueeze(1), ctx.tape)
        return None, by_x, *grads


def _alone_forward(passing: Passing, x: Tensor, tape: list[Any]) -> tuple[Tensor, Tensor]:
    hidden: list[Tensor] = []
    net, seen, raws = passing._alone(hidden)
    slopes = []
    for raw in raws:
        x, slope, kept = passing.transform.map(x, raw)
        slopes.append(slope)
        tape.append(kept)
    tape.append((net, seen, hidden))
    return x, torch.cat(slopes, dim=1).sum(dim=1)


def _alone_backward(passing: Passing, by_x: Tensor, by_slope: Tensor, tape: list[Any]) -> tuple[Tensor, list[Tensor]]:
    net, seen, hidden = tape[-1]
    raws = []
    for kept in reversed(tape[:-1]):
        by_x, by_raw = passing.transform.gradient(kept, by_x, by_slope)
        raws.append(by_raw)
    grads, _ = net.gradient(torch.stack(raws[::-1], dim=1).flatten(0, 1), seen, hidden)
    first, *rest = [grad.unflatten(0, (-1, len(raws))) for grad in grads]
    return by_x, [first.flatten(1, 2), *rest]


def _blocks_forward(passing: Passing, x: Tensor, tape: list[Any]) -> tuple[Tensor, Tensor]:
    slopes = []

    def step(half: Tensor, net: _Net, seen: Tensor) -> Tensor:
        hidden: list[Tensor] = []
        half, slope, kept = passing.transform.map(half, net.run(seen, hidden))
        slopes.append(slope)
        tape.append((net, seen, hidden, kept))
        return half

    for first, second, order in zip(*(part.blocks() for part in passing.layers), passing.orders.unbind(), strict=True):
        a, b = x.split(passing.halves, dim=1)
        a = step(a, first, passing._seen(b))
        b = step(b, second, passing._seen(a))
        x = torch.cat([a, b], dim=1).index_select(1, order)
    return x, torch.cat(slopes, dim=1).sum(dim=1)


def _blocks_backward(passing: Passing, by_x: Tensor, by_slope: Tensor, tape: list[Any]) -> tuple[Tensor, list[Tensor]]:
    found: tuple[list[list[Tensor]], list[list[Tensor]]] = ([], [])
    steps = reversed(tape)  # left as it is: the gradient may be asked for again

    def step(by_half: Tensor, which: int) -> tuple[Tensor, Tensor]:
        net, seen, hidden, kept = next(steps)
        by_half, by_raw = passing.transform.gradient(kept, by_half, by_slope)
        grads, by_seen = net.gradient(by_raw, seen, hidden)
        found[which].append(grads)
        return by_half, by_seen

    one, two = passing.halves
    for back in reversed(passing.returns.unbind()):
        by_a, by_b = by_x.index_select(1, back).split(passing.halves, dim=1)
        by_b, by_seen = step(by_b, 1)
        by_a = by_a + by_seen[:, :one]
        by_a, by_seen = step(by_a, 0)
        by_x = torch.cat([by_a, by_b + by_seen[:, :two]], dim=1)
    grads = []
    for half in found:
        first, *rest = zip(*reversed(half), strict=True)
        grads += [torch.cat(first, dim=1), *(torch.stack(parts, dim=1) for parts in rest)]
    return by_x, grads
