"""Convolutional encoders, maps in, a short vector out: the paper's (Table A2), its code's, smaller ones, for images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError
from galineage.models.image_encoders import RepresentationEncoder, ResidualEncoder
from galineage.models.pooling import QuickDropout, RectifiedPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ENCODERS", "PublishedEncoder", "SmallEncoder", "make_encoder"]

_INITIAL = (("normal", "normal"), ("normal", "normal"), ("normal", "glorot"), ("truncated", "normal"),
            ("truncated", "glorot"))  # fmt: skip
"""Dense and convolutional initialisers of the five members in the authors' code."""


class PublishedEncoder(nn.Module):
    """Three convolutions and a dense layer of 512 (Angeloudi+2023, Table A2).

    Each convolution is followed by a rectifier, maximum pooling by 2, batch normalisation and dropout. With the dense
    layer of 2 that follows it has 8,452,290 parameters for five channels of 128 pixels, as printed in the table
    (running statistics count). The text of section 3.1 has other numbers of filters; the table's are those that its
    parameter counts prove.

    Parameters
    ----------
    channels, pixels : int
        Of the maps.
    dropout : float
        Rate; the authors' code has 0.2, the paper none.
    as_code : bool
        As in the authors' code: no dropout after the dense layer, which is followed by one of 10, both with an L2
        penalty of 1e-3.
    """

    def __init__(self, channels: int, pixels: int, dropout: float = 0.2, *, as_code: bool = False) -> None:
        super().__init__()
        if pixels < 8:
            raise ConfigError(f"maps of {pixels} pixels cannot be halved three times", expected="8 or more")
        layers: list[nn.Module] = []
        for before, after, size in ((channels, 32, 5), (32, 64, 3), (64, 64, 3)):
            layers += [nn.Conv2d(before, after, size, padding="same"), RectifiedPool(), nn.Identity(),
                       _norm(nn.BatchNorm2d(after)), QuickDropout(dropout)]  # fmt: skip
        self.convolutions = nn.Sequential(*layers)
        flat = 64 * (pixels // 8) ** 2
        dense: list[nn.Module] = [nn.Linear(flat, 512), nn.ReLU(), _norm(nn.BatchNorm1d(512))]
        dense += [nn.Linear(512, 10), nn.ReLU()] if as_code else [QuickDropout(dropout)]
        self.dense = nn.Sequential(*dense)
        self.width = 10 if as_code else 512
        self.penalty = 1e-3 if as_code else 0.0

    def features(self, maps: Tensor) -> Tensor:
        """Return the last convolution's output (n, 64, s/8, s/8), no unit."""
        return self.convolutions(maps)  # type: ignore[no-any-return]

    def forward(self, maps: Tensor) -> Tensor:
        """Return (n, width) of maps (n, channels, s, s), no units."""
        # rows, columns, channels: as Keras flattens
        return self.dense(self.features(maps).permute(0, 2, 3, 1).flatten(1))  # type: ignore[no-any-return]

    def squares(self) -> Tensor:
        """Return the L2 penalty of the dense layers' weights, a scalar without unit; 0 as in the paper."""
        weights = [layer.weight.square().sum() for layer in self.dense if isinstance(layer, nn.Linear)]
        return self.penalty * torch.stack(weights).sum()

    @torch.no_grad()
    def reset(self, generator: torch.Generator, member: int) -> None:
        """Draw initial weights as the authors' code does for this member."""
        kinds = _INITIAL[member % len(_INITIAL)]
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                _draw(layer, kinds[isinstance(layer, nn.Conv2d)], generator)


class SmallEncoder(nn.Module):
    """Strided convolutions with residuals, means and maxima over the field: a fortieth of the weights.

    The first convolution takes steps of two, so that little is computed at full resolution; SiLU; three stages of 24,
    48 and 96 channels. Values are normalised in groups of eight channels of each galaxy (Wu & He 2018), not over the
    batch: what is said of a galaxy does not depend on the others, in training either, and runs of a few steps per epoch
    need no average to settle. What is found is averaged over the field, and its largest value kept beside, so that a
    galaxy may lie a few pixels off and the number of pixels is free.

    Parameters
    ----------
    channels, pixels : int
        Of the maps.
    dropout : float
        Rate before the last layer.
    widths : tuple of int
        Channels of the stages, multiples of 8.
    """

    def __init__(
        self, channels: int, pixels: int, dropout: float = 0.1, *, widths: tuple[int, ...] = (24, 48, 96)
    ) -> None:
        super().__init__()
        least = 2 ** (len(widths) + 1)
        if pixels < least:
            raise ConfigError(f"maps of {pixels} pixels are too small", expected=f"{least} or more")
        if not widths or any(width % 8 or not 8 <= width <= 1024 for width in widths):
            raise ConfigError(f"widths are {list(widths)}", expected="multiples of 8 up to 1024, one for each stage")
        first = widths[0]
        layers: list[nn.Module] = [nn.Conv2d(channels, first, 5, 2, 2, bias=False), _grouped(first), nn.SiLU()]
        before = first
        for width in widths:
            layers += [_Stage(before, width)]
            before = width
        self.convolutions = nn.Sequential(*layers)
        self.pooled_width = 2 * before
        self.dense = nn.Sequential(nn.Linear(2 * before, 64), nn.SiLU(), QuickDropout(dropout))
        self.width = 64

    def features(self, maps: Tensor) -> Tensor:
        """Return the last convolution's output (n, 96, s/16, s/16), no unit."""
        return self.convolutions(maps)  # type: ignore[no-any-return]

    def pooled(self, maps: Tensor) -> Tensor:
        """Return means and maxima over the field of what is found (n, 192), no unit."""
        found = self.features(maps)
        return torch.cat([found.mean((2, 3)), found.amax((2, 3))], dim=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (n, width) of maps (n, channels, s, s), no units."""
        return self.dense(self.pooled(maps))  # type: ignore[no-any-return]

    def squares(self) -> Tensor:
        """Return no penalty: 0, a scalar without unit."""
        return torch.zeros(())

    @torch.no_grad()
    def reset(self, generator: torch.Generator, member: int) -> None:
        """Draw initial weights (He+2015), the same for every member but for the generator."""
        del member
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()


class _Stage(nn.Module):
    """Halve the map, then refine what is there."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), _grouped(after), nn.SiLU())
        self.more = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), _grouped(after), nn.SiLU())

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, after, s/2, s/2) of (n, before, s, s), no units."""
        values = self.down(values)
        return values + self.more(values)  # type: ignore[no-any-return]


def _grouped(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // 8, width)


def _norm(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    """Give batch normalisation the momentum and epsilon that it has in Keras."""
    layer.momentum, layer.eps = 0.01, 1e-3
    return layer


def _draw(layer: nn.Linear | nn.Conv2d, kind: str, generator: torch.Generator) -> None:
    if kind == "normal":
        nn.init.normal_(layer.weight, 0.0, 0.2, generator=generator)
    elif kind == "truncated":
        nn.init.trunc_normal_(layer.weight, 0.0, 0.05, -0.1, 0.1, generator=generator)
    else:
        nn.init.xavier_uniform_(layer.weight, generator=generator)
    if layer.bias is not None:
        layer.bias.zero_()


Encoder = PublishedEncoder | SmallEncoder | RepresentationEncoder


def _published(channels: int, pixels: int, dropout: float, widths: Sequence[int]) -> Encoder:
    _refuse(widths, "table-a2")
    return PublishedEncoder(channels, pixels, dropout)


def _as_code(channels: int, pixels: int, dropout: float, widths: Sequence[int]) -> Encoder:
    _refuse(widths, "code")
    return PublishedEncoder(channels, pixels, dropout, as_code=True)


def _small(channels: int, pixels: int, dropout: float, widths: Sequence[int]) -> Encoder:
    return SmallEncoder(channels, pixels, dropout, widths=tuple(widths) or (24, 48, 96))


def _representation(channels: int, pixels: int, dropout: float, widths: Sequence[int]) -> Encoder:
    trunk = SmallEncoder(channels, pixels, dropout, widths=tuple(widths) or (32, 64, 128))
    del trunk.dense  # its own last layer
    return RepresentationEncoder(trunk)


def _resnet(channels: int, pixels: int, dropout: float, widths: Sequence[int]) -> Encoder:
    del dropout  # it has none
    return RepresentationEncoder(ResidualEncoder(channels, pixels, widths))


def _refuse(widths: Sequence[int], name: str) -> None:
    if widths:
        raise ConfigError(f"encoder {name!r} has its own widths", advice="leave them out")


ENCODERS: dict[str, Callable[[int, int, float, Sequence[int]], Encoder]] = {
    "table-a2": _published,
    "code": _as_code,
    "small": _small,
    "representation": _representation,
    "resnet18": _resnet,
}
"""Every encoder by name: called with channels, pixels, the dropout rate, and widths of its stages (empty: its own).

The last two end in a representation of 256 numbers, for images; the first of them has the convolutions of ``small``.
"""


def make_encoder(name: str, channels: int, pixels: int, dropout: float, widths: Sequence[int] = ()) -> Encoder:
    """Build an encoder.

    Parameters
    ----------
    name : str
        A key of `ENCODERS`.
    channels, pixels : int
        Of the maps.
    dropout : float
        Rate.
    widths : sequence of int
        Channels of the stages of ``small``, ``representation`` and ``resnet18``; empty for their own.

    Raises
    ------
    ConfigError
        If there is none of this name, or the maps do not fit it.
    """
    if name not in ENCODERS:
        raise ConfigError(f"there is no encoder called {name!r}", expected="one of " + ", ".join(ENCODERS))
    return ENCODERS[name](channels, pixels, dropout, widths)
