"""A toy universe on disk: snapshots in both formats, read back into maps and tables that know the truth."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from galineage.errors import FileFormatError
from galineage.sources import open_source
from galineage.store.map_store import MapStore
from galineage.study.jobs import map_store
from galineage.study.spec import DomainSpec
from galineage.study.universe import Box, make_universe

BOXES = (Box("toy-a", "tng", 10, 300, 1), Box("toy-b", "eagle", 10, 300, 2))


@pytest.fixture(scope="module")
def universe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("universe")
    said = []
    return make_universe(BOXES, folder, pixels=16, say=said.append), folder, said


def test_every_galaxy_is_there_with_its_truth(universe):
    store, folder, said = universe
    assert not store.skipped
    assert sum(line.startswith("toy universe: 10 galaxies") for line in said) == 2
    with h5py.File(folder / "toy-b-eagle" / "toy_galaxies_028.hdf5") as file:
        known = dict(zip(file["GalaxyID"][()].astype(str), file["f_ex"][()], strict=True))
    for suite in ("toy-a", "toy-b"):
        table = open_source(folder / f"{suite}.ecsv").read()
        assert len(table) == 10
        assert set(table.domain) == {suite}
        assert len(set(table.root)) == 10
        of_store = store.galaxies(suite)
        np.testing.assert_array_equal(table.ids.astype(str), of_store.ids)
        for name in ("mstar", "r_half", "spin", "age", "metallicity", "f_ex", "t_last_major", "n_views"):
            np.testing.assert_allclose(table[name], of_store[name], rtol=1e-12, err_msg=name)
        if suite == "toy-b":
            np.testing.assert_allclose(table["f_ex"], [known[one] for one in of_store.ids], atol=1e-6)


def test_views_go_by_the_fraction_in_both_formats(universe):
    store, _, _ = universe
    for suite in ("toy-a", "toy-b"):
        table = store.galaxies(suite)
        expected = np.select([table["f_ex"] < limit for limit in (0.1, 0.3, 0.5, 0.6, 0.7)], [1, 2, 4, 6, 8], 12)
        np.testing.assert_array_equal(table["n_views"], expected)


def test_what_is_done_is_not_done_again(universe):
    store, folder, _ = universe
    stamp = (folder / "toy-a-tng" / "box.json").stat().st_mtime_ns
    again = make_universe(BOXES, folder, pixels=16, say=lambda _: None)
    assert again.checksums == store.checksums
    assert (folder / "toy-a-tng" / "box.json").stat().st_mtime_ns == stamp


def test_a_store_without_a_domain_says_so(universe):
    store, _, _ = universe
    with pytest.raises(Exception, match="no galaxy of toy-c"):
        store.galaxies("toy-c")
    assert isinstance(store, MapStore)


def test_a_study_takes_whole_stores_only_and_sees_them_grow(universe, tmp_path):
    shutil.copytree(universe[1] / "maps", tmp_path / "maps")
    domain = DomainSpec("toy-a", "toy-a.ecsv", "galineage", maps="maps")
    assert len(map_store(domain, tmp_path)) == len(universe[0])
    (shard,) = (tmp_path / "maps").glob("parts/toy-a-*/shards/000000")
    shard.rename(tmp_path / "kept")
    with pytest.raises(FileFormatError, match="toy-a-099"):
        map_store(domain, tmp_path)
    (tmp_path / "kept").rename(shard)
    assert len(map_store(domain, tmp_path)) == len(universe[0])
