"""Radial gradients of maps: rings as published, known slopes recovered, domains that differ told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from galineage.errors import DataError
from galineage.evaluation import gradients


class Store:
    """As much of a store as gradients need: maps whose slope is known."""

    path = Path("made up")
    channels = ("velocity", "metallicity")

    def __init__(self, n=200, shift=0.0, side=64):
        rng = np.random.default_rng(0)
        self.f_ex = rng.uniform(0.05, 0.9, n)
        self.rows = [{"domain": "a" if k % 2 else "b"} for k in range(n)]
        place = (np.arange(side) + 0.5 - side / 2) * (128 / side)
        radius = np.hypot(place[:, None], place[None, :]) / 32
        slope = np.array([0.1 * f + (shift if k % 2 else 0) for k, f in enumerate(self.f_ex)])
        noise = 0.05 * rng.standard_normal((n, 2, 1, 1))
        flat = rng.standard_normal((n, side, side)) * 0.05
        self.maps = np.stack([flat, slope[:, None, None] * radius], axis=1) + noise * radius

    def __len__(self):
        return len(self.rows)

    def truth(self, name):
        return self.f_ex

    def read(self, rows):
        return self.maps[rows].astype(np.float16)


def test_rings_are_the_published_ones():
    maps = np.zeros((1, 1, 128, 128))
    y, x = np.mgrid[:128, :128] - 63.5
    maps[0, 0] = np.hypot(x, y)
    found = gradients.ring_means(maps)[0, 0]
    assert found == pytest.approx([16 / 3, 16, 32, 60], abs=2.5)
    half = gradients.ring_means(maps[..., ::2, ::2])[0, 0]
    np.testing.assert_allclose(half, found, rtol=0.1)


def test_known_slopes_are_recovered():
    result = gradients.compute(Store(2000), bins=5)
    assert result.counts.sum() == 2000
    metals = result.channels.index("metallicity")
    centres = 0.5 * (result.edges[1:] + result.edges[:-1])
    means = gradients.ring_means(np.stack([np.stack([np.hypot(*np.meshgrid(*[(np.arange(64) - 31.5) / 16] * 2))] * 2)]))
    inner = means[0, 0, 0]
    for p, (outer, low) in enumerate(gradients.PAIRS):
        step = means[0, 0, list(gradients.RINGS).index(outer)] - means[0, 0, list(gradients.RINGS).index(low)]
        np.testing.assert_allclose(result.middle[0, metals, p], 0.1 * centres * step, atol=0.015)
    assert inner < 0.2
    table = result.to_table()
    assert len(table) == 2 * 2 * 3 * 5


def test_domains_that_differ_are_told():
    same, other = gradients.judge(gradients.compute(Store(800))), gradients.judge(gradients.compute(Store(800, 0.3)))
    assert same.passed
    assert not other.passed
    assert "differ most in metallicity" in other.sentence


def test_the_figure_has_a_panel_for_each_channel_and_pair():
    axes = gradients.draw(gradients.compute(Store()))
    assert len(axes) == 6
    assert [ax.get_title() for ax in axes[:2]] == ["velocity $V$", "metallicity"]


def test_without_truth_there_is_nothing_to_draw():
    store = Store(10)
    store.f_ex = np.full(10, np.nan)
    with pytest.raises(DataError, match="known f_ex"):
        gradients.compute(store)
    one = Store(40)
    one.rows = [{"domain": "a"}] * 40
    assert "nothing to compare" in gradients.judge(gradients.compute(one)).sentence
