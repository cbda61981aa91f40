"""Crops, other numbers of pixels, and stretches, each against an obvious twin."""

from __future__ import annotations

import image_files as made
import numpy as np
import pytest
import torch
from astropy.visualization import AsinhStretch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from galineage.errors import ConfigError, DataError
from galineage.images import (
    ColourStretch,
    LogStretch,
    crop_cutout,
    resize,
    resize_cutout,
    stretch,
    stretch_all,
)
from galineage.light import rebin

GRI = ("hsc-g", "hsc-r", "hsc-i")


@pytest.fixture
def image(rng):
    """A cutout of 50 x 64 pixels with mask and variance."""
    values = rng.normal(0, 1, (3, 50, 64))
    return made.cutout(values, mask=np.arange(9600).reshape(3, 50, 64), variance=values**2, pixel_scale=0.2)


# --- crops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "pixels", "row", "column"), [(2.0, 10, 20, 27), (2.2, 11, 20, 27), (0.01, 4, 23, 30)])
def test_a_crop_is_the_middle(image, side, pixels, row, column):
    found = crop_cutout(image, side)
    np.testing.assert_array_equal(found.values, image.values[:, row : row + pixels, column : column + pixels])
    np.testing.assert_array_equal(found.mask, image.mask[:, row : row + pixels, column : column + pixels])
    np.testing.assert_array_equal(found.variance, found.values**2)
    assert found.meta["steps"] == [
        {"step": "crop", "row": row, "column": column, "pixels": pixels, "full": False}
    ]  # fmt: skip


def test_a_crop_of_odd_side_is_around_its_pixel(image):
    found = crop_cutout(image, 0.2 * 7, centre=(10.0, 20.0))
    np.testing.assert_array_equal(found.values, image.values[:, 7:14, 17:24])


def test_a_crop_stays_inside(image):
    np.testing.assert_array_equal(crop_cutout(image, 2.0, centre=(1.0, 62.0)).values, image.values[:, :10, 54:])
    whole = crop_cutout(image, 99.0)
    np.testing.assert_array_equal(whole.values, image.values[:, :, 7:57])
    assert whole.meta["steps"][0]["full"] is True
    with pytest.raises(ConfigError):
        crop_cutout(image, 0.0)


# --- other pixels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [20, 47, 64, 200])
@pytest.mark.parametrize("new", [31, 64, 128])
def test_bilinear_is_that_of_torch(rng, old, new):
    values = rng.normal(0, 1, (2, old, old))
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None], size=(new, new), mode="bilinear", antialias=True, align_corners=False
    )[0].numpy()
    np.testing.assert_allclose(resize(values, new), wanted, atol=1e-12)


@pytest.mark.parametrize("old", [20, 47, 64, 200])
@pytest.mark.parametrize("new", [31, 64, 128])
def test_area_is_that_of_shared_pixels(rng, old, new):
    values = rng.normal(0, 1, (2, old, old))
    flux = rebin(values, 1.0, old / new, (new, new))
    np.testing.assert_allclose(resize(values, new, "area") * (old / new) ** 2, flux, atol=1e-12)
    np.testing.assert_allclose(flux.sum(axis=(1, 2)), values.sum(axis=(1, 2)), rtol=1e-12)


def test_nan_is_left_out():
    values = np.ones((8, 8))
    values[2:6, 2:4] = np.nan
    for method in ("area", "bilinear"):
        found = resize(values, 4, method)
        assert np.isnan(found[1:3, 1]).all()
        np.testing.assert_allclose(found[np.isfinite(found)], 1)
        assert np.isfinite(found).sum() == 14


def test_a_cutout_keeps_its_flux_and_field(rng):
    cut = made.cutout(made.blob(60, noise=0.0), pixel_scale=0.168, variance=np.ones((3, 60, 60)))
    for method, tolerance in (("area", 1e-12), ("bilinear", 2e-3)):
        found = resize_cutout(cut, 128, method)
        np.testing.assert_allclose(found.flux, cut.flux, rtol=tolerance)
        assert found.pixel_scale * 128 == pytest.approx(0.168 * 60)
        assert (found.variance, found.mask, found.psf) == (None, None, None)
        assert found.meta["steps"][-1]["method"] == method
    with pytest.raises(ConfigError, match="50 x 64"):
        resize_cutout(made.cutout(rng.normal(0, 1, (3, 50, 64))), 32)
    with pytest.raises(ConfigError):
        resize(np.ones((4, 4)), 0)
    with pytest.raises(ConfigError):
        resize(np.ones((4, 4)), 8, "cubic")


# --- the published stretch ----------------------------------------------------------------------------------------


def published(band, centre=20):
    """Step 5 of the published recipe, pixel by pixel."""
    rows, columns = band.shape
    logs = [[None] * columns for _ in range(rows)]
    for y in range(rows):
        for x in range(columns):
            value = float(band[y, x])
            if value > 0 and np.log10(value) >= -7:
                logs[y][x] = float(np.log10(value))
    low = np.median([value for line in logs for value in line if value is not None])
    y, x = ((side - min(side, centre)) // 2 for side in band.shape)
    inner = [value for line in logs[y : y + centre] for value in line[x : x + centre] if value is not None]
    high = np.quantile(inner, 0.99)
    return np.array(
        [[(min(max(low if v is None else v, low), high) - low) / (high - low) for v in line] for line in logs]
    )


@pytest.mark.parametrize("side", [12, 20, 33, 64])
def test_the_stretch_is_the_published_one(side):
    image = np.stack([made.blob(side, seed=k, noise=3e-4) for k in range(3)])
    image[0, 0, 0], image[1, 1, 1], image[2, 3, 3] = np.nan, 0.0, 1e-8
    found = stretch(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack([published(band) for band in image]), atol=1e-6)
    assert found.min() == 0
    assert found.max() == 1
    assert found[0, 0, 0] == found[1, 1, 1] == found[2, 3, 3] == 0


def test_it_erases_brightness_and_colour():
    image = np.stack([made.blob(seed=k, noise=3e-4) for k in range(3)])
    how = LogStretch(floor=-30)
    brighter = image * np.array([1.0, 7.0, 90.0])[:, None, None]
    np.testing.assert_allclose(stretch(brighter, how), stretch(image, how), atol=1e-5)


def test_eight_bits_are_the_nearest_of_256(rng):
    image = np.stack([made.blob(seed=k) for k in range(3)])
    found = stretch(image, eight_bit=True)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(stretch(image) * 255))


def test_joint_limits_keep_colours():
    image = np.stack([made.blob(seed=1, flux=flux, noise=1e-5) for flux in (1.0, 2.0, 4.0)])
    found = stretch(image, LogStretch(joint=True))
    middle = found[:, 25:35, 25:35]
    assert (middle[0] < middle[1]).all()
    apart = np.log10(image[:, 25:35, 25:35])
    span = (middle[1] - middle[0]) / (apart[1] - apart[0])
    np.testing.assert_allclose(span[middle[1] < 1], span[0, 0], rtol=1e-3)


@pytest.mark.parametrize("how", [LogStretch(), LogStretch(joint=True), ColourStretch(), ColourStretch(1e-3, 0.1)])
def test_many_images_are_each_as_alone(how):
    images = np.stack([np.stack([made.blob(40, seed=k + 9 * n, flux=n + 1) for k in range(3)]) for n in range(6)])
    images[2, :, 4] = np.nan
    images[3, 1] = -1.0 if isinstance(how, LogStretch) and not how.joint else np.nan
    together, reasons = stretch_all(images, how)
    for k, image in enumerate(images):
        if reasons[k]:
            with pytest.raises(DataError, match="in the middle"):
                stretch(image, how)
            assert (together[k] == 0).all()
        else:
            np.testing.assert_array_equal(together[k], stretch(image, how))
    assert [bool(reason) for reason in reasons] == [False, False, False, not how_joint(how), False, False]
    again, _ = stretch_all(images[::-1], how)
    np.testing.assert_array_equal(again[::-1], together)


def how_joint(how):
    return isinstance(how, LogStretch) and how.joint


# --- the stretch that keeps colours -------------------------------------------------------------------------------


def test_colours_are_kept():
    image = np.stack([made.blob(seed=1, flux=flux, noise=1e-4) for flux in (1.0, 2.0, 4.0)])
    found = stretch(image, ColourStretch())
    seen = (image > 0).all(axis=0)
    assert seen.sum() > 1000
    for k in (0, 1):
        np.testing.assert_allclose(found[k][seen] / found[2][seen], image[k][seen] / image[2][seen], rtol=1e-4)
    assert found.min() == 0
    assert found.max() <= 1


def test_grey_is_the_inverse_sine():
    grey = np.stack([made.blob(noise=0.0)] * 3)
    found = stretch(grey, ColourStretch(softening=1e-4, white=0.02))
    wanted = AsinhStretch(a=1e-4 / 0.02)(np.minimum(grey / 0.02, 1.0), clip=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_with_both_limits_brightness_stays_comparable():
    how = ColourStretch(softening=1e-4, white=0.05)
    image = np.stack([made.blob(noise=0.0, flux=flux) for flux in (1.0, 2.0, 4.0)])
    assert (stretch(2 * image, how) > stretch(image, how)).mean() > 0.9


def test_a_single_bright_pixel_on_nothing_has_a_stretch():
    image = np.zeros((1, 1, 9, 12))
    image[0, 0, 0, 0] = 1.0
    found, reasons = stretch_all(image, ColourStretch())
    assert reasons == [""]
    assert found[0, 0, 0, 0] == found.max() > 0.5


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=32),
    ),
    st.sampled_from([LogStretch(), LogStretch(joint=True), ColourStretch(), ColourStretch(1.0, 2.0)]),
)
def test_any_image_ends_in_the_unit_interval_or_with_a_reason(image, how):
    found, reasons = stretch_all(image[None], how)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert not reasons[0] or (found == 0).all()


def test_impossible_stretches_are_refused():
    for make in (lambda: LogStretch(quantile=0), lambda: LogStretch(centre=0), lambda: ColourStretch(softening=-1)):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(ConfigError, match="shape"):
        stretch_all(np.ones((3, 4, 4)))
