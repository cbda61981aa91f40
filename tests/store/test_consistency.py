"""Stars and catalogue are compared: what agrees is in no doubt, what differs is named with both numbers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_galaxies import SMALL, Made

from galineage.stars import measure
from galineage.store.consistency import Doubt, doubts
from galineage.store.prepare import prepare


@pytest.fixture(scope="module")
def galaxy():
    (found,) = Made().galaxies(["6"])
    known = measure(found)
    return replace(found, r_half=known["r_half"], truth={"mstar": known["mstar"]})


def test_a_galaxy_is_what_its_catalogue_says(galaxy):
    assert doubts(galaxy) == ()
    assert doubts(replace(galaxy, truth={})) == ()
    assert doubts(replace(galaxy, truth={"mstar": np.nan})) == ()


def test_what_differs_is_named_with_both_numbers(galaxy):
    mass = galaxy.truth["mstar"]
    (found,) = doubts(replace(galaxy, truth={"mstar": 0.7 * mass}))
    assert found == Doubt("6", "made", "mstar", mass, 0.7 * mass)
    assert str(found) == f"mstar of its stars is {mass:.4g}, of the catalogue {0.7 * mass:.4g}"
    (found,) = doubts(replace(galaxy, r_half=1.5 * galaxy.r_half))
    assert found.field == "r_half"
    near = replace(galaxy, truth={"mstar": 1.0005 * mass}, r_half=1.04 * galaxy.r_half)
    assert doubts(near) == ()
    assert [one.field for one in doubts(near, {"mstar": 1e-4, "r_half": 0.01})] == ["mstar", "r_half"]


def test_galaxies_of_a_store_are_compared_once_each(tmp_path):
    source = Made(8)
    store = prepare(source, source.catalogue(), tmp_path, SMALL, progress=False)
    found = doubts(store, {"mstar": 1e-3})
    assert [one.id for one in found] == ["0", "1", "2", "4", "5", "6", "7"], "the made-up catalogue has a made-up mass"
    assert all(one.catalogued == 2e10 for one in found)


def test_stores_without_measurements_are_in_no_doubt():
    row = {"id": "1", "domain": "d", "snapshot": 99, "r_half": 3.0, "truth": {"mstar": 1e10}}
    assert doubts(SimpleNamespace(rows=(row,))) == ()
    empty = {**row, "measured": {"mstar": None}}
    (found,) = doubts(SimpleNamespace(rows=(empty, empty)))
    assert np.isnan(found.measured)
