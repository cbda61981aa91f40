"""Table A1 of Angeloudi+2023 number by number, and members side by side equal to five plain torch networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from galineage.models import make_estimator
from galineage.models.layers import MemberBatchNorm, MemberDropout, MemberLinear
from galineage.training.optimiser import MemberAdam

EIGHT = ("mstar", "metallicity", "age", "r_half", "spin", "gas_mass", "dm_mass", "bh_mass")
MEMBERS = 5


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def numbers(layer):
    """Keras counts running statistics as parameters, and so does Table A1."""
    return sum(tensor.numel() for tensor in (*layer.parameters(), *layer.buffers()))


def test_the_published_network_has_the_published_number_of_parameters():
    network = make_estimator("paper", EIGHT, members=1)
    layers = [numbers(layer) for layer in network.network]
    assert [count for count in layers if count] == [288, 128, 528, 64, 272, 64, 34]
    assert network.count_parameters() == 1378
    assert network.count_parameters(trainable=True) == 1250
    many = make_estimator("paper", EIGHT, members=7)
    assert (many.count_parameters(), many.count_parameters(trainable=True)) == (1378, 1250)


@pytest.mark.parametrize("inputs", [5, 7])
def test_fewer_inputs_only_shrink_the_first_layer(inputs):
    network = make_estimator("paper", EIGHT[:inputs])
    missing = 32 * (8 - inputs)
    assert network.count_parameters() == 1378 - missing
    assert network.count_parameters(trainable=True) == 1250 - missing


def test_the_order_of_layers_is_dense_activation_normalisation_dropout():
    kinds = [type(layer).__name__ for layer in make_estimator("paper", EIGHT).network]
    block = ["MemberLinear", "ReLU", "MemberBatchNorm", "MemberDropout"]
    assert kinds == [*block, *block, *block, "MemberLinear"]


def plain_linear(layer, member):
    twin = nn.utils.skip_init(nn.Linear, *layer.weight.shape[1:])  # its own start would use the global random state
    twin.weight.data, twin.bias.data = layer.weight.data[member].T.clone(), layer.bias.data[member, 0].clone()
    return twin


def plain_norm(layer, member):
    twin = nn.BatchNorm1d(layer.weight.shape[2], momentum=0.01, eps=1e-3)  # Keras' 0.99 and 1e-3 in torch's words
    twin.weight.data, twin.bias.data = layer.weight.data[member, 0].clone(), layer.bias.data[member, 0].clone()
    twin.running_mean, twin.running_var = layer.running_mean[member, 0].clone(), layer.running_var[member, 0].clone()
    return twin


def plain_network(estimator, member):
    """The slow obvious twin: one member as an ordinary torch network, dropout left out."""
    layers = []
    for layer in estimator.network:
        if isinstance(layer, MemberLinear):
            layers.append(plain_linear(layer, member))
        elif isinstance(layer, MemberBatchNorm):
            layers.append(plain_norm(layer, member))
        elif not isinstance(layer, MemberDropout):
            layers.append(type(layer)())
    return nn.Sequential(*layers).train(estimator.training)


@pytest.fixture
def estimator():
    found = make_estimator("paper", EIGHT, members=MEMBERS, dropout=0.0, seed=4)
    for index, parameter in enumerate(found.parameters()):  # no weight may be left at a trivial 0 or 1
        parameter.data += 0.1 * draw(*parameter.shape, seed=index)
    return found


@pytest.mark.parametrize("own_rows", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_members_are_five_plain_networks(estimator, training, own_rows):
    estimator.train(training)
    twins = [plain_network(estimator, member) for member in range(MEMBERS)]
    for step in range(3):  # running statistics move from step to step
        x = draw(MEMBERS, 40, 8, seed=step) if own_rows else draw(40, 8, seed=step)
        together = estimator.network(estimator.scaled(x))
        alone = torch.stack([twin(x[member] if own_rows else x) for member, twin in enumerate(twins)])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    norms = [layer for layer in estimator.network if isinstance(layer, MemberBatchNorm)]
    for number, norm in enumerate(norms):
        mine = [[layer for layer in twin if isinstance(layer, nn.BatchNorm1d)][number] for twin in twins]
        torch.testing.assert_close(norm.running_mean[:, 0], torch.stack([twin.running_mean for twin in mine]))
        torch.testing.assert_close(norm.running_var[:, 0], torch.stack([twin.running_var for twin in mine]))
        assert (norm.running_mean.abs().sum() > 0) == training


def test_gradients_of_members_are_those_of_plain_networks(estimator):
    x = draw(MEMBERS, 40, 8)
    twins = [plain_network(estimator.train(), member) for member in range(MEMBERS)]
    estimator.network(x).square().mean(dim=(1, 2)).sum().backward()
    for member, twin in enumerate(twins):
        twin(x[member]).square().mean().backward()
        first, last = estimator.network[0], estimator.network[-1]
        torch.testing.assert_close(first.weight.grad[member], twin[0].weight.grad.T, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(last.weight.grad[member], twin[-1].weight.grad.T, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(last.bias.grad[member, 0], twin[-1].bias.grad, rtol=1e-4, atol=1e-6)


def test_gradient_clipping_is_that_of_torch_for_each_member_by_itself(estimator):
    # member 0 stays below the limit, the others exceed it by different factors
    scales = torch.tensor([1e-3, 0.1, 1.0, 10.0, 1e4]).view(-1, 1, 1)
    parameters = list(estimator.parameters())
    slopes = [draw(*parameter.shape, seed=index) * scales for index, parameter in enumerate(parameters)]
    wanted = []
    for member in range(MEMBERS):
        alone = [nn.Parameter(parameter.data[member]) for parameter in parameters]
        for one, slope in zip(alone, slopes, strict=True):
            one.grad = slope[member].clone()
        nn.utils.clip_grad_norm_(alone, 1.0)
        wanted.append(torch.cat([one.grad.flatten() for one in alone]))
    optimiser = MemberAdam(parameters, weight_decay=0.0, clip_norm=1.0)
    squares = optimiser.take(
        sum((slope * parameter).sum() for slope, parameter in zip(slopes, parameters, strict=True))
    )
    torch.testing.assert_close(optimiser.gradient, torch.stack(wanted))
    whole = torch.cat([slope.flatten(1) for slope in slopes], dim=1)
    torch.testing.assert_close(squares, whole.square().sum(1))
    assert torch.equal(optimiser.gradient[0], whole[0])


@pytest.mark.parametrize("shape", [(4, 3000, 8), (3, 1001, 5)], ids=["fast path", "odd size"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(shape, rate):
    layer = MemberDropout(rate).train()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        kept = layer(torch.ones(shape))
    dropped = (kept == 0).float()
    n = dropped[0].numel()
    tolerance = 5 * (rate * (1 - rate) / n) ** 0.5 + 1 / 256
    assert (dropped.mean(dim=(1, 2)) - rate).abs().max() < tolerance
    np.testing.assert_allclose(kept.mean(dim=(1, 2)), 1.0, atol=2 * tolerance)
    assert len(torch.unique(kept)) == 2
    # masks differ between members and between rows, and are not copies of each other shifted
    assert (dropped[0] != dropped[1]).float().mean() > rate / 2
    assert (dropped[:, 0] != dropped[:, 1]).any()
    pair = torch.corrcoef(dropped.flatten(1))
    assert (pair - torch.eye(len(pair))).abs().max() < 5 / n**0.5
    columns = torch.corrcoef(dropped.flatten(0, 1).T)
    assert (columns - torch.eye(len(columns))).abs().max() < 6 / dropped[..., 0].numel() ** 0.5


@pytest.mark.parametrize("rate", [1e-9, 0.997, 0.9999])
def test_dropout_survives_extreme_rates(rate):
    with torch.random.fork_rng():
        kept = MemberDropout(rate).train()(torch.ones(2, 100, 8))
    assert torch.isfinite(kept).all()


def test_dropout_is_silent_in_evaluation_and_at_rate_zero():
    x = draw(2, 16, 8)
    assert MemberDropout(0.5).eval()(x) is x
    assert MemberDropout(0.0).train()(x) is x


def test_published_initial_weights_cycle_through_the_authors_five():
    network = make_estimator("paper", EIGHT, members=6, seed=2)
    weight = network.network[4].weight  # 32 x 16, large enough to measure
    spread = weight.detach().std(dim=(1, 2))
    np.testing.assert_allclose(spread[[0, 1, 2, 5]], 0.2, rtol=0.15)
    assert (spread[[3, 4]] < 0.06).all()
    assert weight[3:5].abs().max() <= 0.1
    assert all((layer.bias == 0).all() for layer in network.network if isinstance(layer, MemberLinear))


def test_initial_weights_are_torchs_own_range_and_differ_between_members_and_seeds():
    network = make_estimator("mdn", EIGHT, members=3, seed=2)
    weight = network.network[0].weight
    assert weight.abs().max() <= 8**-0.5
    np.testing.assert_allclose(weight.detach().std(), 8**-0.5 / 3**0.5, rtol=0.05)
    assert not torch.equal(weight[0], weight[1])
    assert torch.equal(weight, make_estimator("mdn", EIGHT, members=3, seed=2).network[0].weight)
    assert not torch.equal(weight, make_estimator("mdn", EIGHT, members=3, seed=3).network[0].weight)
