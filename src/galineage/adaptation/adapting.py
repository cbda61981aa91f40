"""From a trained model and galaxies of another domain, without truth, to an adapted model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.adaptation.matching import fit_matching
from galineage.errors import ConfigError, DataError
from galineage.models.adapted import Adapted
from galineage.shift import NeighbourScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.models.bundle import Bundle

__all__ = ["ASSUMPTION", "adapt"]

ASSUMPTION = "assumes that galaxies of both domains with equal ranks have equal histories"
"""What an adapted model rests on, in one sentence; no data without truth can test it."""


def adapt(
    bundle: Bundle,
    catalogue: Catalogue,
    *,
    kind: str = "marginal",
    mass: str = "match",
    views: Sequence[str] = ("raw", "matched"),
    source: Catalogue | None = None,
) -> Bundle:
    """Adapt a trained model to galaxies of another domain, such as a survey.

    Parameters
    ----------
    bundle : Bundle
        A trained model of one target.
    catalogue : Catalogue
        Galaxies of the other domain: its inputs alone are read. They should be selected as the training galaxies were,
        or the difference of selection is matched away with the difference of domains.
    kind : {"marginal", "at-mass"}
        What is matched: each input's distribution, or that at fixed stellar mass; see
        `galineage.models.matching.QuantileMatching`.
    mass : {"match", "keep"}
        Whether stellar masses are matched too.
    views : sequence of {"raw", "matched"}
        What the model is asked about; with both the answers are pooled.
    source : Catalogue, optional
        Training galaxies, by their inputs alone. Default: the sample that the bundle carries for its shift score.

    Returns
    -------
    Bundle
        With the adaptation told on its card. Ranges and shift score remain those of the training galaxies, so that
        flags still say how unlike these a galaxy is. Recalibration and conformal intervals are left behind: they hold
        for the posteriors of the model as it was.

    Raises
    ------
    DataError
        If a domain has fewer than 40 galaxies with all inputs, or the bundle carries no training galaxies.
    ConfigError
        If the model cannot be adapted (several targets, adapted before), or a setting is unknown.
    """
    # error bars that were mended for the model as it was say nothing of the adapted one
    bundle = bundle.uncalibrated()
    inner = bundle.estimator
    if inner.sees_maps:
        raise ConfigError(
            "a network for maps has no features to match",
            expected="a model for tables",
            advice="let it see only channels that transfer, such as mass and kinematics (docs: map networks)",
        )
    x = catalogue.features(inner.features)
    reference = _reference(bundle) if source is None else source.features(inner.features)
    whole = np.isfinite(x).all(axis=1)
    matching = fit_matching(reference, x[whole], inner.features, kind=kind, mass=mass)
    estimator = Adapted(inner.features, inner.target, inner=inner, matching=matching, views=views)
    card = _card(bundle, catalogue, int(whole.sum()), estimator)
    return replace(bundle, estimator=estimator.eval(), card=card)


def _reference(bundle: Bundle) -> NDArray[np.float64]:
    """Features (n, d) of the training galaxies that the bundle carries, registry units or dex."""
    score = bundle.shift
    if not isinstance(score, NeighbourScore):
        raise DataError(
            "the model carries no sample of its training galaxies",
            where=bundle.name,
            expected="a model with a neighbour score, as `galineage train` writes it since format 2",
            advice="train it again, or give the training table as source in Python",
        )
    return score.reference.astype(np.float64) * score.scaler.spread + score.scaler.center


def _card(bundle: Bundle, catalogue: Catalogue, rows: int, estimator: Adapted) -> dict[str, Any]:
    card = dict(bundle.card)
    domains = sorted({str(name) for name in np.unique(catalogue.domain)})
    told = {
        "domains": domains,
        "rows": rows,
        **{key: str(catalogue.meta.get(key, "")) for key in ("file", "sha256")},
        "kind": estimator.matching.kind,
        "mass": estimator.matching.mass,
        "views": list(estimator.views),
        "assumption": ASSUMPTION,
    }
    where = ", ".join(domains)
    limit = (
        f"Adapted without truth to {rows} galaxies of {where} ({told['file'] or 'in memory'}), inputs matched "
        f"{'at fixed stellar mass' if told['kind'] == 'at-mass' else 'one by one'}: {ASSUMPTION}."
    )
    return {
        **card,
        "model": f"{card.get('model', estimator.inner.kind)} (adapted to {where})",
        "adapted": told,
        "metrics": {f"before adaptation: {name}": value for name, value in card.get("metrics", {}).items()},
        "limits": [limit, *card.get("limits", [])],
    }
