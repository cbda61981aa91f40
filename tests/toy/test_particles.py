"""Star particles of toy galaxies: the table's numbers come out of them, and each star knows where it came from."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize

from galineage.cosmology import TNG as TNG_COSMOLOGY
from galineage.errors import ConfigError
from galineage.fields import field
from galineage.galaxy import Catalogue
from galineage.stars import half_mass_radius, measure
from galineage.toy import SUITES, make_galaxies, make_toy, measure_toy
from galineage.toy.assembly import BLOCK
from galineage.toy.compare import bands
from galineage.toy.components import MAX_BOOST, MAX_TRIM, _accreted
from galineage.toy.observables import circular_velocity
from galineage.toy.orbits import CIRCULARITY, orbit_table
from galineage.toy.particles import draw_galaxies
from galineage.toy.profiles import SPHEROID_HALF, disc_radii, spheroid_dispersion, spheroid_radii
from galineage.toy.snapshots import EAGLE, EARLIEST, TNG, last_before


@pytest.fixture(scope="module")
def toys():
    return list(draw_galaxies("toy-a", 120, 3, 2000))


def _rotation(toy):
    """Mean rotation of all stars around the disc's axis over their root-mean-square velocity."""
    stars, axis = toy.galaxy.stars, toy.galaxy.meta["spin_axis"]
    flat = stars.position - (stars.position @ axis)[:, None] * axis
    ahead = np.cross(axis, flat)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    return np.einsum("ij,ij->i", ahead, stars.velocity).mean() / np.sqrt((stars.velocity**2).sum(axis=1).mean())


def test_galaxy_k_is_the_same_whatever_number_is_asked_for():
    start = BLOCK - 2
    many = list(make_galaxies("toy-b", BLOCK + 2, 9, stars=50))
    few = list(make_galaxies("toy-b", 3, 9, stars=50, start=start))
    for number, galaxy in enumerate(few, start):
        assert galaxy.id == many[number].id == str(number)
        for name in ("position", "velocity", "mass", "metallicity", "age", "ids", "ex_situ"):
            np.testing.assert_array_equal(getattr(galaxy.stars, name), getattr(many[number].stars, name))
        assert galaxy.truth["f_ex"] == many[number].truth["f_ex"]


def test_seeds_and_suites_are_independent():
    first = [
        next(make_galaxies(*which, stars=20)).stars.mass.sum()
        for which in (("toy-a", 1, 0), ("toy-a", 1, 1), ("toy-b", 1, 0))
    ]
    assert len(set(first)) == 3


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_measured_is_what_the_table_says(suite):
    """Mass and size exactly, ex-situ fraction to one star, the rest within what apertures and noise bring."""
    difference = {name: [] for name in ("spin", "age", "metallicity")}
    for toy in draw_galaxies(suite, 60, 5, 2000):
        found, table = measure(toy.galaxy), toy.assembly.table
        assert found["mstar"] == pytest.approx(table["mstar"], rel=1e-9)
        assert found["r_half"] == pytest.approx(table["r_half"], rel=1e-9)
        # one star more or less, and masses that differ by 5 %
        assert found["f_ex"] == pytest.approx(table["f_ex"], abs=0.003)
        difference["spin"].append(np.log10(found["spin"] / table["spin"]))
        difference["age"].append(found["age"] - table["age"])
        difference["metallicity"].append(np.log10(found["metallicity"] / table["metallicity"]))
    for name, median, most in (("spin", 0.02, 0.12), ("age", 0.15, 0.25), ("metallicity", 0.03, 0.05)):
        assert abs(np.median(difference[name])) < median, name
        assert np.quantile(np.abs(difference[name]), 0.9) < most, name


def test_relations_stay_where_the_tables_have_them():
    """Medians in bins of mass against those of the tables, within the error of the median of so few galaxies."""
    count = 400
    measured, table = measure_toy("toy-a", count, 1, stars=300), make_toy("toy-a", 20_000, 1)
    assert set(measured.columns) == set(table.columns)
    for name, floor in (("f_ex", 0.02), ("r_half", 0.03), ("spin", 0.06), ("age", 0.25), ("metallicity", 0.04)):
        one, two = bands(measured, name).quantiles, bands(table, name).quantiles
        logarithm = np.log10 if field(name).scale == "log" else np.asarray
        for column in range(4):
            low, high = logarithm(two[[0, 2], column])
            members = np.sum(np.digitize(np.log10(measured["mstar"]), [10, 10.25, 10.5, 10.75, 11]) == column + 1)
            error = 1.25 * (high - low) / 2 / np.sqrt(members)
            shift = abs(float(logarithm(one[1, column]) - logarithm(two[1, column])))
            assert shift < 3.5 * error + floor, (name, column)


def test_measured_table_is_a_catalogue_in_range():
    catalogue = measure_toy("toy-c", 30, 2, stars=200)
    assert isinstance(catalogue, Catalogue)
    for column, values in catalogue.columns.items():
        assert field(column).in_range(values.astype(float)).all(), column
    assert catalogue.root[3] == "toy-c:3"


def test_every_star_knows_its_origin(toys):
    for toy in toys[:40]:
        stars, assembly = toy.galaxy.stars, toy.assembly
        np.testing.assert_array_equal(stars.ex_situ, toy.merger >= 0)
        np.testing.assert_array_equal(toy.galaxy.meta["merger"], toy.merger)
        np.testing.assert_array_equal(toy.galaxy.meta["formed"], TNG.formed(stars.age))
        brought = toy.merger >= 0
        # accreted stars formed while both simulations could still see their satellite
        assert (stars.age[brought] > last_before(assembly.lookback)[toy.merger[brought]]).all()
        assert stars.age.max() <= EARLIEST
        share = np.bincount(toy.merger[brought], minlength=len(assembly.mu)) / len(stars)
        assert np.abs(share - assembly.merged / assembly.mstar).max() < 1.01 / len(stars)
        assert len(np.unique(stars.ids)) == len(stars)


def test_truth_is_that_of_the_history(toys):
    for toy in toys:
        truth = toy.galaxy.truth
        major = toy.assembly.lookback[toy.assembly.mu >= 0.25]
        assert truth["n_major"] == len(major)
        assert truth["t_last_major"] == pytest.approx(major.min() if len(major) else np.nan, nan_ok=True)
        assert toy.galaxy.r_half == half_mass_radius(toy.galaxy.stars)
        assert bool(truth["central"]) == toy.assembly.central


def test_stars_are_at_rest_together_and_sorted_by_binding_energy(toys):
    for toy in toys[:20]:
        stars = toy.galaxy.stars
        assert np.abs(stars.mass @ stars.velocity / stars.mass.sum()).max() < 1e-9
        energy = stars.potential + (stars.velocity**2).sum(axis=1) / 2
        # the mean motion was taken out before sorting
        assert (np.diff(energy) >= -1e-6 * np.abs(energy[:-1])).all()
        assert stars.missing == ("smoothing",)


def test_few_mergers_leave_rotating_discs_and_many_leave_spheroids(toys):
    turning, flatness, accreted = [], [], []
    for toy in toys:
        turning.append(_rotation(toy))
        axis = toy.galaxy.meta["spin_axis"]
        everything = toy.galaxy.stars.position
        flatness.append(np.median(np.abs(everything @ axis)) / np.median(np.linalg.norm(everything, axis=1)))
        accreted.append(toy.galaxy.truth["f_ex"])
    turning, flatness, accreted = np.array(turning), np.array(flatness), np.array(accreted)
    few, many = accreted < 0.08, accreted > 0.4
    assert min(few.sum(), many.sum()) > 8
    assert np.median(turning[few]) > 0.6
    assert np.median(turning[many]) < 0.6 * np.median(turning[few])
    assert np.median(flatness[few]) < 0.25
    assert np.median(flatness[many]) > 1.4 * np.median(flatness[few])


def test_accreted_stars_lie_further_out_and_are_poorer_in_metals(toys):
    further, poorer = [], []
    for toy in toys:
        stars, brought = toy.galaxy.stars, toy.merger >= 0
        if brought.sum() > 100:
            radius = np.linalg.norm(stars.position, axis=1)
            further.append(np.median(radius[brought]) / np.median(radius[~brought]))
            poorer.append(np.log10(np.median(stars.metallicity[brought]) / np.median(stars.metallicity[~brought])))
    assert np.median(further) > 1.3
    assert np.median(poorer) < -0.1


def test_light_satellites_leave_their_stars_further_out(toys):
    heavy, light = [], []
    for toy in toys:
        radius = np.linalg.norm(toy.galaxy.stars.position, axis=1) / toy.galaxy.r_half
        ratio = np.append(toy.assembly.mu, np.nan)[toy.merger]
        heavy.append(radius[ratio > 0.25])
        light.append(radius[ratio < 0.05])
    assert np.median(np.concatenate(light)) > 1.3 * np.median(np.concatenate(heavy))


def test_young_mergers_are_streams_and_old_ones_mixed(toys):
    """The same satellite, having merged 0.3 and 11 Gyr ago: its stars lie along an arc, or all around."""
    assembly = next(toy.assembly for toy in toys if len(toy.assembly.mu) > 5)
    lopsided = []
    for lookback in (0.3, 11.0):
        moved = replace(assembly, lookback=np.full(len(assembly.mu), lookback), mu=np.full(len(assembly.mu), 0.01))
        for row in range(5):
            stars = _accreted(moved, np.full(1000, row), np.random.default_rng(row))
            direction = stars.position / np.linalg.norm(stars.position, axis=1, keepdims=True)
            lopsided.append(np.linalg.norm(direction.mean(axis=0)))
    assert np.median(lopsided[:5]) > 0.2
    # directions that are independent give 0.03; different turning speeds mix phases only slowly
    assert np.median(lopsided[5:]) < 0.08


def test_rotation_curve_stays_near_the_relation(toys):
    for toy in toys:
        stars = toy.galaxy.stars
        speed = float(circular_velocity(np.array(toy.assembly.mstar)))
        assert np.sqrt((stars.velocity**2).sum(axis=1).mean()) < 1.6 * MAX_BOOST * MAX_TRIM * speed


@pytest.mark.parametrize("circularity", [0.05, 0.1, 0.4, 0.77, 0.95])
def test_orbits_agree_with_integration(circularity):
    """Reference twin: r'' = L^2 / r^3 - 1 / r integrated over one radial period from the apocentre."""
    table, value = orbit_table(), np.array([circularity])
    period, advance = float(table.periods(value)[0]), float(table.advances(value)[0])
    far = optimize.brentq(lambda r: 1 - 2 * np.log(r) - (circularity / r) ** 2, 1, 2)
    phase = np.linspace(0.5, 1.5, 41)
    path = integrate.solve_ivp(
        lambda _, y: [y[1], circularity**2 / y[0] ** 3 - 1 / y[0], circularity / y[0] ** 2],
        (0, period),
        [far, 0.0, 0.0],
        t_eval=((phase - 0.5) * period).clip(max=period),
        rtol=1e-10,
        atol=1e-12,
    )
    places = table.places(np.full(41, circularity), phase)
    np.testing.assert_allclose(places.radius, path.y[0], atol=0.002)
    np.testing.assert_allclose(np.floor(phase) * advance + places.angle - advance / 2, path.y[2], atol=0.01)
    energy = (places.radial**2 + places.tangential**2) / 2 + np.log(places.radius)
    np.testing.assert_allclose(energy, 0.5, atol=0.01)
    np.testing.assert_allclose(places.tangential * places.radius, circularity)


def test_orbits_are_periodic_and_cover_the_table():
    table = orbit_table()
    rng = np.random.default_rng(0)
    circularity, phase = rng.uniform(*CIRCULARITY, 500), rng.random(500)
    one, two = table.places(circularity, phase), table.places(circularity, phase + 7)
    np.testing.assert_allclose(one.radius, two.radius, rtol=1e-9)
    assert (one.radius > 0).all()
    assert (one.radius < np.exp(0.5)).all()
    assert (np.sign(one.radial) != np.sign(phase - 0.5)).mean() > 0.99
    np.testing.assert_allclose(table.periods(np.array([0.985])), np.sqrt(2) * np.pi, rtol=0.01)  # epicycles


def test_profiles_invert_their_mass():
    share = np.linspace(0.01, 0.99, 50)
    x = disc_radii(share)
    whole = 1 - 9 * np.exp(-8.0)
    np.testing.assert_allclose((1 - (1 + x) * np.exp(-x)) / whole, share, atol=1e-4)
    y = spheroid_radii(share)
    np.testing.assert_allclose((y / (1 + y)) ** 2 / (12 / 13) ** 2, share, atol=1e-12)
    assert spheroid_radii(np.array(0.5)) == pytest.approx(SPHEROID_HALF)


def test_spheroid_obeys_the_jeans_equation():
    """The slope of density times dispersion squared is minus density over radius where the rotation curve is flat."""
    radius = np.geomspace(0.05, 20, 400)
    density = 1 / (radius * (1 + radius) ** 3)
    pressure = density * spheroid_dispersion(radius) ** 2
    slope = np.gradient(pressure, radius)
    np.testing.assert_allclose(slope[5:-5], (-density / radius)[5:-5], rtol=0.01)
    assert spheroid_dispersion(np.array(1e3)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("timeline", [TNG, EAGLE])
def test_timelines(timeline):
    assert (np.diff(timeline.redshift) < 0).all()
    assert timeline.lookback[-1] == 0.0
    time = np.linspace(0, 13.4, 40)
    scale = timeline.scale_at(time)
    age = timeline.cosmology.age(1.0) - timeline.cosmology.age(scale)
    np.testing.assert_allclose(age, time, atol=1e-9)
    formed = timeline.formed(time)
    assert (timeline.lookback[formed] <= time).all()
    assert (timeline.lookback[formed - 1] > time).all()
    assert len(TNG.redshift) == 100
    assert len(EAGLE.redshift) == 29
    assert TNG.hubble == TNG_COSMOLOGY.h


def test_satellites_are_last_seen_before_they_merge():
    time = np.array([0.01, 0.5, 3.0, 9.0, 13.15])
    last = last_before(time)
    assert (last > time).all()
    assert (last < EARLIEST).all()


@given(suite=st.sampled_from(sorted(SUITES)), seed=st.integers(0, 2**60), start=st.integers(0, 500))
@settings(max_examples=20, deadline=None)
def test_any_galaxy_of_few_stars_is_possible(suite, seed, start):
    galaxy = next(make_galaxies(suite, 1, seed, stars=10, start=start))
    assert len(galaxy.stars) == 10
    assert 0 <= galaxy.truth["f_ex"] < 1  # one star at least is the galaxy's own
    for name, value in measure(galaxy).items():
        assert field(name).in_range(np.array(value)), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy-z", 5, 0), "toy-a, toy-b, toy-c"),
        (("toy-a", 0, 0), "count >= 1"),
        (("toy-a", 5, -1), "seed >= 0"),
        (("toy-a", 5, 0, 3), "10 to"),
    ],
)
def test_bad_requests_say_what_is_accepted(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_galaxies(*arguments)


@pytest.mark.slow
def test_six_hundred_galaxies_of_8000_stars_in_under_half_a_minute():
    from time import perf_counter

    start = perf_counter()
    assert sum(len(galaxy.stars) for galaxy in make_galaxies("toy-a", 600, 0)) == 600 * 8000
    assert perf_counter() - start < 30
