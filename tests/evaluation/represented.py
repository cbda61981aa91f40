"""Made-up representations of galaxies: six hidden numbers behind them, and properties that these decide."""

from __future__ import annotations

import numpy as np

from galineage.evaluation.sample import Sample


def domain(name, n=240, shift=0.0, seed=0, width=24, views=1):
    """Rows in the order of galaxies, ``views`` of each; ``shift`` moves the first hidden number."""
    rng = np.random.default_rng(seed)
    hidden = np.repeat(rng.standard_normal((-(-n // views), 6)), views, axis=0)[:n]
    hidden[:, 0] += shift
    mixed = np.tanh(0.5 * hidden @ np.random.default_rng(99).standard_normal((6, width)))
    values = mixed + 0.1 * rng.standard_normal((n, width))
    values[:, 0] = 0.0  # a coordinate that the network never uses
    properties = {
        "mstar": 10 ** (10.5 + 0.4 * hidden[:, 1]),
        "f_ex": 1 / (1 + np.exp(-hidden[:, 2])),
        "noise": rng.standard_normal(n),
    }
    galaxies = np.array([f"{name}/{row // views}" for row in range(n)])
    return Sample(name, values, properties, galaxies)
