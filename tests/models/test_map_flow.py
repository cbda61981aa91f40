"""Several targets at once from maps: learned together, by members of their own, saved and asked as any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_views import Held

import galineage
from galineage.errors import ConfigError, DataError
from galineage.galaxy import Catalogue
from galineage.joint_posterior import JointPosterior
from galineage.models import make_estimator
from galineage.training import MapTrainConfig, train

TARGETS = ("f_ex", "t_last_major", "mstar_last_major")
QUICK = MapTrainConfig(max_epochs=25, batch_size=32, device="cpu", precision="float32", learning_rate=4e-3)


def views(n=400, seed=0):
    """Maps whose width tells the fraction, and whose rotation the time of a merger; one in eight had none."""
    rng = np.random.default_rng(seed)
    f_ex, time = rng.uniform(0.05, 0.95, n), rng.uniform(1, 12, n)
    never = rng.uniform(size=n) < 0.125
    y, x = np.mgrid[:16, :16] + 0.5 - 8
    mass = np.exp(-np.hypot(x, y)[None] / (1 + 4 * f_ex[:, None, None])) * np.where(never, -1, 1)[:, None, None]
    spin = x[None] / 8 * (time[:, None, None] / 6)
    maps = np.stack([mass, spin], axis=1) + 0.05 * rng.standard_normal((n, 2, 16, 16))
    columns = {
        "f_ex": f_ex,
        "t_last_major": np.where(never, np.nan, time),
        "mstar_last_major": np.where(never, np.nan, 1e10 * f_ex),
        "mstar": np.full(n, 1e11),
    }
    return Catalogue(columns, np.arange(n), np.asarray("made"), np.arange(n).astype(str), maps=Held(maps.astype("f4")))


@pytest.fixture(scope="module")
def bundle():
    flow = {"coupling": "spline", "blocks": 3, "hidden": (32,), "condition": (32, 16)}
    return train(views(), model="maps-cinn", target=TARGETS, members=2, flow=flow, widths=(16, 16), config=QUICK,
                 progress=False)  # fmt: skip


def test_all_targets_are_learned(bundle):
    test = views(200, seed=5)
    table = galineage.predict(bundle, test)
    known = np.isfinite(test["t_last_major"])
    assert np.corrcoef(table["fexsitu_p50"], test["f_ex"])[0, 1] > 0.9
    assert np.corrcoef(table["t_last_major_p50"][known], test["t_last_major"][known])[0, 1] > 0.8
    assert table["p_no_major"][~known].mean() > table["p_no_major"][known].mean() + 0.3


def test_what_one_draw_says_of_two_targets_belongs_together(bundle):
    """The merger's mass is a tenth of the fraction's number: so it is in each draw, not only on the average."""
    with torch.no_grad():
        found = JointPosterior(bundle.estimator(bundle.estimator.inputs(views(50, seed=6))[0:50]), 400)
    fraction, mass = found.samples[..., 0], np.log10(found.samples[..., 2])
    inside = [
        np.corrcoef(fraction[:, i][np.isfinite(mass[:, i])], mass[:, i][np.isfinite(mass[:, i])])[0, 1]
        for i in range(50)
        if np.isfinite(mass[:, i]).sum() > 100
    ]
    assert np.median(inside) > 0.3


def test_members_are_what_they_are_alone(bundle):
    estimator, test = bundle.estimator, views(20, seed=7)
    context = estimator.inputs(test)[0:20]
    y = torch.tensor(np.stack([test[name] for name in TARGETS], axis=1), dtype=torch.float32)
    with torch.no_grad():
        together = estimator(context).log_prob(y)
        for member in range(2):
            torch.testing.assert_close(estimator.member(member, context).log_prob(y), together[member : member + 1])
    assert not torch.allclose(together[0], together[1])


def test_evaluation_saving_and_loading(bundle, tmp_path):
    test = views(120, seed=8)
    found = galineage.evaluate(bundle, test)
    assert found.joint is not None
    assert found.joint.targets == TARGETS
    galineage.save(bundle, tmp_path / "bundle")
    again = galineage.load(tmp_path / "bundle")
    one, other = (galineage.predict(item, test) for item in (bundle, again))
    for name in one.colnames:
        if one[name].dtype.kind == "f":
            np.testing.assert_array_equal(one[name], other[name])


def test_alignment_and_weights_work_as_for_one_target():
    short = replace(QUICK, max_epochs=2)
    other = views(60, seed=3)
    made = train(views(100), model="maps-cinn", target=TARGETS, members=1, widths=(8, 8), config=short, alignment="mmd",
                 unlabelled=other, weights=np.linspace(0.5, 1.5, 100), progress=False)  # fmt: skip
    assert made.card["alignment"]["kind"] == "mmd"


def test_what_is_wrong_is_refused():
    with pytest.raises(ConfigError, match="no head"):
        make_estimator("maps-cinn", (), TARGETS, head={"kind": "bounded"})
    with pytest.raises(ConfigError):
        make_estimator("maps-cinn", (), TARGETS, flow={"colour": 3})
    with pytest.raises(ConfigError, match="maps-cinn"):
        make_estimator("maps", (), TARGETS)
    with pytest.raises(DataError, match="maps of shape"):
        make_estimator("maps-cinn", (), TARGETS, pixels=16)(torch.zeros(3, 5, 8, 8))
