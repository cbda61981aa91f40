"""Ensembles whose members see different inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from galineage.errors import ConfigError
from galineage.models import every_subset, make_estimator
from galineage.models.bundle import Bundle, load, save
from galineage.posterior import Posterior
from galineage.training import TrainConfig, fit_estimator

FIVE = ("mstar", "metallicity", "age", "r_half", "spin")
THREE = ("mstar", "age", "metallicity")


def rows(n=12, seed=0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def test_the_pool_of_the_five_stellar_features_has_four_subsets():
    pool = make_estimator("pool", FIVE)
    assert pool.subsets == (
        FIVE,
        ("mstar", "age", "r_half", "spin"),
        ("mstar", "metallicity", "r_half", "spin"),
        ("mstar", "r_half", "spin"),
    )
    assert pool.members == 20
    assert make_estimator("pool", FIVE, members=5).members == 8
    assert make_estimator("pool", FIVE[:4], keep=("mstar",)).members == 40


def test_every_subset_holds_the_kept_ones_and_none_is_empty():
    found = every_subset(THREE, ())
    assert len(found) == len(set(found)) == 7
    assert all(found)
    assert every_subset(THREE, THREE) == (THREE,)
    assert every_subset(THREE, ("mstar", "spin")) == (THREE, ("mstar", "metallicity"), ("mstar", "age"), ("mstar",))
    with pytest.raises(ConfigError, match="256 subsets"):
        every_subset([f"x{i}" for i in range(8)], ())


@pytest.mark.parametrize("preset", ["mdn", "flow", "paper"])
def test_a_member_does_not_look_at_what_is_not_in_its_subset(preset):
    subsets = (THREE, ("mstar",), ("age", "metallicity"))
    estimator = make_estimator(preset, THREE, members=6, subsets=subsets).eval()
    x = rows()
    before = estimator(x).mean
    for column, name in enumerate(THREE):
        moved = x.clone()
        moved[:, column] += 2.0
        changed = (estimator(moved).mean != before).any(dim=1)
        assert changed.tolist() == [name in subsets[member % 3] for member in range(6)]


def test_training_never_lets_it_look_either():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 3)), rng.uniform(size=120)
    estimator = make_estimator("mdn", THREE, members=2, hidden=(8,), subsets=(THREE, ("mstar",)))
    start = estimator.network[0].weight.detach().clone()
    fit_estimator(estimator, x, y, TrainConfig(max_epochs=2, batch_size=32, device="cpu"), progress=False)
    moved = (estimator.network[0].weight != start).any(dim=2)
    assert moved.tolist() == [[True, True, True], [True, False, False]]


def test_with_all_features_in_each_subset_nothing_changes():
    plain = make_estimator("mdn", THREE, members=4, seed=3).eval()
    pool = make_estimator("mdn", THREE, members=4, seed=3, subsets=(THREE, THREE[::-1])).eval()
    assert torch.equal(pool(rows()).mean, plain(rows()).mean)


def test_a_missing_feature_is_still_refused_by_all_members():
    estimator = make_estimator("pool", THREE, members=4).eval()
    x = rows()
    x[3, 2] = torch.nan
    assert estimator(x).mean[:, 3].isnan().all()


def test_subsets_are_saved_and_models_without_them_have_no_such_setting(tmp_path):
    pool = make_estimator("pool", THREE, members=4, hidden=(8,)).eval()
    again = load(save(Bundle(pool), tmp_path / "pool")).estimator
    assert again.subsets == pool.subsets
    with torch.no_grad():
        assert torch.equal(again(rows()).mean, pool(rows()).mean)
    assert "seen" not in pool.state_dict()
    assert "subsets" not in make_estimator("mdn", THREE).settings()


def test_members_disagree_where_the_relation_of_features_has_changed():
    """Age repeats the mass in training; elsewhere it does not. Members that see one of them or the other disagree."""
    rng = np.random.default_rng(0)
    mass = rng.uniform(-1, 1, 600)
    x = np.stack([mass, mass + 0.05 * rng.normal(size=600), rng.normal(size=600)], axis=1)
    y = np.clip(0.5 + 0.3 * mass + 0.05 * rng.normal(size=600), 0, 1)
    pool = make_estimator("mdn", THREE, members=4, hidden=(16,), subsets=(("mstar",), ("age",)))
    config = TrainConfig(max_epochs=40, batch_size=64, learning_rate=0.01, device="cpu")
    fit_estimator(pool, x, y, config, progress=False)
    broken = x.copy()
    broken[:, 1] = -broken[:, 1]
    with torch.no_grad():
        inside, outside = (
            Posterior(pool(torch.as_tensor(part, dtype=torch.float32))).epistemic.mean() for part in (x, broken)
        )
    assert outside > 4 * inside


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsets": (("mstar",), ("age",)), "members": 5}, "5 members cannot share 2 subsets"),
        ({"subsets": (("mstar", "spin"),)}, "names what is no feature"),
        ({"subsets": (("mstar", "mstar"),)}, "a feature twice"),
        ({"subsets": ((),)}, "an empty one"),
        ({"subsets": ()}, "no subset"),
        ({"subsets": ("mstar",)}, "list of lists"),
    ],
)
def test_wrong_subsets_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_estimator("mdn", THREE, **options)


@pytest.mark.parametrize("options", [{"members": 0}, {"members": 2.5}, {"keep": "mstar"}])
def test_wrong_settings_of_the_pool_are_refused(options):
    with pytest.raises(ConfigError):
        make_estimator("pool", THREE, **options)
