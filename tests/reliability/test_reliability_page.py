"""The page of counted faults says what the tests count."""

from __future__ import annotations

import re
from pathlib import Path

import damaged_boxes
import pytest
import test_bad_values
import test_determinism
import test_exact_resume
import test_faulty_stars
import test_killed_runs
import test_leakage
import test_old_bundles
import test_old_representations
import test_prepare
import test_wrong_units
from hostile_files import ITEMS
from test_determinism import TABLES

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reliability.md"
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if re.match(r"\| R\d", line)
]

# those of files go through three readers
WRONG = 3 * len(test_wrong_units.FILES) + sum(
    map(len, (getattr(test_wrong_units, name) for name in ("EARLIER", "PHYSICAL", "CATALOGUES", "EXPORTS")))
)


def counts(test):
    """What the page says under "count" of the rows of one test."""
    return " ".join(row[3] for row in ROWS if row[6] == f"`{test}.py`")


def test_every_fault_of_the_list_has_a_row_and_every_row_a_test():
    assert {row[0] for row in ROWS} == {
        *("R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R10", "R15", "R16", "R17", "R19")
    }
    named = {row[6].strip("`") for row in ROWS}
    assert all((HERE / name).is_file() for name in named)
    files = {path.name for path in HERE.glob("test_*.py")}
    assert files - named == {Path(__file__).name}


@pytest.mark.parametrize(
    ("test", "number"),
    [
        ("test_killed_runs", f"{test_killed_runs.KILLS} kills"),
        ("test_prepare", f"{test_prepare.KILLS} kills, {test_prepare.GALAXIES} galaxies"),
        ("test_exact_resume", f"{len(test_exact_resume.CASES)} set-ups, {len(test_exact_resume.CUTS)} cuts"),
        (
            "test_bad_values",
            f"{4 * test_bad_values.SLOW_EXAMPLES} tables, {3 * test_bad_values.SLOW_EXAMPLES} catalogues",
        ),
        ("test_damaged_boxes", f"{damaged_boxes.CUTS} cuts, {damaged_boxes.FLIPS} flips"),
        ("test_damaged_boxes", f"{sum(map(len, damaged_boxes.FILES.values()))} files"),
        ("test_faulty_stars", f"{2 * test_faulty_stars.SLOW_EXAMPLES} boxes"),
        ("test_faulty_stars", f"{12 * test_faulty_stars.SLOW_EXAMPLES} galaxies"),
        ("test_faulty_stars", f"{len(test_faulty_stars.CASES)} cases"),
        ("test_wrong_units", f"{WRONG} wrong units"),
        ("test_hostile_files", f"{len(ITEMS)} files"),
        ("test_detectors", "1000 data sets"),
        ("test_determinism", f"{len(TABLES)} presets"),
        ("test_old_bundles", f"{len(test_old_bundles.BUNDLES)} bundles of {test_old_bundles.FORMAT} formats"),
        ("test_old_representations", f"{len(test_old_representations.FOLDERS)} representations of 1 format"),
    ],
)
def test_the_counts_are_those_of_the_tests(test, number):
    assert number in counts(test)


def test_the_circumstances_are_those_of_the_page():
    (how,) = [row[2] for row in ROWS if row[0] == "R17"]
    assert f"batches of 1, 64 and {test_determinism.ROWS}" in how
    assert f"every galaxy at {test_leakage.VIEWS} snapshots" in " ".join(row[2] for row in ROWS)
