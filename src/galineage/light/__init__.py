"""The light of stars: magnitudes of populations, images of galaxies, and what a telescope makes of them."""

from galineage.light.distances import distance_modulus, kpc_per_arcsec
from galineage.light.dust import TwoScreens
from galineage.light.files import write_images
from galineage.light.images import ImageConfig, make_images
from galineage.light.observing import Insertion, Observation, hsc_wide, insert, observe, sky_noise
from galineage.light.resampling import rebin, rebin_cutout
from galineage.light.seeing import GaussianSeeing, MeasuredSeeing, MoffatSeeing, Seeing, convolve
from galineage.light.starlight import OutsideTableWarning, Starlight, population_magnitudes, starlight
from galineage.light.table import BANDS, PopulationTable, population_table

__all__ = [
    "BANDS",
    "GaussianSeeing",
    "ImageConfig",
    "Insertion",
    "MeasuredSeeing",
    "MoffatSeeing",
    "Observation",
    "OutsideTableWarning",
    "PopulationTable",
    "Seeing",
    "Starlight",
    "TwoScreens",
    "convolve",
    "distance_modulus",
    "hsc_wide",
    "insert",
    "kpc_per_arcsec",
    "make_images",
    "observe",
    "population_magnitudes",
    "population_table",
    "rebin",
    "rebin_cutout",
    "sky_noise",
    "starlight",
    "write_images",
]
