"""R8: a galaxy given in wrong units is refused by what is possible for a star, or in doubt before its catalogue.

The catalogue is right in each case but those of its own, the stars are not. What neither a range nor the catalogue can
notice is counted, and stands on the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pytest

from galineage.cosmology import TNG
from galineage.errors import GalineageError
from galineage.galaxy import Skip
from galineage.sources.native import EagleSource, Selection, TngSource, from_box
from galineage.sources.native.eagle_tables import EagleExport
from galineage.stars import Galaxy, Stars, measure
from galineage.store.consistency import doubts
from galineage.toy import make_galaxies, write_eagle_box, write_tng_box

H, A = TNG.h, 0.5
SOLAR = 0.0127
RANGE, CATALOGUE, NOTHING = "refused by a range", "in doubt before the catalogue", "not noticed"


@dataclass(frozen=True)
class Wrong:
    """A quantity in a wrong unit: what becomes of its numbers, and whether that is noticed."""

    what: str
    quantity: str
    change: Any
    noticed: bool


def gyr(a):
    """Age, Gyr, of a star that formed at a scale factor and is seen today."""
    return TNG.age(1.0) - TNG.age(a)


FILES = [
    Wrong("kpc for ckpc/h", "position", lambda v: v / H, True),
    Wrong("Mpc/h for kpc/h", "position", lambda v: v / 1e3, True),
    Wrong("pc/h for kpc/h", "position", lambda v: v * 1e3, True),
    Wrong("Msun for 1e10 Msun/h", "mass", lambda v: v * 1e10 / H, True),
    Wrong("1e10 Msun for 1e10 Msun/h", "mass", lambda v: v / H, True),
    Wrong("log10 of Msun", "mass", lambda v: np.log10(v * 1e10 / H), True),
    Wrong("m/s for km/s", "velocity", lambda v: v * 1e3, True),
    Wrong("cm/s for km/s", "velocity", lambda v: v * 1e5, True),
    Wrong("log10 of Z", "metallicity", np.log10, True),
    Wrong("log10 of Z/Zsun", "metallicity", lambda v: np.log10(v / SOLAR), True),
    Wrong("Z/Zsun for Z", "metallicity", lambda v: v / SOLAR, True),
    Wrong("per cent for Z", "metallicity", lambda v: v * 100, True),
    Wrong("ages in Gyr for scale factors", "formed", gyr, True),
    Wrong("ages in Myr for scale factors", "formed", lambda a: 1e3 * gyr(a), True),
    Wrong("redshifts for scale factors", "formed", lambda a: 1 / a - 1, True),
    Wrong("times since the beginning in units of today's", "formed", lambda a: TNG.age(a) / TNG.age(1.0), False),
    Wrong("cosmic times in Gyr for scale factors", "formed", TNG.age, True),
]
"""Stars of a file at z = 0; the box and the catalogue of it are right."""

EARLIER = [
    Wrong("kpc/h for ckpc/h", "position", lambda v: v * A, True),
    Wrong("kpc for ckpc/h", "position", lambda v: v * A / H, True),
    Wrong("km/s for km/s sqrt(a)", "velocity", lambda v: v * np.sqrt(A), False),
    Wrong("km/s / sqrt(a) for km/s sqrt(a)", "velocity", lambda v: v * A, False),
]
"""Arrays of a galaxy at a scale factor of 0.5."""

PHYSICAL = [
    Wrong("Mpc for kpc", "position", lambda v: v / 1e3, True),
    Wrong("kpc/h for kpc", "position", lambda v: v * H, True),
    Wrong("m/s for km/s", "velocity", lambda v: v * 1e3, True),
    Wrong("1e10 Msun for Msun", "mass", lambda v: v / 1e10, True),
    Wrong("Msun/h for Msun", "mass", lambda v: v * H, True),
    Wrong("log10 of Msun", "mass", np.log10, True),
    Wrong("log10 of Z/Zsun", "metallicity", lambda v: np.log10(v / SOLAR), True),
    Wrong("Z/Zsun for Z", "metallicity", lambda v: v / SOLAR, True),
    Wrong("Myr for Gyr", "age", lambda v: v * 1e3, True),
    Wrong("years for Gyr", "age", lambda v: v * 1e9, True),
    Wrong("log10 of years", "age", lambda v: np.log10(v * 1e9), False),
    Wrong("lookback times for ages at z = 1", "age", lambda v: v + TNG.age(1.0) - TNG.age(A), True),
]
"""Arrays that are given to `galineage.stars.Stars`."""

CATALOGUES = [
    Wrong("SubhaloHalfmassRadType in kpc", "SubhaloHalfmassRadType", lambda v: v / H, True),
    Wrong("SubhaloMassType in Msun", "SubhaloMassType", lambda v: v * 1e10 / H, True),
    Wrong("SubhaloMassType in 1e10 Msun", "SubhaloMassType", lambda v: v / H, True),
    Wrong("SubhaloPos in kpc", "SubhaloPos", lambda v: v / H, True),
    Wrong("SubhaloPos in Mpc", "SubhaloPos", lambda v: v / H / 1e3, True),
    Wrong("SubhaloVel in m/s", "SubhaloVel", lambda v: v * 1e3, True),
]
"""The group catalogue of a TNG run is wrong, its stars are right."""

EXPORTS = [
    Wrong("centres in kpc for Mpc", "CentreOfPotential_x", lambda v: v * 1e3, True),
    Wrong("centres in Mpc/h for Mpc", "CentreOfPotential_x", lambda v: v * 0.6777, True),
    Wrong("radii in Mpc for kpc", "HalfMassRad_Star", lambda v: v / 1e3, True),
    Wrong("masses in Msun/h", "MassType_Star", lambda v: v * 0.6777, True),
    Wrong("velocities in m/s", "Velocity_x", lambda v: v * 1e3, True),
]
"""The export of the EAGLE database is wrong, the stars are right."""

STORED = {
    "tng": {"position": "Coordinates", "mass": "Masses", "velocity": "Velocities", "metallicity": "GFM_Metallicity",
            "formed": "GFM_StellarFormationTime"},
    "eagle": {"position": "Coordinates", "mass": "Mass", "velocity": "Velocity", "metallicity": "Metallicity",
              "formed": "StellarFormationTime"},
}  # fmt: skip


def outcome(found):
    """What noticed a wrong unit."""
    if isinstance(found, (Skip, GalineageError)):
        return RANGE
    return CATALOGUE if doubts(found) else NOTHING


def told(found):
    """The galaxy, or the error in place of it."""
    try:
        return found()
    except GalineageError as error:
        return error


def check(cases, tally, name):
    """Compare whether each case was noticed with whether it should be; count."""
    wrong = {case.what: outcome(found) for case, found in cases if (outcome(found) != NOTHING) != case.noticed}
    assert wrong == {}
    counts = [outcome(found) for _, found in cases]
    listed = ", ".join(f"{counts.count(one)} {one}" for one in (RANGE, CATALOGUE, NOTHING))
    tally("R8", f"{name}: {len(cases)} wrong units", listed)


@pytest.fixture(scope="module")
def toy():
    """A toy galaxy in physical units, with what its catalogue says."""
    galaxy = next(iter(make_galaxies("toy-a", 1, 3, stars=2000)))
    known = measure(galaxy, aperture=None)
    return Galaxy(galaxy.id, "toy-a", galaxy.stars, known["r_half"], truth={"mstar": known["mstar"]})


def arrays(galaxy, a):
    """The stars in the units of TNG's files at a scale factor."""
    stars = galaxy.stars
    return {
        "Coordinates": (stars.position + 5e4) * H / a,
        "Velocities": stars.velocity / np.sqrt(a),
        "Masses": stars.mass * H / 1e10,
        "GFM_StellarFormationTime": np.interp(
            TNG.age(a) - stars.age * TNG.age(a) / 14, TNG.age(np.linspace(1e-3, a, 4000)), np.linspace(1e-3, a, 4000)
        ),
        "GFM_Metallicity": stars.metallicity,
    }


def boxed(galaxy, rows, a):
    """What `from_box` makes of arrays, with what the catalogue knows."""
    centre = np.full(3, 5e4 * H / a)
    return from_box(
        rows, TNG, id="0", domain="toy-a", scale_factor=a, box=4e5, centre=centre, velocity=np.zeros(3),
        r_half=galaxy.r_half, truth=dict(galaxy.truth),
    )  # fmt: skip


@pytest.mark.parametrize(("a", "cases"), [(1.0, FILES), (A, EARLIER)], ids=["today", "earlier"])
def test_arrays_in_the_units_of_files(toy, a, cases, tally):
    right = boxed(toy, arrays(toy, a), a)
    assert outcome(right) == NOTHING
    found = measure(right, aperture=None)
    for name, value in measure(toy, aperture=None).items():
        if name in ("mstar", "r_half", "spin", "metallicity"):
            assert found[name] == pytest.approx(value, rel=1e-5), name
    results = []
    for case in cases:
        rows = arrays(toy, a)
        name = STORED["tng"][case.quantity]
        # positions are in the wrong unit around the right centre, as after a conversion of cut-outs
        middle = 5e4 * H / a if case.quantity == "position" else 0.0
        rows[name] = middle + case.change(rows[name] - middle)
        results.append((case, told(lambda rows=rows: boxed(toy, rows, a))))
    check(results, tally, f"from_box at a = {a:g}")


def test_arrays_in_physical_units(toy, tally):
    results = []
    for case in PHYSICAL:
        names = ("position", "velocity", "mass", "metallicity", "age")
        columns = {name: getattr(toy.stars, name) for name in names}
        columns[case.quantity] = case.change(columns[case.quantity])
        galaxy = told(lambda columns=columns: Galaxy("0", "toy-a", Stars(**columns), toy.r_half, truth=dict(toy.truth)))
        results.append((case, galaxy))
    check(results, tally, "Stars")


@pytest.fixture
def boxes(tmp_path):
    return {
        "tng": write_tng_box(tmp_path / "tng", "toy-a", 2, 5, stars=300, chunks=1),
        "eagle": write_eagle_box(tmp_path / "eagle", "toy-b", 2, 5, stars=300, chunks=1),
    }


def opened(layout, box, export=None):
    if layout == "tng":
        return TngSource(box, 99, "toy-a")
    (file,) = box.glob("snapshot_*")
    (table,) = box.glob("*SubHalo.csv")
    return EagleSource(file, "toy-b", EagleExport.read(export or table, "toy-b").galaxies(28, 1e8))


def first(source, name=None):
    """The first galaxy of a source, or the error in its place; and its identifier."""
    name = name or source.catalogue(Selection(mstar_min=1e8)).ids[0]
    return told(lambda: next(iter(source.galaxies([name])))), name


@pytest.mark.parametrize("layout", STORED)
def test_stars_in_files(boxes, layout, tally):
    box = boxes[layout]
    right, name = first(opened(layout, box))
    assert outcome(right) == NOTHING
    found = measure(right)
    assert found["mstar"] == pytest.approx(right.truth["mstar"], rel=1e-5)
    # TNG's centres are in single precision: 10 pc in a box of 100 Mpc
    assert found["r_half"] == pytest.approx(right.r_half, abs=1e-2)
    (path,) = box.glob("snapshot_*/*.hdf5" if layout == "eagle" else "output/snapdir_099/*.hdf5")
    results = []
    for case in FILES:
        dataset = f"PartType4/{STORED[layout][case.quantity]}"
        with h5py.File(path, "r+") as file:
            whole = file[dataset][()]
            with np.errstate(all="ignore"):  # of wind, which stays wind
                made = case.change(whole)
            file[dataset][...] = np.where(whole > 0, made, whole) if case.quantity == "formed" else made
        results.append((case, first(opened(layout, box), name)[0]))
        with h5py.File(path, "r+") as file:
            file[dataset][...] = whole
    check(results, tally, f"{layout} files")


def test_group_catalogues(boxes, tally):
    (path,) = boxes["tng"].glob("output/groups_099/*.hdf5")
    _, name = first(opened("tng", boxes["tng"]))
    results = []
    for case in CATALOGUES:
        with h5py.File(path, "r+") as file:
            whole = file[f"Subhalo/{case.quantity}"][()]
            file[f"Subhalo/{case.quantity}"][...] = case.change(whole)
        results.append((case, first(opened("tng", boxes["tng"]), name)[0]))
        with h5py.File(path, "r+") as file:
            file[f"Subhalo/{case.quantity}"][...] = whole
    check(results, tally, "group catalogue of tng files")


def test_exports(boxes, tmp_path, tally):
    import pandas as pd

    (path,) = boxes["eagle"].glob("*SubHalo.csv")
    table = pd.read_csv(path, comment="#")
    _, name = first(opened("eagle", boxes["eagle"]))
    results = []
    for case in EXPORTS:
        wrong = table.copy()
        axes = "xyz" if case.quantity[-2:] == "_x" else case.quantity[-1]
        for axis in axes:
            wrong[case.quantity[:-1] + axis] = case.change(wrong[case.quantity[:-1] + axis])
        wrong.to_csv(tmp_path / "wrong.csv", index=False)
        results.append((case, first(opened("eagle", boxes["eagle"], tmp_path / "wrong.csv"), name)[0]))
    check(results, tally, "export of eagle files")
