"""R16: no galaxy is on both sides of a split, whoever makes it: splits, studies, and the training loop.

The galaxies here are seen four times each, at four snapshots, so that a split by row must leak; and the detector that
finds nothing in our splits is shown to find that leak.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.store.splits import folds, held_out_groups, split_labels
from galineage.study import jobs, load_study, run_jobs
from galineage.toy import make_toy
from galineage.training import TrainConfig, loop, rows

VIEWS = 4
STUDY = """
name = "leaks"
title = "Leaks"
lead = "For tests."
target = "f_ex"
seed = 3
[domains.toy-a]
file = "toy-a.parquet"
mapping = "galineage"
rows = "all"
[domains.toy-b]
file = "toy-b.parquet"
mapping = "galineage"
rows = "all"
[[experiments]]
name = "folds"
title = "folds"
domains = ["toy-a", "toy-b"]
features = ["mstar", "age"]
models = [{ preset = "mdn", members = 2, options = { hidden = [4] } }, { preset = "spline" }]
folds = 3
epochs = 2
split = "SPLIT"
[[experiments]]
name = "holdout"
title = "hold-out"
domains = ["toy-a", "toy-b"]
features = ["mstar", "age"]
models = [{ preset = "spline" }]
folds = 0
split = "SPLIT"
[[sections]]
title = "All"
"""


def shared(first, second):
    """Identifiers of galaxies that are on both sides."""
    return set(np.asarray(first).tolist()) & set(np.asarray(second).tolist())


def views(suite, galaxies, seed):
    """A table of galaxies that are seen at several snapshots: ids differ, the descendant is the same."""
    catalogue = make_toy(suite, galaxies, seed)
    table = Table({name: np.repeat(catalogue[name], VIEWS) for name in ("mstar", "age", "f_ex")})
    table["age"] = np.clip(table["age"] - np.tile(np.arange(VIEWS) * 0.1, galaxies), 0.1, 13)
    table["RootID"] = np.repeat(np.arange(galaxies), VIEWS)
    table["GalaxyID"] = np.arange(len(table))
    table["Snapshot"] = np.tile(99 - np.arange(VIEWS), galaxies)
    return table


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for seed, name in enumerate(("toy-a", "toy-b")):
        views(name, 60, seed).write(folder / f"{name}.parquet")
    return folder


GROUPS = st.lists(st.integers(0, 30), min_size=8, max_size=150).filter(lambda values: len(set(values)) > 4)


@settings(deadline=None, max_examples=200)
@given(groups=GROUPS, seed=st.integers(0, 2**40), fraction=st.floats(0.01, 0.9), count=st.integers(2, 5))
def test_splits_share_nothing(groups, seed, fraction, count):
    labels = np.array(groups)
    held = held_out_groups(labels, fraction, seed)
    assert not shared(labels[held], labels[~held])
    number = folds(labels, count, seed)
    for fold in range(count):
        assert not shared(labels[number == fold], labels[number != fold])


@settings(deadline=None, max_examples=60)
@given(
    groups=GROUPS,
    seed=st.integers(0, 2**40),
    members=st.integers(1, 4),
    fraction=st.floats(0.05, 0.6),
    kind=st.sampled_from(["own", "shared"]),
)
def test_the_loop_validates_on_galaxies_it_does_not_train_on(groups, seed, members, fraction, kind):
    labels = np.array(groups)
    config = TrainConfig(validation=fraction, validation_split=kind, seed=seed)
    train, valid = rows.member_rows(len(labels), labels, members, config)
    for mine, held in zip(train.numpy(), valid.numpy(), strict=True):
        assert not shared(labels[mine], labels[held])


def run(tables, out, monkeypatch, split):
    """Run a study; return what every job trained on and was tested on, and what every member validated on."""
    seen = {"tests": [], "members": []}
    train, score, member_rows = jobs.train, jobs.score, loop.member_rows
    kept = []

    def trained(catalogue, *args, **options):
        kept[:] = [catalogue]
        return train(catalogue, *args, **options)

    def scored(estimator, catalogue, **options):
        seen["tests"].append((kept[0], catalogue, options["train"] == options["test"]))
        return score(estimator, catalogue, **options)

    def drawn(count, groups, members, config):
        parts = member_rows(count, groups, members, config)
        seen["members"].append((kept[0].root, *parts))
        return parts

    study = out / "leaks.toml"
    out.mkdir()
    study.write_text(STUDY.replace("SPLIT", split))
    monkeypatch.setattr(jobs, "train", trained)
    monkeypatch.setattr(jobs, "score", scored)
    monkeypatch.setattr(loop, "member_rows", drawn)
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as pool:
            run_jobs(load_study(study), tables, out / "run", executor=pool, say=lambda text: None)
    finally:
        torch.set_num_threads(threads)
    return seen


def leaks(seen):
    """Count galaxies shared by training and test sets, and by training and validation rows of members."""
    tests = [len(shared(train.root, test.root)) for train, test, _ in seen["tests"]]
    members = [
        len(shared(root[mine], root[held]))
        for root, train, valid in seen["members"]
        for mine, held in zip(train.numpy(), valid.numpy(), strict=True)
    ]
    return tests, members


def test_a_study_trains_and_tests_on_different_galaxies(tables, tmp_path, monkeypatch, tally):
    seen = run(tables, tmp_path / "root", monkeypatch, "root")
    tests, members = leaks(seen)
    assert any(inside for _, _, inside in seen["tests"])
    assert {len(np.unique(train.root)) * VIEWS == len(train) for train, _, _ in seen["tests"]} == {True}
    assert sum(tests) == 0
    assert sum(members) == 0
    tally("R16", f"{len(tests)} tests of study jobs and {len(members)} members' validation sets", "0 shared galaxies")


def test_the_detector_sees_a_split_by_row(tables, tmp_path, monkeypatch, tally):
    """The 2023 paper's split is there to be compared with: on these tables it leaks, and is seen to."""
    seen = run(tables, tmp_path / "row", monkeypatch, "row")
    tests, members = leaks(seen)
    inside = [count for count, (_, _, own) in zip(tests, seen["tests"], strict=True) if own]
    assert min(inside) > 0
    assert min(members) > 0
    tally("R16", "split by row", f"caught in {len(inside)} of {len(inside)} tests and {len(members)} validation sets")


def test_a_split_function_that_goes_by_row_is_caught(tables, tmp_path, monkeypatch):
    """The property tests above fail for an implementation that forgets the groups."""

    def by_row(groups, fraction, seed):
        return np.random.default_rng(seed).random(len(groups)) < fraction

    monkeypatch.setattr(rows, "held_out_groups", by_row)
    labels = np.repeat(np.arange(40), VIEWS)
    train, valid = rows.member_rows(len(labels), labels, 2, TrainConfig(validation=0.3))
    assert shared(labels[train[0].numpy()], labels[valid[0].numpy()])


def test_snapshots_of_one_galaxy_have_one_label(tables):
    from galineage.sources import open_source

    catalogue = open_source(tables / "toy-a.parquet", "galineage").read()
    labels = split_labels(catalogue)
    assert len(labels) == 240
    assert len(np.unique(labels)) == 60
    assert not shared(labels, split_labels(open_source(tables / "toy-b.parquet", "galineage").read())), (
        "unique over domains"
    )
