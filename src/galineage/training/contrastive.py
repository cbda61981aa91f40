"""Contrastive training: images of several domains, in equal numbers; a queue; exact resume; a probe in passing."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import ConfigError, DataError, TrainingError
from galineage.lock import locked
from galineage.models.contrastive import ContrastiveNetwork
from galineage.models.map_inputs import MapInputs
from galineage.progress import bar
from galineage.training.allocator import keep_memory
from galineage.training.augmentation import Augmentation, augment
from galineage.training.checkpoint import Checkpoint, identity
from galineage.training.contrast import Form, Queue, Variant, contrast, nnclr, swapped
from galineage.training.loop import own_random_state, pick_device
from galineage.training.map_loop import has_fast_bfloat16
from galineage.training.probe import Probe
from galineage.training.records import Board, write_history

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from galineage.galaxy import Catalogue

__all__ = ["ContrastiveConfig", "Run", "train_representation"]


@dataclass(frozen=True)
class ContrastiveConfig:
    """How a representation is learned.

    Defaults follow Dwibedi+2021 in the loss and Eisert+2024's public code in the augmentations; batch, rate and epochs
    are ours, for hours on a GPU or minutes on a CPU. `ContrastiveConfig.published` is the authors' code.

    Attributes
    ----------
    variant : {"nnclr", "published", "simclr"}
        Neighbours in the queue of projections (Dwibedi+2021); of images, encoded anew (Eisert+2024's code, see
        `galineage.training.contrast.swapped`); none.
    form : {"one-way", "two-way"}
        Of the loss of ``nnclr``, see `galineage.training.contrast.contrast`; the others are two-way.
    temperature : float
        Cosines are divided by it.
    queue : int
        Rows.
    learning_rate, weight_decay, clip_norm : float
        Of Adam; L2 penalty; largest gradient norm. The rate rises over the first tenth of the steps, and falls to 0
        like a cosine.
    batch_size : int
        Images per step, of all domains together.
    epochs : int
        An epoch is as many steps as show each image once on average, at most ``most_steps``.
    most_steps : int
        Longest epoch.
    augmentation : Augmentation
        How images are shown.
    probe_every : int
        Epochs between two probes; 0 for none.
    precision : {"auto", "float32", "bfloat16"}
        Of the network; the loss is float32. ``auto``: bfloat16 where the processor has instructions for it.
    memory : float, GB
        Images are held on the device if they need no more than this as 16-bit numbers.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:0``.
    checkpoint_every : int
        Epochs between full-state checkpoints (if a folder is given).
    seed : int
        Of weights, batches and augmentations.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    variant: Variant = "nnclr"
    form: Form = "one-way"
    temperature: float = 0.1
    queue: int = 4096
    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    clip_norm: float = 1.0
    batch_size: int = 256
    epochs: int = 100
    most_steps: int = 350
    augmentation: Augmentation = field(default_factory=Augmentation)
    probe_every: int = 5
    precision: str = "auto"
    memory: float = 4.0
    device: str = "auto"
    checkpoint_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        words = {
            "variant": ("nnclr", "published", "simclr"),
            "form": ("one-way", "two-way"),
            "precision": ("auto", "float32", "bfloat16"),
        }
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}", expected="one of " + ", ".join(allowed))
        bounds = {
            "temperature": (1e-3, 10.0),
            "queue": (1, 10**7),
            "learning_rate": (1e-8, 10.0),
            "weight_decay": (0.0, 1.0),
            "clip_norm": (1e-6, 1e9),
            "batch_size": (2, 10**6),
            "epochs": (1, 10**6),
            "most_steps": (1, 10**9),
            "probe_every": (0, 10**6),
            "memory": (0.0, 1e6),
            "checkpoint_every": (1, 10**6),
            "seed": (0, 2**62),
        }
        for name, (low, high) in bounds.items():
            value, whole = getattr(self, name), isinstance(getattr(type(self), name), int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise ConfigError(f"{name} is {value!r}", expected="a whole number" if whole else "a number")
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value!r}", expected=f"{low:g} to {high:g}")
        if self.variant == "published" and self.batch_size % 2:
            raise ConfigError(f"batch_size is {self.batch_size}", expected="even, for the published variant")

    @classmethod
    def published(cls, **changes: Any) -> ContrastiveConfig:
        """Return the set-up of Eisert+2024's code but for its schedule: batches of 32, queue of 16,384, 0.04."""
        settings: dict[str, Any] = {
            "variant": "published",
            "form": "two-way",
            "temperature": 0.04,
            "queue": 16_384,
            "batch_size": 32,
            "epochs": 500,
            "augmentation": Augmentation.published(),
        }
        return cls(**{**settings, **changes})

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return {**asdict(self), "augmentation": self.augmentation.describe()}

    def decisive(self) -> dict[str, Any]:
        """Return the settings that change the result, by name."""
        silent = ("checkpoint_every", "memory", "device", "probe_every")
        return {name: value for name, value in self.describe().items() if name not in silent}


def train_representation(
    catalogues: Mapping[str, Catalogue] | Sequence[Catalogue],
    config: ContrastiveConfig | None = None,
    *,
    encoder: str = "representation",
    widths: Sequence[int] = (),
    probe: Sequence[str] = (),
    folder: str | Path | None = None,
    progress: bool = True,
    label: str = "contrastive",
) -> tuple[ContrastiveNetwork, list[dict[str, float]]]:
    """Learn a representation of images of several domains together, without any truth.

    Parameters
    ----------
    catalogues : sequence or mapping of Catalogue
        Views with images, one catalogue for each domain: as many of each are in every batch. Leave out what is to be
        tested on.
    config : ContrastiveConfig, optional
        Settings.
    encoder, widths
        See `galineage.models.contrastive.ContrastiveNetwork`.
    probe : sequence of str
        Fields that a k-nearest-neighbour regression infers from the representation every few epochs (R² into the
        history, ``probe_mstar`` ...), from galaxies of other roots. It changes nothing in the training.
    folder : path, optional
        Where ``checkpoint.safetensors`` and ``history.csv`` are kept; a run found there is continued, queue and all,
        and ends with the same numbers.
    progress : bool
        Show a bar with the time left on a terminal.
    label : str
        Text beside it.

    Returns
    -------
    ContrastiveNetwork, list of dict
        In evaluation mode, on the CPU, as it is after the last epoch; a row for each epoch.

    Raises
    ------
    ConfigError
        If a setting is not possible.
    DataError
        If there are fewer than two images of a domain, they differ in bands, pixels or recipe, or a probed field is
        missing.
    TrainingError
        If the loss stops being finite, or the folder holds another run, or one that is still at work.
    """
    config = config or ContrastiveConfig()
    sets = list(catalogues.values()) if hasattr(catalogues, "values") else list(catalogues)
    inputs = _inputs(sets)
    first = inputs[0]
    network = ContrastiveNetwork(
        first.maps.channels,
        first.pixels,
        encoder=encoder,
        widths=widths,
        normalise=config.variant != "published",
        recipe=first.maps.recipe,
        seed=config.seed,
    )
    for one in inputs[1:]:
        network.check(one)
    watch = Probe(sets, probe, config.seed) if probe and config.probe_every else None
    folder = None if folder is None else Path(folder)
    device = pick_device(config.device)
    with locked(folder):
        run = Run(network, inputs, config, folder, device, watch, _names(sets))
        keep_memory()
        try:
            with own_random_state(device, config.seed):
                run.go(label if progress else None)
        finally:
            for one in inputs:
                one.release()
    return network, run.history


def _inputs(catalogues: Sequence[Catalogue]) -> list[MapInputs]:
    """Return the images of each domain, after refusing what cannot be learned from."""
    if not catalogues:
        raise DataError("there are no images", expected="views of one domain or more")
    found = [MapInputs.of(one) for one in catalogues]
    for one, catalogue in zip(found, catalogues, strict=True):
        if len(one) < 2:
            raise DataError(f"{len(one)} images of {', '.join(np.unique(catalogue.domain))}", expected="2 or more")
    return found


def _names(catalogues: Sequence[Catalogue]) -> NDArray[np.str_]:
    """Return what tells the images of all domains (n,) from others."""
    found = []
    for one in catalogues:
        view = one["view"] if "view" in one else np.zeros(len(one))
        parts = zip(one.domain.tolist(), np.asarray(one.ids).tolist(), view.tolist(), strict=True)
        found += [f"{domain}/{name}/{number:g}" for domain, name, number in parts]
    return np.array(found, dtype=str)


class Run:
    """One run, from its last checkpoint to its last epoch."""

    def __init__(
        self,
        network: ContrastiveNetwork,
        inputs: list[MapInputs],
        config: ContrastiveConfig,
        folder: Path | None,
        device: torch.device,
        probe: Probe | None,
        names: NDArray[np.str_] | None = None,
    ) -> None:
        self.network, self.inputs, self.config, self.device, self.probe = network, inputs, config, device, probe
        self.path = None if folder is None else folder / "checkpoint.safetensors"
        fast = device.type == "cuda" or has_fast_bfloat16()
        self.precise = config.precision == "float32" or (config.precision == "auto" and not fast)
        self.identity = self._identity(names)
        room = int(config.memory * 1e9)
        for one in inputs:
            if one.hold(device, room):
                room -= one.nbytes
        network.to(device)
        shape = (len(network.channels), network.pixels, network.pixels)
        kept = shape if config.variant == "published" else None
        self.queue = Queue(config.queue, network.projection, kept, seed=config.seed).to(device)
        self.optimiser = torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        total = sum(len(one) for one in inputs)
        self.steps = min(config.most_steps, max(1, round(total / self.size)))
        self.epoch, self.history = 0, list[dict[str, float]]()
        self.generator = torch.Generator().manual_seed(config.seed)

    @property
    def each(self) -> int:
        """Images of each domain in a batch; together an even number."""
        count = max(1, self.config.batch_size // len(self.inputs))
        return count + (count * len(self.inputs)) % 2

    @property
    def size(self) -> int:
        """Images in a batch."""
        return self.each * len(self.inputs)

    def _identity(self, names: NDArray[np.str_] | None) -> dict[str, Any]:
        arrays: dict[str, Any] = {"names": names} | {
            f"first_images_{number}": np.asarray(one.take(np.arange(min(8, len(one)))).float())
            for number, one in enumerate(self.inputs)
        }
        training = {**self.config.decisive(), "device": self.device.type, "precise": self.precise}
        rows = [len(one) for one in self.inputs]
        return identity(self.network.settings(), training, arrays, rows=rows)

    def go(self, label: str | None) -> None:
        """Train from the last checkpoint to the end."""
        self._resume()
        folder = None if self.path is None else self.path.parent
        with (
            Board(folder, self.history) as board,
            bar(total=self.config.epochs * self.steps, label=label or "", show=label is not None) as shown,
        ):
            shown.update(self.epoch * self.steps)
            while self.epoch < self.config.epochs:
                row = self._one_epoch(shown)
                self.history.append(row)
                board.add(row)
                if self.epoch % self.config.checkpoint_every == 0:
                    self._save()
        self._save()
        self.network.to("cpu").train(mode=False)

    def _one_epoch(self, shown: Any) -> dict[str, float]:
        self.network.train()
        order = [self._order(len(one)) for one in self.inputs]
        total = torch.zeros((), device=self.device)
        for step in range(self.steps):
            rows = slice(step * self.each, (step + 1) * self.each)
            parts = [one.take(chosen[rows]) for one, chosen in zip(self.inputs, order, strict=True)]
            total += self.step(torch.cat([part.to(self.device) for part in parts]), self.epoch * self.steps + step)
            shown.update(1)
        loss = float(total) / self.steps
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss}", where=f"epoch {self.epoch + 1}", advice="lower learning_rate, or use float32"
            )
        self.epoch += 1
        shown.set_postfix(loss=f"{loss:.3f}", refresh=False)
        row = {"epoch": float(self.epoch), "train_loss": loss, "val_loss": math.nan}
        every = self.config.probe_every
        if self.probe is not None:
            due = self.epoch == self.config.epochs or self.epoch % every == 0
            found = self.probe.ask(self.network, self.inputs) if due else self.probe.nothing()
            row |= found
        return row

    def _order(self, count: int) -> Tensor:
        """Rows (steps x each,) of a domain: all of it in random order, again and again."""
        wanted = self.steps * self.each
        parts = [torch.randperm(count, generator=self.generator) for _ in range(-(-wanted // count))]
        return torch.cat(parts)[:wanted]

    def _rate(self, step: int) -> float:
        """Learning rate of a step: up over a tenth of all, then down like a cosine."""
        whole = self.steps * self.config.epochs
        warm = max(1, whole // 10)
        if step < warm:
            return self.config.learning_rate * (step + 1) / warm
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, whole - warm)))

    def step(self, images: Tensor, number: int) -> Tensor:
        """Show images (n, bands, s, s), no unit, twice, and learn; returns the loss, nats. Steps count from 0."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(number)
        return self.learn(torch.cat([augment(images, self.config.augmentation, self.generator) for _ in range(2)]))

    def learn(self, looks: Tensor) -> Tensor:
        """Take a step with two looks (2n, bands, s, s), no unit, one block after the other; returns the loss, nats."""
        loss, fresh, kept = self._loss(looks)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm, foreach=True)
        self.optimiser.step()
        if self.config.variant != "simclr":
            self.queue.push(fresh, kept)
        return loss.detach()

    def _loss(self, looks: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss of two looks, one block after the other; what goes into the queue, and its images."""
        config = self.config
        if config.variant == "published":
            found, fresh = swapped(looks, self._project, self.queue)
            first, second = found.chunk(2)
            return contrast(first, second, config.temperature), fresh, looks[::2]
        first, second = self._project(looks).chunk(2)
        if config.variant == "simclr":
            return contrast(first, second, config.temperature), first, None
        return nnclr(first, second, self.queue, config.temperature, config.form), first, None

    def _project(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=not self.precise):
            found = self.network(images)
        return found.float()  # type: ignore[no-any-return]

    def _save(self) -> None:
        if self.path is None:
            return
        tensors = {f"model.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"queue.{name}": value for name, value in self.queue.state_dict().items()}
        for number, parameter in enumerate(self.network.parameters()):
            known = self.optimiser.state.get(parameter, {})
            tensors |= {f"adam.{number}.{name}": value for name, value in known.items()}
        tensors["generator"] = self.generator.get_state()
        history = [{key: None if math.isnan(value) else value for key, value in row.items()} for row in self.history]
        facts = {"epoch": self.epoch, "history": history, "identity": self.identity}
        Checkpoint(tensors, facts).write(self.path)
        write_history(self.path.with_name("history.csv"), self.history)

    def _resume(self) -> None:
        found = None if self.path is None else Checkpoint.read(self.path, self.identity)
        if found is None:
            return
        tensors = found.tensors
        self.network.load_state_dict(_under(tensors, "model."))
        self.queue.load_state_dict(_under(tensors, "queue."))
        for number, parameter in enumerate(self.network.parameters()):
            known = _under(tensors, f"adam.{number}.")
            if known:
                self.optimiser.state[parameter] = {name: value.to(self.device) for name, value in known.items()}
        self.generator.set_state(tensors["generator"])
        self.epoch = int(found.facts["epoch"])
        self.history = [
            {key: math.nan if value is None else value for key, value in row.items()} for row in found.facts["history"]
        ]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
