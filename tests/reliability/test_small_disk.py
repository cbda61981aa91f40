"""R4, R12: on a disk that is too small commands fail in words, leave no half file, and succeed when there is room.

Two disks of the kernel's own: files that may not grow beyond a limit, and a small file system in memory (which needs
the right to mount one).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What every command said on every disk."""
    done = subprocess.run(
        [sys.executable, str(HERE / "small_disk.py"), str(tmp_path_factory.mktemp("disk"))],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(rows, tally, name):
    """Check every row; count failures and successes."""
    failed = [row for row in rows if row["status"] != 0]
    for row in rows:
        where = f"{row['command']} with {row['size']}: {row['errors']}"
        assert row["broken"] == [], where
        assert row["again"] == 0, where
        if row["status"] != 0:
            assert row["status"] == 1, f"{where}{row['status']}"
            assert "cannot write" in row["errors"], where
            assert "where:" in row["errors"], where
            assert "Traceback" not in row["errors"], where
    assert {row["command"].partition(" ")[0] for row in failed} == {"train", "predict", "run", "report", "prepare"}
    tally("R4", name, f"{len(rows)} commands, {len(failed)} failed", "0 half files", "every rerun succeeded")


@pytest.mark.slow
def test_files_that_may_not_grow(rows, tally):
    check([row for row in rows if row["kind"] == "limit"], tally, "limit on the size of files")


@pytest.mark.slow
def test_a_small_file_system(rows, tally):
    found = [row for row in rows if row["kind"] == "tmpfs"]
    if not found:
        pytest.skip(
            f"no file system can be mounted here: {[row.get('reason', 'no mount command') for row in rows][-1]}"
        )
    check(found, tally, "tmpfs of 16 to 400 KiB")
