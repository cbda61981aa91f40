"""R19: saved representations of every released format load, and say of images what they said when they were written.

The fixtures were written by ``tests/fixtures/make_representations.py`` with the code of that release, and are never
renewed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from make_representations import NETWORKS, answers

from galineage.models.representation_files import FORMAT, load_representation, representation_text, save_representation

FIXTURES = Path(__file__).parents[1] / "fixtures" / "representations"
FOLDERS = sorted(path.parent for path in FIXTURES.glob("format-*/*/representation.json"))


def compare(network, folder):
    """Compare representations with those stored, relative to their spread."""
    before = np.array(json.loads((folder / "expected.json").read_text()))
    np.testing.assert_allclose(answers(network), before, atol=1e-5 * max(1.0, float(np.abs(before).max())), rtol=0)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_released_representation_says_what_it_said(folder, tally, tmp_path):
    network, card = load_representation(folder)
    compare(network, folder)
    assert card["domains"] == ["made"]
    assert "hsc-g" in representation_text(network, card)
    again = save_representation(network, tmp_path / "again", card)
    assert json.loads((again / "representation.json").read_text())["format"] == FORMAT
    compare(load_representation(again)[0], folder)
    tally("R19", f"{folder.parent.name} representation of {folder.name}", "loads, same numbers")


def test_every_format_and_every_encoder_has_a_fixture():
    kinds = {}
    for folder in FOLDERS:
        written = json.loads((folder / "representation.json").read_text())
        assert folder.parent.name == f"format-{written['format']}"
        kinds.setdefault(written["format"], set()).add(written["settings"]["encoder"])
    assert sorted(kinds) == list(range(1, FORMAT + 1))
    assert kinds[FORMAT] == set(NETWORKS) == {"representation", "resnet18"}
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 1_200_000 * FORMAT


def test_a_change_of_one_weight_is_seen():
    """The comparison is sharp enough to notice a network that is slightly another one."""
    folder = FIXTURES / "format-1" / "representation"
    network, _ = load_representation(folder)
    with torch.no_grad():
        network.encoder.dense[-1].bias.add_(1e-3)
    with pytest.raises(AssertionError):
        compare(network, folder)
