"""What telescope and sky add: noise with the right statistics, real skies at clean places, every step told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from galineage.cutouts import Cutout
from galineage.errors import ConfigError, DataError
from galineage.light import (
    GaussianSeeing,
    Insertion,
    MeasuredSeeing,
    MoffatSeeing,
    Observation,
    hsc_wide,
    insert,
    kpc_per_arcsec,
    observe,
    sky_noise,
)

BANDS = ("hsc-g", "hsc-r", "hsc-i")


@pytest.fixture
def raw():
    """A round image of 1, 2 and 4 nanomaggies, 120 x 120 pixels of 0.1 arcsec."""
    line = (np.arange(120) - 59.5) * 0.1
    blob = np.exp(-(line[:, np.newaxis] ** 2 + line**2) / (2 * 0.9**2))
    values = blob / blob.sum() * np.array([1.0, 2.0, 4.0])[:, np.newaxis, np.newaxis]
    return Cutout(values, BANDS, 0.1, redshift=0.1, name="blob", meta={"steps": [{"step": "stars"}]})


def names(cutout):
    return [step["step"] for step in cutout.meta["steps"]]


def test_without_settings_nothing_happens(raw):
    seen = observe(raw, Observation(), seed=1)
    assert np.allclose(seen.values, raw.values, rtol=1e-12)
    assert names(seen) == ["stars"]
    assert seen.variance is None
    assert seen.psf is None


@pytest.mark.parametrize("seeing", [GaussianSeeing(0.6), MoffatSeeing(0.6)])
@pytest.mark.parametrize("scale", [None, 0.168, 0.396])
def test_light_stays_through_psf_and_resampling(raw, seeing, scale):
    seen = observe(raw, Observation(seeing, pixel_scale=scale), seed=1)
    assert seen.flux == pytest.approx(raw.flux, rel=1e-3)
    assert seen.pixel_scale == (scale or 0.1)


def test_order_of_steps_is_told(raw):
    config = Observation(GaussianSeeing(0.6), pixel_scale=0.168, electrons=100.0, sky=(0.01, 0.02, 0.03))
    seen = observe(raw, config, seed=9)
    assert names(seen) == ["stars", "rebin", "psf", "photon noise", "sky noise"]
    assert seen.meta["steps"][-1] == {"step": "sky noise", "sigma_nanomaggies": [0.01, 0.02, 0.03], "seed": 9}
    assert seen.psf.shape[0] == 3
    assert names(raw) == ["stars"], "the raw image stays as it is"


def test_same_seed_same_image(raw):
    config = Observation(GaussianSeeing(0.6), electrons=100.0, sky=0.01)
    one, same, other = (observe(raw, config, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.values, same.values)
    assert not np.array_equal(one.values, other.values)


def test_noise_has_the_variance_it_says(raw):
    config = Observation(electrons=500.0, sky=0.01)
    many = np.stack([observe(raw, config, seed=seed).values for seed in range(200)])
    wanted = observe(raw, config, seed=0).variance
    assert wanted == pytest.approx(1e-4 + raw.values / 500)
    ratio = many.var(axis=0) / wanted
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    centre = (slice(None), slice(55, 65), slice(55, 65))
    assert ratio[centre].mean() == pytest.approx(1, abs=0.03)
    # the sum of 14,400 pixels of 0.01 in the mean of 200 images: 0.085
    assert many.sum(axis=(2, 3)).mean(axis=0) == pytest.approx(raw.flux, abs=0.3)


def test_stamp_takes_in_light_from_beside_it(raw):
    # a PSF that reaches beyond the stamp: light crosses its edge both ways
    wide = observe(raw, Observation(GaussianSeeing(2.0)), seed=1)
    stamp = observe(raw, Observation(GaussianSeeing(2.0), pixels=40), seed=1)
    assert stamp.values == pytest.approx(wide.values[:, 40:80, 40:80], rel=1e-9, abs=1e-12)


def test_each_band_has_its_psf(raw):
    seeing = (GaussianSeeing(0.8), GaussianSeeing(0.7), MeasuredSeeing(GaussianSeeing(0.6).kernel(0.1), 0.1))
    seen = observe(raw, Observation(seeing), seed=1)
    peaks = seen.values.max(axis=(1, 2)) / raw.flux
    assert (np.diff(peaks) > 0).all()
    for psf, own in zip(seen.psf, seeing, strict=True):
        assert psf.sum() == pytest.approx(1)
        kernel = own.kernel(0.1)
        cut = (len(psf) - len(kernel)) // 2
        assert psf[cut : len(psf) - cut, cut : len(psf) - cut] == pytest.approx(kernel)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeing": 0.6},
        {"seeing": (GaussianSeeing(0.6), "0.7")},
        {"pixel_scale": -1.0},
        {"pixels": 0},
        {"electrons": 0.0},
        {"sky": np.nan},
        {"sky": (0.1, -0.1, 0.1)},
    ],
)
def test_impossible_observations_are_refused(wrong):
    with pytest.raises(ConfigError):
        Observation(**wrong)


def test_numbers_and_psfs_must_fit_the_bands(raw):
    for config in (
        Observation((GaussianSeeing(0.6),) * 2),
        Observation(sky=(0.1, 0.1)),
        Observation(electrons=(1.0, 2.0)),
    ):
        with pytest.raises(ConfigError, match="hsc-g"):
            observe(raw, config, seed=1)


def test_images_with_holes_are_refused(raw):
    values = raw.values.copy()
    values[0, 3, 3] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        observe(replace(raw, values=values), Observation(GaussianSeeing(0.6)), seed=1)


def test_depth_gives_the_noise_of_a_pixel(rng):
    kernel = GaussianSeeing(0.7).kernel(0.168)
    sigma = sky_noise(26.0, kernel)
    flux = 10 ** (-0.4 * 3.5)
    # a point source at the depth, fitted with its PSF in many noise images
    noise = rng.normal(0, sigma, (4000, *kernel.shape))
    fitted = ((flux * kernel + noise) * kernel).sum(axis=(1, 2)) / np.square(kernel).sum()
    assert fitted.mean() / fitted.std() == pytest.approx(5, rel=0.05)


def test_hsc_wide_takes_only_its_own_bands(raw):
    seen = observe(raw, hsc_wide(BANDS, pixels=60), seed=1)
    assert seen.values.shape == (3, 60, 60)
    assert seen.pixel_scale == 0.168
    assert seen.variance[:, 0, 0] == pytest.approx(np.square([4.3e-4, 7.0e-4, 8.5e-4]))
    with pytest.raises(ConfigError, match="hsc-g"):
        hsc_wide(("sdss-g",))


# --- real skies ---------------------------------------------------------------------------------------------------


def test_galaxy_is_added_to_the_sky(raw, sky):
    put = insert(raw, sky, Insertion(pixels=61), seed=3)
    step = put.meta["steps"][-1]
    rows, columns = (slice(step[name] - 30, step[name] + 31) for name in ("row", "column"))
    galaxy = put.values - sky.values[:, rows, columns]
    assert galaxy.sum(axis=(1, 2)) == pytest.approx(raw.flux, rel=1e-3)
    # the PSF is the sky's, the pixels are the sky's, and the galaxy is in the middle
    wanted = observe(raw, Observation(GaussianSeeing(0.6), pixel_scale=0.168, pixels=61), seed=0).values
    assert np.abs(galaxy - wanted).max() < 1e-12
    assert np.array_equal(put.mask, sky.mask[:, rows, columns])
    assert np.array_equal(put.variance, sky.variance[:, rows, columns])
    assert put.psf == pytest.approx(sky.psf)
    assert put.pixel_scale == 0.168
    assert step["sky"] == "made-up sky"
    assert names(raw) == ["stars"]


def test_places_are_clean_random_and_away_from_the_edge(raw, sky):
    dirty = sky.mask.any(axis=0)
    found = []
    for seed in range(300):
        step = insert(raw, sky, Insertion(pixels=21), seed=seed).meta["steps"][-1]
        found.append((step["row"], step["column"]))
        assert not dirty[found[-1]]
    rows, columns = np.array(found).T
    assert rows.min() >= 18
    assert rows.max() < 200 - 18
    assert columns.min() >= 18
    assert columns.max() < 180 - 18
    # uniform: 42 columns on the left of the stripe, 72 on its right
    assert np.mean(columns < 60) == pytest.approx(42 / 114, abs=0.09)
    assert len(set(found)) > 280


def test_allowed_bits_and_distance_from_others(raw, sky):
    inside = [insert(raw, sky, Insertion(pixels=21, allowed=8), seed=seed).meta["steps"][-1] for seed in range(60)]
    assert any(60 <= step["column"] < 90 for step in inside)
    clear = [insert(raw, sky, Insertion(pixels=21, clear=3.0), seed=seed).meta["steps"][-1] for seed in range(60)]
    apart = [min(abs(step["column"] - 60), abs(step["column"] - 89)) for step in clear]
    assert min(apart) * 0.168 > 3.0


def test_photons_of_the_galaxy_are_an_option(raw, sky):
    plain = insert(raw, sky, Insertion(pixels=41), seed=3)
    noisy = insert(raw, sky, Insertion(pixels=41, electrons=50.0), seed=3)
    assert (noisy.variance >= plain.variance).all()
    assert noisy.variance[2, 20, 20] > 2 * plain.variance[2, 20, 20]
    assert not np.array_equal(noisy.values, plain.values)


def test_skies_that_do_not_do_are_refused(raw, sky):
    with pytest.raises(DataError, match="no image in hsc-i"):
        insert(raw, Cutout(sky.values[:2], BANDS[:2], 0.168, psf=sky.psf[:2]), seed=1)
    with pytest.raises(DataError, match="no PSF"):
        insert(raw, replace(sky, psf=None), seed=1)
    with pytest.raises(DataError, match="no room for"):
        insert(raw, sky, Insertion(pixels=190), seed=1)
    with pytest.raises(DataError, match="no clean place"):
        insert(raw, replace(sky, mask=np.ones_like(sky.mask)), Insertion(pixels=21), seed=1)
    with pytest.raises(DataError, match="no clean place"):
        insert(raw, replace(sky, values=np.full_like(sky.values, np.nan)), Insertion(pixels=21), seed=1)


@pytest.mark.parametrize("wrong", [{"pixels": 0}, {"edge": 0.5}, {"clear": -1.0}, {"allowed": -1}, {"electrons": 0.0}])
def test_impossible_insertions_are_refused(wrong):
    with pytest.raises(ConfigError):
        Insertion(**wrong)


def test_a_stamp_as_large_as_the_sky_has_one_place(raw, sky):
    whole = replace(sky, mask=None, values=sky.values[:, :120, :120], variance=None)
    put = insert(raw, whole, Insertion(pixels=120, edge=0.0), seed=1)
    assert (put.meta["steps"][-1]["row"], put.meta["steps"][-1]["column"]) == (60, 60)


@pytest.mark.data
def test_insertion_into_a_real_sky(raw, cosmos):
    faint = replace(raw, values=raw.values * 3)
    for seed in range(5):
        put = insert(faint, cosmos, Insertion(pixels=21, allowed=1 << 5), seed=seed)
        step = put.meta["steps"][-1]
        rows, columns = (slice(step[name] - 10, step[name] + 11) for name in ("row", "column"))
        assert not (cosmos.mask[:3, step["row"], step["column"]] & ~32).any()
        galaxy = put.values - cosmos.values[:3, rows, columns]
        # in the centre is what the galaxy's light through the real PSF gives
        seeing = tuple(MeasuredSeeing(psf, 0.168) for psf in cosmos.psf[:3])
        alone = observe(faint, Observation(seeing, pixel_scale=0.168, pixels=21), seed=0)
        assert np.abs(galaxy - alone.values).max() < 1e-6
        assert np.array_equal(put.variance, cosmos.variance[:3, rows, columns])
        assert np.array_equal(put.mask, cosmos.mask[:3, rows, columns])


@pytest.mark.data
def test_sky_noise_of_the_preset_is_that_of_real_skies(images):
    from astropy.io import fits

    found = []
    for path in sorted((images / "hsc_mocks_tng50").glob("*.fits")):
        with fits.open(path) as file:
            for place in range(5):
                values, mask = (file[3 * place + plane].data for plane in (0, 1))
                empty = values[(mask & 32) == 0]
                found.append(1.4826 * np.median(np.abs(empty - np.median(empty))))
    measured = np.array(found).reshape(-1, 5).mean(axis=0)
    preset = hsc_wide([f"hsc-{band}" for band in "grizy"]).sky
    assert preset == pytest.approx(measured, rel=0.05)


@pytest.mark.data
def test_an_idealised_skirt_image_can_be_observed(images):
    from astropy.io import fits

    (path,) = (images / "skirt_ideal_gri").glob("photo_r_*.fits.gz")
    with fits.open(path) as file:
        header, brightness = file[0].header, file[0].data.astype(np.float64)
    from galineage.cosmology import TNG

    scale = header["CDELT1"] / 1000 / kpc_per_arcsec(header["REDSHIFT"], TNG)
    # infinitely faint pixels hold nothing
    ideal = Cutout(10 ** (-0.4 * (brightness[np.newaxis] - 22.5)) * scale**2, ("sdss-r",), scale)
    assert ideal.surface_brightness()[0][brightness < 30] == pytest.approx(brightness[brightness < 30], abs=1e-6)
    seen = observe(ideal, Observation(MoffatSeeing(1.3), pixel_scale=0.396), seed=1)
    # light at the very edge of the image may leave
    assert seen.flux == pytest.approx(ideal.flux, rel=1e-3)
    noisy = observe(ideal, Observation(MoffatSeeing(1.3), pixel_scale=0.396, electrons=400.0, sky=0.025), seed=1)
    assert (noisy.values - seen.values)[0, :20, :20].std() == pytest.approx(0.025, rel=0.1)
