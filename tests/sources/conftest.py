"""Fixtures for the tests of sources."""

import pytest
from made_up_tables import MAPPING

from galineage.sources import parse_mapping


@pytest.fixture
def mapping():
    return parse_mapping(MAPPING)
