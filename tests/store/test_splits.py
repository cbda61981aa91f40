"""Splits: whole groups, seeded, of the asked size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galineage.errors import ConfigError, DataError
from galineage.galaxy import Catalogue
from galineage.store.splits import folds, held_out_groups, split_labels

LABELS = st.lists(st.sampled_from([f"root{i}" for i in range(15)]), min_size=2, max_size=120).filter(
    lambda values: len(set(values)) > 1
)


@given(labels=LABELS, fraction=st.floats(0, 1), seed=st.integers(0, 2**40))
def test_held_out_groups_are_whole_seeded_and_of_the_asked_size(labels, fraction, seed):
    groups = np.array(labels)
    held = held_out_groups(groups, fraction, seed)
    assert held.shape == groups.shape
    assert held.dtype == bool
    assert not set(groups[held]) & set(groups[~held])
    assert held.any()
    assert not held.all()
    count = len(set(labels))
    assert abs(len(set(groups[held])) - fraction * count) <= max(1, 0.5)
    assert np.array_equal(held, held_out_groups(groups, fraction, seed))


@given(labels=LABELS, seed=st.integers(0, 2**40), order=st.randoms(use_true_random=False))
def test_the_split_follows_the_group_and_not_its_place_in_the_table(labels, seed, order):
    groups = np.array(labels)
    places = list(range(len(labels)))
    order.shuffle(places)
    assert np.array_equal(held_out_groups(groups, 0.3, seed)[places], held_out_groups(groups[places], 0.3, seed))


def test_another_seed_holds_out_other_groups():
    groups = np.arange(200)
    draws = [held_out_groups(groups, 0.1, seed) for seed in range(30)]
    assert all(draw.sum() == 20 for draw in draws)
    assert len({draw.tobytes() for draw in draws}) == 30
    # over many seeds every group is held out now and then
    assert np.mean([held_out_groups(groups, 0.1, seed) for seed in range(600)], axis=0).min() > 0.04


@given(labels=LABELS, count=st.integers(2, 6), seed=st.integers(0, 2**40))
def test_folds_partition_the_groups(labels, count, seed):
    groups = np.array(labels)
    different = len(set(labels))
    if count > different:
        with pytest.raises(ConfigError, match=f"{count} folds of {different} groups"):
            folds(groups, count, seed)
        return
    fold = folds(groups, count, seed)
    assert fold.shape == groups.shape
    sizes = [len(set(groups[fold == number])) for number in range(count)]
    assert sum(sizes) == different, "no group is in two folds"
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert np.array_equal(fold, folds(groups, count, seed))


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_fewer_than_two_folds_are_refused(count):
    with pytest.raises(ConfigError, match="folds of"):
        folds(np.arange(10), count, 0)


@pytest.mark.parametrize("groups", [np.zeros(5), np.array([]), np.array(["a"])])
def test_one_group_cannot_be_split(groups):
    with pytest.raises(DataError, match="one group"):
        held_out_groups(groups, 0.5, 0)


def test_labels_are_roots_unless_rows_are_asked_for():
    known = Catalogue({"age": np.arange(3.0)}, np.arange(3), "a", np.array(["x", "x", "y"]), meta={"file": "t.csv"})
    assert split_labels(known).tolist() == ["x", "x", "y"]
    assert split_labels(known, "row").tolist() == [0, 1, 2]
    unknown = Catalogue({"age": np.arange(3.0)}, np.arange(3), "a", meta={"file": "t.csv"})
    assert split_labels(unknown, "row").tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="descendants") as caught:
        split_labels(unknown)
    assert caught.value.where == "t.csv"
    with pytest.raises(ConfigError, match="'tree'"):
        split_labels(known, "tree")
