"""Which score sees what: false alarms of every shift score, and the fraction flagged under known shifts."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError
from galineage.evaluation.bootstrap import fraction
from galineage.evaluation.sample import check_samples, together
from galineage.evaluation.style import INK, MUTED, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict, percent
from galineage.shift import FALSE_ALARMS, FEWEST, SHIFT_SCORES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.sample import Sample
    from galineage.shift import ShiftScore

    Array = NDArray[np.float64]

__all__ = ["MEAN_MOVED", "WIDENED", "Power", "Tested", "compute", "draw", "judge"]

MEAN_MOVED = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Shifts of the mean along a random direction, in standard deviations along it."""

WIDENED = (1.1, 1.25, 1.5, 2.0, 3.0)
"""Factors by which galaxies are moved away from the middle."""

_NAMES = MappingProxyType({"neighbours": "neighbours", "mahalanobis": "Mahalanobis", "flow": "flow density"})
_DIRECTIONS = 3
_HELD = 1 / 3
_TOLERANCE = 0.025
_FLOW_COMPONENTS = 32
_SMALLEST = 1e-5


@dataclass(frozen=True)
class Tested:
    """One score of one set of galaxies.

    Attributes
    ----------
    score : str
        Kind of score: a key of `galineage.shift.SHIFT_SCORES`.
    shift : str
        ``none`` (held-out galaxies of the training domain), ``mean``, ``width``, or ``domain``.
    domain : str
        Domain of the galaxies.
    size : float
        Of the shift: standard deviations, or factor; NaN for none and for other domains.
    n : int
        Galaxies.
    flagged : (float, float)
        Fraction with a score above 1, and its standard error: of counting the galaxies, and for ``none`` also of the
        line, which rests on as many galaxies as the score was fitted to.
    """

    score: str
    shift: str
    domain: str
    size: float
    n: int
    flagged: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Power:
    """Every score of every set.

    Attributes
    ----------
    items : tuple of Tested
        Score by score.
    domain : str
        Domain that the scores were fitted to.
    fitted : int
        Galaxies they were fitted to.
    """

    items: tuple[Tested, ...]
    domain: str
    fitted: int

    @property
    def scores(self) -> tuple[str, ...]:
        """Kinds of score in their order."""
        return tuple(dict.fromkeys(item.score for item in self.items))

    def of(self, score: str, shift: str) -> list[Tested]:
        """Return the tests of one score under one kind of shift, by growing size."""
        return [item for item in self.items if (item.score, item.shift) == (score, shift)]

    def to_table(self) -> Table:
        """Return one row for each score and set of galaxies."""
        return make_table(
            [
                ("score", [item.score for item in self.items], "", "kind of score"),
                ("shift", [item.shift for item in self.items], "", "none, mean, width, or domain"),
                ("domain", [item.domain for item in self.items], "", "domain of the galaxies"),
                ("size", [item.size for item in self.items], "", "standard deviations (mean), factor (width)"),
                ("n", [item.n for item in self.items], "", "galaxies"),
                ("flagged", [item.flagged[0] for item in self.items], "", "fraction with a score above 1"),
                ("flagged_error", [item.flagged[1] for item in self.items], "", "standard error of flagged"),
            ],
            {"domain": self.domain, "fitted": self.fitted, "expected": FALSE_ALARMS},
        )


def compute(
    reference: Sample,
    others: Sequence[Sample] = (),
    *,
    kinds: Sequence[str] = tuple(SHIFT_SCORES),
    mean_moved: Sequence[float] = MEAN_MOVED,
    widened: Sequence[float] = WIDENED,
    seed: int = 0,
) -> Power:
    """Fit every score to two thirds of a domain's galaxies; score the last third as it is, shifted, and other domains.

    The neighbour score sees representations in units of their standard deviation. The two others see their principal
    components without those that are mere rounding, the flow only the first 32 (a density of more than that says
    little), the Mahalanobis distance all that the number of galaxies allows. Where components are left out, half of the
    galaxies chooses them, and the score is fitted to the others.

    Parameters
    ----------
    reference : Sample
        The domain trained on. One random row of each galaxy is taken.
    others : sequence of Sample
        Other domains.
    kinds : sequence of str
        Keys of `galineage.shift.SHIFT_SCORES`.
    mean_moved : sequence of float
        Shifts of the mean along random directions, in standard deviations of the domain along each.
    widened : sequence of float
        Factors of the distance from the middle.
    seed : int
        Of everything random.

    Raises
    ------
    ConfigError
        If a kind of score is unknown, or none is named.
    DataError
        If the domain has fewer than 120 galaxies, another has none, or representations do not fit.
    """
    if not kinds or set(kinds) - set(SHIFT_SCORES):
        raise ConfigError(f"scores {list(kinds)} were asked for", expected="some of " + ", ".join(SHIFT_SCORES))
    check_samples([reference], 3 * FEWEST)
    check_samples([reference, *others])
    rng = np.random.default_rng(seed)
    rows = rng.permutation(reference.one_each(seed))
    kept = rows[int(_HELD * len(rows)) :]
    held = rows[: int(_HELD * len(rows))]
    sets = _sets(reference, others, held, (mean_moved, widened), rng, seed)
    items: list[Tested] = []
    for kind in kinds:
        scaled = _for_score(kind, reference.values[kept].astype(np.float64), [values for *_, values in sets])
        fitted: ShiftScore = SHIFT_SCORES[kind].fit(scaled[0], seed)
        groups: dict[tuple[str, str, float], list[NDArray[np.bool_]]] = {}
        for (shift, domain, size, _), values in zip(sets, scaled[1:], strict=True):
            groups.setdefault((shift, domain, size), []).append(fitted.score(values) > 1)
        for (shift, domain, size), flags in groups.items():
            # several directions are of the same galaxies
            whose = np.tile(np.arange(len(flags[0])), len(flags))
            value, error = fraction(np.concatenate(flags), whose)
            if shift == "none":
                # the line of 5 % rests on the training galaxies, of the flow's on a fifth of them
                marks = len(scaled[0]) // (5 if kind == "flow" else 1)
                error = float(np.hypot(error, np.sqrt(FALSE_ALARMS * (1 - FALSE_ALARMS) / marks)))
            items.append(Tested(kind, shift, domain, size, len(flags[0]), (value, error)))
    return Power(tuple(items), reference.name, len(kept))


Set = tuple[str, str, float, "Array"]


def _sets(
    reference: Sample,
    others: Sequence[Sample],
    held: NDArray[np.int64],
    sizes: tuple[Sequence[float], Sequence[float]],
    rng: np.random.Generator,
    seed: int,
) -> list[Set]:
    """Return kind of shift, domain, size and representations (m, d) of everything that is scored."""
    values = reference.values[held].astype(np.float64)
    center, spread = values.mean(axis=0), values.std(axis=0)
    name, none = reference.name, float("nan")
    found: list[Set] = [("none", name, none, values)]
    # in units of each coordinate's spread no coordinate is preferred
    directions = rng.standard_normal((_DIRECTIONS, values.shape[1])) * spread
    for size in sorted(sizes[0]):
        for direction in directions:
            length = float(np.linalg.norm(direction)) or 1.0
            along = (values - center) @ (direction / length)
            found.append(("mean", name, float(size), values + size * along.std() * direction / length))
    found += [("width", name, float(factor), center + factor * (values - center)) for factor in sorted(sizes[1])]
    found += [("domain", item.name, none, item.values[item.one_each(seed)].astype(np.float64)) for item in others]
    return found


def _for_score(kind: str, kept: Array, sets: list[Array]) -> list[Array]:
    """Return training galaxies (n, d) and all sets in the coordinates that a score needs, no unit."""
    center, spread = kept.mean(axis=0), kept.std(axis=0)
    use = spread > 1e-10 * (np.abs(center) + 1e-300)
    together([kept])  # refuses what never changes
    scaled = [(values[:, use] - center[use]) / spread[use] for values in (kept, *sets)]
    if kind == "neighbours":
        return scaled
    axes = _axes(scaled[0])
    most = _FLOW_COMPONENTS if kind == "flow" else len(kept) // 2
    if len(axes) > most:
        # the longest axes of some galaxies are longer for these than for fresh ones: others have to choose them
        half = len(kept) // 2
        axes = _axes(scaled[0][:half])[: min(most, (len(kept) - half) // 3)]
        scaled[0] = scaled[0][half:]
    return [values @ axes.T for values in scaled]


def _axes(rows: Array) -> Array:
    """Return directions (e, d) of the principal components, longest first, without mere rounding; no unit."""
    _, lengths, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    return np.asarray(axes[lengths > _SMALLEST * lengths[0]])


def judge(result: Power) -> Verdict:
    """Say whether false alarms are as promised, and which score sees most.

    Passes if every score flags 5 +- 2.5 % of held-out galaxies of its own domain, or that within three errors.
    """
    own = {kind: result.of(kind, "none")[0].flagged for kind in result.scores}
    off = [
        kind for kind, (value, error) in own.items()
        if abs(value - FALSE_ALARMS) > max(_TOLERANCE, 3 * float(np.nan_to_num(error)))
    ]  # fmt: skip
    alarms = ", ".join(f"{_NAMES.get(kind, kind)} {percent(*value)}" for kind, value in own.items())
    text = f"False alarms among held-out galaxies of {result.domain}: {alarms} ({100 * FALSE_ALARMS:g} % promised)"
    for shift, what in (("mean", "a moved mean"), ("width", "a wider cloud")):
        seen = {kind: sum(item.flagged[0] for item in result.of(kind, shift)) for kind in result.scores}
        if len(seen) > 1 and any(item.shift == shift for item in result.items):
            text += f"; {what} is seen best by {_NAMES[max(seen, key=seen.__getitem__)]}"
    for item in result.of(result.scores[0], "domain"):
        flags = [
            f"{_NAMES.get(other.score, other.score)} {percent(*other.flagged)}"
            for other in result.items
            if (other.shift, other.domain) == ("domain", item.domain)
        ]
        text += f"; of {item.domain} are flagged: {', '.join(flags)}"
    return Verdict(f"{text}.", not off, "false alarms off" if off else "false alarms right")


@styled
def draw(result: Power, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw fractions flagged: the own domain and others, moved means, widened clouds.

    Parameters
    ----------
    result : Power
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        Three: domains, mean, width.
    """
    figure = figure or new_figure(12.3, 4.1)
    axes: list[Axes] = list(np.ravel(figure.subplots(1, 3, sharey=True)))
    names = [result.domain, *dict.fromkeys(item.domain for item in result.items if item.shift == "domain")]
    alarms = [result.of(kind, "none")[0] for kind in result.scores]
    for i, kind in enumerate(result.scores):
        shade, mark, label = colour(i), "osD^v"[i % 5], _NAMES.get(kind, kind)
        items = [alarms[i], *result.of(kind, "domain")]
        place = [names.index(item.domain) + 0.16 * (i - 0.5 * (len(alarms) - 1)) for item in items]
        _points(axes[0], place, items, shade, mark, label, line=False)
        for ax, shift in zip(axes[1:], ("mean", "width"), strict=True):
            items = result.of(kind, shift)
            _points(ax, [item.size for item in items], items, shade, mark, label, line=True)
    for ax in axes:
        ax.axhline(100 * FALSE_ALARMS, color=INK, ls="--", lw=1)
        ax.axhspan(100 * (FALSE_ALARMS - _TOLERANCE), 100 * (FALSE_ALARMS + _TOLERANCE), color=MUTED, alpha=0.4, lw=0)
        ax.set_ylim(-3, 104)
    axes[0].set_xticks(range(len(names)), [f"{names[0]}\n(held out)", *names[1:]], rotation=0 if len(names) < 4 else 25)
    axes[0].set_xlim(-0.5, len(names) - 0.5)
    for ax, text in ((axes[1], "Shift of the mean [standard deviations]"), (axes[2], "Widened by a factor of")):
        ax.set_xscale("log")
        ticks = sorted({item.size for item in result.items if item.shift == ("mean" if ax is axes[1] else "width")})
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlabel(text)
    axes[0].set_ylabel(f"Flagged as unlike {result.domain} [%]")
    axes[0].legend(loc="upper left")
    return axes


def _points(
    ax: Axes, place: list[float], items: list[Tested], shade: str, mark: str, label: str, *, line: bool
) -> None:
    value, error = (100 * np.array([np.nan_to_num(item.flagged[k]) for item in items]) for k in (0, 1))
    ax.errorbar(place, value, error, color=shade, marker=mark, ms=5, ls="-" if line else "", capsize=2, label=label)
