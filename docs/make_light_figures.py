"""Draw docs/figures/light_photometry.png and light_images.png: the photometry against a table of others, and images.

The other table is that of pynbody (GPL, not shipped here): LSST magnitudes of single-burst populations from CMD 3.7
(PARSEC tracks, Kroupa initial mass function).

    pip download --no-deps pynbody==2.8.0 && unzip pynbody-2.8.0-*.whl
    python docs/make_light_figures.py --pynbody pynbody/analysis/lsst_ssp.txt --data DIR
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from galineage.atomic import writing
from galineage.cosmology import TNG
from galineage.cutouts import Cutout
from galineage.evaluation.style import INK, MUTED, PALETTE, new_figure, style
from galineage.light import (
    ImageConfig,
    Insertion,
    MoffatSeeing,
    Observation,
    TwoScreens,
    hsc_wide,
    insert,
    kpc_per_arcsec,
    make_images,
    observe,
    population_magnitudes,
)
from galineage.toy import make_galaxies
from galineage.views import edge_on, face_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FOLDER = Path(__file__).parent / "figures"
COLUMNS = {"g": 4, "r": 5, "i": 6}
AGES = np.array([0.01, 0.1, 1.0, 10.0])


def published(path: Path) -> tuple[Array, Array, dict[str, Array]]:
    """Ages (n,) in Gyr, metallicities (m,), and AB magnitudes (m, n) per solar mass by band."""
    rows = np.loadtxt(path)
    ages, metals = np.unique(rows[:, 0]), np.unique(rows[:, 1])
    order = np.lexsort((rows[:, 0], rows[:, 1]))
    shape = (len(metals), len(ages))
    return ages / 1e9, metals, {band: rows[order, column].reshape(shape) for band, column in COLUMNS.items()}


def differences(path: Path) -> tuple[Array, Array, dict[str, Array]]:
    """Ours less theirs (m, n), mag, by band, at their ages (n,) in Gyr and metallicities (m,)."""
    ages, metals, theirs = published(path)
    age, metal = (each.ravel() for each in np.meshgrid(ages, metals))
    ours = population_magnitudes(age, metal, [f"hsc-{band}" for band in COLUMNS])
    shape = (len(metals), len(ages))
    return ages, metals, {band: ours[k].reshape(shape) - theirs[band] for k, band in enumerate(COLUMNS)}


def report(ages: Array, metals: Array, found: dict[str, Array]) -> None:
    """Print the differences as the page gives them: at four ages above Z = 0.001, and over all from 2 Gyr."""
    for band, values in {**found, "g - r": found["g"] - found["r"]}.items():
        apart = np.abs(values[metals > 1e-3])
        spans = [apart[:, np.argmin(np.abs(np.log(ages / age)))] for age in AGES]
        text = ", ".join(
            f"{age:g} Gyr {each.min():.2f} to {each.max():.2f}" for age, each in zip(AGES, spans, strict=True)
        )
        print(
            f"{band}: {text}; from 2 Gyr up to {np.abs(values[:, ages > 1.9]).max():.2f}, "
            f"rms {np.sqrt(np.mean(values[:, ages > 1.9] ** 2)):.2f}"
        )


def photometry(path: Path) -> Figure:
    """Difference from the published table against age, a panel for each band, a line for each metallicity."""
    ages, metals, found = differences(path)
    report(ages, metals, found)
    figure = new_figure(height=5.4)
    panels = figure.subplots(2, 2, sharex=True)
    shown = list(range(0, len(metals), 3))
    curves = {**found, "g - r": found["g"] - found["r"]}
    for ax, (name, values) in zip(panels.flat, curves.items(), strict=True):
        ax.axhspan(-0.1, 0.1, color=MUTED, alpha=0.4, lw=0)
        ax.axhline(0, color=INK, lw=0.8)
        for place, row in enumerate(shown):
            ax.plot(ages, values[row], color=PALETTE[place], label=f"Z = {metals[row]:.2g}")
        ax.set_xscale("log")
        ax.set_ylim(-0.75, 0.75)
        ax.set_title(f"${name}$")
    for ax in panels[1]:
        ax.set_xlabel("age [Gyr]")
    for ax in panels[:, 0]:
        ax.set_ylabel("ours − published [mag]")
    lines, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, ncols=len(names), loc="outside upper center")
    return figure


def colours(image: Cutout, scale: float) -> Array:
    """Colour picture (rows, columns, 3) of the last three bands, red first (Lupton+2004)."""
    from astropy.visualization import make_lupton_rgb

    blue, green, red = (np.nan_to_num(image.values[k]) / scale + 1e-9 for k in range(3))
    return np.asarray(make_lupton_rgb(red, green * 1.1, blue * 1.5, stretch=0.6, Q=8))


def show(ax: Axes, image: Cutout, scale: float, title: str) -> None:
    """Draw a picture, with a bar of 5 arcsec."""
    ax.imshow(colours(image, scale), origin="lower", interpolation="nearest")
    side = image.values.shape[2]
    length = 5 / image.pixel_scale
    ax.plot([0.05 * side, 0.05 * side + length], [0.06 * side] * 2, color="white", lw=2)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()


def sky_of_mock(path: Path) -> Cutout:
    """Read a released mock as a piece of sky; its galaxy is in the way, and is what the mask marks."""
    from astropy.io import fits

    with fits.open(path) as file:
        planes = [[file[f"SUBARU_HSC.{band}{part}"].data for band in "GRI"] for part in ("", " MASK", " VARIANCE")]
    values, mask, variance = (np.stack(each) for each in planes)
    psf = MoffatSeeing(0.6).kernel(0.168)
    bands = ("hsc-g", "hsc-r", "hsc-i")
    native = values.astype(np.float64), mask.astype(np.int64), variance.astype(np.float64)
    return Cutout(native[0], bands, 0.168, native[1], native[2], np.stack([psf] * 3), name=path.name)


def skirt(folder: Path) -> Cutout:
    """Read the noise-free SKIRT images in g, r, i: AB mag/arcsec^2 in pixels of 97.66 pc at redshift 0.046."""
    from astropy.io import fits

    images, scale, redshift = [], 0.0, 0.0
    for band in "gri":
        (path,) = folder.glob(f"photo_{band}_*.fits.gz")
        with fits.open(path) as file:
            redshift = float(file[0].header["REDSHIFT"])
            scale = float(file[0].header["CDELT1"]) / 1000 / kpc_per_arcsec(redshift, TNG)
            images.append(10.0 ** (-0.4 * (file[0].data.astype(np.float64) - 22.5)) * scale**2)
    return Cutout(np.stack(images), ("sdss-g", "sdss-r", "sdss-i"), scale, redshift=redshift, name="SKIRT merger")


def images(data: Path) -> Figure:
    """Toy galaxies raw, observed and inserted, and a SKIRT image made to look like one of SDSS."""
    (galaxy,) = make_galaxies("toy-a", 1, 3, stars=60_000)
    views = [face_on(galaxy.stars), edge_on(galaxy.stars)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        face, edge = make_images(galaxy, views, ImageConfig(redshift=0.1, half_width=5))
        dusty, _ = make_images(galaxy, views, ImageConfig(redshift=0.1, half_width=5, dust=TwoScreens()))
    figure = new_figure(height=4.3)
    panels = figure.subplots(2, 4)
    like = hsc_wide(face.bands)
    show(panels[0, 0], face, 0.05, "toy, z = 0.1, raw")
    show(panels[0, 1], observe(face, like, seed=1), 0.05, "as in HSC Wide")
    show(panels[0, 2], observe(edge, like, seed=1), 0.05, "edge-on")
    show(panels[0, 3], observe(dusty, like, seed=1), 0.05, "face-on with dust")
    sky = sky_of_mock(data / "images" / "hsc_mocks_tng50" / "shalo_072-544554_v2_HSC_GRIZY.fits")
    far, _ = make_images(galaxy, views, ImageConfig(redshift=0.5, half_width=12), warn=False)
    put = insert(far, sky, Insertion(pixels=64, clear=1.0, allowed=sum(1 << bit for bit in (13, 15, 16))), seed=4)
    show(panels[1, 0], far, 0.01, "z = 0.5, raw")
    show(panels[1, 1], put, 0.01, "in a real HSC sky")
    merger = skirt(data / "images" / "skirt_ideal_gri")
    sdss = Observation(MoffatSeeing(1.3), pixel_scale=0.396, electrons=400.0, sky=(0.016, 0.025, 0.04))
    show(panels[1, 2], merger, 0.05, "SKIRT, noise-free")
    show(panels[1, 3], observe(merger, sdss, seed=2), 0.5, "SKIRT, observed")
    return figure


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pynbody", type=Path, required=True, help="lsst_ssp.txt of pynbody")
    parser.add_argument("--data", type=Path, required=True, help="folder with images/")
    given = parser.parse_args()
    with style():
        for name, figure in (("photometry", photometry(given.pynbody)), ("images", images(given.data))):
            with writing(FOLDER / f"light_{name}.png") as path:
                figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
