"""Snapshots of simulations in the formats in which they are published: galaxies with their star particles."""

from galineage.sources.native.births import StarBirths
from galineage.sources.native.eagle import EagleGalaxy, EagleSource
from galineage.sources.native.eagle_tables import EagleExport
from galineage.sources.native.memory import from_box, read_cutout
from galineage.sources.native.opening import open_snapshot
from galineage.sources.native.selection import EAGLE_VIEWS, TNG_VIEWS, Selection, view_counts
from galineage.sources.native.sublink import SubLink, read_tree_cutout
from galineage.sources.native.tng import TngSource
from galineage.sources.native.tng_groups import MissingChunksWarning
from galineage.sources.native.web import TngApi

__all__ = [
    "EAGLE_VIEWS",
    "TNG_VIEWS",
    "EagleExport",
    "EagleGalaxy",
    "EagleSource",
    "MissingChunksWarning",
    "Selection",
    "StarBirths",
    "SubLink",
    "TngApi",
    "TngSource",
    "from_box",
    "open_snapshot",
    "read_cutout",
    "read_tree_cutout",
    "view_counts",
]
