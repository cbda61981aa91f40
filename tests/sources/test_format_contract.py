"""One contract over six formats: the same galaxies come out, and wrong units do not go in."""

import warnings

import numpy as np
import pytest
from made_up_tables import MAPPING, UNITS, made_up, write_as

from galineage.errors import DataError, FileFormatError
from galineage.fields import SOLAR_METALLICITY
from galineage.sources import SOURCES, Source, open_source, parse_mapping, read_raw, sniff
from galineage.tables import write_table

FORMATS = ["csv", "ecsv", "fits", "votable", "parquet", "hdf5"]


@pytest.fixture(params=FORMATS)
def form(request):
    return request.param


@pytest.fixture(autouse=True)
def _quiet_units():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def test_the_same_galaxies_come_out_of_every_format(tmp_path, form, mapping):
    table = made_up()
    path = write_as(table, tmp_path / "named_without_suffix", form)
    assert sniff(path) == form
    source = open_source(path, mapping)
    assert isinstance(source, Source)
    assert isinstance(source, SOURCES)
    got = source.read()
    z0 = np.asarray(table["Snapshot"]) == 99
    assert len(got) == z0.sum() == 40
    np.testing.assert_array_equal(got.ids, table["GalaxyID"][z0])
    np.testing.assert_array_equal(got["mstar"], table["Stellar_Mass"][z0])
    np.testing.assert_allclose(got["r_half"], table["HMSR"][z0], rtol=1e-6)
    np.testing.assert_allclose(got["metallicity"], table["Metallicity"][z0] * SOLAR_METALLICITY, rtol=1e-15)
    np.testing.assert_array_equal(np.isnan(got["t_last_major"]), table["Lookback"][z0] == -1)
    assert got["central"].dtype == bool
    np.testing.assert_array_equal(got["central"], table["Central"][z0])
    assert got["snapshot"].dtype == np.int64
    assert set(got.domain) == {"MadeUp"}
    assert got.root[0] == f"MadeUp:{got.ids[0]}"
    assert not got.skipped
    assert got.meta["rows_in_file"] == 60
    assert got.meta["rows_selected"] == got.meta["rows_read"] == 40
    assert len(got.meta["sha256"]) == 64
    assert (got.meta["mapping"], got.meta["filter"], got.meta["format"]) == ("made-up", "z0", form)


def test_units_stated_in_the_file_must_agree(tmp_path, form, mapping):
    if form == "csv":
        pytest.skip("CSV states no units")
    right = write_as(made_up(), tmp_path / "right", form, UNITS)
    assert read_raw(right).units["HMSR"] == "kpc"
    assert len(open_source(right, mapping).read()) == 40
    for unit in ("pc", "Mpc", "Gyr"):
        wrong = write_as(made_up(), tmp_path / f"wrong-{unit}", form, {**UNITS, "HMSR": unit})
        with pytest.raises(DataError, match=f"the file says that 'HMSR' is in '{unit}'"):
            open_source(wrong, mapping).read()


@pytest.mark.parametrize(
    ("column", "factor", "hint"),
    [
        ("Stellar_Mass", 1e-10, "1e10 Msun"),
        ("HMSR", 1e3, "fit pc"),
        ("HMSR", 1e-3, "Mpc"),
        ("Age", 1e3, "Myr"),
        ("Age", 1e9, "yr"),
        ("ExsituF", 100.0, "percent"),
        ("Metallicity", 100.0, "documents|fit"),
    ],
)
def test_a_wrong_unit_is_found_and_the_factor_named(tmp_path, form, mapping, column, factor, hint):
    table = made_up()
    table[column] = table[column] * factor
    with pytest.raises(DataError, match="looks like a wrong unit") as caught:
        open_source(write_as(table, tmp_path / "t", form), mapping).read()
    import re

    assert re.search(hint, caught.value.advice)
    assert column in caught.value.what
    assert "row" in caught.value.what


def test_logarithms_are_told_from_linear_values(tmp_path, form, mapping):
    table = made_up()
    table["Stellar_Mass"] = np.log10(table["Stellar_Mass"])
    with pytest.raises(DataError, match="wrong unit") as caught:
        open_source(write_as(table, tmp_path / "t", form), mapping).read()
    assert "log10 of Msun" in caught.value.advice
    table = made_up()
    table["Metallicity"] = np.log10(table["Metallicity"])
    with pytest.raises(DataError, match="wrong unit") as caught:
        open_source(write_as(table, tmp_path / "u", form), mapping).read()
    assert "log10 of Z/Zsun" in caught.value.advice
    as_log = parse_mapping(MAPPING.replace('unit = "Msun"', 'unit = "Msun", scale = "log10"'))
    with pytest.raises(DataError, match="wrong unit") as caught:
        open_source(write_as(made_up(), tmp_path / "v", form), as_log).read()
    assert "fit Msun" in caught.value.advice


def test_a_missing_column_names_near_ones(tmp_path, form, mapping):
    table = made_up()
    table.rename_column("Stellar_Mass", "StellarMass")
    with pytest.raises(DataError, match=r"lacks 'Stellar_Mass' \(for mstar\)") as caught:
        open_source(write_as(table, tmp_path / "t", form), mapping).read()
    assert "StellarMass?" in caught.value.advice


def test_a_column_of_text_is_an_error(tmp_path, form, mapping):
    table = made_up()
    table["Age"] = table["Note"]
    with pytest.raises(DataError, match="holds text: 'plain text' in row 0"):
        open_source(write_as(table, tmp_path / "t", form), mapping).read()


def test_an_empty_table_is_an_error(tmp_path, form, mapping):
    with pytest.raises((DataError, FileFormatError), match="no rows"):
        open_source(write_as(made_up()[:0], tmp_path / "t", form), mapping).read()


def test_a_filter_that_leaves_nothing_says_what_is_there(tmp_path, form, mapping):
    table = made_up()
    table["Snapshot"] = 91
    with pytest.raises(DataError, match="leaves no row") as caught:
        open_source(write_as(table, tmp_path / "t", form), mapping).read()
    assert "91" in caught.value.expected
    assert "all" in caught.value.advice


def test_another_format_than_the_mapping_demands_is_refused(tmp_path, form):
    other = "fits" if form != "fits" else "csv"
    strict = parse_mapping(f'format = "{other}"\n' + MAPPING)
    with pytest.raises(FileFormatError, match=f"the file is {form}"):
        open_source(write_as(made_up(), tmp_path / "t", form), strict).read()


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet", ".vot"])
def test_what_the_package_writes_it_reads_with_masks_and_units(tmp_path, suffix, mapping):
    from astropy.table import MaskedColumn

    table = made_up()
    table["Lookback"] = MaskedColumn(table["Lookback"], mask=table["Lookback"] == -1)
    table["Central"] = MaskedColumn(table["Central"], mask=np.arange(60) == 4)
    for name, unit in UNITS.items():
        table[name].unit = unit
    write_table(table, tmp_path / f"t{suffix}")
    got = open_source(tmp_path / f"t{suffix}", mapping).read()
    assert [(skip.row, skip.field, skip.reason) for skip in got.skipped] == [(4, "central", "missing (NaN)")]
    assert np.isnan(got["t_last_major"][0])


def test_csv_with_comments_and_other_delimiters(tmp_path, mapping):
    table = made_up()
    table.remove_column("Note")
    lines = write_as(table, tmp_path / "t.csv", "csv").read_text().replace(",", ";").splitlines()
    (tmp_path / "u.csv").write_text("# a comment\n# another\n" + "\n".join(lines) + "\n")
    assert len(open_source(tmp_path / "u.csv", mapping).read()) == 40
