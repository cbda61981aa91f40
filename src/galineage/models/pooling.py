"""The light layers of a convolutional network in fewer passes over memory: rectified pooling, and dropout.

On a CPU these, not the convolutions, take most of a training step of the published network: a rectifier, a pooling and
their gradients each read or write half a gigabyte (docs/performance.md).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, max_pool2d

from galineage.compiling import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["QuickDropout", "RectifiedPool"]

_NONE = 4
"""Instead of the place of the largest of four pixels: none is above zero."""


class RectifiedPool(nn.Module):
    """The largest of each two by two pixels, or 0: a rectifier and a maximum pooling by 2, which commute.

    Values and gradients are those of `torch.nn.ReLU` and `torch.nn.MaxPool2d(2)`, bit for bit; NaN stays NaN. float32
    and bfloat16 on a CPU are worked on in one pass, with a byte for each place instead of eight; others by torch.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, channels, s // 2, s // 2) of (n, channels, s, s), no unit."""
        if values.device.type == "cpu" and values.dtype in (torch.float32, torch.bfloat16) and values.dim() == 4:
            return _Pool.apply(values)  # type: ignore[no-any-return, no-untyped-call]
        return max_pool2d(values, 2).relu()


class _Pool(torch.autograd.Function):
    """One pass forwards, one backwards."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        count, channels, rows, columns = values.shape
        shape = (count, rows // 2, columns // 2, channels)
        out = torch.empty(shape, dtype=values.dtype)
        which = torch.empty(shape, dtype=torch.uint8)
        seen, found = _pixels(values), _numbers(out)
        work = _pool_halves if values.dtype == torch.bfloat16 else _pool_floats
        _share(lambda part: work(seen[part], found[part], which.numpy()[part]), count)
        ctx.save_for_backward(which)
        ctx.side = rows, columns
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (which,) = ctx.saved_tensors
        count, _, _, channels = which.shape
        out = torch.empty((count, *ctx.side, channels), dtype=gradient.dtype)
        given, found = _pixels(gradient), _numbers(out)
        _share(lambda part: _spread(given[part], which.numpy()[part], found[part]), count)
        return out.permute(0, 3, 1, 2)


def _pixels(values: Tensor) -> NDArray[Any]:
    """Return an array (n, s, s, channels) of a tensor (n, channels, s, s), without a copy where it lies so."""
    return _numbers(values.detach().permute(0, 2, 3, 1).contiguous())


def _numbers(values: Tensor) -> NDArray[Any]:
    """Return an array that shares a tensor's memory: the bits of bfloat16, which numpy does not know, as integers."""
    return (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()


def _share(work: Callable[[slice], None], count: int) -> None:
    """Do equal parts of ``count`` galaxies on as many threads as torch has."""
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        return work(slice(0, count))
    edges = np.linspace(0, count, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda k: work(slice(edges[k], edges[k + 1])), range(threads)))
    return None


@compiled
def _pool_floats(seen: NDArray[Any], out: NDArray[Any], which: NDArray[Any]) -> None:
    """Find the largest of 0 and four pixels, and which it is; seen (n, s, s, c), out and which (n, s/2, s/2, c)."""
    count, rows, columns, channels = out.shape
    for n in range(count):
        for i in range(rows):
            for j in range(columns):
                for c in range(channels):
                    most, place = np.float32(0), np.uint8(_NONE)
                    for k in range(4):
                        value = seen[n, 2 * i + k // 2, 2 * j + k % 2, c]
                        if value > most or (value != value and most == most):
                            most, place = value, np.uint8(k)
                    out[n, i, j, c] = most
                    which[n, i, j, c] = place


@compiled
def _pool_halves(seen: NDArray[Any], out: NDArray[Any], which: NDArray[Any]) -> None:
    """Do the same with the bits of bfloat16 numbers, which from 0 to infinity are ordered as integers are."""
    count, rows, columns, channels = out.shape
    for n in range(count):
        for i in range(rows):
            for j in range(columns):
                for c in range(channels):
                    most, place = np.int16(0), np.uint8(_NONE)
                    for k in range(4):
                        value = seen[n, 2 * i + k // 2, 2 * j + k % 2, c]
                        size = value & np.int16(0x7FFF)
                        # NaN of either sign comes last of all
                        value = size if size > np.int16(0x7F80) else value
                        if value > most:
                            most, place = value, np.uint8(k)
                    out[n, i, j, c] = most
                    which[n, i, j, c] = place


@compiled
def _spread(given: NDArray[Any], which: NDArray[Any], out: NDArray[Any]) -> None:
    """Give each gradient (n, s/2, s/2, c) to the pixel of out (n, s, s, c) that was the largest; 0 to all others."""
    count, rows, columns, channels = given.shape
    none = out.dtype.type(0)
    out[:, 2 * rows :] = none  # an odd last row or column has no part in any maximum
    out[:, :, 2 * columns :] = none
    for n in range(count):
        for i in range(rows):
            for j in range(columns):
                for k in range(4):
                    for c in range(channels):
                        here = which[n, i, j, c] == k
                        out[n, 2 * i + k // 2, 2 * j + k % 2, c] = given[n, i, j, c] if here else none


class QuickDropout(nn.Module):
    """Dropout whose masks on a CPU are made of 16 random bits for each value: four times as fast as torch's.

    The rate is the nearest multiple of 1/65,536. Masks come from torch's global generator.

    Parameters
    ----------
    rate : float
        Part of the values that are set to 0 in training, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self._steps = min(round(rate * 65536), 65535)

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape (n, ...), no unit: in training some are 0, the others larger."""
        if not self.training or not self._steps:
            return values
        if values.device.type != "cpu":
            return dropout(values, self.rate)
        words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: values.numel()] >= self._steps - 32768
        mask = kept.to(values.dtype).mul_(65536 / (65536 - self._steps))
        # in the order in which the values lie in memory
        dense = values if values.is_contiguous(memory_format=_order(values)) else values.contiguous()
        return dense * mask.as_strided(dense.shape, dense.stride())


def _order(values: Tensor) -> torch.memory_format:
    return torch.channels_last if values.dim() == 4 else torch.contiguous_format
