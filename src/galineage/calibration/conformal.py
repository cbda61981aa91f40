"""Split-conformal intervals: coverage for finite samples whatever the model, if galaxies are exchangeable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field as default
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from galineage.calibration.rows import EXCHANGEABLE, REWEIGHTED, checked_pit, checked_weights, effective_size
from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["KINDS", "LEVELS", "ConformalIntervals", "conformal_quantile", "tail_levels"]

KINDS = ("cqr", "pit")
LEVELS = (0.68, 0.95)
"""Probabilities of the intervals, by default."""

_EDGE = 2e-7
_MOST_LEVELS = 16


def tail_levels(levels: tuple[float, ...] = LEVELS) -> tuple[float, ...]:
    """Return the quantile levels at both ends of central intervals: lower ones first, then upper ones."""
    return (*(0.5 - 0.5 * level for level in levels), *(0.5 + 0.5 * level for level in levels))


def conformal_quantile(
    scores: ArrayLike, level: float, weights: ArrayLike | None = None, test_weights: ArrayLike = 1.0
) -> Array:
    """Level-quantile of calibration scores with one more, unknown score at infinity (Tibshirani+2019, eq. 7).

    Parameters
    ----------
    scores : array (n,)
        Nonconformity of the calibration galaxies, any unit.
    level : float
        Probability of the interval.
    weights : array (n,), optional
        Importance weights, pure numbers; equal ones by default, which gives the ``ceil((n + 1) level)``-th score.
    test_weights : array (m,) or float
        Weights of the new galaxies on the same scale.

    Returns
    -------
    array (m,)
        In the unit of the scores; infinite where the calibration galaxies are too few or weigh too little.
    """
    s = np.asarray(scores, dtype=np.float64)
    w = np.ones(len(s)) if weights is None else np.asarray(weights, dtype=np.float64)
    new = np.atleast_1d(np.asarray(test_weights, dtype=np.float64))
    order = np.argsort(s, kind="stable")
    reached = np.cumsum(w[order])
    needed = level * (reached[-1] + new)
    # a sum of weights may miss the level by its rounding
    place = np.searchsorted(reached, needed - 1e-12 * (reached[-1] + new), side="left")
    return np.append(s[order], np.inf)[place]


@dataclass(frozen=True)
class ConformalIntervals:
    """Intervals around a model's quantiles that hold the truth as often as they say, on the average over galaxies.

    Attributes
    ----------
    kind : {"cqr", "pit"}
        ``cqr``: the model's central interval, both ends moved out (or in) by one constant (Romano+2019). ``pit``: the
        model's central interval of another level (Chernozhukov+2021), which keeps its shape and never leaves the range.
    levels : tuple of float, length L
        Probabilities of the intervals.
    corrections : tuple of float, length L
        What ends are moved by, in the target's unit (``cqr``); half the level that is read instead (``pit``).
        Infinite if the calibration galaxies are too few or weigh too little for that level.
    support : (float, float)
        Range of the target in its unit: infinite intervals become this.
    count : int
        Number of calibration galaxies.
    size : float
        Their effective number under the weights.
    weighted : bool
        Whether importance weights were used.
    scores : array (n, L) or None
        Nonconformity of the calibration galaxies, for weights of single new galaxies; not saved with a model.
    weights : array (n,) or None
        Their weights, pure numbers.

    Raises
    ------
    ConfigError
        If the numbers fit no intervals.
    """

    kind: Literal["cqr", "pit"]
    levels: tuple[float, ...]
    corrections: tuple[float, ...]
    support: tuple[float, float]
    count: int = 0
    size: float = 0.0
    weighted: bool = False
    scores: Array | None = default(default=None, repr=False, compare=False)
    weights: Array | None = default(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"there are no conformal intervals of kind {self.kind!r}", expected=" or ".join(KINDS))
        if not 0 < len(self.levels) <= _MOST_LEVELS or len(self.corrections) != len(self.levels):
            raise ConfigError(f"{len(self.corrections)} corrections for {len(self.levels)} levels", expected="as many")
        if not all(0 < level < 1 for level in self.levels):
            raise ConfigError(f"levels are {self.levels}", expected="between 0 and 1")
        least = -math.inf if self.kind == "cqr" else 0.0
        if not all(item >= least for item in self.corrections) or not self.support[0] < self.support[1]:
            raise ConfigError("conformal corrections or the range of the target are unusable", where=str(self.support))

    @classmethod
    def from_quantiles(
        cls,
        truth: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
        *,
        support: tuple[float, float],
        levels: tuple[float, ...] = LEVELS,
        weights: ArrayLike | None = None,
    ) -> ConformalIntervals:
        """Fit the kind ``cqr``: conformalised quantile regression.

        Parameters
        ----------
        truth : array (n,)
            True values of galaxies that the model was not trained on, in the target's unit.
        low, high : array (L, n)
            The model's quantiles at both ends of each level's interval, in the target's unit.
        support : (float, float)
            Range of the target, in its unit.
        levels : tuple of float, length L
            Probabilities.
        weights : array (n,), optional
            Importance weights, pure numbers.

        Raises
        ------
        DataError
            If shapes differ, values are not finite, or there are fewer than 40 (effective) galaxies.
        """
        true = np.asarray(truth, dtype=np.float64)
        ends = [np.asarray(end, dtype=np.float64) for end in (low, high)]
        if true.ndim != 1 or any(end.shape != (len(levels), len(true)) for end in ends):
            raise DataError(
                f"truth has shape {true.shape}, quantiles {ends[0].shape} and {ends[1].shape}", expected="(n,), (L, n)"
            )
        if not all(np.isfinite(part).all() for part in (true, *ends)):
            raise DataError("a truth or quantile is not finite", advice="leave such galaxies out")
        return cls._fitted("cqr", np.maximum(ends[0] - true, true - ends[1]).T, support, levels, weights)

    @classmethod
    def from_pit(
        cls,
        pit: ArrayLike,
        *,
        support: tuple[float, float],
        levels: tuple[float, ...] = LEVELS,
        weights: ArrayLike | None = None,
    ) -> ConformalIntervals:
        """Fit the kind ``pit``: distributional conformal prediction with the score ``|PIT - 1/2|``.

        Parameters
        ----------
        pit : array (n,)
            Posterior probability below the truth, in [0, 1], of galaxies that the model was not trained on.
        support, levels, weights
            As in `from_quantiles`; weights of shape (n,).

        Raises
        ------
        DataError
            If there are fewer than 40 (effective) galaxies, or a value is NaN or outside [0, 1].
        """
        distance = np.abs(checked_pit(pit) - 0.5)
        return cls._fitted("pit", np.repeat(distance[:, None], len(levels), axis=1), support, levels, weights)

    @classmethod
    def _fitted(
        cls,
        kind: Literal["cqr", "pit"],
        scores: Array,
        support: tuple[float, float],
        levels: tuple[float, ...],
        weights: ArrayLike | None,
    ) -> ConformalIntervals:
        w = checked_weights(weights, len(scores))
        made = cls(
            kind, tuple(levels), (math.inf,) * len(levels), (float(support[0]), float(support[1])),
            len(scores), effective_size(w), weights is not None, scores, w,
        )  # fmt: skip
        # a new galaxy is taken to weigh as much as the heaviest here, which can only make intervals wider
        found = tuple(float(item[0]) for item in made._correct(np.array([w.max()])))
        object.__setattr__(made, "corrections", found)
        return made

    @property
    def assumption(self) -> str:
        """What must be true for the coverage to hold, in plain words."""
        return f"{REWEIGHTED}; no new galaxy weighs more than the heaviest" if self.weighted else EXCHANGEABLE

    @property
    def infinite_levels(self) -> tuple[float, ...]:
        """Levels for which the calibration galaxies are too few, or weigh too little: the whole range is given."""
        return tuple(level for level, item in zip(self.levels, self.corrections, strict=True) if math.isinf(item))

    def needed(self, test_weights: ArrayLike | None = None) -> Array:
        """Levels at which the model's quantiles are needed: probabilities (2 L,), lower ends first, then upper ends.

        Parameters
        ----------
        test_weights : array (m,), optional
            Weights of the new galaxies; the result then has shape (2 L, m). Only before the intervals were saved.

        Raises
        ------
        DataError
            If weights are given and the calibration scores are gone.
        """
        if self.kind == "cqr":
            tails = np.array(tail_levels(self.levels))
            return tails if test_weights is None else np.repeat(tails[:, None], np.size(test_weights), axis=1)
        half = np.minimum(self._correct(test_weights), 0.5)
        return np.clip(np.concatenate([0.5 - half, 0.5 + half]), _EDGE, 1 - _EDGE)

    def intervals(
        self, quantiles: ArrayLike, test_weights: ArrayLike | None = None
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Intervals of new galaxies.

        Parameters
        ----------
        quantiles : array (2 L, m)
            The model's quantiles at the levels `needed`, in the target's unit. NaN stays NaN.
        test_weights : array (m,), optional
            As in `needed`.

        Returns
        -------
        low, high : array (L, m)
            In the target's unit, inside its range.
        infinite : bool array (L, m)
            Where nothing can be promised by less than the whole range, which is then given.

        Raises
        ------
        DataError
            If the shape is another, or weights are given and the calibration scores are gone.
        """
        values = np.asarray(quantiles, dtype=np.float64)
        count = len(self.levels)
        if values.ndim != 2 or len(values) != 2 * count:
            raise DataError(f"quantiles have shape {values.shape}", expected=f"({2 * count}, m)")
        correction = self._correct(test_weights)
        correction = np.broadcast_to(correction.reshape(count, -1), (count, values.shape[1]))
        infinite = ~np.isfinite(correction)
        low, high = values[:count], values[count:]
        if self.kind == "cqr":
            move = np.where(infinite, 0.0, correction)
            middle = 0.5 * (low + high)
            low, high = np.minimum(low - move, middle), np.maximum(high + move, middle)
        else:
            # a truth at the very end of its posterior: every level below one leaves some such galaxies out
            infinite = infinite | (correction >= 0.5 - _EDGE)
        nothing = np.where(np.isnan(low), np.nan, 0.0)
        low, high = (
            np.where(infinite, end + nothing, part) for end, part in zip(self.support, (low, high), strict=True)
        )
        return np.clip(low, *self.support), np.clip(high, *self.support), infinite

    def _correct(self, test_weights: ArrayLike | None) -> Array:
        """Corrections (L,), or (L, m) for weights of new galaxies."""
        if test_weights is None:
            return np.array(self.corrections)
        if self.scores is None or self.weights is None:
            raise DataError(
                "these intervals were saved, without the calibration galaxies that weights of single galaxies need",
                advice="fit them again, or leave the weights of new galaxies out",
            )
        new = np.asarray(test_weights, dtype=np.float64)
        if new.ndim != 1 or not (np.isfinite(new) & (new >= 0)).all():
            raise DataError("weights of new galaxies are negative or not finite", expected="shape (m,)")
        each = [
            conformal_quantile(column, level, self.weights, new)
            for column, level in zip(self.scores.T, self.levels, strict=True)
        ]
        return np.stack(each)

    def settings(self) -> dict[str, Any]:
        """Return JSON values from which `from_settings` makes the same intervals, without the calibration scores."""
        return {
            "kind": self.kind,
            "levels": list(self.levels),
            "corrections": [item if math.isfinite(item) else None for item in self.corrections],
            "support": list(self.support),
            "count": self.count,
            "size": self.size,
            "weighted": self.weighted,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> ConformalIntervals:
        """Build intervals from what `settings` gave.

        Raises
        ------
        ConfigError
            If they are none.
        """
        try:
            low, high = (float(item) for item in settings["support"])
            corrections = tuple(math.inf if item is None else float(item) for item in settings["corrections"])
            levels = tuple(float(item) for item in settings["levels"])
            count, size = int(settings["count"]), float(settings["size"])
            return cls(settings["kind"], levels, corrections, (low, high), count, size, bool(settings["weighted"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"these are no conformal intervals: {type(error).__name__}: {error}") from error
