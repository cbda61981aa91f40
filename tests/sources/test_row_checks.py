"""Bad rows go to the skip list with their reason, and the batch goes on."""

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_tables import MAPPING, made_up, write_as

from galineage.errors import ConfigError, DataError, GalineageError
from galineage.sources import open_source, parse_mapping, skip_table
from galineage.sources.checks import to_numbers
from galineage.tables import read_table, write_table


def read(tmp_path, table, mapping, form="parquet", **kw):
    return open_source(write_as(table, tmp_path / "t", form), mapping).read(**kw)


@pytest.mark.parametrize(
    ("column", "value", "field", "reason"),
    [
        ("ExsituF", np.nan, "f_ex", "missing (NaN)"),
        ("ExsituF", np.inf, "f_ex", "not finite"),
        ("ExsituF", 1.2, "f_ex", "out of range: 0 to 1"),
        ("ExsituF", -0.1, "f_ex", "out of range: 0 to 1"),
        ("Age", 20.0, "age", "out of range: 0 to 13.9 Gyr"),
        ("Stellar_Mass", 0.0, "mstar", "out of range: 1e+06 to 1e+14 Msun"),
        ("Stellar_Mass", -np.inf, "mstar", "not finite"),
        ("Lookback", 15.0, "t_last_major", "out of range: 0 to 13.9 Gyr"),
        ("GalaxyID", 2**53 + 1, "id", "the same id and snapshot came before; the first row is kept"),
    ],
)
def test_one_bad_row_is_skipped_with_its_reason(tmp_path, mapping, column, value, field, reason):
    table = made_up()
    table[column][10] = value
    got = read(tmp_path, table, mapping)
    assert len(got) == 39
    (skip,) = got.skipped
    assert (skip.row, skip.field, skip.reason) == (10, field, reason)
    assert skip.id == str(table["GalaxyID"][10])
    assert got.meta["rows_skipped"] == 1
    assert got.meta["rows_read"] == 39


@pytest.mark.parametrize("form", ["parquet", "csv", "fits", "votable"])
def test_missing_values_are_kept_when_asked_for_and_impossible_ones_are_not(tmp_path, mapping, form):
    table = made_up()
    for row, value in ((10, np.nan), (12, np.inf), (13, 20.0)):
        table["Age"][row] = value
    got = read(tmp_path, table, mapping, form=form, keep_missing=True)
    assert len(got) == 38
    assert np.flatnonzero(np.isnan(got["age"])).tolist() == [got.ids.tolist().index(table["GalaxyID"][10])]
    assert [(skip.row, skip.field) for skip in got.skipped] == [(12, "age"), (13, "age")]


def test_a_whole_number_that_is_missing_leaves_its_column_float(tmp_path):
    table = made_up()
    table["N"] = np.where(np.arange(60) == 0, np.nan, 2.0)
    got = read(tmp_path, table, parse_mapping(MAPPING + 'n_major = "N"\n'), keep_missing=True)
    assert got["n_major"].dtype == np.float64
    assert np.isnan(got["n_major"]).sum() == 1
    assert not got.skipped


def test_only_the_fields_asked_for_are_read_checked_and_required(tmp_path, mapping):
    table = made_up()
    table["Age"][10] = np.nan
    table["HMSR"] = -1.0
    del table["ExsituF"]
    got = read(tmp_path, table, mapping, only=["mstar", "metallicity", "spin"])
    assert set(got.columns) == {"mstar", "metallicity", "snapshot"}
    assert len(got) == 40
    assert got.root is not None
    assert not got.skipped
    with pytest.raises(DataError, match="ExsituF"):
        read(tmp_path, table, mapping, only=["mstar", "f_ex"])
    with pytest.raises(ConfigError, match="mass"):
        read(tmp_path, table, mapping, only=["mass"])


def test_values_at_the_edges_stay(tmp_path, mapping):
    table = made_up()
    table["ExsituF"][:2] = [0.0, 1.0]
    got = read(tmp_path, table, mapping)
    assert got["f_ex"][:2].tolist() == [0.0, 1.0]
    assert not got.skipped


def test_the_same_id_at_another_snapshot_is_another_row(tmp_path, mapping):
    table = made_up()
    table["GalaxyID"][2] = table["GalaxyID"][1]  # row 2 is of snapshot 91
    got = read(tmp_path, table, mapping, filter="all")
    assert len(got) == 60
    assert got.root is None  # over several snapshots ids do not name roots


def test_roots_from_a_column_are_kept_over_snapshots(tmp_path):
    table = made_up()
    table["RootID"] = np.arange(60) // 2
    mapping = parse_mapping(MAPPING.replace('root = "id"', 'root = "RootID"'))
    got = read(tmp_path, table, mapping, filter="all")
    assert got.root[:3].tolist() == ["MadeUp:0", "MadeUp:0", "MadeUp:1"]


def test_a_cell_that_is_no_number_is_skipped(tmp_path, mapping):
    table = made_up()
    text = table["Age"].astype(str).astype("U20")
    text[3] = "unknown"
    text[4] = ""
    table["Age"] = text
    got = read(tmp_path, table, mapping, form="csv")
    assert [(s.row, s.value, s.reason) for s in got.skipped] == [
        (3, "unknown", "not a number"),
        (4, "nan", "missing (NaN)"),
    ]


def test_half_a_galaxy_is_not_a_count(tmp_path):
    table = made_up()
    table["N"] = np.where(np.arange(60) == 0, 1.5, 2.0)
    got = read(tmp_path, table, parse_mapping(MAPPING + 'n_major = "N"\n'))
    assert got.skipped[0].reason == "not a whole number"
    assert got["n_major"].dtype == np.int64


def test_no_row_left_names_the_commonest_reason(tmp_path, mapping):
    table = made_up()
    table["ExsituF"] = np.nan
    with pytest.raises(DataError, match=r"no usable row is left: all 40 were skipped.*f_ex: missing"):
        read(tmp_path, table, mapping)


def test_the_skip_list_is_a_table(tmp_path, mapping):
    table = made_up()
    table["ExsituF"][10] = 7
    got = read(tmp_path, table, mapping)
    for skips in (got.skipped, ()):
        write_table(skip_table(skips), tmp_path / "skips.ecsv")
        back = read_table(tmp_path / "skips.ecsv")
        assert back.colnames == ["row", "id", "field", "value", "reason"]
        assert len(back) == len(skips)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.floats(), st.floats(0, 1)), min_size=1, max_size=40))
def test_every_row_is_either_read_or_explained(tmp_path_factory, values):
    table = Table({"id": np.arange(len(values)), "f": np.array(values)})
    mapping = parse_mapping('name = "m"\ndomain = "D"\nid = "id"\n[columns]\nf_ex = "f"\n')
    path = write_as(table, tmp_path_factory.mktemp("rows") / "t", "parquet")
    try:
        got = open_source(path, mapping).read()
    except GalineageError:
        return
    assert len(got) + len(got.skipped) == len(values)
    assert np.all((got["f_ex"] >= 0) & (got["f_ex"] <= 1))
    assert {skip.row for skip in got.skipped}.isdisjoint(got.ids.tolist())


@given(st.lists(st.one_of(st.floats().map(repr), st.integers().map(str), st.sampled_from(["", "None", " 1.5 "]))))
def test_text_numbers_are_parsed_as_python_does(cells):
    numbers, bad = to_numbers(np.array(cells, dtype=str), None, "x", "t")
    assert not bad.any()
    want = [float(cell) if cell not in ("", "None") else np.nan for cell in cells]
    np.testing.assert_array_equal(numbers, want)


@pytest.mark.slow
def test_a_million_rows_take_seconds(tmp_path, mapping):
    import time

    table = made_up(1_000_000)
    table["ExsituF"][::50] = 2.0
    path = write_as(table, tmp_path / "t", "parquet")
    start = time.perf_counter()
    got = open_source(path, mapping).read()
    assert time.perf_counter() - start < 20
    assert len(got) + len(got.skipped) == got.meta["rows_selected"]
