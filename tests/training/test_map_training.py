"""Training on maps: it learns, it resumes bit for bit, it does not matter where the maps lie."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import galineage
from galineage.errors import ConfigError, DataError, TrainingError
from galineage.galaxy import Catalogue
from galineage.models import make_estimator
from galineage.models.map_inputs import MapInputs
from galineage.store.splits import split_labels
from galineage.training import MapTrainConfig, map_loop, train
from galineage.training.alignment import ALIGNMENTS, make_alignment
from galineage.training.map_loop import fit_map_network

CONFIG = MapTrainConfig(max_epochs=3, batch_size=16, device="cpu", precision="float32", checkpoint_every=1)


class Held:
    """Maps in memory."""

    channels, recipe = ("mass", "velocity"), {"maps": {"half_width_r_half": 2.0}}

    def __init__(self, values):
        self.values, self.reads = values, 0

    def __len__(self):
        return len(self.values)

    def select(self, which):
        return Held(self.values[which])

    def lacks(self, channels):
        return np.zeros(len(self), bool)

    def read(self, which):
        self.reads += 1
        return self.values[which]


def views(n=120, seed=0):
    """Maps whose width tells the target; two views of each galaxy."""
    rng = np.random.default_rng(seed)
    f_ex = np.repeat(rng.uniform(0.05, 0.95, n // 2), 2)
    y, x = np.mgrid[:16, :16] + 0.5 - 8
    mass = np.exp(-np.hypot(x, y)[None] / (1 + 4 * f_ex[:, None, None])) + 0.02 * rng.standard_normal((n, 16, 16))
    spin = rng.standard_normal((n, 16, 16))
    maps = np.stack([mass / mass.std(axis=(1, 2), keepdims=True), spin], axis=1).astype(np.float16)
    root = np.repeat(np.arange(n // 2), 2).astype(str)
    columns = {"f_ex": f_ex, "mstar": np.full(n, 1e10)}
    return Catalogue(columns, np.arange(n) // 2, np.asarray("made"), root, maps=Held(maps))


def network(**options):
    return make_estimator("maps", (), members=2, channels=Held.channels, pixels=16, seed=4, **options)


def fitted(folder=None, config=CONFIG, catalogue=None, towards=None, **options):
    catalogue = views() if catalogue is None else catalogue
    estimator = network(**options)
    result = fit_map_network(
        estimator, MapInputs.of(catalogue), catalogue["f_ex"], config, groups=catalogue.root, folder=folder,
        progress=False, **(towards or {}),
    )  # fmt: skip
    return estimator, result


def aligned(kind):
    """What a training needs to be drawn to other maps, which are brighter and wider."""
    other = views(60, seed=3)
    other.maps.values[:] = 1.5 * other.maps.values + 0.3
    return {"alignment": kind, "unlabelled": MapInputs.of(other)}


def weights(estimator):
    return {name: value.clone() for name, value in estimator.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_and_keeps_the_best_epoch():
    config = MapTrainConfig(max_epochs=12, batch_size=16, device="cpu", learning_rate=3e-3)
    estimator, result = fitted(config=config)
    assert len(result.best_loss) == 2
    for member in range(2):
        losses = [row["val_loss"] for row in result.history if row["member"] == member]
        assert result.best_loss[member] == min(losses) < losses[0]
        assert losses.index(min(losses)) + 1 == result.best_epoch[member]
    other = views(seed=9)
    with torch.no_grad():
        found = estimator(MapInputs.of(other)[0 : len(other)]).mean.mean(0).numpy()
    assert np.corrcoef(found, other["f_ex"])[0, 1] > 0.9
    assert not estimator.training


def test_twice_is_the_same():
    assert same(weights(fitted()[0]), weights(fitted()[0]))


@pytest.mark.parametrize("kind", [None, "mmd"])
def test_where_the_maps_lie_changes_no_number(kind):
    held, _ = fitted(towards=kind and aligned(kind))
    read, _ = fitted(config=MapTrainConfig(**{**vars(CONFIG), "memory": 0.0}), towards=kind and aligned(kind))
    assert same(weights(held), weights(read))


@pytest.mark.parametrize("kind", ALIGNMENTS)
def test_an_alignment_brings_domains_together(kind):
    """Of a trained network, the penalty is smaller than that of one which was trained without it."""
    config = replace(CONFIG, max_epochs=8, learning_rate=3e-3)
    towards = aligned(kind)
    weight = 30.0 if kind in ("coral", "mmd") else 3.0
    given = make_alignment(kind, 1, 64, weight=weight)
    free, _ = fitted(config=config)
    drawn, result = fitted(config=config, towards={**towards, "alignment": given})
    assert all(np.isfinite(row["penalty"]) for row in result.history)
    here, there = (inputs[0 : len(inputs)] for inputs in (MapInputs.of(views()), towards["unlabelled"]))
    with torch.no_grad():
        gaps = []
        for net in (free, drawn):
            mine, other = net.hidden(0, here), net.hidden(0, there)
            gaps.append(float((mine.mean(0) - other.mean(0)).abs().mean() / mine.std()))
    if kind != "coral":  # which compares covariances, not means
        assert gaps[1] < gaps[0]


def test_weights_say_who_counts():
    """Views of weight 0 might as well have any truth; equal weights change nothing."""
    catalogue = views()
    free, _ = fitted(catalogue=catalogue)
    equal, _ = fitted(catalogue=catalogue, towards={"weights": np.full(120, 7.0)})
    for name, value in weights(free).items():
        torch.testing.assert_close(weights(equal)[name], value, atol=1e-5, rtol=1e-4)
    some = (np.arange(120) % 3 > 0).astype(float)
    wrong = replace(catalogue, columns={**catalogue.columns, "f_ex": np.where(some, catalogue["f_ex"], 0.5)})
    one, other = (fitted(catalogue=item, towards={"weights": some})[0] for item in (catalogue, wrong))
    assert same(weights(one), weights(other))


def test_what_cannot_be_used_is_refused():
    towards = aligned("mmd")
    with pytest.raises(ConfigError, match="an alignment must be given"):
        fitted(towards={"unlabelled": towards["unlabelled"]})
    with pytest.raises(DataError, match="not negative"):
        fitted(towards={"weights": -np.ones(120)})


@pytest.mark.parametrize("towards", [None, "dann"], ids=["plain", "aligned"])
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_killed_and_resumed_is_unbroken(tmp_path, monkeypatch, cut, towards):
    """R3: three cut points, of which one lies between two members and one in the second."""

    def fitted_here(folder):
        return fitted(folder, towards=towards and aligned(towards))

    whole, result = fitted_here(tmp_path / "whole")

    class KilledError(BaseException):
        pass

    saves = map_loop._Run._save

    def dies(self, **options):
        saves(self, **options)
        if len(self.state.history) == cut:
            raise KilledError

    monkeypatch.setattr(map_loop._Run, "_save", dies)
    with pytest.raises(KilledError):
        fitted_here(tmp_path / "cut")
    monkeypatch.undo()
    resumed, again = fitted_here(tmp_path / "cut")
    assert same(weights(resumed), weights(whole))
    assert again == result
    assert (tmp_path / "cut" / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    # a finished run is found again
    found, _ = fitted_here(tmp_path / "cut")
    assert same(weights(found), weights(whole))


def test_another_run_is_not_continued(tmp_path):
    fitted(tmp_path)
    with pytest.raises(TrainingError, match="another run"):
        fitted(tmp_path, MapTrainConfig(**{**vars(CONFIG), "flips": False}))
    with pytest.raises(TrainingError, match="another run"):
        fitted(tmp_path, aperture=1.0)


def test_no_galaxy_is_on_both_sides():
    """R16."""
    catalogue = views()
    run = map_loop._Run(network(), MapInputs.of(catalogue), torch.tensor(catalogue["f_ex"].tolist()), CONFIG,
                        catalogue.root, None)  # fmt: skip
    for train_rows, valid_rows in zip(run.train_rows, run.valid_rows, strict=True):
        assert not set(catalogue.root[train_rows]) & set(catalogue.root[valid_rows])


def test_a_loss_that_is_not_finite_stops_it():
    catalogue = views()
    catalogue.maps.values[5] = np.nan
    with pytest.raises(TrainingError, match="loss of member 0 is nan"):
        fitted(catalogue=catalogue)


def test_a_failing_disk_is_told():
    catalogue = views()
    inputs = MapInputs.of(catalogue)

    def broken(which):
        raise DataError("the disk is gone")

    inputs.maps.read = broken
    with pytest.raises(DataError, match="disk is gone"):
        list(inputs.batches(torch.arange(40), 16))


def test_what_comes_from_disk_is_read_ahead_and_let_go():
    inputs = MapInputs.of(views())
    batches = inputs.batches(torch.arange(120), 10)
    next(batches)
    batches.close()  # the reading thread ends, or this waits for ever
    assert inputs.maps.reads < 12


def test_train_takes_a_catalogue_of_views(tmp_path):
    catalogue = views(160)
    bundle = train(catalogue, model="maps", members=1, config=CONFIG, folder=tmp_path / "run", progress=False)
    assert bundle.estimator.recipe == Held.recipe
    assert bundle.card["rows"] == 160
    assert bundle.shift is not None
    galineage.save(bundle, tmp_path / "bundle")
    table = galineage.predict(galineage.load(tmp_path / "bundle"), catalogue.select(np.arange(10)))
    assert np.isfinite(table["fexsitu_p50"]).all()
    assert np.isfinite(table["shift"]).all()
    with pytest.raises(DataError, match="weights have shape"):
        train(catalogue, model="maps", weights=np.ones(150), progress=False)
    with pytest.raises(ConfigError, match="unlabelled views must be given"):
        train(catalogue, model="maps", members=1, alignment="mmd", progress=False)
    with pytest.raises(DataError, match="no maps"):
        train(Catalogue(dict(catalogue.columns), catalogue.ids, catalogue.domain), model="maps", progress=False)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="precision"):
        MapTrainConfig(precision="half")
    with pytest.raises(ConfigError, match="memory"):
        MapTrainConfig(memory=-1.0)
    published = MapTrainConfig.published()
    assert (published.learning_rate, published.batch_size, published.max_epochs, published.turns) == (
        1e-3, 128, 500, False,
    )  # fmt: skip


def test_whoever_stops_while_the_last_ones_wait_is_not_held_up():
    """All that is left has been read, and the queue is full: the reading thread must not wait for ever."""
    inputs = MapInputs.of(views())
    batches = inputs.batches(torch.arange(120), 30)  # one is taken, three wait, and the end of them finds no room
    next(batches)
    time.sleep(0.3)
    closing = threading.Thread(target=batches.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()


def test_views_of_a_galaxy_stay_together_even_by_row():
    """R16."""
    catalogue = views()
    labels = split_labels(catalogue, "row")
    assert len(set(labels)) == 60
    assert len(set(split_labels(replace(catalogue, maps=None), "row"))) == 120
