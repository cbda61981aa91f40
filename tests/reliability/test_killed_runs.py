"""R2: whenever a run or a save is killed with SIGKILL, a whole checkpoint or bundle is there, at most one step old."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KILLS = 50


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What every kill left."""
    paths = [str(HERE), str(HERE.parent / "training")]
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_runs.py"), str(tmp_path_factory.mktemp("killed")), str(KILLS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_kills_while_checkpoints_are_written(rows, tally):
    kills = [row for row in rows if row["kind"] == "checkpoint"]
    assert len(kills) == KILLS
    assert {row["signal"] for row in kills} == {9}
    for row in kills:
        assert row["epoch"] in (row["begun"] - 1, row["begun"]) or row["begun"] == 0, row
        assert row["epoch"] >= row["done"], row
        assert row["history whole"], row
        assert row["left over"] <= 1 or row["done"] == 0, "temporary files of killed writes do not pile up"
    # epochs that had been trained when the process died, and those that its checkpoint holds
    lost = [max(0, row["begun"] - row["epoch"]) for row in kills]
    assert max(lost) <= 1
    epochs = [row["epoch"] for row in kills]
    assert epochs == sorted(epochs)
    assert sum(row["in write"] for row in kills) >= 5, "some kills must fall into a write"
    tally(
        "R2",
        f"{KILLS} kills while training",
        f"{sum(row['in write'] for row in kills)} of them inside a write",
        "0 unreadable checkpoints",
        f"at most {max(lost)} interval lost",
    )


def test_a_run_killed_fifty_times_ends_as_if_unbroken(rows):
    (end,) = [row for row in rows if row["kind"] == "end"]
    assert end == {"kind": "end", "equal": True, "history": True}


def test_kills_while_a_bundle_is_saved(rows, tally):
    kills = [row for row in rows if row["kind"] == "bundle"]
    assert len(kills) == KILLS
    assert all(row["whole"] and row["signal"] == 9 for row in kills)
    assert sum(row["in write"] for row in kills) >= KILLS // 2
    inside = sum(row["in write"] for row in kills)
    tally("R2", f"{KILLS} kills while saving a bundle", f"{inside} inside a save", "0 unreadable or mixed bundles")
