"""Real galaxies in the formats in which they are published, against what the catalogues say of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import galineage
from galineage.cosmology import ILLUSTRIS, TNG
from galineage.errors import DataError
from galineage.history import find_mergers
from galineage.sources.native import EagleSource, MissingChunksWarning, TngSource, from_box, read_cutout
from galineage.sources.native.bulk import chunks_of, read_rows
from galineage.sources.native.sublink import read_tree_cutout
from galineage.sources.native.tng_layout import TngFolder
from galineage.stars import Galaxy, Stars, measure

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def data(catalogs):
    return Path(catalogs).parent


def test_native_chunks_give_the_published_table(data, catalogs):
    source = TngSource(data / "native" / "tng100_groupcat", 99, "TNG100-1")
    with pytest.warns(MissingChunksWarning, match="are not there"):  # a few of its 448 are at hand
        mine = source.subhaloes
    table = galineage.open_source(catalogs / "properties_tng.h5py").read()
    rows = np.flatnonzero(np.asarray(table["snapshot"]) == 99)
    place = {str(number): k for k, number in enumerate(mine.id)}
    shared = [(row, place[str(table.ids[row])]) for row in rows if str(table.ids[row]) in place]
    assert len(shared) == 60
    theirs, ours = np.array(shared).T
    for name, values in (
        ("mstar", mine.mstar),
        ("r_half", mine.r_half),
        ("total_spin", np.linalg.norm(mine.spin, axis=1)),
    ):
        np.testing.assert_allclose(values[ours], table[name][theirs], rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(mine.central[ours], table["central"][theirs].astype(bool))


def test_tng_galaxy(data):
    with np.load(data / "particles" / "tng100_099_394242.npz") as file:
        stars = Stars(file["pos_kpc"], file["vel_kms"], file["mass_msun"])
        catalogue = {name: float(file[f"meta_catalog_{name}"]) for name in ("mstar_msun", "hmsr_kpc", "spin")}
    found = measure(Galaxy("394242", "TNG100-1", stars, catalogue["hmsr_kpc"]))
    assert found["mstar"] == pytest.approx(catalogue["mstar_msun"], rel=1e-5)
    assert found["r_half"] == pytest.approx(catalogue["hmsr_kpc"], rel=3e-3)
    assert found["spin"] == pytest.approx(catalogue["spin"], rel=1e-4)


def test_eagle_galaxy_from_its_native_file(data, catalogs):
    table = galineage.open_source(catalogs / "properties_eagle.h5py").read()
    row = list(table.ids.astype(str)).index("636522")
    (galaxy,) = EagleSource(data / "native" / "simspin" / "EAGLE_RefL0100N1504_z0_group92_sub9_full.hdf5").galaxies()
    assert (galaxy.id, galaxy.snapshot, len(galaxy.stars)) == ("92-9", 28, 7524)
    assert galaxy.stars.missing == ("potential", "ex_situ")
    found = measure(galaxy, aperture=None)  # the table averages over all stars
    for name, tolerance in (("mstar", 1e-5), ("r_half", 0.015), ("spin", 0.003), ("age", 0.03)):
        assert found[name] == pytest.approx(table[name][row], rel=tolerance), name
    assert np.log10(found["metallicity"] / table["metallicity"][row]) == pytest.approx(0, abs=0.02)


def test_illustris_galaxy_from_box_coordinates(data):
    columns = np.loadtxt(data / "particles" / "illustris1_135_417175_box.txt").T
    rows = {
        "Coordinates": columns[:3].T, "Velocities": columns[3:6].T, "Masses": columns[6],
        "GFM_StellarFormationTime": columns[7], "GFM_Metallicity": columns[8],
    }  # fmt: skip
    galaxy = from_box(rows, ILLUSTRIS, id="417175", domain="Illustris-1", box=75000)
    assert len(galaxy.stars) == 7635
    assert galaxy.stars.mass.sum() == pytest.approx(6.98889e9, rel=1e-5)
    assert np.abs(galaxy.stars.mass @ galaxy.stars.velocity / galaxy.stars.mass.sum()).max() < 1e-6


def test_cutouts_say_what_they_lack(data):
    galaxy = read_cutout(data / "native" / "tng_api" / "stars_565261.hdf5", "TNG100-1")
    assert (galaxy.id, len(galaxy.stars)) == ("565261", 517)
    assert "velocity" in galaxy.stars.missing
    assert "spin" not in measure(galaxy)
    subset = read_cutout(data / "native" / "simspin" / "SimSpin_example_IllustrisTNG.hdf5", "TNG100-1")
    assert len(subset.stars) == 1996, "four of the 2,000 are wind"


def test_a_real_main_branch(data):
    tree = read_tree_cutout(data / "native" / "tng_api" / "sublink_mpb_565261.hdf5", TNG.h)
    row = tree.find(99, 565261)
    branch = tree.main_branch(row)
    assert len(branch) == len(tree) == 95
    np.testing.assert_array_equal(tree.snapshot[branch], sorted(tree.snapshot, reverse=True))
    assert tree.mstar[row] == pytest.approx(5.46e8, rel=0.01)
    with pytest.raises(DataError, match="whole tree"):
        find_mergers(tree, row, np.linspace(0.1, 13.8, 100))


def test_a_real_snapshot_with_empty_and_absent_chunks(data):
    folder = TngFolder(data / "native" / "tng50-4_subbox", 2332)
    chunks = chunks_of(folder.snapshot_files(), 4)
    assert 7 not in {int(path.name.split(".")[1]) for path in chunks.paths}
    assert int((chunks.stop - chunks.start).sum()) < chunks.total == chunks.stop[-1]
    assert not list(read_rows(chunks, "PartType4", ["Masses"], []))
