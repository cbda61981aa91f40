"""Nearest neighbours are exact: as a full table of distances gives them, whatever the numbers look like."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.neighbors import NearestNeighbors

from galineage.errors import ConfigError, DataError
from galineage.shift import nearest, neighbours

KINDS = ("normal", "cauchy", "grid", "repeated", "huge", "small", "offset", "constant", "one far column")


def made(kind, n, d, seed=0):
    """Rows that are hard in their own way."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d))
    return {
        "normal": rows,
        "cauchy": rng.standard_cauchy((n, d)),
        "grid": rng.integers(0, 3, (n, d)).astype(float),
        "repeated": np.repeat(rows[: n // 10 + 1], 10, axis=0)[:n],
        "huge": rows * 1e140,
        "small": rows * 1e-140,
        "offset": rows * 1e-3 + 1e4,
        "constant": np.full((n, d), 3.7),
        "one far column": rows * np.where(np.arange(d) == 0, 1e9, 1.0),
    }[kind]


def table(x, y, k, p, exclude_self):
    """The slow twin: every distance, sorted, lower index first among equals."""
    gaps = np.abs(x[:, None].astype(np.float64) - y[None].astype(np.float64))
    distance = gaps.sum(-1) if p == 1 else np.sqrt((gaps**2).sum(-1))
    if exclude_self:
        np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, order, 1), order, distance


def check(x, y, k, p, exclude_self=False, rtol=1e-9):
    found, index = nearest(x, y, k, p=p, exclude_self=exclude_self)
    wanted, _, every = table(x, y, k, p, exclude_self)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-13 * np.abs(every[np.isfinite(every)]).max(initial=0))
    assert found.dtype == np.float64
    assert index.dtype == np.int64
    assert (np.diff(found, axis=1) >= 0).all()
    assert all(len(set(row)) == k for row in index.tolist()), "a row is its neighbour once"
    # the rows named have the distances given: equal up to ties
    np.testing.assert_allclose(np.take_along_axis(every, index, 1), found, rtol=rtol, atol=1e-13 * found.max())
    if exclude_self:
        assert (index != np.arange(len(x))[:, None]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("d", [1, 5, 32, 33, 100, 300])
def test_as_the_full_table_of_distances(kind, p, d):
    y = made(kind, 150, d)
    size = np.abs(y).max()
    near, far = y[:40] * 1.01, np.random.default_rng(1).standard_normal((6, d)) * size
    x = np.concatenate([y[:30], near, far, far[:2] * 1e8])
    check(x, y, 9, p)
    check(y, y, 9, p, exclude_self=True)
    if kind not in ("huge", "small"):
        check(x.astype(np.float32), y.astype(np.float32), 9, p)
        check(y.astype(np.float32), y.astype(np.float32), 1, p, exclude_self=True)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("d", [7, 64, 257])
def test_equal_distances_are_given_in_the_order_of_the_rows(p, d):
    y = np.random.default_rng(0).integers(0, 2, (400, d)).astype(np.float32)
    y[200:] = y[:200]
    x = y[:50]
    found, index = nearest(x, y, 12, p=p)
    wanted, order, _ = table(x, y, 12, p, False)
    np.testing.assert_array_equal(index, order)  # sums of small whole numbers are exact
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("d", [6, 256])
def test_as_scikit_learns_brute_force(p, d):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((700, d), dtype=np.float32), rng.standard_normal((5000, d), dtype=np.float32)
    metric = {1: "manhattan", 2: "euclidean"}[p]
    peer = NearestNeighbors(n_neighbors=8, algorithm="brute", metric=metric).fit(y)
    distance, index = peer.kneighbors(x)
    found, place = nearest(x, y, 8, p=p)
    np.testing.assert_allclose(found, distance, rtol=1e-5)
    np.testing.assert_array_equal(np.sort(place, axis=1), np.sort(index, axis=1))


@pytest.mark.parametrize("d", [5, 256])
def test_products_in_32_bits_give_the_same(d, monkeypatch):
    y = made("normal", 500, d).astype(np.float32)
    wanted = nearest(y, y, 5, p=2, exclude_self=True)
    for kind, unit in ((torch.float32, 2.0**-24), (torch.float32, 2.0**-9), (torch.bfloat16, 2.0**-24)):
        monkeypatch.setattr(neighbours, "_arithmetic", lambda kind=kind, unit=unit: (kind, unit))
        found = nearest(y, y, 5, p=2, exclude_self=True)
        np.testing.assert_array_equal(found[1], wanted[1])
        np.testing.assert_array_equal(found[0], wanted[0])
        check(made("repeated", 300, 40), made("repeated", 300, 40), 6, 2)
        check(made("offset", 300, 40), made("offset", 300, 40), 6, 2)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("d", [4, 128])
def test_many_equal_rows_fill_the_waiting_list_and_nothing_is_lost(p, d):
    y = np.repeat(made("normal", 3, d).astype(np.float32), 1000, axis=0)
    x = y[::500] + np.float32(1e-3)
    check(x, y, 20, p)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_numbers(data):
    d = data.draw(st.sampled_from([1, 2, 40]))
    kind = data.draw(st.sampled_from([np.float32, np.float64]))
    values = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-30])
    y = data.draw(arrays(kind, (data.draw(st.integers(3, 70)), d), elements=values))
    x = data.draw(arrays(kind, (data.draw(st.integers(1, 5)), d), elements=values))
    for p in (1, 2):
        check(x, y, data.draw(st.integers(1, 3)), p, rtol=1e-7)


@pytest.mark.parametrize("p", [1, 2])
def test_rows_do_not_depend_on_each_other_nor_on_threads(p):
    x, y = made("normal", 1500, 40, 1), made("normal", 2100, 40, 2)
    whole = nearest(x, y, 4, p=p)
    order = np.random.default_rng(0).permutation(len(x))
    some = nearest(x[order], y, 4, p=p)
    one = nearest(x[700:701], y, 4, p=p)
    for a, b, c in zip(whole, some, one, strict=True):
        np.testing.assert_array_equal(a[order], b)
        np.testing.assert_array_equal(a[700:701], c)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        several = nearest(x, y, 4, p=p)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(whole, several, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_queries_and_views():
    y = made("normal", 50, 6)
    found, index = nearest(np.empty((0, 6)), y, 3)
    assert found.shape == index.shape == (0, 3)
    turned = np.asfortranarray(y)[::-1]
    np.testing.assert_array_equal(nearest(turned[:5], turned, 2)[1], nearest(turned[:5].copy(), turned.copy(), 2)[1])
    before = y.copy()
    nearest(y, y, 2, p=2, exclude_self=True)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("which", ["x", "reference"])
def test_numbers_without_a_distance_are_refused_by_row(value, which):
    rows = {"x": made("normal", 20, 3), "reference": made("normal", 30, 3)}
    rows[which][7, 1] = value
    with pytest.raises(DataError, match=f"{which} holds") as caught:
        nearest(rows["x"], rows["reference"], 2)
    assert "row 7" in caught.value.where


def test_wrong_shapes_and_settings_are_refused():
    y = made("normal", 20, 3)
    for x, reference in ((y[:, :2], y), (y[0], y), (y, y[0]), (y[:, :0], y[:, :0])):
        with pytest.raises(DataError, match="shapes"):
            nearest(x, reference, 2)
    with pytest.raises(DataError, match="themselves"):
        nearest(y[:5], y, 2, exclude_self=True)
    for k in (0, -1, 21, 2.0, True):
        with pytest.raises(ConfigError, match="k is"):
            nearest(y, y, k)
    with pytest.raises(ConfigError, match="1 to 19"):
        nearest(y, y, 20, exclude_self=True)
    for p in (0, 3, "1", np.inf):
        with pytest.raises(ConfigError, match="p is"):
            nearest(y, y, 2, p=p)


def test_importing_the_room_loads_no_compiler():
    import subprocess

    code = "import sys, galineage.shift; print({'numba', 'sklearn', 'matplotlib', 'zuko'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "set()"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_queries():
    import resource

    y = made("normal", 2000, 6).astype(np.float32)
    nearest(y[:100], y, 8)
    x = np.random.default_rng(0).standard_normal((400_000, 6), dtype=np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nearest(x, y, 8)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    assert grown < 4 * 400_000 * 8 * 16 / 2**20, "distances and indices, and little else"


def test_nothing_warns():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        nearest(made("one far column", 100, 40), made("cauchy", 100, 40), 3, p=2)
    assert not seen
