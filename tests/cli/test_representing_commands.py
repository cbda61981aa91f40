"""From a store of images to representations, tables, a map and networks, as a user types it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from killing import killed_after

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
import made_images

import galineage
from galineage.cli import main
from galineage.galaxy import Catalogue
from galineage.sources import open_source
from galineage.tables import read_table

QUICK = ("--epochs", "3", "--batch-size", "16", "--queue", "32", "--device", "cpu")


class Known(made_images.Images):
    """Two views of each galaxy, all of them good; galaxies of ``first`` are unlike others."""

    def __init__(self, count, first):
        super().__init__(count)
        self.first = first

    def read(self, row):
        cutout = super().read(1000 * (1 + self.first) + row // 2)
        galaxy = row // 2
        truth = {"f_ex": (galaxy % 19 + 1) / 20, "t_last_major": float(galaxy % 7) + 0.5}
        facts = {"root": f"g{galaxy}", "measured": {"mstar": 1e10 * (1 + galaxy)}, "truth": truth, "r_half": 4.0}
        return type(cutout)(cutout.values, cutout.bands, cutout.pixel_scale, redshift=0.1, meta={"facts": facts})


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A store of two domains of 52 galaxies, and a representation of it."""
    folder = tmp_path_factory.mktemp("work")
    for first, domain in enumerate(("sim", "sky")):
        made_images.build(folder / "images", Known(104, first), domain=domain, per_shard=128)
    arguments = ["contrast", folder / "images", *QUICK, "--probe", "mstar", "f_ex", "--hold-out", "0.25"]
    assert main([str(one) for one in (*arguments, "--out", folder / "rep")]) == 0
    return folder


def run(capsys, *arguments):
    capsys.readouterr()
    status = main([str(one) for one in arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_a_representation_is_learned_and_says_of_what(work, capsys):
    network, card = galineage.load_representation(work / "rep")
    assert network.encoder_name == "representation"
    assert card["domains"] == ["sim", "sky"]
    held = card["held_out"]["galaxies"]
    assert card["held_out"]["fraction"] == 0.25
    assert all(5 < count < 22 for count in held.values())
    assert card["images"] == {name: 104 - 2 * held[name] for name in ("sim", "sky")}
    assert card["store"] == galineage.ImageStore(work / "images").digest
    assert card["training"]["epochs"] == 3
    assert np.isfinite([card["loss"], card["probe_mstar"], card["probe_f_ex"]]).all()
    assert (work / "rep" / "history.csv").read_text().count("\n") == 4
    assert not (work / "rep.training").exists()
    assert len(read_table(work / "rep" / "held_out.ecsv")) == sum(held.values())
    status, said, error = run(capsys, "inspect", work / "rep")
    assert (status, error) == (0, "")
    assert "# A representation of images" in said
    assert "hsc-g" in said
    assert "probe_mstar" in said


def test_a_killed_training_goes_on_and_ends_the_same(work, tmp_path, capsys):
    arguments = ("contrast", work / "images", "--domains", "sim", *QUICK)
    assert run(capsys, *arguments, "--out", tmp_path / "whole")[0] == 0
    with killed_after(2):
        status, _, error = run(capsys, *arguments, "--out", tmp_path / "rep")
    assert status == 130
    assert "goes on" in error
    # what a run that was killed while it saved leaves behind is no obstacle
    (tmp_path / "rep").mkdir()
    (tmp_path / "rep" / "README.md").write_text("half")
    status, said, _ = run(capsys, *arguments, "--out", tmp_path / "rep")
    assert status == 0
    assert "after 3 epochs" in said
    assert "104" in said.split("without")[0], "nothing was held out"
    names = {path.name for path in (tmp_path / "rep").glob("weights-*")}
    assert names == {path.name for path in (tmp_path / "whole").glob("weights-*")}, "named by their checksum"
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "rep"}


def test_a_training_may_be_asked_more_when_it_goes_on(work, tmp_path, capsys):
    arguments = ("contrast", work / "images", "--domains", "sim", *QUICK, "--out", tmp_path / "rep")
    with killed_after(2):
        assert run(capsys, *arguments)[0] == 130
    status, said, _ = run(capsys, *arguments, "--probe", "mstar")
    assert status == 0
    assert "mstar from the nearest galaxies in the representation: R2" in said
    lines = (tmp_path / "rep" / "history.csv").read_text().splitlines()
    assert "probe_mstar" in lines[0]
    assert len(lines) == 4


def test_one_number_in_two_snapshots_is_two_galaxies(tmp_path, capsys):
    class Later(Known):
        def __init__(self, snapshot):
            super().__init__(104, 0)
            self.snapshot = snapshot

        def read(self, row):
            cutout = super().read(row)
            facts = {**cutout.meta["facts"], "root": f"{self.snapshot}-{row // 2}", "snapshot": self.snapshot}
            return type(cutout)(
                cutout.values, cutout.bands, cutout.pixel_scale, redshift=0.1, meta={**cutout.meta, "facts": facts}
            )

    for snapshot in (84, 99):
        ids = np.array([str(k) for k in range(52)])
        catalogue = Catalogue({"snapshot": np.full(52, snapshot)}, ids, np.full(52, "sim"))
        made_images.build(tmp_path / "images", Later(snapshot), domain="sim", per_shard=128, catalogue=catalogue)
    arguments = ("contrast", tmp_path / "images", "--hold-out", "0.25", *QUICK, "--out", tmp_path / "rep")
    assert run(capsys, *arguments)[0] == 0
    held = read_table(tmp_path / "rep" / "held_out.ecsv")
    assert set(held["Snapshot"].tolist()) == {"84", "99"}
    _, card = galineage.load_representation(tmp_path / "rep")
    assert card["held_out"]["galaxies"]["sim"] == len(held)
    assert card["images"]["sim"] == 208 - 2 * len(held)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (("--variant", "published", "--epochs", "1", "--queue", "16"), {"batch_size": 32, "temperature": 0.04}),
        (("--variant", "simclr", "--epochs", "1", "--temperature", "0.3"), {"batch_size": 256, "temperature": 0.3}),
        (("--encoder", "resnet18", "--epochs", "1", "--batch-size", "104"), {"queue": 4096, "variant": "nnclr"}),
    ],
)
def test_variants_bring_their_own_settings(work, tmp_path, capsys, options, settings):
    arguments = ("contrast", work / "images", "--domains", "sim", "--device", "cpu", *options)
    assert run(capsys, *arguments, "--out", tmp_path / "rep")[::2] == (0, "")
    network, card = galineage.load_representation(tmp_path / "rep")
    assert {name: card["training"][name] for name in settings} == settings
    assert network.encoder_name == ("resnet18" if "resnet18" in options else "representation")


def test_tables_and_a_map(work, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    out, page = tmp_path / "tables", tmp_path / "maps" / "map.html"
    status, said, error = run(capsys, "represent", work / "rep", work / "images", "--out", out, "--map", page)
    assert (status, error) == (0, "")
    assert "104 images of 52 galaxies of sky" in said
    network, _ = galineage.load_representation(work / "rep")
    views = galineage.represent(network, galineage.ImageStore(work / "images").views("sky"))
    table = open_source(out / "sky.parquet", "galineage").read()
    assert len(table) == 104
    assert set(table.domain) == {"sky"}
    np.testing.assert_array_equal(table["rep_255"], views["rep_255"])
    text = page.read_text(encoding="utf-8")
    assert "data:image/" in text
    assert "log10 mstar" in text
    assert f"map: {page}" in said


def test_one_domain_goes_into_one_file(work, tmp_path, capsys):
    arguments = ("represent", work / "rep", work / "images")
    status, said, _ = run(capsys, *arguments, "--domain", "sky", "--out", tmp_path / "sky.fits")
    assert status == 0
    assert "note" not in said
    assert len(open_source(tmp_path / "sky.fits", "galineage").read()) == 104
    status, said, _ = run(capsys, *arguments, "--domain", "sky", "--out", tmp_path / "other.parquet")
    assert status == 0
    assert "read as domain other" in said


def test_a_network_learns_from_the_table(work, tmp_path, capsys):
    run(capsys, "represent", work / "rep", work / "images", "--out", tmp_path)
    table, model = tmp_path / "sim.parquet", tmp_path / "model"
    options = ("--model", "cinn", "--target", "f_ex", "t_last_major", "--members", 1, "--epochs", 2)
    status, _, error = run(
        capsys, "train", table, "--mapping", "galineage", "--features", "representation", *options, "--out", model
    )
    assert (status, error) == (0, "")
    assert len(galineage.load(model).estimator.features) == 256
    status, _, error = run(
        capsys, "predict", model, tmp_path / "sky.parquet", "--mapping", "galineage", "--out", tmp_path / "p.fits"
    )
    assert (status, error) == (0, "")
    assert len(read_table(tmp_path / "p.fits")) == 104


def test_a_network_for_images_starts_from_the_encoder(work, tmp_path, capsys):
    arguments = ("train", work / "images", "--rows", "sim", "--target", "f_ex", "t_last_major", "--device", "cpu")
    options = ("--model", "maps-cinn", "--members", 1, "--epochs", 1, "--start", work / "rep")
    status, _, error = run(capsys, *arguments, *options, "--out", tmp_path / "model")
    assert (status, error) == (0, "")
    bundle = galineage.load(tmp_path / "model")
    assert bundle.estimator.encoder == "representation"
    assert "of a representation" in bundle.card["training"]["start"]
    status, _, error = run(capsys, "predict", tmp_path / "model", work / "images", "--out", tmp_path / "p.fits")
    assert (status, error) == (0, "")
    status, _, error = run(capsys, *arguments, "--model", "cinn", "--start", work / "rep", "--out", tmp_path / "other")
    assert status == 1
    assert "maps-cinn" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["contrast", "nothing", "--out", "x"], "galineage images"),
        (["contrast", "{work}/images", "--domains", "moon", "--out", "x"], "some of sim, sky"),
        (["contrast", "{work}/images", "--hold-out", "1", "--out", "x"], "not including, 1"),
        (["contrast", "{work}/images", "--batch-size", "1", "--out", "x"], "2 to"),
        (["contrast", "{work}/images", "--probe", "sfr", "--out", "x"], "leave it out"),
        (["contrast", "{work}/images", "--out", "{work}/images"], "a new folder"),
        (["contrast", "{work}/images", "--out", "{work}/rep/README.md"], "a new folder"),
        (["represent", "{work}/images", "{work}/images", "--out", "x"], "galineage contrast"),
        (["represent", "{work}/rep", "{work}/rep", "--out", "x"], "galineage images"),
        (["represent", "{work}/rep", "{work}/images", "--out", "x.parquet"], "--domain sim"),
        (["represent", "{work}/rep", "{work}/images", "--domain", "sky", "--out", "x.csv"], ".parquet"),
        (["represent", "{work}/rep", "{work}/images", "--domain", "moon", "--out", "x"], "sim, sky"),
        (["represent", "{work}/rep", "{work}/other", "--out", "x"], "the network's card"),
        (["train", "{work}/images", "--features", "representation", "--out", "x"], "galineage represent"),
        (["train", "{work}/images", "--features", "representation:x", "--out", "x"], "representation:N"),
        (["train", "{work}/images", "--model", "maps-cinn", "--start", "no-rep", "--out", "x"], "galineage contrast"),
    ],
)
def test_errors_name_the_next_step(work, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not (work / "other").exists():
        recipe = made_images.ImageRecipe(made_images.BANDS, pixels=20, pixel_scale=0.168)
        made_images.build(work / "other", Known(4, 0), recipe=recipe)
    status, _, error = run(capsys, *(text.format(work=work) for text in arguments))
    assert status == 1
    assert message in error
    assert "Traceback" not in error
    assert {path.name for path in tmp_path.iterdir()} <= {"x.training"}
    shutil.rmtree(tmp_path / "x.training", ignore_errors=True)


def test_a_map_of_what_is_not_known_is_refused(work, tmp_path, capsys):
    arguments = ("represent", work / "rep", work / "images", "--domain", "sky", "--out", tmp_path / "sky.parquet")
    status, _, error = run(capsys, *arguments, "--map", tmp_path / "m.html", "--properties", "sfr")
    assert status == 1
    assert "--properties" in error
