"""The posterior of an ensemble: an exact mixture, with quantiles, modes and scores that can be checked on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from galineage.errors import DataError
from galineage.models.bounded import Histogram, TruncatedMixture, WidenedLogit
from galineage.models.heads import BoundedHead, FlowHead, GaussianHead
from galineage.models.residuals import unit_interval_edges
from galineage.posterior import Posterior

MEANS = torch.tensor([[0.1, 0.5, 0.3], [0.2, 0.5, 0.9], [0.4, 0.5, 0.31]])
WIDTHS = torch.tensor([[0.05, 0.02, 0.01], [0.1, 0.02, 0.2], [0.02, 0.02, 0.012]])


def gaussians():
    return Posterior(Normal(MEANS, WIDTHS, validate_args=False))


def drawn(head, galaxies=16, members=5, size=1.0, seed=0):
    raw = size * torch.randn(members, galaxies, head.outputs, generator=torch.Generator().manual_seed(seed))
    return Posterior(head.distribution(raw))


def histograms(galaxies=16, members=2, seed=0):
    parts = np.random.default_rng(seed).dirichlet(np.full(32, 0.5), size=(members, galaxies))
    return Posterior(Histogram(torch.tensor(parts, dtype=torch.float32), unit_interval_edges(32)))


KINDS = {
    "bounded": lambda: drawn(BoundedHead()),
    "flow": lambda: drawn(FlowHead()),
    "gaussian": lambda: drawn(GaussianHead()),
    "gaussians": lambda: drawn(GaussianHead(components=3)),
    "histogram": histograms,
}


@pytest.fixture(params=list(KINDS))
def posterior(request):
    return KINDS[request.param]()


def grid_for(posterior, points=20001):
    return posterior.low + torch.linspace(0, 1, points)[:, None] * (posterior.high - posterior.low)


def test_an_ensemble_of_gaussians_is_the_analytic_mixture():
    posterior = gaussians()
    x = torch.linspace(-0.5, 1.5, 401)
    scipys = stats.norm(MEANS.numpy()[:, :, None], WIDTHS.numpy()[:, :, None])
    points = x[:, None].expand(-1, 3)
    np.testing.assert_allclose(posterior.log_prob(points).exp().T, scipys.pdf(x).mean(0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(posterior.cdf(points).T, scipys.cdf(x).mean(0), atol=1e-6)
    mean = MEANS.mean(0)
    second = (MEANS**2 + WIDTHS**2).mean(0)
    np.testing.assert_allclose(posterior.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(posterior.std, (second - mean**2).sqrt(), rtol=1e-4)
    np.testing.assert_allclose(posterior.aleatoric, (WIDTHS**2).mean(0).sqrt(), rtol=1e-6)
    np.testing.assert_allclose(posterior.epistemic, MEANS.numpy().std(0), atol=1e-7)
    assert len(posterior) == 3


def test_equal_members_disagree_about_nothing():
    posterior = Posterior(Normal(torch.full((4, 2), 0.3), torch.full((4, 2), 0.1)))
    assert posterior.epistemic.tolist() == [0, 0]
    np.testing.assert_allclose(posterior.quantile([0.5])[0], 0.3, atol=1e-6)
    single = Posterior(Normal(torch.full((1, 2), 0.3), torch.full((1, 2), 0.1)))
    assert single.epistemic.tolist() == [0, 0]


def test_the_mixture_is_what_brute_force_sampling_finds(posterior):
    draws = posterior.sample(20_000, seed=2)
    n = len(draws)
    np.testing.assert_allclose(draws.mean(0), posterior.mean, atol=6 * float(posterior.std.max()) / n**0.5)
    np.testing.assert_allclose(draws.std(0), posterior.std, rtol=0.08)
    probabilities = [0.05, 0.16, 0.5, 0.84, 0.95]
    found = posterior.cdf(torch.quantile(draws, torch.tensor(probabilities), dim=0))
    # the spread of an empirical quantile, in probability
    np.testing.assert_allclose(found, np.tile(probabilities, (len(posterior), 1)).T, atol=5 * 0.5 / n**0.5)
    galaxy = 3
    assert stats.kstest(posterior.cdf(draws)[:, galaxy].numpy(), "uniform").pvalue > 1e-4


def test_uncertainties_add_in_squares(posterior):
    np.testing.assert_allclose(posterior.aleatoric**2 + posterior.epistemic**2, posterior.std**2, rtol=1e-4)


def test_quantiles_invert_the_distribution_function(posterior):
    p = torch.tensor([0.01, 0.025, 0.16, 0.5, 0.84, 0.975, 0.99])
    values = posterior.quantile(p)
    assert values.shape == (7, len(posterior))
    assert (values.diff(dim=0) >= 0).all()
    # to 1e-5 of the range in value, whatever the density: the wanted probability lies between both neighbours'
    small = 1e-5 * (posterior.high - posterior.low)
    left, right = posterior.cdf(values - small), posterior.cdf(values + small)
    assert ((left <= p[:, None] + 1e-6) & (right >= p[:, None] - 1e-6)).all()


def test_quantiles_of_plain_gaussians_are_those_of_tables():
    posterior = Posterior(Normal(torch.tensor([[0.3, 7.0, -40.0]]), torch.tensor([[0.001, 2.0, 10.0]])))
    found = posterior.quantile([0.025, 0.5, 0.975]).double().numpy()
    wanted = stats.norm([0.3, 7.0, -40.0], [0.001, 2.0, 10.0]).ppf(np.array([[0.025], [0.5], [0.975]]))
    np.testing.assert_allclose((found - wanted) / [0.001, 2.0, 10.0], 0, atol=2e-4)


@pytest.mark.parametrize("wrong", [[0.0], [1.0], [0.5, -0.1], [float("nan")], torch.tensor([[2.0]])])
def test_impossible_probabilities_are_refused(wrong):
    with pytest.raises(DataError, match="probabilities"):
        gaussians().quantile(wrong)


@pytest.mark.parametrize("kind", ["bounded", "flow", "gaussian", "gaussians"])
def test_the_mode_is_the_highest_point(kind):
    # flows of unit size are needles that no trained network makes
    posterior = drawn(FlowHead(), size=0.3) if kind == "flow" else KINDS[kind]()
    if kind in ("bounded", "flow"):
        link = WidenedLogit()
        x = link.inverse(torch.linspace(-link.limit, link.limit, 20_001))[:, None].expand(-1, len(posterior))
    else:
        x = grid_for(posterior)
    density = posterior.log_prob(x)
    found = posterior.map()
    assert found.shape == (len(posterior),)
    # a grid a hundred times finer finds nothing that is a per cent higher
    assert (posterior.log_prob(found) >= density.amax(0) - 0.01).all()


def test_the_mode_of_two_separate_peaks_is_the_higher_one():
    weights = torch.tensor([[0.45, 0.55], [0.55, 0.45]]).log()
    loc = torch.tensor([[-3.0, 2.0], [-3.0, 2.0]])
    scale = torch.full((2, 2), 0.3)
    posterior = Posterior(TruncatedMixture(weights.unsqueeze(0), loc.unsqueeze(0), scale.unsqueeze(0), WidenedLogit()))
    y = torch.linspace(0, 1, 400_001)[:, None].expand(-1, 2)
    exact = y.gather(0, posterior.log_prob(y).argmax(0, keepdim=True))[0]
    np.testing.assert_allclose(posterior.map(), exact, atol=2e-4)
    # in the unit interval the left peak is squeezed, therefore higher, with either weight
    assert (posterior.map() < 0.1).all()
    gaussian = Posterior(Normal(torch.tensor([[0.2], [0.8]]), torch.tensor([[0.1], [0.05]])))
    np.testing.assert_allclose(gaussian.map(), 0.8, atol=1e-3)


def test_a_needle_between_the_points_of_the_grid_is_found():
    """A member of 0.001 among members of 1: the highest point is the needle, however the grid falls."""
    places = torch.linspace(0.05, 0.95, 60)
    means = torch.stack([places, torch.full((60,), 0.5)])
    posterior = Posterior(Normal(means, torch.tensor([[0.001], [1.0]]).expand(2, 60)))
    np.testing.assert_allclose(posterior.map(), places, atol=1e-3)
    link = WidenedLogit()
    u = link.forward(places)[None, :, None]
    bounded = TruncatedMixture(torch.zeros(1, 60, 1), u, torch.full((1, 60, 1), 0.02), link)
    broad = bounded.log_prob(places).exp()
    assert (Posterior(bounded).log_prob(Posterior(bounded).map()).exp() >= 0.99 * broad[0]).all()


def test_the_mode_may_be_at_the_end_of_the_interval():
    head = TruncatedMixture(
        torch.zeros(1, 2, 1), torch.tensor([[[-4.6], [4.6]]]), torch.full((1, 2, 1), 0.3), WidenedLogit()
    )
    np.testing.assert_allclose(Posterior(head).map(), [0, 1], atol=1e-4)


def test_crps_is_the_closed_form_for_gaussians():
    mean, width = torch.tensor([[0.3, 0.3, 0.3, 0.3, 0.7]]), torch.tensor([[0.05, 0.05, 0.05, 0.05, 0.01]])
    truth = torch.tensor([0.3, 0.33, 0.6, -0.4, 0.2])
    posterior = Posterior(Normal(mean, width))
    wanted = scoringrules.crps_normal(truth.numpy(), mean[0].numpy(), width[0].numpy())
    np.testing.assert_allclose(posterior.crps(truth), wanted, rtol=5e-3)


def test_crps_is_the_energy_form_and_that_of_scoringrules(posterior):
    truth = posterior.sample(1, seed=8)[0]
    first, second = posterior.sample(10_000, seed=1), posterior.sample(10_000, seed=2)
    energy = (first - truth).abs().mean(0) - 0.5 * (first - second).abs().mean(0)
    noise = 4 * float(posterior.std.max()) / 10_000**0.5
    np.testing.assert_allclose(posterior.crps(truth), energy, atol=noise)
    ensemble = scoringrules.crps_ensemble(truth.numpy(), first[:2000].T.numpy())
    np.testing.assert_allclose(posterior.crps(truth), ensemble, atol=4 * noise)
    assert (posterior.crps(truth) >= 0).all()


def test_crps_at_the_ends_and_beyond_is_finite(posterior):
    for truth in (0.0, 1.0, -1.0, 2.0):
        value = posterior.crps(torch.full((len(posterior),), truth))
        assert torch.isfinite(value).all()
        assert (value >= 0).all()


def test_samples_repeat_with_their_seed_and_leave_the_global_state_alone(posterior):
    before = torch.random.get_rng_state()
    first, again, other = (posterior.sample(50, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.shape == (50, len(posterior))


def test_samples_of_bounded_posteriors_stay_inside():
    for kind in ("bounded", "flow", "histogram"):
        draws = KINDS[kind]().sample(5000)
        assert ((draws >= 0) & (draws <= 1)).all()


def test_samples_come_from_all_members():
    posterior = Posterior(Normal(torch.tensor([[0.0], [10.0], [20.0], [30.0]]), torch.full((4, 1), 0.1)))
    counts = torch.bincount((posterior.sample(8000)[:, 0] / 10).round().long(), minlength=4)
    np.testing.assert_allclose(counts, 2000, atol=6 * 8000**0.5 / 2)


def test_values_of_every_leading_shape_are_accepted(posterior):
    n = len(posterior)
    value = torch.full((3, 2, n), 0.4)
    assert posterior.log_prob(value).shape == (3, 2, n)
    assert posterior.cdf(value).shape == (3, 2, n)
    assert posterior.log_prob(value[0, 0]).shape == (n,)
    per_galaxy = torch.linspace(0.1, 0.9, n)[None, :]
    diagonal = posterior.quantile(per_galaxy)
    assert diagonal.shape == (1, n)
    np.testing.assert_allclose(posterior.cdf(diagonal), per_galaxy, atol=2e-3)


@pytest.mark.parametrize(
    "members",
    [
        Normal(torch.zeros(3), torch.ones(3)),
        Normal(torch.zeros(()), torch.ones(())),
        Normal(torch.zeros(2, 3, 4), torch.ones(2, 3, 4)),
        Independent(Normal(torch.zeros(2, 3, 4), torch.ones(2, 3, 4)), 1),
    ],
)
def test_other_shapes_are_refused(members):
    with pytest.raises(DataError, match="batch shape"):
        Posterior(members)


def test_a_nan_parameter_is_refused_with_its_row():
    for members in (
        Normal(torch.tensor([[0.1, torch.nan, 0.2]]), torch.ones(1, 3), validate_args=False),
        BoundedHead().distribution(torch.zeros(2, 3, 9).index_fill(1, torch.tensor([1]), torch.nan)),
        FlowHead().distribution(torch.zeros(2, 3, 25).index_fill(1, torch.tensor([1]), torch.nan)),
    ):
        with pytest.raises(DataError, match="1 galaxies") as caught:
            Posterior(members)
        assert "row 1" in caught.value.where


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), members=st.integers(1, 4), size=st.floats(0.1, 2.5))
def test_summaries_are_ordered_and_inside_the_support(seed, members, size):
    posterior = drawn(BoundedHead(), galaxies=5, members=members, size=size, seed=seed)
    low, middle, high = posterior.quantile([0.16, 0.5, 0.84])
    for value in (low, middle, high, posterior.mean, posterior.map()):
        assert ((value >= 0) & (value <= 1)).all()
    assert ((low <= middle) & (middle <= high)).all()
    assert (posterior.std <= 0.5).all()
    assert (posterior.crps(middle) <= posterior.crps(torch.zeros(5)) + 1e-6).all()
    np.testing.assert_allclose(
        posterior.log_prob(middle).exp(), posterior.members.log_prob(middle).exp().mean(0), rtol=1e-4
    )


def test_a_mixture_of_mixtures_is_one_mixture():
    """Two members of two Gaussians each are four Gaussians of a quarter each."""
    loc = torch.tensor([[[0.1, 0.6]], [[0.3, 0.9]]])
    members = MixtureSameFamily(Categorical(torch.full((2, 1, 2), 0.5)), Normal(loc, torch.full((2, 1, 2), 0.07)))
    flat = Posterior(Normal(loc.reshape(4, 1), torch.full((4, 1), 0.07)))
    x = torch.linspace(-0.2, 1.2, 101)[:, None]
    np.testing.assert_allclose(Posterior(members).log_prob(x), flat.log_prob(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(Posterior(members).std, flat.std, rtol=1e-4)
    np.testing.assert_allclose(Posterior(members).quantile([0.1, 0.5, 0.9]), flat.quantile([0.1, 0.5, 0.9]), atol=1e-5)
    assert math.isclose(float(Posterior(members).mean), 0.475, rel_tol=1e-5)
