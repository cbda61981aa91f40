"""Is the probability of no major merger right? Observed against stated frequency (a reliability diagram)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, effective, spread
from galineage.evaluation.calibration import LEVEL
from galineage.evaluation.style import INK, MUTED, colour, curve_name, new_axes, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict, counted, percent, plus_minus

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.joint_scores import JointScores

    Array = NDArray[np.float64]

__all__ = ["Never", "compute", "draw", "judge"]

_LEAST = 10
_FLOOR = 1e-4


@dataclass(frozen=True)
class Never:
    """Reliability of P(no major merger). All numbers are probabilities or counts: no unit.

    Attributes
    ----------
    stated : array (k,)
        Mean stated probability in bins that hold equal shares of it.
    observed, low, high : array (k,)
        Fraction of the bin's rows without a major merger, and its 68 % interval (Wilson 1927).
    n : array of int (k,)
        Rows in each bin.
    expected, found : float
        Number of rows without a major merger: the sum of the probabilities, and the truth.
    deviation : float
        Number of standard deviations by which the Brier score departs from what the probabilities imply
        (Spiegelhalter 1986), and ``excess`` the same for the number of galaxies.
    slope, slope_error : float
        Of the true log odds against the stated ones (Cox 1958); 1 if right, below 1 if the stated probabilities spread
        too far. NaN where they do not vary.
    brier, skill, skill_error : float
        Mean squared error of the probability; 1 - its ratio to that of always stating the observed frequency, with its
        bootstrap error: 0 if nothing was learned.
    total, galaxies, effective : int
        Number of rows, of the galaxies they show, and as how many independent rows they count: views of one galaxy say
        less than as many galaxies do (`galineage.evaluation.bootstrap.effective`). All errors are those of so many.
    model, label : str
        Estimator and ``train → test``.
    """

    stated: Array
    observed: Array
    low: Array
    high: Array
    n: NDArray[np.int64]
    expected: float
    found: float
    deviation: float
    excess: float
    slope: float
    slope_error: float
    brier: float
    skill: float
    skill_error: float
    total: int
    galaxies: int
    effective: int
    model: str
    label: str

    def to_table(self) -> Table:
        """One row per bin of stated probability."""
        columns = [
            ("stated", self.stated, "", "mean stated probability of no major merger"),
            ("observed", self.observed, "", "fraction of the bin's rows without a major merger"),
            ("observed_low", self.low, "", "lower end of its 68 % interval"),
            ("observed_high", self.high, "", "upper end of its 68 % interval"),
            ("n", self.n, "", "rows in the bin: galaxies, or views of them"),
        ]
        meta = {
            "model": self.model,
            "domains": self.label,
            "n": self.total,
            "galaxies": self.galaxies,
            "brier": self.brier,
            "skill": self.skill,
        }
        meta |= {"expected": self.expected, "found": self.found, "z": self.deviation}
        slope = {"slope": self.slope, "slope_error": self.slope_error}
        return make_table(columns, meta | {key: value for key, value in slope.items() if np.isfinite(value)})


def compute(scores: JointScores, *, bins: int = 8, n_boot: int = N_BOOT, seed: int = 0) -> Never:
    """Compare stated probabilities of no major merger with how often there was none.

    Parameters
    ----------
    scores : JointScores
        Joint posteriors beside the truth. Rows of one ``ids`` are views of one galaxy.
    bins : int
        Most bins of equal shares of the stated probability; fewer where a bin would expect fewer than 2 such galaxies.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If there are no galaxies, or no target needs a major merger.
    """
    if not scores.has_never or len(scores) == 0:
        raise DataError(
            "there is no probability of no major merger to test",
            expected="galaxies, and a target that needs a major merger",
        )
    p, never = scores.p_never, scores.never.astype(float)
    independent = effective(never - p, scores.ids)
    crowd = len(p) / independent  # variances of sums over rows are so many times those of independent rows
    # few galaxies are without one: bins hold equal shares of the stated probability, so that each expects some
    order = np.argsort(p, kind="stable")
    count = int(np.clip(p.sum() / crowd // 2, 1, bins))
    share = (np.cumsum(p[order]) - 0.5 * p[order]) / max(p.sum(), 1e-300)
    which = np.empty(len(p), dtype=np.int64)
    which[order] = np.clip((share * count).astype(np.int64), 0, count - 1)
    used = np.flatnonzero(np.bincount(which, minlength=count) > 0)
    groups = [which == i for i in used]
    n = np.array([int(group.sum()) for group in groups])
    observed = np.array([never[group].mean() for group in groups])
    low, high = _wilson(observed, n / crowd)
    variance = crowd * p * (1 - p)
    squares = ((1 - 2 * p) ** 2 * variance).sum()
    brier = float(((p - never) ** 2).mean())
    slope, slope_error = _slope(p, never)
    return Never(
        stated=np.array([p[group].mean() for group in groups]),
        observed=observed,
        low=low,
        high=high,
        n=n,
        expected=float(p.sum()),
        found=float(never.sum()),
        deviation=float(((never - p) * (1 - 2 * p)).sum() / math.sqrt(squares)) if squares > 0 else 0.0,
        excess=float((never - p).sum() / math.sqrt(variance.sum())) if variance.sum() > 0 else 0.0,
        slope=slope,
        slope_error=slope_error * math.sqrt(crowd),
        brier=brier,
        skill=float(_skill(p, never)),
        skill_error=float(spread(bootstrap(_skill, p, never, n_boot=n_boot, seed=seed, galaxies=scores.ids), len(p))),
        total=len(p),
        galaxies=len(np.unique(scores.ids)),
        effective=independent,
        model=scores.model,
        label=scores.label,
    )


def judge(result: Never, *, level: float = LEVEL) -> Verdict:
    """Say whether the stated probabilities hold: by their sum, their spread and Spiegelhalter's test.

    The three share ``level``. A departure of the sum by less than a tenth, or of the slope of the log odds by less than
    0.2, is not blamed, however well it is measured.
    """
    numbers = (
        f"{result.expected:.0f} of {counted(result.total, result.galaxies)} are said to have had no major merger (sum "
        f"of the probabilities), {result.found:.0f} had none; skill over the plain frequency "
        f"{percent(result.skill, result.skill_error)}, slope of the log odds "
        f"{plus_minus(result.slope, result.slope_error)}"
    )
    share = result.effective / result.total
    if share * max(result.found, result.expected) < _LEAST:
        return Verdict(f"{numbers}: too few to judge.", passed=False, kind="too few")
    limit = _two_sided(level / 3)
    ratio = result.found / max(result.expected, 1e-300)
    if abs(result.excess) > limit and abs(ratio - 1) > 0.1:
        error = math.sqrt(max(result.found, 1.0) / share) / max(result.expected, 1e-300)
        side = "low" if ratio > 1 else "high"
        text = f"probabilities are too {side} (true over stated number {plus_minus(ratio, error)})"
        return Verdict(f"{numbers}: {text}.", passed=False, kind=f"too {side}")
    if abs(result.slope - 1) > max(0.2, limit * result.slope_error):
        kind = "overconfident" if result.slope < 1 else "underconfident"
        text = f"{kind}: stated probabilities spread too {'far' if result.slope < 1 else 'little'}"
        return Verdict(f"{numbers}: {text}.", passed=False, kind=kind)
    if abs(result.deviation) > limit:
        kind = "overconfident" if result.deviation > 0 else "underconfident"
        return Verdict(f"{numbers}: {kind} (Spiegelhalter's z {result.deviation:+.1f}).", passed=False, kind=kind)
    return Verdict(
        f"{numbers}: calibrated (Spiegelhalter's z {result.deviation:+.1f}).", passed=True, kind="calibrated"
    )


@styled
def draw(result: Never, ax: Axes | None = None, *, index: int = 0) -> Axes:
    """Draw observed against stated frequency on logarithmic axes; call again with another ``index`` to compare."""
    ax = new_axes(ax, 5.6, 5.2)
    fresh = not ax.has_data()
    observed, low = np.maximum(result.observed, _FLOOR), np.maximum(result.low, _FLOOR)
    bars = np.stack([np.maximum(observed - low, 0), np.maximum(result.high - observed, 0)])
    stated = np.maximum(result.stated, _FLOOR)
    ax.errorbar(
        stated, observed, bars, fmt="o", ms=6, capsize=3, color=colour(index),
        label=f"{curve_name(result.model, result.label) or 'model'} ({result.found:.0f} of {result.total})",
    )  # fmt: skip
    bottom = max(0.5 * float(min(stated.min(), low[low > _FLOOR].min(initial=1.0))), _FLOOR)
    top = min(1.0, 3 * float(max(stated.max(), result.high.max())))
    if not fresh:
        bottom, top = min(bottom, ax.get_xlim()[0]), max(top, ax.get_xlim()[1])
    if fresh:
        line = np.geomspace(_FLOOR, 1, 50)
        ax.plot(line, line, color=INK, lw=0.9, ls="--", zorder=0)
        ax.axhline(result.found / result.total, color=MUTED, lw=1.2, zorder=0, label="frequency in the sample")
    ax.set(xscale="log", yscale="log", xlim=(bottom, top), ylim=(bottom, top))
    ax.set_xlabel("Stated P(no major merger)")
    ax.set_ylabel("Fraction without a major merger")
    ax.legend(loc="upper left")
    return ax


def _skill(p: Array, never: Array) -> Array:
    rate = never.mean(axis=-1, keepdims=True)
    plain = (rate * (1 - rate))[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(plain > 0, 1 - ((p - never) ** 2).mean(axis=-1) / plain, np.nan)


def _slope(p: Array, never: Array) -> tuple[float, float]:
    """Slope of the log odds of ``never`` against those of ``p``, (n,) each, by maximum likelihood, and its error."""
    inner = np.clip(p, 1e-6, 1 - 1e-6)
    odds = np.log(inner / (1 - inner))
    if odds.std() < 1e-6 or never.min() == never.max():
        return math.nan, math.nan
    design = np.stack([np.ones_like(odds), odds], axis=1)
    beta = np.array([0.0, 1.0])
    for _ in range(50):
        fitted = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        weight = np.maximum(fitted * (1 - fitted), 1e-12)
        curvature = (design * weight[:, None]).T @ design
        step = np.linalg.solve(curvature, design.T @ (never - fitted))
        beta = beta + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return float(beta[1]), float(np.sqrt(np.linalg.inv(curvature)[1, 1]))


def _wilson(rate: Array, n: Array) -> tuple[Array, Array]:
    centre = (rate + 0.5 / n) / (1 + 1 / n)
    half = np.sqrt(rate * (1 - rate) / n + 0.25 / n**2) / (1 + 1 / n)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _two_sided(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - level / 2))
