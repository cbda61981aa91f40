"""Several targets at once: conditional invertible networks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from galineage.models.base import Estimator
from galineage.models.joint_distribution import JointDistribution
from galineage.models.joint_head import JointParts
from galineage.models.targets import check_target_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["JointDistribution", "JointFlow"]


class JointFlow(JointParts, Estimator):
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
    joint = True

    def __init__(self, features: Sequence[str], targets: Sequence[str] | str, members: int = 5, **flow: Any) -> None:
        names = check_target_names(targets)
        super().__init__(features, names[0], members)
        self.targets = names
        self.build(len(self.features), **flow)

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count the weights of condition network and blocks that the settings ask for, roughly."""
        condition, hidden = list(settings.get("condition", [128])), list(settings.get("hidden", [128]))
        net = sum(a * b for a, b in itertools.pairwise([len(settings["features"]), *condition]))
        block = sum(a * b for a, b in itertools.pairwise([condition[-1], *hidden, int(settings.get("bins", 8))]))
        return int(settings.get("members", 1)) * (net + int(settings.get("blocks", 1)) * block)

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
        own = {"features": list(self.features), "targets": list(self.targets), "members": self.members}
        return {**own, **self.flow_settings()}
