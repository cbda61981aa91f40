"""A monotone map of probability levels, learned from where the truth of calibration galaxies lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from galineage.calibration.rows import EXCHANGEABLE, REWEIGHTED, checked_pit, checked_weights, effective_size
from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["Recalibration"]

_REACH = 16.0
_KNOTS = 161
_NODES = 2401
_NODE_REACH = 18.0
_STRENGTHS = np.geomspace(0.01, 10.0, 16)
_DEGREES = 6
_ODDS = 1 / 3
_NEWTON_STEPS = 40
_BISECTIONS = 44
_MOST_KNOTS = 256
_EDGE = 1e-7


@dataclass(frozen=True)
class Recalibration:
    """Map g of probability levels such that g(PIT) is uniform: what the model calls level u holds at level g(u).

    The recalibrated distribution function is ``g(F(y))``, its quantile at p the model's at ``g^-1(p)``, its density the
    model's times ``g'(F(y))``. In logits of the levels g is a monotone cubic (Hermite's) through knots, and straight
    beyond them, so that it is strictly increasing and its slope finite everywhere.

    Attributes
    ----------
    knots, values, slopes : tuple of float, length k
        ``logit u``, ``logit g(u)`` and ``d logit g / d logit u``; no unit.
    size : float
        Effective number of calibration galaxies.
    weighted : bool
        Whether importance weights were used.
    departure : float
        Probability, from the evidence, that the model needed recalibration at all; g is shrunk to the identity by it.

    Raises
    ------
    ConfigError
        If the knots are no strictly increasing map.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]
    slopes: tuple[float, ...]
    size: float = 0.0
    weighted: bool = False
    departure: float = 1.0

    def __post_init__(self) -> None:
        arrays = [np.asarray(part, dtype=np.float64) for part in (self.knots, self.values, self.slopes)]
        knots, values, slopes = arrays
        if not 2 <= len(knots) <= _MOST_KNOTS or any(part.shape != knots.shape or part.ndim != 1 for part in arrays):
            raise ConfigError("a recalibration needs knots, values and slopes of equal length", expected="2 to 256")
        rising = all(np.isfinite(part).all() for part in arrays)
        rising = rising and bool((np.diff(knots) > 0).all() and (np.diff(values) > 0).all() and (slopes > 0).all())
        if not rising or np.abs(knots).max() > 50 or np.abs(values).max() > 500:
            raise ConfigError("a recalibration is not finite and strictly increasing", expected="rising levels")
        secants = np.diff(values) / np.diff(knots)
        if (slopes > 3.001 * np.minimum(np.append(secants, np.inf), np.insert(secants, 0, np.inf))).any():
            raise ConfigError("a recalibration would fall between two knots", expected="slopes below 3 secants")

    @classmethod
    def fit(cls, pit: ArrayLike, weights: ArrayLike | None = None, *, smooth: float = 1.0) -> Recalibration:
        """Learn the map from calibration galaxies.

        Parameters
        ----------
        pit : array (n,)
            Posterior probability below the truth, in [0, 1], of galaxies that the model was not trained on.
        weights : array (n,), optional
            Importance weights, pure numbers: how much more common such a galaxy is where the model will be used.
        smooth : float
            How fast fine detail is held back: the prior width of the j-th component falls as ``j**-smooth``.

        Returns
        -------
        Recalibration

        Raises
        ------
        DataError
            If there are fewer than 40 (effective) galaxies, or a value is NaN or out of range.
        ConfigError
            If ``smooth`` is negative or not finite.

        Notes
        -----
        ``log g'`` is a sum of smooth functions of u. With z the normal quantile of u, ``z`` and ``z**2`` mend shifted
        and too narrow or too wide Gaussian posteriors exactly, ``z |z|`` unequal tails (the part that ``log u`` and
        ``log (1 - u)`` play in the beta calibration of Kull+2017), Legendre polynomials to degree 6 the rest, as in
        Neyman's smooth test. The likelihood is that of the effective number of galaxies, the prior shrinks to the
        identity, and its width comes from the evidence (Laplace's approximation; MacKay 1992). At last g is averaged
        with the identity in the proportion of their evidence, one against three beforehand, so that noise in few
        galaxies leaves a calibrated model alone.

        Levels below 1e-7 are not told apart: where truths lie wholly outside the posteriors, no map of levels helps,
        and only `ConformalIntervals` of the kind ``cqr`` do.
        """
        if not (np.isfinite(smooth) and smooth >= 0):
            raise ConfigError(f"smooth is {smooth}", expected="0 or more")
        places = checked_pit(pit)
        w = checked_weights(weights, len(places))
        size = effective_size(w)
        family = _Family()
        means = np.average(family.basis(places), axis=0, weights=w)
        log_density, departure = family.shrunk(means, size, smooth)
        knots, values, slopes = _as_knots(log_density, family.t)
        return cls(tuple(knots), tuple(values), tuple(slopes), size, weights is not None, departure)

    @classmethod
    def identity(cls) -> Recalibration:
        """Return the map that changes nothing."""
        return cls((-_REACH, _REACH), (-_REACH, _REACH), (1.0, 1.0), departure=0.0)

    @property
    def assumption(self) -> str:
        """What must be true for the recalibrated error bars to hold, in plain words."""
        return REWEIGHTED if self.weighted else EXCHANGEABLE

    def forward(self, level: Tensor | Array) -> Tensor:
        """Return g of the model's levels (...), probabilities in [0, 1]; float64, same shape; NaN stays NaN."""
        u = torch.as_tensor(level, dtype=torch.float64)
        inner = torch.sigmoid(self._logit_forward(torch.logit(u.clamp(_EDGE, 1 - _EDGE)))[0])
        return torch.where(u <= 0, 0.0, torch.where(u >= 1, 1.0, inner))

    def inverse(self, level: Tensor | Array) -> Tensor:
        """Return the model's levels at which true levels lie, same shape, probabilities in [0, 1]; NaN stays NaN."""
        p = torch.as_tensor(level, dtype=torch.float64)
        target = torch.logit(p.clamp(1e-12, 1 - 1e-12))
        knots, values, slopes = self._tensors()
        low_end = knots[0] + (target - values[0]) / slopes[0]
        high_end = knots[-1] + (target - values[-1]) / slopes[-1]
        index = (torch.searchsorted(values, target.contiguous()) - 1).clamp(0, len(knots) - 2)
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            below = self._cubic(index, middle)[0] < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        found = knots[index] + 0.5 * (low + high) * (knots[index + 1] - knots[index])
        found = torch.where(target < values[0], low_end, torch.where(target > values[-1], high_end, found))
        inner = torch.sigmoid(found)
        inner = torch.where(p.isnan(), p, inner)
        return torch.where(p <= 0, 0.0, torch.where(p >= 1, 1.0, inner))

    def log_slope(self, level: Tensor | Array) -> Tensor:
        """Return ``log g'`` at the model's levels, same shape, logarithm of a pure number; finite at 0 and 1."""
        u = torch.as_tensor(level, dtype=torch.float64).clamp(_EDGE, 1 - _EDGE)
        t = torch.logit(u)
        h, slope = self._logit_forward(t)
        spread = torch.nn.functional.logsigmoid
        return slope.log() + spread(h) + spread(-h) - spread(t) - spread(-t)

    def settings(self) -> dict[str, Any]:
        """Return JSON values from which `from_settings` makes the same map."""
        return {
            "knots": list(self.knots),
            "values": list(self.values),
            "slopes": list(self.slopes),
            "size": self.size,
            "weighted": self.weighted,
            "departure": self.departure,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Recalibration:
        """Build the map from what `settings` gave.

        Raises
        ------
        ConfigError
            If it is no such map.
        """
        try:
            lists = [tuple(float(item) for item in settings[name]) for name in ("knots", "values", "slopes")]
            size, departure = float(settings["size"]), float(settings["departure"])
            return cls(lists[0], lists[1], lists[2], size, bool(settings["weighted"]), departure)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"this is no recalibration: {type(error).__name__}: {error}") from error

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        knots, values, slopes = (
            torch.tensor(part, dtype=torch.float64) for part in (self.knots, self.values, self.slopes)
        )
        return knots, values, slopes

    def _cubic(self, index: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        """Value and slope of Hermite's cubic a part of the way from knot ``index`` to the next."""
        knots, values, slopes = self._tensors()
        step = knots[index + 1] - knots[index]
        rise = values[index + 1] - values[index]
        left, right = slopes[index] * step, slopes[index + 1] * step
        a, b = left + right - 2 * rise, 3 * rise - 2 * left - right
        value = values[index] + part * (left + part * (b + part * a))
        return value, (left + part * (2 * b + part * 3 * a)) / step

    def _logit_forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        knots, values, slopes = self._tensors()
        index = (torch.searchsorted(knots, t.contiguous()) - 1).clamp(0, len(knots) - 2)
        part = ((t - knots[index]) / (knots[index + 1] - knots[index])).clamp(0, 1)
        value, slope = self._cubic(index, part)
        below, above = t < knots[0], t > knots[-1]
        value = torch.where(below, values[0] + (t - knots[0]) * slopes[0], value)
        value = torch.where(above, values[-1] + (t - knots[-1]) * slopes[-1], value)
        slope = torch.where(below, slopes[0], torch.where(above, slopes[-1], slope))
        return value, slope.clamp_min(1e-12)


class _Family:
    """Densities on [0, 1] whose logarithm is a sum of fixed functions, which are orthonormal for the uniform one."""

    def __init__(self) -> None:
        self.t = np.linspace(-_NODE_REACH, _NODE_REACH, _NODES)
        self.u = 1 / (1 + np.exp(-self.t))
        # du = u (1 - u) dt: nodes crowd at both ends, where the tails of bad models lie
        rule = self.u * (1 - self.u)
        self.rule = rule / rule.sum()
        raw = self._raw(self.u)
        self._center = self.rule @ raw
        gram = (raw - self._center).T @ ((raw - self._center) * self.rule[:, None])
        # Gram and Schmidt: each function keeps what those before it do not say
        self._mix = np.linalg.inv(np.linalg.cholesky(gram)).T
        self.at_nodes = (raw - self._center) @ self._mix

    def _raw(self, u: Array) -> Array:
        legendre = np.polynomial.legendre.legvander(2 * u - 1, _DEGREES)
        z = special.ndtri(u.clip(_EDGE, 1 - _EDGE))
        # the overall shift and width first, then unequal tails, then detail
        return np.stack([z, z * z, z * np.abs(z), *legendre[:, 2:].T], axis=1)

    def basis(self, u: Array) -> Array:
        return (self._raw(u) - self._center) @ self._mix

    def shrunk(self, means: Array, size: float, smooth: float) -> tuple[Array, float]:
        """Log density at the nodes, without unit, and the probability that it is not the uniform one."""
        order = np.arange(1, len(means) + 1, dtype=np.float64)
        found = [self._mode(means, size, (strength * order**-smooth) ** 2) for strength in _STRENGTHS]
        evidence = np.array([item[1] for item in found])
        best = int(np.argmax(evidence))
        # the mean over strengths, each as likely beforehand, against the uniform density's evidence of 1
        odds = np.logaddexp.reduce(evidence) - np.log(len(evidence)) + np.log(_ODDS)
        departure = float(1 / (1 + np.exp(-np.clip(odds, -700, 700))))
        log_density = self.at_nodes @ found[best][0]
        density = np.exp(log_density - log_density.max())
        # a trace of the identity keeps the map strictly rising where there are no galaxies at all
        share = min(departure, 1 - 1e-6)
        density = (1 - share) + share * density / (self.rule @ density)
        return np.log(density), departure

    def _mode(self, means: Array, size: float, prior: Array) -> tuple[Array, float]:
        """Most probable coefficients and the logarithm of their evidence, by Newton's method with halved steps."""
        theta = np.zeros_like(means)
        gain, gradient, curvature = self._objective(theta, means, size, prior)
        for _ in range(_NEWTON_STEPS):
            step = np.linalg.solve(curvature, gradient)
            size_of_step = 1.0
            while size_of_step > 1e-6:
                trial = self._objective(theta + size_of_step * step, means, size, prior)
                if trial[0] >= gain:
                    break
                size_of_step *= 0.5
            else:
                break
            theta = theta + size_of_step * step
            done = trial[0] - gain < 1e-9
            gain, gradient, curvature = trial
            if done:
                break
        sign, volume = np.linalg.slogdet(curvature * np.sqrt(prior)[:, None] * np.sqrt(prior)[None, :])
        return theta, float(gain - 0.5 * volume) if sign > 0 else -np.inf

    def _objective(self, theta: Array, means: Array, size: float, prior: Array) -> tuple[float, Array, Array]:
        log_density = self.at_nodes @ theta
        peak = log_density.max()
        mass = self.rule * np.exp(log_density - peak)
        total = mass.sum()
        mass = mass / total
        center = mass @ self.at_nodes
        spread = (self.at_nodes * mass[:, None]).T @ self.at_nodes - np.outer(center, center)
        gain = size * (theta @ means - peak - np.log(total)) - 0.5 * float((theta**2 / prior).sum())
        return float(gain), size * (means - center) - theta / prior, size * spread + np.diag(1 / prior)


def _as_knots(log_density: Array, t: Array) -> tuple[list[float], list[float], list[float]]:
    """Knots, values and slopes in logits of a density on [0, 1] given at the nodes ``logit u``."""
    u = 1 / (1 + np.exp(-t))
    density = np.exp(log_density)
    per_step = density * u * (1 - u)
    cells = 0.5 * (per_step[1:] + per_step[:-1]) * np.diff(t)
    # each tail is summed from its own end, so that neither loses its digits; beyond the nodes the density is constant
    below = density[0] * u[0] + np.append(0.0, np.cumsum(cells))
    above = density[-1] * (1 - u[-1]) + np.append(np.cumsum(cells[::-1])[::-1], 0.0)
    h = np.log(below) - np.log(above)
    slope = per_step * (below + above) / (below * above)
    knots = np.linspace(-_REACH, _REACH, _KNOTS)
    values, slopes = np.interp(knots, t, h), np.interp(knots, t, slope)
    secants = np.diff(values) / np.diff(knots)
    if not (np.isfinite(values).all() and (secants > 0).all()):
        raise DataError(
            "the places of the truth cannot be mapped to uniform ones",
            advice="look at the PIT histogram: nearly all are 0 or 1",
        )
    slopes = np.minimum(slopes, 3 * np.minimum(np.append(secants, np.inf), np.insert(secants, 0, np.inf)))
    return knots.tolist(), values.tolist(), slopes.tolist()
