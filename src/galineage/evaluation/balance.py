"""How many galaxies of each f_ex there are, before and after they are balanced (figure 1, A23).

They are balanced by rows of earlier snapshots, and by seeing galaxies with large fractions from more sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.style import axis_label, colour, new_axes, styled
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue

    Counts = NDArray[np.int64]

__all__ = ["Balance", "compute", "draw", "judge"]


@dataclass(frozen=True)
class Balance:
    """Histograms of the target, of the latest snapshot and of all rows.

    Attributes
    ----------
    labels : tuple of str, length c
        Names of the catalogues.
    edges : array (k + 1,)
        Bin edges in the target's unit.
    before, after : array of int (c, k)
        Rows of the latest snapshot (z = 0), and all rows, per bin.
    high_before, high_after : tuple of (float, float), length c
        Fraction of rows in the upper half of the range, and its binomial error.
    target : str
        Field name.
    views : bool
        Whether ``after`` counts every view of a galaxy.
    """

    labels: tuple[str, ...]
    edges: NDArray[np.float64]
    before: Counts
    after: Counts
    high_before: tuple[tuple[float, float], ...]
    high_after: tuple[tuple[float, float], ...]
    target: str
    views: bool = False

    def to_table(self) -> Table:
        """One row per catalogue and bin."""
        unit, k = target_unit(self.target), len(self.edges) - 1
        columns = [
            ("catalogue", np.repeat(self.labels, k), "", "name of the catalogue"),
            ("low", np.tile(self.edges[:-1], len(self.labels)), unit, f"lower edge of {self.target}"),
            ("high", np.tile(self.edges[1:], len(self.labels)), unit, f"upper edge of {self.target}"),
            ("n_latest", self.before.ravel(), "", "rows of the latest snapshot"),
            ("n_all", self.after.ravel(), "", "views of all rows" if self.views else "rows of all snapshots"),
        ]
        return make_table(columns, {"target": self.target})


def compute(
    catalogues: Sequence[tuple[str, Catalogue]], *, target: str = "f_ex", bins: int = 20, views: bool = False
) -> Balance:
    """Count galaxies per bin of the target before and after balancing.

    Parameters
    ----------
    catalogues : sequence of (label, Catalogue)
        At least one. Rows of the latest ``snapshot`` (or lowest ``redshift``) are "before"; a catalogue with neither
        column is taken as one snapshot. Missing targets are left out.
    target : str
        Field name.
    bins : int
        Number of bins, from 0 to 1 for fractions and over the data's range otherwise.
    views : bool
        Count each row as often as its column ``n_views`` says for "after".

    Raises
    ------
    DataError
        If there is no catalogue, or one has no value of the target.
    """
    if not catalogues:
        raise DataError("there are no catalogues to count", expected="at least one")
    values, latest, seen = [], [], []
    for label, catalogue in catalogues:
        column = catalogue.features([target])[:, 0]
        finite = np.isfinite(column)
        if not finite.any():
            raise DataError(f"no galaxy has a value of {target}", where=label)
        values.append(column[finite])
        latest.append(_latest(catalogue)[finite])
        seen.append(catalogue["n_views"][finite].astype(int) if views else np.ones(int(finite.sum()), dtype=int))
    everything = np.concatenate(values)
    low, high = (0.0, 1.0) if target == "f_ex" else (float(everything.min()), float(everything.max()))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    middle = 0.5 * (edges[0] + edges[-1])
    return Balance(
        labels=tuple(label for label, _ in catalogues),
        edges=edges,
        before=np.stack([np.histogram(v[z], edges)[0] for v, z in zip(values, latest, strict=True)]),
        after=np.stack([np.histogram(np.repeat(v, n), edges)[0] for v, n in zip(values, seen, strict=True)]),
        high_before=tuple(_share(v[z] > middle) for v, z in zip(values, latest, strict=True)),
        high_after=tuple(_share(np.repeat(v, n) > middle) for v, n in zip(values, seen, strict=True)),
        target=target,
        views=views,
    )


def judge(result: Balance, *, least: float = 0.05) -> Verdict:
    """Say which share of rows lies in the upper half before and after; passes if at least ``least`` does everywhere."""
    what = " views" if result.views else ""
    parts = [
        f"{label}: {percent(*before)} of {n} rows at the latest snapshot and {percent(*after)} of all {m}{what}"
        for label, before, after, n, m in zip(
            result.labels,
            result.high_before,
            result.high_after,
            result.before.sum(axis=1),
            result.after.sum(axis=1),
            strict=True,
        )
    ]
    passed = all(after[0] >= least for after in result.high_after)
    kind = "enough high values" if passed else "few high values"
    middle = 0.5 * (result.edges[0] + result.edges[-1])
    return Verdict(f"Above {result.target} = {middle:.2g} lie, in {'; in '.join(parts)}: {kind}.", passed, kind)


@styled
def draw(result: Balance, ax: Axes | None = None) -> Axes:
    """Draw counts per bin, dashed for the latest snapshot, solid for all rows; empty bins fall off the log axis."""
    ax = new_axes(ax, height=4.0)
    for c, label in enumerate(result.labels):
        latest = f"{label}, latest snapshot"
        ax.stairs(result.before[c], result.edges, color=colour(c), lw=1.4, ls="--", label=latest)
        every = "all views" if result.views else "all rows"
        ax.stairs(result.after[c], result.edges, color=colour(c), lw=1.8, label=f"{label}, {every}")
    ax.set_xlim(result.edges[0], result.edges[-1])
    ax.set_yscale("log")
    ax.set_ylim(0.7, (8 if result.views else 2.5) * max(1, int(result.after.max())))
    ax.set_xlabel(axis_label(result.target))
    ax.set_ylabel("Galaxies and views per bin" if result.views else "Galaxies per bin")
    ax.legend(loc="upper right", ncols=2 if result.views else 1)
    return ax


def _latest(catalogue: Catalogue) -> NDArray[np.bool_]:
    """Rows of the latest snapshot of each domain: snapshot numbers of different simulations do not compare."""
    name = next((name for name in ("redshift", "snapshot") if name in catalogue), None)
    which = np.ones(len(catalogue), dtype=bool)
    if name is None:
        return which
    order = catalogue[name].astype(float) * (-1 if name == "redshift" else 1)
    for domain in np.unique(catalogue.domain):
        rows = catalogue.domain == domain
        which[rows] = order[rows] >= order[rows].max() - 1e-6
    return which


def _share(chosen: NDArray[np.bool_]) -> tuple[float, float]:
    n = len(chosen)
    p = float(chosen.mean()) if n else float("nan")
    return p, float(np.sqrt(p * (1 - p) / n)) if n > 1 else float("nan")
