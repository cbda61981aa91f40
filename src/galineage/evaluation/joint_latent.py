"""Does the flow map truths to a standard normal? The latent test of invertible networks, member by member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from galineage.errors import DataError
from galineage.evaluation.bootstrap import N_BOOT, bootstrap, ecdf, effective, spread
from galineage.evaluation.calibration import BAND, LEVEL, MIN_GALAXIES, TOLERANCE, simultaneous_band
from galineage.evaluation.style import INK, MUTED, colour, curve_name, new_figure, styled
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

__all__ = ["Latent", "compute", "draw", "judge"]


@dataclass(frozen=True)
class Latent:
    """Statistics of the latent values of T targets; no unit. Members are averaged, errors are over galaxies.

    Attributes
    ----------
    mean, mean_error, std, std_error : array (T,)
        Of each latent dimension; 0 and 1 if the member is right.
    covariance : array (T, T)
        Between dimensions, over the galaxies in which both are defined.
    residual, residual_error : float
        Largest absolute element of the covariance less the identity, and that element's error.
    level : array (k,)
        Probabilities.
    curves : array (T + 1, k)
        Fraction of galaxies whose latent value has a smaller normal probability, for each dimension, less ``level``;
        last, the same for the squared length against chi-square.
    band_low, band_high : array (k,)
        Where a right member's curve less ``level`` stays with 99 % probability.
    n : array of int (T,)
        Galaxies in which each target is defined.
    targets : tuple of str
        Field names.
    model, label : str
        Estimator and ``train → test``.
    """

    mean: Array
    mean_error: Array
    std: Array
    std_error: Array
    covariance: Array
    residual: float
    residual_error: float
    level: Array
    curves: Array
    band_low: Array
    band_high: Array
    n: NDArray[np.int64]
    targets: tuple[str, ...]
    model: str
    label: str

    def to_table(self) -> Table:
        """One row per target: mean, standard deviation and covariances of its latent dimension."""
        columns = [
            ("target", list(self.targets), "", "field name"),
            ("n", self.n, "", "galaxies in which it is defined"),
            ("mean", self.mean, "", "mean of the latent values"),
            ("mean_error", self.mean_error, "", "bootstrap error of mean"),
            ("std", self.std, "", "standard deviation of the latent values"),
            ("std_error", self.std_error, "", "bootstrap error of std"),
        ]
        columns += [
            (f"covariance_{name}", self.covariance[:, i], "", f"covariance with the latent dimension of {name}")
            for i, name in enumerate(self.targets)
        ]
        return make_table(columns, {"model": self.model, "domains": self.label, "residual": self.residual})


def compute(scores: JointScores, *, n_boot: int = N_BOOT, seed: int = 0) -> Latent:
    """Compute moments and distribution of the latent values.

    Parameters
    ----------
    scores : JointScores
        Joint posteriors beside the truth.
    n_boot, seed : int
        Bootstrap resamples of galaxies and their seed.

    Raises
    ------
    DataError
        If every target is defined in fewer than two galaxies.

    Notes
    -----
    The test of the authors' code of Eisert+2023 (mean, covariance less identity, squared length). It is one of the
    members: the mixture of all of them, which predictions are made of, is tested by PIT, ranks and TARP.
    """
    z = scores.latent
    whole = np.isfinite(z).all(axis=(1, 2))
    if whole.sum() < 2:
        raise DataError("every target is defined in fewer than two galaxies", advice="test on more galaxies")
    size = len(scores.targets)
    level = np.linspace(0, 1, 51)
    curves, n = [], np.empty(size, dtype=np.int64)
    moments = np.empty((4, size))
    for i in range(size):
        known = np.isfinite(z[:, :, i]).all(axis=1)
        values, n[i] = z[known, :, i], len(np.unique(scores.ids[known]))
        curves.append(_curve(special.ndtr(values), level))
        rows = np.arange(len(values)).astype(float)
        replicates = bootstrap(
            lambda r, v=values: _moments(v[r.astype(int)]), rows, n_boot=n_boot, seed=seed, galaxies=scores.ids[known]
        )  # type: ignore[misc]
        errors = spread(replicates, n[i])
        moments[:2, i], moments[2:, i] = _moments(values[None])[0], errors
    full = z[whole]
    curves.append(_curve(special.chdtr(size, (full**2).sum(axis=2)), level))
    covariance = np.mean([np.cov(full[:, e].T).reshape(size, size) for e in range(full.shape[1])], axis=0)
    away = np.abs(covariance - np.eye(size))
    a, b = np.unravel_index(int(away.argmax()), away.shape)
    rows = np.arange(len(full)).astype(float)
    replicates = bootstrap(
        lambda r: _cross(full[r.astype(int)][..., a], full[r.astype(int)][..., b]),
        rows,
        n_boot=n_boot,
        seed=seed,
        galaxies=scores.ids[whole],
    )
    low, high = simultaneous_band(effective((full**2).sum(axis=2).mean(axis=1), scores.ids[whole]), level)
    return Latent(
        mean=moments[0],
        std=moments[1],
        mean_error=moments[2],
        std_error=moments[3],
        covariance=covariance,
        residual=float(away[a, b]),
        residual_error=float(spread(replicates, len(full))),
        level=level,
        curves=np.stack(curves),
        band_low=low - level,
        band_high=high - level,
        n=n,
        targets=scores.targets,
        model=scores.model,
        label=scores.label,
    )


def judge(result: Latent, *, level: float = LEVEL, tolerance: float = 2 * TOLERANCE) -> Verdict:
    """Say whether members are standard normal in the latent space.

    A departure of a mean by ``tolerance``, of a width or covariance by twice that, or within three of its errors, is
    not blamed.

    Parameters
    ----------
    result : Latent
    level : float
        Not used: three errors decide; here so that every judge takes it.
    tolerance : float
        In standard deviations.
    """
    del level
    shift, width = int(np.abs(result.mean).argmax()), int(np.abs(result.std - 1).argmax())
    numbers = (
        f"Latent means are within {abs(result.mean[shift]):.3f} of 0, widths within "
        f"{abs(result.std[width] - 1):.3f} of 1, covariances within "
        f"{plus_minus(result.residual, result.residual_error)} of the identity"
    )
    if result.n.min() < MIN_GALAXIES:
        return Verdict(f"{numbers}: too few galaxies to judge.", passed=False, kind="too few")
    found = []
    if abs(result.mean[shift]) > max(tolerance, 3 * result.mean_error[shift]):
        side = "below" if result.mean[shift] > 0 else "above"
        found.append(f"posteriors of {result.targets[shift]} lie {side} the truth")
    if abs(result.std[width] - 1) > max(2 * tolerance, 3 * result.std_error[width]):
        kind = "narrow" if result.std[width] > 1 else "wide"
        found.append(f"members' posteriors of {result.targets[width]} are too {kind}")
    if result.residual > max(2 * tolerance, 3 * result.residual_error) and not found:
        found.append("targets keep a correlation that the network does not know")
    if found:
        return Verdict(f"{numbers}: {' and '.join(found)}.", passed=False, kind="not normal")
    return Verdict(f"{numbers}: standard normal.", passed=True, kind="normal")


@styled
def draw(result: Latent, ax: Figure | SubFigure | None = None) -> tuple[Axes, Axes]:
    """Draw the latent distributions against the normal one, and their covariance matrix; returns both axes."""
    figure: Any = new_figure(10.4, 4.2) if ax is None else ax
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    left.fill_between(
        result.level,
        result.band_low,
        result.band_high,
        color=MUTED,
        alpha=0.6,
        lw=0,
        label=f"{100 * BAND:g} %, one member",
    )
    left.axhline(0, color=INK, lw=0.8, ls="--")
    for i, curve in enumerate(result.curves):
        last = i == len(result.targets)
        name = "squared length" if last else f"${field(result.targets[i]).label}$"
        left.plot(result.level, curve, color=INK if last else colour(i), ls=":" if last else "-", label=name)
    reach = 1.6 * max(0.04, float(np.abs(result.curves).max()), float(np.abs(result.band_low).max()))
    left.set(xlim=(0, 1), ylim=(-reach, reach))
    left.set_xlabel("Normal probability of the latent value")
    left.set_ylabel("Observed - expected fraction")
    left.legend(loc="upper right", ncols=2)
    left.set_title(curve_name(result.model, result.label))
    image = right.imshow(result.covariance - np.eye(len(result.targets)), cmap="PuOr_r", vmin=-0.5, vmax=0.5)
    for i in range(len(result.targets)):
        for j in range(len(result.targets)):
            right.text(j, i, f"{result.covariance[i, j]:.2f}", ha="center", va="center", fontsize=9)
    names = [f"${field(name).label}$" for name in result.targets]
    right.set_xticks(range(len(names)), names, rotation=35, ha="right")
    right.set_yticks(range(len(names)), names)
    right.tick_params(length=0)
    right.set_title("Covariance of the latent values")
    figure.colorbar(image, ax=right, label="less the identity", shrink=0.85)
    return left, right


def _moments(z: Array) -> Array:
    """Mean and standard deviation, averaged over members, of (..., n, E); shape (..., 2)."""
    return np.stack([z.mean(axis=-2).mean(axis=-1), z.std(axis=-2, ddof=1).mean(axis=-1)], axis=-1)


def _cross(a: Array, b: Array) -> Array:
    centred = (a - a.mean(axis=-2, keepdims=True)) * (b - b.mean(axis=-2, keepdims=True))
    return np.asarray(centred.mean(axis=-2).mean(axis=-1))


def _curve(u: Array, level: Array) -> Array:
    """Distribution function of (n, E) probabilities at the levels (k,), averaged over members, less the level."""
    return np.mean([ecdf(column, level) for column in u.T], axis=0) - level
