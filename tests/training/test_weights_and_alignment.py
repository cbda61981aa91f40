"""What a run can be given beside rows and targets: weights, an alignment with unlabelled rows, several targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lines import FEATURES, Pull, draw, quick, tiny
from torch import nn
from torch.distributions import Independent, Normal

from galineage.errors import ConfigError, DataError, TrainingError
from galineage.models import Estimator, make_estimator
from galineage.models.layers import MemberLinear
from galineage.training import fit_estimator
from galineage.training.optimiser import MemberAdam
from galineage.training.rows import member_rows

X, Y = draw(80)
OTHER = draw(50, seed=4)[0] + 0.3


def fit(estimator=None, x=X, y=Y, **options):
    extras = {name: options.pop(name) for name in ("weights", "alignment", "unlabelled", "groups") if name in options}
    estimator = estimator or tiny()
    return estimator, fit_estimator(estimator, x, y, quick(**options), progress=False, **extras)


def same(first, second):
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


# --- weights ------------------------------------------------------------------------------------------------------


def test_equal_weights_of_any_size_are_no_weights():
    plain, expected = fit()
    for size in (1.0, 0.25):
        weighted, result = fit(weights=np.full(80, size))
        assert result.best_epoch == expected.best_epoch
        assert result.best_loss == pytest.approx(expected.best_loss, rel=1e-5)
        torch.testing.assert_close(weighted.network[0].weight, plain.network[0].weight, rtol=1e-4, atol=1e-6)


def test_a_row_of_weight_zero_teaches_nothing():
    """Its target may be anything."""
    weights = np.where(np.arange(80) % 3 == 0, 0.0, 1.0)
    spoiled = np.where(weights == 0, 1 - Y, Y)
    first, expected = fit(weights=weights)
    second, result = fit(y=spoiled, weights=weights)
    assert result == expected
    assert same(first, second)


def test_the_validation_loss_is_the_weighted_mean():
    weights = np.random.default_rng(0).uniform(0.1, 4, 80)
    estimator, result = fit(weights=weights, max_epochs=1)
    _, rows = member_rows(80, None, 3, quick())
    x, y = (torch.as_tensor(part, dtype=torch.float32) for part in (X, Y))
    with torch.no_grad():
        losses = -estimator(x[rows]).log_prob(y[rows])
    w = torch.as_tensor(weights)[rows]
    expected = (losses * w).sum(1) / w.sum(1)
    assert result.best_loss == pytest.approx(expected.tolist(), rel=1e-5)


def test_weights_move_the_answer_to_the_heavy_rows():
    x = np.stack([np.linspace(9, 12, 200), np.tile([1.0, 2.0], 100)], axis=1)
    y = np.where(np.arange(200) % 4 < 2, 0.2, 0.8)
    middles = []
    for heavy in (0.2, 0.8):
        weights = np.where(y == heavy, 9.0, 1.0)
        estimator, _ = fit(tiny(preset="paper"), x, y, weights=weights, max_epochs=40, learning_rate=0.02)
        with torch.no_grad():
            middles.append(float(estimator(torch.as_tensor(x, dtype=torch.float32)).mean.mean()))
    assert middles[0] < 0.35
    assert middles[1] > 0.65


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(79), r"weights have shape \(79,\)"),
        (np.ones((80, 1)), r"weights have shape \(80, 1\)"),
        (np.where(np.arange(80) == 7, -1.0, 1.0), "1 weights are negative or not finite"),
        (np.where(np.arange(80) == 7, np.nan, 1.0), "1 weights are negative or not finite"),
        (np.zeros(80), "all weights are zero"),
        (np.where(np.arange(80) == 7, 1.0, 0.0), "rows of a member have weight zero"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        fit(weights=weights)


# --- alignment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["mdn", "paper", "flow"])
def test_answer_of_represent_is_forward(preset):
    estimator = tiny(preset=preset, hidden=(8, 6)).eval()
    x = torch.as_tensor(X, dtype=torch.float32)
    hidden = estimator.represent(x)
    assert hidden.shape == (3, 80, 6)
    y = torch.as_tensor(Y, dtype=torch.float32)
    assert torch.equal(estimator.answer(hidden).log_prob(y), estimator(x).log_prob(y))


def test_the_penalty_joins_the_loss_and_its_weights_are_trained():
    _, expected = fit()
    pull = Pull()
    start = pull.direction.detach().clone()
    estimator, result = fit(alignment=pull, unlabelled=OTHER)
    assert not torch.equal(pull.direction, start)
    assert result.history[0]["penalty"] > 0
    assert "penalty" not in expected.history[0]
    assert [row["val_loss"] for row in result.history] != [row["val_loss"] for row in expected.history]
    shapes = {(source, target) for source, target, _ in pull.seen}
    assert shapes == {((3, 32, 8), (3, 32, 8))}
    progress = [part for _, _, part in pull.seen]
    assert progress == sorted(progress)
    assert progress[0] == 0
    assert 1 - 1 / 9 < progress[-1] < 1
    assert not estimator.training


def test_a_strong_penalty_brings_the_representations_together():
    def distance(estimator):
        with torch.no_grad():
            own, other = (estimator.represent(torch.as_tensor(x, dtype=torch.float32)) for x in (X, OTHER))
            return float(((own.mean(1) - other.mean(1)).unsqueeze(1) @ Pull().direction).square().mean())

    class Fixed(Pull):
        def __init__(self):
            super().__init__()
            self.direction.requires_grad_(requires_grad=False)

        def penalty(self, source, target, progress):
            return super().penalty(source, target, 1.0)

    free, _ = fit(max_epochs=40)
    pulled = tiny()
    alignment = Fixed()
    alignment.strength = 100.0
    fit(pulled, alignment=alignment, unlabelled=OTHER, max_epochs=40)
    assert distance(pulled) < 0.5 * distance(free)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alignment": Pull()}, ConfigError, "unlabelled rows must be given too"),
        ({"unlabelled": OTHER}, ConfigError, "an alignment must be given too"),
        ({"alignment": Pull(), "unlabelled": OTHER[:, :1]}, DataError, r"unlabelled features have shape \(50, 1\)"),
        ({"alignment": Pull(), "unlabelled": OTHER[:0]}, DataError, r"unlabelled features have shape \(0, 2\)"),
        ({"alignment": Pull(), "unlabelled": OTHER * np.nan}, DataError, "unlabelled set that is not finite"),
    ],
)
def test_an_alignment_that_cannot_be_used_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        fit(**options)


def test_estimators_that_cannot_use_weights_or_an_alignment_say_so():
    for options in ({"weights": np.ones(80)}, {"alignment": Pull(), "unlabelled": OTHER}):
        with pytest.raises(ConfigError, match="'spline' is trained without"):
            fit(make_estimator("spline", FEATURES), **options)


# --- several targets ----------------------------------------------------------------------------------------------


class Pair(Estimator):
    """Two targets; NaN in the second is allowed and costs nothing."""

    kind = "pair"

    def __init__(self, members=3):
        super().__init__(FEATURES, "f_ex", members)
        self.layer = MemberLinear(members, 2, 2)
        self.layer.reset(torch.Generator().manual_seed(1))
        self.register_buffer("middle", torch.zeros(2))

    def settings(self):
        return {"members": self.members}

    def check_targets(self, y):
        if y.ndim != 2 or np.isnan(y[:, 0]).any():
            raise DataError("the first target is missing")

    def fit_targets(self, y):
        self.middle.copy_(y.nanmean(dim=0))

    def forward(self, context):
        return PairDistribution(self.layer(self.scaled(context)) + self.middle)


class PairDistribution:
    def __init__(self, loc):
        self.loc = loc

    def log_prob(self, value):
        known = ~value.isnan()
        parts = Normal(self.loc, 1.0, validate_args=False).log_prob(torch.where(known, value, 0.0))
        return torch.where(known, parts, 0.0).sum(-1)


def test_several_targets_with_missing_values_go_through_if_the_estimator_takes_them():
    y = np.stack([Y, np.where(np.arange(80) % 4 == 0, np.nan, 5 + X[:, 1])], axis=1)
    estimator, result = fit(Pair(), y=y, max_epochs=60, learning_rate=0.05)
    assert np.isfinite(result.best_loss).all()
    with torch.no_grad():
        found = estimator(torch.as_tensor(X, dtype=torch.float32)).loc.mean(0)
    known = np.isfinite(y[:, 1])
    np.testing.assert_allclose(found[known, 1], y[known, 1], atol=0.5)
    assert estimator.middle[1] == pytest.approx(np.nanmean(y[:, 1]), rel=1e-5)
    with pytest.raises(DataError, match="first target is missing"):
        fit(Pair(), y=y * np.nan)
    with pytest.raises(DataError, match=r"target has shape \(80, 2\)"):
        fit(tiny(), y=y)


def test_independent_targets_are_the_same_as_a_torch_distribution():
    loc = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    expected = Independent(Normal(loc, 1.0), 1).log_prob(torch.zeros(5, 2))
    torch.testing.assert_close(PairDistribution(loc).log_prob(torch.zeros(5, 2)), expected)


# --- the learning rate --------------------------------------------------------------------------------------------


def test_the_learning_rate_of_an_epoch_is_that_of_the_settings(monkeypatch):
    seen = []
    step = MemberAdam.step

    def watched(self, rate):
        seen.append(rate)
        return step(self, rate)

    monkeypatch.setattr(MemberAdam, "step", watched)
    fit(max_epochs=5, lr_decay=0.5, lr_decay_every=2, batch_size=80)
    assert seen == pytest.approx([3e-3, 3e-3, 1.5e-3, 1.5e-3, 0.75e-3])


# --- the optimiser ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_optimiser_is_torchs_adam_of_each_member(weight_decay):
    shapes = [(3, 4, 2), (3, 1, 2), (3, 5)]
    generator = torch.Generator().manual_seed(0)
    mine = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    others = [[nn.Parameter(part.data[member].clone()) for part in mine] for member in range(3)]
    optimiser = MemberAdam(mine, weight_decay, clip_norm=0.7)
    twins = [torch.optim.Adam(parts, weight_decay=weight_decay) for parts in others]

    def loss(parts, target):
        return sum(((part - target) ** 4).sum() for part in parts)

    for step in range(20):
        rate, target = 0.1 * 0.9**step, torch.randn((), generator=generator)
        optimiser.take(loss(mine, target))
        optimiser.step(rate)
        for twin, parts in zip(twins, others, strict=True):
            twin.zero_grad()
            loss(parts, target).backward()
            nn.utils.clip_grad_norm_(parts, 0.7)
            twin.param_groups[0]["lr"] = rate
            twin.step()
    for index, part in enumerate(mine):
        for member in range(3):
            torch.testing.assert_close(part[member], others[member][index], rtol=1e-4, atol=1e-5)


def test_a_weight_that_the_loss_does_not_reach_stays():
    used, unused = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2, 4))
    optimiser = MemberAdam([used, unused], 0.0, 1.0)
    squares = optimiser.take((used**2).sum())
    optimiser.step(0.1)
    assert squares.tolist() == [12, 12]
    assert (used < 1).all()
    assert (unused == 1).all()


# --- faults -------------------------------------------------------------------------------------------------------


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_reaches_the_weights(tmp_path):
    class Steep(Pull):
        def penalty(self, source, target, progress):
            value = super().penalty(source, target, progress)
            if progress > 0.5:  # the square root's slope at 0
                root = (0 * self.direction[1].sum()).sqrt()
                value = value + torch.stack([0 * root.detach(), root, 0 * root.detach()])
            return value

    estimator, extras = tiny(), {"alignment": Steep(), "unlabelled": OTHER, "folder": tmp_path}
    with pytest.raises(TrainingError, match="the gradient of member 1 is nan") as caught:
        fit_estimator(estimator, X, Y, quick(checkpoint_every=1), progress=False, **extras)
    assert caught.value.where == "epoch 6"
    assert all(torch.isfinite(value).all() for value in estimator.state_dict().values())
