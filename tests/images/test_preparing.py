"""From files to what a network sees: the same for all, whatever does the work, and every failure told."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import image_files as made
import numpy as np
import pytest

from galineage.errors import ConfigError
from galineage.images import (
    ColourStretch,
    ImageRecipe,
    PetrosianConfig,
    crop_cutout,
    measure_petrosian,
    prepare_images,
    resize,
    stretch,
)
from galineage.sources.images import open_images, open_pictures, read_cutout

GRI = ("hsc-g", "hsc-r", "hsc-i")


@pytest.fixture
def folder(tmp_path):
    """Three good mocks and four bad ones."""
    for k in range(3):
        made.mock(tmp_path / f"good{k}.fits", **{b: made.blob(90, seed=k + ord(b), width=3 + k) for b in "GRIZY"})
    made.mock(tmp_path / "no-i.fits", bands="GRZ")
    made.mock(tmp_path / "pixels.fits", field=16.0)
    made.mock(tmp_path / "sky.fits", **{b: 1e-4 * np.random.default_rng(1).normal(size=(60, 60)) for b in "GRIZY"})
    (tmp_path / "torn.fits").write_bytes((tmp_path / "good0.fits").read_bytes()[:9000])
    return tmp_path


def test_each_image_goes_all_the_way(folder):
    seen = []
    found = prepare_images(open_images(folder), ImageRecipe(GRI, pixels=64), tick=seen.append)
    assert found.ids == ("good0", "good1", "good2")
    assert found.values.shape == (3, 3, 64, 64)
    assert sum(seen) == 7
    cut = read_cutout(folder / "good1.fits", bands=GRI)
    size = measure_petrosian(cut)
    crop = crop_cutout(cut, 4 * size.r90)
    np.testing.assert_allclose(found.values[1], stretch(resize(crop.values, 64)), atol=1e-6)
    assert found.sizes["r90"][1] == size.r90
    assert found.sizes["pixels"][1] == crop.values.shape[1]
    np.testing.assert_allclose(found.magnitudes[1], crop.magnitudes)
    assert (found.redshift == 0.2).all()
    assert (np.diff(found.sizes["r90"]) > 0).all()
    json.dumps(dict(found.recipe))


def test_failures_are_in_the_skip_list(folder):
    skipped = prepare_images(open_images(folder), ImageRecipe(GRI, pixels=64)).skipped
    assert [skip.id for skip in skipped] == ["no-i", "pixels", "sky", "torn"]
    assert [skip.field for skip in skipped] == ["bands", "image", "r90", "image"]
    assert "hsc-i" in skipped[0].reason
    assert "pixel scale" in skipped[1].reason
    assert skipped[2].reason == "no source at the centre"
    assert [skip.row for skip in skipped] == [3, 4, 5, 6]


def test_it_does_not_matter_who_does_the_work(folder):
    images, recipe = open_images([folder / f"good{k % 3}.fits" for k in range(40)]), ImageRecipe(GRI, pixels=32)
    alone = prepare_images(images, recipe)
    with ThreadPoolExecutor(2) as executor:
        shared = prepare_images(images, recipe, executor=executor)
    np.testing.assert_array_equal(alone.values, shared.values)
    np.testing.assert_array_equal(alone.rows, np.arange(40))
    np.testing.assert_array_equal(alone.sizes["r90"], shared.sizes["r90"])


def test_the_recipe_decides(folder):
    images = open_images([folder / "good2.fits"])
    base = prepare_images(images, ImageRecipe(GRI, pixels=32))
    swapped = prepare_images(images, ImageRecipe(GRI[::-1], pixels=32))
    np.testing.assert_array_equal(swapped.values[:, ::-1], base.values)
    wide = prepare_images(images, ImageRecipe(GRI, pixels=32, times=40.0))
    assert (wide.sizes["full"], base.sizes["full"]) == ([1.0], [0.0])
    colour = prepare_images(images, ImageRecipe(GRI, 32, around="galaxy", stretch=ColourStretch(), resampling="area"))
    assert not np.allclose(colour.values, base.values)
    (skip,) = prepare_images(images, ImageRecipe(GRI, 32, pixel_scale=0.262)).skipped
    assert "pixels are 0.168" in skip.reason
    (skip,) = prepare_images(images, ImageRecipe(GRI, 32, petrosian=PetrosianConfig(sigmas=1e4))).skipped
    assert skip.field == "r90"
    assert len(prepare_images(open_images([]), ImageRecipe(GRI, 32))) == 0


@pytest.mark.parametrize(
    "changes", [{"bands": ()}, {"bands": ("r", "r")}, {"pixels": 2}, {"times": 0}, {"around": "x"}]
)
def test_impossible_recipes_are_refused(changes):
    with pytest.raises(ConfigError):
        ImageRecipe(**{"bands": GRI, **changes})


@pytest.mark.data
def test_real_files_go_all_the_way(real):
    mocks = prepare_images(open_images(real / "hsc_mocks_tng50"), ImageRecipe(GRI))
    assert mocks.ids == ("shalo_072-544554", "shalo_084-97")
    assert mocks.values.shape == (2, 3, 128, 128)
    assert (mocks.values[:, :, 54:74, 54:74].mean() > 2 * mocks.values.mean()).all()
    said = {"zero_point": 27.0, "pixel_scale": 0.168}
    hsc = [real / "hsc_real" / name for name in ("hsc_cosmos_35.npz", "hsc_ra=150.24071_dec=2.06514.fits")]
    cosmos = prepare_images(open_images(hsc[:1], bands=GRI, **said), ImageRecipe(GRI, around="galaxy"))
    assert len(cosmos) == 1
    filled = prepare_images(open_images(hsc[1:], bands=[f"hsc-{b}" for b in "grizy"], **said), ImageRecipe(GRI))
    assert filled.skipped[0].reason == "radius beyond the image"
    legacy = ImageRecipe(("decam-g", "decam-r", "decam-z"), petrosian=PetrosianConfig(elliptical=False))
    assert len(prepare_images(open_images([real / "hsc_real" / "legacysurvey_dr9_grz_256.fits"]), legacy)) == 1


@pytest.mark.data
def test_real_pictures_keep_their_stretch(real):
    sdss = open_pictures(
        real / "sdss_gz2_gri_128px" / "gz2_sdss_gri_128px_2000.zip",
        table="labels.csv",
        bands=("sdss-i", "sdss-r", "sdss-g"),
        pixel_scale=0.396,
        id="galaxy_id",
    )
    few = type(sdss)(**{**vars(sdss), "files": sdss.files[:40], "ids": sdss.ids[:40]})
    bands = ("sdss-g", "sdss-r", "sdss-i")
    found = prepare_images(few, ImageRecipe(bands, 64, stretch=None, petrosian=PetrosianConfig(subtract_sky=True)))
    assert len(found) > 35
    assert (found.values.min() >= 0) & (found.values.max() <= 1)
    assert {skip.field for skip in found.skipped} <= {"r90"}
    assert all("stretched already" in skip.reason for skip in prepare_images(few, ImageRecipe(bands, 64)).skipped)
