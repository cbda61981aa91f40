"""Several targets at once: conditional invertible networks and the joint distribution that they answer with."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError
from galineage.models.base import Estimator, require_counts
from galineage.models.coupling import ColumnNet, Conditioned, CouplingFlow
from galineage.models.joint_distribution import JointDistribution
from galineage.models.targets import Never, TargetSpace, check_target_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["JointDistribution", "JointFlow"]


class _Odds(ColumnNet):
    """Log odds of "never"; without hidden layers a logistic regression, which starts flat."""

    def __init__(self, members: int, widths: Sequence[int], gain: float) -> None:
        super().__init__(members, widths)
        self.gain = gain

    def reset(self, generator: torch.Generator) -> None:
        super().reset(generator)
        if len(self.weights) == 1:
            nn.init.zeros_(self.weights[0])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.gain == 1 else self.gain * x)


class _Factor(nn.Module):
    """The conditional density of some of the targets: a condition network and a flow."""

    def __init__(self, owner: JointFlow, columns: Sequence[int], extra: int, seed: int) -> None:
        super().__init__()
        self.columns = list(columns)
        self.net = ColumnNet(owner.members, (len(owner.features), *owner.condition))
        self.flow = CouplingFlow(
            owner.members,
            len(columns),
            owner.condition[-1],
            extra,
            coupling=owner.coupling,
            blocks=owner.blocks,
            hidden=owner.hidden,
            clamp=owner.clamp,
            bins=owner.bins,
            seed=seed,
        )

    def reset(self, generator: torch.Generator) -> None:
        self.net.reset(generator)
        self.flow.reset(generator)

    def condition(self, context: Tensor) -> Conditioned:
        """Condition on scaled features, columns (E, d, n)."""
        return self.flow.condition(self.net(context))


class JointFlow(Estimator):
    """Conditional invertible network: a joint density of several targets given features.

    As published (Eisert+2023, "cINN"; sizes from the authors' code): a condition network, 12 GLOW coupling blocks with
    clamp 1, sentinels for galaxies that never had a major merger. The alternatives are splines instead of affine
    couplings, a logit that keeps bounded targets in their range, and "never" as a factor of its own:

    ``p(y | x) = P(never | x) p(others | x, never) [p(merger targets | x, others) if not never]``

    which is exact; factors without targets are left out.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs.
    targets : sequence of str, length T, or str
        Field names of the targets. ``t_last_major`` and ``mstar_last_major`` are undefined, NaN, for a galaxy that
        never had a major merger.
    members : int
        Flows in the ensemble, trained and evaluated together.
    coupling : {"affine", "spline"}
        See `galineage.models.coupling.CouplingFlow`. With a single target, or a single one in a factor, an affine flow
        is a normal distribution.
    blocks : int
        Coupling blocks of each factor.
    hidden : sequence of int
        Hidden widths of the networks in the blocks.
    condition : sequence of int
        Hidden widths and outputs of the condition network.
    chance : sequence of int, optional
        Hidden widths of the network of P(never); none make it a logistic regression, which few such galaxies call for.
        Default: those of the condition network.
    chance_gain : float
        Factor on the inputs of that network. The few weights of a logistic regression must grow as far, in as many
        steps of the optimiser, as the many of a network do together: 5 lets them.
    clamp : float
        Soft clamp of an affine block's log scale.
    bins : int
        Bins of a spline.
    never : {"bernoulli", "sentinel"}
        How galaxies without a major merger are held; see `galineage.models.targets.TargetSpace`.
    bounded : bool
        Whether targets live inside their registry range by construction.
    initial : {"fan-in", "published"}
        First weights. ``published``: weights and biases 0.01 times a standard normal.
    label_noise : float
        Standard deviation of the normal noise put on the targets while training, in standardised units; drawn from
        torch's default generator.
    seed : int
        Seed of the initial weights and of the permutations.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    kind = "joint"

    def __init__(
        self,
        features: Sequence[str],
        targets: Sequence[str] | str,
        members: int = 5,
        *,
        coupling: Literal["affine", "spline"] = "affine",
        blocks: int = 12,
        hidden: Sequence[int] = (128, 128),
        condition: Sequence[int] = (128, 128, 128),
        chance: Sequence[int] | None = None,
        chance_gain: float = 1.0,
        clamp: float = 1.0,
        bins: int = 8,
        never: Never = "bernoulli",
        bounded: bool = True,
        initial: Literal["fan-in", "published"] = "fan-in",
        label_noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        names = check_target_names(targets)
        super().__init__(features, names[0], members)
        self.targets = names
        self.coupling, self.blocks, self.clamp, self.bins = coupling, blocks, float(clamp), bins
        self.hidden, self.condition = tuple(hidden), tuple(condition)
        self.chance_hidden = self.condition[:-1] if chance is None else tuple(chance)
        self.chance_gain = float(chance_gain)
        self.never, self.bounded, self.initial = never, bool(bounded), initial
        self.label_noise, self.seed = float(label_noise), int(seed)
        self._check()
        self.space = TargetSpace(names, never, self.bounded)
        merger = [index for index, late in enumerate(self.space.merger) if late]
        others = [index for index, late in enumerate(self.space.merger) if not late]
        split = never == "bernoulli" and bool(merger)
        self.chance = _Odds(members, (len(self.features), *self.chance_hidden, 1), self.chance_gain) if split else None
        self.first = (
            _Factor(self, others if split else range(len(names)), int(split), seed) if others or not split else None
        )
        self.second = _Factor(self, merger, len(others), seed + 1) if split else None
        self._initialise()

    def _check(self) -> None:
        if not self.hidden or not self.condition:
            raise ConfigError("hidden and condition cannot be empty", expected="widths of 1 or more")
        for name, widths in (("hidden", self.hidden), ("condition", self.condition), ("chance", self.chance_hidden)):
            require_counts(**{f"{name} width {index}": width for index, width in enumerate(widths)})
        if self.never not in ("bernoulli", "sentinel"):
            raise ConfigError(f"never is {self.never!r}", expected="bernoulli or sentinel")
        if self.initial not in ("fan-in", "published"):
            raise ConfigError(f"initial is {self.initial!r}", expected="fan-in or published")
        if not 0 < self.chance_gain <= 1000:
            raise ConfigError(f"chance_gain is {self.chance_gain}", expected="a positive number up to 1000")
        if not 0 <= self.label_noise <= 1:
            raise ConfigError(f"label_noise is {self.label_noise}", expected="0 to 1")

    def _initialise(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        for part in (self.chance, self.first, self.second):
            if part is not None:
                part.reset(generator)
        if self.initial == "published":
            for parameter in self.parameters():
                nn.init.normal_(parameter, 0.0, 0.01, generator=generator)

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count the weights of condition network and blocks that the settings ask for, roughly."""
        condition, hidden = list(settings.get("condition", [128])), list(settings.get("hidden", [128]))
        net = sum(a * b for a, b in itertools.pairwise([len(settings["features"]), *condition]))
        block = sum(a * b for a, b in itertools.pairwise([condition[-1], *hidden, int(settings.get("bins", 8))]))
        return int(settings.get("members", 1)) * (net + int(settings.get("blocks", 1)) * block)

    def check_targets(self, y: NDArray[Any]) -> None:
        """Raise `DataError` unless y, (n, T), or (n,) for one target, can be trained on; see `TargetSpace.check`."""
        self.space.check(y)

    def fit_targets(self, y: Tensor) -> None:
        """Fit the targets' standardisation to training rows, (n, T) or (n,), registry units."""
        rows = y.unsqueeze(-1) if y.dim() == 1 else y
        self.space.fit(rows)
        if self.chance is not None:
            # few galaxies are without a merger: starting at their share saves the steps of finding it
            share = rows[:, self.space.merger.index(True)].isnan().double().mean().clamp(1e-4, 1 - 1e-4)
            with torch.no_grad():
                self.chance.biases[-1].fill_(float(torch.logit(share)))

    def forward(self, context: Tensor) -> JointDistribution:
        """Condition on features (n, d) or (E, n, d); see `Estimator.forward`.

        Returns
        -------
        JointDistribution
            Batch shape (E, n), event shape (T,).
        """
        return JointDistribution(self, self.scaled(context).mT)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {
            "features": list(self.features),
            "targets": list(self.targets),
            "members": self.members,
            "coupling": self.coupling,
            "blocks": self.blocks,
            "hidden": list(self.hidden),
            "condition": list(self.condition),
            "chance": list(self.chance_hidden),
            "chance_gain": self.chance_gain,
            "clamp": self.clamp,
            "bins": self.bins,
            "never": self.never,
            "bounded": self.bounded,
            "initial": self.initial,
            "label_noise": self.label_noise,
            "seed": self.seed,
        }
