"""A step of contrastive training (NNCLR): galineage against lightly's reference, with the same encoder, batch and size.

lightly is no dependency, and needs torchvision, of which there is no build without CUDA; for the comparison:

    pip install torch==2.13.0 torchvision==0.28.0 lightly==1.6.0

Without it only galineage is timed. Theirs is the example of their documentation: projection and prediction heads,
memory bank, NT-Xent loss, SGD; images in the usual layout, 32-bit floats, transformed one by one. Ours is what
`galineage.train_representation` does.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from measuring import alternate, finish, median, options, ratio
from torch import Tensor, nn

from galineage.galaxy import HeldMaps
from galineage.models.contrastive import ContrastiveNetwork
from galineage.models.map_inputs import MapInputs
from galineage.training.allocator import keep_memory
from galineage.training.augmentation import Augmentation, augment
from galineage.training.contrastive import ContrastiveConfig, Run

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE = 4096


class Ours:
    """Steps as our training takes them."""

    def __init__(self, images: np.ndarray, encoder: str, batch: int, precision: str) -> None:
        network = ContrastiveNetwork(("g", "r", "i"), images.shape[-1], encoder=encoder)
        inputs = MapInputs(HeldMaps(images, ("g", "r", "i")), np.zeros((len(images), 0)))
        config = ContrastiveConfig(batch_size=batch, queue=QUEUE, precision=precision, probe_every=0)
        self.run = Run(network, [inputs], config, None, torch.device("cpu"), None)
        self.images = inputs.take(np.arange(batch))
        self.looks = torch.cat([self.images, self.images]).float()
        network.train()

    def step(self) -> None:
        """One step, augmentation and all."""
        self.run.step(self.images, 100)

    def network(self) -> None:
        """Do the same with looks that are there already."""
        self.run.learn(self.looks)

    def augmentation(self) -> None:
        """Make both looks."""
        for _ in range(2):
            augment(self.images, Augmentation(), self.run.generator)


def shim() -> list[Any]:
    """Define what torchvision wants to be there beside a torch without CUDA; keep what is returned alive."""
    if torch.version.cuda is not None:
        return []
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return [library]


class Lightly:
    """Steps of lightly's example for NNCLR."""

    def __init__(self, images: np.ndarray, encoder: str, batch: int) -> None:
        self.kept = shim()
        from lightly.loss import NTXentLoss
        from lightly.models.modules import NNCLRPredictionHead, NNCLRProjectionHead, NNMemoryBankModule
        from lightly.transforms import SimCLRTransform
        from PIL import Image

        self.encoder = ContrastiveNetwork(("g", "r", "i"), images.shape[-1], encoder=encoder).encoder
        width = self.encoder.width
        self.project, self.predict = NNCLRProjectionHead(width, 256, 256), NNCLRPredictionHead(256, 256, 256)
        self.bank, self.loss = NNMemoryBankModule(size=(QUEUE, 256)), NTXentLoss()
        self.parts = nn.ModuleList([self.encoder, self.project, self.predict])
        self.optimiser = torch.optim.SGD(self.parts.parameters(), lr=0.06)
        self.transform = SimCLRTransform(input_size=images.shape[-1], rr_prob=0.5, vf_prob=0.5)
        shown = (255 * np.moveaxis(images[:batch].astype(np.float32), 1, -1)).astype(np.uint8)
        self.pictures = [Image.fromarray(one) for one in shown]
        self.looks = torch.from_numpy(images[:batch].astype(np.float32))

    def step(self) -> None:
        """One step, transforms and all."""
        looks = [self.transform(one) for one in self.pictures]
        self.learn(torch.stack([one[0] for one in looks]), torch.stack([one[1] for one in looks]))

    def network(self) -> None:
        """Do the same with looks that are there already."""
        self.learn(self.looks, self.looks)

    def augmentation(self) -> None:
        """Make both looks."""
        for one in self.pictures:
            self.transform(one)

    def learn(self, first: Tensor, second: Tensor) -> None:
        """Take a step, as in their example."""
        answers = []
        for images in (first, second):
            projected = self.project(self.encoder(images))
            answers.append((projected.detach(), self.predict(projected)))
        (z0, p0), (z1, p1) = answers
        near0, near1 = self.bank(z0, update=False), self.bank(z1, update=True)
        loss = 0.5 * (self.loss(near0, p1) + self.loss(near1, p0))
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()


def main() -> None:
    """Run, write, print."""
    parser = options(__doc__)
    parser.add_argument("--encoder", default="resnet18", choices=("resnet18", "representation"))
    parser.add_argument("--batch", type=int, default=128, help="galaxies; twice as many images")
    parser.add_argument("--pixels", type=int, default=64)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_memory()
    images = np.random.default_rng(0).random((chosen.batch, 3, chosen.pixels, chosen.pixels)).astype(np.float16)
    jobs: dict[str, Any] = {
        "galineage": Ours(images, chosen.encoder, chosen.batch, "auto"),
        "galineage, 32 bits": Ours(images, chosen.encoder, chosen.batch, "float32"),
    }
    if find_spec("lightly"):
        jobs["lightly"] = Lightly(images, chosen.encoder, chosen.batch)
    result: dict[str, Any] = {}
    for what in ("step", "network", "augmentation"):
        work: dict[str, Callable[[], Any]] = {label: getattr(job, what) for label, job in jobs.items()}
        taken = alternate(work, chosen.rounds)
        result[what] = {
            label: {"seconds": values, "times_galineage": ratio(values, taken["galineage"])}
            for label, values in taken.items()
        }
    rows = [(f"{chosen.encoder}, {chosen.batch} x {chosen.pixels} px", "step ms", "x", "network ms", "x", "looks ms",
             "of the step")]  # fmt: skip
    for label in jobs:
        cells = []
        for what in ("step", "network"):
            entry = result[what][label]
            cells += [f"{1e3 * median(entry['seconds']):.0f}", f"{entry['times_galineage']['median']:.2f}"]
        looks = median(result["augmentation"][label]["seconds"])
        share = looks / median(result["step"][label]["seconds"])
        rows.append((label, *cells, f"{1e3 * looks:.0f}", f"{100 * share:.1f} %"))
    finish(
        chosen.out, "contrastive", {"settings": {k: str(v) for k, v in vars(chosen).items()}, "results": result}, rows
    )
    if not find_spec("lightly"):
        print("lightly is not installed: the head of this file says how to add it")


if __name__ == "__main__":
    main()
