"""Galaxies and skies to look at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from galineage.cutouts import Cutout
from galineage.stars import Galaxy, Stars

IMAGES = Path(os.environ.get("GALINEAGE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "images"
BANDS = ("hsc-g", "hsc-r", "hsc-i")


def _stars(count, rng, **changes):
    values = {
        "position": rng.normal(0, 3, (count, 3)),
        "velocity": None,
        "mass": rng.uniform(0.4e6, 0.9e6, count),
        "metallicity": rng.uniform(2e-4, 0.04, count),
        "age": rng.uniform(0.001, 13.5, count),
        "initial_mass": rng.uniform(1e6, 1.5e6, count),
    }
    return Stars(**{**values, **changes})


@pytest.fixture
def stars(rng):
    """Function (count, **changes) that makes stars up, all inside of the table."""
    return lambda count=2000, **changes: _stars(count, rng, **changes)


@pytest.fixture
def galaxy(stars):
    """A round galaxy with a half-mass radius of 4.6 kpc, at z = 0.1."""
    return Galaxy(id="7", domain="test", r_half=4.6, redshift=0.1, stars=stars(5000))


@pytest.fixture(scope="session")
def images():
    """Folder of the real images."""
    if not IMAGES.is_dir():
        pytest.skip(f"the real images are not at hand ({IMAGES}); set GALINEAGE_TEST_DATA")
    return IMAGES


@pytest.fixture(scope="session")
def cosmos(images):
    """A real piece of HSC's COSMOS field with mask, variance and PSFs; detections (bit 5) all over."""
    with np.load(images / "hsc_real" / "hsc_cosmos_35.npz", allow_pickle=False) as file:
        return Cutout(
            values=file["images"],
            bands=tuple(f"hsc-{band}" for band in file["filters"]),
            pixel_scale=0.168,
            mask=file["mask"],
            variance=file["variance"],
            psf=file["psfs"],
            name="hsc_cosmos_35",
        )


@pytest.fixture
def sky(rng):
    """A made-up sky of 200 x 180 pixels with a masked stripe and a PSF in each band."""
    from galineage.light import GaussianSeeing

    mask = np.zeros((3, 200, 180), np.int32)
    mask[1, :, 60:90] = 8
    return Cutout(
        values=rng.normal(0, 0.01, (3, 200, 180)),
        bands=BANDS,
        pixel_scale=0.168,
        mask=mask,
        variance=np.full((3, 200, 180), 1e-4),
        psf=np.stack([GaussianSeeing(0.6).kernel(0.168)] * 3),
        name="made-up sky",
    )
