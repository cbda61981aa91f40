"""Every trap of the real tables, by name."""

import h5py
import numpy as np
import pandas as pd
import pytest
from made_up_tables import write_as

from galineage.errors import ConfigError, DataError
from galineage.fields import check_features
from galineage.sources import available_mappings, open_source, read_raw

pytestmark = pytest.mark.data
PAPER = ["properties_tng.h5py", "properties_tng_updated.h5py", "properties_eagle.h5py"]
CAMELS = ["dataset_1P_1_0.hdf5", "dataset_1P_3_n5.hdf5"]
JOINED = "tng100_z0_exsitu_mergers_observables.parquet"


@pytest.mark.parametrize(
    ("name", "domain", "snapshot", "rows"),
    [
        ("properties_tng.h5py", "TNG100-1", 99, 6477),
        ("properties_tng_updated.h5py", "TNG100-1", 99, 6477),
        ("properties_eagle.h5py", "EAGLE", 28, 3638),
        ("dataset_1P_1_0.hdf5", "CAMELS-1P_1_0", 33, 444),
        ("dataset_1P_3_n5.hdf5", "CAMELS-1P_3_n5", 33, 885),
        (JOINED, "TNG100-1", 99, 6477),
    ],
)
def test_only_z0_rows_are_read_unless_all_are_asked_for(catalogs, name, domain, snapshot, rows):
    source = open_source(catalogs / name)
    assert next(iter(source.filters)) == "z0"
    got = source.read()
    assert len(got) == rows
    assert set(got["snapshot"]) == {snapshot}
    assert set(got.domain) == {source.domain} == {domain}
    assert len(set(got.root)) == rows
    assert all(root.startswith(f"{domain}:") for root in got.root)
    assert got.skipped == ()


@pytest.mark.parametrize(("name", "rows"), [(PAPER[0], 8521), (PAPER[2], 6315), (CAMELS[0], 2175)])
def test_rows_of_other_snapshots_have_no_root_so_that_no_split_can_leak(catalogs, name, rows):
    got = open_source(catalogs / name).read("all")
    assert len(got) == rows
    assert got.root is None


@pytest.mark.parametrize("name", PAPER)
def test_aligns_is_never_a_feature(catalogs, name):
    got = open_source(catalogs / name).read()
    assert got["n_views"].dtype == np.int64
    with pytest.raises(ConfigError, match="computed from the truth"):
        check_features(["mstar", "n_views"])
    used = {spec.column: field for field, spec in available_mappings()["tng100"].columns.items()}
    assert used["Aligns"] == "n_views"


def test_metallicity_is_logarithmic_in_one_table_and_linear_in_the_other_and_they_agree(catalogs):
    log, linear = (open_source(catalogs / name).read() for name in PAPER[:2])
    np.testing.assert_array_equal(log.ids, linear.ids)
    ratio = log["metallicity"] / linear["metallicity"]
    # two particle selections: equal on average, tightly correlated
    assert 0.95 < np.median(ratio) < 1.1
    assert np.median(np.abs(np.log10(ratio))) < 0.05
    assert 0.005 < np.median(log["metallicity"]) < 0.04


@pytest.mark.parametrize(("name", "mapping"), [(PAPER[0], "tng100-updated"), (PAPER[1], "tng100")])
def test_reading_metallicity_the_wrong_way_is_an_error(catalogs, name, mapping):
    with pytest.raises(DataError, match=r"Metallicity.*wrong unit"):
        open_source(catalogs / name, mapping).read()


@pytest.mark.parametrize("name", [*PAPER, *CAMELS])
def test_values_are_those_of_pandas_without_unpickling(catalogs, name, monkeypatch):
    want = pd.read_hdf(catalogs / name, "data")

    def never(*args, **kwargs):
        raise AssertionError("unpickled")

    for function in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{function}", never)
    raw = read_raw(catalogs / name, "data")
    assert sorted(raw.names) == sorted(want.columns)
    for column in want:
        expected = want[column].to_numpy()
        np.testing.assert_array_equal(
            raw.columns[column], expected.astype(float) if expected.dtype == object else expected
        )
        if expected.dtype != object:
            assert raw.columns[column].dtype == expected.dtype


@pytest.mark.parametrize("name", PAPER)
def test_total_spin_is_not_spin(catalogs, name):
    raw = read_raw(catalogs / name)
    got = open_source(catalogs / name).read()
    z0 = raw.columns["Snapshot"] == raw.columns["Snapshot"].max()
    np.testing.assert_array_equal(got["spin"], raw.columns["Spin"][z0].astype(float))
    np.testing.assert_array_equal(got["total_spin"], raw.columns["TotalSpin"][z0].astype(float))


def test_total_spin_never_stands_in_for_spin():
    for mapping in available_mappings().values():
        for field, spec in mapping.columns.items():
            assert (spec.column == "TotalSpin") == (field == "total_spin" and mapping.name != "galineage")
    assert "spin" not in available_mappings()["camels"].columns


def test_one_index_camels_files_hold_1e10_msun_over_h(catalogs, tmp_path):
    want = open_source(catalogs / CAMELS[0]).read()
    masses = ("Stellar_Mass", "Gas_Mass", "DM_Mass", "BH_Mass")
    with h5py.File(tmp_path / "dataset_1P_7.hdf5", "w") as file:
        for name, values in read_raw(catalogs / CAMELS[0]).columns.items():
            file[f"data/{name}"] = values.astype(float) / 1e10 * 0.6711 if name in masses else values
    source = open_source(tmp_path / "dataset_1P_7.hdf5")
    assert source.mapping.name == "camels-1e10"
    assert source.domain == "CAMELS-1P_7"
    got = source.read()
    for name in ("mstar", "gas_mass", "dm_mass", "bh_mass"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-12)
    with pytest.raises(DataError, match="looks like a wrong unit") as caught:
        open_source(tmp_path / "dataset_1P_7.hdf5", "camels").read()
    assert "1e10 Msun" in caught.value.advice


@pytest.mark.parametrize("name", CAMELS)
def test_an_ex_situ_fraction_of_exactly_zero_is_kept(catalogs, name):
    raw = read_raw(catalogs / name)
    zeros = np.sum(raw.columns["ExsituF"] == 0)
    assert zeros > 0
    assert np.sum(open_source(catalogs / name).read("all")["f_ex"] == 0) == zeros


def test_201_galaxies_never_had_a_major_merger(catalogs):
    got = open_source(catalogs / JOINED).read()
    never = np.isnan(got["t_last_major"])
    assert never.sum() == 201
    assert np.all(got["n_major"][never] == 0)
    assert np.all(got["n_major"][~never] > 0)
    assert np.isfinite(got["mag_r"]).sum() == 5639


def test_a_galaxy_out_of_range_is_skipped_and_the_batch_goes_on(catalogs):
    got = open_source(catalogs / CAMELS[1]).read("all")
    assert len(got) == 4513
    (skip,) = got.skipped
    assert (skip.field, skip.id) == ("r_half", "1046")


def test_a_file_name_tells_the_mapping(catalogs, tmp_path):
    assert open_source(catalogs / CAMELS[0]).mapping.name == "camels"
    assert open_source(catalogs / CAMELS[1]).mapping.name == "camels-sb3"
    copy = tmp_path / "renamed.h5"
    copy.write_bytes((catalogs / PAPER[0]).read_bytes())
    with pytest.raises(ConfigError, match=r"renamed\.h5") as caught:
        open_source(copy)
    assert "tng100-updated (properties_tng_updated.h5py)" in caught.value.expected
    assert "mapping of your own" in caught.value.advice
    assert len(open_source(copy, "tng100").read()) == 6477


@pytest.mark.parametrize("form", ["csv", "ecsv", "fits", "votable", "parquet", "hdf5"])
def test_a_real_table_is_the_same_in_every_format(catalogs, tmp_path, form):
    from astropy.table import Table

    want = open_source(catalogs / PAPER[1]).read()
    raw = read_raw(catalogs / PAPER[1])
    rows = slice(0, 300)
    table = Table({name: values[rows] for name, values in raw.columns.items()})
    got = open_source(write_as(table, tmp_path / "t", form), "tng100-updated").read()
    for name in want.columns:
        np.testing.assert_allclose(got[name], want[name][: len(got)], rtol=1e-6)
