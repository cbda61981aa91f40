"""The parts of a joint density of several targets given some numbers of each galaxy, for whatever finds these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError
from galineage.models.base import require_counts
from galineage.models.coupling import ColumnNet, Conditioned, CouplingFlow
from galineage.models.joint_distribution import JointDistribution
from galineage.models.targets import Never, TargetSpace, check_target_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["JointHead", "JointParts"]


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

    def __init__(self, owner: JointParts, columns: Sequence[int], extra: int, seed: int) -> None:
        super().__init__()
        self.columns = list(columns)
        self.net = ColumnNet(owner.members, (owner.width, *owner.condition))
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
        """Condition on what is known of each galaxy, columns (E, width, n)."""
        return self.flow.condition(self.net(context))


class JointParts:
    """Chance of "never", flow of the other targets, flow of the merger's; `galineage.models.JointFlow` says what for.

    A class of its own, beside whichever module owns the weights, so that their names stay those of saved models.
    """

    members: int
    width: int
    targets: tuple[str, ...]
    training: bool

    def build(
        self,
        width: int,
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
        weights_seed: int | None = None,
    ) -> None:
        """Make the parts, for ``width`` numbers of each galaxy; ``weights_seed`` draws weights, ``seed`` permutations.

        Raises
        ------
        ConfigError
            If a setting is out of its range.
        """
        self.width = width
        self.coupling, self.blocks, self.clamp, self.bins = coupling, blocks, float(clamp), bins
        self.hidden, self.condition = tuple(hidden), tuple(condition)
        self.chance_hidden = self.condition[:-1] if chance is None else tuple(chance)
        self.chance_gain = float(chance_gain)
        self.never, self.bounded, self.initial = never, bool(bounded), initial
        self.label_noise, self.seed = float(label_noise), int(seed)
        self._check()
        self.space = TargetSpace(self.targets, never, self.bounded)
        merger = [index for index, late in enumerate(self.space.merger) if late]
        others = [index for index, late in enumerate(self.space.merger) if not late]
        split = never == "bernoulli" and bool(merger)
        self.chance = _Odds(self.members, (width, *self.chance_hidden, 1), self.chance_gain) if split else None
        self.first = (
            _Factor(self, others if split else range(len(self.targets)), int(split), seed)
            if others or not split
            else None
        )
        self.second = _Factor(self, merger, len(others), seed + 1) if split else None
        self._initialise(seed if weights_seed is None else weights_seed)

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

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        parts = [part for part in (self.chance, self.first, self.second) if part is not None]
        for part in parts:
            part.reset(generator)
        if self.initial == "published":
            for parameter in (parameter for part in parts for parameter in part.parameters()):
                nn.init.normal_(parameter, 0.0, 0.01, generator=generator)

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

    def flow_settings(self) -> dict[str, Any]:
        """Return the arguments of `build` but for the width, as JSON values."""
        return {
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


class JointHead(JointParts, nn.Module):
    """A joint density of several targets given hidden values of a network, such as one that sees maps.

    Parameters
    ----------
    width : int
        Hidden values of each galaxy.
    targets : sequence of str, length T, or str
        Field names.
    members : int
        Networks side by side.
    **flow
        Settings of `galineage.models.JointFlow`.
    """

    def __init__(self, width: int, targets: Sequence[str] | str, members: int = 1, **flow: Any) -> None:
        super().__init__()
        require_counts(width=width, members=members)
        self.members, self.targets = members, check_target_names(targets)
        self.build(width, **flow)

    def forward(self, hidden: Tensor) -> JointDistribution:
        """Condition on hidden values (E, n, width), no unit; batch shape (E, n), event shape (T,)."""
        return JointDistribution(self, hidden.mT)
