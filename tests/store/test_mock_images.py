"""Mock images of a snapshot: every row is its galaxy, seen, observed and kept as the settings say."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from made_mocks import CLEAN, QUICK, Snapshot

from galineage.cutouts import Cutout
from galineage.errors import ConfigError, DataError, FileFormatError
from galineage.images import ImageRecipe
from galineage.light import GaussianSeeing, Insertion, hsc_wide, make_images, observe
from galineage.sources.images import read_cutout
from galineage.stars import measure
from galineage.store.image_store import prepare_image_store
from galineage.store.mock_images import MockConfig, SnapshotImages
from galineage.store.settings import own_seed, placed

RECIPE = ImageRecipe(("hsc-g", "hsc-r", "hsc-i"), pixels=16, pixel_scale=0.168)


def mocks(ids=(0, 1, 2), config=QUICK, source=None, **options):
    return SnapshotImages(source or Snapshot(), ids, config, **options)


def test_rows_are_views_of_galaxies():
    images = mocks()
    assert images.ids == ("0", "0", "0", "1", "1", "1", "2", "2", "2")
    galaxy = Snapshot().galaxy(1)
    cameras = placed("polyhedron", 3, own_seed(4, "made:1"), rotate=True)
    raws = make_images(galaxy, cameras, QUICK.image_config(3.0, 0.1), warn=False)
    for view in range(3):
        found = images.read(3 + view)
        seen = observe(raws[view], hsc_wide(found.bands), seed=own_seed(4, f"made:1 view {view}"))
        np.testing.assert_array_equal(found.values, seen.values)
        assert found.redshift == 0.1
        facts = found.meta["facts"]
        np.testing.assert_allclose(facts["los"], cameras[view].los)
        assert (facts["root"], facts["snapshot"], facts["r_half"]) == ("made:1", 9, 3.0)
        assert facts["truth"] == {"f_ex": measure(galaxy)["f_ex"], "sfr": 1.5}
        assert facts["measured"]["mstar"] == pytest.approx(2e10)


def test_stars_are_read_once_in_one_pass():
    source = Snapshot()
    images = mocks((2, 0, 1), source=source)
    for row in range(9):
        images.read(row)
    assert source.asked == [["2", "0", "1"]]
    again = images.read(0)  # long gone: read again, by itself
    for row in (8, 5):
        images.read(row)
    np.testing.assert_array_equal(again.values, mocks((2,)).read(0).values)


def test_the_order_and_the_reader_do_not_matter():
    ids = (7, 0, 6, 1, 4, 2)
    expected = [mocks(ids).read(row).values for row in range(18)]
    images = mocks(ids)
    order = np.random.default_rng(1).permutation(18)
    for row in order:
        np.testing.assert_array_equal(images.read(row).values, expected[row])
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(mocks(ids).read, range(18)), expected, strict=True):
            np.testing.assert_array_equal(found.values, wanted)
    some = pickle.loads(pickle.dumps(images)).select([17, 4])
    assert some.ids == ("2", "0")
    for row, wanted in enumerate((17, 4)):
        np.testing.assert_array_equal(some.read(row).values, expected[wanted])


def test_bad_galaxies_are_skipped_and_a_lost_snapshot_stops(tmp_path):
    found = prepare_image_store(mocks(range(8)), tmp_path / "a", RECIPE, domain="made", progress=False, per_shard=7)
    assert {(one["id"], one["view"]) for one in found.skipped} == {(name, k) for name in "35" for k in range(3)}
    assert {row["id"] for row in found.rows} == set("012467")
    assert found.sources()["made"][0]["mocks"]["seed"] == 4
    views = found.views()
    assert (views["snapshot"] == 9).all()
    assert (views["redshift"] == 0.1).all(), "not that of the snapshot"
    assert views["f_ex"][0] == pytest.approx(0.3, abs=0.1)
    with pytest.raises(FileFormatError, match="snapshot is gone"):
        prepare_image_store(mocks(source=Snapshot(gone=True)), tmp_path / "b", RECIPE, domain="made", progress=False)
    with pytest.raises(ConfigError, match="seed: 4 was, 5 is"):
        prepare_image_store(
            mocks(range(8), replace(QUICK, seed=5)), tmp_path / "a", RECIPE, domain="made", progress=False, per_shard=7
        )


def test_redshifts_are_drawn_for_each_galaxy_and_are_those_of_all_its_views():
    images = mocks((0, 1, 2, 4), replace(QUICK, redshift=(0.05, 0.2)))
    found = np.array([images.read(row).redshift for row in range(12)]).reshape(4, 3)
    assert (found == found[:, :1]).all()
    assert len(set(found[:, 0])) == 4
    assert ((found >= 0.05) & (found <= 0.2)).all()
    own = mocks((0,), replace(QUICK, redshift=None)).read(0)
    assert own.redshift == 0.05


def test_large_galaxies_are_cut_at_the_largest_image():
    config = replace(QUICK, most_pixels=64, observation=CLEAN)
    assert mocks(config=config).read(0).values.shape == (3, 64, 64)
    assert config.image_config(0.1, 0.1).pixels == 32
    fixed = replace(QUICK, images=replace(QUICK.images, pixels=160))
    assert fixed.image_config(3.0, 0.1).pixels == 160


class Skies:
    """Two pieces of sky of other brightness."""

    ids = ("a", "b")

    def __init__(self, bands=QUICK.images.bands, pixel_scale=0.168):
        self.bands, self.pixel_scale = bands, pixel_scale

    def __len__(self):
        return 2

    def read(self, row):
        values = np.full((3, 200, 200), 10.0 * (row + 1)) + np.random.default_rng(row).normal(size=(3, 200, 200))
        kernel = np.stack([GaussianSeeing(0.7).kernel(self.pixel_scale)] * 3)
        return Cutout(values, self.bands, self.pixel_scale, psf=kernel, name=self.ids[row])


def test_every_sky_is_used_everywhere():
    images = mocks((0, 1, 2, 4, 6, 7), replace(QUICK, insertion=Insertion(pixels=32)), skies=Skies())
    steps = [images.read(row).meta["steps"][-1] for row in range(len(images))]
    for sky in Skies.ids:
        for place in ("row", "column"):
            there = [step[place] for step in steps if step["sky"] == sky]
            assert min(there) < 100 < max(there), "the draw of the place must not follow that of the sky"


def test_skies_of_another_survey_bring_its_bands_and_pixels():
    bands = ("decam-g", "decam-r", "decam-z")
    config = replace(QUICK, images=replace(QUICK.images, bands=bands), insertion=Insertion(pixels=32))
    images = mocks((0,), config, skies=Skies(bands, 0.262))
    assert images.read(0).pixel_scale == 0.262
    assert images.describe()["mocks"]["observation"] is None


def test_real_skies_and_what_is_kept(tmp_path):
    config = replace(QUICK, insertion=Insertion(pixels=64))
    images = mocks(config=config, skies=Skies(), keep=tmp_path)
    found = [images.read(row) for row in range(9)]
    assert {cutout.meta["steps"][-1]["sky"] for cutout in found} == {"a", "b"}
    assert all(cutout.values.shape == (3, 64, 64) for cutout in found)
    assert images.describe()["skies"] == ["a", "b"]
    assert len(list(tmp_path.iterdir())) == 9
    path = tmp_path / "made-009-1-2.fits"
    np.testing.assert_allclose(read_cutout(path).values, found[5].values, rtol=1e-6)
    raw = read_cutout(path, role="RAW")
    assert len(raw.meta["steps"]) == 1
    with fits.open(path) as file:
        assert file[1].header["REDSHIFT"] == 0.1


@pytest.mark.parametrize(
    "bad",
    [
        {"views": 5},
        {"cameras": "x"},
        {"redshift": 0.0},
        {"redshift": (0.2, 0.1)},
        {"most_pixels": 100},
        {"most_pixels": 10_000},
    ],
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ConfigError):
        MockConfig(**bad)


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="twice"):
        mocks((1, 1))
    with pytest.raises(DataError, match="no piece of sky"):
        mocks(skies=())
    with pytest.raises(DataError, match="no stars"):
        mocks((3,)).read(0)
    with pytest.raises(ConfigError, match="sdss"):  # whose noise nobody described
        mocks(config=MockConfig(images=replace(QUICK.images, bands=("sdss-g", "sdss-r"))))
    assert MockConfig(images=replace(QUICK.images, bands=("sdss-r",)), observation=CLEAN).observed is CLEAN
