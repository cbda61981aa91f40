"""A toy universe as mock images: domains, truths, views, and nothing done twice."""

from __future__ import annotations

import numpy as np
import pytest

from galineage.errors import ConfigError
from galineage.light import hsc_wide
from galineage.sources import open_source
from galineage.study.image_universe import SURVEY, make_image_universe, noisy_survey
from galineage.study.universe import Box

BOXES = (Box("toy-a", "tng", 4, 300, 1), Box("toy-b", "eagle", 4, 300, 2), Box("toy-c", "tng", 6, 300, 3))
OPTIONS = {"pixels": 24, "redshift": (0.1, 0.2), "workers": 1, "say": lambda _: None}


@pytest.fixture(scope="module")
def universe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("universe")
    return make_image_universe(BOXES, folder, **OPTIONS), folder


def test_domains_are_the_suites_and_a_survey_of_other_galaxies(universe):
    store, folder = universe
    views = store.views()
    assert set(views.domain) == {"toy-a", "toy-b", "toy-c", SURVEY}
    held, seen = (set(views.root[views.domain == domain]) for domain in ("toy-c", SURVEY))
    assert len(held) == len(seen) == 3
    assert not held & seen
    for domain in ("toy-a", "toy-b", "toy-c", SURVEY):
        table = open_source(folder / f"{domain}.ecsv", "galineage").read()
        assert set(table.domain) == {domain}
        assert np.isfinite(table["f_ex"]).all()
        assert np.isfinite(table["r90"]).all()
        assert (table["n_views"] == 2).all()
    skies = {name: told[0]["mocks"]["observation"]["sky"] for name, told in store.sources().items()}
    assert skies["toy-a"] == skies["toy-b"] == skies["toy-c"]
    np.testing.assert_allclose(skies[SURVEY], 2 * np.array(skies["toy-a"]))


def test_images_know_the_truth_and_are_ready(universe):
    store, _ = universe
    views = store.views()
    values = store.read(np.arange(len(store)))
    assert values.shape[1:] == (3, 24, 24)
    assert values.min() >= 0
    assert values.max() <= 1
    for name in ("f_ex", "mstar", "app_g", "app_r", "app_i", "r90", "r90_kpc", "redshift", "t_last_major"):
        assert name in views
    assert ((views["redshift"] >= 0.1) & (views["redshift"] <= 0.2)).all()
    assert len(store.skipped) < 0.2 * len(store)


def test_what_is_done_is_not_done_again(universe):
    store, folder = universe
    again = make_image_universe(BOXES, folder, **OPTIONS)
    assert again.digest == store.digest
    with pytest.raises(ConfigError, match="redshift"):
        make_image_universe(BOXES, folder, **{**OPTIONS, "redshift": 0.1})
    with pytest.raises(ConfigError, match="one suite"):
        make_image_universe((BOXES[0], BOXES[0]), folder, **OPTIONS)


def test_a_survey_can_be_left_out_and_is_worse(tmp_path):
    store = make_image_universe(BOXES[2:], tmp_path, **{**OPTIONS, "survey": None})
    assert set(store.views().domain) == {"toy-c"}
    bands = ("hsc-g", "hsc-r")
    worse, usual = noisy_survey(bands, noise=3.0), hsc_wide(bands)
    np.testing.assert_allclose(worse.sky, 3 * np.array(usual.sky))
    assert worse.seeing.fwhm > usual.seeing.fwhm
    with pytest.raises(ConfigError, match="HSC"):
        noisy_survey(("sdss-g",))
