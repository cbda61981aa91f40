"""Places of representations on a plane, and how far domains mix among nearest neighbours."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.shift.neighbours import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["foreign_share", "mixing", "placed", "principal_components"]

NEIGHBOURS = 15
"""Nearest neighbours whose domains are counted."""

_UMAP_SEARCHES = 4096
"""Rows from which UMAP would only estimate who is near; below, it compares all pairs itself."""


def principal_components(values: NDArray[Any], most: int) -> Array:
    """Return the first principal components (n, at most ``most``) of rows (n, k), in their unit."""
    from sklearn.decomposition import PCA

    parts = min(most, values.shape[1], len(values))
    return np.asarray(PCA(parts, svd_solver="full", random_state=0).fit_transform(values), dtype=np.float64)


def placed(values: Array, *, neighbours: int = 15, min_dist: float = 0.1, seed: int = 0) -> tuple[Array, str]:
    """Place rows on a plane so that those stay near each other which are alike.

    Parameters
    ----------
    values : array (n, k)
        Any unit, finite. Distances are Euclidean.
    neighbours : int
        How many nearest neighbours keep a row in its place, itself among them.
    min_dist : float
        How near rows may come on the plane.
    seed : int
        Of UMAP (McInnes+2018).

    Returns
    -------
    place : array (n, 2)
        No unit. Without the package umap-learn, the first two principal components.
    method : str
        How the places were found.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # of Tensorflow, which one of its parts would like
            import umap
    except ImportError:
        return principal_components(values, 2), "principal components (umap-learn is not installed)"
    neighbours = min(neighbours, len(values) - 1)
    settings: dict[str, Any] = {"n_neighbors": neighbours, "min_dist": min_dist, "random_state": seed, "n_jobs": 1}
    if len(values) >= _UMAP_SEARCHES:
        distances, indices = nearest(values, values, neighbours - 1, p=2, exclude_self=True)
        itself = np.arange(len(values))[:, None]
        near = np.hstack([itself, indices]), np.hstack([np.zeros_like(itself, dtype=np.float64), distances])
        settings["precomputed_knn"] = tuple(np.ascontiguousarray(part) for part in near)
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        # it warns that new rows could not be placed, which nobody asks for
        warnings.filterwarnings("ignore", message="precomputed_knn")
        place = umap.UMAP(**settings).fit_transform(np.asarray(values, dtype=np.float32))
    torch.set_num_threads(threads)  # its libraries change what is not theirs
    return np.asarray(place, dtype=np.float64), "UMAP"


def foreign_share(values: Array, domain: NDArray[np.str_], neighbours: int = NEIGHBOURS) -> Array:
    """Fraction (n,) of each row's nearest neighbours, by Euclidean distance, that come from another domain.

    Parameters
    ----------
    values : array (n, k)
        Any unit, finite.
    domain : array (n,) of str
    neighbours : int
        How many are counted.
    """
    found = nearest(values, values, min(neighbours, len(values) - 1), p=2, exclude_self=True)[1]
    return np.asarray((domain[found] != domain[:, None]).mean(axis=1))


def mixing(values: Array, domain: NDArray[np.str_]) -> float:
    """Share of the 15 nearest neighbours from other domains, over that of a random draw.

    Parameters
    ----------
    values : array (n, k)
        Any unit.
    domain : array (n,) of str

    Returns
    -------
    float
        NaN for a single domain.
    """
    foreign = foreign_share(values, domain)
    parts = [(foreign[domain == name].mean(), (domain != name).mean()) for name in np.unique(domain)]
    expected = [share for _, share in parts if share > 0]
    return float(np.mean([a for a, _ in parts]) / np.mean(expected)) if expected else float("nan")
