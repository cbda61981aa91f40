"""Counts of faults, handed to the report at the end of the run (docs/reliability.md quotes them)."""

from __future__ import annotations

import pytest


@pytest.fixture
def tally(record_property):
    """Note what a test counted: ``tally("R2", "50 kills", "0 lost")``."""

    def note(*parts):
        record_property("reliability", ": ".join((parts[0], ", ".join(parts[1:]))))

    return note
