"""Baseline: gradient-boosted trees for the mean and for the size of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from galineage.errors import ConfigError
from galineage.models.base import DirectEstimator, require_counts
from galineage.models.residuals import ResidualShape
from galineage.models.trees import TreeTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributions import Distribution

__all__ = ["BoostedTrees"]


class BoostedTrees(DirectEstimator):
    """Gradient-boosted trees with a location-scale predictive distribution.

    One boosted model gives the mean, a second one the logarithm of the absolute error measured on rows left out
    (cross-fitting); the shape of the standardised residuals is kept as it is.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs.
    target : str
        Field name of the target, a fraction in [0, 1].
    rounds : int
        Boosting rounds of the mean.
    rate : float
        Learning rate.
    depth : int
        Depth of each tree.
    """

    kind = "boosting"
    offsets: Tensor

    def __init__(
        self, features: Sequence[str], target: str = "f_ex", *, rounds: int = 300, rate: float = 0.05, depth: int = 4
    ) -> None:
        super().__init__(features, target)
        require_counts(rounds=rounds, depth=depth)
        if not 0 < rate <= 1:
            raise ConfigError(f"rate is {rate}", expected="above 0, up to 1")
        self.rounds, self.rate, self.depth = rounds, float(rate), depth
        self.location, self.log_scale, self.shape = TreeTables(), TreeTables(), ResidualShape()
        self.register_buffer("offsets", torch.zeros(2, dtype=torch.float64))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {
            "features": list(self.features),
            "target": self.target,
            "rounds": self.rounds,
            "rate": self.rate,
            "depth": self.depth,
        }

    def _regressor(self, rounds: int, depth: int, seed: int) -> Any:
        from sklearn.ensemble import GradientBoostingRegressor

        return GradientBoostingRegressor(
            n_estimators=rounds,
            learning_rate=self.rate,
            max_depth=depth,
            subsample=0.7,
            min_samples_leaf=5,
            random_state=seed,
        )

    def fit(self, x: Tensor, y: Tensor, seed: int) -> None:
        """Fit to features (n, d) and target (n,); see `DirectEstimator.fit`."""
        from sklearn.model_selection import KFold, cross_val_predict

        self.fit_scaling(x)
        features, truth = x.numpy(), y.double().numpy()
        mean = self._regressor(self.rounds, self.depth, seed)
        folds = KFold(min(3, len(truth)), shuffle=True, random_state=seed)
        residuals = truth - cross_val_predict(mean, features, truth, cv=folds)
        scale = self._regressor(max(1, self.rounds // 4), 2, seed)
        scale.fit(features, np.log(np.abs(residuals) + 1e-3))
        mean.fit(features, truth)
        for slot, (tables, model) in enumerate(((self.location, mean), (self.log_scale, scale))):
            tables.fill([tree.tree_ for tree in model.estimators_[:, 0]])
            self.offsets[slot] = float(np.ravel(model.init_.constant_)[0])
        _, size = self._predict(x.float())
        self.shape.fit(torch.as_tensor(residuals), size, y)

    def _predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        location = self.offsets[0] + self.rate * self.location(x)
        return location, torch.exp(self.offsets[1] + self.rate * self.log_scale(x))

    def forward(self, context: Tensor) -> Distribution:
        """Condition on features (n, d); batch shape (1, n), see `Estimator.forward`."""
        x, missing = self.rows(context)
        location, scale = self._predict(x)
        return self.shape(location.masked_fill(missing, torch.nan), scale)
