"""Integral-field data: MaNGA's pipeline and spaxel tables in the layout of simulated maps, nothing invented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from galineage.errors import ConfigError, DataError, FileFormatError
from galineage.sources.ifs import SkyMaps, read_dap, read_spaxels
from galineage.views import Refinement, refine_values


def write_dap(path, planes=2, drop=(), header=None):
    _y, x = np.mgrid[-10:11, -10:11].astype(float)
    velocity, sigma = 10 * x, np.full((21, 21), 80.0)
    mask = np.zeros((21, 21), dtype=np.int32)
    mask[0, :] = 1
    correction = np.stack([np.full((21, 21), 50.0), np.full((21, 21), 60.0)])[-planes:]
    correction[..., 5, 5] = 90
    content = {"STELLAR_SIGMACORR": correction if planes > 1 else correction[0], "STELLAR_SIGMA": sigma,
               "STELLAR_VEL_MASK": mask, "STELLAR_VEL": velocity, "STELLAR_SIGMA_MASK": mask * 0,
               "SPX_MFLUX": np.ones((21, 21))}  # fmt: skip
    primary = fits.PrimaryHDU()
    for name, value in (header or {"REFF": 4.0, "PLATEIFU": "1-1", "SCINPVEL": 9000.0}).items():
        primary.header[name] = value
    units = [primary]
    for name, values in content.items():
        if name in drop:
            continue
        unit = fits.ImageHDU(values, name=name)
        unit.header.update({"CRPIX1": 11.0, "CRPIX2": 11.0, "PC1_1": -0.5 / 3600, "PC2_2": 0.5 / 3600, "CDELT2": 1.0})
        units.append(unit)
    fits.HDUList(units).writeto(path)
    return velocity, mask


@pytest.mark.parametrize("planes", [1, 2])
def test_kinematics_of_a_maps_file(tmp_path, planes):
    velocity, mask = write_dap(tmp_path / "a.fits", planes)
    found = read_dap(tmp_path / "a.fits")
    valid = mask == 0
    valid[5, 5] = False
    np.testing.assert_array_equal(found.valid, valid)
    np.testing.assert_array_equal(found.velocity[valid], velocity[valid])
    np.testing.assert_allclose(found.sigma[valid], np.sqrt(80.0**2 - 60.0**2))
    assert (found.id, found.pixel, found.r_e, found.centre) == ("1-1", pytest.approx(0.5), 4.0, (10.0, 10.0))
    assert found.missing == ("mass", "metallicity", "age")


def test_the_layout_is_that_of_simulated_maps(tmp_path):
    write_dap(tmp_path / "a.fits")
    found = read_dap(tmp_path / "a.fits")
    values, channels = found.layout()
    assert values.shape == (1, 3, 128, 128)
    assert channels == ("count", "velocity", "sigma")
    kept = values[0, 0] > 0
    x = (np.arange(128) + 0.5 - 64) * (4 * 4.0 / 128)  # arcsec
    assert not kept[:, np.abs(x) > 10.5 * 0.5].any(), "nothing beyond the field"
    np.testing.assert_allclose(values[0, 1, 64, 60:68], 10 * np.rint(x[60:68] / 0.5), atol=1e-4)
    assert np.isnan(values[0, 1:][:, ~kept]).all()
    refined, mask = refine_values(values, channels, 2.0, Refinement(percentile=0, least=0))
    np.testing.assert_array_equal(mask[0], kept)
    for slot, name in enumerate(("mass", "velocity", "sigma", "metallicity", "age")):
        assert (refined[0, slot] == 0).all() == (name in found.missing)


def test_what_is_no_maps_file_is_told(tmp_path):
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_dap(tmp_path / "absent.fits")
    (tmp_path / "x.fits").write_bytes(b"no fits at all")
    with pytest.raises(FileFormatError):
        read_dap(tmp_path / "x.fits")
    write_dap(tmp_path / "b.fits", drop=("STELLAR_SIGMACORR",))
    with pytest.raises(FileFormatError, match="no STELLAR_SIGMACORR"):
        read_dap(tmp_path / "b.fits")
    write_dap(tmp_path / "c.fits", header={"PLATEIFU": "1-1"})
    with pytest.raises(FileFormatError, match="REFF"):
        read_dap(tmp_path / "c.fits")


def test_spaxel_tables(tmp_path):
    rows = ["#\tXBIN\tYBIN\tVEL\tER_VEL\tSIG\tER_SIG"]
    k = 0
    for x in range(-3, 4):
        for y in range(-2, 3):
            k += 1
            good = (x, y) != (1, 2)
            rows.append(f"{k}\t{x}.0\t{y}.0\t{10.0 * x if good else 0.0}\t{5.0 if good else 'inf'}\t70.0\t{4.0}")
    path = tmp_path / "table.txt"
    path.write_text("\n".join(rows) + "\n")
    found = read_spaxels(path, r_e=3.0)
    assert found.velocity.shape == (5, 7)
    assert found.centre == (2.0, 3.0)
    assert np.isnan(found.velocity[4, 4])
    assert found.valid.sum() == 34
    np.testing.assert_array_equal(found.velocity[0], 10.0 * np.arange(-3, 4))
    for broken in ("nothing\n", "\n".join(["# A B", "1 2 3"]), "\n".join([rows[0], "1 0.5 0 1 1 1 1"])):
        path.write_text(broken)
        with pytest.raises(FileFormatError):
            read_spaxels(path, r_e=3.0)


def test_impossible_maps_and_grids_are_refused():
    plain = np.ones((4, 4))
    with pytest.raises(DataError):
        SkyMaps(plain, np.ones((4, 5)), None, 0.5, 3.0, (2, 2), "1", "x", {})
    with pytest.raises(DataError):
        SkyMaps(plain, plain, None, 0.5, np.nan, (2, 2), "1", "x", {})
    with pytest.raises(ConfigError):
        SkyMaps(plain, plain, None, 0.5, 3.0, (2, 2), "1", "x", {}).layout(0)


@pytest.mark.data
def test_real_observations(catalogs):
    folder = Path(catalogs).parent / "ifs"
    found = read_dap(folder / "manga-7815-3702-MAPS-HYB10-GAU-MILESHC.fits.gz")
    assert (found.id, found.velocity.shape) == ("7815-3702", (42, 42))
    assert found.pixel == pytest.approx(0.5, rel=1e-4)
    assert found.r_e == pytest.approx(3.775, rel=1e-3)
    assert 500 < found.valid.sum() <= 773
    assert np.nanpercentile(np.abs(found.velocity), 90) < 120
    values, channels = found.layout()
    rotation = values[0, 1]
    assert np.nanmax(rotation) > 50 > -50 > np.nanmin(rotation), "it rotates"
    table = read_spaxels(folder / "kinemetry_input_8135-6103.txt", r_e=5.0)
    both, _ = table.layout()
    assert channels == ("count", "velocity", "sigma")
    assert both.shape == values.shape == (1, 3, 128, 128)
    assert table.valid.sum() > 300
    assert table.missing == found.missing == ("mass", "metallicity", "age")
