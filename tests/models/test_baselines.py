"""Baselines against scikit-learn and scipy, and against slow obvious versions of themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import make_lsq_spline
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

from galineage.errors import DataError
from galineage.models import BoostedTrees, MassSpline, RandomForest, make_estimator
from galineage.models.base import DirectEstimator
from galineage.models.residuals import ResidualShape
from galineage.models.trees import TreeTables

FEATURES = ("mstar", "age")


def tied_data(seed, n=80, d=3):
    """Values on a coarse lattice: most of them are equal to others, and to thresholds halfway between."""
    rng = np.random.default_rng(seed)
    x = (rng.integers(0, 6, (n, d)) / 3 + (rng.random((n, d)) < 0.3) * rng.standard_normal((n, d))).astype(np.float32)
    return x, rng.random(n)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), leaf=st.integers(1, 6))
def test_a_forest_as_tables_predicts_what_scikit_learn_predicts(seed, leaf):
    x, y = tied_data(seed)
    forest = RandomForestRegressor(7, min_samples_leaf=leaf, random_state=seed % 1000, n_jobs=1).fit(x, y)
    tables = TreeTables()
    tables.fill([tree.tree_ for tree in forest.estimators_])
    new = np.concatenate([x, tied_data(seed + 1)[0], x + 1 / 6])
    np.testing.assert_allclose(tables(torch.tensor(new)) / 7, forest.predict(new), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(tables.leaves(torch.tensor(new)).T, forest.apply(new))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), depth=st.integers(1, 5))
def test_boosting_as_tables_predicts_what_scikit_learn_predicts(seed, depth):
    x, y = tied_data(seed)
    boosted = GradientBoostingRegressor(n_estimators=9, max_depth=depth, random_state=0, subsample=0.7).fit(x, y)
    tables = TreeTables()
    tables.fill([tree.tree_ for tree in boosted.estimators_[:, 0]])
    new = np.concatenate([x, tied_data(seed + 1)[0]])
    found = boosted.init_.constant_.item() + 0.1 * tables(torch.tensor(new))
    np.testing.assert_allclose(found, boosted.predict(new), rtol=0, atol=1e-12)


def test_double_precision_input_is_rounded_as_scikit_learn_rounds_it():
    rng = np.random.default_rng(0)
    x, y = rng.random((200, 2)), rng.random(200)
    tree = DecisionTreeRegressor(random_state=0).fit(x, y)
    tables = TreeTables()
    tables.fill([tree.tree_])
    near = np.repeat(tree.tree_.threshold[tree.tree_.feature >= 0], 3) + np.tile(
        [-1e-12, 0, 1e-12], tree.get_n_leaves() - 1
    )
    new = np.stack([near, near], axis=1)
    np.testing.assert_array_equal(tables.leaves(torch.tensor(new))[0], tree.apply(new))


def test_a_stump_and_a_single_leaf_are_trees_too():
    constant = DecisionTreeRegressor(random_state=0).fit(np.zeros((5, 2)), np.full(5, 0.3))
    stump = DecisionTreeRegressor(max_depth=1, random_state=0).fit(np.array([[0.0], [1.0]]), np.array([0.0, 1.0]))
    tables = TreeTables()
    assert tables(torch.zeros(3, 2)).tolist() == [0, 0, 0]
    tables.fill([constant.tree_, stump.tree_])
    np.testing.assert_allclose(tables(torch.tensor([[0.0, 9.0], [1.0, 9.0]])), [0.3, 1.3])


def test_tables_that_point_in_a_circle_do_not_hang():
    tables = TreeTables()
    tables.feature, tables.left, tables.right = (
        torch.zeros((1, 4), dtype=kind) for kind in (torch.int16, torch.int32, torch.int32)
    )
    tables.threshold = tables.value = torch.zeros((1, 4), dtype=torch.float64)
    assert tables.leaves(torch.ones(3, 1)).shape == (1, 3)


def toy(n, seed=0):
    rng = np.random.default_rng(seed)
    x = np.stack([rng.uniform(9.5, 12, n), rng.uniform(5, 12, n)], axis=1)
    y = np.clip(0.3 * (x[:, 0] - 9.5) + 0.05 * rng.standard_normal(n), 0, 1)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def test_the_forest_is_a_quantile_regression_forest():
    """Slow twin: Meinshausen's weights, one galaxy and one tree at a time, then the same smoothing."""
    x, y = toy(90)
    forest = RandomForest(FEATURES, trees=8, leaf=4)
    forest.fit(x, y, seed=5)
    fitted = RandomForestRegressor(8, min_samples_leaf=4, random_state=5, n_jobs=1).fit(x.numpy(), y.numpy())
    new = torch.cat([toy(12, seed=1)[0], x[:5]])
    edges = forest.edges.numpy()
    bins = np.clip(np.searchsorted(edges, y.numpy(), side="right") - 1, 0, 127)
    expected = np.zeros((len(new), 128))
    for row, galaxy in enumerate(new.numpy()):
        for tree in fitted.estimators_:
            leaf = tree.apply(galaxy[None])[0]
            sharing = np.flatnonzero(tree.apply(x.numpy()) == leaf)
            for neighbour in sharing:
                expected[row, bins[neighbour]] += 1 / len(sharing) / 8
    counts = forest._counts(new)
    np.testing.assert_allclose(counts / counts.sum(1, keepdim=True), expected, atol=1e-6)
    # smoothing: a normal kernel in bins, every bin's share kept; then a thousandth of the marginal
    index = np.arange(128)
    kernel = np.exp(-0.5 * ((index[:, None] - index) / float(forest.bandwidth)) ** 2)
    smooth = expected @ (kernel / kernel.sum(1, keepdims=True))
    marginal = np.bincount(bins, minlength=128) + 0.5
    wanted = 0.999 * smooth + 0.001 * marginal / marginal.sum()
    np.testing.assert_allclose(forest(new).probabilities[0], wanted, atol=1e-6)


def test_the_forest_chooses_its_smoothing_from_the_data():
    x, _ = toy(300)
    sharp, broad = (RandomForest(FEATURES, trees=60) for _ in range(2))
    sharp.fit(x, 0.4 * (x[:, 0] - 9.5), seed=0)
    rng = np.random.default_rng(77)
    broad.fit(x, torch.tensor(rng.random(300), dtype=torch.float32), seed=0)
    assert sharp.bandwidth < broad.bandwidth


def test_the_mass_spline_is_scipys_least_squares_spline():
    x, y = toy(200)
    spline = MassSpline(FEATURES, knots=4)
    spline.fit(x, y, seed=0)
    order = np.argsort(x[:, 0].numpy(), kind="stable")
    mass, truth = x[order, 0].double().numpy(), y[order].double().numpy()
    inner = np.quantile(mass, [0.2, 0.4, 0.6, 0.8])
    knots = np.r_[[mass[0]] * 4, inner, [mass[-1]] * 4]
    location = make_lsq_spline(mass, truth, knots, 3)
    size = make_lsq_spline(mass, np.abs(truth - location(mass)) * np.sqrt(np.pi / 2), knots, 3)
    inside = np.r_[np.linspace(mass[0], mass[-1], 400), mass, inner]
    found = spline._predict(torch.tensor(np.stack([inside, inside], 1)))
    np.testing.assert_allclose(found[0], location(inside), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found[1], np.maximum(size(inside), 5e-3), rtol=0, atol=1e-10)
    beyond = torch.tensor([[mass[0] - 3, 7.0], [mass[-1] + 3, 7.0]])
    np.testing.assert_allclose(spline._predict(beyond)[0], location(mass[[0, -1]]), atol=1e-10)


def test_the_mass_spline_looks_at_mass_alone_wherever_it_stands():
    x, y = toy(200)
    first = MassSpline(FEATURES)
    first.fit(x, y, seed=0)
    swapped = MassSpline(FEATURES[::-1])
    swapped.fit(x.flip(1), y, seed=0)
    other_ages = torch.stack([x[:, 0], torch.full((200,), 8.0)], dim=1)
    np.testing.assert_allclose(first(other_ages).mean, first(x).mean)
    np.testing.assert_allclose(swapped(x.flip(1)).mean, first(x).mean, atol=1e-6)


def test_a_mass_shared_by_half_of_the_galaxies_does_not_break_the_spline():
    x, y = toy(200)
    x[:100, 0] = 10.0
    spline = MassSpline(FEATURES)
    spline.fit(x, y, seed=0)
    assert torch.isfinite(spline(x).mean).all()


def test_too_few_masses_for_the_knots_are_refused_in_words():
    x, y = toy(60)
    x[:, 0] = torch.tensor([10.0, 10.5, 11.0]).repeat(20)
    with pytest.raises(DataError, match="3 different stellar masses") as caught:
        MassSpline(FEATURES).fit(x, y, seed=0)
    assert "fewer knots" in caught.value.advice


@pytest.mark.parametrize("name", ["spline", "forest", "boosting"])
def test_baselines_learn_a_known_relation_with_known_scatter(name):
    x, y = toy(1500)
    estimator = make_estimator(name, FEATURES, **{"forest": {"trees": 60}, "boosting": {"rounds": 80}}.get(name, {}))
    assert isinstance(estimator, DirectEstimator)
    estimator.fit(x, y, seed=1)
    new, truth = toy(1000, seed=9)
    inside = (new[:, 0] > 10) & (new[:, 0] < 12)  # where clipping at 0 does not shape the errors
    found = estimator(new[inside])
    mean, stddev = found.mean[0], found.stddev[0]
    assert (mean - 0.3 * (new[inside, 0] - 9.5)).square().mean().sqrt() < 0.03
    np.testing.assert_allclose(stddev.mean(), 0.05, rtol=0.3)
    pit = found.cdf(truth[inside])[0]
    assert abs(float(((pit > 0.16) & (pit < 0.84)).float().mean()) - 0.68) < 0.08


def test_probability_beyond_the_borders_goes_to_the_outer_bins():
    """Slow twin: the empirical distribution of location + scale * residual, moved to the border where it is outside."""
    residuals = np.random.default_rng(4).standard_normal(20_000)
    shape = ResidualShape()
    shape.fit(torch.tensor(residuals), torch.ones(20_000), torch.full((20_000,), 0.5))
    locations = [0.03, 0.5, 0.98]
    found = shape(torch.tensor(locations), torch.full((3,), 0.1)).probabilities[0]
    edges = shape.edges.numpy()
    for row, location in enumerate(locations):
        moved = np.clip(location + 0.1 * residuals, 0, 1)
        wanted = 0.999 * np.histogram(moved, edges)[0] / 20_000 + 0.001 * shape.marginal.numpy()
        np.testing.assert_allclose(found[row].cumsum(0), wanted.cumsum(), atol=0.012)
    assert found[0, 0] > 0.3


@pytest.mark.parametrize("name", ["forest", "boosting"])
def test_fitting_twice_with_one_seed_gives_the_same_trees(name):
    x, y = toy(120)
    options = {"forest": {"trees": 5}, "boosting": {"rounds": 6}}[name]
    first, again, other = (make_estimator(name, FEATURES, **options) for _ in range(3))
    for estimator, seed in ((first, 3), (again, 3), (other, 4)):
        estimator.fit(x, y, seed)
    assert torch.equal(first(x).probabilities, again(x).probabilities)
    assert not torch.equal(first(x).probabilities, other(x).probabilities)


@pytest.mark.parametrize("change", ["missing", "unknown", "kind", "dimensions"])
def test_tensors_that_do_not_fit_are_refused(change):
    estimator = BoostedTrees(FEATURES)
    tensors = dict(estimator.state_dict())
    if change == "missing":
        tensors.pop("offsets")
    elif change == "unknown":
        tensors["more"] = torch.zeros(1)
    elif change == "kind":
        tensors["offsets"] = tensors["offsets"].float()
    else:
        tensors["location.value"] = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(RuntimeError):
        BoostedTrees(FEATURES).load_tensors(tensors)
