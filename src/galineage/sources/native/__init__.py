"""Snapshots of simulations in the formats in which they are published: galaxies with their star particles."""

from galineage.sources.native.eagle import EagleGalaxy, EagleSource
from galineage.sources.native.memory import from_box, read_cutout
from galineage.sources.native.selection import EAGLE_VIEWS, TNG_VIEWS, Selection, view_counts
from galineage.sources.native.tng import TngSource

__all__ = [
    "EAGLE_VIEWS",
    "TNG_VIEWS",
    "EagleGalaxy",
    "EagleSource",
    "Selection",
    "TngSource",
    "from_box",
    "read_cutout",
    "view_counts",
]
