"""From a catalogue to a saved-model bundle in one call."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import DataError
from galineage.fields import MERGER_TARGETS, field, to_feature
from galineage.models import make_estimator
from galineage.models.bundle import Bundle
from galineage.shift import FEWEST, NeighbourScore
from galineage.store.splits import split_labels
from galineage.training.alignment import make_alignment
from galineage.training.config import TrainConfig, recommended_config
from galineage.training.loop import TrainingResult, fit_estimator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.models.base import Estimator
    from galineage.shift import ShiftScore
    from galineage.training.alignment import Alignment

__all__ = ["DEFAULT_FEATURES", "feature_ranges", "needed_fields", "train"]

DEFAULT_FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
"""The five stellar quantities of Angeloudi+2023 Table A3 that mean the same in TNG and EAGLE tables."""


def train(
    catalogue: Catalogue,
    features: Sequence[str] = DEFAULT_FEATURES,
    model: str = "mdn",
    *,
    target: str | Sequence[str] = "f_ex",
    members: int | None = None,
    config: TrainConfig | None = None,
    weights: NDArray[np.float64] | None = None,
    alignment: Alignment | str | None = None,
    unlabelled: Catalogue | None = None,
    split: str = "root",
    folder: Path | None = None,
    progress: bool = True,
    label: str | None = None,
    **options: Any,
) -> Bundle:
    """Train an ensemble (or a baseline) on a catalogue; it comes back in evaluation mode, on the CPU.

    Parameters
    ----------
    catalogue : Catalogue
        Galaxies with features and target, in registry units. Rows in which one is missing are left out.
    features : sequence of str
        Field names of the inputs.
    model : str
        A key of `galineage.models.PRESETS`: ``mdn`` (default), ``flow``, ``pool``, ``paper``, ``spline`` and others.
    target : str or sequence of str
        Field name of what to infer, or several for the joint models ``cinn`` and ``cinn-published``. A galaxy that
        never had a major merger stays, with NaN in what a major merger is needed for.
    members : int, optional
        Networks in the ensemble. Default: 5, or 5 for each subset of ``pool``.
    config : TrainConfig, optional
        Training settings. Default: `galineage.training.recommended_config`.
    weights : array (n,), optional
        Weight of each galaxy in the loss, no unit; for example `galineage.importance_weights`.
    alignment : Alignment or str, optional
        Penalty for a difference between what the network makes of both catalogues, see `galineage.training.alignment`.
    unlabelled : Catalogue, optional
        Galaxies of the domain to align with. Only their features are read.
    split : {"root", "row"}
        What stays together when validation galaxies are drawn.
    folder : Path, optional
        Where checkpoint and history go; a run found there is continued.
    progress, label
        Whether to show a bar on a terminal, and the text beside it.
    **options
        Settings of the estimator that replace the preset's.

    Returns
    -------
    Bundle

    Raises
    ------
    ConfigError, DataError, TrainingError
        For wrong settings, unusable data, and training that cannot go on.
    """
    config = config or recommended_config(model)
    estimator = make_estimator(model, features, target, members=members, seed=config.seed, **options)
    usable = catalogue.complete(needed_fields(estimator))
    x = usable.features(estimator.features)
    y = np.stack([np.asarray(usable[name], dtype=float) for name in estimator.targets], axis=1)
    result = fit_estimator(
        estimator,
        x,
        y if len(estimator.targets) > 1 else y[:, 0],
        config,
        groups=split_labels(usable, split),
        weights=_of_complete_rows(weights, catalogue, estimator),
        alignment=(penalty := _alignment(estimator, alignment, config.seed)),
        unlabelled=_unlabelled_features(unlabelled, estimator),
        folder=folder,
        progress=progress,
        label=label or f"train {model}",
    )
    shift = _fit_shift(x, usable.root, config.seed)
    card = {"model": model, **_learned_from(usable, estimator, shift), **_shifted_towards(weights, penalty, unlabelled)}
    told = _result({**asdict(config), "split": split}, result)
    return Bundle(estimator, {**card, **told, "prior_width": _prior_width(estimator, y)}, shift)


def _learned_from(usable: Catalogue, estimator: Estimator, shift: ShiftScore | None) -> dict[str, Any]:
    """Return what the card says of the training galaxies."""
    domains = sorted({str(name) for name in np.unique(usable.domain)})
    return {
        "domains": domains,
        "rows": len(usable),
        "ranges": feature_ranges(estimator.features, usable.features(estimator.features)),
        "data": _provenance(usable),
        "limits": _limits(domains, usable, estimator.features, shift),
    }


def _provenance(catalogue: Catalogue) -> dict[str, Any]:
    return {key: value for key, value in catalogue.meta.items() if isinstance(value, (str, int, float, bool, list))}


def _of_complete_rows(
    weights: NDArray[np.float64] | None, catalogue: Catalogue, estimator: Estimator
) -> NDArray[np.float64] | None:
    """Weights (n,), no unit, of the rows that `Catalogue.complete` keeps."""
    if weights is None:
        return None
    if np.shape(weights) != (len(catalogue),):
        raise DataError(f"weights have shape {np.shape(weights)}", expected=f"({len(catalogue)},): one for each galaxy")
    return np.asarray(weights)[np.isfinite(catalogue.features(needed_fields(estimator))).all(axis=1)]


def _unlabelled_features(unlabelled: Catalogue | None, estimator: Estimator) -> NDArray[np.float64] | None:
    """Features (m, d), registry units or dex, of the unlabelled galaxies that have all of them."""
    if unlabelled is None:
        return None
    x = unlabelled.features(estimator.features)
    return x[np.isfinite(x).all(axis=1)]


def _alignment(estimator: Estimator, alignment: Alignment | str | None, seed: int) -> Alignment | None:
    """Return the alignment, built for the estimator where it is given by name."""
    if not isinstance(alignment, str):
        return alignment
    # in evaluation mode nothing is drawn, and no running statistics move; the loop sets the mode it needs
    with torch.no_grad():
        width = estimator.eval().represent(torch.zeros(1, len(estimator.features))).shape[-1]
    return make_alignment(alignment, estimator.members, width, seed=seed)


def _shifted_towards(
    weights: NDArray[np.float64] | None, alignment: Alignment | None, unlabelled: Catalogue | None
) -> dict[str, Any]:
    """Return what the card says of weights and alignment."""
    told: dict[str, Any] = {}
    if weights is not None:
        told["weights"] = {"largest over mean": float(np.max(weights) / np.mean(weights))}
    if alignment is not None and unlabelled is not None:
        domains = sorted({str(name) for name in np.unique(unlabelled.domain)})
        told["alignment"] = {**alignment.settings(), "domains": domains, "data": _provenance(unlabelled)}
    return told


def _fit_shift(x: NDArray[np.float64], root: NDArray[np.str_] | None, seed: int) -> ShiftScore | None:
    """Fit the neighbour score to the training galaxies, each given once; None if they are too few."""
    if root is not None:
        # a galaxy at several snapshots is its own near neighbour, and would make the score too strict
        order = np.random.default_rng(seed).permutation(len(x))
        x = x[np.sort(order[np.unique(root[order], return_index=True)[1]])]
    if len(x) < FEWEST or (np.ptp(x, axis=0) == 0).any():
        return None
    return NeighbourScore.fit(x, seed)


def needed_fields(estimator: Estimator) -> list[str]:
    """Return the fields that a training or test row must have: inputs, and targets that every galaxy has."""
    undefined = MERGER_TARGETS if estimator.kind == "joint" else ()
    return list(dict.fromkeys([*estimator.features, *(name for name in estimator.targets if name not in undefined)]))


def _prior_width(estimator: Estimator, y: NDArray[np.float64]) -> float | dict[str, float]:
    """Width of the central 95 % of the training truths, in the target's unit or dex; by name for a joint model."""
    widths = {
        name: float(np.ptp(np.nanquantile(to_feature(name, y[:, i]), [0.025, 0.975])))
        for i, name in enumerate(estimator.targets)
    }
    return widths if estimator.kind == "joint" else widths[estimator.target]


def with_metrics(bundle: Bundle, metrics: dict[str, Any]) -> Bundle:
    """Return the bundle with more measured numbers (name to text or number) on its card."""
    return replace(bundle, card={**bundle.card, "metrics": {**bundle.card.get("metrics", {}), **metrics}})


def feature_ranges(features: Sequence[str], x: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Return min, 1 %, 99 % and max of each feature.

    Parameters
    ----------
    features : sequence of str, length d
        Field names.
    x : array (n, d)
        Registry units, dex where logarithmic.
    """
    marks = np.quantile(x, [0.0, 0.01, 0.99, 1.0], axis=0)
    return {
        name: dict(zip(("min", "p01", "p99", "max"), map(float, marks[:, column]), strict=True))
        for column, name in enumerate(features)
    }


def _result(settings: dict[str, Any], result: TrainingResult) -> dict[str, Any]:
    """Return what the card says of the training: its settings, its epochs, the validation loss where there is one."""
    loss = {"validation negative log likelihood (mean of members)": f"{np.mean(result.best_loss or 0):.4f}"}
    return {
        "training": {**settings, "epochs": result.epochs, "best_epoch": list(result.best_epoch)},
        "metrics": loss if result.best_loss else {},
    }


def _limits(domains: list[str], usable: Catalogue, features: Sequence[str], shift: ShiftScore | None) -> list[str]:
    mass = np.log10(usable["mstar"]) if "mstar" in usable else np.array([np.nan])
    lines = [
        f"Learned from {', '.join(domains)}: other simulations and the sky differ; see the transfer matrix of a study.",
        f"Stellar masses of the training galaxies: 10^{mass.min():.2f} to 10^{mass.max():.2f} Msun.",
        "Rows whose inputs leave the training range are flagged, not refused.",
    ]
    if shift is None:
        lines.append("Too few training galaxies for a shift score: unlike galaxies are not told by their combination.")
    if any(name.startswith("toy") for name in domains):
        lines.insert(0, "Trained on a TOY universe: for learning the tool, not for science.")
    simulated = [name for name in features if name in ("spin", "total_spin", "r_half", "age", "metallicity")]
    if simulated:
        names = ", ".join(f"{name} ({field(name).meaning})" for name in simulated)
        lines.append(
            f"Inputs are intrinsic simulation quantities: {names}. Observed proxies need their own calibration."
        )
    return lines
