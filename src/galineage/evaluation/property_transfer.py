"""What a representation knows: properties of nearest neighbours, within a domain and across (Eisert+2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.sample import check_samples, property_label, property_unit, together
from galineage.evaluation.style import INK, MUTED, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict, percent, plus_minus
from galineage.shift.neighbours import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.sample import Sample

    Array = NDArray[np.float64]

__all__ = ["METRICS", "NEIGHBOURS", "PropertyTransfer", "Transferred", "compute", "draw", "judge"]

NEIGHBOURS = 8
"""Neighbours whose mean and scatter are taken (Eisert+2024 show the scatter of 8 as uncertainty)."""

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "rmse_one": "root mean square error of the nearest neighbour's value (as published)",
        "rmse_many": "root mean square error of the mean over the neighbours",
        "rmse_random": "root mean square error of a random partner's value",
        "rmse_mean": "root mean square error of the mean value of the domain that is searched",
        "bias": "mean of the neighbours' mean - truth",
        "gain": "1 - rmse_many / rmse_mean: 0 if the representation says nothing, 1 if it says all",
        "held": "fraction of truths between the lowest and the highest neighbour; expected if these are fair draws: "
        "(k - 1) / (k + 1)",
    }
)
"""Name and meaning of every number, in the order of tables."""

_WITH_UNIT = ("rmse_one", "rmse_many", "rmse_random", "rmse_mean", "bias")
_FEWEST = 20
_MOST_POINTS = 1500


@dataclass(frozen=True, eq=False)
class Transferred:
    """One property, taken over from one domain to another.

    Attributes
    ----------
    source, test : str
        Domain that is searched; domain whose galaxies ask. The same: without a galaxy's own images.
    name : str
        The property.
    rows : array (m,) of int
        Rows of the asking sample in which it is known.
    truth, one, many, scatter : array (m,)
        True value, that of the nearest neighbour, mean and standard deviation of the k nearest; as networks see the
        property (in its unit, dex where the registry is logarithmic).
    values, errors : mapping of str to float
        Keys of `METRICS`, and bootstrap errors over galaxies.
    """

    source: str
    test: str
    name: str
    rows: NDArray[np.int64]
    truth: Array
    one: Array
    many: Array
    scatter: Array
    values: Mapping[str, float]
    errors: Mapping[str, float]

    @property
    def label(self) -> str:
        """``source → test``, or the domain's name where it is one."""
        return self.source if self.source == self.test else f"{self.source} → {self.test}"


@dataclass(frozen=True, eq=False)
class PropertyTransfer:
    """Every property between every pair of domains asked for.

    Attributes
    ----------
    items : tuple of Transferred
        Pair by pair, in each the properties in their order.
    k : int
        Neighbours whose mean is taken.
    """

    items: tuple[Transferred, ...]
    k: int

    def to_table(self) -> Table:
        """Return one row for each pair and property; numbers with a unit are in that of the row (column ``unit``)."""
        columns: list[tuple[str, Any, str, str]] = [
            ("source", [item.source for item in self.items], "", "domain whose galaxies lend their values"),
            ("test", [item.test for item in self.items], "", "domain whose galaxies get them"),
            ("property", [item.name for item in self.items], "", "what is taken over"),
            ("unit", [property_unit(item.name) or "-" for item in self.items], "", "of rmse and bias"),
            ("n", [len(item.truth) for item in self.items], "", "rows"),
        ]
        for name, meaning in METRICS.items():
            note = " (unit of the row)" if name in _WITH_UNIT else ""
            columns += [
                (name, [item.values[name] for item in self.items], "", meaning + note),
                (f"{name}_error", [item.errors[name] for item in self.items], "", f"bootstrap error of {name}"),
            ]
        return make_table(columns, {"k": self.k, "held_expected": (self.k - 1) / (self.k + 1)})


def compute(
    samples: Sequence[Sample],
    properties: Sequence[str],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    k: int = NEIGHBOURS,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> PropertyTransfer:
    """Take properties over from the nearest galaxies of a representation.

    Distances are sums of absolute differences of representations that are standardised over all samples. A galaxy's own
    rows (its other images, its progenitors) are never its neighbours.

    Parameters
    ----------
    samples : sequence of Sample
        Domains, with representations of one network.
    properties : sequence of str
        What to take over. Pairs of which a domain knows nothing of it are left out: a survey has no truth.
    pairs : sequence of (source, test), optional
        Names of domains. Default: every ordered pair, and each domain with itself.
    k : int
        Neighbours whose mean is taken.
    n_boot, seed : int
        Bootstrap resamples (galaxies with all of their rows) and their seed, also of the random partners.

    Raises
    ------
    ConfigError
        If there are no properties or pairs, a pair names an unknown domain, or no pair knows any property.
    DataError
        If a property is known for some, and fewer than 20, galaxies of a domain, or there are not k neighbours of other
        galaxies.
    """
    samples = check_samples(samples)
    names = [item.name for item in samples]
    pairs = [(one, two) for one in names for two in names] if pairs is None else list(pairs)
    unknown = {name for pair in pairs for name in pair} - set(names)
    if not properties or not pairs or unknown:
        raise ConfigError(
            f"properties {list(properties)} cannot be taken over between {pairs}",
            expected="domains " + ", ".join(names),
        )
    values = dict(zip(names, together([item.values for item in samples]), strict=True))
    by_name = {item.name: replace(item, values=values[item.name].astype(np.float32)) for item in samples}
    found: list[Transferred] = []
    for one, two in pairs:
        found += _pair(by_name[one], by_name[two], list(properties), k, n_boot, seed)
    if not found:
        raise ConfigError(
            f"no pair of domains knows any of {list(properties)}", advice="add their columns to the tables"
        )
    return PropertyTransfer(tuple(found), k)


def _pair(source: Sample, test: Sample, properties: list[str], k: int, n_boot: int, seed: int) -> list[Transferred]:
    """All properties from one domain to another; one search for those that are known of the same rows."""
    searched: dict[tuple[bytes, bytes], NDArray[np.int64]] = {}
    found = []
    for number, name in enumerate(properties):
        there, here = (_known(item, name) for item in (source, test))
        if not len(there) or not len(here):
            continue
        key = (there.tobytes(), here.tobytes())
        if key not in searched:
            searched[key] = _neighbours(source, test, there, here, k)
        lent, truth = source.seen(name)[there], test.seen(name)[here]
        near = lent[searched[key]]
        rng = np.random.default_rng((seed, number))
        partner = lent[_random_partner(source.whose[there], test.whose[here], rng)]
        columns = np.stack([
            near[:, 0] - truth, near.mean(axis=1) - truth, partner - truth, lent.mean() - truth,
            ((near.min(axis=1) <= truth) & (truth <= near.max(axis=1))).astype(float),
        ])  # fmt: skip
        replicates = bootstrap(
            lambda *parts: _statistics(np.stack(parts)), *columns, n_boot=n_boot, seed=seed, galaxies=test.whose[here]
        )
        errors = spread(replicates, len(np.unique(test.whose[here])))
        found.append(
            Transferred(
                source.name, test.name, name, here, truth, near[:, 0], near.mean(axis=1), near.std(axis=1, ddof=1),
                *(MappingProxyType({key: float(v) for key, v in zip(METRICS, row, strict=True)})
                  for row in (_statistics(columns), errors)),
            )
        )  # fmt: skip
    return found


def _known(item: Sample, name: str) -> NDArray[np.int64]:
    """Return the rows (m,) in which a property is known; none where the domain has no such property."""
    if name not in item.properties:
        return np.zeros(0, dtype=np.int64)
    rows = np.flatnonzero(np.isfinite(item.seen(name)))
    count = len(np.unique(item.whose[rows]))
    if 0 < count < _FEWEST:
        raise DataError(
            f"{name!r} is known of {count} galaxies", where=f"domain {item.name!r}",
            expected=f"none, or {_FEWEST} and more", advice="leave it out, or complete its column in the table",
        )  # fmt: skip
    return rows


def _neighbours(
    source: Sample, test: Sample, there: NDArray[np.int64], here: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Return the k nearest rows (m, k), among ``there``, of other galaxies than each row of ``here`` belongs to."""
    lent, asking = source.whose[there], test.whose[here]
    names, counts = np.unique(lent, return_counts=True)
    own = np.isin(names, asking)
    # as many more as a galaxy has rows: so many may have to be left out
    more = int(counts[own].max()) if own.any() else 0
    reach = min(k + more, len(there))
    indices = nearest(test.values[here], source.values[there], reach)[1]
    other = lent[indices] != asking[:, None]
    enough = other.sum(axis=1) >= k
    if not enough.all():
        raise DataError(
            f"{int((~enough).sum())} galaxies have fewer than {k} neighbours of other galaxies",
            where=f"{source.name} → {test.name}",
            advice="a smaller k, or more galaxies",
        )
    first = np.argsort(~other, axis=1, kind="stable")[:, :k]
    return np.asarray(np.take_along_axis(indices, first, axis=1))


def _random_partner(lent: NDArray[np.str_], asking: NDArray[np.str_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a random row for each asking galaxy, not one of its own where ten tries find another."""
    partner = rng.integers(0, len(lent), len(asking))
    for _ in range(10):
        same = np.flatnonzero(lent[partner] == asking)
        partner[same] = rng.integers(0, len(lent), len(same))
    return partner


def _statistics(columns: Array) -> Array:
    """Every metric from (5, ..., n) columns; shape (..., metrics)."""
    rmse = np.sqrt((columns[:4] ** 2).mean(axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(rmse[3] > 0, 1 - rmse[1] / rmse[3], np.nan)
    return np.stack([*rmse, columns[1].mean(axis=-1), gain, columns[4].mean(axis=-1)], axis=-1)


def judge(result: PropertyTransfer) -> Verdict:
    """Name what is taken over best and worst; passes if the representation adds to every property, by two errors."""
    gain = np.array([item.values["gain"] for item in result.items])
    error = np.nan_to_num(np.array([item.errors["gain"] for item in result.items]))
    adds = gain - 2 * error > 0
    order = np.argsort(-np.nan_to_num(gain, nan=-np.inf))
    ends = dict.fromkeys((int(order[0]), int(order[-1])))
    texts = []
    for i, word in zip(ends, ("Best", "least"), strict=False):
        item = result.items[i]
        unit = property_unit(item.name)
        texts.append(
            f"{word} taken over from {result.k} neighbours is {item.name} ({item.label}): RMSE "
            f"{plus_minus(item.values['rmse_many'], item.errors['rmse_many'], unit)}, "
            f"a gain of {percent(item.values['gain'], item.errors['gain'])} over the mean value"
        )
    missing = [f"{result.items[i].name} ({result.items[i].label})" for i in np.flatnonzero(~adds)]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        texts.append(f"nothing is gained for {shown}")
    kind = "all taken over" if adds.all() else "some taken over" if adds.any() else "none taken over"
    return Verdict("; ".join(texts) + ".", bool(adds.all()), kind)


@styled
def draw(result: PropertyTransfer, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw value taken over against truth: a row for each pair of domains, a column for each property.

    Parameters
    ----------
    result : PropertyTransfer
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        As ``result.items``.
    """
    labels = list(dict.fromkeys(item.label for item in result.items))
    names = list(dict.fromkeys(item.name for item in result.items))
    figure = figure or new_figure(max(3.1 * len(names), 4.4), 3.0 * len(labels) + 0.3)
    grid = figure.subplots(len(labels), len(names), squeeze=False)
    axes = []
    for item in result.items:
        i, j = labels.index(item.label), names.index(item.name)
        ax = grid[i, j]
        _draw_one(item, ax, colour(i))
        if i == 0:
            ax.set_title(property_label(item.name))
        if i == len(labels) - 1:
            ax.set_xlabel("True value")
        if j == 0:
            ax.set_ylabel(f"{item.label}\nmean of {result.k} neighbours")
        axes.append(ax)
    return axes


def _draw_one(item: Transferred, ax: Axes, shade: str) -> None:
    order = np.random.default_rng(0).permutation(len(item.truth))[:_MOST_POINTS]
    few = order[:25]
    ax.plot(item.truth[order], item.many[order], ".", ms=2.5, color=MUTED, rasterized=True, zorder=1)
    ax.errorbar(
        item.truth[few], item.many[few], item.scatter[few], fmt="o", ms=3, color=shade, elinewidth=0.8, lw=0, zorder=2
    )
    low, high = np.quantile(np.concatenate([item.truth[order], item.many[order]]), [0.002, 0.998])
    pad = 0.06 * (high - low) or 1.0
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=INK, ls="--", lw=1, zorder=3)
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad + 0.16 * (high - low)))
    text = f"RMSE {item.values['rmse_many']:#.2g}; random {item.values['rmse_random']:#.2g}\ngain " + percent(
        item.values["gain"], item.errors["gain"]
    )
    ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=8.5, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1.5})  # fmt: skip
