"""R5: damaged files of a simulation are refused, cost their galaxies, or change nothing; what passes is counted.

Files of simulations have no checksums: a flipped bit inside the numbers of a star is another number, and nothing in the
file tells. What cannot be noticed is counted here, and stands on the page.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from damaged_boxes import CUTS, FILES, FLIPS, SHORT_CUTS, SHORT_FLIPS

HERE = Path(__file__).parent


def damaged(layout, folder, *, slow):
    """What became of every damage to the files of a layout."""
    cuts, flips = (CUTS, FLIPS) if slow else (SHORT_CUTS, SHORT_FLIPS)
    done = subprocess.run(
        [sys.executable, str(HERE / "damaged_boxes.py"), layout, str(folder), str(cuts), str(flips)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("layout", FILES)
def test_damaged_files_are_refused_or_cost_their_galaxies(tmp_path, request, tally, layout):
    rows = damaged(layout, tmp_path, slow=request.config.getoption("--slow"))
    crashed = [row for row in rows if row["outcome"] in ("crashed", "not finite")]
    assert crashed == []
    for how in ("cut", "flip", "wrong type"):
        found = Counter(row["outcome"] for row in rows if row["how"] == how)
        counted = ", ".join(f"{number} {what}" for what, number in sorted(found.items()))
        tally("R5", f"{layout}: {how}", f"{found.total()} damages: {counted}", "0 crashes")
        changed = [row for row in rows if row["how"] == how and row["outcome"].startswith("changed")]
        # a flip in plain numbers is another number; those packed by gzip have a checksum each chunk
        if how != "flip" or "gzip" in layout:
            assert changed == [], f"{how} is noticed"
