"""Galaxies whose calibration is known: Gaussian posteriors whose truth has another centre or width."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch.distributions import Normal

from galineage.models.bounded import TruncatedMixture, WidenedLogit
from galineage.posterior import Posterior


def places(n, bias, width, seed=0):
    """PIT of truths N(bias, 1) under posteriors N(0, width)."""
    return ndtr(np.random.default_rng(seed).normal(bias, 1, n) / width)


def true_coverage(recalibration, level, bias, width):
    """Exact coverage of the recalibrated central interval for such truths."""
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    low, high = ndtri(recalibration.inverse(tails).numpy()) * width
    return ndtr(high - bias) - ndtr(low - bias)


def gaussian(n=7, members=2, seed=0):
    """Posterior of two normal members per galaxy, unbounded."""
    generator = torch.Generator().manual_seed(seed)
    loc = torch.randn(members, n, generator=generator)
    return Posterior(Normal(loc, 0.3 + torch.rand(members, n, generator=generator)))


def bounded(n=7, members=2, seed=0):
    """Posterior of truncated mixtures in [0, 1]; some lean on a bound."""
    generator = torch.Generator().manual_seed(seed)
    shape = (members, n, 3)
    loc = 2 * torch.randn(shape, generator=generator)
    scale = 0.3 + torch.rand(shape, generator=generator)
    return Posterior(TruncatedMixture(torch.randn(shape, generator=generator), loc, scale, WidenedLogit()))
