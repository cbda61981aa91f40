"""The truth about a galaxy's history, from merger trees."""

from galineage.history.mergers import MAJOR, Mergers, find_mergers, statistics
from galineage.history.origin import birthplaces, classify, ex_situ_fraction
from galineage.history.traced import TracedEagle

__all__ = [
    "MAJOR",
    "Mergers",
    "TracedEagle",
    "birthplaces",
    "classify",
    "ex_situ_fraction",
    "find_mergers",
    "statistics",
]
