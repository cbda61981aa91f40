"""Tests of accuracy with random points: expected coverage from samples alone (Lemos+2023, arXiv:2302.03026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.evaluation.bootstrap import N_BOOT, bootstrap_ecdf, ecdf, spread
from galineage.evaluation.calibration import (
    BAND,
    LEVEL,
    TOLERANCE,
    Uniformity,
    simultaneous_band,
    uniformity,
)
from galineage.evaluation.style import INK, MUTED, colour, curve_name, new_axes, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict, percent

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.joint_scores import JointScores
    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["Tarp", "compute", "compute_joint", "draw", "judge"]


@dataclass(frozen=True)
class Tarp:
    """Expected coverage against credibility level.

    Attributes
    ----------
    level : array (k,)
        Credibility level, 0 to 1.
    coverage, error : array (k,)
        Fraction of galaxies whose truth lies nearer to its reference point than this fraction of samples, and its
        bootstrap error. Equal to ``level`` if calibrated.
    low, high : array (k,)
        16th and 84th percentile of ``coverage`` over bootstrap resamples.
    band_low, band_high : array (k,)
        Where the whole curve of a calibrated model stays with 99 % probability.
    test : Uniformity
        Test of the fractions.
    model, label : str
        Estimator and ``train → test``.
    """

    level: Array
    coverage: Array
    error: Array
    low: Array
    high: Array
    band_low: Array
    band_high: Array
    test: Uniformity
    model: str
    label: str

    def to_table(self) -> Table:
        """One row per credibility level, all fractions."""
        columns = [
            ("level", self.level, "", "credibility level"),
            ("coverage", self.coverage, "", "expected coverage probability"),
            ("coverage_error", self.error, "", "bootstrap error of coverage"),
            ("coverage_low", self.low, "", "16th percentile over bootstrap resamples"),
            ("coverage_high", self.high, "", "84th percentile over bootstrap resamples"),
            ("band_low", self.band_low, "", f"lower border of the {100 * BAND:g} % band of a calibrated model"),
            ("band_high", self.band_high, "", f"upper border of the {100 * BAND:g} % band of a calibrated model"),
        ]
        return make_table(columns, {"model": self.model, "domains": self.label, "n": self.test.n})


def compute(scores: Scores, *, n_boot: int = N_BOOT, seed: int = 0) -> Tarp:
    """Compute the expected coverage curve with bootstrap errors.

    Parameters
    ----------
    scores : Scores
        Predictions beside the truth; ``tarp`` holds fractions in [0, 1].
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If the scores are empty.

    Notes
    -----
    The reference points are drawn without looking at the galaxy, so that a posterior equal to the prior passes; see
    `galineage.evaluation.sharpness`. In one dimension a shift of all posteriors shows only as far as reference points
    lie on one side, so a shift is better seen in PIT or ranks.
    """
    ranks = np.rint(scores.tarp * scores.draws) if scores.draws > 0 else scores.tarp
    test = uniformity(ranks, scores.draws if scores.draws > 0 else None, scores.ids)
    return _curve(scores.tarp, scores.ids, test, scores.model, scores.label, n_boot, seed)


def compute_joint(scores: JointScores, *, n_boot: int = N_BOOT, seed: int = 0) -> Tarp:
    """Compute the expected coverage curve of joint posteriors, over the galaxies in which every target is defined.

    Parameters
    ----------
    scores : JointScores
        Joint posteriors beside the truth; distances are in units of the spread of each target's truth.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If every target is defined in no galaxy.
    """
    known = np.isfinite(scores.tarp)
    fractions, ids = scores.tarp[known], scores.ids[known]
    test = uniformity(fractions, galaxies=ids)
    return _curve(fractions, ids, test, scores.model, scores.label, n_boot, seed)


def _curve(
    fractions: Array, ids: NDArray[np.str_], test: Uniformity, model: str, label: str, n_boot: int, seed: int
) -> Tarp:
    level = np.linspace(0, 1, 51)
    curves = bootstrap_ecdf(fractions, level, n_boot=n_boot, seed=seed, galaxies=ids)
    low, high = np.percentile(curves, [16, 84], axis=0)
    band_low, band_high = simultaneous_band(test.effective, level)
    return Tarp(
        level=level,
        coverage=ecdf(fractions, level),
        error=spread(curves, test.effective),
        low=low,
        high=high,
        band_low=band_low,
        band_high=band_high,
        test=test,
        model=model,
        label=label,
    )


def judge(result: Tarp, *, level: float = LEVEL, tolerance: float = TOLERANCE) -> Verdict:
    """Say whether expected coverage follows credibility; arguments as in `Uniformity.kinds`.

    The method has no direction, so a shift is called ``off centre``.
    """
    away = np.abs(result.coverage - result.level)
    i = int(np.argmax(away))
    offset = percent(float(result.coverage[i] - result.level[i]), float(result.error[i]), sign=True)
    opening = (
        f"Expected coverage departs from the credibility level by at most {offset} (at {100 * result.level[i]:.0f} %)"
    )
    kinds = result.test.kinds(level, tolerance)
    if not kinds or kinds == ("too few",):
        return result.test.verdict(opening, level=level, tolerance=tolerance)
    kind = next((name for name in kinds if name in ("too narrow", "too wide")), "off centre")
    advice = {
        "too narrow": "too narrow (truths lie at the edges of their posteriors too often)",
        "too wide": "too wide (truths lie in the middle of their posteriors too often)",
        "off centre": "off centre or of the wrong shape (PIT tells the direction)",
    }[kind]
    return Verdict(f"{opening}: {advice}.", passed=False, kind=kind)


@styled
def draw(result: Tarp, ax: Axes | None = None, *, index: int = 0) -> Axes:
    """Draw expected coverage against credibility level over the 99 % band of a calibrated model."""
    ax = new_axes(ax, 5.6, 5.2)
    if not ax.has_data():
        ax.fill_between(
            result.level, result.band_low, result.band_high, color=MUTED, alpha=0.6, lw=0, label="calibrated (99 %)"
        )
        ax.plot([0, 1], [0, 1], color=INK, lw=0.8, ls="--")
    ax.fill_between(result.level, result.low, result.high, color=colour(index), alpha=0.3, lw=0)
    ax.plot(result.level, result.coverage, color=colour(index), label=curve_name(result.model, result.label) or "model")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.set_xlabel("Credibility level")
    ax.set_ylabel("Expected coverage (TARP)")
    ax.legend(loc="upper left")
    return ax
