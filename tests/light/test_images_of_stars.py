"""Images of stars: all light in its place, cutouts that check themselves, files that tell all."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy.io import fits

from galineage.cutouts import Cutout
from galineage.errors import ConfigError, DataError
from galineage.light import (
    GaussianSeeing,
    ImageConfig,
    Observation,
    OutsideTableWarning,
    TwoScreens,
    kpc_per_arcsec,
    make_images,
    observe,
    starlight,
    write_images,
)
from galineage.stars import Galaxy
from galineage.views import Adaptive, View, polyhedron

TOP = View([0, 0, 1], name="top")
PLAIN = ImageConfig(smoothing=None, pixels=120)


def test_image_is_a_histogram_of_light(galaxy):
    (image,) = make_images(galaxy, [TOP], PLAIN)
    light = starlight(galaxy.stars, PLAIN.bands, 0.1)
    kpc = PLAIN.pixel_scale * kpc_per_arcsec(0.1, PLAIN.cosmology)
    edges = (np.arange(121) - 60) * kpc
    x, y, _ = (galaxy.stars.position @ TOP.matrix.T).T
    for values, flux in zip(image.values, light.flux, strict=True):
        wanted = np.histogram2d(y, x, bins=[edges, edges], weights=flux)[0]
        # coordinates are single precision: a star in thousands may fall into the pixel beside
        assert np.sum(~np.isclose(values, wanted, rtol=1e-5)) <= 4
        assert values.sum() == pytest.approx(wanted.sum(), rel=1e-4)
    assert image.pixel_scale == 0.168
    assert image.redshift == 0.1
    assert image.meta["kpc_per_pixel"] == pytest.approx(kpc)


@pytest.mark.parametrize("smoothing", [None, Adaptive(), Adaptive(neighbours=8, levels=3)])
@pytest.mark.parametrize("dust", [None, TwoScreens()])
def test_images_hold_the_light_of_the_stars(galaxy, smoothing, dust):
    config = ImageConfig(smoothing=smoothing, half_width=12, dust=dust)
    images = make_images(galaxy, polyhedron(4), config)
    light = starlight(galaxy.stars, config.bands, 0.1, dust=dust)
    for image in images:
        assert image.flux == pytest.approx(light.flux.sum(axis=1), rel=1e-3)
        assert image.magnitudes == pytest.approx(light.magnitudes, abs=1e-3)
        assert image.meta["light"]["magnitudes"] == pytest.approx(light.magnitudes)


def test_more_than_four_bands_are_those_of_several_calls(galaxy):
    bands = ("hsc-g", "hsc-r", "hsc-i", "hsc-z", "hsc-y", "sdss-u")
    (all_bands,) = make_images(galaxy, [TOP], ImageConfig(bands=bands, pixels=96))
    for band in bands:
        (one,) = make_images(galaxy, [TOP], ImageConfig(bands=(band,), pixels=96))
        assert np.array_equal(all_bands[band], one[band])


def test_pixels_follow_the_size_on_the_sky(galaxy):
    near, far = (make_images(galaxy, [TOP], ImageConfig(redshift=z))[0] for z in (0.05, 0.4))
    assert near.values.shape[1] > 3 * far.values.shape[1]
    for image in (near, far):
        side = image.values.shape[1]
        assert side % 32 == 0
        assert side * image.meta["kpc_per_pixel"] >= 20 * galaxy.r_half
    assert (near.flux > far.flux).all()


def test_surface_brightness_fades_with_redshift(galaxy):
    # Tolman: (1 + z)^-4 in all, of which the band's stretching is one part and the K-correction another
    config = ImageConfig(bands=("hsc-i",), pixel_scale=0.5, half_width=6)
    bright = [
        np.nanmin(make_images(galaxy, [TOP], replace(config, redshift=z))[0].surface_brightness()) for z in (0.05, 0.6)
    ]
    assert bright[1] > bright[0] + 2.5 * 3 * np.log10(1.6 / 1.05) - 0.5


def test_defaults_and_warnings(galaxy):
    poor = replace(galaxy, stars=replace(galaxy.stars, metallicity=np.zeros(len(galaxy.stars))))
    with pytest.warns(OutsideTableWarning, match="5000 metal-poor") as caught:
        make_images(poor, [TOP], PLAIN)
    assert len(caught) == 1
    (image,) = make_images(poor, [TOP], PLAIN, warn=False)
    assert image.meta["light"]["clamped"]["metal-poor"] == 5000
    json.dumps(dict(image.meta), allow_nan=False)


def test_a_galaxy_at_redshift_zero_needs_a_distance(galaxy):
    with pytest.raises(ConfigError, match="redshift 0") as caught:
        make_images(replace(galaxy, redshift=0.0), [TOP])
    assert "ImageConfig(redshift=" in str(caught.value)
    assert make_images(replace(galaxy, redshift=0.0), [TOP], replace(PLAIN, redshift=0.05))[0].redshift == 0.05


def test_no_stars_are_refused(galaxy):
    empty = replace(galaxy, stars=galaxy.stars.select(np.zeros(0, dtype=int)))
    with pytest.raises(DataError, match="no stars"):
        make_images(empty, [TOP])
    with pytest.raises(DataError, match="initial mass"):
        make_images(replace(galaxy, stars=replace(galaxy.stars, initial_mass=None)), [TOP])


@pytest.mark.parametrize(
    "wrong",
    [
        {"bands": ("V",)},
        {"bands": ()},
        {"redshift": 0.0},
        {"redshift": 1.5},
        {"redshift": np.nan},
        {"pixel_scale": 0.0},
        {"half_width": -1.0},
        {"pixels": 100},
        {"pixels": 4096},
        {"photometry": "best"},
        {"cosmology": "Planck"},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        ImageConfig(**wrong)


def test_too_large_an_image_is_refused(galaxy):
    with pytest.raises(ConfigError, match="at most 2048"):
        make_images(galaxy, [TOP], ImageConfig(redshift=0.002))


@pytest.mark.slow
def test_toy_galaxies_have_the_light_of_galaxies():
    from galineage.toy import make_galaxies

    galaxies = list(make_galaxies("toy-a", 12, 5, stars=3000))
    found = [starlight(one.stars, ("sdss-g", "sdss-r", "sdss-i"), 0.0, warn=False).magnitudes for one in galaxies]
    colour = np.array(found)[:, 0] - np.array(found)[:, 1]
    assert ((colour > 0.2) & (colour < 0.85)).all()
    mass = np.array([one.stars.mass.sum() for one in galaxies])
    ratio = mass / 10 ** (-0.4 * (np.array(found)[:, 1] - 4.65))
    assert ((ratio > 0.4) & (ratio < 4)).all(), "solar masses per solar luminosity in r"


# --- cutouts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": np.ones((2, 4, 4))},
        {"values": np.ones((4, 4))},
        {"values": np.ones((1, 0, 4))},
        {"values": np.ones((1, 4, 4), int)},
        {"mask": np.zeros((1, 4, 4))},
        {"mask": np.zeros((1, 3, 4), int)},
        {"variance": np.ones((1, 4, 5))},
        {"psf": np.ones((1, 2, 2)) / 4},
        {"psf": np.ones((1, 3, 3))},
        {"psf": np.ones((3, 3)) / 9},
        {"psf": np.full((1, 3, 3), np.nan)},
        {"pixel_scale": 0.0},
        {"pixel_scale": np.inf},
    ],
)
def test_cutouts_that_do_not_fit_are_refused(wrong):
    with pytest.raises(DataError):
        Cutout(**{"values": np.ones((1, 4, 4)), "bands": ("hsc-g",), "pixel_scale": 0.168, **wrong})


def test_cutouts_name_each_band_once():
    with pytest.raises(DataError, match="named twice"):
        Cutout(np.ones((2, 4, 4)), ("g", "g"), 0.168)
    with pytest.raises(DataError, match="no band 'r'"):
        Cutout(np.ones((1, 4, 4)), ("g",), 0.168)["r"]


def test_cutouts_are_frozen_and_travel():
    cutout = Cutout(np.ones((1, 4, 4)), ("g",), 0.168, redshift=0.1, meta={"steps": [{"step": "a"}]})
    with pytest.raises(ValueError, match="read-only"):
        cutout.values[0, 0, 0] = 2
    again = pickle.loads(pickle.dumps(cutout))  # to another process, and back
    assert np.array_equal(again.values, cutout.values)
    assert again.meta == cutout.meta
    assert cutout.flux == pytest.approx([16.0])
    assert cutout.magnitudes == pytest.approx([22.5 - 2.5 * np.log10(16)])
    assert cutout.surface_brightness()[0, 0, 0] == pytest.approx(22.5 + 5 * np.log10(0.168))
    dark = Cutout(np.array([[[0.0, -1.0, np.nan]]]), ("g",), 1.0)
    assert np.isnan(dark.surface_brightness()).all()
    assert np.isnan(dark.magnitudes).all()


# --- files --------------------------------------------------------------------------------------------------------


def test_file_holds_raw_and_observed_images_and_says_all(galaxy, tmp_path):
    (raw,) = make_images(galaxy, [TOP], ImageConfig(pixels=96, half_width=5))
    seen = observe(raw, Observation(GaussianSeeing(0.6), electrons=300.0, sky=0.001), seed=5)
    path = tmp_path / "one.fits"
    write_images(path, {"RAW": raw, "OBSERVED": seen})
    with fits.open(path, checksum=True) as file:
        names = [hdu.name for hdu in file]
        assert names[1:4] == ["RAW HSC-G", "RAW HSC-R", "RAW HSC-I"]
        assert {"OBSERVED HSC-G", "OBSERVED HSC-G VARIANCE", "OBSERVED HSC-G PSF"} <= set(names)
        assert np.array_equal(file["RAW HSC-R"].data, raw["hsc-r"])
        assert np.array_equal(file["OBSERVED HSC-I"].data, seen["hsc-i"])
        header = file["OBSERVED HSC-I"].header
        assert header["BUNIT"] == "nmgy"
        assert header["MAGZERO"] == 22.5
        assert header["PIXSCALE"] == 0.168
        assert header["REDSHIFT"] == 0.1
        assert header["FILTER"] == "hsc-i"
        assert header["CAMERA"] == "top"
        assert [header[f"LOS{axis}"] for axis in "XYZ"] == [0, 0, 1]
        assert header["CRPIX1"] == 48.5
        assert json.loads("".join(header["HISTORY"])) == list(seen.meta["steps"])
        settings = json.loads("".join(file[0].header["COMMENT"]))["settings"]
        assert settings == raw.meta["settings"]
        assert file[0].header["GALAXY"] == "7"
        for hdu in file[1:]:
            hdu.verify("exception")


def test_cutouts_without_a_view_are_written_too(cosmos_like, tmp_path):
    write_images(tmp_path / "sky.fits.gz", {"SKY": cosmos_like})
    with fits.open(tmp_path / "sky.fits.gz") as file:
        assert file["SKY HSC-G MASK"].data.dtype.kind == "i"
        assert "CAMERA" not in file["SKY HSC-G"].header
    with pytest.raises(ConfigError, match="no image"):
        write_images(tmp_path / "none.fits", {})


@pytest.fixture
def cosmos_like(sky):
    return replace(sky, mask=sky.mask.astype(np.uint32), redshift=None)


# --- magnitudes read from files -----------------------------------------------------------------------------------


def test_magnitudes_of_a_cut_out_reach_the_stars(rng):
    from galineage.cosmology import TNG
    from galineage.sources.native import from_box

    rows = {
        "Coordinates": rng.normal(5000, 5, (6, 3)),
        "Velocities": rng.normal(0, 100, (6, 3)),
        "Masses": np.full(6, 1e-4),
        "GFM_InitialMass": np.full(6, 1.6e-4),
        "GFM_StellarFormationTime": np.array([0.5, 0.6, -0.1, 0.7, 0.8, 0.9]),
        "GFM_Metallicity": np.full(6, 0.01),
        "GFM_StellarPhotometrics": np.arange(48.0).reshape(6, 8) / 10 - 10,
    }
    galaxy = from_box(rows, TNG, id="1", domain="test", box=75000, scale_factor=0.91)
    assert isinstance(galaxy, Galaxy)
    assert np.allclose(galaxy.stars.photometry, rows["GFM_StellarPhotometrics"][[0, 1, 3, 4, 5]])
    assert starlight(galaxy.stars, ("hsc-g",), 0.1).source == "simulation"
    assert "photometry" not in galaxy.stars.missing
    with pytest.raises(DataError, match="photometry"):
        from_box({**rows, "GFM_StellarPhotometrics": np.full((6, 8), 1e30)}, TNG, id="1", domain="test")


def test_magnitudes_of_a_snapshot_are_read_on_demand(tmp_path):
    from galineage.sources.native import TngSource
    from galineage.toy import write_tng_box

    box = write_tng_box(tmp_path / "box", "toy-a", 2, 5, stars=200, chunks=2)
    for path in sorted(box.rglob("snap_099.*.hdf5")):
        with h5py.File(path, "a") as file:
            stars = file.get("PartType4")
            if stars is not None:
                marks = np.tile(stars["GFM_InitialMass"][:][:, np.newaxis] * 10, (1, 8))
                stars["GFM_StellarPhotometrics"] = marks.astype(np.float32)
    plain, wanted = (TngSource(box, 99, "toy-a", photometry=each) for each in (False, True))
    ids = plain.catalogue().ids
    assert all(galaxy.stars.photometry is None for galaxy in plain.galaxies(ids))
    for source in (wanted, pickle.loads(pickle.dumps(wanted))):
        for galaxy in source.galaxies(ids):
            assert galaxy.stars.photometry.shape == (len(galaxy.stars), 8)
            mass = galaxy.stars.initial_mass * 0.6774 / 1e10 * 10
            assert galaxy.stars.photometry[:, 3] == pytest.approx(mass, rel=1e-6)
