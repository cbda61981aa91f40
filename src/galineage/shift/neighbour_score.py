"""The k-nearest-neighbour ratio score of Eisert+2024: distance from a set in units of distances within it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.shift.base import Scaler, ShiftScore, finite_rows, own_quantiles, taken, threshold
from galineage.shift.neighbours import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["NEIGHBOURS", "NeighbourScore", "SetScore", "set_score"]

NEIGHBOURS = 8
"""Which neighbour's distance counts (Eisert+2024)."""

_MOST_ROWS = 60_000
"""Training galaxies that are kept; more of them are thinned out at random."""


@dataclass(frozen=True)
class SetScore:
    """Scores of a set against another.

    Attributes
    ----------
    rows : array of int (m,)
        Which rows of the scored set were drawn.
    scores : array (m,)
        Their scores, no unit; above 1 is out of domain.
    factor : float
        The 95 % quantile of the raw score between random halves of the scored set, by which raw scores were divided.
    """

    rows: NDArray[np.int64]
    scores: Array
    factor: float

    @property
    def fraction(self) -> float:
        """Fraction of the drawn rows that are out of domain."""
        return float((self.scores > 1).mean())


def set_score(
    x: NDArray[np.floating],
    reference: NDArray[np.floating],
    *,
    k: int = NEIGHBOURS,
    published: bool = False,
    splits: int = 10,
    scaled: bool = False,
    seed: int = 0,
) -> SetScore:
    """Score a whole set against another, as Eisert+2024 (their public code).

    Both sets are standardised by one mean and variance and thinned out at random to equal size. The raw score of a row
    is its L1 distance to the k-th neighbour in the reference over that to its k-th neighbour among its own set; the
    95 % quantile of the same between two random halves of the own set is put to 1. So 5 % of a set is out of domain
    against itself. The denominator needs the whole set at once: galaxies one by one are for `NeighbourScore`.

    What was published scores the whole set by a quantile of its halves, and raw scores scatter more in smaller sets: in
    256 dimensions, 1,500 rows, 3 % of a set are out of domain against its like. By default each row is therefore scored
    within a half and against as many reference rows, and the quantile is the mean over several random halvings.

    Parameters
    ----------
    x : array (n, d)
        Set to be scored, any unit, finite.
    reference : array (m, d)
        Set to compare with, same unit, finite.
    k : int
        Neighbour that counts.
    published : bool
        To the letter: the whole set, equal sizes, one halving.
    splits : int
        How often the scored set is halved anew for the quantile; not used if ``published``.
    scaled : bool
        The columns are of one scale already, such as that of all domains together: they stay as they are.
    seed : int
        Of thinning and halves.

    Raises
    ------
    DataError
        If a set is too small, not finite, or all its rows are equal.
    ConfigError
        If ``splits`` is below 1.
    """
    if splits < 1:
        raise ConfigError(f"splits is {splits}", expected="1 or more")
    x, reference = finite_rows(x), finite_rows(reference, np.shape(x)[1])
    if min(len(x), len(reference)) < 2 * (k + 2):
        raise DataError(f"{min(len(x), len(reference))} rows are too few for neighbour {k}", expected=f"{2 * (k + 2)}")
    rng = np.random.default_rng(seed)
    if not scaled:
        scaler = Scaler.of(np.concatenate([x, reference]))
        x, reference = scaler.scaled(x), scaler.scaled(reference)
    mine, theirs = (one.astype(np.float32) for one in (x, reference))
    size = min(len(x) if published else len(x) // 2, len(reference))
    others = theirs[np.sort(rng.permutation(len(theirs))[:size])]
    if published:
        rows = np.sort(rng.permutation(len(mine))[:size])
        one, two = _halves(mine[rows], size // 2, rng)
        factor = threshold(_distance(one, two, k) / _within(one, k))
        return SetScore(rows, _distance(mine[rows], others, k) / _within(mine[rows], k) / factor, factor)
    units, rows, raw = [], np.empty(0, dtype=np.int64), np.empty(0)
    for split in range(splits):
        order = rng.permutation(len(mine))[: 2 * size]
        one, two = mine[order[:size]], mine[order[size:]]
        inside = _within(one, k), _within(two, k)
        units.append(
            threshold(np.concatenate([_distance(one, two, k) / inside[0], _distance(two, one, k) / inside[1]]))
        )
        if split == 0:
            rows = order
            raw = np.concatenate([_distance(one, others, k) / inside[0], _distance(two, others, k) / inside[1]])
    factor, places = float(np.mean(units)), np.argsort(rows)
    return SetScore(rows[places], raw[places] / factor, factor)


def _halves(
    rows: NDArray[np.float32], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    order = rng.permutation(len(rows))
    return rows[order[:size]], rows[order[size:]]


def _distance(x: NDArray[np.float32], reference: NDArray[np.float32], k: int) -> Array:
    return nearest(x, reference, k)[0][:, -1]


def _within(rows: NDArray[np.float32], k: int) -> Array:
    """Distance of each row to its k-th neighbour in its own set; repeated rows lie very near, not nowhere."""
    distance = nearest(rows, rows, k, exclude_self=True)[0][:, -1]
    return np.maximum(distance, _smallest(distance))


@dataclass(frozen=True)
class NeighbourScore(ShiftScore):
    """Neighbour score for galaxies that come one by one.

    The published denominator, distances within the scored set, does not exist for a single galaxy. Here it is the mean,
    over the galaxy's k nearest training galaxies, of the distance to *their* k-th neighbour among the training
    galaxies: what is usual at that place. The same is computed for every training galaxy as if it were fresh (it is
    left out of the others' neighbours too), and the 95 % quantile of that is put to 1.

    Attributes
    ----------
    scaler : Scaler
        Mean and standard deviation of the training galaxies.
    reference : array (n, d) of float32
        Training galaxies, standardised.
    radius : array (n,)
        L1 distance of each to its k-th neighbour.
    unit : float
        Raw score that is put to 1.
    k : int
        Neighbour that counts.
    own : array (201,)
        Quantiles of the training galaxies' scores; see `ShiftScore`.
    """

    kind: ClassVar[str] = "neighbours"
    scaler: Scaler
    reference: NDArray[np.float32]
    radius: Array
    unit: float
    k: int
    own: Array

    @classmethod
    def fit(cls, reference: NDArray[np.floating], seed: int = 0, k: int = NEIGHBOURS) -> NeighbourScore:
        """Fit to training galaxies (n, d); at most 60,000 of them are kept. See `ShiftScore.fit`."""
        rows = finite_rows(reference)
        if len(rows) < k + 3:
            raise DataError(f"{len(rows)} galaxies are too few for neighbour {k}", expected=f"{k + 3} or more")
        if len(rows) > _MOST_ROWS:
            rows = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:_MOST_ROWS])]
        scaler = Scaler.of(rows)
        kept = scaler.scaled(rows).astype(np.float32)
        distances, indices = nearest(kept, kept, k + 1, exclude_self=True)
        raw = _left_out(distances, indices, k)
        unit = threshold(raw)
        return cls(scaler, kept, distances[:, k - 1], unit, k, own_quantiles(raw / unit))

    @property
    def columns(self) -> int:
        """Number of features d."""
        return self.reference.shape[1]

    def raw(self, x: NDArray[np.floating]) -> Array:
        """Ratio of distances (m,), no unit, over the ratio that is put to 1; see `ShiftScore.raw`."""
        scaled = self.scaler.scaled(x).astype(np.float32)
        distances, indices = nearest(scaled, self.reference, self.k)
        around = np.maximum(self.radius[indices].mean(axis=1), _smallest(self.radius))
        return distances[:, -1] / around / self.unit

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, scaled units inside, shapes as the attributes; see `ShiftScore.tensors`."""
        return {
            "center": self.scaler.center,
            "spread": self.scaler.spread,
            "reference": self.reference,
            "radius": self.radius,
            "unit": np.array([self.unit]),
            "k": np.array([self.k]),
            "own": self.own,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> NeighbourScore:
        """Build from arrays by name; shapes and units as in `ShiftScore.from_tensors`."""
        (reference,) = taken(tensors, reference=(None, None))
        n, d = reference.shape
        center, spread, radius, unit, k, own = taken(
            tensors, center=(d,), spread=(d,), radius=(n,), unit=(1,), k=(1,), own=(201,)
        )
        if not (spread > 0).all() or not unit[0] > 0 or not 1 <= int(k[0]) < n or (radius < 0).any():
            raise DataError("the score's arrays hold impossible values", expected="positive scales, k below the rows")
        return cls(Scaler(center, spread), reference.astype(np.float32), radius, float(unit[0]), int(k[0]), own)


def _left_out(distances: Array, indices: NDArray[np.int64], k: int) -> Array:
    """Raw scores (n,) of the training galaxies, each scored as if it were not among them, from k + 1 neighbours."""
    n = len(distances)
    near = indices[:, :k]
    # where the galaxy itself is among the first k of its neighbour, that neighbour's next one counts
    within = (indices[near][:, :, :k] == np.arange(n)[:, None, None]).any(axis=2)
    around = np.where(within, distances[near, k], distances[near, k - 1]).mean(axis=1)
    return distances[:, k - 1] / np.maximum(around, _smallest(distances[:, k - 1]))


def _smallest(radius: Array) -> float:
    """Smallest distance that counts as one: repeated galaxies have none from each other."""
    positive = radius[radius > 0]
    return 1e-6 * float(np.median(positive)) if len(positive) else 1e-6
