"""Box plots of errors for every pair of domains and every model (figure 9 of Angeloudi+2023)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bins import Point, point_estimate
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.style import INK, PALETTE, axis_label, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import SMALL_BIAS, Verdict, plus_minus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["QUANTILES", "Boxes", "compute", "draw", "judge"]

QUANTILES = (5, 16, 25, 50, 75, 84, 95)
"""Percentiles of the error that are kept. Boxes span 25 to 75, whiskers 5 to 95."""


@dataclass(frozen=True)
class Boxes:
    """Percentiles of the error, one row per pair of domains and model.

    Attributes
    ----------
    pairs, models : tuple of str, length k
        ``train → test`` and estimator of each row.
    within : tuple of bool, length k
        Whether the model was tested in its own domain.
    percentiles, errors : array (k, 7)
        Percentiles `QUANTILES` of prediction - truth and their bootstrap errors, in the target's unit.
    bias, bias_error : array (k,)
        Median error of the posterior median, whatever the point estimate, and its bootstrap error; it is judged.
    n : tuple of int, length k
        Number of galaxies.
    target : str
        Field name.
    """

    pairs: tuple[str, ...]
    models: tuple[str, ...]
    within: tuple[bool, ...]
    percentiles: Array
    errors: Array
    bias: Array
    bias_error: Array
    n: tuple[int, ...]
    target: str

    def to_table(self) -> Table:
        """One row per box."""
        unit = target_unit(self.target)
        columns: list[tuple[str, Any, str, str]] = [
            ("domains", list(self.pairs), "", "trained on → tested on"),
            ("model", list(self.models), "", "estimator"),
            ("n", list(self.n), "", "galaxies, or views of them"),
        ]
        for i, q in enumerate(QUANTILES):
            columns += [
                (f"error_p{q:02d}", self.percentiles[:, i], unit, f"{q}th percentile of prediction - truth"),
                (f"error_p{q:02d}_error", self.errors[:, i], unit, f"bootstrap error of error_p{q:02d}"),
            ]
        columns += [
            ("bias_p50", self.bias, unit, "median of posterior median - truth"),
            ("bias_p50_error", self.bias_error, unit, "bootstrap error of bias_p50"),
        ]
        return make_table(columns, {"target": self.target, "box": "25 to 75 %", "whiskers": "5 to 95 %"})


def compute(scores: Sequence[Scores], *, point: Point = "mean", n_boot: int = N_BOOT, seed: int = 0) -> Boxes:
    """Compute percentiles of the error for every scores.

    Parameters
    ----------
    scores : sequence of Scores
        Any number of pairs and models, labelled, of one target.
    point : {"mean", "median", "map"}
        Point estimate.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If there are no scores, one is empty, or targets differ.
    """
    if not scores:
        raise DataError("there are no scores to compare", expected="at least one")
    if len({item.target for item in scores}) > 1:
        raise DataError("scores of different targets cannot share a figure")
    values, errors, bias, bias_error = [], [], [], []
    for item in scores:
        error, low = point_estimate(item, point) - item.truth, item.p50 - item.truth
        drawn: dict[str, Any] = {"n_boot": n_boot, "seed": seed, "galaxies": item.ids}
        count = len(np.unique(item.ids))
        values.append(_percentiles(error))
        errors.append(spread(bootstrap(_percentiles, error, **drawn), count))
        bias.append(float(np.median(low)))
        bias_error.append(spread(bootstrap(partial(np.median, axis=-1), low, **drawn), count))
    return Boxes(
        pairs=tuple(item.label for item in scores),
        models=tuple(item.model or "model" for item in scores),
        within=tuple(item.train == item.test for item in scores),
        percentiles=np.stack(values),
        errors=np.stack(errors),
        bias=np.array(bias),
        bias_error=np.array(bias_error, dtype=float),
        n=tuple(len(item) for item in scores),
        target=scores[0].target,
    )


def judge(result: Boxes) -> Verdict:
    """Name the best and the worst case across domains (within, if there are no others) by bias and scatter together.

    Passes if every median error of posterior medians is at most `SMALL_BIAS` of its scatter, or two of its errors.
    """
    across = np.flatnonzero(~np.array(result.within))
    rows = across if len(across) else np.arange(len(result.pairs))
    unit = target_unit(result.target)
    low, middle, high = (result.percentiles[:, QUANTILES.index(q)] for q in (16, 50, 84))
    scatter = 0.5 * (high - low)
    order = rows[np.argsort(np.hypot(middle, scatter)[rows])]
    middle_error = result.errors[:, QUANTILES.index(50)]

    def text(i: int) -> str:
        bias = plus_minus(float(middle[i]), float(middle_error[i]), unit, sign=True)
        width = plus_minus(float(scatter[i]), float("nan"), unit)
        return f"{result.models[i]} {result.pairs[i]} (median error {bias}, scatter {width})"

    limit = np.maximum(SMALL_BIAS * scatter, 2 * np.nan_to_num(result.bias_error))
    passed = bool((np.abs(result.bias) <= limit)[rows].all())
    kind = "small bias" if passed else "biased somewhere"
    where = "Across domains" if len(across) else "Within domains"
    if len(order) == 1:
        return Verdict(f"{where} {text(order[0])}: {kind}.", passed=passed, kind=kind)
    return Verdict(
        f"{where} the best is {text(order[0])}, the worst {text(order[-1])}: {kind}.", passed=passed, kind=kind
    )


@styled
def draw(result: Boxes, ax: Axes | None = None) -> Axes:
    """Draw a row of boxes per pair of domains, a colour per model: box 25-75 %, whiskers 5-95 %, line at the median."""
    from matplotlib.patches import Patch

    pairs, models = list(dict.fromkeys(result.pairs)), list(dict.fromkeys(result.models))
    ax = new_axes(ax, height=1.1 + len(pairs) * max(0.45, 0.24 * len(models)))
    ax.axvline(0, color=INK, lw=0.8, ls="--")
    step, many = 0.8 / len(models), len(models) > len(PALETTE)
    for row, (pair, model, numbers) in enumerate(zip(result.pairs, result.models, result.percentiles, strict=True)):
        m = models.index(model)
        place = pairs.index(pair) + (m - 0.5 * (len(models) - 1)) * step
        _box(ax, numbers, place, 0.75 * step, m, other=not result.within[row])
        if many:
            end = float(numbers[QUANTILES.index(95)])
            ax.annotate(model, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    ax.set_yticks(range(len(pairs)), pairs)
    ax.set_ylim(len(pairs) - 0.5, -0.5)
    ax.set_xlabel(f"Error of {axis_label(result.target)} (predicted - true)")
    ax.tick_params(axis="y", length=0)
    title = "box 25-75 %, whiskers 5-95 %; outlined: other domain"
    if many:  # more than there are colours: each box has its name beside it
        ax.set_title(title, fontsize=9, loc="left")
        low, high = ax.get_xlim()
        ax.set_xlim(low, high + 0.15 * (high - low))
        return ax
    handles = [Patch(facecolor=f"{colour(i)}66", edgecolor=colour(i), label=name) for i, name in enumerate(models)]
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(models), 4),
        title=title, title_fontsize=9, alignment="left",
    )  # fmt: skip
    return ax


def _box(ax: Axes, numbers: Array, place: float, width: float, index: int, *, other: bool) -> None:
    """One horizontal box at height ``place``; drawn by hand because Matplotlib's own changed its keywords."""
    shade = colour(index)
    low, left, middle, right, high = (float(numbers[QUANTILES.index(q)]) for q in (5, 25, 50, 75, 95))
    for start, end in ((low, left), (right, high)):
        ax.plot([start, end], [place, place], color=shade, lw=1.2)
    for cap in (low, high):
        ax.plot([cap, cap], [place - 0.25 * width, place + 0.25 * width], color=shade, lw=1.2)
    face = "white" if other else f"{shade}66"
    ax.barh(place, right - left, height=width, left=left, facecolor=face, edgecolor=shade, linewidth=1.3, zorder=2)
    ax.plot([middle, middle], [place - 0.5 * width, place + 0.5 * width], color=INK, lw=1.6, zorder=3)


def _percentiles(error: Array) -> Array:
    return np.moveaxis(np.percentile(error, QUANTILES, axis=-1), 0, -1)
