"""Let networks trained on toys look at the four real galaxies whose ex-situ fraction is known; prints a table.

python docs/predict_real_galaxies.py --data DIR --store STORE --bundle FOLDER [FOLDER ...]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from real_galaxies import Held, real_galaxies

import galineage
from galineage.store.settings import StoreConfig
from galineage.views import MapConfig, Refinement

if TYPE_CHECKING:
    from galineage.galaxy import Catalogue
    from galineage.models.bundle import Bundle


def settings_of(store: Path) -> StoreConfig:
    """Return the settings of a store, with twelve views."""
    known: dict[str, Any] = dict(galineage.MapStore(store).settings)
    maps = MapConfig(pixels=known["maps"]["pixels"], half_width=known["maps"]["half_width_r_half"])
    number = known["number"]
    return StoreConfig(maps=maps, refinement=Refinement(**known["refinement"]), views=12, number=number, raw=False)


def tell(bundle: Bundle, views: Catalogue) -> None:
    """Print what a network says of each galaxy: medians over its views."""
    table = galineage.predict(bundle, views)
    network: Any = bundle.estimator
    print(f"\n{bundle.name}, seeing {', '.join(network.seen)} within {network.aperture} r_half")
    for name in dict.fromkeys(views.ids.tolist()):
        rows = np.flatnonzero(views.ids == name)
        truth = float(views["f_ex"][rows[0]])
        label = f"{views.domain[rows[0]]} {name}, f_ex {truth:.3f}"
        if np.ma.getmaskarray(table["fexsitu_p50"])[rows].all():
            print(f"  {label}: a channel is missing, no answer")
            continue
        low, middle, high = (np.asarray(table[f"fexsitu_{q}"])[rows] for q in ("p16", "p50", "p84"))
        held = int(((low <= truth) & (truth <= high)).sum())
        shift = float(np.median(np.asarray(table["shift"])[rows]))
        said = f"{np.median(middle):.3f} ({np.median(low):.3f} to {np.median(high):.3f})"
        print(f"  {label}: {said}, 68 % intervals of {held} of {len(rows)} views hold it, shift {shift:.2f}")


def main() -> None:
    """Print medians, intervals and shift scores over the views of each galaxy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder with particles/ and native/")
    parser.add_argument("--store", required=True, type=Path, help="store that the networks were trained on")
    parser.add_argument("--bundle", required=True, nargs="+", type=Path, help="trained networks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for galaxy in real_galaxies(options.data):
            one = Held(f"{galaxy.domain} {galaxy.id}", (galaxy,))
            galineage.prepare(one, one.catalogue, Path(folder) / "maps", settings_of(options.store), progress=False)
        views = galineage.MapStore(Path(folder) / "maps").views()
        for path in options.bundle:
            tell(galineage.load(path), views)


if __name__ == "__main__":
    main()
