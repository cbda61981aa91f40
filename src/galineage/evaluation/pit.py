"""Where does the truth fall in its posterior? Histogram of the posterior probability below the truth (PIT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap_ecdf, ecdf, spread
from galineage.evaluation.calibration import LEVEL, TOLERANCE, Uniformity, uniformity
from galineage.evaluation.style import INK, MUTED, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores
    from galineage.evaluation.verdict import Verdict

    Array = NDArray[np.float64]

__all__ = ["Pit", "compute", "draw", "judge"]


@dataclass(frozen=True)
class Pit:
    """Histogram of the probability integral transform.

    Attributes
    ----------
    edges : array (k + 1,)
        Bin edges, 0 to 1.
    density, error : array (k,)
        Galaxies per bin over the number expected (1 if calibrated), and its bootstrap error.
    band : (float, float)
        Range of ``density`` that a bin of a calibrated model keeps with 95 % probability.
    test : Uniformity
        Shift, spread and Kolmogorov-Smirnov test.
    model, label : str
        Estimator and ``train → test``.
    """

    edges: Array
    density: Array
    error: Array
    band: tuple[float, float]
    test: Uniformity
    model: str
    label: str

    def to_table(self) -> Table:
        """One row per bin: edges, density and its error."""
        columns = [
            ("pit_low", self.edges[:-1], "", "lower edge of posterior probability below the truth"),
            ("pit_high", self.edges[1:], "", "upper edge of posterior probability below the truth"),
            ("density", self.density, "", "galaxies in the bin over the number expected; 1 if calibrated"),
            ("density_error", self.error, "", "bootstrap error of density"),
        ]
        meta = {"model": self.model, "domains": self.label, "ks": self.test.distance, "ks_p": self.test.p_distance}
        return make_table(columns, meta | {"band_low": self.band[0], "band_high": self.band[1], "n": self.test.n})


def compute(scores: Scores, *, bins: int = 20, n_boot: int = N_BOOT, seed: int = 0) -> Pit:
    """Compute the PIT histogram (Dawid 1984) with its errors and the band expected of a calibrated model.

    Parameters
    ----------
    scores : Scores
        Predictions beside the truth.
    bins : int
        Number of equal bins over 0 to 1.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If the scores are empty.
    ConfigError
        If there are fewer than two bins.
    """
    from scipy.stats import binom

    if bins < 2:
        raise ConfigError(f"the number of PIT bins is {bins}", expected="at least 2")
    test = uniformity(scores.pit, galaxies=scores.ids)
    edges = np.linspace(0, 1, bins + 1)
    density = np.diff(ecdf(scores.pit, edges[1:-1]), prepend=0.0, append=1.0) * bins
    curves = bootstrap_ecdf(scores.pit, edges[1:-1], n_boot=n_boot, seed=seed, galaxies=scores.ids)
    n = test.effective
    error = spread(np.diff(curves, axis=1, prepend=0.0, append=1.0) * bins, n)
    low, high = (float(binom.ppf(q, n, 1 / bins)) * bins / n for q in (0.025, 0.975))
    return Pit(edges, density, error, (low, high), test, scores.model, scores.label)


def judge(result: Pit, *, level: float = LEVEL, tolerance: float = TOLERANCE) -> Verdict:
    """Say whether the truth lies evenly over its posteriors, and if not, how; arguments as in `Uniformity.kinds`."""
    test = result.test
    opening = f"Truths depart from an even spread over their posteriors by {test.distance:.3f} (KS, {_p(test)})"
    return test.verdict(opening, level=level, tolerance=tolerance)


@styled
def draw(result: Pit, ax: Axes | None = None) -> Axes:
    """Draw the histogram with error bars over the band in which 19 of 20 bins of a calibrated model lie."""
    ax = new_axes(ax, height=4.0)
    centre = 0.5 * (result.edges[1:] + result.edges[:-1])
    ax.axhspan(*result.band, color=MUTED, alpha=0.6, lw=0, label="calibrated: 19 of 20 bins")
    ax.axhline(1, color=INK, lw=0.8, ls="--")
    ax.stairs(result.density, result.edges, color=colour(0), lw=1.8, fill=False, baseline=0)
    ax.stairs(result.density, result.edges, color=colour(0), alpha=0.15, fill=True)
    ax.errorbar(centre, result.density, np.nan_to_num(result.error), fmt="none", ecolor=colour(0), lw=1, capsize=2)
    ax.set(xlim=(0, 1), ylim=(0, max(1.8, 1.25 * float(result.density.max()))))
    ax.set_xlabel("Posterior probability below the truth (PIT)")
    ax.set_ylabel("Galaxies / expected")
    ax.legend(loc="upper center")
    return ax


def _p(test: Uniformity) -> str:
    return "p < 0.001" if test.p_distance < 0.001 else f"p = {test.p_distance:.2g}"
