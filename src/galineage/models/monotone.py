"""The monotone maps of coupling blocks, in columns: affine with a soft clamp, and rational-quadratic splines.

Each has its gradient written out: at the sizes of this package a training step is bound by the number of operations,
and torch's own gradient of a spline needs several times as many. The tests compare the two.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["Affine", "RationalQuadratic"]

_ATAN = 0.636  # FrEIA's rounding of 2 / pi
_LEAST = 1e-3
_SLOPE_AT_ZERO = 0.5413  # softplus of this, and the floor, make 1: zero outputs are the identity


@dataclass(frozen=True)
class Affine:
    """``y = x exp(s) + t`` with ``s = clamp * 0.636 * atan(output)``, as FrEIA's ``GLOWCouplingBlock`` has it.

    Attributes
    ----------
    clamp : float
        Largest absolute s, nearly (0.636 is not quite 2 / pi).
    """

    clamp: float = 1.0

    def outputs(self, size: int) -> int:
        """Return how many numbers ``size`` maps need: their scales, then their shifts."""
        return 2 * size

    def map(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Map x (E, k, ...) with outputs (E, 2k, ...), standardised units.

        Returns
        -------
        (Tensor (E, k, ...), Tensor, tuple of Tensor)
            y; the natural logarithm of dy/dx, of a shape that broadcasts to y's; what `gradient` needs.
        """
        scale, shift = raw.chunk(2, dim=1)
        slope = torch.atan(scale) * (self.clamp * _ATAN)
        grow = torch.exp(slope)
        return torch.addcmul(shift, x, grow), slope, (x, scale, grow)

    def gradient(self, kept: tuple[Tensor, ...], by_y: Tensor, by_slope: Tensor) -> tuple[Tensor, Tensor]:
        """Turn gradients over y (E, k, n) and log slope (E, 1, n) to x and outputs (E, 2k, n), standardised units."""
        x, scale, grow = kept
        by_x = by_y * grow
        by_scale = torch.addcmul(by_slope, by_x, x).mul_(self.clamp * _ATAN).div_(scale.square().add_(1))
        return by_x, torch.cat([by_scale, by_y], dim=1)

    def inverse(self, y: Tensor, raw: Tensor) -> Tensor:
        """Map y (E, k, ...) back, standardised units."""
        scale, shift = raw.chunk(2, dim=1)
        return (y - shift) * torch.exp(torch.atan(scale) * (-self.clamp * _ATAN))


class _Bin(NamedTuple):
    """The bin of each value, (E, k, ...): left ends, sizes (shares of the interval) and slopes at the ends."""

    x0: Tensor
    y0: Tensor
    width: Tensor
    rise: Tensor
    d0: Tensor
    d1: Tensor


class _Place(NamedTuple):
    """Where each value lies: numbers of its bin (E, k, 1, 1, S, n) and of its end slopes (E, k, 2, S, n)."""

    bin: Tensor
    ends: Tensor
    border: Tensor
    picked: Tensor


class _Curve(NamedTuple):
    """A spline at each value, (E, k, ...): place in the bin, rise per width, and the terms of the fraction."""

    part: Tensor
    rest: Tensor
    steep: Tensor
    bend: Tensor
    below: Tensor
    share: Tensor
    above: Tensor


def _curve(u: Tensor, found: _Bin) -> _Curve:
    steep = found.rise / found.width
    part = (u - found.x0) / found.width
    other = 1 - part
    rest = part * other
    bend = found.d0 + found.d1 - 2 * steep
    below = torch.addcmul(steep, bend, rest)
    square = part.square()
    share = torch.addcmul(found.d0 * rest, steep, square) / below
    above = torch.addcmul(found.d1 * square, found.d0, other.square()).addcmul_(steep, rest, value=2)
    return _Curve(part, rest, steep, bend, below, share, above)


@functools.cache
def _summing(bins: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (bins, bins) that sums what lies before each bin."""
    with torch.inference_mode(False):
        return torch.ones((bins, bins), dtype=dtype, device=device).tril_(-1)


@functools.cache
def _numbers(bins: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.arange(bins, device=device).view(bins, 1)


@dataclass(frozen=True)
class RationalQuadratic:
    """Splines of ``bins`` bins on [-bound, bound], identity outside, with slope 1 at both ends.

    Gregory & Delbourgo (1982); Durkan+2019 (arXiv:1906.04032) section 3. Bins take at least 1e-3 of the interval, and
    slopes are at least 1e-3.

    Attributes
    ----------
    bins : int
        Bins of each spline.
    bound : float
        Half width of the interval, in standardised units.
    """

    bins: int = 8
    bound: float = 5.0

    def outputs(self, size: int) -> int:
        """Return how many numbers ``size`` splines need: for each, widths, heights and inner slopes of its bins."""
        return size * (3 * self.bins - 1)

    def _soft(self, raw: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Turn (E, P, S, n) into shares (E, k, 2, bins, S, n) of widths and heights, and outputs for slopes."""
        raw = raw.unflatten(1, (size, 3 * self.bins - 1))
        split = 2 * self.bins
        return torch.softmax(raw[:, :, :split].unflatten(2, (2, self.bins)), dim=3), raw[:, :, split:]

    def _find(self, value: Tensor, soft: Tensor, slopes: Tensor, side: int) -> tuple[_Bin, _Place]:
        """Find the bins of values (E, k, ...), as shares of the interval, among widths (side 0) or heights (1)."""
        e, k, _, bins, *tail = soft.shape
        shape = value.shape[2:]
        sizes = soft * (1 - bins * _LEAST) + _LEAST
        starts = torch.matmul(_summing(bins, soft.dtype, soft.device), sizes.view(e * k * 2, bins, -1)).view(
            e, k, 2, bins, *tail
        )
        index = (value.unsqueeze(2) >= starts[:, :, side, 1:]).sum(dim=2)
        where = index.view(e, k, 1, 1, *shape).expand(-1, -1, 2, -1, *shape)
        x0, y0 = starts.expand(e, k, 2, bins, *shape).gather(3, where).squeeze(3).unbind(2)
        width, rise = sizes.expand(e, k, 2, bins, *shape).gather(3, where).squeeze(3).unbind(2)
        ends = torch.stack([index - 1, index], dim=2)
        border = (ends < 0) | (ends > bins - 2)
        ends = ends.clamp_(0, bins - 2)
        picked = slopes.expand(e, k, bins - 1, *shape).gather(2, ends) + _SLOPE_AT_ZERO
        d0, d1 = (softplus(picked) + _LEAST).masked_fill_(border, 1.0).unbind(2)
        return _Bin(x0, y0, width, rise, d0, d1), _Place(where, ends, border, picked)

    def _share(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x as a share of the interval, and whether it is inside; NaN is not."""
        inside = x.abs() < self.bound
        return torch.where(inside, x * (0.5 / self.bound) + 0.5, 0.5), inside

    def map(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Map x (E, k, ...) with outputs (E, P, ...), standardised units; NaN in x gives NaN.

        Returns
        -------
        (Tensor (E, k, ...), Tensor (E, k, ...), tuple of Tensor)
            y; the natural logarithm of dy/dx; what `gradient` needs.
        """
        soft, slopes = self._soft(raw, x.shape[1])
        u, inside = self._share(x)
        found, place = self._find(u, soft, slopes, 0)
        curve = _curve(u, found)
        v = torch.addcmul(found.y0 - 0.5, found.rise, curve.share)
        slope = torch.log(curve.above * (curve.steep / curve.below).square())
        kept = (inside, soft, *found, *place, *curve)
        return torch.where(inside, v * (2 * self.bound), x), torch.where(inside, slope, 0.0), kept

    def gradient(self, kept: tuple[Tensor, ...], by_y: Tensor, by_slope: Tensor) -> tuple[Tensor, Tensor]:
        """Turn gradients over y (E, k, n) and log slope (E, 1, n) to x and outputs (E, P, n), standardised units."""
        inside, soft = kept[:2]
        found, place, curve = _Bin(*kept[2:8]), _Place(*kept[8:12]), _Curve(*kept[12:])
        up = torch.where(inside, by_y * (2 * self.bound), 0.0)
        part = _partials(up, torch.where(inside, by_slope, 0.0), found, curve)
        members, k, _, bins, n = soft.shape
        raw = torch.zeros((members, k, 3 * bins - 1, n), dtype=soft.dtype, device=soft.device)
        # a bin's start moves with the sizes of all bins before it
        starts = torch.stack([-part.u, up], dim=2).unsqueeze(3)
        sizes = torch.where(_numbers(bins, soft.device) < place.bin, starts, 0.0)
        sizes.scatter_(3, place.bin, torch.stack([part.width, part.rise], dim=2).unsqueeze(3))
        total = torch._softmax_backward_data(sizes, soft, 3, soft.dtype)
        raw[:, :, : 2 * bins] = total.mul_(1 - bins * _LEAST).flatten(2, 3)
        ends = torch.stack([part.d0, part.d1], dim=2) * torch.sigmoid(place.picked)
        raw[:, :, 2 * bins :].scatter_add_(2, place.ends, ends.masked_fill_(place.border, 0.0))
        return torch.where(inside, part.u * (0.5 / self.bound), by_y), raw.flatten(1, 2)

    def inverse(self, y: Tensor, raw: Tensor) -> Tensor:
        """Map y (E, k, ...) back, standardised units; NaN stays NaN."""
        v, inside = self._share(y)
        found, _ = self._find(v, *self._soft(raw, y.shape[1]), 1)
        steep = found.rise / found.width
        up = v - found.y0
        bend = up * (found.d0 + found.d1 - 2 * steep)
        a = torch.addcmul(bend, found.rise, steep - found.d0)
        b = torch.addcmul(-bend, found.rise, found.d0)
        c = steep * up
        root = torch.addcmul(b.square(), a, c, value=4).clamp_min(0).sqrt()
        part = 2 * c / (root + b)
        return torch.where(inside, torch.addcmul(found.x0 - 0.5, part, found.width) * (2 * self.bound), y)


class _Partials(NamedTuple):
    u: Tensor
    width: Tensor
    rise: Tensor
    d0: Tensor
    d1: Tensor


def _partials(up: Tensor, log: Tensor, found: _Bin, curve: _Curve) -> _Partials:
    """Gradients of ``up * v + log * slope`` over the place and the bin's numbers, each (E, k, ...).

    With p the place in the bin, q = p (1 - p), s the rise per width, D the denominator and Q the share of the rise:
    v = y0 + rise Q, slope = log(above s^2 / D^2).
    """
    p, q, s, bend, below, share, above = curve
    other = 1 - p
    twist = other - p
    each, per = log / above, 1 / below
    lift = up * found.rise * per
    twice = 2 * log * per
    by_p = lift * per * s * above
    by_p += 2 * each * (found.d1 * p - found.d0 * other + s * twist) - twice * bend * twist
    flat = 1 - 2 * q
    square = p.square()
    by_s = lift * (square - share * flat) + 2 * (log / s + each * q) - twice * flat
    by_d0 = q * (lift * (1 - share) - twice) + each * other.square()
    by_d1 = each * square - q * (lift * share + twice)
    by_u = by_p / found.width
    by_width = -(by_p * p + by_s * s) / found.width
    return _Partials(by_u, by_width, torch.addcmul(by_s / found.width, up, share), by_d0, by_d1)
