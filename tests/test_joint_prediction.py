"""Tables of several targets: columns, conditions, units, flags; trained, saved, loaded, applied and tested."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.units import Unit

from galineage import evaluate, load, predict, report, save
from galineage.cli import main
from galineage.errors import ConfigError
from galineage.fields import FIELDS, MERGER_TARGETS
from galineage.prediction import FLAGS, LEVELS
from galineage.tables import read_table, write_catalogue
from galineage.toy import make_toy
from galineage.training import TrainConfig, needed_fields, train

TARGETS = ("f_ex", "t_last_major", "mstar_last_major")
SMALL = {"blocks": 2, "hidden": (8,), "condition": (8, 4)}
FEATURES = ("mstar", "age", "r_half")
SUMMARIES = (*LEVELS, "mean", "std", "map", "aleatoric", "epistemic")


@pytest.fixture(scope="module")
def galaxies():
    return make_toy("toy-a", 400, 3)


@pytest.fixture(scope="module")
def bundle(galaxies):
    config = TrainConfig(max_epochs=8, batch_size=128)
    return train(
        galaxies, FEATURES, "cinn", target=TARGETS, members=2, config=config, progress=False, split="row", **SMALL
    )


@pytest.fixture(scope="module")
def table(bundle, galaxies):
    return predict(bundle, galaxies)


def test_never_merged_galaxies_are_trained_on(bundle, galaxies):
    assert np.isnan(galaxies["t_last_major"]).any()
    assert bundle.card["rows"] == len(galaxies)
    assert set(bundle.card["prior_width"]) == set(TARGETS)
    assert bundle.card["prior_width"]["mstar_last_major"] < 10  # dex
    assert needed_fields(bundle.estimator) == [*FEATURES, "f_ex"]


def test_columns_of_every_target_are_named_described_and_carry_units(table):
    for prefix, name in (("fexsitu", "f_ex"), *((name, name) for name in MERGER_TARGETS)):
        for part in SUMMARIES:
            column = table[f"{prefix}_{part}"]
            assert column.unit == (Unit(FIELDS[name].unit) if FIELDS[name].unit else None)
            assert FIELDS[name].meaning in column.description
            assert ("given that there was one" in column.description) == (name in MERGER_TARGETS)
    assert "never had a major merger" in table["p_no_major"].description
    probability = np.asarray(table["p_no_major"])
    assert ((probability > 0) & (probability < 1)).all()


def test_predictions_stay_in_range_and_in_order(table):
    for prefix, name in (("fexsitu", "f_ex"), *((name, name) for name in MERGER_TARGETS)):
        values = np.stack([np.asarray(table[f"{prefix}_{part}"]) for part in LEVELS])
        assert (np.diff(values, axis=0) >= 0).all()
        assert FIELDS[name].in_range(values).all()
        assert FIELDS[name].in_range(np.asarray(table[f"{prefix}_map"])).all()


def test_what_is_said_of_a_galaxy_does_not_depend_on_the_others(bundle, galaxies, table):
    some = np.array([77, 3, 200])
    again = predict(bundle, galaxies.select(some))
    for name in table.colnames[2:]:
        np.testing.assert_allclose(np.asarray(again[name]), np.asarray(table[name])[some], rtol=2e-5, err_msg=name)


def test_a_bundle_of_several_targets_survives_its_folder(bundle, galaxies, table, tmp_path):
    save(bundle, tmp_path / "bundle")
    again = predict(load(tmp_path / "bundle"), galaxies)
    for name in table.colnames[2:]:
        np.testing.assert_array_equal(np.asarray(again[name]), np.asarray(table[name]))
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert all(name in card for name in TARGETS)


def test_a_galaxy_that_surely_never_merged_is_masked_and_flagged(bundle, galaxies, monkeypatch):
    import galineage.prediction as module

    def sure(estimator, x, levels, **_):
        found = {name: {part: np.full(len(x), 1.0) for part in SUMMARIES[5:]} for name in TARGETS}
        for name in TARGETS:
            found[name]["quantiles"] = np.ones((5, len(x)))
        found["t_last_major"] = {key: np.full_like(value, np.nan) for key, value in found["t_last_major"].items()}
        return found, np.linspace(0.4, 1.0, len(x))

    monkeypatch.setattr(module, "summarise_joint", sure)
    table = predict(bundle, galaxies.select(np.arange(10)))
    assert table["t_last_major_p50"].mask.all()
    assert not table["fexsitu_p50"].mask.any()
    np.testing.assert_array_equal((np.asarray(table["flag"]) & 64) > 0, np.asarray(table["p_no_major"]) > 0.5)
    assert 64 in FLAGS


def test_wide_means_wide_in_every_target(bundle, galaxies):
    def wide(**widths):
        prior = {**dict.fromkeys(TARGETS, 1e-9), **widths}
        changed = type(bundle)(bundle.estimator, {**bundle.card, "prior_width": prior})
        return (np.asarray(predict(changed, galaxies.select(np.arange(20)))["flag"]) & 16) > 0

    assert wide().all()
    assert not wide(t_last_major=1e9).any()


def test_missing_inputs_are_masked(bundle, galaxies):
    columns = {name: np.array(values, dtype=float) for name, values in galaxies.columns.items()}
    columns["age"][1] = np.nan
    from dataclasses import replace

    table = predict(bundle, replace(galaxies, columns=columns).select(np.arange(4)))
    assert list(table["p_no_major"].mask) == [False, True, False, False]
    assert list(table["t_last_major_p50"].mask) == [False, True, False, False]


def test_one_always_defined_target_has_no_probability_of_none(galaxies):
    config = TrainConfig(max_epochs=2)
    one = train(galaxies, FEATURES, "cinn", members=2, config=config, progress=False, split="row", **SMALL)
    table = predict(one, galaxies)
    assert "p_no_major" not in table.colnames
    assert "fexsitu_p50" in table.colnames


def test_a_model_of_one_target_refuses_several(galaxies):
    with pytest.raises(ConfigError, match=r"one target[\s\S]*cinn"):
        train(galaxies, FEATURES, "mdn", target=TARGETS, progress=False)


@pytest.fixture(scope="module")
def found(bundle):
    return evaluate(bundle, make_toy("toy-b", 300, 5))


def test_evaluation_has_every_target_and_all_together(found):
    assert found.joint is not None
    assert set(found.others) == set(MERGER_TARGETS)
    names = set(found.verdicts)
    assert {"coverage", "t_last_major.coverage", "mstar_last_major.pit", "joint.never", "joint.tarp"} <= names
    text = str(found)
    assert "300 galaxies" in text
    assert "joint: " in text


@pytest.mark.slow
def test_the_page_of_an_evaluation_shows_every_target_and_all_together(found, tmp_path):
    page = report(found, tmp_path)
    for name in ("joint_never", "t_last_major_coverage", "coverage"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000
    assert "All targets together" in page.read_text()
    assert len(read_table(tmp_path / "joint.parquet")) == 300
    summary = read_table(tmp_path / "tables" / "summary.ecsv")
    assert set(summary["target"]) == set(TARGETS)


def test_the_command_line_goes_all_the_way(galaxies, tmp_path, capsys):
    source, model, out = tmp_path / "toy-a.parquet", tmp_path / "model", tmp_path / "found.parquet"
    write_catalogue(galaxies, source)
    command = ["train", str(source), "--features", *FEATURES, "--target", "f_ex", "t_last_major", "--model", "cinn"]
    assert main([*command, "--members", "2", "--epochs", "2", "--out", str(model)]) == 0
    assert main(["predict", str(model), str(source), "--out", str(out)]) == 0
    table = read_table(out)
    assert {"fexsitu_p50", "t_last_major_p50", "p_no_major"} <= set(table.colnames)
    assert "Gyr" in str(table["t_last_major_p50"].unit)
    assert main(["train", str(source), "--target", "f_ex", "t_last_major", "--out", str(tmp_path / "no")]) == 1
    assert "cinn" in capsys.readouterr().err
