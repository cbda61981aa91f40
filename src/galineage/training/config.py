"""Settings of a training run, frozen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from galineage.errors import ConfigError

__all__ = ["MapTrainConfig", "TrainConfig", "recommended_config"]


@dataclass(frozen=True)
class TrainConfig:
    """How a network ensemble is trained.

    Defaults follow Angeloudi+2023 where it says something (Adam, gradient clipping at 1, patience 25, at most 500
    epochs); learning rate and batch size are ours. `TrainConfig.published` is the paper's choice throughout.

    Attributes
    ----------
    learning_rate : float
        Of Adam, in the first epoch.
    lr_decay : float
        Factor on the learning rate after every ``lr_decay_every`` epochs; 1 leaves it as it is.
    lr_decay_every : int
        Epochs between two decays; 0 for none.
    batch_size : int
        Galaxies per step and member.
    max_epochs, patience : int
        Longest run, and epochs without a better validation loss after which a member stops. Each member keeps the
        weights of its own best epoch.
    clip_norm : float
        Largest gradient norm per member.
    weight_decay : float
        L2 penalty of Adam.
    validation : float
        Fraction of the training rows held for early stopping, in (0, 1).
    validation_split : {"own", "shared"}
        ``own``: every member holds out its own galaxies, so that the ensemble as a whole sees all of them.
        ``shared``: one validation set for all, as published.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:0``.
    checkpoint_every : int
        Epochs between full-state checkpoints (if a folder is given).
    seed : int
        Seed of splits, batches and dropout.
    """

    learning_rate: float = 3e-3
    lr_decay: float = 1.0
    lr_decay_every: int = 0
    batch_size: int = 512
    max_epochs: int = 500
    patience: int = 25
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    validation: float = 0.12
    validation_split: Literal["own", "shared"] = "own"
    device: str = "auto"
    checkpoint_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "learning_rate": (1e-8, 10.0),
            "lr_decay": (1e-3, 1.0),
            "lr_decay_every": (0, 10**6),
            "batch_size": (1, 10**7),
            "max_epochs": (1, 10**6),
            "patience": (1, 10**6),
            "clip_norm": (1e-6, 1e9),
            "weight_decay": (0.0, 1.0),
            "validation": (0.01, 0.9),
            "checkpoint_every": (1, 10**6),
            "seed": (0, 2**62),
        }
        for name, (low, high) in bounds.items():
            value, whole = getattr(self, name), isinstance(getattr(type(self), name), int)
            kinds = int if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                number = "a whole number, " if whole else ""
                raise ConfigError(f"{name} is {value!r}", expected=f"{number}{low:g} to {high:g}")
        if self.validation_split not in ("own", "shared"):
            raise ConfigError(f"validation_split is {self.validation_split!r}", expected="own or shared")

    @classmethod
    def published(cls, **changes: Any) -> TrainConfig:
        """Return the set-up of Angeloudi+2023: Adam 1e-3, batch 128, one validation set of 10 in 85 parts."""
        settings: dict[str, Any] = {
            "learning_rate": 1e-3,
            "batch_size": 128,
            "validation": 0.10 / 0.85,
            "validation_split": "shared",
        }
        return cls(**{**settings, **changes})

    @classmethod
    def published_joint(cls, **changes: Any) -> TrainConfig:
        """Return the set-up of the authors' code of Eisert+2023, May 2022, for its 146,000 training rows.

        Adam 2e-3 with an L2 penalty of 2e-5, batch 2048, at most 50 epochs, rate times 0.7 every 5, patience 5, one
        validation set of 0.1 in 0.9. A smaller table needs smaller batches for as many steps.
        """
        settings: dict[str, Any] = {
            "learning_rate": 2e-3,
            "lr_decay": 0.7,
            "lr_decay_every": 5,
            "batch_size": 2048,
            "max_epochs": 50,
            "patience": 5,
            "weight_decay": 2e-5,
            "validation": 0.1 / 0.9,
            "validation_split": "shared",
        }
        return cls(**{**settings, **changes})

    def rate(self, epoch: int) -> float:
        """Return the learning rate in an epoch, counted from 1."""
        return self.learning_rate * (
            self.lr_decay ** ((epoch - 1) // self.lr_decay_every) if self.lr_decay_every else 1
        )

    def decisive(self) -> dict[str, Any]:
        """Return the settings that change the result, by name: all but the checkpoint interval."""
        return {name: value for name, value in asdict(self).items() if name != "checkpoint_every"}


@dataclass(frozen=True)
class MapTrainConfig(TrainConfig):
    """How map networks are trained; what it shares with `TrainConfig` means the same.

    Attributes
    ----------
    flips, turns : bool
        Augmentation in every step: flips along both axes (published), and turns by 90 degrees. Velocities keep their
        sign (`galineage.models.map_inputs.turned`).
    precision : {"auto", "float32", "bfloat16"}
        Of the convolutions; the head and the loss are float32. ``auto``: bfloat16 where the processor has instructions
        for it.
    memory : float, GB
        Maps are held on the device if they need no more than this as 16-bit numbers, else read from their store.
    devices : int
        Processes of this machine that train one network together, each with its own GPU (or on the CPU), its own share
        of every batch and its own ``memory``. More than one needs Lightning.
    """

    learning_rate: float = 2e-3
    batch_size: int = 64
    max_epochs: int = 60
    patience: int = 10
    lr_decay: float = 0.5
    lr_decay_every: int = 12
    checkpoint_every: int = 1
    flips: bool = True
    turns: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory: float = 4.0
    devices: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"precision is {self.precision!r}", expected="auto, float32 or bfloat16")
        if not 0 <= self.memory < 1e6:
            raise ConfigError(f"memory is {self.memory} GB", expected="0 or more")
        if isinstance(self.devices, bool) or not isinstance(self.devices, int) or self.devices < 1:
            raise ConfigError(f"devices is {self.devices!r}", expected="a whole number, 1 or more")
        if self.devices > 1 and self.batch_size < 2 * self.devices:
            raise ConfigError(
                f"batch_size is {self.batch_size} for {self.devices} devices", expected=f"{2 * self.devices} or more"
            )
        if self.devices > 1 and ":" in self.device:
            raise ConfigError(f"{self.device!r} is one device of {self.devices}", expected="auto, cpu or cuda")

    @classmethod
    def published(cls, **changes: Any) -> MapTrainConfig:
        """Return the set-up of Angeloudi+2023: Adam 1e-3, batch 128, flips, one validation set of 10 in 85 parts."""
        settings: dict[str, Any] = {
            "learning_rate": 1e-3,
            "batch_size": 128,
            "lr_decay": 1.0,
            "lr_decay_every": 0,
            "max_epochs": 500,
            "patience": 25,
            "validation": 0.10 / 0.85,
            "validation_split": "shared",
            "turns": False,
        }
        return cls(**{**settings, **changes})

    def decisive(self) -> dict[str, Any]:
        """Return the settings that change the result, by name; where the maps lie does not.

        Several devices do: sums have another order, and each draws its own dropout.
        """
        silent = {"memory"} if self.devices > 1 else {"memory", "devices"}
        return {name: value for name, value in super().decisive().items() if name not in silent}


def recommended_config(model: str) -> TrainConfig:
    """Return the training settings that suit a preset: the papers' for the papers' networks, ours otherwise.

    The paper's network needs small batches: its batch normalisation averages over a hundred steps, which early stopping
    does not wait for when an epoch has only ten. A joint flow fits a table of five thousand galaxies in twenty epochs
    and then learns them by heart; with hundreds an epoch is a single step. A rate that falls every 15 epochs serves
    both: on toy-a, against every 5 epochs, it gains 0.08 nats for each target of the merger with 300 galaxies, 0.01 to
    0.02 with 1,200, and loses 0.01 for five targets together with 5,000.
    """
    if model.startswith("maps"):
        return MapTrainConfig() if model in ("maps", "maps-cinn") else MapTrainConfig.published()
    if model.startswith("paper"):
        return TrainConfig.published()
    if model == "cinn":
        return TrainConfig(learning_rate=1e-3, lr_decay=0.7, lr_decay_every=15, batch_size=256, patience=10)
    return TrainConfig.published_joint() if model == "cinn-published" else TrainConfig()
