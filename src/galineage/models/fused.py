"""Training pass of dense networks on a CPU: one compiled call for each layer and direction, all members in it.

What `galineage.models.layers` does with some twenty small tensor operations for a layer (and as many for its gradient)
is done here in one pass over the data: matrix product by BLAS, then bias, rectifier, batch normalisation and dropout
while the numbers are in the cache. The layers remain the definition, and are what is used for prediction and on a GPU;
tests compare the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from galineage.compiling import compiled_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Dense", "run_layers"]

# NaN must reach the loss, where it is found: "nnan" and "ninf" are left out
_MATH = {"reassoc", "contract", "arcp", "nsz"}


class Dense:
    """One layer: an affine map, and after it whatever is asked for. It looks at the tensors' memory from now on.

    Parameters
    ----------
    weight, bias : Tensor (E, inputs, outputs), (E, 1, outputs)
        Affine map; float32, on the CPU.
    rectify : bool
        Whether negative values become zero.
    norm : tuple of Tensor (E, 1, outputs), optional
        Scale, shift, running mean and running variance of batch normalisation.
    momentum, eps : float
        Part of the running statistics that stays, and what is added to a variance.
    dropout : float
        Probability to drop.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        *,
        rectify: bool = False,
        norm: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
        momentum: float = 0.99,
        eps: float = 1e-3,
        dropout: float = 0.0,
    ) -> None:
        self.trained = [weight, bias, *(norm[:2] if norm else ())]
        self._places = [part.data_ptr() for part in self.trained]
        self.weight, self.bias = weight.detach().numpy(), bias.detach().numpy()
        self.norm = tuple(part.detach().numpy() for part in norm) if norm else _NO_NORM
        self.how, self.constants = (rectify, norm is not None), (np.float32(momentum), np.float32(eps))
        # the compiled functions compare 32-bit hashes with this
        self.limit = np.uint32(min(round(dropout * 2**32), 2**32 - 1))
        self.changes = norm is not None or self.limit > 0

    def moved(self) -> bool:
        """Whether a trained tensor has left the memory that it had."""
        return [part.data_ptr() for part in self.trained] != self._places


def run_layers(x: Tensor, layers: Sequence[Dense]) -> Tensor:
    """Pass values through layers in training mode; gradients reach weights and ``x``.

    Parameters
    ----------
    x : Tensor (E, n, d)
        Scaled units; float32, on the CPU.
    layers : sequence of Dense
        First to last. Running statistics are moved.

    Returns
    -------
    Tensor (E, n, outputs)
        In the units of the last layer. Which values are dropped depends on torch's default generator.
    """
    drawn = any(layer.limit for layer in layers)
    seeds = (torch.randint(2**32, (len(layers), 2)) if drawn else torch.zeros(len(layers), 2)).numpy().astype(np.uint32)
    weights = [part for layer in layers for part in layer.trained]
    apply: Any = _Stack.apply
    stacked: Tensor = apply(x, seeds, layers, *weights)
    return stacked


class _Stack(torch.autograd.Function):
    """The layers as one operation of torch's automatic differentiation; inside, values have the shape (E, width, n)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seeds: Any, layers: Sequence[Dense], *weights: Tensor) -> Tensor:
        del weights  # listed for the gradients; the layers see their memory
        ctx.passes = []
        values = x.detach().transpose(1, 2).contiguous().numpy()
        for layer, seed in zip(layers, seeds, strict=True):
            shape = len(values), layer.weight.shape[2]
            kept = np.empty((*shape, values.shape[2]), np.float32)
            # values before dropout, and what batch normalisation did to them
            saved = kept, np.empty(shape, np.float32), np.zeros(shape, np.float32)
            out = np.empty_like(kept) if layer.changes else kept
            drop = layer.limit, *seed
            _forward(values, layer.weight, layer.bias, layer.norm, saved, out, layer.how, layer.constants, drop)
            ctx.passes.append((layer, values, saved, drop))
            values = out
        return torch.from_numpy(values).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        slopes = gradient.transpose(1, 2).clone(memory_format=torch.contiguous_format).numpy()
        found: list[Any] = []
        for index, (layer, values, saved, drop) in reversed(list(enumerate(ctx.passes))):
            parts = [np.empty(part.shape, np.float32) for part in layer.trained]
            slots = tuple(parts) if layer.how[1] else (*parts, _NONE, _NONE)
            needed = index > 0 or ctx.needs_input_grad[0]
            before = np.empty_like(values) if needed else _NONE
            _backward(slopes, values, layer.weight, layer.norm[0], saved, slots, before, (*layer.how, needed), drop)
            slopes, found = before, [*parts, *found]
        first = torch.from_numpy(slopes).transpose(1, 2) if ctx.needs_input_grad[0] else None
        return first, None, None, *map(torch.from_numpy, found)


_NONE = np.zeros((1, 1, 1), np.float32)
_NO_NORM = (_NONE,) * 4


_compiled = compiled_with({"fastmath": _MATH})


@_compiled
def _hash(index: Any, key: Any, other: Any) -> Any:
    """Mix a counter with two keys into 32 bits that look random (constants of C. Wellons' lowbias32)."""
    h = np.uint32(index ^ key)
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32((h ^ (h >> np.uint32(15))) + other)
    h = np.uint32(h * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@_compiled
def _drop(values: Any, limit: Any, key: Any, other: Any) -> None:
    """Set values (n,) to zero where their hash is below the limit; scale up the others."""
    gain = np.float32(1 / (1 - limit / 2**32))
    for i in range(len(values)):
        values[i] *= gain if _hash(np.uint32(i), key, other) >= limit else np.float32(0)


@_compiled
def _standardise(column: Any, scale: Any, shift: Any, eps: Any, after: Any) -> Any:
    """Take the mean off ``column`` (n,) in place and put scaled values into ``after``; return mean, 1/std, squares."""
    count, middle, square = np.float32(len(column)), np.float32(0), np.float32(0)
    for i in range(len(column)):
        middle += column[i]
    middle /= count
    for i in range(len(column)):
        away = column[i] - middle
        column[i] = away
        square += away * away
    inverse = 1 / np.sqrt(square / count + eps)
    factor = inverse * scale
    for i in range(len(column)):
        after[i] = column[i] * factor + shift
    return middle, inverse, square


@_compiled
def _forward(
    x: Any, weight: Any, bias: Any, norms: Any, saved: Any, out: Any, how: Any, constants: Any, drop: Any
) -> None:
    (scale, shift, mean, var), (kept, inverse, floor) = norms, saved
    (rectify, normal), (momentum, eps), (limit, key, other) = how, constants, drop
    members, width, rows = kept.shape
    rest = np.float32(1) - momentum
    for m in range(members):
        np.dot(weight[m].T, x[m], kept[m])
        for j in range(width):
            column, offset = kept[m, j], bias[m, 0, j]
            for i in range(rows):
                value = column[i] + offset
                column[i] = np.float32(0) if rectify and value <= 0 else value  # NaN stays
            if normal:
                middle, inverse[m, j], square = _standardise(column, scale[m, 0, j], shift[m, 0, j], eps, out[m, j])
                floor[m, j] = -middle
                mean[m, 0, j] = momentum * mean[m, 0, j] + rest * middle
                var[m, 0, j] = momentum * var[m, 0, j] + rest * square / np.float32(max(rows - 1, 1))
        if limit and not normal:
            out[m] = kept[m]
    if limit:
        _drop(out.reshape(-1), limit, key, other)


@_compiled
def _unstandardise(slope: Any, column: Any, inverse: Any, scale: Any) -> Any:
    """Turn the gradient after `_standardise` (n,) into the one before, in place; return those of scale and shift."""
    count, total, tilt = np.float32(len(column)), np.float32(0), np.float32(0)
    for i in range(len(column)):
        total += slope[i]
        tilt += slope[i] * column[i]
    tilt *= inverse
    flat, lean, factor = total / count, tilt * inverse / count, inverse * scale
    for i in range(len(column)):
        slope[i] = (slope[i] - flat - column[i] * lean) * factor
    return tilt, total


@_compiled
def _backward(
    slopes: Any, x: Any, weight: Any, scale: Any, saved: Any, slots: Any, before: Any, how: Any, drop: Any
) -> None:
    (kept, inverse, floor), (d_weight, d_bias, d_scale, d_shift) = saved, slots
    (rectify, normal, needed), (limit, key, other) = how, drop
    members, width, rows = kept.shape
    if limit:
        _drop(slopes.reshape(-1), limit, key, other)
    for m in range(members):
        for j in range(width):
            slope, column = slopes[m, j], kept[m, j]
            if normal:
                d_scale[m, 0, j], d_shift[m, 0, j] = _unstandardise(slope, column, inverse[m, j], scale[m, 0, j])
            # what was set to zero is minus the mean where the mean was taken off
            low, total = floor[m, j], np.float32(0)
            for i in range(rows):
                value = np.float32(0) if rectify and column[i] <= low else slope[i]
                slope[i] = value
                total += value
            d_bias[m, 0, j] = total
        np.dot(x[m], slopes[m].T, d_weight[m])
        if needed:
            np.dot(weight[m], slopes[m], before[m])
