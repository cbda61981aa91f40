"""A joint distribution whose every answer is known, and estimators and catalogues to go with it."""

from __future__ import annotations

import numpy as np
import torch

from galineage.galaxy import Catalogue

RANGE = 13.9


class Known:
    """f_ex and t_last_major of n galaxies: a correlated normal pair through logits, and a chance of no merger.

    ``wrong`` changes what is stated, not what is true: factors on width, shift in widths, correlation, chance.
    """

    targets = ("f_ex", "t_last_major")
    exact_never = True

    def __init__(self, x, members=2, width=1.0, shift=0.0, correlation=-0.7, odds=0.0):
        self.x, self.members = torch.as_tensor(x, dtype=torch.float32), members
        self.width, self.shift, self.correlation, self.odds = width, shift, correlation, odds
        self.batch_shape = torch.Size((members, len(self.x)))

    @property
    def centre(self):
        return torch.stack([-1.0 + self.x[:, 0], 0.5 - 0.4 * self.x[:, 0]], dim=-1)

    @property
    def p_never(self):
        return torch.sigmoid(-2.0 + self.x[:, 0] + self.odds).expand(self.members, -1)

    def _place(self, z):
        other = self.correlation * z[..., :1] + (1 - self.correlation**2) ** 0.5 * z[..., 1:]
        pair = torch.cat([z[..., :1], other], dim=-1)
        y = torch.sigmoid(self.centre + 0.6 * (self.shift + self.width * pair))
        return y * torch.tensor([1.0, RANGE])

    def sample(self, shape=(1,)):
        draws = self._place(torch.randn(*shape, *self.batch_shape, 2))
        gone = torch.rand(*shape, *self.batch_shape) < self.p_never
        draws[..., 1] = draws[..., 1].masked_fill(gone, torch.nan)
        return draws

    def sample_alike(self, draws, seed):
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(draws, self.members, 1, 2, generator=generator).expand(-1, -1, len(self.x), -1)
        gone = torch.rand(draws, self.members, 1, generator=generator) < self.p_never
        found = self._place(z)
        found[..., 1] = found[..., 1].masked_fill(gone, torch.nan)
        return found

    def latent(self, y):
        logit = torch.logit(y / torch.tensor([1.0, RANGE]))
        a, b = (((logit - self.centre) / 0.6 - self.shift) / self.width).unbind(-1)
        z = torch.stack([a, (b - self.correlation * a) / (1 - self.correlation**2) ** 0.5], dim=-1)
        return z.expand(self.members, *z.shape)

    def log_prob(self, y):
        return -0.5 * self.latent(y).nan_to_num().square().sum(-1)


class Estimator:
    """Answers with `Known`."""

    kind, features, target, targets = "joint", ("age",), "f_ex", Known.targets
    joint, sees_maps = True, False

    def inputs(self, catalogue):
        return catalogue.features(self.features)

    def __init__(self, **wrong):
        self.wrong = wrong

    def __call__(self, x):
        return Known(x, **self.wrong)


def catalogue(n=1500, seed=0):
    """Galaxies drawn from `Known`; the input is ``age``, whose value is the distribution's x."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 0.7, n)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        truth = Known(x[:, None], members=1).sample(torch.Size((1,)))[0, 0].double().numpy()
    columns = {"age": x, "f_ex": truth[:, 0], "t_last_major": truth[:, 1]}
    columns["mstar"] = 10 ** (10.5 + 0.3 * x + rng.normal(0, 0.1, n))
    return Catalogue(columns, ids=np.arange(n), domain=np.full(n, "known"), root=np.arange(n).astype(str))
