"""Saved models: written so that no reader ever sees half of one, read so that nothing damaged or hostile passes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from galineage import atomic
from galineage.errors import BundleError, FileFormatError
from galineage.models import make_estimator
from galineage.models.bundle import Bundle, card_text, load, save
from galineage.models.heads import BoundedHead

CARD = {
    "model": "mdn",
    "domains": ["toy-a", "toy-b"],
    "rows": 1234,
    "ranges": {"mstar": {"min": 9.0, "p01": 9.1, "p99": 11.5, "max": 12.0}},
    "metrics": {"R2": 0.71},
    "limits": ["Stellar masses of the training galaxies: 10^9 to 10^12 Msun."],
}


def bundle(seed=0, **card):
    estimator = make_estimator("mdn", ("mstar", "age"), members=2, hidden=(8,), seed=seed)
    return Bundle(estimator.eval(), {**CARD, **card})


def answer(one):
    with torch.no_grad():
        return one.estimator(torch.tensor([[10.5, 7.0], [11.0, 3.0]])).mean.numpy()


def test_what_is_saved_is_loaded(tmp_path):
    first = bundle()
    assert save(first, tmp_path / "deep" / "model") == tmp_path / "deep" / "model"
    second = load(str(tmp_path / "deep" / "model"))
    assert second.card == first.card
    assert second.name == "mdn trained on toy-a, toy-b"
    assert second.estimator.settings() == first.estimator.settings()
    np.testing.assert_array_equal(answer(second), answer(first))
    assert {path.suffix for path in (tmp_path / "deep" / "model").iterdir()} == {".safetensors", ".json", ".md"}


def test_description_names_units_scales_and_checksum(tmp_path):
    folder = save(bundle(), tmp_path / "m")
    description = json.loads((folder / "bundle.json").read_text())
    assert description["format"] == 2
    assert description["fields"]["mstar"] == {
        "unit": "Msun",
        "scale": "log",
        "meaning": "stellar mass of all bound star particles",
    }
    assert set(description["fields"]) == {"mstar", "age", "f_ex"}
    assert description["weights"]["sha256"] == atomic.sha256(folder / description["weights"]["file"])


def test_the_card_says_what_a_user_must_know():
    text = card_text(bundle())
    for part in (
        "mdn trained on toy-a, toy-b",
        "ex-situ",
        "| mstar | Msun | log | 9.1 to 11.5 |",
        "1234",
        "R2: 0.71",
        "10^9 to 10^12",
    ):
        assert part in text
    assert "Not measured." in card_text(bundle(metrics={}))
    assert "nan to nan" in card_text(Bundle(bundle().estimator))


def test_saving_again_replaces_and_leaves_one_set_of_weights(tmp_path):
    save(bundle(seed=1), tmp_path)
    save(bundle(seed=2), tmp_path)
    np.testing.assert_array_equal(answer(load(tmp_path)), answer(bundle(seed=2)))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.parametrize("failing", range(1, 9))
def test_a_save_that_fails_at_any_write_leaves_the_old_bundle_or_the_new_one(tmp_path, monkeypatch, failing):
    save(bundle(seed=1), tmp_path)
    calls = []
    sync = atomic._sync

    def full_disk(path):
        calls.append(path)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(atomic, "_sync", full_disk)
    with contextlib.nullcontext() if failing > 7 else pytest.raises(FileFormatError, match="No space left"):
        save(bundle(seed=2), tmp_path)
    assert len(calls) == min(failing, 7), "a save syncs three files, their folder, and it again after a rename"
    monkeypatch.undo()
    found = answer(load(tmp_path))
    assert any(np.array_equal(found, answer(bundle(seed=seed))) for seed in (1, 2))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("failing", [1, 2, 3, 5])
def test_a_first_save_that_failed_can_be_done_again(tmp_path, monkeypatch, failing):
    calls = []

    def full_disk(path):
        calls.append(path)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_sync", full_disk)
    with pytest.raises(FileFormatError):
        save(bundle(), tmp_path / "m")
    monkeypatch.undo()
    if not (tmp_path / "m" / "bundle.json").exists():
        with pytest.raises(BundleError, match="not a bundle"):
            load(tmp_path / "m")
    save(bundle(), tmp_path / "m")
    np.testing.assert_array_equal(answer(load(tmp_path / "m")), answer(bundle()))


def test_other_peoples_folders_and_files_are_not_touched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="not empty"):
        save(bundle(), tmp_path)
    with pytest.raises(BundleError, match="this is a file"):
        save(bundle(), tmp_path / "notes.txt")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "README.md").write_text("mine")
    with pytest.raises(BundleError, match="not empty"):
        save(bundle(), tmp_path / "repository")
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "repository" / "README.md").read_text() == "mine"


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, np.float32(0.5)])
def test_a_card_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(BundleError, match="card"):
        save(bundle(metrics={"R2": value}), tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.fixture
def folder(tmp_path):
    return save(bundle(), tmp_path / "m")


def damage(folder, **changes):
    path = folder / "bundle.json"
    description = json.loads(path.read_text())
    for key, value in changes.items():
        description.pop(key) if value is KeyError else description.update({key: value})
    path.write_text(json.dumps(description))


def test_damaged_weights_are_noticed(folder):
    weights = next(folder.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="checksum"):
        load(folder)
    weights.unlink()
    with pytest.raises(BundleError, match="missing"):
        load(folder)


def test_something_that_is_no_bundle_is_named_as_such(tmp_path, folder):
    for wrong in (tmp_path / "nothing", tmp_path, folder / "bundle.json"):
        with pytest.raises(BundleError, match="not a bundle") as caught:
            load(wrong)
        assert str(wrong) in caught.value.where


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '{"format": 1}', "[" * 100_000, "\x00", '{"format": 1, "kind": 3, "settings": 3}'],
)
def test_descriptions_that_are_not_ours_are_refused(folder, text):
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match="not a bundle"):
        load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 3},
        {"format": "1"},
        {"kind": "transformer"},
        {"kind": ["perceptron"]},
        {"kind": KeyError},
        {"settings": {}},
        {"settings": [1]},
        {"settings": {"features": ["mstar", "age"]}},
        {"settings": {"features": 5}},
        {"settings": {"features": ["mstar", "no_such_field"]}},
        {"settings": {"features": ["mstar", "age"], "hidden": [10**6, 10**6]}},
        {"settings": {"features": ["mstar", "age"], "members": 10**9}},
        {"settings": {"features": ["mstar", "age"], "hidden": "wide"}},
        {"settings": {"features": ["mstar", "age"], "hidden": [8], "seed": 10**30}},
        {"settings": {"features": ["mstar", "age"], "hidden": [8], "head": {"kind": "bounded", "components": 10**9}}},
        {"settings": {"features": ["mstar", "age"], "hidden": [8], "head": "bounded"}},
        {"weights": {"file": "../../other.safetensors", "sha256": "0"}},
        {"weights": {}},
        {"weights": None},
        {"card": 5},
    ],
)
def test_hostile_or_foreign_descriptions_are_refused_in_words(folder, changes):
    damage(folder, **changes)
    with pytest.raises(BundleError):
        load(folder)


def test_weights_of_another_network_are_refused(folder, tmp_path):
    other = make_estimator("mdn", ("mstar", "age"), members=2, hidden=(8,), head=BoundedHead(components=2))
    save(Bundle(other, CARD), tmp_path / "other")
    weights = next((tmp_path / "other").glob("*.safetensors"))
    (folder / weights.name).write_bytes(weights.read_bytes())
    damage(folder, weights={"file": weights.name, "sha256": atomic.sha256(weights)})
    with pytest.raises(BundleError, match="do not fit"):
        load(folder)


def test_weights_that_are_no_safetensors_are_refused(folder):
    (folder / "weights-000000000000.safetensors").write_bytes(b"\x80\x04not a tensor")
    damage(
        folder,
        weights={
            "file": "weights-000000000000.safetensors",
            "sha256": atomic.sha256(folder / "weights-000000000000.safetensors"),
        },
    )
    with pytest.raises(BundleError, match="cannot be read"):
        load(folder)


def test_reading_a_neural_bundle_does_not_import_the_tree_or_plotting_libraries(folder):
    program = (
        "import sys; from galineage.models.bundle import load; load(sys.argv[1]);"
        "print([name for name in ('sklearn', 'matplotlib', 'pickle5') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(folder)], check=True, capture_output=True, text=True, timeout=120
    )
    assert found.stdout.strip() == "[]"


def test_a_forest_that_points_outside_its_bins_is_refused():
    from galineage.models import RandomForest

    x = torch.rand(60, 1, generator=torch.Generator().manual_seed(1))
    forest = RandomForest(["mstar"], trees=3)
    forest.fit(x, x[:, 0], 0)
    good = {name: value.clone() for name, value in forest.state_dict().items()}
    RandomForest(["mstar"], trees=3).load_tensors(good)
    for name, value in (("bin_of_row", 2**33), ("bin_of_row", -1), ("leaf_of_row", 10_000)):
        bad = {key: tensor.clone() for key, tensor in good.items()}
        bad[name].view(-1)[0] = value
        with pytest.raises(RuntimeError, match="do not fit together"):
            RandomForest(["mstar"], trees=3).load_tensors(bad)


def test_a_first_save_that_was_killed_can_be_done_again(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / ".weights.k3j2.safetensors").write_bytes(b"half")
    save(Bundle(make_estimator("spline", ["mstar"])), folder)
    assert load(folder).estimator.kind == "spline"
    assert not list(folder.glob(".*"))
