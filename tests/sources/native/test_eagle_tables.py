"""Database exports of EAGLE: units, roots and trees of a table small enough to know by heart."""

from __future__ import annotations

import numpy as np
import pytest

from galineage.errors import FileFormatError
from galineage.history import find_mergers, statistics
from galineage.sources.native.eagle_tables import EagleExport

HEAD = (
    "GalaxyID,DescendantID,LastProgID,TopLeafID,SnapNum,Redshift,GroupNumber,SubGroupNumber,CentreOfPotential_x,"
    "CentreOfPotential_y,CentreOfPotential_z,Velocity_x,Velocity_y,Velocity_z,MassType_Star,HalfMassRad_Star"
)
# two final galaxies; the first one has a main branch 11-13 and a merger 15-16; number 14 was too small for the export
ROWS = """\
20,20,22,22,28,0.0,2,0,1,2,3,10,20,30,3e10,4.5
10,10,16,13,28,0.0,1,0,5,6,7,-10,0,5,9e10,6.0
11,10,16,13,27,0.1,1,0,5,6,7,-10,0,5,8e10,5.0
12,11,16,13,26,0.2,1,0,5,6,7,-10,0,5,6e10,5.0
15,11,16,16,26,0.2,3,1,5,6,7,-10,0,5,2e10,2.0
13,12,13,13,25,0.3,1,0,5,6,7,-10,0,5,5e10,5.0
16,15,16,16,25,0.3,3,0,5,6,7,-10,0,5,2.5e10,2.0
21,20,22,22,27,0.1,2,0,1,2,3,10,20,30,2e10,4.0
22,21,22,22,26,0.2,2,0,1,2,3,10,20,30,1e10,0.0
"""


@pytest.fixture
def export(tmp_path):
    path = tmp_path / "galaxies.csv"
    path.write_text(f"# SELECT ...\n{HEAD}\n{ROWS}")
    return EagleExport.read(path)


def test_galaxies_in_physical_units(export):
    found = {one.id: one for one in export.galaxies(27)}
    assert set(found) == {"11", "21"}
    np.testing.assert_allclose(found["11"].centre, np.array([5, 6, 7]) * 1e3 / 1.1)
    np.testing.assert_allclose(found["11"].velocity, [-10, 0, 5])
    assert (found["11"].r_half, found["11"].group, found["11"].subgroup) == (5.0, 1, 0)
    assert [one.root for one in export.galaxies(26, 0)] == ["EAGLE:10", "EAGLE:10", "EAGLE:20"]
    assert export.galaxies(26, 0)[-1].r_half is None, "a radius of zero is none"


def test_the_merger_of_the_tree(export):
    ages = np.array([0.0] * 25 + [10.0, 11.0, 12.0, 13.5])
    tree = export.tree
    found = find_mergers(tree, tree.find(28, 10), ages)
    assert found.secondary.tolist() == [tree.find(26, 15)]
    assert found.time == pytest.approx(1.5)
    assert found.ratio == pytest.approx(0.5), "both when the secondary was most massive"
    assert statistics(found)["mstar_last_major"] == 2.5e10
    assert len(find_mergers(tree, tree.find(28, 20), ages)) == 0
    assert find_mergers(tree, tree.find(27, 11), ages).time == pytest.approx(0.0)


@pytest.mark.parametrize(("change", "words"), [("TopLeafID", "lacks TopLeafID"), ("9e10", "not numbers")])
def test_broken_exports_are_refused(tmp_path, change, words):
    path = tmp_path / "galaxies.csv"
    path.write_text(f"{HEAD}\n{ROWS}".replace(change, "x"))
    with pytest.raises(FileFormatError, match=words):
        EagleExport.read(path)
    with pytest.raises(FileFormatError):
        EagleExport.read(tmp_path / "absent.csv")
