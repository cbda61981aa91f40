"""Stars in their galaxy's frame: shapes, units that have gone wrong, and what is measured on them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from hypothesis import given
from hypothesis import strategies as st

from galineage.cosmology import EAGLE, TNG, Cosmology
from galineage.errors import ConfigError, DataError
from galineage.stars import RANGES, Galaxy, Stars, half_mass_radius, measure, specific_spin


def made(n=400, seed=0, **more):
    rng = np.random.default_rng(seed)
    return Stars(rng.normal(0, 5, (n, 3)), rng.normal(0, 100, (n, 3)), rng.uniform(1e5, 1e6, n), **more)


def test_wrong_shapes_are_refused():
    with pytest.raises(DataError, match="position of stars has shape"):
        Stars(np.zeros((3, 2)), np.zeros((3, 3)), np.ones(3))
    with pytest.raises(DataError, match="age of stars has shape"):
        Stars(np.zeros((3, 3)), np.zeros((3, 3)), np.ones(3), age=np.ones(2))


@given(st.sampled_from(sorted(RANGES)), st.sampled_from([np.nan, np.inf, -np.inf, "below", "above"]), st.integers(0, 9))
def test_impossible_values_name_the_star_and_the_range(name, value, star):
    low, high, _ = RANGES[name]
    number = {"below": low - 1, "above": high * 2}.get(value, value)
    arrays = {"position": np.zeros((10, 3)), "velocity": np.zeros((10, 3)), "mass": np.ones(10)}
    arrays.setdefault(name, np.zeros((10, 8) if name == "photometry" else 10))
    arrays[name][star] = number
    with pytest.raises(DataError, match=rf"{name} of star {star} is"):
        Stars(**arrays)


@pytest.mark.parametrize(
    ("name", "factor"), [("mass", 1e10), ("age", 1e3), ("metallicity", 100), ("velocity", 1e5), ("position", 1e6)]
)
def test_units_gone_wrong_are_caught(name, factor):
    right = made(metallicity=np.full(400, 0.02), age=np.full(400, 8.0))
    arrays = {key: getattr(right, key) for key in ("position", "velocity", "mass", "metallicity", "age")}
    with pytest.raises(DataError, match="units"):
        Stars(**{**arrays, name: arrays[name] * factor})


def test_arrays_are_frozen_and_missing_ones_are_listed():
    stars = made(age=np.ones(400))
    assert stars.missing == ("metallicity", "initial_mass", "smoothing", "potential", "ids", "ex_situ")
    with pytest.raises(ValueError, match="read-only"):
        stars.mass[0] = 1
    some = stars.select(stars.mass > 5e5)
    assert len(some) == (stars.mass > 5e5).sum() == len(some.age)
    assert some.missing == stars.missing


def test_half_mass_radius_of_a_uniform_ball():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(100_000, 3))
    position = direction / np.linalg.norm(direction, axis=1)[:, None] * 10 * rng.random(100_000)[:, None] ** (1 / 3)
    stars = Stars(position, np.zeros((100_000, 3)), np.ones(100_000))
    assert half_mass_radius(stars) == pytest.approx(10 * 0.5 ** (1 / 3), rel=3e-3)


def test_spin_of_a_ring_and_of_a_moving_one():
    angle = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    position = 8 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    velocity = 200 * np.stack([-np.sin(angle), np.cos(angle), 0 * angle], axis=1)
    for boost in (0, 500):
        found = specific_spin(Stars(position, velocity + boost, np.ones(1000)))
        np.testing.assert_allclose(found, [0, 0, 1600], atol=1e-6)


def test_measures_average_inside_the_aperture():
    radius = np.array([1.0, 1.0, 9.0])
    stars = Stars(
        radius[:, None] * np.eye(3), np.zeros((3, 3)), np.array([1e6, 3e6, 4e6]), metallicity=[0.01, 0.02, 0.05],
        age=[1.0, 2.0, 9.0], ex_situ=[False, False, True],
    )  # fmt: skip
    galaxy = Galaxy("1", "box", stars, r_half=1.0)
    inside, whole = measure(galaxy), measure(galaxy, aperture=None)
    assert inside["age"] == pytest.approx(1.75)
    assert inside["metallicity"] == pytest.approx(0.0175)
    assert whole["age"] == pytest.approx(43 / 8)
    assert inside["f_ex"] == whole["f_ex"] == 0.5
    assert inside["mstar"] == 8e6


def test_galaxies_without_stars_or_velocities_say_so():
    empty = Stars(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    for work in (half_mass_radius, specific_spin):
        with pytest.raises(DataError, match="without stars"):
            work(empty)
    still = Stars(np.ones((2, 3)), None, np.ones(2))
    with pytest.raises(DataError, match="without velocities"):
        specific_spin(still)
    assert "spin" not in measure(Galaxy("1", "box", still, 1.0))


def test_a_moved_galaxy_is_the_same_galaxy():
    galaxy = Galaxy("1", "box", made(), 3.0, centre=[1, 2, 3], velocity=[4, 5, 6], truth={"f_ex": 0.1})
    moved = galaxy.moved([1.0, -1.0, 2.0], [10.0, 0.0, 0.0])
    np.testing.assert_allclose(moved.stars.position + moved.centre, galaxy.stars.position + galaxy.centre)
    np.testing.assert_allclose(moved.stars.velocity + moved.velocity, galaxy.stars.velocity + galaxy.velocity)
    again = pickle.loads(pickle.dumps(moved))
    np.testing.assert_array_equal(again.stars.mass, moved.stars.mass)
    assert dict(again.truth) == {"f_ex": 0.1}


@pytest.mark.parametrize("bad", [{"r_half": 0}, {"r_half": np.nan}, {"centre": [0, 0]}, {"velocity": [0, np.nan, 0]}])
def test_impossible_galaxies_are_refused(bad):
    with pytest.raises(DataError):
        Galaxy("1", "box", made(), **{"r_half": 3.0, **bad})


@pytest.mark.parametrize("cosmology", [TNG, EAGLE, Cosmology(0.704, 0.2726)])
def test_ages_are_astropys_without_radiation(cosmology):
    twin = FlatLambdaCDM(H0=100 * cosmology.h, Om0=cosmology.omega_m, Tcmb0=0)
    a = np.array([1.0, 0.9, 0.5, 0.1])
    np.testing.assert_allclose(cosmology.age(a), twin.age(1 / a - 1).value, rtol=1e-6)
    assert cosmology.hubble(0.5) == pytest.approx(twin.H(1).value / 1e3)


def test_impossible_universes_are_refused():
    with pytest.raises(ConfigError):
        Cosmology(67.74, 0.3)
