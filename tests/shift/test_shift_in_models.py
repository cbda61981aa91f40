"""The score travels with the model: fitted in training, kept in the bundle, beside every prediction, judged."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from known import scores
from safetensors.torch import load_file, save_file

from galineage import atomic
from galineage.errors import BundleError, DataError, FileFormatError
from galineage.evaluation import DIAGNOSTICS, join, shift
from galineage.evaluation.assess import evaluate
from galineage.evaluation.scores import Scores
from galineage.models import make_estimator
from galineage.models.bundle import FORMAT, Bundle, load, save
from galineage.prediction import predict
from galineage.shift import SHIFT_SCORES, NeighbourScore
from galineage.study.report import report
from galineage.tables import read_table, write_table
from galineage.toy import make_toy
from galineage.training import TrainConfig, train

FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
SHORT = TrainConfig(max_epochs=2)


@pytest.fixture(scope="module")
def model():
    return train(make_toy("toy-a", 1500, 1), FEATURES, "mdn", members=2, config=SHORT, progress=False)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return save(model, tmp_path_factory.mktemp("m") / "m")


def test_training_attaches_the_neighbour_score(model):
    assert isinstance(model.shift, NeighbourScore)
    assert model.shift.columns == len(FEATURES)
    assert len(model.shift.reference) == model.card["rows"]


@pytest.mark.parametrize("kind", SHIFT_SCORES)
def test_a_bundle_keeps_any_score(kind, tmp_path):
    x = np.random.default_rng(0).standard_normal((200, 2)) + np.array([10.5, 7.0])
    estimator = make_estimator("mdn", ("mstar", "age"), members=2, hidden=(8,)).eval()
    one = Bundle(estimator, {"domains": ["a"]}, SHIFT_SCORES[kind].fit(x))
    again = load(save(one, tmp_path / "m"))
    assert again.shift.kind == kind
    np.testing.assert_array_equal(again.shift.score(x[:50] + 0.5), one.shift.score(x[:50] + 0.5))
    description = json.loads((tmp_path / "m" / "bundle.json").read_text())
    assert description["format"] == FORMAT == 2
    assert description["shift"]["sha256"] == atomic.sha256(tmp_path / "m" / description["shift"]["file"])


def test_saving_again_leaves_one_score_or_none(model, tmp_path):
    for _ in range(2):
        save(model, tmp_path / "m")
    assert len(list((tmp_path / "m").glob("shift-*.safetensors"))) == 1
    save(replace(model, shift=None), tmp_path / "m")
    assert not list((tmp_path / "m").glob("shift*"))
    assert load(tmp_path / "m").shift is None


STEPS = 10


@pytest.mark.parametrize("failing", range(1, 13))
def test_a_save_that_fails_at_any_write_leaves_a_whole_bundle(model, tmp_path, monkeypatch, failing):
    save(replace(model, shift=None), tmp_path / "m")
    calls, sync = [], atomic._sync

    def full_disk(path):
        calls.append(path)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(atomic, "_sync", full_disk)
    with contextlib.suppress(FileFormatError):
        save(model, tmp_path / "m")
    assert len(calls) == min(failing, STEPS), "four files, their folder after each, and it again after renames"
    monkeypatch.undo()
    load(tmp_path / "m")
    save(model, tmp_path / "m")
    assert load(tmp_path / "m").shift is not None


def changed(folder, tmp_path, entry=None, tensors=None):
    """Copy the bundle with another description of the score, or other arrays under a right checksum."""
    new = tmp_path / "changed"
    new.mkdir()
    for path in folder.iterdir():
        (new / path.name).write_bytes(path.read_bytes())
    description = json.loads((new / "bundle.json").read_text())
    if tensors is not None:
        path = new / description["shift"]["file"]
        save_file(load_file(path) | tensors, path)
        description["shift"]["sha256"] = atomic.sha256(path)
    description["shift"] = entry(description["shift"]) if entry else description["shift"]
    (new / "bundle.json").write_text(json.dumps(description))
    return new


@pytest.mark.parametrize(
    "entry",
    [
        lambda old: {**old, "kind": "oracle"},
        lambda old: {**old, "kind": ["neighbours"]},
        lambda old: {**old, "kind": "flow"},
        lambda old: {**old, "sha256": "0" * 64},
        lambda old: {**old, "file": "../../etc/passwd"},
        lambda old: {"kind": "neighbours"},
        lambda old: ["neighbours"],
        lambda old: 3,
    ],
)
def test_foreign_descriptions_of_the_score_are_refused(folder, tmp_path, entry):
    with pytest.raises(BundleError):
        load(changed(folder, tmp_path, entry))


@pytest.mark.parametrize(
    "tensors",
    [
        {"k": torch.tensor([0])},
        {"k": torch.tensor([10**9])},
        {"k": torch.tensor([float("nan")])},
        {"unit": torch.tensor([0.0])},
        {"spread": torch.zeros(5)},
        {"center": torch.zeros(4)},
        {"radius": -torch.ones(1500)},
        {"radius": torch.ones(3)},
        {"reference": torch.full((1500, 5), float("inf"))},
        {"reference": torch.ones(1500, 5, dtype=torch.bool)},
        {"own": torch.zeros(2, dtype=torch.bfloat16)},
    ],
)
def test_impossible_arrays_are_refused(folder, tmp_path, tensors):
    with pytest.raises(BundleError, match="shift score"):
        load(changed(folder, tmp_path, tensors=tensors))


def test_a_score_of_other_features_is_refused(folder, tmp_path):
    other = NeighbourScore.fit(np.random.default_rng(0).standard_normal((100, 2)))
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in other.tensors().items()}
    with pytest.raises(BundleError, match="2 features"):
        load(changed(folder, tmp_path, tensors=tensors))


def test_predictions_carry_the_score_and_its_bit(model):
    galaxies = make_toy("toy-b", 600, 2)
    table = predict(model, galaxies)
    wanted = model.shift.score(galaxies.features(FEATURES))
    np.testing.assert_array_equal(table["shift"], wanted)
    np.testing.assert_array_equal((np.asarray(table["flag"]) & 32) > 0, wanted > 1)
    assert table["shift"].description
    assert "unlike the training galaxies" in table["flag"].description
    assert table.colnames[-2:] == ["shift", "flag"]


def test_a_fresh_galaxy_of_the_same_domain_is_flagged_one_time_in_twenty():
    fresh, found = make_toy("toy-a", 6000, 77), []
    for seed in range(4):  # with 2,000 training galaxies the rate scatters by almost 1 % around 5
        model = train(make_toy("toy-a", 2000, seed), FEATURES, "spline", progress=False)
        found.append(((np.asarray(predict(model, fresh)["flag"]) & 32) > 0).mean())
    assert abs(np.mean(found) - 0.05) < 0.01, found


def test_missing_inputs_are_masked_in_the_score(model, tmp_path):
    galaxies = make_toy("toy-a", 20, 5)
    columns = {name: np.array(values) for name, values in galaxies.columns.items()}
    columns["age"][[2, 7]] = np.nan
    table = predict(model, replace(galaxies, columns=columns))
    assert np.flatnonzero(table["shift"].mask).tolist() == [2, 7]
    assert not (np.asarray(table["flag"])[[2, 7]] & 32).any()
    write_table(table, tmp_path / "p.fits")
    assert np.flatnonzero(read_table(tmp_path / "p.fits")["shift"].mask).tolist() == [2, 7]


def test_models_without_a_score_predict_without_it(model):
    table = predict(replace(model, shift=None), make_toy("toy-a", 20, 5))
    assert "shift" not in table.colnames
    assert not (np.asarray(table["flag"]) & 32).any()


def test_few_galaxies_train_without_a_score():
    small = train(make_toy("toy-a", 30, 1), FEATURES, "spline", progress=False)
    assert small.shift is None
    assert any("shift score" in line for line in small.card["limits"])


def test_a_galaxy_at_several_snapshots_counts_once():
    galaxies = make_toy("toy-a", 400, 3)
    twice = galaxies.select(np.concatenate([np.arange(400), np.arange(300)]))
    model = train(twice, FEATURES, "spline", progress=False)
    assert len(model.shift.reference) == 400
    assert abs((model.shift.score(make_toy("toy-a", 3000, 9).features(FEATURES)) > 1).mean() - 0.05) < 0.04


def test_evaluation_knows_the_score(model, tmp_path):
    found = evaluate(model, make_toy("toy-b", 700, 4))
    assert found.scores.shift is not None
    assert "flagged" in str(found.verdicts["shift"])
    assert (report(found, tmp_path).parent / "figures").is_dir()
    bare = evaluate(replace(model, shift=None), make_toy("toy-b", 700, 4))
    assert "shift" not in bare.results


# --- the diagnostic -----------------------------------------------------------------------------------------------


def told(n=2000, seed=0, flagged=0.2, worse=2.0):
    """Right scores in which a fraction is flagged, with errors so many times as large."""
    base = scores("right", n, seed, model="m", train="a", test="b")
    out = np.random.default_rng(seed).random(n) < flagged
    error = (base.mean - base.truth) * np.where(out, worse, 1.0)
    return replace(base, mean=base.truth + error, shift=np.where(out, 1.7, 0.8))


def test_numbers_are_those_of_the_two_groups():
    item = told()
    (curve,) = shift.compute(item).curves
    error, out = item.mean - item.truth, item.shift > 1
    assert curve.flagged[0] == out.mean()
    assert curve.flagged_rmse[0] == pytest.approx(np.sqrt((error[out] ** 2).mean()))
    assert curve.accepted_rmse[0] == pytest.approx(np.sqrt((error[~out] ** 2).mean()))
    assert curve.behind[0] == pytest.approx(curve.flagged_rmse[0] - curve.accepted_rmse[0])
    binomial = np.sqrt(out.mean() * (1 - out.mean()) / len(out))
    assert curve.flagged[1] == pytest.approx(binomial, rel=0.25)
    assert curve.count.sum() == len(item)
    assert curve.count[(curve.edges[:-1] < 1.7) & (curve.edges[1:] >= 1.7)] == out.sum()
    assert curve.behind[0] > 4 * curve.behind[1]


@pytest.mark.parametrize(
    ("flagged", "worse", "kind", "passed"),
    [
        (0.05, 2.0, "like the training galaxies", True),
        (0.05, 1.0, "like the training galaxies", True),
        (0.05, 0.3, "the score does not tell", False),
        (0.3, 2.0, "unlike the training galaxies", False),
        (0.3, 0.5, "unlike the training galaxies", False),
        (0.0, 1.0, "like the training galaxies", True),
        (1.0, 1.0, "unlike the training galaxies", False),
    ],
)
def test_the_verdict(flagged, worse, kind, passed):
    verdict = shift.judge(shift.compute(told(flagged=flagged, worse=worse)))
    assert (verdict.kind, verdict.passed) == (kind, passed)
    assert f"{100 * flagged:.0f}"[0] in verdict.sentence
    if flagged == 0.3:
        assert ("larger errors" if worse > 1 else "smaller errors") in verdict.sentence


def test_too_few_galaxies_never_pass():
    assert not shift.judge(shift.compute(told(30, flagged=0.0))).passed


def test_several_tests_in_one_figure():
    items = [told(seed=1, flagged=0.05), replace(told(seed=2, flagged=0.4), train="c")]
    found = shift.compute(items)
    verdict = shift.judge(found)
    assert verdict.kind == "mixed"
    assert "m a → b" in verdict.sentence
    upper, lower = shift.draw(found)
    assert len(upper.get_legend().get_texts()) == 2
    assert upper.get_xlim() == lower.get_xlim()
    assert len(found.to_table()) == 2 * (2 + len(found.curves[0].count))
    with pytest.raises(DataError):
        shift.compute([])
    with pytest.raises(DataError, match="targets"):
        shift.compute([items[0], replace(items[1], target="age")])


def test_scores_without_a_shift_score_say_so():
    bare = replace(told(), shift=None)
    assert not DIAGNOSTICS["shift"].needs(bare)
    with pytest.raises(DataError, match="no shift scores"):
        shift.compute(bare)


def test_score_files_with_and_without(tmp_path):
    for item in (told(50), replace(told(50), shift=None)):
        item.write(tmp_path / "s.parquet")
        again = Scores.read(tmp_path / "s.parquet")
        assert again.arrays == item.arrays
        np.testing.assert_array_equal(again.select(np.arange(9)).truth, item.truth[:9])
        if item.shift is not None:
            np.testing.assert_array_equal(again.shift, item.shift)
    both = join([told(50, seed=1), told(40, seed=2)])
    assert both.shift.shape == (90,)
    assert join([told(50), replace(told(40), shift=None)]).shift is None
    with pytest.raises(DataError, match="shift"):
        replace(told(50), shift=np.full(50, np.nan))
