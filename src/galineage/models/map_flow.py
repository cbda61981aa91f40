"""Several targets at once from maps: convolutional encoders whose findings condition invertible networks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError
from galineage.models.joint_head import JointHead
from galineage.models.map_network import MapNetwork
from galineage.models.targets import check_target_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from galineage.models.joint_distribution import JointDistribution

__all__ = ["MapFlow"]


class MapFlow(MapNetwork):
    """An ensemble of convolutional networks with the joint density of `galineage.models.JointFlow` as their head.

    Encoder and flow of a member are trained together, one member after another.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of inputs beside the maps; may be empty.
    targets : sequence of str, length T, or str
        Field names of the targets. ``t_last_major`` and ``mstar_last_major`` are undefined, NaN, for a galaxy that
        never had a major merger.
    members : int
        Networks in the ensemble.
    flow : mapping
        Settings of the joint density, see `galineage.models.JointFlow`: coupling, blocks, hidden, condition, never ...
    **maps
        Settings of `MapNetwork` but for its head.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    kind = "maps-joint"
    joint = True

    def __init__(
        self,
        features: Sequence[str] = (),
        targets: Sequence[str] | str = ("f_ex",),
        members: int = 5,
        *,
        flow: Mapping[str, Any] | None = None,
        **maps: Any,
    ) -> None:
        if "head" in maps:
            raise ConfigError("a network for several targets has no head", advice="give settings of its flow")
        self._names, self._flow = check_target_names(targets), dict(flow or {})
        super().__init__(features, self._names[0], members, **maps)
        self.targets = self._names
        # all members side by side, with their weights put in whenever it is asked: the draws of all in one pass
        self._together = [self._head(members, 0)]

    def _check_head(self) -> None:
        """There is none."""

    def _head(self, members: int, weights_seed: int) -> JointHead:
        # permutations are those of one seed, so that members can be put side by side
        settings = {"seed": self.seed, **self._flow}
        return JointHead(self._widths, self._names, members, weights_seed=weights_seed, **settings)

    def _answering(self, width: int, member: int, generator: torch.Generator) -> nn.Module:
        del member
        self._widths = width + len(self.features)
        return self._head(1, int(torch.randint(2**31, (1,), generator=generator)))

    def check_targets(self, y: NDArray[Any]) -> None:
        """Raise `DataError` unless y, (n, T), or (n,) for one target, can be trained on; see `TargetSpace.check`."""
        self._part(0, "last").check_targets(y)

    def fit_targets(self, y: Tensor) -> None:
        """Fit every member's standardisation of the targets to training rows, (n, T) or (n,), registry units."""
        for index in range(self.members):
            self._part(index, "last").fit_targets(y)

    def answer_of(self, index: int, hidden: Tensor) -> JointDistribution:
        """Turn what a member's flow sees (n, width + d), no unit, into a distribution, batch shape (1, n)."""
        return self._part(index, "last")(hidden[None])  # type: ignore[no-any-return]

    def answer(self, representation: Tensor) -> JointDistribution:
        """Turn (E, n, width + d), no unit, into the distribution, batch shape (E, n); see `Estimator.answer`."""
        together = self._together[0].to(representation.device).train(self.training)
        heads = [self._part(index, "last") for index in range(self.members)]
        for path, whole in together.named_modules():
            parts = [head.get_submodule(path) for head in heads]
            for name in whole._parameters:
                # tensors in the place of parameters: gradients go on to the members' own
                whole._parameters[name] = torch.cat([getattr(part, name) for part in parts])
        together.space.load_state_dict(heads[0].space.state_dict())
        return together(representation)  # type: ignore[no-any-return]

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        own = {name: value for name, value in super().settings().items() if name not in ("head", "target")}
        return {**own, "targets": list(self.targets), "flow": self._part(0, "last").flow_settings()}

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count roughly the weights that settings ask for."""
        flow = settings.get("flow") or {}
        condition, hidden = list(flow.get("condition", [128])), list(flow.get("hidden", [128]))
        block = sum(a * b for a, b in itertools.pairwise([condition[-1], *hidden, int(flow.get("bins", 8))]))
        net = sum(a * b for a, b in itertools.pairwise([512, *condition]))
        flows = int(settings.get("members", 1)) * (net + int(flow.get("blocks", 1)) * block)
        return super().count_numbers(settings) + flows
