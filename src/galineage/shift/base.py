"""What every shift score is: fitted on the training galaxies, 1 where 5 per cent of their like lie above."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from galineage.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["FALSE_ALARMS", "FEWEST", "Scaler", "ShiftScore", "finite_rows"]

FALSE_ALARMS = 0.05
"""Fraction of galaxies of the training domain that score above 1, as in Eisert+2024."""

FEWEST = 40
"""Rows below which no score is fitted: the 95 % quantile would rest on two galaxies."""

_LEVELS = np.linspace(0, 1, 201)
_BATCH = 32768
_FARTHEST = 1e9


@dataclass(frozen=True)
class Scaler:
    """Zero mean and unit variance of each column.

    Attributes
    ----------
    center, spread : array (d,)
        In the unit of the features.
    """

    center: Array
    spread: Array

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Scaler:
        """Fit to rows (n, d) in the features' units.

        Raises
        ------
        DataError
            If a column has one single value.
        """
        spread = rows.std(axis=0, dtype=np.float64)
        center = rows.mean(axis=0, dtype=np.float64)
        if (spread <= 1e-12 * np.abs(center)).any() or not (spread > 0).all():
            column = int(np.argmin(spread / (np.abs(center) + 1e-300)))
            raise DataError(
                f"column {column} has one single value", advice="leave it out: it cannot tell galaxies apart"
            )
        return cls(center, spread)

    def scaled(self, rows: NDArray[np.floating]) -> Array:
        """Return rows (n, d) in units of the spread; farther than a thousand million of them makes no difference."""
        return np.clip((rows - self.center) / self.spread, -_FARTHEST, _FARTHEST)


def finite_rows(rows: Any, columns: int | None = None) -> NDArray[Any]:
    """Return reference rows (n, d), any unit, after refusing what no score can be fitted to.

    Raises
    ------
    DataError
        If they are no table, too few, or not finite.
    """
    made = np.asarray(rows)
    if made.ndim != 2 or not made.shape[1] or (columns is not None and made.shape[1] != columns):
        raise DataError(f"features of shape {made.shape} were given", expected=f"(galaxies, {columns or 'features'})")
    if len(made) < FEWEST:
        raise DataError(f"{len(made)} galaxies are too few for a shift score", expected=f"{FEWEST} or more")
    bad = ~np.isfinite(made).all(axis=1)
    if bad.any():
        raise DataError(
            "a training feature is not finite",
            where=f"row {int(np.argmax(bad))}",
            advice="use Catalogue.complete(features) to leave such rows out",
        )
    return made


class ShiftScore(ABC):
    """How unlike the training galaxies a galaxy is, by its inputs alone; the truth and the model play no part.

    Attributes
    ----------
    kind : str
        Name in `galineage.shift.SHIFT_SCORES` and in saved models.
    own : array (201,)
        Quantiles (0, 0.5, ..., 100 %) of the scores that fresh galaxies of the training domain get, no unit.
    """

    kind: ClassVar[str]
    own: Array

    @classmethod
    @abstractmethod
    def fit(cls, reference: NDArray[np.floating], seed: int = 0) -> ShiftScore:
        """Fit to the training galaxies.

        Parameters
        ----------
        reference : array (n, d), finite
            Features in registry units, dex where logarithmic. Galaxies that appear several times (at several
            snapshots) make the score too strict: give each once.
        seed : int
            Of whatever is random.

        Raises
        ------
        DataError
            If there are fewer than `FEWEST` rows, a value is not finite, or a column has one single value.
        """

    @abstractmethod
    def raw(self, x: NDArray[np.floating]) -> Array:
        """Score before normalisation.

        Parameters
        ----------
        x : array (m, d), finite
            Features as `fit` got them.

        Returns
        -------
        array (m,)
            Pure numbers; larger means less like the training galaxies.
        """

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays that `from_tensors` needs by name, of any shape; scaled units inside."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> ShiftScore:
        """Build a fitted score from what `tensors` gave, scaled units inside.

        Raises
        ------
        DataError
            If an array is missing, or has another shape than the others require.
        """

    @property
    @abstractmethod
    def columns(self) -> int:
        """Number of features d."""

    def score(self, x: NDArray[np.floating]) -> Array:
        """Score galaxies one by one.

        Parameters
        ----------
        x : array (m, d)
            Features in registry units, dex where logarithmic, in the order of `fit`.

        Returns
        -------
        array (m,)
            0 or more, no unit; above 1 is out of domain, where 5 % of fresh training-domain galaxies lie. NaN where a
            feature is not finite. A row's score does not depend on the others. Memory does not grow with m.

        Raises
        ------
        DataError
            If the number of columns is not that of `fit`.
        """
        rows = np.asarray(x)
        if rows.ndim != 2 or rows.shape[1] != self.columns:
            raise DataError(f"features of shape {rows.shape} were given", expected=f"(galaxies, {self.columns})")
        scores = np.full(len(rows), np.nan)
        whole = np.flatnonzero(np.isfinite(rows).all(axis=1))
        for start in range(0, len(whole), _BATCH):
            part = whole[start : start + _BATCH]
            scores[part] = self.raw(rows[part])
        return scores


def own_quantiles(scores: Array) -> Array:
    """Quantiles (201,) of the training galaxies' own scores (n,), without unit."""
    return np.quantile(scores, _LEVELS)


def threshold(scores: Array) -> float:
    """Raw score, without unit, that `FALSE_ALARMS` of the scores (n,) exceed; never zero."""
    return float(max(np.quantile(scores, 1 - FALSE_ALARMS), 1e-12))


def taken(tensors: Mapping[str, NDArray[Any]], **shapes: tuple[int | None, ...]) -> list[NDArray[Any]]:
    """Return the named arrays (any unit) after comparing their shapes with what is expected, None for any length.

    Raises
    ------
    DataError
        If one is missing, of another shape, or not finite.
    """
    found = []
    for name, shape in shapes.items():
        if name not in tensors:
            raise DataError(f"the score's array {name!r} is missing")
        value = np.asarray(tensors[name])
        fits = value.ndim == len(shape) and all(
            want in (None, have) for want, have in zip(shape, value.shape, strict=True)
        )
        if not fits or value.dtype.kind not in "fi":
            raise DataError(f"the score's array {name!r} is {value.dtype} of shape {value.shape}", expected=f"{shape}")
        if not np.isfinite(value).all():
            raise DataError(f"the score's array {name!r} is not finite")
        found.append(value)
    return found
