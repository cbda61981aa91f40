"""Distributions that live on [0, 1]: truncated mixtures, a truncated spline flow, and a histogram.

A fraction such as f_ex never leaves [0, 1], and 0 and 1 themselves occur (some CAMELS rows have f_ex = 0 exactly),
so the density must stay finite there. All three are ordinary torch distributions with ``log_prob``, ``cdf``, ``icdf``,
``mean``, ``variance`` and ``rsample``; batch shape (..., ), event shape ().
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from zuko.transforms import MonotonicRQSTransform

from galineage.models.inverse import NormalSum

__all__ = ["Histogram", "TruncatedMixture", "TruncatedSplineFlow", "WidenedLogit"]

_SQRT2 = math.sqrt(2.0)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_TINY = 1e-12
_TAIL = 6.5
_MODE_GRID = 193
_MODE_ZOOMS = 3
_MODE_ZOOM_POINTS = 17
_MODE_ROWS = 256


@dataclass(frozen=True)
class WidenedLogit:
    """Logit of an interval a little wider than [0, 1], so that 0 and 1 map to finite values.

    ``u = logit((y + margin) / (1 + 2 margin))``. With ``margin = 0.01`` the unit interval becomes [-4.6, 4.6].

    Attributes
    ----------
    margin : float
        Widening at each end; small means closer to a logit, large closer to the identity.
    """

    margin: float = 0.01

    @property
    def limit(self) -> float:
        """Image of 1; the image of 0 is its negative."""
        return math.log((1 + self.margin) / self.margin)

    def forward(self, y: Tensor) -> Tensor:
        """Map values in [0, 1] (any shape, no unit) to the real line; NaN stays NaN."""
        # 1 - y is exact near 1, so that both ends keep all digits
        return torch.log(y + self.margin) - torch.log((1 - y) + self.margin)

    def inverse(self, u: Tensor) -> Tensor:
        """Map back (any shape, no unit); the result is clamped to [0, 1]."""
        return (torch.sigmoid(u) * (1 + 2 * self.margin) - self.margin).clamp(0.0, 1.0)

    def log_slope(self, y: Tensor) -> Tensor:
        """Natural logarithm of du/dy at y in [0, 1] (any shape, no unit)."""
        return math.log(1 + 2 * self.margin) - torch.log((y + self.margin) * ((1 - y) + self.margin))


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-z / _SQRT2)


def _normal_icdf(p: Tensor) -> Tensor:
    return torch.special.ndtri(p.clamp(1e-30, 1 - 1e-7))


@functools.cache
def _quadrature(count: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of Gauss-Legendre's rule on [0, 1], shape (count,): they crowd at the ends, where tails are."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (0.5 * (nodes + 1)).tolist(), (0.5 * weights).tolist()


def _rule(like: Tensor, dimensions: int, count: int = 64) -> tuple[Tensor, Tensor]:
    shape = (-1, *([1] * dimensions))
    p, weights = (torch.tensor(part, dtype=like.dtype, device=like.device).view(shape) for part in _quadrature(count))
    return p, weights


class _UnitInterval(Distribution):
    """What the distributions on [0, 1] share: support, sampling, moments by quadrature of the quantile function."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.unit_interval
    has_rsample = True

    def _moments(self) -> tuple[Tensor, Tensor]:
        # E[y^k] is the integral of quantile(p)^k over p in [0, 1]; the rule never touches the ends
        p, weights = _rule(torch.empty(()), len(self.batch_shape))
        values = self.icdf(p)
        mean = (weights * values).sum(0)
        return mean, (weights * (values - mean) ** 2).sum(0)

    @functools.cached_property
    def _both_moments(self) -> tuple[Tensor, Tensor]:
        return self._moments()

    @property
    def mean(self) -> Tensor:
        """Mean, batch shape, no unit."""
        return self._both_moments[0]

    @property
    def variance(self) -> Tensor:
        """Variance, batch shape, no unit."""
        return self._both_moments[1]

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw samples of shape ``sample_shape + batch_shape``, all in [0, 1]."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.icdf(torch.rand(shape))


class TruncatedMixture(_UnitInterval):
    """Mixture of normals in widened-logit space, each truncated to [0, 1].

    Parameters
    ----------
    logits : Tensor (..., K)
        Unnormalised log weights.
    loc : Tensor (..., K)
        Locations in the space of ``link``; inside its range, so that every component keeps a good part of its mass.
    scale : Tensor (..., K)
        Standard deviations in the space of ``link``, positive.
    link : WidenedLogit
        The map from [0, 1].
    """

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, link: WidenedLogit) -> None:
        self.log_weights = torch.log_softmax(logits, dim=-1)
        self.loc, self.scale, self.link = loc, scale, link
        self._low = _normal_cdf((-link.limit - loc) / scale)
        self._mass = _normal_cdf((link.limit - loc) / scale) - self._low
        super().__init__(loc.shape[:-1], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at ``value`` (broadcastable to the batch shape, no unit); NaN gives NaN, outside -inf."""
        inside = (value >= 0) & (value <= 1)
        y = value.clamp(0, 1)
        z = (self.link.forward(y).unsqueeze(-1) - self.loc) / self.scale
        height = self.log_weights - self.scale.log() - self._mass.clamp_min(_TINY).log()
        parts = torch.addcmul(height, z, z, value=-0.5)
        density = torch.logsumexp(parts, dim=-1) - _LOG_SQRT_2PI + self.link.log_slope(y)
        return torch.where(inside | value.isnan(), density, -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability below ``value`` (broadcastable to the batch shape, no unit)."""
        z = (self.link.forward(value.clamp(0, 1)).unsqueeze(-1) - self.loc) / self.scale
        parts = (_normal_cdf(z) - self._low) / self._mass.clamp_min(_TINY)
        return (self.log_weights.exp() * parts).sum(-1).clamp(0, 1)

    def _component_icdf(self, p: Tensor) -> Tensor:
        u = self.loc + self.scale * _normal_icdf(self._low + p * self._mass)
        return self.link.inverse(u)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantile at probability ``value`` (broadcastable to the batch shape), no unit; see `NormalSum.inverse`.

        Good to 1e-5, or to what rounding allows where there is next to no density. NaN gives NaN. It has no gradient.
        """
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        p = value.detach().to(self.loc.dtype).expand(shape).reshape(-1, self.batch_shape.numel())
        u, limit = torch.empty_like(p), self.link.limit
        # above one half from the upper end: there the probability that is left keeps the digits which 1 - p has lost
        upper = (p > 0.5).all(dim=1)
        for rows, mirrored in ((~upper, False), (upper, True)):
            if bool(rows.any()):
                some = 1 - p[rows] if mirrored else p[rows]
                found = self._sum(mirrored=mirrored).inverse(some, limit)
                u[rows] = -found if mirrored else found
        return self.link.inverse(u).view(shape)

    def _sum(self, *, mirrored: bool = False) -> NormalSum:
        """Return the mixture in the space of ``link``, or its mirror image at zero."""
        weights, mass = self.log_weights.exp(), self._mass.clamp_min(_TINY)
        above = _normal_cdf((self.loc - self.link.limit) / self.scale) if mirrored else self._low
        parts = (weights, -self.loc if mirrored else self.loc, self.scale, above, mass)
        return NormalSum.of(*(part.detach().flatten(0, -2) for part in parts))

    @property
    def mode(self) -> Tensor:
        """Highest point of the density, batch shape, no unit; good to 2.5e-5.

        The best of a grid in the space of ``link`` and of the components' locations (a narrow one may hide between two
        points of the grid), refined by zooms.
        """
        everything, limit = self._sum(), self.link.limit
        grid = torch.linspace(-limit, limit, _MODE_GRID, dtype=self.loc.dtype)[:, None]
        found = []
        for rows in torch.arange(self.batch_shape.numel()).split(_MODE_ROWS):
            part, step = everything.take(rows), 2 * limit / (_MODE_GRID - 1)
            best = self._highest(part, torch.cat([grid.expand(-1, len(rows)), part.locations.clamp(-limit, limit)]))
            for _ in range(_MODE_ZOOMS):
                around = torch.linspace(-step, step, _MODE_ZOOM_POINTS, dtype=grid.dtype)[:, None]
                best = self._highest(part, (best + around).clamp(-limit, limit))
                step = 2 * step / (_MODE_ZOOM_POINTS - 1)
            found.append(self.link.inverse(best))
        return torch.cat(found).view(self.batch_shape)

    def _highest(self, part: NormalSum, u: Tensor) -> Tensor:
        density = part.density(u) * self.link.log_slope(self.link.inverse(u)).exp()
        return u.gather(0, density.argmax(dim=0, keepdim=True)).squeeze(0)

    def pooled(self) -> TruncatedMixture:
        """Return the equally weighted mixture over the first batch dimension: one with all its components.

        From batch shape (E, ...) and K components to batch shape (...) and E * K components; no unit.
        """
        logits, loc, scale = (part.movedim(0, -2).flatten(-2) for part in (self.log_weights, self.loc, self.scale))
        return TruncatedMixture(logits, loc, scale, self.link)

    def _moments(self) -> tuple[Tensor, Tensor]:
        # Gauss-Legendre's rule over the part of the truncated normal that counts, component by component
        x, rule = _rule(self.loc, self.loc.dim(), 32)
        low, high = ((end - self.loc) / self.scale for end in (-self.link.limit, self.link.limit))
        low, high = torch.maximum(low, high.clamp_max(0) - _TAIL), torch.minimum(high, low.clamp_min(0) + _TAIL)
        nearest = torch.zeros_like(low).clamp(low, high)
        z = torch.addcmul(low, high - low, x)
        share = rule * torch.exp(torch.addcmul(0.5 * nearest.square(), z, z, value=-0.5))
        share = share * (self.log_weights.exp() / share.sum(0))
        values = self.link.inverse(torch.addcmul(self.loc, self.scale, z))
        mean = (share * values).sum((0, -1))
        return mean, (share * (values - mean.unsqueeze(-1)).square()).sum((0, -1))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw samples of shape ``sample_shape + batch_shape``, all in [0, 1]."""
        shape = self._extended_shape(torch.Size(sample_shape))
        which = torch.distributions.Categorical(logits=self.log_weights).sample(torch.Size(sample_shape))
        values = self._component_icdf(torch.rand(shape).unsqueeze(-1))
        return values.gather(-1, which.unsqueeze(-1)).squeeze(-1)


class TruncatedSplineFlow(_UnitInterval):
    """A conditional normalising flow in one dimension, truncated to [0, 1].

    ``y`` goes through ``link``, an affine map and a monotonic rational-quadratic spline (Durkan+2019, in zuko) to a
    standard normal, which is truncated to the image of [0, 1].

    Parameters
    ----------
    loc, scale : Tensor (...)
        Affine map in the space of ``link``; scale positive.
    widths, heights : Tensor (..., K)
        Unnormalised bin sizes of the spline.
    derivatives : Tensor (..., K - 1)
        Unnormalised slopes at its inner knots.
    link : WidenedLogit
        The map from [0, 1].
    """

    def __init__(
        self, loc: Tensor, scale: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor, link: WidenedLogit
    ) -> None:
        self.loc, self.scale, self.link = loc, scale, link
        self.raw = (widths, heights, derivatives)
        self.spline = MonotonicRQSTransform(widths, heights, derivatives)
        ends = torch.tensor([-link.limit, link.limit], dtype=loc.dtype, device=loc.device)
        low, high = self._to_normal(ends.view(2, *([1] * loc.dim())).expand(2, *loc.shape))[0]
        # an interval in the upper tail is turned to the lower one, where the distribution function keeps its digits
        self._sign = torch.where(low > 0, -1.0, 1.0).to(loc.dtype)
        self._low = _normal_cdf(self._sign * low)
        self._mass = self._sign * (_normal_cdf(self._sign * high) - self._low)
        super().__init__(loc.shape, validate_args=False)

    def _to_normal(self, u: Tensor) -> tuple[Tensor, Tensor]:
        z, slope = self.spline.call_and_ladj((u - self.loc) / self.scale)
        return z, slope - self.scale.log()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at ``value`` (broadcastable to the batch shape, no unit); NaN gives NaN, outside -inf."""
        inside = (value >= 0) & (value <= 1)
        y = value.clamp(0, 1)
        z, slope = self._to_normal(self.link.forward(y))
        density = -0.5 * z * z - _LOG_SQRT_2PI + slope + self.link.log_slope(y) - self._mass.clamp_min(_TINY).log()
        return torch.where(inside | value.isnan(), density, -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability below ``value`` (broadcastable to the batch shape, no unit)."""
        z, _ = self._to_normal(self.link.forward(value.clamp(0, 1)))
        part = self._sign * (_normal_cdf(self._sign * z) - self._low)
        return (part / self._mass.clamp_min(_TINY)).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantile at probability ``value`` (broadcastable to the batch shape), in closed form."""
        z = self._sign * _normal_icdf(self._low + self._sign * value * self._mass)
        return self.link.inverse(self.loc + self.scale * self.spline.inv(z))


class Histogram(_UnitInterval):
    """Piecewise constant density on [0, 1]: the predictive distribution of trees and splines.

    Parameters
    ----------
    probabilities : Tensor (..., B)
        Probability of each bin, summing to 1.
    edges : Tensor (B + 1,)
        Bin edges from 0 to 1, increasing.
    """

    def __init__(self, probabilities: Tensor, edges: Tensor) -> None:
        self.probabilities, self.edges = probabilities, edges
        self.widths = edges.diff()
        zero = torch.zeros_like(probabilities[..., :1])
        self._cumulative = torch.cat([zero, probabilities.cumsum(-1)], dim=-1)
        super().__init__(probabilities.shape[:-1], validate_args=False)

    def _bin(self, value: Tensor) -> Tensor:
        return (torch.bucketize(value.contiguous(), self.edges, right=True) - 1).clamp(0, len(self.widths) - 1)

    def _take(self, table: Tensor, index: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(index.shape, self.batch_shape)
        return table.expand(*shape, table.shape[-1]).gather(-1, index.expand(shape).unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at ``value`` (broadcastable to the batch shape, no unit); outside -inf."""
        index = self._bin(value)
        density = self._take(self.probabilities, index) / self.widths[index]
        inside = (value >= 0) & (value <= 1)
        return torch.where(inside, density.clamp_min(_TINY).log(), -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability below ``value`` (broadcastable to the batch shape, no unit)."""
        value = value.clamp(0, 1)
        index = self._bin(value)
        part = (value - self.edges[index]) / self.widths[index]
        return (self._take(self._cumulative, index) + part * self._take(self.probabilities, index)).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantile at probability ``value`` (broadcastable to the batch shape), exact."""
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        p = value.expand(shape)
        lead = len(shape) - len(self.batch_shape)
        flat = p.reshape(-1, *self.batch_shape) if lead else p.unsqueeze(0)
        index = torch.searchsorted(self._cumulative, flat.movedim(0, -1).contiguous(), right=True).movedim(-1, 0)
        index = (index - 1).clamp(0, len(self.widths) - 1).reshape(shape)
        inside = (p - self._take(self._cumulative, index)) / self._take(self.probabilities, index).clamp_min(_TINY)
        return (self.edges[index] + inside.clamp(0, 1) * self.widths[index]).clamp(0, 1)

    def _moments(self) -> tuple[Tensor, Tensor]:
        low, high = self.edges[:-1], self.edges[1:]
        mean = self.probabilities @ (0.5 * (low + high))
        square = self.probabilities @ ((high**3 - low**3) / (3 * self.widths))
        return mean, (square - mean * mean).clamp_min(1e-12)
