"""The compiled training pass against the layers that define it, and what torch differentiates there."""

from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from galineage.models import make_estimator
from galineage.models.fused import Dense, run_layers
from galineage.models.layers import MemberBatchNorm, MemberLinear

FEATURES = ("mstar", "age", "metallicity")
MASK32 = 2**32 - 1


def hashed(count, key, other):
    """Slow twin of the hash that decides what is dropped: whole numbers of Python, no overflow."""
    found = np.empty(count, dtype=np.uint32)
    for index in range(count):
        h = index ^ key
        h = (h ^ (h >> 16)) * 0x7FEB352D & MASK32
        h = (h ^ (h >> 15)) + other & MASK32
        h = h * 0x846CA68B & MASK32
        found[index] = h ^ (h >> 16)
    return found


class Plain(nn.Module):
    """The same layers from `galineage.models.layers`; the dropout masks are given."""

    def __init__(self, members, widths, batch_norm, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linears = nn.ModuleList(MemberLinear(members, a, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(MemberBatchNorm(members, width) for width in widths[1:-1])
        self.batch_norm = batch_norm
        for linear in self.linears:
            linear.reset(generator)
        for norm in self.norms:
            for part in (norm.weight, norm.bias, norm.running_mean):
                part.data += 0.3 * torch.randn(part.shape, generator=generator)

    def trained(self):
        parts = []
        for index, linear in enumerate(self.linears):
            parts += [linear.weight, linear.bias]
            if self.batch_norm and index < len(self.norms):
                parts += [self.norms[index].weight, self.norms[index].bias]
        return parts

    def forward(self, x, masks):
        for index, linear in enumerate(self.linears):
            x = linear(x)
            if index < len(self.norms):
                x = torch.relu(x)
                x = self.norms[index](x) if self.batch_norm else x
                x = x * masks[index]
        return x

    def dense(self, dropout):
        layers = []
        for index, linear in enumerate(self.linears):
            settings = {}
            if index < len(self.norms):
                norm = self.norms[index]
                settings = {"rectify": True, "dropout": dropout, "momentum": norm.momentum, "eps": norm.eps}
                if self.batch_norm:
                    settings["norm"] = norm.weight, norm.bias, norm.running_mean, norm.running_var
            layers.append(Dense(linear.weight, linear.bias, **settings))
        return layers


def masks(widths, members, rows, dropout, seed):
    """What `run_layers` will drop, from the keys that it will draw."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        keys = torch.randint(2**32, (len(widths) - 1, 2)).tolist()
    found = []
    for (key, other), width in zip(keys, widths[1:-1], strict=False):
        kept = hashed(members * width * rows, key, other) >= round(dropout * 2**32)
        kept = torch.from_numpy(kept.reshape(members, width, rows)).transpose(1, 2)
        found.append(kept / (1 - dropout))
    return found


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    ("members", "rows", "widths"),
    [(1, 2, (1, 1, 1)), (3, 33, (3, 8, 5, 2)), (5, 128, (5, 32, 16, 16, 2)), (2, 7, (4, 3))],
)
def test_values_and_gradients_are_those_of_the_layers(members, rows, widths, dropout, batch_norm):
    plain = Plain(members, widths, batch_norm)
    twin = copy.deepcopy(plain)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(members, rows, widths[0], generator=generator).requires_grad_()
    slope = torch.randn(members, rows, widths[-1], generator=generator)
    wanted = twin(x, masks(widths, members, rows, dropout, seed=4))
    expected = torch.autograd.grad(wanted, [x, *twin.trained()], slope)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        found = run_layers(x, plain.dense(dropout))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    slopes = torch.autograd.grad(found, [x, *plain.trained()], slope)
    # two rows under batch normalisation: differences of almost equal numbers
    near = {"rtol": 1e-3, "atol": 2e-5 if rows > 2 else 1e-2}
    for mine, other in zip(slopes, expected, strict=True):
        torch.testing.assert_close(mine, other, **near)
    for mine, other in zip(plain.norms, twin.norms, strict=True):
        torch.testing.assert_close(mine.running_mean, other.running_mean)
        torch.testing.assert_close(mine.running_var, other.running_var)


@pytest.mark.parametrize("preset", ["paper", "paper-bounded", "mdn", "flow"])
def test_a_perceptron_trains_through_the_compiled_pass_and_predicts_through_the_layers(preset, monkeypatch):
    from galineage.models import fused

    calls = []
    original = fused.run_layers
    monkeypatch.setattr(fused, "run_layers", lambda *given: calls.append(1) or original(*given))
    network = make_estimator(preset, FEATURES, members=2, dropout=0.0)
    x, y = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.full((40,), 0.3)
    trained = network.train()(x).log_prob(y)
    assert len(calls) == 1
    gradient = torch.autograd.grad(trained.sum(), list(network.parameters()))
    network.activation = "silu"  # only the choice of the way looks at it: the layers are built
    by_layers = network(x).log_prob(y)
    torch.testing.assert_close(trained, by_layers, rtol=1e-4, atol=1e-4)
    for mine, other in zip(gradient, torch.autograd.grad(by_layers.sum(), list(network.parameters())), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3)
    network.activation = "relu"
    with torch.no_grad():
        network(x)
    network.eval()(x)
    network.double().train()(x.double())
    assert len(calls) == 1


def test_nan_is_not_swallowed():
    plain = Plain(2, (3, 4, 4, 1), batch_norm=False)
    x = torch.ones(2, 5, 3)
    x[1, 2, 0] = torch.nan
    found = run_layers(x, plain.dense(0.0))
    assert found.isnan()[:, :, 0].tolist() == [[False] * 5, [False, False, True, False, False]]
    slopes = torch.autograd.grad(found.sum(), plain.trained())
    assert not any(slope[0].isnan().any() for slope in slopes)
    assert slopes[0][1].isnan().any()
    normed = Plain(2, (3, 4, 4, 1), batch_norm=True)
    assert run_layers(x, normed.dense(0.0)).isnan()[:, 0, 0].tolist() == [False, True]


@pytest.mark.parametrize("rate", [1e-12, 1e-9, 0.1, 0.5, 0.997])
def test_dropout_drops_at_its_rate_and_independently(rate):
    members, rows, width = 4, 3000, 8
    identity = Dense(torch.eye(width).repeat(members, 1, 1), torch.zeros(members, 1, width), dropout=rate)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        kept = run_layers(torch.ones(members, rows, width), [identity])
        again = run_layers(torch.ones(members, rows, width), [identity])
    dropped = (kept == 0).double()
    n = dropped[0].numel()
    assert (dropped.mean(dim=(1, 2)) - rate).abs().max() <= 5 * (rate * (1 - rate) / n) ** 0.5
    assert kept.max() == pytest.approx(1 / (1 - rate), rel=1e-5)
    assert len(torch.unique(kept)) <= 2
    if 0.01 < rate < 0.9:
        assert (dropped != (again == 0)).double().mean() == pytest.approx(2 * rate * (1 - rate), rel=0.1)
        pair = torch.corrcoef(dropped.flatten(1))
        assert (pair - torch.eye(members)).abs().max() < 5 / n**0.5
        columns = torch.corrcoef(dropped.flatten(0, 1).T)
        assert (columns - torch.eye(width)).abs().max() < 6 / (members * rows) ** 0.5
        neighbours = torch.corrcoef(torch.stack([dropped[:, 1:].flatten(), dropped[:, :-1].flatten()]))
        assert abs(float(neighbours[0, 1])) < 5 / (n * members) ** 0.5


def test_a_copy_and_new_memory_are_noticed():
    network = make_estimator("mdn", FEATURES, members=2, dropout=0.0).train()
    x, y = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)), torch.full((30,), 0.3)
    before = network(x).log_prob(y)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for part in other.parameters():
            part.add_(0.1)
    assert not torch.allclose(other(x).log_prob(y), before)
    torch.testing.assert_close(network(x).log_prob(y), before)
    with torch.no_grad():
        for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
            mine.data = theirs.clone()
    torch.testing.assert_close(network(x).log_prob(y), other(x).log_prob(y))


@pytest.mark.slow
def test_a_full_disk_does_not_stop_the_compiled_pass(tmp_path):
    """What was compiled cannot be kept then; nothing else changes."""
    code = (
        "import resource, signal, torch; from galineage.models import make_estimator\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "network = make_estimator('mdn', ['mstar', 'age'], members=2).train()\n"
        "network(torch.randn(32, 2)).log_prob(torch.rand(32)).mean().backward()\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
