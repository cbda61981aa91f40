"""h3 and h4, and dispersions of samples: against scipy pixel by pixel, analytic distributions, mirrors, blurring."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import eval_hermite

from galineage.errors import ConfigError, DataError
from galineage.stars import Galaxy, Stars
from galineage.store.settings import StoreConfig
from galineage.views import (
    Adaptive,
    ArrayPSF,
    GaussianPSF,
    MapConfig,
    View,
    bin_maps,
    make_maps,
    mirrors,
    polyhedron,
    refine,
    voronoi_bins,
)
from galineage.views.moments import LEAST_STARS

SHAPE = MapConfig(hermite=True, pixels=16)


def by_pixel(galaxy, view, config):
    """Yield (row, column, velocities, masses) of every pixel with stars, the slow way."""
    half = config.half_width * galaxy.r_half
    edges = np.linspace(-half, half, config.pixels + 1)
    x, y = galaxy.stars.position @ view.matrix[0], galaxy.stars.position @ view.matrix[1]
    v = -view.sign * (galaxy.stars.velocity @ view.los)
    column, row = (np.searchsorted(edges, values, side="right") - 1 for values in (x, y))
    for r in range(config.pixels):
        for c in range(config.pixels):
            here = (row == r) & (column == c)
            if here.any():
                yield r, c, v[here], galaxy.stars.mass[here]


def cloud(velocity, mass=None, spread=0.0, seed=0):
    """Stars near the middle of the lower left pixel of four, with velocities away from an observer at +z."""
    rng = np.random.default_rng(seed)
    count = len(velocity)
    position = np.array([-0.5, -0.5, 0.0]) + spread * rng.standard_normal((count, 3))
    motion = np.zeros((count, 3))
    motion[:, 2] = -np.asarray(velocity)
    mass = np.ones(count) if mass is None else mass
    return Galaxy("c", "test", Stars(position, motion, mass), r_half=0.5)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("sigma", ["population", "sample"])
def test_every_pixel_is_as_scipy_has_it(made_up, exact, sigma):
    galaxy, view = made_up(4_000), View([1, 2, 3], [0, 0, 1])
    config = replace(SHAPE, exact=exact, sigma=sigma)
    maps, few, wrong = make_maps(galaxy, [view], config), 0, 0
    for r, c, v, _ in by_pixel(galaxy, view, config):
        found = {name: maps[name][0, r, c] for name in ("count", "sigma", "h3", "h4")}
        if found["count"] != len(v):  # single precision: a star in the pixel beside
            wrong += 1
            continue
        spread = np.std(v, ddof=1) if sigma == "sample" and len(v) > 1 else np.std(v)
        if sigma == "sample" and len(v) == 1:
            assert np.isnan(found["sigma"])
        else:
            assert found["sigma"] == pytest.approx(spread, rel=1e-5, abs=1e-4)
        if len(v) < LEAST_STARS:
            few += 1
            assert np.isnan([found["h3"], found["h4"]]).all()
        else:
            assert found["h3"] == pytest.approx(stats.skew(v) / (4 * np.sqrt(3)), abs=2e-5)
            assert found["h4"] == pytest.approx(stats.kurtosis(v) / (8 * np.sqrt(6)), abs=2e-5)
    assert few > 10
    assert wrong <= (0 if exact else 2)
    assert np.isfinite(maps["h3"]).sum() > 30


@pytest.mark.parametrize("weighting", ["mass", "light"])
def test_weights_are_those_of_the_settings(made_up, weighting):
    galaxy, view = made_up(3_000), View([0, 0, 1])
    config = replace(SHAPE, weighting=weighting, sigma="sample", pixels=8)
    # a light may have any unit: squares of 1e35 W do not fit into single precision
    light = {"r": 1e25 * galaxy.stars.mass, "g": galaxy.stars.mass}
    maps = make_maps(galaxy, [view], config, light=light if weighting == "light" else None)
    assert maps.channels[6:8] == ("h3", "h4")
    for r, c, v, mass in by_pixel(galaxy, view, config):
        if maps["count"][0, r, c] != len(v) or len(v) < LEAST_STARS:
            continue
        share = mass / mass.sum()
        mean = share @ v
        variance = share @ (v - mean) ** 2
        assert maps["h3"][0, r, c] == pytest.approx(share @ (v - mean) ** 3 / variance**1.5 / (4 * 3**0.5), abs=1e-4)
        kurtosis = share @ (v - mean) ** 4 / variance**2 - 3
        assert maps["h4"][0, r, c] == pytest.approx(kurtosis / (8 * 6**0.5), abs=1e-4)
        unbiased = np.sqrt(variance / (1 - share @ share))
        assert maps["sigma"][0, r, c] == pytest.approx(unbiased, rel=1e-4)


def test_gaussian_velocities_have_none_of_either(rng):
    maps = make_maps(cloud(rng.normal(150, 60, 40_000)), [View([0, 0, 1])], replace(SHAPE, pixels=2))
    assert abs(maps["h3"][0, 0, 0]) < 4 * np.sqrt(6 / 40_000) / (4 * np.sqrt(3))
    assert abs(maps["h4"][0, 0, 0]) < 4 * np.sqrt(24 / 40_000) / (8 * np.sqrt(6))
    assert np.isnan(maps["h3"][0]).sum() == 3


def test_a_rotating_disc_in_a_slow_halo_is_skewed_as_its_formula_says(rng):
    # a fraction f at +u with dispersion s, the rest at 0 with dispersion t: all moments are known
    f, u, s, t, count = 0.6, 180.0, 30.0, 90.0, 200_000
    which = rng.uniform(size=count) < f
    v = np.where(which, rng.normal(u, s, count), rng.normal(0, t, count))
    mean = f * u
    shift = np.array([u - mean, -mean])
    width, share = np.array([s, t]), np.array([f, 1 - f])
    variance = share @ (width**2 + shift**2)
    third = share @ (3 * shift * width**2 + shift**3)
    fourth = share @ (3 * width**4 + 6 * shift**2 * width**2 + shift**4)
    maps = make_maps(cloud(v), [View([0, 0, 1])], replace(SHAPE, pixels=2))
    assert maps["h3"][0, 0, 0] == pytest.approx(third / variance**1.5 / (4 * np.sqrt(3)), abs=0.004)
    assert maps["h4"][0, 0, 0] == pytest.approx((fourth / variance**2 - 3) / (8 * np.sqrt(6)), abs=0.004)
    assert maps["h3"][0, 0, 0] < -0.05, "a tail towards the systemic velocity"


def fitted(v):
    """h3 and h4 by projection on the Gauss-Hermite functions, with mean and dispersion of the stars themselves."""
    w = (v - v.mean()) / v.std()
    # H_m of van der Marel & Franx (1993, eq. 5) are the physicists' polynomials divided by sqrt(2^m m!)
    return [
        np.sqrt(2) * np.mean(np.exp(-(w**2) / 2) * eval_hermite(m, w) / np.sqrt(2**m * f)) for m, f in ((3, 6), (4, 24))
    ]


def test_for_small_deviations_moments_are_the_coefficients_of_the_series(rng):
    # drawn from the series itself: its coefficients are what both find, to first order
    w = np.linspace(-8, 8, 40_001)
    for h3, h4 in ((0.03, 0.0), (-0.03, 0.02), (0.0, 0.03)):
        series = 1 + h3 * eval_hermite(3, w) / np.sqrt(48) + h4 * eval_hermite(4, w) / np.sqrt(384)
        density = np.clip(np.exp(-(w**2) / 2) * series, 0, None)
        cumulative = np.cumsum(density) / density.sum()
        v = 70 * np.interp((np.arange(400_000) + 0.5) / 400_000, cumulative, w)
        maps = make_maps(cloud(v), [View([0, 0, 1])], replace(SHAPE, pixels=2))
        found = np.array([maps["h3"][0, 0, 0], maps["h4"][0, 0, 0]])
        np.testing.assert_allclose(found, [h3, h4], atol=0.012)
        np.testing.assert_allclose(fitted(v), [h3, h4], atol=0.012)


def test_few_stars_and_stars_without_dispersion_have_none():
    top = [View([0, 0, 1])]
    for count in (1, 2, LEAST_STARS - 1, LEAST_STARS):
        maps = make_maps(cloud(np.arange(count) ** 2), top, replace(SHAPE, pixels=2))
        assert np.isfinite(maps["h3"][0, 0, 0]) == np.isfinite(maps["h4"][0, 0, 0]) == (count >= LEAST_STARS)
    for velocity in (np.zeros(100), np.full(100, 123.4567)):
        mixed = np.concatenate([velocity, -velocity])
        galaxy = cloud(mixed)
        position = galaxy.stars.position.copy()
        position[100:] = 0.5  # two clouds, neither of which has a dispersion
        galaxy = replace(galaxy, stars=replace(galaxy.stars, position=position))
        for config in (SHAPE, replace(SHAPE, exact=True)):
            maps = make_maps(galaxy, top, replace(config, pixels=2))
            assert maps["count"][0, 0, 0] == maps["count"][0, 1, 1] == 100
            assert np.isnan(maps["h3"]).all()
            assert np.isnan(maps["h4"]).all()
    weightless = make_maps(cloud(np.arange(50.0), np.zeros(50)), top, replace(SHAPE, weighting="mass", sigma="sample"))
    assert np.isnan(weightless["h3"]).all()
    assert np.isnan(weightless["sigma"]).all()


def test_stars_that_move_fast_and_alike_keep_their_shape(rng):
    # 3 km/s of dispersion in stars at +-300 km/s: sums of fourth powers are 10^8 times what is left of them
    v = rng.gamma(4.0, 1.5, 2_000)
    galaxy = cloud(np.concatenate([300 + v, -300 - v]))
    position = galaxy.stars.position.copy()
    position[2_000:] = 0.5
    galaxy = replace(galaxy, stars=replace(galaxy.stars, position=position))
    maps = make_maps(galaxy, [View([0, 0, 1])], replace(SHAPE, pixels=2))
    for place, sign in ((0, 1), (1, -1)):
        assert maps["h3"][0, place, place] == pytest.approx(sign * stats.skew(v) / (4 * np.sqrt(3)), abs=1e-3)
        assert maps["h4"][0, place, place] == pytest.approx(stats.kurtosis(v) / (8 * np.sqrt(6)), abs=1e-3)


@pytest.mark.parametrize(
    "config", [SHAPE, replace(SHAPE, psf=GaussianPSF(1.0)), replace(SHAPE, smoothing=Adaptive(levels=2))]
)
def test_from_behind_h3_changes_its_sign_and_h4_does_not(made_up, config):
    galaxy, views = made_up(6_000), polyhedron(6)
    maps = make_maps(galaxy, views, config)
    pairs = [(k, pair) for k, pair in enumerate(mirrors(views)) if pair is not None]
    assert pairs
    for k, (earlier, axis) in pairs:
        np.testing.assert_array_equal(maps["h3"][k], -np.flip(maps["h3"][earlier], axis))
        np.testing.assert_array_equal(maps["h4"][k], np.flip(maps["h4"][earlier], axis))
        alone = make_maps(galaxy, [views[k]], config)
        close = np.isclose(maps["h3"][k], alone["h3"][0], atol=5e-3, equal_nan=True)
        assert close.mean() > 0.97
    other = make_maps(galaxy, [replace(views[0], sign=-views[0].sign)], config)
    np.testing.assert_allclose(other["h3"][0], -maps["h3"][0], atol=1e-6)


def test_the_other_maps_stay_as_they_are(made_up):
    galaxy, views = made_up(5_000), polyhedron(4)
    for config in (SHAPE, replace(SHAPE, exact=True), replace(SHAPE, psf=GaussianPSF(1.0), weighting="mass")):
        plain = make_maps(galaxy, views, replace(config, hermite=False))
        shaped = make_maps(galaxy, views, config)
        assert shaped.channels == (*plain.channels, "h3", "h4")
        np.testing.assert_array_equal(shaped.values[:, :6], plain.values)
        np.testing.assert_array_equal(shaped.outside, plain.outside)
        np.testing.assert_array_equal(refine(shaped).values, refine(plain).values)
        assert shaped.unit("h3") == ""
        assert shaped.describe()["channels"][-1] == "h4"


@pytest.mark.parametrize("psf", [GaussianPSF(2.0), ArrayPSF(np.outer(*[np.hanning(9)[1:-1]] * 2))])
def test_what_is_blurred_is_the_distribution_not_the_map(rng, psf):
    # two cold clouds side by side: between them, their velocities are a distribution of two peaks
    galaxy = cloud(np.concatenate([rng.normal(100, 5, 3_000), rng.normal(-100, 5, 1_000)]))
    position = galaxy.stars.position.copy()
    position[3_000:, 0] += 0.0625 * 3
    galaxy = replace(galaxy, stars=replace(galaxy.stars, position=position), r_half=0.5)
    config = MapConfig(pixels=32, hermite=True, psf=replace(psf, fwhm=0.25) if hasattr(psf, "fwhm") else psf)
    maps = make_maps(galaxy, [View([0, 0, 1])], config)
    apart = make_maps(galaxy, [View([0, 0, 1])], replace(config, psf=None))
    # two equal peaks have kurtosis -2; some pixel has them nearly equal
    assert -2 / (8 * np.sqrt(6)) < np.nanmin(maps["h4"]) < -0.08
    assert np.nanmin(apart["h4"]) > -0.02
    known = np.isfinite(maps["h3"][0])
    assert known.sum() > 4
    assert not known[maps["count"][0] < LEAST_STARS].any()


def test_galaxies_without_velocities_say_that_these_are_missing(made_up):
    galaxy = made_up(500)
    bare = replace(galaxy, stars=replace(galaxy.stars, velocity=None))
    maps = make_maps(bare, polyhedron(2), replace(SHAPE, sigma="sample"))
    assert maps.missing == ("velocity", "sigma", "h3", "h4")
    with pytest.raises(DataError, match="the source does not have it"):
        maps["h3"]


def test_the_dispersion_of_a_sample_is_not_biased(rng):
    # 40,000 pixels of 3 stars: divided by n, the mean variance is 2/3 of the true one
    side, stars, true = 200, 3, 80.0
    at = (np.arange(side) + 0.5) / side * 2 - 1
    position = np.zeros((side * side * stars, 3))
    position[:, 0], position[:, 1] = np.repeat(np.tile(at, side), stars), np.repeat(np.repeat(at, side), stars)
    velocity = rng.normal(0, true, (len(position), 3))
    galaxy = Galaxy("s", "test", Stars(position, velocity, rng.uniform(1e5, 2e6, len(position))), r_half=0.5)
    config = MapConfig(pixels=side, exact=True)
    for weighting in ("number", "mass"):
        mean = {
            sigma: np.mean(make_maps(galaxy, [View([0, 0, 1])], replace(config, **each))["sigma"] ** 2)
            for sigma, each in ((each, {"sigma": each, "weighting": weighting}) for each in ("population", "sample"))
        }
        assert mean["sample"] == pytest.approx(true**2, rel=0.02)
        assert mean["population"] < 0.68 * true**2


def test_one_star_has_no_dispersion_of_a_sample(rng):
    for weighting in ("number", "mass", "light"):
        config = MapConfig(pixels=2, weighting=weighting, sigma="sample")
        for count in (1, 2):
            galaxy = cloud([10.0, 20.0][:count], np.array([3e5, 7e6][:count]))
            maps = make_maps(galaxy, [View([0, 0, 1])], config, light={"r": galaxy.stars.mass})
            assert np.isfinite(maps["sigma"][0, 0, 0]) == (count == 2)
            assert np.isfinite(maps["velocity"][0, 0, 0])
        assert not np.isnan(refine(maps).values).any()


def test_new_settings_are_told_only_where_they_are_not_the_default():
    assert "sigma" not in MapConfig().describe()
    assert "hermite" not in MapConfig().describe()
    said = json.loads(json.dumps(MapConfig(sigma="sample", hermite=True).describe()))
    assert (said["sigma"], said["hermite"]) == ("sample", True)
    # the settings of a store made before there were these
    assert StoreConfig().digest == "67fa3afe283f321b780a31c1b1066e7d84e8470a71bd33789f0319d84ba07d40"
    assert StoreConfig(maps=MapConfig(sigma="sample")).digest != StoreConfig().digest


def test_what_cannot_be_is_refused(made_up):
    with pytest.raises(ConfigError, match="sigma is 'unbiased'"):
        MapConfig(sigma="unbiased")
    for mixed in ({"psf": GaussianPSF(1.0)}, {"smoothing": Adaptive()}):
        with pytest.raises(ConfigError, match="counts are of stars in a pixel"):
            MapConfig(sigma="sample", **mixed)
    with pytest.raises(ConfigError, match="no place for h3 and h4"):
        StoreConfig(maps=MapConfig(hermite=True))
    maps = make_maps(made_up(5_000), polyhedron(1), replace(SHAPE, pixels=32))
    bins = voronoi_bins(maps["count"][0], target=5)
    assert set(bin_maps(maps, bins)) == set(maps.channels[:6])
    with pytest.raises(DataError, match="samples cannot be averaged"):
        bin_maps(make_maps(made_up(5_000), polyhedron(1), replace(SHAPE, pixels=32, sigma="sample")), bins)
