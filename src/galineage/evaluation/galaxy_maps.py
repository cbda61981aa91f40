"""Maps of one galaxy as an astronomer looks at them: views below each other, quantities side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.evaluation.style import new_figure, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from galineage.views import Maps

__all__ = ["draw"]

_SHOWN = {
    "mass": (r"$\log_{10}\,M_\star$ [M$_\odot$ pixel$^{-1}$]", "magma"),
    "velocity": (r"$V$ [km s$^{-1}$]", "RdBu_r"),
    "sigma": (r"$\sigma$ [km s$^{-1}$]", "viridis"),
    "metallicity": (r"$\log_{10}\,Z/Z_\odot$", "cividis"),
    "age": ("Age [Gyr]", "plasma"),
}


@styled
def draw(maps: Maps, views: Sequence[int] | None = None, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw raw maps: mass, velocity, dispersion, metallicity and age in kpc, as far as the galaxy has them.

    Parameters
    ----------
    maps : Maps
        From `galineage.views.make_maps`.
    views : sequence of int, optional
        Which ones. Default: the first three.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        Row by row, without those of the colour bars.
    """
    chosen = list(range(min(3, len(maps)))) if views is None else list(views)
    names = [name for name in _SHOWN if name in maps]
    figure = figure or new_figure(2.9 * len(names), 2.6 * len(chosen) + 0.7)
    grid = figure.subplots(len(chosen), len(names), squeeze=False, sharex=True, sharey=True)
    extent = (-maps.half_width, maps.half_width, -maps.half_width, maps.half_width)
    for column, name in enumerate(names):
        values = [_seen(maps, name, view) for view in chosen]
        low, high = _limits(name, values)
        label, colours = _SHOWN[name]
        for row, image in enumerate(values):
            ax = grid[row][column]
            shown = ax.imshow(image, origin="lower", extent=extent, vmin=low, vmax=high, cmap=colours)
            ax.set_facecolor("0.88")
            ax.tick_params(direction="in")
        bar = figure.colorbar(shown, ax=[line[column] for line in grid], location="top", shrink=0.9, pad=0.02)
        bar.set_label(label)
        grid[-1][column].set_xlabel("kpc")
    for row, view in enumerate(chosen):
        x, y, z = maps.views[view].los
        grid[row][0].set_ylabel(f"view {view + 1}, from ({x:.2f}, {y:.2f}, {z:.2f})\nkpc", fontsize=8)
    return [ax for line in grid for ax in line]


def _seen(maps: Maps, name: str, view: int) -> Any:
    from galineage.fields import SOLAR_METALLICITY

    values = np.array(maps[name][view], dtype=np.float64)
    values[maps["count"][view] == 0] = np.nan
    if name == "mass":
        return np.log10(np.where(values > 0, values, np.nan))
    if name == "metallicity":
        return np.log10(np.where(values > 0, values, np.nan) / SOLAR_METALLICITY)
    return values


def _limits(name: str, images: Sequence[Any]) -> tuple[float, float]:
    """Colour limits that hold all but the outermost pixels; even about zero for velocities."""
    every = np.concatenate([image[np.isfinite(image)] for image in images])
    if not len(every):
        return -1.0, 1.0
    if name == "velocity":
        most = float(np.percentile(np.abs(every), 96)) or 1.0
        return -most, most
    low, high = np.percentile(every, [2, 99.5])
    return float(low), float(high) if high > low else float(low) + 1.0
