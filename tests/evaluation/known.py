"""Scores whose calibration is known exactly: Gaussian posteriors, every column in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from galineage.evaluation.scores import Scores

WIDTH = 0.08


def gaussian(truth, mu, sigma, mstar, rng, draws=1000, **labels):
    """Scores of posteriors N(mu, sigma) for given truths."""
    n = len(truth)
    mu, sigma = np.broadcast_to(mu, n).astype(float), np.broadcast_to(sigma, n).astype(float)
    z = (truth - mu) / sigma
    pit = ndtr(z)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    quantile = {"p025": -1.959963984540054, "p16": -0.994457883209753, "p50": 0.0}
    quantile |= {"p84": 0.994457883209753, "p975": 1.959963984540054}
    reference = rng.uniform(truth.min(), truth.max(), n)
    near = np.abs(truth - reference)
    nearer = ndtr((reference + near - mu) / sigma) - ndtr((reference - near - mu) / sigma)
    return Scores(
        ids=np.arange(n).astype(str),
        truth=truth,
        mstar=mstar,
        **{name: mu + k * sigma for name, k in quantile.items()},
        mean=mu,
        std=sigma,
        map=mu,
        aleatoric=0.8 * sigma,
        epistemic=0.6 * sigma,
        pit=pit,
        log_prob=-0.5 * z**2 - np.log(sigma * np.sqrt(2 * np.pi)),
        crps=sigma * (z * (2 * pit - 1) + 2 * density - 1 / np.sqrt(np.pi)),
        rank=rng.binomial(draws, pit),
        tarp=rng.binomial(draws, np.clip(nearer, 0, 1)) / draws,
        draws=draws,
        # of galaxies like those of the training: 5 % above 1, whatever the error; its own generator, not to move others
        shift=np.exp(0.25 * (np.random.default_rng(n).standard_normal(n) - 1.645)),
        **labels,
    )


def universe(n, rng):
    """Truths like f_ex (skewed, rising with mass) in [0, 1], and stellar masses in Msun."""
    log_mass = np.minimum(10 + rng.exponential(0.4, n), 12.2)
    mean = 0.06 + 0.64 / (1 + np.exp(-(log_mass - 11.0) / 0.25))
    return rng.beta(6 * mean, 6 * (1 - mean)), 10**log_mass


def skewed(n=500, seed=0, width=0.5, *, shift=0.0, **labels):
    """Right scores of log-normal posteriors: their mean lies above their median by exp(width**2 / 2).

    ``shift`` moves the posteriors by so many widths, which makes them wrong. ``map``, ``tarp`` and the ensemble's parts
    are not those of a log-normal.
    """
    rng = np.random.default_rng(seed)
    centre, mstar = universe(n, rng)
    mu = np.log(0.02 + centre) - 1
    base = gaussian(mu + width * rng.standard_normal(n), mu + shift * width, width, mstar, rng, **labels)
    quantiles = {name: np.exp(getattr(base, name)) for name in ("p025", "p16", "p50", "p84", "p975")}
    mean = np.exp(base.mean + 0.5 * width**2)
    std = mean * np.sqrt(np.expm1(width**2))
    truth = np.exp(base.truth)
    return replace(base, truth=truth, mean=mean, std=std, log_prob=base.log_prob - base.truth, **quantiles)


def scores(kind="right", n=500, seed=0, width=WIDTH, **labels):
    """Scores that are right, too narrow, too wide, shifted by half a width, or the prior.

    Truths are drawn from the posterior N(centre, width), which is what calibrated means. The other way round, a centre
    scattered around the truth, is right only for a flat prior: PIT and ranks cannot tell, TARP can.
    """
    rng = np.random.default_rng(seed)
    centre, mstar = universe(n, rng)
    truth = centre + width * rng.standard_normal(n)
    if kind == "prior":
        truth = 0.3 + 0.2 * rng.standard_normal(n)
        return gaussian(truth, 0.3, 0.2, mstar, rng, **labels)
    factor, shift = {"right": (1, 0), "narrow": (0.7, 0), "wide": (1.4, 0), "high": (1, 0.5), "low": (1, -0.5)}[kind]
    return gaussian(truth, centre + shift * width, factor * width, mstar, rng, **labels)
