"""Quantiles and highest points of mixtures of truncated normals, for many galaxies at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NormalSum"]

_SQRT2 = math.sqrt(2.0)
_SQRT_2PI = math.sqrt(2.0 * math.pi)
_STEP = 2e-6  # a search ends with a step or bracket below this part of the range
_FEW = 0.3  # share of unfinished searches below which they are gathered and finished among themselves
_NEAR = 0.1  # distance to the goal, in standard deviations, within which a Newton step is believed
_ROUND = 0.5  # rounding steps of the probability that count as a hit
_ROUNDS = 100  # bisection alone needs 22: never reached


@dataclass
class NormalSum:
    """Distribution function and density of K truncated normals, on the real line (logit space: no unit).

    Components lead, so that the sum over them runs along whole rows of memory, and every pass over the K * n numbers
    that can be folded into another one is.

    Attributes
    ----------
    slope, shift : Tensor (K, ...)
        ``slope * u + shift`` is the argument of erfc at ``u``.
    share, height : Tensor (K, ...)
        Factors of erfc in the distribution function, and of ``exp(-argument**2)`` in the density.
    below : Tensor (...)
        What the truncation at the lower end takes away.
    middle, spread : Tensor (...)
        Mean and standard deviation before truncation: where the search starts.
    """

    slope: Tensor
    shift: Tensor
    share: Tensor
    height: Tensor
    below: Tensor
    middle: Tensor
    spread: Tensor

    @classmethod
    def of(cls, weights: Tensor, loc: Tensor, scale: Tensor, low: Tensor, mass: Tensor) -> NormalSum:
        """Prepare a mixture.

        Parameters
        ----------
        weights, loc, scale : Tensor (..., K)
            Weights that sum to 1; locations and standard deviations, no unit.
        low, mass : Tensor (..., K)
            Probability that each normal has below the lower end, and between both ends.
        """
        weights, loc, scale, low, mass = (part.movedim(-1, 0).contiguous() for part in (weights, loc, scale, low, mass))
        share = weights / mass
        middle = (weights * loc).sum(0)
        variance = (weights * (scale.square() + (loc - middle).square())).sum(0)
        inverse = 1 / (_SQRT2 * scale)
        return cls(
            -inverse,
            loc * inverse,
            0.5 * share,
            share / (_SQRT_2PI * scale),
            (share * low).sum(0),
            middle,
            variance.sqrt(),
        )

    def at(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return probability below ``u`` and density there; all of shape (q, ...), no unit."""
        argument = torch.addcmul(self.shift.unsqueeze(1), self.slope.unsqueeze(1), u)
        below = torch.erfc(argument).mul_(self.share.unsqueeze(1)).sum(0).sub_(self.below)
        return below, self._density(argument)

    def _density(self, argument: Tensor) -> Tensor:
        # exp is ten times slower where the result underflows
        return argument.square_().neg_().clamp_min_(-80.0).exp_().mul_(self.height.unsqueeze(1)).sum(0)

    def density(self, u: Tensor) -> Tensor:
        """Return the density at ``u`` (q, ...), no unit."""
        return self._density(torch.addcmul(self.shift.unsqueeze(1), self.slope.unsqueeze(1), u))

    @property
    def locations(self) -> Tensor:
        """Where the components peak, shape (K, ...), no unit."""
        return -self.shift / self.slope

    def take(self, index: Tensor) -> NormalSum:
        """Return the mixtures of some galaxies (m,); for one batch dimension (n,), any unit."""
        parts = (self.slope, self.shift, self.share, self.height, self.below, self.middle, self.spread)
        return NormalSum(*(part.index_select(-1, index) for part in parts))

    @torch.no_grad()
    def inverse(self, p: Tensor, limit: float) -> Tensor:
        """Quantiles.

        Parameters
        ----------
        p : Tensor (q, n)
            Probabilities, in (0, 1); the mixtures have batch shape (n,).
        limit : float
            Quantiles lie between ``-limit`` and ``limit``.

        Returns
        -------
        Tensor (q, n)
            No unit; good to 2e-6 of ``limit``, or to what the rounding of the distribution function allows. NaN where
            a parameter is NaN. No gradient.

        Notes
        -----
        Newton's method on ``ndtri(cdf(u)) - ndtri(p)``, which is a straight line for one normal and nearly one for most
        posteriors: four evaluations instead of the 22 of bisection. A step that leaves the bracket, or does not halve
        the last but one, is replaced by bisection (Press+2007, Numerical Recipes 9.4), so the search cannot fail.
        Galaxies that need longer are gathered and finished among themselves.
        """
        p = p.expand(len(p), *self.below.shape)
        u = (self.middle + self.spread * torch.special.ndtri(p)).clamp_(-0.95 * limit, 0.95 * limit)
        ends = torch.full_like(u, -limit), torch.full_like(u, limit)
        return _Search(self, p, u, *ends, torch.full_like(u, 2 * limit), torch.ones_like(u, dtype=torch.bool)).run(
            _STEP * limit
        )


@dataclass
class _Search:
    """State of one search: (q, n) probabilities, points, brackets, last steps, and which are not done."""

    mixture: NormalSum
    p: Tensor
    u: Tensor
    low: Tensor
    high: Tensor
    step: Tensor
    busy: Tensor

    def run(self, small: float) -> Tensor:
        aim = torch.special.ndtri(self.p)
        before = self.step
        for _ in range(_ROUNDS):
            before, self.step = self.step, self._advance(aim, before, small)
            left = int(self.busy.sum())
            if left == 0:
                break
            if left < _FEW * self.busy.numel():
                self.u[self.busy] = self._rest().run(small).squeeze(0)
                break
        return self.u

    def _advance(self, aim: Tensor, before: Tensor, small: float) -> Tensor:
        """Move the busy points; return their steps."""
        below, density = self.mixture.at(self.u)
        under = below < self.p
        self.low, self.high = torch.where(under, self.u, self.low), torch.where(under, self.high, self.u)
        place = torch.special.ndtri(below)
        step = (aim - place) * place.square().mul_(-0.5).exp_().div_(_SQRT_2PI * density)
        goal, size = self.u + step, step.abs()
        # NaN and infinite steps fail these tests
        near = ((aim - place).abs() < _NEAR) & (size < small)
        good = (goal >= self.low) & (goal <= self.high) & (near | (size < 0.5 * before.abs()))
        goal = torch.where(good, goal, 0.5 * (self.low + self.high))
        # where rounding decides on which side a point is, a step says nothing any more
        exact = (below - self.p).abs() <= _ROUND * torch.finfo(below.dtype).eps
        goal = torch.where(self.busy & ~exact, goal, self.u)
        step, self.u = goal - self.u, goal
        self.busy = self.busy & ~exact & ~(good & near) & (self.high - self.low >= small)
        return step

    def _rest(self) -> _Search:
        busy = self.busy
        index = busy.nonzero()[:, 1]
        parts = (self.p, self.u, self.low, self.high, self.step, busy)
        return _Search(self.mixture.take(index), *(part[busy].unsqueeze(0) for part in parts))
