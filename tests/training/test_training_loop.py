"""The one training loop: that it learns, stops, repeats itself, and treats members as if each were alone."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import FEATURES, draw, quick, tiny, truth
from scipy import stats
from torch import nn

from galineage.errors import ConfigError, DataError, TrainingError
from galineage.models import GaussianHead, make_estimator
from galineage.models.layers import MemberLinear
from galineage.posterior import Posterior
from galineage.training import TrainConfig, fit_estimator
from galineage.training.rows import member_rows


def weights(estimator):
    return {name: value.clone() for name, value in estimator.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_known_conditional_is_learnt_to_its_own_noise():
    """Nothing predicts better than the truth: the negative log likelihood comes close to it, and PIT is uniform."""
    x, y = draw(4000)
    estimator = make_estimator("mdn", FEATURES, members=3, hidden=(48, 48), dropout=0.05)
    config = TrainConfig(max_epochs=40, patience=10, batch_size=128, learning_rate=4e-3, device="cpu")
    fit_estimator(estimator, x, y, config, progress=False)
    new, target = draw(3000, seed=1)
    target = torch.as_tensor(target, dtype=torch.float32)
    with torch.no_grad():
        posterior = Posterior(estimator(torch.as_tensor(new, dtype=torch.float32)))
    best = float(-truth(new).log_prob(target).mean())
    assert best < float(-posterior.log_prob(target).mean()) < best + 0.04
    pit = posterior.cdf(target).numpy()
    assert stats.kstest(pit, "uniform").statistic < 0.04
    # the width is learnt too, not only the location
    assert np.corrcoef(posterior.aleatoric, truth(new).stddev)[0, 1] > 0.97
    assert (posterior.mean - truth(new).mean).abs().mean() < 0.015


def plain_member(estimator, member):
    layers = []
    for layer in estimator.network:
        if isinstance(layer, MemberLinear):
            twin = nn.utils.skip_init(nn.Linear, *layer.weight.shape[1:])
            twin.weight.data, twin.bias.data = layer.weight.data[member].T.clone(), layer.bias.data[member, 0].clone()
            layers.append(twin)
        elif isinstance(layer, nn.ReLU):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def plain_training(network, head, z, y, rows, batches, config):
    """The slow obvious twin: one member, plain torch modules, Adam and clipping; early stopping as Keras has it."""
    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate, foreach=False, fused=False)
    best, best_loss, waited = None, np.inf, 0
    for epoch in batches:
        for batch in epoch:
            optimiser.zero_grad()
            loss = -head.distribution(network(z[batch])).log_prob(y[batch]).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimiser.step()
        with torch.no_grad():
            loss = float(-head.distribution(network(z[rows])).log_prob(y[rows]).mean())
        waited += 1
        if loss < best_loss:
            best, best_loss, waited = weights(network), loss, 0
        if waited >= config.patience:
            break
    return best, best_loss


@pytest.mark.parametrize(
    "batch_size", [32, 44, 70], ids=["last batch kept", "half a batch left out", "small rest left out"]
)
def test_three_members_together_are_three_members_alone(batch_size):
    x, y = draw(100)
    config = quick(batch_size=batch_size, max_epochs=12, patience=4, learning_rate=0.03, clip_norm=0.5)
    estimator = tiny(dropout=0.0)
    twins = [plain_member(estimator, member) for member in range(3)]
    rows = torch.as_tensor(x, dtype=torch.float32)
    z = ((rows.double() - rows.double().mean(0)) / rows.double().std(0, unbiased=False)).float()
    target = torch.as_tensor(y, dtype=torch.float32)
    train_rows, valid_rows = member_rows(100, None, 3, config)
    assert train_rows.shape == (3, 88)
    shuffle = torch.Generator().manual_seed(config.seed)
    batches = [[], [], []]
    for _ in range(config.max_epochs):
        for member in range(3):
            order = train_rows[member][torch.randperm(88, generator=shuffle)]
            parts = order.split(batch_size)
            batches[member].append([part for part in parts if len(part) > batch_size // 2])
    result = fit_estimator(estimator, x, y, config, progress=False)
    dense = [layer for layer in estimator.network if isinstance(layer, MemberLinear)]
    for member, twin in enumerate(twins):
        best, loss = plain_training(twin, estimator.head, z, target, valid_rows[member], batches[member], config)
        assert result.best_loss[member] == pytest.approx(loss, abs=1e-4)
        for layer, name in zip(dense, ("0", "2"), strict=True):
            torch.testing.assert_close(layer.weight[member].T, best[f"{name}.weight"], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(layer.bias[member, 0], best[f"{name}.bias"], rtol=1e-3, atol=1e-4)


def keras_early_stopping(losses, patience):
    best, best_epoch = np.inf, 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, best_epoch = loss, epoch
        elif epoch - best_epoch >= patience:
            break
    return best_epoch, best


def test_every_member_keeps_its_own_best_epoch():
    x, y = draw(90)
    config = quick(max_epochs=60, patience=3, learning_rate=0.05)
    estimator = tiny(members=4)
    result = fit_estimator(estimator, x, y, config, progress=False)
    assert [row["epoch"] for row in result.history] == list(range(1, result.epochs + 1))
    for member in range(4):
        losses = [row[f"val_loss_{member}"] for row in result.history]
        assert (result.best_epoch[member], result.best_loss[member]) == keras_early_stopping(losses, 3)
    assert len(set(result.best_epoch)) > 1, "the test needs members that stop at different epochs"
    assert result.epochs == max(result.best_epoch) + 3 < 60
    # the weights kept are those of that epoch: a run that ends there has them as its last
    for member, epoch in enumerate(result.best_epoch):
        shorter = tiny(members=4)
        fit_estimator(shorter, x, y, quick(max_epochs=epoch, patience=3, learning_rate=0.05), progress=False)
        for name, value in shorter.network.state_dict().items():
            assert torch.equal(value[member], estimator.network.state_dict()[name][member])


def test_a_run_ends_at_its_last_epoch():
    result = fit_estimator(tiny(), *draw(60), quick(max_epochs=3, patience=100), progress=False)
    assert result.epochs == len(result.history) == 3


def test_the_estimator_is_left_ready_for_use():
    estimator = tiny()
    x, y = draw(60)
    fit_estimator(estimator, x, y, quick(), progress=False)
    assert not estimator.training
    np.testing.assert_allclose(estimator.center, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(estimator.spread, x.std(0), rtol=1e-5)


@pytest.mark.parametrize("preset", ["mdn", "paper", "flow"])
def test_one_seed_gives_one_result_and_global_random_state_is_left_alone(preset):
    x, y = draw(80)
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (tiny(preset=preset) for _ in range(3))
    results = [fit_estimator(one, x, y, quick(max_epochs=3), progress=False) for one in (first, again)]
    fit_estimator(other, x, y, quick(max_epochs=3, seed=6), progress=False)
    assert results[0] == results[1]
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_the_result_does_not_depend_on_what_was_drawn_before():
    x, y = draw(60)
    first, second = tiny(), tiny()
    fit_estimator(first, x, y, quick(max_epochs=2), progress=False)
    with torch.random.fork_rng():
        torch.rand(17)
        fit_estimator(second, x, y, quick(max_epochs=2), progress=False)
    assert same(weights(first), weights(second))


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 12), min_size=20, max_size=80).filter(lambda values: len(set(values)) > 1),
    members=st.integers(1, 4),
    shared=st.booleans(),
    fraction=st.floats(0.01, 0.9),
    seed=st.integers(0, 10**6),
)
def test_groups_never_straddle_training_and_validation(labels, members, shared, fraction, seed):
    groups = np.array([f"root {label}" for label in labels])
    config = TrainConfig(validation=fraction, validation_split="shared" if shared else "own", seed=seed)
    train, valid = member_rows(len(groups), groups, members, config)
    assert train.shape[0] == valid.shape[0] == members
    assert train.shape[1] >= 1
    assert valid.shape[1] >= 1
    for mine, held in zip(train.numpy(), valid.numpy(), strict=True):
        assert not set(groups[mine]) & set(groups[held])
        assert len(set(mine)) == len(mine)
        assert len(set(held)) == len(held)
    if shared:
        assert (train == train[0]).all()
        assert (valid == valid[0]).all()


def test_members_of_their_own_validation_see_all_galaxies_together():
    _, valid = member_rows(500, None, 5, TrainConfig(validation=0.2))
    assert valid.shape == (5, 100)
    held_by_all = set.intersection(*(set(rows.tolist()) for rows in valid))
    assert len(held_by_all) < 3


class Poisoned(GaussianHead):
    """Turns the outputs of one member into NaN from one call on."""

    calls = 0

    def distribution(self, raw):
        type(self).calls += 1
        if type(self).calls >= self.first:
            raw = raw.clone()
            raw[1] = torch.nan
        return super().distribution(raw)


def poisoned(first):
    estimator = tiny()
    estimator.head = type("Head", (Poisoned,), {"first": first, "calls": 0})()
    estimator.network[-1] = MemberLinear(3, 8, 2)
    estimator.network[-1].reset(torch.Generator().manual_seed(0))
    return estimator


def test_a_loss_that_is_not_finite_ends_the_run_and_names_epoch_and_member():
    # 80 rows, 70 to train on, batches of 32 and 32 and validation: three calls an epoch
    with pytest.raises(TrainingError, match="loss of member 1 is nan") as caught:
        fit_estimator(poisoned(7), *draw(80), quick(), progress=False)
    assert caught.value.where == "epoch 3"
    assert "learning_rate" in caught.value.advice


def test_a_member_that_was_never_valid_is_an_error_not_an_untrained_network():
    estimator = tiny(preset="paper")
    forward = estimator.forward

    def only_while_training(context):
        return forward(context if estimator.training else context * torch.nan)

    estimator.forward = only_while_training
    with pytest.raises(TrainingError, match="member 0 was never finite"):
        fit_estimator(estimator, *draw(80), quick(max_epochs=2), progress=False)


def change(x, y, **changes):
    return {"x": x, "y": y, "groups": None, **changes}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (change(*draw(19)), "only 19 galaxies"),
        (change(np.zeros((0, 2)), np.zeros(0)), "only 0 galaxies"),
        (change(draw(30)[0], draw(29)[1]), "shape"),
        (change(draw(30)[0][:, 0], draw(30)[1]), "shape"),
        (change(draw(30)[0][:, :1], draw(30)[1]), "features of shape"),
        (change(np.where(np.arange(30) == 7, np.nan, draw(30)[0].T).T, draw(30)[1]), "feature that is not finite"),
        (change(draw(30)[0], np.where(np.arange(30) == 7, np.inf, 0.5)), "target that is not finite"),
        (change(draw(30)[0], np.where(np.arange(30) == 7, 1.2, 0.5)), "impossible f_ex"),
        (change(draw(30)[0] * [1, 0], draw(30)[1]), "'age' has one single value"),
        (change(*draw(30), groups=np.arange(29)), "29 group labels"),
        (change(*draw(30), groups=np.zeros(30)), "one group"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_in_words(data, message):
    with pytest.raises(DataError, match=message) as caught:
        fit_estimator(tiny(), data["x"], data["y"], quick(), groups=data["groups"], progress=False)
    if "30" not in message and "row" in (caught.value.where or ""):
        assert "row 7" in caught.value.where


@pytest.mark.parametrize("preset", ["spline", "forest", "boosting"])
def test_baselines_go_through_the_same_door(preset):
    options = {"forest": {"trees": 5}, "boosting": {"rounds": 5}}.get(preset, {})
    estimator = make_estimator(preset, FEATURES, **options)
    result = fit_estimator(estimator, *draw(80), quick(), progress=False)
    assert result.best_epoch == ()
    assert result.epochs == 0
    with pytest.raises(DataError, match="impossible"):
        fit_estimator(estimator, draw(80)[0], draw(80)[1] + 2, quick(), progress=False)


def test_history_is_a_table_and_goes_to_tensorboard_too(tmp_path):
    pytest.importorskip("tensorboard")
    x, y = draw(60)
    result = fit_estimator(tiny(), x, y, quick(max_epochs=3), folder=str(tmp_path / "run"), progress=False)
    with open(tmp_path / "run" / "history.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == list(result.history)
    assert list(rows[0]) == ["epoch", "train_loss", "val_loss", "val_loss_0", "val_loss_1", "val_loss_2"]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_large_targets_need_an_unbounded_head():
    with pytest.raises(ConfigError, match="not a fraction") as caught:
        make_estimator("mdn", FEATURES, "t_last_major")
    assert "paper" in caught.value.advice
    estimator = make_estimator("paper", FEATURES, "t_last_major", members=2)
    x, y = draw(200)
    fit_estimator(estimator, x, 13 * y, quick(max_epochs=60, learning_rate=0.02), progress=False)
    with torch.no_grad():
        posterior = Posterior(estimator(torch.as_tensor(x, dtype=torch.float32)))
    assert float(posterior.quantile([0.84]).max()) > 4, "quantiles are searched where the members are"
