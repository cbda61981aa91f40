"""A trained model and galaxies without truth, and what comes of them: views, cards, files, the command."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from galineage.adaptation import ASSUMPTION, QuantileMatching, adapt
from galineage.calibration import Recalibration
from galineage.cli import main
from galineage.errors import BundleError, ConfigError, DataError
from galineage.galaxy import Catalogue
from galineage.models import Adapted, BoundedHead, FlowHead, GaussianHead, make_estimator
from galineage.models.bounded import Histogram, TruncatedMixture, TruncatedSplineFlow, WidenedLogit
from galineage.models.bundle import Bundle, card_text, load, save
from galineage.models.joining import join_members
from galineage.posterior import Posterior
from galineage.prediction import predict
from galineage.tables import write_catalogue, write_table
from galineage.toy import make_toy
from galineage.training import TrainConfig, train
from galineage.training.alignment import ALIGNMENTS

FEATURES = ("mstar", "metallicity", "age")
QUICK = TrainConfig(max_epochs=3, batch_size=64, device="cpu", seed=5)
PRESETS = {
    "mdn": {"members": 2, "hidden": (8,)},
    "flow": {"members": 2, "hidden": (8,)},
    "pool": {"members": 4, "hidden": (8,)},
    "paper": {"members": 2},
    "spline": {},
    "forest": {"trees": 5},
    "boosting": {"rounds": 5},
}


@pytest.fixture(scope="module")
def here():
    return make_toy("toy-a", 300, 1)


@pytest.fixture(scope="module")
def there():
    return make_toy("toy-b", 250, 2)


@pytest.fixture(scope="module")
def models(here):
    return {
        name: train(here, FEATURES, name, config=QUICK, progress=False, **options) for name, options in PRESETS.items()
    }


def spoiled(catalogue, **changes):
    columns = {**catalogue.columns, **changes}
    return Catalogue(
        {name: values for name, values in columns.items() if values is not None},
        catalogue.ids,
        catalogue.domain,
        catalogue.root,
        meta=catalogue.meta,
    )


def asked(estimator, catalogue):
    with torch.no_grad():
        return estimator(torch.as_tensor(catalogue.features(FEATURES), dtype=torch.float32))


def same(first, second):
    mine, other = first.state_dict(), second.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in mine.items())


# --- the truth is never looked at ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["marginal", "at-mass"])
def test_an_adapted_model_is_the_same_whatever_the_truth_of_its_galaxies(models, there, kind):
    noise = np.random.default_rng(0).uniform(size=len(there))
    plain, wrong, none = (
        adapt(models["mdn"], spoiled(there, f_ex=truth), kind=kind) for truth in (there["f_ex"], noise, None)
    )
    assert same(plain.estimator, wrong.estimator)
    assert same(plain.estimator, none.estimator)
    assert plain.card == wrong.card == none.card
    first, second = (predict(bundle, spoiled(there, f_ex=None)) for bundle in (plain, none))
    assert all(np.array_equal(first[name], second[name]) for name in first.colnames)


def test_aligned_training_is_the_same_whatever_the_truth_of_the_unlabelled(here, there):
    noise = np.random.default_rng(0).uniform(size=len(there))
    options = {"config": QUICK, "members": 2, "hidden": (8,), "progress": False, "alignment": "mmd"}
    found = [
        train(here, FEATURES, "mdn", unlabelled=spoiled(there, f_ex=truth), **options)
        for truth in (there["f_ex"], noise, None)
    ]
    assert same(found[0].estimator, found[1].estimator)
    assert same(found[0].estimator, found[2].estimator)
    assert not same(found[0].estimator, train(here, FEATURES, "mdn", **{**options, "alignment": None}).estimator)


def test_the_signature_has_no_place_for_a_truth():
    assert set(inspect.signature(adapt).parameters) == {"bundle", "catalogue", "kind", "mass", "views", "source"}


# --- views --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRESETS))
def test_both_views_are_the_members_of_each(models, there, name):
    found = {
        views: asked(adapt(models[name], there, views=views).estimator, there)
        for views in (("raw",), ("matched",), ("raw", "matched"))
    }
    members = models[name].estimator.members
    both = found["raw", "matched"]
    assert both.batch_shape == (2 * members, len(there))
    y = torch.linspace(0.05, 0.95, len(there))
    expected = torch.cat([found["raw",].log_prob(y), found["matched",].log_prob(y)])
    torch.testing.assert_close(both.log_prob(y), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["raw",].log_prob(y), asked(models[name].estimator, there).log_prob(y))
    assert not torch.allclose(found["matched",].mean, found["raw",].mean)
    assert type(both) is type(found["raw",])


def test_the_pooled_posterior_holds_both_answers(models, there):
    raw, matched, both = (
        Posterior(asked(adapt(models["mdn"], there, views=views).estimator, there))
        for views in (["raw"], ["matched"], ["raw", "matched"])
    )
    y = torch.full((len(there),), 0.3)
    torch.testing.assert_close(both.cdf(y), 0.5 * (raw.cdf(y) + matched.cdf(y)), atol=1e-5, rtol=0)
    assert (both.epistemic >= torch.minimum(raw.epistemic, matched.epistemic) - 1e-5).all()


def test_members_can_be_given_their_own_rows(models, there):
    estimator = adapt(models["mdn"], there).estimator
    x = torch.as_tensor(there.features(FEATURES), dtype=torch.float32)
    with torch.no_grad():
        own = estimator(x.expand(estimator.members, -1, -1).contiguous())
        torch.testing.assert_close(own.mean, estimator(x).mean)


def test_matched_inputs_of_a_domain_in_other_units_give_the_old_answers(models, here):
    """A survey whose ages are stretched and metallicities shifted, but whose galaxies are the same."""
    survey = spoiled(here, age=here["age"] * 0.6 + 2, metallicity=here["metallicity"] * 3)
    model = models["mdn"]
    adapted = adapt(model, survey, views=["matched"])
    old, found = (
        asked(item, data).mean.mean(0) for item, data in ((model.estimator, here), (adapted.estimator, survey))
    )
    raw = asked(model.estimator, survey).mean.mean(0)
    assert float((found - old).abs().mean()) < 0.1 * float((raw - old).abs().mean())


# --- card, files, prediction --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRESETS))
def test_adapted_models_come_back_from_disk_bit_for_bit(models, there, name, tmp_path):
    for kind in ("marginal", "at-mass"):
        made = adapt(models[name], there, kind=kind)
        again = load(save(made, tmp_path / kind))
        assert isinstance(again.estimator, Adapted)
        assert again.estimator.settings() == json.loads(json.dumps(made.estimator.settings()))
        assert again.card == json.loads(json.dumps(made.card))
        assert again.shift is not None
        y = torch.full((len(there),), 0.4)
        assert torch.equal(asked(again.estimator, there).log_prob(y), asked(made.estimator, there).log_prob(y))


def test_the_card_says_to_what_it_was_adapted_and_what_is_assumed(models, there):
    survey = Catalogue(there.columns, there.ids, "SURVEY", meta={"file": "survey.fits", "sha256": "ab12"})
    made = adapt(models["mdn"], survey, kind="at-mass", mass="keep", views=["matched"])
    assert made.card["adapted"] == {
        "domains": ["SURVEY"],
        "rows": 250,
        "file": "survey.fits",
        "sha256": "ab12",
        "kind": "at-mass",
        "mass": "keep",
        "views": ["matched"],
        "assumption": ASSUMPTION,
    }
    assert made.name == "mdn (adapted to SURVEY) trained on toy-a"
    text = card_text(made)
    assert ASSUMPTION == "assumes that galaxies of both domains with equal ranks have equal histories"
    assert ASSUMPTION in text
    assert "SURVEY (survey.fits)" in text
    assert all(name.startswith("before adaptation") for name in made.card["metrics"])
    assert "adapted" not in models["mdn"].card


def test_predictions_keep_the_flags_of_the_training_galaxies(models, there):
    plain, made = predict(models["mdn"], there), predict(adapt(models["mdn"], there), there)
    assert made.colnames == plain.colnames
    assert np.array_equal(made["shift"], plain["shift"])
    assert np.array_equal(made["flag"] & 15, plain["flag"] & 15)
    assert not np.allclose(made["fexsitu_p50"], plain["fexsitu_p50"])


def test_galaxies_without_an_input_are_no_obstacle(models, there):
    age = there["age"].copy()
    age[5] = np.nan
    gap = spoiled(there, age=age)
    made = adapt(models["mdn"], gap)
    assert made.card["adapted"]["rows"] == 249
    table = predict(made, gap)
    assert table["flag"][5] & 1
    assert np.ma.count_masked(table["fexsitu_p50"]) == 1


def test_the_source_is_the_training_sample_or_what_is_given(models, here, there):
    own = adapt(models["mdn"], there).estimator
    given = adapt(models["mdn"], there, source=here).estimator
    for name in ("target", "source"):
        torch.testing.assert_close(getattr(own.matching, name), getattr(given.matching, name), rtol=1e-4, atol=1e-4)
    bare = Bundle(models["mdn"].estimator, models["mdn"].card)
    with pytest.raises(DataError, match="no sample of its training galaxies"):
        adapt(bare, there)
    assert adapt(bare, there, source=here).shift is None


def test_a_recalibration_of_other_posteriors_is_left_behind(models, here, there):
    model = replace(
        models["mdn"],
        recalibration=Recalibration.fit(np.linspace(0.2, 0.8, 100)),
        card={**models["mdn"].card, "calibration": {}},
    )
    made = adapt(model, there)
    assert made.recalibration is None
    assert "calibration" not in made.card
    assert same(made.estimator, adapt(models["mdn"], there).estimator)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "deep"}, ConfigError, "no matching of kind"),
        ({"mass": "drop"}, ConfigError, "mass is"),
        ({"views": []}, ConfigError, "views are"),
        ({"views": ["raw", "raw"]}, ConfigError, "views are"),
        ({"views": ["mapped"]}, ConfigError, "views are"),
    ],
)
def test_wrong_settings_are_refused(models, there, change, error, message):
    with pytest.raises(error, match=message):
        adapt(models["mdn"], there, **change)


def test_what_cannot_be_adapted_is_refused(models, there):
    with pytest.raises(DataError, match="target domain has 30 galaxies"):
        adapt(models["mdn"], there.select(np.arange(30)))
    with pytest.raises(ConfigError, match="kind 'adapted' cannot be adapted"):
        adapt(adapt(models["mdn"], there), there)
    joint = make_estimator("cinn", FEATURES, ("f_ex", "t_last_major"), members=1, blocks=2, hidden=(4,))
    with pytest.raises(ConfigError, match="kind 'joint' cannot be adapted"):
        adapt(Bundle(joint), there, source=there)
    with pytest.raises(ConfigError, match="cannot be trained"):
        adapt(models["mdn"], there).estimator.fit_scaling(torch.zeros(3, 3))
    with pytest.raises(ConfigError, match="the matching is for the features"):
        Adapted(FEATURES, inner=models["mdn"].estimator, matching=QuantileMatching(FEATURES[::-1]))
    with pytest.raises(ConfigError, match="infers 'f_ex'"):
        Adapted(FEATURES, "t_last_major", inner=models["mdn"].estimator, matching=QuantileMatching(FEATURES))


def _set(path, value):
    def change(settings):
        for name in path[:-1]:
            settings = settings[name]
        settings[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set(["matching", "knots"], 900_000),
        _set(["matching", "nodes"], 900_000),
        _set(["inner", "settings", "hidden"], [90_000, 90_000]),
        _set(["inner", "kind"], "adapted"),
        _set(["inner", "kind"], "nothing"),
        _set(["inner"], "x"),
        _set(["inner", "settings"], {}),
        _set(["matching"], [1]),
        _set(["matching", "features"], ["age"]),
        _set(["views"], ["raw"] * 200),
        _set(["views"], 3),
    ],
)
def test_hostile_descriptions_are_refused_before_anything_is_built(models, there, change, tmp_path):
    folder = save(adapt(models["mdn"], there), tmp_path / "m")
    description = json.loads((folder / "bundle.json").read_text())
    change(description["settings"])
    (folder / "bundle.json").write_text(json.dumps(description))
    with pytest.raises(BundleError):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), 1e9])
def test_hostile_knots_are_refused(models, there, value, tmp_path):
    made = adapt(models["mdn"], there)
    made.estimator.matching.target[0, 1, 3] = value
    with pytest.raises(BundleError, match="knots of the matching"):
        load(save(made, tmp_path / "m"))


# --- training towards a domain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(ALIGNMENTS))
def test_train_takes_an_alignment_by_name(here, there, kind, tmp_path):
    options = {"config": QUICK, "members": 2, "hidden": (8,), "progress": False}
    bundle = train(here, FEATURES, "mdn", alignment=kind, unlabelled=there, **options)
    told = bundle.card["alignment"]
    assert (told["kind"], told["domains"]) == (kind, ["toy-b"])
    assert load(save(bundle, tmp_path / "m")).card == json.loads(json.dumps(bundle.card))


def test_train_drops_weights_with_their_rows(here):
    age, weights = here["age"].copy(), np.random.default_rng(0).uniform(0.5, 2, len(here))
    age[::7] = np.nan
    whole = np.isfinite(age)
    options = {"config": QUICK, "members": 2, "hidden": (8,), "progress": False}
    first = train(spoiled(here, age=age), FEATURES, weights=weights, **options)
    second = train(here.select(whole), FEATURES, weights=weights[whole], **options)
    assert same(first.estimator, second.estimator)
    assert first.card["weights"]["largest over mean"] > 1
    with pytest.raises(DataError, match=r"weights have shape \(3,\)"):
        train(here, FEATURES, weights=np.ones(3), **options)


def test_an_alignment_without_galaxies_is_refused(here):
    with pytest.raises(ConfigError, match="unlabelled rows must be given"):
        train(here, FEATURES, alignment="coral", config=QUICK, members=2, hidden=(8,), progress=False)
    with pytest.raises(ConfigError, match="no alignment called 'deep'"):
        train(here, FEATURES, alignment="deep", unlabelled=here, config=QUICK, members=2, progress=False)


# --- joining ------------------------------------------------------------------------------------------------------


def spread(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


HEADS = [GaussianHead(), GaussianHead(3), BoundedHead(), FlowHead()]


@pytest.mark.parametrize("head", HEADS, ids=["normal", "normals", "mixture", "flow"])
def test_joined_members_are_what_they_were(head):
    parts = [head.distribution(spread(e, 5, head.outputs, seed=e)) for e in (1, 3, 2)]
    joined = join_members(parts)
    assert type(joined) is type(parts[0])
    assert joined.batch_shape == (6, 5)
    y = torch.linspace(0.1, 0.9, 5)
    for name in ("log_prob", "cdf"):
        expected = torch.cat([getattr(part, name)(y) for part in parts])
        torch.testing.assert_close(getattr(joined, name)(y), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(joined.mean, torch.cat([part.mean for part in parts]))


def test_joined_histograms_are_what_they_were():
    edges = torch.linspace(0, 1, 5)
    parts = [Histogram(torch.softmax(spread(2, 3, 4, seed=seed), -1), edges) for seed in (1, 2)]
    joined = join_members(parts)
    torch.testing.assert_close(joined.mean, torch.cat([part.mean for part in parts]))
    assert join_members(parts[:1]) is parts[0]


def test_what_cannot_be_joined_is_refused():
    normal = Normal(torch.zeros(2, 3), 1.0)
    mixture = TruncatedMixture(spread(2, 3, 1), spread(2, 3, 1), torch.ones(2, 3, 1), WidenedLogit())
    other = TruncatedMixture(spread(2, 3, 1), spread(2, 3, 1), torch.ones(2, 3, 1), WidenedLogit(0.1))
    flow = TruncatedSplineFlow(
        *(spread(2, 3).abs() for _ in "ab"), *(spread(2, 3, k) for k in (4, 4, 3)), WidenedLogit()
    )
    odd = MixtureSameFamily(
        Categorical(logits=torch.zeros(2, 3, 2)), torch.distributions.Laplace(torch.zeros(2, 3, 2), 1.0)
    )
    histograms = [Histogram(torch.full((1, 3, 2), 0.5), torch.tensor([0, cut, 1.0])) for cut in (0.4, 0.5)]
    for parts, message in (
        ([normal, mixture], "Normal, TruncatedMixture cannot be joined"),
        ([flow, mixture], "cannot be joined"),
        ([mixture, other], "different link"),
        (histograms, "different edges"),
        ([odd, odd], "Laplace cannot be joined"),
        ([torch.distributions.Laplace(0.0, 1.0)] * 2, "Laplace cannot be joined"),
    ):
        with pytest.raises(ConfigError, match=message):
            join_members(parts)


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_adapts_a_bundle_to_a_table(models, there, tmp_path, capsys):
    model, table = save(models["mdn"], tmp_path / "model"), tmp_path / "toy-b.fits"
    write_catalogue(there, table)
    out = tmp_path / "adapted"
    assert main(["adapt", str(model), str(table), "--kind", "at-mass", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "250 galaxies" in said
    assert ASSUMPTION in said
    made = load(out)
    assert made.card["adapted"]["file"].endswith("toy-b.fits")
    assert len(made.card["adapted"]["sha256"]) == 64
    write_table(predict(made, there), tmp_path / "p.ecsv")
    assert main(["predict", str(out), str(table), "--out", str(tmp_path / "p.fits")]) == 0
    assert main(["inspect", str(out)]) == 0
    assert ASSUMPTION in capsys.readouterr().out


def test_the_command_says_what_is_wrong(models, there, tmp_path, capsys):
    model = save(adapt(models["mdn"], there), tmp_path / "model")
    table = tmp_path / "toy-b.fits"
    write_catalogue(there, table)
    assert main(["adapt", str(model), str(table), "--out", str(tmp_path / "x")]) == 1
    assert "cannot be adapted" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
