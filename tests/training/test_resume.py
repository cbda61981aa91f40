"""A run that was interrupted and goes on is bit for bit the run that never stopped."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from lines import Pull, draw, quick, tiny

from galineage import atomic
from galineage.errors import FileFormatError, TrainingError
from galineage.training import fit_estimator, pick_device
from galineage.training.checkpoint import Checkpoint
from galineage.training.loop import _Run

X, Y = draw(70)


class InterruptedRunError(Exception):
    """Stands for a killed process."""


EXTRAS = ("groups", "weights", "alignment", "unlabelled")


def fit(folder, estimator=None, x=X, y=Y, **changes):
    estimator = estimator or tiny(preset=changes.pop("preset", "mdn"))
    extras = {name: changes.pop(name) for name in EXTRAS if name in changes}
    result = fit_estimator(estimator, x, y, quick(**changes), folder=folder, progress=False, **extras)
    return estimator, result


def stop_in_epoch(monkeypatch, epoch):
    train = _Run._train

    def interrupted(self):
        if self.epoch == epoch:
            raise InterruptedRunError
        return train(self)

    monkeypatch.setattr(_Run, "_train", interrupted)


def fit_until(monkeypatch, epoch, folder, **settings):
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, epoch)
        with pytest.raises(InterruptedRunError):
            fit(folder, **settings)


def same(first, second):
    mine, other = first.state_dict(), second.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in mine.items())


def history(folder):
    with open(folder / "history.csv", newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


@pytest.mark.parametrize("preset", ["mdn", "paper"])
@pytest.mark.parametrize("epoch", [2, 4, 9])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, preset, epoch):
    """Before the first checkpoint, between two, and in the last epoch; with dropout, and with running statistics."""
    whole, expected = fit(None, preset=preset)
    fit_until(monkeypatch, epoch, tmp_path, preset=preset)
    assert (tmp_path / "checkpoint.safetensors").exists() == (epoch > 2)
    resumed, result = fit(tmp_path, preset=preset)
    assert result == expected
    assert same(resumed, whole)
    assert history(tmp_path) == list(expected.history), "no epoch is missing or twice"


def everything(preset):
    """Weights, an alignment with state and random numbers of its own, a falling learning rate."""
    return {
        "preset": preset,
        "weights": np.random.default_rng(1).uniform(0, 2, 70),
        "alignment": Pull(),
        "unlabelled": draw(33, seed=4)[0],
        "lr_decay": 0.5,
        "lr_decay_every": 3,
        "weight_decay": 0.01,
    }


@pytest.mark.parametrize("preset", ["mdn", "paper", "flow"])
@pytest.mark.parametrize("epoch", [3, 6])
def test_weights_alignment_and_decay_go_on_bit_for_bit(tmp_path, monkeypatch, preset, epoch):
    settings = everything(preset)
    whole, expected = fit(None, **settings)
    fit_until(monkeypatch, epoch, tmp_path, **everything(preset))
    again = everything(preset)
    resumed, result = fit(tmp_path, **again)
    assert result == expected
    assert same(resumed, whole)
    assert same(again["alignment"], settings["alignment"])
    assert float(again["alignment"].steps) == 9 * 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": np.ones(70)}, "weights have other values"),
        ({"unlabelled": draw(33, seed=5)[0]}, "unlabelled features have other values"),
        ({"unlabelled": draw(30, seed=4)[0]}, r"unlabelled features had shape \(33, 2\) and have \(30, 2\)"),
        ({"alignment": Pull(strength=0.1)}, "alignment strength was 0.5 and is 0.1"),
        ({"alignment": None, "unlabelled": None}, "unlabelled features was given and is not given; alignment was"),
    ],
)
def test_other_weights_or_another_alignment_are_refused(tmp_path, change, named):
    fit(tmp_path, **everything("mdn"))
    with pytest.raises(TrainingError, match=named):
        fit(tmp_path, **{**everything("mdn"), **change})


def test_a_run_interrupted_again_and_again_is_still_the_same(tmp_path, monkeypatch):
    whole, expected = fit(None)
    for epoch in (3, 4, 6, 9):
        fit_until(monkeypatch, epoch, tmp_path)
        rows = history(tmp_path)
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    resumed, result = fit(tmp_path)
    assert (result, same(resumed, whole)) == (expected, True)


def test_interrupted_early_stopping_stops_where_the_whole_run_stops(tmp_path, monkeypatch):
    settings = {"max_epochs": 60, "patience": 3, "learning_rate": 0.05}
    whole, expected = fit(None, **settings)
    stop = max(expected.best_epoch) + 2  # while the last member is waiting
    fit_until(monkeypatch, stop, tmp_path, **settings)
    resumed, result = fit(tmp_path, **settings)
    assert result == expected
    assert result.epochs < 60
    assert same(resumed, whole)


def test_a_finished_run_is_read_back_without_training(tmp_path, monkeypatch):
    first, expected = fit(tmp_path)
    monkeypatch.setattr(_Run, "_train", lambda self: pytest.fail("trained again"))
    again, result = fit(tmp_path)
    assert (result, same(first, again)) == (expected, True)


def test_checkpoints_do_not_change_the_result(tmp_path):
    without, expected = fit(None)
    for every in (1, 5):
        estimator, result = fit(tmp_path / str(every), checkpoint_every=every)
        assert (result, same(estimator, without)) == (expected, True)


def test_how_often_a_checkpoint_is_written_may_change_on_the_way(tmp_path, monkeypatch):
    whole, expected = fit(None)
    fit_until(monkeypatch, 6, tmp_path, checkpoint_every=3)
    resumed, result = fit(tmp_path, checkpoint_every=1)
    assert (result, same(resumed, whole)) == (expected, True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 0.5}, "training learning_rate was 0.003 and is 0.5"),
        ({"seed": 99}, "training seed was 5 and is 99"),
        ({"lr_decay": 0.5, "lr_decay_every": 3}, "training lr_decay was 1.0 and is 0.5; training lr_decay_every was 0"),
        ({"estimator": tiny(hidden=(9,))}, r"estimator hidden was \[8\] and is \[9\]"),
        ({"estimator": tiny(seed=2)}, "estimator seed was 1 and is 2"),
        ({"estimator": tiny(preset="flow")}, 'estimator head kind was "bounded" and is "flow"; .*bins was not given'),
        ({"y": np.roll(Y, 1)}, "targets have other values"),
        ({"x": X + 1e-3}, "features have other values"),
        ({"groups": np.arange(70) // 2}, "groups was not given and is given"),
        ({"weights": np.arange(70.0)}, "weights was not given and is given"),
        (
            {"x": X[:-1], "y": Y[:-1], "seed": 8},
            r"training seed was 5 and is 8; features had shape \(70, 2\) and have \(69, 2\); targets had shape \(70,\)",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_says_what_changed(tmp_path, changes, named):
    fit(tmp_path, max_epochs=2)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=f"belongs to another run: {named}") as caught:
        fit(tmp_path, **{"max_epochs": 2, **changes})
    assert str(tmp_path) in caught.value.where
    assert "another output folder" in caught.value.advice
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_groups_are_told_by_what_they_say_not_by_their_type(tmp_path):
    _, expected = fit(tmp_path, groups=np.arange(70) // 2)
    _, again = fit(tmp_path, groups=(np.arange(70) // 2).astype(str))
    assert again == expected
    with pytest.raises(TrainingError, match="groups have other values"):
        fit(tmp_path, groups=np.arange(70) // 5)


def test_naming_the_device_that_was_found_by_itself_is_no_change(tmp_path):
    if pick_device("auto").type == "cpu":
        _, expected = fit(tmp_path, device="auto")
        assert fit(tmp_path, device="cpu")[1] == expected


def flipped(content, place):
    changed = bytearray(content)
    changed[place] ^= 4
    return bytes(changed)


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: content[:-100],
        lambda content: content[:50],
        lambda content: b"\x80\x04\x95 not a checkpoint",
        lambda content: flipped(content, -9),
        lambda content: flipped(content, len(content) // 2),
        lambda content: content.replace(b'\\"epoch\\": 2', b'\\"epoch\\": 3', 1),
    ],
    ids=["empty", "cut", "header only", "foreign", "bit in tensors", "bit in the middle", "another epoch"],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, harm):
    fit(tmp_path, max_epochs=2)
    path = tmp_path / "checkpoint.safetensors"
    content = path.read_bytes()
    path.write_bytes(harm(content))
    assert path.read_bytes() != content
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        fit(tmp_path, max_epochs=2)
    assert "delete it" in caught.value.advice


def test_a_checkpoint_without_our_description_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(TrainingError, match="cannot be read"):
        fit(tmp_path)


@pytest.mark.parametrize("failing", range(1, 9))
def test_whichever_write_fails_the_run_goes_on_from_the_one_before(tmp_path, monkeypatch, failing):
    """Two syncs for each of checkpoint and history, every second epoch: the eighth is in the second round."""
    whole, expected = fit(None)
    calls, sync = [], atomic._sync

    def full_disk(path):
        calls.append(path)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_sync", full_disk)
        with pytest.raises(FileFormatError, match="No space left"):
            fit(tmp_path)
    assert not list(tmp_path.glob(".*")), "no half-written file is left"
    resumed, result = fit(tmp_path)
    assert (result, same(resumed, whole)) == (expected, True)
    assert history(tmp_path) == list(expected.history)


def test_what_a_checkpoint_holds_comes_back_with_its_types(tmp_path):
    tensors = {
        "single": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)),
        "double": torch.tensor([torch.inf, -0.0], dtype=torch.float64),
        "whole": torch.tensor(7, dtype=torch.int64),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "view": torch.zeros(4, 4)[:, 1],
        "none": torch.zeros(0, 3),
    }
    facts = {"epoch": 3, "history": [{"val_loss": 0.1}], "identity": {"data": "abc"}}
    Checkpoint(tensors, facts).write(tmp_path / "c.safetensors")
    found = Checkpoint.read(tmp_path / "c.safetensors", {"data": "abc"})
    assert found.facts == facts == json.loads(json.dumps(facts))
    assert found.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found.tensors[name].dtype == value.dtype
        assert torch.equal(found.tensors[name], value)
    assert Checkpoint.read(tmp_path / "absent.safetensors", {}) is None
