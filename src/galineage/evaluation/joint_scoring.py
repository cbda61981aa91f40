"""Scores of an estimator of several targets on galaxies whose truth is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import DataError
from galineage.evaluation.joint_scores import JointScores
from galineage.evaluation.scores import Scores
from galineage.fields import MERGER_TARGETS, to_feature
from galineage.joint_posterior import MIN_DEFINED, joint_batches
from galineage.prediction import LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.joint_posterior import JointPosterior
    from galineage.models.base import Estimator

    Array = NDArray[np.float64]

__all__ = ["score_joint", "target_values"]

_RANKS = 199
_KEPT = 32
_LOCATIONS = ("mean", "std", "map", "aleatoric", "epistemic")


def target_values(catalogue: Catalogue, targets: Sequence[str]) -> Array:
    """Return the truth of several targets, shape (n, T), registry units; NaN where there was no major merger."""
    return np.stack([np.asarray(catalogue[name], dtype=float) for name in targets], axis=1)


def score_joint(
    estimator: Estimator,
    catalogue: Catalogue,
    *,
    model: str = "",
    train: str = "",
    test: str = "",
    draws: int = 400,
    seed: int = 0,
    progress: bool = False,
) -> tuple[JointScores, dict[str, Scores]]:
    """Predict several targets of every galaxy of a test set and set the joint posteriors beside the truth.

    Parameters
    ----------
    estimator : Estimator
        Of several targets, in evaluation mode.
    catalogue : Catalogue
        n test galaxies with features, targets and ``mstar``; finite, but for the targets that need a major merger.
    model, train, test : str
        Labels.
    draws : int
        Posterior draws of each galaxy, over all members.
    seed : int
        Of draws and of TARP's reference points.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    JointScores
        n rows.
    dict of str to Scores
        Of every target by name: the galaxies in which it is defined, in the target's unit or dex. Galaxies whose
        posterior says that it is not (fewer than 20 draws of it) are not there. ``log_prob`` is that of a kernel
        density of the draws; ``draws`` are ranks, made of all draws with a random place inside a step.

    Raises
    ------
    DataError
        If a posterior is NaN or a column is missing.
    """
    targets = estimator.targets
    given = target_values(catalogue, targets)
    truth = np.stack([to_feature(name, given[:, i]) for i, name in enumerate(targets)], axis=1)
    box = np.nanmin(truth, axis=0), np.nanmax(truth, axis=0)
    rng = np.random.default_rng([seed, 1])
    reference = rng.uniform(*box, size=truth.shape)
    scale = np.nanstd(truth, axis=0)
    parts: list[dict[str, Any]] = []
    x = estimator.inputs(catalogue)
    for rows, distribution, posterior in joint_batches(estimator, x, draws=draws, seed=seed, progress=progress):
        y = torch.from_numpy(given[rows].astype(np.float32))
        latent = distribution.latent(y).movedim(0, 1).double().numpy()
        density = torch.logsumexp(distribution.log_prob(y), dim=0).double().numpy() - math.log(posterior.members)
        samples = posterior.features()
        block: dict[str, Any] = {"latent": latent, "log_prob": density, "p_never": posterior.p_never}
        block["draws"] = np.moveaxis(samples[_thin(len(samples), posterior.members)], 0, 1)
        block["tarp"] = _joint_tarp(samples, truth[rows], reference[rows], scale, rng)
        for i, name in enumerate(targets):
            block |= _one_target(posterior, name, truth[rows, i], reference[rows, i], rng)
        parts.append(block)
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels: dict[str, Any] = {"model": model, "train": train, "test": test}
    facts: dict[str, Any] = {
        "ids": np.asarray(catalogue.ids).astype(str),
        "mstar": np.asarray(catalogue["mstar"], dtype=float),
    }
    whole = ("p_never", "draws", "latent", "log_prob", "tarp")
    joint = JointScores(**facts, truth=truth, **{name: columns[name] for name in whole}, targets=targets, **labels)
    return joint, {name: _as_scores(name, columns, truth[:, i], facts, labels) for i, name in enumerate(targets)}


def _thin(count: int, members: int) -> NDArray[np.int64]:
    """Choose draws to keep: equal numbers of every member, as far as there are that many."""
    share = max(1, _KEPT // members)
    return np.arange(min(count, share * members))


def _joint_tarp(samples: Array, truth: Array, reference: Array, scale: Array, rng: np.random.Generator) -> Array:
    """Fraction of draws (S, n, T) nearer to the reference (n, T) than the truth is, in units of the prior's spread."""
    distance = np.sqrt((((truth - reference) / scale) ** 2).sum(axis=-1))
    drawn = np.sqrt((((samples - reference) / scale) ** 2).sum(axis=-1))
    count = np.isfinite(drawn).sum(axis=0)
    place = ((drawn < distance).sum(axis=0) + rng.uniform(size=len(truth))) / (count + 1)
    return np.where(np.isfinite(distance) & (count >= MIN_DEFINED), place, np.nan)


def _one_target(
    posterior: JointPosterior, name: str, truth: Array, reference: Array, rng: np.random.Generator
) -> dict[str, Array]:
    marginal = posterior.marginal(name)
    found = dict(zip(LEVELS, marginal.quantile(list(LEVELS.values())), strict=True))
    found |= {part: getattr(marginal, part) for part in _LOCATIONS}
    pit = marginal.place(truth, rng)
    found |= {"pit": pit, "log_prob": marginal.log_prob(truth), "crps": marginal.crps(truth)}
    found |= {"rank": np.floor(pit * (_RANKS + 1)), "tarp": marginal.nearer(truth, reference, rng)}
    return {f"{name}.{part}": values for part, values in found.items()}


def _as_scores(
    name: str, columns: dict[str, Any], truth: Array, facts: dict[str, Any], labels: dict[str, Any]
) -> Scores:
    own = {key.removeprefix(f"{name}."): values for key, values in columns.items() if key.startswith(f"{name}.")}
    use = np.isfinite(truth) & np.isfinite(own["p50"])
    if not use.any():
        raise DataError(
            f"no galaxy has both a true {name} and a posterior of it",
            expected="at least one galaxy with a major merger" if name in MERGER_TARGETS else "finite truths",
        )
    own["rank"] = np.nan_to_num(own["rank"]).astype(np.int64)
    own["tarp"] = np.floor(own["tarp"] * (_RANKS + 1)) / _RANKS  # whole ranks again, as for one target
    return Scores(
        **{key: values[use] for key, values in (facts | own).items()},
        truth=truth[use],
        draws=_RANKS,
        target=name,
        **labels,
    )
