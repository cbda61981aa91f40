"""Are posteriors narrower than the prior? A model that always answers the prior is calibrated, and useless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bins import point_estimate
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.style import INK, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, plus_minus

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["Sharpness", "compute", "draw", "judge"]


@dataclass(frozen=True)
class Sharpness:
    """Posterior width over prior width.

    Attributes
    ----------
    ratio, ratio_error : float
        Mean posterior standard deviation over the prior's, and its bootstrap error. 1 if nothing was learned.
    prior : float
        Standard deviation of the prior, in the target's unit.
    widths : array (n,)
        Posterior standard deviation of each galaxy over the prior's.
    edges, counts : array (k + 1,), array (k,)
        Histogram of ``widths``.
    target, model, label : str
        Field name, estimator, ``train → test``.
    """

    ratio: float
    ratio_error: float
    prior: float
    widths: Array
    edges: Array
    counts: NDArray[np.int64]
    target: str
    model: str
    label: str

    def to_table(self) -> Table:
        """One row per bin of the histogram; the ratio and its error in the metadata."""
        columns = [
            ("ratio_low", self.edges[:-1], "", "lower edge of posterior over prior standard deviation"),
            ("ratio_high", self.edges[1:], "", "upper edge of posterior over prior standard deviation"),
            ("n", self.counts, "", "galaxies, or views of them"),
        ]
        meta = {"model": self.model, "domains": self.label, "ratio": self.ratio, "ratio_error": self.ratio_error}
        return make_table(columns, meta | {"prior_std": f"{self.prior:.6g} {target_unit(self.target)}".strip()})


def compute(scores: Scores, *, prior: Array | None = None, n_boot: int = N_BOOT, seed: int = 0) -> Sharpness:
    """Compare posterior standard deviations with that of the prior.

    Parameters
    ----------
    scores : Scores
        Predictions beside the truth.
    prior : array (m,), optional
        True values of the training set, in the target's unit; the truths of the scores if left out.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If the scores are empty or the prior has no width.
    """
    point_estimate(scores)
    reference = scores.truth if prior is None else np.asarray(prior, dtype=float)
    width = float(reference.std())
    if len(reference) == 0 or not reference.max() > reference.min():
        raise DataError(
            f"the prior of {scores.target} has no width ({len(reference)} values)",
            expected="at least two different true values",
            advice="test on more galaxies, or give the truths of the training set as prior",
        )
    if prior is None:
        replicates = bootstrap(_ratio, scores.std, scores.truth, n_boot=n_boot, seed=seed, galaxies=scores.ids)
    else:
        replicates = bootstrap(
            lambda std: std.mean(axis=-1) / width, scores.std, n_boot=n_boot, seed=seed, galaxies=scores.ids
        )
    widths = scores.std / width
    edges = np.linspace(0, max(1.25, float(np.percentile(widths, 99.5))), 41)
    return Sharpness(
        ratio=float(scores.std.mean()) / width,
        ratio_error=float(spread(replicates, len(scores))),
        prior=width,
        widths=widths,
        edges=edges,
        counts=np.histogram(widths, edges)[0],
        target=scores.target,
        model=scores.model,
        label=scores.label,
    )


def judge(result: Sharpness, *, threshold: float = 0.95) -> Verdict:
    """Say how much was learned; passes if the ratio plus two of its errors is below ``threshold``.

    A ratio of 0.95 is what a predictor reaches that explains 10 per cent of the variance.
    """
    opening = f"Posteriors are on average {plus_minus(result.ratio, result.ratio_error)} times as wide as the prior"
    if not np.isfinite(result.ratio_error) or result.ratio + 2 * result.ratio_error >= threshold:
        return Verdict(f"{opening}: nothing was learned from the inputs.", passed=False, kind="prior only")
    if result.ratio > 0.8:
        return Verdict(f"{opening}: little was learned from the inputs.", passed=True, kind="weak")
    return Verdict(f"{opening}: the inputs are informative.", passed=True, kind="sharp")


@styled
def draw(result: Sharpness, ax: Axes | None = None) -> Axes:
    """Draw the histogram of posterior over prior width with its mean, and 1 where nothing was learned."""
    ax = new_axes(ax, height=3.8)
    ax.stairs(result.counts, result.edges, fill=True, color=colour(0), alpha=0.35)
    ax.stairs(result.counts, result.edges, color=colour(0))
    ax.axvline(result.ratio, color=colour(1), label=f"mean {plus_minus(result.ratio, result.ratio_error)}")
    ax.axvline(1, color=INK, ls="--", lw=1.2, label="prior: nothing learned")
    ax.set(xlim=(0, result.edges[-1]), ylim=(0, 1.15 * max(1, int(result.counts.max()))))
    ax.set_xlabel("Posterior / prior standard deviation")
    ax.set_ylabel("Galaxies")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def _ratio(std: Array, truth: Array) -> Array:
    width = truth.std(axis=-1)
    return np.where(width > 0, std.mean(axis=-1) / np.where(width > 0, width, 1.0), np.nan)
