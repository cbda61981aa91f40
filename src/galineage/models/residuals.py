"""From a point prediction to a predictive distribution on [0, 1]: location, scale, and the shape of the residuals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from galineage.models.bounded import Histogram, WidenedLogit

__all__ = ["ResidualShape", "unit_interval_edges"]

_SHAPE_NODES = 201
_MARGINAL_WEIGHT = 1e-3


def unit_interval_edges(bins: int, margin: float = 0.01) -> Tensor:
    """Return ``bins + 1`` edges from 0 to 1, shape (bins + 1,), no unit, equally spaced in widened-logit space.

    Bins are 10 times narrower near 0 and 1 than in the middle, because most galaxies have a small f_ex.
    """
    limit = WidenedLogit(margin).limit
    edges = WidenedLogit(margin).inverse(torch.linspace(-limit, limit, bins + 1, dtype=torch.float64))
    edges[0], edges[-1] = 0.0, 1.0
    return edges.float()


class ResidualShape(nn.Module):
    """Distribution of standardised residuals, applied around a location with a scale, its ends moved into [0, 1].

    Probability below 0 goes to the first bin and probability above 1 to the last: truths cannot lie there, but those
    that made the residuals lie at the border instead. Dividing by the part inside would narrow every distribution
    near a border.

    A thousandth of the training marginal is mixed in, so that no truth has density zero.

    Parameters
    ----------
    bins : int
        Bins of the resulting histogram.
    """

    quantiles: Tensor
    edges: Tensor
    marginal: Tensor

    def __init__(self, bins: int = 128) -> None:
        super().__init__()
        self.register_buffer("edges", unit_interval_edges(bins))
        self.register_buffer("quantiles", torch.linspace(-3, 3, _SHAPE_NODES))
        self.register_buffer("marginal", torch.full((bins,), 1.0 / bins))

    def fit(self, residuals: Tensor, scale: Tensor, y: Tensor) -> None:
        """Store the quantiles of ``residuals / scale`` and the marginal of ``y``.

        Parameters
        ----------
        residuals, scale, y : Tensor (n,)
            Truth minus prediction on rows that the prediction was not fitted to, its expected size, the truth; all
            in the target's unit.
        """
        p = (torch.arange(_SHAPE_NODES, dtype=torch.float64) + 0.5) / _SHAPE_NODES
        self.quantiles = torch.quantile((residuals / scale).double(), p).float()
        index = (torch.bucketize(y.float(), self.edges, right=True) - 1).clamp(0, len(self.marginal) - 1)
        counts = torch.bincount(index, minlength=len(self.marginal)).float() + 0.5
        self.marginal = counts / counts.sum()

    def _cdf(self, z: Tensor) -> Tensor:
        # linear between the stored quantiles, Gaussian-like exponential tails beyond them
        n = len(self.quantiles)
        p = (torch.arange(n, dtype=z.dtype, device=z.device) + 0.5) / n
        index = torch.searchsorted(self.quantiles, z.contiguous()).clamp(1, n - 1)
        low, high = self.quantiles[index - 1], self.quantiles[index]
        inner = p[index - 1] + (z - low) / (high - low).clamp_min(1e-9) * (p[index] - p[index - 1])
        below = p[0] * torch.exp((z - self.quantiles[0]).clamp_max(0.0))
        above = 1 - (1 - p[-1]) * torch.exp((self.quantiles[-1] - z).clamp_max(0.0))
        return torch.where(z < self.quantiles[0], below, torch.where(z > self.quantiles[-1], above, inner))

    def forward(self, location: Tensor, scale: Tensor) -> Histogram:
        """Build the distribution for locations and scales of shape (n,), target's unit; batch shape (1, n)."""
        z = (self.edges[1:-1] - location.float().unsqueeze(-1)) / scale.float().clamp_min(1e-4).unsqueeze(-1)
        inner = self._cdf(z)
        ends = inner.new_zeros((len(inner), 1)), inner.new_ones((len(inner), 1))
        parts = torch.cat([ends[0], inner, ends[1]], dim=-1).diff(dim=-1).clamp_min(0)
        mixed = (1 - _MARGINAL_WEIGHT) * parts + _MARGINAL_WEIGHT * self.marginal
        return Histogram((mixed / mixed.sum(-1, keepdim=True)).unsqueeze(0), self.edges)
