"""Made-up trees: mergers and origins against a twin that follows links one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.errors import DataError
from galineage.history import birthplaces, classify, ex_situ_fraction, find_mergers, statistics
from galineage.trees import Tree

AGES = np.linspace(0.5, 13.8, 12)


def grow(seed, snapshots=11, chance=0.35):
    """A tree by recursion: (rows in depth-first order, links as objects for the twin)."""
    rng = np.random.default_rng(seed)
    rows = []

    def subhalo(snapshot, descendant, mass):
        own = len(rows)
        number = int(rng.integers(1000)) * 20 + snapshot
        links = {"descendant": descendant, "first": None, "others": []}
        rows.append({"id": own, "snapshot": snapshot, "subhalo": number, "mstar": mass, **links})
        if snapshot > 0 and rng.random() < 0.93:
            rows[own]["first"] = subhalo(snapshot - 1, own, mass * rng.uniform(0.6, 1.05))
            while rng.random() < chance:
                rows[own]["others"].append(subhalo(snapshot - 1, own, mass * rng.uniform(0.0, 0.8)))
        return own

    subhalo(snapshots, -1, 1e11)
    for row in reversed(rows):
        row["last"] = max([row["id"], *(rows[k]["last"] for k in [row["first"], *row["others"]] if k is not None)])
        row["leaf"] = row["id"] if row["first"] is None else rows[row["first"]]["leaf"]
    shift = 10**12
    tree = Tree(
        id=[shift + row["id"] for row in rows],
        descendant=[-1 if row["descendant"] < 0 else shift + row["descendant"] for row in rows],
        last_progenitor=[shift + row["last"] for row in rows],
        main_leaf=[shift + row["leaf"] for row in rows],
        root=[shift] * len(rows),
        snapshot=[row["snapshot"] for row in rows],
        subhalo=[row["subhalo"] for row in rows],
        mstar=[row["mstar"] for row in rows],
    )
    return rows, tree


def twin(rows, start):
    """Follow the links: (secondary, time, ratio, mass) of every merger."""
    branch, k = [], start
    while k is not None:
        branch.append(k)
        k = rows[k]["first"]
    at = {rows[k]["snapshot"]: rows[k]["mstar"] for k in branch}
    found = []
    for k in branch:
        for secondary in rows[k]["others"]:
            own, j = [], secondary
            while j is not None:
                own.append(j)
                j = rows[j]["first"]
            best = max(own, key=lambda j: rows[j]["mstar"])
            other = at.get(rows[best]["snapshot"], 0)
            if rows[best]["mstar"] > 0 and other > 0:
                time = AGES[rows[start]["snapshot"]] - AGES[rows[k]["snapshot"]]
                found.append((secondary, time, rows[best]["mstar"] / other, rows[best]["mstar"]))
    return sorted(found, key=lambda one: (one[1], one[0]))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_mergers_are_those_of_the_links(seed, deeper):
    rows, tree = grow(seed)
    start = 0
    for _ in range(deeper):  # a galaxy of an earlier snapshot: times count from its own
        start = start if rows[start]["first"] is None else rows[start]["first"]
    found = find_mergers(tree, start, AGES)
    want = twin(rows, start)
    assert found.secondary.tolist() == [one[0] for one in want]
    ours = np.stack([found.time, found.ratio, found.mstar], axis=1)
    np.testing.assert_allclose(ours, np.array([one[1:] for one in want]).reshape(-1, 3))


def test_statistics_of_known_mergers():
    class Known:
        secondary = np.arange(4)
        time = np.array([1.0, 3.0, 5.0, 9.0])
        ratio = np.array([0.1, 0.5, 2.0, 0.3])
        mstar = np.array([1e9, 4e9, 4e9, 1e9])

    found = statistics(Known)
    assert found["n_major"] == 3
    assert found["t_last_major"] == 3.0
    assert found["mstar_last_major"] == 4e9
    assert found["t_mean_merger"] == pytest.approx((1 + 12 + 20 + 9) / 10)
    assert found["mu_mean_merger"] == pytest.approx((0.1 + 2 + 2 + 0.3) / 10)
    Known.ratio = np.array([0.1, 0.2, 5.0, 0.24])
    assert np.isnan(statistics(Known)["t_last_major"])
    for name in Known.__dict__:
        if not name.startswith("_"):
            setattr(Known, name, np.zeros(0))
    assert all(np.isnan(value) for name, value in statistics(Known).items() if name != "n_major")


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_stars_born_on_the_main_branch_are_in_situ(seed):
    rows, tree = grow(seed)
    rng = np.random.default_rng(seed)
    branch = set(tree.main_branch(0).tolist())
    born = rng.integers(0, len(rows), 200)
    snapshot = np.array([rows[k]["snapshot"] for k in born])
    subhalo = np.array([rows[k]["subhalo"] for k in born])
    outside = rng.random(200) < 0.1
    subhalo[outside] = -1
    on_branch = {(rows[k]["snapshot"], rows[k]["subhalo"]) for k in branch}
    want = np.array([(s, h) not in on_branch for s, h in zip(snapshot, subhalo, strict=True)])
    ex_situ = classify(tree, 0, snapshot, subhalo)
    np.testing.assert_array_equal(ex_situ, want)
    mass = rng.random(200)
    fraction = ex_situ_fraction(mass, ex_situ)
    assert fraction + ex_situ_fraction(mass, ~ex_situ) == pytest.approx(1)


def test_birthplaces_are_first_appearances():
    rng = np.random.default_rng(4)
    ids = rng.permutation(10**6)[:300] + 2**62
    born = rng.integers(0, 6, 300)
    born[:5] = 99  # never seen
    snapshots = []
    for number in range(6):
        there = born <= number
        every = np.concatenate([ids[there], rng.integers(0, 1000, 50)])
        snapshots.append((number, every, np.where(np.arange(len(every)) % 7, np.arange(len(every)), -1)))
    first, host = birthplaces(ids, iter(snapshots))
    np.testing.assert_array_equal(first, np.where(born < 6, born, -1))
    for k in range(5, 300):
        _, every, subhalo = snapshots[born[k]]
        assert host[k] == subhalo[np.flatnonzero(every == ids[k])[0]]
    with pytest.raises(DataError, match="twice"):
        birthplaces(np.array([3, 3]), [])


def test_incomplete_and_disordered_trees_are_refused():
    rows, tree = grow(3)
    part = {name: getattr(tree, name) for name in tree.__dataclass_fields__ if name != "gaps"}
    assert len(rows) > 20
    some = Tree(**{name: values[:10] for name, values in part.items()})
    with pytest.raises(DataError, match="whole tree"):
        find_mergers(some, 0, AGES)
    with pytest.raises(DataError, match="ascend"):
        Tree(**{name: values[::-1] for name, values in part.items()})
    with pytest.raises(DataError, match="depth-first"):
        Tree(**{**part, "main_leaf": part["main_leaf"] - 5})
    with pytest.raises(DataError, match="no age"):
        find_mergers(tree, 0, AGES[:4])
    with pytest.raises(DataError, match="in no tree"):
        tree.find(11, -7)
    assert tree.find(int(tree.snapshot[7]), int(tree.subhalo[7])) in np.flatnonzero(tree.subhalo == tree.subhalo[7])
