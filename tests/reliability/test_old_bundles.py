"""R19: bundles of every released format load, and answer as they did when they were written.

The fixtures were written by ``tests/fixtures/make_bundles.py`` with the code of that release, and are never renewed,
with one exception: predicted columns and flags of the joint ones of format 2, whose draws became points of a Sobol
sequence before that format was released; their seeded samples are those of the day.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from make_bundles import answers

from galineage.models.bundle import FORMAT, card_text, load, save

FIXTURES = Path(__file__).parents[1] / "fixtures" / "bundles"
BUNDLES = sorted(path.parent for path in FIXTURES.glob("format-*/*/bundle.json"))
# Processors round differently: with four instruction sets 1.1e-6 was seen, and 6e-6 in the thin tails of a divided
# density. The mode of a density is as exact as the top of its peak is flat, and members' disagreement a small
# difference of means. Shifts of maps: spreads in rings were single-precision differences when these were written.
NEAR, NEAR_MAP, NEAR_EPISTEMIC, NEAR_SHIFT = 3e-6, 1e-3, 1e-5, 1e-5
KINDS = {"maps": {"shift": 1e-4}, "maps-cinn": {"shift": 1e-4}, "prior-corrected": {"": 2e-5, "shift": 1e-4}}


def near(name, kind):
    """How near an answer must be to the one stored, relative to the largest of its column."""
    special = KINDS.get(kind, {})
    if name == "predicted shift":
        return special.get("shift", NEAR_SHIFT)
    if name == "map":
        return NEAR_MAP
    return max(special.get("", NEAR), NEAR_EPISTEMIC if name.endswith("_epistemic") else 0)


def compare(found, expected, kind=""):
    """Compare answers with those stored; later versions may say more."""
    assert found.keys() >= expected.keys()
    for name, values in expected.items():
        before, now = (np.array(item, dtype=float) for item in (values, found[name]))
        tolerance = near(name, kind) * max(1.0, float(np.nanmax(np.abs(before))))
        np.testing.assert_allclose(now, before, atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_released_bundle_answers_as_it_did(folder, tally):
    expected = json.loads((folder / "expected.json").read_text())
    bundle = load(folder)
    compare(answers(bundle), expected, folder.name)
    assert bundle.name in card_text(bundle)
    tally("R19", f"{folder.parent.name} {folder.name}", "loads, same quantiles, same seeded samples")


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_released_bundle_saved_again_still_answers_as_it_did(folder, tmp_path):
    again = load(save(load(folder), tmp_path / "again"))
    assert json.loads((tmp_path / "again" / "bundle.json").read_text())["format"] == FORMAT
    compare(answers(again), json.loads((folder / "expected.json").read_text()), folder.name)


def test_every_format_and_every_estimator_has_a_fixture():
    from galineage.models import ESTIMATORS

    kinds = {}
    for folder in BUNDLES:
        written = json.loads((folder / "bundle.json").read_text())
        assert folder.parent.name == f"format-{written['format']}"
        kinds.setdefault(written["format"], set()).add(written["kind"])
    assert sorted(kinds) == list(range(1, FORMAT + 1))
    assert kinds[FORMAT] == set(ESTIMATORS)
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 600_000


def test_a_change_of_one_weight_is_seen(tmp_path):
    """The comparison is sharp enough to notice a network that is slightly another one."""
    bundle = load(FIXTURES / "format-1" / "mdn")
    with torch.no_grad():
        bundle.estimator.network[-1].bias.add_(1e-4)
    with pytest.raises(AssertionError):
        compare(answers(bundle), json.loads((FIXTURES / "format-1" / "mdn" / "expected.json").read_text()))
