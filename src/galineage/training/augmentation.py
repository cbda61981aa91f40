"""Two looks at one galaxy: random turns, shifts, zooms, flips, blur and noise of a batch, on its device."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from galineage.errors import ConfigError

__all__ = ["Augmentation", "augment"]

_NO_BLUR = 0.2
"""Pixels of blur below which a Gaussian has less than 2e-5 outside of its central pixel."""


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew for every image.

    The numbers are those of Eisert+2024 (their public code) but for the rotation: their encoder treats turns by 45
    degrees alike, ours does not, so all angles are shown to it. `Augmentation.published` has 15 degrees.

    Attributes
    ----------
    rotation : float, degrees
        Largest turn either way.
    shift : float
        Largest shift along each axis, of the side.
    zoom : float
        Largest magnification, 1 or more.
    flips : bool
        Along both axes.
    blur : (float, float), pixels
        Standard deviation of a Gaussian, smallest and largest. Below 0.2 pixels it changes no pixel by more than
        2e-5, and is left out.
    noise : (float, float)
        Standard deviation of Gaussian noise, in units of the stretched image, which spans 1.
    gain : float
        Largest relative change of each band's values. 0 as published, for images whose bands are stretched one by one;
        for pictures that keep their colours 0.5 is usual (SimCLR, Chen+2020): with the colour alone every galaxy
        would be found again, and shapes not be learned.

    Raises
    ------
    ConfigError
        If a number is not possible.
    """

    rotation: float = 180.0
    shift: float = 0.25
    zoom: float = 1.1
    flips: bool = True
    blur: tuple[float, float] = (1e-4, 0.1)
    noise: tuple[float, float] = (0.01, 0.08)
    gain: float = 0.0

    def __post_init__(self) -> None:
        for name in ("blur", "noise"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        ranges = all(len(each) == 2 and 0 <= each[0] <= each[1] < math.inf for each in (self.blur, self.noise))
        possible = 0 <= self.rotation <= 180 and 0 <= self.shift <= 1 and 1 <= self.zoom <= 10 and 0 <= self.gain < 1
        if not (ranges and possible):
            raise ConfigError(
                f"impossible augmentation: {self}",
                expected="rotation 0 to 180, shift 0 to 1, zoom 1 to 10, blur and noise ascending, gain 0 up to 1",
            )

    @classmethod
    def published(cls) -> Augmentation:
        """Return the set-up of Eisert+2024's code."""
        return cls(rotation=15.0)

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {**asdict(self), "blur": list(self.blur), "noise": list(self.noise)}


def augment(images: Tensor, config: Augmentation, generator: torch.Generator) -> Tensor:
    """Show every image in another way.

    Turn, shift, zoom and flip are one resampling (bilinear); what comes in from beyond the edge is 0.

    Parameters
    ----------
    images : Tensor (n, bands, s, s)
        Stretched, in [0, 1], no unit.
    config : Augmentation
        Ranges.
    generator : torch.Generator
        On the CPU: of one call only the noise depends on the device, and with it what later calls draw.

    Returns
    -------
    Tensor (n, bands, s, s)
        Float32; not cut at 0 and 1.
    """
    images = images.float()
    places = functional.affine_grid(_matrices(len(images), config, generator).to(images.device), list(images.shape),
                                    align_corners=False)  # fmt: skip
    found = functional.grid_sample(images, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    if config.blur[1] >= _NO_BLUR:
        found = _blurred(found, _between(config.blur, len(images), generator).to(images.device))
    if config.gain:
        factor = _between((1 - config.gain, 1 + config.gain), images[:, :, 0, 0].numel(), generator)
        found = found * factor.reshape(*images.shape[:2], 1, 1).to(images.device)
    if config.noise[1] > 0:
        spread = _between(config.noise, len(images), generator).to(images.device)
        found = found.addcmul_(spread[:, None, None, None], _normal(found, generator))
    return found


def _between(limits: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(count, generator=generator)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    if like.device.type == "cpu":
        return torch.empty_like(like).normal_(generator=generator)
    own = torch.Generator(like.device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
    return torch.empty_like(like).normal_(generator=own)


def _matrices(count: int, config: Augmentation, generator: torch.Generator) -> Tensor:
    """Return for each image where its pixels come from (n, 2, 3), in half sides."""
    draw = torch.rand((6, count), generator=generator)
    angle = (2 * draw[0] - 1) * math.radians(config.rotation)
    scale = 1 / (1 + (config.zoom - 1) * draw[1])
    flips = torch.where(draw[2:4] < 0.5, 1.0, -1.0) if config.flips else torch.ones_like(draw[2:4])
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    matrix = torch.empty(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * flips[0], -sin * flips[0]
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * flips[1], cos * flips[1]
    matrix[:, :, 2] = (2 * draw[4:6].T - 1) * (2 * config.shift)
    return matrix


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Convolve each image (n, bands, s, s) with its own Gaussian, sigma (n,) in pixels; edges are continued."""
    reach = max(1, math.ceil(4 * float(sigma.max())))
    steps = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (steps / sigma[:, None].clamp_min(1e-3)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(images.dtype)
    count, bands, rows, columns = images.shape
    flat = images.transpose(0, 1)  # each galaxy is a group of its own
    for axis in (0, 1):
        shape = (count, 1, -1, 1) if axis == 0 else (count, 1, 1, -1)
        pad = (0, 0, reach, reach) if axis == 0 else (reach, reach, 0, 0)
        flat = functional.conv2d(functional.pad(flat, pad, mode="replicate"), kernel.reshape(shape), groups=count)
    return flat.transpose(0, 1).reshape(count, bands, rows, columns)
