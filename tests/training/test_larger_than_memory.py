"""A map store that is larger than the memory a process may take is trained on all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest

from galineage.galaxy import Catalogue
from galineage.store.prepare import prepare
from galineage.store.settings import StoreConfig
from galineage.store.shards import write_shard
from galineage.views import MapConfig

VIEWS, GALAXIES, PIXELS = 4, 1600, 128
ROOM = 400 * 10**6
"""Bytes that training may take beside its libraries."""


class MadeUp:
    """A source whose galaxies need not be seen."""

    name, domain = "made up", "made"

    def galaxies(self, ids):
        raise NotImplementedError


class Shards(Executor):
    """Writes shards of noise instead of making maps, which would take minutes."""

    def __init__(self):
        size = 5 * PIXELS**2
        self.noise = np.random.default_rng(0).standard_normal(2 * VIEWS * 64 * size // 8).astype(np.float16)

    def submit(self, fn, /, *args, **kwargs):
        _, ids, views, truth, roots, _, path = args
        count = sum(views)
        begin = int(ids[0]) * 977
        values = np.resize(np.roll(self.noise, begin), (count, 5, PIXELS, PIXELS))
        rows = [
            {"id": one, "domain": "made", "snapshot": 99, "root": root, "redshift": 0.0, "r_half": 4.0, "pixel": 0.125,
             "stars": 9, "missing": [], "truth": known, "measured": {}, "view": view, "views": VIEWS,
             "los": [0.0, 0.0, 1.0], "up": [0.0, 1.0, 0.0]}
            for one, root, known in zip(ids, roots, truth, strict=True)
            for view in range(VIEWS)
        ]  # fmt: skip
        done = Future()
        done.set_result(str(write_shard(path, {"refined": values}, rows, []).path))
        return done


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    f_ex = np.random.default_rng(1).uniform(0.02, 0.95, GALAXIES)
    columns = {"f_ex": f_ex, "mstar": np.full(GALAXIES, 2e10), "snapshot": np.full(GALAXIES, 99)}
    ids = np.arange(GALAXIES).astype(str)
    catalogue = Catalogue(columns, ids, np.full(GALAXIES, "made"), ids)
    config = StoreConfig(MapConfig(pixels=PIXELS), views=VIEWS, number="float16", raw=False, galaxies_per_shard=64)
    folder = tmp_path_factory.mktemp("large") / "maps"
    yield prepare(MadeUp(), catalogue, folder, config, executor=Shards(), progress=False)
    shutil.rmtree(folder)  # a gigabyte


def trained(store, memory):
    command = [sys.executable, str(Path(__file__).with_name("train_under_a_cap.py")), str(store.path), str(ROOM)]
    one = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    run = subprocess.run([*command, str(memory)], env=one, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on private memory is Linux's")
def test_a_store_larger_than_memory_trains(store):
    """The limit is kept by the kernel; mapped pages of the store, which it can drop at any time, are not in it."""
    size = sum(path.stat().st_size for path in store.path.rglob("*.npy"))
    assert size > 2.5 * ROOM
    found = trained(store, memory=0.05)
    assert found["finished"], found
    assert (found["rows"], found["epochs"]) == (VIEWS * GALAXIES, 1)
    assert found["peak"] - found["base"] < ROOM
    # with all maps held there would be no room: the limit is one
    control = trained(store, memory=4.0)
    assert not control["finished"]
    assert "memory" in control["error"]
