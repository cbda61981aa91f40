"""Real images, and made-up files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

IMAGES = Path(os.environ.get("GALINEAGE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "images"


@pytest.fixture(scope="session")
def real():
    """Folder of the real images."""
    if not IMAGES.is_dir():
        pytest.skip(f"the real images are not at hand ({IMAGES}); set GALINEAGE_TEST_DATA")
    return IMAGES
