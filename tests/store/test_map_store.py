"""A map store: what goes in comes out, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import made_galaxies
import numpy as np
import pytest
from made_galaxies import SMALL, Broken, Made

from galineage import atomic
from galineage.errors import ConfigError, DataError, FileFormatError, TrainingError
from galineage.galaxy import Catalogue, Skip
from galineage.lock import locked
from galineage.store.map_store import MapStore
from galineage.store.prepare import prepare
from galineage.store.settings import StoreConfig
from galineage.views import CHANNELS, MapConfig, make_maps, refine


def build(out, source=None, config=SMALL, **options):
    source = source or Made()
    return prepare(source, source.catalogue(), out, config, progress=False, **options)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build(tmp_path_factory.mktemp("store") / "maps")


def test_what_goes_in_comes_out(store):
    (galaxy,) = Made().galaxies(["6"])
    maps = make_maps(galaxy, SMALL.place(3, "made:6"), SMALL.maps)
    rows = [k for k, row in enumerate(store.rows) if row["id"] == "6"]
    np.testing.assert_array_equal(store.read(rows, "raw"), maps.values)
    np.testing.assert_array_equal(store.read(rows), refine(maps).values)
    assert [store.rows[k]["view"] for k in rows] == [0, 1, 2]
    assert store.rows[rows[1]]["los"] == maps.views[1].los.tolist()
    assert store.rows[rows[0]]["truth"]["f_ex"] == pytest.approx(np.linspace(0.01, 0.9, 20)[6])


def test_missing_channels_are_missing_not_made_up(store):
    rows = [k for k, row in enumerate(store.rows) if row["id"] == "15"]
    assert store.rows[rows[0]]["missing"] == ["age"]
    assert np.isnan(store.read(rows, "raw")[:, CHANNELS.index("age")]).all()
    assert (store.read(rows)[:, store.channels.index("age")] == 0).all()


def test_bad_galaxies_are_listed_and_the_rest_goes_on(store):
    assert {one["id"] for one in store.skipped} == {"3", "10", "17", "8"}
    assert all(one["reason"] for one in store.skipped)
    assert len(store) == 3 * 16
    assert len({row["id"] for row in store.rows}) == 16


def test_the_table_has_truths_with_units(store):
    table = store.table()
    assert len(table) == len(store)
    assert str(table["mstar"].unit) in ("Msun", "solMass")
    assert str(table["r_half"].unit) == "kpc"
    assert table["los"].shape == (48, 3)
    np.testing.assert_array_equal(store.truth("f_ex"), table["f_ex"])


def test_batches_are_every_row_once_in_an_order_of_the_seed(store):
    first = [rows for rows, _ in store.batches(7, seed=1)]
    again = [rows for rows, _ in store.batches(7, seed=1)]
    other = [rows for rows, _ in store.batches(7, seed=2)]
    assert sorted(np.concatenate(first)) == list(range(len(store)))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    for rows, values in store.batches(7, seed=1):
        np.testing.assert_array_equal(values, store.read(rows))
    some = np.array([5, 1, 9])
    assert sorted(np.concatenate([rows for rows, _ in store.batches(2, 0, some)])) == [1, 5, 9]


def test_splits_keep_roots_together(store):
    part = store.folds(4, seed=3)
    assert set(part) == {0, 1, 2, 3}
    for root in set(store.groups):
        assert len(set(part[store.groups == root])) == 1
    assert len(set(store.groups)) < len({row["id"] for row in store.rows}), "two galaxies share a root"


def test_16_bit_numbers_are_the_32_bit_ones_rounded(tmp_path, store):
    half = build(tmp_path, config=replace(SMALL, number="float16", raw=False))
    assert half.read([0]).dtype == np.float16
    np.testing.assert_allclose(half.read([0, 20]), store.read([0, 20]), rtol=1e-3, atol=1e-3)
    with pytest.raises(DataError, match="no 'raw' maps"):
        half.read([0], "raw")


def test_view_tables_and_turned_cameras(tmp_path):
    config = replace(SMALL, views=((0.3, 1), (float("inf"), 4)), rotate=True)
    found = build(tmp_path, config=config)
    views = {row["id"]: row["views"] for row in found.rows}
    assert views["1"] == 1
    assert views["19"] == 4
    directions = {tuple(row["los"]) for row in found.rows if row["view"] == 0}
    assert len(directions) == len(views), "each galaxy's cameras are turned its own way"
    assert MapStore(tmp_path).checksums == found.checksums


@pytest.mark.parametrize("how", ["one thread", "four threads", "processes"])
def test_who_makes_the_shards_does_not_matter(tmp_path, store, how):
    if how == "processes":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            found = build(tmp_path, executor=pool)
    else:
        found = build(tmp_path, workers=1 if how == "one thread" else 4)
    assert found.checksums == store.checksums
    assert found.rows == store.rows


def test_what_is_there_is_not_made_again(tmp_path):
    build(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    build(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == before


def test_parts_are_added(tmp_path):
    build(tmp_path)

    class Other(Made):
        domain = "other"

        def galaxies(self, ids):
            yield from (replace(one, domain="other") for one in super().galaxies(ids) if hasattr(one, "stars"))

    both = build(tmp_path, Other())
    assert {row["domain"] for row in both.rows} == {"made", "other"}
    assert len(both) == 2 * 48


@pytest.mark.parametrize(
    ("change", "words"),
    [({"views": 4}, "views"), ({"maps": MapConfig(pixels=32)}, r"maps.pixels: 16 was, 32 is"), ({"seed": 5}, "seed")],
)
def test_other_settings_are_refused_with_what_changed(tmp_path, change, words):
    build(tmp_path)
    with pytest.raises(ConfigError, match=words):
        build(tmp_path, config=replace(SMALL, **change))


def test_other_galaxies_are_refused(tmp_path):
    build(tmp_path)
    with pytest.raises(ConfigError, match="ids"):
        build(tmp_path, Made(21))


def test_two_runs_at_once_are_refused(tmp_path):
    with locked(tmp_path), pytest.raises(TrainingError, match="another run"):
        build(tmp_path)


def test_what_concerns_all_stops_the_run_and_the_next_goes_on(tmp_path, store):
    with pytest.raises(DataError, match="snapshot is gone"):
        build(tmp_path, Broken(), workers=1)
    partial = MapStore(tmp_path)
    assert partial.unfinished["made-099"] > 0
    assert build(tmp_path).checksums == store.checksums
    assert not MapStore(tmp_path).unfinished


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_failing_write_is_told_and_survived(tmp_path, monkeypatch, store, code, tally):
    count, real = 0, atomic.writing
    places = ("galineage.store.shards.writing", "galineage.atomic.writing")
    done, said, k = False, [], 0
    while not done:
        k += 1
        count = 0

        def failing(path, k=k):
            nonlocal count
            count += 1
            if count == k:
                raise FileFormatError("cannot write the file: No space left on device", where=str(path))
            return real(path)

        out = tmp_path / f"{k}"
        with monkeypatch.context() as patch:
            for place in places:
                patch.setattr(place, failing)
            try:
                build(out, Made(8), workers=1)
                done = True
            except FileFormatError as error:
                said.append(str(error))
        finished = build(out, Made(8))
        finished.check()
        assert len(finished) == 3 * 7
    assert all("cannot write" in text and "where" in text for text in said)
    tally("R4", f"map store, {errno.errorcode[code]}", f"{k - 1} failing writes survived")
    assert k > 8


def test_a_killed_run_ends_like_an_unbroken_one(tmp_path, request, tally):
    kills = 50 if request.config.getoption("--slow") else 6
    galaxies = 400 if kills > 6 else 120
    whole = build(tmp_path / "whole", Made(galaxies))
    command = [sys.executable, made_galaxies.__file__, str(tmp_path / "killed"), str(galaxies)]
    rng, killed = random.Random(1), 0
    while killed < kills:
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while run.poll() is None and not (tmp_path / "killed" / "lock").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.25))
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
            killed += 1
        run.wait()
        if run.returncode == 0:
            break
    if (tmp_path / "killed" / "store.json").exists():
        MapStore(tmp_path / "killed")  # readable at any moment
    found = build(tmp_path / "killed", Made(galaxies))
    assert found.checksums == whole.checksums
    assert found.rows == whole.rows
    tally("R1", "map store", f"{killed} kills, same checksums as unbroken")


@pytest.mark.parametrize("kind", ["raw.npy", "refined.npy"])
def test_flipped_bits_are_found_when_first_read(tmp_path, kind):
    found = build(tmp_path, Made(8))
    path = next(tmp_path.rglob(f"000001/{kind}"))
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(200, len(content), 20):
        damaged = content.copy()
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        again = MapStore(tmp_path)
        row = next(k for k, row in enumerate(again.rows) if row["id"] == "4")
        again.read([0])  # another shard
        with pytest.raises(FileFormatError, match=kind):
            again.read([row])
        with pytest.raises(FileFormatError, match=kind):
            again.check()
    assert len(found) == 21


@pytest.mark.parametrize("cut", [0, 1, 50, 127, 1000])
@pytest.mark.parametrize("name", ["raw.npy", "refined.npy", "card.json"])
def test_cut_files_are_made_again(tmp_path, name, cut):
    whole = build(tmp_path, Made(8))
    path = next(tmp_path.rglob(f"000001/{name}"))
    path.write_bytes(path.read_bytes()[:cut])
    broken = MapStore(tmp_path)
    assert broken.unfinished == {"made-099": 1}
    again = build(tmp_path, Made(8))
    again.check()
    assert again.checksums == whole.checksums


def test_what_is_no_store_is_told(tmp_path):
    with pytest.raises(FileFormatError, match="no map store"):
        MapStore(tmp_path)
    (tmp_path / "store.json").write_text("[]")
    with pytest.raises(FileFormatError, match="no map store"):
        MapStore(tmp_path)
    build(tmp_path / "a", Made(4))
    (tmp_path / "a" / "parts" / "made-099" / "plan.json").write_text("{")
    with pytest.raises(FileFormatError, match="plan of part"):
        MapStore(tmp_path / "a")


def test_rows_that_are_not_there_are_named(store):
    with pytest.raises(DataError, match="no row 48"):
        store.read([48])
    with pytest.raises(DataError, match="no row -1"):
        store.read([-1])
    assert store.read([]).shape == (0, 5, 16, 16)


@pytest.mark.parametrize(
    "bad",
    [{"cameras": "x"}, {"number": "int8"}, {"galaxies_per_shard": 0}, {"views": 5}, {"refinement": None, "raw": False}],
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ConfigError):
        StoreConfig(**bad)


def test_a_store_of_skipped_galaxies_only_is_a_store(tmp_path):
    class Nobody(Made):
        def galaxies(self, ids):
            return iter(())

    found = build(tmp_path, Nobody(6))
    assert len(found) == 0
    assert {one["reason"] for one in found.skipped} == {"the source did not give it"}
    assert json.loads((Path(tmp_path) / "parts" / "made-099" / "done.json").read_text())["shards"] == 2


class Elsewhere(Made):
    """The same numbers in another domain or snapshot."""

    def __init__(self, domain, snapshot, shift):
        super().__init__(6)
        self.domain, self.snapshot, self.shift = domain, snapshot, shift

    def catalogue(self):
        found = super().catalogue()
        columns = {"f_ex": np.asarray(found["f_ex"]) + self.shift}
        if self.snapshot is not None:
            columns["snapshot"] = np.full(self.count, self.snapshot)
        return Catalogue(columns, found.ids, np.full(self.count, self.domain), None)

    def galaxies(self, ids):
        for item in super().galaxies(ids):
            plain = isinstance(item, Skip)
            yield item if plain else replace(item, domain=self.domain, snapshot=self.snapshot, root=None)


def test_views_know_their_galaxies_whatever_snapshots_there_are(tmp_path):
    for domain, snapshot, shift in (("first", 99, 0.0), ("second", None, 0.01), ("first", 91, 0.02)):
        build(tmp_path / "store", Elsewhere(domain, snapshot, shift))
    store = MapStore(tmp_path / "store")
    for domain in (None, "first", "second"):
        views = store.views(domain)
        rows = views.maps.rows
        np.testing.assert_array_equal(views["f_ex"], store.truth("f_ex")[rows])
        assert views.ids.tolist() == [store.rows[k]["id"] for k in rows]
        assert len(store.galaxies(domain)) * 3 == len(views)
        if domain == "second":  # each galaxy is its own; views of one are kept together
            assert len(set(views.root)) == len(store.galaxies(domain))
        else:  # the same galaxy may be there at two times, under two numbers
            assert views.root is None


def test_one_number_for_two_galaxies_is_refused(tmp_path):
    source = Made(4)
    twice = source.catalogue().select(np.array([0, 1, 1]))
    with pytest.raises(DataError, match="occurs twice"):
        prepare(source, twice, tmp_path, SMALL, progress=False)


def test_the_checksum_is_that_of_a_domain_and_knows_the_truth(tmp_path):
    for domain, shift in (("first", 0.0), ("second", 0.01)):
        build(tmp_path / "store", Elsewhere(domain, 99, shift))
    store = MapStore(tmp_path / "store")
    marks = [store.views(domain).meta["sha256"] for domain in (None, "first", "second")]
    assert len(set(marks)) == 3
    assert marks[1] == store.galaxies("first").meta["sha256"]
    (card,) = (tmp_path / "store").glob("parts/second-099/shards/000000/card.json")
    told = json.loads(card.read_text())
    told["rows"][0]["truth"]["f_ex"] += 0.1
    card.write_text(json.dumps(told))
    again = MapStore(tmp_path / "store")
    assert again.views("first").meta["sha256"] == marks[1]
    assert again.views("second").meta["sha256"] != marks[2]
    assert again.digest != store.digest


def test_a_store_travels_as_its_place(store):
    import pickle

    store.read([0, 1])
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    np.testing.assert_array_equal(pickle.loads(packed).read([0, 1]), store.read([0, 1]))


def test_only_so_many_files_are_mapped_at_once(store, monkeypatch):
    from galineage.store import row_store

    monkeypatch.setattr(row_store, "_MAPPED", 2)
    fresh = MapStore(store.path)
    np.testing.assert_array_equal(fresh.read(np.arange(len(fresh))), store.read(np.arange(len(store))))
    assert len(fresh._mapped) == 2
