"""Adam for networks side by side: gradients of all weights in one table, clipped for each member by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

__all__ = ["MemberAdam"]

_BETAS = 0.9, 0.999
_EPS = 1e-8


class MemberAdam:
    """Adam (Kingma & Ba 2015, algorithm 1) on one table (members, weights) in place of many tensors.

    For networks this small the start of an operation costs more than its arithmetic: a step of `torch.optim.Adam` over
    the tensors one by one takes as long as the networks themselves.

    Parameters
    ----------
    parameters : sequence of Parameter (E, ...)
        What is trained; the members are the leading dimension of each.
    weight_decay : float
        L2 penalty.
    clip_norm : float
        Largest norm of the gradient over all weights of one member.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float, clip_norm: float) -> None:
        self.parameters, self.weight_decay, self.clip_norm = list(parameters), weight_decay, clip_norm
        self._tensors = [part.detach() for part in self.parameters]
        self.table = torch.cat([part.flatten(1) for part in self._tensors], dim=1)
        self.gradient = torch.zeros_like(self.table)
        self.mean, self.square, self.steps = torch.zeros_like(self.table), torch.zeros_like(self.table), 0
        sizes = [part[0].numel() for part in self._tensors]
        self._columns = [
            columns.unflatten(1, part.shape[1:])
            for columns, part in zip(self.table.split(sizes, dim=1), self._tensors, strict=True)
        ]

    def take(self, loss: Tensor) -> Tensor:
        """Find the gradient of a loss () in nats, clip it, and return squared norms (E,) before clipping."""
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        with torch.no_grad():
            parts = [
                (torch.zeros_like(part) if slope is None else slope).flatten(1)
                for part, slope in zip(self._tensors, found, strict=True)
            ]
            self.gradient = torch.cat(parts, dim=1)
            squares = self.gradient.square().sum(1)
            factor = (self.clip_norm / (squares.sqrt() + 1e-6)).clamp_max(1.0)
            self.gradient *= factor.unsqueeze(1)
        return squares

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the weights by the gradient taken last, with a learning rate."""
        if self.weight_decay:
            self.gradient.add_(self.table, alpha=self.weight_decay)
        self.steps += 1
        self.mean.lerp_(self.gradient, 1 - _BETAS[0])
        self.square.mul_(_BETAS[1]).addcmul_(self.gradient, self.gradient, value=1 - _BETAS[1])
        spread = self.square.sqrt().mul_((1 - _BETAS[1] ** self.steps) ** -0.5).add_(_EPS)
        self.table.addcdiv_(self.mean, spread, value=-rate / (1 - _BETAS[0] ** self.steps))
        torch._foreach_copy_(self._tensors, self._columns)

    def state(self) -> dict[str, Tensor]:
        """Return the moments (E, weights), no unit, and the number of steps (), by name."""
        return {"mean": self.mean, "square": self.square, "steps": torch.tensor(self.steps)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a `state` (shapes and units as there), after the weights have been put back."""
        self.table.copy_(torch.cat([part.flatten(1) for part in self._tensors], dim=1))
        self.mean, self.square = (state[name].to(self.table.device) for name in ("mean", "square"))
        self.steps = int(state["steps"])
