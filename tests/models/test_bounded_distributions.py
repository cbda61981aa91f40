"""Distributions on [0, 1] against scipy's, and under parameters that nobody would choose."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch.distributions import constraints

from galineage.models.bounded import Histogram, TruncatedMixture, TruncatedSplineFlow, WidenedLogit
from galineage.models.heads import BoundedHead, FlowHead, GaussianHead, head_settings, make_head
from galineage.models.residuals import ResidualShape, unit_interval_edges

GRID = torch.linspace(0, 1, 301)
INNER = GRID[1:-1]
LEVELS = torch.linspace(0.005, 0.995, 199)


def mixture(logits, loc, scale, margin=0.01):
    parts = [torch.tensor(part, dtype=torch.float32).unsqueeze(0) for part in (logits, loc, scale)]
    return TruncatedMixture(*parts, WidenedLogit(margin))


def twin(loc, scale, margin):
    """The same component in scipy: a truncated normal in widened-logit space, density by change of variable."""
    limit = math.log((1 + margin) / margin)
    base = stats.truncnorm((-limit - loc) / scale, (limit - loc) / scale, loc, scale)

    def link(y):
        v = (np.asarray(y, dtype=float) + margin) / (1 + 2 * margin)
        return np.log(v / (1 - v)), 1 / (v * (1 - v) * (1 + 2 * margin))

    def inverse(u):
        return (1 + 2 * margin) / (1 + np.exp(-u)) - margin

    return (
        lambda y: base.pdf(link(y)[0]) * link(y)[1],
        lambda y: base.cdf(link(y)[0]),
        lambda p: np.clip(inverse(base.ppf(p)), 0, 1),
    )


@pytest.mark.parametrize("margin", [0.001, 0.01, 0.3])
@pytest.mark.parametrize(("part", "scale"), [(0.0, 0.5), (-0.7, 0.1), (0.5, 3.0), (-1.0, 1.0), (0.99, 0.05)])
def test_one_component_is_scipys_truncated_normal_behind_the_link(part, scale, margin):
    loc = part * WidenedLogit(margin).limit
    found = mixture([0.3], [loc], [scale], margin)
    pdf, cdf, ppf = twin(loc, scale, margin)
    # relative: single precision in the exponent, which grows with the distance in standard deviations
    np.testing.assert_allclose(found.log_prob(INNER[:, None])[:, 0].exp(), pdf(INNER.numpy()), rtol=3e-3, atol=1e-5)
    np.testing.assert_allclose(found.cdf(GRID[:, None])[:, 0], cdf(GRID.numpy()), atol=1e-5)
    np.testing.assert_allclose(found.icdf(LEVELS[:, None])[:, 0], ppf(LEVELS.numpy()), atol=3e-6)
    mean = integrate.quad(lambda p: float(ppf(p)), 0, 1, limit=200)[0]
    np.testing.assert_allclose(found.mean, mean, atol=2e-5)


def test_with_a_large_margin_the_link_is_a_straight_line_and_a_component_a_truncated_normal():
    margin = 50.0
    slope = 4 / (1 + 2 * margin)  # of the logit at one half
    found = mixture([0.0], [0.2 * slope], [0.15 * slope], margin)
    scipys = stats.truncnorm(-0.7 / 0.15, 0.3 / 0.15, 0.7, 0.15)
    np.testing.assert_allclose(found.log_prob(INNER[:, None])[:, 0].exp(), scipys.pdf(INNER.numpy()), atol=5e-3)
    np.testing.assert_allclose(found.cdf(GRID[:, None])[:, 0], scipys.cdf(GRID.numpy()), atol=1e-3)
    np.testing.assert_allclose(found.mean, scipys.mean(), atol=1e-3)
    np.testing.assert_allclose(found.stddev, scipys.std(), atol=1e-3)


def test_a_mixture_is_the_weighted_sum_of_its_components():
    weights, loc, scale = np.array([0.2, 0.5, 0.3]), [-4.0, -0.5, 3.0], [0.1, 0.8, 0.3]
    found = mixture(np.log(weights) + 7.0, loc, scale)
    parts = [twin(*pair, 0.01) for pair in zip(loc, scale, strict=True)]
    pdf = sum(weight * part[0](INNER.numpy()) for weight, part in zip(weights, parts, strict=True))
    cdf = sum(weight * part[1](GRID.numpy()) for weight, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(found.log_prob(INNER[:, None])[:, 0].exp(), pdf, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(found.cdf(GRID[:, None])[:, 0], cdf, atol=1e-5)


def test_an_untouched_spline_is_the_identity_up_to_its_bins():
    # equal bins and slope one: zuko turns derivatives of 0 into softplus-like ones, so compare with its own transform
    loc, scale = torch.tensor([0.4]), torch.tensor([0.7])
    shape = torch.zeros(1, 8)
    flow = TruncatedSplineFlow(loc, scale, shape, shape, shape[:, 1:], WidenedLogit())
    u = flow.link.forward(GRID[:, None])
    z, slope = flow.spline.call_and_ladj((u - loc) / scale)
    low, high = (flow.spline((end - loc) / scale).item() for end in (-flow.link.limit, flow.link.limit))
    base = stats.truncnorm(low, high)
    expected = base.logpdf(z.numpy()) + slope.numpy() - math.log(0.7) + flow.link.log_slope(GRID[:, None]).numpy()
    np.testing.assert_allclose(flow.log_prob(GRID[:, None]), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(flow.cdf(GRID[:, None]), base.cdf(z.numpy()), atol=1e-5)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_flow_pushed_into_a_tail_keeps_its_digits_on_both_sides(side):
    """The upper tail is as good as the lower one, though the normal distribution function rounds to 1 there."""
    heights = torch.zeros(1, 8)
    heights[0, 0 if side > 0 else -1] = 1e4  # one tall bin: the whole unit interval lands beyond 3 sigma
    shape = torch.zeros(1, 8)
    flow = TruncatedSplineFlow(torch.zeros(1), torch.tensor([1.3]), shape, heights, shape[:, 1:], WidenedLogit())
    total = flow.log_prob(torch.linspace(0, 1, 40001)[:, None]).double().exp().mean()
    assert flow._mass < 2e-3
    np.testing.assert_allclose(total, 1, atol=2e-3)
    np.testing.assert_allclose(flow.cdf(flow.icdf(LEVELS[:, None]))[:, 0], LEVELS, atol=1e-3)
    assert flow.cdf(GRID[:, None]).diff(dim=0).min() >= 0


def test_a_histogram_is_scipys_histogram():
    rng = np.random.default_rng(5)
    edges = unit_interval_edges(12)
    probabilities = rng.dirichlet(np.ones(12), size=(2, 3)).astype(np.float32)
    found = Histogram(torch.tensor(probabilities), edges)
    assert found.batch_shape == (2, 3)
    for index in np.ndindex(2, 3):
        scipys = stats.rv_histogram((probabilities[index], edges.numpy().astype(float)), density=False)
        density = found.log_prob(INNER[:, None, None]).exp()[:, *index]
        np.testing.assert_allclose(density, scipys.pdf(INNER.numpy()), rtol=1e-3)
        np.testing.assert_allclose(found.cdf(GRID[:, None, None])[:, *index], scipys.cdf(GRID.numpy()), atol=1e-5)
        np.testing.assert_allclose(found.icdf(LEVELS[:, None, None])[:, *index], scipys.ppf(LEVELS.numpy()), atol=1e-5)
        np.testing.assert_allclose(found.mean[index], scipys.mean(), atol=1e-5)
        np.testing.assert_allclose(found.stddev[index], scipys.std(), atol=1e-4)


def test_a_histogram_with_empty_bins_has_quantiles_inside_full_ones():
    found = Histogram(torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]), torch.linspace(0, 1, 6))
    values = found.icdf(torch.tensor([[0.25], [0.49], [0.51], [0.75]]))[:, 0]
    np.testing.assert_allclose(values, [0.3, 0.396, 0.604, 0.7], atol=1e-5)
    assert torch.isfinite(found.log_prob(GRID[:, None])).all()


def test_edges_are_ordered_and_finer_at_the_ends():
    edges = unit_interval_edges(128)
    widths = edges.diff()
    assert edges[0] == 0
    assert edges[-1] == 1
    assert (widths > 0).all()
    assert widths[0] * 8 < widths[64]


@pytest.mark.parametrize("margin", [0.001, 0.01, 0.5])
def test_the_link_maps_the_closed_interval_to_finite_values_and_back(margin):
    link = WidenedLogit(margin)
    u = link.forward(GRID)
    np.testing.assert_allclose([u[0], u[-1]], [-link.limit, link.limit], rtol=1e-5)
    np.testing.assert_allclose(link.inverse(u), GRID, atol=2e-7 / margin**0.5)
    np.testing.assert_allclose(u, -link.forward(1 - GRID), atol=1e-5)
    slope = torch.autograd.functional.jacobian(lambda y: link.forward(y).sum(), GRID)
    np.testing.assert_allclose(link.log_slope(GRID).exp(), slope, rtol=1e-4)
    assert link.inverse(torch.tensor([-99.0, 99.0])).tolist() == [0.0, 1.0]
    assert link.forward(torch.tensor(torch.nan)).isnan()


RAW = st.floats(-12, 12, width=32)
HEADS = [BoundedHead(), BoundedHead(components=1), BoundedHead(margin=0.1), FlowHead(), FlowHead(bins=3)]


@pytest.mark.parametrize("head", HEADS, ids=repr)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_the_network_says_the_distribution_stays_on_the_interval(head, data):
    """Sizes that no trained network reaches; how exact quantiles are is asked for plausible ones below."""
    raw = torch.tensor(data.draw(st.lists(RAW, min_size=head.outputs, max_size=head.outputs)), requires_grad=True)
    found = head.distribution(raw.expand(1, 1, -1))
    assert found.support is constraints.unit_interval
    y = GRID[:, None, None]
    density, cdf, quantiles = found.log_prob(y), found.cdf(y), found.icdf(LEVELS[:, None, None])
    for values in (density, cdf, quantiles, found.mean, found.variance):
        assert torch.isfinite(values).all()
    assert ((cdf >= 0) & (cdf <= 1)).all()
    assert (cdf.diff(dim=0) >= -1e-6).all()
    assert ((quantiles >= 0) & (quantiles <= 1)).all()
    with torch.random.fork_rng():
        draws = found.sample((200,))
    assert ((draws >= 0) & (draws <= 1)).all()
    density.mean().backward()
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize("head", HEADS, ids=repr)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(0.1, 1.0))
def test_density_and_distribution_function_say_the_same(head, seed, size):
    # twice the size for mixtures; flows of that size are needles between the nodes below
    raw = (
        (1 if isinstance(head, FlowHead) else 2)
        * size
        * torch.randn(4, head.outputs, generator=torch.Generator().manual_seed(seed))
    )
    found = head.distribution(raw)
    # nodes equally spaced behind the link, where the density is smooth even at the ends
    link = WidenedLogit(head.margin)
    y = link.inverse(torch.linspace(-link.limit, link.limit, 5001, dtype=torch.float64)).unsqueeze(1)
    y[0], y[-1] = 0.0, 1.0
    density, cdf = found.log_prob(y).double().exp(), found.cdf(y.float()).double()
    inside = torch.cumulative_trapezoid(density, y, dim=0)
    assert (inside[::50] - (cdf[1:] - cdf[:1])[::50]).abs().max() < 4e-3
    quantiles = found.icdf(LEVELS[:, None])
    assert (quantiles.diff(dim=0) >= -1e-6).all()
    # bisection stops at 1e-6 of the interval, which is visible where the density is several thousand
    assert (found.cdf(quantiles) - LEVELS[:, None]).abs().max() < 5e-3


@given(
    quantiles=st.lists(st.floats(-50, 50), min_size=30, max_size=60),
    location=st.floats(-2, 3),
    scale=st.floats(0, 10),
)
@settings(max_examples=60, deadline=None)
def test_residual_shapes_are_distributions_wherever_they_are_put(quantiles, location, scale):
    shape = ResidualShape()
    residuals = torch.tensor(quantiles, dtype=torch.float64)
    shape.fit(residuals, torch.ones(len(residuals)), torch.full((30,), 0.2))
    found = shape(torch.tensor([location]), torch.tensor([scale]))
    assert found.batch_shape == (1, 1)
    np.testing.assert_allclose(found.probabilities.sum(), 1, atol=1e-5)
    assert torch.isfinite(found.log_prob(GRID[:, None, None])).all()
    assert 0 <= float(found.mean) <= 1


def test_residual_shape_moves_and_stretches_the_residuals():
    rng = np.random.default_rng(1)
    shape = ResidualShape()
    shape.fit(torch.tensor(rng.standard_normal(20000)), torch.ones(20000), torch.tensor(rng.random(20000)))
    found = shape(torch.tensor([0.3, 0.6]), torch.tensor([0.05, 0.02]))
    np.testing.assert_allclose(found.mean[0], [0.3, 0.6], atol=3e-3)
    np.testing.assert_allclose(found.icdf(torch.tensor([[[0.84134]]]))[0, 0], [0.35, 0.62], atol=4e-3)


@pytest.mark.parametrize("head", [GaussianHead(), GaussianHead(components=3), *HEADS], ids=repr)
def test_heads_are_rebuilt_from_their_settings(head):
    assert make_head(head_settings(head)) == head
    raw = torch.zeros(2, 5, head.outputs)
    assert head.distribution(raw).batch_shape == (2, 5)
    assert head.bounded == (head.distribution(raw).support is constraints.unit_interval)


def test_several_gaussians_start_apart():
    found = GaussianHead(components=3).distribution(torch.zeros(1, 9))
    np.testing.assert_allclose(found.component_distribution.loc[0], [-0.2, 0, 0.2])
    spread = math.log(2) + 1e-3  # softplus(0) and the floor
    np.testing.assert_allclose(found.mean, 0, atol=1e-7)
    np.testing.assert_allclose(found.variance, spread**2 + 0.08 / 3, rtol=1e-5)
