"""The toy universe beside published relations: numbers first, then drawings that take and return axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.fields import SOLAR_METALLICITY, Field, field
from galineage.toy.growth import draw_stellar_mass
from galineage.toy.mergers import MAJOR, draw_histories, rate_above
from galineage.toy.observables import disc_size
from galineage.toy.suites import SUITES, make_toy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.toy.mergers import Histories

__all__ = ["TNG100", "Bands", "Counted", "bands", "count_majors", "draw_bands", "draw_rates", "draw_times", "figure"]

LOG_MASS_EDGES = np.array([10.0, 10.25, 10.5, 10.75, 11.0, 11.25, 11.5, 12.0])
"""Edges of the stellar-mass bins, log10(M / Msun)."""

TNG100: dict[str, NDArray[np.float64]] = {
    "f_ex": np.array([0.051, 0.067, 0.130, 0.305, 0.492, 0.626, 0.727]),
    "metallicity": SOLAR_METALLICITY * 10 ** np.array([0.197, 0.202, 0.160, 0.120, 0.135, 0.146, 0.163]),
    "age": np.array([6.37, 6.77, 7.76, 8.49, 8.82, 9.18, 9.46]),
    "r_half": 10 ** np.array([0.529, 0.516, 0.590, 0.780, 0.980, 1.135, 1.333]),
}
"""Medians of the 6,477 galaxies of TNG100-1 at z = 0 in the bins of `LOG_MASS_EDGES`, in registry units, measured on
the table published with Angeloudi+2023 (its metallicity is log10(Z / 0.0127))."""

EAGLE: dict[str, NDArray[np.float64]] = {
    "f_ex": np.array([0.079, 0.107, 0.184, 0.336, 0.502, 0.571, 0.670]),
    "metallicity": SOLAR_METALLICITY * 10 ** np.array([0.174, 0.177, 0.178, 0.161, 0.142, 0.106, 0.098]),
    "age": np.array([7.40, 7.85, 8.28, 8.72, 9.06, 9.59, 9.95]),
    "r_half": 10 ** np.array([0.644, 0.689, 0.770, 0.865, 1.013, 1.217, 1.437]),
}
"""The same for the 3,638 galaxies of EAGLE RefL0100N1504 at z = 0."""

TNG100_LAST_MAJOR = np.array([1.466, 4.414, 10.059, 12.626, 13.116])
"""5, 16, 50, 84 and 95 % quantiles of the lookback time of the last major merger in TNG100-1, Gyr (merger-history
catalogue, 6,477 galaxies; 3.1 % of them never had one)."""

_STYLES = {"toy-a": ("#0072B2", "-"), "toy-b": ("#D55E00", "--")}
_OTHER = ("#009E73", "-.")
_REAL = {"TNG100": (TNG100, "o", "#0072B2"), "EAGLE": (EAGLE, "s", "#D55E00")}


@dataclass(frozen=True)
class Bands:
    """Quantiles of one field in bins of stellar mass.

    Attributes
    ----------
    field : Field
        Which quantity, and its unit.
    log_mass : array (b,)
        Centres of the bins, log10(M / Msun).
    quantiles : array (3, b)
        16, 50 and 84 % quantiles in the field's unit; NaN in bins with fewer than 5 galaxies.
    """

    field: Field
    log_mass: NDArray[np.float64]
    quantiles: NDArray[np.float64]


@dataclass(frozen=True)
class Counted:
    """Major mergers counted in the toy, and expected from the fit for the same galaxies.

    Attributes
    ----------
    z : array (b,)
        Centres of the redshift bins.
    log_mass : array (c + 1,)
        Edges of the bins in the main progenitor's stellar mass, log10(M / Msun).
    rate, error, fit : array (b, c), 1/Gyr
        Mergers per galaxy and Gyr, Poisson error, and the mean published rate. NaN where no galaxy has that mass.
    """

    z: NDArray[np.float64]
    log_mass: NDArray[np.float64]
    rate: NDArray[np.float64]
    error: NDArray[np.float64]
    fit: NDArray[np.float64]


def bands(catalogue: Catalogue, name: str) -> Bands:
    """Quantiles of a field in bins of stellar mass.

    Parameters
    ----------
    catalogue : Catalogue
    name : str
        Field name; NaN values are left out.

    Returns
    -------
    Bands

    Raises
    ------
    DataError
        If the catalogue lacks the field.
    """
    values = catalogue[name]
    where = np.digitize(np.log10(catalogue["mstar"]), LOG_MASS_EDGES) - 1
    quantiles = np.full((3, len(LOG_MASS_EDGES) - 1), np.nan)
    for number in range(quantiles.shape[1]):
        inside = values[(where == number) & ~np.isnan(values)]
        if len(inside) >= 5:
            quantiles[:, number] = np.quantile(inside, [0.16, 0.5, 0.84])
    return Bands(field(name), (LOG_MASS_EDGES[1:] + LOG_MASS_EDGES[:-1]) / 2, quantiles)


def count_majors(histories: Histories, log_mass: NDArray[np.float64], z_edges: NDArray[np.float64]) -> Counted:
    """Count major mergers per galaxy and Gyr against redshift, in bins of the mass that the galaxy then had.

    Parameters
    ----------
    histories : Histories
    log_mass : array (c + 1,)
        Edges in log10(M / Msun).
    z_edges : array (b + 1,)
        Rising.

    Returns
    -------
    Counted
        The expectation is the fit at the mass at the start of each time step, averaged over the galaxies and steps of
        a bin.
    """
    grid, mergers = histories.grid, histories.mergers
    step = np.clip(np.searchsorted(grid.lookback, mergers.lookback, "right") - 1, 0, len(grid.width) - 1)
    shape = (len(histories.mstar), len(grid.width))
    flat = mergers.galaxy * shape[1] + step
    lost = np.bincount(flat, mergers.mstar, minlength=shape[0] * shape[1]).reshape(shape) + histories.insitu[:, :-1]
    mass = histories.mstar[:, None] - np.cumsum(lost, axis=1) + lost
    counts = np.bincount(flat[mergers.mu >= MAJOR], minlength=shape[0] * shape[1]).reshape(shape)
    expected = rate_above(np.maximum(mass, 1.0), grid.z_mid[None, :]) * grid.width
    rows = np.digitize(np.log10(np.maximum(mass, 1.0)), log_mass) - 1
    columns = np.broadcast_to(np.digitize(grid.z_mid, z_edges) - 1, shape)
    size = (len(z_edges) - 1, len(log_mass) - 1)
    inside = (rows >= 0) & (rows < size[1]) & (columns >= 0) & (columns < size[0])
    cell = (columns * size[1] + rows)[inside]

    def total(weights: NDArray) -> NDArray[np.float64]:
        return np.bincount(cell, weights[inside], minlength=size[0] * size[1]).reshape(size).astype(float)

    time = total(np.broadcast_to(grid.width, shape))
    time = np.where(time > 0, time, np.nan)
    number = total(counts)
    return Counted(
        (z_edges[1:] + z_edges[:-1]) / 2, log_mass, number / time, np.sqrt(number) / time, total(expected) / time
    )


def draw_bands(
    axes: Axes, toys: Mapping[str, Bands], real: Mapping[str, tuple[dict[str, NDArray], str, str]] | None = None
) -> Axes:
    """Draw medians and 16 to 84 % bands against stellar mass, with the real medians as points.

    Parameters
    ----------
    axes : Axes
    toys : mapping of suite name to Bands
        All of one field.
    real : mapping, optional
        Name to (medians by field name, shape (k,) for the k bins of `LOG_MASS_EDGES`, marker, colour); default TNG100
        and EAGLE.

    Returns
    -------
    Axes
    """
    for suite, item in toys.items():
        colour, line = _STYLES.get(suite, _OTHER)
        low, middle, high = _shown(item.field, item.quantiles)
        axes.fill_between(item.log_mass, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(item.log_mass, middle, color=colour, linestyle=line, linewidth=2, label=suite)
        axes.set_ylabel(item.field.axis)
    first = next(iter(toys.values()))
    for name, (medians, marker, edge) in (_REAL if real is None else real).items():
        if first.field.name in medians:
            points = _shown(first.field, medians[first.field.name])
            axes.plot(first.log_mass, points, marker, color=edge, mec="black", ms=6, label=f"{name} median")
    axes.set_xticks([10.0, 10.5, 11.0, 11.5, 12.0])
    axes.set_xlabel(field("mstar").axis)
    axes.set_xlim(LOG_MASS_EDGES[0], LOG_MASS_EDGES[-1])
    return axes


def draw_rates(axes: Axes, counted: Counted) -> Axes:
    """Draw counted merger rates (points) over the published fit for the same galaxies (lines).

    Parameters
    ----------
    axes : Axes
    counted : Counted

    Returns
    -------
    Axes
    """
    colours = ["#56B4E9", "#0072B2", "#000000", "#CC79A7"]
    for column in range(counted.rate.shape[1]):
        low, high = counted.log_mass[column : column + 2]
        colour, label = colours[column % len(colours)], rf"$\log M_\star$ {low:g} to {high:g}"
        axes.plot(counted.z, counted.fit[:, column], color=colour, linewidth=1.8)
        seen = counted.error[:, column] > 0
        axes.errorbar(
            counted.z[seen],
            counted.rate[seen, column],
            counted.error[seen, column],
            fmt="osD^"[column % 4],
            color=colour,
            ms=5,
            capsize=2,
            label=label,
        )
    axes.set_yscale("log")
    axes.set_xlabel(field("redshift").axis)
    axes.set_ylabel(r"major mergers per galaxy [Gyr$^{-1}$]")
    return axes


def draw_times(axes: Axes, times: Mapping[str, NDArray[np.float64]]) -> Axes:
    """Draw the cumulative distribution of the last major merger's lookback time, with the TNG100 quantiles.

    Parameters
    ----------
    axes : Axes
    times : mapping of suite name to array (n,), Gyr
        NaN (never) is left out of the distribution and given in the legend.

    Returns
    -------
    Axes
    """
    for suite, values in times.items():
        colour, line = _STYLES.get(suite, _OTHER)
        finite = np.sort(values[np.isfinite(values)])
        label = f"{suite} (never: {100 * np.isnan(values).mean():.1f} %)"
        axes.plot(finite, (np.arange(len(finite)) + 0.5) / len(finite), color=colour, linestyle=line, lw=2, label=label)
    levels = [0.05, 0.16, 0.5, 0.84, 0.95]
    axes.plot(TNG100_LAST_MAJOR, levels, "o", color="#0072B2", mec="black", ms=6, label="TNG100 (never: 3.1 %)")
    axes.set_xlabel(field("t_last_major").axis)
    axes.set_ylabel("fraction of galaxies below")
    axes.set_xlim(0, 13.9)
    axes.set_ylim(0, 1)
    return axes


def figure(n: int = 20_000, seed: int = 0) -> Figure:
    """Assemble the six comparisons of the documentation on one page.

    Parameters
    ----------
    n : int
        Galaxies per suite.
    seed : int

    Returns
    -------
    Figure
        Not registered with pyplot; save it with ``savefig``.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    catalogues = {name: make_toy(name, n, seed) for name in _STYLES}
    rng = np.random.default_rng(seed)
    histories = draw_histories(draw_stellar_mass(min(n, 20_000), rng), SUITES["toy-a"], rng)
    counted = count_majors(histories, np.array([9.5, 10.0, 10.5, 11.0, 11.5]), np.arange(0.0, 4.01, 0.5))
    with rc_context({"font.size": 11, "axes.titlesize": 11, "legend.fontsize": 9, "axes.grid": False}):
        page = Figure(figsize=(15, 9.4), layout="constrained")
        axes = page.subplots(2, 3).ravel()
        draw_bands(axes[0], {name: bands(item, "f_ex") for name, item in catalogues.items()})
        draw_rates(axes[1], counted)
        draw_bands(axes[2], {name: bands(item, "r_half") for name, item in catalogues.items()})
        mass = 10 ** np.linspace(10, 12, 50)
        late = np.log10(disc_size(mass))
        axes[2].plot(np.log10(mass), late, color="0.35", linestyle=":", label="Shen+2003, late types (projected)")
        draw_bands(axes[3], {name: bands(item, "metallicity") for name, item in catalogues.items()})
        draw_bands(axes[4], {name: bands(item, "age") for name, item in catalogues.items()})
        draw_times(axes[5], {name: item["t_last_major"] for name, item in catalogues.items()})
        titles = (
            "Ex-situ fraction",
            "Major mergers in toy-a; lines: Rodriguez-Gomez+2015",
            "Size",
            "Metallicity",
            "Age",
            "Last major merger",
        )
        corners = ("upper left", "lower right", "upper left", "lower left", "lower right", "upper left")
        for item, title, corner in zip(axes, titles, corners, strict=True):
            item.set_title(title, loc="left")
            item.legend(frameon=False, loc=corner)
            item.tick_params(direction="in", top=True, right=True)
        page.suptitle("Toy universe (not a simulation): lines are medians, bands hold 16 to 84 %", x=0.01, ha="left")
    return page


def _shown(item: Field, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log10(values) if item.scale == "log" else values
