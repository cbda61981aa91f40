"""The posterior of a target for many galaxies at once: the exact, equally weighted mixture of an ensemble's members."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from galineage.errors import DataError
from galineage.models.bounded import TruncatedMixture, WidenedLogit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributions import Distribution

__all__ = ["Posterior"]

_BISECTIONS = 22
_BISECTIONS_UNBOUNDED = 26
_MODE_GRID = 193
_MODE_ZOOMS = 3
_ZOOM_POINTS = 17
_CRPS_NODES = 129
_REACH = 8.0


class Posterior:
    """Mixture over members, batched over galaxies; nothing here loops over galaxies.

    Parameters
    ----------
    members : Distribution
        Batch shape (E, n) for E members and n galaxies, event shape (), as estimators return it.

    Attributes
    ----------
    low, high : Tensor (n,)
        Range searched for quantiles and modes, in the target's unit: the support of bounded distributions, otherwise
        8 standard deviations around every member's mean.

    Raises
    ------
    DataError
        If the batch shape is not (E, n), or a parameter of the distribution is NaN.

    Notes
    -----
    With weights 1/E the mixture's density and distribution function are the members' means (A23 section 4 pools equal
    numbers of samples of each member, which is the same in the limit). Quantiles invert the exact distribution
    function: by bisection to a part in 4 million of the range (60 million if unbounded), or faster
    where the members are truncated mixtures.
    """

    def __init__(self, members: Distribution) -> None:
        if len(members.batch_shape) != 2 or members.event_shape:
            raise DataError(
                f"a distribution of batch shape {tuple(members.batch_shape)} and event shape "
                f"{tuple(members.event_shape)} was given",
                expected="batch shape (members, galaxies), event shape ()",
            )
        self.members = members
        self._pooled = members.pooled() if isinstance(members, TruncatedMixture) else None
        self._bounded = members.support is torch.distributions.constraints.unit_interval
        if self._bounded:
            self.low, self.high = torch.zeros(len(self)), torch.ones(len(self))
        else:
            means, reach = members.mean, _REACH * members.stddev
            self.low, self.high = (means - reach).amin(dim=0), (means + reach).amax(dim=0)
        self._refuse_nan()

    def _refuse_nan(self) -> None:
        bad = torch.isnan(self.cdf(0.5 * (self.low + self.high)))
        if bool(bad.any()):
            raise DataError(
                f"the posterior of {int(bad.sum())} galaxies is NaN",
                where=f"first at row {int(bad.nonzero()[0])}",
                expected="finite features",
                advice="leave rows with missing inputs out (Catalogue.complete), they belong on the skip list",
            )

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return self.members.batch_shape[1]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the mixture.

        Parameters
        ----------
        value : Tensor (..., n)
            In the target's unit.

        Returns
        -------
        Tensor (..., n)
            Natural logarithm; -inf outside the support.
        """
        if self._pooled is not None:
            return self._pooled.log_prob(value)
        return torch.logsumexp(self.members.log_prob(value.unsqueeze(-2)), dim=-2) - math.log(
            self.members.batch_shape[0]
        )

    def cdf(self, value: Tensor) -> Tensor:
        """Probability below ``value`` (..., n), in the target's unit; returns (..., n)."""
        if self._pooled is not None:
            return self._pooled.cdf(value)
        return self.members.cdf(value.unsqueeze(-2)).mean(dim=-2)

    @property
    def mean(self) -> Tensor:
        """Posterior mean, shape (n,), in the target's unit."""
        return self.members.mean.mean(dim=0)

    @property
    def aleatoric(self) -> Tensor:
        """Standard deviation within members, shape (n,): the mean variance's root, in the target's unit."""
        return self.members.variance.mean(dim=0).sqrt()

    @property
    def epistemic(self) -> Tensor:
        """Standard deviation between the members' means, shape (n,), in the target's unit; 0 for one member."""
        return self.members.mean.var(dim=0, unbiased=False).sqrt()

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation, shape (n,): law of total variance, in the target's unit."""
        means = self.members.mean
        return (self.members.variance.mean(dim=0) + means.var(dim=0, unbiased=False)).sqrt()

    def quantile(self, probabilities: Sequence[float] | Tensor) -> Tensor:
        """Quantiles of the mixture.

        Parameters
        ----------
        probabilities : sequence of float, length q, or Tensor (q, n)
            Between 0 and 1.

        Returns
        -------
        Tensor (q, n)
            In the target's unit, inside the support.

        Raises
        ------
        DataError
            If a probability is not strictly between 0 and 1.
        """
        p = torch.as_tensor(probabilities, dtype=torch.float32)
        if p.dim() == 1:
            p = p[:, None]
        if not bool(((p > 0) & (p < 1)).all()):
            raise DataError(f"probabilities are {p.flatten().tolist()[:5]}", expected="strictly between 0 and 1")
        if self._pooled is not None:
            return self._pooled.icdf(p)
        shape = torch.broadcast_shapes(p.shape, (1, len(self)))
        low, high = self.low.expand(shape), self.high.expand(shape)
        # a range of 8 standard deviations either way needs more halvings for the same exactness
        for _ in range(_BISECTIONS if self._bounded else _BISECTIONS_UNBOUNDED):
            middle = 0.5 * (low + high)
            below = self.cdf(middle) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    def map(self) -> Tensor:
        """Mode of the mixture, shape (n,), in the target's unit.

        The highest point of a grid, which crowds where the members can be narrow, refined by zooms to 2e-5 of the
        range.
        """
        if self._pooled is not None:
            return self._pooled.mode
        step = torch.full((len(self),), 1 / (_MODE_GRID - 1))
        grid = torch.linspace(0, 1, _MODE_GRID)[:, None].expand(-1, len(self))
        if not self._bounded:  # a narrow member may hide between two points of the grid
            parts = getattr(self.members, "component_distribution", self.members).mean
            peaks = parts.reshape(len(parts), len(self), -1).movedim(-1, 0).flatten(0, 1)
            grid = torch.cat([grid, (peaks - self.low) / (self.high - self.low)])
        best = self._highest(grid)
        for _ in range(_MODE_ZOOMS):
            around = best + torch.linspace(-1, 1, _ZOOM_POINTS)[:, None] * step
            best = self._highest(around.clamp(0, 1))
            step = step * (2 / (_ZOOM_POINTS - 1))
        return self._place(best)

    def _place(self, part: Tensor) -> Tensor:
        """Turn a part of the way along the search range into the target's unit; finer near 0 and 1 if bounded."""
        if self._bounded:
            link = WidenedLogit()
            return link.inverse((2 * part - 1) * link.limit)
        return self.low + part * (self.high - self.low)

    def _highest(self, parts: Tensor) -> Tensor:
        density = self.log_prob(self._place(parts))
        return parts.gather(0, density.argmax(dim=0, keepdim=True)).squeeze(0)

    def sample(self, draws: int, seed: int = 0) -> Tensor:
        """Draw samples, shape (draws, n), in the target's unit; all inside the support of the members.

        Every draw picks a member at random, then a value of that member. The global random state is left alone.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs too
            values = self.members.sample((draws,))
            which = torch.randint(values.shape[1], (draws, 1, values.shape[2]))
        return values.gather(1, which).squeeze(1)

    def crps(self, truth: Tensor) -> Tensor:
        """Continuous ranked probability score at the truth (n,), in the target's unit; lower is better.

        The integral of ``(F(x) - [x >= truth])**2`` (Gneiting & Raftery 2007) with the trapezoid rule on either side
        of the truth, on nodes that crowd around it.
        """
        u = torch.linspace(0, 1, _CRPS_NODES)[:, None] ** 2
        below = truth - (truth - self.low).clamp_min(0) * u
        above = truth + (self.high - truth).clamp_min(0) * u
        left = torch.trapezoid(self.cdf(below) ** 2, below, dim=0).abs()
        right = torch.trapezoid((1 - self.cdf(above)) ** 2, above, dim=0).abs()
        return left + right
