"""HDF5 layouts, compared with pandas itself."""

import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from galineage.errors import DataError, FileFormatError
from galineage.sources import open_source, parse_mapping, read_raw


def frame(n=12):
    rng = np.random.default_rng(1)
    out = pd.DataFrame({"a": rng.normal(size=n), "b": np.arange(n), "c": rng.normal(size=n).astype("f4")})
    out["d"] = rng.uniform(size=n) < 0.5
    out["e"] = rng.normal(size=n)
    out["o"] = np.array([1.5, None, *rng.normal(size=n - 2)], dtype=object)
    return out


def save(data, path, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.to_hdf(path, **kw)
    return path


def assert_same(raw, want):
    assert sorted(raw.names) == sorted(want.columns)
    for name in want:
        np.testing.assert_array_equal(raw.columns[name], want[name].to_numpy().astype(raw.columns[name].dtype))


@pytest.mark.parametrize("compressed", [{}, {"complevel": 5, "complib": "zlib"}])
@pytest.mark.parametrize("key", ["data", "deep/er"])
def test_fixed_layout(tmp_path, compressed, key):
    want = frame()
    path = save(want, tmp_path / "t.h5", key=key, format="fixed", **compressed)
    assert_same(read_raw(path, key), want)


@pytest.mark.parametrize("data_columns", [None, True, ["a"]])
def test_appendable_layout(tmp_path, data_columns):
    want = frame().drop(columns="o")
    path = save(want, tmp_path / "t.h5", key="data", format="table", data_columns=data_columns)
    assert_same(read_raw(path), want)


def test_an_index_with_gaps_does_not_matter(tmp_path):
    want = frame().iloc[::2]
    assert_same(read_raw(save(want, tmp_path / "t.h5", key="data", format="fixed")), want)


def test_an_empty_frame_has_no_rows(tmp_path):
    path = save(frame().drop(columns="o").iloc[:0], tmp_path / "t.h5", key="data", format="fixed")
    assert {len(values) for values in read_raw(path).columns.values()} == {0}


def test_astropy_tables_in_hdf5_keep_their_units(tmp_path):
    table = Table({"x": [1.0, 2.0], "s": ["a", "b"]})
    table["x"].unit = "kpc"
    table.write(tmp_path / "t.h5", path="data", serialize_meta=True)
    raw = read_raw(tmp_path / "t.h5", "data")
    assert raw.units == {"x": "kpc"}
    assert raw.columns["s"].tolist() == ["a", "b"]


def test_only_wanted_columns_are_read(tmp_path):
    path = save(frame(), tmp_path / "t.h5", key="data", format="fixed")
    raw = read_raw(path, wanted={"b", "not there"})
    assert list(raw.columns) == ["b"]
    assert "o" in raw.names


def test_which_table_must_be_clear(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["one/x"] = np.arange(3)
        file["two/x"] = np.arange(4)
    with pytest.raises(FileFormatError, match="2 tables: /one, /two"):
        read_raw(tmp_path / "t.h5")
    with pytest.raises(FileFormatError, match="no group 'three'"):
        read_raw(tmp_path / "t.h5", "three")
    assert len(read_raw(tmp_path / "t.h5", "two").columns["x"]) == 4


def test_columns_of_different_lengths_are_refused(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["data/x"] = np.arange(3)
        file["data/y"] = np.arange(4)
    with pytest.raises(FileFormatError, match="different lengths"):
        read_raw(tmp_path / "t.h5")


def test_a_dataset_that_claims_too_much_is_refused(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("data/x", shape=(2**40,), dtype="f8", chunks=(2**16,))
    with pytest.raises(FileFormatError, match="would take 8,388,608 MiB"):
        read_raw(tmp_path / "t.h5")


def test_a_series_is_no_table(tmp_path):
    path = save(frame()["a"], tmp_path / "t.h5", key="data", format="fixed")
    with pytest.raises(FileFormatError, match="pandas object of type 'series'"):
        read_raw(path)


@pytest.mark.parametrize("cell", [(1.0,), [1.0], {"a": 1}])
def test_an_object_column_with_something_else_is_refused(tmp_path, cell):
    data = frame()
    data["o"] = np.array([1.5, 2.5, *[cell] * 10], dtype=object)
    path = save(data, tmp_path / "t.h5", key="data", format="fixed")
    with pytest.raises(FileFormatError):
        read_raw(path)


def test_a_text_cell_of_an_object_column_is_skipped_and_a_column_of_text_refused(tmp_path):
    mapping = parse_mapping('name = "m"\ndomain = "D"\nid = "b"\n[columns]\nf_ex = "o"\n')
    data = frame()
    data["o"] = np.array([0.25, None, "unknown", *[0.5] * 9], dtype=object)
    path = save(data, tmp_path / "t.h5", key="data", format="fixed")
    got = open_source(path, mapping).read()
    assert [(skip.row, skip.value, skip.reason) for skip in got.skipped] == [
        (1, "nan", "missing (NaN)"),
        (2, "unknown", "not a number"),
    ]
    assert got["f_ex"].tolist() == [0.25, *[0.5] * 9]
    data["o"] = np.array([0.25, *["spiral"] * 11], dtype=object)
    with pytest.raises(DataError, match="holds text: 'spiral' in row 1"):
        open_source(save(data, tmp_path / "u.h5", key="data", format="fixed"), mapping).read()


def test_a_canary_in_a_table_never_runs(tmp_path):
    import os

    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    data = frame()
    data["o"] = np.array([Canary()] * 12, dtype=object)
    path = save(data, tmp_path / "t.h5", key="data", format="fixed")
    with pytest.raises(FileFormatError, match="mkdir"):
        read_raw(path)
    assert not (tmp_path / "pwned").exists()
