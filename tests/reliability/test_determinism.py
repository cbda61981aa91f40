"""R17: a galaxy's answer does not depend on its neighbours in the table, on batches, threads, or the run before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from galineage import prediction
from galineage.galaxy import Catalogue
from galineage.models import ESTIMATORS, PRESETS, DirectEstimator, make_estimator
from galineage.models.bundle import Bundle
from galineage.prediction import predict
from galineage.toy import make_toy
from galineage.training import TrainConfig, train

FEATURES = ("mstar", "age", "r_half")
JOINT = {"target": ("f_ex", "t_last_major"), "members": 2, "blocks": 2, "hidden": (16,), "condition": (16, 8)}
SMALL = {"forest": {"trees": 20}, "boosting": {"rounds": 30}, "spline": {}, "pool": {}}
TABLES = sorted(name for name, (kind, _) in PRESETS.items() if not ESTIMATORS[kind].sees_maps)
SMALL |= {name: JOINT for name, (kind, _) in PRESETS.items() if ESTIMATORS[kind].joint}
ROWS = 257


@pytest.fixture(scope="module")
def table():
    return make_toy("toy-a", ROWS, 3)


@pytest.fixture(scope="module")
def bundles(table):
    """A trained bundle of every preset, made when it is asked for."""
    found = {}

    def get(name):
        if name not in found:
            options = SMALL.get(name, {"members": 3})
            config = TrainConfig(max_epochs=4, batch_size=64, device="cpu", seed=2)
            found[name] = train(table, FEATURES, name, config=config, progress=False, **options)
        return found[name]

    return get


def answer(bundle, table):
    """Every number of a prediction, by column."""
    found = predict(bundle, table)
    return {name: np.ma.filled(found[name], np.nan) for name in found.colnames if found[name].dtype.kind in "fi"}


def assert_same(first, second, order=slice(None)):
    assert first.keys() == second.keys()
    for name, values in first.items():
        if name == "id":
            continue
        scale = max(1.0, float(np.nanmax(np.abs(values))))
        # the top of a peak is flat: in single precision its place is known to about the root of the rounding error
        tolerance = 2e-3 if name.endswith("_map") else 1e-6
        if name.endswith("_epistemic"):  # a small difference of means that are exact to 1e-6 themselves
            tolerance = 1e-5
        np.testing.assert_allclose(second[name], values[order], atol=tolerance * scale, rtol=0, err_msg=name)


@pytest.mark.parametrize("preset", TABLES)
def test_twice_the_same(bundles, table, preset, tally):
    first, second = answer(bundles(preset), table), answer(bundles(preset), table)
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values, err_msg=name)
    tally("R17", f"{preset} twice", "equal bit for bit")


@pytest.mark.parametrize("preset", TABLES)
def test_the_size_of_a_batch_does_not_matter(bundles, table, preset, monkeypatch, tally):
    whole = answer(bundles(preset), table)
    for size in (1, 64):
        monkeypatch.setattr(prediction, "_BATCH", size)
        rows = table.select(np.arange(ROWS) < (40 if size == 1 else ROWS))
        assert_same({name: values[: len(rows)] for name, values in whole.items()}, answer(bundles(preset), rows))
    tally("R17", f"{preset} batches of 1, 64 and {ROWS}", "equal to 1e-6")


@pytest.mark.parametrize("preset", TABLES)
def test_the_order_of_the_rows_does_not_matter(bundles, table, preset, rng, tally):
    order = rng.permutation(ROWS)
    shuffled = Catalogue(
        {name: table[name][order] for name in table.columns}, table.ids[order], table.domain[order], table.root[order]
    )
    assert_same(answer(bundles(preset), table), answer(bundles(preset), shuffled), order)
    tally("R17", f"{preset} shuffled", "equal to 1e-6")


@pytest.mark.parametrize("preset", TABLES)
def test_the_number_of_threads_does_not_matter(bundles, table, preset, monkeypatch, tally):
    monkeypatch.setattr(prediction, "_BATCH", 50)
    one = answer(bundles(preset), table)
    try:
        torch.set_num_threads(4)
        four = answer(bundles(preset), table)
    finally:
        torch.set_num_threads(1)
    assert_same(one, four)
    tally("R17", f"{preset} 1 and 4 threads", "equal to 1e-6")


@pytest.mark.parametrize("preset", TABLES)
def test_the_same_seed_trains_the_same_network(bundles, table, preset):
    bundle = bundles(preset)
    options = SMALL.get(preset, {"members": 3})
    config = TrainConfig(max_epochs=4, batch_size=64, device="cpu", seed=2)
    again = train(table, FEATURES, preset, config=config, progress=False, **options)
    for name, values in bundle.estimator.state_dict().items():
        assert torch.equal(values, again.estimator.state_dict()[name]), name
    if not isinstance(bundle.estimator, DirectEstimator):
        other = train(table, FEATURES, preset, config=replace(config, seed=3), progress=False, **options)
        assert any(
            not torch.equal(v, other.estimator.state_dict()[k]) for k, v in bundle.estimator.state_dict().items()
        )


def test_a_difference_would_be_seen(table):
    """An estimator that leaks its batch's mean into the answer fails the comparison."""
    estimator = make_estimator("mdn", FEATURES, members=1, hidden=(8,))
    estimator.fit_scaling(torch.as_tensor(table.features(FEATURES), dtype=torch.float32))
    bundle = Bundle(estimator.eval(), {"domains": ["toy-a"]})
    whole = answer(bundle, table)
    forward = estimator.forward
    estimator.forward = lambda context: forward(context + 1e-3 * context.mean(dim=-2, keepdim=True))
    with pytest.raises(AssertionError):
        assert_same(whole, answer(bundle, table))
