"""Another prior than that of the training galaxies, estimated from galaxies without truth (label shift)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import ConfigError, DataError
from galineage.models.prior_corrected import PriorCorrected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.models.bundle import Bundle

    Array = NDArray[np.float64]

__all__ = ["LABEL_SHIFT", "correct_prior", "estimate_prior"]

LABEL_SHIFT = "assumes that galaxies of one ex-situ fraction look the same in both domains"
"""What a corrected model rests on, in one sentence; no data without truth can test it."""

_BINS = 40
_RIDGE = 1e-3
_STEEPEST = 6.0
_FEWEST = 40


def estimate_prior(masses: Array, prior: Array, values: Array, *, degree: int = 2) -> Array:
    """Estimate how often each value of a target occurs, from posteriors made with another prior.

    The likelihood of the galaxies, each of which has the probability ``sum_k m_k w_k / sum_k q_k w_k`` for posterior m,
    prior q and ratio w (Saerens, Latinne & Decaestecker 2002, section 2.2), is largest for a ratio that is the exponent
    of a polynomial of the value. Free ratios of narrow bins, as in that work, are a deconvolution of values that the
    posteriors do not resolve: without any shift they came out between 0.5 and 1.7.

    Parameters
    ----------
    masses : array (n, K)
        Posterior probability of each of K bins for each galaxy, rows summing to 1.
    prior : array (K,)
        Of the training galaxies, summing to 1.
    values : array (K,)
        Value of the target in each bin, its unit.
    degree : int
        Of the polynomial: 1 makes values rarer or more frequent towards one side, 2 narrower or wider too.

    Returns
    -------
    array (K,)
        Ratio of the new prior to the old one, above 0, whose mean over the old one is 1.
    """
    from scipy.optimize import minimize

    basis = np.stack([np.polynomial.legendre.legval(_scaled(values), np.eye(degree + 1)[k + 1]) for k in range(degree)])

    def less_likely(factors: Array) -> tuple[float, Array]:
        ratio = np.exp(np.clip(factors @ basis, -_STEEPEST, _STEEPEST))
        each, mean = masses @ ratio, prior @ ratio
        slope = ((masses * ratio) @ basis.T / each[:, None]).mean(axis=0) - (basis * prior) @ ratio / mean
        loss = np.log(each).mean() - np.log(mean)
        return float(-loss + _RIDGE * factors @ factors), -slope + 2 * _RIDGE * factors

    found = minimize(less_likely, np.zeros(degree), jac=True, method="L-BFGS-B")
    ratio = np.exp(np.clip(found.x @ basis, -_STEEPEST, _STEEPEST))
    return np.asarray(ratio / (prior @ ratio))


def _scaled(values: Array) -> Array:
    return 2 * (values - values[0]) / (values[-1] - values[0]) - 1


def correct_prior(bundle: Bundle, catalogue: Catalogue, *, source: Catalogue, degree: int = 2) -> Bundle:
    """Take a model's posteriors to the distribution of the target in another domain, which has no truth.

    Parameters
    ----------
    bundle : Bundle
        A trained model of a fraction.
    catalogue : Catalogue
        Galaxies of the other domain, or views with maps: inputs alone are read.
    source : Catalogue
        Training galaxies, of which the truth is read: their distribution is the prior that the model has learned.
    degree : int
        Of the polynomial whose exponent is the ratio of the priors; see `estimate_prior`.

    Returns
    -------
    Bundle
        With the correction told on its card; recalibration and conformal intervals are left behind.

    Raises
    ------
    DataError
        If a domain has fewer than 40 galaxies with all that is needed.
    ConfigError
        If the model cannot be corrected, or ``degree`` is out of range.
    """
    if not 1 <= degree <= 6:
        raise ConfigError(f"degree is {degree}", expected="1 to 6")
    bundle = bundle.uncalibrated()
    inner = bundle.estimator
    if inner.joint or inner.kind == PriorCorrected.kind:
        raise ConfigError(f"the prior of a model of kind {inner.kind!r} cannot be corrected", expected="one target")
    inner.require_fraction()
    truth = np.asarray(source[inner.target], dtype=np.float64)
    truth, seen = truth[np.isfinite(truth)], catalogue.select(inner.usable(catalogue))
    for values, whose in ((truth, "training galaxies with truth"), (seen, "galaxies of the other domain")):
        if len(values) < _FEWEST:
            raise DataError(f"there are {len(values)} {whose}", expected=f"{_FEWEST} or more with all inputs")
    edges = np.linspace(0, 1, _BINS + 1)
    prior = np.histogram(truth, edges)[0] / len(truth)
    ratio = estimate_prior(_masses(inner, seen, edges), prior, 0.5 * (edges[1:] + edges[:-1]), degree=degree)
    estimator = PriorCorrected(inner.features, inner.target, inner=inner, edges=edges.tolist(), ratio=ratio.tolist())
    card = _card(bundle, catalogue, len(seen), edges, prior, prior * ratio)
    return replace(bundle, estimator=estimator.eval(), card=card)


def _masses(estimator: Any, catalogue: Catalogue, edges: Array) -> Array:
    """Posterior probabilities (n, K) of the bins, of all members together."""
    inputs = estimator.inputs(catalogue)
    marks = torch.tensor(edges, dtype=torch.float32)[:, None, None]
    parts = []
    with torch.no_grad():
        for start in range(0, len(catalogue), 256):
            piece = inputs[start : start + 256]
            context = piece if isinstance(piece, torch.Tensor) else torch.tensor(piece, dtype=torch.float32)
            below = estimator(context).cdf(marks).mean(dim=1)
            parts.append(below.diff(dim=0).clamp_min(0).T.double().numpy())
    masses = np.concatenate(parts) + 1e-9
    return np.asarray(masses / masses.sum(axis=1, keepdims=True))


def _card(bundle: Bundle, catalogue: Catalogue, rows: int, edges: Array, prior: Array, found: Array) -> dict[str, Any]:
    card, domains = dict(bundle.card), sorted({str(name) for name in np.unique(catalogue.domain)})
    told = {
        "domains": domains,
        "rows": rows,
        **{key: str(catalogue.meta.get(key, "")) for key in ("file", "sha256")},
        "kind": "prior",
        "edges": edges.tolist(),
        "prior": prior.tolist(),
        "estimated": found.tolist(),
        "assumption": LABEL_SHIFT,
    }
    where = ", ".join(domains)
    limit = f"Prior corrected without truth by {rows} rows of {where} ({told['file'] or 'in memory'}): {LABEL_SHIFT}."
    return {
        **card,
        "model": f"{card.get('model', bundle.estimator.kind)} (prior corrected to {where})",
        "adapted": told,
        "metrics": {f"before correction: {name}": value for name, value in card.get("metrics", {}).items()},
        "limits": [limit, *card.get("limits", [])],
    }
