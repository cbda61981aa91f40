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

    @property
    def groups(self):
        return np.array([row.get("root", f"{k}") for k, row in enumerate(self.rows)])

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
    assert all(table[name].description for name in table.colnames)
    assert result.galaxies.sum() == 2000


def test_domains_that_differ_are_told():
    same, other = gradients.judge(gradients.compute(Store(800))), gradients.judge(gradients.compute(Store(800, 0.3)))
    assert same.passed
    assert same.kind == "the same"
    assert not other.passed
    assert "differ between domains (corrected p < 0.01)" in other.sentence
    assert "metallicity by up to" in other.sentence
    assert "none seen in velocity" in other.sentence


class Views(Store):
    """Galaxies whose views, 1 to 12 of them, have nearly one gradient; roots have the same names in both domains."""

    path = Path("made up")
    channels = ("velocity", "metallicity")

    def __init__(self, galaxies, seed, shift=0.0, roots=True):
        rng = np.random.default_rng(seed)
        whose = np.repeat(np.arange(galaxies), rng.integers(1, 13, galaxies))
        self.f_ex = rng.uniform(0.05, 0.9, galaxies)[whose]
        self.rows = [{"domain": "ab"[k % 2]} | ({"root": str(k // 2)} if roots else {}) for k in whose]
        slope = 0.3 * rng.standard_normal((galaxies, 2)) + 0.3 * shift * (np.arange(galaxies) % 2)[:, None]
        step = slope[whose] + 0.05 * rng.standard_normal((len(whose), 2))
        place = (np.arange(16) - 7.5) / 4
        self.maps = step[:, :, None, None] * np.hypot(place[:, None], place[None, :])


def chances(found):
    return np.nanmin(found.p_value, axis=1)


def test_views_of_a_galaxy_are_no_independent_galaxies():
    """Identical populations: permuting views would cry wolf in most of the samples, permuting galaxies does not."""
    right, naive = (
        np.array(
            [chances(gradients.compute(Views(60, seed, roots=roots), bins=3, permutations=99)) for seed in range(40)]
        )
        for roots in (True, False)
    )
    # 80 tests, each the smallest of three that are nearly one
    assert (right <= 0.05).mean() < 0.2
    assert (naive <= 0.05).mean() > 0.5


def test_a_known_shift_between_galaxies_is_found_and_measured():
    found = gradients.compute(Views(300, 1, shift=0.8), bins=4)
    assert found.differs.all()
    np.testing.assert_allclose(found.size, 0.8, atol=0.25)
    assert found.galaxies.sum() == 300
    assert found.counts.sum() == Views(300, 1).f_ex.size
    little = gradients.judge(gradients.compute(Views(300, 1, shift=0.0), bins=4))
    assert little.passed


def test_views_do_not_shrink_the_errors_of_medians():
    many, alone = Views(400, 2), Views(400, 2)
    one = np.unique([f"{row['domain']}{row['root']}" for row in alone.rows], return_index=True)[1]
    errors = [gradients.compute(many, rows, bins=2).error for rows in (None, np.sort(one))]
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.35)


def test_the_figure_marks_what_differs():
    axes = gradients.draw(gradients.compute(Views(300, 1, shift=0.8), bins=4))
    assert all("p < 0.01" in ax.texts[0].get_text() for ax in axes)
    assert axes[0].get_facecolor() != (1, 1, 1, 1)
    plain = gradients.draw(gradients.compute(Views(300, 3), bins=4))
    assert all("p = " in ax.texts[0].get_text() for ax in plain)


def test_one_seed_gives_one_answer():
    one, two = (gradients.compute(Views(80, 4), bins=3, permutations=50, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.p_value, two.p_value)


def test_domains_that_never_meet_cannot_be_compared():
    store = Store(200)
    store.f_ex = np.where([row["domain"] == "a" for row in store.rows], 0.1, 0.9) + 0.01 * store.f_ex
    assert "galaxies enough of two domains" in gradients.judge(gradients.compute(store)).sentence
    gradients.draw(gradients.compute(store))


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
