"""Penalties for a difference between what a network makes of two domains, member by member.

Each compares hidden representations of training galaxies with those of unlabelled galaxies of another domain. The loss
of `galineage.training.fit_estimator` plus such a penalty asks for a representation that serves the target and looks the
same in both domains.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from galineage.errors import ConfigError
from galineage.models.base import require_counts
from galineage.models.layers import MemberLinear

__all__ = ["ALIGNMENTS", "Adversarial", "Alignment", "Coral", "Discrepancy", "Sinkhorn", "make_alignment"]

_MOST = 128


class Alignment(nn.Module, ABC):
    """A penalty between representations; what it learns has the members as its leading dimension.

    Parameters
    ----------
    members, width : int
        Number of networks E and of hidden values h.
    weight : float
        Factor on the penalty.
    seed : int
        Of initial weights, where there are any.

    Attributes
    ----------
    kind : str
        Name in `ALIGNMENTS`.
    """

    kind: ClassVar[str]

    def __init__(self, members: int, width: int, *, weight: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        require_counts(members=members, width=width)
        if not 0 <= weight < math.inf:
            raise ConfigError(f"the weight of the alignment is {weight}", expected="0 or more")
        self.members, self.width, self.weight, self.seed = members, width, float(weight), int(seed)

    def settings(self) -> dict[str, Any]:
        """Return what decides the penalty: JSON values by name."""
        return {"kind": self.kind, "weight": self.weight, "seed": self.seed, **self._more()}

    def _more(self) -> dict[str, Any]:
        return {}

    def penalty(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Measure how different the representations are.

        Parameters
        ----------
        source : Tensor (E, b, h)
            Representations of training galaxies, hidden values without unit.
        target : Tensor (E, c, h)
            Representations of unlabelled galaxies.
        progress : float
            Part of the longest training that is over, 0 to 1.

        Returns
        -------
        Tensor (E,)
            Times the weight; gradients reach both representations. NaN gives NaN.
        """
        return self.weight * self.distance(source, target, progress)

    @abstractmethod
    def distance(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Return the penalty before the weight, (E,), no unit; see `penalty`."""


class Coral(Alignment):
    """Squared distance of the covariance matrices over ``4 h^2`` (Sun & Saenko 2016, arXiv:1607.01719 equation 1).

    As published it does not look at the means.
    """

    kind = "coral"

    def distance(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Return the distance (E,) of the covariances of (E, b, h), no unit; see `Alignment.penalty`."""
        del progress
        gap = _covariance(source) - _covariance(target)
        return gap.square().sum((1, 2)) / (4 * source.shape[-1] ** 2)


def _covariance(x: Tensor) -> Tensor:
    centered = x - x.mean(dim=1, keepdim=True)
    return centered.mT @ centered / max(x.shape[1] - 1, 1)


class Discrepancy(Alignment):
    """Maximum mean discrepancy, squared, without bias (Gretton+2012 equation 3), summed over five kernel widths.

    Being without bias it scatters around zero, below it too, where both domains are alike. The widths are 1/4, 1/2, 1,
    2 and 4 times the median squared distance between the galaxies of both batches, which has no gradient.

    Parameters
    ----------
    members, width, weight, seed
        See `Alignment`.
    kernel : {"gaussian", "multiquadric"}
        ``exp(-d^2 / w)``, or the inverse multiquadric ``1 / (1 + d^2 / w)``, whose tails reach farther.
    most : int
        Galaxies of each domain that are compared in a step: the time grows with their square.
    """

    kind = "mmd"

    def __init__(
        self,
        members: int,
        width: int,
        *,
        weight: float = 1.0,
        seed: int = 0,
        kernel: str = "gaussian",
        most: int = _MOST,
    ) -> None:
        super().__init__(members, width, weight=weight, seed=seed)
        require_counts(2, most=most)
        if kernel not in ("gaussian", "multiquadric"):
            raise ConfigError(f"the kernel is {kernel!r}", expected="gaussian or multiquadric")
        self.kernel, self.most = kernel, most

    def _more(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "most": self.most}

    def distance(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Return the discrepancy (E,) of (E, b, h) and (E, c, h), no unit; see `Alignment.penalty`."""
        del progress
        both = torch.cat([source[:, : self.most], target[:, : self.most]], dim=1)
        squares, count, size = _squares(both, both), min(source.shape[1], self.most), both.shape[1]
        above = torch.triu(torch.ones((size, size), dtype=torch.bool, device=both.device), 1)
        median = squares.detach()[:, above].median(dim=1).values.clamp_min(1e-12).view(-1, 1, 1)
        own = 1 - torch.eye(size, dtype=both.dtype, device=both.device)
        similar = sum(self._similar(squares / (median * factor)) for factor in (0.25, 0.5, 1.0, 2.0, 4.0)) * own
        parts = similar[:, :count, :count], similar[:, count:, count:]
        within = sum(part.sum((1, 2)) / max(part.shape[1] * (part.shape[1] - 1), 1) for part in parts)
        return within - 2 * similar[:, :count, count:].mean((1, 2))

    def _similar(self, z: Tensor) -> Tensor:
        return torch.exp(-z) if self.kernel == "gaussian" else 1 / (1 + z)


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (E, b, c) of (E, b, h) and (E, c, h), by the product of both, with an exact gradient."""
    rest = x.square().sum(-1).unsqueeze(2) + y.square().sum(-1).unsqueeze(1)
    return torch.baddbmm(rest, x, y.mT, alpha=-2).clamp_min(0)


class Sinkhorn(Alignment):
    """Entropic optimal transport without its bias (Genevay+2018; Feydy+2019, arXiv:1810.08278).

    The cost is the squared distance over ``h``. ``S(a, b) - S(a, a) / 2 - S(b, b) / 2`` is zero for equal sets and
    never negative.

    Parameters
    ----------
    members, width, weight, seed
        See `Alignment`.
    blur : float
        Strength of the entropic term, in units of the mean cost between the domains; 0.01 to 1.
    iterations : int
        Updates of the potentials, a fixed number.
    most : int
        Galaxies of each domain that are compared in a step: the time grows with their square.
    """

    kind = "sinkhorn"

    def __init__(
        self,
        members: int,
        width: int,
        *,
        weight: float = 1.0,
        seed: int = 0,
        blur: float = 0.1,
        iterations: int = 30,
        most: int = _MOST,
    ) -> None:
        super().__init__(members, width, weight=weight, seed=seed)
        require_counts(iterations=iterations, most=most)
        if not 0 < blur < math.inf:
            raise ConfigError(f"blur is {blur}", expected="above 0")
        self.blur, self.iterations, self.most = float(blur), iterations, most

    def _more(self) -> dict[str, Any]:
        return {"blur": self.blur, "iterations": self.iterations, "most": self.most}

    def distance(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Return the divergence (E,) of (E, b, h) and (E, c, h), no unit; see `Alignment.penalty`."""
        del progress
        source, target, width = source[:, : self.most], target[:, : self.most], source.shape[-1]
        cost = _squares(source, target) / width
        blur = (self.blur * cost.detach().mean((1, 2))).clamp_min(1e-12).view(-1, 1, 1)
        own = (self._transport(_squares(part, part) / width, blur, symmetric=True) for part in (source, target))
        return self._transport(cost, blur) - 0.5 * sum(own)

    def _transport(self, cost: Tensor, blur: Tensor, *, symmetric: bool = False) -> Tensor:
        """Entropic cost (E,) of cost matrices (E, b, c), in units of the cost."""
        with torch.no_grad():
            f, g = cost.new_zeros(cost.shape[:2]), cost.new_zeros((len(cost), cost.shape[2]))
            for _ in range(self.iterations):
                # both at once and averaged: equal sets keep equal potentials
                new = 0.5 * (g + _soft_least(cost.mT, f, blur))
                f, g = new if symmetric else 0.5 * (f + _soft_least(cost, g, blur)), new
        # the semi-dual: at the optimum its slope in g is zero, so that g may be held fixed for the gradient
        return _soft_least(cost, g, blur).mean(1) + g.mean(1)


def _soft_least(cost: Tensor, potential: Tensor, blur: Tensor) -> Tensor:
    """Soft minimum (E, b) over the columns of cost (E, b, c) minus potential (E, c), in units of the cost."""
    spread = (potential.unsqueeze(1) - cost) / blur
    return -blur.squeeze(-1) * (torch.logsumexp(spread, dim=2) - math.log(cost.shape[2]))


class _Reverse(torch.autograd.Function):
    """The identity, whose gradient is turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradient, None


class Adversarial(Alignment):
    """A small network for each member that tells the domains apart, and turns its gradient round (Ganin+2016).

    It learns to tell the domains apart while the representation learns not to let it; the turned gradient grows as
    ``2 / (1 + exp(-10 p)) - 1`` with the progress p of the training. The penalty is the cross-entropy, log 2 where the
    domains cannot be told apart; it falls as the discriminator learns.

    Parameters
    ----------
    members, width, weight, seed
        See `Alignment`.
    hidden : int
        Width of the discriminator's one hidden layer.
    """

    kind = "dann"

    def __init__(self, members: int, width: int, *, weight: float = 1.0, seed: int = 0, hidden: int = 64) -> None:
        super().__init__(members, width, weight=weight, seed=seed)
        require_counts(hidden=hidden)
        self.first, self.last = MemberLinear(members, width, hidden), MemberLinear(members, hidden, 1)
        generator = torch.Generator().manual_seed(self.seed)
        for layer in (self.first, self.last):
            layer.reset(generator)

    def _more(self) -> dict[str, Any]:
        return {"hidden": self.first.weight.shape[2]}

    def distance(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Return the cross-entropy (E,) of telling (E, b, h) from (E, c, h), nats; see `Alignment.penalty`."""
        factor = 2 / (1 + math.exp(-10 * progress)) - 1
        turned = (_Reverse.apply(part, factor) for part in (source, target))  # type: ignore[no-untyped-call]
        odds = [self._odds(part) for part in turned]
        return 0.5 * (softplus(odds[0]).mean(1) + softplus(-odds[1]).mean(1))

    def _odds(self, x: Tensor) -> Tensor:
        """Log-odds (E, b) that a representation is of the unlabelled domain."""
        return self.last(torch.relu(self.first(x))).squeeze(-1)


ALIGNMENTS: dict[str, type[Alignment]] = {item.kind: item for item in (Coral, Discrepancy, Sinkhorn, Adversarial)}
"""Every alignment by its kind."""


def make_alignment(
    kind: str, members: int, width: int, *, weight: float = 1.0, seed: int = 0, **options: Any
) -> Alignment:
    """Build an alignment.

    Parameters
    ----------
    kind : str
        A key of `ALIGNMENTS`: coral, mmd, sinkhorn or dann.
    members, width : int
        Number of networks, and of values in what `galineage.models.Estimator.represent` gives.
    weight : float
        Factor on the penalty.
    seed : int
        Of initial weights.
    **options
        More settings of the class.

    Raises
    ------
    ConfigError
        If there is no such kind, or a setting is wrong.
    """
    if kind not in ALIGNMENTS:
        raise ConfigError(f"there is no alignment called {kind!r}", expected="one of " + ", ".join(ALIGNMENTS))
    try:
        return ALIGNMENTS[kind](members, width, weight=weight, seed=seed, **options)
    except TypeError as error:
        raise ConfigError(f"alignment {kind!r}: {error}") from error
