"""Contrastive losses and their queue against slow and obvious twins, and against lightly where it is installed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.errors import ConfigError, DataError
from galineage.training.contrast import Queue, contrast, nnclr, swapped


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def slow_one_way(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for k, row in enumerate(first):
        terms = [math.exp(cosine(row, other) / temperature) for other in second]
        total -= math.log(terms[k] / sum(terms))
    return total / len(first)


def slow_two_way(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    both = [*first, *second]
    total = 0.0
    for k, row in enumerate(both):
        partner = (k + len(first)) % len(both)
        terms = {j: math.exp(cosine(row, other) / temperature) for j, other in enumerate(both) if j != k}
        total -= math.log(terms[partner] / sum(terms.values()))
    return total / len(both)


@pytest.mark.parametrize(("form", "slow"), [("one-way", slow_one_way), ("two-way", slow_two_way)])
@given(seed=st.integers(0, 2**31), count=st.integers(2, 9), temperature=st.floats(0.04, 1.0))
@settings(max_examples=20, deadline=None)
def test_losses_are_those_written_out(form, slow, seed, count, temperature):
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, 6, generator=generator, dtype=torch.float64)
    found = float(contrast(first, second, temperature, form))
    assert found == pytest.approx(slow(first, second, temperature), rel=2e-4, abs=1e-5)


class SlowQueue:
    """A list: the newest rows at its end."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = list(rows)

    def push(self, rows: torch.Tensor) -> None:
        for row in rows:
            self.rows = [*self.rows[1:], row / row.norm()]

    def nearest(self, row: torch.Tensor) -> torch.Tensor:
        return max(self.rows, key=lambda other: cosine(row, other))


@given(size=st.integers(1, 12), pushes=st.lists(st.integers(1, 20), max_size=6), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_queue_is_first_in_first_out(size, pushes, seed):
    generator = torch.Generator().manual_seed(seed)
    queue = Queue(size, 5, seed=seed % 1000)
    slow = SlowQueue(queue.rows.clone())
    for count in pushes:
        rows = torch.randn(count, 5, generator=generator)
        queue.push(rows)
        slow.push(rows)
    ordered = torch.roll(queue.rows, -int(queue.place), dims=0)
    torch.testing.assert_close(ordered, torch.stack(slow.rows))
    asked = torch.randn(3, 5, generator=generator)
    torch.testing.assert_close(queue.rows[queue.nearest(asked)], torch.stack([slow.nearest(row) for row in asked]))


def test_nnclr_is_the_loss_of_neighbours_and_sends_no_gradient_to_them():
    generator = torch.Generator().manual_seed(0)
    queue = Queue(32, 8, seed=1)
    first, second = (torch.randn(6, 8, generator=generator, requires_grad=True) for _ in range(2))
    slow = SlowQueue(queue.rows.clone())
    near = [torch.stack([slow.nearest(row) for row in rows.detach()]) for rows in (first, second)]
    found = nnclr(first, second, queue, 0.1)
    wanted = 0.5 * (slow_one_way(near[0], second.detach(), 0.1) + slow_one_way(near[1], first.detach(), 0.1))
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-4)
    found.backward()
    assert first.grad.abs().sum() > 0
    assert second.grad.abs().sum() > 0
    assert not queue.rows.requires_grad


def test_the_published_variant_swaps_both_views_of_odd_galaxies():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 1, 2, 2, generator=generator)
    queue = Queue(5, 4, (1, 2, 2), seed=3)
    stored = torch.rand(5, 1, 2, 2, generator=generator)
    queue.push(torch.randn(5, 4, generator=generator), stored)
    asked: list[torch.Tensor] = []

    def project(given: torch.Tensor) -> torch.Tensor:
        asked.append(given)
        return given.flatten(1) - 0.5

    found, fresh = swapped(images, project, queue)
    own = images.flatten(1) - 0.5
    for k in range(8):
        if k % 2:  # first views of galaxies 1, 3 and second views of the same
            unit = own[k] / own[k].norm()
            near = min(range(5), key=lambda row: float((unit - queue.rows[row]).abs().sum()))
            torch.testing.assert_close(found[k], queue.images[near].float().flatten() - 0.5)
        else:
            torch.testing.assert_close(found[k], own[k])
    torch.testing.assert_close(fresh, own[::2])
    with pytest.raises(DataError, match="even number"):
        swapped(images[:6], project, queue)


def test_impossible_queues_are_refused():
    with pytest.raises(ConfigError):
        Queue(0, 4)
    with pytest.raises(DataError, match="images"):
        Queue(2, 4).push(torch.ones(1, 4), torch.ones(1, 1, 2, 2))


def test_the_two_way_form_is_that_of_lightly():
    lightly = pytest.importorskip("lightly.loss", reason="lightly cannot be imported without torchvision")
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 16, 32, generator=generator)
    theirs = lightly.NTXentLoss(temperature=0.1)(first, second)
    torch.testing.assert_close(contrast(first, second, 0.1), theirs)
