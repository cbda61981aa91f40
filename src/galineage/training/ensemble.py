"""From a catalogue to a saved-model bundle in one call."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.fields import field
from galineage.models import make_estimator
from galineage.models.bundle import Bundle
from galineage.store.splits import split_labels
from galineage.training.config import TrainConfig, recommended_config
from galineage.training.loop import fit_estimator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue

__all__ = ["DEFAULT_FEATURES", "feature_ranges", "train"]

DEFAULT_FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
"""The five stellar quantities of Angeloudi+2023 Table A3 that mean the same in TNG and EAGLE tables."""


def train(
    catalogue: Catalogue,
    features: Sequence[str] = DEFAULT_FEATURES,
    model: str = "mdn",
    *,
    target: str = "f_ex",
    members: int = 5,
    config: TrainConfig | None = None,
    split: str = "root",
    folder: Path | None = None,
    progress: bool = True,
    label: str | None = None,
    **options: Any,
) -> Bundle:
    """Train an ensemble (or a baseline) on a catalogue.

    Parameters
    ----------
    catalogue : Catalogue
        Galaxies with features and target, in registry units. Rows in which one is missing are left out.
    features : sequence of str
        Field names of the inputs.
    model : str
        A key of `galineage.models.PRESETS`: ``mdn`` (default), ``flow``, ``paper``, ``paper-bounded``, and the
        baselines ``spline``, ``forest``, ``boosting``.
    target : str
        Field name of what to infer.
    members : int
        Networks in the ensemble.
    config : TrainConfig, optional
        Training settings. Default: `galineage.training.recommended_config`.
    split : {"root", "row"}
        What stays together when validation galaxies are drawn.
    folder : Path, optional
        Where checkpoint and history go; a run found there is continued.
    progress : bool
        Show a bar on a terminal.
    label : str, optional
        Text beside the bar.
    **options
        Settings of the estimator that replace the preset's.

    Returns
    -------
    Bundle
        Trained, in evaluation mode on the CPU.

    Raises
    ------
    ConfigError, DataError, TrainingError
        For wrong settings, unusable data, and training that cannot go on.
    """
    config = config or recommended_config(model)
    estimator = make_estimator(model, features, target, members=members, seed=config.seed, **options)
    usable = catalogue.complete([*estimator.features, target])
    x = usable.features(estimator.features)
    result = fit_estimator(
        estimator,
        x,
        np.asarray(usable[target], dtype=float),
        config,
        groups=split_labels(usable, split),
        folder=folder,
        progress=progress,
        label=label or f"train {model}",
    )
    domains = sorted({str(name) for name in np.unique(usable.domain)})
    card = {
        "model": model,
        "domains": domains,
        "rows": len(usable),
        "ranges": feature_ranges(estimator.features, x),
        "data": {key: value for key, value in usable.meta.items() if isinstance(value, (str, int, float, bool, list))},
        "training": {**asdict(config), "split": split, "epochs": result.epochs, "best_epoch": list(result.best_epoch)},
        "metrics": _validation_metric(result.best_loss),
        "limits": _limits(domains, usable, estimator.features),
        "prior_width": float(np.ptp(np.quantile(usable[target], [0.025, 0.975]))),
    }
    return Bundle(estimator, card)


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


def _validation_metric(losses: tuple[float, ...]) -> dict[str, str]:
    if not losses:
        return {}
    return {"validation negative log likelihood (mean of members)": f"{np.mean(losses):.4f}"}


def _limits(domains: list[str], usable: Catalogue, features: Sequence[str]) -> list[str]:
    mass = np.log10(usable["mstar"]) if "mstar" in usable else np.array([np.nan])
    lines = [
        f"Learned from {', '.join(domains)}: other simulations and the sky differ; see the transfer matrix of a study.",
        f"Stellar masses of the training galaxies: 10^{mass.min():.2f} to 10^{mass.max():.2f} Msun.",
        "Rows whose inputs leave the training range are flagged, not refused.",
    ]
    if any(name.startswith("toy") for name in domains):
        lines.insert(0, "Trained on a TOY universe: for learning the tool, not for science.")
    simulated = [name for name in features if name in ("spin", "total_spin", "r_half", "age", "metallicity")]
    if simulated:
        names = ", ".join(f"{name} ({field(name).meaning})" for name in simulated)
        lines.append(
            f"Inputs are intrinsic simulation quantities: {names}. Observed proxies need their own calibration."
        )
    return lines
