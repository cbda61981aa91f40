"""Whom to believe: shift scores of the galaxies tested, and errors of those accepted against those flagged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bins import point_estimate
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.scores import Scores
from galineage.evaluation.style import INK, MUTED, axis_label, colour, curve_name, new_figure, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, percent, plus_minus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.bins import Point

    Array = NDArray[np.float64]

__all__ = ["EXPECTED", "Curve", "Shift", "compute", "draw", "has_shift", "judge"]

_EDGES = np.array([0.0, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, np.inf])
_WELL_FILLED = 20
_FEWEST = 50
EXPECTED = 0.05
"""Fraction flagged of galaxies like the training galaxies: `galineage.shift.FALSE_ALARMS`, whose room needs torch."""
_SHOWN = (0.4, 5.0)


@dataclass(frozen=True)
class Curve:
    """One test: scores, and root mean square errors by score.

    Attributes
    ----------
    label : str
        Estimator and ``train → test``.
    scores : array (n,)
        Shift scores, no unit; above 1 is flagged.
    flagged : (float, float)
        Fraction of galaxies flagged, and its bootstrap error.
    accepted_rmse, flagged_rmse : (float, float)
        Root mean square error of either group with its bootstrap error, in the target's unit or dex; NaN where empty.
    behind : (float, float)
        RMSE of the flagged minus that of the accepted, with its bootstrap error.
    accepted_held, flagged_held : float
        Fraction of truths in the 68 % intervals of either group; NaN where empty.
    edges : array (k + 1,)
        Bins of the score; the last one is open.
    count : array of int (k,)
        Galaxies in each bin.
    rmse, rmse_error : array (k,)
        Root mean square error in each bin and its bootstrap error, as above; NaN with fewer than 20 galaxies.
    """

    label: str
    scores: Array
    flagged: tuple[float, float]
    accepted_rmse: tuple[float, float]
    flagged_rmse: tuple[float, float]
    behind: tuple[float, float]
    accepted_held: float
    flagged_held: float
    edges: Array
    count: NDArray[np.int64]
    rmse: Array
    rmse_error: Array


@dataclass(frozen=True)
class Shift:
    """Scores and errors of one test or of several.

    Attributes
    ----------
    curves : tuple of Curve
        One for each test.
    target : str
        Field name.
    """

    curves: tuple[Curve, ...]
    target: str

    def to_table(self) -> Table:
        """Rows for the accepted, the flagged, and each bin of the score of each test; errors in the target's unit."""
        unit = target_unit(self.target)
        rows = [row for curve in self.curves for row in _rows(curve)]
        meanings = (
            ("test", "", "estimator and domains"),
            ("galaxies", "", "which galaxies: accepted (score up to 1), flagged (above), or a bin of the score"),
            ("score_low", "", "lower edge of the shift score"),
            ("score_high", "", "upper edge of the shift score; not a number where open"),
            ("n", "", "galaxies, or views of them"),
            ("rmse", unit, "root mean square error of the posterior mean"),
            ("rmse_error", unit, "bootstrap error of rmse"),
            ("coverage68", "", "fraction of truths in the 16-84 % interval"),
        )
        columns = [(name, [row[i] for row in rows], its, text) for i, (name, its, text) in enumerate(meanings)]
        return make_table(columns, {"target": self.target})


def has_shift(scores: Scores) -> bool:
    """Whether the scores know how unlike the training galaxies each galaxy is."""
    return scores.shift is not None


def compute(scores: Scores | Sequence[Scores], *, point: Point = "mean", n_boot: int = N_BOOT, seed: int = 0) -> Shift:
    """Compare errors of galaxies that the shift score accepts with those of galaxies that it flags.

    Parameters
    ----------
    scores : Scores or sequence of Scores
        One test or several of one target, with shift scores.
    point : {"mean", "median", "map"}
        Point estimate.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If there are no shift scores (the model's bundle has none), no galaxies, or targets differ.
    """
    several = [scores] if isinstance(scores, Scores) else list(scores)
    if not several or len({item.target for item in several}) > 1:
        raise DataError("there are no scores, or scores of different targets", expected="tests of one target")
    curves = tuple(_curve(item, point, n_boot, seed) for item in several)
    return Shift(curves, several[0].target)


def judge(result: Shift) -> Verdict:
    """Say how many galaxies are unlike the training galaxies, and whether the score tells the larger errors.

    Passes if, in every test, no more than twice the expected 5 % are flagged, allowing two errors, and those flagged do
    not have the smaller errors. Too few galaxies (50) never pass.
    """
    unit = target_unit(result.target)
    parts, kinds = [], []
    for curve in result.curves:
        kind, tells = _kind(curve)
        kinds.append(kind)
        whose = f"{curve.label}: " if len(result.curves) > 1 else ""
        sentence = f"{whose}{percent(*curve.flagged)} of the galaxies are flagged ({100 * EXPECTED:g} % expected)"
        if np.isfinite(curve.behind[0]):
            sentence += (
                f"; RMSE {plus_minus(*curve.accepted_rmse, unit)} of the accepted, "
                f"{plus_minus(*curve.flagged_rmse, unit)} of the flagged "
                f"(difference {plus_minus(*curve.behind, unit, sign=True)}: {tells})"
            )
        parts.append(f"{sentence}: {kind}")
    passed = all(kind == "like the training galaxies" for kind in kinds)
    distinct = list(dict.fromkeys(kinds))
    return Verdict(". ".join(parts) + ".", passed=passed, kind=distinct[0] if len(distinct) == 1 else "mixed")


@styled
def draw(result: Shift, ax: Figure | SubFigure | Sequence[Axes] | None = None) -> tuple[Axes, Axes]:
    """Draw histograms of the score with the flag's line above, errors against the score below.

    Parameters
    ----------
    result : Shift
    ax : Figure, SubFigure or two axes, optional
        Where to draw; a new figure if left out.

    Returns
    -------
    upper, lower : Axes
    """
    upper, lower = _two_axes(ax)
    bins = np.geomspace(*_SHOWN, 41).tolist()
    for i, curve in enumerate(result.curves):
        inside = np.clip(curve.scores, _SHOWN[0] * 1.0001, _SHOWN[1] * 0.9999)
        weights = np.full(len(inside), 100 / len(inside))
        label = f"{curve.label}: {100 * curve.flagged[0]:.0f} % flagged"
        upper.hist(inside, bins, weights=weights, histtype="step", color=colour(i), lw=1.6, label=label)
        filled = np.isfinite(curve.rmse)
        middle = _middles(curve.edges)
        lower.errorbar(
            middle[filled], curve.rmse[filled], np.nan_to_num(curve.rmse_error[filled]), color=colour(i), marker="o",
            ms=4, capsize=2, elinewidth=1,
        )  # fmt: skip
    for panel in (upper, lower):
        panel.axvline(1, color=INK, ls="--", lw=1)
        panel.axvspan(1, _SHOWN[1], color=MUTED, alpha=0.25, lw=0)
        panel.set_xscale("log")
        panel.set_xlim(*_SHOWN)
    upper.text(1.03, 0.97, "flagged", transform=upper.get_xaxis_transform(), va="top", fontsize=9.5)
    upper.text(0.97, 0.97, "accepted", transform=upper.get_xaxis_transform(), va="top", ha="right", fontsize=9.5)
    upper.set_ylim(top=1.15 * upper.get_ylim()[1])
    ticks = [0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5]
    lower.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    lower.set_xticks([], minor=True)
    lower.set_ylim(bottom=0)
    upper.tick_params(labelbottom=False)
    upper.set_ylabel("Galaxies [%]")
    lower.set_ylabel(f"RMS error of {axis_label(result.target)}")
    lower.set_xlabel("Shift score (distance to the training galaxies; 5 % of their like lie above 1)")
    upper.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1 if len(result.curves) < 3 else 2, fontsize=9)
    return upper, lower


def _two_axes(ax: Figure | SubFigure | Sequence[Axes] | None) -> tuple[Axes, Axes]:
    figure: Any = new_figure(7.0, 5.8) if ax is None else ax
    if hasattr(figure, "add_gridspec"):
        grid = figure.add_gridspec(2, 1, hspace=0.03)
        upper = figure.add_subplot(grid[0])
        return upper, figure.add_subplot(grid[1], sharex=upper)
    upper, lower = figure
    return upper, lower


def _middles(edges: Array) -> Array:
    """Where to put the point of each bin on a logarithmic axis; the open ends lie at the border of the figure."""
    shown = np.clip(edges, _SHOWN[0], _SHOWN[1])
    return np.sqrt(shown[1:] * shown[:-1])


def _curve(item: Scores, point: Point, n_boot: int, seed: int) -> Curve:
    if item.shift is None:
        raise DataError(
            "these scores hold no shift scores",
            where=curve_name(item.model, item.label),
            advice="train the model again: bundles of format 1 have no score",
        )
    shift, square = item.shift, (point_estimate(item, point) - item.truth) ** 2
    held = (item.p16 <= item.truth) & (item.truth <= item.p84)
    out = (shift > 1).astype(float)
    replicates = bootstrap(_groups, square, out, n_boot=n_boot, seed=seed, galaxies=item.ids)
    values, errors = _groups(square[None], out[None])[0], spread(replicates, len(np.unique(item.ids)))
    which = np.searchsorted(_EDGES, shift, side="left") - 1
    count = np.bincount(which.clip(0), minlength=len(_EDGES) - 1)
    rmse, rmse_error = np.full(len(count), np.nan), np.full(len(count), np.nan)
    for i in np.flatnonzero(count >= _WELL_FILLED):
        here = which.clip(0) == i
        part, whose = square[here], item.ids[here]
        rmse[i] = np.sqrt(part.mean())
        replicates = bootstrap(_root_mean, part, n_boot=n_boot, seed=seed, galaxies=whose)
        rmse_error[i] = spread(replicates, len(np.unique(whose)))
    flagged, accepted_rmse, flagged_rmse, behind = (
        (float(value), float(error)) for value, error in zip(values, errors, strict=True)
    )
    return Curve(
        label=curve_name(item.model, item.label) or "model",
        scores=shift,
        flagged=flagged,
        accepted_rmse=accepted_rmse,
        flagged_rmse=flagged_rmse,
        behind=behind,
        accepted_held=_mean(held[out == 0]),
        flagged_held=_mean(held[out == 1]),
        edges=_EDGES,
        count=count,
        rmse=rmse,
        rmse_error=rmse_error,
    )


def _groups(square: Array, out: Array) -> Array:
    """Fraction flagged, RMSE accepted and flagged, their difference: (b, 4) from (b, n); NaN where a group is empty."""
    n = out.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        flagged = np.sqrt((square * out).sum(axis=-1) / n)
        accepted = np.sqrt((square * (1 - out)).sum(axis=-1) / (out.shape[-1] - n))
    return np.stack([out.mean(axis=-1), accepted, flagged, flagged - accepted], axis=-1)


def _root_mean(square: Array) -> Array:
    return np.asarray(np.sqrt(square.mean(axis=-1)))


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _kind(curve: Curve) -> tuple[str, str]:
    """Say what the galaxies are, and what their errors tell of the score."""
    difference, error = curve.behind[0], float(np.nan_to_num(curve.behind[1]))
    tells = "no difference can be seen"
    if abs(difference) > 2 * error and error > 0:
        tells = "the flag tells the larger errors" if difference > 0 else "the flagged have the smaller errors"
    if len(curve.scores) < _FEWEST:
        return "too few galaxies to tell", tells
    fraction, its_error = curve.flagged
    if fraction - 2 * float(np.nan_to_num(its_error)) > 2 * EXPECTED:
        return "unlike the training galaxies", tells
    wrong = tells == "the flagged have the smaller errors"
    return ("the score does not tell" if wrong else "like the training galaxies"), tells


def _rows(curve: Curve) -> list[tuple[Any, ...]]:
    low, high = curve.edges[:-1], np.where(np.isfinite(curve.edges[1:]), curve.edges[1:], np.nan)
    n, out = len(curve.scores), int((curve.scores > 1).sum())
    rows: list[tuple[Any, ...]] = [
        (curve.label, "accepted", 0.0, 1.0, n - out, *curve.accepted_rmse, curve.accepted_held),
        (curve.label, "flagged", 1.0, np.nan, out, *curve.flagged_rmse, curve.flagged_held),
    ]
    for i, count in enumerate(curve.count):
        rows.append((curve.label, "bin", low[i], high[i], int(count), curve.rmse[i], curve.rmse_error[i], np.nan))
    return rows
