"""Histories computed from trees give what the toy universe was made with, for every star."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

from galineage.errors import FileFormatError
from galineage.galaxy import Skip
from galineage.history import TracedEagle
from galineage.sources.native import Selection, StarBirths, open_snapshot
from galineage.toy import write_eagle_box
from galineage.toy.particles import draw_galaxies


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    folder = tmp_path_factory.mktemp("box")
    write_eagle_box(folder, "toy-b", 12, 3, stars=300)
    return folder


@pytest.fixture(scope="module")
def traced(box):
    export = box / "toy-b_SubHalo.csv"
    source = open_snapshot(box / "snapshot_028_z000p000", domain="toy-b", export=export)
    return TracedEagle(source, export, box / "star_birth_028.hdf5")


@pytest.fixture(scope="module")
def truth(box):
    with h5py.File(box / "toy_galaxies_028.hdf5") as file:
        found = {name: file[name][()] for name in file}
    return {int(number): {name: values[k] for name, values in found.items()}
            for k, number in enumerate(found["GalaxyID"])}  # fmt: skip


def test_every_star_is_told_and_the_fraction_is_the_truth(traced, truth):
    toys = {toy.assembly.number: toy.galaxy for toy in draw_galaxies("toy-b", 12, 3, 300)}
    wanted = [str(number) for number in truth]
    found = {galaxy.id: galaxy for galaxy in traced.galaxies(wanted)}
    assert set(found) == set(wanted)
    for number, known in truth.items():
        galaxy, toy = found[str(number)], toys[int(known["galaxy"])]
        mine = dict(zip(galaxy.stars.ids.tolist(), galaxy.stars.ex_situ.tolist(), strict=True))
        assert mine == dict(zip(toy.stars.ids.tolist(), toy.stars.ex_situ.tolist(), strict=True))
        assert galaxy.truth["f_ex"] == pytest.approx(known["f_ex"], abs=1e-6)
        inside = float(galaxy.stars.mass[~galaxy.stars.ex_situ].sum())
        outside = float(galaxy.stars.mass[galaxy.stars.ex_situ].sum())
        assert inside + outside == pytest.approx(float(galaxy.stars.mass.sum()), rel=1e-12)


def test_mergers_come_from_the_tree(traced, truth):
    catalogue = traced.catalogue(Selection(mstar_min=1e9))
    assert not [one for one in catalogue.skipped if one.field == "t_last_major"]
    known = [truth[int(one)] for one in catalogue.ids]
    never = np.array([np.isnan(one["t_last_major"]) for one in known])
    np.testing.assert_array_equal(np.isnan(catalogue["t_last_major"]), never)
    mass = np.array([one["mstar_last_major"] for one in known])
    # several major mergers between two snapshots: the heaviest counts as the last
    assert (catalogue["mstar_last_major"][~never] >= mass[~never] * (1 - 1e-6)).all()
    step = np.abs(catalogue["t_last_major"] - np.array([one["t_last_major"] for one in known]))[~never]
    assert step.max() < 1.5, "the snapshots of EAGLE are up to 1.3 Gyr apart"


def test_it_can_be_sent_to_another_process(traced):
    again = pickle.loads(pickle.dumps(traced))
    assert (again.name, again.domain) == (traced.name, traced.domain)


def test_a_galaxy_that_is_in_no_tree_is_skipped(traced, box, tmp_path):
    text = (box / "toy-b_SubHalo.csv").read_text().splitlines()
    start = next(k for k, line in enumerate(text) if line.startswith("GalaxyID"))
    lost = text[start + 1].split(",")[0]
    cut = tmp_path / "toy-b_SubHalo.csv"
    cut.write_text("\n".join([*text[: start + 1], *text[start + 2 :]]) + "\n")
    orphan = TracedEagle(traced.source, cut, traced.births)
    catalogue = orphan.catalogue(Selection(mstar_min=1e9))
    assert lost not in set(catalogue.ids)
    assert any(one.id == lost and "no tree" in one.reason for one in catalogue.skipped)
    (found,) = orphan.galaxies([lost])
    assert isinstance(found, Skip)
    assert "no tree" in found.reason


def test_without_births_nothing_is_said_about_stars(traced):
    plain = TracedEagle(traced.source, traced.export)
    (galaxy,) = plain.galaxies([str(plain.catalogue().ids[0])])
    assert galaxy.stars.ex_situ is None
    assert "f_ex" not in galaxy.truth


def test_births_are_checked(tmp_path):
    def write(**columns):
        path = tmp_path / "births.hdf5"
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[name] = values
        return path

    names = ("ParticleIDs", "SnapNumAtFormation", "GalaxyIDAtFormation")
    births = StarBirths.read(write(**dict(zip(names, ([5, 3, 9], [1, 2, 3], [7, -1, 8]), strict=True))))
    snapshot, host = births.of(np.array([3, 4, 9]))
    assert (snapshot.tolist(), host.tolist()) == ([2, -1, 3], [-1, -1, 8])
    with pytest.raises(FileFormatError, match="occurs twice"):
        StarBirths.read(write(**dict(zip(names, ([5, 5], [1, 2], [7, 8]), strict=True))))
    with pytest.raises(FileFormatError, match="different lengths"):
        StarBirths.read(write(**dict(zip(names, ([5, 6], [1], [7, 8]), strict=True))))
    with pytest.raises(FileFormatError, match="no dataset ParticleIDs"):
        StarBirths.read(write())
    empty = StarBirths.read(write(**{name: np.zeros(0, np.int64) for name in names}))
    assert empty.of(np.array([1]))[0].tolist() == [-1]


def test_births_of_another_run_are_refused_and_not_taken_for_accretion(traced, box, tmp_path):
    other = tmp_path / "births.hdf5"
    with h5py.File(box / "star_birth_028.hdf5") as known, h5py.File(other, "w") as file:
        for name, values in known.items():
            file[name] = values[()] + (10**9 if name == "ParticleIDs" else 0)
    wrong = TracedEagle(traced.source, traced.export, other)
    (found,) = wrong.galaxies([str(traced.catalogue().ids[0])])
    assert isinstance(found, Skip)
    assert "100 % of its stars" in found.reason


def test_identifiers_of_64_bits_are_told_apart_whatever_their_sign():
    births = StarBirths(np.array([2**53, 2**53 + 1], dtype=np.int64), np.array([1, 2]), np.array([7, 8]))
    assert births.of(np.array([2**53 + 1, 2**53 + 2], dtype=np.uint64))[0].tolist() == [2, -1]
