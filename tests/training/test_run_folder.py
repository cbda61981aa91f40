"""The folder of a run: one run at a time, TensorBoard without gaps and repeats, what a failed run leaves behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from lines import draw, quick, tiny
from safetensors import safe_open

from galineage.errors import FileFormatError, TrainingError
from galineage.lock import locked
from galineage.training import fit_estimator
from galineage.training.loop import _Run

X, Y = draw(70)


def fit(folder, **changes):
    estimator = tiny(preset=changes.pop("preset", "mdn"))
    return estimator, fit_estimator(estimator, X, Y, quick(**changes), folder=folder, progress=False)


def stored(folder):
    """Facts and tensors of a checkpoint, whatever run it belongs to."""
    with safe_open(folder / "checkpoint.safetensors", "pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        return json.loads(stream.metadata()["galineage"]), tensors


# --- one run at a time --------------------------------------------------------------------------------------------


def test_two_runs_in_one_folder_are_refused_naming_the_process(tmp_path):
    with locked(tmp_path):
        with pytest.raises(
            TrainingError, match=f"another run is at work in this folder: process {os.getpid()}"
        ) as caught:
            fit(tmp_path)
        assert caught.value.where == str(tmp_path)
        assert "another output folder" in caught.value.advice
    assert not list(tmp_path.iterdir()), "the second run has touched nothing"
    fit(tmp_path, max_epochs=2)
    assert not (tmp_path / "lock").exists()


def hold(folder, ready, leave):
    with locked(folder):
        ready.set()
        leave.wait(30)


def test_a_lock_of_another_process_holds_and_one_left_by_a_killed_process_does_not(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready, leave))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(TrainingError, match=f"process {holder.pid}"), locked(tmp_path):
        pass
    holder.kill()
    holder.join()
    assert (tmp_path / "lock").exists(), "a killed process cannot tidy up"
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text().strip() == str(os.getpid())


def test_a_stale_lock_with_the_id_of_a_living_process_does_not_hold(tmp_path):
    (tmp_path / "lock").write_text(f"{os.getppid()}\n")
    assert fit(tmp_path, max_epochs=2)[1].epochs == 2


def test_of_many_runs_that_start_together_one_is_let_in_at_a_time(tmp_path):
    inside, most, refused, entered = [], [], [], []

    def enter():
        for _ in range(200):
            try:
                with locked(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    entered.append(1)
                    inside.pop()
            except TrainingError:
                refused.append(1)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(entered) + len(refused) == 800


def test_a_lock_is_freed_when_the_run_fails(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_train", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(tmp_path)
    assert fit(tmp_path)[1].epochs == 9


def test_without_a_folder_there_is_nothing_to_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with locked(None), locked(None):
        assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    import fcntl

    def refused(descriptor, kind):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert fit(tmp_path, max_epochs=2)[1].epochs == 2


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileFormatError, match="cannot write into the folder") as caught:
        fit(tmp_path / "file" / "run")
    assert caught.value.where == str(tmp_path / "file" / "run")


# --- TensorBoard --------------------------------------------------------------------------------------------------


def epochs_on_the_board(folder):
    """Steps of every scalar in every file, in order, as a reader meets them that knows nothing of restarts."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    found = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        for event in loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    return found


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_tensorboard_has_every_epoch_once_after_an_interruption(tmp_path, monkeypatch, stop):
    """Checkpoints are written every second epoch; the board has already seen the one after."""
    pytest.importorskip("tensorboard")
    train = _Run._train

    def interrupted(self):
        if self.epoch == stop:
            raise KeyboardInterrupt
        return train(self)

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path)
    fit(tmp_path)
    assert epochs_on_the_board(tmp_path) == {name: list(range(1, 10)) for name in ("train_loss", "val_loss")}
    fit(tmp_path)
    assert epochs_on_the_board(tmp_path) == {name: list(range(1, 10)) for name in ("train_loss", "val_loss")}


# --- what a failed run leaves -------------------------------------------------------------------------------------


def test_a_loss_that_becomes_nan_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    good, expected = fit(None)
    losses = _Run._losses

    def spoiled(self, *given):
        found, penalty = losses(self, *given)
        return (found * torch.tensor([1.0, 1.0, torch.nan]) if self.epoch == 6 else found), penalty

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_losses", spoiled)
        with pytest.raises(TrainingError, match="the loss of member 2 is nan") as caught:
            fit(tmp_path)
    assert caught.value.where == "epoch 6"
    assert "learning_rate" in caught.value.advice
    facts, tensors = stored(tmp_path)
    assert facts["epoch"] == 4
    assert all(torch.isfinite(value).all() for value in tensors.values())
    again, result = fit(tmp_path)
    assert result == expected
    assert all(torch.equal(value, good.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_lost_checkpoint_starts_the_run_again(tmp_path):
    _, expected = fit(tmp_path)
    (tmp_path / "checkpoint.safetensors").unlink()
    _, result = fit(tmp_path)
    assert result == expected
    rows = np.genfromtxt(tmp_path / "history.csv", delimiter=",", names=True)
    assert rows["epoch"].tolist() == list(range(1, 10))


def test_a_lost_history_is_written_again(tmp_path):
    _, expected = fit(tmp_path)
    (tmp_path / "history.csv").unlink()
    assert fit(tmp_path)[1] == expected
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 10


def test_a_run_goes_on_bit_for_bit_in_another_process_with_other_threads(tmp_path):
    """Threads of the surroundings do not reach into the run."""
    code = (
        "import sys, torch; from pathlib import Path; sys.path.insert(0, sys.argv[2]); torch.set_num_threads(2)\n"
        "from lines import draw, quick, tiny; from galineage.training import fit_estimator\n"
        "x, y = draw(70); fit_estimator(tiny(preset='paper'), x, y, quick(), folder=Path(sys.argv[1]), progress=False)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    arguments = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    subprocess.run(arguments, check=True, env=environment, timeout=300)
    facts, tensors = stored(tmp_path)
    fit(tmp_path / "here", preset="paper")
    expected, mine = stored(tmp_path / "here")
    assert facts["history"] == expected["history"]
    assert all(torch.equal(value, tensors[name]) for name, value in mine.items())
