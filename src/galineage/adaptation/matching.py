"""Fitting the maps of `galineage.models.matching.QuantileMatching` to the features of two domains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import DataError
from galineage.models.matching import QuantileMatching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["FEWEST", "fit_matching"]

FEWEST = 40
"""Fewest galaxies of a domain, and of a window in mass."""

_KNOTS = 201
_FRACTION = 0.1


def fit_matching(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    features: Sequence[str],
    *,
    kind: str = "marginal",
    mass: str = "match",
) -> QuantileMatching:
    """Find the maps that give the features of the target domain the distribution they have in the source domain.

    Of the kind ``marginal`` every feature is mapped by its rank. Of the kind ``at-mass`` every feature but the stellar
    mass is mapped by its rank among the galaxies of a rolling window in mass rank, which holds a tenth of the galaxies
    or 40 of them. Its partner in the source domain is the window of the same mass ranks, or with ``mass="keep"`` that
    of the same masses (of the nearest ones where there are fewer than 40). The maps of two neighbouring windows are
    interpolated in mass.

    Parameters
    ----------
    source : array (n, d)
        Features of training galaxies, registry units, dex where logarithmic. Rows with a missing value are left out.
    target : array (m, d)
        Features of galaxies of the other domain, alike. Nothing else of them is used.
    features : sequence of str, length d
        Field names of the columns.
    kind, mass : str
        See `galineage.models.matching.QuantileMatching`.

    Returns
    -------
    QuantileMatching
        With 201 knots, or as many as the smallest set or window has galaxies.

    Raises
    ------
    DataError
        If a set has fewer than 40 whole rows, or another number of columns than there are features.
    ConfigError
        If a setting is unknown.
    """
    here, there = (_whole(rows, len(features), name) for rows, name in ((source, "source"), (target, "target")))
    if kind != "at-mass" or "mstar" not in features:
        made = QuantileMatching(features, kind, mass, knots=min(_KNOTS, len(here), len(there)))
        _set_knots(made, [there], [here])
        return made
    column = list(features).index("mstar")
    windows = _windows(there[:, column], here[:, column], mass)
    knots = min(_KNOTS, *(len(rows) for pair in windows for rows in pair))
    made = QuantileMatching(features, kind, mass, knots=knots, nodes=len(windows))
    _set_knots(made, [there[rows] for rows, _ in windows], [here[rows] for _, rows in windows])
    made.masses.copy_(torch.tensor([float(np.median(there[rows, column])) for rows, _ in windows]))
    # the mass has one map, from the ranks among all galaxies
    whole = QuantileMatching(features, knots=knots)
    _set_knots(whole, [there], [here])
    made.target[:, column], made.source[:, column] = whole.target[0, column], whole.source[0, column]
    return made


def _whole(rows: Any, columns: int, name: str) -> Array:
    made = np.asarray(rows, dtype=np.float64)
    if made.ndim != 2 or made.shape[1] != columns:
        raise DataError(f"the {name} features have shape {made.shape}", expected=f"(galaxies, {columns})")
    present = np.isfinite(made)
    whole = made[present.all(axis=1)]
    if len(whole) < FEWEST:
        share = "" if not len(made) else f"; input by input {', '.join(str(count) for count in present.sum(axis=0))}"
        raise DataError(
            f"the {name} domain has {len(whole)} galaxies with all inputs{share}",
            expected=f"{FEWEST} or more",
            advice="a distribution cannot be told from so few; look for an input that is missing everywhere",
        )
    return whole


def _windows(there: Array, here: Array, mass: str) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of target and source rows, window by window, from the masses (m,) and (n,), dex."""
    fraction = min(1.0, max(_FRACTION, FEWEST / len(there), FEWEST / len(here)))
    centers = np.linspace(fraction / 2, 1 - fraction / 2, max(1, math.ceil(2 / fraction) - 1))
    own, others = np.argsort(there, kind="stable"), np.argsort(here, kind="stable")
    pairs = []
    for center in centers:
        rows = own[_slice(center, fraction, len(own))]
        if mass == "keep":
            masses = here[others]
            first = np.searchsorted(masses, there[rows].min())
            last = np.searchsorted(masses, there[rows].max(), side="right")
            if last - first < FEWEST:
                middle = np.searchsorted(masses, np.median(there[rows]))
                first = int(np.clip(middle - FEWEST // 2, 0, len(others) - FEWEST))
                last = first + FEWEST
            partners = others[first:last]
        else:
            partners = others[_slice(center, fraction, len(others))]
        pairs.append((rows, partners))
    return pairs


def _slice(center: float, fraction: float, count: int) -> slice:
    width = max(1, min(count, round(fraction * count)))
    start = int(np.clip(round(center * count - width / 2), 0, count - width))
    return slice(start, start + width)


def _set_knots(made: QuantileMatching, targets: list[Array], sources: list[Array]) -> None:
    """Put quantiles of each node's rows (n_i, d), features' units, into a matching."""
    levels = (np.arange(made.knots) + 0.5) / made.knots
    for node, (target, source) in enumerate(zip(targets, sources, strict=True)):
        t, s = (np.quantile(rows, levels, axis=0, method="hazen").T.astype(np.float32) for rows in (target, source))
        s = np.stack([_averaged(*pair) for pair in zip(t, s, strict=True)])
        made.target[node], made.source[node] = torch.from_numpy(t), torch.from_numpy(s)


def _averaged(target: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    """Source knots (K,) in the features' unit, with one mean value where the target has one value several times."""
    _, groups = np.unique(target, return_inverse=True)
    return np.asarray((np.bincount(groups, source) / np.bincount(groups))[groups], dtype=np.float32)
