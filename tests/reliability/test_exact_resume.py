"""R3: cut three times and resumed, a run ends bit for bit as the run never cut; nothing twice in its history."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from lines import FEATURES, Pull, draw, quick

from galineage.models import make_estimator
from galineage.training import fit_estimator
from galineage.training.checkpoint import Checkpoint

X, Y = draw(60)
FAR = draw(50, seed=4)[0]
WEIGHTS = np.random.default_rng(2).gamma(2.0, 1.0, len(X))
JOINT = ("f_ex", "t_last_major")
NETWORKS = {
    "mdn": {"hidden": (8,)},
    "flow": {"hidden": (8,)},
    "paper": {},
    "paper-bounded": {},
    "cinn": {"target": JOINT, "blocks": 2, "hidden": (8,), "condition": (8, 8)},
    "cinn-published": {"target": JOINT, "blocks": 2, "hidden": (8,), "condition": (8, 8)},
}
CUTS = {
    "before the first checkpoint": (1, "before"),
    "after the second checkpoint": (2, "after"),
    "in the middle of the run, an interval lost": (3, "before"),
}


class CutError(Exception):
    """Stands for a killed process."""


def targets(preset):
    """The target of `draw`; for joint models a merger time too, missing where the fraction is small."""
    if not preset.startswith("cinn"):
        return Y
    time = np.where(np.quantile(Y, 0.2) > Y, np.nan, 13 * (1 - Y))
    return np.stack([Y, time], axis=1)


def fit(folder, preset, extras):
    estimator = make_estimator(preset, FEATURES, members=2, seed=1, **NETWORKS[preset])
    more = {"weights": WEIGHTS} if "weights" in extras else {}
    if "alignment" in extras:
        more |= {"alignment": Pull(2, estimator.hidden[-1]), "unlabelled": FAR}
    result = fit_estimator(estimator, X, targets(preset), quick(), folder=folder, progress=False, **more)
    return estimator.state_dict(), result


def cut(monkeypatch, number, moment):
    """Raise at the ``number``-th checkpoint, before or after it is written."""
    write, count = Checkpoint.write, []

    def broken(self, path):
        count.append(path)
        if len(count) == number and moment == "before":
            raise CutError
        write(self, path)
        if len(count) == number:
            raise CutError

    monkeypatch.setattr(Checkpoint, "write", broken)


def epochs(folder):
    with open(folder / "history.csv", newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


CASES = [(preset, ()) for preset in NETWORKS]
CASES += [("mdn", ("weights", "alignment")), ("paper", ("weights", "alignment")), ("cinn", ("weights",))]


@pytest.mark.parametrize(
    ("preset", "extras"), CASES, ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
def test_resumed_is_unbroken(tmp_path, monkeypatch, tally, preset, extras):
    whole, expected = fit(None, preset, extras)
    for name, (number, moment) in CUTS.items():
        folder = tmp_path / name
        with monkeypatch.context() as patch:
            cut(patch, number, moment)
            with pytest.raises(CutError):
                fit(folder, preset, extras)
        resumed, result = fit(folder, preset, extras)
        assert resumed.keys() == whole.keys()
        for tensor, value in whole.items():
            assert torch.equal(resumed[tensor], value), f"{name}: {tensor}"
        assert result == expected, name
        rows = epochs(folder)
        assert [row["epoch"] for row in rows] == list(range(1, expected.epochs + 1)), "no epoch is missing or twice"
        assert rows == list(expected.history), name
    tally("R3", " + ".join((preset, *extras)), f"{len(CUTS)} cuts", "equal bit for bit, history whole")


def test_a_difference_would_be_seen(tmp_path, monkeypatch):
    """A checkpoint that forgets one random state does not pass."""
    whole, _ = fit(None, "mdn", ())
    with monkeypatch.context() as patch:
        cut(patch, 2, "after")
        with pytest.raises(CutError):
            fit(tmp_path, "mdn", ())
    read = Checkpoint.read

    def forgetful(path, expected):
        found = read(path, expected)
        found.tensors["torch_random"] = torch.random.get_rng_state()
        return found

    monkeypatch.setattr(Checkpoint, "read", forgetful)
    resumed, _ = fit(tmp_path, "mdn", ())
    assert any(not torch.equal(resumed[name], value) for name, value in whole.items())
