"""Do intervals hold the truth as often as they say? Observed against nominal coverage, all levels at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import special

from galineage.errors import ConfigError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap_ecdf, ecdf, fraction
from galineage.evaluation.calibration import BAND, LEVEL, TOLERANCE, Uniformity, simultaneous_band, uniformity
from galineage.evaluation.style import INK, MUTED, colour, curve_name, new_axes, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict, percent

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["Coverage", "compute", "draw", "judge"]

Method = Literal["central", "gaussian"]


@dataclass(frozen=True)
class Coverage:
    """Observed against nominal coverage.

    Attributes
    ----------
    method : {"central", "gaussian"}
        Central quantile intervals, or mean ± k standard deviations.
    nominal, observed : array (k,)
        Nominal and observed probability of the truth inside, 0 to 1.
    low, high : array (k,)
        16th and 84th percentile of ``observed`` over bootstrap resamples.
    band_low, band_high : array (k,)
        Where the whole curve of a calibrated model stays with 99 % probability; wider where rows are views of fewer
        galaxies.
    at68, at95 : (float, float)
        Observed coverage of the 16-84 % and 2.5-97.5 % intervals, as in `galineage.evaluation.accuracy`, and its
        error, binomial or of galaxies with all of their views; with ``gaussian`` that of mean ± 1 standard deviation
        and of the Gaussian 95 % interval.
    test : Uniformity
        Test of the underlying probabilities.
    model, label : str
        Estimator and ``train → test``.
    """

    method: Method
    nominal: Array
    observed: Array
    low: Array
    high: Array
    band_low: Array
    band_high: Array
    at68: tuple[float, float]
    at95: tuple[float, float]
    test: Uniformity
    model: str
    label: str

    def to_table(self) -> Table:
        """One row per level: nominal and observed coverage, bootstrap interval and expected band, all fractions."""
        columns = [
            ("nominal", self.nominal, "", "probability that the interval claims"),
            (
                "sigma",
                np.sqrt(2) * special.erfinv(np.minimum(self.nominal, 1 - 1e-16)),
                "",
                "the same in Gaussian sigma",
            ),
            ("observed", self.observed, "", "fraction of truths inside"),
            ("observed_low", self.low, "", "16th percentile over bootstrap resamples"),
            ("observed_high", self.high, "", "84th percentile over bootstrap resamples"),
            ("band_low", self.band_low, "", f"lower border of the {100 * BAND:g} % band of a calibrated model"),
            ("band_high", self.band_high, "", f"upper border of the {100 * BAND:g} % band of a calibrated model"),
        ]
        meta = {"model": self.model, "domains": self.label, "method": self.method, "n": self.test.n}
        return make_table(columns, meta)


def compute(scores: Scores, *, method: Method = "central", n_boot: int = N_BOOT, seed: int = 0) -> Coverage:
    """Compute the coverage curve.

    Parameters
    ----------
    scores : Scores
        Predictions beside the truth.
    method : {"central", "gaussian"}
        ``central`` uses the central quantile interval of each posterior, whatever its shape: the truth is inside the
        interval of level l if ``|2 pit - 1| <= l``. ``gaussian`` is figure 11 of Angeloudi+2023: the fraction with
        ``|truth - mean| <= k std`` against ``erf(k / sqrt 2)``.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If the scores are empty.
    ConfigError
        If there is no such method.
    """
    if method not in ("central", "gaussian"):
        raise ConfigError(f"there is no coverage method {method!r}", expected="central or gaussian")
    u = scores.pit if method == "central" else _gaussian_pit(scores)
    test = uniformity(u, galaxies=scores.ids)
    central = np.abs(2 * u - 1)
    if method == "central":
        pairs = (scores.p16, scores.p84), (scores.p025, scores.p975)
        inside = [(low <= scores.truth) & (scores.truth <= high) for low, high in pairs]
    else:
        inside = [central <= special.erf(np.sqrt(0.5)), central <= 0.95]
    nominal = np.linspace(0, 1, 101)
    curves = bootstrap_ecdf(central, nominal, n_boot=n_boot, seed=seed, galaxies=scores.ids)
    low, high = np.percentile(curves, [16, 84], axis=0)
    band_low, band_high = simultaneous_band(test.effective, nominal)
    return Coverage(
        method=method,
        nominal=nominal,
        observed=ecdf(central, nominal),
        low=low,
        high=high,
        band_low=band_low,
        band_high=band_high,
        at68=fraction(inside[0], scores.ids),
        at95=fraction(inside[1], scores.ids),
        test=test,
        model=scores.model,
        label=scores.label,
    )


def judge(result: Coverage, *, level: float = LEVEL, tolerance: float = TOLERANCE) -> Verdict:
    """Say whether intervals keep their promise: calibrated, too narrow, too wide, biased low or high, with numbers.

    Parameters
    ----------
    result : Coverage
    level : float
        Probability of blaming a calibrated model.
    tolerance : float
        Departure in probability that is not blamed.
    """
    name = "68 % intervals hold" if result.method == "central" else "mean ± 1 sigma holds"
    opening = f"{name} the truth {percent(*result.at68)} of the time, 95 % intervals {percent(*result.at95)}"
    return result.test.verdict(opening, level=level, tolerance=tolerance)


@styled
def draw(result: Coverage, ax: Axes | None = None, *, index: int = 0) -> Axes:
    """Draw observed against nominal coverage; call again on the same axes with another ``index`` to compare models."""
    ax = new_axes(ax, 5.6, 5.2)
    if not ax.has_data():
        ax.fill_between(
            result.nominal, result.band_low, result.band_high, color=MUTED, alpha=0.6, lw=0, label="calibrated (99 %)"
        )
        ax.plot([0, 1], [0, 1], color=INK, lw=0.8, ls="--")
        ax.text(0.04, 0.66, "too wide:\ntruth inside too often", ha="left", va="top", color="#666666", fontsize=9)
        ax.text(0.96, 0.28, "too narrow:\ntruth outside too often", ha="right", va="top", color="#666666", fontsize=9)
    ax.fill_between(result.nominal, result.low, result.high, color=colour(index), alpha=0.3, lw=0)
    ax.plot(
        result.nominal, result.observed, color=colour(index), label=curve_name(result.model, result.label) or "model"
    )
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    what = "Nominal probability" if result.method == "central" else r"Nominal probability, $\mathrm{erf}(k/\sqrt{2})$"
    ax.set_xlabel(what)
    ax.set_ylabel("Fraction of truths inside")
    ax.legend(loc="upper left")
    return ax


def _gaussian_pit(scores: Scores) -> Array:
    # a posterior of zero width holds the truth only if it hits it
    width = np.where(scores.std > 0, scores.std, np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        return np.asarray(special.ndtr((scores.truth - scores.mean) / width), dtype=float)
