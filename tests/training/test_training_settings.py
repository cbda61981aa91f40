"""Settings of a run: what is accepted, what the paper used, and what makes two runs the same."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch

from galineage.errors import ConfigError, TrainingError
from galineage.training import TrainConfig, pick_device


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("learning_rate", 1e-8, 10.0),
        ("lr_decay", 1e-3, 1.0),
        ("lr_decay_every", 0, 10**6),
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


@pytest.mark.parametrize("name", ["batch_size", "max_epochs", "patience", "checkpoint_every", "seed", "lr_decay_every"])
def test_counts_are_whole(name):
    with pytest.raises(ConfigError, match=f"{name} is 2.5"):
        TrainConfig(**{name: 2.5})


def test_validation_split_is_own_or_shared():
    with pytest.raises(ConfigError, match="both"):
        TrainConfig(validation_split="both")


def test_a_config_is_frozen_and_tells_what_changes_the_result():
    config = TrainConfig()
    with pytest.raises(FrozenInstanceError):
        config.seed = 3
    names = {item.name for item in fields(TrainConfig)}
    assert config.decisive() == replace(config, checkpoint_every=3).decisive()
    assert config.decisive().keys() == names - {"checkpoint_every"}


def test_the_learning_rate_falls_in_steps():
    config = TrainConfig(learning_rate=2e-3, lr_decay=0.7, lr_decay_every=5)
    assert [config.rate(epoch) for epoch in (1, 5, 6, 10, 11)] == pytest.approx([2e-3, 2e-3, 1.4e-3, 1.4e-3, 0.98e-3])
    assert {TrainConfig(lr_decay=0.7).rate(epoch) for epoch in (1, 500)} == {TrainConfig().learning_rate}


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
