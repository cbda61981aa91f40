"""Made-up training sets whose conditional distribution is known exactly."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from galineage.models import make_estimator
from galineage.models.bounded import TruncatedMixture, WidenedLogit
from galineage.training import TrainConfig

FEATURES = ("mstar", "age")


def truth(x):
    """The conditional distribution behind `draw`: location and width both change with the features."""
    x = torch.as_tensor(np.asarray(x), dtype=torch.float32)
    location = -2.0 + 1.6 * (x[:, 0] - 10) + torch.sin(x[:, 1])
    width = 0.25 + 0.35 * (12 - x[:, 1]) / 7
    return TruncatedMixture(torch.zeros(len(x), 1), location.unsqueeze(1), width.unsqueeze(1), WidenedLogit())


def draw(n, seed=0):
    """Features (n, 2) in dex of Msun and in Gyr, and the target (n,)."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.uniform(9.5, 12, n), rng.uniform(5, 12, n)], axis=1)
    p = torch.as_tensor(rng.random(n), dtype=torch.float32)
    return x, truth(x).icdf(p).double().numpy()


def tiny(members=3, **options):
    settings = {"hidden": (8,), "dropout": 0.1, "seed": 1, **options}
    return make_estimator(settings.pop("preset", "mdn"), FEATURES, members=members, **settings)


def quick(**changes):
    return TrainConfig(
        **{"max_epochs": 9, "batch_size": 32, "device": "cpu", "checkpoint_every": 2, "seed": 5, **changes}
    )


class Pull(nn.Module):
    """An alignment with weights of its own: the distance of a learned direction's means in the two domains."""

    def __init__(self, members=3, width=8, strength=0.5):
        super().__init__()
        self.strength = strength
        start = torch.Generator().manual_seed(3)
        self.direction = nn.Parameter(torch.randn(members, width, 1, generator=start))
        self.register_buffer("steps", torch.zeros(()))
        self.seen = []

    def settings(self):
        return {"kind": "pull", "strength": self.strength}

    def penalty(self, source, target, progress):
        self.seen.append((tuple(source.shape), tuple(target.shape), progress))
        self.steps += 1
        noise = torch.rand(())  # from the default generator: its state must be in the checkpoint
        gap = ((source.mean(1) - target.mean(1)).unsqueeze(1) @ self.direction).flatten(1)
        return self.strength * progress * (1 + 0.1 * noise) * gap.square().sum(1)
