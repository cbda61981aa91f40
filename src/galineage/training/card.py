"""What a trained model's card says: what it learned from, how it went, and whom it cannot speak for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.fields import field, to_feature
from galineage.shift import FEWEST, NeighbourScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.models.base import Estimator
    from galineage.shift import ShiftScore
    from galineage.training.alignment import Alignment
    from galineage.training.loop import TrainingResult

__all__ = [
    "feature_ranges",
    "fit_shift",
    "learned_from",
    "prior_width",
    "provenance",
    "result_of",
    "shifted_towards",
    "weights_of",
]


def learned_from(usable: Catalogue, estimator: Estimator, shift: ShiftScore | None) -> dict[str, Any]:
    """Return what the card says of the training galaxies."""
    domains = sorted({str(name) for name in np.unique(usable.domain)})
    return {
        "domains": domains,
        "rows": len(usable),
        "ranges": feature_ranges(estimator.features, usable.features(estimator.features)) if estimator.features else {},
        "data": provenance(usable),
        "limits": _limits(domains, usable, estimator.features, shift),
    }


def provenance(catalogue: Catalogue) -> dict[str, Any]:
    """Return what is known of where a catalogue comes from, in JSON types."""
    return {key: value for key, value in catalogue.meta.items() if isinstance(value, (str, int, float, bool, list))}


def fit_shift(x: NDArray[np.float64], root: NDArray[np.str_] | None, seed: int) -> ShiftScore | None:
    """Fit the neighbour score to the training galaxies, each given once.

    Parameters
    ----------
    x : array (n, k)
        By which galaxies are compared (`galineage.models.Estimator.likeness`), any unit.
    root : array (n,) of str, optional
        Rows of one root are one galaxy.
    seed : int

    Returns
    -------
    ShiftScore or None
        None if they are too few, or one of the numbers is the same for all (a unit of a network that never answers).
    """
    if root is not None:
        # a galaxy at several snapshots is its own near neighbour, and would make the score too strict
        order = np.random.default_rng(seed).permutation(len(x))
        x = x[np.sort(order[np.unique(root[order], return_index=True)[1]])]
    if len(x) < FEWEST or (np.ptp(x, axis=0) == 0).any():
        return None
    return NeighbourScore.fit(x, seed)


def prior_width(estimator: Estimator, y: NDArray[np.float64]) -> float | dict[str, float]:
    """Return the width of the central 95 % of training truths (n, T), in the target's unit or dex; by name if joint."""
    widths = {
        name: float(np.ptp(np.nanquantile(to_feature(name, y[:, i]), [0.025, 0.975])))
        for i, name in enumerate(estimator.targets)
    }
    return widths if estimator.joint else widths[estimator.target]


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


def result_of(settings: dict[str, Any], result: TrainingResult) -> dict[str, Any]:
    """Return what the card says of the training: its settings, its epochs, the validation loss where there is one."""
    loss = {"validation negative log likelihood (mean of members)": f"{np.mean(result.best_loss or 0):.4f}"}
    return {
        "training": {**settings, "epochs": result.epochs, "best_epoch": list(result.best_epoch)},
        "metrics": loss if result.best_loss else {},
    }


def weights_of(
    weights: NDArray[np.float64] | None, catalogue: Catalogue, kept: NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """Return the weights, no unit, of the rows that are trained on.

    Parameters
    ----------
    weights : array (n,), optional
        One for each row of the catalogue.
    catalogue : Catalogue
    kept : array (n,) of bool
        Rows that are trained on.

    Raises
    ------
    DataError
        If there are more or fewer weights than rows.
    """
    if weights is None:
        return None
    if np.shape(weights) != (len(catalogue),):
        raise DataError(f"weights have shape {np.shape(weights)}", expected=f"({len(catalogue)},): one for each row")
    return np.asarray(weights)[kept]


def shifted_towards(
    weights: NDArray[np.float64] | None, alignment: Alignment | None, unlabelled: Catalogue | None
) -> dict[str, Any]:
    """Return what the card says of weights (n,) and alignment."""
    told: dict[str, Any] = {}
    if weights is not None:
        told["weights"] = {"largest over mean": float(np.max(weights) / np.mean(weights))}
    if alignment is not None and unlabelled is not None:
        domains = sorted({str(name) for name in np.unique(unlabelled.domain)})
        told["alignment"] = {**alignment.settings(), "domains": domains, "data": provenance(unlabelled)}
    return told


def _limits(domains: list[str], usable: Catalogue, features: Sequence[str], shift: ShiftScore | None) -> list[str]:
    mass = np.log10(usable["mstar"]) if "mstar" in usable else np.array([np.nan])
    lines = [
        f"Learned from {', '.join(domains)}: other simulations and the sky differ; see the transfer matrix of a study.",
        f"Stellar masses of the training galaxies: 10^{mass.min():.2f} to 10^{mass.max():.2f} Msun.",
        "Rows whose inputs leave the training range are flagged, not refused.",
    ]
    if shift is None:
        lines.append(
            f"No shift score, for there are fewer than {FEWEST} training galaxies, or one of the numbers by which they "
            "are compared is the same for all: unlike galaxies are not told by their combination."
        )
    if any(name.startswith("toy") for name in domains):
        lines.insert(0, "Trained on a TOY universe: for learning the tool, not for science.")
    simulated = [name for name in features if name in ("spin", "total_spin", "r_half", "age", "metallicity")]
    if simulated:
        names = ", ".join(f"{name} ({field(name).meaning})" for name in simulated)
        lines.append(
            f"Inputs are intrinsic simulation quantities: {names}. Observed proxies need their own calibration."
        )
    return lines
