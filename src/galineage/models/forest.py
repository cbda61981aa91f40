"""Baseline: a random forest whose predictive distribution is that of the training galaxies sharing its leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from galineage.models.base import DirectEstimator, require_counts
from galineage.models.bounded import Histogram
from galineage.models.residuals import unit_interval_edges
from galineage.models.trees import TreeTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributions import Distribution

__all__ = ["RandomForest"]

_BINS = 128
_BANDWIDTHS = (1.0, 2.0, 3.0, 4.0, 6.0, 9.0)
_FLOOR = 1e-3


class RandomForest(DirectEstimator):
    """Quantile regression forest (Meinshausen 2006) with a smoothed histogram as its distribution.

    The smoothing length, in bins of the widened-logit scale, is chosen by likelihood on a fifth of the training rows.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs.
    target : str
        Field name of the target, a fraction in [0, 1].
    trees : int
        Number of trees.
    leaf : int
        Smallest number of training rows in a leaf.
    """

    kind = "forest"
    leaf_of_row: Tensor
    bin_of_row: Tensor
    bandwidth: Tensor
    edges: Tensor

    def __init__(self, features: Sequence[str], target: str = "f_ex", *, trees: int = 300, leaf: int = 3) -> None:
        super().__init__(features, target)
        require_counts(trees=trees, leaf=leaf)
        self.trees, self.leaf = trees, leaf
        self.tables = TreeTables()
        self.register_buffer("edges", unit_interval_edges(_BINS))
        self.register_buffer("leaf_of_row", torch.zeros((1, 1), dtype=torch.int32))
        self.register_buffer("bin_of_row", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("bandwidth", torch.tensor(3.0))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {"features": list(self.features), "target": self.target, "trees": self.trees, "leaf": self.leaf}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put saved buffers back by name (leaves of shape (T, n), bins (n,), in scaled units).

        Raises RuntimeError if they point outside each other.
        """
        super().load_tensors(tensors)
        trees, nodes = self.tables.feature.shape
        rows = self.leaf_of_row.shape[-1]
        inside = (
            self.leaf_of_row.shape == (trees, len(self.bin_of_row))
            and self.edges.shape == (_BINS + 1,)
            and (not rows or 0 <= int(self.leaf_of_row.min()) <= int(self.leaf_of_row.max()) < nodes)
            and (not rows or 0 <= int(self.bin_of_row.min()) <= int(self.bin_of_row.max()) < _BINS)
        )
        if not inside:
            raise RuntimeError("the forest's rows, leaves and bins do not fit together")

    def fit(self, x: Tensor, y: Tensor, seed: int) -> None:
        """Fit trees to features (n, d) and target (n,); see `DirectEstimator.fit`."""
        self.fit_scaling(x)
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
        held, kept = order[: len(y) // 5], order[len(y) // 5 :]
        if len(held) and len(kept):
            self._grow(x[kept], y[kept], seed, max(20, self.trees // 3))
            counts, scores = self._counts(x[held]), []
            for bandwidth in _BANDWIDTHS:
                self.bandwidth.fill_(bandwidth)
                scores.append(float(self._smooth(counts).log_prob(y[held].float()).mean()))
            self.bandwidth.fill_(_BANDWIDTHS[int(torch.tensor(scores).argmax())])
        self._grow(x, y, seed, self.trees)

    def _grow(self, x: Tensor, y: Tensor, seed: int, trees: int) -> None:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(trees, min_samples_leaf=self.leaf, random_state=seed, n_jobs=1)
        forest.fit(x.numpy(), y.numpy())
        self.tables.fill([tree.tree_ for tree in forest.estimators_])
        self.leaf_of_row = self.tables.leaves(x.float()).int()
        self.bin_of_row = (torch.bucketize(y.float(), self.edges, right=True) - 1).clamp(0, _BINS - 1)

    def _kernel(self) -> Tensor:
        index = torch.arange(_BINS, dtype=torch.float32)
        kernel = torch.exp(-0.5 * ((index[:, None] - index[None, :]) / self.bandwidth) ** 2)
        return kernel / kernel.sum(dim=1, keepdim=True)

    def forward(self, context: Tensor) -> Distribution:
        """Condition on features (n, d); batch shape (1, n), see `Estimator.forward`."""
        x, missing = self.rows(context)
        return self._smooth(self._counts(x).masked_fill(missing.unsqueeze(1), torch.nan))

    def _counts(self, x: Tensor) -> Tensor:
        leaves = self.tables.leaves(x)
        nodes = self.tables.feature.shape[1]
        total = torch.zeros((leaves.shape[1], _BINS))
        for leaf, rows in zip(leaves, self.leaf_of_row, strict=True):
            table = torch.bincount(rows.long() * _BINS + self.bin_of_row, minlength=nodes * _BINS)
            table = table.reshape(nodes, _BINS).float()
            total += (table / table.sum(dim=1, keepdim=True).clamp_min(1))[leaf]
        return total

    def _smooth(self, total: Tensor) -> Histogram:
        marginal = torch.bincount(self.bin_of_row, minlength=_BINS).float() + 0.5
        smooth = (total / total.sum(-1, keepdim=True).clamp_min(1e-9)) @ self._kernel()
        mixed = (1 - _FLOOR) * smooth + _FLOOR * marginal / marginal.sum()
        return Histogram((mixed / mixed.sum(-1, keepdim=True)).unsqueeze(0), self.edges)
