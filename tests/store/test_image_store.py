"""A store of images: what goes in comes out, read as maps are, whatever happens on the way."""

from __future__ import annotations

import json
import pickle
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import made_images
import numpy as np
import pytest
from made_galaxies import SMALL, Made
from made_images import BAD, RECIPE, Broken, Images, Plain, build, catalogue

from galineage.cosmology import TNG
from galineage.errors import ConfigError, DataError, FileFormatError, TrainingError
from galineage.galaxy import concatenate
from galineage.images import LogStretch, prepare_images
from galineage.light import kpc_per_arcsec
from galineage.lock import locked
from galineage.store.image_store import ImageStore
from galineage.store.map_store import MapStore
from galineage.store.opening import is_store, open_store
from galineage.store.prepare import prepare


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build(tmp_path_factory.mktemp("store") / "images")


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return build(tmp_path_factory.mktemp("store") / "images", catalogue=catalogue())


@pytest.fixture(scope="module", params=["maps", "images"])
def either(request, tmp_path_factory, known):
    """Every kind of store, with two views or more of each galaxy."""
    if request.param == "images":
        return known
    source = Made()
    return prepare(source, source.catalogue(), tmp_path_factory.mktemp("maps") / "maps", SMALL, progress=False)


# --- what every store does ----------------------------------------------------------------------------------------


def test_views_are_rows_with_arrays(either):
    views = either.views("made")
    assert len(views) == len(either) == len(views.maps)
    assert views.maps.channels == either.channels
    found = views.maps.read(np.array([2, 0]))
    np.testing.assert_array_equal(found, either.read([2, 0]))
    assert found.shape == (2, len(either.channels), either.pixels, either.pixels)
    assert np.isfinite(found).all()
    some = views.select(np.arange(3, 6))
    np.testing.assert_array_equal(some.maps.read(np.array([0])), either.read([3]))
    assert json.loads(json.dumps(dict(views.maps.recipe))) == dict(views.maps.recipe)
    assert views.maps.lacks(views.maps.channels).dtype == bool


def test_views_share_identifier_and_root(either):
    views, galaxies = either.views(), either.galaxies()
    assert len(galaxies) < len(views)
    for name in set(views.ids):
        assert len(set(views.root[views.ids == name])) == 1
    folds = either.folds(3)
    for root in set(either.groups):
        assert len(set(folds[either.groups == root])) == 1
    assert (galaxies["f_ex"] == [views["f_ex"][views.ids == name][0] for name in galaxies.ids]).all()


def test_a_store_is_opened_as_what_it_is(either):
    again = open_store(either.path)
    assert type(again) is type(either)
    assert is_store(either.path)
    assert again.digest == either.digest
    other = ImageStore if isinstance(either, MapStore) else MapStore
    with pytest.raises(FileFormatError, match=f"no {other.CALLED}"):
        other(either.path)


def test_a_store_travels_as_its_place(either):
    again = pickle.loads(pickle.dumps(either))
    assert type(again) is type(either)
    np.testing.assert_array_equal(again.read([1]), either.read([1]))


def test_it_has_a_table_and_batches(either):
    table = either.table()
    assert len(table) == len(either)
    assert str(table["r_half"].unit) == "kpc"
    rows = np.concatenate([rows for rows, _ in either.batches(4, seed=1)])
    assert sorted(rows) == list(range(len(either)))
    either.check()
    assert len(either.checksums) > 1
    with pytest.raises(DataError, match="no 'other'"):
        either.read([0], "other")
    with pytest.raises(DataError, match="no row"):
        either.read([len(either)])
    with pytest.raises(DataError, match="no galaxy of nowhere"):
        either.views("nowhere")
    assert either.read([]).shape == (0, len(either.channels), either.pixels, either.pixels)


@pytest.mark.parametrize("text", ["", "[]", '{"settings": {}}', '{"settings": {"maps": {}, "images": {}}}', '{"a": 1}'])
def test_what_is_no_store_is_told(tmp_path, text):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(FileFormatError, match="store"):
        open_store(tmp_path)


# --- images -------------------------------------------------------------------------------------------------------


def test_what_goes_in_comes_out(store):
    ready = prepare_images(Images(), RECIPE)
    np.testing.assert_array_equal(store.read(np.arange(len(store))), ready.values.astype(np.float16))
    views = store.views()
    assert views.ids.tolist() == list(ready.ids)
    for name in ("r50", "r90", "r_petro"):
        np.testing.assert_allclose(views[name], ready.sizes[name])
    for place, band in enumerate("gri"):
        np.testing.assert_allclose(views[f"app_{band}"], ready.magnitudes[:, place])
    np.testing.assert_allclose(views["concentration"], ready.sizes["r90"] / ready.sizes["r50"])
    np.testing.assert_allclose(views["r90_kpc"], views["r90"] * kpc_per_arcsec(0.1, TNG))
    assert (views["redshift"] == 0.1).all()
    assert store.rows[0]["crop"] == {"pixels": int(ready.sizes["pixels"][0]), "full": bool(ready.sizes["full"][0])}


def test_bad_images_are_listed_and_the_rest_goes_on(store):
    assert len(store) == 20 - len(BAD)
    told = {(one["id"], one["view"]): one for one in store.skipped}
    for row, (name, words) in BAD.items():
        one = told[str(row // 2), row % 2]
        assert one["field"] == name
        assert words in one["reason"]
    assert [(row["view"], row["views"]) for row in store.rows if row["id"] == "1"] == [(0, 2)]


def test_facts_of_the_galaxy_and_its_catalogue(store, known):
    plain, told = store.views(), known.views()
    np.testing.assert_allclose(plain["f_ex"], [row["truth"]["f_ex"] for row in store.rows])
    assert (plain["mstar"] == 2e10).all()
    np.testing.assert_allclose(told["f_ex"], np.linspace(0.01, 0.9, 10)[told.ids.astype(int)])
    assert (told["mstar"] == 1e10).all(), "a catalogue goes before what was measured"
    assert (told["snapshot"] == 99).all()
    assert set(told["r_half"]) == {4.0}
    sizes = [told["r90"][told.ids == name] for name in set(told.ids)]
    assert any(len(set(one)) > 1 for one in sizes), "sizes are those of each view"


def test_galaxies_that_the_catalogue_lacks_are_skipped(tmp_path):
    found = build(tmp_path, catalogue=catalogue(8))
    reasons = [one["reason"] for one in found.skipped if one["id"] in ("8", "9")]
    assert len(reasons) == 4
    assert all("catalogue does not have" in reason for reason in reasons)
    twice = catalogue().select(np.array([0, 1, 1]))
    with pytest.raises(DataError, match="occurs twice"):
        build(tmp_path / "other", catalogue=twice)


@pytest.mark.parametrize("how", ["one thread", "four threads", "processes"])
def test_who_makes_the_shards_does_not_matter(tmp_path, store, how):
    if how == "processes":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            found = build(tmp_path, executor=pool)
    else:
        found = build(tmp_path, workers=1 if how == "one thread" else 4)
    assert found.checksums == store.checksums
    assert found.rows == store.rows
    assert found.skipped == store.skipped


def test_domains_are_parts_of_one_store(tmp_path, store):
    build(tmp_path)
    both = build(tmp_path, Images(12), domain="a survey/2")
    assert set(both.views().domain) == {"made", "a survey/2"}
    assert both.views("made").meta["sha256"] == store.views("made").meta["sha256"]
    assert both.sources() == {"made": [None], "a survey/2": [None]}
    joined = concatenate([store.views(), both.views("a survey/2")])
    np.testing.assert_array_equal(joined.maps.read(np.array([0])), store.read([0]))


def test_snapshots_of_a_domain_are_parts_of_it(tmp_path):
    for number in (91, 99):
        known = catalogue()
        here = replace(known, columns={**known.columns, "snapshot": np.full(len(known), number)})
        both = build(tmp_path, catalogue=here)
    assert sorted(part.name for part in (tmp_path / "parts").iterdir()) == ["made-091", "made-099"]
    assert both.sources() == {"made": [None, None]}
    galaxies, views = both.galaxies("made"), both.views("made")
    assert sorted(np.unique(galaxies["snapshot"])) == [91, 99]
    assert len(galaxies) == 2 * len(set(galaxies.ids)), "identifiers begin again in each snapshot"
    rows = set(zip(views.ids.tolist(), views["snapshot"].tolist(), views["view"].tolist(), strict=True))
    assert len(rows) == len(views)


def test_what_a_galaxy_lacks_is_nan(tmp_path):
    known = catalogue()
    columns = {**known.columns, "mstar": np.where(np.arange(10) == 1, np.nan, 1e10), "n_major": np.arange(10.0)}
    columns["n_major"][2] = np.nan
    columns["metallicity"] = np.full(10, np.nan)
    store = build(tmp_path, catalogue=replace(known, columns=columns), images=Plain())
    found = store.views()
    assert np.isnan(found["mstar"]).tolist() == [one == "1" for one in found.ids]
    assert found["n_major"].dtype == np.float64
    assert found["view"].dtype == np.int64
    assert "metallicity" not in found, "of which nothing is known"
    assert set(found.complete(["mstar"]).ids) == set(found.ids) - {"1"}


def test_nothing_said_of_a_merger_is_not_no_merger(tmp_path):
    """NaN means that there was none: a galaxy without the fact must not get one."""
    some, none = Plain({"1": {}, None: {"t_last_major": 3.0}}), Plain({None: {"t_last_major": None}})
    assert "t_last_major" not in build(tmp_path / "a", some).galaxies()
    assert np.isnan(build(tmp_path / "b", none).galaxies()["t_last_major"]).all()


def test_what_is_there_is_not_made_again_and_cut_files_are(tmp_path, store):
    build(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    build(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == before
    path = next(tmp_path.rglob("000001/images.npy"))
    path.write_bytes(path.read_bytes()[:100])
    assert ImageStore(tmp_path).unfinished == {"made": 1}
    assert build(tmp_path).checksums == store.checksums
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"images\.npy"):
        ImageStore(tmp_path).check()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": replace(RECIPE, pixels=32)}, r"images.pixels: 16 was, 32 is"),
        ({"recipe": replace(RECIPE, stretch=LogStretch(joint=True))}, "joint"),
        ({"per_shard": 7}, "images_per_shard"),
        ({"images": Images(22)}, "ids"),
        ({"catalogue": replace(catalogue(), root=None)}, r"known\.sha256"),
    ],
)
def test_other_settings_are_refused_with_what_changed(tmp_path, options, words):
    build(tmp_path, catalogue=catalogue())
    with pytest.raises(ConfigError, match=words):
        build(tmp_path, **{"catalogue": catalogue(), **options})


def test_what_concerns_all_stops_the_run_and_the_next_goes_on(tmp_path, store):
    with pytest.raises(DataError, match="snapshot is gone"):
        build(tmp_path, Broken(), workers=1)
    assert ImageStore(tmp_path).unfinished
    assert build(tmp_path).checksums == store.checksums
    with locked(tmp_path), pytest.raises(TrainingError, match="another run"):
        build(tmp_path)
    for bad in ({"per_shard": 0}, {"per_shard": 10**9}):
        with pytest.raises(ConfigError, match="per shard"):
            build(tmp_path, **bad)
    with pytest.raises(DataError, match="no image"):
        build(tmp_path, Images(0))


def test_a_killed_run_ends_like_an_unbroken_one(tmp_path, request, tally):
    kills = 30 if request.config.getoption("--slow") else 3
    whole = build(tmp_path / "whole", Images(60))
    command = [sys.executable, made_images.__file__, str(tmp_path / "killed"), "60"]
    rng, killed = random.Random(1), 0
    while killed < kills:
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while run.poll() is None and not (tmp_path / "killed" / "lock").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.0))
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
            killed += 1
        run.wait()
        if run.returncode == 0:
            break
    if (tmp_path / "killed" / "store.json").exists():
        ImageStore(tmp_path / "killed")  # readable at any moment
    found = build(tmp_path / "killed", Images(60))
    assert found.checksums == whole.checksums
    assert found.rows == whole.rows
    tally("R1", "image store", f"{killed} kills, same checksums as unbroken")


def test_a_store_of_skipped_images_only_is_a_store(tmp_path):
    class Nothing(Images):
        def read(self, row):
            raise DataError("nothing there")

    found = build(tmp_path, Nothing(8))
    assert len(found) == 0
    assert len(found.skipped) == 8
    assert found.read([]).shape == (0, 3, 16, 16)
    assert Path(tmp_path, "parts", "made", "done.json").exists()
