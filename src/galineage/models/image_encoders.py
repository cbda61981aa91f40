"""Encoders for images: a residual network of 18 layers, and what turns convolutions into a representation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RepresentationEncoder", "ResidualEncoder", "dense_layers"]

REPRESENTATION = 256
"""Numbers in a representation (Eisert+2024)."""


class Trunk(Protocol):
    """Convolutions whose findings are taken together over the field."""

    pooled_width: int

    def features(self, maps: Tensor) -> Tensor:
        """Return the last convolution's output (n, k, h, w), no unit."""

    def pooled(self, maps: Tensor) -> Tensor:
        """Return that, taken together over the field (n, pooled_width), no unit."""

    def reset(self, generator: torch.Generator, member: int) -> None:
        """Draw initial weights."""


class _Block(nn.Module):
    """Two convolutions and what goes past them (He+2016, Fig. 5 left)."""

    def __init__(self, before: int, after: int, step: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, step, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.past = (
            nn.Identity()
            if step == 1 and before == after
            else nn.Sequential(nn.Conv2d(before, after, 1, step, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, after, h/step, w/step) of (n, before, h, w), no units."""
        found = torch.relu(self.norm1(self.first(values)))
        return torch.relu(self.norm2(self.second(found)) + self.past(values))


class ResidualEncoder(nn.Module):
    """ResNet-18 (He+2016, Table 1): a convolution of 7 x 7, four stages of two blocks, the mean over the field.

    Of images below 64 pixels the first convolution is 3 x 3 with step 1 and nothing is pooled before the stages, as is
    usual for small images (He+2016, section 4.2).

    Parameters
    ----------
    channels, pixels : int
        Of the images.
    widths : sequence of int
        Channels of the four stages; empty for 64, 128, 256, 512.
    """

    def __init__(self, channels: int, pixels: int, widths: Sequence[int] = ()) -> None:
        super().__init__()
        stages = tuple(widths) or (64, 128, 256, 512)
        if pixels < 2 ** len(stages) or any(not 1 <= width <= 2048 for width in stages):
            raise ConfigError(f"images of {pixels} pixels, stages of {list(stages)}", expected="16 pixels or more")
        first = stages[0]
        stem: list[nn.Module] = (
            [nn.Conv2d(channels, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
            if pixels >= 64
            else [nn.Conv2d(channels, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU()]
        )
        before = first
        for number, width in enumerate(stages):
            stem += [_Block(before, width, 1 + (number > 0)), _Block(width, width, 1)]
            before = width
        self.convolutions = nn.Sequential(*stem)
        self.pooled_width = before

    def features(self, maps: Tensor) -> Tensor:
        """Return the last convolution's output (n, 512, h, w), no unit."""
        return self.convolutions(maps)  # type: ignore[no-any-return]

    def pooled(self, maps: Tensor) -> Tensor:
        """Return its mean over the field (n, 512), no unit."""
        return self.features(maps).mean((2, 3))

    @torch.no_grad()
    def reset(self, generator: torch.Generator, member: int) -> None:
        """Draw initial weights (He+2015), the same way for every member."""
        del member
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)


def dense_layers(before: int, width: int, count: int, *, normalise: bool = False) -> list[nn.Module]:
    """Return ``count`` times a rectifier and a dense layer, as the heads of Eisert+2024 are built.

    With ``normalise`` batch normalisation comes before each rectifier.
    """
    found: list[nn.Module] = []
    for _ in range(count):
        found += [nn.BatchNorm1d(before)] if normalise else []
        found += [nn.ReLU(), nn.Linear(before, width)]
        before = width
    return found


class RepresentationEncoder(nn.Module):
    """A trunk, a dense layer and two more with rectifiers before them: the representation of Eisert+2024.

    Parameters
    ----------
    trunk : Trunk
        Convolutions.
    width : int
        Numbers in a representation.
    """

    def __init__(self, trunk: nn.Module, width: int = REPRESENTATION) -> None:
        super().__init__()
        self.trunk = trunk
        known: Trunk = trunk  # type: ignore[assignment]
        self.dense = nn.Sequential(nn.Linear(known.pooled_width, width), *dense_layers(width, width, 2))
        self.width = width

    def features(self, maps: Tensor) -> Tensor:
        """Return the last convolution's output (n, k, h, w), no unit."""
        return self.trunk.features(maps)  # type: ignore[no-any-return, operator]

    def forward(self, maps: Tensor) -> Tensor:
        """Return representations (n, width) of images (n, channels, s, s), no units."""
        return self.dense(self.trunk.pooled(maps))  # type: ignore[no-any-return, operator]

    def squares(self) -> Tensor:
        """Return no penalty: 0, a scalar without unit."""
        return torch.zeros(())

    @torch.no_grad()
    def reset(self, generator: torch.Generator, member: int) -> None:
        """Draw initial weights: those of the trunk, and dense layers (He+2015)."""
        self.trunk.reset(generator, member)  # type: ignore[operator]
        reset_dense(self.dense, generator)


@torch.no_grad()
def reset_dense(layers: nn.Module, generator: torch.Generator) -> None:
    """Draw weights of dense layers that rectifiers precede (He+2015); offsets are 0."""
    for layer in layers.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            layer.bias.zero_()
