"""TNG-layout boxes: every star of every galaxy comes back, whatever the chunks; what cannot be read is skipped."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from boxes import BOX, H, write_box

from galineage.cosmology import TNG
from galineage.errors import DataError, FileFormatError
from galineage.galaxy import Skip
from galineage.sources.native import MissingChunksWarning, Selection, TngSource
from galineage.sources.native.bulk import Wanted, chunks_of, read_rows
from galineage.stars import Galaxy

EVERY = Selection(mstar_min=0, flagged=True)


def read(source, ids):
    found = list(source.galaxies(ids))
    galaxies = {int(one.id): one for one in found if isinstance(one, Galaxy)}
    return galaxies, {int(one.id): one.reason for one in found if isinstance(one, Skip)}


def expected(one, a=1.0):
    """Twin of the reader, one galaxy at a time, in plain words."""
    real = one["GFM_StellarFormationTime"] > 0
    step = (one["Coordinates"][real] - one["centre"].astype(np.float32).astype(float) + BOX / 2) % BOX - BOX / 2
    return {
        "position": step * a / H,
        "velocity": one["Velocities"][real] * np.sqrt(a) - 90,
        "mass": one["Masses"][real].astype(float) * 1e10 / H,
        "age": TNG.age(a) - TNG.age(one["GFM_StellarFormationTime"][real]),
        "metallicity": one["GFM_Metallicity"][real],
        "initial_mass": one["GFM_InitialMass"][real].astype(float) * 1e10 / H,
        "smoothing": one["StellarHsml"][real].astype(float) * a / H,
        "potential": one["Potential"][real].astype(float) / a,
        "ids": one["ParticleIDs"][real],
        "ex_situ": one["InSitu"][real] == 0,
    }


@pytest.mark.parametrize("naming", ["new", "old"])
@pytest.mark.parametrize("chunks", [1, 2, 5])
@pytest.mark.parametrize("a", [1.0, 0.8])
def test_every_star_comes_back(tmp_path, naming, chunks, a):
    truth = write_box(tmp_path, chunks=chunks, naming=naming, a=a)
    galaxies, skipped = read(TngSource(tmp_path, 99, "box"), range(7))
    assert set(galaxies) == {0, 1, 3, 4, 6}
    assert "no stars" in skipped[2]
    assert "only wind" in skipped[5]
    for k, galaxy in galaxies.items():
        for name, values in expected(truth[k], a).items():
            np.testing.assert_allclose(getattr(galaxy.stars, name), values, rtol=1e-6, atol=2e-3, err_msg=name)
        assert galaxy.redshift == pytest.approx(1 / a - 1)
        assert galaxy.r_half == pytest.approx(4.5 * a / H)
        assert np.abs(galaxy.stars.position).max() < 100, "the nearest periodic image"


def test_offsets_can_be_had_from_the_lengths(tmp_path):
    write_box(tmp_path / "with")
    write_box(tmp_path / "without", offsets=False)
    first, second = (TngSource(tmp_path / name, 99, "box").subhaloes for name in ("with", "without"))
    np.testing.assert_array_equal(first.first_star, second.first_star)
    np.testing.assert_array_equal(first.id, np.arange(7))


def test_without_offsets_an_absent_group_chunk_hides_the_places_behind_it(tmp_path):
    write_box(tmp_path, offsets=False)
    (tmp_path / "groups_099" / "fof_subhalo_tab_099.0.hdf5").unlink()
    source = TngSource(tmp_path, 99, "box")
    with pytest.warns(MissingChunksWarning, match="4 of 7 subhaloes are in chunks"):
        np.testing.assert_array_equal(source.subhaloes.id, [4, 5, 6])
    galaxies, skipped = read(source, [4, 6])
    assert not galaxies
    assert "do not tell" in skipped[4]


def test_an_absent_snapshot_chunk_costs_only_its_own_galaxies(tmp_path):
    truth = write_box(tmp_path, galaxies=12, chunks=6)
    whole, _ = read(TngSource(tmp_path, 99, "box"), range(12))
    (tmp_path / "snapdir_099" / "snap_099.4.hdf5").unlink()
    galaxies, skipped = read(TngSource(tmp_path, 99, "box"), range(12))
    lost = set(whole) - set(galaxies)
    assert 0 < len(lost) < 6
    assert all("absent or broken" in skipped[k] for k in lost)
    for k, galaxy in galaxies.items():
        np.testing.assert_array_equal(galaxy.stars.ids, whole[k].stars.ids)
        assert len(truth[k]["Masses"])


def test_files_between_two_gaps_are_left_out(tmp_path):
    write_box(tmp_path, galaxies=12, chunks=8)
    for chunk in (3, 6):
        (tmp_path / "snapdir_099" / f"snap_099.{chunk}.hdf5").unlink()
    chunks = chunks_of(TngSource(tmp_path, 99, "box").folder.snapshot_files(), 4)
    assert [path.name for path in chunks.paths] == [f"snap_099.{chunk}.hdf5" for chunk in (0, 1, 2, 7, 8)]
    assert chunks.stop[-1] == chunks.total


def test_a_mini_snapshot_lacks_fields_and_says_so(tmp_path):
    write_box(tmp_path, mini=True, assembly=False)
    galaxies, _ = read(TngSource(tmp_path, 99, "box"), [0])
    assert galaxies[0].stars.missing == ("smoothing", "potential", "ex_situ")


def test_the_fraction_of_the_catalogue_is_that_of_the_stars(tmp_path):
    write_box(tmp_path)
    source = TngSource(tmp_path, 99, "box")
    galaxies, _ = read(source, range(7))
    catalogue = source.catalogue(EVERY)
    for k, galaxy in galaxies.items():
        mass = galaxy.stars.mass
        row = list(catalogue.ids).index(str(k))
        assert catalogue["f_ex"][row] == pytest.approx(mass @ galaxy.stars.ex_situ / mass.sum(), abs=1e-6)
        assert galaxy.truth["f_ex"] == catalogue["f_ex"][row]
        assert catalogue["mstar"][row] == pytest.approx(mass.sum(), rel=1e-5)


def test_flagged_subhaloes_and_fractions_outside_are_skipped_with_the_reason(tmp_path):
    write_box(tmp_path)
    source = TngSource(tmp_path, 99, "box")
    assert "1" in source.catalogue(EVERY).ids
    chosen = source.catalogue(Selection(mstar_min=0))
    assert "1" not in chosen.ids
    assert [(one.id, "SubhaloFlag" in one.reason) for one in chosen.skipped] == [("1", True)]
    some = source.catalogue(Selection(mstar_min=0, f_ex_max=0.5))
    assert (some["f_ex"] < 0.5).all()
    assert any("range of f_ex" in one.reason for one in some.skipped)
    assert list(chosen.root[:1]) == [f"box:{chosen.ids[0]}"]


def test_masses_that_do_not_add_up_are_refused(tmp_path):
    write_box(tmp_path)
    with h5py.File(tmp_path / "postprocessing" / "StellarAssembly" / "galaxies_099.hdf5", "a") as file:
        file["StellarMassExSitu"][3] = file["StellarMassExSitu"][3] * 1.5
    with pytest.raises(FileFormatError, match="subhalo 3"):
        TngSource(tmp_path, 99, "box").catalogue(EVERY)


def test_offsets_of_another_snapshot_are_refused(tmp_path):
    write_box(tmp_path)
    with h5py.File(tmp_path / "postprocessing" / "offsets" / "offsets_099.hdf5", "a") as file:
        table = file["Subhalo/SnapByType"][:]
        table[3:, 4] += 1
        file["Subhalo/SnapByType"][...] = table
    with pytest.raises(FileFormatError, match="subhalo 3 contradicts"):
        _ = TngSource(tmp_path, 99, "box").subhaloes


@pytest.mark.parametrize("value", [np.nan, -1e-4, 1e9])
def test_an_impossible_mass_costs_one_galaxy(tmp_path, value):
    truth = write_box(tmp_path, chunks=1)
    with h5py.File(tmp_path / "snapdir_099" / "snap_099.0.hdf5", "a") as file:
        row = len(truth[0]["Masses"]) + 20
        file["PartType4/Masses"][row] = value
    galaxies, skipped = read(TngSource(tmp_path, 99, "box"), [0, 1, 3])
    assert set(galaxies) == {0, 3}
    assert "mass of star" in skipped[1]


@pytest.mark.parametrize("kind", ["cut short", "no HDF5", "empty", "a dataset is short", "a dataset is text"])
def test_a_damaged_chunk_costs_only_its_own_galaxies(tmp_path, kind):
    write_box(tmp_path, galaxies=12, chunks=4)
    path = tmp_path / "snapdir_099" / "snap_099.3.hdf5"
    source = TngSource(tmp_path, 99, "box")
    whole, _ = read(source, range(12))
    content = path.read_bytes()
    if kind.startswith("a dataset"):
        with h5py.File(path, "a") as file:
            values = file["PartType4/Masses"][:]
            del file["PartType4/Masses"]
            file["PartType4/Masses"] = values[:-7] if kind == "a dataset is short" else np.full(len(values), b"x")
    else:
        path.write_bytes({"cut short": content[: len(content) // 2], "no HDF5": b"<html>" * 500, "empty": b""}[kind])
    galaxies, skipped = read(TngSource(tmp_path, 99, "box"), range(12))
    assert set(galaxies) < set(whole)
    named = "snap_099.3" if kind.startswith("a dataset") else "absent or broken: after snap_099.2"
    assert all(named in skipped[k] or "snap_099" in skipped[k] for k in set(whole) - set(galaxies))
    assert any(named in skipped[k] for k in set(whole) - set(galaxies))
    for k, galaxy in galaxies.items():
        np.testing.assert_array_equal(galaxy.stars.mass, whole[k].stars.mass)


def test_unknown_numbers_and_folders_are_named(tmp_path):
    write_box(tmp_path)
    with pytest.raises(DataError, match="no subhalo 77"):
        list(TngSource(tmp_path, 99, "box").galaxies([77]))
    with pytest.raises(FileFormatError, match="no folder"):
        TngSource(tmp_path / "elsewhere", 99, "box")
    with pytest.raises(FileFormatError, match="no group catalogue of snapshot 98"):
        _ = TngSource(tmp_path, 98, "box").subhaloes


def test_rows_are_read_in_few_pieces(tmp_path, monkeypatch):
    write_box(tmp_path, galaxies=12, chunks=3)
    source = TngSource(tmp_path, 99, "box")
    calls = []
    from galineage.sources.native import bulk

    real = bulk.Column.read
    monkeypatch.setattr(bulk.Column, "read", lambda column, *given: calls.append(column.name) or real(column, *given))
    read(source, range(12))
    assert len([name for name in calls if name.startswith("PartType4/")]) == 3 * 9, (
        "three files with stars, nine datasets"
    )


def test_pieces_do_not_read_what_lies_far_between(tmp_path, monkeypatch):
    write_box(tmp_path, galaxies=12, chunks=1)
    source = TngSource(tmp_path, 99, "box")
    chunks = chunks_of(source.folder.snapshot_files(), 4)
    from galineage.sources.native import bulk

    monkeypatch.setattr(bulk, "GAP", 5)
    every = source.subhaloes
    wanted = [Wanted(k, int(every.first_star[k]), int(every.stars[k])) for k in (0, 1, 6)]
    found = {one.key: rows for one, rows in read_rows(chunks, "PartType4", ["Masses"], wanted)}
    assert {k: len(rows["Masses"]) for k, rows in found.items()} == {k: every.stars[k] for k in (0, 1, 6)}
