"""Training: five members as one batched model against five plain torch networks one after another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from measuring import alternate, finish, median, options, ratio
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from galineage.models import make_estimator
from galineage.models.layers import MemberBatchNorm, MemberDropout, MemberLinear
from galineage.store.splits import held_out_groups
from galineage.training import TrainConfig, fit_estimator, recommended_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
MEMBERS = 5
EPOCHS = {"paper": 6, "mdn": 8, "flow": 4}


def made_up(rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features (rows, 5) and a fraction (rows,) that depends on three of them, with scatter."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, len(FEATURES)))
    middle = 1 / (1 + np.exp(-1.5 * x[:, 0] - 0.5 * x[:, 1] * x[:, 2]))
    return x, np.clip(middle + 0.08 * rng.standard_normal(rows), 0, 1)


@dataclass
class Plain:
    """The same networks, start weights, rows, batches and optimiser settings, written the ordinary way."""

    model: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    config: TrainConfig

    def __post_init__(self) -> None:
        scaled = (self.x - self.x.mean(0)) / self.x.std(0)
        rows, target = (torch.from_numpy(part.astype(np.float32)) for part in (scaled, self.y))
        held = torch.from_numpy(held_out_groups(np.arange(len(self.y)), self.config.validation, self.config.seed))
        self.train, self.valid = (rows[~held], target[~held]), (rows[held], target[held])

    def network(self, member: int) -> tuple[nn.Sequential, Any]:
        """Return one member as a plain network, and its head."""
        estimator: Any = make_estimator(self.model, FEATURES, members=MEMBERS, seed=self.config.seed)
        layers: list[nn.Module] = []
        for layer in estimator.network:
            if isinstance(layer, MemberLinear):
                layers.append(nn.Linear(*layer.weight.shape[1:]))
                with torch.no_grad():
                    layers[-1].weight.copy_(layer.weight[member].T)
                    layers[-1].bias.copy_(layer.bias[member, 0])
            elif isinstance(layer, MemberBatchNorm):
                layers.append(nn.BatchNorm1d(layer.weight.shape[-1], eps=layer.eps, momentum=1 - layer.momentum))
            elif isinstance(layer, MemberDropout):
                layers.append(nn.Dropout(layer.rate))
            else:
                layers.append(layer)
        return nn.Sequential(*layers), estimator.head

    def run(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> float:
        """Train all members one after another; return the mean validation loss after the last epoch."""
        losses = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            for member in range(MEMBERS):
                network, head = self.network(member)
                optimiser = torch.optim.Adam(network.parameters(), self.config.learning_rate)
                for _ in range(self.config.max_epochs):
                    network.train()
                    for x, y in batches():
                        optimiser.zero_grad()
                        loss = -head.distribution(network(x)).log_prob(y).mean()
                        loss.backward()
                        nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_norm)
                        optimiser.step()
                    network.eval()
                    with torch.no_grad():
                        last = float(-head.distribution(network(self.valid[0])).log_prob(self.valid[1]).mean())
                losses.append(last)
        return float(np.mean(losses))

    def by_index(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Batches of shuffled indices."""
        order = torch.randperm(len(self.train[0]))
        for rows in order.split(self.config.batch_size):
            if len(rows) > self.config.batch_size // 2:
                yield self.train[0][rows], self.train[1][rows]

    def by_loader(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Batches of a DataLoader in this process, with the same number of steps."""
        size = self.config.batch_size
        small = len(self.train[0]) % size <= size // 2
        return DataLoader(TensorDataset(*self.train), size, shuffle=True, drop_last=small)


def compare(model: str, rows: int, rounds: int) -> dict[str, Any]:
    """Time the three ways for one preset."""
    x, y = made_up(rows)
    config = replace(recommended_config(model), max_epochs=EPOCHS[model], validation_split="shared", device="cpu")
    plain, losses = Plain(model, x, y, config), {}

    def batched() -> None:
        estimator = make_estimator(model, FEATURES, members=MEMBERS, seed=config.seed)
        losses["galineage"] = fit_estimator(estimator, x, y, config, progress=False).history[-1]["val_loss"]

    def index_loop() -> None:
        losses["index loop"] = plain.run(plain.by_index)

    def loader_loop() -> None:
        losses["DataLoader loop"] = plain.run(plain.by_loader)

    variants = {"galineage": batched, "index loop": index_loop, "DataLoader loop": loader_loop}
    taken = alternate(variants, rounds)
    return {
        "epochs": config.max_epochs,
        "batch_size": config.batch_size,
        "seconds_per_epoch": {name: [wall / config.max_epochs for wall in walls] for name, walls in taken.items()},
        "ratio_to_galineage": {name: ratio(taken[name], taken["galineage"]) for name in list(taken)[1:]},
        "validation_loss": losses,
    }


def main() -> None:
    """Run, write, print."""
    parser = options(__doc__)
    # a second thread gains networks of this size little, and waits for the first on a busy machine
    parser.set_defaults(threads=1)
    parser.add_argument("--n", type=int, default=5000, help="galaxies")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    found = {model: compare(model, chosen.n, chosen.rounds) for model in EPOCHS}
    rows = [("five members", "ms per epoch", "times galineage", "lowest", "highest", "validation loss")]
    for model, result in found.items():
        for name, values in result["seconds_per_epoch"].items():
            times = result["ratio_to_galineage"].get(name, {"median": 1.0, "low": 1.0, "high": 1.0})
            rows.append(
                (
                    f"{model}, batch {result['batch_size']}: {name}",
                    f"{median(values) * 1e3:.0f}",
                    *(f"{times[key]:.1f}" for key in ("median", "low", "high")),
                    f"{result['validation_loss'][name]:.3f}",
                )
            )
    finish(chosen.out, "ensemble_training", {"galaxies": chosen.n, "presets": found}, rows)


if __name__ == "__main__":
    main()
