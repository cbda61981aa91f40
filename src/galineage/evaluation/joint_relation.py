"""Do joint posteriors hold the relation of two targets at fixed mass? Rank correlation of truth and of draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, spread
from galineage.evaluation.style import INK, MUTED, axis_label, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict, plus_minus
from galineage.fields import field

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.evaluation.joint_scores import JointScores

    Array = NDArray[np.float64]

__all__ = ["LEAST", "TwoTargets", "compute", "draw", "judge", "possible"]

LEAST = 40
"""Fewest galaxies of a mass bin whose correlation is shown and counted."""

_WIDTH = 0.25
_SHOWN = 6000
_FEW = 12
_SETS = ("truth", "joint", "apart", "means")


@dataclass(frozen=True)
class TwoTargets:
    """Spearman's correlation of two targets at fixed stellar mass; no unit, -1 to 1.

    For each of ``truth``; ``joint``, one joint draw of every galaxy; ``apart``, the same with the draws of the two
    targets from different draws, which is all that two separate posteriors know; and ``means``, posterior means.

    Attributes
    ----------
    first, second : str
        Field names.
    edges : array (k + 1,)
        log10 of stellar mass in Msun.
    n : array of int (k,)
        Galaxies in which both are defined, per bin.
    in_bins, in_bins_error : mapping of set to array (k,)
        Correlation in bins of mass, NaN below `LEAST` galaxies, and its error.
    overall, overall_error : mapping of set to float
        Mean of the bins, weighted by galaxies: the correlation at fixed mass; and its error.
    within : float
        Mean correlation of the joint draws of one galaxy: what the posterior says of a single galaxy.
    cloud : mapping of set to array (2, m)
        Points of ``truth`` and ``joint`` in the mass bin with most galaxies, for the figure; dex or unit.
    cloud_bin : (float, float)
        Its edges, log10 of Msun.
    model, label : str
        Estimator and ``train → test``.
    """

    first: str
    second: str
    edges: Array
    n: NDArray[np.int64]
    in_bins: dict[str, Array]
    in_bins_error: dict[str, Array]
    overall: dict[str, float]
    overall_error: dict[str, float]
    within: float
    cloud: dict[str, Array]
    cloud_bin: tuple[float, float]
    model: str
    label: str

    def to_table(self) -> Table:
        """One row per bin of stellar mass; the correlations at fixed mass in the metadata."""
        columns: list[Any] = [
            ("mstar_low", 10 ** self.edges[:-1], "Msun", "lower edge of the bin of stellar mass"),
            ("mstar_high", 10 ** self.edges[1:], "Msun", "upper edge of the bin of stellar mass"),
            ("n", self.n, "", f"galaxies in which {self.first} and {self.second} are defined"),
        ]
        for name in _SETS:
            columns += [
                (name, self.in_bins[name], "", f"Spearman's correlation of {self.first} and {self.second}: {name}"),
                (f"{name}_error", self.in_bins_error[name], "", f"bootstrap error of {name}"),
            ]
        within = self.within if np.isfinite(self.within) else None
        meta: dict[str, Any] = {"model": self.model, "domains": self.label, "within": within}
        meta |= {f"{name}_at_fixed_mass": value for name, value in self.overall.items()}
        return make_table(columns, meta)


def compute(
    scores: JointScores,
    *,
    first: str = "f_ex",
    second: str = "t_last_major",
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> TwoTargets:
    """Compute the rank correlation of two targets in bins of stellar mass.

    Parameters
    ----------
    scores : JointScores
        Joint posteriors beside the truth.
    first, second : str
        Field names of two of the targets.
    n_boot, seed : int
        Bootstrap resamples of galaxies and their seed.

    Raises
    ------
    DataError
        If a target is not there, or no bin of 0.25 dex has `LEAST` galaxies.
    """
    columns = [scores.column(first), scores.column(second)]
    truth, draws, mass = scores.truth[:, columns], scores.draws[..., columns], np.log10(scores.mstar)
    both = np.isfinite(truth).all(axis=1)
    low = np.floor(float(mass.min()) / _WIDTH) * _WIDTH
    edges = np.arange(low, max(float(mass.max()), low + _WIDTH) + _WIDTH, _WIDTH)
    which = np.clip(np.searchsorted(edges, mass, side="right") - 1, 0, len(edges) - 2)
    rng = np.random.default_rng(seed)
    values, errors = ({name: np.full(len(edges) - 1, np.nan) for name in _SETS} for _ in range(2))
    n = np.bincount(which[both], minlength=len(edges) - 1)
    for i in np.flatnonzero(n >= LEAST):
        inside = which == i
        true, drawn = truth[inside & both], draws[inside]
        values["truth"][i] = _spearman(true[None, :, 0], true[None, :, 1])[0]
        whose = scores.ids[inside & both]
        replicates = bootstrap(_spearman, true[:, 0], true[:, 1], n_boot=n_boot, seed=seed + int(i), galaxies=whose)
        errors["truth"][i] = spread(replicates, len(true))
        other = drawn[:, rng.permutation(drawn.shape[1]), 1]
        for name, pair in (("joint", (drawn[..., 0], drawn[..., 1])), ("apart", (drawn[..., 0], other))):
            found = [_defined_spearman(a, b) for a, b in zip(pair[0].T, pair[1].T, strict=True)]
            values[name][i] = float(np.nanmean(found))
            # one draw of every galaxy is one sample of galaxies: its error is that of the truth, about
            errors[name][i] = errors["truth"][i]
        # NaN for a galaxy that has a merger in none of its draws
        whole = np.isfinite(drawn).all(axis=-1, keepdims=True)
        means = np.where(whole, drawn, 0).sum(axis=1) / np.where(whole.any(axis=1), whole.sum(axis=1), np.nan)
        values["means"][i] = _defined_spearman(means[:, 0], means[:, 1])
        errors["means"][i] = errors["truth"][i]
    used = np.isfinite(values["truth"])
    if not used.any():
        raise DataError(f"no bin of stellar mass has {LEAST} galaxies", advice="test on more galaxies")
    weight = n[used] / n[used].sum()
    best = int(np.argmax(n))
    inside = which == best
    cloud = {
        "truth": truth[inside & both].T,
        "joint": draws[inside].reshape(-1, 2)[np.isfinite(draws[inside].reshape(-1, 2)).all(axis=1)].T,
    }
    return TwoTargets(
        first=first,
        second=second,
        edges=edges,
        n=n,
        in_bins=values,
        in_bins_error=errors,
        overall={name: float((values[name][used] * weight).sum()) for name in _SETS},
        overall_error={name: float(np.sqrt(((errors[name][used] * weight) ** 2).sum())) for name in _SETS},
        within=_within(draws),
        cloud={name: points[:, :_SHOWN] for name, points in cloud.items()},
        cloud_bin=(float(edges[best]), float(edges[best + 1])),
        model=scores.model,
        label=scores.label,
    )


def judge(result: TwoTargets, *, tolerance: float = 0.1) -> Verdict:
    """Say whether draws have the correlation of the truth at fixed mass, to ``tolerance`` or three errors."""
    true, drawn, apart = (result.overall[name] for name in ("truth", "joint", "apart"))
    error = result.overall_error["truth"]
    first, second = (field(name).name for name in (result.first, result.second))
    sentence = (
        f"At fixed stellar mass {first} and {second} have a rank correlation of {plus_minus(true, error, sign=True)} "
        f"in truth and {plus_minus(drawn, error, sign=True)} in joint posterior draws "
        f"({apart:+.2f} if the two targets are drawn apart; {result.within:+.2f} within the posterior of one galaxy)"
    )
    passed = bool(abs(drawn - true) <= max(tolerance, 3 * error))
    if passed:
        return Verdict(f"{sentence}: the joint posterior holds the relation.", passed, "held")
    kind = "too weak" if abs(drawn) < abs(true) else "too strong"
    return Verdict(f"{sentence}: the relation in the joint posterior is {kind}.", passed, kind)


def possible(scores: JointScores) -> bool:
    """Whether f_ex and t_last_major are among the targets, and a bin of mass has galaxies enough."""
    if not {"f_ex", "t_last_major"} <= set(scores.targets):
        return False
    mass = np.log10(scores.mstar[~scores.never])
    return bool(np.bincount(np.floor(mass / _WIDTH).astype(np.int64)).max(initial=0) >= LEAST)


@styled
def draw(result: TwoTargets, ax: Figure | SubFigure | None = None) -> tuple[Axes, Axes, Axes]:
    """Draw correlation against mass, and the two targets of one mass bin in truth and in joint draws."""
    figure: Any = new_figure(12.6, 4.3) if ax is None else ax
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    centre = 0.5 * (result.edges[1:] + result.edges[:-1])
    used = np.isfinite(result.in_bins["truth"])
    looks = {
        "truth": (INK, "s", "--", "truth"),
        "joint": (colour(0), "o", "-", "joint draws"),
        "apart": (colour(1), "^", ":", "targets drawn apart"),
    }
    for name, (shade, marker, line, label) in looks.items():
        y = result.in_bins[name][used]
        bars = np.nan_to_num(result.in_bins_error[name][used]) if name == "truth" else None
        text = f"{label}: {result.overall[name]:+.2f} at fixed mass"
        left.errorbar(centre[used], y, bars, color=shade, marker=marker, ms=5, ls=line, capsize=2, label=text)
    left.axhline(0, color=MUTED, lw=1)
    left.set(ylim=(-1, 0.55) if result.overall["truth"] < 0 else (-0.55, 1))
    left.set_xlabel(axis_label("mstar"))
    left.set_ylabel("Spearman's correlation")
    left.legend(loc="upper left" if result.overall["truth"] < 0 else "lower left", title=result.model)
    x, y = np.concatenate([result.cloud["truth"], result.cloud["joint"]], axis=1)
    box = [(float(np.percentile(v, 0.5)), float(np.percentile(v, 98.5))) for v in (x, y)]
    for panel, name, title in ((middle, "truth", "truth"), (right, "joint", "joint posterior draws")):
        points = result.cloud[name]
        counts, *edges = np.histogram2d(points[0], points[1], bins=26, range=box)
        # square roots, so that the few galaxies far from the many can be seen
        shares = np.sqrt(counts.T / max(counts.max(), 1))
        panel.pcolormesh(*edges, shares, cmap="Blues", vmin=0, vmax=1, rasterized=True)
        grid = np.linspace(*box[0], 9)
        bins = np.digitize(points[0], grid)
        lines = [
            (np.median(points[0][bins == i]), *np.percentile(points[1][bins == i], [16, 50, 84]))
            for i in range(1, len(grid))
            if (bins == i).sum() >= 20
        ]
        if lines:
            across, low, median, high = np.transpose(lines)
            panel.plot(across, median, color=colour(1), label="median, 16-84 %")
            panel.fill_between(across, low, high, color=colour(1), alpha=0.2, lw=0)
        panel.set(xlim=box[0], ylim=box[1])
        low, high = result.cloud_bin
        panel.set_title(f"{title}, $10^{{{low:g}}}$ to $10^{{{high:g}}}\\,M_\\odot$")
        panel.set_xlabel(axis_label(result.first))
    middle.set_ylabel(axis_label(result.second))
    right.tick_params(labelleft=False)
    middle.legend(loc="upper right")
    return left, middle, right


def _ranks(values: Array) -> Array:
    return np.argsort(np.argsort(values, axis=-1, kind="stable"), axis=-1, kind="stable").astype(float)


def _spearman(a: Array, b: Array) -> Array:
    """Correlation of the ranks of (..., n) and (..., n); ties by order, which a few of them do not matter for."""
    a, b = (rank - rank.mean(axis=-1, keepdims=True) for rank in (_ranks(a), _ranks(b)))
    return np.asarray((a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)))


def _defined_spearman(a: Array, b: Array) -> float:
    """Correlation over the galaxies in which both are defined; NaN for fewer than ten."""
    use = np.isfinite(a) & np.isfinite(b)
    return float(_spearman(a[use][None], b[use][None])[0]) if use.sum() >= 10 else float("nan")


def _within(draws: Array) -> float:
    """Mean correlation over the first defined draws (n, K, 2) of each galaxy that has enough of them."""
    defined = np.isfinite(draws).all(axis=2)
    first = np.argsort(~defined, axis=1, kind="stable")[:, :_FEW]
    use = defined.sum(axis=1) >= _FEW
    if not use.any():
        return float("nan")
    chosen = np.take_along_axis(draws, first[..., None], axis=1)[use]
    return float(_spearman(chosen[..., 0], chosen[..., 1]).mean())
