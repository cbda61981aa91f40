"""What comes before a study of images: nothing is done twice, nothing held out is shown, a killed run goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import killed_after

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
import made_images

from galineage.errors import ConfigError
from galineage.fields import representation_features
from galineage.models.map_inputs import MapInputs
from galineage.models.representation_files import load_representation
from galineage.sources import open_source
from galineage.store.image_store import ImageStore
from galineage.store.splits import held_out_by_name
from galineage.study import image_steps, load_study
from galineage.study.image_steps import REPRESENTATION, learn_representation, on_image_toys
from galineage.tables import write_catalogue
from galineage.training import contrastive

STUDY = """
name = "small"
title = "Small"
lead = "For tests."
target = "f_ex"
seed = 3

[domains.one]
file = "one.parquet"
mapping = "galineage"
maps = "images"
rows = "all"
stand_in = "toy-a"

[domains.two]
file = "two.parquet"
mapping = "galineage"
maps = "images"
rows = "all"
stand_in = "toy-c"

[domains.sky]
file = "sky.parquet"
mapping = "galineage"
maps = "images"
rows = "all"
stand_in = "survey"

[representation]
images = "images"
domains = ["one", "sky"]
widths = [8, 8]
training = { epochs = 3, batch_size = 8, queue = 16, precision = "float32" }
probe = ["f_ex"]

[[experiments]]
name = "e"
title = "images"
domains = ["one", "two", "sky"]
trains = ["one"]
features = ["representation"]
targets = ["f_ex", "t_last_major"]
models = [{ preset = "cinn", members = 2 }]
folds = 0
holdout = 0.3

[[sections]]
title = "All"
items = [{ kind = "landscape", name = "l", title = "L", caption = "c", domains = ["one", "sky"] }]
"""


class Good(made_images.Images):
    """Two views of each galaxy, none of them bad; in numbers from ``first`` on."""

    def __init__(self, first, count):
        super().__init__(count)
        self.first = first

    def read(self, row):
        cutout = super().read(100 + 7 * self.first + 20 * row)  # beyond the bad ones
        facts = {**cutout.meta["facts"], "root": f"{self.first}:{row // 2}", "truth": {"f_ex": (row // 2) / 20}}
        facts["truth"]["t_last_major"] = float("nan")
        return replace(cutout, meta={"facts": facts})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "small.toml"
    path.write_text(STUDY)
    return load_study(path)


@pytest.fixture
def data(tmp_path):
    """A data folder with a store of three domains."""
    for first, domain in enumerate(("one", "two", "sky")):
        made_images.build(tmp_path / "images", Good(first, 20), domain=domain)
    return tmp_path


def learn(study, data):
    """Run the step; return what it said."""
    said = []
    learn_representation(study, data, progress=False, say=said.append)
    return said


def test_tables_hold_every_view_and_its_representation(study, data):
    learn(study, data)
    names = representation_features()
    network, card = load_representation(data / REPRESENTATION)
    store = ImageStore(data / "images")
    for domain in ("one", "two", "sky"):
        table = open_source(data / f"{domain}.parquet", "galineage").read()
        assert len(table) == 20
        assert not table.skipped
        assert set(table.domain) == {domain}
        assert sorted(table["view"]) == [0] * 10 + [1] * 10
        views = store.views(domain)
        found = network.represent(MapInputs.of(views))
        np.testing.assert_allclose(table.features(names), found, atol=1e-5)
        assert set(table.root) == set(np.char.add(f"{domain}:", views.root))
    assert card["domains"] == ["one", "sky"]
    assert card["images"] == {
        name: int((~held_out_by_name(store.views(name), 0.3, study.seed)).sum()) for name in ("one", "sky")
    }


def test_held_out_galaxies_are_never_shown(study, data, monkeypatch):
    given = {}
    train = image_steps.train_representation

    def spied(catalogues, config, **options):
        given.update(catalogues)
        return train(catalogues, config, **options)

    monkeypatch.setattr(image_steps, "train_representation", spied)
    learn(study, data)
    assert list(given) == ["one", "sky"], "of the domain that is only tested on nothing is shown"
    store = ImageStore(data / "images")
    for domain, shown in given.items():
        views = store.views(domain)
        held = set(views.ids[held_out_by_name(views, 0.3, study.seed)])
        assert 0 < len(held) < 8
        assert not held & set(shown.ids)
        assert held | set(shown.ids) == set(views.ids)
        assert len(shown) == 20 - 2 * len(held)


def test_what_the_experiments_hold_out_is_what_was_held_out(study, data):
    """The split of views in the store and that of rows in the table are one."""
    learn(study, data)
    views = ImageStore(data / "images").views("one")
    table = open_source(data / "one.parquet", "galineage").read()
    in_store = set(views.ids[held_out_by_name(views, 0.3, study.seed)])
    in_table = set(table.ids.astype(str)[held_out_by_name(table, 0.3, study.seed)])
    assert in_store == in_table


def test_what_is_done_is_not_done_again(study, data, monkeypatch):
    learn(study, data)
    before = (data / "one.parquet").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(image_steps, "train_representation", None)
        (said,) = learn(study, data)
    assert "already" in said
    # a table that somebody changed is not replaced; a missing one, other settings or other images are work to do
    (data / "one.parquet").write_bytes(b"changed")
    with pytest.raises(ConfigError, match="was not written by this study"):
        learn(study, data)
    assert (data / "one.parquet").read_bytes() == b"changed"
    (data / "one.parquet").unlink()
    assert "learning" in learn(study, data)[0]
    assert (data / "one.parquet").read_bytes() == before
    longer = replace(study.representation, training={**study.representation.training, "epochs": 4})
    assert "learning" in learn(replace(study, representation=longer), data)[0]


def test_without_a_store_tables_are_enough(study, data, monkeypatch):
    learn(study, data)
    (data / "images").rename(data / "gone")
    monkeypatch.setattr(image_steps, "train_representation", None)
    assert learn(study, data) == []


def test_a_run_killed_in_training_ends_as_an_unbroken_one(study, data, monkeypatch):
    learn(study, data)
    whole, _ = load_representation(data / REPRESENTATION)
    table = (data / "two.parquet").read_bytes()
    (data / REPRESENTATION).rename(data / "first")
    for name in ("one", "two", "sky"):
        (data / f"{name}.parquet").unlink()
    with killed_after(2), pytest.raises(KeyboardInterrupt):
        learn(study, data)
    trained, epoch = [], contrastive.Run._one_epoch
    monkeypatch.setattr(contrastive.Run, "_one_epoch", lambda run, shown: trained.append(1) or epoch(run, shown))
    learn(study, data)
    assert len(trained) == 1
    again, _ = load_representation(data / REPRESENTATION)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert (data / "two.parquet").read_bytes() == table


def test_a_run_killed_between_training_and_tables_does_not_train_again(study, data, monkeypatch):
    learn(study, data)
    expected = {name: (data / f"{name}.parquet").read_bytes() for name in ("one", "two", "sky")}
    (data / REPRESENTATION).rename(data / "first")
    for name in expected:
        (data / f"{name}.parquet").unlink()

    def killed(catalogue, path):
        if path.stem == "two":
            raise KeyboardInterrupt
        write_catalogue(catalogue, path)

    with monkeypatch.context() as patch:
        patch.setattr(image_steps, "write_catalogue", killed)
        with pytest.raises(KeyboardInterrupt):
            learn(study, data)
    monkeypatch.setattr(contrastive.Run, "_one_epoch", None)
    learn(study, data)
    assert {name: (data / f"{name}.parquet").read_bytes() for name in expected} == expected
    monkeypatch.setattr(image_steps, "train_representation", None)
    assert "already" in learn(study, data)[0]


def test_experiments_must_hold_out_the_same_galaxies(study, data):
    (one,) = study.experiments
    both = (one, replace(one, name="other", holdout=0.2))
    with pytest.raises(ConfigError, match="different galaxies"):
        learn(replace(study, experiments=both), data)


def test_toys_take_the_place_of_simulations_and_survey(study):
    on_toys, boxes = on_image_toys(study, 7, stars=100)
    assert [domain.name for domain in on_toys.domains] == ["toy-a", "toy-c", "survey"]
    assert [box.suite for box in boxes] == ["toy-a", "toy-c"], "the survey is every other galaxy of toy-c"
    assert on_toys.representation.domains == ("toy-a", "survey")
    assert on_toys.warning
    bare = replace(study, domains=tuple(replace(domain, stand_in="") for domain in study.domains))
    with pytest.raises(ConfigError, match="no stand_in"):
        on_image_toys(bare, 7)
