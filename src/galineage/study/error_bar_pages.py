"""The figure that mends error bars on one simulation and judges them on another; see `galineage.study.pages`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.adaptation import importance_weights
from galineage.calibration import ConformalIntervals, Recalibration
from galineage.errors import ConfigError
from galineage.evaluation import figure_of, recalibration
from galineage.evaluation.recalibration import Intervals
from galineage.fields import field
from galineage.models.bundle import load
from galineage.prediction import summarise
from galineage.reporting import Grid, Panel
from galineage.study.jobs import Job, read_complete

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from galineage.evaluation import Scores
    from galineage.evaluation.recalibration import ErrorBars
    from galineage.models.base import Estimator
    from galineage.study.results import Results

__all__ = ["make_error_bars"]

_TAILS = (0.16, 0.025, 0.84, 0.975)


def make_error_bars(results: Results, options: Mapping[str, Any]) -> list[Panel | Grid]:
    """Coverage and width of intervals before and after mending, one panel for each of ``pairs_shown``."""
    panels: list[Panel | Grid] = []
    for number, (train, test) in enumerate(options["pairs_shown"]):
        found = _mended(results, options["experiment"], options["model"], train, test)
        panels.append(
            Panel(
                f"{options['name']}_{number + 1}",
                f"{options['title']}: {train} → {test}",
                options["caption"],
                figure_of(recalibration.draw(found)),
                (recalibration.judge(found),),
                found.to_table(),
                wide=True,
            )
        )
    return panels


def _mended(results: Results, experiment: str, model: str, train: str, test: str) -> ErrorBars:
    """Mend with the out-of-fold predictions of the training domain; judge on the other, whose truth is not used."""
    spec = results.study.experiment(experiment)
    own = results.score(experiment, model, train, train)
    estimator = load(results.out / Job(experiment, model, train, "whole").folder / "bundle").estimator
    here, there = (read_complete(results.study, spec, name, results.data) for name in (train, test))
    x = there.features(estimator.features)
    place = {str(name): row for row, name in enumerate(here.ids)}
    if len(place) < len(here):
        raise ConfigError(f"galaxies of {train} have equal ids: their folds cannot be put in order")
    rows = np.array([place[name] for name in own.ids])
    weights = importance_weights(here.features(estimator.features)[rows], x, seed=results.study.seed)
    quantiles = _quantiles(estimator, x, _TAILS)
    bars = {"model": Intervals(quantiles[:2], quantiles[2:])}
    for ending, given in (("", None), (", weighted", weights)):
        bars |= {f"{name}{ending}": item for name, item in _ways(estimator, x, own, given).items()}
    truth = np.asarray(there[estimator.target], dtype=float)
    return recalibration.compute(truth, bars, target=estimator.target, label=f"{train} → {test}")


def _ways(
    estimator: Estimator, x: NDArray[np.float64], own: Scores, weights: NDArray[np.float64] | None
) -> dict[str, Intervals]:
    """Intervals (2, m) of m galaxies with features ``x`` (m, d), in the target's unit, by method."""
    support = (field(estimator.target).low, field(estimator.target).high)
    mended = _quantiles(estimator, x, _TAILS, Recalibration.fit(own.pit, weights))
    by_pit = ConformalIntervals.from_pit(own.pit, support=support, weights=weights)
    low, high = np.stack([own.p16, own.p025]), np.stack([own.p84, own.p975])
    by_quantile = ConformalIntervals.from_quantiles(own.truth, low, high, support=support, weights=weights)
    return {
        "recalibrated": Intervals(mended[:2], mended[2:]),
        "conformal": Intervals(*by_pit.intervals(_quantiles(estimator, x, by_pit.needed()))),
        "conformal (quantiles)": Intervals(*by_quantile.intervals(_quantiles(estimator, x, by_quantile.needed()))),
    }


def _quantiles(
    estimator: Estimator, x: NDArray[np.float64], levels: Iterable[float], mended: Recalibration | None = None
) -> NDArray[np.float64]:
    found = summarise(estimator, x, [float(level) for level in levels], moments=False, mode=False, recalibration=mended)
    return found["quantiles"]
