"""galineage: how a galaxy was assembled, inferred from what can be observed."""

__version__ = "0.1.0"
