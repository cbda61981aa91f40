"""Draw docs/figures/representation_map.png: a map of the galaxies of a store, as a representation sees them.

python docs/make_representation_figure.py --representation rep --images images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from galineage import ImageStore, load_representation, represent
from galineage.atomic import writing
from galineage.evaluation import figure_of, landscape
from galineage.evaluation.sample import Sample
from galineage.evaluation.style import style
from galineage.fields import representation_features

FOLDER = Path(__file__).parent / "figures"
PROPERTIES = ("mstar", "concentration", "f_ex")


def samples(representation: str, images: str) -> list[Sample]:
    """Return the representations of the images of each domain, with what is known of the galaxies."""
    network, _ = load_representation(representation)
    store, found = ImageStore(images), []
    for domain in dict.fromkeys(str(row["domain"]) for row in store.rows):
        views = represent(network, store.views(domain))
        known = {name: np.asarray(views[name], dtype=float) for name in PROPERTIES if name in views}
        whose = views.ids if views.root is None else views.root
        found.append(Sample(domain, views.features(representation_features(network.width)), known, whose.astype(str)))
    return found


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--representation", required=True, help="folder written by galineage contrast")
    parser.add_argument("--images", required=True, help="store of images")
    options = parser.parse_args()
    found = landscape.compute(samples(options.representation, options.images), PROPERTIES)
    with style():
        figure = figure_of(landscape.draw(found))
        with writing(FOLDER / "representation_map.png") as temporary:
            figure.savefig(temporary, dpi=90, format="png")
    print(landscape.judge(found).sentence)


if __name__ == "__main__":
    main()
