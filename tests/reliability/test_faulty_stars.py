"""R6 and R7 for star particles: faulty numbers, empty galaxies; read, skipped with a reason, or in doubt.

A map never holds what is no number where a star is, and a refined one never at all.
"""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galineage.errors import GalineageError
from galineage.galaxy import Catalogue, Skip
from galineage.sources.native import EagleSource, Selection, TngSource
from galineage.sources.native.eagle_tables import EagleExport
from galineage.stars import Galaxy, Stars
from galineage.store.consistency import doubts
from galineage.store.prepare import prepare
from galineage.store.settings import StoreConfig
from galineage.toy import write_eagle_box, write_tng_box
from galineage.views import Adaptive, MapConfig, make_maps, polyhedron, refine

EXAMPLES, SLOW_EXAMPLES = 40, 400
GALAXIES, STARS = 3, 40
SMALL = MapConfig(pixels=8)
NOT_NUMBERS = [np.nan, np.inf, -np.inf]
REFUSED, HARMLESS, LOST = "refused", "harmless", "lost"
FAULTS = {
    "tng": {
        "Coordinates": {REFUSED: [*NOT_NUMBERS, 1e30, -1e30, 4e5], HARMLESS: ["+box", "-box"]},
        "Velocities": {REFUSED: [*NOT_NUMBERS, 1e30, -3e4], HARMLESS: [0.0]},
        "Masses": {REFUSED: [*NOT_NUMBERS, -1e-5, 1e30], LOST: [0.0]},
        "GFM_StellarFormationTime": {REFUSED: [np.nan, np.inf, 7.5, 1.01], LOST: [-np.inf, -0.5, 0.0]},
        "GFM_Metallicity": {REFUSED: [*NOT_NUMBERS, -0.5, 1.5], HARMLESS: [0.0, -2e-30]},
        "Potential": {REFUSED: NOT_NUMBERS, HARMLESS: [0.0]},
        "ParticleIDs": {HARMLESS: [2**64 - 1, 0]},
    },
    "eagle": {
        "Coordinates": {REFUSED: [*NOT_NUMBERS, 1e30, 4e5], HARMLESS: ["+box", "-box"]},
        "Velocity": {REFUSED: [*NOT_NUMBERS, 1e30, -3e4], HARMLESS: [0.0]},
        "Mass": {REFUSED: [*NOT_NUMBERS, -1e-5, 1e30, 0.0]},
        "StellarFormationTime": {REFUSED: [*NOT_NUMBERS, -0.5, 7.5, 1.01]},
        "Metallicity": {REFUSED: [*NOT_NUMBERS, -0.5, 1.5], HARMLESS: [0.0]},
        "ParticleIDs": {HARMLESS: [2**63 - 1, 0]},
        "GroupNumber": {LOST: [-1, 2**30, 2**31 - 1]},
        "SubGroupNumber": {LOST: [-1, 2**30, 2**31 - 1]},
    },
}
"""By dataset: what a value in place of a star's own leads to. Places a box away are the same places."""
EVERY = {
    layout: [(name, kind, value) for name, kinds in columns.items() for kind in kinds for value in kinds[kind]]
    for layout, columns in FAULTS.items()
}


class Box:
    """A box of a few galaxies in one file, whose stars can be spoiled and mended again."""

    def __init__(self, layout, folder):
        self.layout = layout
        if layout == "tng":
            self.path = write_tng_box(folder, "toy-a", GALAXIES, 5, stars=STARS, chunks=1)
            self.file = self.path / "output" / "snapdir_099" / "snap_099.0.hdf5"
        else:
            self.path = write_eagle_box(folder, "toy-b", GALAXIES, 5, stars=STARS, chunks=1)
            (self.file,) = self.path.glob("snapshot_*/*.hdf5")
            (export,) = self.path.glob("*SubHalo.csv")
            self.table = EagleExport.read(export, "toy-b").galaxies(28, 1e8)
        with h5py.File(self.file) as file:
            self.whole = {name: values[()] for name, values in file["PartType4"].items()}
            self.side = float(file["Header"].attrs["BoxSize"])
        self.rows = [self._rows(one) for one in self.source().catalogue(Selection(mstar_min=1e8)).ids]

    def source(self):
        if self.layout == "tng":
            return TngSource(self.path, 99, "toy-a")
        return EagleSource(self.file.parent, "toy-b", self.table)

    def _rows(self, name):
        """Identifier of a galaxy, and the rows of its stars."""
        if self.layout == "tng":
            every = self.source().subhaloes
            first, count = (int(values[every.id == int(name)][0]) for values in (every.first_star, every.stars))
            rows = np.arange(first, first + count)
            return name, rows[self.whole["GFM_StellarFormationTime"][rows] > 0]
        (one,) = [one for one in self.table if one.id == name]
        mine = (self.whole["GroupNumber"] == one.group) & (self.whole["SubGroupNumber"] == one.subgroup)
        return name, np.flatnonzero(mine)

    def spoiled(self, faults):
        """Read the galaxies with faults (galaxy, star, dataset, value) in the file; by identifier."""
        columns = {name: self.whole[name].copy() for _, _, name, _ in faults}
        for galaxy, star, name, value in faults:
            row = self.rows[galaxy][1][star]
            if isinstance(value, str):
                columns[name][row] += {"+box": self.side, "-box": -self.side}[value]
            else:
                columns[name][row] = value
        self._write(columns)
        try:
            return {one.id: one for one in self.source().galaxies([name for name, _ in self.rows])}
        finally:
            self._write({name: self.whole[name] for name in columns})

    def _write(self, columns):
        with h5py.File(self.file, "r+") as file:
            for name, values in columns.items():
                file[f"PartType4/{name}"][...] = values


def check_maps(galaxy, config=SMALL):
    """No pixel with a star has what is no number, and no refined one at all."""
    maps = make_maps(galaxy, polyhedron(2), config)
    stars, mass = maps["count"] > 0, maps["mass"] > 1e-300
    for name in maps.channels:
        where = mass if name in ("metallicity", "age") or config.weighting == "mass" else stars
        assert np.isfinite(maps[name][where]).all(), name
    assert np.isfinite(refine(maps).values).all()
    return maps


@pytest.fixture
def examples(request):
    return SLOW_EXAMPLES if request.config.getoption("--slow") else EXAMPLES


@pytest.mark.parametrize("layout", FAULTS)
def test_faulty_stars_in_files_are_refused_or_in_doubt(tmp_path, layout, examples, tally):
    box = Box(layout, tmp_path / layout)
    clean = {name: check_maps(one).values for name, one in box.spoiled([]).items()}
    assert len(clean) == GALAXIES
    outcomes = []
    fault = st.tuples(st.integers(0, GALAXIES - 1), st.integers(0, STARS - 1), st.sampled_from(EVERY[layout]))

    @settings(deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(faults=st.lists(fault, min_size=1, max_size=4, unique_by=lambda one: one[:2]))
    def every(faults):
        found = box.spoiled([(galaxy, star, name, value) for galaxy, star, (name, _, value) in faults])
        for galaxy, (name, _) in enumerate(box.rows):
            kinds = {kind for at, _, (_, kind, _) in faults if at == galaxy}
            one = found[name]
            if REFUSED in kinds:
                assert isinstance(one, Skip), faults
                assert one.reason
                outcomes.append(REFUSED)
                continue
            assert isinstance(one, Galaxy), (faults, one)
            maps = check_maps(one)
            assert bool(doubts(one)) == (LOST in kinds), (faults, doubts(one))
            if not kinds:
                np.testing.assert_array_equal(maps.values, clean[name])
            else:
                outcomes.append("in doubt" if LOST in kinds else HARMLESS)

    every()
    tally(
        "R6",
        f"{layout}: {len(outcomes)} galaxies with faulty stars read",
        f"{outcomes.count(REFUSED)} skipped, {outcomes.count('in doubt')} in doubt, "
        f"{outcomes.count(HARMLESS)} with a value that is possible",
        "0 maps with what is no number",
    )


@pytest.mark.parametrize("layout", FAULTS)
def test_every_fault_by_itself(tmp_path, layout):
    """Not left to chance: each value in each dataset leads to what the table says."""
    box = Box(layout, tmp_path / layout)
    for name, kind, value in EVERY[layout]:
        (one, *others) = box.spoiled([(0, 7, name, value)]).values()
        if one.id != box.rows[0][0]:
            one = next(other for other in others if other.id == box.rows[0][0])
        found = REFUSED if isinstance(one, Skip) else LOST if doubts(one) else HARMLESS
        assert found == kind, (name, value, getattr(one, "reason", ""))


NUMBER = st.one_of(
    st.floats(),
    st.sampled_from([*NOT_NUMBERS, 0.0, -0.0, 5e-324, 1e-40, 1e12, -1.0, 2e4, 1e300, 3e38]),
    st.floats(-5, 5),
)


def column(count, width=None):
    one = st.lists(NUMBER, min_size=width, max_size=width) if width else NUMBER
    return st.lists(one, min_size=count, max_size=count)


POSSIBLE = {"mass": (0.0, 1e12), "metallicity": (0.0, 1.0), "age": (0.0, 14.5)}


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, weighting="mass", exact=True),
        replace(SMALL, smoothing=Adaptive(levels=2)),
        replace(SMALL, half_width=0.01),
    ],
    ids=["plain", "mass", "smooth", "small"],
)
def test_stars_of_any_numbers_are_refused_or_make_maps(config, examples, tally):
    """Past the readers: arrays may hold anything, also what is possible and absurd."""
    outcomes = []

    @settings(deadline=None, max_examples=3 * examples, suppress_health_check=list(HealthCheck))
    @given(data=st.data(), count=st.integers(0, 6), tame=st.booleans())
    def every(data, count, tame):
        columns = {name: np.array(data.draw(column(count))).reshape(count) for name in POSSIBLE}
        position, velocity = (np.array(data.draw(column(count, 3))).reshape(count, 3) for _ in range(2))
        if tame:  # possible, if absurd: what is in range goes through
            columns = {name: np.clip(np.nan_to_num(values), *POSSIBLE[name]) for name, values in columns.items()}
            position, velocity = (
                np.clip(np.nan_to_num(position), -1e6, 1e6),
                np.clip(np.nan_to_num(velocity), -2e4, 2e4),
            )
        r_half = data.draw(NUMBER) if not tame else 3.0
        try:
            galaxy = Galaxy("any", "test", Stars(position, velocity, **columns), r_half)
            check_maps(galaxy, config)
        except GalineageError:
            outcomes.append("refused")
        else:
            outcomes.append("mapped")
        assert outcomes[-1] == "mapped" or not tame or not count

    every()
    tally(
        "R6",
        f"{len(outcomes)} galaxies of any numbers",
        f"{outcomes.count('refused')} refused, {outcomes.count('mapped')} mapped",
        "0 maps with what is no number",
    )


@pytest.mark.parametrize("value", [-1, 2**63 - 1, 2**62])
@pytest.mark.parametrize("table", ["offsets", "GroupFirstSub", "SubhaloLenType", "SubLink"])
def test_the_index_that_means_none_leads_nowhere(tmp_path, table, value):
    """Row numbers of -1, or as large as -1 is without a sign, are no rows."""
    path = write_tng_box(tmp_path / "box", "toy-a", GALAXIES, 5, stars=STARS, chunks=1)
    groups = next(path.glob("output/groups_099/*.hdf5"))
    with h5py.File(groups if table.startswith(("Group", "Subhalo")) else
                   path / "postprocessing" / "offsets" / "offsets_099.hdf5", "r+") as file:  # fmt: skip
        if table == "offsets":
            column = file["Subhalo/SnapByType"][()].astype(np.uint64)
            column[0, 4] = np.array(value).astype(np.uint64)
            del file["Subhalo/SnapByType"]
            file["Subhalo/SnapByType"] = column
        elif table == "SubLink":
            rows = file["Subhalo/SubLink/RowNum"][()].astype(np.int64)
            rows[0] = value
            del file["Subhalo/SubLink/RowNum"]
            file["Subhalo/SubLink/RowNum"] = rows
        elif table == "GroupFirstSub":
            file["Group/GroupFirstSub"][0] = np.array(value).astype(np.int32)
        else:
            lengths = file["Subhalo/SubhaloLenType"][()]
            lengths[0, 4] = np.array(value).astype(np.int32)
            file["Subhalo/SubhaloLenType"][...] = lengths
    source = TngSource(path, 99, "toy-a")
    try:
        catalogue = source.catalogue(Selection(mstar_min=1e8))
        found = {one.id: one for one in source.galaxies(catalogue.ids)}
    except GalineageError:
        return
    if table == "SubLink":
        assert catalogue.root is None, "a galaxy in no tree has no root that is known"
    else:
        assert table == "GroupFirstSub"
        assert np.array(value).astype(np.int32) == 0, "the number that it had"
    assert all(isinstance(one, Galaxy) for one in found.values())


CASES = {
    "no stars": "without stars",
    "one star": "maps",
    "only wind": "only wind",
    "no smoothing length": "maps",
    "all at one place": "maps",
    "all at one place, with no mass": "no half-mass radius",
}


def one_case(case, seed=0):
    """A galaxy of the table, or the reason why there is none, as a reader gives it."""
    rng = np.random.default_rng(seed)
    count = {"no stars": 0, "one star": 1}.get(case, 50)
    stars = Stars(
        position=np.zeros((count, 3)) if "one place" in case else rng.normal(0, 3, (count, 3)),
        velocity=rng.normal(0, 80, (count, 3)),
        mass=np.zeros(count) if "no mass" in case else rng.uniform(1e6, 2e6, count),
        age=rng.uniform(1, 12, count),
        metallicity=rng.uniform(0.001, 0.03, count),
    )
    return Galaxy(case, "cases", stars, r_half=3.0)


class Cases:
    """A source with one galaxy of each case, and a good one at either end."""

    name = domain = "cases"

    def catalogue(self):
        return Catalogue({}, np.array(["first", *CASES, "last"]), np.full(len(CASES) + 2, "cases"))

    def galaxies(self, ids):
        for one in ids:
            yield Skip(0, one, "stars", "0", "it has no stars, only wind") if one == "only wind" else one_case(one)


@pytest.mark.parametrize("smoothing", [None, Adaptive(levels=2)], ids=["plain", "smooth"])
def test_every_odd_galaxy_has_a_defined_outcome(tmp_path, smoothing, tally):
    source = Cases()
    config = StoreConfig(maps=replace(SMALL, smoothing=smoothing), views=2, galaxies_per_shard=3)
    store = prepare(source, source.catalogue(), tmp_path, config, progress=False)
    skipped = {one["id"]: one["reason"] for one in store.skipped}
    mapped = {row["id"] for row in store.rows}
    assert {"first", "last"} <= mapped, "the others go on"
    for case, outcome in CASES.items():
        if outcome == "maps":
            assert case in mapped, skipped.get(case)
        else:
            assert outcome in skipped[case]
    assert np.isfinite(store.read(range(len(store)))).all()
    place = next(k for k, row in enumerate(store.rows) if row["id"] == "all at one place")
    raw = store.read([place], "raw")[0]
    assert (raw[0] > 0).sum() == 1 or smoothing is not None
    assert raw[0].sum() == pytest.approx(50)
    tally("R7", f"{len(CASES)} odd galaxies in a store", f"{len(skipped)} skipped with the reason, the others mapped")


@pytest.mark.parametrize("case", ["no stars", "one star", "only wind", "no smoothing length", "all at one place"])
@pytest.mark.parametrize("layout", FAULTS)
def test_odd_galaxies_in_files_have_the_same_outcomes(tmp_path, layout, case, tally):
    """The first galaxy of a box is made odd; the others go on."""
    box = Box(layout, tmp_path / layout)
    name, rows = box.rows[0]
    columns, gone = {}, rows[1:] if case == "one star" else rows
    if case in ("no stars", "one star", "only wind"):
        key, value = ("GFM_StellarFormationTime", -1.0) if layout == "tng" else ("GroupNumber", 2**30)
        columns[key] = box.whole[key].copy()
        columns[key][gone] = value
    elif case == "all at one place":
        columns["Coordinates"] = box.whole["Coordinates"].copy()
        columns["Coordinates"][rows] = columns["Coordinates"][rows[0]]
    box._write(columns)
    found = {one.id: one for one in box.source().galaxies([one for one, _ in box.rows])}
    assert all(isinstance(found[other], Galaxy) for other, _ in box.rows[1:])
    if case in ("no stars", "only wind"):
        assert isinstance(found[name], Skip)
        assert "no stars" in found[name].reason
    else:
        assert found[name].stars.smoothing is None, "a toy box has none"
        check_maps(found[name])
        check_maps(found[name], replace(SMALL, smoothing=Adaptive(levels=2)))
        assert bool(doubts(found[name])) == (case != "no smoothing length")
    tally("R7", f"{layout} files: {case}", "defined outcome, the other galaxies go on")
