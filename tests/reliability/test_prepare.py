"""R1 for map stores: `galineage prepare` is killed at random moments and ends with the same checksums."""

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

KILLS, GALAXIES = 50, 1000
SHORT_KILLS, SHORT_GALAXIES = 3, 80
LONGEST = 0.2
"""Seconds from the beginning of the work to the latest kill: all together must not be enough to finish."""


@pytest.fixture(scope="module")
def box(request, tmp_path_factory):
    galaxies = GALAXIES if request.config.getoption("--slow") else SHORT_GALAXIES
    return write_tng_box(tmp_path_factory.mktemp("box") / "toy-a", "toy-a", galaxies, 5, stars=1000)


def begun(run, out):
    """Wait until a run holds the store's lock; False if it ended before."""
    while run.poll() is None:
        try:
            if (out / "lock").read_text().strip() == str(run.pid):
                return True
        except OSError:
            pass
        time.sleep(0.005)
    return False


def test_a_killed_prepare_ends_like_an_unbroken_one(box, tmp_path, request, tally):
    kills = KILLS if request.config.getoption("--slow") else SHORT_KILLS
    command = ["prepare", str(box), "--pixels", "64", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    whole, out = MapStore(tmp_path / "whole"), tmp_path / "killed"
    rng, killed, left = random.Random(2), 0, []
    while killed < kills:
        run = subprocess.Popen(
            [sys.executable, "-m", "galineage", *command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        working = begun(run, out)
        time.sleep(rng.uniform(0, LONGEST))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        assert working
        if run.returncode == 0:
            break  # it was done before the signal came
        killed += 1
        if (out / "store.json").exists():
            left.append(sum(MapStore(out).unfinished.values()))  # readable after every kill
    assert left == sorted(left, reverse=True), "finished shards stay"
    assert main([*command, str(out)]) == 0
    again = MapStore(out)
    again.check()
    assert again.checksums == whole.checksums
    assert again.rows == whole.rows
    tally("R1", f"galineage prepare, {len(whole)} maps", f"{killed} kills, same checksums as unbroken")
