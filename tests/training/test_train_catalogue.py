"""From a catalogue to a bundle in one call: what is left out, what the card says, what stays together."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lines import draw, quick

from galineage.errors import ConfigError, DataError, TrainingError
from galineage.galaxy import Catalogue
from galineage.models import ESTIMATORS, PRESETS
from galineage.models.bundle import load, save
from galineage.sources import open_source
from galineage.training import DEFAULT_FEATURES, train, with_metrics
from galineage.training.ensemble import feature_ranges

FEATURES = ("mstar", "age")
SMALL = {"perceptron": {"members": 2, "hidden": (8,)}, "forest": {"trees": 5}, "boosting": {"rounds": 5}}


def catalogue(n=80, root=True, **changes):
    x, y = draw(n)
    columns = {
        "mstar": 10 ** x[:, 0],
        "age": x[:, 1],
        "f_ex": y,
        "gas_mass": np.where(np.arange(n) < 5, 0.0, 10 ** x[:, 1]),
    }
    columns |= changes.pop("columns", {})
    roots = np.array([f"r{row // 2}" for row in range(n)]) if root else None
    return Catalogue(
        columns, np.arange(n), "toy-a", roots, **{"meta": {"file": "t.csv", "sha256": "ab", "x": {}}, **changes}
    )


TABLES = [name for name, (kind, _) in PRESETS.items() if not ESTIMATORS[kind].sees_maps]


@pytest.mark.parametrize("model", TABLES)
def test_every_preset_goes_from_a_catalogue_to_a_bundle_on_disk(model, tmp_path):
    options = SMALL.get(PRESETS[model][0], {})
    bundle = train(catalogue(), FEATURES, model, config=quick(max_epochs=2), progress=False, **options)
    assert bundle.name == f"{model} trained on toy-a"
    assert not bundle.estimator.training
    assert load(save(bundle, tmp_path / "m")).card == json.loads(json.dumps(bundle.card))


def test_the_card_tells_the_training_set_and_its_limits():
    cat = catalogue()
    bundle = train(cat, FEATURES, members=2, config=quick(max_epochs=2), progress=False, hidden=(8,))
    card = bundle.card
    assert (card["model"], card["domains"], card["rows"]) == ("mdn", ["toy-a"], 80)
    assert card["data"] == {"file": "t.csv", "sha256": "ab"}
    assert card["training"]["split"] == "root"
    assert card["training"]["max_epochs"] == 2
    assert len(card["training"]["best_epoch"]) == 2
    assert card["prior_width"] == pytest.approx(np.ptp(np.quantile(cat["f_ex"], [0.025, 0.975])))
    assert card["ranges"]["mstar"]["max"] == pytest.approx(np.log10(cat["mstar"].max()))
    assert "TOY" in card["limits"][0]
    assert any("age (stellar age" in line for line in card["limits"])
    measured = with_metrics(bundle, {"R2": 0.5})
    assert measured.card["metrics"].keys() == {*card["metrics"], "R2"}
    assert "R2" not in card["metrics"]


def test_rows_with_a_missing_input_or_target_are_left_out():
    cat = catalogue()
    bundle = train(cat, ("mstar", "gas_mass"), "spline", config=quick(), progress=False)
    assert bundle.card["rows"] == 75


def test_galaxies_of_one_root_stay_together_and_a_split_by_row_must_be_asked_for():
    with pytest.raises(DataError, match="descendants of these galaxies are unknown"):
        train(catalogue(root=False), FEATURES, config=quick(), progress=False)
    train(catalogue(root=False), FEATURES, "spline", config=quick(), split="row", progress=False)
    with pytest.raises(ConfigError, match="'colour'"):
        train(catalogue(), FEATURES, config=quick(), split="colour", progress=False)


def test_a_run_continued_with_another_split_is_refused(tmp_path):
    options = {"members": 2, "hidden": (8,), "progress": False, "folder": tmp_path, "config": quick(max_epochs=2)}
    train(catalogue(), FEATURES, **options)
    with pytest.raises(TrainingError, match="groups have other values"):
        train(catalogue(), FEATURES, split="row", **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"features": "mstar"}, ConfigError, "is the string"),
        ({"features": ("mstar", "f_ex")}, ConfigError, "computed from the truth"),
        ({"features": ("mstar", "sfr")}, DataError, "no column 'sfr'"),
        ({"target": "n_views"}, ConfigError, "not a fraction"),
        ({"model": "transformer"}, ConfigError, "no model called"),
        ({"colour": "blue"}, ConfigError, "colour"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(arguments, error, message):
    with pytest.raises(error, match=message):
        train(catalogue(), **{"features": FEATURES, "config": quick(), "progress": False, **arguments})


def test_no_usable_row_is_refused():
    cat = catalogue(columns={"sfr": np.full(80, np.nan)})
    with pytest.raises(DataError, match="only 0 galaxies"):
        train(cat, ("mstar", "sfr"), config=quick(), progress=False)


def test_ranges_are_those_of_the_features():
    x = np.stack([np.arange(101.0), np.full(101, 3.0)], axis=1)
    found = feature_ranges(("mstar", "age"), x)
    assert found["mstar"] == {"min": 0, "p01": 1, "p99": 99, "max": 100}
    assert set(found["age"].values()) == {3.0}


def test_the_default_features_are_the_papers_five():
    assert DEFAULT_FEATURES == ("mstar", "metallicity", "age", "r_half", "spin")


@pytest.mark.data
def test_mass_alone_tells_much_of_the_real_ex_situ_fractions_of_tng(catalogs):
    cat = open_source(catalogs / "properties_tng.h5py").read()
    bundle = train(cat, ("mstar", "age"), "spline", progress=False)
    assert (bundle.card["rows"], bundle.card["domains"]) == (6477, ["TNG100-1"])
    with torch.no_grad():
        found = bundle.estimator(torch.as_tensor(cat.features(("mstar", "age")), dtype=torch.float32))
    truth = torch.tensor(cat["f_ex"].astype(np.float32))
    assert float(1 - (found.mean[0] - truth).var() / truth.var()) > 0.4
    pit = found.cdf(truth)[0]
    assert abs(float(((pit > 0.16) & (pit < 0.84)).float().mean()) - 0.68) < 0.06
