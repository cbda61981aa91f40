"""Draws of several targets: pooled fairly, summarised right, and never outside their range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from galineage.errors import ConfigError, DataError
from galineage.joint_posterior import MIN_DEFINED, JointPosterior, Marginal, summarise_joint


class Fake:
    """Members that differ by a constant: t_last_major normal around 6 + member, f_ex uniform, never with p."""

    targets = ("t_last_major", "f_ex")
    exact_never = True

    def __init__(self, n=50, members=3, p=0.3, exact=True):
        self.batch_shape, self.p, self.exact_never = torch.Size((members, n)), p, exact

    @property
    def p_never(self):
        return torch.full(tuple(self.batch_shape), self.p)

    def sample(self, shape=(1,)):
        time = 6 + torch.arange(self.batch_shape[0])[:, None] + torch.randn(*shape, *self.batch_shape)
        time = time.masked_fill(torch.rand(*shape, *self.batch_shape) < self.p, torch.nan)
        return torch.stack([time, torch.rand(*shape, *self.batch_shape)], dim=-1)

    def sample_alike(self, draws, seed):
        generator = torch.Generator().manual_seed(seed)
        n = self.batch_shape[1]
        z = torch.randn(draws, self.batch_shape[0], 1, generator=generator).expand(-1, -1, n)
        return torch.stack([6 + z, torch.full_like(z, 0.5)], dim=-1)


def test_members_have_equal_shares_and_the_global_state_is_left_alone():
    before = torch.random.get_rng_state()
    posterior = JointPosterior(Fake(), draws=400, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert posterior.samples.shape == (402, 50, 2)
    own = posterior.samples[..., 0].reshape(-1, 3, 50)
    np.testing.assert_allclose(np.nanmean(own, axis=(0, 2)), [6, 7, 8], atol=0.05)
    assert len(posterior) == 50


def test_the_same_seed_gives_the_same_draws():
    one, two, other = (JointPosterior(Fake(), seed=seed).samples for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other, equal_nan=True)


def test_alike_draws_do_not_depend_on_the_other_galaxies():
    many, one = (JointPosterior(Fake(n), seed=3, alike=True).samples for n in (20, 1))
    np.testing.assert_array_equal(many[:, :1], one)


def test_p_never_is_exact_or_counted():
    assert JointPosterior(Fake(p=0.3)).p_never == pytest.approx(0.3, abs=1e-6)
    counted = JointPosterior(Fake(p=0.3, exact=False), draws=3000)
    assert counted.p_never.std() > 0
    np.testing.assert_allclose(counted.p_never, 0.3, atol=0.05)
    np.testing.assert_allclose(counted.p_never, np.isnan(counted.samples[..., 0]).mean(0))


def test_a_nan_of_an_always_defined_target_is_refused():
    class Broken(Fake):
        def sample(self, shape=(1,)):
            draws = super().sample(shape)
            draws[..., 3, 1] = torch.nan
            return draws

    with pytest.raises(DataError, match=r"1 galaxies is NaN[\s\S]*row 3"):
        JointPosterior(Broken())


def test_wrong_questions_are_refused():
    with pytest.raises(ConfigError, match="no target 'age'"):
        JointPosterior(Fake()).marginal("age")
    with pytest.raises(ConfigError, match="too few"):
        JointPosterior(Fake(), draws=5)


def test_summaries_are_those_of_the_defined_draws(rng):
    samples = rng.normal(6, 1, (600, 30))
    samples[rng.uniform(size=samples.shape) < 0.4] = np.nan
    marginal = Marginal("t_last_major", samples)
    levels = [0.025, 0.16, 0.5, 0.84, 0.975]
    np.testing.assert_allclose(marginal.quantile(levels), np.nanquantile(samples, levels, axis=0), rtol=1e-12)
    independent = Marginal("t_last_major", samples, independent=True)
    expected = np.nanquantile(samples, levels, axis=0, method="weibull")
    np.testing.assert_allclose(independent.quantile(levels), expected, rtol=1e-12)
    np.testing.assert_allclose(marginal.mean, np.nanmean(samples, axis=0))
    np.testing.assert_allclose(marginal.std, np.nanstd(samples, axis=0, ddof=1))


def test_intervals_of_few_draws_hold_what_they_promise(rng):
    """Truths are drawn like the draws: 40 of them are enough for an honest interval, if not for a sharp one."""
    samples, truth = rng.normal(size=(40, 20_000)), rng.normal(size=20_000)
    for low, high in ((0.16, 0.84), (0.025, 0.975)):
        found = Marginal("t_last_major", samples, independent=True).quantile([low, high])
        inside = ((found[0] <= truth) & (truth <= found[1])).mean()
        assert inside == pytest.approx(high - low, abs=0.012)


def test_few_defined_draws_are_not_summarised(rng):
    samples = rng.normal(6, 1, (400, 2))
    samples[MIN_DEFINED - 1 :, 0] = np.nan
    marginal = Marginal("t_last_major", samples)
    truth = np.full(2, 6.0)
    found = [marginal.mean, marginal.std, marginal.map, marginal.epistemic, marginal.aleatoric]
    found += [marginal.log_prob(truth), marginal.crps(truth), marginal.place(truth, rng), *marginal.quantile([0.5])]
    for values in found:
        assert np.isnan(values[0])
        assert np.isfinite(values[1])


def test_an_undefined_truth_has_no_scores(rng):
    marginal = Marginal("t_last_major", rng.normal(6, 1, (100, 2)))
    truth = np.array([np.nan, 6.0])
    for values in (marginal.log_prob(truth), marginal.crps(truth), marginal.place(truth, rng)):
        np.testing.assert_array_equal(np.isfinite(values), [False, True])


def test_all_draws_undefined_gives_nan_without_warning():
    marginal = Marginal("t_last_major", np.full((100, 3), np.nan))
    for values in (marginal.mean, marginal.map, marginal.quantile([0.5])[0], marginal.epistemic):
        assert np.isnan(values).all()


def test_variance_splits_into_members_and_between(rng):
    members, share, n = 5, 400, 200
    offsets = np.array([-1, -0.5, 0, 0.5, 1])
    samples = 7 + offsets[:, None] + 0.5 * rng.standard_normal((share, members, n))
    marginal = Marginal("t_last_major", samples.reshape(-1, n), members)
    np.testing.assert_allclose(marginal.epistemic.mean(), offsets.std(), rtol=0.02)
    np.testing.assert_allclose(marginal.aleatoric.mean(), 0.5, rtol=0.02)
    np.testing.assert_allclose(marginal.aleatoric**2 + marginal.epistemic**2, marginal.std**2)
    same = Marginal("t_last_major", 7 + 0.5 * rng.standard_normal((share * members, n)), members)
    assert same.epistemic.mean() < 0.03  # the noise of finite draws is taken out


@pytest.mark.parametrize(
    ("law", "mode"),
    [
        (stats.norm(6, 1), 6.0),
        (stats.uniform(0, 13.9), None),
        (stats.expon(scale=1.5), 0.0),
        (stats.beta(5, 2, scale=13.9), 13.9 * 0.8),
    ],
)
def test_the_density_is_that_of_the_draws_up_to_the_bounds(law, mode, rng):
    n, size = 40, 4000
    samples = law.rvs((size, n), random_state=rng).clip(0, 13.9)
    marginal = Marginal("t_last_major", samples)
    _, step, density = marginal._density
    np.testing.assert_allclose((density * step[:, None]).sum(1), 1, rtol=1e-3)
    truth = law.rvs(n, random_state=rng)
    expected, found = law.logpdf(truth), marginal.log_prob(truth)
    assert np.median(np.abs(found - expected)) < 0.12
    assert ((marginal.map >= 0) & (marginal.map <= 13.9)).all()
    if mode is not None:
        np.testing.assert_allclose(np.median(marginal.map), mode, atol=0.5)


def test_a_mode_at_the_bound_is_found(rng):
    """The published peak finder never finds one there."""
    samples = np.abs(rng.normal(0, 0.02, (1000, 20)))
    assert (Marginal("f_ex", samples).map < 0.012).all()
    assert (Marginal("f_ex", 1 - samples).map > 0.988).all()


def test_the_density_of_unbounded_draws_is_not_folded(rng):
    samples = rng.normal(-0.1, 0.05, (2000, 5))  # a network without bounds may say this of f_ex
    marginal = Marginal("f_ex", samples)
    np.testing.assert_allclose(marginal.map, -0.1, atol=0.03)
    _, step, density = marginal._density
    np.testing.assert_allclose((density * step[:, None]).sum(1), 1, rtol=1e-3)


def test_crps_is_the_fair_one(rng):
    samples, truth = rng.normal(6, 1, (60, 8)), rng.normal(6, 1, 8)
    slow = [
        np.abs(x - t).mean() - np.abs(x[:, None] - x[None]).sum() / (2 * len(x) * (len(x) - 1))
        for x, t in zip(samples.T, truth, strict=True)
    ]
    np.testing.assert_allclose(Marginal("t_last_major", samples).crps(truth), slow)


@pytest.mark.parametrize("kept", [1.0, 0.15])
def test_places_are_uniform_however_few_draws_are_defined(kept, rng):
    n = 4000
    samples, truth = rng.normal(6, 1, (200, n)), rng.normal(6, 1, n)
    samples[rng.uniform(size=samples.shape) > kept] = np.nan
    marginal = Marginal("t_last_major", samples)
    places = marginal.place(truth, rng)
    places = places[np.isfinite(places)]
    assert stats.kstest(places, "uniform").pvalue > 0.01
    near = marginal.nearer(truth, rng.uniform(0, 13.9, n), rng)
    assert stats.kstest(near[np.isfinite(near)], "uniform").pvalue > 0.01


def test_logarithmic_targets_are_in_dex_and_tables_in_units(rng):
    class Heavy(Fake):
        targets = ("mstar_last_major", "f_ex")

        def sample_alike(self, draws, seed):
            found = super().sample_alike(draws, seed)
            found[..., 0] = 10 ** (3 + found[..., 0])
            return found

    class Estimator:
        sees_maps = False

        def __call__(self, x):
            return Heavy(len(x))

    found, never = summarise_joint(Estimator(), np.zeros((3, 1)), [0.16, 0.5, 0.84], draws=2000)
    np.testing.assert_allclose(np.log10(found["mstar_last_major"]["quantiles"][:, 0]), [8, 9, 10], atol=0.12)
    np.testing.assert_allclose(np.log10(found["mstar_last_major"]["map"]), 9, atol=0.25)
    assert (found["mstar_last_major"]["mean"] > 10**9.3).all()  # the mean of the masses, not of their logarithms
    np.testing.assert_allclose(never, 0.3, atol=1e-6)
    marginal = JointPosterior(Heavy(3), alike=True).marginal("mstar_last_major")
    np.testing.assert_allclose(marginal.mean, 9, atol=0.2)
