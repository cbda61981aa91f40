"""Does the sum of a map's pixels betray f_ex? Before and after standardisation (Angeloudi+2023, Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.example_maps import TITLES
from galineage.evaluation.style import MUTED, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict
from galineage.views import CHANNELS, Refinement, refine_values

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.store.map_store import MapStore

    Array = NDArray[np.float64]

__all__ = ["PixelSums", "compute", "draw", "judge"]

_CHUNK = 256
_UNITS = {"mass": " [dex]", "velocity": " [km/s]", "sigma": " [km/s]", "metallicity": " [dex]", "age": " [Gyr]"}
"""Of the sums before standardisation; afterwards they have none."""


@dataclass(frozen=True)
class PixelSums:
    """Sums over the pixels of every map.

    Attributes
    ----------
    domain : array (n,) of str
        Of each map.
    truth : array (n,)
        f_ex.
    channels : tuple of str
        Along the second axis of the sums.
    before, after : array (n, channels)
        Sum of masked, clipped, smoothed maps: log10 Msun, km/s, dex, Gyr; and of standardised ones, no unit.
    correlation : array (2, domains, channels)
        Rank correlation (Spearman) with f_ex before and after; 0 where all sums are the same.
    """

    domain: NDArray[np.str_]
    truth: Array
    channels: tuple[str, ...]
    before: Array
    after: Array
    correlation: Array

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains in the order of their first map."""
        return tuple(dict.fromkeys(self.domain.tolist()))

    def to_table(self) -> Table:
        """Return rank correlations, a row for each domain and channel."""
        domains, count = self.domains, len(self.channels)
        return make_table(
            [
                ("domain", np.repeat(domains, count), "", "domain"),
                ("channel", np.tile(self.channels, len(domains)), "", "channel"),
                ("rank_before", self.correlation[0].ravel(), "", "rank correlation of the sum with f_ex, before"),
                ("rank_after", self.correlation[1].ravel(), "", "and after standardisation"),
            ],
            {},
        )


def compute(store: MapStore, rows: NDArray[np.int64] | None = None) -> PixelSums:
    """Sum the pixels of a store's maps, refined with and without standardisation.

    Parameters
    ----------
    store : MapStore
        With raw maps, which are refined again, and the truth ``f_ex``.
    rows : array (n,) of int, optional
        Which maps. Default: all.

    Returns
    -------
    PixelSums
        Of the maps whose f_ex is known.

    Raises
    ------
    DataError
        If no map has a known f_ex, or the store has no raw maps.
    """
    truth = store.truth("f_ex")
    chosen = np.arange(len(store)) if rows is None else rows
    chosen = chosen[np.isfinite(truth[chosen])]
    if not len(chosen):
        raise DataError("no map of the store has a known f_ex", where=str(store.path))
    known = store.refinement
    plain, edge = replace(known, standardise="none"), float(store.settings["maps"]["half_width_r_half"])
    sums = [_sums(store, chosen[k : k + _CHUNK], edge, (plain, known)) for k in range(0, len(chosen), _CHUNK)]
    both = np.concatenate(sums, axis=1)
    domain = np.array([store.rows[row]["domain"] for row in chosen])
    found = PixelSums(domain, truth[chosen], known.channels, both[0], both[1], np.zeros(0))
    return replace(found, correlation=np.stack([_ranks(found, each) for each in both]))


def _sums(store: MapStore, rows: NDArray[np.int64], edge: float, settings: tuple[Refinement, ...]) -> Array:
    raw = store.read(rows, "raw")
    refined = [refine_values(raw, CHANNELS, edge, one)[0] for one in settings]
    return np.stack([values.sum(axis=(2, 3), dtype=np.float64) for values in refined])


def _ranks(found: PixelSums, sums: Array) -> Array:
    """Rank correlations (domains, channels); sums that only differ by rounding are all the same."""
    from scipy.stats import spearmanr

    out = np.zeros((len(found.domains), len(found.channels)))
    for d, domain in enumerate(found.domains):
        mine = found.domain == domain
        for c in range(len(found.channels)):
            values = sums[mine, c]
            if np.ptp(values) > 1e-6 * max(1.0, float(np.abs(found.before[mine, c]).max())):
                out[d, c] = spearmanr(values, found.truth[mine]).statistic
    return out


def judge(result: PixelSums) -> Verdict:
    """Say how strongly the sums follow f_ex before and after; passes if not at all afterwards."""
    before, after = np.abs(result.correlation).max(axis=1)
    channel = result.channels[int(np.argmax(before.max() == before))]
    remains = float(after.max())
    return Verdict(
        f"Before standardisation the sum of {channel} follows f_ex with a rank correlation of {before.max():.2f}; "
        + (f"afterwards one of {remains:.2f} remains." if remains > 0.1 else "afterwards nothing of it is left."),
        remains <= 0.1,
    )


@styled
def draw(result: PixelSums, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw sums against f_ex: a column for each channel, before above, after below, a colour for each domain.

    Parameters
    ----------
    result : PixelSums
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        Row by row.
    """
    columns = len(result.channels)
    figure = figure or new_figure(2.6 * columns, 5.2)
    grid = figure.subplots(2, columns, squeeze=False, sharex=True)
    for row, (sums, label) in enumerate(((result.before, "sum of pixels"), (result.after, "after standardisation"))):
        for c, ax in enumerate(grid[row]):
            for d, domain in enumerate(result.domains):
                mine = result.domain == domain
                rank = result.correlation[row, d, c]
                ax.plot(
                    result.truth[mine], sums[mine, c], ".", ms=2, alpha=0.35, color=colour(d), rasterized=True,
                    label=f"{domain}: {rank:+.2f}",
                )  # fmt: skip
            ax.axhline(0, color=MUTED, lw=0.8, zorder=0)
            ax.ticklabel_format(axis="y", scilimits=(-3, 4))
            ax.tick_params(labelsize=8)
            ax.legend(fontsize=8, loc="best", markerscale=4, handletextpad=0.1)
            if row == 0:
                name = result.channels[c]
                ax.set_title(TITLES.get(name, name) + _UNITS.get(name, ""))
            else:
                # sums of zero up to rounding would otherwise fill the panel with noise
                reach = max(1.0, 1.2 * float(np.abs(sums[:, c]).max()))
                ax.set_ylim(-reach, reach)
                ax.set_xlabel(r"$f_\mathrm{ex}$")
        grid[row][0].set_ylabel(label)
    return [ax for line in grid for ax in line]
