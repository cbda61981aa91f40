"""What posteriors say of a population: f_ex along mass and size, observed beside simulated (Eisert+2026, Fig. 12)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bins import assign, bin_edges
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.hexagons import Hexagons, hexagons
from galineage.evaluation.population_drawing import draw
from galineage.evaluation.tabulate import make_table, target_unit
from galineage.evaluation.verdict import Verdict, plus_minus
from galineage.fields import feature_range
from galineage.images.matching import MASS_BOX, match_greedy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Members", "Population", "Track", "compute", "draw", "judge"]

LEVELS = (0.1, 0.5, 0.9)
"""Of the lines: median, and the limits of 80 %."""

MIN_COUNT = 20
_CELLS = 200
_ALIKE = 0.05
_FEWEST = 50


@dataclass(frozen=True, eq=False)
class Members:
    """Galaxies and their posteriors.

    Attributes
    ----------
    name : str
        Of the population.
    draws : array (n, K)
        Posterior samples, in the target's unit, dex where the registry is logarithmic (NaN is left out); a single
        column where truth stands for the posterior.
    mstar, size : array (n,)
        Stellar mass in Msun, and size in kpc; both positive.
    mode, std : array (n,)
        Mode and standard deviation of each posterior, as ``draws``.
    truth : array (n,), optional
        True values, as ``draws``, where known.
    galaxies : array (n,), optional
        Whose row each is: views of one galaxy are one where errors and galaxies are counted. Default: each its own.
    """

    name: str
    draws: Array
    mstar: Array
    size: Array
    mode: Array
    std: Array
    truth: Array | None = None
    galaxies: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        n = len(self.mstar)
        if self.galaxies is None:
            object.__setattr__(self, "galaxies", np.arange(n).astype(str))
        shapes = {name: np.shape(getattr(self, name)) for name in ("mstar", "size", "mode", "std", "galaxies")}
        if self.truth is not None:
            shapes["truth"] = np.shape(self.truth)
        wrong = [name for name, shape in shapes.items() if shape != (n,)]
        if np.ndim(self.draws) != 2 or len(self.draws) != n or wrong or n < _FEWEST:
            raise DataError(
                f"population of {n} galaxies with draws of shape {np.shape(self.draws)}"
                + (f" and other lengths of {', '.join(wrong)}" if wrong else ""),
                where=self.name,
                expected=f"{_FEWEST} galaxies or more, one row each",
            )
        for name in ("mstar", "size"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if not (np.isfinite(values) & (values > 0)).all():
                raise DataError(f"{name} is not a positive number everywhere", where=self.name)
        if not np.isfinite(self.draws).any(axis=1).all():
            raise DataError("a galaxy has no posterior draw", where=self.name, advice="leave such galaxies out")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.mstar)

    @property
    def count(self) -> int:
        """Number of galaxies, each with all of its views."""
        return len(np.unique(np.asarray(self.galaxies)))

    @property
    def median(self) -> Array:
        """Median of each galaxy's draws, shape (n,); the target's unit, dex where the registry is logarithmic."""
        return np.asarray(np.nanmedian(np.asarray(self.draws, dtype=np.float64), axis=1))

    def select(self, rows: NDArray[np.int64]) -> Members:
        """Return some rows (m,)."""
        parts: dict[str, Any] = {key: np.asarray(getattr(self, key))[rows] for key in _COLUMNS}
        return Members(self.name, **parts, truth=None if self.truth is None else np.asarray(self.truth)[rows])


_COLUMNS = ("draws", "mstar", "size", "mode", "std", "galaxies")


@dataclass(frozen=True, eq=False)
class Track:
    """Quantiles of posterior samples, all galaxies of a bin together.

    Attributes
    ----------
    edges : array (k + 1,)
        Bins of log10 of the abscissa (Msun or kpc).
    middle : array (k,)
        Median of it in each bin.
    n : array of int (k,)
        Galaxies in each bin.
    values, errors : array (3, k)
        10, 50 and 90 % quantiles of the samples, and their bootstrap errors over galaxies; target's unit or dex; NaN in
        bins of fewer than 20 galaxies.
    truth, truth_error : array (k,)
        Median true value and its bootstrap error; NaN where unknown.
    histogram : array (k, 200)
        Fraction of the bin's samples in equal cells of the target's range; all cells of a bin add up to 1.
    """

    edges: Array
    middle: Array
    n: NDArray[np.int64]
    values: Array
    errors: Array
    truth: Array
    truth_error: Array
    histogram: Array

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Which bins hold enough galaxies, shape (k,)."""
        return np.isfinite(self.values[1])


@dataclass(frozen=True, eq=False)
class Population:
    """An observed and a simulated population.

    Attributes
    ----------
    tracks : mapping of (name, ``mstar`` or ``size``) to Track
        Quantiles along stellar mass and along size, of the observed, then of the simulated galaxies.
    names : tuple of str
        Observed, simulated.
    numbers : mapping of str to int
        Galaxies of each after matching.
    offset : (float, float)
        Observed minus simulated median at equal mass, mean over bins weighted by observed galaxies, with its bootstrap
        error; target's unit or dex.
    at_fixed_mass : mapping of str to (float, float)
        Correlation of the posterior median with log size after the mean in each bin of mass is taken off, and its
        bootstrap error.
    hexagons : Hexagons
        The observed galaxies on the plane of mass and size: ``mode``, ``median`` and ``std`` of their posteriors.
    matched : bool
        Whether both have the same distribution of mass.
    target : str
        Field name.
    """

    tracks: Mapping[tuple[str, str], Track]
    names: tuple[str, str]
    numbers: Mapping[str, int]
    offset: tuple[float, float]
    at_fixed_mass: Mapping[str, tuple[float, float]]
    hexagons: Hexagons
    matched: bool
    target: str

    def to_table(self) -> Table:
        """Return one row for each population, abscissa and bin."""
        unit = target_unit(self.target)
        rows: list[tuple[Any, ...]] = []
        for (name, along), track in self.tracks.items():
            for i, count in enumerate(track.n):
                cells = [number for pair in zip(track.values[:, i], track.errors[:, i], strict=True) for number in pair]
                edges = 10 ** track.edges[i : i + 2]
                rows.append((name, along, *edges, int(count), *cells, track.truth[i], track.truth_error[i]))
        meanings = [
            ("population", "", "observed or simulated"),
            ("along", "", "mstar (Msun) or size (kpc)"),
            ("low", "", "lower edge of the bin, Msun or kpc"),
            ("high", "", "upper edge of the bin, Msun or kpc"),
            ("n", "", "galaxies"),
        ]
        for level in ("p10", "p50", "p90"):
            meanings += [
                (level, unit, f"{level} of all posterior samples of the bin"),
                (f"{level}_error", unit, f"bootstrap error of {level}"),
            ]
        meanings += [("true_p50", unit, "median true value"), ("true_p50_error", unit, "bootstrap error of true_p50")]
        columns = [(name, [row[i] for row in rows], its, text) for i, (name, its, text) in enumerate(meanings)]
        meta = {"target": self.target, "offset": self.offset[0], "offset_error": self.offset[1]}
        meta |= {f"size_correlation.{name}": value for name, (value, _) in self.at_fixed_mass.items()}
        return make_table(columns, {key: value for key, value in meta.items() if value == value})


def compute(
    observed: Members,
    simulated: Members,
    *,
    target: str = "f_ex",
    matched: bool = True,
    bins: int | Sequence[float] = 8,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Population:
    """Throw posterior samples of two populations into histograms along mass and along size.

    Parameters
    ----------
    observed, simulated : Members
        Two populations.
    target : str
        Field name of what the draws are.
    matched : bool
        Pair each observed galaxy with a simulated one of its mass (0.1 dex, without replacement), and leave out those
        without a partner: the populations then differ by more than their masses.
    bins : int or sequence of float
        Number of bins of mass and of size, or edges in log10 Msun for the mass.
    n_boot, seed : int
        Bootstrap resamples of galaxies, with all of their draws, and the seed.

    Raises
    ------
    DataError
        If fewer than 50 galaxies are left of a population.
    """
    if matched:
        first, second = ({"log_mass": np.log10(np.asarray(item.mstar, dtype=float))} for item in (observed, simulated))
        pairs = match_greedy(first, second, MASS_BOX, seed=seed)
        observed, simulated = observed.select(pairs.first), simulated.select(pairs.second)
    both = (observed, simulated)
    tracks = {}
    for along in ("mstar", "size"):
        values = [np.log10(np.asarray(getattr(item, along), dtype=float)) for item in both]
        pooled = np.concatenate(values)
        inner = pooled[(pooled >= np.quantile(pooled, 0.005)) & (pooled <= np.quantile(pooled, 0.995))]
        edges = bin_edges(inner, bins if along == "mstar" or isinstance(bins, int) else len(bins) - 1)
        for item, x in zip(both, values, strict=True):
            tracks[item.name, along] = _track(x, item, edges, feature_range(target), n_boot, seed)
    edges = tracks[observed.name, "mstar"].edges
    x, y = (np.log10(np.asarray(getattr(observed, key), dtype=float)) for key in ("mstar", "size"))
    return Population(
        tracks=MappingProxyType(tracks),
        names=(observed.name, simulated.name),
        numbers=MappingProxyType({item.name: item.count for item in both}),
        offset=_offset(tracks[observed.name, "mstar"], tracks[simulated.name, "mstar"]),
        at_fixed_mass=MappingProxyType({item.name: _correlation(item, edges, n_boot, seed) for item in both}),
        hexagons=hexagons(x, y, {"mode": observed.mode, "median": observed.median, "std": observed.std}),
        matched=matched,
        target=target,
    )


def _track(x: Array, item: Members, edges: Array, limits: tuple[float, float], n_boot: int, seed: int) -> Track:
    """Quantiles in bins; resampling galaxies is resampling rows of their histograms."""
    low, high = limits
    draws = np.asarray(item.draws, dtype=np.float64)
    cell = np.clip((draws - low) / (high - low) * _CELLS, 0, _CELLS - 1)
    which, k = assign(x, edges), len(edges) - 1
    middle = 0.5 * (edges[1:] + edges[:-1])
    n = np.bincount(which[which >= 0], minlength=k)
    values, errors = np.full((2, 3, k), np.nan)
    truth, truth_error = np.full((2, k), np.nan)
    histogram = np.full((k, _CELLS), np.nan)
    for i in np.flatnonzero(n >= MIN_COUNT):
        rows = np.flatnonzero(which == i)
        middle[i] = np.median(x[rows])
        defined = np.isfinite(draws[rows])
        flat = np.nan_to_num(cell[rows]).astype(np.int64) + _CELLS * np.arange(len(rows))[:, None]
        counts = np.bincount(flat[defined], minlength=_CELLS * len(rows)).reshape(len(rows), _CELLS)
        counts = counts / defined.sum(axis=1, keepdims=True)
        histogram[i] = counts.mean(axis=0)
        values[:, i] = _quantiles(histogram[i][None], limits)[0]
        whose = np.asarray(item.galaxies)[rows]
        errors[:, i] = _quantiles(_resampled(counts, whose, n_boot, (seed, int(i))), limits).std(axis=0, ddof=1)
        if item.truth is not None:
            known = np.asarray(item.truth, dtype=float)[rows]
            there = np.isfinite(known)
            known, mine = known[there], whose[there]
            if len(known) >= MIN_COUNT:
                truth[i] = np.median(known)
                resampled = bootstrap(
                    lambda part: np.median(part, axis=-1), known, n_boot=n_boot, seed=seed, galaxies=mine
                )
                truth_error[i] = spread(resampled, len(known))
    return Track(edges, middle, n, values, errors, truth, truth_error, histogram)


def _resampled(counts: Array, whose: NDArray[Any], n_boot: int, seed: tuple[int, int]) -> Array:
    """Mean histograms (n_boot, cells) of galaxies drawn with replacement, each with all of its rows."""
    _, label = np.unique(whose, return_inverse=True)
    total = np.zeros((int(label.max()) + 1, counts.shape[1]))
    np.add.at(total, label, counts)
    size = np.bincount(label).astype(float)
    times = np.random.default_rng(seed).multinomial(len(size), np.full(len(size), 1 / len(size)), size=n_boot)
    return np.asarray(times @ total / (times @ size)[:, None])


def _quantiles(histogram: Array, limits: tuple[float, float]) -> Array:
    """Quantiles `LEVELS` (b, 3) of histograms (b, cells) whose cells add up to 1; linear within a cell."""
    total = np.cumsum(histogram, axis=1)
    total = total / total[:, -1:]
    out = np.empty((len(histogram), len(LEVELS)))
    for j, level in enumerate(LEVELS):
        right = (total < level).sum(axis=1)
        before = np.where(right > 0, np.take_along_axis(total, np.maximum(right - 1, 0)[:, None], axis=1)[:, 0], 0.0)
        inside = np.take_along_axis(total, right[:, None], axis=1)[:, 0] - before
        out[:, j] = right + (level - before) / inside
    return limits[0] + (limits[1] - limits[0]) * out / histogram.shape[1]


def _offset(observed: Track, simulated: Track) -> tuple[float, float]:
    """Difference of medians over the bins that both fill, weighted by observed galaxies, with its error."""
    both = observed.filled & simulated.filled
    if not both.any():
        return float("nan"), float("nan")
    weights = observed.n[both] / observed.n[both].sum()
    difference = (observed.values[1] - simulated.values[1])[both]
    variance = (observed.errors[1] ** 2 + simulated.errors[1] ** 2)[both]
    return float(weights @ difference), float(np.sqrt(weights**2 @ variance))


def _correlation(item: Members, edges: Array, n_boot: int, seed: int) -> tuple[float, float]:
    """Correlation of posterior median and log size within bins of mass, with its bootstrap error."""
    which = assign(np.log10(np.asarray(item.mstar, dtype=float)), edges)
    pair = np.stack([item.median, np.log10(np.asarray(item.size, dtype=float))])
    used = np.zeros(len(item), dtype=bool)
    for i in range(len(edges) - 1):
        mine = (which == i) & np.isfinite(pair).all(axis=0)
        if mine.sum() >= MIN_COUNT:
            pair[:, mine] -= pair[:, mine].mean(axis=1, keepdims=True)
            used |= mine
    if used.sum() < MIN_COUNT:
        return float("nan"), float("nan")
    whose = np.asarray(item.galaxies)[used]
    replicates = bootstrap(_pearson, *pair[:, used], n_boot=n_boot, seed=seed, galaxies=whose)
    return float(_pearson(*pair[:, used])), float(spread(replicates, int(used.sum())))


def _pearson(x: Array, y: Array) -> Array:
    x, y = (part - part.mean(axis=-1, keepdims=True) for part in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((x * y).mean(axis=-1) / (x.std(axis=-1) * y.std(axis=-1)))


def judge(result: Population) -> Verdict:
    """Say how the observed median lies to the simulated one, and to the truth where that is known.

    Passes if the observed median is within a twentieth of the target's range, or three errors, of the truth in every
    bin of mass, where the truth is known; else if at least three bins can be compared.
    """
    low, high = feature_range(result.target)
    alike, unit = _ALIKE * (high - low), target_unit(result.target)
    seen, made = (result.tracks[name, "mstar"] for name in result.names)
    value, error = result.offset
    common = int((seen.filled & made.filled).sum())
    if common == 0:
        return Verdict("The populations have no bin of stellar mass in common.", passed=False, kind="too few")
    word = "agrees with"
    if abs(value) > 2 * float(np.nan_to_num(error)):
        word = "lies above" if value > 0 else "lies below"
    observed, simulated = result.names
    text = (
        f"At equal stellar mass the median of {observed} {word} that of {simulated} "
        f"({plus_minus(value, error, unit, sign=True)}); correlation with size at fixed mass "
        f"{plus_minus(*result.at_fixed_mass[observed], sign=True)} in {observed}, "
        f"{plus_minus(*result.at_fixed_mass[simulated], sign=True)} in {simulated}"
    )
    known = seen.filled & np.isfinite(seen.truth)
    if not known.any():
        return Verdict(f"{text}.", common >= 3, word)
    away = np.abs(seen.values[1] - seen.truth)[known]
    limit = np.maximum(alike, 3 * np.hypot(seen.errors[1], seen.truth_error)[known])
    worst = int(np.argmax(away - limit))
    right = bool((away <= limit).all())
    text += (
        f"; from the truth of {observed} it is at most {away[worst]:.2g} away"
        f" (at 10^{seen.middle[known][worst]:.1f} Msun)"
    )
    return Verdict(f"{text}.", right, word if right else "truth missed")
