"""Output tables: the same contract over four formats."""

import json
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from galineage.errors import DataError, FileFormatError
from galineage.galaxy import Catalogue
from galineage.tables import FORMATS, read_table, write_catalogue, write_table

SUFFIXES = list(FORMATS)
DTYPES = [np.bool_, np.int64, np.float32, np.float64]
PLAIN = st.characters(min_codepoint=32, max_codepoint=126)
LINE = st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["C", "Z"])
WORD = st.text(PLAIN, max_size=12).map(str.strip)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def tables(draw):
    n = draw(st.integers(0, 6))
    table = Table()
    for i in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from([*DTYPES, str]))
        values = (
            np.array(draw(st.lists(WORD, min_size=n, max_size=n)), dtype="U16")
            if dtype is str
            else draw(hnp.arrays(dtype, n))
        )
        column = MaskedColumn(
            values,
            mask=draw(hnp.arrays(bool, n)) if draw(st.booleans()) else np.zeros(n, bool),
            unit=draw(st.sampled_from([None, "Msun", "kpc km / s", "Msun / yr", "mag", "Gyr"])),
            description=draw(st.one_of(st.none(), st.text(LINE, min_size=1, max_size=90))),
        )
        table[f"column_{i}"] = column
    keys = st.text(st.sampled_from("abcXYZ_ 09"), min_size=1, max_size=20).map(lambda key: "k" + key)
    values = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(PLAIN, max_size=150))
    table.meta = draw(st.dictionaries(keys, st.one_of(values, st.floats(allow_nan=False, allow_infinity=False))))
    return table


def assert_same(got, want):
    assert got.colnames == want.colnames
    assert dict(got.meta) == dict(want.meta)
    for name in want.colnames:
        a, b = got[name], want[name]
        assert len(a) == len(b)
        assert a.dtype.kind == b.dtype.kind
        if b.dtype.kind != "U":
            assert a.dtype == b.dtype
        assert (a.unit or None) == (b.unit or None)
        assert a.description == b.description
        mask = np.broadcast_to(getattr(b, "mask", False), b.shape)
        np.testing.assert_array_equal(np.broadcast_to(getattr(a, "mask", False), b.shape), mask)
        np.testing.assert_array_equal(np.asarray(a)[~mask], np.asarray(b)[~mask])


@pytest.mark.parametrize("suffix", SUFFIXES)
@FEW
@given(table=tables())
def test_everything_survives_the_round_trip(tmp_path, suffix, table):
    write_table(table, tmp_path / f"t{suffix}")
    assert_same(read_table(tmp_path / f"t{suffix}"), table)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_plain_astropy_sees_unit_and_description(tmp_path, suffix):
    table = Table()
    table["mstar"] = MaskedColumn([1e10, 2e10], mask=[False, True], unit="Msun", description="stellar mass")
    table["spin"] = MaskedColumn([1.0, 2.0], unit="kpc km / s", description="specific angular momentum")
    table["flag"] = [True, False]
    write_table(table, tmp_path / f"t{suffix}", meta={"galineage_version": "0.1.0"})
    plain = Table.read(tmp_path / f"t{suffix}")
    assert plain["mstar"].unit == u.Msun
    assert plain["spin"].unit == u.kpc * u.km / u.s
    assert plain["mstar"].description.strip() == "stellar mass"
    assert plain["spin"].description.strip() == "specific angular momentum"
    assert plain["flag"].dtype == bool


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nan_is_not_masked_and_masked_is_not_nan(tmp_path, suffix):
    table = Table({"t": MaskedColumn([np.nan, 1.0, 2.0], mask=[False, False, True])})
    write_table(table, tmp_path / f"t{suffix}")
    got = read_table(tmp_path / f"t{suffix}")["t"]
    np.testing.assert_array_equal(got.mask, [False, False, True])
    assert np.isnan(got.data.data[0])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_table_keeps_its_columns(tmp_path, suffix):
    table = Table({"id": np.zeros(0, np.int64), "x": np.zeros(0), "s": np.zeros(0, "U4"), "b": np.zeros(0, bool)})
    table["x"].unit = "Gyr"
    write_table(table, tmp_path / f"t{suffix}", meta={"why": "nothing selected"})
    got = read_table(tmp_path / f"t{suffix}")
    assert got.colnames == ["id", "x", "s", "b"]
    assert len(got) == 0
    assert got["x"].unit == u.Gyr
    assert got.meta == {"why": "nothing selected"}


def test_fits_has_tcomm_and_checksum(tmp_path):
    from astropy.io import fits

    table = Table({"x": [1.0]})
    table["x"].description = "Größe"
    write_table(table, tmp_path / "t.fits")
    header = fits.getheader(tmp_path / "t.fits", 1)
    assert header["TCOMM1"].isascii()
    assert "DATASUM" in header
    assert read_table(tmp_path / "t.fits")["x"].description == "Größe"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_quantity_table_is_written_with_its_units(tmp_path, suffix):
    write_table(QTable({"r": [1.0, 2.0] * u.kpc}), tmp_path / f"t{suffix}")
    assert read_table(tmp_path / f"t{suffix}")["r"].unit == u.kpc


@pytest.mark.parametrize("name", ["t.csv", "t", "t.hdf5", "t.fits.gz", "t.pkl"])
def test_an_unknown_suffix_is_refused_with_the_list(tmp_path, name):
    with pytest.raises(DataError, match=r"\.fits, \.ecsv, \.parquet, \.vot"):
        write_table(Table({"x": [1]}), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [[1, 2], {"a": 1}, float("nan"), np.arange(3)])
def test_provenance_must_be_flat(tmp_path, bad):
    with pytest.raises(DataError, match="provenance"):
        write_table(Table({"x": [1]}), tmp_path / "t.ecsv", meta={"bad": bad})


def test_columns_that_a_format_cannot_hold_are_refused(tmp_path):
    for column in (np.array([object()]), np.ones((1, 2)), np.array([1j])):
        with pytest.raises(DataError, match="one-dimensional"):
            write_table(Table({"x": column}), tmp_path / "t.fits")
    with pytest.raises(DataError, match="ASCII"):
        write_table(Table({"x": ["é"]}), tmp_path / "t.fits")
    with pytest.raises(DataError, match="control"):
        write_table(Table({"x": ["\x01"]}), tmp_path / "t.vot")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_the_old_table(tmp_path, suffix):
    write_table(Table({"x": [1]}), tmp_path / f"t{suffix}")
    with pytest.raises(DataError):
        write_table(Table({"x": np.array([object()])}), tmp_path / f"t{suffix}")
    assert read_table(tmp_path / f"t{suffix}")["x"][0] == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"nonsense\n", None])
def test_what_is_no_table_is_a_format_error(tmp_path, suffix, content):
    if content is not None:
        (tmp_path / f"t{suffix}").write_bytes(content)
    with pytest.raises(FileFormatError, match="cannot read"):
        read_table(tmp_path / f"t{suffix}")


def test_a_flipped_bit_in_fits_is_found_by_its_checksum(tmp_path):
    write_table(Table({"x": np.arange(100.0)}), tmp_path / "t.fits")
    data = bytearray((tmp_path / "t.fits").read_bytes())
    data[-2880 + 100] ^= 4
    (tmp_path / "t.fits").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"[Cc]hecksum|[Dd]atasum"):
        read_table(tmp_path / "t.fits")


def test_meta_is_json_in_fits(tmp_path):
    from astropy.io import fits

    write_table(Table({"x": [1]}), tmp_path / "t.fits", meta={"a_very_long_key": "it's & " * 40})
    assert json.loads(fits.getheader(tmp_path / "t.fits", 1)["GALMETA"])["meta"]["a_very_long_key"] == "it's & " * 40


def test_roots_are_written_without_their_domain_and_unclear_ones_are_refused(tmp_path):
    columns = {"mstar": np.full(3, 1e10), "snapshot": np.array([99, 99, 91])}
    ids = np.array(["1", "2", "3"])

    def written(**changes):
        path = tmp_path / "made.ecsv"
        write_catalogue(
            replace(Catalogue(columns, ids, np.asarray("made"), np.array(["x", "y", "y"])), **changes), path
        )
        return read_table(path)["RootID"].tolist()

    assert written() == ["x", "y", "y"]
    assert written(root=np.array(["made:tree-1", "made:2:3", "other:4"])) == ["tree-1", "2:3", "other:4"]
    with pytest.raises(DataError, match="several snapshots are unknown"):
        written(root=None)
    assert written(root=None, columns={"mstar": columns["mstar"]}) == ["1", "2", "3"]
    with pytest.raises(DataError, match="in one table"):
        written(domain=np.array(["made", "made", "other"]))
