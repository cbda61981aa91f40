"""What every estimator in the list promises: one contract, run over every preset."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from scipy import stats

from galineage.errors import BundleError, ConfigError, DataError
from galineage.models import ESTIMATORS, PRESETS, make_estimator
from galineage.models.base import DirectEstimator
from galineage.models.bundle import Bundle, load, save
from galineage.models.map_inputs import MapInputs
from galineage.posterior import Posterior
from galineage.training import MapTrainConfig, TrainConfig, fit_estimator
from galineage.training.map_loop import fit_map_network

FEATURES = ("mstar", "age", "metallicity")
SMALL = {
    "forest": {"trees": 20},
    "boosting": {"rounds": 20},
    "perceptron": {"members": 2},
    "joint": {"members": 2, "blocks": 2, "hidden": (16,), "condition": (8, 4)},
    "maps": {"members": 2, "pixels": 16, "channels": ("mass", "velocity")},
    "maps-joint": {
        "members": 2,
        "pixels": 16,
        "channels": ("mass", "velocity"),
        "flow": {"blocks": 2, "hidden": (16,), "condition": (8, 4)},
    },
}
NETWORKS = [name for name, (kind, _) in PRESETS.items() if not issubclass(ESTIMATORS[kind], DirectEstimator)]
JOINT = [name for name, (kind, _) in PRESETS.items() if ESTIMATORS[kind].joint]
SCALAR = [name for name in PRESETS if name not in JOINT]
MAPS = [name for name, (kind, _) in PRESETS.items() if ESTIMATORS[kind].sees_maps]


def small(name, **options):
    return make_estimator(name, FEATURES, **{**SMALL.get(PRESETS[name][0], {}), **options})


def galaxies(n=240, seed=3):
    """Features, and a fraction that depends on them; some are 0 and 1 exactly, as in CAMELS."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.uniform(9.5, 12, n), rng.uniform(5, 12, n), rng.uniform(-3, -1.5, n)], axis=1)
    y = np.clip(0.5 * (x[:, 0] - 10) + 0.08 * rng.standard_normal(n) * (x[:, 1] - 4), 0, 1)
    return x, y


class Held:
    """Maps that follow from the features."""

    channels, recipe = SMALL["maps"]["channels"], {}

    def __init__(self, x):
        place = np.linspace(-1, 1, 16)
        rise = np.nan_to_num(np.asarray(x, dtype=float))[:, :2, None, None] / 10
        self.values = (rise * (place[:, None] + 0.3 * place) + 0.1 * place**2).astype(np.float32)

    def __len__(self):
        return len(self.values)

    def read(self, which):
        return self.values[which]


def context(estimator, rows):
    """What the estimator takes for rows of features: those, or maps and a plane for each."""
    if not estimator.sees_maps or rows.dim() != 2:
        return rows
    return MapInputs(Held(rows), rows.numpy())[0 : len(rows)]


@pytest.fixture(scope="module")
def trained():
    x, y = galaxies()
    config = TrainConfig(max_epochs=4, batch_size=32, device="cpu")
    found = {}
    for name in PRESETS:
        found[name] = small(name)
        if name in MAPS:
            quick = MapTrainConfig(max_epochs=2, batch_size=32, device="cpu", precision="float32")
            fit_map_network(found[name], MapInputs(Held(x), x), y, quick, progress=False)
        else:
            fit_estimator(found[name], x, y, config, progress=False)
    return found


@pytest.fixture(params=SCALAR)
def estimator(request, trained):
    return trained[request.param].eval()


@pytest.fixture(params=JOINT)
def joint(request, trained):
    return trained[request.param].eval()


@pytest.fixture
def rows():
    return torch.as_tensor(galaxies(64, seed=4)[0], dtype=torch.float32)


@torch.no_grad()
def conditioned(estimator, rows):
    return estimator(context(estimator, rows))


def bounded(distribution):
    return distribution.support is torch.distributions.constraints.unit_interval


def grid_of(distribution, points=20001):
    """Points (P, 1, 1) that hold all of the probability, and every step of a density that has steps."""
    if bounded(distribution):
        even = torch.linspace(0, 1, points, dtype=torch.float64)
        steps = getattr(distribution, "edges", even[:1]).double()
        return torch.unique(torch.cat([even, steps]))[:, None, None]
    low = (distribution.mean - 9 * distribution.stddev).min()
    high = (distribution.mean + 9 * distribution.stddev).max()
    return torch.linspace(float(low), float(high), points, dtype=torch.float64)[:, None, None]


def test_answers_with_one_scalar_distribution_per_member_and_galaxy(estimator, rows):
    found = conditioned(estimator, rows)
    assert tuple(found.batch_shape) == (estimator.members, 64)
    assert tuple(found.event_shape) == ()
    if estimator.sees_maps:
        return  # its members are trained one after another
    own = conditioned(estimator, rows.expand(estimator.members, -1, -1).contiguous())
    assert tuple(own.batch_shape) == (estimator.members, 64)
    np.testing.assert_allclose(own.mean, found.mean, atol=1e-6)


def test_density_is_finite_on_the_closed_interval_and_zero_outside(estimator, rows):
    found = conditioned(estimator, rows)
    inside = found.log_prob(torch.linspace(0, 1, 101)[:, None, None])
    assert torch.isfinite(inside).all()
    if bounded(found):
        for outside in (-0.001, 1.001, -5.0, 7.0):
            assert torch.isneginf(found.log_prob(torch.tensor(outside))).all()


def test_density_integrates_to_one_and_to_the_distribution_function(estimator, rows):
    found = conditioned(estimator, rows[:8])
    edges = grid_of(found)
    middle, step = 0.5 * (edges[1:] + edges[:-1]), edges.diff(dim=0)
    inside = (found.log_prob(middle.float()).double().exp() * step).cumsum(0)
    np.testing.assert_allclose(inside[-1], 1.0, atol=2e-3)
    np.testing.assert_allclose(found.cdf(edges[1:].float()), inside, atol=2e-3)


def test_distribution_function_rises_from_zero_to_one(estimator, rows):
    found = conditioned(estimator, rows)
    values = found.cdf(grid_of(found, 2001).float())
    assert (values.diff(dim=0) >= -1e-6).all()
    np.testing.assert_allclose(values[0], 0, atol=1e-6)
    np.testing.assert_allclose(values[-1], 1, atol=1e-6)
    if bounded(found):
        assert (found.cdf(torch.tensor(-3.0)) <= 1e-6).all()
        assert (found.cdf(torch.tensor(4.0)) >= 1 - 1e-6).all()


def test_quantiles_invert_the_distribution_function(estimator, rows):
    found = conditioned(estimator, rows)
    p = torch.linspace(0.01, 0.99, 99)[:, None, None]
    values = found.icdf(p)
    assert values.shape == (99, estimator.members, 64)
    assert (values.diff(dim=0) >= 0).all()
    np.testing.assert_allclose(found.cdf(values), p.expand_as(values), atol=5e-4)


def test_samples_follow_the_distribution(estimator, rows):
    found = conditioned(estimator, rows[:6])
    with torch.random.fork_rng():
        torch.manual_seed(11)
        draws = found.sample((4000,))
    assert draws.shape == (4000, estimator.members, 6)
    if bounded(found):
        assert ((draws >= 0) & (draws <= 1)).all()
    np.testing.assert_allclose(draws.mean(0), found.mean, atol=5 * float(found.stddev.max()) / 4000**0.5)
    np.testing.assert_allclose(draws.var(0), found.variance, rtol=0.2)
    levels = found.cdf(draws).reshape(4000, -1).double().numpy()
    worst = min(stats.kstest(levels[:, column], "uniform").pvalue for column in range(levels.shape[1]))
    assert worst > 1e-4


def test_moments_agree_with_quadrature(estimator, rows):
    found = conditioned(estimator, rows[:8])
    edges = grid_of(found)
    middle = 0.5 * (edges[1:] + edges[:-1])
    weight = found.log_prob(middle.float()).double().exp() * edges.diff(dim=0)
    weight = weight / weight.sum(0)
    mean = (weight * middle).sum(0)
    spread = (weight * (middle - mean) ** 2).sum(0).sqrt()
    np.testing.assert_allclose(found.mean, mean, atol=1e-4)
    np.testing.assert_allclose(found.variance.sqrt(), spread, rtol=5e-3)


def test_a_galaxy_does_not_depend_on_its_neighbours(estimator, rows):
    whole = conditioned(estimator, rows)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    shuffled = conditioned(estimator, rows[order])
    single = [conditioned(estimator, rows[row : row + 1]) for row in range(0, 64, 9)]
    for value in (torch.tensor(0.1), torch.tensor(0.6)):
        np.testing.assert_allclose(shuffled.cdf(value), whole.cdf(value)[:, order], atol=1e-6)
        alone = torch.cat([one.cdf(value) for one in single], dim=1)
        np.testing.assert_allclose(alone, whole.cdf(value)[:, ::9], atol=1e-6)


def test_evaluation_repeats_itself_and_leaves_weights_and_random_state_alone(estimator, rows):
    before = {name: value.clone() for name, value in estimator.state_dict().items()}
    first, again = (conditioned(estimator, rows).cdf(torch.tensor(0.3)) for _ in range(2))
    assert torch.equal(first, again)
    assert all(torch.equal(value, before[name]) for name, value in estimator.state_dict().items())


@pytest.mark.parametrize("name", [name for name in SCALAR if not name.startswith("maps-")])
def test_training_mode_answers_alike_when_nothing_is_random(name, trained, rows):
    if name in MAPS:
        estimator = small(name, dropout=0.0)
    elif name in NETWORKS:
        estimator = small(name, dropout=0.0, batch_norm=False)
        estimator.fit_scaling(rows)
    else:
        estimator = trained[name]
    training = conditioned(estimator.train(), rows).cdf(torch.tensor(0.4))
    assert torch.equal(training, conditioned(estimator.eval(), rows).cdf(torch.tensor(0.4)))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_of_a_network_learns(name, rows):
    estimator = small(name)
    estimator.fit_scaling(rows)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = -estimator.train()(context(estimator, rows)).log_prob(torch.linspace(0.05, 0.95, 64)).mean()
    loss.backward()
    for label, parameter in estimator.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
        each = parameter.grad.flatten(0 if estimator.sees_maps else 1).abs()
        assert (each.sum(-1) > 0).all(), f"{label}: a member has no gradient"


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_stay_finite_at_the_ends_of_the_interval(name, rows):
    estimator = small(name)
    with torch.random.fork_rng():
        found = estimator.train()(context(estimator, rows))
        found.log_prob(torch.tensor([0.0, 1.0]).repeat(32)).mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in estimator.parameters())


@pytest.mark.parametrize("name", list(PRESETS))
def test_settings_build_an_equal_estimator(name):
    first = small(name)
    settings = json.loads(json.dumps(first.settings()))
    second = ESTIMATORS[first.kind](**settings)
    assert second.settings() == first.settings() == settings
    mine, other = first.state_dict(), second.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in mine.items())


def answers(estimator, rows):
    """Numbers that a user would get: density and draws of a joint model, or quantiles, mean and draws."""
    from galineage.posterior import Posterior

    with torch.no_grad():
        found = estimator(rows)
        if found.event_shape:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(5)
                return torch.cat([found.log_prob(torch.linspace(0, 1, len(rows)))[None], found.sample((3,))[..., 0]])
        posterior = Posterior(found)
        return torch.cat([posterior.quantile([0.16, 0.5, 0.84]), posterior.mean[None], posterior.sample(3, 5)])


def test_saved_models_predict_bit_for_bit_in_another_process(trained, rows, tmp_path):
    for name, estimator in trained.items():
        np.save(tmp_path / f"{name}-rows.npy", context(estimator, rows).numpy())
        save(Bundle(estimator.eval(), {"model": name, "domains": ["test"]}), tmp_path / name)
    head = """
        import sys, numpy as np, torch
        from pathlib import Path
        from galineage.models.bundle import load
    """
    body = """
        folder = Path(sys.argv[1])
        torch.set_num_threads(int(sys.argv[2]))
        for name in sys.argv[3:]:
            rows = torch.as_tensor(np.load(folder / f"{name}-rows.npy"))
            np.save(folder / f"{name}.npy", answers(load(folder / name).estimator, rows).numpy())
    """
    program = textwrap.dedent(head) + textwrap.dedent(inspect.getsource(answers)) + textwrap.dedent(body)
    command = [sys.executable, "-c", program, str(tmp_path), str(torch.get_num_threads()), *trained]
    subprocess.run(command, check=True, timeout=120)
    for name, estimator in trained.items():
        assert np.array_equal(
            np.load(tmp_path / f"{name}.npy"), answers(estimator, context(estimator, rows)).numpy()
        ), name
        assert not load(tmp_path / name).estimator.training


@pytest.mark.parametrize("column", range(len(FEATURES)))
def test_a_missing_feature_is_refused_with_its_row_not_guessed(estimator, rows, column):
    rows[3, column] = torch.nan
    with pytest.raises(DataError, match="1 galaxies is NaN") as caught:
        Posterior(conditioned(estimator, rows))
    assert "row 3" in caught.value.where
    assert "skip list" in caught.value.advice


def test_a_missing_feature_does_not_touch_other_rows(estimator, rows):
    clean = conditioned(estimator, rows).mean
    rows[3, 1] = torch.nan
    dirty = conditioned(estimator, rows).mean
    assert dirty[:, 3].isnan().all()
    keep = torch.arange(64) != 3
    np.testing.assert_allclose(dirty[:, keep], clean[:, keep], atol=1e-6)


def test_features_of_another_width_are_refused(estimator, rows):
    if estimator.sees_maps:
        rows = context(estimator, rows)
        for wrong in (rows[:, :1], rows[:, :, :8, :8], rows[0]):
            with pytest.raises(DataError, match="maps of shape"):
                conditioned(estimator, wrong)
        return
    for wrong in (rows[:, :1], rows[:, :2], torch.cat([rows, rows[:, :1]], dim=1), rows[0]):
        with pytest.raises(DataError, match="features of shape"):
            conditioned(estimator, wrong)


WRONG = [{"colour": "blue"}, {"target": "f_exsitu"}]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name in PRESETS for options in WRONG] + [(name, {"members": 0}) for name in NETWORKS],
)
def test_unknown_settings_are_refused(name, options):
    with pytest.raises(ConfigError):
        make_estimator(name, FEATURES, **options)


@torch.no_grad()
def test_a_joint_model_of_one_target_has_a_density_and_draws_for_each_member_and_galaxy(joint, rows):
    found = conditioned(joint, rows)
    assert (tuple(found.batch_shape), tuple(found.event_shape)) == ((2, 64), (1,))
    truth = torch.linspace(0, 1, 64)
    density = found.log_prob(truth)
    assert density.shape == (2, 64)
    assert torch.isfinite(density).all()
    if not joint.sees_maps:  # whose members are trained one after another
        own = conditioned(joint, rows.expand(2, -1, -1).contiguous())
        torch.testing.assert_close(own.log_prob(truth), density)
    with torch.random.fork_rng(devices=[]):
        draws = found.sample((9,))
    assert draws.shape == (9, 2, 64, 1)
    settings = joint.settings()
    if settings.get("flow", settings)["bounded"]:
        assert ((draws >= 0) & (draws <= 1)).all()
    assert (found.p_never == 0).all()


@torch.no_grad()
def test_a_joint_model_treats_galaxies_one_by_one_and_refuses_other_widths(joint, rows):
    truth = torch.linspace(0.1, 0.9, 64)
    whole = conditioned(joint, rows).log_prob(truth)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(conditioned(joint, rows[order]).log_prob(truth[order]), whole[:, order])
    with pytest.raises(DataError, match="of shape"):
        conditioned(joint, rows[:, :2])
    rows[3, 1] = torch.nan
    dirty = conditioned(joint, rows).log_prob(truth)
    assert dirty.isnan().any(dim=0).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("name", SCALAR)
def test_a_target_beyond_one_needs_an_unbounded_distribution(name, trained, rows):
    if bounded(conditioned(trained[name], rows)):
        with pytest.raises(ConfigError, match="not a fraction"):
            small(name, target="t_last_major")
    else:
        assert small(name, target="t_last_major").target == "t_last_major"


@pytest.mark.parametrize("name", list(PRESETS))
def test_features_that_leak_the_truth_are_refused(name):
    with pytest.raises(ConfigError, match="computed from the truth"):
        make_estimator(name, ("mstar", "n_views"))
    with pytest.raises(ConfigError, match="twice"):
        make_estimator(name, ("mstar", "mstar"))
    if name not in MAPS:
        with pytest.raises(ConfigError, match="no features"):
            make_estimator(name, ())


def test_an_unknown_preset_is_answered_with_the_list():
    with pytest.raises(ConfigError, match="no model called 'transformer'") as caught:
        make_estimator("transformer", FEATURES)
    assert all(name in caught.value.expected for name in PRESETS)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mdn", {"hidden": ()}),
        ("mdn", {"hidden": (8, 0)}),
        ("mdn", {"hidden": "wide"}),
        ("mdn", {"dropout": 1.0}),
        ("mdn", {"dropout": float("nan")}),
        ("mdn", {"activation": "gelu"}),
        ("mdn", {"initial": "zeros"}),
        ("mdn", {"members": 2.5}),
        ("mdn", {"head": "flow"}),
        ("mdn", {"head": {"kind": "cauchy"}}),
        ("mdn", {"head": {"kind": "bounded", "components": 0}}),
        ("mdn", {"head": {"kind": "bounded", "margin": 0.0}}),
        ("mdn", {"head": {"kind": "bounded", "floor": -1.0}}),
        ("mdn", {"head": {"kind": "bounded", "width": 3}}),
        ("flow", {"head": {"kind": "flow", "bins": 1}}),
        ("paper", {"head": {"kind": "gaussian", "floor": 0.0}}),
        ("forest", {"trees": 0}),
        ("forest", {"leaf": 1.5}),
        ("forest", {"trees": "many"}),
        ("boosting", {"rounds": -1}),
        ("boosting", {"rate": 0.0}),
        ("boosting", {"depth": 0}),
        ("spline", {"knots": -1}),
    ],
)
def test_settings_out_of_range_are_refused_in_words(name, options):
    with pytest.raises(ConfigError):
        make_estimator(name, FEATURES, **options)


def test_the_mass_spline_needs_masses():
    with pytest.raises(ConfigError, match="mstar"):
        make_estimator("spline", ("age", "metallicity"))


def test_a_bundle_of_an_unknown_setting_is_refused(trained, tmp_path):
    for name, estimator in trained.items():
        folder = save(Bundle(estimator), tmp_path / name)
        description = json.loads((folder / "bundle.json").read_text())
        description["settings"]["colour"] = "blue"
        (folder / "bundle.json").write_text(json.dumps(description))
        with pytest.raises(BundleError, match="colour"):
            load(folder)
