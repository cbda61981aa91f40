"""Learn a representation of real pictures, and say what it is worth: the numbers and figure of docs/howto/images.md.

python docs/learn_real_images.py --data DIR [--epochs 150]

2,000 SDSS galaxies (GalaxyZoo 2, half of them spirals), 6 EAGLE galaxies seen edge-on, face-on and at random, and two
released HSC mocks, all as colour pictures. 500 of the SDSS galaxies are kept for testing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from galineage.galaxy import Catalogue, HeldMaps
from galineage.images import ColourStretch, crop_cutout, measure_petrosian, resize, stretch
from galineage.models.map_inputs import MapInputs
from galineage.shift import NeighbourScore
from galineage.sources.images import open_pictures, read_cutout
from galineage.training.augmentation import Augmentation
from galineage.training.contrastive import ContrastiveConfig, train_representation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from galineage.cutouts import Cutout
    from galineage.models.contrastive import ContrastiveNetwork

BANDS = ("g", "r", "i")
PIXELS = 64
_NONLINEAR = 5.0
"""How strongly pictures are taken to be stretched (asinh) when the size of a galaxy is measured on one."""


def cropped(picture: Cutout) -> NDArray[np.float32] | None:
    """Cut a picture to 4 R90 around its middle and resize it; None if no size can be measured.

    Where a galaxy is larger than its picture, this is taken whole, as published.
    """
    linear = np.sinh(_NONLINEAR * picture.values) / np.sinh(_NONLINEAR)
    edge = np.concatenate([linear[:, :6], linear[:, -6:]], axis=1)
    linear = linear - np.median(edge, axis=(1, 2))[:, None, None]
    size = measure_petrosian(replace(picture, values=linear.astype(np.float32)))
    if not size.ok and "beyond the image" not in size.reason:
        return None
    cut = crop_cutout(picture, 4 * size.r90) if size.ok else picture
    return resize(cut.values, PIXELS).astype(np.float32)


def as_picture(cutout: Cutout) -> Cutout:
    """Stretch fluxes to a colour picture."""
    return replace(cutout, values=stretch(cutout.values, ColourStretch()).astype(np.float32), variance=None, mask=None)


def views(name: str, pictures: Iterable[Cutout], ids: Iterable[str]) -> Catalogue:
    """Return a catalogue of pictures that have a size."""
    found = [(one, cropped(picture)) for one, picture in zip(ids, pictures, strict=True)]
    kept = [(one, values) for one, values in found if values is not None]
    print(f"{name}: {len(kept)} of {len(found)} pictures have a size")
    names = np.array([one for one, _ in kept])
    images = HeldMaps(np.stack([values for _, values in kept]), BANDS, {"pictures": f"4 R90, {PIXELS} pixels"})
    return Catalogue({}, names, np.full(len(names), name), root=names, maps=images)


def read(data: Path) -> tuple[dict[str, Catalogue], NDArray[np.bool_]]:
    """Read all pictures, and which of the SDSS galaxies are spirals."""
    folder = data / "images"
    colours = ("i", "r", "g")
    sdss = open_pictures(
        next((folder / "sdss_gz2_gri_128px").glob("*.zip")),
        table="labels.csv", bands=colours, pixel_scale=1.0, id="galaxy_id",
    )  # fmt: skip
    found = {"SDSS": views("SDSS", (sdss.read(k) for k in range(len(sdss))), sdss.ids)}
    spiral = dict(zip(sdss.ids, sdss.table["label"] == "spirals", strict=True))
    eagle, names = [], []
    for table in sorted((folder / "eagle_skirt_gri").glob("*/*/data.csv")):
        for seen in ("edge", "face", "rand"):
            files = open_pictures(
                table.parent, table="data.csv", bands=colours, pixel_scale=1.0, id="GalaxyID",
                file=f"images/gal{seen}_{{GalaxyID}}.png",
            )  # fmt: skip
            eagle += [files.read(k) for k in range(len(files))]
            names += [f"{table.parts[-3]}-{one}" for one in files.ids]
    found["EAGLE"] = views("EAGLE", eagle, names)
    mocks = sorted((folder / "hsc_mocks_tng50").glob("*.fits"))
    cuts = [read_cutout(path, bands=("hsc-g", "hsc-r", "hsc-i")) for path in mocks]
    found["HSC mocks"] = views("HSC mocks", map(as_picture, cuts), [path.stem for path in mocks])
    return found, np.array([spiral[one] for one in found["SDSS"].ids])


def baseline(catalogue: Catalogue) -> NDArray[np.float64]:
    """Return colours and sizes of pictures (n, 4): g - r, r - i, the size, and the light."""
    images = MapInputs.of(catalogue)[0 : len(catalogue)].float().numpy() + 1e-3
    total = images.sum(axis=(2, 3))
    place = (np.arange(PIXELS) + 0.5) / PIXELS - 0.5
    radius = np.hypot(place[:, None], place[None, :])
    shown = images.mean(axis=1)
    size = (shown * radius).sum(axis=(1, 2)) / shown.sum(axis=(1, 2))
    return np.column_stack([np.log(total[:, 0] / total[:, 1]), np.log(total[:, 1] / total[:, 2]), size, total.sum(1)])


def accuracy(
    train: NDArray[np.floating], known: NDArray[np.bool_], test: NDArray[np.floating], truth: NDArray[np.bool_]
) -> float:
    """Share of galaxies whose 15 nearest neighbours say rightly whether they are spirals."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(train)
    return float(KNeighborsClassifier(15).fit(scale.transform(train), known).score(scale.transform(test), truth))


def closeness(
    values: NDArray[np.floating], roots: NDArray[np.str_], others: NDArray[np.floating]
) -> tuple[NDArray[np.float64], float]:
    """Return how far views of a galaxy are from each other, in mean distances to other galaxies, and a rank.

    The distances (galaxies,) are sums of absolute differences of standardised numbers. The rank: share of the views'
    two nearest pictures that are of the same galaxy. ``others`` are pictures of yet other galaxies.
    """
    spread = np.concatenate([values, others]).std(axis=0) + 1e-9
    every = np.concatenate([values, others]) / spread
    names = np.concatenate([roots, np.full(len(others), "")])
    distance = np.abs(every[: len(values), None] - every[None]).sum(axis=2)
    same = roots[:, None] == names[None]
    itself = np.eye(len(values), len(every), dtype=bool)
    within = [distance[(roots == one)[:, None] & same & ~itself].mean() for one in np.unique(roots)]
    between = [distance[(roots == one)[:, None] & ~same].mean() for one in np.unique(roots)]
    nearest = np.argsort(np.where(itself, np.inf, distance), axis=1)[:, :2]
    return np.array(within) / np.array(between), float(np.take_along_axis(same, nearest, axis=1).mean())


def report(
    network: ContrastiveNetwork, found: dict[str, Catalogue], held: NDArray[np.bool_], spiral: NDArray[np.bool_]
) -> None:
    """Print the numbers."""
    seen = {name: network.represent(MapInputs.of(one)) for name, one in found.items()}
    sdss = seen["SDSS"]
    plain = baseline(found["SDSS"])
    train, test = ~held, held
    error = np.sqrt(0.25 / test.sum())
    ours, theirs = (accuracy(one[train], spiral[train], one[test], spiral[test]) for one in (sdss, plain))
    print(f"spirals by 15 neighbours: {ours:.3f}, by colour and size {theirs:.3f}; 1 sigma {error:.3f}")
    for who, others in (("EAGLE", sdss[:0]), ("EAGLE and SDSS test", sdss[test])):
        ratio, share = closeness(seen["EAGLE"], found["EAGLE"].ids, others)
        print(
            f"distances among the views of an EAGLE galaxy over those to other galaxies ({who}): "
            f"{', '.join(f'{one:.2f}' for one in ratio)}; {share:.2f} of the nearest two are of the same galaxy"
        )
    score = NeighbourScore.fit(sdss[train])
    rng = np.random.default_rng(0)
    shape = (100, 3, PIXELS, PIXELS)
    noise = HeldMaps(rng.random(shape, dtype=np.float32), BANDS, network.recipe)
    faint = HeldMaps(np.abs(0.05 * rng.standard_normal(shape)).astype(np.float32), BANDS, network.recipe)
    seen |= {"noise": network.represent(MapInputs(noise, np.zeros((100, 0))))}
    seen |= {"faint noise": network.represent(MapInputs(faint, np.zeros((100, 0))))}
    for name, values in {"SDSS test": sdss[test], **{k: v for k, v in seen.items() if k != "SDSS"}}.items():
        scores = score.score(values)
        print(
            f"out-of-domain score of {name}: median {np.median(scores):.2f}, {100 * np.mean(scores > 1):.0f} % above 1"
        )


def main() -> None:
    """Learn, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--variant", default="nnclr")
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--out", type=Path, help="folder of checkpoints")
    options = parser.parse_args()
    found, spiral = read(options.data)
    held = np.zeros(len(spiral), dtype=bool)
    held[np.random.default_rng(0).permutation(len(held))[:500]] = True
    # chosen on 400 of the 1,500 training galaxies; pictures keep their colours, hence the gains
    looks = Augmentation(shift=0.15, zoom=2.0, noise=(0.0, 0.03), gain=0.5)
    config = ContrastiveConfig(
        epochs=options.epochs,
        variant=options.variant,
        temperature=options.temperature,
        learning_rate=2e-3,
        queue=1024,
        batch_size=128,
        augmentation=looks,
    )
    network, history = train_representation([found["SDSS"].select(~held)], config, folder=options.out)
    print(f"{len(history)} epochs, loss {history[-1]['train_loss']:.3f}")
    report(network, found, held, spiral)


if __name__ == "__main__":
    main()
