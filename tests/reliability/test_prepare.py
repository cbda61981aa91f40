"""R1, R4 for map stores: `galineage prepare` is killed at random and ends with the same checksums."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from galineage.cli import main
from galineage.store.map_store import MapStore
from galineage.toy import write_tng_box


@pytest.fixture(scope="module")
def box(request, tmp_path_factory):
    galaxies = 1000 if request.config.getoption("--slow") else 60
    return write_tng_box(tmp_path_factory.mktemp("box") / "toy-a", "toy-a", galaxies, 5, stars=1000)


def test_a_killed_prepare_ends_like_an_unbroken_one(box, tmp_path, request, tally):
    """Kills come at any moment of the work, most of which is spent before them: progress is made between two."""
    kills = 50 if request.config.getoption("--slow") else 3
    command = ["prepare", str(box), "--pixels", "64", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    whole = MapStore(tmp_path / "whole")
    rng, killed, done = random.Random(2), 0, tmp_path / "killed"
    while killed < kills:
        run = subprocess.Popen(
            [sys.executable, "-m", "galineage", *command, str(done)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        shards = len(list(done.rglob("card.json")))
        until = time.monotonic() + 120
        while run.poll() is None and len(list(done.rglob("card.json"))) <= shards and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
            killed += 1
        run.communicate()
        if run.returncode == 0:
            break
        if (done / "store.json").exists():
            MapStore(done)
    assert main([*command, str(done)]) == 0
    again = MapStore(done)
    again.check()
    assert again.checksums == whole.checksums
    assert again.rows == whole.rows
    tally("R1", f"galineage prepare, {len(whole)} maps", f"{killed} kills, same checksums as unbroken")
