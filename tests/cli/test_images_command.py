"""The command that makes stores of images: of files, of pictures, of a snapshot; and what looks at them."""

from __future__ import annotations

import image_files as made
import numpy as np
import pytest
from astropy.table import Table

from galineage.cli import main
from galineage.galaxy import Catalogue
from galineage.sources import open_source
from galineage.sources.images import read_cutout
from galineage.store.image_store import ImageStore
from galineage.tables import write_catalogue
from galineage.toy import write_eagle_box, write_tng_box


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    return write_tng_box(tmp_path_factory.mktemp("box") / "toy", "toy-a", 4, 1, stars=300, progress=False)


def run(capsys, *arguments):
    status = main([str(one) for one in arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def survey(folder, count=5):
    folder.mkdir()
    for k in range(count):
        images = {band: 100 * made.blob(seed=k, width=3 + k % 3) for band in "GRI"}
        made.mock(folder / f"g{k}.fits", bands="GRI", **images)
    (folder / "g9.fits").write_bytes(b"no image")
    return folder


def test_a_survey_s_files_become_a_store_that_is_looked_at(tmp_path, capsys):
    ids, truth = np.array([f"g{k}" for k in range(5)]), np.linspace(0, 1, 5)
    known = tmp_path / "toy-known.ecsv"
    write_catalogue(
        Catalogue({"mstar": np.full(5, 1e10), "f_ex": truth, "snapshot": np.full(5, 99)}, ids, np.full(5, "HSC"), ids),
        known,
    )
    out = tmp_path / "images"
    arguments = ("images", survey(tmp_path / "HSC"), "--pixels", 16, "--table", known, "--out", out)
    status, said, error = run(capsys, *arguments)
    assert (status, error) == (0, "")
    assert "6 images of HSC" in said
    assert "5 images of 5 galaxies of HSC" in said
    assert "1 images were skipped" in said
    store = ImageStore(out)
    assert store.channels == ("hsc-g", "hsc-r", "hsc-i")
    np.testing.assert_allclose(store.views()["f_ex"], truth)
    assert "r90" in open_source(out / "HSC.ecsv", "galineage").read()
    figure = tmp_path / "images.png"
    status, said, _ = run(capsys, "inspect", out, "--figure", figure)
    assert status == 0
    assert "r90" in said
    assert figure.stat().st_size > 1000
    assert run(capsys, *arguments)[0] == 0, "a run that is done is done"
    status, _, error = run(capsys, *arguments, "--stretch", "joint")
    assert status == 1
    assert "joint" in error


def test_galaxies_of_a_snapshot_are_observed(tmp_path, capsys, box):
    out, kept = tmp_path / "images", tmp_path / "kept"
    status, said, error = run(
        capsys, "images", box, "--domain", "toy-a", "--redshift", 0.1, 0.2, "--mstar-min", 1e9, "--limit", 2,
        "--pixels", 16, "--noise", 2, "--keep", kept, "--out", out,
    )  # fmt: skip
    assert (status, error) == (0, "")
    assert "4 images of toy-a" in said
    store = ImageStore(out)
    assert {row["views"] for row in store.rows} == {2}
    assert ((store.views()["redshift"] >= 0.1) & (store.views()["redshift"] <= 0.2)).all()
    assert "f_ex" in store.views()
    assert len(list(kept.iterdir())) == 4
    assert read_cutout(next(kept.iterdir()), role="RAW").bands == store.channels
    assert store.sources()["toy-a"][0]["mocks"]["observation"]["sky"][0] == pytest.approx(2 * 4.3e-4)


def test_eagle_takes_its_export_and_births(tmp_path, capsys):
    place = write_eagle_box(tmp_path / "box", "toy-b", 3, 2, stars=300, progress=False)
    (snapshot,), (export,), (births,) = (place.glob(name) for name in ("snapshot_*", "*_SubHalo.csv", "star_birth_*"))
    status, _, error = run(
        capsys, "images", snapshot, "--export", export, "--births", births, "--mstar-min", 1e9, "--pixels", 16,
        "--domain", "toy-b", "--out", tmp_path / "images",
    )  # fmt: skip
    assert (status, error) == (0, "")
    assert np.isfinite(ImageStore(tmp_path / "images").views("toy-b")["f_ex"]).all()


def test_pictures_and_their_table(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "shown"
    folder.mkdir()
    for k in range(3):
        grey = made.blob(64, flux=60, seed=k, noise=1e-3).clip(0, 1)
        image.fromarray((255 * np.stack([grey] * 3, axis=-1)).astype(np.uint8)).save(folder / f"{k}.png")
    Table({"name": [f"p{k}" for k in range(3)], "shown": [f"{k}.png" for k in range(3)]}).write(folder / "t.csv")
    arguments = ("images", folder, "--pictures", "t.csv", "--id", "name", "--file", "shown", "--pixels", 16)
    bands = ("--bands", "sdss-g", "sdss-r", "sdss-i")
    status, _, error = run(capsys, *arguments, *bands, "--pixel-scale", 0.4, "--out", tmp_path / "images")
    assert (status, error) == (0, "")
    assert [row["id"] for row in ImageStore(tmp_path / "images").rows] == ["p0", "p1", "p2"]
    views = ImageStore(tmp_path / "images").views()
    assert "r90" in views
    assert "app_r" not in views, "what a picture shows is no flux"
    assert run(capsys, *arguments, *bands, "--out", tmp_path / "other")[0] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--keep", "x"), "--keep goes with a snapshot"),
        (("--views", 2), "--views goes with a snapshot"),
        (("--seed", 0), "--seed goes with a snapshot"),
        (("--mstar-min", 1e9), "--mstar-min goes with a snapshot"),
        (("--id", "name"), "--id goes with --pictures"),
        (("--pictures", "t.csv", "--zero-point", 22), "--zero-point and --pictures"),
        (("--pictures", "t.csv", "--stretch", "colour"), "--stretch and --pictures"),
        (("--rows", "all"), "--table, which is not given"),
        (("--bands", "hsc-g", "hsc-g"), "each once"),
        (("--pixels", "2"), "4 to 4096 pixels"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path, capsys, options, words):
    status, _, error = run(capsys, "images", survey(tmp_path / "a", 1), *options, "--out", tmp_path / "out")
    assert status == 1
    assert words in error


def test_what_does_not_go_with_a_snapshot_is_told(tmp_path, capsys, box):
    for options, words in (
        (("--redshift", 0.1, 0.2, 0.3), "3 numbers"),
        (("--views", 5), "5"),
        (("--bands", "sdss-g"), "sdss-g"),
        (("--table", "x.csv"), "--table goes with files"),
        (("--pixel-scale", 0.2), "--pixel-scale goes with files"),
        (("--skies", "x", "--fwhm", 0.7), "--fwhm and --skies"),
    ):
        status, _, error = run(capsys, "images", box, *options, "--out", tmp_path / "out")
        assert status == 1
        assert words in error


def test_a_run_goes_on_with_the_same_numbers_only(tmp_path, capsys):
    silent = tmp_path / "a"
    silent.mkdir()
    for k in range(2):
        values = np.stack([made.blob(64, flux=60, seed=k, noise=1e-3)] * 3)
        np.savez(silent / f"{k}.npz", images=values, filters=["G", "R", "I"])
    arguments = ("images", silent, "--pixels", 16, "--pixel-scale", 0.168, "--out", tmp_path / "images")
    assert run(capsys, *arguments, "--zero-point", 27)[0] == 0
    assert [row["id"] for row in ImageStore(tmp_path / "images").rows] == ["0", "1"]
    status, _, error = run(capsys, *arguments, "--zero-point", 22.5)
    assert status == 1
    assert "source.options.zero_point: 27.0 was, 22.5 is" in error


def test_brightness_may_stay(tmp_path, capsys):
    files, fixed = survey(tmp_path / "a", 2), ("--stretch", "colour", "--fixed", 0.01, 5)
    assert run(capsys, "images", files, *fixed, "--pixels", 16, "--out", tmp_path / "images")[0] == 0
    settings = ImageStore(tmp_path / "images").settings["images"]
    assert settings["stretch"] == {"softening": 0.01, "white": 5.0, "centre": 20}
    status, _, error = run(capsys, "images", files, "--fixed", 0.01, 5, "--out", tmp_path / "other")
    assert status == 1
    assert "--stretch colour" in error


def test_only_the_first_images(tmp_path, capsys):
    out = tmp_path / "images"
    assert run(capsys, "images", survey(tmp_path / "a", 3), "--limit", 2, "--pixels", 16, "--out", out)[0] == 0
    assert len(ImageStore(out)) == 2
