"""Inputs and target of several catalogues over each other: a corner figure (figure 2 of Angeloudi+2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.evaluation.style import WIDTH, axis_label, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue

    Array = NDArray[np.float64]

__all__ = ["Corner", "compute", "contour_levels", "draw", "judge"]

_BINS = 32
_FRACTIONS = (0.86, 0.39)
"""Probability inside the 2 and 1 sigma ellipses of a two-dimensional Gaussian."""


@dataclass(frozen=True)
class Corner:
    """One- and two-dimensional distributions of d fields in c catalogues.

    Attributes
    ----------
    labels : tuple of str, length c
        Names of the catalogues.
    names : tuple of str, length d
        Field names; the last is the target. Values are as networks see them: log10 where the registry says so.
    n : tuple of int, length c
        Galaxies with all fields finite.
    edges : array (d, b + 1)
        Bin edges, from the 0.5th to the 99.5th percentile of all catalogues together.
    histograms : array (c, d, b)
        Probability per bin, sum 1 over all galaxies of a catalogue.
    planes : array (c, d, d, b, b)
        Smoothed probability per cell of field j (first bin axis) and field i (second); index [c, i, j], i > j only.
    quantiles : array (c, d, 3)
        16th, 50th, 84th percentile.
    distance : array (d,)
        Largest Kolmogorov-Smirnov distance between two catalogues, 0 to 1; 0 for a single one.
    follows : array (c, d - 1)
        Spearman rank correlation of each field with the target, -1 to 1.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    n: tuple[int, ...]
    edges: Array
    histograms: Array
    planes: Array
    quantiles: Array
    distance: Array
    follows: Array

    @property
    def target_name(self) -> str:
        """Field name of the target."""
        return self.names[-1]

    def to_table(self) -> Table:
        """One row per catalogue and field: percentiles, correlation with the target, distance between catalogues."""
        c, d = len(self.labels), len(self.names)
        follows = np.concatenate([self.follows, np.ones((c, 1))], axis=1)
        columns = [
            ("catalogue", np.repeat(self.labels, d), "", "name of the catalogue"),
            ("field", np.tile(self.names, c), "", "field; percentiles are of its log10 where scale is log"),
            ("label", [axis_label(name) for name in self.names] * c, "", "axis label with the unit"),
            ("n", np.repeat(self.n, d), "", "galaxies with all fields present"),
            ("p16", self.quantiles[..., 0].ravel(), "", "16th percentile, unit as in label"),
            ("p50", self.quantiles[..., 1].ravel(), "", "median, unit as in label"),
            ("p84", self.quantiles[..., 2].ravel(), "", "84th percentile, unit as in label"),
            ("spearman", follows.ravel(), "", "rank correlation with the last field"),
            ("ks", np.tile(self.distance, c), "", "largest Kolmogorov-Smirnov distance between two catalogues"),
        ]
        return make_table(columns)


def compute(catalogues: Sequence[tuple[str, Catalogue]], names: Sequence[str], *, target: str = "f_ex") -> Corner:
    """Compute histograms, contours and distances.

    Parameters
    ----------
    catalogues : sequence of (label, Catalogue)
        At least one. Galaxies with a missing value in any field are left out.
    names : sequence of str
        Input fields; the target is put last.
    target : str
        Field name of the target.

    Raises
    ------
    DataError
        If there is no catalogue, a column is missing, or no galaxy has all fields.
    ConfigError
        If no input field is named.
    """
    fields = (*[name for name in names if name != target], target)
    if len(fields) < 2:
        raise ConfigError("a corner figure needs at least one input field beside the target")
    if not catalogues:
        raise DataError("there are no catalogues to compare", expected="at least one")
    values = []
    for label, catalogue in catalogues:
        rows = catalogue.features(fields)
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows) == 0:
            raise DataError("no galaxy has all fields", where=label, expected=", ".join(fields))
        values.append(rows)
    edges = np.stack([_edges(np.concatenate([rows[:, i] for rows in values])) for i in range(len(fields))])
    return Corner(
        labels=tuple(label for label, _ in catalogues),
        names=fields,
        n=tuple(len(rows) for rows in values),
        edges=edges,
        histograms=np.stack([[_share(rows[:, i], edges[i]) for i in range(len(fields))] for rows in values]),
        planes=np.stack([_planes(rows, edges) for rows in values]),
        quantiles=np.stack([np.percentile(rows, [16, 50, 84], axis=0).T for rows in values]),
        distance=np.array([_distance([rows[:, i] for rows in values]) for i in range(len(fields))]),
        follows=np.stack([_spearman(rows) for rows in values]),
    )


def judge(result: Corner, *, tolerance: float = 0.2) -> Verdict:
    """Name the field that follows the target best and the one in which the catalogues differ most.

    Passes if no field's Kolmogorov-Smirnov distance exceeds ``tolerance``; a single catalogue passes.
    """
    best = int(np.argmax(np.abs(result.follows[0])))
    sentence = (
        f"In {result.labels[0]} {result.target_name} follows {result.names[best]} most closely "
        f"(Spearman {result.follows[0, best]:+.2f})"
    )
    if len(result.labels) == 1:
        return Verdict(f"{sentence}.", passed=True)
    worst = int(np.argmax(result.distance))
    medians = " against ".join(f"{value:.3g}" for value in result.quantiles[:, worst, 1])
    passed = bool(result.distance[worst] <= tolerance)
    kind = "alike" if passed else "different"
    return Verdict(
        f"{sentence}; {' and '.join(result.labels)} differ most in {result.names[worst]} "
        f"(medians {medians}, KS distance {result.distance[worst]:.2f}): {kind}.",
        passed=passed,
        kind=kind,
    )


@styled
def draw(result: Corner, ax: Figure | SubFigure | None = None) -> NDArray[Any]:
    """Draw the corner: histograms on the diagonal, contours around 39 and 86 % of galaxies below it.

    Parameters
    ----------
    result : Corner
    ax : Figure or SubFigure, optional
        Where to draw; a new figure if left out.

    Returns
    -------
    array (d, d) of Axes
        None above the diagonal.
    """
    from matplotlib.patches import Patch

    d = len(result.names)
    figure = new_figure(WIDTH + 0.3, WIDTH) if ax is None else ax
    axes = np.full((d, d), None, dtype=object)
    grid = figure.add_gridspec(d, d, wspace=0.05, hspace=0.05)
    for i in range(d):
        for j in range(i + 1):
            axes[i, j] = figure.add_subplot(grid[i, j])
            _panel(axes[i, j], result, i, j)
            _trim(axes[i, j], result, i, j)
    handles = [Patch(facecolor=f"{colour(c)}33", edgecolor=colour(c)) for c in range(len(result.labels))]
    figure.legend(
        handles, [f"{name} ({n})" for name, n in zip(result.labels, result.n, strict=True)], loc="upper right"
    )
    figure.align_labels()
    return axes


def contour_levels(plane: Array, fractions: Sequence[float] = _FRACTIONS) -> Array:
    """Density levels whose regions hold the given fractions.

    Parameters
    ----------
    plane : array (b, b)
        Probability per cell.
    fractions : sequence of float
        Descending.

    Returns
    -------
    array (len(fractions),)
        Ascending levels in the unit of ``plane``.
    """
    ordered = np.sort(plane.ravel())[::-1]
    inside = np.cumsum(ordered) / max(ordered.sum(), np.finfo(float).tiny)
    return np.array([ordered[min(int(np.searchsorted(inside, f)), len(ordered) - 1)] for f in fractions])


def _panel(ax: Any, result: Corner, i: int, j: int) -> None:
    for c in range(len(result.labels)):
        if i == j:
            ax.stairs(result.histograms[c, i], result.edges[i], color=colour(c), lw=1.4)
            ax.stairs(result.histograms[c, i], result.edges[i], color=colour(c), alpha=0.12, fill=True)
            continue
        x = 0.5 * (result.edges[j, 1:] + result.edges[j, :-1])
        y = 0.5 * (result.edges[i, 1:] + result.edges[i, :-1])
        plane = result.planes[c, i, j].T
        levels = contour_levels(plane)
        if levels[1] > levels[0] > 0:
            ax.contourf(x, y, plane, levels=[levels[1], plane.max() * 1.01], colors=colour(c), alpha=0.25)
            ax.contour(x, y, plane, levels=levels, colors=colour(c), linewidths=(0.9, 1.4))


def _trim(ax: Any, result: Corner, i: int, j: int) -> None:
    from matplotlib.ticker import MaxNLocator

    d = len(result.names)
    ax.set_xlim(result.edges[j, 0], result.edges[j, -1])
    ax.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
    ax.tick_params(labelsize=8.5, length=3)
    if i == d - 1:
        ax.set_xlabel(_short_label(result.names[j]), fontsize=9.5)
    else:
        ax.tick_params(labelbottom=False)
    if i == j:
        ax.set_ylim(0, 1.12 * float(result.histograms[:, i].max()))
        ax.set_yticks([])
        return
    ax.set_ylim(result.edges[i, 0], result.edges[i, -1])
    ax.yaxis.set_major_locator(MaxNLocator(3, prune="both"))
    if j == 0:
        ax.set_ylabel(_short_label(result.names[i]), fontsize=9.5)
    else:
        ax.tick_params(labelleft=False)


def _short_label(name: str) -> str:
    """Axis label with its unit on a second line, since panels are small."""
    return axis_label(name).replace(r"\ [", "$\n$[")


def _edges(values: Array) -> Array:
    low, high = np.percentile(values, [0.5, 99.5])
    return np.linspace(low, high, _BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, _BINS + 1)


def _share(values: Array, edges: Array) -> Array:
    return np.histogram(values, edges)[0] / len(values)


def _planes(rows: Array, edges: Array) -> Array:
    from scipy.ndimage import gaussian_filter

    d = rows.shape[1]
    planes = np.zeros((d, d, _BINS, _BINS))
    for i in range(d):
        for j in range(i):
            counts = np.histogram2d(rows[:, j], rows[:, i], [edges[j], edges[i]])[0]
            planes[i, j] = gaussian_filter(counts / len(rows), 1.2, mode="nearest")
    return planes


def _distance(samples: Sequence[Array]) -> float:
    grid = np.sort(np.concatenate(samples))
    curves = np.stack([np.searchsorted(np.sort(values), grid, side="right") / len(values) for values in samples])
    return float((curves.max(axis=0) - curves.min(axis=0)).max())


def _spearman(rows: Array) -> Array:
    from scipy.stats import rankdata

    ranks = rankdata(rows, axis=0)
    centred = ranks - ranks.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    product = (centred[:, :-1] * centred[:, -1:]).sum(axis=0)
    both = norm[:-1] * norm[-1]
    return np.where(both > 0, product / np.where(both > 0, both, 1.0), 0.0)
