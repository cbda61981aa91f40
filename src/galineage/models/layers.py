"""Layers that hold the weights of several networks side by side and evaluate them in one call.

Every tensor has the members as its leading dimension, so members share nothing. On a CPU the networks are trained by
`galineage.models.fused`, which does the same in fewer passes; docs/performance.md has the numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MemberBatchNorm", "MemberDropout", "MemberLinear"]


class MemberLinear(nn.Module):
    """One affine map per member.

    Parameters
    ----------
    members, inputs, outputs : int
        Number of networks, input and output widths.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def reset(self, generator: torch.Generator) -> None:
        """Draw weights uniformly within ``1/sqrt(inputs)``, biases alike (torch's default for linear layers)."""
        bound = self.weight.shape[1] ** -0.5
        for tensor in (self.weight, self.bias):
            nn.init.uniform_(tensor, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (members, n, inputs) to (members, n, outputs), in scaled units."""
        return torch.baddbmm(self.bias, x, self.weight)


class MemberBatchNorm(nn.Module):
    """Batch normalisation with separate statistics per member.

    Momentum and epsilon are Keras' defaults (0.99 and 1e-3), which the 2023 paper's framework used; torch's differ.

    Parameters
    ----------
    members, width : int
        Number of networks and of channels.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, members: int, width: int, momentum: float = 0.99, eps: float = 1e-3) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))
        self.register_buffer("running_mean", torch.zeros(members, 1, width))
        self.register_buffer("running_var", torch.ones(members, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (members, n, width) over the rows; uses running statistics in evaluation mode."""
        members, rows, width = x.shape
        # one call over all members' channels: batch statistics are per channel, so members stay apart
        y = nn.functional.batch_norm(
            x.transpose(0, 1).reshape(rows, members * width),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.weight.view(-1),
            self.bias.view(-1),
            self.training,
            1 - self.momentum,
            self.eps,
        )
        return y.view(rows, members, width).transpose(0, 1)


class MemberDropout(nn.Module):
    """Dropout whose mask differs between members and rows.

    Parameters
    ----------
    rate : float
        Probability to drop, in [0, 1); on a CPU it is rounded to the nearest of 1/256 to 255/256.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of (members, n, width) while training; survivors are scaled up to keep the mean."""
        if not (self.training and self.rate):
            return x
        if x.device.type != "cpu" or x.numel() % 8:
            return nn.functional.dropout(x, self.rate)
        # random bytes, eight from each 64-bit draw: half the time of torch's own dropout on a CPU
        words = torch.randint(-(2**63), 2**63 - 1, (x.numel() // 8,))
        drop = min(max(1, round(256 * self.rate)), 255)
        keep = words.view(torch.uint8).view(x.shape) >= drop
        return x * keep * (256 / (256 - drop))
