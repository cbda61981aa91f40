"""Figures of representations from what a study knows: catalogues with a representation, and joint scores."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import galineage
from galineage.errors import ConfigError, DataError
from galineage.evaluation.joint_scores import JointScores
from galineage.fields import representation_features
from galineage.galaxy import Catalogue, HeldMaps
from galineage.store.image_store import ImageStore
from galineage.study import representation_pages as pages
from galineage.study.jobs import Job
from galineage.training import TrainConfig

WIDTH = 8
TEXTS = {"name": "n", "title": "T", "caption": "c", "width": WIDTH}


def catalogue(domain, n=240, seed=0, *, truth=True):
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((n, 4))
    values = np.tanh(hidden @ np.random.default_rng(9).standard_normal((4, WIDTH))) + 0.1 * rng.standard_normal(
        (n, WIDTH)
    )
    columns = dict(zip(representation_features(WIDTH), values.T, strict=True))
    columns |= {"mstar": 10 ** (10.5 + 0.4 * hidden[:, 0]), "r_half": 10 ** (0.6 + 0.2 * hidden[:, 0])}
    if truth:
        columns["f_ex"] = 1 / (1 + np.exp(-hidden[:, 1]))
    return Catalogue(columns, np.array([f"{domain}-{k}" for k in range(n)]), np.array(domain))


class Stub:
    """As much of a study's results as the figures read."""

    def __init__(self, out):
        self.out = out
        self.study = SimpleNamespace(seed=0, experiment=lambda name: SimpleNamespace(train_domains=("a", "c")))
        self.catalogues = {
            "a": catalogue("a"),
            "b": catalogue("b", seed=1),
            "survey": catalogue("survey", seed=2, truth=False),
        }

    def catalogue(self, domain, rows=None):
        return self.catalogues[domain]

    def pairs(self, experiment, which):
        return [("a", "a"), ("b", "b"), ("a", "c")]

    def joint(self, experiment):
        found = []
        for train, test in self.pairs(experiment, "all"):
            galaxies = self.catalogues.setdefault("c", catalogue("c", seed=3)) if test == "c" else self.catalogues[test]
            rng = np.random.default_rng(5)
            truth = np.asarray(galaxies["f_ex"])[:, None]
            draws = np.clip(truth[:, None] + 0.08 * rng.standard_normal((len(galaxies), 50, 1)), 0, 1)
            ones = np.ones(len(galaxies))
            latent = np.zeros((len(galaxies), 1, 1))
            rest = {"draws": draws, "latent": latent, "log_prob": ones, "tarp": ones, "targets": ("f_ex",)}
            labels = {"model": "m", "train": train, "test": test}
            found.append(JointScores(galaxies.ids, galaxies["mstar"], truth, 0 * ones, **rest, **labels))
        return found


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    return Stub(tmp_path)


def test_landscape_and_its_page(results):
    options = {**TEXTS, "domains": ["a", "survey"], "properties": ["mstar", "f_ex"], "interactive": True}
    (panel,) = pages.make_landscape(results, options)
    assert len(panel.table) == 480
    assert panel.verdicts
    page = (results.out / "n.html").read_text(encoding="utf-8")
    assert "survey-17" in page
    assert "log10 mstar" in page


class Store(ImageStore):
    """Views of a store, in memory."""

    def __init__(self, views):
        self.found, self.rows = views, tuple({"domain": name} for name in np.unique(views.domain))

    def views(self, domain=None):
        return self.found


def of_views(domain, n=120, seed=0):
    """Two views of each galaxy with a representation; brightness of an image is its row."""
    whole = catalogue(domain, n, seed)
    columns = {**whole.columns, "view": np.arange(n) % 2, "snapshot": np.full(n, 99)}
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None] / n, (n, 3, 4, 4))
    maps = HeldMaps(np.ascontiguousarray(images), ("g", "r", "i"))
    return Catalogue(columns, np.array([f"{k // 2}" for k in range(n)]), np.array(domain), maps=maps)


@pytest.fixture
def pictured(results, monkeypatch):
    """Results whose table has the views of a store, backwards and without images."""
    views = of_views("a")
    turned = replace(views.select(np.arange(len(views))[::-1]), maps=None)
    results.catalogues["a"], results.data = turned, results.out
    results.study.domain = lambda name: SimpleNamespace(maps="images")
    monkeypatch.setattr(pages, "is_store", lambda path: path == results.data / "images")
    monkeypatch.setattr(pages, "open_store", lambda path: Store(views))
    return results


def test_views_of_a_table_find_their_images_by_name(pictured):
    (found,) = pages._catalogues(pictured, {**TEXTS, "domains": ["a"], "interactive": True})
    np.testing.assert_allclose(found.maps.read(np.arange(120))[:, 0, 0, 0], np.arange(120)[::-1] / 120)
    (plain,) = pages._catalogues(pictured, {**TEXTS, "domains": ["a"]})
    assert plain.maps is None, "no store is opened for a figure"
    options = {**TEXTS, "domains": ["a"], "properties": ["mstar"], "interactive": True}
    pages.make_landscape(pictured, options)
    assert "data:image/" in (pictured.out / "n.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("change", ["other galaxies", "no view", "no store", "another domain"])
def test_a_table_whose_images_are_not_there_goes_without(pictured, change):
    table = pictured.catalogues["a"]
    if change == "other galaxies":
        pictured.catalogues["a"] = replace(table, ids=np.array([f"other-{k}" for k in range(len(table))]))
    if change == "no view":
        columns = {name: values for name, values in table.columns.items() if name != "view"}
        pictured.catalogues["a"] = replace(table, columns=columns)
    if change == "no store":
        pictured.study.domain = lambda name: SimpleNamespace(maps="elsewhere")
    if change == "another domain":
        pictured.catalogues["b"] = table
    domain = "b" if change == "another domain" else "a"
    (found,) = pages._catalogues(pictured, {**TEXTS, "domains": [domain], "interactive": True})
    assert found.maps is None


def test_images_of_three_bands_are_shown_the_reddest_first():
    maps = np.zeros((600, 3, 130, 130), dtype=np.float32)
    maps[:, 2, :65] = 1.0  # the third band is the reddest; the lower half of the image
    galaxies = Catalogue({}, np.arange(600), np.array("a"), maps=HeldMaps(maps, ("g", "r", "i")))
    shown = pages._thumbnails(galaxies, np.arange(550))
    assert shown.shape == (550, 65, 65, 3)
    assert shown[5, -1, 3].tolist() == [255, 0, 0]
    assert shown[5, 0, 3].tolist() == [0, 0, 0]
    bright = pages._shrunk(1e5 * maps[:2])
    assert bright.min() == 0
    assert bright.max() == 255
    assert pages._thumbnails(catalogue("a"), np.arange(3)) is None


def test_the_other_figures(results):
    options = {**TEXTS, "domains": ["a", "b", "survey"]}
    (overlap,) = pages.make_domain_overlap(results, {**options, "most": 160})
    assert len(overlap.table) == 9
    (power,) = pages.make_shift_power(results, {**options, "scores": ["neighbours"]})
    assert power.verdicts[0].passed
    (lent,) = pages.make_property_transfer(results, {**options, "properties": ["mstar", "f_ex"]})
    assert set(lent.table["test"][lent.table["property"] == "f_ex"]) == {"a", "b"}
    chosen = {**options, "properties": ["mstar"], "pairs_shown": [["a", "survey"]]}
    assert len(pages.make_property_transfer(results, chosen)[0].table) == 1


@pytest.mark.parametrize("truth_only", [False, True])
def test_populations(results, truth_only):
    options = {**TEXTS, "experiment": "e", "model": "m", "observed": "c", "train": "a", "simulated": ["a", "b"],
               "simulated_truth": truth_only}  # fmt: skip
    (panel,) = pages.make_population(results, options)
    assert set(panel.table["population"]) == {"c", "a + b"}
    assert np.isfinite(panel.table["true_p50"][panel.table["n"] > 20][0])
    assert "correlation with size" in panel.verdicts[0].sentence


def test_observed_galaxies_unlike_the_training_ones_are_left_out(results):
    features = representation_features(WIDTH)
    config = TrainConfig(max_epochs=2, batch_size=64)
    galaxies = replace(results.catalogues["a"], root=results.catalogues["a"].ids)
    model = galineage.train(galaxies, features, "cinn", target=["f_ex"], config=config, members=1, progress=False)
    galineage.save(model, results.out / Job("e", "m", "a", "holdout").folder / "bundle")
    spec = SimpleNamespace(train_domains=("a",), name="e", folds=0)
    results.study.experiment = lambda name: spec
    survey = results.catalogues["survey"]
    far = {name: np.where(np.arange(len(survey)) < 60, 9.0, survey[name]) for name in features}
    results.catalogues["survey"] = replace(survey, columns={**survey.columns, **far})
    options = {**TEXTS, "experiment": "e", "model": "m", "observed": "survey", "train": "a"}
    whole, caption = pages._predicted(results, options, "f_ex")
    assert (len(whole.mstar), caption) == (240, "c")
    alike, caption = pages._predicted(results, {**options, "resembling": True}, "f_ex")
    assert 150 < len(alike.mstar) <= 180
    assert not np.isin([f"survey/survey-{k}" for k in range(60)], alike.galaxies).any()
    assert f"{len(alike.mstar)} resemble" in caption


def test_a_domain_without_representations_is_named(results):
    results.catalogues["bare"] = Catalogue({"mstar": np.ones(5) * 1e10}, np.arange(5), np.array("bare"))
    with pytest.raises(DataError, match="no representation"):
        pages.make_landscape(results, {**TEXTS, "domains": ["bare"]})
    with pytest.raises(ConfigError, match="no test of a simulated domain"):
        pages.make_population(results, {**TEXTS, "experiment": "e", "model": "x", "observed": "c", "simulated": ["a"]})
