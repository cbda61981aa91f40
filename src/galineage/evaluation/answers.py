"""A reader's first questions in one figure: inside, across, which inputs, error bars, whom to believe."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.evaluation.answer_drawing import draw
from galineage.evaluation.answer_sentences import judge
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.tabulate import make_table, target_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from numpy.typing import NDArray

    from galineage.evaluation.scores import Scores

    Array = NDArray[np.float64]

__all__ = ["METRICS", "Answers", "Trial", "compute", "draw", "judge"]

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "rmse": "root mean square error of posterior means",
        "r2": "1 - sum of squared errors / sum of squares of truth about its mean",
        "bias": "median error of posterior medians",
        "coverage68": "fraction of truths inside the 16-84 % interval",
        "coverage95": "fraction of truths inside the 2.5-97.5 % interval",
        "flagged": "fraction of rows whose shift score is above 1",
        "rmse_accepted": "root mean square error of rows that are not flagged",
        "rmse_flagged": "root mean square error of flagged rows",
        "flag_gap": "rmse_flagged - rmse_accepted",
        "worse": "rmse over that of the same model trained in the domain tested",
    }
)
"""Name and meaning of every number of one test."""

_RANGE = 2.5, 97.5

_IN_TARGET_UNIT = frozenset({"rmse", "bias", "rmse_accepted", "rmse_flagged", "flag_gap"})


@dataclass(frozen=True)
class Trial:
    """One model, trained in one domain and tested in one.

    Attributes
    ----------
    model, train, test : str
        Estimator; trained on; tested on.
    rows, galaxies : int
        Rows tested, and galaxies that they are views of.
    values : mapping of str to (value, error)
        By the keys of `METRICS`, with errors by bootstrap over galaxies; in the target's unit or none. NaN where there
        is nothing to tell: no shift scores, nobody flagged, no such model for ``worse``, whose resamples are of the
        same galaxies as those of that model, if both tested the same rows.
    between : mapping of str to (low, high)
        The middle 95 % of the resamples of the same numbers; it decides what is told apart, since a few galaxies far
        off make the errors of an RMSE lopsided.
    """

    model: str
    train: str
    test: str
    rows: int
    galaxies: int
    values: Mapping[str, tuple[float, float]]
    between: Mapping[str, tuple[float, float]]

    @property
    def within(self) -> bool:
        """Whether it was tested in its own domain."""
        return self.train == self.test

    @property
    def pair(self) -> str:
        """``train → test``."""
        return f"{self.train} → {self.test}"


@dataclass(frozen=True)
class Answers:
    """Every test, and the models ranked by how they cross.

    Attributes
    ----------
    tests : tuple of Trial
        In the order given.
    main : str
        The model that the first answers are about.
    ranked : tuple of str, length m
        Models, the one with the smallest ``error`` first.
    error, error_error : array (m,)
        Root mean square of a model's RMSE over its tests across domains (inside, if there are none), each test counted
        once, and its bootstrap error; in the target's unit.
    offset, offset_error : array (m,)
        Mean over the same tests of the size of the bias, and its bootstrap error; in the target's unit. Noise makes it
        larger than zero where there is no bias.
    behind, behind_error, behind_low : array (m,)
        ``error`` minus that of the first, its bootstrap error and the 2.5th percentile of its resamples, which are of
        the same galaxies where both tested the same.
    more, more_error, more_low : array (m,)
        The same of ``offset`` minus the smallest one.
    crossed : bool
        Whether there are tests across domains.
    target : str
        Field name.
    """

    tests: tuple[Trial, ...]
    main: str
    ranked: tuple[str, ...]
    error: Array
    error_error: Array
    offset: Array
    offset_error: Array
    behind: Array
    behind_error: Array
    behind_low: Array
    more: Array
    more_error: Array
    more_low: Array
    crossed: bool
    target: str

    @property
    def level(self) -> tuple[str, ...]:
        """Models that are not told from the smallest cross error in 97.5 % of the resamples; the first is one."""
        return self._near(self.behind_low)

    @property
    def unbiased(self) -> tuple[str, ...]:
        """Models that are not told from the smallest cross bias in 97.5 % of the resamples."""
        return self._near(self.more_low)

    def _near(self, low: Array) -> tuple[str, ...]:
        return tuple(name for name, least in zip(self.ranked, low, strict=True) if not least > 0)

    def of(self, model: str, *, within: bool) -> tuple[Trial, ...]:
        """Return the tests of a model, inside or across domains, in the order given."""
        return tuple(item for item in self.tests if item.model == model and item.within == within)

    def to_table(self) -> Table:
        """One row per test, models in the order of their rank; the rank and its numbers are repeated in each row."""
        unit = target_unit(self.target)
        place = {name: k for k, name in enumerate(self.ranked)}
        rows = sorted(self.tests, key=lambda item: place[item.model])
        where = np.array([place[item.model] for item in rows])
        columns: list[tuple[str, Any, str, str]] = [
            ("rank", where + 1, "", "place of the model by cross_error, the smallest first"),
            ("model", [item.model for item in rows], "", "estimator and its inputs"),
            ("train", [item.train for item in rows], "", "trained on"),
            ("test", [item.test for item in rows], "", "tested on"),
            ("rows", [item.rows for item in rows], "", "rows tested: galaxies, or views of them"),
            ("galaxies", [item.galaxies for item in rows], "", "galaxies tested"),
        ]
        for name, meaning in METRICS.items():
            its = unit if name in _IN_TARGET_UNIT else ""
            value, error = (np.array([item.values[name][i] for item in rows]) for i in (0, 1))
            columns += [(name, value, its, meaning), (f"{name}_error", error, its, f"bootstrap error of {name}")]
        for name, numbers, meaning in (
            ("cross_error", self.error, "root mean square of the model's rmse over its tests across domains"),
            ("cross_error_error", self.error_error, "bootstrap error of cross_error"),
            ("cross_error_behind", self.behind, "cross_error minus that of the first rank"),
            ("cross_error_behind_error", self.behind_error, "bootstrap error of cross_error_behind"),
            ("cross_bias", self.offset, "mean size of the model's bias over its tests across domains"),
            ("cross_bias_error", self.offset_error, "bootstrap error of cross_bias"),
            ("cross_bias_behind", self.more, "cross_bias minus the smallest one"),
            ("cross_bias_behind_error", self.more_error, "bootstrap error of cross_bias_behind"),
        ):
            columns.append((name, numbers[where], unit, meaning))
        return make_table(columns, {"target": self.target, "main": self.main})


def compute(tests: Sequence[Scores], *, main: str = "", n_boot: int = N_BOOT, seed: int = 0) -> Answers:
    """Measure every test, and compare the models on the galaxies that they share.

    Parameters
    ----------
    tests : sequence of Scores
        Any number of models and pairs of domains, labelled, of one target; rows of one identifier are one galaxy.
    main : str
        The model that the first answers are about. Default: the first one's.
    n_boot, seed : int
        Bootstrap resamples and their seed. Resamples of two models are of the same galaxies if both tested the same
        rows of a domain.

    Returns
    -------
    Answers

    Raises
    ------
    DataError
        If there are no tests, one is empty, targets differ, or a model has two tests of one pair.
    ConfigError
        If there is no test of ``main``.
    """
    _check(tests)
    models = tuple(dict.fromkeys(item.model for item in tests))
    main = main or models[0]
    if main not in models:
        raise ConfigError(f"there is no test of {main!r}", expected="one of " + ", ".join(models))
    domains = list(dict.fromkeys(item.test for item in tests))
    ordered = [item.select(np.argsort(item.ids, kind="stable")) for item in tests]
    measured = [_measured(item, n_boot, seed + domains.index(item.test)) for item in ordered]
    both = list(zip(tests, measured, strict=True))
    own = {(item.model, item.test): found for item, found in both if item.train == item.test}
    compared = [_compared(found, own.get((item.model, item.test))) for item, found in both]
    made = tuple(_test(item, found) for item, found in zip(tests, compared, strict=True))
    return _ranked(made, compared, models, main, tests[0].target)


_Measured = tuple["Array", "Array"]
"""Numbers of one test (k,) and of each of its resamples (n_boot, k), in the order of `METRICS`."""


def _check(tests: Sequence[Scores]) -> None:
    if not tests or len({item.target for item in tests}) > 1:
        raise DataError(f"{len(tests)} tests of different targets", expected="tests of one target")
    seen = [(item.model, item.train, item.test) for item in tests]
    if len(set(seen)) < len(seen):
        twice = next(name for name in seen if seen.count(name) > 1)
        raise DataError(f"two tests of {twice[0]!r}, {twice[1]} → {twice[2]}", expected="one for each model and pair")
    for item in tests:
        if len(item) == 0:
            raise DataError("a test holds no galaxies", where=f"{item.model}, {item.label}")


def _measured(item: Scores, n_boot: int, seed: int) -> _Measured:
    nothing = np.full(len(item), np.nan)
    columns = (
        item.mean - item.truth,
        item.truth,
        item.p50 - item.truth,
        ((item.p16 <= item.truth) & (item.truth <= item.p84)).astype(float),
        ((item.p025 <= item.truth) & (item.truth <= item.p975)).astype(float),
        nothing if item.shift is None else (item.shift > 1).astype(float),
    )
    replicates = bootstrap(_statistics, *columns, n_boot=n_boot, seed=seed, galaxies=item.ids)
    return _statistics(*(column[None] for column in columns))[0], replicates


def _statistics(error: Array, truth: Array, low: Array, in68: Array, in95: Array, out: Array) -> Array:
    """Every number of `METRICS` from columns (b, n); shape (b, k)."""
    square = error**2
    count = out.sum(axis=-1)
    varied = truth.max(axis=-1) > truth.min(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(varied, 1 - square.mean(axis=-1) / truth.var(axis=-1), np.nan)
        flagged = np.sqrt((square * out).sum(axis=-1) / count)
        accepted = np.sqrt((square * (1 - out)).sum(axis=-1) / (out.shape[-1] - count))
    return np.stack(
        [
            np.sqrt(square.mean(axis=-1)),
            r2,
            np.median(low, axis=-1),
            in68.mean(axis=-1),
            in95.mean(axis=-1),
            out.mean(axis=-1),
            accepted,
            flagged,
            flagged - accepted,
        ],
        axis=-1,
    )


def _compared(found: _Measured, own: _Measured | None) -> _Measured:
    """Put the error in units of that of training in the domain tested behind the other numbers."""
    joined = []
    for numbers, theirs in zip(found, (None, None) if own is None else own, strict=True):
        rmse = np.full(numbers[..., :1].shape, np.nan) if theirs is None else theirs[..., :1]
        ratio = numbers[..., :1] / np.where(rmse > 0, rmse, np.nan)
        joined.append(np.concatenate([numbers, ratio], axis=-1))
    return joined[0], joined[1]


def _test(item: Scores, found: _Measured) -> Trial:
    values, replicates = found
    galaxies = len(np.unique(item.ids))
    errors = spread(replicates, galaxies)
    low, high = _middle(replicates)
    names = list(enumerate(METRICS))
    numbers = {name: (float(values[k]), float(errors[k])) for k, name in names}
    between = {name: (float(low[k]), float(high[k])) for k, name in names}
    labels = item.model, item.train, item.test, len(item), galaxies
    return Trial(*labels, MappingProxyType(numbers), MappingProxyType(between))


def _middle(replicates: Array) -> tuple[Array, Array]:
    """Middle 95 % of resamples (n_boot, k); NaN where half of them or more are not defined."""
    known = np.isfinite(replicates).mean(axis=0) > 0.5
    filled = np.where(np.isfinite(replicates), replicates, np.nan)
    low, high = np.full((2, replicates.shape[1]), np.nan)
    for k in np.flatnonzero(known):
        low[k], high[k] = np.nanpercentile(filled[:, k], _RANGE)
    return low, high


def _ranked(
    tests: tuple[Trial, ...], measured: Sequence[_Measured], models: tuple[str, ...], main: str, target: str
) -> Answers:
    crossed = any(not item.within for item in tests)
    numbers, replicates = [], []
    for model in models:
        mine = [k for k, item in enumerate(tests) if item.model == model and item.within is not crossed]
        if not mine:
            raise DataError(f"{model!r} has no test across domains, and others have", expected="the same pairs for all")
        numbers.append(_crossing(np.stack([measured[k][0] for k in mine])[:, None])[0])
        replicates.append(_crossing(np.stack([measured[k][1] for k in mine])))
    values, drawn = np.stack(numbers), np.stack(replicates)
    order = np.argsort(values[:, 0], kind="stable")
    values, drawn = values[order], drawn[order]
    galaxies = min(item.galaxies for item in tests)
    least = int(np.argmin(values[:, 1]))
    errors = spread(np.moveaxis(drawn, 1, 0), galaxies)
    behind, more = (drawn[:, :, 0] - drawn[0, :, 0]).T, (drawn[:, :, 1] - drawn[least, :, 1]).T
    return Answers(
        tests=tests,
        main=main,
        ranked=tuple(models[k] for k in order),
        error=values[:, 0],
        error_error=errors[:, 0],
        offset=values[:, 1],
        offset_error=errors[:, 1],
        behind=values[:, 0] - values[0, 0],
        behind_error=spread(behind, galaxies),
        behind_low=_middle(behind)[0],
        more=values[:, 1] - values[least, 1],
        more_error=spread(more, galaxies),
        more_low=_middle(more)[0],
        crossed=crossed,
        target=target,
    )


def _crossing(each: Array) -> Array:
    """Cross error and cross bias (b, 2) from the numbers of a model's tests (tests, b, k)."""
    names = list(METRICS)
    rmse, bias = each[..., names.index("rmse")], each[..., names.index("bias")]
    return np.stack([np.sqrt((rmse**2).mean(axis=0)), np.abs(bias).mean(axis=0)], axis=-1)
