"""Image files of every format, made up, with a knob for each thing that can be wrong."""

from __future__ import annotations

import gzip
import io

import numpy as np
from astropy.io import fits

from galineage.cutouts import Cutout

FLUXMAG0 = 10.0**10.8
PIVOT = {"G": 0.4798, "R": 0.6218, "I": 0.7727, "Z": 0.8912, "Y": 0.9776}


def blob(side=60, flux=1.0, seed=1, width=4.0, noise=1e-4):
    """A round galaxy with noise (side, side), nanomaggies."""
    line = np.arange(side) - (side - 1) / 2
    light = np.exp(-np.hypot(*np.meshgrid(line, line)) / width)
    return flux * light / light.sum() + noise * np.random.default_rng(seed).standard_normal((side, side))


def cutout(values, bands=("hsc-g", "hsc-r", "hsc-i"), pixel_scale=0.168, **more):
    """Cutout of one image for all bands (rows, columns), or of a cube."""
    values = np.asarray(values)
    values = np.stack([values] * len(bands)) if values.ndim == 2 else values
    return Cutout(values, bands, pixel_scale, **more)


def mock(path, bands="GRIZY", unit="AB nanomaggies, m_AB = 22.5-2.5log10(f)", filters=None, field=None, **images):
    """Write a file as the SKIRT + HSC mocks are."""
    hdus = fits.HDUList()
    for k, band in enumerate(bands):
        image = images.get(band, blob(seed=k))
        hdu = (fits.ImageHDU if k else fits.PrimaryHDU)(image)
        hdu.header["EXTNAME"] = f"SUBARU_HSC.{band}"
        hdu.header["FILTER"] = f"Subaru_HSC.{(filters or bands)[k].lower()}"
        hdu.header["WLPIVOT"] = PIVOT[(filters or bands)[k]]
        hdu.header["BUNIT"] = unit
        hdu.header["FOVARC"] = 0.168 * image.shape[1] + 0.1 if field is None else field
        hdu.header["REDSHIFT"] = 0.2
        hdu.header["SIMTAG"], hdu.header["SNAPNUM"], hdu.header["SUBHALO"] = "TNG50-1", 84, 97
        hdus.append(hdu)
        hdus.append(fits.ImageHDU(np.full(image.shape, 512, np.int32), name=f"SUBARU_HSC.{band} MASK"))
        hdus.append(fits.ImageHDU(np.full(image.shape, 1e-8, np.float32), name=f"SUBARU_HSC.{band} VARIANCE"))
    hdus.writeto(path, overwrite=True)
    return path


def sky_header(scale, mirrored=False, side=60):
    """Coordinates on the sky for pixels of ``scale`` arcsec."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = 150.0, 2.0
    header["CRPIX1"] = header["CRPIX2"] = (side + 1) / 2
    header["CD1_1"] = scale / 3600 * (1 if mirrored else -1)
    header["CD1_2"] = header["CD2_1"] = 0.0
    header["CD2_2"] = scale / 3600
    return header


def hsc_band(path, band="R", scale=0.168, flux=FLUXMAG0, named=True, mirrored=False, side=60, planes=3, seed=0):
    """Write a file as HSC-SSP's cutout service gives it; counts have the zero point 27."""
    head = fits.PrimaryHDU()
    if flux is not None:
        head.header["FLUXMAG0"] = flux
    if named:
        head.header["FILTER"] = f"HSC-{band}"
    counts = blob(side, seed=seed) * FLUXMAG0 / 1e9
    header = sky_header(scale, mirrored, side)
    mask = np.zeros((side, side), np.int32)
    mask[0, 0] = 1 << 8
    parts = [
        fits.ImageHDU(counts.astype(np.float32), header, name="IMAGE"),
        fits.ImageHDU(mask, header, name="MASK"),
        fits.ImageHDU(np.full((side, side), 1e-4, np.float32), header, name="VARIANCE"),
    ]
    parts[1].header["HIERARCH MP_NO_DATA"], parts[1].header["MP_SAT"] = 8, 1
    fits.HDUList([head, *parts[:planes]]).writeto(path, overwrite=True)
    return path


def psf_file(path, side=41, total=1.0):
    """Write one PSF."""
    line = np.arange(side) - side // 2
    kernel = np.exp(-(line[:, None] ** 2 + line**2) / 8.0)
    fits.writeto(path, kernel / kernel.sum() * total, overwrite=True)
    return path


def legacy(path, bands="grz", each=None, scale=0.262, empty=None, inverse=None, cube=None, **cards):
    """Write a cube as the Legacy Surveys' cutout service gives it."""
    cube = np.stack([blob(seed=k) for k in range(len(bands))]).astype(np.float32) if cube is None else cube
    if empty is not None:
        cube[bands.index(empty)] = 0
    header = sky_header(scale, side=cube.shape[-1])
    header["SURVEY"], header["VERSION"], header["BANDS"], header["IMAGETYP"] = "LegacySurvey", "DR9", bands, "IMAGE"
    for k, band in enumerate(bands if each is None else each):
        header[f"BAND{k}"] = band
    header.update(cards)
    hdus = fits.HDUList([fits.PrimaryHDU(cube, header)])
    if inverse is not None:
        hdus.append(fits.ImageHDU(inverse))
        hdus[1].header["IMAGETYP"] = "INVVAR"
    hdus.writeto(path, overwrite=True)
    return path


def lying_header(path, side=10**9):
    """Write a FITS file that claims ``side`` squared pixels and holds none."""
    cards = ["SIMPLE  =                    T", "BITPIX  =                  -64", "NAXIS   =                    2"]
    cards += [f"NAXIS1  = {side:>20}", f"NAXIS2  = {side:>20}", "END"]
    path.write_bytes("".join(f"{card:<80}" for card in cards).ljust(2880).encode())
    return path


def packed_bomb(path, mib=600):
    """Write gzip of zeros behind a FITS header."""
    with gzip.open(path, "wb", compresslevel=9) as out:
        buffer = io.BytesIO()
        fits.PrimaryHDU(np.zeros((4, 4))).writeto(buffer)
        out.write(buffer.getvalue())
        for _ in range(mib):
            out.write(bytes(2**20))
    return path
