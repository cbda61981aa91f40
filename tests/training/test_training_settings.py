"""Settings of a run: what is accepted, what the paper used, and what makes two runs the same."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from galineage.errors import ConfigError, TrainingError
from galineage.training import TrainConfig, pick_device


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("learning_rate", 1e-8, 10.0),
        ("batch_size", 1, 10**7),
        ("max_epochs", 1, 10**6),
        ("patience", 1, 10**6),
        ("clip_norm", 1e-6, 1e9),
        ("weight_decay", 0.0, 1.0),
        ("validation", 0.01, 0.9),
        ("checkpoint_every", 1, 10**6),
        ("seed", 0, 2**62),
    ],
)
def test_every_number_has_bounds(name, low, high):
    assert getattr(TrainConfig(**{name: low}), name) == low
    assert getattr(TrainConfig(**{name: high}), name) == high
    for wrong in (low - 1, high * 2, float("nan"), float("inf"), "many", None, True, [low]):
        with pytest.raises(ConfigError, match=name) as caught:
            TrainConfig(**{name: wrong})
        assert " to " in caught.value.expected


@pytest.mark.parametrize("name", ["batch_size", "max_epochs", "patience", "checkpoint_every", "seed"])
def test_counts_are_whole(name):
    with pytest.raises(ConfigError, match=f"{name} is 2.5"):
        TrainConfig(**{name: 2.5})


def test_validation_split_is_own_or_shared():
    with pytest.raises(ConfigError, match="both"):
        TrainConfig(validation_split="both")


def test_a_config_is_frozen_and_hashes_what_changes_the_result():
    config = TrainConfig()
    with pytest.raises(FrozenInstanceError):
        config.seed = 3
    assert TrainConfig().digest() == config.digest() == replace(config, checkpoint_every=3).digest()
    changes = {
        "learning_rate": 0.5,
        "batch_size": 7,
        "max_epochs": 7,
        "patience": 7,
        "clip_norm": 7.0,
        "weight_decay": 0.7,
        "validation": 0.7,
        "validation_split": "shared",
        "seed": 7,
    }
    digests = {replace(config, **{name: value}).digest() for name, value in changes.items()}
    assert len(digests | {config.digest()}) == len(changes) + 1


def test_the_published_set_up_is_the_papers():
    config = TrainConfig.published(seed=3)
    assert (config.learning_rate, config.batch_size, config.max_epochs, config.patience) == (1e-3, 128, 500, 25)
    assert (config.clip_norm, config.validation_split, config.seed) == (1.0, "shared", 3)
    assert config.validation * 0.85 == pytest.approx(0.10)  # 75 % training, 10 % validation, 15 % test


def test_devices_are_checked_by_name():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(TrainingError, match="no device 'abacus'"):
        pick_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="no GPU"):
            pick_device("cuda:1")
