"""The figure of `galineage.evaluation.population`: f_ex along mass, along size, and on the plane of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from galineage.evaluation.style import INK, SEQUENTIAL, axis_label, colour, new_figure, styled
from galineage.fields import feature_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from galineage.evaluation.population import Population, Track

__all__ = ["draw"]

_SMALL, _LARGE = 0.04, 0.12
_DOTS = (5.0, 17.0)
_SIZE_LABEL = r"$\log_{10}\,$Size [kpc]"


@styled
def draw(result: Population, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw samples of the observed along mass and size, both populations' quantiles, and hexagons of mass and size.

    The hexagons are coloured by the posteriors' modes, as published, and by their medians: where a posterior is highest
    at the end of the range, the mode is 0 whatever else it says.

    Parameters
    ----------
    result : Population
        From `galineage.evaluation.population.compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        Four: along mass, along size, hexagons of modes and of medians.
    """
    figure = figure or new_figure(10.4, 8.2)
    axes: list[Axes] = list(np.ravel(figure.subplots(2, 2)))
    observed, simulated = result.names
    for ax, along in zip(axes, ("mstar", "size"), strict=False):
        track = result.tracks[observed, along]
        cells = np.linspace(*feature_range(result.target), track.histogram.shape[1] // 4 + 1)
        shown = track.histogram.reshape(len(track.n), -1, 4).sum(axis=2)
        shown = shown / np.maximum(np.nanmax(shown, axis=1, keepdims=True, initial=0.0), 1e-12)
        ax.pcolormesh(track.edges, cells, np.ma.masked_invalid(shown.T), cmap="Greys", vmax=1.6, rasterized=True)
        _lines(ax, track, INK, f"{observed} ({result.numbers[observed]:,})", "o")
        _lines(ax, result.tracks[simulated, along], colour(1), f"{simulated} ({result.numbers[simulated]:,})", "s")
        known = np.isfinite(track.truth)
        if known.any():
            ax.plot(
                track.middle[known], track.truth[known], color=colour(0), ls=":", lw=2.2, label=f"{observed}: truth"
            )
        ax.set_xlabel(axis_label("mstar") if along == "mstar" else _SIZE_LABEL)
        ax.set_xlim(track.edges[0], track.edges[-1])
        ax.set_ylim(*feature_range(result.target))
    axes[0].set_ylabel(axis_label(result.target))
    axes[0].legend(loc="upper left", fontsize=9, title="median, 10-90 % (dashed)", title_fontsize=9)
    if result.matched:
        axes[1].text(0.03, 0.97, "matched in stellar mass", transform=axes[1].transAxes, va="top", fontsize=9)
    for ax, what in zip(axes[2:], ("mode", "median"), strict=True):
        _hexagons(result, figure, ax, what)
    return axes


def _lines(ax: Axes, track: Track, shade: str, label: str, marker: str) -> None:
    keep = track.filled
    ax.errorbar(
        track.middle[keep], track.values[1, keep], track.errors[1, keep], color=shade, marker=marker, ms=4, capsize=2,
        label=label,
    )  # fmt: skip
    for row in (0, 2):
        ax.plot(track.middle[keep], track.values[row, keep], color=shade, ls="--", lw=1.2)


def _hexagons(result: Population, figure: Figure | SubFigure, ax: Axes, what: str) -> None:
    cells = result.hexagons
    best, std = cells.medians[what], np.nan_to_num(cells.medians["std"], nan=_LARGE)
    share = np.clip((std - _SMALL) / (_LARGE - _SMALL), 0, 1)
    size = _DOTS[0] + (_DOTS[1] - _DOTS[0]) * share
    low, high = feature_range(result.target)
    # most galaxies lie near one end of the range
    largest = max(float(np.nanmax(cells.medians[name], initial=low)) for name in ("mode", "median"))
    high = min(high, max(low + 0.2 * (high - low), largest))
    shown = ax.scatter(cells.x, cells.y, c=best, s=size**2, marker="h", cmap=SEQUENTIAL, vmin=low, vmax=high, lw=0)
    figure.colorbar(shown, ax=ax, label=axis_label(result.target, f"{what} of"), pad=0.01)
    for value in (_SMALL, 0.5 * (_SMALL + _LARGE), _LARGE):
        dot = _DOTS[0] + (_DOTS[1] - _DOTS[0]) * (value - _SMALL) / (_LARGE - _SMALL)
        ends = {_SMALL: "≤ ", _LARGE: "≥ "}
        ax.plot([], [], "h", ms=dot, color="#777777", mew=0, label=f"{ends.get(value, '')}{value:g}")
    ax.set(xlabel=axis_label("mstar"), ylabel=_SIZE_LABEL, title=f"{result.names[0]}: posterior {what}s")
    (left, right), (bottom, top) = cells.limits
    pad = 0.06 * (right - left), 0.06 * (top - bottom)
    ax.set(xlim=(left - pad[0], right + pad[0]), ylim=(bottom - pad[1], top + 5 * pad[1]))
    ax.legend(loc="upper left", ncols=3, fontsize=9, title="posterior std", title_fontsize=9, handletextpad=0.2,
              columnspacing=0.8)  # fmt: skip
