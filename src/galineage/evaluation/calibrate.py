"""Mend a model's error bars on galaxies with known truth that it was not trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from galineage.calibration import ConformalIntervals, Recalibration, effective_size
from galineage.calibration.conformal import LEVELS, tail_levels
from galineage.errors import ConfigError, DataError
from galineage.fields import field
from galineage.models.bundle import CALIBRATED
from galineage.prediction import summarise
from galineage.shift import NeighbourScore, nearest
from galineage.training import needed_fields

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from galineage.galaxy import Catalogue
    from galineage.models.bundle import Bundle

__all__ = ["METHODS", "calibrate"]

METHODS = ("pit", "conformal", "cqr")
"""How error bars are mended: levels of the posterior; conformal intervals of another level; moved conformal ends."""


def calibrate(
    bundle: Bundle,
    catalogue: Catalogue,
    *,
    method: Literal["pit", "conformal", "cqr"] = "pit",
    weights: ArrayLike | None = None,
    meant_for: str = "",
) -> Bundle:
    """Return the model with error bars that hold for galaxies like those given.

    Parameters
    ----------
    bundle : Bundle
        A model of one target. With ``pit`` an older recalibration is replaced, and conformal intervals are dropped:
        they belonged to other posteriors. The conformal methods keep a recalibration and start from it.
    catalogue : Catalogue
        n galaxies with features and target, none of which the model was trained on, of its domain; of an adapted model
        of the domain that it was adapted to. Rows in which one is missing are left out, with their weights.
    method : {"pit", "conformal", "cqr"}
        ``pit``: `Recalibration` of the posterior's levels. ``conformal`` and ``cqr``: `ConformalIntervals` of the kinds
        ``pit`` and ``cqr``, in further columns.
    weights : array (n,), optional
        Importance weights, pure numbers: how much more common such a galaxy is where the model will be used.
    meant_for : str
        Name of that place, for the card.

    Returns
    -------
    Bundle
        The card says under ``calibration`` with what it was calibrated, and under which assumption it holds.

    Raises
    ------
    ConfigError
        If there is no such method, or the model has several targets.
    DataError
        If a column is missing, there are too few galaxies, the weights are unusable, galaxies are of another domain, or
        the model was trained on them.
    """
    if method not in METHODS:
        raise ConfigError(f"there is no calibration method {method!r}", expected=", ".join(METHODS))
    estimator = bundle.estimator
    if len(estimator.targets) > 1 or estimator.joint:
        raise ConfigError(
            "a joint model cannot be calibrated", expected="a model of one target", advice="train one model per target"
        )
    _refuse_training_file(bundle, catalogue)
    _refuse_foreign(bundle, catalogue)
    names = needed_fields(estimator)
    whole = np.asarray(np.isfinite(catalogue.features(names)).all(axis=1)) & estimator.usable(catalogue)
    usable = catalogue.select(whole)
    _refuse_training_galaxies(bundle, usable)
    w = None if weights is None else _same_rows(weights, whole)
    truth = np.asarray(usable[estimator.target], dtype=float)
    target = field(estimator.target)
    support = (target.low, target.high)
    before = None if method == "pit" else bundle.recalibration
    places, quantiles = _against(bundle, usable, truth, before)
    if method == "pit":
        made = replace(bundle, recalibration=Recalibration.fit(places, w), conformal=None)
    elif method == "conformal":
        made = replace(bundle, conformal=ConformalIntervals.from_pit(places, support=support, weights=w))
    else:
        low, high = np.split(quantiles, 2)
        fitted = ConformalIntervals.from_quantiles(truth, low, high, support=support, weights=w)
        made = replace(bundle, conformal=fitted)
    return replace(made, card=_card(made, usable, method, w, meant_for))


def _against(bundle: Bundle, usable: Catalogue, truth: Any, before: Recalibration | None) -> tuple[Any, Any]:
    """Places of the truth (n,), probabilities, and quantiles (2 L, n) in the target's unit."""
    true = torch.from_numpy(truth.astype(np.float32))
    found = summarise(
        bundle.estimator,
        bundle.estimator.inputs(usable),
        tail_levels(LEVELS),
        moments=False,
        mode=False,
        extra=lambda posterior, rows: {"pit": posterior.cdf(true[rows])},
        recalibration=before,
    )
    return found["pit"].clip(0, 1), found["quantiles"]


def _refuse_training_file(bundle: Bundle, catalogue: Catalogue) -> None:
    seen = bundle.card.get("data", {})
    if seen.get("sha256") and seen.get("sha256") == catalogue.meta.get("sha256"):
        raise DataError(
            "the model was trained on this very file, where its errors are too small",
            where=str(catalogue.meta.get("file")),
            expected="galaxies of the same domain that it has not seen",
            advice="split the table in two, train on one part and calibrate with the other",
        )


def _refuse_foreign(bundle: Bundle, catalogue: Catalogue) -> None:
    adapted = bundle.card.get("adapted")
    own = {str(name) for name in (adapted or bundle.card).get("domains", [])}
    foreign = sorted({str(name) for name in catalogue.domain} - own)
    if own and foreign:
        what = "adapted to" if adapted else "trained on"
        instead = "calibrate the model before it is adapted" if adapted else "for another mix of galaxies give weights"
        raise DataError(
            f"the model was {what} {', '.join(sorted(own))}, and these galaxies are of {', '.join(foreign)}",
            where=str(catalogue.meta.get("file", "in memory")),
            expected=f"galaxies of {', '.join(sorted(own))} with their truth",
            advice=instead,
        )


SEEN = 0.05
"""Largest part of the calibration galaxies that may sit exactly where a training galaxy does."""


def _refuse_training_galaxies(bundle: Bundle, usable: Catalogue) -> None:
    """Training galaxies in another file, or some of them: they lie on those that the shift score keeps."""
    score = bundle.shift
    if not isinstance(score, NeighbourScore) or not len(usable):
        return
    estimator = bundle.estimator
    x = score.scaler.scaled(estimator.likeness(estimator.inputs(usable))).astype(np.float32)
    distances, _ = nearest(x, score.reference, 1)
    # inputs go through 32 bits and other files: equal to a hundred thousandth of their scatter
    seen = float(np.mean(distances[:, 0] < 1e-5 * x.shape[1]))
    if seen > SEEN:
        raise DataError(
            f"{100 * seen:.0f} % of these galaxies have exactly the inputs of galaxies that the model was trained on",
            where=str(usable.meta.get("file", "in memory")),
            expected="galaxies that it has not seen: its errors on the others are too small",
            advice="split the table in two, train on one part and calibrate with the other",
        )


def _same_rows(weights: ArrayLike, whole: Any) -> Any:
    w = np.asarray(weights, dtype=float)
    if w.shape != whole.shape:
        raise DataError(f"weights have shape {w.shape}", expected=f"{whole.shape}: one for each galaxy")
    return w[whole]


def _card(bundle: Bundle, usable: Catalogue, method: str, weights: Any, meant_for: str) -> dict[str, Any]:
    part = bundle.recalibration if method == "pit" else bundle.conformal
    assumption = part.assumption if part is not None else ""
    facts = {
        "method": method,
        "galaxies": len(usable),
        "effective": round(len(usable) if weights is None else effective_size(weights), 1),
        "file": str(usable.meta.get("file", "in memory")),
        "sha256": str(usable.meta.get("sha256", "")),
        "domains": sorted({str(name) for name in usable.domain}),
        "meant_for": meant_for,
        "assumption": assumption,
    }
    told = [item for item in bundle.card.get("calibration", []) if isinstance(item, dict)]
    told = [*(item for item in told if method != "pit" and item.get("method") == "pit"), facts]
    card = dict(bundle.uncalibrated().card)
    limits = list(card.get("limits", []))
    for item in told:
        place = f", meant for {item['meant_for']}" if item.get("meant_for") else ""
        limits.append(f"{CALIBRATED} ({item['method']}{place}) rest on an assumption: {item.get('assumption')}.")
    return {**card, "limits": limits, "calibration": told}
