"""Quantiles and modes of truncated mixtures against slow and obvious twins in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.models.bounded import TruncatedMixture, WidenedLogit
from galineage.models.inverse import NormalSum
from galineage.posterior import Posterior

LEVELS = torch.tensor([0.001, 0.025, 0.16, 0.5, 0.84, 0.975, 0.999])[:, None]


def mixtures(n, components, *, smallest=0.02, margin=0.01, seed=1):
    """Mixtures with close, far, narrow and wide components; locations up to the ends."""
    random = torch.Generator().manual_seed(seed)
    link = WidenedLogit(margin)
    loc = link.limit * torch.tanh(3 * torch.randn(n, components, generator=random))
    scale = smallest + torch.exp(2 * torch.randn(n, components, generator=random) - 3)
    return TruncatedMixture(3 * torch.randn(n, components, generator=random), loc, scale, link)


def double(found):
    return TruncatedMixture(found.log_weights.double(), found.loc.double(), found.scale.double(), found.link)


def bisected(found, p):
    low = torch.zeros(torch.broadcast_shapes(p.shape, found.batch_shape), dtype=torch.float64)
    high = torch.ones_like(low)
    for _ in range(45):
        middle = 0.5 * (low + high)
        below = found.cdf(middle) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


@pytest.mark.parametrize("components", [1, 2, 15])
@pytest.mark.parametrize(("smallest", "margin"), [(0.02, 0.01), (1e-3, 0.01), (0.02, 1.0), (0.02, 1e-4)])
def test_quantiles_are_those_of_bisection(components, smallest, margin):
    found = double(mixtures(400, components, smallest=smallest, margin=margin))
    np.testing.assert_allclose(found.icdf(LEVELS.double()), bisected(found, LEVELS.double()), atol=1e-6)


def test_single_precision_is_good_to_the_rounding_of_the_distribution_function():
    """Where there is next to no density, a rounding error of the probability moves the quantile: nobody can help it."""
    found = mixtures(2000, 15)
    values, twin = found.icdf(LEVELS), bisected(double(found), LEVELS.double())
    missed = (double(found).cdf(values.double()) - LEVELS).abs()
    assert (((values - twin).abs() < 1e-5) | (missed < 1e-6)).all()
    assert ((values - twin).abs() < 1e-5).double().mean() > 0.998


def test_ordinary_posteriors_need_few_evaluations(monkeypatch):
    random = torch.Generator().manual_seed(2)
    loc = torch.randn(1000, 1, generator=random) + 0.3 * torch.randn(1000, 15, generator=random)
    found = TruncatedMixture(torch.zeros(1000, 15), loc, torch.full((1000, 15), 0.5), WidenedLogit())
    evaluated = []
    whole = NormalSum.at
    monkeypatch.setattr(NormalSum, "at", lambda self, u: evaluated.append(u.numel()) or whole(self, u))
    found.icdf(LEVELS[2:5])
    assert sum(evaluated) <= 6 * 3 * 1000


@settings(deadline=None, max_examples=60)
@given(
    loc=st.lists(st.floats(-4.6, 4.6), min_size=1, max_size=6),
    scale=st.floats(1e-3, 50),
    p=st.floats(1e-4, 1 - 1e-4),
)
def test_any_quantile_has_its_probability(loc, scale, p):
    found = TruncatedMixture(
        torch.zeros(1, len(loc)).double(),
        torch.tensor([loc]).double(),
        torch.full((1, len(loc)), scale).double(),
        WidenedLogit(),
    )
    value = found.icdf(torch.tensor([[p]], dtype=torch.float64))
    assert 0 <= float(value) <= 1
    just = found.cdf(torch.cat([value - 2e-6, value + 2e-6]))[:, 0]
    assert just[0] - 1e-9 <= p <= just[1] + 1e-9


def test_a_nan_stays_with_its_galaxy():
    loc = torch.tensor([[0.3, -1.0], [torch.nan, 0.0], [1.0, 2.0]])
    found = TruncatedMixture(torch.zeros(3, 2), loc, torch.full((3, 2), 0.4), WidenedLogit())
    assert found.icdf(torch.tensor([[0.5]])).isnan().tolist() == [[False, True, False]]


def test_quantiles_have_the_shape_of_levels_and_batch():
    found = TruncatedMixture(torch.zeros(2, 5, 3), torch.zeros(2, 5, 3), torch.ones(2, 5, 3), WidenedLogit())
    assert found.icdf(torch.full((4, 1, 1), 0.3)).shape == (4, 2, 5)
    assert found.icdf(torch.tensor(0.3)).shape == (2, 5)
    assert found.mode.shape == (2, 5)


def test_pooled_members_are_their_mean():
    found = mixtures(5 * 40, 3)
    parts = [part.view(5, 40, 3) for part in (found.log_weights, found.loc, found.scale)]
    members = TruncatedMixture(*parts, found.link)
    y = torch.linspace(0, 1, 21)[:, None]
    pooled, posterior = members.pooled(), Posterior(members)
    np.testing.assert_allclose(pooled.cdf(y), members.cdf(y.unsqueeze(-1)).mean(1), atol=1e-6)
    density = members.log_prob(y.unsqueeze(-1)).double().exp().mean(1)
    np.testing.assert_allclose(posterior.log_prob(y).exp(), density, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(posterior.quantile([0.1, 0.9]), pooled.icdf(torch.tensor([[0.1], [0.9]])), atol=0)


@pytest.mark.parametrize("smallest", [0.02, 1e-3])
def test_the_mode_is_the_highest_point(smallest):
    found = mixtures(60, 15, smallest=smallest)
    fine = torch.linspace(0, 1, 100_001)[:, None]
    heights = torch.cat([TruncatedMixture(*one, found.link).log_prob(fine).amax(0) for one in _rows(found)])
    assert (found.log_prob(found.mode) >= heights - 1e-2).all()


def test_moments_of_a_component_in_a_tail_are_those_of_numbers():
    found = TruncatedMixture(
        torch.zeros(3, 1), torch.tensor([[4.6], [-4.6], [4.6]]), torch.tensor([[0.02], [3.0], [1e-3]]), WidenedLogit()
    )
    p = (torch.arange(20000).double() + 0.5) / 20000
    values = double(found).icdf(p[:, None])
    np.testing.assert_allclose(found.mean, values.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.stddev, values.std(0), atol=1e-4)


def _rows(found):
    return zip(found.log_weights.split(1), found.loc.split(1), found.scale.split(1), strict=True)
