"""Pixels of other sizes, and point-spread functions: the light stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from galineage.cutouts import Cutout
from galineage.errors import ConfigError
from galineage.light import GaussianSeeing, MeasuredSeeing, MoffatSeeing, convolve, rebin, rebin_cutout

SEEINGS = [GaussianSeeing(0.6), MoffatSeeing(0.6), MoffatSeeing(0.6, beta=2.5, reach=15)]


def twin_rebin(image, ratio, side):
    """Cut every pixel into 60 x 60 small ones and put each where its middle is."""
    fine = 60
    middle = ((np.arange(len(image) * fine) + 0.5) / fine - len(image) / 2) / ratio + side / 2
    place = np.floor(middle).astype(int)
    small = np.repeat(np.repeat(image, fine, 0), fine, 1) / fine**2
    out = np.zeros((side, side))
    inside = (place >= 0) & (place < side)
    np.add.at(out, np.ix_(place[inside], place[inside]), small[np.ix_(inside, inside)])
    return out


@pytest.mark.parametrize(("ratio", "side"), [(0.5, 20), (2.0, 6), (1.5, 8), (0.75, 14), (1.0, 7), (3.0, 3)])
def test_rebinning_equals_cutting_pixels_small(ratio, side, rng):
    image = rng.uniform(0, 1, (10, 10))
    assert np.abs(rebin(image, 1.0, ratio, (side, side)) - twin_rebin(image, ratio, side)).max() < 1e-2


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.2, 7.0))
def test_rebinning_keeps_the_light_and_the_middle(rows, columns, ratio):
    image = np.random.default_rng(rows * 100 + columns).uniform(0, 1, (2, rows, columns))
    found = rebin(image, 1.0, ratio)
    assert found.sum(axis=(1, 2)) == pytest.approx(image.sum(axis=(1, 2)), rel=1e-9)
    turned = rebin(image[:, ::-1, ::-1], 1.0, ratio)
    assert turned == pytest.approx(found[:, ::-1, ::-1]), "the middle stays the middle"
    assert (found.shape[1] - rows) % 2 == 0


def test_rebinning_there_and_back_is_exact():
    image = np.random.default_rng(0).uniform(0, 1, (12, 12))
    assert rebin(rebin(image, 1.0, 1 / 3), 1.0, 3.0) == pytest.approx(image)


@pytest.mark.parametrize(("old", "new"), [(0.0, 1.0), (1.0, -1.0), (1.0, np.nan), (1.0, 1e-6)])
def test_impossible_pixels_are_refused(old, new):
    with pytest.raises(ConfigError):
        rebin(np.ones((8, 8)), old, new)


def test_rebinned_cutout_says_so():
    cutout = Cutout(np.ones((1, 8, 8)), ("hsc-g",), 0.1, variance=np.ones((1, 8, 8)), mask=np.ones((1, 8, 8), int))
    found = rebin_cutout(cutout, 0.2)
    assert found.values.shape == (1, 4, 4)
    assert found.variance[0, 0, 0] == pytest.approx(4)
    assert found.mask is None
    assert found.pixel_scale == 0.2
    assert found.meta["steps"] == [{"step": "rebin", "from_arcsec": 0.1, "to_arcsec": 0.2}]
    assert rebin_cutout(cutout, 0.1) is cutout


# --- point-spread functions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeing", SEEINGS)
@pytest.mark.parametrize("scale", [0.05, 0.168, 0.7])
def test_kernels_are_odd_centred_and_hold_all_light(seeing, scale):
    kernel = seeing.kernel(scale)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert (kernel >= 0).all()
    assert kernel == pytest.approx(kernel[::-1, ::-1])
    assert kernel == pytest.approx(kernel.T)


@pytest.mark.parametrize("seeing", SEEINGS)
def test_kernels_have_the_width_they_are_told(seeing):
    kernel = seeing.kernel(0.02)
    line = kernel[len(kernel) // 2]
    half = np.interp(0.5 * line.max(), line[: len(line) // 2 + 1], np.arange(len(line) // 2 + 1))
    assert 2 * (len(line) // 2 - half) * 0.02 == pytest.approx(seeing.fwhm, rel=0.01)


def test_moffat_loses_as_much_as_it_says():
    # light within r of a Moffat function: 1 - (1 + r^2 / a^2)^(1 - beta)
    seeing = MoffatSeeing(1.0, beta=3.0)
    a = 1 / (2 * np.sqrt(2 ** (1 / 3) - 1))
    assert (1 + 8**2 / a**2) ** -2 < 2.5e-4
    kernel = seeing.kernel(0.1)
    line = (np.arange(len(kernel)) - len(kernel) // 2) * 0.1
    inside = kernel[np.hypot(line[:, np.newaxis], line) < 2.0].sum()
    assert inside == pytest.approx(1 - (1 + 4 / a**2) ** -2, abs=2e-3)


@pytest.mark.parametrize("seeing", [*SEEINGS, MeasuredSeeing(GaussianSeeing(0.6).kernel(0.168), 0.168)])
def test_blurring_keeps_the_light(seeing, rng):
    image = np.zeros((161, 161))
    image[60:100, 60:100] = rng.uniform(0, 1, (40, 40))
    blurred = convolve(image, seeing.kernel(0.168))
    assert blurred.sum() == pytest.approx(image.sum(), rel=1e-3)
    assert blurred.min() > -1e-12


def test_blurring_equals_scipy(rng):
    image = rng.uniform(0, 1, (60, 60))
    fwhm = 6 * 2 * np.sqrt(2 * np.log(2))
    found = convolve(image, GaussianSeeing(fwhm).kernel(1.0))
    wanted = gaussian_filter(image, 6.0, mode="constant", truncate=5)
    assert np.abs(found - wanted).max() < 2e-3


def test_a_lopsided_psf_puts_light_where_it_says():
    psf = np.zeros((5, 5))
    psf[2, 2], psf[2, 4] = 0.7, 0.3
    image = np.zeros((11, 11))
    image[5, 5] = 1.0
    blurred = convolve(image, MeasuredSeeing(psf, 0.168).kernel(0.168))
    assert blurred[5, 5] == pytest.approx(0.7)
    assert blurred[5, 7] == pytest.approx(0.3)


def test_measured_psf_on_other_pixels():
    fine = MeasuredSeeing(GaussianSeeing(0.8).kernel(0.05), 0.05)
    found = fine.kernel(0.2)
    wanted = GaussianSeeing(0.8).kernel(0.2)
    cut = (len(wanted) - len(found)) // 2
    inner = wanted[cut:-cut, cut:-cut] if cut > 0 else wanted
    assert found.shape[0] % 2
    assert np.abs(found - inner).max() < 2e-3
    assert found.sum() == pytest.approx(1)


@pytest.mark.data
def test_real_psfs_keep_the_light(cosmos):
    image = np.zeros((101, 101))
    image[40:60, 45:65] = 1.0
    for psf in cosmos.psf:
        kernel = MeasuredSeeing(psf, 0.168).kernel(0.168)
        assert kernel.min() < 0, "measured PSFs have small negative values, which are kept"
        assert convolve(image, kernel).sum() == pytest.approx(400, rel=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianSeeing(0.0),
        lambda: GaussianSeeing(np.nan),
        lambda: MoffatSeeing(1.0, beta=1.0),
        lambda: MoffatSeeing(1.0, reach=-1),
        lambda: MeasuredSeeing(np.ones((4, 5)), 0.1),
        lambda: MeasuredSeeing(np.ones(5), 0.1),
        lambda: MeasuredSeeing(np.zeros((5, 5)), 0.1),
        lambda: MeasuredSeeing(np.full((5, 5), np.nan), 0.1),
        lambda: MeasuredSeeing(np.ones((5, 5)), 0.0),
        lambda: GaussianSeeing(60.0).kernel(0.01),
        lambda: GaussianSeeing(1.0).kernel(0.0),
        lambda: convolve(np.full((9, 9), np.nan), np.ones((3, 3))),
    ],
)
def test_impossible_psfs_are_refused(make):
    with pytest.raises(ConfigError):
        make()
