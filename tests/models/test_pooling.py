"""Rectified pooling and dropout against torch's own, which they replace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from galineage.models.pooling import QuickDropout, RectifiedPool

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
KINDS = [torch.float32, torch.bfloat16, torch.float64]


@pytest.fixture(autouse=True)
def own_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


def maps(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Return values with ties, zeros of both signs and negative numbers."""
    return (torch.randn(shape) * 4).round().div(4).to(dtype)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (3, 5, 7, 6), (4, 32, 16, 16), (2, 3, 9, 9)])
@pytest.mark.parametrize("last", [True, False], ids=["channels-last", "channels-first"])
@pytest.mark.parametrize("threads", [1, 2])
def test_pooling_and_its_gradient_are_torchs(
    dtype: torch.dtype, shape: tuple[int, ...], last: bool, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        values = maps(dtype, *shape)
        values = values.contiguous(memory_format=torch.channels_last) if last else values
        values.requires_grad_()
        ours, theirs = RectifiedPool()(values), SLOW(values)
        assert torch.equal(ours, theirs)
        gradient = torch.randn_like(theirs)
        found, wanted = (torch.autograd.grad(each, values, gradient)[0] for each in (ours, theirs))
        assert torch.equal(found, wanted)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("place", range(4))
def test_what_is_no_number_is_not_hidden(dtype: torch.dtype, sign: float, place: int) -> None:
    values = maps(dtype, 2, 3, 4, 4)
    values[0, 1, place // 2, place % 2] = sign * torch.tensor(float("nan"), dtype=dtype)
    values[1, 0, 0, 0], values[1, 1, 3, 3] = float("inf"), float("-inf")
    torch.testing.assert_close(RectifiedPool()(values), SLOW(values), equal_nan=True, rtol=0, atol=0)


def test_pooling_of_no_galaxies() -> None:
    assert RectifiedPool()(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 2, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_dropout_keeps_what_it_says_and_the_mean(dtype: torch.dtype, rate: float) -> None:
    values = torch.ones(64, 16, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer = QuickDropout(rate)
    found = layer(values)
    dropped = float((found == 0).float().mean())
    assert abs(dropped - rate) < 5 * (rate * (1 - rate) / values.numel()) ** 0.5
    assert torch.allclose(found[found > 0].float(), torch.tensor(1 / (1 - rate)), rtol=4e-3)
    # the gradient goes where the value went
    (gradient,) = torch.autograd.grad(found.sum(), values)
    assert torch.equal(gradient, found)
    # a mask for each call, in no pattern along any axis
    assert not torch.equal(layer(values) == 0, found == 0)
    zeros = (found == 0).float().detach()
    for axis in range(4):
        means = zeros.mean([k for k in range(4) if k != axis])
        assert float((means - rate).abs().max()) < 6 * (rate * (1 - rate) * len(means) / values.numel()) ** 0.5


def test_dropout_is_nothing_outside_of_training_and_at_rate_0() -> None:
    values = torch.randn(4, 3)
    assert QuickDropout(0.3).train(mode=False)(values) is values
    assert QuickDropout(0.0)(values) is values


def test_dropout_comes_from_torchs_generator() -> None:
    layer, values = QuickDropout(0.5), torch.ones(7, 5)
    torch.manual_seed(3)
    first = layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first)
