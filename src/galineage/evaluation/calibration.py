"""The test behind every calibration diagnostic: whether numbers are uniform, and if not, in which way.

If a posterior is right, the probability it puts below the truth (PIT, rank, TARP fraction) is uniform over galaxies
(Dawid 1984; Talts+2018; Lemos+2023). Its normal score, Phi^-1(u), is then a standard normal variable whatever the
shape of the posterior: its mean tells how far the truth lies above the posterior in posterior widths, and its standard
deviation is the factor by which the widths are too small. A Kolmogorov-Smirnov test catches what both miss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from galineage.errors import ConfigError, DataError
from galineage.evaluation.bootstrap import effective
from galineage.evaluation.verdict import Verdict, plus_minus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["BAND", "LEVEL", "MIN_GALAXIES", "TOLERANCE", "Uniformity", "simultaneous_band", "uniformity"]

LEVEL = 0.01
"""How often a calibrated model may fail a test by chance."""

BAND = 0.99
"""Probability that the whole curve of a calibrated model stays inside the band drawn around the expectation."""

TOLERANCE = 0.03
"""Departure from the nominal probability that is too small to matter, however well it is measured."""

MIN_GALAXIES = 20
"""With fewer galaxies nothing is judged."""

# How fast probability moves: a shift of d widths moves the distribution function by d * phi(0) = 0.40 d at most, and a
# change of all widths by a factor 1 + e moves the 68 % coverage by 2 phi(1) e = 0.48 e.
_PER_SHIFT = 1 / math.sqrt(2 * math.pi)
_PER_SPREAD = 2 * math.exp(-0.5) / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Uniformity:
    """How a set of probabilities departs from uniform.

    Attributes
    ----------
    n : int
        Number of rows: galaxies, or views of them.
    effective : int
        As how many independent galaxies they count; ``n`` if each is another galaxy.
    shift, shift_error : float
        Mean normal score: by how many posterior widths the truth lies above the posterior (negative: below); 0 if
        right.
    spread, spread_error : float
        Standard deviation of the normal scores: the factor by which posterior widths are too small. 1 if right.
    distance : float
        Largest distance of the distribution function from uniform (Kolmogorov-Smirnov), 0 to 1.
    p_shift, p_spread, p_distance : float
        Probability of departing this far or farther by chance (t test, chi-square test, KS test).
    """

    n: int
    effective: int
    shift: float
    shift_error: float
    spread: float
    spread_error: float
    distance: float
    p_shift: float
    p_spread: float
    p_distance: float

    @property
    def p_value(self) -> float:
        """Probability of the whole outcome by chance: the smallest of the three, times three (Bonferroni)."""
        return min(1.0, 3 * min(self.p_shift, self.p_spread, self.p_distance))

    def kinds(self, level: float = LEVEL, tolerance: float = TOLERANCE) -> tuple[str, ...]:
        """Name what is wrong.

        Parameters
        ----------
        level : float
            Probability of blaming a calibrated model, shared by the three tests.
        tolerance : float
            Departures in probability smaller than this are not blamed.

        Returns
        -------
        tuple of str
            Empty if calibrated; ``("too few",)`` below `MIN_GALAXIES`; else some of ``biased low``, ``biased high``,
            ``too narrow``, ``too wide``, or ``wrong shape`` alone.
        """
        if self.effective < MIN_GALAXIES:
            return ("too few",)
        found = []
        if self.p_shift < level / 3 and abs(self.shift) * _PER_SHIFT > tolerance:
            found.append("biased low" if self.shift > 0 else "biased high")
        if self.p_spread < level / 3 and abs(self.spread - 1) * _PER_SPREAD > tolerance:
            found.append("too narrow" if self.spread > 1 else "too wide")
        if not found and self.p_distance < level / 3 and self.distance > tolerance:
            found.append("wrong shape")
        return tuple(found)

    def verdict(self, opening: str, *, level: float = LEVEL, tolerance: float = TOLERANCE) -> Verdict:
        """Finish a sentence that opens with the diagnostic's own numbers.

        Parameters
        ----------
        opening : str
            Without a full stop, for example ``68 % intervals hold the truth 61.2 ± 0.6 % of the time``.
        level, tolerance : float
            As in `kinds`.
        """
        kinds = self.kinds(level, tolerance)
        if not kinds:
            small = self.p_value < level
            note = f" to within the tolerance of {100 * tolerance:g} %" if small else ""
            return Verdict(f"{opening}: calibrated{note}.", passed=True, kind="calibrated")
        return Verdict(
            f"{opening}: " + " and ".join(self._explain(kind) for kind in kinds) + ".",
            passed=False,
            kind=" and ".join(kinds),
        )

    def _explain(self, kind: str) -> str:
        if kind == "too few":
            return f"{self.effective} galaxies are too few to judge (at least {MIN_GALAXIES})"
        if kind in ("too narrow", "too wide"):
            return f"{kind} (widths should be multiplied by {plus_minus(self.spread, self.spread_error)})"
        if kind in ("biased low", "biased high"):
            side = "below" if kind == "biased low" else "above"
            amount = plus_minus(abs(self.shift), self.shift_error)
            return f"{kind} (posteriors lie {amount} of their width {side} the truth)"
        return f"wrong shape (off by {self.distance:.3f} in probability though centre and width are right)"


def uniformity(u: NDArray[Any], draws: int | None = None, galaxies: NDArray[Any] | None = None) -> Uniformity:
    """Test whether probabilities are uniform over galaxies.

    Parameters
    ----------
    u : array (n,)
        Probabilities in [0, 1]; with ``draws``, whole numbers from 0 to ``draws``.
    draws : int, optional
        If given, ``u`` are ranks among this many posterior samples.
    galaxies : array (n,), optional
        Whose row each is. Where several are one galaxy's, errors and probabilities are those of fewer galaxies: of as
        many as the rows count for by the correlation of normal scores of one galaxy (`galineage.evaluation.bootstrap`).
        Default: each row is a galaxy.

    Returns
    -------
    Uniformity

    Raises
    ------
    DataError
        If there are no galaxies, or a value lies outside its range or is NaN.

    Notes
    -----
    Ranks are moved to the middle of their step, and the normal scores divided by the standard deviation that they have
    for uniform ranks, so that few draws do not look like wide posteriors. Values within 1 / 4n of 0 or 1 are moved
    there, so that a truth on the border of its posterior has a finite score.
    """
    u = np.asarray(u, dtype=float)
    n = len(u)
    if n == 0:
        raise DataError("there are no galaxies to test for calibration", advice="check the selection and the skip list")
    top = 1 if draws is None else draws
    if not ((u >= 0) & (u <= top)).all():
        raise DataError(f"a calibration value lies outside 0 to {top}", advice="these are probabilities or ranks")
    null = 1.0
    if draws is None:
        distance = _ks_distance(u)
    else:
        distance = _ks_distance_ranks(np.rint(u).astype(np.int64), draws)
        u = (u + 0.5) / (draws + 1)
        null = _rank_deviation(draws)
    scores = special.ndtri(np.clip(u, 0.25 / n, 1 - 0.25 / n)) / null
    shift = float(scores.mean())
    spread = float(scores.std(ddof=1)) if n > 1 else math.nan
    count = effective(scores, galaxies)
    root = math.sqrt(count)
    return Uniformity(
        n=n,
        effective=count,
        shift=shift,
        shift_error=spread / root,
        spread=spread,
        spread_error=spread / math.sqrt(2 * max(count - 1, 1)),
        distance=distance,
        p_shift=_p_shift(shift, spread, count),
        p_spread=_p_spread(spread, count),
        # Stephens (1970) makes the limiting distribution good to three digits from n = 5 on
        p_distance=float(special.kolmogorov(distance * (root + 0.12 + 0.11 / root))),
    )


@lru_cache(maxsize=64)
def _rank_deviation(draws: int) -> float:
    return float(special.ndtri((np.arange(draws + 1) + 0.5) / (draws + 1)).std())


def _ks_distance(u: Array) -> float:
    ordered = np.sort(u)
    n = len(u)
    above = np.arange(1, n + 1) / n - ordered
    below = ordered - np.arange(n) / n
    return float(max(above.max(), below.max()))


def _ks_distance_ranks(ranks: NDArray[np.int64], draws: int) -> float:
    """Compare only at whole ranks: between them the uniform rank distribution is a staircase, not a line."""
    observed = np.cumsum(np.bincount(ranks, minlength=draws + 1)) / len(ranks)
    return float(np.abs(observed - np.arange(1, draws + 2) / (draws + 1)).max())


def _p_shift(shift: float, spread: float, n: int) -> float:
    if n < 2:
        return 1.0
    if spread == 0:
        return 1.0 if shift == 0 else 0.0
    return float(2 * special.stdtr(n - 1, -abs(shift) / spread * math.sqrt(n)))


def _p_spread(spread: float, n: int) -> float:
    if n < 2:
        return 1.0
    chi2 = (n - 1) * spread**2
    return float(min(1.0, 2 * min(special.chdtr(n - 1, chi2), special.chdtrc(n - 1, chi2))))


def simultaneous_band(n: int, grid: Array, probability: float = BAND) -> tuple[Array, Array]:
    """Band that holds the whole empirical distribution of n uniform numbers with a given probability.

    Parameters
    ----------
    n : int
        Number of galaxies.
    grid : array (k,)
        Ascending probabilities in [0, 1] at which the curve is looked at.
    probability : float
        Chance that a uniform sample stays inside at every point of the grid.

    Returns
    -------
    low, high : array (k,)
        Borders of the distribution function, no unit.

    Raises
    ------
    ConfigError
        If ``probability`` is not between 0 and 1.

    Notes
    -----
    Säilynoja, Bürkner & Vehtari (2022): the pointwise binomial interval is widened until it holds everywhere at once.
    The widening is found by 2000 seeded simulations and remembered for (n, grid).
    """
    if not 0 < probability < 1:
        raise ConfigError(f"the probability of a band is {probability}", expected="between 0 and 1")
    return _band(n, tuple(float(value) for value in grid), probability)


@lru_cache(maxsize=256)
def _band(n: int, grid: tuple[float, ...], probability: float) -> tuple[Array, Array]:
    from scipy.stats import binom

    z = np.asarray(grid)
    cells = np.diff(z, prepend=0.0, append=1.0)
    counts = np.cumsum(np.random.default_rng(0).multinomial(n, cells, size=2000), axis=1)[:, :-1]
    # two-sided pointwise p-value of every simulated curve at every point; its minimum along the curve sets the level
    lower = special.bdtr(counts, n, z)
    upper = np.where(counts > 0, special.bdtrc(np.maximum(counts - 1, 0), n, z), 1.0)
    inner = (z > 0) & (z < 1)
    pointwise = np.where(inner, 2 * np.minimum(lower, upper), 1.0).min(axis=1)
    gamma = float(np.quantile(pointwise, 1 - probability))
    low, high = binom.ppf(gamma / 2, n, z) / n, binom.ppf(1 - gamma / 2, n, z) / n
    low, high = np.where(inner, low, z), np.where(inner, high, z)
    low.setflags(write=False)
    high.setflags(write=False)
    return low, high
