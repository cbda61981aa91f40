"""The published refinement against a slow and obvious twin written with scipy, and its named other orders."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from galineage.errors import ConfigError, DataError
from galineage.views import (
    APERTURE_FIRST,
    PUBLISHED,
    VALID_ONLY,
    MapConfig,
    Refinement,
    make_maps,
    particle_mask,
    polyhedron,
    refine,
    refine_values,
)
from galineage.views.masks import circle


def nearest_rank(values, percentile):
    """Angeloudi+2023's map maker: the first value whose share of the sorted list passes the percentile."""
    return np.sort(values.ravel())[min(int(percentile / 100 * values.size), values.size - 1)]


def slow(maps, view, config):  # noqa: C901 - a list of steps
    """One view, step by step, as methods describe it."""
    count = maps["count"][view].astype(np.float64)
    keep = count > max(nearest_rank(count, config.percentile), config.least)
    aperture = None
    if config.aperture is not None:
        side = len(count)
        middle = side // 2 if config.aperture_centre == "pixel" else (side - 1) / 2
        y, x = np.ogrid[:side, :side]
        aperture = np.hypot(x - middle, y - middle) <= config.aperture * side / (2 * maps.config.half_width)
        if config.aperture_order == "before":
            keep &= aperture
    out = []
    for channel in config.channels:
        image = np.where(keep, maps[channel][view].astype(np.float64), np.nan)
        if channel == "metallicity":
            image /= 0.0127
        if channel in ("mass", "metallicity"):
            image[image == 0] = 1
            image = np.log10(image)
        if channel == "metallicity":
            image = image.clip(-config.metallicity_limit, config.metallicity_limit)
        if channel == "velocity" and keep.any():
            limit = min(abs(np.nanmin(image)), abs(np.nanmax(image)), config.velocity_limit)
            image = image.clip(-limit, limit)
        if channel == "sigma":
            image = image.clip(None, config.sigma_limit)
        image[~np.isfinite(image)] = 0
        if config.smooth:
            image = gaussian_filter(image, sigma=config.smooth)
        used = keep if config.standardise == "valid" else np.ones_like(keep)
        if config.standardise != "none":
            values = image[used] if used.any() else np.zeros(1)
            image = (image - values.mean()) / max(values.std(), 1 / np.sqrt(max(used.sum(), 1)))
            image[~used] = 0
        if aperture is not None and config.aperture_order == "after":
            image[~aperture] = 0
        out.append(image)
    return np.stack(out), keep


WAYS = {
    "published": PUBLISHED,
    "valid pixels only": VALID_ONLY,
    "aperture after": replace(PUBLISHED, aperture=1.0),
    "aperture first": replace(APERTURE_FIRST, aperture=0.5),
    "aperture first, valid": replace(APERTURE_FIRST, aperture=1.0, standardise="valid", aperture_centre="middle"),
    "not standardised": replace(PUBLISHED, standardise="none"),
    "as for MaNGIA": replace(PUBLISHED, velocity_limit=200.0, sigma_limit=250.0),
    "wider": replace(PUBLISHED, smooth=1.7),
    "not smoothed": replace(PUBLISHED, smooth=0.0, percentile=90.0),
    "two channels": replace(PUBLISHED, channels=("age", "velocity")),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [300, 5_000, 60_000])
def test_refined_maps_are_those_of_the_slow_twin(way, count, made_up):
    config = WAYS[way]
    maps = make_maps(made_up(count), polyhedron(6))
    refined = refine(maps, config)
    assert refined.values.dtype == np.float32
    assert refined.channels == config.channels
    for view in range(6):
        wanted, keep = slow(maps, view, config)
        np.testing.assert_array_equal(refined.mask[view], keep)
        scale = 1 if config.standardise != "none" else 250
        np.testing.assert_allclose(refined.values[view], wanted, rtol=2e-5, atol=2e-5 * scale)


@pytest.mark.parametrize("pixels", [8, 33, 64])
def test_other_sizes_and_float64_maps(pixels, disc):
    maps = make_maps(disc, polyhedron(2), MapConfig(pixels=pixels, exact=True))
    refined = refine(maps)
    for view in range(2):
        np.testing.assert_allclose(refined.values[view], slow(maps, view, PUBLISHED)[0], rtol=2e-5, atol=2e-5)


def test_few_stars_leave_nothing_and_no_nan(made_up):
    refined = refine(make_maps(made_up(3), polyhedron(1)))
    assert not refined.mask.any()
    assert not refined.values.any()


def test_velocities_clip_at_the_smaller_extreme(made_up):
    # |min| 80, |max| 300: symmetric at 80
    values = np.zeros((1, 2, 16, 16), np.float32)
    values[0, 0, 4:8, 4:8] = 9
    values[0, 1, 4:8, 4:8] = np.linspace(-80, 300, 16).reshape(4, 4)
    raw = Refinement(channels=("velocity",), smooth=0.0, standardise="none")
    out, mask = refine_values(values, ("count", "velocity"), 2.0, raw)
    assert mask.sum() == 16
    assert (out.min(), out.max()) == (-80, 80)


def test_a_missing_channel_is_zero_and_said_to_be_missing(disc):
    stars = replace(disc.stars, age=None)
    maps = make_maps(replace(disc, stars=stars), polyhedron(2))
    assert maps.missing == ("age",)
    refined = refine(maps)
    assert refined.missing == ("age",)
    assert not refined.values[:, refined.channels.index("age")].any()
    assert refined.values[:, 0].any()


@pytest.mark.parametrize("count", [10, 700, 20_000])
def test_the_particle_rule_keeps_a_quarter_at_most(count, made_up):
    image = make_maps(made_up(count), polyhedron(1))["count"][0]
    keep = particle_mask(image)
    np.testing.assert_array_equal(keep, image > max(nearest_rank(image, 75), 2))
    assert keep.mean() <= 0.25
    assert not keep.any() or image[keep].min() >= 3


def test_the_limit_is_right_for_counts_that_are_large_or_not_whole(rng):
    for image in (
        rng.uniform(0, 30, (32, 32)),
        rng.integers(0, 10**6, (32, 32)).astype(float),
        np.full((32, 32), 5000.0),
        rng.integers(0, 4, (32, 32)).astype(float),
    ):
        for percentile in (0, 25, 75, 99, 100):
            keep = particle_mask(image, percentile, 0.0)
            np.testing.assert_array_equal(keep, image > max(nearest_rank(image, percentile), 0))


def test_the_published_aperture_is_half_a_pixel_off_the_middle():
    whole, published = circle(1.0), circle(1.0, centre="pixel")
    assert published[64, 64 + 32]
    assert published[64, 64 - 32]
    assert not published[64, 64 - 33]
    np.testing.assert_array_equal(whole, whole[::-1, ::-1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": ("stars",)}, {"channels": ()}, {"standardise": "some"}, {"aperture_order": "first"},
        {"aperture_centre": "x"}, {"percentile": 101.0}, {"smooth": -1.0}, {"velocity_limit": float("nan")},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        Refinement(**wrong)


def test_maps_that_cannot_be_masked_are_refused():
    with pytest.raises(DataError, match="no count"):
        refine_values(np.zeros((1, 1, 8, 8), np.float32), ("mass",), 2.0)
    with pytest.raises(DataError, match="shape"):
        refine_values(np.zeros((1, 1, 8, 8), np.float32), ("mass", "count"), 2.0)


def test_settings_are_json():
    import json

    assert json.loads(json.dumps(WAYS["aperture first"].describe()))["aperture_order"] == "before"


@pytest.mark.parametrize("smooth", [0.6, 1.7])
@pytest.mark.parametrize("place", [(0, 3), (29, 32), (0, 32), (10, 11), (1, 2), (30, 31)])
def test_kept_pixels_at_edges_are_smoothed_as_scipy_does(place, smooth, rng):
    values = np.zeros((1, 2, 32, 32), np.float32)
    rows = slice(*place)
    values[0, 0, rows, 3:9] = values[0, 0, rows, :1] = 9
    values[0, 1] = rng.normal(5, 1, (32, 32))
    config = Refinement(channels=("age",), percentile=0.0, smooth=smooth)
    out, mask = refine_values(values, ("count", "age"), 2.0, config)
    wanted = gaussian_filter(np.where(mask[0], values[0, 1], 0).astype(float), smooth)
    wanted = (wanted - wanted.mean()) / max(wanted.std(), 1 / 32)
    np.testing.assert_allclose(out[0, 0], wanted, atol=2e-6)


def test_half_precision_maps_are_widened(disc):
    maps = make_maps(disc, polyhedron(1))
    rounded = maps.values.copy()
    rounded[:, 1] /= 1e8  # masses above 65,504 do not fit
    half = rounded.astype(np.float16)
    found, mask = refine_values(half, maps.channels, 2.0)
    wanted, same = refine_values(half.astype(np.float32), maps.channels, 2.0)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(mask, same)


def test_logarithms_are_right_to_the_last_place():
    values = np.full((1, 2, 64, 64), 9, np.float32)
    values[0, 1] = np.logspace(-30, 30, 64 * 64).reshape(64, 64)
    config = Refinement(channels=("mass",), percentile=0.0, smooth=0.0, standardise="none")
    values[0, 0, 0, 0] = 0  # the limit is then 2
    out, mask = refine_values(values, ("count", "mass"), 2.0, config)
    wanted = np.log10(values[0, 1].astype(float))
    assert mask.sum() == 64 * 64 - 1
    error = np.abs(out[0, 0] - wanted)[mask[0]]
    assert (error <= 1.5 * np.spacing(np.abs(wanted[mask[0]]).astype(np.float32)) + 1e-7).all()
