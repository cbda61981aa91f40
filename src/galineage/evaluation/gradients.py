"""Radial gradients of refined maps against the ex-situ fraction (Angeloudi+2023, Fig. 13)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bootstrap import effective
from galineage.evaluation.calibration import LEVEL
from galineage.evaluation.example_maps import TITLES
from galineage.evaluation.permutation import PERMUTATIONS, compare, holm
from galineage.evaluation.style import INK, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.store.map_store import MapStore

    Array = NDArray[np.float64]

__all__ = ["PAIRS", "SMALL", "Gradients", "compute", "draw", "judge", "ring_means"]

RINGS = {"r/4": (0.0, 8.0), "r/2": (14.0, 18.0), "r": (30.0, 34.0), "2r": (48.0, np.inf)}
"""Inner and outer radius of each ring in pixels of a map of 128, as in the authors' code: the innermost is a disc of a
quarter of the half-mass radius, the outermost everything beyond one and a half."""

PAIRS = (("r/2", "r/4"), ("2r", "r/4"), ("2r", "r"))
"""Rings whose means are subtracted from each other."""

SMALL = 0.2
"""Differences up to this part of the scatter are called small (Cohen 1988), however surely they are there."""

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
        Median, 16 % and 84 % quantile, and error of the median, of maps whose mean is 0 and deviation 1: no unit. Views
        of a galaxy count as what they add. NaN in bins of fewer than 5 maps.
    counts, galaxies : array (domains, b) of int
        Maps in each bin, and galaxies whose mean f_ex lies in it.
    p_value, adjusted : array (channels, pairs)
        Probability that the domains' gradients differ so much at equal f_ex by chance, alone and corrected for the
        number of gradients looked at (`galineage.evaluation.permutation`). NaN with one domain.
    size : array (channels, pairs)
        Root mean square difference between domains at equal f_ex, in units of the scatter of galaxies, noise taken off;
        no unit, NaN with one domain.
    """

    domains: tuple[str, ...]
    channels: tuple[str, ...]
    edges: Array
    middle: Array
    low: Array
    high: Array
    error: Array
    counts: NDArray[np.int64]
    galaxies: NDArray[np.int64]
    p_value: Array
    adjusted: Array
    size: Array

    @property
    def differs(self) -> NDArray[np.bool_]:
        """Which gradients differ, at the level of 1 % for all of them together: array (channels, pairs)."""
        return np.nan_to_num(self.adjusted, nan=1.0) < LEVEL

    def to_table(self) -> Table:
        """Return one row for each set, channel, pair of rings and bin; the test is repeated in each row of a pair."""
        bins = np.arange(len(self.edges) - 1)
        places = itertools.product(range(len(self.domains)), range(len(self.channels)), range(len(PAIRS)), bins)
        d, c, p, k = np.array(list(places)).T
        pairs = np.array([f"{outer} - {inner}" for outer, inner in PAIRS])
        columns = [
            ("domain", np.array(self.domains)[d], "", "whose maps"),
            ("channel", np.array(self.channels)[c], "", "map"),
            ("rings", pairs[p], "", "which ring's mean less which"),
            ("f_ex_low", self.edges[k], "", "lower edge of the bin of f_ex"),
            ("f_ex_high", self.edges[k + 1], "", "upper edge of the bin of f_ex"),
            ("maps", self.counts[d, k], "", "maps in the bin"),
            ("galaxies", self.galaxies[d, k], "", "galaxies in the bin"),
            ("median", self.middle[d, c, p, k], "", "median gradient of standardised maps"),
            ("median_error", self.error[d, c, p, k], "", "error of the median"),
            ("p16", self.low[d, c, p, k], "", "16 % quantile"),
            ("p84", self.high[d, c, p, k], "", "84 % quantile"),
            ("difference", self.size[c, p], "", "rms difference of domains at equal f_ex over the scatter of galaxies"),
            ("p_value", self.p_value[c, p], "", "its probability by chance (permutation test)"),
            ("p_holm", self.adjusted[c, p], "", "the same, corrected for the number of channels and pairs (Holm)"),
        ]
        return make_table(columns)


def ring_means(values: NDArray[np.floating]) -> Array:
    """Mean of maps (n, channels, s, s), any unit, in each ring; array (n, channels, rings), the same unit."""
    side = values.shape[-1]
    place = (np.arange(side) + 0.5 - side / 2) * (128 / side)
    radius = np.hypot(place[:, None], place[None, :])
    flat = values.reshape(*values.shape[:2], -1).astype(np.float64)
    masks = [((radius >= low) & (radius <= high)).ravel() for low, high in RINGS.values()]
    return np.stack([flat[..., mask].mean(axis=-1) for mask in masks], axis=-1)


def compute(
    store: MapStore,
    rows: NDArray[np.int64] | None = None,
    *,
    bins: int = 8,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Gradients:
    """Measure gradients of the refined maps of a store, one domain beside the other, and test whether they differ.

    The test is about galaxies: of all maps with one root the means of gradient and f_ex are taken, and the domains of
    such means are permuted within the bins of f_ex.

    Parameters
    ----------
    store : MapStore
        With refined maps and the truth ``f_ex``.
    rows : array (n,) of int, optional
        Which maps. Default: all.
    bins : int
        Bins of f_ex between its smallest and largest value.
    permutations, seed : int
        Permutations of the test and their seed.

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
    found, truth, names = np.concatenate(differences), truth[known], names[known]
    # roots of two simulations can have one name
    whose = np.unique(np.stack([names, store.groups[known].astype(str)]), axis=1, return_inverse=True)[1].ravel()
    domains = tuple(dict.fromkeys(names.tolist()))
    domain = np.array([domains.index(name) for name in names])
    edges = np.linspace(truth.min(), np.nextafter(truth.max(), np.inf), bins + 1)
    numbers = _binned(found, _place(truth, edges), domain, whose, (len(domains), bins))
    tested = _tested(found, truth, domain, whose, edges, permutations, seed)
    return Gradients(domains, tuple(store.channels), edges, *numbers, *tested)


def _place(truth: Array, edges: Array) -> NDArray[np.int64]:
    return np.asarray((np.searchsorted(edges, truth, side="right") - 1).clip(0, len(edges) - 2))


def _binned(
    found: Array, place: NDArray[np.int64], domain: NDArray[np.int64], whose: NDArray[np.int64], shape: tuple[int, int]
) -> tuple[Array, Array, Array, Array, NDArray[np.int64]]:
    middle, low, high, error = (np.full((shape[0], *found.shape[1:], shape[1]), np.nan) for _ in range(4))
    counts = np.zeros(shape, dtype=np.int64)
    for d, k in np.ndindex(*shape):
        inside = (domain == d) & (place == k)
        mine = found[inside]
        counts[d, k] = len(mine)
        if len(mine) < 5:
            continue
        low[d, ..., k], middle[d, ..., k], high[d, ..., k] = np.quantile(mine, [0.16, 0.5, 0.84], axis=0)
        flat = mine.reshape(len(mine), -1)
        number = [effective(column, whose[inside]) if np.isfinite(column).all() else 1 for column in flat.T]
        # of a median of normal numbers
        width = 1.2533 * (high[d, ..., k] - low[d, ..., k]) / 2
        error[d, ..., k] = width / np.sqrt(np.reshape(number, mine.shape[1:]))
    return middle, low, high, error, counts


def _tested(
    found: Array,
    truth: Array,
    domain: NDArray[np.int64],
    whose: NDArray[np.int64],
    edges: Array,
    permutations: int,
    seed: int,
) -> tuple[NDArray[np.int64], Array, Array, Array]:
    """Galaxies in each bin, and probabilities and sizes of the differences of their mean gradients."""
    number = np.bincount(whose)
    flat = found.reshape(len(found), -1)
    means = np.stack([np.bincount(whose, weights=column) / number for column in flat.T], axis=-1)
    along = np.bincount(whose, weights=truth) / number
    of_galaxy = np.zeros(len(number), dtype=np.int64)
    of_galaxy[whose] = domain
    place = _place(along, edges)
    galaxies = np.zeros((int(domain.max()) + 1, len(edges) - 1), dtype=np.int64)
    np.add.at(galaxies, (of_galaxy, place), 1)
    result = compare(means, along, of_galaxy, place, permutations=permutations, seed=seed)
    p_value, size = result.p_value.reshape(found.shape[1:]), result.size.reshape(found.shape[1:])
    return galaxies, p_value, holm(p_value), size


def judge(result: Gradients) -> Verdict:
    """Say which gradients differ between the domains at equal f_ex, how surely, and by how much.

    Passes if none does, at the level of 1 % for all of them together, by more than `SMALL` times the scatter of the
    galaxies.
    """
    if len(result.domains) < 2:
        return Verdict("One domain: nothing to compare its gradients with.", False)
    tested = np.isfinite(result.p_value)
    if not tested.any():
        return Verdict("No bin of f_ex has galaxies enough of two domains.", False)
    differs = result.differs
    opening = f"At equal f_ex {int(differs.sum())} of {int(tested.sum())} gradients differ between domains"
    if not differs.any():
        return Verdict(f"{opening} (smallest corrected p {np.nanmin(result.adjusted):.2g}).", True, "the same")
    worst = np.where(differs, result.size, 0.0)
    sizes = worst.max(axis=1)
    parts = []
    for c in np.argsort(-sizes, kind="stable"):
        if differs[c].any():
            outer, inner = PAIRS[int(np.argmax(worst[c]))]
            parts.append(f"{result.channels[c]} by up to {sizes[c]:.2g} ({outer} - {inner})")
    quiet = [name for name, its in zip(result.channels, differs, strict=True) if not its.any()]
    rest = f"; none seen in {', '.join(quiet)}" if quiet else ""
    passed = bool(sizes.max() <= SMALL)
    return Verdict(
        f"{opening} (corrected p < {LEVEL:g}), in units of the scatter of galaxies: {', '.join(parts)}{rest}.",
        passed,
        "differ little" if passed else "differ",
    )


@styled
def draw(result: Gradients, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw gradients against f_ex: a row for each pair of rings, a column for each channel, a colour for each domain.

    Each panel says by how much the domains differ, in units of the scatter of galaxies, and its corrected probability;
    panels of gradients that differ are tinted.

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
            _mark(ax, result, c, p)
            if p == 0:
                ax.set_title(TITLES.get(channel, channel))
            if c == 0:
                ax.set_ylabel(f"{outer} − {inner}")
    grid[-1][0].legend(lines, result.domains, loc="best")
    for ax in grid[-1]:
        ax.set_xlabel(r"$f_\mathrm{ex}$")
    return [ax for line in grid for ax in line]


def _mark(ax: Axes, result: Gradients, channel: int, pair: int) -> None:
    chance = result.adjusted[channel, pair]
    if not np.isfinite(chance):
        return
    sure = bool(result.differs[channel, pair])
    if sure:
        ax.set_facecolor("#fdf3e1")
    text = f"{result.size[channel, pair]:.2f} σ, " + (f"p < {LEVEL:g}" if sure else f"p = {chance:.2g}")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.16 * (high - low))
    ax.text(
        0.97, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize=8.5, color=INK if sure else "0.45",
        fontweight="bold" if sure else "normal",
    )  # fmt: skip
