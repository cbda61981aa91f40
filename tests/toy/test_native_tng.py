"""A toy box in TNG's files: illustris_python reads the generator's numbers, and walking the tree finds its truth."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.cosmology import TNG as COSMOLOGY
from galineage.errors import ConfigError
from galineage.stars import half_mass_radius, specific_spin
from galineage.toy import SUITES, write_tng_box
from galineage.toy.assembly import draw_assemblies
from galineage.toy.box import plan_box
from galineage.toy.hdf5_tables import cuts
from galineage.toy.particles import draw_galaxies
from galineage.toy.snapshots import EAGLE, TNG
from galineage.toy.tng_files import BOX_SIDE
from galineage.toy.trees import grow_tree

COUNT, SEED, STARS = 24, 5, 300
H = 0.6774


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    return write_tng_box(tmp_path_factory.mktemp("tng"), "toy-a", COUNT, SEED, stars=STARS, chunks=5)


@pytest.fixture(scope="module")
def toys():
    return {toy.assembly.number: toy for toy in draw_galaxies("toy-a", COUNT, SEED, STARS)}


@pytest.fixture(scope="module")
def truth(box):
    return _flat(box / "postprocessing" / "Toy" / "galaxies_099.hdf5")


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip("illustris_python")


def _flat(path):
    with h5py.File(path) as file:
        return {name: values[()] for name, values in file.items()}


def _checksums(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_galaxy_is_in_the_box_once(truth):
    assert sorted(truth["galaxy"][truth["galaxy"] >= 0]) == list(range(COUNT))


def test_peer_reads_the_stars_of_the_generator(peer, box, toys, truth):
    base = str(box / "output")
    subhalos = peer.groupcat.loadSubhalos(base, 99)
    side = BOX_SIDE / H
    for number in np.flatnonzero(truth["galaxy"] >= 0):
        stars = toys[truth["galaxy"][number]].galaxy.stars
        read = peer.snapshot.loadSubhalo(base, 99, number, "stars")
        real = read["GFM_StellarFormationTime"] > 0
        assert (~real).sum() == STARS // 50
        assert read["count"] == subhalos["SubhaloLenType"][number, 4]
        np.testing.assert_array_equal(read["ParticleIDs"][real], stars.ids)
        offset = (read["Coordinates"][real] - subhalos["SubhaloPos"][number]) / H
        offset -= side * np.round(offset / side)
        np.testing.assert_allclose(offset, stars.position, atol=0.02)  # the catalogue is in 32 bits
        velocity = read["Velocities"][real] - subhalos["SubhaloVel"][number]
        np.testing.assert_allclose(velocity, stars.velocity, atol=1e-3)
        np.testing.assert_allclose(read["Masses"][real] * 1e10 / H, stars.mass, rtol=1e-6)
        np.testing.assert_allclose(read["GFM_InitialMass"][real] * 1e10 / H, stars.initial_mass, rtol=1e-6)
        np.testing.assert_allclose(read["GFM_Metallicity"][real], stars.metallicity, rtol=1e-6)
        age = COSMOLOGY.age(1.0) - COSMOLOGY.age(read["GFM_StellarFormationTime"][real].astype(float))
        np.testing.assert_allclose(age, stars.age, atol=1e-5)


def test_catalogue_is_measured_on_the_stars(peer, box, toys, truth):
    subhalos = peer.groupcat.loadSubhalos(str(box / "output"), 99)
    for number in np.flatnonzero(truth["galaxy"] >= 0):
        stars = toys[truth["galaxy"][number]].galaxy.stars
        radius = np.linalg.norm(stars.position, axis=1)
        r_half = half_mass_radius(stars)
        assert subhalos["SubhaloMassType"][number, 4] * 1e10 / H == pytest.approx(stars.mass.sum(), rel=1e-6)
        assert subhalos["SubhaloHalfmassRadType"][number, 4] / H == pytest.approx(r_half, rel=1e-6)
        inside = stars.mass[radius <= 2 * r_half].sum()
        assert subhalos["SubhaloMassInRadType"][number, 4] * 1e10 / H == pytest.approx(inside, rel=1e-6)
        np.testing.assert_allclose(subhalos["SubhaloSpin"][number] / H, specific_spin(stars), rtol=1e-4, atol=1e-3)
        assert subhalos["SubhaloFlag"][number]


def test_groups_hold_their_subhalos_and_fuzz(peer, box, truth):
    base = str(box / "output")
    groups, subhalos = peer.groupcat.loadHalos(base, 99), peer.groupcat.loadSubhalos(base, 99)
    assert groups["GroupNsubs"].sum() == subhalos["count"]
    assert groups["GroupFirstSub"][-1] == -1
    more = 0
    for number in range(groups["count"]):
        mine = np.flatnonzero(subhalos["SubhaloGrNr"] == number)
        assert groups["GroupNsubs"][number] == len(mine)
        if len(mine):
            assert groups["GroupFirstSub"][number] == mine[0]
        fuzz = groups["GroupLenType"][number, 4] - subhalos["SubhaloLenType"][mine, 4].sum()
        more += fuzz > 0
        read = peer.snapshot.loadHalo(base, 99, number, "stars", fields=["ParticleIDs"])
        assert (len(read) if isinstance(read, np.ndarray) else 0) == groups["GroupLenType"][number, 4]
    assert more > 2
    central = np.zeros(subhalos["count"], dtype=bool)
    central[groups["GroupFirstSub"][groups["GroupFirstSub"] >= 0]] = True
    real = truth["galaxy"] >= 0
    np.testing.assert_array_equal(central[real], truth["central"][real] == 1)
    assert (~subhalos["SubhaloFlag"]).any()
    assert (subhalos["SubhaloLenType"][:, 4] == 0).any()


def test_chunks_are_as_in_real_files(box):
    counts, total = [], None
    for chunk in range(5):
        with h5py.File(box / "output" / "snapdir_099" / f"snap_099.{chunk}.hdf5") as file:
            header = dict(file["Header"].attrs)
            counts.append(header["NumPart_ThisFile"][4])
            total = header["NumPart_Total"][4]
            assert ("PartType4" in file) == (counts[-1] > 0)
            assert header["NumFilesPerSnapshot"] == 5
            if counts[-1]:
                assert file["PartType4/Coordinates"].shape == (counts[-1], 3)
                assert file["PartType4/Coordinates"][()].min() >= 0
                assert file["PartType4/Coordinates"][()].max() <= BOX_SIDE
    assert 0 in counts
    assert sum(counts) == total
    with h5py.File(box / "postprocessing" / "offsets" / "offsets_099.hdf5") as file:
        first = file["Subhalo/SnapByType"][:, 4]
        np.testing.assert_array_equal(file["FileOffsets/SnapByType"][:, 4], np.cumsum([0, *counts[:-1]]))
    # at least one galaxy lies in two files
    inner = np.cumsum(counts)[:-1]
    assert any((first < edge).any() and edge not in first for edge in inner)


def test_one_galaxy_reaches_across_the_border_of_the_box(peer, box):
    position = peer.snapshot.loadSubhalo(str(box / "output"), 99, 0, "stars", fields=["Coordinates"])
    assert np.ptp(position, axis=0).max() > BOX_SIDE / 2


def test_walking_the_tree_tells_for_every_star_whether_it_was_accreted(peer, box, toys, truth):
    base = str(box / "output")
    origins = _flat(box / "postprocessing" / "StellarAssembly" / "stars_099.hdf5")
    subhalos = peer.groupcat.loadSubhalos(base, 99, fields=["SubhaloLenType"])
    with h5py.File(box / "postprocessing" / "offsets" / "offsets_099.hdf5") as file:
        first = file["Subhalo/SnapByType"][:, 4]
    born = list(zip(origins["SnapNumAtFormation"].tolist(), origins["SubfindIDAtFormation"].tolist(), strict=True))
    for number in np.flatnonzero(truth["galaxy"] >= 0):
        stars = toys[truth["galaxy"][number]].galaxy.stars
        mine = slice(first[number], first[number] + subhalos[number, 4])
        real = origins["InSitu"][mine] >= 0
        np.testing.assert_array_equal(origins["ParticleID"][mine][real], stars.ids)
        np.testing.assert_array_equal(origins["InSitu"][mine][real] == 0, stars.ex_situ)
        branch = peer.sublink.loadTree(base, 99, number, fields=["SnapNum", "SubfindID"], onlyMPB=True)
        main = set(zip(branch["SnapNum"].tolist(), branch["SubfindID"].tolist(), strict=True))
        walked = np.array([place not in main for place in born[mine]])[real]
        np.testing.assert_array_equal(walked, stars.ex_situ)
        whole = peer.sublink.loadTree(base, 99, number, fields=["SnapNum", "SubfindID"])
        everywhere = set(zip(whole["SnapNum"].tolist(), whole["SubfindID"].tolist(), strict=True))
        assert everywhere.issuperset(place for place, star in zip(born[mine], real, strict=True) if star)
        mass = stars.mass
        assert float(mass[walked].sum() / mass.sum()) == pytest.approx(truth["f_ex"][number], abs=1e-12)


def test_assembly_catalogue_adds_up(box, truth):
    found = _flat(box / "postprocessing" / "StellarAssembly" / "galaxies_099.hdf5")
    real = truth["galaxy"] >= 0
    inside, outside, total = (found[f"StellarMass{name}"][real] for name in ("InSitu", "ExSitu", "Total"))
    np.testing.assert_allclose(inside + outside, total, rtol=1e-6)
    np.testing.assert_allclose(outside / total, truth["f_ex"][real], atol=1e-6)
    before = found["StellarMassBeforeInfall"] + found["StellarMassAfterInfall"]
    np.testing.assert_allclose(before[real], outside, rtol=1e-5, atol=1e-9)
    assert (found["StellarMassFromCompletedMergersMajor"] <= found["StellarMassExSitu"] * (1 + 1e-6)).all()
    assert (found["StellarMassTotal"][~real] == 0).all()


def test_walking_the_tree_finds_the_last_major_merger(peer, box, toys, truth):
    history = _flat(box / "postprocessing" / "MergerHistory" / "merger_history_099.hdf5")
    for number in np.flatnonzero(truth["galaxy"] >= 0):
        tree = peer.sublink.loadTree(str(box / "output"), 99, number)
        assert peer.sublink.numMergers(tree, minMassRatio=0.25) == history["NumMajorMergersTotal"][number]
        last = history["SnapNumLastMajorMerger"][number]
        if np.isnan(truth["t_last_major"][number]):
            assert last == -1
            assert history["MassLastMajorMerger"][number] == -1
        else:
            # the first snapshot after it
            assert last == TNG.formed(truth["t_last_major"][number])
            mass = history["MassLastMajorMerger"][number] * 1e10 / H
            assembly = toys[truth["galaxy"][number]].assembly
            together = assembly.merged[(assembly.mu >= 0.25) & (TNG.formed(assembly.lookback) == last)]
            assert mass == pytest.approx(together.max(), rel=1e-5)
            if len(together) == 1:
                assert mass == pytest.approx(truth["mstar_last_major"][number], rel=1e-5)
        assert history["MeanLookbackTime"][number] == pytest.approx(
            truth["t_mean_merger"][number], abs=0.25, nan_ok=True
        )


@pytest.mark.parametrize("timeline", [TNG, EAGLE])
def test_trees_are_depth_first_and_keep_the_history(timeline):
    """Every row is someone's progenitor once, a subtree is a run of rows, the last major merger is the drawn one."""
    flipped = drawn = 0
    for toy in draw_galaxies("toy-b", 60, 8, 200):
        assembly = toy.assembly
        tree = grow_tree(assembly, timeline, toy.merger, toy.galaxy.stars.age)
        rows = np.arange(len(tree.snapshot))
        members = np.ones(len(rows), dtype=int)
        for row in np.argsort(tree.snapshot, kind="stable"):
            if tree.descendant[row] >= 0:
                members[tree.descendant[row]] += members[row]
        np.testing.assert_array_equal(tree.last_progenitor - rows + 1, members)
        assert (tree.snapshot[tree.descendant[1:]] == tree.snapshot[1:] + 1).all()
        assert tree.descendant[0] == -1
        known = np.zeros(len(rows), dtype=int)
        np.add.at(known, tree.first_progenitor[tree.first_progenitor >= 0], 1)
        np.add.at(known, tree.next_progenitor[tree.next_progenitor >= 0], 1)
        np.testing.assert_array_equal(known, np.append(0, np.ones(len(rows) - 1, dtype=int)))
        formed = timeline.formed(toy.galaxy.stars.age)
        home = tree.row_at(toy.merger, formed)
        np.testing.assert_array_equal(tree.snapshot[home], formed)
        np.testing.assert_array_equal(tree.merger[home], toy.merger)
        real, seen = assembly.mu >= 0.25, tree.mergers.ratio.astype(np.float32) >= 0.25
        assert real.any() == seen.any()
        if real.any():
            assert tree.mergers.snapshot[real].max() == tree.mergers.snapshot[seen].max()
        flipped += (real != seen).sum()
        drawn += real.sum()
        assert tree.mstar[0] == pytest.approx(assembly.mstar)
    # of mergers between the same two snapshots some end up on the other side of 1/4
    assert flipped < (0.05 if timeline is TNG else 0.15) * drawn


def test_our_own_readers_read_it(box, toys, truth):
    from galineage.history.mergers import find_mergers, statistics
    from galineage.sources.native.tng import TngSource

    source = TngSource(box / "output", 99, "toy-a", times=TNG.scale)
    catalogue = source.catalogue()
    found = list(source.galaxies(catalogue.ids))
    assert len(found) == COUNT
    for row, galaxy in enumerate(found):
        real = toys[truth["galaxy"][int(galaxy.id)]].galaxy
        np.testing.assert_array_equal(galaxy.stars.ids, real.stars.ids)
        np.testing.assert_allclose(galaxy.stars.position, real.stars.position, atol=0.02)
        assert galaxy.r_half == pytest.approx(real.r_half, rel=1e-6)
        assert catalogue["f_ex"][row] == pytest.approx(real.truth["f_ex"], abs=1e-6)
        assert catalogue["central"][row] == real.truth["central"]
        walked = statistics(find_mergers(source.trees.tree(int(galaxy.id)), 0, COSMOLOGY.age(TNG.scale)))
        for name in ("n_major", "t_last_major", "mstar_last_major", "t_mean_merger", "mu_mean_merger"):
            assert walked[name] == pytest.approx(catalogue[name][row], rel=1e-4, nan_ok=True), name


@given(
    suite=st.sampled_from(sorted(SUITES)),
    count=st.integers(1, 6),
    seed=st.integers(0, 2**40),
    stars=st.integers(10, 40),
    chunks=st.integers(1, 6),
)
@settings(max_examples=6, deadline=None)
def test_any_box_can_be_read(suite, count, seed, stars, chunks):
    peer = pytest.importorskip("illustris_python")
    with TemporaryDirectory() as folder:
        base = str(write_tng_box(folder, suite, count, seed, stars=stars, chunks=chunks) / "output")
        lengths = peer.groupcat.loadSubhalos(base, 99, fields=["SubhaloLenType"])[:, 4]
        truth = _flat(Path(folder) / "postprocessing" / "Toy" / "galaxies_099.hdf5")
        for number, galaxy in enumerate(truth["galaxy"]):
            if galaxy >= 0:
                read = peer.snapshot.loadSubhalo(base, 99, number, "stars", fields=["GFM_StellarFormationTime"])
                assert len(read) == lengths[number]
                assert (read > 0).sum() == stars
                assert peer.sublink.loadTree(base, 99, number, fields=["SnapNum"], cache=False)[0] == 99


def test_same_arguments_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_tng_box(tmp_path / name, "toy-b", 4, 2, stars=60, chunks=3)
    assert _checksums(tmp_path / "one") == _checksums(tmp_path / "two")
    write_tng_box(tmp_path / "three", "toy-b", 4, 3, stars=60, chunks=3)
    assert _checksums(tmp_path / "one") != _checksums(tmp_path / "three")


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("chunks", [1, 2, 7])
def test_any_number_of_chunks_holds_the_same_stars(tmp_path, peer, chunks, compression):
    box = write_tng_box(tmp_path, "toy-a", 3, 1, stars=40, chunks=chunks, compression=compression)
    read = peer.snapshot.loadSubset(str(box / "output"), 99, "stars", fields=["ParticleIDs"])
    plan = plan_box("toy-a", 3, 1, 40, BOX_SIDE / H, wind=True)
    assert len(read) == plan.particles
    assert len(np.unique(read)) == len(read)
    assert peer.groupcat.loadSubhalos(str(box / "output"), 99, fields=["SubhaloFlag"]).shape == (plan.subhalos,)


def test_a_satellite_alone_has_an_empty_halo_as_its_central():
    seed = next(seed for seed in range(40) if not next(draw_assemblies("toy-a", 1, seed)).central)
    plan = plan_box("toy-a", 1, seed, 10, BOX_SIDE, wind=True)
    assert [item.kind for item in plan.items][:2] == ["dark", "galaxy"]
    assert plan.firsts[0] == 0


def test_cuts_leave_an_empty_file_and_lose_nothing():
    for total in (0, 1, 10, 12_345):
        for files in (1, 2, 3, 8):
            edges = cuts(total, files)
            assert edges[0] == 0
            assert edges[-1] == total
            assert (np.diff(edges) >= 0).all()
            assert files < 3 or edges[1] == edges[2]


@pytest.mark.parametrize(("change", "message"), [({"chunks": 0}, "1 to 1000"), ({"count": 0}, "count >= 1")])
def test_bad_requests_write_nothing(tmp_path, change, message):
    arguments = {"suite": "toy-a", "count": 2, "seed": 0, **change}
    with pytest.raises(ConfigError, match=message):
        write_tng_box(tmp_path / "box", **arguments)
    assert not (tmp_path / "box").exists()


def test_a_failing_write_leaves_no_half_file(tmp_path, monkeypatch):
    from galineage.toy import tng_files

    calls = []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    original = tng_files.star_columns
    monkeypatch.setattr(tng_files, "star_columns", failing)
    with pytest.raises(OSError, match="No space left"):
        write_tng_box(tmp_path / "box", "toy-a", 3, 0, stars=50, chunks=1)
    assert not [path for path in (tmp_path / "box").rglob("*") if path.is_file()]


def test_memory_does_not_grow_with_the_stars_written(tmp_path):
    import tracemalloc

    peaks = []
    for count in (4, 24):
        tracemalloc.start()
        write_tng_box(tmp_path / str(count), "toy-a", count, 0, stars=4000, chunks=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # twenty more galaxies hold 10 MB of stars
    assert peaks[1] < peaks[0] + 2e6
