"""A posterior whose levels go through a recalibration; it answers like the one it wraps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from galineage.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galineage.calibration.recalibration import Recalibration
    from galineage.posterior import Posterior

__all__ = ["RecalibratedPosterior"]

_LEVEL_EDGE = 2e-7
_MOMENT_NODES = 65
_MOMENT_REACH = 5.0
_MODE_LEVELS = 97
_MODE_ZOOMS = 3
_ZOOM_POINTS = 17
_CRPS_NODES = 129
_CHUNK = 1_000_000


class RecalibratedPosterior:
    """The posterior with distribution function ``g(F(y))``, batched over galaxies like the one it wraps.

    Parameters
    ----------
    posterior : Posterior
        What the model says.
    recalibration : Recalibration
        The map g of levels.

    Attributes
    ----------
    low, high : Tensor (n,)
        Range searched, in the target's unit; that of the wrapped posterior. Bounded stays bounded.

    Notes
    -----
    ``aleatoric`` and ``epistemic`` are those of the model, before recalibration: how its members agree is not a matter
    of levels. Their squares therefore add up to the model's variance, not to ``std**2``.
    """

    def __init__(self, posterior: Posterior, recalibration: Recalibration) -> None:
        self.base, self.recalibration = posterior, recalibration
        self.low, self.high = posterior.low, posterior.high
        self._found: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self.base)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at ``value`` (..., n), in the target's unit; shape (..., n), -inf outside the support."""
        density = self.base.log_prob(value)
        return density + self.recalibration.log_slope(self.base.cdf(value)).to(density.dtype)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability below ``value`` (..., n), in the target's unit; returns (..., n)."""
        below = self.base.cdf(value)
        return self.recalibration.forward(below).to(below.dtype)

    def quantile(self, probabilities: Sequence[float] | Tensor) -> Tensor:
        """Quantiles, shape (q, n), in the target's unit, inside the support.

        Parameters
        ----------
        probabilities : sequence of float, length q, or Tensor (q, n)
            Between 0 and 1.

        Raises
        ------
        DataError
            If a probability is not strictly between 0 and 1.
        """
        p = torch.as_tensor(probabilities, dtype=torch.float64)
        if not bool(((p > 0) & (p < 1)).all()):
            raise DataError(f"probabilities are {p.flatten().tolist()[:5]}", expected="strictly between 0 and 1")
        # levels nearer to 0 and 1 cannot be told apart in single precision
        levels = self.recalibration.inverse(p).clamp(_LEVEL_EDGE, 1 - _LEVEL_EDGE)
        return self.base.quantile(levels.to(torch.float32))

    @property
    def mean(self) -> Tensor:
        """Posterior mean, shape (n,), in the target's unit: an integral over quantiles."""
        return self._moments()[0]

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation, shape (n,), in the target's unit: an integral over quantiles."""
        return self._moments()[1]

    @property
    def aleatoric(self) -> Tensor:
        """Standard deviation within the model's members, shape (n,), in the target's unit; not recalibrated."""
        return self.base.aleatoric

    @property
    def epistemic(self) -> Tensor:
        """Standard deviation between the means of the model's members, shape (n,), in the target's unit."""
        return self.base.epistemic

    def _moments(self) -> tuple[Tensor, Tensor]:
        if self._found is None:
            # at equal steps of a normal variable the rule is exact for polynomials of it, and kind to tails
            z = torch.linspace(-_MOMENT_REACH, _MOMENT_REACH, _MOMENT_NODES, dtype=torch.float64)
            share = torch.exp(-0.5 * z * z)
            share = (share / share.sum())[:, None]
            values = self.quantile(torch.special.ndtr(z)).double()
            mean = (share * values).sum(0)
            std = (share * (values - mean).square()).sum(0).sqrt()
            self._found = mean.to(self.low.dtype), std.to(self.low.dtype)
        return self._found

    def map(self) -> Tensor:
        """Mode, shape (n,), in the target's unit: the highest point on a grid of quantiles, refined by zooms."""
        levels = torch.linspace(0, 1, _MODE_LEVELS + 2, dtype=torch.float64)[1:-1]
        grid = torch.sort(torch.cat([self.quantile(levels), self.base.map()[None]]), dim=0).values
        grid = torch.cat([self.low[None], grid, self.high[None]])
        # the ends bound the zoom; the density at the end of an unbounded range is no candidate
        best = self.log_prob(grid[1:-1]).argmax(dim=0, keepdim=True) + 1
        low, middle, high = (grid.gather(0, best + step).squeeze(0) for step in (-1, 0, 1))
        for _ in range(_MODE_ZOOMS):
            part = torch.linspace(0, 1, _ZOOM_POINTS)[:, None]
            around = torch.cat([low + part * (high - low), middle[None]])
            middle = around.gather(0, self.log_prob(around).argmax(dim=0, keepdim=True)).squeeze(0)
            step = (high - low) / (_ZOOM_POINTS - 1)
            low, high = torch.maximum(low, middle - step), torch.minimum(high, middle + step)
        return middle

    def sample(self, draws: int, seed: int = 0) -> Tensor:
        """Draw samples, shape (draws, n), in the target's unit, by quantiles at random levels; seeded, in chunks."""
        generator = torch.Generator().manual_seed(seed)
        rows = max(1, _CHUNK // max(1, len(self)))
        parts = []
        for start in range(0, draws, rows):
            shape = min(rows, draws - start), len(self)
            levels = torch.rand(shape, generator=generator, dtype=torch.float64)
            parts.append(self.quantile(levels.clamp(_LEVEL_EDGE, 1 - _LEVEL_EDGE)))
        return torch.cat(parts)

    def crps(self, truth: Tensor) -> Tensor:
        """Continuous ranked probability score at the truth (n,), in the target's unit; as `Posterior.crps`."""
        u = torch.linspace(0, 1, _CRPS_NODES)[:, None] ** 2
        below = truth - (truth - self.low).clamp_min(0) * u
        above = truth + (self.high - truth).clamp_min(0) * u
        left = torch.trapezoid(self.cdf(below) ** 2, below, dim=0).abs()
        right = torch.trapezoid((1 - self.cdf(above)) ** 2, above, dim=0).abs()
        return left + right
