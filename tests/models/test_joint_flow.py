"""Joint flows: an exact density over several targets, with galaxies that never merged, that stays in range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.errors import BundleError, ConfigError, DataError
from galineage.fields import field
from galineage.models import JointFlow, make_estimator
from galineage.models.bundle import Bundle, load, save
from galineage.models.targets import SENTINELS, VALID, TargetSpace
from galineage.training import TrainConfig, fit_estimator

FEATURES = ("mstar", "age")
FIVE = ("f_ex", "t_last_major", "mstar_last_major", "t_mean_merger", "mu_mean_merger")
SUBSETS = (
    FIVE,
    ("f_ex",),
    ("t_last_major",),
    ("f_ex", "t_last_major"),
    ("mstar_last_major", "mu_mean_merger", "t_last_major"),
    ("t_last_major", "mstar_last_major"),
    ("mu_mean_merger", "f_ex"),
)
SMALL = {"members": 2, "blocks": 2, "hidden": (16,), "condition": (8, 4)}
WAYS = [(never, coupling) for never in ("bernoulli", "sentinel") for coupling in ("affine", "spline")]


def galaxies(n=200, seed=0, targets=FIVE):
    """Features (n, 2), and targets (n, T), or (n,), of which a fifth never merged."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.uniform(9.5, 12, n), rng.uniform(5, 12, n)], axis=1)
    y = np.stack(
        [rng.random(n), 13.9 * rng.random(n), 10 ** rng.uniform(7, 11.5, n), 13.9 * rng.random(n), rng.random(n)], 1
    )
    y[: n // 5, 1:3] = np.nan
    y = y[:, [FIVE.index(name) for name in targets]]
    return x, y[:, 0] if len(targets) == 1 else y


def ready(targets=FIVE, n=200, **options):
    """An estimator whose scalings are fitted, its weights far enough from zero to matter; features; targets."""
    x, y = (torch.as_tensor(part, dtype=torch.float32) for part in galaxies(n, targets=targets))
    made = JointFlow(FEATURES, targets, **{**SMALL, **options})
    made.check_targets(y.double().numpy())
    made.fit_scaling(x)
    made.fit_targets(y)
    with torch.no_grad():
        for factor in (made.first, made.second):
            for part in () if factor is None else factor.flow.subnets:
                part.weights[-1].mul_(6)
    return made.eval(), x, y


@torch.no_grad()
def conditioned(estimator, x):
    return estimator(x)


@torch.no_grad()
def draw(distribution, draws, seed=1):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return distribution.sample((draws,))


# -- shapes, settings, files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", SUBSETS)
@pytest.mark.parametrize(("never", "coupling"), WAYS)
def test_any_subset_of_targets_has_density_draws_and_latents(targets, never, coupling):
    made, x, y = ready(targets, never=never, coupling=coupling)
    found = conditioned(made, x)
    size = len(targets)
    assert made.targets == found.targets == targets
    assert made.target == targets[0]
    assert (tuple(found.batch_shape), tuple(found.event_shape)) == ((2, 200), (size,))
    with torch.no_grad():
        density, latent = found.log_prob(y), found.latent(y)
    assert density.shape == (2, 200)
    assert torch.isfinite(density).all()
    draws = draw(found, 7)
    assert draws.shape == (7, 2, 200, size)
    assert latent.shape == (2, 200, size)
    merger = [index for index, name in enumerate(targets) if name in SENTINELS]
    undefined = torch.zeros(2, 200, size, dtype=torch.bool)
    if never == "bernoulli":
        undefined[:, :40, merger] = True
    assert torch.equal(latent.isnan(), undefined)
    others = [index for index in range(size) if index not in merger]
    assert torch.isfinite(draws[..., others]).all()
    if merger:  # never is one thing: all of a draw's merger targets, or none
        gone = draws[..., merger].isnan()
        assert torch.equal(gone.any(-1), gone.all(-1))


@pytest.mark.parametrize("targets", [FIVE, ("f_ex",)])
def test_targets_may_differ_between_members_and_one_target_needs_no_last_dimension(targets):
    made, x, y = ready(targets)
    found = conditioned(made, x)
    with torch.no_grad():
        want = found.log_prob(y)
        torch.testing.assert_close(found.log_prob(y.expand(2, *y.shape)), want)
        own = conditioned(made, torch.stack([x, x.flip(0)])).log_prob(torch.stack([y, y.flip(0)]))
        torch.testing.assert_close(own[0], want[0])
        torch.testing.assert_close(own[1], want[1].flip(0))
        if targets == ("f_ex",):
            torch.testing.assert_close(found.log_prob(y[:, None]), want)
        one = conditioned(made, x[:1])
        torch.testing.assert_close(one.log_prob(y[:1]), want[:, :1])


def test_targets_of_another_shape_are_refused():
    made, x, y = ready()
    found = conditioned(made, x)
    for wrong in (y[:, :4], y[:-1], y.T, y[:, 0], y.expand(3, -1, -1), y.expand(1, 2, -1, -1)):
        with pytest.raises(DataError, match="targets of shape"):
            found.log_prob(wrong)


@pytest.mark.parametrize("name", ["cinn", "cinn-published"])
def test_presets_are_saved_with_their_targets_and_read_back(name, tmp_path):
    made = make_estimator(name, FEATURES, FIVE, members=2, seed=4, blocks=2)
    x, y = (torch.as_tensor(part, dtype=torch.float32) for part in galaxies(60))
    made.fit_scaling(x)
    made.fit_targets(y)
    save(Bundle(made.eval(), {"model": name, "domains": ["test"]}), tmp_path / "b")
    again = load(tmp_path / "b").estimator
    assert again.settings() == made.settings()
    assert again.targets == FIVE
    with torch.no_grad():
        assert torch.equal(again(x).log_prob(y), made(x).log_prob(y))
        assert torch.equal(again(x).p_never, made(x).p_never)
    assert torch.equal(draw(again(x), 3).nan_to_num(), draw(made(x), 3).nan_to_num())
    text = (tmp_path / "b" / "README.md").read_text()
    assert all(f"**{target}**" in text for target in FIVE)


def test_a_bundle_that_asks_for_a_giant_is_refused_before_it_is_built(tmp_path):
    import json

    made, *_ = ready()
    folder = save(Bundle(made), tmp_path / "b")
    description = json.loads((folder / "bundle.json").read_text())
    for change in ({"blocks": 10**7}, {"members": 10**7}, {"hidden": [10**6, 10**6]}, {"condition": [10**9, 4]}):
        settings_ = {**description["settings"], **change}
        (folder / "bundle.json").write_text(json.dumps({**description, "settings": settings_}))
        with pytest.raises(BundleError, match="far larger"):
            load(folder)


@pytest.mark.parametrize(
    "options",
    [
        {"targets": ()},
        {"targets": ("f_ex", "f_ex")},
        {"targets": ("f_exsitu",)},
        {"targets": ("gas_mass",)},
        {"targets": ("n_major",)},
        {"coupling": "cubic"},
        {"blocks": 0},
        {"hidden": ()},
        {"hidden": (16, 0)},
        {"hidden": "wide"},
        {"condition": ()},
        {"condition": (16.5,)},
        {"clamp": -1.0},
        {"bins": 1},
        {"never": "ignore"},
        {"initial": "zeros"},
        {"label_noise": -0.1},
        {"label_noise": float("nan")},
        {"members": 0},
    ],
)
def test_settings_out_of_range_are_refused_in_words(options):
    settings_ = {"targets": ("f_ex", "t_last_major"), **options}
    with pytest.raises(ConfigError):
        JointFlow(FEATURES, settings_.pop("targets"), **settings_)


def test_a_model_of_one_target_refuses_several():
    with pytest.raises(ConfigError, match="infers one target"):
        make_estimator("mdn", FEATURES, ("f_ex", "t_last_major"))
    assert make_estimator("mdn", FEATURES, ["f_ex"]).targets == ("f_ex",)
    assert make_estimator("cinn", FEATURES, "f_ex").targets == ("f_ex",)


def test_the_published_network_is_as_published():
    made = make_estimator("cinn-published", FEATURES, FIVE, members=1)
    flow = made.first.flow
    assert (flow.blocks, flow.transform.clamp, made.second, made.chance) == (12, 1.0, None, None)
    # FrEIA's layout: 2 quantities from 3, then 3 from 2; three hidden layers; a scale and a shift for each
    inner = 2 * (128 * 128 + 128)
    one = (3 + 128 + 1) * 128 + inner + (128 + 1) * 4
    two = (2 + 128 + 1) * 128 + inner + (128 + 1) * 6
    net = (2 + 1) * 128 + 3 * (128 * 128 + 128)
    assert sum(parameter.numel() for parameter in made.parameters()) == 12 * (one + two) + net
    weights = torch.cat([parameter.detach().flatten() for parameter in made.parameters()])
    assert abs(float(weights.std()) - 0.01) < 2e-4
    assert float(weights.mean().abs()) < 1e-4
    assert made.label_noise == 0.025


# -- the target space ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("never", ["bernoulli", "sentinel"])
def test_targets_come_back_from_their_space(never, bounded):
    _, y = galaxies()
    y = torch.as_tensor(y, dtype=torch.float32)
    y[:, 1] = y[:, 1].clamp(0.1, 13.6)
    y[:, [0, 3, 4]] = y[:, [0, 3, 4]] * 0.99 + 0.005
    space = TargetSpace(FIVE, never, bounded)
    space.fit(y)
    u, _ = space(y)
    assert u.shape == (5, 200)
    mean, std = np.nanmean(u.numpy(), axis=1), np.nanstd(u.numpy(), axis=1)
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    np.testing.assert_allclose(std, 1, atol=1e-4)
    back = space.inverse(u[None])[0].T
    np.testing.assert_allclose(back, y, rtol=2e-5, atol=2e-5)
    if never == "sentinel":
        assert torch.isfinite(u).all()


def test_the_slope_is_that_of_the_map_over_the_feature():
    space = TargetSpace(FIVE)
    space.fit(torch.as_tensor(galaxies()[1], dtype=torch.float32))
    space = space.double()
    y = torch.as_tensor(galaxies(50, seed=1)[1][10:])
    feature = torch.stack([y[:, 0], y[:, 1], y[:, 2].log10(), y[:, 3], y[:, 4]], 1).requires_grad_()
    values = torch.stack(
        [10**part if name == "mstar_last_major" else part for name, part in zip(FIVE, feature.T, strict=True)], 1
    )
    u, slope = space(values)
    (gradient,) = torch.autograd.grad(u.sum(), feature)
    inside = (u - u.detach() == 0).T & (gradient > 0)
    torch.testing.assert_close(gradient.log()[inside], slope.T.detach()[inside], atol=1e-6, rtol=1e-6)


def test_values_at_a_bound_are_moved_by_a_thousandth_of_the_range():
    space = TargetSpace(("f_ex", "t_mean_merger"))
    at, near = torch.tensor([[0.0, 13.9], [1.0, 0.0]]), torch.tensor([[1e-3, 13.8861], [0.999, 0.0139]])
    torch.testing.assert_close(space(at)[0], space(near)[0], atol=1e-4, rtol=1e-4)
    assert torch.isfinite(space(at)[0]).all()


def test_sentinels_are_the_published_ones_and_lie_outside_the_valid_ranges():
    assert SENTINELS == {"t_last_major": 15.0, "mstar_last_major": 6.0}
    assert VALID == {"t_last_major": (0.0, 13.7), "mstar_last_major": (7.0, 11.5)}
    space = TargetSpace(("t_last_major", "mstar_last_major"), "sentinel", bounded=False)
    u, _ = space(torch.tensor([[torch.nan, torch.nan]]))
    np.testing.assert_allclose(u[:, 0], [15.0, 6.0])
    # one outside is enough: both are undefined
    draws = space.inverse(torch.tensor([[[15.0, 5.0, 5.0, 5.0], [6.0, 6.0, 11.6, 10.0]]]))
    assert draws.isnan()[0, 0].tolist() == draws.isnan()[0, 1].tolist() == [True, True, True, False]


def test_rows_that_cannot_be_trained_on_are_refused_with_their_row():
    made = JointFlow(FEATURES, FIVE, **SMALL)
    _, y = galaxies(40)
    made.check_targets(y)

    def refused(match, row, column, value):
        wrong = y.copy()
        wrong[row, column] = value
        with pytest.raises(DataError, match=match) as caught:
            made.check_targets(wrong)
        assert f"row {row}" in caught.value.where

    refused("lack others", 20, 1, np.nan)
    refused("lack others", 3, 2, 1e9)
    refused("impossible f_ex", 21, 0, 1.2)
    refused("impossible f_ex", 21, 0, np.nan)
    refused("impossible t_mean_merger", 5, 3, np.nan)
    refused("impossible mstar_last_major", 30, 2, -1.0)
    refused("impossible t_last_major", 30, 1, np.inf)
    for wrong in (y[:, :4], y[:, 0], y[None]):
        with pytest.raises(DataError, match="shape"):
            made.check_targets(wrong)


def test_a_target_that_does_not_vary_or_is_never_defined_is_refused():
    y = torch.as_tensor(galaxies()[1], dtype=torch.float32)
    y[:, 4] = 0.25
    with pytest.raises(DataError, match="mu_mean_merger"):
        TargetSpace(FIVE).fit(y)
    y = torch.full((30, 1), torch.nan)
    with pytest.raises(DataError, match="t_last_major"):
        TargetSpace(("t_last_major",)).fit(y)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=5, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_row_is_either_refused_or_has_a_finite_place(values):
    space = TargetSpace(FIVE)
    row = np.array([values])
    try:
        space.check(row)
    except DataError:
        return
    u, slope = space(torch.as_tensor(row, dtype=torch.float32))
    undefined = torch.tensor([False, math.isnan(values[1]), math.isnan(values[1]), False, False])
    assert torch.equal(u.isnan().squeeze(1), undefined)
    assert torch.equal(torch.isfinite(slope).squeeze(1), ~undefined)


# -- the density -----------------------------------------------------------------------------------------------------


def part(low, high, points):
    """Midpoints and step of an even grid."""
    edges = torch.linspace(low, high, points + 1)
    return 0.5 * (edges[1:] + edges[:-1]), float(edges[1] - edges[0])


def feature_range(name):
    item = field(name)
    return (math.log10(item.low), math.log10(item.high)) if item.scale == "log" else (item.low, item.high)


def value_of(name, feature):
    return 10**feature if field(name).scale == "log" else feature


@pytest.mark.parametrize("coupling", ["affine", "spline"])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("name", ["f_ex", "mu_mean_merger", "t_last_major", "mstar_last_major"])
def test_the_density_of_one_target_and_of_never_add_up_to_one(name, bounded, coupling):
    made, x, _ = ready((name,), bounded=bounded, coupling=coupling)
    low, high = feature_range(name)
    if not bounded:
        low, high = (low - 2.5 * (high - low), high + 2.5 * (high - low))
    grid, step = part(low, high, 6000)
    total = 0.0
    with torch.no_grad():
        found = made(x[60:61].expand(6000, -1))
        values = grid if bounded or name != "mstar_last_major" else grid.clamp(-30, 30)
        total = found.log_prob(value_of(name, values)).double().exp().sum(1) * step
        if name in SENTINELS:
            never = made(x[60:61]).log_prob(torch.tensor([torch.nan])).exp()[:, 0]
            torch.testing.assert_close(never, made(x[60:61]).p_never[:, 0])
            total = total + never
    np.testing.assert_allclose(total, 1.0, atol=2e-3)


@pytest.mark.parametrize("coupling", ["affine", "spline"])
@pytest.mark.parametrize(
    "pair", [("f_ex", "mu_mean_merger"), ("f_ex", "t_last_major"), ("t_last_major", "mstar_last_major")]
)
def test_the_density_of_two_targets_and_of_never_add_up_to_one(pair, coupling):
    made, x, _ = ready(pair, coupling=coupling)
    first, second = (part(*feature_range(name), 300) for name in pair)
    grids = torch.meshgrid(first[0], second[0], indexing="ij")
    mesh = torch.stack([value_of(name, grid) for name, grid in zip(pair, grids, strict=True)], -1)
    row = x[70:71]
    with torch.no_grad():
        total = made(row.expand(90_000, -1)).log_prob(mesh.reshape(-1, 2)).double().exp().sum(1) * first[1] * second[1]
        if pair == ("f_ex", "t_last_major"):  # a density over the other target
            never = torch.stack([first[0], torch.full_like(first[0], torch.nan)], 1)
            total = total + made(row.expand(300, -1)).log_prob(never).double().exp().sum(1) * first[1]
        if pair == ("t_last_major", "mstar_last_major"):
            total = total + made(row).log_prob(torch.full((1, 2), torch.nan)).exp()[:, 0]
    np.testing.assert_allclose(total, 1.0, atol=4e-3)


def test_sentinels_have_the_joint_density_at_the_sentinel():
    made, x, y = ready(never="sentinel", bounded=False)
    filled = y.clone()
    filled[:40, 1], filled[:40, 2] = 15.0, 1e6
    with torch.no_grad():
        torch.testing.assert_close(made(x).log_prob(y), made(x).log_prob(filled))
        plain = JointFlow(FEATURES, FIVE, **SMALL, never="sentinel", bounded=False)
        plain.load_state_dict(made.state_dict())
        torch.testing.assert_close(plain.eval()(x).latent(y), made(x).latent(filled))


@torch.no_grad()
def test_the_bernoulli_factorisation_is_the_product_of_its_parts():
    made, x, y = ready(coupling="spline")
    place, slope = made.space(y)
    context = made.scaled(x).mT
    logit = made.chance(context).squeeze(1)
    others, merger = [0, 3, 4], [1, 2]
    assert (made.first.columns, made.second.columns) == (others, merger)
    never = y[:, 1].isnan()
    known = place[others].expand(2, -1, -1).unsqueeze(2)
    flag = never.float().expand(2, 1, 1, -1)
    first = made.first.flow.condition(made.first.net(context)).log_prob(known, flag).squeeze(1)
    first = first + slope[others].sum(0)
    late = place[merger].nan_to_num().expand(2, -1, -1).unsqueeze(2)
    second = made.second.flow.condition(made.second.net(context)).log_prob(late, known).squeeze(1)
    second = second + slope[merger].nan_to_num().sum(0)
    chance = torch.sigmoid(logit)
    want = torch.where(never, chance.log() + first, (1 - chance).log() + first + second)
    torch.testing.assert_close(made(x).log_prob(y), want, atol=2e-4, rtol=2e-5)


def test_gradients_reach_every_weight_and_stay_finite_with_galaxies_that_never_merged():
    for never, coupling in WAYS:
        made, x, y = ready(never=never, coupling=coupling)
        made.train()(x).log_prob(y).mean().backward()
        for name, parameter in made.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad.flatten(1).abs().sum(1) > 0).all(), name


def test_a_never_merged_row_teaches_the_merger_flow_nothing():
    made, x, y = ready()
    made(x[:40]).log_prob(y[:40]).sum().backward()
    assert all(float(parameter.grad.abs().sum()) == 0 for parameter in made.second.parameters())
    assert any(float(parameter.grad.abs().sum()) > 0 for parameter in made.first.parameters())


# -- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("never", "coupling"), WAYS)
def test_a_hundred_thousand_draws_stay_in_range(never, coupling):
    made, x, _ = ready(never=never, coupling=coupling)
    with torch.no_grad():
        for factor in (made.first, made.second):  # far wilder than anything trained
            for block in () if factor is None else factor.flow.subnets:
                wild = 3 if never == "bernoulli" else 0.3  # with sentinels, farther out all would be "never"
                block.biases[-1].add_(torch.linspace(-wild, wild, block.biases[-1].shape[2])[:, None])
    draws = draw(conditioned(made, x), 250).reshape(-1, 5)
    assert len(draws) == 100_000
    for column, name in zip(draws.T.double().numpy(), FIVE, strict=True):
        low, high = field(name).low, field(name).high
        if never == "sentinel" and name in VALID:
            low, high = VALID[name] if name == "t_last_major" else (10**7.0, 10**11.5)
        known = column[~np.isnan(column)]
        assert len(known)
        assert known.min() >= low * (1 - 1e-6)
        assert known.max() <= high * (1 + 1e-6)
    never_any = draws[:, 1].isnan()
    assert torch.equal(never_any, draws[:, 2].isnan())


@pytest.mark.parametrize("coupling", ["affine", "spline"])
def test_draws_follow_the_density(coupling):
    made, x, _ = ready(("f_ex", "t_last_major"), coupling=coupling)
    row = x[70:71]
    draws = draw(conditioned(made, row), 20_000)[:, :, 0]
    (a, da), (b, db) = part(0, 1, 200), part(0, 13.9, 200)
    mesh = torch.stack(torch.meshgrid(a, b, indexing="ij"), -1).reshape(-1, 2)
    with torch.no_grad():
        density = made(row.expand(40_000, -1)).log_prob(mesh).double().exp().view(2, 200, 200) * da * db
        gone = torch.stack([a, torch.full_like(a, torch.nan)], 1)
        never = made(row.expand(200, -1)).log_prob(gone).double().exp() * da
        chance = made(row).p_never[:, 0]
    for member in range(2):
        found = draws[:, member]
        away = found[:, 1].isnan()
        assert abs(float(away.double().mean()) - float(chance[member])) < 0.012
        f_ex = np.sort(found[:, 0].numpy())
        want = (density[member].sum(1) + never[member]).cumsum(0).numpy()
        assert np.abs(np.searchsorted(f_ex, a.numpy() + da / 2) / 20_000 - want).max() < 0.015
        both = ~away & (found[:, 0] < 0.4)
        assert (
            abs(float((both & (found[:, 1] < 6.95)).double().mean()) - float(density[member, :80, :100].sum())) < 0.015
        )


def test_draws_do_not_depend_on_threads_and_leave_no_trace_but_one_random_number():
    made, x, _ = ready(coupling="spline")
    found = conditioned(made, x)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(draw(found, 31).nan_to_num())
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*results)
    assert not torch.equal(results[0], draw(found, 31, seed=2).nan_to_num())


@pytest.mark.parametrize(("never", "coupling"), WAYS)
def test_galaxies_do_not_depend_on_each_other(never, coupling):
    made, x, y = ready(never=never, coupling=coupling)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    whole, shuffled = conditioned(made, x), conditioned(made, x[order])
    with torch.no_grad():
        torch.testing.assert_close(shuffled.log_prob(y[order]), whole.log_prob(y)[:, order], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(shuffled.p_never, whole.p_never[:, order], atol=4e-3, rtol=0)
        torch.testing.assert_close(conditioned(made, x[7:8]).p_never, whole.p_never[:, 7:8], atol=4e-3, rtol=0)


@pytest.mark.parametrize(("never", "coupling"), WAYS)
def test_a_missing_feature_gives_nan_in_its_row_only(never, coupling):
    made, x, y = ready(never=never, coupling=coupling)
    with torch.no_grad():
        clean = made(x).log_prob(y)
    x[5, 0] = torch.nan
    found = conditioned(made, x)
    draws = draw(found, 3)
    with torch.no_grad():
        density, chance = found.log_prob(y), found.p_never
    keep = torch.arange(200) != 5
    assert density[:, 5].isnan().all()
    assert chance[:, 5].isnan().all()
    assert draws[:, :, 5].isnan().all()
    assert torch.isfinite(draws[:, :, keep][..., 0]).all()
    torch.testing.assert_close(density[:, keep], clean[:, keep])


def test_a_logistic_chance_starts_flat_and_its_gain_stretches_the_inputs():
    flat, x, _ = ready(chance=(), chance_gain=5.0)
    for part in flat.chance.parameters():
        torch.nn.init.zeros_(part)
    assert conditioned(flat, x).p_never.std() < 1e-6
    plain, gained = (JointFlow(FEATURES, ("f_ex", "t_last_major"), chance=(), chance_gain=gain) for gain in (1.0, 5.0))
    assert all((part == 0).all() for part in plain.chance.weights)
    with torch.no_grad():
        for made in (plain, gained):
            made.chance.weights[0].fill_(0.3)
        columns = torch.randn(plain.members, 2, 50, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(gained.chance(columns), plain.chance(5 * columns))
    with pytest.raises(ConfigError, match="chance_gain"):
        JointFlow(("mstar",), ("f_ex", "t_last_major"), chance_gain=0.0)


def test_p_never_is_zero_without_merger_targets_and_the_fraction_of_draws_with_sentinels():
    made, x, _ = ready(("f_ex", "mu_mean_merger"))
    assert (conditioned(made, x).p_never == 0).all()
    made, x, _ = ready(never="sentinel", coupling="affine")
    found = conditioned(made, x)
    with torch.no_grad():
        chance = found.p_never
        assert torch.equal(chance, found.p_never)
    drawn = draw(found, 400)[..., 1].isnan().float().mean(0)
    assert float((drawn - chance).abs().max()) < 0.15
    assert float((drawn - chance).mean().abs()) < 0.02


def test_label_noise_is_put_on_while_training_only():
    made, x, y = ready(label_noise=0.3)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        quiet = made(x).log_prob(y)
        assert torch.equal(quiet, made(x).log_prob(y))
        made.train()
        one, other = made(x).log_prob(y), made(x).log_prob(y)
        assert not torch.equal(one, other)
        assert not torch.equal(one[0], one[1])
        assert torch.isfinite(one).all()
        torch.default_generator.manual_seed(0)
        again = made.eval()(x).log_prob(y)
    assert torch.equal(quiet, again)


# -- learning --------------------------------------------------------------------------------------------------------

TRUE = ("f_ex", "t_last_major")


def known(n, seed):
    """Features, targets and P(never) of a joint distribution that is known: correlated normals behind logits."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.5, 1.5, (n, 2))
    chance = 1 / (1 + np.exp(2.0 - 1.5 * x[:, 0]))
    e = rng.standard_normal((n, 2))
    f_ex = -0.5 + 0.8 * x[:, 0] + 0.5 * e[:, 0]
    when = 0.6 * x[:, 1] - 0.7 * e[:, 0] + 0.4 * e[:, 1]
    y = np.stack([1 / (1 + np.exp(-f_ex)), 13.9 / (1 + np.exp(-when))], axis=1)
    y[rng.random(n) < chance, 1] = np.nan
    return x, y, chance


def true_log_prob(x, y, chance):
    a, b = np.log(y[:, 0] / (1 - y[:, 0])), np.log(y[:, 1] / (13.9 - y[:, 1]))
    e = (a + 0.5 - 0.8 * x[:, 0]) / 0.5

    def normal(z, scale):
        return -0.5 * z**2 - np.log(scale * np.sqrt(2 * np.pi))

    first = normal(e, 0.5) - np.log(y[:, 0] * (1 - y[:, 0]))
    second = normal((b - 0.6 * x[:, 1] + 0.7 * e) / 0.4, 0.4) - np.log(y[:, 1] * (13.9 - y[:, 1]) / 13.9)
    return np.where(np.isnan(y[:, 1]), np.log(chance) + first, np.log(1 - chance) + first + np.nan_to_num(second))


def taught(n, epochs, **options):
    x, y, _ = known(n, 1)
    made = JointFlow(
        FEATURES, TRUE, **{"members": 1, "blocks": 3, "hidden": (32, 32), "condition": (32, 16), "seed": 1, **options}
    )
    config = TrainConfig(
        learning_rate=4e-3,
        batch_size=128,
        max_epochs=epochs,
        patience=epochs,
        device="cpu",
        lr_decay=0.6,
        lr_decay_every=4,
    )
    fit_estimator(made, x, y, config, progress=False)
    return made


@pytest.fixture(scope="module", params=["affine", "spline"])
def learned(request):
    return taught(4000, 16, coupling=request.param)


@pytest.fixture(scope="module")
def unseen():
    x, y, chance = known(4000, 2)
    return torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y, dtype=torch.float32), x, y, chance


def test_a_known_joint_distribution_is_recovered(learned, unseen):
    rows, targets, x, y, chance = unseen
    with torch.no_grad():
        found = learned(rows)
        density, never = found.log_prob(targets)[0].double().numpy(), found.p_never[0].double().numpy()
    loss = true_log_prob(x, y, chance) - density
    assert -0.02 < loss.mean() < 0.06  # nats per galaxy behind the truth
    assert np.abs(never - chance).mean() < 0.035


def test_latents_of_unseen_galaxies_are_independent_standard_normals(learned, unseen):
    rows, targets, *_ = unseen
    with torch.no_grad():
        z = learned(rows).latent(targets)[0].double().numpy()
    merged = ~np.isnan(z[:, 1])
    assert np.isfinite(z[:, 0]).all()
    assert np.array_equal(merged, ~np.isnan(targets[:, 1].numpy()))
    np.testing.assert_allclose(np.nanmean(z, axis=0), 0, atol=0.1)
    np.testing.assert_allclose(np.nanstd(z, axis=0), 1, atol=0.1)
    assert np.abs(np.corrcoef(z[merged].T)[0, 1]) < 0.07


def test_draws_have_the_correlation_that_is_there(learned, unseen):
    rows, *_ = unseen
    draws = draw(conditioned(learned, rows[:300]), 400)[:, 0].double().numpy()
    a = np.log(draws[..., 0] / (1 - draws[..., 0]))
    b = np.log(draws[..., 1] / (13.9 - draws[..., 1]))
    merged = ~np.isnan(b)
    each = [np.corrcoef(a[merged[:, row], row], b[merged[:, row], row])[0, 1] for row in range(300)]
    np.testing.assert_allclose(np.median(each), -0.7 / np.hypot(0.7, 0.4), atol=0.05)


@pytest.mark.slow
def test_sentinels_and_the_bernoulli_factor_agree_on_the_galaxies_that_never_merged(unseen):
    rows, _, _, _, chance = unseen
    bernoulli = taught(6000, 40)
    published = taught(6000, 40, never="sentinel", bounded=False, coupling="spline", label_noise=0.025)
    with torch.no_grad():
        exact = bernoulli(rows).p_never[0].double().numpy()
        sentinel = published(rows).p_never[0].double().numpy()
    assert np.abs(exact - chance).mean() < 0.03
    assert np.abs(sentinel - chance).mean() < 0.05
    assert np.abs(sentinel - exact).mean() < 0.05
    assert abs(sentinel.mean() - exact.mean()) < 0.02
