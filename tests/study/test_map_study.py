"""A study whose rows are views: from toy snapshots to networks for maps, their figures, and the same numbers twice."""
# ruff: noqa: E501 - the items of a study are one line each

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.table import Table

from galineage.cli import main
from galineage.errors import ConfigError
from galineage.store.map_store import MapStore
from galineage.study import load_study, run_study
from galineage.study.universe import make_universe, on_toys

STUDY = """
name = "views"
title = "Views"
lead = "For tests."
target = "f_ex"
seed = 5

[domains.TNG]
file = "tng.h5"
mapping = "tng100"
maps = "maps"

[domains.EAGLE]
file = "eagle.h5"
mapping = "eagle"
maps = "maps"

[[experiments]]
name = "m"
title = "maps"
domains = ["TNG", "EAGLE"]
features = []
views = true
folds = 0
holdout = 0.5
epochs = 2
models = [
  { preset = "maps", name = "all", members = 1 },
  { preset = "maps", name = "kin, 1", members = 1, variants = ["prior"], options = { seen = ["mass", "velocity", "sigma"], aperture = 1.0 } },
  { preset = "maps", name = "aligned", members = 1, adaptation = "mmd" },
  { preset = "maps", name = "weighted", members = 1, adaptation = "weights", options = { seen = ["mass"] } },
  { preset = "maps", name = "together", members = 1, adaptation = "together" },
]

[[sections]]
title = "All"
items = [
  { kind = "answers", name = "first", title = "F", caption = "c", experiment = "m", main = "kin, 1" },
  { kind = "gradients", name = "g", title = "G", caption = "c", domains = ["TNG", "EAGLE"], bins = 2 },
  { kind = "ladder", name = "l", title = "L", caption = "c", experiment = "m", pairs = "all", pairs_shown = [["TNG", "EAGLE"]] },
  { kind = "error-mass", name = "e", title = "E", caption = "c", experiment = "m", models = ["all", "kin, 1"], pairs = "all", along = "truth" },
  { kind = "umap", name = "u", title = "U", caption = "c", experiment = "m", models = ["all"] },
  { kind = "attribution", name = "a", title = "A", caption = "c", experiment = "m", model = "kin, 1", rings = 3 },
]
"""


ONE = """
name = "views"
title = "Views"
lead = "For tests."
target = "f_ex"
seed = 5

[domains.toy-a]
file = "toy-a.ecsv"
mapping = "galineage"
rows = "all"
maps = "maps"

[domains.toy-b]
maps = "maps"

[[experiments]]
name = "m"
title = "maps"
domains = ["toy-a", "toy-b"]
features = []
views = true
folds = 0
holdout = 0.5
models = [{ preset = "maps", name = "kin, 1", members = 5, options = { seen = ["mass", "velocity", "sigma"], aperture = 1.0 } }]

[[sections]]
title = "All"
items = [{ kind = "ladder", name = "l", title = "L", caption = "c", experiment = "m", pairs = "all", pairs_shown = [["toy-a", "toy-b"]] }]
"""


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "views.toml"
    path.write_text(STUDY)
    study, boxes = on_toys(load_study(path), 60, stars=300)
    data = tmp_path_factory.mktemp("data")
    make_universe(boxes, data, pixels=16, say=lambda _: None)
    return study, data


def run(study, data, out):
    import torch

    threads = torch.get_num_threads()
    try:
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
            patch.setitem(sys.modules, "umap", None)  # a minute of compilation; test_embedding.py uses it
            return run_study(study, data, out, executor=pool, say=lambda _: None)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(toys, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return run(*toys, out), out


def test_toys_take_the_place_of_both_simulations(toys):
    study, data = toys
    assert [domain.name for domain in study.domains] == ["toy-a", "toy-b"]
    assert study.experiments[0].domains == ("toy-a", "toy-b")
    assert study.figures[2].options["pairs_shown"] == [["toy-a", "toy-b"]]
    assert "toy universe" in study.warning
    assert set(MapStore(data / "maps").table()["domain"]) == {"toy-a", "toy-b"}


def test_every_figure_is_drawn(finished):
    page, out = finished
    for name in ("first", "g", "l_1", "e", "u_1", "a_1", "a_2"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 1000
    text = page.read_text()
    assert "moves the posterior mean most" in text
    assert "Inside a simulation “kin, 1”" in text
    table = Table.read(out / "tables" / "first.ecsv")
    assert "worse_error" in table.colnames
    assert "all domains" not in set(table["train"])
    assert "p_holm" in (out / "tables" / "g.ecsv").read_text()
    assert "principal components" in (out / "tables" / "u_1.ecsv").read_text()


def test_adapted_networks_stand_beside_the_others(finished):
    _, out = finished
    table = Table.read(out / "tables" / "l_1.ecsv")
    assert list(table["method"]) == ["all", "kin, 1", "kin, 1 + prior", "aligned", "weighted", "together"]
    assert list(table["train"]) == ["toy-a"] * 5 + ["all domains"]


def test_a_scheduler_address_is_the_only_change(toys, finished, tmp_path):
    """The cells of a study on the workers of a Dask cluster, as a user types it."""
    distributed = pytest.importorskip("distributed")
    _, data = toys
    _, out = finished
    path = tmp_path / "one.toml"
    path.write_text(ONE)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        arguments = ["run", str(path), "--data", str(data), "--out", str(tmp_path / "out"), "--epochs", "2"]
        assert main([*arguments, "--members", "1", "--scheduler", cluster.scheduler_address]) == 0
    from galineage.evaluation import Scores

    place = "cells/m/kin--1/toy-a/holdout/scores-toy-b.kin--1.parquet"
    np.testing.assert_allclose(Scores.read(tmp_path / "out" / place).mean, Scores.read(out / place).mean, atol=1e-4)


def test_two_runs_give_the_same_numbers(toys, finished, tmp_path):
    _, out = finished
    run(*toys, tmp_path)
    files = sorted(path.relative_to(out) for path in out.glob("cells/**/scores-*.parquet"))
    # two domains times two, and twice home and away for what is adapted; both tests of what learns from both
    assert len(files) == 4 + (4 + 2) + 4 + 4 + 2
    from galineage.evaluation import Scores

    for path in files:
        one, two = Scores.read(out / path), Scores.read(tmp_path / path)
        np.testing.assert_array_equal(one.mean, two.mean)
        np.testing.assert_array_equal(one.ids, two.ids)


def test_no_galaxy_is_trained_on_and_tested(toys, finished):
    """R16: every view of a galaxy that is held out is tested, and none of it was trained on."""
    from galineage.evaluation import Scores
    from galineage.models.bundle import load

    _study, data = toys
    _, out = finished
    store = MapStore(data / "maps")
    for domain in ("toy-a", "toy-b"):
        cell = out / "cells" / "m" / "all" / domain / "holdout"
        tested = set(Scores.read(cell / f"scores-{domain}.all.parquet").ids.tolist())
        views = store.views(domain)
        held = np.isin(views.ids, sorted(tested))
        assert load(cell / "bundle").card["rows"] == int((~held).sum())
        assert len(Scores.read(cell / f"scores-{domain}.all.parquet").ids) == int(held.sum())


def test_studies_without_maps_have_no_place_for_toys(toys):
    with pytest.raises(ConfigError, match="no two domains with maps"):
        on_toys(load_study("transfer"), 40)
