"""Scores of an estimator on galaxies whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from galineage.evaluation.scores import Scores
from galineage.prediction import summarise

if TYPE_CHECKING:
    from torch import Tensor

    from galineage.calibration import RecalibratedPosterior, Recalibration
    from galineage.galaxy import Catalogue
    from galineage.models.base import Estimator
    from galineage.models.bundle import Bundle
    from galineage.posterior import Posterior

__all__ = ["score", "with_shift"]


def score(
    estimator: Estimator,
    catalogue: Catalogue,
    *,
    model: str = "",
    train: str = "",
    test: str = "",
    draws: int = 199,
    seed: int = 0,
    recalibration: Recalibration | None = None,
    progress: bool = False,
) -> Scores:
    """Predict every galaxy of a test set and set the predictions beside the truth.

    Parameters
    ----------
    estimator : Estimator
        In evaluation mode.
    catalogue : Catalogue
        n test galaxies with features, target and ``mstar``, all finite; none is dropped.
    model, train, test : str
        Labels.
    draws : int
        Posterior samples per galaxy behind SBC ranks and TARP.
    seed : int
        Of samples and of TARP's reference points.
    recalibration : Recalibration, optional
        Map that the levels of the posteriors go through, if the bundle has one.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Scores
        n rows, in the target's unit.

    Raises
    ------
    DataError
        If a posterior is NaN or a column is missing.
    """
    truth = torch.from_numpy(np.array(catalogue[estimator.target], dtype=np.float32))
    reference = torch.rand(len(truth), generator=torch.Generator().manual_seed(seed + 1))

    def against_truth(posterior: Posterior | RecalibratedPosterior, rows: slice) -> dict[str, Tensor]:
        true = truth[rows]
        samples = posterior.sample(draws, seed + 2 + rows.start)
        distance = (true - reference[rows]).abs()
        return {
            "pit": posterior.cdf(true),
            "log_prob": posterior.log_prob(true),
            "crps": posterior.crps(true),
            "rank": (samples < true).sum(0),
            "tarp": ((samples - reference[rows]).abs() < distance).double().mean(0),
        }

    found = summarise(
        estimator,
        estimator.inputs(catalogue),
        extra=against_truth,
        recalibration=recalibration,
        progress=progress,
    )
    quantiles = dict(zip(("p025", "p16", "p50", "p84", "p975"), found.pop("quantiles"), strict=True))
    found["rank"] = found["rank"].astype(np.int64)  # type: ignore[assignment]
    return Scores(
        ids=np.asarray(catalogue.ids).astype(str),
        truth=truth.double().numpy(),
        mstar=np.asarray(catalogue["mstar"], dtype=float),
        draws=draws,
        target=estimator.target,
        model=model,
        train=train,
        test=test,
        **quantiles,
        **found,  # type: ignore[arg-type]
    )


def with_shift(scores: Scores, bundle: Bundle, catalogue: Catalogue) -> Scores:
    """Return scores of a test with the shift score of each galaxy; as they are if the bundle has none.

    Parameters
    ----------
    scores : Scores
        Of this bundle on this catalogue: all rows, or those in which a target is defined.
    bundle : Bundle
        The model.
    catalogue : Catalogue
        n test galaxies, finite features.
    """
    if bundle.shift is None:
        return scores
    shift = bundle.shift.score(bundle.estimator.likeness(bundle.estimator.inputs(catalogue)))
    ids = np.asarray(catalogue.ids).astype(str)
    if np.array_equal(ids, scores.ids):
        return replace(scores, shift=shift)
    found, first = np.unique(ids, return_index=True)
    if len(found) < len(ids):
        return scores  # which of the galaxies of one name is meant cannot be told
    return replace(scores, shift=shift[first[np.searchsorted(found, scores.ids)]])
