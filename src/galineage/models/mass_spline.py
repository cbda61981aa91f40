"""Baseline: a cubic spline of the target on stellar mass alone (Angeloudi+2023 Figure 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from galineage.errors import ConfigError, DataError
from galineage.models.base import DirectEstimator, require_counts
from galineage.models.residuals import ResidualShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributions import Distribution

__all__ = ["MassSpline"]


class MassSpline(DirectEstimator):
    """Least-squares cubic spline of the target on log stellar mass, with a spline of the error's size.

    Outside the training range of masses the spline is constant.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs; ``mstar`` must be among them, the others are not used.
    target : str
        Field name of the target, a fraction in [0, 1].
    knots : int
        Inner knots, at quantiles of mass.

    Raises
    ------
    ConfigError
        If ``mstar`` is not a feature.
    """

    kind = "spline"
    breaks: Tensor
    coefficients: Tensor

    def __init__(self, features: Sequence[str], target: str = "f_ex", *, knots: int = 5) -> None:
        super().__init__(features, target)
        if "mstar" not in self.features:
            raise ConfigError("the mass spline needs the feature 'mstar'", expected="mstar among the features")
        require_counts(0, knots=knots)
        self.knots = knots
        self.column = self.features.index("mstar")
        self.shape = ResidualShape()
        self.register_buffer("breaks", torch.tensor([0.0, 1.0], dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros((2, 4, 1), dtype=torch.float64))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {"features": list(self.features), "target": self.target, "knots": self.knots}

    def fit(self, x: Tensor, y: Tensor, seed: int) -> None:  # noqa: ARG002 - nothing here is random
        """Fit to features (n, d) and target (n,); see `DirectEstimator.fit`.

        Raises
        ------
        DataError
            If there are too few different masses for the knots.
        """
        from scipy.interpolate import PPoly, make_lsq_spline

        self.fit_scaling(x)
        different = len(torch.unique(x[:, self.column]))
        # twice the coefficients: a spline through as many points as it has coefficients has no residuals to learn from
        if different < 2 * (self.knots + 4):
            raise DataError(
                f"{different} different stellar masses for a spline of {self.knots} knots",
                expected=f"{2 * (self.knots + 4)} or more",
                advice="give fewer knots",
            )
        order = torch.argsort(x[:, self.column])
        mass, truth = x[order, self.column].double().numpy(), y[order].double().numpy()
        # at quantiles of the different masses: a mass shared by many galaxies must not collect several knots
        inner = np.quantile(np.unique(mass), np.linspace(0, 1, self.knots + 2)[1:-1])
        knots = np.r_[[mass[0]] * 4, inner, [mass[-1]] * 4]
        location = make_lsq_spline(mass, truth, knots, 3)
        residuals = truth - location(mass)
        # mean absolute error to standard deviation for a Gaussian: sqrt(pi / 2)
        size = make_lsq_spline(mass, np.abs(residuals) * np.sqrt(np.pi / 2), knots, 3)
        pieces = [PPoly.from_spline(spline) for spline in (location, size)]
        keep = np.diff(pieces[0].x) > 0
        self.breaks = torch.as_tensor(np.append(pieces[0].x[:-1][keep], mass[-1]))
        self.coefficients = torch.as_tensor(np.stack([piece.c[:, keep] for piece in pieces]))
        _, scale = self._predict(x)
        self.shape.fit(torch.as_tensor(residuals), scale[order], y)

    def _predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mass = x[:, self.column].double().clamp(self.breaks[0], self.breaks[-1])
        index = (torch.bucketize(mass, self.breaks, right=True) - 1).clamp(0, len(self.breaks) - 2)
        step = mass - self.breaks[index]
        cubic = self.coefficients[:, :, index]
        location, size = ((cubic[:, 0] * step + cubic[:, 1]) * step + cubic[:, 2]) * step + cubic[:, 3]
        return location, size.clamp_min(5e-3)

    def forward(self, context: Tensor) -> Distribution:
        """Condition on features (n, d); batch shape (1, n), see `Estimator.forward`."""
        x, missing = self.rows(context)
        location, scale = self._predict(x)
        return self.shape(location.masked_fill(missing, torch.nan), scale)
