"""Draw docs/figures/images_real.png: real images through reader, Petrosian size, crop and both stretches.

python docs/make_image_figures.py --data DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from galineage.atomic import writing
from galineage.evaluation.style import new_figure, style
from galineage.images import (
    ColourStretch,
    LogStretch,
    PetrosianConfig,
    crop_cutout,
    measure_petrosian,
    resize,
    stretch,
)
from galineage.sources.images import read_cutout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from galineage.cutouts import Cutout
    from galineage.images import Petrosian

FOLDER = Path(__file__).parent / "figures"
GRI = ("hsc-g", "hsc-r", "hsc-i")


def examples(data: Path) -> list[tuple[str, Cutout, PetrosianConfig]]:
    """Real images, each with how it is measured."""
    mocks, real = data / "images" / "hsc_mocks_tng50", data / "images" / "hsc_real"
    said = {"zero_point": 27.0, "pixel_scale": 0.168}
    usual, circles = PetrosianConfig(), PetrosianConfig(elliptical=False)
    return [
        ("mock, z = 0.40", read_cutout(mocks / "shalo_072-544554_v2_HSC_GRIZY.fits", bands=GRI), usual),
        ("mock, z = 0.20", read_cutout(mocks / "shalo_084-97_v3_HSC_GRIZY.fits", bands=GRI), usual),
        ("HSC, COSMOS", read_cutout(real / "hsc_cosmos_35.npz", bands=GRI, **said), usual),
        ("Legacy Surveys", read_cutout(real / "legacysurvey_dr9_grz_256.fits"), circles),
    ]


def show(ax: Axes, values: np.ndarray, title: str = "") -> None:
    """Draw three bands (3, rows, columns) in [0, 1], the last one red."""
    ax.imshow(np.moveaxis(values[::-1], 0, -1), origin="lower", interpolation="nearest")
    ax.set_title(title, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])


def mark(ax: Axes, cut: Cutout, crop: Cutout, size: Petrosian) -> None:
    """Draw the ellipse of R90 and the square of the crop, and a bar of 5 arcsec."""
    from matplotlib.patches import Ellipse, Rectangle

    step = crop.meta["steps"][-1]
    major = 2 * size.r90 / cut.pixel_scale
    centre, minor = (size.column, size.row), major * size.axis_ratio
    ax.add_patch(Ellipse(centre, major, minor, angle=size.angle, fill=False, color="white", lw=1.2))
    corner = (step["column"] - 0.5, step["row"] - 0.5)
    ax.add_patch(Rectangle(corner, step["pixels"], step["pixels"], fill=False, color="white", lw=1, ls="--"))
    side = cut.values.shape[1]
    said = f"$R_{{90}}$ = {size.r90:.1f} arcsec"
    ax.text(0.03, 0.97, said, color="white", fontsize=8, va="top", transform=ax.transAxes)
    ax.plot([0.05 * side, 0.05 * side + 5 / cut.pixel_scale], [0.06 * side] * 2, color="white", lw=2)


def draw(data: Path) -> Figure:
    """One row for each image: whole, published stretch, and the stretch that keeps colours."""
    rows = examples(data)
    figure = new_figure(width=6.2, height=2.1 * len(rows))
    panels = figure.subplots(len(rows), 3)
    for line, (name, cut, config) in zip(panels, rows, strict=True):
        size = measure_petrosian(cut, config)
        crop = crop_cutout(cut, 4 * size.r90, (size.row, size.column))
        print(f"{name}: R90 {size.r90:.2f} arcsec, r {size.magnitude:.2f}, unseen {size.unseen:.2f}")
        show(line[0], stretch(cut.values, ColourStretch()), name)
        mark(line[0], cut, crop, size)
        small = resize(crop.values, 128)
        show(line[1], stretch(small, LogStretch()), "published stretch")
        show(line[2], stretch(small, ColourStretch()), "colours kept")
    return figure


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/")
    data = parser.parse_args().data
    with style(), writing(FOLDER / "images_real.png") as path:
        draw(data).savefig(path, dpi=100)


if __name__ == "__main__":
    main()
