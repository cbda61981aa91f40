"""Draw docs/figures/maps_real.png and gradients_real.png: Figures 3 and 13 of Angeloudi+2023 for four real galaxies.

Needs the real galaxies: python docs/make_map_figures.py --data DIR
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from real_galaxies import Held, real_galaxies

import galineage
from galineage.atomic import writing
from galineage.evaluation import example_maps, figure_of, gradients
from galineage.evaluation.style import INK, style
from galineage.store.settings import StoreConfig
from galineage.toy import make_galaxies
from galineage.views import MapConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from galineage.store.map_store import MapStore

FOLDER = Path(__file__).parent / "figures"
MARKERS = "*sD^"
TOYS = 250


def stored(data: Path, folder: Path) -> MapStore:
    """Make maps of the real galaxies and of toy galaxies beside them, from 12 sides."""
    settings = StoreConfig(maps=MapConfig(pixels=128, systemic="inner"), views=12, raw=False)
    for suite in ("toy-a", "toy-b"):
        toys = Held(suite, tuple(make_galaxies(suite, TOYS, 5, stars=20_000)))
        galineage.prepare(toys, toys.catalogue, folder, settings)
    for galaxy in real_galaxies(data):
        one = Held(f"{galaxy.domain} {galaxy.id}", (galaxy,))
        galineage.prepare(one, one.catalogue, folder, settings)
    return galineage.MapStore(folder)


def named(store: MapStore) -> NDArray[np.str_]:
    """Suite of every toy map, simulation and number of every real one, (n,)."""
    toy = [row["domain"] if row["domain"].startswith("toy") else f"{row['domain']} {row['id']}" for row in store.rows]
    return np.array(toy)


def examples(store: MapStore) -> Figure:
    """Draw one view of each real galaxy (Figure 3)."""
    names = named(store)
    real = [name for name in dict.fromkeys(names) if not name.startswith("toy")]
    found = example_maps.compute(store, [int(np.flatnonzero(names == name)[0]) for name in real])
    print(example_maps.judge(found))
    return figure_of(example_maps.draw(found))


def radial(store: MapStore) -> Figure:
    """Draw gradients of the toys in bins, and of each view of the real galaxies as a point (Figure 13)."""
    names = named(store)
    toys = np.flatnonzero([name.startswith("toy") for name in names])
    found = gradients.compute(store, toys)
    print(gradients.judge(found))
    with style():
        axes = gradients.draw(found)
        order = list(gradients.RINGS)
        for k, name in enumerate(name for name in dict.fromkeys(names) if not name.startswith("toy")):
            rows = np.flatnonzero(names == name)
            means = gradients.ring_means(store.read(rows))
            truth = store.truth("f_ex")[rows]
            for p, (outer, inner) in enumerate(gradients.PAIRS):
                for c, channel in enumerate(store.channels):
                    if channel in store.rows[rows[0]]["missing"]:
                        continue
                    step = means[:, c, order.index(outer)] - means[:, c, order.index(inner)]
                    ax = axes[p * len(store.channels) + c]
                    ax.plot(truth, step, MARKERS[k], ms=4, mec=INK, mfc="none", mew=0.7, alpha=0.7)
                    if p == 0 and c == 1:
                        ax.plot([], [], MARKERS[k], ms=5, mec=INK, mfc="none", mew=0.7, label=name)
        known = axes[1].get_legend_handles_labels()
        chosen = [(handle, label) for handle, label in zip(*known, strict=True) if not label.startswith("toy")]
        figure = figure_of(axes)
        figure.legend(*zip(*chosen, strict=True), loc="outside upper center", ncols=4)
    return figure


def main() -> None:
    """Make both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder with particles/ and native/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = stored(options.data, Path(folder) / "maps")
        for name, figure in (("maps_real", examples(store)), ("gradients_real", radial(store))):
            with writing(FOLDER / f"{name}.png") as temporary:
                figure.savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    main()
