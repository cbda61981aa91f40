"""Cameras, and the engine that turns star particles into maps."""

from galineage.views.cameras import (
    View,
    edge_on,
    face_on,
    fibonacci,
    inclined,
    legacy_eagle,
    legacy_tng,
    mirrors,
    polyhedron,
    random_views,
)
from galineage.views.engine import make_maps, systemic_velocity
from galineage.views.maps import CHANNELS, UNITS, MapConfig, Maps
from galineage.views.masks import circle, hexagon, particle_mask, signal_mask
from galineage.views.psf import ArrayPSF, DoubleGaussianPSF, GaussianPSF
from galineage.views.refine import APERTURE_FIRST, PUBLISHED, VALID_ONLY, Refined, Refinement, refine, refine_values
from galineage.views.smoothing import Adaptive
from galineage.views.voronoi import Bins, bin_maps, voronoi_bins

__all__ = [
    "APERTURE_FIRST",
    "CHANNELS",
    "PUBLISHED",
    "UNITS",
    "VALID_ONLY",
    "Adaptive",
    "ArrayPSF",
    "Bins",
    "DoubleGaussianPSF",
    "GaussianPSF",
    "MapConfig",
    "Maps",
    "Refined",
    "Refinement",
    "View",
    "bin_maps",
    "circle",
    "edge_on",
    "face_on",
    "fibonacci",
    "hexagon",
    "inclined",
    "legacy_eagle",
    "legacy_tng",
    "make_maps",
    "mirrors",
    "particle_mask",
    "polyhedron",
    "random_views",
    "refine",
    "refine_values",
    "signal_mask",
    "systemic_velocity",
    "voronoi_bins",
]
