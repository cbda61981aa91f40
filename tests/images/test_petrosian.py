"""Petrosian sizes: right where they are known, steady under noise, PSF and neighbours; never an exception."""

from __future__ import annotations

from itertools import product

import image_files as made
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from photutils.aperture import EllipticalAperture
from scipy.optimize import brentq
from scipy.special import gamma, gammainc, gammaincinv

from galineage.errors import ConfigError
from galineage.images import PetrosianConfig, growth, measure_petrosian
from galineage.images.detection import CentralSource
from galineage.images.growth import Growth
from galineage.light import GaussianSeeing, convolve
from galineage.sources.images import read_cutout

GRI = ("hsc-g", "hsc-r", "hsc-i")


def known(n, eta=0.2, aperture=2.0):
    """r_petro, R50 and R90 of a Sersic profile in effective radii, by its integrals (Graham & Driver 2005)."""
    b = gammaincinv(2 * n, 0.5)

    def light(x):
        return gammainc(2 * n, b * x ** (1 / n))

    def ratio(x):
        return np.exp(-b * x ** (1 / n)) * x**2 * b ** (2 * n) / (2 * n * gamma(2 * n) * light(x))

    petro = brentq(lambda x: ratio(x) - eta, 0.5, 30)
    total = light(aperture * petro)
    return petro, *(brentq(lambda x, f=f: light(x) - f * total, 0.01, 60) for f in (0.5, 0.9))


def sersic(n, r_e, side=128, ratio=0.7, angle=30.0, centre=(0.0, 0.0), sub=9):
    """Sersic profile averaged over pixels (side, side), brightness 1 at the effective radius."""
    line = (np.arange(side * sub) + 0.5) / sub - side / 2
    y, x = (each - shift for each, shift in zip(np.meshgrid(line, line, indexing="ij"), centre, strict=True))
    turn = np.deg2rad(angle)
    major, minor = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    b = gammaincinv(2 * n, 0.5)
    light = np.exp(-b * ((np.hypot(major, minor / ratio) / r_e) ** (1 / n) - 1))
    return light.reshape(side, sub, side, sub).mean(axis=(1, 3))


def measured(image, pixel_scale=1.0, **changes):
    return measure_petrosian(made.cutout(image, ("r",), pixel_scale), PetrosianConfig(**changes))


def test_the_reference_is_the_published_one():
    assert known(1)[0] == pytest.approx(2.16, abs=0.005)
    assert known(4)[0] == pytest.approx(1.82, abs=0.005)


@pytest.mark.parametrize(("n", "r_e", "tolerance"), [(0.5, 8, 0.01), (1, 8, 0.01), (2, 8, 0.01), (4, 10, 0.015)])
@pytest.mark.parametrize("ratio", [0.4, 1.0])
def test_sizes_of_sersic_profiles(n, r_e, tolerance, ratio):
    found = measured(sersic(n, r_e, 128 if n < 4 else 200, ratio, centre=(0.3, -0.2)), pixel_scale=0.2)
    petro, half, most = (0.2 * r_e * value for value in known(n))
    assert found.r_petro == pytest.approx(petro, rel=tolerance)
    assert found.r50 == pytest.approx(half, rel=tolerance)
    assert found.r90 == pytest.approx(most, rel=tolerance)
    assert found.axis_ratio == pytest.approx(ratio, abs=0.02)
    assert found.unseen < 0.02 or n == 4
    middle = 63.5 if n < 4 else 99.5
    assert (found.row, found.column) == pytest.approx((middle + 0.3, middle - 0.2), abs=0.05)
    if ratio < 1:
        assert min(abs(found.angle - 30), abs(found.angle - 210)) < 1


def test_flux_is_that_of_the_aperture():
    image = sersic(1, 8, ratio=1.0)
    found = measured(image * 1e-3)
    inside = np.hypot(*np.meshgrid(np.arange(128) - 63.5, np.arange(128) - 63.5)) < 2 * found.r_petro
    assert found.flux == pytest.approx(1e-3 * image[inside].sum(), rel=0.002)
    assert found.magnitude == pytest.approx(22.5 - 2.5 * np.log10(found.flux))
    assert found.concentration == pytest.approx(known(1)[2] / known(1)[1], rel=0.01)


@pytest.mark.parametrize(("ratio", "angle"), [(1.0, 0.0), (0.5, 0.0), (0.4, 30.0), (0.1, 77.0), (0.7, 45.0)])
def test_straight_edges_are_as_good_as_exact_ones(rng, ratio, angle):
    image, valid = rng.uniform(0, 1, (90, 80)), rng.uniform(0, 1, (90, 80)) > 0.1
    source = CentralSource(44.3, 40.1, ratio, angle, valid, ~valid)
    ellipses = growth._Ellipses(np.where(valid, image, 0), valid, source)
    for radius in (8.0, 12.1, 15.3, 33.0, 60.0):
        aperture = EllipticalAperture((40.1, 44.3), radius, radius * ratio, theta=np.deg2rad(angle))
        weights = aperture.to_mask(method="exact").to_image(image.shape)
        if radius * ratio >= growth.EXACT:
            for row, column in rng.permutation(np.argwhere((weights > 0) & (weights < 1)))[:50]:
                alone = np.zeros(image.shape, dtype=bool)
                alone[row, column] = True
                part, _ = growth._Ellipses(alone.astype(float), alone, source).inside(radius)
                assert part == pytest.approx(weights[row, column], abs=0.02)
        light, area = ellipses.inside(radius)
        assert light == pytest.approx((weights * image)[valid].sum(), rel=1e-3)
        assert area == pytest.approx(weights[valid].sum(), rel=1e-3)


def test_circles_on_a_round_galaxy_are_ellipses():
    image = sersic(1, 8, ratio=1.0)
    assert measured(image, elliptical=False).r90 == pytest.approx(measured(image).r90, rel=1e-3)


@pytest.mark.parametrize(("noise", "tolerance"), [(0.02, 0.01), (0.1, 0.03)])
def test_noise_moves_sizes_little(rng, noise, tolerance):
    image = sersic(1, 8)
    sizes = np.array([measured(image + noise * rng.standard_normal(image.shape)).r90 for _ in range(8)])
    assert np.mean(sizes) == pytest.approx(8 * known(1)[2], rel=tolerance)
    assert np.std(sizes) < 0.03 * np.mean(sizes)


def test_a_psf_adds_to_the_size_as_it_should():
    image = sersic(1, 8, ratio=1.0)
    blurred = convolve(image, GaussianSeeing(3.5).kernel(1.0))
    assert 1 < measured(blurred).r90 / measured(image).r90 < 1.03
    star = GaussianSeeing(6.0).kernel(1.0)
    alone = measured(np.pad(star, 30))
    sigma = 6.0 / 2.3548
    # a Gaussian is a Sersic profile of n = 0.5 with r_e = 1.177 sigma; pixels add a twelfth to its variance twice
    assert alone.r90 == pytest.approx(1.1774 * np.hypot(sigma, 0.41) * known(0.5)[2], rel=0.005)


def test_neighbours_are_left_out(rng):
    alone = sersic(1, 6)
    crowd = (
        alone + 3 * sersic(1, 3, centre=(22, 18)) + sersic(2, 3, centre=(-30, 9)) + 2 * sersic(1, 2, centre=(5, -33))
    )
    noise = 0.02 * rng.standard_normal(alone.shape)
    clean, crowded = measured(alone + noise), measured(crowd + noise)
    assert crowded.r90 == pytest.approx(clean.r90, rel=0.05)
    assert crowded.unseen > 0


def test_bad_pixels_and_masks_are_filled_by_their_rings(rng):
    image = sersic(1, 8) + 0.01 * rng.standard_normal((128, 128))
    holes = image.copy()
    holes[70:80, 40:60] = np.nan
    holes[:, 100:104] = np.nan
    assert measured(holes).r90 == pytest.approx(measured(image).r90, rel=0.03)
    spoiled = image.copy()
    spoiled[70:80, 40:60] = 50.0
    mask = np.zeros((1, 128, 128), np.int32)
    mask[0, 70:80, 40:60] = 4
    cut = made.cutout(spoiled, ("r",), 1.0, mask=mask)
    assert measure_petrosian(cut, PetrosianConfig(bad_bits=4)).r90 == pytest.approx(measured(image).r90, rel=0.03)


def test_an_even_sky_is_subtracted_when_asked(rng):
    image = sersic(1, 6) + 0.02 * rng.standard_normal((128, 128))
    assert measured(image + 0.5, subtract_sky=True).r90 == pytest.approx(measured(image).r90, rel=0.05)


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1e9])
def test_sizes_do_not_depend_on_the_unit(unit):
    image = sersic(1, 6)
    assert measured(image * unit).r90 == pytest.approx(measured(image).r90, rel=1e-9)
    assert measured(image * unit).flux == pytest.approx(measured(image).flux * unit, rel=1e-9)


def _masked():
    image = sersic(1, 6)
    image[58:70, 58:70] = np.nan
    return image


BAD = {
    "no finite pixel": lambda rng: np.full((64, 64), np.nan),
    "flat image": lambda rng: np.full((64, 64), 0.25),
    "masked centre": lambda rng: _masked(),
    "no source at the centre": lambda rng: 1e-3 * rng.standard_normal((64, 64)),
    "radius beyond the image": lambda rng: sersic(4, 60, side=40),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_image_gets_its_reason(rng, reason):
    found = measured(BAD[reason](rng))
    assert found.reason == reason
    assert not found.ok
    assert np.isnan(list(found.numbers().values())).all()
    assert np.isnan(found.magnitude)


def test_more_bad_images_get_their_reasons(rng):
    noise = 0.01 * rng.standard_normal((128, 128))
    assert measured(sersic(1, 4, centre=(30, 30)) + noise).reason == "no source at the centre"
    assert measured(np.zeros((64, 64))).reason == "flat image"
    assert measured(-sersic(1, 6)).reason == "no source at the centre"
    assert measured(sersic(1, 9, side=42, ratio=1.0), most_unseen=0.1).reason == "aperture beyond the image"
    infinite = np.full((64, 64), np.inf)
    assert measured(infinite).reason == "no finite pixel"
    assert measured(np.zeros((3, 3)) + np.eye(3)).reason


def test_ellipses_in_even_places_are_whole():
    """Where edges touch edges and corners of pixels, exactly."""
    full = np.ones((40, 40), bool)
    for ratio, angle in product((0.2, 0.25, 0.5, 0.75, 1.0), (0.0, 45.0, 90.0, 180.0)):
        for row, column in product((19.0, 19.25, 19.5), repeat=2):
            ellipses = growth._Ellipses(full.astype(float), full, CentralSource(row, column, ratio, angle, full, ~full))
            for radius in np.arange(0.5, 12, 0.5):
                assert ellipses.inside(radius) == pytest.approx(2 * (np.pi * ratio * radius**2,), rel=1e-9)


SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))
UNLIT = np.zeros((8, 16))  # its source has no light above the sky, and is bright when smoothed
UNLIT[:5, :14], UNLIT[5, :7], UNLIT[5, 7:14], UNLIT[6, 7:14] = 2, 2, 3, 1


@settings(max_examples=80, deadline=None)
@given(
    arrays(np.float64, SHAPES, elements=st.floats(allow_nan=True, allow_infinity=True, width=32))
    | arrays(np.float64, SHAPES, elements=st.sampled_from([0, 1]))  # sources in even places, of even axis ratios
)
@example(np.pad([[1.0], [1.0]], ((0, 2), (0, 3))))
@example(UNLIT)
def test_no_image_is_an_exception(image):
    found = measured(image)
    assert found.ok == (not found.reason)
    assert not found.ok or (0 < found.r50 < found.r90 and np.isfinite(found.r_petro))


def test_the_band_is_r_unless_named():
    faint, bright = sersic(1, 4), sersic(1, 8)
    cut = made.cutout(np.stack([faint, bright, faint]), GRI, 1.0)
    assert measure_petrosian(cut).r90 == pytest.approx(8 * known(1)[2], rel=0.01)
    assert measure_petrosian(cut, PetrosianConfig(band="hsc-g")).r90 < 0.6 * measure_petrosian(cut).r90
    with pytest.raises(ConfigError, match="no band 'hsc-y'"):
        measure_petrosian(cut, PetrosianConfig(band="hsc-y"))
    with pytest.raises(ConfigError, match="no band r"):
        measure_petrosian(made.cutout(np.stack([faint, faint]), ("g", "i"), 1.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"eta": 0},
        {"eta": 1.2},
        {"aperture": np.inf},
        {"sigmas": np.nan},
        {"reach": 2},
        {"contrast": 2},
        {"bad_bits": -1},
    ],
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ConfigError):
        PetrosianConfig(**changes)


def test_a_curve_of_growth_has_plain_answers():
    curve = Growth(
        radii=np.arange(11.0),
        flux=np.arange(11.0) ** 2,
        brightness=np.ones(10),
        seen=np.pi * np.arange(11.0) ** 2 * 0.75,
        axis_ratio=1.0,
    )
    assert curve.inside(5.0) == pytest.approx(25)
    assert curve.inside(99) == pytest.approx(100)
    assert curve.radius_of(25.0) == pytest.approx(5, abs=0.05)
    assert np.isnan(curve.radius_of(101.0))
    assert curve.unseen(8.0) == pytest.approx(0.25)


@pytest.mark.data
def test_real_galaxies_have_sizes(real):
    for path in sorted((real / "hsc_mocks_tng50").glob("*.fits")):
        found = measure_petrosian(read_cutout(path))
        assert found.ok
        assert 1.5 < found.r90 < 4.0
        assert abs(found.row - 44 if "084" in path.name else found.row - 54) < 3
        assert measure_petrosian(read_cutout(path), PetrosianConfig(elliptical=False)).r90 == pytest.approx(
            found.r90, rel=0.15
        )
    archive = real / "hsc_real" / "hsc_cosmos_35.npz"
    cosmos = measure_petrosian(read_cutout(archive, bands=GRI, zero_point=27.0, pixel_scale=0.168))
    assert cosmos.ok
    assert cosmos.unseen > 0.1  # a blend at the edge
    legacy = read_cutout(real / "hsc_real" / "legacysurvey_dr9_grz_256.fits")
    assert measure_petrosian(legacy, PetrosianConfig(elliptical=False)).r90 == pytest.approx(18.3, abs=0.5)
    # in ellipses the light of its cluster never lets it fall to 0.2
    assert measure_petrosian(legacy).reason == "radius beyond the image"
    small = real / "hsc_real" / "hsc_ra=150.24071_dec=2.06514.fits"
    assert measure_petrosian(read_cutout(small, bands=[f"hsc-{b}" for b in "grizy"], zero_point=27.0)).reason
