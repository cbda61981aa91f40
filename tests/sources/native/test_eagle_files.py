"""EAGLE-layout files: units from their attributes, membership over many files, what cannot be read is skipped."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from galineage.cosmology import EAGLE
from galineage.errors import DataError, FileFormatError
from galineage.galaxy import Skip
from galineage.sources.native import EagleGalaxy, EagleSource
from galineage.sources.native.eagle import shrinking_centre

H, BOX = 0.6777, 67.77
UNITS = {
    "Coordinates": (3.085678e24, 1, -1),
    "Velocity": (1e5, 0.5, 0),
    "Mass": (1.989e43, 0, -1),
    "InitialMass": (1.989e43, 0, -1),
    "StellarFormationTime": (1, 0, 0),
    "Metallicity": (1, 0, 0),
    "GroupNumber": (1, 0, 0),
    "SubGroupNumber": (1, 0, 0),
}


def write(folder, a=1.0, files=4, seed=0):
    """Three galaxies and unbound stars, scattered over the files; return all stars in the files' units."""
    rng = np.random.default_rng(seed)
    counts = {(1, 0): 300, (1, 1): 120, (2, 0): 80, (1, 2**30): 50, (-1, 2**30): 20}
    rows = {name: [] for name in UNITS}
    for (group, subgroup), count in counts.items():
        centre = np.array([0.001, 30.0, BOX - 0.001]) if subgroup == 0 and group == 1 else rng.uniform(5, 60, 3)
        rows["Coordinates"].append((centre + rng.normal(0, 0.003, (count, 3))) % BOX)
        rows["Velocity"].append(rng.normal(200, 40, (count, 3)))
        rows["Mass"].append(rng.uniform(1e-4, 2e-4, count))
        rows["InitialMass"].append(rng.uniform(2e-4, 3e-4, count))
        rows["StellarFormationTime"].append(rng.uniform(0.1, a, count))
        rows["Metallicity"].append(rng.uniform(0, 0.04, count))
        rows["GroupNumber"].append(np.full(count, group))
        rows["SubGroupNumber"].append(np.full(count, subgroup))
    whole = {name: np.concatenate(values) for name, values in rows.items()}
    order = rng.permutation(len(whole["Mass"]))
    whole = {name: values[order] for name, values in whole.items()}
    folder.mkdir(exist_ok=True)
    for k, rows_here in enumerate(np.array_split(np.arange(len(order)), files)):
        with h5py.File(folder / f"snap_028_z000p000.{k}.hdf5", "w") as file:
            header = {"BoxSize": BOX, "HubbleParam": H, "Omega0": 0.307, "Time": a, "ExtractedFromSnapshot": 28}
            for name, value in header.items():
                file.require_group("Header").attrs[name] = value
            for name, (unit, power_a, power_h) in UNITS.items():
                file[f"PartType4/{name}"] = whole[name][rows_here]
                file[f"PartType4/{name}"].attrs.update(
                    {"CGSConversionFactor": unit, "aexp-scale-exponent": power_a, "h-scale-exponent": power_h}
                )
    return whole


@pytest.mark.parametrize("a", [1.0, 0.85])
@pytest.mark.parametrize("files", [1, 4])
def test_every_star_comes_back(tmp_path, a, files):
    whole = write(tmp_path, a, files)
    found = {one.id: one for one in EagleSource(tmp_path).galaxies()}
    assert set(found) == {"1-0", "1-1", "2-0"}, "unbound stars are nobody's"
    for name, galaxy in found.items():
        mine = (whole["GroupNumber"] == int(name[0])) & (whole["SubGroupNumber"] == int(name[2]))
        stars = galaxy.stars
        np.testing.assert_allclose(stars.mass, whole["Mass"][mine] * 1e10 / H, rtol=1e-12)
        np.testing.assert_allclose(stars.initial_mass, whole["InitialMass"][mine] * 1e10 / H, rtol=1e-12)
        np.testing.assert_array_equal(stars.metallicity, whole["Metallicity"][mine])
        np.testing.assert_allclose(stars.age, EAGLE.age(a) - EAGLE.age(whole["StellarFormationTime"][mine]), atol=1e-9)
        box = BOX * 1e3 * a / H
        place = whole["Coordinates"][mine] * 1e3 * a / H
        step = (stars.position + galaxy.centre - place + box / 2) % box - box / 2
        np.testing.assert_allclose(step, 0, atol=1e-2)
        assert np.linalg.norm(stars.position, axis=1).max() < 40
        np.testing.assert_allclose(stars.velocity + galaxy.velocity, whole["Velocity"][mine] * np.sqrt(a), rtol=1e-12)
        np.testing.assert_allclose(stars.mass @ stars.velocity / stars.mass.sum(), 0, atol=1e-9)


def test_the_table_gives_frame_radius_and_truth(tmp_path):
    write(tmp_path)
    centre, velocity = np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 3.0])
    row = EagleGalaxy("77", 1, 1, centre, velocity, 5.5, "EAGLE:77", {"f_ex": 0.25})
    (galaxy,) = EagleSource(tmp_path, table=[row]).galaxies([77])
    assert (galaxy.id, galaxy.r_half, galaxy.root, dict(galaxy.truth)) == ("77", 5.5, "EAGLE:77", {"f_ex": 0.25})
    np.testing.assert_array_equal(galaxy.centre, centre)
    with pytest.raises(DataError, match="no galaxy 78"):
        list(EagleSource(tmp_path, table=[row]).galaxies([78]))


def test_what_cannot_be_read_is_skipped(tmp_path):
    write(tmp_path)
    row = EagleGalaxy("5", 9, 9)
    (skip,) = EagleSource(tmp_path, table=[row]).galaxies()
    assert isinstance(skip, Skip)
    assert "no stars" in skip.reason
    with h5py.File(tmp_path / "snap_028_z000p000.2.hdf5", "a") as file:
        whose = np.flatnonzero((file["PartType4/GroupNumber"][:] == 1) & (file["PartType4/SubGroupNumber"][:] == 1))
        file["PartType4/Mass"][whose[0]] = np.nan
    found = {one.id: one for one in EagleSource(tmp_path).galaxies()}
    assert isinstance(found["1-1"], Skip)
    assert "mass of star" in found["1-1"].reason
    assert not isinstance(found["1-0"], Skip)


def test_files_without_units_or_galaxies_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match="no EAGLE snapshot"):
        EagleSource(tmp_path)
    write(tmp_path)
    with h5py.File(tmp_path / "snap_028_z000p000.1.hdf5", "a") as file:
        del file["PartType4/Mass"].attrs["CGSConversionFactor"]
    found = list(EagleSource(tmp_path).galaxies())
    assert all("CGSConversionFactor" in one.reason for one in found)


def test_the_centre_is_the_densest_place():
    rng = np.random.default_rng(1)
    dense, halo = rng.normal([3, 4, 5], 0.1, (500, 3)), rng.normal(0, 20, (1500, 3))
    found = shrinking_centre(np.concatenate([halo, dense]), np.ones(2000))
    np.testing.assert_allclose(found, [3, 4, 5], atol=0.05)
    box = 100.0
    moved = shrinking_centre((np.concatenate([halo, dense]) - np.array([4, 0, 0])) % box, np.ones(2000), box)
    np.testing.assert_allclose(moved, [99, 4, 5], atol=0.05)
