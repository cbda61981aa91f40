"""From a snapshot on disk to a store of maps, as a person types it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from galineage.cli import main
from galineage.errors import ConfigError, FileFormatError
from galineage.models.bundle import save
from galineage.sources.native import EagleSource, TngSource, open_snapshot
from galineage.store.map_store import MapStore
from galineage.tables import read_table
from galineage.toy import make_toy, write_eagle_box, write_tng_box
from galineage.training import train


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    return (
        write_tng_box(folder / "toy-a", "toy-a", 10, 3, stars=400),
        write_eagle_box(folder / "toy-b", "toy-b", 6, 3, stars=400),
    )


def test_tng_files_become_a_store_with_their_truth(boxes, tmp_path, capsys):
    out = tmp_path / "maps"
    arguments = ["prepare", str(boxes[0]), "--views", "tng", "--pixels", "32", "--out", str(out)]
    assert main(arguments) == 0
    assert "10 galaxies of toy-a, snapshot 99" in capsys.readouterr().out
    store = MapStore(out)
    source = TngSource(boxes[0], 99, "toy-a")
    for galaxy in source.galaxies(source.catalogue().ids):
        rows = [k for k, row in enumerate(store.rows) if row["id"] == galaxy.id]
        mass = galaxy.stars.mass
        assert store.truth("f_ex")[rows[0]] == pytest.approx(mass @ galaxy.stars.ex_situ / mass.sum(), abs=1e-5)
        assert store.rows[rows[0]]["root"].startswith("toy-a:tree-")
    before = store.checksums
    assert main(arguments) == 0
    assert MapStore(out).checksums == before
    assert main([*arguments[:-1], str(out), "--seed", "3"]) == 1
    assert "made with other settings: settings.seed" in capsys.readouterr().err


def test_eagle_files_and_their_export_join_the_same_store(boxes, tmp_path):
    out = str(tmp_path / "maps")
    (export,) = boxes[1].glob("*_SubHalo.csv")
    snapshot = str(boxes[1] / "snapshot_028_z000p000")
    common = ["--views", "2", "--pixels", "16", "--number", "float16", "--out", out]
    assert main(["prepare", str(boxes[0]), *common]) == 0
    assert main(["prepare", snapshot, "--export", str(export), "--domain", "toy-b", *common]) == 0
    store = MapStore(out)
    assert {row["domain"] for row in store.rows} == {"toy-a", "toy-b"}
    assert store.read([0, len(store) - 1]).dtype == np.float16
    assert len(store) == 2 * 16


def test_a_galaxy_is_described_and_drawn(boxes, tmp_path, capsys):
    figure = tmp_path / "galaxy.png"
    assert main(["inspect", str(boxes[0])]) == 0
    assert "10 galaxies above 1e10 Msun" in capsys.readouterr().out
    catalogue = TngSource(boxes[0], 99, "toy-a").catalogue()
    chosen = str(catalogue.ids[1])
    assert main(["inspect", str(boxes[0]), "--galaxy", chosen, "--pixels", "32", "--figure", str(figure)]) == 0
    said = capsys.readouterr().out
    assert f"galaxy {chosen} of toy-a: 400 stars" in said
    assert "mstar (catalogue)" in said
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert main(["inspect", str(boxes[0]), "--galaxy", "123456"]) == 1
    assert "no subhalo 123456" in capsys.readouterr().err


def test_snapshots_are_told_by_their_files(boxes, tmp_path):
    assert isinstance(open_snapshot(boxes[0]), TngSource)
    assert open_snapshot(boxes[0] / "output").domain == "toy-a"
    eagle = open_snapshot(boxes[1] / "snapshot_028_z000p000")
    assert isinstance(eagle, EagleSource)
    assert eagle.snapshot == 28
    (tmp_path / "snapdir_098").mkdir()
    (tmp_path / "snapdir_099").mkdir()
    with pytest.raises(ConfigError, match="there are 2 snapshots: 98, 99"):
        open_snapshot(tmp_path)
    with pytest.raises(FileFormatError, match="no snapshot was found"):
        open_snapshot(boxes[0].parent)
    with pytest.raises(ConfigError, match="needs no export"):
        open_snapshot(boxes[0], export="x.csv")


@pytest.mark.parametrize("box", ["tng", "eagle"])
def test_the_toy_writes_boxes(tmp_path, capsys, box, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["toy", "--n", "3", "--box", box, "--out", "made"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "galineage prepare" in line)
    command = line.partition("galineage ")[2].split()
    assert main([*command, "--pixels", "16"]) == 0
    assert len(MapStore("maps")) == 12


def test_from_a_snapshot_to_a_network_for_maps(boxes, tmp_path, capsys):
    store, model = str(tmp_path / "maps"), str(tmp_path / "model")
    assert main(["prepare", str(boxes[0]), "--pixels", "16", "--views", "12", "--domain", "toy-a", "--out", store]) == 0
    arguments = ["--model", "maps", "--members", "1", "--epochs", "1", "--channels", "mass", "sigma", "--aperture", "1"]
    assert main(["train", store, "--rows", "toy-a", *arguments, "--out", model]) == 0
    table = tmp_path / "found.ecsv"
    assert main(["predict", model, store, "--out", str(table)]) == 0
    assert len(read_table(table)) == len(MapStore(store))
    capsys.readouterr()
    assert main(["train", store, "--model", "mdn", "--aperture", "1", "--out", model]) == 1
    assert "does not see maps" in capsys.readouterr().err
    assert main(["adapt", model, store, "--out", str(tmp_path / "adapted")]) == 1
    assert "no features to match" in capsys.readouterr().err
    assert main(["train", store, "--rows", "toy-z", "--model", "maps", "--out", model]) == 1
    refused = capsys.readouterr().err
    assert "no galaxy of toy-z" in refused
    assert "expected: toy-a" in refused
    assert main(["calibrate", model, store, "--for", store, "--out", str(tmp_path / "mended")]) == 1
    assert "--for compares features" in capsys.readouterr().err
    assert main(["evaluate", model, store, "--mapping", "galineage", "--out", str(tmp_path / "page")]) == 1
    assert "this is a map store" in capsys.readouterr().err


def test_a_store_is_a_table_of_galaxies_for_those_who_see_no_maps(boxes, tmp_path, capsys):
    store, out = str(tmp_path / "maps"), tmp_path / "found.ecsv"
    assert main(["prepare", str(boxes[0]), "--pixels", "16", "--views", "3", "--domain", "toy-a", "--out", store]) == 0
    capsys.readouterr()
    assert main(["inspect", store]) == 0
    said = capsys.readouterr().out
    assert "10 galaxies from" in said
    assert "views of" not in said
    assert "f_ex" in said
    bundle = train(make_toy("toy-a", 60, 1), ["mstar", "age"], "spline", progress=False)
    save(bundle, tmp_path / "spline")
    assert main(["predict", str(tmp_path / "spline"), store, "--out", str(out)]) == 0
    assert len(read_table(out)) == 10
    shutil.rmtree(tmp_path / "maps" / "parts" / "toy-a-099" / "shards" / "000000")
    main(["inspect", store])
    assert "no galaxy of any domain" in capsys.readouterr().err
