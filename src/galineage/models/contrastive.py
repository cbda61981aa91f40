"""The network of contrastive learning: images in, a representation and its projection out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from galineage.errors import ConfigError, DataError
from galineage.models.base import require_counts
from galineage.models.encoders import make_encoder
from galineage.models.image_encoders import REPRESENTATION, RepresentationEncoder, dense_layers, reset_dense

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from galineage.models.map_inputs import MapInputs

__all__ = ["ContrastiveNetwork"]

_BATCH = 256
_ENCODERS = ("representation", "resnet18")


class ContrastiveNetwork(nn.Module):
    """An encoder whose 256 numbers are the representation of an image, and a head for the loss alone (Eisert+2024).

    Parameters
    ----------
    channels : sequence of str
        Bands of the images, in their order.
    pixels : int
        On each side.
    encoder : str
        ``representation`` (for CPUs) or ``resnet18``; see `galineage.models.encoders.ENCODERS`.
    widths : sequence of int
        Channels of the encoder's stages; empty for its own.
    projection : int
        Numbers that the loss sees: two times a rectifier and a dense layer after the representation.
    normalise : bool
        Whether batch normalisation comes before each rectifier of that head, as in Dwibedi+2021. The authors' code of
        Eisert+2024 has none: without it training began with twelve epochs in which all images of 1,500 real galaxies
        looked alike.
    recipe : mapping, optional
        How the images were made, in JSON values: what must be the same for images that the network is applied to.
    seed : int
        Of the initial weights.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    def __init__(
        self,
        channels: Sequence[str],
        pixels: int,
        *,
        encoder: str = "representation",
        widths: Sequence[int] = (),
        projection: int = REPRESENTATION,
        normalise: bool = True,
        recipe: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_counts(pixels=pixels, projection=projection)
        self.channels, self.pixels, self.encoder_name = tuple(channels), pixels, encoder
        self.widths, self.projection = tuple(int(width) for width in widths), projection
        self.recipe, self.seed, self.normalise = dict(recipe or {}), int(seed), bool(normalise)
        if not self.channels or len(set(self.channels)) < len(self.channels):
            raise ConfigError(f"bands are {self.channels}", expected="one or more, each once")
        if encoder not in _ENCODERS:  # before it is built: others grow with the image
            raise ConfigError(f"encoder {encoder!r} ends in no representation", expected=", ".join(_ENCODERS))
        generator = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):  # layers draw weights of their own first, which are replaced
            made = make_encoder(encoder, len(self.channels), pixels, 0.0, self.widths)
            if not isinstance(made, RepresentationEncoder):
                raise ConfigError(f"encoder {encoder!r} ends in no representation", expected=", ".join(_ENCODERS))
            self.encoder = made
            self.head = nn.Sequential(*dense_layers(made.width, projection, 2, normalise=self.normalise))
        made.reset(generator, 0)
        reset_dense(self.head, generator)

    @property
    def width(self) -> int:
        """Numbers in a representation."""
        return self.encoder.width

    def forward(self, images: Tensor) -> Tensor:
        """Return projections (n, projection), no unit, of images (n, bands, s, s), no unit."""
        return self.head(self.encoder(images))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def represent(self, inputs: MapInputs) -> NDArray[np.float32]:
        """Return the representations of images.

        Parameters
        ----------
        inputs : MapInputs
            Images of n rows, from a catalogue of views.

        Returns
        -------
        array (n, 256) of float32
            No unit. A row does not depend on the others.

        Raises
        ------
        DataError
            If the images have other bands or pixels, or were made in another way than those that the network knows.
        """
        self.check(inputs)
        training = self.training
        self.eval()
        found = np.empty((len(inputs), self.width), dtype=np.float32)
        device = next(self.parameters()).device
        for start in range(0, len(inputs), _BATCH):
            images = inputs[start : start + _BATCH].to(device).float()
            images = images.contiguous(memory_format=torch.channels_last)
            found[start : start + _BATCH] = self.encoder(images).cpu().numpy()
        self.train(training)
        return found

    def check(self, inputs: MapInputs) -> None:
        """Raise `DataError` unless images (n, bands, s, s), no unit, are what the network takes."""
        recipe = inputs.maps.recipe
        differences = [name for name in self.recipe if recipe.get(name) != self.recipe[name]]
        if tuple(inputs.maps.channels) != self.channels:
            differences.append(f"bands {', '.join(inputs.maps.channels)}")
        if len(inputs) and inputs.pixels != self.pixels:
            differences.append(f"{inputs.pixels} pixels")
        if differences:
            raise DataError(
                f"the images were made otherwise than those that the network knows: {', '.join(differences)}",
                expected=f"{', '.join(self.channels)}; {self.pixels} pixels; {self.recipe}",
                advice="prepare them with the settings that the network's card names",
            )

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {
            "channels": list(self.channels),
            "pixels": self.pixels,
            "encoder": self.encoder_name,
            "widths": list(self.widths),
            "projection": self.projection,
            "normalise": self.normalise,
            "recipe": self.recipe,
            "seed": self.seed,
        }
