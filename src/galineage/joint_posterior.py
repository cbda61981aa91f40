"""The joint posterior of several targets for many galaxies at once: draws pooled over an ensemble's members."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import ConfigError, DataError
from galineage.fields import MERGER_TARGETS, feature_range, from_feature, to_feature
from galineage.progress import bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from galineage.models import JointDistribution
    from galineage.models.base import Estimator, Inputs

    Array = NDArray[np.float64]

__all__ = ["MIN_DEFINED", "JointPosterior", "Marginal", "joint_batches", "summarise_joint"]

MIN_DEFINED = 20
"""Fewest draws in which a target is defined that are summarised; with fewer the summary is NaN."""

_BATCH = 512
_BATCH_OF_MAPS = 128
_CELLS = 256
_REACH = 4.0


class JointPosterior:
    """Equally weighted mixture of an ensemble's members, known by draws; nothing here loops over galaxies.

    Parameters
    ----------
    distribution : JointDistribution
        E members, n galaxies, T targets.
    draws : int
        Posterior draws of each galaxy, rounded up to a multiple of E so that members have equal shares.
    seed : int
        Of the draws. The global random state is left alone.
    alike : bool
        Use the same random numbers for every galaxy, so that what is said of one does not depend on the others; not for
        populations, whose galaxies must be drawn independently. These draws are points of an even sequence.

    Attributes
    ----------
    alike : bool
        As given.
    targets : tuple of str, length T
        Field names.
    members : int
        E.
    samples : array (S, n, T)
        Draws in registry units, member varying fastest along the first axis. NaN in the targets that need a major
        merger in a draw without one.
    p_never : array (n,)
        Probability that the galaxy never had a major merger; 0 if no target needs one. No unit.

    Raises
    ------
    DataError
        If a draw of a target that is always defined is NaN.
    """

    def __init__(
        self, distribution: JointDistribution, draws: int = 400, seed: int = 0, *, alike: bool = False
    ) -> None:
        if draws < MIN_DEFINED:
            raise ConfigError(f"{draws} posterior draws are too few", expected=f"{MIN_DEFINED} or more")
        self.targets, self.alike = tuple(distribution.targets), alike
        self.members = int(distribution.batch_shape[0])
        share = -(-draws // self.members)
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs too
            drawn = distribution.sample_alike(share, seed) if alike else distribution.sample(torch.Size((share,)))
        self.samples: NDArray[Any] = drawn.flatten(0, 1).numpy()
        self.p_never: Array = self._never(distribution)
        self._refuse_nan()

    def _never(self, distribution: JointDistribution) -> Array:
        if distribution.exact_never:
            return np.asarray(distribution.p_never.detach().mean(dim=0).double().numpy())
        column = next(index for index, name in enumerate(self.targets) if name in MERGER_TARGETS)
        return np.asarray(np.isnan(self.samples[..., column]).mean(axis=0))

    def _refuse_nan(self) -> None:
        always = [index for index, name in enumerate(self.targets) if name not in MERGER_TARGETS]
        bad = np.isnan(self.samples[..., always]).any(axis=(0, 2)) | np.isnan(self.p_never)
        if bad.any():
            raise DataError(
                f"the posterior of {int(bad.sum())} galaxies is NaN",
                where=f"first at row {int(np.flatnonzero(bad)[0])}",
                expected="finite features",
                advice="leave rows with missing inputs out (Catalogue.complete), they belong on the skip list",
            )

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return self.samples.shape[1]

    def marginal(self, name: str) -> Marginal:
        """Return the posterior of one target, given that it is defined.

        Raises
        ------
        ConfigError
            If ``name`` is not one of the targets.
        """
        if name not in self.targets:
            raise ConfigError(f"the posterior has no target {name!r}", expected="one of " + ", ".join(self.targets))
        samples = to_feature(name, self.samples[..., self.targets.index(name)])
        return Marginal(name, samples, self.members, independent=not self.alike)

    def features(self) -> Array:
        """Return the draws as networks see the targets, shape (S, n, T): dex where the registry is logarithmic."""
        return np.stack([to_feature(name, self.samples[..., i]) for i, name in enumerate(self.targets)], axis=-1)


class Marginal:
    """Draws of one target for many galaxies, and what they say. All values in dex where the registry is logarithmic.

    Parameters
    ----------
    target : str
        Field name.
    samples : array (S, n)
        Draws, in dex where the registry is logarithmic, else in the target's unit; NaN where it is not defined.
    members : int
        Draws belong to members in turn: 0, 1 ... E - 1, 0, 1 ...
    independent : bool
        Whether draws are independent of each other, and not points of an even sequence.

    Attributes
    ----------
    defined : array of int (n,)
        Draws in which the target is defined. Galaxies with fewer than `MIN_DEFINED` have NaN in every summary.
    """

    def __init__(self, target: str, samples: NDArray[Any], members: int = 1, *, independent: bool = False) -> None:
        self.target, self.members, self.independent = target, members, independent
        self.samples: Array = np.asarray(samples, dtype=np.float64)
        self.defined: NDArray[np.int64] = np.isfinite(self.samples).sum(axis=0)

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return self.samples.shape[1]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which galaxies have draws enough for a summary, shape (n,)."""
        return self.defined >= MIN_DEFINED

    @cached_property
    def _sorted(self) -> Array:
        return np.sort(self.samples, axis=0)  # NaN comes last

    def _masked(self, values: Array) -> Array:
        return np.where(self.known, values, np.nan)

    def _against(self, truth: Array, values: Array) -> Array:
        return np.where(np.isfinite(truth), self._masked(values), np.nan)

    def quantile(self, probabilities: Sequence[float]) -> Array:
        """Quantiles (linear between ordered draws), shape (q, n); target's unit or dex.

        The k-th of S independent draws stands at k / (S + 1) (Hyndman & Fan 1996, definition 6), so that between two of
        them lies the share of truths that is promised, whatever S is; with numpy's default, which points of an even
        sequence have, 68 and 95 % intervals of 400 draws would hold 67.7 and 94.5 %.
        """
        last = np.maximum(self.defined - 1, 0)
        levels = np.asarray(probabilities, dtype=float)[:, None]
        place = np.clip(levels * (self.defined + 1) - 1, 0, last) if self.independent else levels * last
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, last)
        below, above = (np.take_along_axis(self._sorted, rows, axis=0) for rows in (low, high))
        return self._masked(below + (place - low) * (above - below))

    @cached_property
    def mean(self) -> Array:
        """Posterior mean, shape (n,); target's unit or dex."""
        total = np.nansum(self.samples, axis=0)
        return self._masked(total / np.maximum(self.defined, 1))

    @cached_property
    def std(self) -> Array:
        """Posterior standard deviation, shape (n,); target's unit or dex."""
        return self._masked(np.sqrt(self._variance))

    @property
    def _variance(self) -> Array:
        square = np.nansum((self.samples - self.mean) ** 2, axis=0)
        return np.asarray(square / np.maximum(self.defined - 1, 1))

    @cached_property
    def epistemic(self) -> Array:
        """Standard deviation between the members' means, shape (n,), less what the finite number of draws adds."""
        own = self.samples.reshape(-1, self.members, len(self))
        count = np.isfinite(own).sum(axis=0)
        used = count > 1
        means = np.where(used, np.nansum(own, axis=0) / np.maximum(count, 1), np.nan)
        within = np.nansum((own - means) ** 2, axis=0) / np.maximum(count - 1, 1)
        number = np.maximum(used.sum(axis=0), 1)
        centre = np.nansum(means, axis=0) / number
        between = np.nansum((means - centre) ** 2, axis=0) / number
        noise = (np.where(used, within / np.maximum(count, 1), 0.0).sum(axis=0) / number) * (1 - 1 / number)
        return self._masked(np.sqrt(np.clip(between - noise, 0.0, self._variance)))

    @property
    def aleatoric(self) -> Array:
        """Standard deviation within members, shape (n,): the rest of the variance; target's unit or dex."""
        return np.sqrt(np.maximum(self.std**2 - self.epistemic**2, 0.0))

    @cached_property
    def _density(self) -> tuple[Array, Array, Array]:
        """Start and width (n,) of the cells of a grid, and the density (n, cells) on it.

        Gaussian kernels of Silverman's width, folded back at the bounds of the target's range: the cosine transform of
        the counts times that of the kernel (Botev, Grotowski & Kroese 2010). The grid ends where the kernels do, or at
        a bound.
        """
        from scipy.fft import dct, idct

        bottom, top = feature_range(self.target)
        n, counted = len(self), np.maximum(self.defined, 1)
        first, last = self._sorted[0], np.take_along_axis(self._sorted, (counted - 1)[None], axis=0)[0]
        q25, q75 = self.quantile([0.25, 0.75])
        width = 0.9 * np.minimum(self.std, (q75 - q25) / 1.349) * counted**-0.2
        width = np.where(np.isfinite(width), np.maximum(width, 1e-4 * (top - bottom)), 1.0)
        low = np.where(self.known, np.maximum(bottom, first - _REACH * width), bottom)
        high = np.where(self.known, np.minimum(top, last + _REACH * width), top)
        # networks without bounds can draw beyond the range: their density is not folded there
        low, high = (
            np.where(first < bottom, first - _REACH * width, low),
            np.where(last > top, last + _REACH * width, high),
        )
        step = (high - low) / _CELLS
        width = np.maximum(width, 0.5 * step)
        defined = np.isfinite(self.samples)
        cell = np.where(defined, np.clip((self.samples - low) / step, 0, _CELLS - 1), 0).astype(np.int64)
        flat = (cell + np.arange(n) * _CELLS)[defined]
        counts = np.bincount(flat, minlength=n * _CELLS).reshape(n, _CELLS)
        wave = np.arange(_CELLS) * np.pi / (_CELLS * step)[:, None]
        smooth = idct(dct(counts.astype(float), axis=1) * np.exp(-0.5 * (wave * width[:, None]) ** 2), axis=1)
        return low, step, np.clip(smooth, 0.0, None) / (counted * step)[:, None]

    @cached_property
    def map(self) -> Array:
        """Mode of the density of draws, shape (n,); target's unit or dex. It may lie on a bound of the range."""
        low, step, density = self._density
        best = density.argmax(axis=1)
        inner = np.clip(best, 1, _CELLS - 2)
        left, middle, right = (np.take_along_axis(density, (inner + i)[:, None], axis=1)[:, 0] for i in (-1, 0, 1))
        bend = left - 2 * middle + right
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = np.where(bend < 0, 0.5 * (left - right) / bend, 0.0)
        place = inner + 0.5 + np.clip(shift, -0.5, 0.5)
        place = np.where(best == 0, 0.0, np.where(best == _CELLS - 1, float(_CELLS), place))
        return self._masked(low + step * place)

    def log_prob(self, truth: Array) -> Array:
        """Natural logarithm of the density of draws at the truth (n,), shape (n,); per target's unit or dex.

        One more draw is spread evenly over the target's range, so that a truth that no draw is near has a finite value.
        """
        low, step, density = self._density
        bottom, top = feature_range(self.target)
        place = np.nan_to_num((truth - low) / step - 0.5, nan=-1.0)
        left = np.clip(np.floor(place), 0, _CELLS - 2).astype(np.int64)
        share = np.clip(place - left, 0.0, 1.0)
        at = [np.take_along_axis(density, (left + i)[:, None], axis=1)[:, 0] for i in (0, 1)]
        inside = (place >= -0.5) & (place <= _CELLS - 0.5)
        value = np.where(inside, (1 - share) * at[0] + share * at[1], 0.0)
        density = (self.defined * value + 1 / (top - bottom)) / (self.defined + 1)
        return self._against(truth, np.log(density))

    def crps(self, truth: Array) -> Array:
        """Continuous ranked probability score at the truth (n,), shape (n,); target's unit or dex; lower is better.

        The fair estimate from draws, mean |x - t| - mean |x - x'| / 2 over different draws (Ferro 2014).
        """
        count = np.maximum(self.defined, 2)
        rank = np.arange(1, len(self.samples) + 1)[:, None]
        pairs = np.nansum((2 * rank - count - 1) * self._sorted, axis=0) / (count * (count - 1))
        return self._against(truth, np.nansum(np.abs(self.samples - truth), axis=0) / count - pairs)

    def place(self, truth: Array, rng: np.random.Generator) -> Array:
        """Return the posterior probability below the truth (n,), shape (n,), strictly between 0 and 1.

        One of the steps between ordered draws holds the truth; the place inside it is random, which makes the number
        exactly uniform for a calibrated posterior however few draws are defined.
        """
        below = (self.samples < truth).sum(axis=0)
        return self._against(truth, (below + rng.uniform(size=len(self))) / (self.defined + 1))

    def nearer(self, truth: Array, reference: Array, rng: np.random.Generator) -> Array:
        """Fraction of draws nearer to a reference point (n,) than the truth (n,) is, shape (n,): as `place`."""
        near = (np.abs(self.samples - reference) < np.abs(truth - reference)).sum(axis=0)
        return self._against(truth, (near + rng.uniform(size=len(self))) / (self.defined + 1))


def joint_batches(
    estimator: Estimator,
    x: Inputs,
    *,
    draws: int = 400,
    seed: int = 0,
    alike: bool = False,
    progress: bool = False,
) -> Iterator[tuple[slice, Any, JointPosterior]]:
    """Condition on many galaxies in batches, so that memory does not grow with their number.

    Parameters
    ----------
    estimator : Estimator
        Of several targets, in evaluation mode, on the CPU.
    x : array (n, d), or MapInputs
        Features, registry units, dex where logarithmic, finite; or contexts of views.
    draws, seed : int
        Posterior draws of each galaxy, and their seed.
    alike : bool
        The same random numbers for every galaxy; see `JointPosterior`.
    progress : bool
        Show a bar on a terminal.

    Yields
    ------
    slice, JointDistribution, JointPosterior
        Rows of a batch, what the estimator returns for them, and the draws.

    Raises
    ------
    DataError
        If a posterior is NaN.
    """
    size = _BATCH_OF_MAPS if estimator.sees_maps else _BATCH
    for start in bar(range(0, len(x), size), label="predict", show=progress):
        part = slice(start, min(start + size, len(x)))
        with torch.inference_mode():
            rows = x[part]
            context = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(np.array(rows, dtype=np.float32))
            distribution: Any = estimator(context)
            posterior = JointPosterior(distribution, draws, seed + (0 if alike else start), alike=alike)
            yield part, distribution, posterior


def summarise_joint(
    estimator: Estimator,
    x: Inputs,
    levels: Sequence[float],
    *,
    draws: int = 400,
    seed: int = 0,
    progress: bool = False,
) -> tuple[dict[str, dict[str, Array]], Array]:
    """Summarise the joint posteriors of many galaxies, target by target, each given that it is defined.

    Parameters
    ----------
    estimator : Estimator
        Of several targets, in evaluation mode, on the CPU.
    x : array (n, d), or MapInputs
        Features, registry units, dex where logarithmic, finite; or contexts of views.
    levels : sequence of float, length q
        Probabilities of the quantiles.
    draws, seed, progress
        As in `joint_batches`.

    Returns
    -------
    dict of str to dict of str to array
        By target: ``quantiles`` (q, n), and of shape (n,) ``mean``, ``std``, ``map``, ``aleatoric`` and ``epistemic``,
        all in the target's unit; quantiles and modes are those of the density in dex where the registry is logarithmic.
        NaN where fewer than `MIN_DEFINED` draws have the target.
    array (n,)
        Probability of no major merger; no unit.
    """
    parts: dict[str, dict[str, list[Array]]] = {}
    never = []
    for _, _, posterior in joint_batches(estimator, x, draws=draws, seed=seed, alike=True, progress=progress):
        never.append(posterior.p_never)
        for name in posterior.targets:
            marginal = posterior.marginal(name)
            found = {
                "quantiles": from_feature(name, marginal.quantile(levels)),
                "map": from_feature(name, marginal.map),
            }
            linear = Marginal(name, from_feature(name, marginal.samples), marginal.members)
            found |= {key: getattr(linear, key) for key in ("mean", "std", "aleatoric", "epistemic")}
            for key, values in found.items():
                parts.setdefault(name, {}).setdefault(key, []).append(values)
    joined = {
        name: {key: np.concatenate(values, axis=-1) for key, values in found.items()} for name, found in parts.items()
    }
    return joined, np.concatenate(never)
