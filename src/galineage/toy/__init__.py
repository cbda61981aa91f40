"""The toy universe: galaxies whose every answer is known, drawn from published relations. Not a simulation."""

from galineage.toy.eagle_files import write_eagle_box
from galineage.toy.particles import make_galaxies, measure_toy
from galineage.toy.suites import SUITES, Suite, make_toy
from galineage.toy.tng_files import write_tng_box

__all__ = [
    "SUITES",
    "Suite",
    "make_galaxies",
    "make_toy",
    "measure_toy",
    "write_eagle_box",
    "write_tng_box",
]
