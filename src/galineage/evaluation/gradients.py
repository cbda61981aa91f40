"""Radial gradients of refined maps against the ex-situ fraction (Angeloudi+2023, Fig. 13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.example_maps import TITLES
from galineage.evaluation.style import colour, new_figure, styled
from galineage.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.store.map_store import MapStore

    Array = NDArray[np.float64]

__all__ = ["PAIRS", "Gradients", "compute", "draw", "judge", "ring_means"]

RINGS = {"r/4": (0.0, 8.0), "r/2": (14.0, 18.0), "r": (30.0, 34.0), "2r": (48.0, np.inf)}
"""Inner and outer radius of each ring in pixels of a map of 128, as in the authors' code: the innermost is a disc of a
quarter of the half-mass radius, the outermost everything beyond one and a half."""

PAIRS = (("r/2", "r/4"), ("2r", "r/4"), ("2r", "r"))
"""Rings whose means are subtracted from each other."""

_CHUNK = 256


@dataclass(frozen=True)
class Gradients:
    """Gradients in bins of the ex-situ fraction, for several sets of maps.

    Attributes
    ----------
    domains, channels : tuple of str
        Along the first and second axis of the numbers.
    edges : array (b + 1,)
        Bins of f_ex, no unit.
    middle, low, high, error : array (domains, channels, pairs, b)
        Median, 16 % and 84 % quantile, and error of the median, of maps whose mean is 0 and deviation 1: no unit. NaN
        in bins of fewer than 5 maps.
    counts : array (domains, b) of int
        Maps in each bin.
    """

    domains: tuple[str, ...]
    channels: tuple[str, ...]
    edges: Array
    middle: Array
    low: Array
    high: Array
    error: Array
    counts: NDArray[np.int64]

    def to_table(self) -> Table:
        """Return one row for each set, channel, pair of rings and bin."""
        from astropy.table import Table

        rows = [
            (domain, channel, f"{outer} - {inner}", self.edges[k], self.edges[k + 1], int(self.counts[d, k]),
             *(float(values[d, c, p, k]) for values in (self.middle, self.error, self.low, self.high)))
            for d, domain in enumerate(self.domains)
            for c, channel in enumerate(self.channels)
            for p, (outer, inner) in enumerate(PAIRS)
            for k in range(len(self.edges) - 1)
        ]  # fmt: skip
        names = ("domain", "channel", "rings", "f_ex_low", "f_ex_high", "maps", "median", "median_error", "p16", "p84")
        return Table(rows=rows, names=names)


def ring_means(values: NDArray[np.floating]) -> Array:
    """Mean of maps (n, channels, s, s), any unit, in each ring; array (n, channels, rings), the same unit."""
    side = values.shape[-1]
    place = (np.arange(side) + 0.5 - side / 2) * (128 / side)
    radius = np.hypot(place[:, None], place[None, :])
    flat = values.reshape(*values.shape[:2], -1).astype(np.float64)
    masks = [((radius >= low) & (radius <= high)).ravel() for low, high in RINGS.values()]
    return np.stack([flat[..., mask].mean(axis=-1) for mask in masks], axis=-1)


def compute(store: MapStore, rows: NDArray[np.int64] | None = None, *, bins: int = 8) -> Gradients:
    """Measure gradients of the refined maps of a store, one domain beside the other.

    Parameters
    ----------
    store : MapStore
        With refined maps and the truth ``f_ex``.
    rows : array (n,) of int, optional
        Which maps. Default: all.
    bins : int
        Bins of f_ex between its smallest and largest value.

    Returns
    -------
    Gradients

    Raises
    ------
    DataError
        If no map has a known f_ex.
    """
    truth = store.truth("f_ex")
    names = np.array([row["domain"] for row in store.rows])
    known = np.arange(len(store)) if rows is None else rows
    known = known[np.isfinite(truth[known])]
    if not len(known):
        raise DataError("no map of the store has a known f_ex", where=str(store.path))
    order = list(RINGS)
    differences = []
    for start in range(0, len(known), _CHUNK):
        means = ring_means(store.read(known[start : start + _CHUNK]))
        pairs = [means[..., order.index(outer)] - means[..., order.index(inner)] for outer, inner in PAIRS]
        differences.append(np.stack(pairs, axis=-1))
    return _binned(np.concatenate(differences), truth[known], names[known], store.channels, bins)


def _binned(found: Array, truth: Array, names: NDArray[Any], channels: Sequence[str], bins: int) -> Gradients:
    edges = np.linspace(truth.min(), np.nextafter(truth.max(), np.inf), bins + 1)
    domains = tuple(dict.fromkeys(names.tolist()))
    shape = (len(domains), len(channels), len(PAIRS), bins)
    middle, low, high, error = (np.full(shape, np.nan) for _ in range(4))
    counts = np.zeros((len(domains), bins), dtype=np.int64)
    place = (np.searchsorted(edges, truth, side="right") - 1).clip(0, bins - 1)
    for d, domain in enumerate(domains):
        for k in range(bins):
            mine = found[(names == domain) & (place == k)]
            counts[d, k] = len(mine)
            if len(mine) < 5:
                continue
            low[d, ..., k], middle[d, ..., k], high[d, ..., k] = np.quantile(mine, [0.16, 0.5, 0.84], axis=0)
            # of a median of normal numbers
            error[d, ..., k] = 1.2533 * (high[d, ..., k] - low[d, ..., k]) / 2 / np.sqrt(len(mine))
    return Gradients(domains, tuple(channels), edges, middle, low, high, error, counts)


def judge(result: Gradients) -> Verdict:
    """Say in which channel the domains differ most at equal f_ex, in units of the galaxies' own scatter."""
    if len(result.domains) < 2:
        return Verdict("One domain: nothing to compare its gradients with.", False)
    scatter = np.nanmean((result.high - result.low) / 2, axis=0)
    apart = np.nanmax(result.middle, axis=0) - np.nanmin(result.middle, axis=0)
    noise = np.sqrt(np.nansum(result.error**2, axis=0))
    whole = np.isfinite(result.middle).all(axis=0) & (scatter > 0)
    if not whole.any():
        return Verdict("No bin of f_ex has maps of every domain.", False)
    ratio = np.where(whole, apart / np.where(scatter > 0, scatter, 1), 0.0)
    each = ratio.max(axis=(1, 2))
    worst = int(np.argmax(each))
    pair, bin_ = np.unravel_index(int(np.argmax(ratio[worst])), ratio[worst].shape)
    middle = 0.5 * (result.edges[bin_] + result.edges[bin_ + 1])
    sure = apart[worst, pair, bin_] / noise[worst, pair, bin_]
    return Verdict(
        f"Gradients differ most in {result.channels[worst]} ({PAIRS[pair][0]} - {PAIRS[pair][1]}): by "
        f"{each[worst]:.1f} times the scatter of galaxies at f_ex {middle:.2f} ({sure:.0f} standard errors); least in "
        f"{result.channels[int(np.argmin(each))]} ({each.min():.1f}).",
        bool(each.max() < 1),
    )


@styled
def draw(result: Gradients, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw gradients against f_ex: a row for each pair of rings, a column for each channel, a colour for each domain.

    Parameters
    ----------
    result : Gradients
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        Row by row.
    """
    from matplotlib.lines import Line2D

    columns = len(result.channels)
    figure = figure or new_figure(2.5 * columns, 2.1 * len(PAIRS) + 0.7)
    grid = figure.subplots(len(PAIRS), columns, squeeze=False, sharex=True)
    lines = [Line2D([], [], color=colour(d), marker="o", ms=3) for d in range(len(result.domains))]
    centres = 0.5 * (result.edges[1:] + result.edges[:-1])
    for p, (outer, inner) in enumerate(PAIRS):
        for c, channel in enumerate(result.channels):
            ax = grid[p][c]
            for d, domain in enumerate(result.domains):
                ax.fill_between(centres, result.low[d, c, p], result.high[d, c, p], color=colour(d), alpha=0.15, lw=0)
                ax.errorbar(
                    centres, result.middle[d, c, p], yerr=result.error[d, c, p], color=colour(d), marker="o", ms=3,
                    label=f"{domain}",
                )  # fmt: skip
            ax.axhline(0, color="0.6", lw=0.8, ls=":")
            if p == 0:
                ax.set_title(TITLES.get(channel, channel))
            if c == 0:
                ax.set_ylabel(f"{outer} − {inner}")
    grid[-1][0].legend(lines, result.domains, loc="best")
    for ax in grid[-1]:
        ax.set_xlabel(r"$f_\mathrm{ex}$")
    return [ax for line in grid for ax in line]
