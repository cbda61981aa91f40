"""Images of every format come out in nanomaggies, with bands in the wanted order, mask, variance, PSF."""

from __future__ import annotations

import gzip
import pickle

import image_files as made
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from galineage.galaxy import Skip
from galineage.light import GaussianSeeing, Observation, observe, write_images
from galineage.sources.images import ImageFiles, open_images, open_pictures, read_cutout

GRI = ("hsc-g", "hsc-r", "hsc-i")


def test_a_mock_is_read_with_mask_and_variance(tmp_path):
    found = read_cutout(made.mock(tmp_path / "shalo_084-97_v3_HSC_GRIZY.fits"), bands=("hsc-i", "hsc-g"))
    assert found.bands == ("hsc-i", "hsc-g")
    np.testing.assert_allclose(found["hsc-g"], made.blob(seed=0))
    np.testing.assert_allclose(found["hsc-i"], made.blob(seed=2))
    assert (found.mask == 512).all()
    assert found.variance.shape == found.values.shape
    assert (found.pixel_scale, found.redshift) == (0.168, 0.2)
    assert found.meta["galaxy"] == 97
    assert pickle.loads(pickle.dumps(found)).bands == found.bands


def test_identifiers_are_names_without_ending_and_camera(tmp_path):
    names = ("shalo_084-97_v0_HSC_GRIZY.fits", "shalo_084-97_v3_HSC_GRIZY.FITS", "b.v1.fit", "c.npz", "d.fits.gz")
    for name in names:
        (tmp_path / name).touch()
    assert open_images(tmp_path).ids == ("b.v1", "c", "d", "shalo_084-97", "shalo_084-97")


def test_bands_of_a_mock_may_lie_in_any_order(tmp_path):
    found = read_cutout(made.mock(tmp_path / "a.fits", bands="YIG"))
    assert found.bands == ("hsc-g", "hsc-i", "hsc-y")
    np.testing.assert_allclose(found["hsc-g"], made.blob(seed=2))


def test_hsc_bands_of_a_folder_become_one_cutout(tmp_path):
    for band in "IGR":
        made.hsc_band(tmp_path / f"2-cutout-HSC-{band}-9813-pdr3_wide.fits", band)
        made.psf_file(tmp_path / f"2-psf-calexp-pdr3_wide-HSC-{band}-9813.fits", side=41 if band == "G" else 43)
    found = read_cutout(tmp_path, bands=GRI, redshift=0.1, need_psf=True)
    assert found.bands == GRI
    np.testing.assert_allclose(found.flux[1], np.nansum(made.blob(seed=0)[1:]), rtol=0.01)
    assert np.isnan(found.values[:, 0, 0]).all()  # NO_DATA
    assert np.isfinite(found.values).sum() == found.values.size - 3
    np.testing.assert_allclose(found.variance, 1e-4 * (1e9 / made.FLUXMAG0) ** 2, rtol=1e-6)
    assert found.psf.shape == (3, 43, 43)
    np.testing.assert_allclose(found.psf.sum(axis=(1, 2)), 1)
    assert found.meta["mask_bits"] == {"NO_DATA": 8, "SAT": 1}


def test_hsc_files_may_be_named_one_by_one(tmp_path):
    files = {"hsc-r": made.hsc_band(tmp_path / "x.fits", named=False)}
    psf = {"hsc-r": made.psf_file(tmp_path / "p.fits")}
    assert read_cutout(files, psf=psf).psf.shape == (1, 41, 41)


def test_a_legacy_cube_has_its_bands_and_variance(tmp_path):
    inverse = np.full((3, 60, 60), 1e6, np.float32)
    inverse[:, 0] = 0
    found = read_cutout(made.legacy(tmp_path / "c.fits", inverse=inverse), bands=("decam-z", "decam-r"))
    assert found.bands == ("decam-z", "decam-r")
    np.testing.assert_allclose(found["decam-r"], made.blob(seed=1).astype(np.float32))
    assert np.isnan(found.variance[:, 0]).all()
    np.testing.assert_allclose(found.variance[:, 1:], 1e-6, rtol=1e-6)
    assert (found.pixel_scale, found.meta["domain"]) == (0.262, "LegacySurvey DR9")


def test_psfs_of_one_file_are_told_apart_by_their_header(tmp_path):
    hdus = fits.HDUList(
        [fits.PrimaryHDU(), *(fits.ImageHDU(np.eye(3) / 3 if band == "r" else np.ones((3, 3)) / 9) for band in "gr")]
    )
    hdus[1].header["BAND"], hdus[2].header["BAND"] = "g", "r"
    hdus.writeto(tmp_path / "psf.fits")
    found = read_cutout(made.legacy(tmp_path / "c.fits"), bands=("decam-r", "decam-g"), psf=tmp_path / "psf.fits")
    np.testing.assert_allclose(found.psf[0], np.eye(3) / 3)


def test_a_silent_cube_is_read_when_you_say_what_it_is(tmp_path):
    fits.writeto(tmp_path / "c.fits", np.stack([made.blob(seed=k) for k in range(3)]) * 63.0957, made.sky_header(0.168))
    found = read_cutout(tmp_path / "c.fits", bands=GRI, zero_point=27.0)
    np.testing.assert_allclose(found["hsc-r"], made.blob(seed=1), rtol=1e-5)
    assert found.pixel_scale == pytest.approx(0.168)


def test_what_galineage_writes_it_reads(tmp_path):
    raw = made.cutout(made.blob(noise=0.0), redshift=0.1, name="g", meta={"galaxy": "7", "domain": "toy-a"})
    seen = observe(raw, Observation(GaussianSeeing(0.6), sky=1e-4), seed=1)
    write_images(tmp_path / "g.fits.gz", {"RAW": raw, "OBSERVED": seen})
    found = read_cutout(tmp_path / "g.fits.gz", need_psf=True)
    np.testing.assert_array_equal(found.values, seen.values)
    np.testing.assert_allclose(found.variance, seen.variance)
    np.testing.assert_allclose(found.psf, seen.psf)
    assert found.meta["steps"] == seen.meta["steps"]
    assert found.meta["galaxy"] == "7"
    np.testing.assert_array_equal(read_cutout(tmp_path / "g.fits.gz", role="raw", bands=GRI[:2]).values, raw.values[:2])


def test_packed_files_of_several_members_are_read(tmp_path):
    whole = made.mock(tmp_path / "a.fits").read_bytes()
    half = len(whole) // 2
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(whole[:half]) + gzip.compress(whole[half:]))
    np.testing.assert_array_equal(read_cutout(tmp_path / "b.fits.gz").values, read_cutout(tmp_path / "a.fits").values)


def test_many_images_are_opened_and_the_bad_ones_told(tmp_path):
    for name in ("a", "b", "c"):
        made.mock(tmp_path / f"{name}.fits")
    (tmp_path / "b.fits").write_bytes((tmp_path / "b.fits").read_bytes()[:20_000])
    images = open_images(tmp_path, bands=GRI)
    assert (type(images), images.ids) == (ImageFiles, ("a", "b", "c"))
    found = list(images)
    assert [type(each).__name__ for each in found] == ["Cutout", "Skip", "Cutout"]
    assert isinstance(found[1], Skip)
    assert (found[1].row, found[1].id, found[1].field) == (1, "b", "image")


def _pictures(folder, zipped=False):
    from PIL import Image

    rng = np.random.default_rng(0)
    shown = rng.integers(0, 255, (3, 20, 20, 3), dtype=np.uint8)
    shown[:, 0] = [255, 0, 0]  # a red row on top
    for k, picture in enumerate(shown):
        Image.fromarray(picture).save(folder / f"{k}.png")
    Table({"name": [10, 11, 12], "file": ["0.png", "1.png", "2.png"], "z": [0.1, 0.2, np.nan]}).write(folder / "t.csv")
    if not zipped:
        return folder, shown
    import zipfile

    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for path in [*folder.glob("*.png"), folder / "t.csv"]:
            archive.write(path, path.name)
    return folder / "all.zip", shown


@pytest.mark.parametrize("zipped", [False, True])
def test_pictures_have_channels_rows_and_redshifts(tmp_path, zipped):
    root, shown = _pictures(tmp_path, zipped)
    folder = open_pictures(root, table="t.csv", bands=("i", "r", "g"), pixel_scale=0.4, id="name", redshift="z")
    found = folder.read(1)
    assert (len(folder), folder.ids) == (3, ("10", "11", "12"))
    assert found.bands == ("g", "r", "i")
    np.testing.assert_allclose(found["i"][::-1] * 255, shown[1, :, :, 0], atol=1e-4)
    assert (found["i"][-1] == 1).all()  # the top of a picture is the last row
    assert (found.redshift, found.meta["picture"]) == (0.2, True)
    assert folder.read(2).redshift is None


def test_names_of_pictures_may_be_a_pattern(tmp_path):
    root, _ = _pictures(tmp_path)
    folder = open_pictures(root, table="t.csv", bands=("i", "r", "g"), pixel_scale=0.4, id="name", file="{file}")
    assert folder.files == ("0.png", "1.png", "2.png")


@pytest.mark.data
def test_real_files_of_every_kind_are_read(real):
    for path in sorted((real / "hsc_mocks_tng50").glob("*.fits")):
        mock = read_cutout(path, bands=GRI)
        assert mock.pixel_scale == 0.168
        assert 0.19 < mock.redshift < 0.41
        assert (mock.magnitudes > 17).all()
    legacy = read_cutout(real / "hsc_real" / "legacysurvey_dr9_grz_256.fits")
    assert legacy.bands == ("decam-g", "decam-r", "decam-z")
    assert (np.diff(legacy.magnitudes) < 0).all()
    archive = read_cutout(
        real / "hsc_real" / "hsc_cosmos_35.npz", bands=GRI, zero_point=27.0, pixel_scale=0.168, need_psf=True
    )
    assert archive.values.shape == (3, 58, 48)
    assert archive.psf.shape == (3, 43, 43)
    cube = real / "hsc_real" / "hsc_ra=150.24071_dec=2.06514.fits"
    assert read_cutout(cube, bands=[f"hsc-{b}" for b in "grizy"], zero_point=27.0).pixel_scale == pytest.approx(0.168)


@pytest.mark.data
def test_real_pictures_are_read(real):
    sdss = open_pictures(
        real / "sdss_gz2_gri_128px" / "gz2_sdss_gri_128px_2000.zip",
        table="labels.csv",
        bands=("sdss-i", "sdss-r", "sdss-g"),
        pixel_scale=0.396,
        id="galaxy_id",
    )
    assert len(sdss) == 2000
    assert sdss.read(1999).values.shape == (3, 128, 128)
    eagle = open_pictures(
        real / "eagle_skirt_gri" / "RefL0100N1504" / "27",
        table="data.csv",
        bands=("sdss-i", "sdss-r", "sdss-g"),
        pixel_scale=0.396,
        id="GalaxyID",
        file="images/galedge_{GalaxyID}.png",
        redshift="Redshift",
    )
    assert set(eagle.ids) >= {"16981992", "8671264"}
    assert eagle.read(0).redshift == pytest.approx(0.1, abs=0.01)
