"""Modes of posterior draws against a slow twin: kernels at every draw, folded back at the bounds of the range."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from galineage.joint_posterior import Marginal


def slow_mode(draws, low, high):
    """Mode of a Gaussian kernel density of Silverman's width with mirror images beyond both bounds."""
    q25, q75 = np.quantile(draws, [0.25, 0.75])
    width = 0.9 * min(draws.std(ddof=1), (q75 - q25) / 1.349) * len(draws) ** -0.2
    grid = np.linspace(low, high, 4001)
    mirrored = np.concatenate([draws, 2 * low - draws, 2 * high - draws])
    density = np.exp(-0.5 * ((grid[:, None] - mirrored) / width) ** 2).sum(axis=1)
    return grid[density.argmax()], density, grid


@pytest.mark.parametrize(
    "law",
    [
        stats.beta(1, 8),  # highest at zero, where the published finder of peaks finds none
        stats.beta(8, 1),
        stats.beta(3, 7),
        stats.beta(0.5, 0.9),
        stats.uniform(0.2, 0.1),
    ],
)
def test_modes_are_those_of_a_slow_twin(law, rng):
    samples = law.rvs((400, 25), random_state=rng)
    found = Marginal("f_ex", samples).map
    for draws, mode in zip(samples.T, found, strict=True):
        expected, density, grid = slow_mode(draws, 0.0, 1.0)
        # of two peaks of nearly one height either may be taken
        assert abs(mode - expected) < 0.02 or np.interp(mode, grid, density) > 0.99 * density.max()
