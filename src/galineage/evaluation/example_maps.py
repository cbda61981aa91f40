"""What a network sees: refined maps of a few galaxies (Angeloudi+2023, Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.style import new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.store.map_store import MapStore

__all__ = ["COLOURS", "TITLES", "Examples", "choose", "compute", "draw", "judge"]

TITLES = {
    "count": "stars per pixel",
    "mass": r"stellar mass",
    "velocity": r"velocity $V$",
    "sigma": r"dispersion $\sigma$",
    "metallicity": "metallicity",
    "age": "age",
}
COLOURS = {
    "count": "magma",
    "mass": "magma",
    "velocity": "RdBu_r",
    "sigma": "viridis",
    "metallicity": "cividis",
    "age": "plasma",
}


@dataclass(frozen=True)
class Examples:
    """Refined maps of a few galaxies.

    Attributes
    ----------
    values : array (n, channels, s, s)
        As the store has them: mean 0 and deviation 1 unless it was made otherwise, no unit.
    channels : tuple of str
        Along the second axis.
    labels : tuple of str, length n
        Which galaxy, and its f_ex.
    missing : tuple of tuple of str, length n
        Channels that a galaxy does not have.
    half_width : float, r_half
        From the centre to the edge.
    """

    values: NDArray[np.floating]
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    missing: tuple[tuple[str, ...], ...]
    half_width: float

    def to_table(self) -> Table:
        """Return mean and deviation of every map."""
        n, c = self.values.shape[:2]
        return make_table(
            [
                ("galaxy", np.repeat(self.labels, c), "", "galaxy"),
                ("channel", np.tile(self.channels, n), "", "channel"),
                ("mean", self.values.mean(axis=(2, 3)).ravel(), "", "mean of the map"),
                ("deviation", self.values.std(axis=(2, 3)).ravel(), "", "standard deviation of the map"),
                ("largest", np.abs(self.values).max(axis=(2, 3)).ravel(), "", "largest absolute value of the map"),
            ],
            {},
        )


def choose(store: MapStore, rows: NDArray[np.int64], wanted: Sequence[float]) -> list[int]:
    """Choose for each of k values of f_ex the row of the store, among ``rows`` (n,), that is nearest; indices, no unit.

    Raises
    ------
    DataError
        If none of the rows has a known f_ex.
    """
    truth = store.truth("f_ex")[rows]
    if not np.isfinite(truth).any():
        raise DataError("no map has a known f_ex to choose it by", where=str(store.path))
    return [int(rows[np.nanargmin(np.abs(truth - one))]) for one in wanted]


def compute(store: MapStore, rows: Sequence[int]) -> Examples:
    """Take maps of a store.

    Parameters
    ----------
    store : MapStore
        With refined maps.
    rows : sequence of int
        Which, from top to bottom.
    """
    known = [store.rows[row] for row in rows]
    truth = store.truth("f_ex")[list(rows)]
    return Examples(
        values=store.read(np.asarray(rows, dtype=np.int64)).astype(np.float32),
        channels=store.channels,
        labels=tuple(
            f"{row['domain']} {row['id']}" + (f"\n$f_\\mathrm{{ex}}$ = {value:.2f}" if np.isfinite(value) else "")
            for row, value in zip(known, truth, strict=True)
        ),
        missing=tuple(tuple(row["missing"]) for row in known),
        half_width=float(store.settings["maps"]["half_width_r_half"]),
    )


def judge(result: Examples) -> Verdict:
    """Say whether every map that is there is standardised, and what is missing."""
    there = np.array([[name not in lacking for name in result.channels] for lacking in result.missing])
    deviation = result.values.std(axis=(2, 3))[there]
    lacking = sorted({name for one in result.missing for name in one if name in result.channels})
    said = f"Deviations of the {there.sum()} maps lie between {deviation.min():.2f} and {deviation.max():.2f}"
    said += f"; missing for some galaxies: {', '.join(lacking)}." if lacking else "; no channel is missing."
    return Verdict(said, not lacking and bool((deviation > 0).all()))


@styled
def draw(result: Examples, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw a row for each galaxy and a column for each channel, each map on its own scale.

    Parameters
    ----------
    result : Examples
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        Row by row, without those of the colour bars.
    """
    rows, columns = len(result.labels), len(result.channels)
    figure = figure or new_figure(2.35 * columns + 0.4, 2.0 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    edge = result.half_width
    for k, line in enumerate(grid):
        for c, ax in enumerate(line):
            name = result.channels[c]
            shown = _shown(ax, result.values[k, c], edge, name, name in result.missing[k])
            if shown is not None:
                figure.colorbar(shown, ax=ax, shrink=0.82, pad=0.02).ax.tick_params(labelsize=7)
            ax.tick_params(labelsize=8)
            if k == 0:
                ax.set_title(TITLES.get(name, name))
        line[0].set_ylabel(f"{result.labels[k]}\n" + r"$r_{1/2}$", fontsize=9)
    for ax in grid[-1]:
        ax.set_xlabel(r"$r_{1/2}$", fontsize=9)
    return [ax for line in grid for ax in line]


def _shown(ax: Axes, image: NDArray[np.floating], edge: float, name: str, missing: bool) -> Any:
    if missing:
        ax.text(0.5, 0.5, "missing", transform=ax.transAxes, ha="center", va="center", color="0.45")
        ax.set_facecolor("0.93")
        return None
    low, high = np.quantile(image, [0.002, 0.998])
    if name == "velocity":
        high = max(abs(low), abs(high))
        low = -high
    return ax.imshow(
        image, origin="lower", extent=(-edge, edge, -edge, edge), cmap=COLOURS.get(name, "cividis"), vmin=low, vmax=high
    )
