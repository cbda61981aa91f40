"""A made-up snapshot whose stars give light, in an order of its own; other processes can use it."""

from __future__ import annotations

import numpy as np

from galineage.errors import FileFormatError
from galineage.galaxy import Skip
from galineage.light import ImageConfig, Observation
from galineage.stars import Galaxy, Stars
from galineage.store.mock_images import MockConfig

QUICK = MockConfig(ImageConfig(half_width=6.0), views=3, most_pixels=96, seed=4)
CLEAN = Observation(None)


class Snapshot:
    """Eight galaxies, given in the order of their numbers: 3 has no stars, 5 none that give light."""

    name, domain = "made up, snapshot 9", "made"

    def __init__(self, gone=False):
        self.gone, self.asked = gone, []

    def galaxies(self, ids):
        self.asked.append(list(ids))
        for number in sorted(int(one) for one in ids):
            if self.gone:
                raise FileFormatError("the whole snapshot is gone", where="snapshot 9")
            if number == 3:
                yield Skip(number, "3", "stars", "0", "it has no stars")
                continue
            yield self.galaxy(number)

    def galaxy(self, number):
        rng = np.random.default_rng(number)
        radius = 4.0 * rng.exponential(0.6, 400)
        way = rng.normal(size=(400, 3)) * [1.0, 1.0, 0.3]
        position = radius[:, None] * way / np.linalg.norm(way, axis=1, keepdims=True)
        stars = Stars(
            position=position,
            velocity=rng.normal(0, 80, (400, 3)),
            mass=np.full(400, 5e7),
            metallicity=np.full(400, 0.02),
            age=rng.uniform(1, 12, 400),
            initial_mass=None if number == 5 else np.full(400, 9e7),
            ex_situ=rng.uniform(size=400) < 0.3,
        )
        return Galaxy(
            str(number), "made", stars, 3.0, redshift=0.05, snapshot=9, root=f"made:{number}", truth={"sfr": 1.5}
        )
