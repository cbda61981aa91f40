"""Mappings are data: validated, never evaluated."""

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_tables import MAPPING, made_up, write_as

from galineage.errors import ConfigError, DataError
from galineage.fields import FIELDS, SOLAR_METALLICITY, known_field, representation_features
from galineage.galaxy import Catalogue
from galineage.sources import ColumnSpec, available_mappings, load_mapping, open_source, parse_mapping
from galineage.tables import write_catalogue


def test_the_shipped_mappings():
    shipped = available_mappings()
    assert set(shipped) == {
        "tng100",
        "tng100-updated",
        "eagle",
        "camels",
        "camels-1e10",
        "camels-sb3",
        "tng100-mergers",
        "galineage",
    }
    for mapping in shipped.values():
        assert mapping.reference
        assert mapping.match
        assert all(item.description for item in mapping.filters.values())
        assert all(known_field(name) for name in mapping.columns)


def test_the_mapping_of_our_own_tables_knows_every_field():
    found = {*available_mappings()["galineage"].columns, "snapshot"}
    assert found == {*FIELDS, *representation_features(512)}


def test_a_table_may_have_a_representation(tmp_path):
    """``representation = 3`` stands for three columns, which may be absent."""
    mapping = parse_mapping(MAPPING.replace("id =", "representation = 3\nid =", 1))
    assert {"rep_000", "rep_001", "rep_002"} <= set(mapping.columns)
    table = made_up(9)
    plain = open_source(write_as(table, tmp_path / "p.parquet", "parquet"), mapping).read()
    assert "rep_000" not in plain
    table["rep_000"], table["rep_002"] = np.linspace(-3, 3, 9), np.full(9, 0.5)
    found = open_source(write_as(table, tmp_path / "t.parquet", "parquet"), mapping).read()
    assert (found["rep_002"] == 0.5).all()
    assert "rep_001" not in found
    for wrong in ('"many"', "-1", "5000", "true"):
        with pytest.raises(ConfigError):
            parse_mapping(MAPPING.replace("id =", f"representation = {wrong}\nid =", 1))


def test_a_snapshot_column_may_be_absent_where_the_mapping_says_so(tmp_path):
    table = made_up(9)
    table.remove_column("Snapshot")
    path = write_as(table, tmp_path / "t.parquet", "parquet")
    text = "\n".join(line for line in MAPPING.splitlines()).replace('default_filter = "z0"', 'default_filter = "all"')
    text = text.split("[filters.z0]")[0] + "[filters.all]\n[columns]" + text.split("[columns]")[1]
    with pytest.raises(DataError, match="lacks 'Snapshot'"):
        open_source(path, parse_mapping(text)).read()
    found = open_source(path, parse_mapping(text.replace("id =", "optional_snapshot = true\nid =", 1))).read()
    assert len(found) == 9
    assert "snapshot" not in found
    with pytest.raises(ConfigError, match="true or false"):
        parse_mapping(MAPPING.replace("id =", "optional_snapshot = 1\nid =", 1))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("name = ", "nam = "), "no key 'nam'"),
        (('id = "GalaxyID"\n', ""), "'id' is missing"),
        (('domain = "MadeUp"', "domain = 3"), "value is 3"),
        (('domain = "MadeUp"', 'domain = "{__import__}"'), "domain is"),
        (("mstar = ", "mstarr = "), "no field called 'mstarr'"),
        (('unit = "Msun"', 'unit = "Msum"'), "Msum"),
        (('unit = "Msun"', 'unit = "kpc"'), "not convertible"),
        (('unit = "Msun"', 'unit = "1e10 Msun / h"'), "unit is"),
        (('unit = "Msun"', "unit = 3"), "3"),
        (('unit = "Msun"', "h = 0"), "h is 0"),
        (('unit = "Msun"', "h = true"), "h is True"),
        (('unit = "Msun"', 'scale = "ln"'), "scale is 'ln'"),
        (('unit = "Msun"', 'relative_to = "solar"'), "metallicity"),
        (('unit = "Msun"', 'colum = "x"'), "no key 'colum'"),
        (('column = "Stellar_Mass", ', ""), "'column' is missing"),
        (("equals = [99]", "equals = 99"), "value is 99"),
        (("equals = [99]", 'equals = ["99"]'), "equals is"),
        (("equals = [99]", "equals = []"), "both column and equals"),
        (('default_filter = "z0"', 'default_filter = "zO"'), "no default_filter 'zO'"),
        (('f_ex = "ExsituF"', "f_ex = 1"), "value is 1"),
        (("[columns]", "[columns"), "not valid TOML"),
        (('name = "made-up"', 'name = "made-up"\nformat = "xls"'), "format is 'xls'"),
        (('name = "made-up"', 'name = "made-up"\nmatch = "*.csv"'), "value is"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong_and_where(change, match):
    assert change[0] in MAPPING
    with pytest.raises(ConfigError, match=match) as caught:
        parse_mapping(MAPPING.replace(*change), "mine.toml")
    assert "mine.toml" in str(caught.value)


def test_near_names_are_offered():
    with pytest.raises(ConfigError, match="did you mean") as caught:
        parse_mapping(MAPPING.replace("default_filter", "defaultfilter"))
    assert "default_filter" in caught.value.advice


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=6), st.one_of(st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2))
    )
)
def test_noise_is_a_config_error(noise):
    import json

    text = "\n".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in noise.items())
    with pytest.raises(ConfigError):
        parse_mapping(text)


def test_units_are_converted_exactly():
    assert ColumnSpec("mstar", "m", unit="1e10 Msun", h=0.5).convert(np.array([3.0]))[0] == pytest.approx(6e10)
    assert ColumnSpec("r_half", "r", unit="pc").convert(np.array([1500.0]))[0] == pytest.approx(1.5)
    assert ColumnSpec("age", "t", unit="yr").convert(np.array([1e9]))[0] == pytest.approx(1)
    assert ColumnSpec("mstar", "m", unit="g").convert(np.array([1.0]))[0] == pytest.approx((1 * u.g).to_value("Msun"))
    solar = ColumnSpec("metallicity", "z", scale="log10", relative_to="solar")
    np.testing.assert_allclose(solar.convert(np.array([0.0, 1.0])), [SOLAR_METALLICITY, 10 * SOLAR_METALLICITY])
    never = ColumnSpec("t_last_major", "t", unit="Myr", sentinel=-1).convert(np.array([-1.0, 500.0, np.nan]))
    np.testing.assert_array_equal(never, [np.nan, 0.5, np.nan])


def test_optional_columns_may_be_absent(tmp_path):
    mapping = parse_mapping(MAPPING + 'vmax = { column = "Vmax", optional = true }\n')
    got = open_source(write_as(made_up(), tmp_path / "t", "parquet"), mapping).read()
    assert "vmax" not in got


def test_a_mapping_of_ones_own_is_given_by_path(tmp_path):
    (tmp_path / "mine.toml").write_text(MAPPING)
    table = write_as(made_up(), tmp_path / "t.csv", "csv")
    source = open_source(table, tmp_path / "mine.toml")
    assert source.mapping == load_mapping(tmp_path / "mine.toml")
    assert len(source.read()) == 40
    assert "made-up" in source.name
    assert "Stellar_Mass" in source.describe()
    with pytest.raises(ConfigError, match="cannot be read"):
        open_source(table, tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="no mapping 'tng'") as caught:
        open_source(table, "tng")
    assert "tng100" in caught.value.expected
    with pytest.raises(ConfigError, match="no filter 'zO'"):
        source.read("zO")


def test_several_fitting_mappings_must_be_chosen_from(tmp_path, monkeypatch):
    one = parse_mapping(MAPPING.replace("made-up", "one").replace('id = "', 'match = ["t*"]\nid = "', 1))
    two = parse_mapping(MAPPING.replace("made-up", "two").replace('id = "', 'match = ["*.csv"]\nid = "', 1))
    other = parse_mapping('name = "o"\ndomain = "D"\nid = "Other"\nmatch = ["*"]\n[columns]\nf_ex = "Fx"\n')
    table = write_as(made_up(), tmp_path / "t.csv", "csv")
    monkeypatch.setattr("galineage.sources.shipped_mappings", lambda: {"one": one, "two": two, "o": other})
    with pytest.raises(ConfigError, match=r"several mappings fit.*one, two"):
        open_source(table)
    monkeypatch.setattr("galineage.sources.shipped_mappings", lambda: {"one": one, "o": other})
    assert open_source(table).mapping.name == "one"


def test_a_toy_suite_is_read_back(tmp_path):
    from galineage.tables import write_table

    table = made_up(20)["GalaxyID", "Snapshot"]
    table["RootID"] = np.array([f"toy-a/{i}" for i in range(20)])
    table["mstar"] = np.full(20, 1e10)
    table["mstar"].unit = "Msun"
    table["f_ex"] = np.linspace(0, 1, 20)
    write_table(table, tmp_path / "toy-a.parquet")
    got = open_source(tmp_path / "toy-a.parquet").read()
    assert set(got.domain) == {"toy-a"}
    assert got.root[3] == "toy-a:toy-a/3"


@pytest.mark.parametrize("suffix", ["parquet", "fits", "ecsv", "vot"])
def test_views_of_galaxies_are_read_back_with_all_rows(tmp_path, suffix):
    """Rows of one identifier and snapshot are not duplicates if they are other views."""
    ids, view = np.repeat(["7", "8", "9"], 3), np.tile([0, 1, 2], 3)
    columns = {"mstar": np.full(9, 1e10), "rep_000": np.arange(9.0), "rep_001": -np.arange(9.0), "view": view}
    views = Catalogue({**columns, "snapshot": np.full(9, 99)}, ids, np.full(9, "sky"), np.char.add("sky:", ids))
    write_catalogue(views, tmp_path / f"sky.{suffix}")
    found = open_source(tmp_path / f"sky.{suffix}", "galineage").read()
    assert len(found) == 9
    assert not found.skipped
    assert found["view"].tolist() == view.tolist()
    assert found["rep_001"].tolist() == views["rep_001"].tolist()
    assert found.ids.astype(str).tolist() == ids.tolist()
    assert found.root.tolist() == views.root.tolist()
    some = open_source(tmp_path / f"sky.{suffix}", "galineage").read(only=["rep_000"])
    assert len(some) == 9, "whatever is asked for"
    # the same view twice is one too many, and so is a galaxy twice where views are not told
    again = views.select(np.array([0, 1, 1, 2]))
    write_catalogue(again, tmp_path / f"again.{suffix}")
    found = open_source(tmp_path / f"again.{suffix}", "galineage").read()
    assert (len(found), len(found.skipped)) == (3, 1)
    bare = Catalogue({"mstar": np.full(9, 1e10)}, ids, np.full(9, "sky"), np.char.add("sky:", ids))
    write_catalogue(bare, tmp_path / f"bare.{suffix}")
    found = open_source(tmp_path / f"bare.{suffix}", "galineage").read()
    assert (len(found), len(found.skipped)) == (3, 6)


def test_views_of_a_store_are_read_back(tmp_path):
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
    from made_images import build

    views = build(tmp_path / "images").views("made")
    write_catalogue(views, tmp_path / "made.parquet")
    found = open_source(tmp_path / "made.parquet", "galineage").read()
    assert len(found) == len(views) > len(set(views.ids))
    assert found["view"].tolist() == views["view"].tolist()
    np.testing.assert_allclose(found["r90"], views["r90"])
