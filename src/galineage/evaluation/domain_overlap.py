"""How much of every domain the others hold: neighbour scores of sets, both ways (Eisert+2024; Eisert+2026, Fig. 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.evaluation.sample import check_samples, together
from galineage.evaluation.style import INK, MUTED, SEQUENTIAL, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict, percent
from galineage.shift import FALSE_ALARMS, FEWEST, NEIGHBOURS, set_score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.sample import Sample

    Array = NDArray[np.float64]

__all__ = ["Against", "Overlap", "compute", "draw", "judge"]

_SHOWN = (0.4, 4.0)
_LEAST = 0.1
_WITHIN = 0.01
_STEP = 0.05
_HALVINGS = 4


@dataclass(frozen=True, eq=False)
class Against:
    """Scores of one domain against another, or against the other half of itself.

    Attributes
    ----------
    rows : array (m,) of int
        Rows of the scored sample.
    scores : array (m,)
        No unit; above 1 is out of domain.
    fraction : (float, float)
        Fraction above 1 and its standard error: of counting the galaxies, and of the line itself, which rests on as
        many; the scatter between disjoint halves of both sets where that is larger.
    factor : float
        95 % quantile of the raw score between random halves of the scored set, by which raw scores were divided.
    """

    rows: NDArray[np.int64]
    scores: Array
    fraction: tuple[float, float]
    factor: float


@dataclass(frozen=True, eq=False)
class Overlap:
    """Scores of every domain against every other.

    Attributes
    ----------
    domains : tuple of str, length D
        Names.
    against : mapping of (scored, reference) to Against
        Every pair. Where both are the same domain: of random halves against each other, a check of the score.
    galaxies : mapping of str to array of str
        Galaxy of each row of each sample, shape (n,).
    """

    domains: tuple[str, ...]
    against: Mapping[tuple[str, str], Against]
    galaxies: Mapping[str, NDArray[np.str_]]

    def matrix(self) -> Array:
        """Fraction out of domain and its error, shape (scored, reference, 2), no unit."""
        return np.array([[self.against[one, two].fraction for two in self.domains] for one in self.domains])

    def typical(self, scored: str, reference: str, count: int = 8) -> NDArray[np.int64]:
        """Rows of the scored sample with the lowest scores, lowest first, shape (count,) or fewer: to be shown."""
        found = self.against[scored, reference]
        return found.rows[np.argsort(found.scores, kind="stable")[:count]]

    def unlike(self, scored: str, reference: str, count: int = 8) -> NDArray[np.int64]:
        """Rows of the scored sample with the highest scores, highest first, shape (count,) or fewer: to be shown."""
        found = self.against[scored, reference]
        return found.rows[np.argsort(-found.scores, kind="stable")[:count]]

    def to_table(self) -> Table:
        """Return one row for each ordered pair of domains."""
        pairs = [(one, two, self.against[one, two]) for one in self.domains for two in self.domains]
        quantiles = np.array([np.quantile(item.scores, [0.05, 0.5, 0.95]) for *_, item in pairs])
        ends = [
            [self.galaxies[one][rows[0]] for one, two, _ in pairs for rows in [choose(one, two, 1)]]
            for choose in (self.typical, self.unlike)
        ]
        return make_table(
            [
                ("scored", [one for one, *_ in pairs], "", "domain whose galaxies are scored"),
                (
                    "reference",
                    [two for _, two, _ in pairs],
                    "",
                    "domain they are compared with; itself: the other half of it",
                ),
                ("n", [len(item.scores) for *_, item in pairs], "", "galaxies scored"),
                ("fraction", [item.fraction[0] for *_, item in pairs], "", "fraction with a score above 1"),
                ("fraction_error", [item.fraction[1] for *_, item in pairs], "", "standard error of fraction"),
                ("score_p05", quantiles[:, 0], "", "5 % quantile of the score"),
                ("score_p50", quantiles[:, 1], "", "median score"),
                ("score_p95", quantiles[:, 2], "", "95 % quantile of the score"),
                ("factor", [item.factor for *_, item in pairs], "", "raw score that was put to 1"),
                ("most_typical", ends[0], "", "galaxy with the lowest score"),
                ("least_typical", ends[1], "", "galaxy with the highest score"),
            ],
            {"expected": FALSE_ALARMS},
        )


def compute(
    samples: Sequence[Sample],
    *,
    k: int = NEIGHBOURS,
    published: bool = False,
    most: int | None = None,
    splits: int = 10,
    halvings: int = 4,
    seed: int = 0,
) -> Overlap:
    """Score every domain against every other, and against itself.

    The score compares densities: it flags galaxies where their own domain is denser than the other. A lone oddity is
    far from its own domain too, and scores about 1.

    Parameters
    ----------
    samples : sequence of Sample
        One for each domain, with representations of one network. One random row of each galaxy is taken: views of one
        galaxy would be each other's neighbours.
    k, published, splits
        As in `galineage.shift.set_score`; representations are first standardised by one mean and variance.
    most : int, optional
        Galaxies of each domain at most, at random.
    halvings : int
        How often both sets are halved to see how much fractions scatter; 0 leaves errors of counting alone.
    seed : int
        Of everything random.

    Raises
    ------
    DataError
        If a domain has fewer than 80 galaxies, or representations do not fit each other.
    ConfigError
        If there are no domains, or two have one name.
    """
    samples = check_samples(samples, 2 * FEWEST)
    rows = [item.one_each(seed + i, most) for i, item in enumerate(samples)]
    values = together([item.values[mine] for item, mine in zip(samples, rows, strict=True)])
    settings: dict[str, Any] = {"k": k, "published": published, "splits": splits, "scaled": True}
    found: dict[tuple[str, str], Against] = {}
    for i, one in enumerate(samples):
        own = _scored(values[i], None, settings, seed + i)
        slope, line = _slope(own.scores), np.sqrt(FALSE_ALARMS * (1 - FALSE_ALARMS) / len(own.scores))
        for j, two in enumerate(samples):
            other = None if i == j else values[j]
            item = own if other is None else _scored(values[i], other, settings, seed)
            # the line is uncertain by as much as 5 % of the own set are; in other sets more galaxies may lie about it
            counted = np.hypot(item.fraction[1], line * _slope(item.scores) / max(slope, 1e-3))
            error = max(float(counted), _half_sample_error(values[i], other, settings, seed + i, halvings))
            found[one.name, two.name] = replace(item, rows=rows[i][item.rows], fraction=(item.fraction[0], error))
    return Overlap(
        tuple(item.name for item in samples),
        MappingProxyType(found),
        MappingProxyType({item.name: item.whose for item in samples}),
    )


def _scored(values: Array, other: Array | None, settings: dict[str, Any], seed: int) -> Against:
    """Score rows (n, d) against others (m, d), or each random half of them against the other half; no unit.

    The fraction of halves is the mean over several halvings, the scores are those of the first.
    """
    if other is not None:
        scored = set_score(values, other, **settings, seed=seed)
        return Against(scored.rows, scored.scores, _counted(scored.scores, scored.fraction), scored.factor)
    found = []
    fewer = {**settings, "splits": -(-settings["splits"] // _HALVINGS)}
    for turn in range(_HALVINGS):
        order = np.random.default_rng((seed, turn)).permutation(len(values))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        for one, two in (halves, halves[::-1]):
            scored = set_score(values[one], values[two], **fewer, seed=seed + turn)
            found.append((one[scored.rows], scored.scores, scored.factor))
    rows, scores = (np.concatenate([item[k] for item in found[:2]]) for k in (0, 1))
    fraction = float(np.mean([(item[1] > 1).mean() for item in found]))
    return Against(rows, scores, _counted(scores, fraction), float(np.mean([item[2] for item in found])))


def _counted(scores: Array, p: float) -> tuple[float, float]:
    """Return a fraction of scores (n,) and its binomial error, no unit."""
    return p, float(np.sqrt(p * (1 - p) / len(scores)))


def _half_sample_error(values: Array, other: Array | None, settings: dict[str, Any], seed: int, halvings: int) -> float:
    """Error of the fraction from how it differs between disjoint halves of both sets: 0 where these are too small.

    Galaxies that share neighbours are flagged together, so there is more scatter than counting tells. A half has twice
    the variance of the whole, and the difference of two halves twice that of one.
    """
    parts = 4 if other is None else 2
    if min(len(values), len(values if other is None else other)) < parts * FEWEST or not halvings:
        return 0.0
    rng = np.random.default_rng((seed, 1))
    quick = {**settings, "splits": min(3, settings["splits"])}
    differences = []
    for _ in range(halvings):
        own = np.array_split(rng.permutation(len(values)), 2)
        pairs = own if other is None else np.array_split(rng.permutation(len(other)), 2)
        fractions = [
            _scored(values[mine], None if other is None else other[theirs], quick, seed).fraction[0]
            for mine, theirs in zip(own, pairs, strict=True)
        ]
        differences.append(fractions[0] - fractions[1])
    return float(np.sqrt(np.square(differences).mean() / 4))


def _slope(scores: Array) -> float:
    """How fast the fraction above a line falls with the logarithm of the line, at 1."""
    return float(((scores > np.exp(-_STEP)).mean() - (scores > np.exp(_STEP)).mean()) / (2 * _STEP))


def judge(result: Overlap) -> Verdict:
    """Say whether the score is right for halves of a set, and which domains hold least of each other.

    Passes if every domain has 5 +- 1 % above 1 against its other half (or within three errors of 5 %), and more than
    half of every domain lies within every other.
    """
    matrix, names = result.matrix(), result.domains
    own = np.array([matrix[i, i] for i in range(len(names))])
    wrong = np.abs(own[:, 0] - FALSE_ALARMS) > np.maximum(_WITHIN, 3 * own[:, 1])
    checked = ", ".join(f"{percent(*value)} of {name}" for name, value in zip(names, own, strict=True))
    text = f"Against their own other half {checked} are out of domain ({100 * FALSE_ALARMS:g} % expected)"
    if wrong.any():
        text += f": the score is off for {', '.join(name for name, bad in zip(names, wrong, strict=True) if bad)}"
    if len(names) == 1:
        return Verdict(f"{text}.", not wrong.any(), "score off" if wrong.any() else "one domain")
    off = np.where(np.eye(len(names), dtype=bool), np.nan, matrix[..., 0])
    ends = [np.unravel_index(int(choose(off)), off.shape) for choose in (np.nanargmax, np.nanargmin)]
    far, near = (f"{names[i]} against {names[j]} ({percent(*matrix[i, j])})" for i, j in ends)
    text += f". Least alike: {far} out of domain" + (f"; most alike: {near}" if len(names) > 2 else "")
    if len(names) == 2:
        i, j = ends[1]
        text += f"; {names[i]} against {names[j]}: {percent(*matrix[i, j])}"
    apart = bool(np.nanmax(off) > 0.5)
    kind = "score off" if wrong.any() else "apart" if apart else "overlap"
    return Verdict(f"{text}.", passed=kind == "overlap", kind=kind)


@styled
def draw(result: Overlap, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw the matrix of fractions, then for each domain histograms of its scores against all.

    Parameters
    ----------
    result : Overlap
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        The matrix, then one for each scored domain.
    """
    count = 1 + len(result.domains)
    columns = 2 if count in (2, 4) else min(count, 3)
    lines = -(-count // columns)
    figure = figure or new_figure(4.1 * columns, 3.7 * lines)
    axes = list(np.ravel(figure.subplots(lines, columns, squeeze=False)))
    for ax in axes[count:]:
        ax.set_visible(False)
    axes = axes[:count]
    _draw_matrix(result, axes[0])
    low, high = _range(result)
    bins = np.geomspace(low, high, 41).tolist()
    for ax, scored in zip(axes[1:], result.domains, strict=True):
        for j, reference in enumerate(result.domains):
            item = result.against[scored, reference]
            inside = np.clip(item.scores, low * 1.0001, high * 0.9999)
            own = scored == reference
            ax.hist(
                inside, bins, weights=np.full(len(inside), 100 / len(inside)), histtype="step", lw=1.6, color=colour(j),
                ls="--" if own else "-", label=f"{'its other half' if own else reference}: {percent(*item.fraction)}",
            )  # fmt: skip
        room = 1.12 + 0.1 * len(result.domains)  # for the legend
        ax.axvline(1, ymax=1 / room, color=INK, ls="--", lw=1)
        ax.axvspan(1, high, color=MUTED, alpha=0.25, lw=0)
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        ticks = [tick for tick in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4) if tick >= low]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_ylim(top=ax.get_ylim()[1] * room)
        ax.set(title=f"{scored} against", xlabel="Out-of-domain score", ylabel="Galaxies [%]")
        ax.legend(loc="upper right", fontsize=9, borderaxespad=0.3)
    return axes


def _range(result: Overlap) -> tuple[float, float]:
    """Scores that are shown; the few beyond are in the last bins."""
    every = np.concatenate([item.scores for item in result.against.values()])
    return float(np.clip(np.quantile(every, 0.01), _LEAST, _SHOWN[0])), _SHOWN[1]


def _draw_matrix(result: Overlap, ax: Axes) -> None:
    matrix, names = result.matrix(), result.domains
    ax.imshow(100 * matrix[..., 0], cmap=SEQUENTIAL, vmin=0, vmax=100)
    for i, row in enumerate(matrix):
        for j, (value, error) in enumerate(row):
            text = f"{100 * value:.1f}\n± {100 * error:.1f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=9.5, color="white" if value < 0.55 else INK)
    ax.set_xticks(
        range(len(names)), names, rotation=30 if len(names) > 2 else 0, ha="right" if len(names) > 2 else "center"
    )
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    ax.set(title="Out of domain [%]", xlabel="compared with", ylabel="scored")
