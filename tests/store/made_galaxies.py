"""A source of made-up galaxies that other processes can use: some are bad, each in its own way."""

from __future__ import annotations

import sys
import time

import numpy as np

from galineage.errors import DataError
from galineage.galaxy import Catalogue, Skip
from galineage.stars import Galaxy, Stars
from galineage.store.prepare import prepare
from galineage.store.settings import StoreConfig
from galineage.views import MapConfig


class Made:
    name, domain = "made up", "made"

    def __init__(self, count=20, stars=300, wait=0.0):
        self.count, self.stars, self.wait = count, stars, wait

    def catalogue(self):
        ids = np.arange(self.count).astype(str)
        columns = {"f_ex": np.linspace(0.01, 0.9, self.count), "mstar": np.full(self.count, 2e10),
                   "snapshot": np.full(self.count, 99)}  # fmt: skip
        root = np.array([f"made:{k // 2}" for k in range(self.count)])
        return Catalogue(columns, ids, np.full(self.count, "made"), root)

    def galaxies(self, ids):
        for one in ids:
            time.sleep(self.wait)
            number = int(one)
            if number % 7 == 3:
                yield Skip(number, one, "stars", "0", "it has no stars")
                continue
            rng = np.random.default_rng(number)
            n = 1 if number == 5 else self.stars
            plain = rng.normal(0, 4, (n, 3)), rng.normal(0, 80, (n, 3)), rng.uniform(1e5, 1e6, n)
            ages = rng.uniform(0, 13, n) if number % 5 else None
            stars = Stars(*plain, metallicity=rng.uniform(0, 0.03, n), age=ages)
            if number == 8:
                yield Galaxy(one, "made", stars.select(np.zeros(n, dtype=bool)), 4.0, snapshot=99)
                continue
            yield Galaxy(one, "made", stars, 4.0, snapshot=99, root=f"made:{number // 2}")


class Broken(Made):
    """Fails in a way that concerns everybody."""

    def galaxies(self, ids):
        if "10" in list(ids):
            raise DataError("the whole snapshot is gone")
        yield from super().galaxies(ids)


SMALL = StoreConfig(maps=MapConfig(pixels=16), views=3, galaxies_per_shard=4)


if __name__ == "__main__":  # a run to be killed
    source = Made(int(sys.argv[2]), wait=0.01)
    prepare(source, source.catalogue(), sys.argv[1], SMALL, progress=False)
