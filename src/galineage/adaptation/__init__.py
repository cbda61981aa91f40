"""Fitting a trained model to galaxies of another domain by their inputs alone: the truth is never looked at."""

from galineage.adaptation.adapting import ASSUMPTION, adapt
from galineage.adaptation.matching import fit_matching
from galineage.adaptation.prior import correct_prior, estimate_prior
from galineage.adaptation.weights import effective_size, importance_weights
from galineage.models.matching import QuantileMatching

__all__ = [
    "ASSUMPTION",
    "QuantileMatching",
    "adapt",
    "correct_prior",
    "effective_size",
    "estimate_prior",
    "fit_matching",
    "importance_weights",
]
