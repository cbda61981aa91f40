"""What maps must be: analytic galaxies, symmetries, odd cases, systemic velocities, missing quantities, light."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from galineage.errors import ConfigError, DataError
from galineage.stars import Galaxy, Stars
from galineage.views import Adaptive, GaussianPSF, MapConfig, View, make_maps, polyhedron, random_views, refine
from galineage.views.kernel import deposit_exact, deposit_fast, deposit_function, deposit_plain, new_grid


def galaxy_of(position, velocity, mass=None, r_half=1.0, **more):
    position = np.asarray(position, float)
    mass = np.ones(len(position)) if mass is None else mass
    return Galaxy(
        id="g1", domain="test", r_half=r_half, stars=Stars(position=position, velocity=velocity, mass=mass, **more)
    )


def pixel_centres(maps):
    side = maps.config.pixels
    at = (np.arange(side) + 0.5) * maps.pixel - maps.half_width
    return np.meshgrid(at, at)


def test_a_star_that_goes_away_has_positive_velocity(top):
    # right of and above the middle; moving from the observer at +z, and to the right, which is not seen
    one = galaxy_of([[0.5, 1.0, 3.0]], [[70.0, 0.0, -50.0]], [2e6])
    maps = make_maps(one, [top, View([0, 0, 1], sign=-1)])
    assert maps["count"].sum() == 2
    place = (0, 64 + 32, 64 + 16)
    assert maps["count"][place] == 1
    assert maps["mass"][place] == 2e6
    assert maps["velocity"][place] == 50
    assert maps["velocity"][1, 64 + 32, 64 + 16] == -50
    assert maps["sigma"][place] == 0
    assert np.isnan(maps["velocity"][0]).sum() == np.isnan(maps["sigma"][0]).sum() == 128 * 128 - 1
    assert maps.missing == ("metallicity", "age")
    assert "age" not in maps
    with pytest.raises(DataError, match="no map of 'age'"):
        maps["age"]


def test_stars_without_velocities_have_no_velocity_maps(made_up):
    galaxy = made_up(2_000)
    bare = replace(galaxy, stars=replace(galaxy.stars, velocity=None))
    maps = make_maps(bare, polyhedron(6))
    assert maps.missing == ("velocity", "sigma")
    assert maps.channels == ("count", "mass", "metallicity", "age")
    np.testing.assert_array_equal(maps["age"], make_maps(galaxy, polyhedron(6))["age"])
    refined = refine(maps)
    assert refined.missing == ("velocity", "sigma")
    assert not refined.values[:, 1:3].any()
    with pytest.raises(DataError, match="no velocities"):
        make_maps(bare, polyhedron(6), MapConfig(systemic="inner"))


def test_no_star_in_the_field_gives_empty_maps(top):
    far = galaxy_of([[50.0, 0.0, 0.0]], [[0.0, 0.0, 10.0]])
    maps = make_maps(far, [top, View([0, 0, -1])])
    assert maps.outside.tolist() == [1, 1]
    assert not maps["mass"].any()
    assert np.isnan(maps["velocity"]).all()
    assert not refine(maps).values.any()
    # it is in the field when looked at along x
    assert make_maps(far, [View([1, 0, 0])])["count"].sum() == 1


def test_a_galaxy_without_stars_is_refused_by_name(top):
    with pytest.raises(DataError, match="g1 of test has no stars"):
        make_maps(galaxy_of(np.zeros((0, 3)), np.zeros((0, 3))), [top])


def test_what_is_not_a_number_never_becomes_a_galaxy():
    for position, velocity in (([[np.nan, 0, 0]], [[0, 0, 0]]), ([[0, 0, 0]], [[0, np.inf, 0]])):
        with pytest.raises(DataError):
            galaxy_of(position, velocity)


def test_all_stars_in_one_pixel(top, rng):
    velocity = rng.normal(0, 80, (500, 3))
    mass = rng.uniform(1e6, 2e6, 500)
    one = galaxy_of(np.full((500, 3), 0.01), velocity, mass)
    for weighting, weight in (("number", np.ones(500)), ("mass", mass)):
        maps = make_maps(one, [top], MapConfig(weighting=weighting))
        assert maps["count"][0, 64, 64] == 500 == maps["count"].sum()
        v = -velocity[:, 2]
        mean = np.average(v, weights=weight)
        assert maps["velocity"][0, 64, 64] == pytest.approx(mean, abs=1e-4)
        sigma = np.sqrt(np.average((v - mean) ** 2, weights=weight))
        assert maps["sigma"][0, 64, 64] == pytest.approx(sigma, abs=1e-4)


def test_stars_at_one_place_with_one_velocity_have_no_dispersion(top):
    maps = make_maps(galaxy_of(np.zeros((2000, 3)), np.full((2000, 3), 123.4567)), [top])
    assert np.nanmax(maps["sigma"]) < 1e-6
    assert maps["velocity"][0, 64, 64] == np.float32(-123.4567)


def test_a_rotating_disc_shows_its_rotation_curve(rng):
    # every star on a circle: the velocity is v_c sin(i) cos(angle), exactly, wherever the disc is thin
    count, speed = 200_000, 220.0
    radius, angle = 2 * np.sqrt(rng.uniform(0, 1, count)), rng.uniform(0, 2 * np.pi, count)
    position = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(count)], axis=1)
    velocity = speed * np.stack([-np.sin(angle), np.cos(angle), np.zeros(count)], axis=1)
    disc, inclination = galaxy_of(position, velocity), np.radians(60)
    view = View([0, -np.sin(inclination), np.cos(inclination)])  # from below: y is foreshortened, x is the major axis
    maps = make_maps(disc, [view])
    x, y = pixel_centres(maps)
    y = y / np.cos(inclination)
    away = np.hypot(x, y)
    expected = speed * np.sin(inclination) * x / away  # the side x > 0 moves along +y, away from the observer
    inside = (away > 0.3) & (away < 1.9)
    assert np.abs(maps["velocity"][0] - expected)[inside].max() < 8
    assert np.abs(np.mean((maps["velocity"][0] - expected)[inside])) < 0.1
    # what is left as dispersion is the gradient of velocity inside a pixel
    assert np.median(maps["sigma"][0][inside]) < 3
    face = make_maps(disc, [View([0, 0, 1])])
    assert np.nanmax(np.abs(face["velocity"])) < 1e-4
    assert np.nanmax(face["sigma"]) < 1e-3


def test_an_isothermal_sphere_has_one_dispersion_everywhere(rng):
    # n stars with dispersion s: the sample's has mean s (1 - 3/4n) and standard deviation s / sqrt(2n)
    count, spread = 300_000, 110.0
    direction = rng.standard_normal((count, 3))
    position = direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.uniform(0, 2, (count, 1))
    sphere = galaxy_of(position, rng.normal(0, spread, (count, 3)))
    for view in make_maps(sphere, random_views(2, seed=0), MapConfig(pixels=32)).values:
        n, sigma = view[0].astype(float), view[3]
        busy = n > 30
        pull = (sigma[busy] - spread * (1 - 3 / (4 * n[busy]))) / (spread / np.sqrt(2 * n[busy]))
        assert abs(pull.mean()) < 4 / np.sqrt(busy.sum())
        assert pull.std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("exact", [False, True])
def test_a_galaxy_that_flies_past_at_7500_km_s(exact, made_up, top):
    still, flying = made_up(20_000), made_up(20_000, offset=(0.0, 0.0, -7500.0))
    config = MapConfig(exact=exact)
    a, b = make_maps(still, [top], config), make_maps(flying, [top], config)
    np.testing.assert_allclose(b["sigma"], a["sigma"], atol=1e-4)
    np.testing.assert_allclose(b["velocity"] - np.float64(7500), a["velocity"], atol=1e-4 if exact else 5e-4)
    inner = make_maps(flying, [top], replace(config, systemic="inner"))
    same = make_maps(still, [top], replace(config, systemic="inner"))
    np.testing.assert_allclose(inner["velocity"], same["velocity"], atol=1e-4)


def test_systemic_velocities(disc):
    stars = disc.stars
    bound = stars.velocity[stars.potential < np.percentile(stars.potential, 5)].mean(axis=0)
    np.testing.assert_allclose(make_maps(disc, polyhedron(1), MapConfig(systemic="bound")).systemic, bound)
    inside = np.linalg.norm(stars.position, axis=1) <= 0.1 * disc.r_half
    found = make_maps(disc, polyhedron(1), MapConfig(systemic="inner")).systemic
    np.testing.assert_allclose(found, stars.velocity[inside].mean(axis=0))
    bare = replace(disc, stars=replace(stars, potential=None))
    with pytest.raises(DataError, match=r"made-up-20000 of test has no potential"):
        make_maps(bare, polyhedron(1), MapConfig(systemic="bound"))
    hollow = galaxy_of([[1.0, 0, 0]], [[1.0, 2, 3]], potential=[-5.0])
    with pytest.raises(DataError, match=r"no star within 0.1 r_half"):
        make_maps(hollow, polyhedron(1), MapConfig(systemic="inner"))
    np.testing.assert_array_equal(make_maps(hollow, polyhedron(1), MapConfig(systemic="bound")).systemic, [1, 2, 3])


@pytest.mark.parametrize("number", [6, 8, 10, 12, 20])
def test_mirrored_is_direct(number, made_up):
    galaxy, views = made_up(5_000), polyhedron(number, seed=2)
    together = make_maps(galaxy, views)
    assert any(pair is not None for pair in together.mirrors)
    refined = refine(together)
    for index, view in enumerate(views):
        alone = make_maps(galaxy, [view])
        # float32 coordinates: a star within 1e-5 of an edge may fall on its other side
        same = together["count"][index] == alone["count"][0]
        assert (~same).sum() <= 4
        for channel in together.channels:
            np.testing.assert_allclose(
                together[channel][index][same], alone[channel][0][same], rtol=2e-6, atol=1e-4, err_msg=channel
            )
        if same.all():
            np.testing.assert_allclose(refined.values[index], refine(alone).values[0], atol=2e-5)


def test_mirrors_of_every_kind_of_map(made_up):
    galaxy, views = made_up(4_000), polyhedron(6, seed=1)
    for config in (
        MapConfig(weighting="mass", systemic="bound"),
        MapConfig(psf=GaussianPSF(1.0)),
        MapConfig(smoothing=Adaptive(levels=3), pixels=64),
    ):
        together = make_maps(galaxy, views, config)
        for index in range(6):
            alone = make_maps(galaxy, [views[index]], config)
            for channel in ("mass", "velocity"):
                scale = np.nanmax(np.abs(alone[channel]))
                wrong = np.abs(together[channel][index] - alone[channel][0]) > 1e-3 * scale
                assert wrong.mean() < 0.01


def test_turning_galaxy_and_camera_together_changes_nothing(made_up):
    galaxy, view = made_up(20_000), View([1, 2, 3], [0, 0, 1])
    wanted = make_maps(galaxy, [view], MapConfig(exact=True))
    for seed in range(3):
        turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
        stars = replace(galaxy.stars, position=galaxy.stars.position @ turn.T, velocity=galaxy.stars.velocity @ turn.T)
        found = make_maps(replace(galaxy, stars=stars), [View(turn @ view.los, turn @ view.up)], MapConfig(exact=True))
        for channel in found.channels:
            np.testing.assert_allclose(found[channel], wanted[channel], rtol=1e-9, atol=1e-9)


def test_on_axis_is_off_axis(made_up, top):
    # along y and x by the camera, against the stars' columns exchanged by hand
    galaxy = made_up(10_000)
    for los, up, order in (([0, 1, 0], [1, 0, 0], (2, 0, 1)), ([1, 0, 0], [0, 0, 1], (1, 2, 0))):
        columns = {name: getattr(galaxy.stars, name)[:, order] for name in ("position", "velocity")}
        wanted = make_maps(replace(galaxy, stars=replace(galaxy.stars, **columns)), [top], MapConfig(exact=True))
        found = make_maps(galaxy, [View(los, up)], MapConfig(exact=True))
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-12, atol=1e-10)


def test_a_rolled_camera_turns_the_map(made_up, top):
    galaxy = made_up(10_000)
    plain, rolled = (make_maps(galaxy, [view], MapConfig(exact=True)) for view in (top, top.rolled(np.pi / 2)))
    # camera counter-clockwise, image clockwise
    np.testing.assert_allclose(
        rolled["mass"][0][::-1], np.rot90(plain["mass"][0][::-1], -1), rtol=1e-12, equal_nan=True
    )


def test_everything_in_the_field_is_in_the_map(made_up):
    galaxy = made_up(30_000)
    for view, maps in zip(polyhedron(4), make_maps(galaxy, polyhedron(4)).values, strict=True):
        across = np.abs(galaxy.stars.position @ view.matrix[:2].T).max(axis=1)
        inside = across <= 2 * galaxy.r_half
        assert abs(maps[0].sum() - inside.sum()) <= 1
        assert maps[1].sum(dtype=float) == pytest.approx(galaxy.stars.mass[inside].sum(), rel=1e-4)


def test_light_is_summed_and_can_weigh_the_kinematics(made_up, top, rng):
    galaxy = made_up(5_000)
    green, red = rng.uniform(0, 1, 5_000), rng.uniform(0, 5, 5_000)
    plain = make_maps(galaxy, [top])
    maps = make_maps(galaxy, [top], MapConfig(weighting="light"), light={"g": green, "r": red})
    assert maps.channels[-2:] == ("light g", "light r")
    np.testing.assert_array_equal(maps["mass"], plain["mass"])
    inside = (np.abs(galaxy.stars.position[:, :2]) <= 10).all(axis=1)
    assert maps["light r"].sum(dtype=float) == pytest.approx(red[inside].sum(), rel=1e-5)
    # the same as a galaxy whose masses are the light
    as_mass = replace(galaxy, stars=replace(galaxy.stars, mass=green))
    by_mass = make_maps(as_mass, [top], MapConfig(weighting="mass"))
    np.testing.assert_allclose(maps["velocity"], by_mass["velocity"], atol=1e-3)
    np.testing.assert_allclose(maps["sigma"], by_mass["sigma"], atol=1e-3)
    for wrong in ({"g": green[:5]}, {"g": -green}, {"g": np.full(5_000, np.nan)}):
        with pytest.raises(DataError):
            make_maps(galaxy, [top], light=wrong)
    with pytest.raises(ConfigError, match="weighted by light"):
        make_maps(galaxy, [top], MapConfig(weighting="light"))
    with pytest.raises(ConfigError, match="at most 4"):
        make_maps(galaxy, [top], light=dict.fromkeys("abcde", green))


def test_hand_written_instructions_give_the_same_bits_as_plain_code(rng):
    for count in (0, 1, 511, 512, 513, 5_000):
        motion = rng.normal(0, 3, (6, count)).astype(np.float32)
        motion[3:] *= 100
        record = rng.uniform(0, 1e6, (count, 4)).astype(np.float32)
        camera = np.concatenate([Rotation.random(rng=rng).as_matrix() * 5, [[16], [16], [0]]], axis=1)
        grids = [new_grid(32, 32) for _ in range(3)]
        deposit_fast(motion, record, camera.astype(np.float32), 32, grids[0])
        deposit_plain(motion, record, camera.astype(np.float32), 32, grids[1])
        np.testing.assert_array_equal(grids[0], grids[1])
        np.testing.assert_allclose(grids[0][:, 0].sum(), record[:, 0].sum(dtype=float), rtol=1e-6)
        edges = np.linspace(-16, 16, 33)
        deposit_exact(motion.astype(float), record.astype(float), camera[:, :3], edges, grids[2])
        far = ~np.isclose(grids[0], grids[2], rtol=1e-4, atol=1e-3 * np.abs(grids[2]).max(initial=1e-9))
        assert far.any(axis=1).sum() <= 8


def test_the_fallback_is_used_where_the_instructions_do_not_compile(monkeypatch, made_up):
    from galineage.views import kernel

    galaxy = made_up(3_000)
    wanted = make_maps(galaxy, polyhedron(3)).values

    def broken(*_):
        raise NotImplementedError("no such vectors here")

    assert deposit_function() is deposit_fast
    monkeypatch.setattr(kernel, "deposit_fast", broken)
    deposit_function.cache_clear()
    try:
        assert deposit_function() is deposit_plain
        np.testing.assert_array_equal(make_maps(galaxy, polyhedron(3)).values, wanted)
    finally:
        deposit_function.cache_clear()


def test_maps_are_the_same_from_many_threads(made_up):
    from concurrent.futures import ThreadPoolExecutor

    galaxies = [made_up(2_000, seed=seed) for seed in range(8)]
    wanted = [refine(make_maps(galaxy, polyhedron(6))).values for galaxy in galaxies]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda galaxy: refine(make_maps(galaxy, polyhedron(6))).values, galaxies * 3))
    for index, values in enumerate(found):
        np.testing.assert_array_equal(values, wanted[index % 8])


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": 0}, {"pixels": 5000}, {"half_width": 0.0}, {"half_width": float("nan")}, {"weighting": "age"},
        {"systemic": "mean"}, {"smoothing": Adaptive(), "pixels": 40}, {"psf": 3},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        MapConfig(**wrong)


def test_maps_say_how_they_were_made(made_up):
    galaxy = made_up(100)
    with pytest.raises(ConfigError, match="no view"):
        make_maps(galaxy, [])
    config = MapConfig(psf=GaussianPSF(0.5), smoothing=Adaptive(levels=2))
    maps = make_maps(galaxy, polyhedron(6), config)
    said = json.loads(json.dumps(maps.describe()))
    assert said["config"]["psf"] == {"kind": "gaussian", "fwhm_kpc": 0.5}
    assert said["views"][0]["velocity_sign"] == 1
    assert said["units"]["mass"] == "Msun"
    assert len(said["views"]) == len(maps) == 6
    with pytest.raises(ValueError, match="read-only"):
        maps.values[0] = 0


@pytest.mark.slow
def test_the_engine_keeps_its_distance_from_bincount(made_up):
    # a ratio on the same machine, never a time: twelve views of 100,000 stars
    import time

    galaxy, views = made_up(100_000), polyhedron(12)
    stars, weights = galaxy.stars, np.ones(100_000)

    def counted():
        for view in views:
            place = ((stars.position @ view.matrix[:2].T) / (4 * galaxy.r_half / 128) + 64).astype(int)
            inside = ((place >= 0) & (place < 128)).all(axis=1)
            index = place[inside, 1] * 128 + place[inside, 0]
            velocity = -(stars.velocity @ view.los)
            for values in (weights, stars.mass, velocity, velocity**2, stars.mass * stars.age, stars.mass):
                np.bincount(index, values[inside], minlength=128 * 128)

    def seconds(work):
        taken = []
        for _ in range(5):
            start = time.process_time()
            work()
            taken.append(time.process_time() - start)
        return min(taken)

    assert seconds(counted) > 4 * seconds(lambda: make_maps(galaxy, views))


def test_a_star_without_mass_counts_and_has_no_mean(top):
    maps = make_maps(galaxy_of([[0.01, 0.01, 0]], [[0, 0, 5.0]], [0.0], age=[3.0]), [top])
    assert maps["count"][0, 64, 64] == 1
    assert maps["velocity"][0, 64, 64] == -5
    assert np.isnan(maps["age"][0, 64, 64])
