"""Images made ready for networks and comparisons: sizes, crops, stretches, and samples that are matched."""

from galineage.images.crop import crop_cutout, resize, resize_cutout
from galineage.images.matching import MASS_BOX, PUBLISHED_BOX, Matches, match_greedy, match_optimal
from galineage.images.petrosian import Petrosian, PetrosianConfig, measure_petrosian
from galineage.images.preparing import ImageRecipe, PreparedImages, prepare_images
from galineage.images.stretch import ColourStretch, LogStretch, stretch, stretch_all

__all__ = [
    "MASS_BOX",
    "PUBLISHED_BOX",
    "ColourStretch",
    "ImageRecipe",
    "LogStretch",
    "Matches",
    "Petrosian",
    "PetrosianConfig",
    "PreparedImages",
    "crop_cutout",
    "match_greedy",
    "match_optimal",
    "measure_petrosian",
    "prepare_images",
    "resize",
    "resize_cutout",
    "stretch",
    "stretch_all",
]
