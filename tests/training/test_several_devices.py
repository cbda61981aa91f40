"""One network trained by several processes: the same as by one, bit for bit again, and all or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import made_views
import numpy as np
import pytest
import torch
from made_views import CUT, fitted, views

from galineage.cli import main
from galineage.errors import ConfigError, DataError, MissingDependencyError, TrainingError
from galineage.models import make_estimator
from galineage.models.map_inputs import MapInputs
from galineage.training import MapTrainConfig, map_loop
from galineage.training.spreading import Share

TWO = MapTrainConfig(max_epochs=2, batch_size=16, device="cpu", precision="float32", devices=2)
ONE = replace(TWO, devices=1)


def weights(estimator):
    return {name: value.clone() for name, value in estimator.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- shares -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch", "size"), [(40, 16, 2), (41, 16, 3), (33, 8, 4), (5, 16, 5)])
def test_every_row_of_every_batch_is_in_one_share(n, batch, size):
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    shares = [Share(torch.device("cpu"), rank, size) for rank in range(size)]
    parts = [share.of(rows, batch).split(share.rows(batch)) for share in shares]
    for k, whole in enumerate(rows.split(batch)):
        mine = [part[k] if k < len(part) else rows[:0] for part in parts]
        assert torch.equal(torch.cat(mine).sort().values, whole.sort().values)
        assert max(map(len, mine)) - min(map(len, mine)) <= 1
        losses = [share.mean(part.double(), len(whole)) for share, part in zip(shares, mine, strict=True)]
        assert float(sum(losses)) == pytest.approx(float(whole.double().mean()))


def test_one_process_does_all_and_draws_as_before():
    share, values = Share(torch.device("cpu")), torch.arange(9.0)
    before = torch.random.get_rng_state()
    share.reseed(1, 2, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert share.of(values, 4) is share.total(values) is values
    assert share.rows(4) == 4
    assert float(share.mean(values, 3)) == 4


def test_each_process_and_epoch_draws_otherwise_and_always_the_same():
    def drawn(rank, *numbers):
        with torch.random.fork_rng():
            Share(torch.device("cpu"), rank, 2).reseed(*numbers)
            return float(torch.rand((), dtype=torch.float64))

    cases = [(rank, seed, member, epoch) for rank in (0, 1) for seed in (0, 5) for member in (0, 1) for epoch in (1, 2)]
    assert len({drawn(*case) for case in cases}) == len(cases)
    assert drawn(1, 5, 1, 2) == drawn(1, 5, 1, 2)


def test_gradients_are_summed_and_statistics_averaged(monkeypatch):
    """As among three equal processes."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.mul_(3))
    share = Share(torch.device("cpu"), 1, 3)
    with torch.random.fork_rng():
        layer = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    layer(torch.ones(1, 2, 4, 4).contiguous(memory_format=torch.channels_last)).square().sum().backward()
    layer.bias.grad = None
    expected = 3 * layer.weight.grad
    share.add_gradients(list(layer.parameters()))
    torch.testing.assert_close(layer.weight.grad, expected)
    assert torch.equal(layer.bias.grad, torch.zeros(3))
    module = torch.nn.ModuleDict({"norm": torch.nn.BatchNorm1d(2)})
    module.register_buffer("limits", torch.rand(4, 2, generator=torch.Generator().manual_seed(0))[:, 0])
    module["norm"](torch.arange(10.0).view(5, 2))
    before = {name: value.clone() for name, value in module.named_buffers()}
    share.average(module)
    for name, value in module.named_buffers():
        torch.testing.assert_close(value, before[name])
    assert torch.equal(module.limits, before["limits"])  # what is not trained does not move by a digit


# --- settings -----------------------------------------------------------------------------------------------------


def test_settings_are_checked():
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ConfigError, match="devices is"):
            MapTrainConfig(devices=wrong)
    with pytest.raises(ConfigError, match="batch_size is 7 for 4 devices"):
        MapTrainConfig(devices=4, batch_size=7)
    with pytest.raises(ConfigError, match="'cuda:1' is one device of 2"):
        MapTrainConfig(devices=2, device="cuda:1")


def test_devices_are_part_of_a_run_only_where_they_change_numbers():
    assert "devices" not in ONE.decisive()
    assert TWO.decisive()["devices"] == 2


def test_without_lightning_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'galineage\[train\]'"):
        fitted(TWO, tmp_path)
    assert not (tmp_path / "history.csv").exists()


def test_a_table_is_not_trained_on_several_devices(tmp_path, capsys):
    assert main(["train", "table.csv", "--devices", "2", "--out", str(tmp_path / "model")]) == 1
    assert "--devices" in capsys.readouterr().err


# --- processes ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_infer_several_targets_as_one_does():
    """With a flow, whose constants are not contiguous."""
    catalogue = views()
    y = np.stack([catalogue["f_ex"], np.random.default_rng(0).uniform(1e10, 9e10, 120)], axis=1)
    found = []
    for config in (TWO, ONE):
        sizes = {"channels": made_views.Held.channels, "pixels": 16, "widths": (8,), "dropout": 0.0}
        estimator = make_estimator("maps-cinn", (), ("f_ex", "mstar"), members=1, seed=4, **sizes)
        inputs = MapInputs.of(catalogue)
        result = map_loop.fit_map_network(estimator, inputs, y, config, groups=catalogue.root, progress=False)
        found.append((weights(estimator), result))
    (two, result), (one, expected) = found
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=0)
    assert result.best_loss == pytest.approx(expected.best_loss, abs=1e-5)


@pytest.mark.slow
def test_two_processes_without_dropout_are_one(tmp_path):
    """With weighted views, and a last batch of another size."""
    options = {"dropout": 0.0}
    towards = {"weights": np.random.default_rng(2).uniform(0.2, 3, 120)}
    two, result = fitted(TWO, tmp_path / "two", towards=towards, **options)
    one, expected = fitted(ONE, tmp_path / "one", towards=towards, **options)
    assert not {"MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ)
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, atol=1e-5, rtol=0)
    assert result.best_epoch == expected.best_epoch
    assert result.best_loss == pytest.approx(expected.best_loss, abs=1e-5)
    for row, known in zip(result.history, expected.history, strict=True):
        assert row == pytest.approx(known, abs=1e-5)
    assert not two.training
    assert [path.name for path in sorted((tmp_path / "two").rglob("*.csv"))] == ["history.csv"]
    assert len(list((tmp_path / "two").rglob("events.out.*"))) <= 1
    assert len((tmp_path / "two" / "history.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.slow
def test_killed_and_resumed_is_unbroken_and_twice_is_the_same(tmp_path, monkeypatch):
    """R3, with dropout and an alignment."""
    other = views(60, seed=3)
    other.maps.values[:] = 1.5 * other.maps.values + 0.3
    towards = {"alignment": "dann", "unlabelled": MapInputs.of(other)}
    whole, result = fitted(TWO, tmp_path / "whole", towards=towards, dropout=0.2)
    again, expected = fitted(TWO, None, towards=towards, dropout=0.2)
    assert same(weights(again), weights(whole))
    assert result == expected

    monkeypatch.setattr(map_loop, "_fit", made_views.killed)
    with pytest.raises(TrainingError, match="SIGKILL"):
        fitted(TWO, tmp_path / "cut", towards=towards, dropout=0.2)
    monkeypatch.undo()
    assert len((tmp_path / "cut" / "history.csv").read_text().splitlines()) == 1 + CUT
    resumed, found = fitted(TWO, tmp_path / "cut", towards=towards, dropout=0.2)
    assert same(weights(resumed), weights(whole))
    assert found == result
    assert (tmp_path / "cut" / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    with pytest.raises(TrainingError, match="devices was 2 and is not given"):
        fitted(ONE, tmp_path / "cut", towards=towards, dropout=0.2)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_who_kills_the_first_process_ends_all(tmp_path, how):
    """Else they would go on writing where the next run has begun; also in a script's background, without interrupts."""
    command = ["sh", "-c", """trap '' INT; exec "$0" "$@" """, sys.executable, made_views.__file__, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
        wait_for(lambda: (tmp_path / "history.csv").exists() or run.poll() is not None)
        assert run.poll() is None
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.send_signal(how)
    assert len(children) >= 2
    wait_for(lambda: not any(at_work(child) for child in children))


def wait_for(done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def at_work(pid):
    """Whether a process is there, and no zombie that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the second, if it ends while this reads
        return False


@pytest.mark.slow
def test_what_one_process_cannot_do_ends_all_with_its_error(tmp_path):
    catalogue = views()
    catalogue.maps.values[5] = np.nan
    with pytest.raises(TrainingError, match="loss of member 0 is nan") as caught:
        fitted(TWO, catalogue=catalogue)
    assert caught.value.where == "epoch 1"
    assert caught.value.advice
    with pytest.raises(DataError, match=r"\d rows for 64 devices"):
        map_loop._Run(*unused(catalogue), None, None, Share(torch.device("cpu"), 0, 64))


def unused(catalogue):
    """What a run is made of, up to its groups."""
    estimator, _ = fitted(replace(ONE, max_epochs=1))
    return estimator, MapInputs.of(views()), torch.tensor(catalogue["f_ex"].tolist()), ONE, catalogue.root
