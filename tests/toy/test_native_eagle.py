"""A toy box in EAGLE's files: units from the attributes, membership by group numbers, truth by walking the export."""

import hashlib

import h5py
import numpy as np
import pandas as pd
import pytest

from galineage.cosmology import EAGLE as COSMOLOGY
from galineage.errors import ConfigError
from galineage.stars import half_mass_radius, specific_spin
from galineage.toy import write_eagle_box
from galineage.toy.eagle_files import UNBOUND
from galineage.toy.particles import draw_galaxies
from galineage.toy.snapshots import EAGLE

COUNT, SEED, STARS, CHUNKS = 20, 4, 300, 4
CGS = {"Coordinates": 3.085678e21, "Velocity": 1e5, "Mass": 1.989e33}


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    return write_eagle_box(tmp_path_factory.mktemp("eagle"), "toy-b", COUNT, SEED, stars=STARS, chunks=CHUNKS)


@pytest.fixture(scope="module")
def toys():
    return {toy.assembly.number: toy for toy in draw_galaxies("toy-b", COUNT, SEED, STARS)}


@pytest.fixture(scope="module")
def stars(box):
    """All stars of the box in physical units, by the attributes alone, with their files joined."""
    parts = []
    for chunk in range(CHUNKS):
        with h5py.File(box / "snapshot_028_z000p000" / f"snap_028_z000p000.{chunk}.hdf5") as file:
            header = file["Header"].attrs
            assert header["NumFilesPerSnapshot"] == CHUNKS
            assert ("PartType4" in file) == (header["NumPart_ThisFile"][4] > 0)
            if "PartType4" in file:
                parts.append({name: _physical(data, header) for name, data in file["PartType4"].items()})
    assert len(parts) < CHUNKS  # an empty file among them
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture(scope="module")
def export(box):
    return pd.read_csv(box / "toy-b_SubHalo.csv", comment="#").to_records(index=False)


@pytest.fixture(scope="module")
def truth(box):
    with h5py.File(box / "toy_galaxies_028.hdf5") as file:
        return {name: values[()] for name, values in file.items()}


def _physical(data, header):
    if data.dtype.kind != "f":
        return data[()]
    attributes = data.attrs
    factor = header["ExpansionFactor"] ** attributes["aexp-scale-exponent"]
    factor *= header["HubbleParam"] ** float(attributes["h-scale-exponent"]) * attributes["CGSConversionFactor"]
    return data[()].astype(float) * factor / CGS.get(data.name.split("/")[-1], 1.0)


def _rows(export, truth):
    """GalaxyID, row of the export and toy galaxy of every galaxy at z = 0."""
    for number, galaxy in zip(truth["GalaxyID"], truth["galaxy"], strict=True):
        row = export[export["GalaxyID"] == number]
        assert len(row) == 1
        yield int(number), row[0], int(galaxy)


def test_stars_are_those_of_the_generator(stars, export, truth, toys):
    for _, row, galaxy in _rows(export, truth):
        mine = (stars["GroupNumber"] == row["GroupNumber"]) & (stars["SubGroupNumber"] == row["SubGroupNumber"])
        order = np.flatnonzero(mine)[np.argsort(stars["ParticleIDs"][mine])]
        real = toys[galaxy].galaxy.stars
        same = np.argsort(real.ids)
        np.testing.assert_array_equal(stars["ParticleIDs"][order], real.ids[same])
        assert np.ptp(np.flatnonzero(mine)) > mine.sum()  # galaxies are mixed
        centre = 1e3 * np.array([row[f"CentreOfPotential_{axis}"] for axis in "xyz"])
        offset = stars["Coordinates"][order] - centre
        side = 67.77e3 / EAGLE.hubble
        np.testing.assert_allclose(offset - side * np.round(offset / side), real.position[same], atol=1e-3)
        motion = np.array([row[f"Velocity_{axis}"] for axis in "xyz"])
        np.testing.assert_allclose(stars["Velocity"][order] - motion, real.velocity[same], atol=1e-3)
        np.testing.assert_allclose(stars["Mass"][order], real.mass[same], rtol=1e-6)
        np.testing.assert_allclose(stars["Metallicity"][order], real.metallicity[same], rtol=1e-6)
        age = COSMOLOGY.age(1.0) - COSMOLOGY.age(stars["StellarFormationTime"][order])
        np.testing.assert_allclose(age, real.age[same], atol=1e-5)


def test_some_stars_belong_to_nothing(stars):
    assert (stars["SubGroupNumber"] == UNBOUND).sum() > (stars["GroupNumber"] == UNBOUND).sum() > 0
    assert stars["GroupNumber"].min() == 1
    assert stars["SubGroupNumber"].min() == 0


def test_export_is_measured_on_the_stars(export, truth, toys, box):
    sizes = pd.read_csv(box / "toy-b_Sizes.csv", comment="#").to_records(index=False)
    for number, row, galaxy in _rows(export, truth):
        real = toys[galaxy].galaxy.stars
        assert row["MassType_Star"] == pytest.approx(real.mass.sum(), rel=1e-6)
        assert row["HalfMassRad_Star"] == pytest.approx(half_mass_radius(real), rel=1e-6)
        spin = [row[f"Stars_Spin_{axis}"] for axis in "xyz"]
        np.testing.assert_allclose(spin, specific_spin(real), rtol=1e-6, atol=1e-5)
        size = sizes[sizes["GalaxyID"] == number]
        assert 0 < size["R_halfmass30"][0] <= size["R_halfmass100"][0] <= row["HalfMassRad_Star"] * (1 + 1e-6)
        assert (row["SubGroupNumber"] == 0) == bool(truth["central"][truth["galaxy"] == galaxy][0])


def test_walking_the_export_tells_for_every_star_whether_it_was_accreted(box, export, truth, toys):
    with h5py.File(box / "star_birth_028.hdf5") as file:
        birth = dict(zip(file["ParticleIDs"][()].tolist(), file["GalaxyIDAtFormation"][()].tolist(), strict=True))
        snapshots = dict(zip(file["ParticleIDs"][()].tolist(), file["SnapNumAtFormation"][()].tolist(), strict=True))
    when = dict(zip(export["GalaxyID"].tolist(), export["SnapNum"].tolist(), strict=True))
    for number, row, galaxy in _rows(export, truth):
        real = toys[galaxy].galaxy.stars
        home = np.array([birth[int(star)] for star in real.ids])
        # the main branch runs from the galaxy to its top leaf, all progenitors to the last one
        walked = ~((home >= number) & (home <= row["TopLeafID"]))
        np.testing.assert_array_equal(walked, real.ex_situ)
        assert ((home >= number) & (home <= row["LastProgID"])).all()
        assert all(when[place] == snapshots[int(star)] for place, star in zip(home.tolist(), real.ids, strict=True))
        found = truth["f_ex"][truth["galaxy"] == galaxy][0]
        assert float(real.mass[walked].sum() / real.mass.sum()) == pytest.approx(found, abs=1e-12)


def test_export_is_a_forest(export):
    assert (np.diff(export["GalaxyID"]) > 0).all()
    known = {int(number): row for row, number in enumerate(export["GalaxyID"])}
    for row in export:
        later = export[known[int(row["DescendantID"])]]
        if row["SnapNum"] == 28:
            assert row["DescendantID"] == row["GalaxyID"]
        else:
            assert later["SnapNum"] == row["SnapNum"] + 1
            assert later["GalaxyID"] < row["GalaxyID"] <= later["LastProgID"]
        assert row["GalaxyID"] <= row["TopLeafID"] <= row["LastProgID"]
    place = export["SnapNum"].astype(np.int64) * 10**9 + export["GroupNumber"] * 10**6 + export["SubGroupNumber"]
    assert len(np.unique(place)) == len(export)


def test_our_own_readers_read_it(box, export, truth, toys):
    from galineage.sources.native.eagle import EagleSource
    from galineage.sources.native.eagle_tables import EagleExport

    table = EagleExport.read(box / "toy-b_SubHalo.csv", "toy-b").galaxies(28, 1e9)
    found = list(EagleSource(box / "snapshot_028_z000p000", "toy-b", table).galaxies())
    assert len(found) == COUNT
    number = dict(zip(truth["GalaxyID"].tolist(), truth["galaxy"].tolist(), strict=True))
    for galaxy in found:
        real = toys[number[int(galaxy.id)]].galaxy
        assert galaxy.r_half == pytest.approx(real.r_half, rel=1e-6)
        assert galaxy.stars.mass.sum() == pytest.approx(real.stars.mass.sum(), rel=1e-6)
        assert set(galaxy.stars.ids) == set(real.stars.ids)


def test_same_arguments_same_bytes(tmp_path):
    found = []
    for name in ("one", "two"):
        box = write_eagle_box(tmp_path / name, "toy-c", 4, 2, stars=60, chunks=3)
        files = sorted(path for path in box.rglob("*") if path.is_file())
        found.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert found[0] == found[1]


def test_bad_requests_write_nothing(tmp_path):
    for change, message in (({"chunks": 0}, "1 to 1000"), ({"suite": "eagle"}, "toy-c"), ({"stars": 1}, "10 to")):
        arguments = {"suite": "toy-a", "count": 2, "seed": 0, **change}
        with pytest.raises(ConfigError, match=message):
            write_eagle_box(tmp_path / "box", **arguments)
    assert not (tmp_path / "box").exists()
