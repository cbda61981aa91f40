"""Where domains lie in what a network sees: one map of all, contours per domain (Eisert+2024; Eisert+2026, Fig. 7)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.placing import foreign_share, placed
from galineage.evaluation.sample import as_seen, check_samples, property_label, property_unit, together
from galineage.evaluation.style import MUTED, SEQUENTIAL, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.sample import Sample

    Array = NDArray[np.float64]

__all__ = ["HELD", "Landscape", "compute", "draw", "judge"]

HELD = 0.8
"""Fraction of a domain's galaxies inside its contour (Eisert+2026)."""

_FEWEST = 50
_NEIGHBOURS, _MIN_DIST = 100, 0.5
_CELLS = 160
_MARGIN = 0.3
_PAD = 0.03


@dataclass(frozen=True, eq=False)
class Landscape:
    """Galaxies of several domains on one plane.

    Attributes
    ----------
    place : array (n, 2)
        No unit; only who is near whom means something.
    domain : array (n,) of str
        Domain of each galaxy.
    row : array (n,) of int
        Its row in its sample.
    galaxies : array (n,) of str
        Which galaxy it is.
    properties : mapping of str to array (n,)
        As networks see them: in the registry's unit, dex where it is logarithmic; NaN where unknown.
    grid : (array (c,), array (c,))
        Coordinates at which densities are known.
    density : mapping of str to array (c, c)
        Of each domain on the grid (second coordinate first), per unit area of the plane.
    level : mapping of str to float
        Density above which `HELD` of the domain's galaxies lie.
    inside : array (D, D, 2)
        Fraction of the galaxies of domain i inside the contour of domain j, and its binomial error.
    mixing : array (D, 2)
        Of each domain: share of the nearest neighbours, in the representation itself, that come from other domains,
        over what is expected if domains did not matter (1: cannot be told apart, 0: separate); its bootstrap error.
    together : (float, float)
        The same over all domains.
    method : str
        How the places were found.
    """

    place: Array
    domain: NDArray[np.str_]
    row: NDArray[np.int64]
    galaxies: NDArray[np.str_]
    properties: Mapping[str, Array]
    grid: tuple[Array, Array]
    density: Mapping[str, Array]
    level: Mapping[str, float]
    inside: Array
    mixing: Array
    together: tuple[float, float]
    method: str

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains in their order."""
        return tuple(self.density)

    def to_table(self) -> Table:
        """Return one row for each galaxy: where it lies, and what is known of it."""
        columns: list[tuple[str, Any, str, str]] = [
            ("domain", self.domain, "", "domain of the galaxy"),
            ("galaxy", self.galaxies, "", "which galaxy"),
            ("row", self.row, "", "row in the domain's sample"),
            ("x", self.place[:, 0], "", "place on the plane"),
            ("y", self.place[:, 1], "", "place on the plane"),
        ]
        columns += [
            (f"property.{name}", values, property_unit(name), f"{name}, dex where the registry is logarithmic")
            for name, values in self.properties.items()
        ]
        meta: dict[str, Any] = {"method": self.method, "mixing": self.together[0], "mixing_error": self.together[1]}
        for i, name in enumerate(self.domains):
            meta |= {f"mixing.{name}": float(self.mixing[i, 0]), f"mixing_error.{name}": float(self.mixing[i, 1])}
            for j, other in enumerate(self.domains):
                meta[f"inside.{name}.of.{other}"] = float(self.inside[i, j, 0])
        return make_table(columns, {key: value for key, value in meta.items() if value == value})


def compute(
    samples: Sequence[Sample],
    properties: Sequence[str] = (),
    *,
    most: int = 3000,
    neighbours: int = _NEIGHBOURS,
    min_dist: float = _MIN_DIST,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Landscape:
    """Place the galaxies of several domains on one plane (UMAP with Eisert+2024's settings).

    Parameters
    ----------
    samples : sequence of Sample
        One for each domain, with representations of one network. One random row of each galaxy is taken.
    properties : sequence of str
        What to colour by. A domain that lacks one is NaN in it.
    most : int
        Galaxies of each domain at most, at random: a map of many more is no clearer and takes minutes.
    neighbours, min_dist
        Of UMAP.
    n_boot, seed : int
        Bootstrap resamples for the errors of the mixing (galaxies within each domain; their neighbours stay), and the
        seed of everything random.

    Raises
    ------
    DataError
        If a domain has fewer than 50 galaxies, or representations do not fit each other.
    ConfigError
        If there are no domains, two have one name, or no domain has a property.
    """
    samples = check_samples(samples, _FEWEST)
    for name in properties:
        if not any(name in item.properties for item in samples):
            raise ConfigError(f"no domain has the property {name!r}", advice="leave it out, or add it to the tables")
    rows = [item.one_each(seed + k, most) for k, item in enumerate(samples)]
    parts = [item.values[mine].astype(np.float64) for item, mine in zip(samples, rows, strict=True)]
    domain = np.repeat([item.name for item in samples], [len(mine) for mine in rows])
    place, method = placed(np.concatenate(parts), neighbours=neighbours, min_dist=min_dist, seed=seed)
    grid, density, level, inside = _contours(place, domain, [item.name for item in samples])
    mixed, whole = _mixing(np.concatenate(together(parts)), domain, [item.name for item in samples], n_boot, seed)
    known = {
        name: np.concatenate(
            [
                as_seen(name, item.properties[name][mine]) if name in item.properties else np.full(len(mine), np.nan)
                for item, mine in zip(samples, rows, strict=True)
            ]
        )
        for name in properties
    }
    return Landscape(
        place=place,
        domain=domain,
        row=np.concatenate(rows),
        galaxies=np.concatenate([item.whose[mine] for item, mine in zip(samples, rows, strict=True)]),
        properties=MappingProxyType(known),
        grid=grid,
        density=MappingProxyType(density),
        level=MappingProxyType(level),
        inside=inside,
        mixing=mixed,
        together=whole,
        method=method,
    )


def _contours(
    place: Array, domain: NDArray[np.str_], names: list[str]
) -> tuple[tuple[Array, Array], dict[str, Array], dict[str, float], Array]:
    """Kernel densities of places (n, 2) on a grid, their levels, and who lies inside whose contour."""
    from scipy.stats import gaussian_kde

    low, high = place.min(axis=0), place.max(axis=0)
    margin = _MARGIN * np.maximum(high - low, 1e-9)
    x, y = (np.linspace(low[i] - margin[i], high[i] + margin[i], _CELLS) for i in (0, 1))
    points = np.stack([part.ravel() for part in np.meshgrid(x, y)])
    density, level = {}, {}
    inside = np.full((len(names), len(names), 2), np.nan)
    for j, name in enumerate(names):
        kernel = gaussian_kde(place[domain == name].T)
        density[name] = kernel(points).reshape(_CELLS, _CELLS)
        level[name] = float(np.quantile(kernel(place[domain == name].T), 1 - HELD))
        for i, other in enumerate(names):
            held = kernel(place[domain == other].T) >= level[name]
            inside[i, j] = held.mean(), np.sqrt(held.mean() * (1 - held.mean()) / len(held))
    return (x, y), density, level, inside


def _mixing(
    values: Array, domain: NDArray[np.str_], names: list[str], n_boot: int, seed: int
) -> tuple[Array, tuple[float, float]]:
    """Mixing of each domain (D, 2) and of all of them, with bootstrap errors."""
    if len(names) < 2:
        return np.full((1, 2), np.nan), (float("nan"), float("nan"))
    foreign = foreign_share(values, domain)
    found, replicates = np.empty((len(names), 2)), []
    for i, name in enumerate(names):
        mine = foreign[domain == name] / (domain != name).mean()
        replicates.append(bootstrap(lambda part: part.mean(axis=-1), mine, n_boot=n_boot, seed=seed + i))
        found[i] = mine.mean(), spread(replicates[-1], len(mine))
    weights = np.array([(domain != name).mean() for name in names])
    whole = np.average(np.stack(replicates), axis=0, weights=weights)
    return found, (float(np.average(found[:, 0], weights=weights)), float(spread(whole, len(domain))))


def judge(result: Landscape) -> Verdict:
    """Say how far the domains overlap; passes if they mix at least half as much as if domains did not matter."""
    names = result.domains
    if len(names) < 2:
        return Verdict(f"{names[0]} alone: {len(result.domain)} galaxies on one map.", passed=True, kind="one domain")
    value, error = result.together
    alike = value >= 0.5
    least = int(np.argmin(result.mixing[:, 0]))
    off = np.where(np.eye(len(names), dtype=bool), np.inf, result.inside[..., 0])
    i, j = np.unravel_index(int(np.argmin(off)), off.shape)
    sentence = (
        f"{', '.join(names)} {'largely overlap' if alike else 'lie apart'}: {percent(value, error)} of the mixing "
        "expected if the network did not tell them apart"
    )
    if len(names) > 2:
        sentence += f", least for {names[least]} ({percent(*result.mixing[least])})"
    sentence += (
        f". On the map {percent(*result.inside[i, j])} of {names[i]} lie inside the contour that holds "
        f"{100 * HELD:g} % of {names[j]}"
    )
    return Verdict(f"{sentence}.", bool(alike), "overlap" if alike else "apart")


@styled
def draw(result: Landscape, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw galaxies and contours by domain, then a panel for each property.

    Parameters
    ----------
    result : Landscape
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        That of the domains, then one for each property.
    """
    count = 1 + len(result.properties)
    columns = 2 if count in (2, 4) else min(count, 3)
    lines = -(-count // columns)
    figure = figure or new_figure(7.2 if count == 1 else 4.1 * columns, 6.0 if count == 1 else 3.8 * lines)
    axes = list(np.ravel(figure.subplots(lines, columns, squeeze=False)))
    for ax in axes[count:]:
        ax.set_visible(False)
    axes = axes[:count]
    size = float(np.clip(12_000 / len(result.domain), 1.5, 9))
    order = np.random.default_rng(0).permutation(len(result.domain))
    shades = np.array([colour(result.domains.index(name)) for name in result.domain])
    x, y = result.place[order].T
    axes[0].scatter(x, y, c=shades[order].tolist(), s=size, lw=0, alpha=0.5, rasterized=True)
    _draw_contours(result, axes[0], 1.8)
    for i, name in enumerate(result.domains):
        axes[0].plot([], [], color=colour(i), label=name)
    axes[0].legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(result.domains), 3), fontsize=9, borderaxespad=0.2,
        title=f"lines hold {100 * HELD:g} % of each domain", title_fontsize=9, alignment="left",
    )  # fmt: skip
    for ax, (name, values) in zip(axes[1:], result.properties.items(), strict=True):
        _draw_property(result, figure, ax, name, values[order], order, size)
    x_frame, y_frame = _frame(result)
    for ax in axes:
        ax.set(xlim=x_frame, ylim=y_frame)
        ax.set_xticks([])
        ax.set_yticks([])
    return axes


def _frame(result: Landscape) -> list[tuple[float, float]]:
    """Limits of both axes that hold all galaxies and all contours."""
    inside = np.any([result.density[name] >= result.level[name] for name in result.domains], axis=0)
    limits = []
    for i, line in enumerate(result.grid):
        shown = np.concatenate([result.place[:, i], line[inside.any(axis=i)]])
        pad = _PAD * float(np.ptp(shown))
        limits.append((float(shown.min()) - pad, float(shown.max()) + pad))
    return limits


def _draw_property(
    result: Landscape, figure: Any, ax: Axes, name: str, values: Array, order: NDArray[np.int64], size: float
) -> None:
    known = np.isfinite(values)
    ax.plot(*result.place[order[~known]].T, ".", ms=1.5, color=MUTED, alpha=0.5, rasterized=True)
    if known.any():
        low, high = np.quantile(values[known], [0.02, 0.98])
        x, y = result.place[order[known]].T
        top = float(high) if high > low else float(low) + 1
        shown = ax.scatter(
            x, y, c=values[known], s=size, cmap=SEQUENTIAL, vmin=float(low), vmax=top, lw=0, rasterized=True
        )
        figure.colorbar(shown, ax=ax, label=property_label(name), shrink=0.9, pad=0.01, extend="both")
    _draw_contours(result, ax, 1.0)


def _draw_contours(result: Landscape, ax: Axes, width: float) -> None:
    for i, name in enumerate(result.domains):
        if result.density[name].max() > result.level[name]:
            ax.contour(
                *result.grid, result.density[name], levels=[result.level[name]], colors=[colour(i)], linewidths=width
            )
