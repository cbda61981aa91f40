"""Colours are made by the reader where a table has the magnitudes and not the colour."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from galineage.errors import ConfigError
from galineage.fields import FIELDS, MERGER_TARGETS, with_ingredients
from galineage.sources import open_source
from galineage.tables import write_table

G, R = np.array([-20.0, -21.5, np.nan, -30.0]), np.array([-20.7, -22.0, -21.0, -6.0])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "toy-colours.parquet"
    columns = {"GalaxyID": np.arange(4), "Snapshot": np.full(4, 99), "RootID": np.arange(4)}
    columns |= {"mstar": np.full(4, 1e10), "f_ex": np.full(4, 0.1), "mag_g": G, "mag_r": R}
    write_table(Table(columns), path)
    return path


@pytest.mark.parametrize("only", [None, ["colour_gr"], ["mstar", "colour_gr", "f_ex"]])
def test_a_colour_is_the_difference_of_two_magnitudes(table, only):
    catalogue = open_source(table).read(only=only)
    np.testing.assert_allclose(catalogue["colour_gr"], (G - R)[:3], equal_nan=True)
    assert [(skip.row, skip.field) for skip in catalogue.skipped] == [(3, "colour_gr")]  # -24 mag is no colour
    assert "colour_ri" not in catalogue


def test_a_colour_of_the_table_itself_is_kept(table):
    full = Table.read(table)
    full["colour_gr"] = [0.1, 0.2, 0.3, 0.4]
    write_table(full, table)
    np.testing.assert_array_equal(open_source(table).read()["colour_gr"], [0.1, 0.2, 0.3, 0.4])


def test_only_what_was_asked_for_is_made(table):
    assert "colour_gr" not in open_source(table).read(only=["mag_g", "mag_r"])


def test_ingredients_follow_the_names_once():
    asked = ["colour_gr", "colour_ri", "mag_r"]
    assert with_ingredients(asked) == (*asked, "mag_g", "mag_i")
    with pytest.raises(ConfigError, match="no field"):
        with_ingredients(["colour_xy"])


def test_differences_are_of_fields_with_the_same_unit():
    made = [item for item in FIELDS.values() if item.difference]
    assert made
    for item in made:
        assert {FIELDS[part].unit for part in item.difference} == {item.unit}
        assert {FIELDS[part].scale for part in item.difference} == {item.scale} == {"linear"}


def test_merger_targets_are_those_that_need_a_major_merger():
    assert MERGER_TARGETS == ("t_last_major", "mstar_last_major")
