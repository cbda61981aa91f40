"""The same store from the workers of a local Dask cluster, by the address of its scheduler."""

from __future__ import annotations

import pytest

from galineage.cli import main
from galineage.store.map_store import MapStore
from galineage.toy import write_tng_box

distributed = pytest.importorskip("distributed")


def test_a_scheduler_address_is_the_only_change(tmp_path):
    box = write_tng_box(tmp_path / "toy-a", "toy-a", 40, 2, stars=300)
    common = ["prepare", str(box), "--pixels", "16"]
    assert main([*common, "--out", str(tmp_path / "here")]) == 0
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        assert main([*common, "--scheduler", cluster.scheduler_address, "--out", str(tmp_path / "there")]) == 0
    here, there = MapStore(tmp_path / "here"), MapStore(tmp_path / "there")
    assert there.checksums == here.checksums
    assert there.rows == here.rows
