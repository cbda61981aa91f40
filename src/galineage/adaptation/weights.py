"""Weights that make training galaxies look like those of another domain: a density ratio by classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.calibration import effective_size
from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["effective_size", "importance_weights"]

_FOLDS = 5
_FEWEST = 40
_CLOSEST = 1e-6


def importance_weights(
    source_x: NDArray[np.floating], target_x: NDArray[np.floating], *, seed: int = 0, clip: float = 10.0
) -> Array:
    """Estimate p_target(x) / p_source(x) at the source galaxies, to train with as ``weights``.

    Two classifiers are taught to tell the domains apart, five-fold, so that no galaxy is judged by one that has seen
    it: logistic regression on quadratic features and boosted trees. The better by held-out log-loss is calibrated by a
    logistic regression on its own log-odds; the odds are the ratio of densities times that of numbers (Bickel,
    Brueckner & Scheffer 2009; Sugiyama, Suzuki & Kanamori 2012 section 4). Right where the domains differ in how
    often a galaxy occurs and not in what its inputs mean.

    Parameters
    ----------
    source_x : array (n, d), finite
        Features of the galaxies to be weighted, any units.
    target_x : array (m, d), finite
        Features of the other domain's galaxies, same units. Nothing else of them is used.
    seed : int
        Of folds and trees.
    clip : float
        Largest ratio of densities; larger ones are cut, so that single galaxies do not decide.

    Returns
    -------
    array (n,)
        Positive, mean 1, no unit; `effective_size` says how many galaxies are left in effect.

    Raises
    ------
    DataError
        If a set has fewer than 40 rows, is not finite, or has other columns than the other.
    ConfigError
        If ``clip`` is not above 1.
    """
    if not clip > 1:
        raise ConfigError(f"clip is {clip}", expected="above 1")
    here, there = (_finite(rows, name) for rows, name in ((source_x, "source"), (target_x, "target")))
    if here.shape[1] != there.shape[1]:
        raise DataError(f"source and target have {here.shape[1]} and {there.shape[1]} columns", expected="the same")
    x = np.concatenate([here, there])
    foreign = np.repeat([0, 1], [len(here), len(there)])
    order = np.random.default_rng(seed).permutation(len(x))
    fold = np.empty(len(x), dtype=np.int64)
    # one domain after the other, so that every fold has its share of both
    fold[np.concatenate([order[foreign[order] == domain] for domain in (0, 1)])] = np.arange(len(x)) % _FOLDS
    odds = min((_held_out(make, x, foreign, fold, seed) for make in (_quadratic, _trees)), key=_loss(foreign))
    odds = _calibrated(odds, foreign)[: len(here)]
    ratio = np.minimum(np.exp(odds) * len(here) / len(there), clip)
    return np.asarray(ratio / ratio.mean(), dtype=np.float64)


def _finite(rows: Any, name: str) -> Array:
    made = np.asarray(rows, dtype=np.float64)
    if made.ndim != 2 or len(made) < _FEWEST:
        raise DataError(
            f"the {name} features have shape {made.shape}",
            expected=f"(galaxies, inputs), with {_FEWEST} galaxies or more",
        )
    if not np.isfinite(made).all():
        raise DataError(
            f"the {name} features are not finite",
            where=f"row {int(np.argmin(np.isfinite(made).all(axis=1)))}",
            advice="use Catalogue.complete(features) to leave such rows out",
        )
    return made


def _quadratic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    return make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(max_iter=1000, random_state=seed),
    )


def _trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=0.1, max_iter=100, max_leaf_nodes=15, early_stopping=False, random_state=seed
    )


def _held_out(
    make: Callable[[int], Any], x: Array, foreign: NDArray[np.int64], fold: NDArray[np.int64], seed: int
) -> Array:
    """Log-odds (n,) of being of the other domain, natural logarithm, from classifiers that did not see the row."""
    p = np.empty(len(x))
    for number in range(_FOLDS):
        out = fold == number
        p[out] = make(seed).fit(x[~out], foreign[~out]).predict_proba(x[out])[:, 1]
    p = np.clip(p, _CLOSEST, 1 - _CLOSEST)
    return np.asarray(np.log(p / (1 - p)))


def _loss(foreign: NDArray[np.int64]) -> Callable[[Array], float]:
    def loss(odds: Array) -> float:
        return float(np.logaddexp(0, np.where(foreign == 1, -odds, odds)).mean())

    return loss


def _calibrated(odds: Array, foreign: NDArray[np.int64]) -> Array:
    """Log-odds (n,) moved and stretched to fit the held-out domains (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    made = LogisticRegression(C=1e6, max_iter=1000).fit(odds[:, None], foreign)
    return np.asarray(made.decision_function(odds[:, None]), dtype=np.float64)
