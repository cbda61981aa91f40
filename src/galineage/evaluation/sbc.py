"""Simulation-based calibration: ranks of the truth among posterior samples (Talts+2018; Säilynoja+2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap_ecdf, ecdf
from galineage.evaluation.calibration import BAND, LEVEL, TOLERANCE, Uniformity, simultaneous_band, uniformity
from galineage.evaluation.style import INK, MUTED, colour, curve_name, new_axes, styled
from galineage.evaluation.tabulate import make_table

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores
    from galineage.evaluation.verdict import Verdict

    Array = NDArray[np.float64]

__all__ = ["Ranks", "compute", "draw", "judge"]


@dataclass(frozen=True)
class Ranks:
    """Distribution of ranks against the uniform one.

    Attributes
    ----------
    grid : array (k,)
        Fractional ranks in (0, 1): probabilities of a rank this small or smaller.
    difference : array (k,)
        Empirical distribution of the ranks minus ``grid``.
    low, high : array (k,)
        16th and 84th percentile of ``difference`` over bootstrap resamples.
    band_low, band_high : array (k,)
        Where the whole curve of a calibrated model stays with 99 % probability.
    draws : int
        Posterior samples behind each rank.
    test : Uniformity
        Shift, spread and Kolmogorov-Smirnov test of the ranks.
    model, label : str
        Estimator and ``train → test``.
    """

    grid: Array
    difference: Array
    low: Array
    high: Array
    band_low: Array
    band_high: Array
    draws: int
    test: Uniformity
    model: str
    label: str

    @property
    def outside(self) -> float:
        """Fraction of the curve outside the band, 0 to 1."""
        return float(((self.difference < self.band_low) | (self.difference > self.band_high)).mean())

    def to_table(self) -> Table:
        """One row per point of the grid."""
        columns = [
            ("rank", self.grid, "", "fractional rank of the truth among posterior samples"),
            ("difference", self.difference, "", "fraction of galaxies at or below this rank, minus the rank"),
            ("difference_low", self.low, "", "16th percentile over bootstrap resamples"),
            ("difference_high", self.high, "", "84th percentile over bootstrap resamples"),
            ("band_low", self.band_low, "", f"lower border of the {100 * BAND:g} % band of a calibrated model"),
            ("band_high", self.band_high, "", f"upper border of the {100 * BAND:g} % band of a calibrated model"),
        ]
        meta = {"model": self.model, "domains": self.label, "draws": self.draws, "n": self.test.n}
        return make_table(columns, meta)


def compute(scores: Scores, *, n_boot: int = N_BOOT, seed: int = 0) -> Ranks:
    """Compare the ranks of the truth with uniform ranks.

    Parameters
    ----------
    scores : Scores
        Predictions beside the truth; ``rank`` counts 0 to ``draws``.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If the scores are empty, or there are no posterior samples behind the ranks.
    """
    draws = scores.draws
    if draws < 1:
        raise DataError(f"ranks are among {draws} posterior samples", expected="at least 1")
    test = uniformity(scores.rank, draws, scores.ids)
    # Only at whole ranks do uniform ranks have the probability that the grid claims.
    steps = np.unique(np.linspace(1, draws, min(draws, 100)).round().astype(np.int64))
    grid = steps / (draws + 1)
    ranks = scores.rank.astype(float)
    curves = bootstrap_ecdf(ranks, steps - 0.5, n_boot=n_boot, seed=seed, galaxies=scores.ids) - grid
    low, high = np.percentile(curves, [16, 84], axis=0)
    band_low, band_high = simultaneous_band(test.effective, grid)
    return Ranks(
        grid=grid,
        difference=ecdf(ranks, steps - 0.5) - grid,
        low=low,
        high=high,
        band_low=band_low - grid,
        band_high=band_high - grid,
        draws=draws,
        test=test,
        model=scores.model,
        label=scores.label,
    )


def judge(result: Ranks, *, level: float = LEVEL, tolerance: float = TOLERANCE) -> Verdict:
    """Say whether ranks are uniform, and if not, how; arguments as in `Uniformity.kinds`."""
    where = (
        f"leave the 99 % band over {100 * result.outside:.0f} % of its length"
        if result.outside
        else "stay in the 99 % band"
    )
    opening = f"Ranks of the truth among {result.draws} posterior samples {where}"
    return result.test.verdict(opening, level=level, tolerance=tolerance)


@styled
def draw(result: Ranks, ax: Axes | None = None, *, index: int = 0) -> Axes:
    """Draw the difference between observed and uniform rank distribution over its 99 % simultaneous band."""
    ax = new_axes(ax, height=4.0)
    fresh = not ax.has_data()
    if fresh:
        ax.fill_between(
            result.grid, result.band_low, result.band_high, color=MUTED, alpha=0.6, lw=0, label="calibrated (99 %)"
        )
        ax.axhline(0, color=INK, lw=0.8, ls="--")
    ax.fill_between(result.grid, result.low, result.high, color=colour(index), alpha=0.3, lw=0)
    ax.plot(
        result.grid, result.difference, color=colour(index), label=curve_name(result.model, result.label) or "model"
    )
    reach = 1.45 * max(0.05, float(np.abs([result.low, result.high, result.band_low, result.band_high]).max()))
    reach = reach if fresh else max(reach, ax.get_ylim()[1])
    ax.set(xlim=(0, 1), ylim=(-reach, reach))
    ax.set_xlabel("Fractional rank of the truth among posterior samples")
    ax.set_ylabel("Observed - expected fraction")
    ax.legend(loc="upper right", ncols=2)
    return ax
