"""What maps look like, and what their sums tell: numbers known beforehand, refused where there are none."""

from __future__ import annotations

import numpy as np
import pytest

import galineage
from galineage.errors import ConfigError, DataError
from galineage.evaluation import balance, example_maps, figure_of, pixel_sums
from galineage.galaxy import Catalogue
from galineage.stars import Galaxy, Stars
from galineage.store.settings import StoreConfig
from galineage.views import MapConfig


class Made:
    """Galaxies whose dispersion says what their f_ex is."""

    name = domain = "made"

    def __init__(self, count=20, metals=True):
        self.count, self.metals = count, metals

    def galaxies(self, ids):
        for one in ids:
            rng = np.random.default_rng(int(one))
            position, speed = rng.normal(size=(2, 900, 3))
            f_ex = int(one) / self.count
            stars = Stars(
                position, speed * (20 + 200 * f_ex), np.full(900, 1e7),
                metallicity=np.full(900, 0.02) if self.metals else None, age=rng.uniform(1, 10, 900),
            )  # fmt: skip
            yield Galaxy(one, "made", stars, 1.5, truth={"f_ex": f_ex})

    @property
    def catalogue(self):
        ids = np.arange(self.count)
        return Catalogue({"f_ex": ids / self.count}, ids.astype(str), np.asarray("made"), ids.astype(str))


def stored(folder, source, **settings):
    config = StoreConfig(maps=MapConfig(pixels=32), views=2, **settings)
    return galineage.prepare(source, source.catalogue, folder, config, progress=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("made") / "store", Made())


def test_sums_follow_f_ex_only_before_standardisation(store):
    found = pixel_sums.compute(store)
    sigma = found.channels.index("sigma")
    assert found.correlation[0, 0, sigma] > 0.95
    assert np.abs(found.correlation[1]).max() == 0
    assert np.abs(found.after).max() < 0.1
    verdict = pixel_sums.judge(found)
    assert verdict.passed
    assert "sum of sigma" in verdict.sentence
    assert len(found.to_table()) == 5
    axes = pixel_sums.draw(found)
    assert len(axes) == 10
    figure_of(axes).canvas.draw()


def test_sums_are_those_of_the_maps(store):
    rows = np.array([3, 17])
    found = pixel_sums.compute(store, rows)
    np.testing.assert_allclose(found.after, store.read(rows).sum(axis=(2, 3), dtype=np.float64), atol=2e-3)
    np.testing.assert_array_equal(found.truth, store.truth("f_ex")[rows])


def test_sums_need_raw_maps_and_truth(store, tmp_path):
    bare = stored(tmp_path / "bare", Made(4), raw=False)
    with pytest.raises(DataError, match="no 'raw' maps"):
        pixel_sums.compute(bare)
    with pytest.raises(DataError, match="known f_ex"):
        pixel_sums.compute(store, np.zeros(0, dtype=np.int64))


def test_examples_are_the_nearest(store):
    rows = example_maps.choose(store, np.arange(len(store)), [0.28, 0.53])
    truth = store.truth("f_ex")
    assert truth[rows] == pytest.approx([0.3, 0.55], abs=0.051)
    found = example_maps.compute(store, rows)
    assert found.labels[0].startswith("made ")
    assert example_maps.judge(found).passed
    np.testing.assert_allclose(found.to_table()["deviation"], 1, atol=1e-3)
    axes = example_maps.draw(found)
    assert len(axes) == 10
    figure_of(axes).canvas.draw()


def test_a_missing_channel_is_said_and_shown(tmp_path):
    bare = stored(tmp_path / "bare", Made(4, metals=False))
    found = example_maps.compute(bare, [0])
    verdict = example_maps.judge(found)
    assert "missing for some galaxies: metallicity" in verdict.sentence
    assert not verdict.passed
    axes = example_maps.draw(found)
    assert [text.get_text() for text in axes[3].texts] == ["missing"]


def test_raw_stores_have_no_refinement(tmp_path):
    raw = stored(tmp_path / "raw", Made(3), refinement=None)
    with pytest.raises(ConfigError, match="raw maps only"):
        raw.refinement  # noqa: B018


def test_balance_counts_views():
    columns = {"f_ex": np.array([0.05, 0.05, 0.75]), "n_views": np.array([1, 1, 12])}
    catalogue = Catalogue(columns, np.arange(3), np.asarray("made"))
    plain, seen = (balance.compute([("made", catalogue)], views=views) for views in (False, True))
    assert (plain.after.sum(), seen.before.sum(), seen.after.sum()) == (3, 3, 14)
    assert seen.high_after[0][0] == pytest.approx(12 / 14)
    assert "of all 14 views" in balance.judge(seen).sentence
    assert "views" in balance.draw(seen).get_ylabel()
