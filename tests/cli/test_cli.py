"""Every command, as a user types it: what it writes, what it prints, and how it fails."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from galineage.cli import build_parser, main

COMMANDS = [
    "demo",
    "toy",
    "images",
    "contrast",
    "represent",
    "run",
    "train",
    "predict",
    "evaluate",
    "calibrate",
    "report",
    "inspect",
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with two toy tables and a small trained model."""
    folder = tmp_path_factory.mktemp("cli")
    for seed, suite in enumerate(("toy-a", "toy-b"), 1):
        arguments = ["toy", "--suite", suite, "--n", "200", "--seed", str(seed), "--out", str(folder / f"{suite}.fits")]
        assert main(arguments) == 0
    assert (
        main(
            [
                *["train", str(folder / "toy-a.fits"), "--features", "mstar", "age", "r_half", "--model", "mdn"],
                *["--members", "2", "--epochs", "5", "--device", "cpu", "--out", str(folder / "model")],
            ]
        )
        == 0
    )
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "example:" in text
    assert f"galineage {command}" in text.split("example:")[1]


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    assert all(command in capsys.readouterr().out + build_parser().format_help() for command in COMMANDS)


def test_train_leaves_a_bundle_with_card_and_history(work):
    assert (work / "model" / "bundle.json").exists()
    assert "toy" in (work / "model" / "README.md").read_text()
    assert (work / "model" / "history.csv").read_text().startswith("epoch,")
    assert not (work / "model.training").exists()


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "parquet", "vot"])
def test_predict_writes_every_format_with_units(work, tmp_path, suffix, capsys):
    out = tmp_path / f"p.{suffix}"
    assert main(["predict", str(work / "model"), str(work / "toy-b.fits"), "--out", str(out)]) == 0
    table = Table.read(out)
    assert len(table) == 200
    assert table["fexsitu_p50"].description.startswith("posterior median")
    assert "flag 8: 200 galaxies" in capsys.readouterr().out


def test_predict_keeps_rows_with_missing_values_and_masks_those_that_lack_an_input(work, tmp_path, capsys):
    table = Table.read(work / "toy-b.fits", mask_invalid=False)
    table.meta.clear()  # the checksum of the old values
    table["age"][3] = np.nan  # an input of the model
    table["metallicity"][5] = np.nan  # not an input
    table["age"][7] = 99.0  # impossible
    table.remove_column("f_ex")
    table.write(tmp_path / "toy-b.fits")
    out = tmp_path / "p.ecsv"
    assert main(["predict", str(work / "model"), str(tmp_path / "toy-b.fits"), "--out", str(out)]) == 0
    got = Table.read(out)
    assert got["id"].tolist() == np.delete(table["GalaxyID"], 7).tolist()
    assert np.flatnonzero(got["flag"] & 1).tolist() == [3]
    assert np.flatnonzero(np.ma.getmaskarray(got["fexsitu_p50"])).tolist() == [3]
    assert "flag 1: 1 galaxy:" in capsys.readouterr().out
    assert Table.read(tmp_path / "p.skipped.ecsv")["row"].tolist() == [7]


def test_evaluate_skips_rows_only_for_what_the_model_needs(work, tmp_path):
    table = Table.read(work / "toy-b.fits", mask_invalid=False)
    table.meta.clear()  # the checksum of the old values
    table["age"][3] = np.nan
    table["metallicity"][5] = np.nan
    table.write(tmp_path / "toy-b.fits")
    assert main(["evaluate", str(work / "model"), str(tmp_path / "toy-b.fits"), "--out", str(tmp_path / "e")]) == 0
    assert len(Table.read(tmp_path / "e" / "scores.ecsv")) == 199
    assert Table.read(tmp_path / "e" / "scores.skipped.ecsv")["row"].tolist() == [3]


def test_evaluate_prints_verdicts_and_writes_a_report(work, tmp_path, capsys):
    out = tmp_path / "eval"
    assert main(["evaluate", str(work / "model"), str(work / "toy-b.fits"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "68 % intervals hold the truth" in printed
    assert "WARNING" not in printed
    assert (out / "report.html").stat().st_size > 10_000
    assert len(Table.read(out / "scores.ecsv")) == 200


def test_evaluating_on_the_training_table_is_warned_about(work, tmp_path, capsys):
    assert main(["evaluate", str(work / "model"), str(work / "toy-a.fits"), "--out", str(tmp_path / "e")]) == 0
    assert "WARNING: The model was trained on this very file" in capsys.readouterr().out


def test_inspect_tells_what_a_table_and_a_bundle_hold(work, tmp_path, capsys):
    figure = tmp_path / "corner.png"
    assert main(["inspect", str(work / "toy-a.fits"), "--figure", str(figure)]) == 0
    printed = capsys.readouterr().out
    assert "toy-a (200)" in printed
    assert "could be inferred: f_ex" in printed
    assert figure.stat().st_size > 10_000
    assert main(["inspect", str(work / "model")]) == 0
    assert "Predicts **f_ex**" in capsys.readouterr().out


def test_run_lists_the_studies(capsys):
    assert main(["run", "--list"]) == 0
    assert "angeloudi2023-catalogue" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "there is no study 'nothing'"),
        (["run", "angeloudi2023-catalogue"], "add --data DIR"),
        (["run", "angeloudi2023-catalogue", "--data", "nowhere"], "properties_tng.h5py"),
        (["inspect", "nothing.fits"], "nothing.fits"),
        (["predict", "no-model", "{work}/toy-a.fits", "--out", "x.fits"], "not a bundle"),
        (["predict", "{work}/model", "{work}/toy-a.fits", "--out", "x.csv"], ".fits"),
        (["train", "{work}/toy-a.fits", "--features", "mstar", "n_views", "--out", "x"], "computed from the truth"),
        (["train", "{work}/toy-a.fits", "--model", "oracle", "--out", "x"], "no model called 'oracle'"),
        (["train", "{work}/toy-a.fits", "--mapping", "nothing", "--out", "x"], "no mapping 'nothing'"),
        (["toy", "--suite", "toy-z", "--out", "x.fits"], "toy-z"),
        (["report", "."], "holds no study"),
    ],
)
def test_errors_are_explained_on_stderr_with_status_1(work, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([text.format(work=work) for text in arguments]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demo_runs_and_names_its_report(tmp_path, capsys):
    assert main(["demo", "--small", "--out", str(tmp_path / "demo"), "--workers", "1"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert (tmp_path / "demo" / "report.html").stat().st_size > 100_000
    images = tmp_path / "demo" / "images"
    assert (images / "report.html").stat().st_size > 100_000
    assert (images / "landscape.html").stat().st_size > 100_000
    for name in ("landscape", "overlap", "power", "transfer_properties", "population_mass"):
        assert (images / "figures" / f"{name}.png").stat().st_size > 10_000
