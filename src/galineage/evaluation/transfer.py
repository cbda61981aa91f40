"""Train on one domain, test on another: every combination in one matrix per metric."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation import accuracy
from galineage.evaluation.bootstrap import N_BOOT
from galineage.evaluation.calibration import TOLERANCE
from galineage.evaluation.style import DIVERGING, INK, SEQUENTIAL, WIDTH, new_figure, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, percent, plus_minus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.bins import Point
    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["PANELS", "Transfer", "compute", "draw", "judge"]

PANELS: Mapping[str, str] = MappingProxyType(
    {
        "bias_median": "Median error",
        "scatter": "Scatter (half 16-84 %)",
        "rmse": "RMSE",
        "r2": "R²",
        "coverage68": "Truth in 68 % interval",
    }
)
"""Metrics of the matrix and their panel titles, in order."""

_NOMINAL = 0.68
"""Probability of the 16-84 % interval, whose coverage is ``coverage68``."""


@dataclass(frozen=True)
class Transfer:
    """Metrics for every pair of training and test domain.

    Attributes
    ----------
    train, test : tuple of str
        Row and column labels, in order of appearance; domains that are both come first and in the same order.
    values : mapping of metric name to (value, error)
        Keys of `PANELS`; each array has shape (rows, columns), NaN where a pair was not tested. Errors by bootstrap.
        Units as in `galineage.evaluation.accuracy.METRICS`.
    n : array of int (rows, columns)
        Galaxies tested, 0 where a pair was not.
    model, target : str
        Estimator and field name.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    values: Mapping[str, tuple[Array, Array]]
    n: NDArray[np.int64]
    model: str
    target: str

    def to_table(self) -> Table:
        """One row per tested pair."""
        unit = target_unit(self.target)
        rows, columns = np.nonzero(self.n)
        made: list[tuple[str, Any, str, str]] = [
            ("train", np.array(self.train)[rows], "", "training domain"),
            ("test", np.array(self.test)[columns], "", "test domain"),
            ("n", self.n[rows, columns], "", "galaxies, or views of them"),
        ]
        for name, (value, error) in self.values.items():
            its_unit = unit if name in ("bias_median", "scatter", "rmse") else ""
            made += [
                (name, value[rows, columns], its_unit, accuracy.METRICS[name]),
                (f"{name}_error", error[rows, columns], its_unit, f"bootstrap error of {name}"),
            ]
        return make_table(made, {"model": self.model, "target": self.target})


def compute(
    scores: Sequence[Scores],
    *,
    model: str | None = None,
    point: Point = "mean",
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Transfer:
    """Compute the matrix of bias, scatter, RMSE, R2 and coverage.

    Parameters
    ----------
    scores : sequence of Scores
        One per (train, test) pair, labelled.
    model : str, optional
        Use the scores of this model only; needed if there are several.
    point : {"mean", "median", "map"}
        Point estimate.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If nothing is left, one is empty, targets differ, or a pair comes twice.
    """
    chosen = [item for item in scores if model is None or item.model == model]
    if not chosen:
        known = ", ".join(sorted({item.model for item in scores})) or "none"
        raise DataError(f"there are no scores of model {model!r}", expected=f"one of: {known}")
    pairs = [(item.train, item.test) for item in chosen]
    if len(set(pairs)) < len(pairs):
        raise DataError(
            "a pair of training and test domain comes twice",
            where=", ".join(sorted({f"{a} → {b}" for a, b in pairs if pairs.count((a, b)) > 1})),
            advice="choose one model with model=..., and join the folds of one test first",
        )
    if len({item.target for item in chosen}) > 1:
        raise DataError("scores of different targets cannot share a matrix")
    train, test = _order([a for a, _ in pairs], [b for _, b in pairs])
    shape = len(train), len(test)
    values = {name: (np.full(shape, np.nan), np.full(shape, np.nan)) for name in PANELS}
    n = np.zeros(shape, dtype=np.int64)
    for item in chosen:
        at = train.index(item.train), test.index(item.test)
        result = accuracy.compute(item, point=point, truth_bins=1, mass_bins=1, n_boot=n_boot, seed=seed)
        n[at] = result.n
        for name, (value, error) in values.items():
            value[at], error[at] = result.values[name]
    return Transfer(train, test, MappingProxyType(values), n, chosen[0].model, chosen[0].target)


def judge(result: Transfer, *, tolerance: float = 1.25, coverage: float = TOLERANCE) -> Verdict:
    """Say which pairs transfer.

    A pair transfers if its RMSE is at most ``tolerance`` times that of the test domain's own model (of the best model,
    where it has none), and its 68 % interval holds the truth within ``coverage`` of what it promises, both allowing two
    bootstrap errors. Passes if all do.
    """
    cells = [
        (i, j) for i, a in enumerate(result.train) for j, b in enumerate(result.test) if a != b and result.n[i, j] > 0
    ]
    if not cells:
        return Verdict("No model was tested outside its own domain.", passed=False, kind="not tested")
    rated = [(*_rate(result, i, j, tolerance, coverage), _describe(result, i, j)) for i, j in cells]
    good = sorted((worst, text) for worst, fine, text in rated if fine)
    bad = sorted(((worst, text) for worst, fine, text in rated if not fine), reverse=True)
    sentence = f"{len(good)} of {len(rated)} transfers hold"
    if good:
        sentence += f": {_listed([text for _, text in good], bool(bad))}"
    if bad:
        sentence += f"; it fails for {_listed([text for _, text in bad], bool(good))}"
    return Verdict(f"{sentence}.", passed=not bad, kind="all hold" if not bad else "some fail")


@styled
def draw(result: Transfer, ax: Figure | SubFigure | Axes | Sequence[Axes] | None = None) -> list[Axes]:
    """Draw one annotated heat map per metric; training domains down, test domains across, blank where not tested.

    Parameters
    ----------
    result : Transfer
    ax : Figure, SubFigure or five axes, optional
        Where to draw; a new figure if left out.

    Returns
    -------
    list of Axes
        In the order of `PANELS`.
    """
    size = max(len(result.train), len(result.test))
    across = 3 if size <= 3 else 2
    down = -(-len(PANELS) // across)
    if ax is None:
        each = WIDTH / across
        figure: Any = new_figure(WIDTH, down * (each * len(result.train) / max(len(result.test), 2) + 0.35))
    else:
        figure = ax
    axes = list(figure.subplots(down, across).flat) if hasattr(figure, "subplots") else list(figure)
    for spare in axes[len(PANELS) :]:
        spare.set_axis_off()
    for k, (name, title) in enumerate(PANELS.items()):
        _heat(axes[k], result, name, title, first=k % across == 0)
    return axes[: len(PANELS)]


def _order(trains: Sequence[str], tests: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    rows, columns = list(dict.fromkeys(trains)), list(dict.fromkeys(tests))
    both = [name for name in rows if name in columns]
    return (
        (*both, *(name for name in rows if name not in both)),
        (*both, *(name for name in columns if name not in both)),
    )


def _home(result: Transfer, j: int) -> int:
    """Row of the test domain's own model, of the best model where it has none."""
    name = result.test[j]
    if name in result.train and result.n[result.train.index(name), j]:
        return result.train.index(name)
    return int(np.nanargmin(result.values["rmse"][0][:, j]))


def _rate(result: Transfer, i: int, j: int, tolerance: float, coverage: float) -> tuple[float, bool]:
    """How bad a pair is (1 is at the limit) and whether it transfers."""
    rmse, rmse_error = (part[:, j] for part in result.values["rmse"])
    k = _home(result, j)
    slack = 2 * float(np.hypot(*np.nan_to_num([rmse_error[i], tolerance * rmse_error[k]])))
    limit = tolerance * rmse[k] + slack
    held, held_error = (float(part[i, j]) for part in result.values["coverage68"])
    worst = max(
        float(rmse[i] / limit) if limit > 0 else float(rmse[i] > 0),
        abs(held - _NOMINAL) / (coverage + 2 * float(np.nan_to_num(held_error))),
    )
    return worst, worst <= 1


def _describe(result: Transfer, i: int, j: int) -> str:
    unit = target_unit(result.target)
    bias, rmse, held = (
        (float(result.values[name][0][i, j]), float(result.values[name][1][i, j]))
        for name in ("bias_median", "rmse", "coverage68")
    )
    own = float(result.values["rmse"][0][_home(result, j), j])
    times = f" = {rmse[0] / own:.2f} times the reference" if own > 0 else ""
    return (
        f"{result.train[i]} → {result.test[j]} (bias {plus_minus(*bias, unit, sign=True)}, "
        f"RMSE {plus_minus(*rmse, unit)}{times}, 68 % intervals hold {percent(*held)})"
    )


def _listed(texts: list[str], short: bool) -> str:
    """Join the first two, or three if alone, and say how many more there are."""
    keep = 2 if short else 3
    rest = len(texts) - keep
    return ", ".join(texts[:keep]) + (f" and {rest} more" if rest > 0 else "")


def _heat(ax: Axes, result: Transfer, name: str, title: str, *, first: bool) -> None:
    value, error = result.values[name]
    low, high, shades = _range(name, value)
    image = ax.imshow(np.ma.masked_invalid(value), vmin=low, vmax=high, cmap=shades, aspect="auto")
    size = max(value.shape)
    letters = {1: 11.0, 2: 11.0, 3: 9.5, 4: 9.5, 5: 8.5}.get(size, 7.5)
    for i, j in zip(*np.nonzero(result.n), strict=True):
        red, green, blue, _ = image.cmap(image.norm(value[i, j]))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
        text = _cell_text(float(value[i, j]), float(error[i, j]), "+" if name == "bias_median" else "")
        ax.text(j, i, text, ha="center", va="center", fontsize=letters, color="white" if dark else INK)
    unit = target_unit(result.target) if name in ("bias_median", "scatter", "rmse") else ""
    ax.set_title(f"{title} [{unit}]" if unit else title)
    ax.set_xticks(range(len(result.test)), result.test, rotation=30 if size > 3 else 20, ha="right", fontsize=8.5)
    ax.set_yticks(range(len(result.train)), result.train if first else [""] * len(result.train), fontsize=8.5)
    ax.tick_params(length=0)
    ax.set_xlabel("tested on")
    if first:
        ax.set_ylabel("trained on")


def _cell_text(value: float, error: float, sign: str) -> str:
    """Value over error with one digit of the error, three decimals at most: cells are small."""
    if not np.isfinite(error) or error <= 0:
        return f"{value:{sign}.3g}"
    digits = int(np.clip(-np.floor(np.log10(error)), 0, 3))
    return f"{value:{sign}.{digits}f}\n±{error:.{digits}f}"


def _range(name: str, value: Array) -> tuple[float, float, str]:
    """Colour range and map: centred where a number can be too low and too high."""
    finite = value[np.isfinite(value)]
    if name in ("bias_median", "coverage68"):
        centre = _NOMINAL if name == "coverage68" else 0.0
        reach = max(float(np.abs(finite - centre).max(initial=0.0)), 1e-3)
        return centre - reach, centre + reach, DIVERGING
    shades = SEQUENTIAL if name == "r2" else f"{SEQUENTIAL}_r"
    low, high = float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))
    return (low, high, shades) if high > low else (low - 0.5, low + 0.5, shades)
