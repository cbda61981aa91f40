"""Checks of calibration galaxies and their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["FEWEST", "EXCHANGEABLE", "REWEIGHTED", "checked_pit", "checked_weights", "effective_size"]

FEWEST = 40
"""Calibration galaxies, or their effective number under weights, below which nothing is fitted."""

EXCHANGEABLE = "exchangeable: new galaxies are drawn like the calibration galaxies, which the model was not trained on"
REWEIGHTED = (
    "only the mix of galaxies differs from that of the calibration galaxies: the relation between inputs and truth is "
    "the same in both domains, and the importance weights are right"
)


def checked_pit(pit: ArrayLike) -> Array:
    """Return places of the truth (n,), probabilities in [0, 1], after refusing what cannot be one.

    Raises
    ------
    DataError
        If they are not one-dimensional, NaN or outside [0, 1].
    """
    made = np.asarray(pit, dtype=np.float64)
    if made.ndim != 1:
        raise DataError(f"places of the truth have shape {made.shape}", expected="(n,)")
    bad = ~((made >= 0) & (made <= 1))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"a place of the truth is {made[row]}", where=f"row {row}", expected="0 to 1")
    return made


def checked_weights(weights: ArrayLike | None, count: int) -> Array:
    """Return weights (n,), pure numbers, as given; ones if there are none.

    Raises
    ------
    DataError
        If shape or values are wrong, or there are fewer than `FEWEST`, as such or effectively.
    """
    if count < FEWEST:
        raise DataError(f"{count} galaxies are too few to calibrate with", expected=f"{FEWEST} or more")
    if weights is None:
        return np.ones(count)
    made = np.asarray(weights, dtype=np.float64)
    if made.shape != (count,):
        raise DataError(f"weights have shape {made.shape}", expected=f"({count},): one for each calibration galaxy")
    if not (np.isfinite(made) & (made >= 0)).all() or not made.any():
        raise DataError("a weight is negative or not finite, or all are zero", expected="importance weights")
    size = effective_size(made)
    if size < FEWEST:
        raise DataError(
            f"the weights leave {size:.1f} effective galaxies of {count}",
            expected=f"{FEWEST} or more",
            advice="the two domains overlap too little for weights: calibrate without, and trust the shift score",
        )
    return made


def effective_size(weights: ArrayLike) -> float:
    """Kish's effective number of galaxies, ``(sum w)**2 / sum w**2``, for weights of shape (n,), pure numbers."""
    w = np.asarray(weights, dtype=np.float64)
    total = float(w.sum())
    return total * total / float((w * w).sum()) if total > 0 else 0.0
