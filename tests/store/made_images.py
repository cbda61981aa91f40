"""Made-up images that other processes can use: some are bad, each in its own way."""

from __future__ import annotations

import sys
import time

import numpy as np

from galineage.cutouts import Cutout
from galineage.errors import DataError, FileFormatError
from galineage.galaxy import Catalogue
from galineage.images import ImageRecipe
from galineage.store.image_store import prepare_image_store

BANDS = ("hsc-g", "hsc-r", "hsc-i")
RECIPE = ImageRecipe(BANDS, pixels=16, pixel_scale=0.168)
SIDE = 48


def galaxy(number):
    """Return a round galaxy (3, side, side), nanomaggies, of a size and colour of its own."""
    line = np.arange(SIDE) - (SIDE - 1) / 2
    light = np.exp(-np.hypot(*np.meshgrid(line, line)) / (2 + number % 3))
    values = np.stack([light * (1 + 0.1 * number), 2 * light, 3 * light])
    return values + 1e-3 * np.random.default_rng(number).standard_normal(values.shape)


class Images:
    """Twenty images, two of each galaxy; every seventh is bad in some way."""

    def __init__(self, count=20, wait=0.0, views=2):
        self.ids = tuple(str(k // views) for k in range(count))
        self.wait = wait

    def __len__(self):
        return len(self.ids)

    def read(self, row):
        time.sleep(self.wait)
        values, bands, scale = galaxy(row), BANDS, 0.168
        if row == 3:
            values = np.full_like(values, np.nan)
        if row == 4:
            raise FileFormatError("the file is cut off", where="4.fits")
        if row == 10:
            bands = ("hsc-g", "hsc-r", "hsc-z")
        if row == 17:
            scale = 0.2
        facts = {"r_half": 4.0, "root": f"made:{row // 4}", "measured": {"mstar": 2e10}, "truth": {"f_ex": row / 40}}
        return Cutout(values, bands, scale, redshift=0.1, name=f"{row}", meta={"facts": facts})


class Plain(Images):
    """Facts of galaxies as they are said: ``more`` by identifier, or of all others under None."""

    def __init__(self, more=None):
        super().__init__()
        self.more = more or {None: {}}

    def read(self, row):
        found = super().read(row)
        facts = {"r_half": 4.0, "truth": self.more.get(self.ids[row], self.more[None])}
        return Cutout(
            found.values, found.bands, found.pixel_scale, redshift=0.1, name=found.name, meta={"facts": facts}
        )


class Broken(Images):
    """Fails in a way that concerns everybody."""

    broken = None

    def read(self, row):
        self.broken = DataError("the whole snapshot is gone")
        raise self.broken


BAD = {3: ("r90", "no finite pixel"), 4: ("image", "cut off"), 10: ("bands", "hsc-i"), 17: ("image", "pixels are 0.2")}


def catalogue(count=10):
    """Return truths of the galaxies."""
    columns = {"f_ex": np.linspace(0.01, 0.9, count), "mstar": np.full(count, 1e10), "snapshot": np.full(count, 99)}
    ids = np.arange(count).astype(str)
    root = np.array([f"made:{k // 2}" for k in range(count)])
    return Catalogue(columns, ids, np.full(count, "made"), root)


def build(out, images=None, **options):
    """Make a store."""
    options = {"domain": "made", "progress": False, "per_shard": 6, **options}
    images = Images() if images is None else images
    return prepare_image_store(images, out, options.pop("recipe", RECIPE), **options)


if __name__ == "__main__":  # a run to be killed
    build(sys.argv[1], Images(int(sys.argv[2]), wait=0.01))
