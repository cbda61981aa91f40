"""Every target's error in the measures of Eisert+2023 and 2026, and its width: the table of a joint model."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.scores import Scores
from galineage.evaluation.style import INK, MUTED, axis_label, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, plus_minus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["CLOSE", "METRICS", "TargetErrors", "compute", "draw", "judge"]

CLOSE: Mapping[str, float] = MappingProxyType(
    {"f_ex": 0.1, "mu_mean_merger": 0.1, "t_last_major": 1.0, "t_mean_merger": 1.0, "mstar_last_major": 0.5}
)
"""What counts as close, in the target's unit or dex: 0.1 of f_ex and 0.5 dex as Eisert+2026 state their errors."""

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "close": "fraction of galaxies whose posterior median is close to the truth",
        "close_map": "fraction of galaxies whose posterior mode is close to the truth",
        "mae": "mean absolute value of posterior median - truth",
        "bias": "median of posterior median - truth",
        "nmad": "1.4826 times the median absolute deviation of posterior median - truth from its median",
        "r2": "1 - sum of squared errors of the posterior mean / sum of squares of truth about its mean",
        "ratio": "mean posterior standard deviation over that of the truth; 1 if nothing was learned",
        "in68": "fraction of truths inside the 16-84 % interval (expected 0.68)",
        "in95": "fraction of truths inside the 2.5-97.5 % interval (expected 0.95)",
    }
)
"""Name and meaning of every number, in the order of tables."""

_IN_UNIT = frozenset({"mae", "bias", "nmad"})


@dataclass(frozen=True)
class TargetErrors:
    """Errors of several tests, one row each.

    Attributes
    ----------
    values, errors : mapping of metric name to array (k,)
        Keys of `METRICS`, and their bootstrap errors over galaxies.
    n : array of int (k,)
        Galaxies in which the target is defined.
    targets, models, trains, tests : tuple of str, length k
        Field name of the target, estimator, domain trained on, domain tested on.
    """

    values: Mapping[str, Array]
    errors: Mapping[str, Array]
    n: NDArray[np.int64]
    targets: tuple[str, ...]
    models: tuple[str, ...]
    trains: tuple[str, ...]
    tests: tuple[str, ...]

    def to_table(self) -> Table:
        """One row per test and target; numbers with a unit are in that of the row (column ``unit``)."""
        columns = [
            ("target", list(self.targets), "", "field name"),
            ("model", list(self.models), "", "estimator"),
            ("train", list(self.trains), "", "trained on"),
            ("test", list(self.tests), "", "tested on"),
            ("n", self.n, "", "galaxies in which the target is defined"),
            ("unit", [target_unit(name) or "-" for name in self.targets], "", "unit of mae, bias, nmad and close_is"),
            ("close_is", [CLOSE.get(name, np.nan) for name in self.targets], "", "largest error that counts as close"),
        ]
        for name, meaning in METRICS.items():
            note = " (unit of the row)" if name in _IN_UNIT else ""
            columns += [
                (name, self.values[name], "", meaning + note),
                (f"{name}_error", self.errors[name], "", f"bootstrap error of {name}"),
            ]
        return make_table(columns)


def compute(scores: Sequence[Scores] | Scores, *, n_boot: int = N_BOOT, seed: int = 0) -> TargetErrors:
    """Compute every number with its bootstrap error.

    Parameters
    ----------
    scores : Scores or sequence of Scores
        Tests, any targets.
    n_boot, seed : int
        Bootstrap resamples and their seed.

    Raises
    ------
    DataError
        If there are no tests, or one is empty.
    """
    tests = [scores] if isinstance(scores, Scores) else list(scores)
    if not tests:
        raise DataError("there are no tests to compare")
    values, errors = np.full((2, len(METRICS), len(tests)), np.nan)
    for i, item in enumerate(tests):
        close = CLOSE.get(item.target, np.nan)
        columns = np.stack([item.p50 - item.truth, item.map - item.truth, item.mean - item.truth, item.truth, item.std])
        inside = [
            (low <= item.truth) & (item.truth <= high) for low, high in ((item.p16, item.p84), (item.p025, item.p975))
        ]
        columns = np.concatenate([columns, np.stack(inside)])
        replicates = bootstrap(
            lambda *parts, limit=close: _statistics(np.stack(parts), limit),
            *columns,
            n_boot=n_boot,
            seed=seed,
            galaxies=item.ids,
        )  # type: ignore[misc]
        values[:, i], errors[:, i] = _statistics(columns, close), spread(replicates, len(item))
    return TargetErrors(
        values=MappingProxyType({name: values[k] for k, name in enumerate(METRICS)}),
        errors=MappingProxyType({name: errors[k] for k, name in enumerate(METRICS)}),
        n=np.array([len(item) for item in tests]),
        targets=tuple(item.target for item in tests),
        models=tuple(item.model for item in tests),
        trains=tuple(item.train for item in tests),
        tests=tuple(item.test for item in tests),
    )


def judge(result: TargetErrors) -> Verdict:
    """Name the best and the least determined target by width ratio; passes if every 68 % interval holds 63 to 73 %.

    Intervals within three errors of 68 % pass too.
    """
    ratio, inside = result.values["ratio"], result.values["in68"]
    best, worst = int(np.argmin(ratio)), int(np.argmax(ratio))
    off = np.abs(inside - 0.68) > np.maximum(0.05, 3 * np.nan_to_num(result.errors["in68"]))
    parts = [
        f"{result.targets[i]} ({result.models[i]}, {result.trains[i]} → {result.tests[i]}: "
        f"{plus_minus(float(ratio[i]), float(result.errors['ratio'][i]))} of the prior)"
        for i in dict.fromkeys((best, worst))
    ]
    text = f"Best determined is {parts[0]}" + (f", least {parts[1]}" if len(parts) > 1 else "")
    if off.any():
        far = int(np.argmax(np.abs(inside - 0.68)))
        text += (
            f"; 68 % intervals of {int(off.sum())} of {len(off)} tests are off, most for {result.targets[far]} "
            f"({result.models[far]}, {result.trains[far]} → {result.tests[far]}: {100 * inside[far]:.0f} %)"
        )
    else:
        text += "; 68 % intervals hold in every test"
    return Verdict(f"{text}.", passed=not off.any(), kind="intervals off" if off.any() else "intervals hold")


@styled
def draw(result: TargetErrors, ax: Axes | None = None) -> Axes:
    """Draw posterior over prior width of every target: a colour for each model, a marker for each pair of domains.

    Pairs have colours where there is one model. 1 means nothing learned.
    """
    names = list(dict.fromkeys(result.targets))
    groups = list(dict.fromkeys(zip(result.models, result.trains, result.tests, strict=True)))
    models = list(dict.fromkeys(result.models))
    pairs = list(dict.fromkeys(zip(result.trains, result.tests, strict=True)))
    ax = new_axes(ax, 8.2, 1.3 + 0.2 * len(names) * (1.5 + len(groups)))
    several = len(models) > 1
    for g, (model, train, test) in enumerate(groups):
        where = f"{train} → {test}" if train != test else train
        label = f"{model}: {where}" if several else where
        rows = [
            i for i, key in enumerate(zip(result.models, result.trains, result.tests, strict=True)) if key == groups[g]
        ]
        y = [names.index(result.targets[i]) + 0.7 * ((g + 0.5) / len(groups) - 0.5) for i in rows]
        x, bars = result.values["ratio"][rows], np.nan_to_num(result.errors["ratio"][rows])
        pair = pairs.index((train, test))
        shade = colour(models.index(model) if several else pair)
        ax.errorbar(x, y, xerr=bars, fmt="os^Dv<>"[pair % 7], ms=6, capsize=2, color=shade, label=label)
    ax.axvline(1, color=INK, ls="--", lw=1.2)
    ax.axvspan(0.95, 1.0, color=MUTED, alpha=0.4, lw=0)
    ax.text(0.945, -0.58, "nearly nothing learned", ha="right", va="center", fontsize=9, color="#666666")
    ax.set_yticks(range(len(names)), [axis_label(name) for name in names])
    ax.set(xlim=(0, max(1.08, 1.08 * float(np.nanmax(result.values["ratio"])))), ylim=(len(names) - 0.5, -0.75))
    ax.grid(axis="y", color=MUTED, alpha=0)
    ax.set_xlabel("Posterior / prior standard deviation")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def _statistics(columns: Array, close: float) -> Array:
    """Every metric from (7, ..., n) columns; shape (..., metrics)."""
    error, mode, mean, truth, std, in68, in95 = columns
    away = error - np.median(error, axis=-1, keepdims=True)
    width = truth.std(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(width > 0, 1 - (mean**2).mean(axis=-1) / width**2, np.nan)
        ratio = np.where(width > 0, std.mean(axis=-1) / width, np.nan)
    return np.stack(
        [
            (np.abs(error) <= close).mean(axis=-1) if close > 0 else np.full(width.shape, np.nan),
            (np.abs(mode) <= close).mean(axis=-1) if close > 0 else np.full(width.shape, np.nan),
            np.abs(error).mean(axis=-1),
            np.median(error, axis=-1),
            1.4826 * np.median(np.abs(away), axis=-1),
            r2,
            ratio,
            in68.mean(axis=-1),
            in95.mean(axis=-1),
        ],
        axis=-1,
    )
