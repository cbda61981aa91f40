"""Convolutional networks with a distribution as output: from maps, or maps and a table's row, to a posterior."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from galineage.errors import ConfigError, DataError
from galineage.models.base import Estimator, require_counts
from galineage.models.encoders import make_encoder
from galineage.models.heads import Head, head_settings, make_head
from galineage.models.map_inputs import MapInputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch.distributions import Distribution

    from galineage.galaxy import Catalogue

__all__ = ["MapNetwork"]

_BATCH = 64
_RINGS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75)
"""Inner radii of the rings by which galaxies are compared, in half widths of a map."""
_MOST_WINDOW = 2**26


class MapNetwork(Estimator):
    """An ensemble of convolutional networks that look at a galaxy's maps.

    The context is one tensor (n, channels + d, s, s): the maps as a store has them, then for each of the d features a
    plane that holds its value everywhere. What a network may see of them, channels and aperture, is cut out here, so
    that it travels with the weights.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of inputs beside the maps; may be empty.
    target : str
        Field name of the target.
    members : int
        Networks in the ensemble; evaluated one after another, because vectorising convolutions over members is slower.
    channels : sequence of str
        Of the maps, in their order.
    seen : sequence of str, optional
        Those that the network sees; the others are set to 0, as published. Default: all.
    pixels : int
        On each side of a map.
    half_width : float, r_half
        From the centre of a map to its edge.
    aperture : float, r_half, optional
        Radius beyond which maps are set to 0 after standardisation, as published (whose "4, 2, 1 r_e" are diameters:
        2, 1, 0.5). Default: the whole map.
    encoder : str
        A key of `galineage.models.encoders.ENCODERS`.
    widths : sequence of int
        Channels of the stages of the encoder ``small``, multiples of 8. Default: 24, 48, 96.
    head : Head or mapping
        The distribution, see `galineage.models.heads`.
    dropout : float
        Rate.
    recipe : mapping, optional
        How the maps were made, in JSON values: what else must be the same for maps that the network is applied to.
    seed : int
        Of the initial weights.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    kind = "maps"
    sees_maps = True
    window: Tensor

    def __init__(
        self,
        features: Sequence[str] = (),
        target: str = "f_ex",
        members: int = 5,
        *,
        channels: Sequence[str] = ("mass", "velocity", "sigma", "metallicity", "age"),
        seen: Sequence[str] | None = None,
        pixels: int = 128,
        half_width: float = 2.0,
        aperture: float | None = None,
        encoder: str = "small",
        widths: Sequence[int] = (),
        head: Head | Mapping[str, Any] | None = None,
        dropout: float = 0.1,
        recipe: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(features, target, members)
        self.channels = tuple(channels)
        self.seen = self.channels if seen is None else tuple(seen)
        self.pixels, self.half_width, self.aperture = pixels, float(half_width), aperture
        self.encoder, self.widths = encoder, tuple(int(width) for width in widths)
        self.dropout, self.seed = float(dropout), int(seed)
        self.head = head if isinstance(head, Head) else make_head(head or {"kind": "bounded"})
        self.recipe = dict(recipe or {})
        self.started_from = ""
        self._check()
        generator = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):  # layers draw weights of their own first, which are replaced
            self.networks = nn.ModuleList(self._network(member, generator) for member in range(members))
        # made from the settings, so that no file need hold it
        self.register_buffer("window", self._window(), persistent=False)

    def _check(self) -> None:
        require_counts(pixels=self.pixels)
        if not 0 < self.half_width < np.inf:
            raise ConfigError(f"half_width is {self.half_width} r_half", expected="above 0")
        if not self.channels or len(set(self.channels)) < len(self.channels):
            raise ConfigError(f"channels are {self.channels}", expected="one or more, each once")
        if not self.seen or not set(self.seen) <= set(self.channels):
            raise ConfigError(f"the network is to see {self.seen}", expected="some of " + ", ".join(self.channels))
        if self.aperture is not None and not 0 < self.aperture <= 1.5 * self.half_width:
            raise ConfigError(
                f"the aperture is {self.aperture} r_half", expected=f"a radius up to {1.5 * self.half_width:g}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}", expected="0 up to, not including, 1")
        self._check_head()

    def _check_head(self) -> None:
        if self.head.bounded:
            self.require_fraction()

    def _network(self, member: int, generator: torch.Generator) -> nn.ModuleDict:
        encoder = make_encoder(self.encoder, len(self.channels), self.pixels, self.dropout, self.widths)
        encoder.reset(generator, member)
        return nn.ModuleDict({"encoder": encoder, "last": self._answering(encoder.width, member, generator)})

    def _answering(self, width: int, member: int, generator: torch.Generator) -> nn.Module:
        """Make what answers, given what a member's encoder finds and the features."""
        del member
        last = nn.Linear(width + len(self.features), self.head.outputs)
        with torch.no_grad():
            # a broad start: the head's own defaults, hardly moved by what is seen
            nn.init.normal_(last.weight, 0.0, 0.01, generator=generator)
            last.bias.zero_()
        return last

    def _window(self) -> Tensor:
        """Return what is seen (channels, s, s): 1, or 0."""
        seen = torch.tensor([float(name in self.seen) for name in self.channels])
        if self.aperture is None:
            return seen[:, None, None].expand(-1, self.pixels, self.pixels).clone()
        from galineage.views.masks import circle

        inside = torch.from_numpy(circle(self.aperture, self.pixels, self.half_width)).float()
        return seen[:, None, None] * inside

    def split(self, context: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Divide a context into what is seen of the maps (n, channels, s, s), no unit, and scaled features (n, d).

        Parameters
        ----------
        context : Tensor (n, channels + d, s, s)
        dtype : torch.dtype
            Of the maps; features are float32.

        Raises
        ------
        DataError
            If the shape is another one.
        """
        wanted = (len(self.channels) + len(self.features), self.pixels, self.pixels)
        if context.dim() != 4 or tuple(context.shape[1:]) != wanted:
            raise DataError(
                f"maps of shape {tuple(context.shape)} were given",
                expected=f"(galaxies, {', '.join(map(str, wanted))}): {', '.join((*self.channels, *self.features))}",
                advice="make maps with the settings that the model's card names",
            )
        maps = context[:, : len(self.channels)].to(dtype) * self.window.to(dtype)
        return maps, (context[:, len(self.channels) :, 0, 0].float() - self.center) / self.spread

    def member(self, index: int, context: Tensor, *, precise: bool = True) -> Distribution:
        """Condition one member; see `forward`. Returns batch shape (n,).

        Parameters
        ----------
        index : int
            Which.
        context : Tensor (n, channels + d, s, s)
        precise : bool
            Compute in float32 throughout; else convolutions are bfloat16, the head float32.
        """
        return self.answer_of(index, self.hidden(index, context, precise=precise))

    def answer_of(self, index: int, hidden: Tensor) -> Distribution:
        """Turn what a member's last layer sees (n, width + d), no unit, into its distribution, batch shape (n,)."""
        return self.head.distribution(self._last(index, hidden))

    def hidden(self, index: int, context: Tensor, *, precise: bool = True) -> Tensor:
        """Return what one member's last layer sees (n, width + d), no unit; see `member`."""
        maps, features = self.split(context, torch.float32 if precise else torch.bfloat16)
        maps = maps.contiguous(memory_format=torch.channels_last)
        with torch.autocast(maps.device.type, torch.bfloat16, enabled=not precise):
            found = self._part(index, "encoder")(maps)
        return torch.cat([found.float(), features], dim=1)

    def _last(self, index: int, hidden: Tensor) -> Tensor:
        return self._part(index, "last")(hidden)  # type: ignore[no-any-return]

    def _part(self, index: int, name: str) -> Any:
        networks: Any = self.networks
        return networks[index][name]

    def start_from(self, encoder: nn.Module) -> None:
        """Give every member the weights (any shape, no unit) of an encoder of the same kind.

        ``started_from`` is their checksum then: a training that was begun from others does not go on from these.

        Raises
        ------
        ConfigError
            If it is of another kind.
        """
        for index in range(self.members):
            try:
                self._part(index, "encoder").load_state_dict(encoder.state_dict())
            except RuntimeError as error:
                raise ConfigError(
                    "the encoder to start from is another one than the network's", advice=f"encoder={self.encoder!r}"
                ) from error
        self.started_from = _checksum(encoder)

    def hidden_width(self, index: int = 0) -> int:
        """How many numbers a member's last layer sees of a galaxy."""
        return int(self._part(index, "encoder").width) + len(self.features)

    def penalty(self, index: int) -> Tensor:
        """Return the L2 penalty of a member's weights, a scalar without unit: not 0 for the authors' code alone."""
        return self._part(index, "encoder").squares()  # type: ignore[no-any-return]

    def forward(self, context: Tensor) -> Distribution:
        """Condition on maps and features.

        Parameters
        ----------
        context : Tensor (n, channels + d, s, s)
            Refined maps as in a store; planes of features, in registry units or dex.

        Returns
        -------
        Distribution
            Batch shape (E, n), over the target in its registry unit.
        """
        return self.answer(self.represent(context))

    def represent(self, context: Tensor) -> Tensor:
        """Return what the last layer sees, shape (E, n, width + d), no unit; see `Estimator.represent`."""
        return torch.stack([self.hidden(index, context) for index in range(self.members)])

    def answer(self, representation: Tensor) -> Distribution:
        """Turn (E, n, width + d), no unit, into the distribution; see `Estimator.answer`."""
        raw = [self._last(index, hidden) for index, hidden in enumerate(representation)]
        return self.head.distribution(torch.stack(raw))

    def inputs(self, catalogue: Catalogue) -> MapInputs:
        """Return contexts of a catalogue of views; see `Estimator.inputs`.

        Raises
        ------
        DataError
            If it has no maps, or they were made in another way than those that the network was trained on.
        """
        found = MapInputs.of(catalogue, self.features)
        differences = [name for name in self.recipe if found.maps.recipe.get(name) != self.recipe[name]]
        if tuple(found.maps.channels) != self.channels:
            differences.append(f"channels {', '.join(found.maps.channels)}")
        if differences:
            raise DataError(
                f"the maps were made otherwise than those that the network knows: {', '.join(differences)}",
                where=str(catalogue.meta.get("file", "in memory")),
                expected=f"{', '.join(self.channels)}; {json.dumps(self.recipe)}",
                advice="prepare them with the settings of the store that the network was trained on",
            )
        return found

    def describe_inputs(self) -> list[str]:
        """Return lines (Markdown) that say which maps the network sees, and how they must be made."""
        where = "the whole field" if self.aperture is None else f"a radius of {self.aperture:g} r_half"
        size = f"{self.pixels} x {self.pixels} pixels, whose edge is {self.half_width:g} r_half from the centre"
        made = json.dumps(self.recipe)
        return [f"- Maps: {', '.join(self.seen)}, in {where}; {size}.", f"- Made so: {made}", ""]

    def usable(self, catalogue: Catalogue) -> NDArray[np.bool_]:
        """Tell which rows (n,) have every input; see `Estimator.usable`."""
        whole = super().usable(catalogue)
        return whole if catalogue.maps is None else whole & ~catalogue.maps.lacks(self.seen)

    @torch.no_grad()
    def likeness(self, inputs: Any) -> NDArray[np.float64]:
        """Return how maps look in rings (n, k), by which galaxies are compared; see `Estimator.likeness`.

        Mean and standard deviation of every channel that is seen in rings of growing width, no unit, then the features.
        Not what the network's layers make of them: these are trained to leave out whatever does not help, and told real
        galaxies from toys worse than this does (docs/howto/map_networks.md).
        """
        rings = self._rings()
        # one array for all: small ones that stay between large ones that go would keep these from being used again
        found = torch.empty(len(inputs), self.likeness_width)
        for start in range(0, len(inputs), _BATCH):
            maps, features = self.split(inputs[start : start + _BATCH].cpu())
            # in double precision: where a ring is nearly even its spread is a small difference of large squares
            shown = maps[:, [self.channels.index(name) for name in self.seen]].double()
            mean = torch.einsum("ncyx,ryx->ncr", shown, rings)
            square = torch.einsum("ncyx,ryx->ncr", shown**2, rings)
            spread = (square - mean**2).clamp_min(0).sqrt()
            found[start : start + _BATCH] = torch.cat([mean.flatten(1), spread.flatten(1), features], dim=1)
        return found.double().numpy()

    def _rings(self) -> Tensor:
        """Return for each ring the weight of each pixel (r, s, s): together 1; none outside of the aperture."""
        place = (torch.arange(self.pixels) + 0.5) * (2 / self.pixels) - 1
        radius = torch.hypot(place[:, None], place[None, :])
        inside = self.window.cpu().amax(dim=0) > 0
        edges = [*_RINGS, torch.inf]
        found = [(radius >= low) & (radius < high) & inside for low, high in itertools.pairwise(edges)]
        return torch.stack([ring.double() / ring.sum() for ring in found if bool(ring.any())])

    @property
    def likeness_width(self) -> int:
        """How many numbers `likeness` gives for a galaxy."""
        return 2 * len(self.seen) * len(self._rings()) + len(self.features)

    def last_convolution(self, context: Tensor, member: int = 0) -> Tensor:
        """Return a member's last convolution's output, flattened (n, k), no unit: what Fig. 12 of the paper maps."""
        maps, _ = self.split(context)
        return self._part(member, "encoder").features(maps).flatten(1)  # type: ignore[no-any-return]

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {
            "features": list(self.features),
            "target": self.target,
            "members": self.members,
            "channels": list(self.channels),
            "seen": list(self.seen),
            "pixels": self.pixels,
            "half_width": self.half_width,
            "aperture": self.aperture,
            "encoder": self.encoder,
            "widths": list(self.widths),
            "head": head_settings(self.head),
            "dropout": self.dropout,
            "recipe": self.recipe,
            "seed": self.seed,
        }

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count roughly the weights that settings ask for.

        Those of the first convolutions, which grow with the channels, and of the published encoder's largest layer,
        which grows with the pixels. A window of more than `_MOST_WINDOW` numbers is no weight, and counts as too many.
        """
        pixels, channels = int(settings.get("pixels", 128)), len(settings.get("channels") or range(5))
        if channels * pixels**2 > _MOST_WINDOW:
            return 150_000 * channels * pixels**2
        if settings.get("encoder") in ("table-a2", "code"):
            one = 512 * 64 * (pixels // 8) ** 2 + 800 * channels
        else:
            widths = [int(width) for width in settings.get("widths") or (24, 48, 96)]
            stages = sum(9 * after * (before + after) for before, after in itertools.pairwise([widths[0], *widths]))
            one = stages + 128 * widths[-1] + 25 * channels * widths[0]
        return int(settings.get("members", 5)) * one

    def count_parameters(self, *, trainable: bool = False) -> int:
        """Count the numbers of one member; running statistics count too unless ``trainable``."""
        one: Any = self.networks[0]
        tensors: list[Tensor] = list(one.parameters())
        if not trainable:
            tensors += [value for name, value in one.named_buffers() if not name.endswith("num_batches_tracked")]
        return sum(tensor.numel() for tensor in tensors)


def _checksum(module: nn.Module) -> str:
    """Hash names and weights (any shape, no unit)."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
