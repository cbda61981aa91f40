"""The distance from the middle of the training galaxies in units of their covariance (Mahalanobis 1936)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from galineage.errors import DataError
from galineage.shift.base import Scaler, ShiftScore, finite_rows, own_quantiles, taken, threshold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["MahalanobisScore"]


@dataclass(frozen=True)
class MahalanobisScore(ShiftScore):
    """Mahalanobis distance, divided by the one that 5 % of fresh training-domain galaxies exceed.

    Sees a broken correlation at once; takes the training galaxies for one ellipsoid, whatever their shape.

    Attributes
    ----------
    scaler : Scaler
        Mean and standard deviation of the training galaxies.
    factor : array (d, d)
        Lower Cholesky factor of their correlation matrix.
    unit : float
        Distance that is put to 1.
    own : array (201,)
        Quantiles of the training galaxies' scores; see `ShiftScore`.
    """

    kind: ClassVar[str] = "mahalanobis"
    scaler: Scaler
    factor: Array
    unit: float
    own: Array

    @classmethod
    def fit(cls, reference: NDArray[np.floating], seed: int = 0) -> MahalanobisScore:
        """Fit to training galaxies (n, d); nothing is random. See `ShiftScore.fit`.

        Raises
        ------
        DataError
            If there are too few galaxies for a covariance (d + 3), or a column is a combination of others.
        """
        del seed
        rows = finite_rows(reference)
        n, d = rows.shape
        if n < d + 3:
            raise DataError(
                f"{n} galaxies are too few for a covariance of {d} features", expected=f"{d + 3} or more",
                advice="use the neighbour score",
            )  # fmt: skip
        scaler = Scaler.of(rows)
        scaled = scaler.scaled(rows)
        correlation = scaled.T @ scaled / (n - 1)
        # np.linalg.cholesky lets pass what only rounding keeps from being singular
        if float(np.linalg.eigvalsh(correlation)[0]) < 1e-10:
            raise DataError("a feature is a combination of the others", advice="leave one of them out")
        factor = np.linalg.cholesky(correlation)
        inside = (np.linalg.solve(factor, scaled.T) ** 2).sum(axis=0)
        raw = np.sqrt(_left_out(inside, n))
        unit = threshold(raw)
        return cls(scaler, factor, unit, own_quantiles(raw / unit))

    @property
    def columns(self) -> int:
        """Number of features d."""
        return len(self.factor)

    def raw(self, x: NDArray[np.floating]) -> Array:
        """Distance (m,), no unit, over the one that is put to 1; see `ShiftScore.raw`."""
        whitened = np.linalg.solve(self.factor, self.scaler.scaled(x).T)
        return np.sqrt((whitened**2).sum(axis=0)) / self.unit

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, scaled units inside, shapes as the attributes; see `ShiftScore.tensors`."""
        return {
            "center": self.scaler.center,
            "spread": self.scaler.spread,
            "factor": self.factor,
            "unit": np.array([self.unit]),
            "own": self.own,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> MahalanobisScore:
        """Build from arrays by name; shapes and units as in `ShiftScore.from_tensors`."""
        (factor,) = taken(tensors, factor=(None, None))
        d = len(factor)
        center, spread, unit, own, _ = taken(tensors, center=(d,), spread=(d,), unit=(1,), own=(201,), factor=(d, d))
        if not (spread > 0).all() or not unit[0] > 0 or not (np.diag(factor) > 0).all():
            raise DataError("the score's arrays hold impossible values", expected="positive scales")
        return cls(Scaler(center, spread), factor, float(unit[0]), own)


def _left_out(inside: Array, n: int) -> Array:
    """Squared distances (n,) of rows from mean and covariance of the *other* rows, from those of all rows.

    With one row less the mean moves away from it by ``(x - mean) / (n - 1)`` and the scatter matrix loses
    ``n / (n - 1) (x - mean)(x - mean)^T``; the inverse then follows from Sherman and Morrison (1950).
    """
    share = np.minimum(n / (n - 1) ** 2 * inside, 1 - 1e-12)
    return (n / (n - 1)) ** 2 * (n - 2) / (n - 1) * inside / (1 - share)
