"""Penalties between representations: slow twins, known limits, directions of gradients, a place in the loop."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from lines import FEATURES, draw, quick, tiny
from scipy.optimize import linear_sum_assignment

from galineage.errors import ConfigError
from galineage.training import fit_estimator
from galineage.training.alignment import ALIGNMENTS, Sinkhorn, make_alignment

E, B, C, H = 3, 14, 9, 4
KINDS = list(ALIGNMENTS)


def pair(seed=0, away=0.0, b=B, c=C, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(E, b, H, generator=g, dtype=dtype),
        torch.randn(E, c, H, generator=g, dtype=dtype) * 1.3 + away,
    )


def made(kind, **options):
    return make_alignment(kind, E, H, **options).double()


# --- what all of them promise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_gives_one_number_for_each_member_and_members_do_not_mix(kind):
    source, target = pair(away=0.5)
    alignment = made(kind)
    found = alignment.penalty(source, target, 0.5).detach()
    assert found.shape == (E,)
    other = torch.cat([source[:1], 3 * source[1:] + 7])
    changed = alignment.penalty(other, target, 0.5).detach()
    assert changed[0] == pytest.approx(float(found[0]), rel=1e-9)
    assert not torch.isclose(changed[1], found[1], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_does_not_depend_on_the_order_of_galaxies(kind):
    source, target = pair(away=0.5)
    alignment = made(kind)
    found = alignment.penalty(source, target, 0.5)
    torch.testing.assert_close(alignment.penalty(source.flip(1), target.flip(1), 0.5), found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_is_a_factor_and_zero_switches_it_off(kind):
    source, target = pair(away=0.5)
    found = made(kind).penalty(source, target, 0.3)
    torch.testing.assert_close(made(kind, weight=2.5).penalty(source, target, 0.3), 2.5 * found)
    assert (made(kind, weight=0.0).penalty(source, target, 0.3) == 0).all()


@pytest.mark.parametrize("kind", ["coral", "sinkhorn"])
def test_equal_sets_cost_nothing(kind):
    source, _ = pair()
    assert made(kind).penalty(source, source.flip(1), 0.5).abs().max() < 1e-9


@pytest.mark.parametrize("kernel", ["gaussian", "multiquadric"])
def test_the_discrepancy_of_sets_from_one_distribution_is_zero_on_average(kernel):
    g = torch.Generator().manual_seed(1)
    alignment = make_alignment("mmd", 400, H, kernel=kernel)
    values = alignment.penalty(*(torch.randn(400, size, H, generator=g) for size in (30, 20)), 0.5)
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(400)
    assert float(values.min()) < 0


@pytest.mark.parametrize("kind", ["coral", "mmd", "sinkhorn"])
def test_grows_with_the_difference(kind):
    source, target = pair(b=40, c=40)
    values = [made(kind).penalty(source, stretch * target + away, 0.5) for stretch, away in ((1, 0), (2, 1), (4, 2))]
    assert (values[0] < values[1]).all()
    if kind != "mmd":  # bounded by its kernel
        assert (values[1] < values[2]).all()


@pytest.mark.parametrize("kind", ["coral", "mmd", "sinkhorn"])
def test_minimising_it_brings_the_sets_together(kind):
    source, target = pair(away=1.0, b=30, c=30, dtype=torch.float32)
    moved = target.clone().requires_grad_()
    alignment, optimiser = make_alignment(kind, E, H), torch.optim.Adam([moved], 0.05)
    start = alignment.penalty(source, moved, 0.5).detach()
    for _ in range(100):
        optimiser.zero_grad()
        alignment.penalty(source, moved, 0.5).sum().backward()
        optimiser.step()
    assert (alignment.penalty(source, moved, 0.5).detach() < 0.25 * start).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_where_galaxies_coincide(kind):
    source = torch.zeros(E, B, H).requires_grad_()
    target = torch.zeros(E, C, H).requires_grad_()
    make_alignment(kind, E, H).penalty(source, target, 1.0).sum().backward()
    assert torch.isfinite(source.grad).all()
    assert torch.isfinite(target.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_json_and_build_an_equal_one(kind):
    settings = made(kind, weight=0.3, seed=4).settings()
    assert json.loads(json.dumps(settings)) == settings
    again = make_alignment(settings["kind"], E, H, **{k: v for k, v in settings.items() if k != "kind"}).double()
    source, target = pair(away=0.5)
    assert torch.equal(again.penalty(source, target, 0.5), made(kind, weight=0.3, seed=4).penalty(source, target, 0.5))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("deep", {}),
        ("mmd", {"kernel": "box"}),
        ("mmd", {"colour": "blue"}),
        ("mmd", {"weight": -1.0}),
        ("coral", {"weight": float("nan")}),
        ("sinkhorn", {"blur": 0.0}),
        ("sinkhorn", {"iterations": 0}),
        ("dann", {"hidden": 0}),
    ],
)
def test_wrong_settings_are_refused(kind, options):
    with pytest.raises(ConfigError):
        made(kind, **options)


# --- slow twins ---------------------------------------------------------------------------------------------------


def test_coral_is_the_distance_of_numpys_covariances():
    source, target = pair(away=0.5)
    found = made("coral").penalty(source, target, 0.5)
    for member in range(E):
        gap = np.cov(source[member].T.numpy()) - np.cov(target[member].T.numpy())
        assert float(found[member]) == pytest.approx((gap**2).sum() / (4 * H**2), rel=1e-10)


@pytest.mark.parametrize("kernel", ["gaussian", "multiquadric"])
def test_the_discrepancy_is_the_sum_over_pairs(kernel):
    source, target = pair(away=0.5)
    found = made("mmd", kernel=kernel).penalty(source, target, 0.5)
    for member in range(E):
        x, y = source[member].tolist(), target[member].tolist()
        squares = [math.dist(a, b) ** 2 for a, b in itertools.combinations(x + y, 2)]
        median = sorted(squares)[(len(squares) - 1) // 2]

        def k(a, b, median=median):
            z = [math.dist(a, b) ** 2 / (median * factor) for factor in (0.25, 0.5, 1, 2, 4)]
            return sum(math.exp(-part) if kernel == "gaussian" else 1 / (1 + part) for part in z)

        within = [sum(k(a, b) for a, b in itertools.permutations(s, 2)) / (len(s) * (len(s) - 1)) for s in (x, y)]
        across = sum(k(a, b) for a in x for b in y) / (len(x) * len(y))
        assert float(found[member]) == pytest.approx(sum(within) - 2 * across, rel=1e-8)


def test_sinkhorn_with_little_blur_is_the_exact_cost_of_transport():
    source, target = pair(away=0.5, b=12, c=12)
    found = Sinkhorn(E, H, blur=3e-3, iterations=3000).double().penalty(source, target, 0.5)
    for member in range(E):
        cost = ((source[member][:, None] - target[member][None]) ** 2).sum(-1).numpy() / H
        exact = cost[linear_sum_assignment(cost)].mean()
        assert float(found[member]) == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize("kind", ["mmd", "sinkhorn"])
def test_only_the_first_rows_are_compared(kind):
    source, target = pair(away=0.5)
    found = made(kind, most=5).penalty(source, target, 0.5)
    torch.testing.assert_close(found, made(kind).penalty(source[:, :5], target[:, :5], 0.5))


def test_sinkhorn_of_a_shift_is_its_square():
    """Debiased: a mere shift costs its squared length whatever the blur."""
    source, _ = pair(b=40)
    for blur in (0.1, 1.0):
        found = Sinkhorn(E, H, blur=blur, iterations=400).double().penalty(source, source + 0.7, 0.5)
        torch.testing.assert_close(found, torch.full((E,), 0.49, dtype=torch.float64), rtol=1e-3, atol=0)


def test_the_gradient_of_sinkhorn_is_that_of_its_value():
    source, target = pair(away=0.5, b=7, c=6)
    # the blur follows the mean cost without a gradient, so it is held by moving two galaxies against each other
    alignment = Sinkhorn(E, H, blur=0.5, iterations=500).double()
    moved = target.clone().requires_grad_()
    alignment.penalty(source, moved, 0.5).sum().backward()
    step, direction = 1e-5, torch.zeros_like(target)
    centre = source.mean(1)
    first, second = target[:, 0] - centre, target[:, 1] - centre
    direction[:, 0] = first / first.square().sum(-1, keepdim=True)
    direction[:, 1] = -second / second.square().sum(-1, keepdim=True)
    up, down = (alignment.penalty(source, target + sign * step * direction, 0.5) for sign in (1, -1))
    slope = (moved.grad * direction).sum((1, 2))
    torch.testing.assert_close((up - down) / (2 * step), slope, rtol=1e-4, atol=1e-7)


def test_the_default_sinkhorn_has_nearly_converged():
    source, target = pair(away=1.0, b=60, c=60)
    short, long = (Sinkhorn(E, H, iterations=n).double().penalty(source, target, 0.5) for n in (30, 500))
    torch.testing.assert_close(short, long, rtol=0.02, atol=0)


# --- the adversary ------------------------------------------------------------------------------------------------


def test_the_adversarys_gradient_is_turned_round_and_grows_with_progress():
    source, target = pair(away=0.5)
    found = {}
    for progress in (0.0, 0.2, 1.0):
        alignment, moved = made("dann", seed=2), target.clone().requires_grad_()
        alignment.penalty(source, moved, progress).sum().backward()
        found[progress] = moved.grad
        first = alignment.first.weight.grad
    assert found[0.0].abs().max() == 0
    # straight through, without reversal
    alignment, moved = made("dann", seed=2), target.clone().requires_grad_()
    odds = [alignment._odds(part) for part in (source, moved)]
    plain = 0.5 * (
        torch.nn.functional.binary_cross_entropy_with_logits(odds[0], torch.zeros_like(odds[0]), reduction="none").mean(
            1
        )
        + torch.nn.functional.binary_cross_entropy_with_logits(
            odds[1], torch.ones_like(odds[1]), reduction="none"
        ).mean(1)
    )
    torch.testing.assert_close(plain.detach(), alignment.penalty(source, target, 0.5).detach())
    plain.sum().backward()
    for progress in (0.2, 1.0):
        factor = 2 / (1 + math.exp(-10 * progress)) - 1
        torch.testing.assert_close(found[progress], -factor * moved.grad)
    torch.testing.assert_close(first, alignment.first.weight.grad)


def test_the_adversary_learns_to_tell_domains_apart():
    source, target = pair(away=2.0, dtype=torch.float32)
    alignment = make_alignment("dann", E, H)
    optimiser = torch.optim.Adam(alignment.parameters(), 0.02)
    for _ in range(100):
        optimiser.zero_grad()
        loss = alignment.penalty(source, target, 1.0)
        loss.sum().backward()
        optimiser.step()
    assert (loss < 0.2 * math.log(2)).all()


# --- in the loop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_trains_with_an_estimator_and_stops_and_goes_on_bit_for_bit(kind, tmp_path):
    x, y = draw(60)
    other = draw(40, seed=4)[0] + 0.3

    def run(epochs, folder):
        estimator = tiny()
        alignment = make_alignment(kind, 3, 8, weight=0.1)
        config = quick(max_epochs=6, checkpoint_every=1)
        if epochs < 6:
            full = alignment.penalty

            def stopping(source, target, progress):
                if progress >= epochs / 6:
                    raise KeyboardInterrupt
                return full(source, target, progress)

            alignment.penalty = stopping
        result = fit_estimator(
            estimator, x, y, config, alignment=alignment, unlabelled=other, folder=folder, progress=False
        )
        return estimator, result

    whole, expected = run(6, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(3, tmp_path / "parts")
    again, result = run(6, tmp_path / "parts")
    assert result == expected
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    assert all(np.isfinite(row["penalty"]) for row in result.history)
    assert tuple(whole.features) == FEATURES
