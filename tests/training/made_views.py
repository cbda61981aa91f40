"""Maps in memory and trainings that other processes can make: they must be importable there."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from galineage.galaxy import Catalogue
from galineage.models import make_estimator
from galineage.models.map_inputs import MapInputs
from galineage.training import MapTrainConfig, map_loop

FIT = map_loop._fit
CUT = 3


class Held:
    """Maps in memory."""

    channels, recipe = ("mass", "velocity"), {"maps": {"half_width_r_half": 2.0}}

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def select(self, which):
        return Held(self.values[which])

    def lacks(self, channels):
        return np.zeros(len(self), bool)

    def read(self, which):
        return self.values[which]


def views(n=120, seed=0):
    """Maps whose width tells the target; two views of each galaxy."""
    rng = np.random.default_rng(seed)
    f_ex = np.repeat(rng.uniform(0.05, 0.95, n // 2), 2)
    y, x = np.mgrid[:16, :16] + 0.5 - 8
    mass = np.exp(-np.hypot(x, y)[None] / (1 + 4 * f_ex[:, None, None])) + 0.02 * rng.standard_normal((n, 16, 16))
    maps = np.stack([mass / mass.std(axis=(1, 2), keepdims=True), rng.standard_normal((n, 16, 16))], axis=1)
    root = np.repeat(np.arange(n // 2), 2).astype(str)
    columns = {"f_ex": f_ex, "mstar": np.full(n, 1e10)}
    return Catalogue(columns, np.arange(n) // 2, np.asarray("made"), root, maps=Held(maps.astype(np.float16)))


def fitted(config, folder=None, catalogue=None, towards=None, **options):
    catalogue = views() if catalogue is None else catalogue
    settings = {"members": 2, "channels": Held.channels, "pixels": 16, "widths": (8,), "seed": 4, **options}
    estimator = make_estimator(settings.pop("preset", "maps"), (), **settings)
    result = map_loop.fit_map_network(
        estimator, MapInputs.of(catalogue), catalogue["f_ex"], config, groups=catalogue.root, folder=folder,
        progress=False, **(towards or {}),
    )  # fmt: skip
    return estimator, result


def killed(share, *arguments):
    """Do a process's work; the second one is killed after the third epoch, the second member's first.

    It waits until the first one, which ends with it, has written that epoch down.
    """
    epoch = map_loop._Run._one_epoch

    def dies(self):
        if len(self.state.history) == CUT and share.rank == 1:
            end = time.monotonic() + 60
            while len((self.path.parent / "history.csv").read_text().splitlines()) < 1 + CUT:
                assert time.monotonic() < end
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return epoch(self)

    map_loop._Run._one_epoch = dies
    return FIT(share, *arguments)


if __name__ == "__main__":  # a training by two processes that does not end by itself
    fitted(MapTrainConfig(max_epochs=10**6, patience=10**6, batch_size=16, device="cpu", devices=2), Path(sys.argv[1]))
