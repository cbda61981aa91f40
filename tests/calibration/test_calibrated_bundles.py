"""A bundle and held-out galaxies make a bundle with error bars that hold: saved, loaded, applied, evaluated."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from galineage.calibration import ConformalIntervals, Recalibration
from galineage.cli import main
from galineage.errors import BundleError, ConfigError, DataError
from galineage.evaluation.assess import evaluate
from galineage.evaluation.calibrate import METHODS, calibrate
from galineage.galaxy import Catalogue, concatenate
from galineage.models import make_estimator
from galineage.models.bundle import Bundle, load, save
from galineage.posterior import Posterior
from galineage.prediction import predict
from galineage.tables import read_table
from galineage.toy import make_toy
from galineage.training import train

FEATURES = ("mstar", "age")


def model(**card):
    """An untrained network, whose posteriors are wide and off."""
    estimator = make_estimator("mdn", FEATURES, members=2, hidden=(8,), seed=1)
    estimator.fit_scaling(torch.tensor([[9.0, 3.0], [12.0, 12.0]]))
    return Bundle(estimator.eval(), {"model": "mdn", "domains": ["A"], "data": {"sha256": "12ab"}, **card})


def galaxies(n=300, seed=0, *, own=False, **options):
    """Galaxies with random truths; ``own``: truths drawn from the model's own posteriors, which are then right."""
    rng = np.random.default_rng(seed)
    columns = {"mstar": 10 ** rng.uniform(9, 12, n), "age": rng.uniform(3, 12, n), "f_ex": rng.beta(2, 9, n)}
    if own:
        x = np.stack([np.log10(columns["mstar"]), columns["age"]], axis=1)
        with torch.no_grad():
            posterior = Posterior(model().estimator(torch.tensor(x, dtype=torch.float32)))
        columns["f_ex"] = posterior.sample(1, seed)[0].double().numpy()
    return Catalogue(columns, ids=np.arange(n), domain="A", **options)


def coverage(table, truth, low, high):
    return float(np.mean((np.asarray(table[low]) <= truth) & (truth <= np.asarray(table[high]))))


@pytest.mark.parametrize("method", METHODS)
def test_error_bars_hold_on_fresh_galaxies_and_survive_saving(method, tmp_path):
    plain, fresh = model(), galaxies(2000, 1)
    made = calibrate(plain, galaxies(1000), method=method)
    again = load(save(made, tmp_path / "m"))
    assert (again.recalibration, again.conformal) == (made.recalibration, made.conformal)
    table, before = predict(again, fresh), predict(plain, fresh)
    truth = np.asarray(fresh["f_ex"])
    names = {"pit": (("p16", "p84"), ("p025", "p975"))}.get(
        method, (("conf68_low", "conf68_high"), ("conf95_low", "conf95_high"))
    )
    assert abs(coverage(before, truth, "fexsitu_p16", "fexsitu_p84") - 0.68) > 0.08
    for level, (low, high) in zip((0.68, 0.95), names, strict=True):
        assert coverage(table, truth, f"fexsitu_{low}", f"fexsitu_{high}") == pytest.approx(level, abs=0.04)
        for end in (low, high):
            values = np.asarray(table[f"fexsitu_{end}"])
            assert ((values >= 0) & (values <= 1)).all()
    if method != "pit":  # the posterior itself is left alone
        np.testing.assert_allclose(table["fexsitu_p50"], before["fexsitu_p50"], atol=1e-6, rtol=0)
        assert "exchangeable" in table["fexsitu_conf68_low"].description
    assert table.colnames[-1] == "flag"


def test_a_right_model_is_left_alone():
    made = calibrate(model(), galaxies(1000, own=True))
    levels = torch.tensor([0.025, 0.16, 0.5, 0.84, 0.975])
    np.testing.assert_allclose(made.recalibration.inverse(levels), levels, atol=0.02)


def test_evaluation_goes_through_the_recalibration():
    fresh = galaxies(1000, 1)
    assert not evaluate(model(), fresh).verdicts["coverage"].passed
    found = evaluate(calibrate(model(), galaxies(2000)), fresh)
    assert found.verdicts["coverage"].passed, found.verdicts["coverage"].sentence
    assert found.verdicts["sbc"].passed, found.verdicts["sbc"].sentence


def test_rows_without_an_input_are_left_out_with_their_weights():
    whole = galaxies(300)
    age = np.array(whole["age"])
    age[:100] = np.nan
    gaps = Catalogue({**whole.columns, "age": age}, ids=whole.ids, domain="A")
    weights = np.linspace(0.5, 1.5, 300)
    made, expected = (
        calibrate(model(), item, weights=w)
        for item, w in ((gaps, weights), (whole.select(np.arange(100, 300)), weights[100:]))
    )
    assert made.recalibration == expected.recalibration
    assert made.card["calibration"][0]["galaxies"] == 200
    table = predict(calibrate(model(), whole, method="cqr"), gaps)
    assert table["fexsitu_conf95_low"].mask.sum() == 100


def test_the_card_says_with_what_and_under_which_assumption():
    made = calibrate(model(), galaxies(), method="pit", weights=np.linspace(0.5, 1.5, 300), meant_for="B")
    (facts,) = made.card["calibration"]
    assert facts["effective"] == pytest.approx(276.9, abs=1)
    assert facts["meant_for"] == "B"
    assert "importance weights are right" in facts["assumption"]
    twice = calibrate(made, galaxies(seed=2), method="conformal")
    assert [item["method"] for item in twice.card["calibration"]] == ["pit", "conformal"]
    assert twice.recalibration == made.recalibration
    assert sum(line.startswith("Calibrated") for line in twice.card["limits"]) == 2
    once = calibrate(twice, galaxies(seed=3))
    assert once.conformal is None
    assert [item["method"] for item in once.card["calibration"]] == ["pit"]


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(ConfigError, match="method"):
        calibrate(model(), galaxies(), method="magic")
    with pytest.raises(DataError, match="very file"):
        calibrate(model(), galaxies(meta={"sha256": "12ab", "file": "t.csv"}))
    with pytest.raises(DataError, match="too few"):
        calibrate(model(), galaxies(30))
    with pytest.raises(DataError, match="weights"):
        calibrate(model(), galaxies(), weights=np.ones(3))
    with pytest.raises(DataError, match="no column"):
        calibrate(model(), Catalogue({"mstar": np.ones(3)}, ids=np.arange(3), domain="A"))


@pytest.mark.parametrize(
    "change",
    [
        {"recalibration": 3},
        {"recalibration": {"knots": [1.0]}},
        {"recalibration": {**Recalibration.identity().settings(), "knots": list(range(100_000))}},
        {"conformal": []},
        {"conformal": {"kind": "cqr"}},
        {"conformal": {"kind": "pit", "levels": [0.5], "corrections": ["a"], "support": [0, 1], "count": 1}},
    ],
)
def test_a_damaged_calibration_is_a_bundle_error(change, tmp_path):
    folder = save(calibrate(model(), galaxies()), tmp_path / "m")
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match="calibration"):
        load(folder)


def test_bundles_without_calibration_have_none(tmp_path):
    again = load(save(model(), tmp_path / "m"))
    assert again.recalibration is None
    assert again.conformal is None


def test_conformal_with_too_few_galaxies_gives_the_range():
    pit = np.linspace(0.01, 0.99, 60)
    weights = np.append(np.ones(59), 1.5)
    conformal = ConformalIntervals.from_pit(pit, support=(0, 1), levels=(0.68, 0.99), weights=weights)
    table = predict(Bundle(model().estimator, model().card, conformal=conformal), galaxies(50))
    np.testing.assert_array_equal(table["fexsitu_conf99_low"], 0)
    np.testing.assert_array_equal(table["fexsitu_conf99_high"], 1)


@pytest.mark.parametrize("options", [[], ["--method", "cqr"], ["--for", "toy-b.fits", "--method", "conformal"]])
def test_the_command_writes_a_calibrated_bundle(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, suite in enumerate(("toy-a", "toy-b"), 1):
        assert main(["toy", "--suite", suite, "--n", "400", "--seed", str(seed), "--out", f"{suite}.fits"]) == 0
    save(model(domains=["toy-a"]), "model")
    assert main(["calibrate", "model", "toy-a.fits", *options, "--out", "mended"]) == 0
    said = capsys.readouterr().out
    assert "calibration galaxies" in said
    assert ("importance weights are right" in said) == ("--for" in options)
    assert main(["predict", "mended", "toy-b.fits", "--out", "p.ecsv"]) == 0
    assert ("fexsitu_conf68_low" in read_table("p.ecsv").colnames) == bool(options)
    assert "Calibrated error bars" in (tmp_path / "mended" / "README.md").read_text()


def test_galaxies_of_another_domain_are_refused():
    with pytest.raises(DataError, match="trained on toy-a, and these galaxies are of A"):
        calibrate(model(domains=["toy-a"]), galaxies())
    adapted = model(domains=["A"], adapted={"domains": ["B"]})
    with pytest.raises(DataError, match="adapted to B, and these galaxies are of A"):
        calibrate(adapted, galaxies())


def test_training_galaxies_are_told_in_any_file():
    table = make_toy("toy-a", 300, 1)
    bundle = train(table, ("mstar", "age", "r_half"), "spline", progress=False)
    fresh = make_toy("toy-a", 300, 2)
    for seen in (table, table.select(np.arange(300) % 3 == 0), concatenate([fresh, table.select(np.arange(300) < 30)])):
        with pytest.raises(DataError, match="exactly the inputs of galaxies that the model was trained on"):
            calibrate(bundle, replace(seen, meta={}))
    assert calibrate(bundle, fresh).recalibration is not None


def test_the_model_itself_is_not_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(model(domains=["toy-a"]), "model")
    assert main(["calibrate", "model", "toy-a.fits", "--out", "./model"]) == 1
    assert main(["adapt", "model", "toy-a.fits", "--out", "model/../model"]) == 1
    assert "would replace the one" in capsys.readouterr().err


def test_an_uncalibrated_bundle_has_no_trace_of_it():
    made = calibrate(calibrate(model(limits=["Small."]), galaxies()), galaxies(seed=2), method="cqr")
    plain = made.uncalibrated()
    assert (plain.recalibration, plain.conformal) == (None, None)
    assert plain.card == model(limits=["Small."]).card
