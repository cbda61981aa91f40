"""Who is near whom: domains that are alike mix, others do not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from galineage.errors import DataError
from galineage.evaluation import embedding, figure_of


def cloud(shift, n=300, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, 6))
    domain = np.where(np.arange(n) % 3 == 0, "a", "b")
    values[domain == "b", 0] += shift
    return values, rng.uniform(0, 1, n), domain


def test_mixing_is_one_for_the_same_and_none_for_other_domains():
    same, apart = (embedding.mixing(*cloud(shift)[::2]) for shift in (0.0, 50.0))
    assert same == pytest.approx(1, abs=0.1)
    assert apart == 0


def test_without_umap_there_are_principal_components(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    found = embedding.compute(*cloud(50.0))
    assert "principal components" in found.method
    verdict = embedding.judge(found)
    assert not verdict.passed
    assert "lie apart" in verdict.sentence
    assert np.ptp(found.place[:, 0]) > 40
    assert len(found.to_table()) == 300
    axes = embedding.draw(found)
    assert [ax.get_title() for ax in axes] == ["a (trained on)", "b", "both"]
    figure_of(axes).canvas.draw()
    assert embedding.judge(embedding.compute(*cloud(0.0))).passed


@pytest.mark.slow
def test_umap_gives_the_same_places_twice():
    pytest.importorskip("umap")
    one, two = (embedding.compute(*cloud(3.0, 120), seed=4) for _ in range(2))
    assert one.method == "UMAP"
    np.testing.assert_array_equal(one.place, two.place)


def test_too_few_are_refused():
    values, truth, domain = cloud(0.0, 40)
    with pytest.raises(DataError, match="40 views"):
        embedding.compute(values, truth, domain)
