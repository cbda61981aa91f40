"""Contrastive training: resume with the queue, determinism, domains in equal numbers, saved networks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from killing import killed_after

import galineage.training.contrastive as module
from galineage.errors import BundleError, ConfigError, DataError, TrainingError
from galineage.galaxy import Catalogue, HeldMaps
from galineage.models.contrastive import ContrastiveNetwork
from galineage.models.map_inputs import MapInputs
from galineage.models.representation_files import load_representation, save_representation
from galineage.models.representing import represent
from galineage.training.contrastive import ContrastiveConfig, train_representation
from galineage.training.probe import neighbour_regression

SMALL = ContrastiveConfig(epochs=4, batch_size=16, queue=32, probe_every=2, precision="float32")


def galaxies(count: int, seed: int = 0, domain: str = "a") -> Catalogue:
    """Round galaxies of different size and brightness, two views each; size tells the stellar mass."""
    rng = np.random.default_rng(seed)
    place = np.linspace(-1, 1, 16)
    radius = np.hypot(place[:, None], place[None, :])
    size = np.repeat(rng.uniform(0.1, 0.6, count // 2), 2)
    images = np.exp(-radius / size[:, None, None])[:, None] * np.array([1.0, 0.8])[None, :, None, None]
    images = images + 0.02 * rng.standard_normal(images.shape)
    root = np.char.add(f"{domain}:", np.repeat(np.arange(count // 2), 2).astype(str))
    maps = HeldMaps(images.astype(np.float32), ("g", "r"), {"images": "made up"})
    return Catalogue({"mstar": 10 ** (9 + 2 * size)}, np.repeat(np.arange(count // 2), 2), np.full(count, domain),
                     root=root, maps=maps)  # fmt: skip


def learn(config: ContrastiveConfig = SMALL, **options):
    sets = {"a": galaxies(40), "b": galaxies(24, 1, "b")}
    return train_representation(sets, config, widths=(8, 8), probe=("mstar",), progress=False, **options)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("variant", ["nnclr", "published", "simclr"])
def test_a_run_that_was_killed_ends_as_an_unbroken_one(tmp_path, variant, monkeypatch):
    config = replace(SMALL, variant=variant)
    whole, told = learn(config)
    again, _ = learn(config)
    assert same(whole, again)
    with killed_after(2), pytest.raises(KeyboardInterrupt):
        learn(config, folder=tmp_path)
    resumed, history = learn(config, folder=tmp_path)
    assert same(whole, resumed)
    assert [row["train_loss"] for row in history] == [row["train_loss"] for row in told]
    assert (tmp_path / "history.csv").read_text().count("\n") == 5
    finished, _ = learn(config, folder=tmp_path)
    assert same(whole, finished)
    if variant == "nnclr":
        # the queue is part of it: with another one the run would end elsewhere
        with monkeypatch.context() as patch:
            patch.setattr(module.Queue, "nearest", lambda queue, rows, p=2: torch.zeros(len(rows), dtype=torch.int64))
            other, _ = learn(config)
        assert not same(whole, other)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    learn(folder=tmp_path)
    with pytest.raises(TrainingError, match="temperature"):
        learn(replace(SMALL, temperature=0.2), folder=tmp_path)
    with pytest.raises(TrainingError, match="another run"):
        train_representation([galaxies(40, 7)], SMALL, widths=(8, 8), folder=tmp_path, progress=False)


def test_domains_are_seen_equally_often(monkeypatch):
    seen = []
    take = MapInputs.take

    def counted(inputs, rows):
        if len(rows) == 8 and not isinstance(rows, np.ndarray):
            seen.append(len(inputs))
        return take(inputs, rows)

    monkeypatch.setattr(MapInputs, "take", counted)
    learn(replace(SMALL, probe_every=0))
    assert seen.count(40) == seen.count(24) == 4 * 4


def test_what_is_learned_tells_galaxies_apart():
    config = replace(SMALL, epochs=4, batch_size=32)
    sets = {"a": galaxies(160), "b": galaxies(160, 1, "b")}
    network, history = train_representation(sets, config, widths=(8, 8), probe=("mstar",), progress=False)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[-1]["probe_mstar"] > 0.8
    assert np.isnan(history[2]["probe_mstar"])
    found = represent(network, galaxies(40))
    assert found.features(["rep_000", "rep_255"]).shape == (40, 2)
    assert found.maps is not None


def test_a_network_takes_its_own_images_only():
    network, _ = learn(replace(SMALL, epochs=1))
    for channels, recipe in ((("g", "i"), {"images": "made up"}), (("g", "r"), {"images": "other"})):
        maps = HeldMaps(np.zeros((2, 2, 16, 16), np.float32), channels, recipe)
        with pytest.raises(DataError, match="made otherwise"):
            network.represent(MapInputs(maps, np.zeros((2, 0))))
    sets = [galaxies(20), replace(galaxies(20), maps=HeldMaps(np.zeros((20, 1, 16, 16), np.float32), ("g",)))]
    with pytest.raises(DataError, match="made otherwise"):
        train_representation(sets, SMALL, progress=False)


def test_a_row_does_not_depend_on_the_others():
    network, _ = learn(replace(SMALL, epochs=1))
    views = galaxies(300)
    whole = network.represent(MapInputs.of(views))
    part = network.represent(MapInputs.of(views.select(np.arange(5, 9))))
    np.testing.assert_allclose(whole[5:9], part, atol=1e-5)


def test_saved_networks_come_back(tmp_path):
    network, _ = learn(replace(SMALL, epochs=1))
    save_representation(network, tmp_path / "rep", {"domains": ["a", "b"]})
    found, card = load_representation(tmp_path / "rep")
    assert same(network, found)
    assert card == {"domains": ["a", "b"]}
    assert "made up" in (tmp_path / "rep" / "README.md").read_text()
    with pytest.raises(BundleError, match="JSON"):
        save_representation(network, tmp_path / "rep", {"number": float("nan")})


def test_damaged_networks_are_refused(tmp_path):
    network = ContrastiveNetwork(("g",), 16, widths=(8, 8))
    place = save_representation(network, tmp_path / "rep")
    path = place / "representation.json"
    known = json.loads(path.read_text())
    for change, words in (
        ({"format": 99}, "format"),
        ({"settings": {**known["settings"], "projection": 10**6}}, "far larger"),
        ({"settings": {**known["settings"], "widths": [16, 16]}}, "do not fit"),
        ({"weights": {"file": "x", "sha256": "y"}}, "missing"),
        ({"weights": 3}, "not a representation"),
    ):
        path.write_text(json.dumps({**known, **change}))
        with pytest.raises(BundleError, match=words):
            load_representation(place)
    path.write_text("{")
    with pytest.raises(BundleError, match="not a representation"):
        load_representation(place)


@pytest.mark.parametrize(
    "wrong",
    [{"variant": "x"}, {"temperature": 0.0}, {"batch_size": 1}, {"epochs": 0}, {"queue": 2.5}, {"precision": "half"},
     {"variant": "published", "batch_size": 33}],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        ContrastiveConfig(**wrong)


def test_the_probe_asks_neighbours_of_the_other_fold():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1, 200)
    fold = rng.integers(0, 2, 200)
    found = neighbour_regression(truth[:, None], truth, fold, k=1)
    for k in range(200):
        others = np.flatnonzero(fold != fold[k])
        assert found[k] == truth[others[np.argmin(np.abs(truth[others] - truth[k]))]]
