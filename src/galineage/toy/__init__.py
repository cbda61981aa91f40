"""The toy universe: galaxies whose every answer is known, drawn from published relations. Not a simulation."""

from galineage.toy.suites import SUITES, Suite, make_toy, write_toy

__all__ = ["SUITES", "Suite", "make_toy", "write_toy"]
