"""Blurring, adaptive smoothing, apertures and Voronoi bins."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from galineage.errors import ConfigError, DataError
from galineage.stars import Galaxy, Stars
from galineage.views import (
    Adaptive,
    ArrayPSF,
    DoubleGaussianPSF,
    GaussianPSF,
    MapConfig,
    View,
    bin_maps,
    circle,
    hexagon,
    make_maps,
    polyhedron,
    signal_mask,
    voronoi_bins,
)
from galineage.views.smoothing import levels_of, neighbour_radius

FWHM = 2 * np.sqrt(2 * np.log(2))


def points(position, velocity=None, **more):
    position = np.asarray(position, float)
    velocity = np.zeros_like(position) if velocity is None else velocity
    stars = Stars(position=position, velocity=velocity, mass=np.full(len(position), 1e6), **more)
    return Galaxy(id="g1", domain="test", r_half=1.0, stars=stars)


PSFS = {
    "gaussian": GaussianPSF(0.15),
    "narrow": GaussianPSF(0.001),
    "double": DoubleGaussianPSF(0.1),
    "array": ArrayPSF(np.outer(np.hanning(9), np.hanning(9))[1:-1, 1:-1]),
    "lopsided": ArrayPSF(np.eye(5) + np.eye(5, k=1)),
}


@pytest.mark.parametrize("psf", PSFS)
@pytest.mark.parametrize("exact", [False, True])
def test_a_psf_keeps_the_light(psf, exact, top, rng):
    galaxy = points(rng.normal(0, 0.3, (2000, 3)), rng.normal(0, 50, (2000, 3)))
    plain = make_maps(galaxy, [top], MapConfig(exact=exact))
    blurred = make_maps(galaxy, [top], MapConfig(psf=PSFS[psf], exact=exact))
    assert plain["count"].sum() == 2000
    for channel in ("count", "mass"):
        assert blurred[channel].sum(dtype=float) == pytest.approx(plain[channel].sum(dtype=float), rel=1e-5)
        assert blurred[channel].min() >= 0
    if psf == "narrow":
        np.testing.assert_allclose(blurred["mass"], plain["mass"], rtol=1e-6)


def test_one_star_shows_the_psf(top):
    psf = GaussianPSF(0.25)
    maps = make_maps(points([[0.01, 0.01, 5.0]]), [top], MapConfig(psf=psf, exact=True))
    at = (np.arange(128) - 64) * maps.pixel
    image = maps["count"][0]
    total = image.sum()
    assert total == pytest.approx(1)
    assert (image @ at).sum() / total == pytest.approx(0, abs=1e-12)
    # integrated over pixels: a twelfth of a pixel squared is added to the variance
    wanted = (0.25 / FWHM) ** 2 + maps.pixel**2 / 12
    assert (image @ at**2).sum() / total == pytest.approx(wanted, rel=1e-4)
    # velocity of the one star everywhere, and no dispersion
    lit = image > 0
    assert np.nanmax(np.abs(maps["velocity"][0][lit])) < 1e-9


def test_a_lopsided_psf_points_the_right_way(top):
    values = np.zeros((3, 3))
    values[1, 2] = 1  # to the right
    maps = make_maps(points([[0.01, 0.01, 0.0]]), [top], MapConfig(psf=ArrayPSF(values)))
    assert maps["count"][0, 64, 65] == pytest.approx(1)


def test_light_from_beside_the_field_comes_in(top):
    outside = points([[2.05, 0.0, 0.0]])
    assert make_maps(outside, [top])["count"].sum() == 0
    blurred = make_maps(outside, [top], MapConfig(psf=GaussianPSF(0.4)))
    wide = make_maps(outside, [top], MapConfig(psf=GaussianPSF(0.4), pixels=256, half_width=4.0))
    assert blurred["count"].sum() > 0.2
    np.testing.assert_allclose(blurred["count"][0], wide["count"][0, 64:192, 64:192], atol=1e-6)


def test_a_velocity_step_becomes_dispersion(top, rng):
    # left half -100, right half +100: on the border the blurred light is half and half, sigma 100
    position = rng.uniform(-1.9, 1.9, (100_000, 3))
    velocity = np.zeros_like(position)
    velocity[:, 2] = np.where(position[:, 0] > 0, -100.0, 100.0)
    psf = GaussianPSF(0.3)
    sharp = make_maps(points(position, velocity), [top], MapConfig(pixels=64))
    maps = make_maps(points(position, velocity), [top], MapConfig(pixels=64, psf=psf))
    middle = slice(16, 48)
    assert np.nanmax(sharp["sigma"]) == 0
    np.testing.assert_allclose(maps["sigma"][0, middle, 31:33], 100, rtol=0.04)
    # analytic: v = 100 erf(x / sqrt2 s), sigma^2 = 100^2 - v^2
    from scipy.special import erf

    x = (np.arange(64) + 0.5) * maps.pixel - 2
    v = 100 * erf(x / np.sqrt(2) / np.hypot(0.3 / FWHM, maps.pixel / np.sqrt(12)))
    np.testing.assert_allclose(maps["velocity"][0, middle].mean(axis=0)[16:48], v[16:48], atol=2)
    wanted = np.sqrt(1e4 - v**2)
    np.testing.assert_allclose(maps["sigma"][0, middle].mean(axis=0)[20:44], wanted[20:44], atol=4)


def test_sums_are_blurred_before_they_are_divided(made_up, top):
    galaxy, psf = made_up(30_000), GaussianPSF(0.5)
    maps = make_maps(galaxy, [top], MapConfig(exact=True, psf=psf, half_width=1.5))
    wide = make_maps(galaxy, [top], MapConfig(exact=True, pixels=256, half_width=3.0))
    sums = {
        "n": wide["count"][0],
        "v": np.nan_to_num(wide["count"][0] * wide["velocity"][0]),
        "v2": np.nan_to_num(wide["count"][0] * (wide["velocity"][0] ** 2 + wide["sigma"][0] ** 2)),
    }
    sigma = np.hypot(0.5 / FWHM / wide.pixel, np.sqrt(1 / 12))
    soft = {name: gaussian_filter(image, sigma, truncate=6, mode="constant") for name, image in sums.items()}
    inner = (slice(64, 192), slice(64, 192))
    busy = soft["n"][inner] > 1
    n, v, v2 = (soft[name][inner][busy] for name in ("n", "v", "v2"))
    np.testing.assert_allclose(maps["count"][0][busy], n, rtol=0.02)
    np.testing.assert_allclose(maps["velocity"][0][busy], v / n, atol=2)
    np.testing.assert_allclose(maps["sigma"][0][busy], np.sqrt(v2 / n - (v / n) ** 2), atol=2)


def test_wrong_psfs_are_refused():
    for width in (0.0, -1.0, float("nan"), float("inf")):
        for kind in (GaussianPSF, DoubleGaussianPSF):
            with pytest.raises(ConfigError):
                kind(width)
    for values in (np.ones((2, 3)), np.zeros((3, 3)), -np.ones((3, 3)), np.ones(3), np.full((3, 3), np.nan)):
        with pytest.raises(ConfigError):
            ArrayPSF(values)


def test_smoothing_keeps_mass_and_moves_no_centre(top):
    for radius, place in ((0.0, 0.0), (0.2, 0.3), (1.0, -0.4), (9.0, 0.1)):
        galaxy = points([[place, 0.1, 0.0]], smoothing=[radius])
        maps = make_maps(galaxy, [top], MapConfig(smoothing=Adaptive(), half_width=16.0, exact=True))
        image = maps["count"][0]
        assert image.sum() == pytest.approx(1, rel=1e-12)
        at = (np.arange(128) + 0.5) * maps.pixel - 16
        level = int(np.clip(np.rint(np.log2(0.64 * max(radius, 1e-9) / maps.pixel)), 0, 5))
        assert abs((image @ at).sum() - place) <= maps.pixel * 2**level
        assert (image > 0).sum() >= 4**level


def test_smoothing_beside_the_field_is_as_in_a_larger_one(made_up, top):
    galaxy = made_up(3_000)
    small = make_maps(galaxy, [top], MapConfig(smoothing=Adaptive(levels=4), exact=True))
    large = make_maps(galaxy, [top], MapConfig(smoothing=Adaptive(levels=4), exact=True, pixels=256, half_width=4.0))
    inner = (slice(None), slice(64, 192), slice(64, 192))
    np.testing.assert_allclose(small["count"], large["count"][inner], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(small["velocity"], large["velocity"][inner], rtol=1e-7, atol=1e-6)


def test_smoothing_is_nearer_to_the_truth_than_counting(made_up, top):
    # few stars against the same galaxy with forty times as many
    truth = make_maps(made_up(200_000, seed=1), [top], MapConfig(pixels=64))["mass"][0] / 40
    galaxy = made_up(5_000, seed=2)
    plain = make_maps(galaxy, [top], MapConfig(pixels=64))["mass"][0]
    smooth = make_maps(galaxy, [top], MapConfig(pixels=64, smoothing=Adaptive()))["mass"][0]
    used = (plain > 0) & (truth > 0)

    def scatter(image):
        return np.sqrt(np.mean(np.log10(image[used] / truth[used]) ** 2))

    assert scatter(smooth) < 0.5 * scatter(plain)


def test_neighbour_radii(rng):
    position = rng.normal(size=(200, 3))
    wanted = np.sort(np.linalg.norm(position[:, None] - position[None], axis=2), axis=1)
    np.testing.assert_allclose(neighbour_radius(position, 32), wanted[:, 32])
    np.testing.assert_allclose(neighbour_radius(position[:5], 32), np.linalg.norm(
        position[:5, None] - position[None, :5], axis=2).max(axis=1))  # fmt: skip
    assert neighbour_radius(position[:1]).tolist() == [0]
    stars = points(position).stars
    given = levels_of(replace(stars, smoothing=np.full(200, 0.1 / 0.64 * 4)), 0.1, Adaptive())
    assert set(given) == {2}
    for wrong in ({"neighbours": 0}, {"factor": -1.0}, {"levels": 0}, {"levels": 9}):
        with pytest.raises(ConfigError):
            Adaptive(**wrong)


def test_apertures_have_the_area_they_should():
    for radius in (0.5, 1.0, 1.5):
        pixel = 4 / 256
        assert circle(radius, 256).sum() * pixel**2 == pytest.approx(np.pi * radius**2, rel=0.01)
        for angle in (0, 17, 30):
            area = hexagon(radius, 256, angle=angle).sum() * pixel**2
            assert area == pytest.approx(1.5 * np.sqrt(3) * radius**2, rel=0.01)
    flat = hexagon(1.0, 128)
    assert flat[64, 64 + 31]  # a corner to the right
    assert not flat[64 + 31, 64]
    np.testing.assert_array_equal(hexagon(1.0, 128, angle=60), flat)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError):
            circle(wrong)
        with pytest.raises(ConfigError):
            hexagon(wrong)


def test_signal_to_noise_of_counts():
    np.testing.assert_array_equal(signal_mask(np.array([0.0, 24, 25, 100]), 5), [False, False, True, True])


@pytest.fixture(scope="module")
def image(made_up, top):
    """Counts of a galaxy of 40,000 stars, and their maps."""
    return make_maps(made_up(40_000), [top], MapConfig(pixels=64))


@pytest.mark.parametrize("method", ["weighted", "centroidal", "accretion"])
def test_bins_reach_the_target(method, image):
    count = image["count"][0]
    bins = voronoi_bins(count, target=15.0, method=method)
    assert (bins.labels >= 0).sum() == (count > 0).sum() == bins.pixels.sum()
    assert set(np.unique(bins.labels)) == {-1, *range(len(bins))}
    # signal-to-noise of each bin, by hand
    for index in (0, len(bins) // 2, len(bins) - 1):
        assert bins.signal_to_noise[index] == pytest.approx(np.sqrt(count[bins.labels == index].sum()))
    joined = bins.pixels > 1
    assert np.median(bins.signal_to_noise[joined]) == pytest.approx(15, rel=0.15)
    if method == "weighted":
        assert bins.signal_to_noise[joined].std() / 15 < 0.15
    bright = count >= 15**2
    assert (bins.pixels[bins.labels[bright]] == 1).mean() > 0.9


def test_bins_are_compact(image):
    bins = voronoi_bins(image["count"][0], target=20.0)
    roundness = []
    for index in np.flatnonzero(bins.pixels > 5):
        row, column = np.nonzero(bins.labels == index)
        far = np.hypot(row - row.mean(), column - column.mean()).max()
        roundness.append(far / np.sqrt(len(row) / np.pi) - 1)
    assert np.median(roundness) < 0.5


def test_bins_of_flat_noise_are_equal():
    bins = voronoi_bins(np.ones((30, 30)), np.ones((30, 30)), target=4.0)
    assert np.median(bins.pixels) == pytest.approx(16, abs=3)


def test_binned_maps_keep_sums_and_means(image):
    bins = voronoi_bins(image["count"][0], target=10.0)
    binned = bin_maps(image, bins)
    inside = bins.labels >= 0
    for channel in ("count", "mass"):
        assert binned[channel][inside].sum() == pytest.approx(image[channel][0][inside].sum(dtype=float), rel=1e-6)
        assert np.isnan(binned[channel][~inside]).all()
    one = bins.labels == np.argmax(bins.pixels)
    n, v, s = (image[channel][0][one].astype(float) for channel in ("count", "velocity", "sigma"))
    mean = (n * v).sum() / n.sum()
    np.testing.assert_allclose(binned["velocity"][one], mean, rtol=1e-9)
    np.testing.assert_allclose(binned["sigma"][one], np.sqrt((n * (s**2 + v**2)).sum() / n.sum() - mean**2))
    m, age = image["mass"][0][one].astype(float), image["age"][0][one].astype(float)
    np.testing.assert_allclose(binned["age"][one], (m * age).sum() / m.sum())
    with pytest.raises(DataError, match="shape"):
        bin_maps(image, voronoi_bins(np.ones((8, 8)), target=2.0))


def test_binning_that_cannot_be_done_says_so():
    with pytest.raises(DataError, match="together reach"):
        voronoi_bins(np.ones((4, 4)), target=5.0)
    with pytest.raises(DataError, match="together reach"):
        voronoi_bins(np.zeros((4, 4)), target=5.0)
    with pytest.raises(DataError, match="noise"):
        voronoi_bins(np.ones((4, 4)), np.zeros((4, 4)), target=1.0)
    with pytest.raises(DataError, match="one shape"):
        voronoi_bins(np.ones((4, 4)), np.ones((4, 5)), target=1.0)
    for wrong in ({"target": -1.0}, {"target": 1.0, "method": "best"}, {"target": 1.0, "rounds": -1}):
        with pytest.raises(ConfigError):
            voronoi_bins(np.ones((4, 4)), **wrong)
    everything = voronoi_bins(np.ones((4, 4)), target=4.0)
    assert len(everything) == 1
    assert polyhedron(1)[0] == View([0, 0, 1])
