"""One map of several domains: who lies where, what contours hold, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from represented import domain

from galineage.errors import ConfigError, DataError
from galineage.evaluation import figure_of, landscape
from galineage.evaluation.placing import foreign_share, mixing, placed
from galineage.evaluation.sample import Sample, as_seen, property_label, property_unit, together


@pytest.fixture
def no_umap(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)


def test_domains_that_are_alike_overlap_and_others_do_not(no_umap):
    alike = landscape.compute([domain("a", seed=1), domain("b", seed=2)])
    apart = landscape.compute([domain("a", seed=1), domain("b", shift=8.0, seed=2)])
    assert alike.together[0] == pytest.approx(1, abs=3 * alike.together[1] + 0.05)
    assert 0 < alike.together[1] < 0.1
    assert apart.together[0] < 0.1
    assert landscape.judge(alike).passed
    verdict = landscape.judge(apart)
    assert (verdict.passed, verdict.kind) == (False, "apart")
    assert "lie apart" in verdict.sentence
    assert apart.inside[0, 1, 0] < 0.2 < alike.inside[0, 1, 0]


def test_a_contour_holds_four_fifths_of_its_domain(no_umap):
    found = landscape.compute([domain("a", 300), domain("b", 200, seed=3)])
    np.testing.assert_allclose(np.diagonal(found.inside[..., 0]), landscape.HELD, atol=0.01)
    # the density integrates to one over the plane, but for what lies beyond the drawn part
    (x, y), density = found.grid, found.density["a"]
    assert density.sum() * (x[1] - x[0]) * (y[1] - y[0]) == pytest.approx(1, abs=0.1)


def test_one_row_of_each_galaxy_and_at_most_so_many(no_umap):
    found = landscape.compute([domain("a", 240, views=3), domain("b", 200, seed=2)], ["f_ex"], most=70)
    assert [int((found.domain == name).sum()) for name in "ab"] == [70, 70]
    assert len(set(found.galaxies)) == 140
    sample = domain("a", 240, views=3)
    mine = found.domain == "a"
    np.testing.assert_array_equal(found.properties["f_ex"][mine], sample.properties["f_ex"][found.row[mine]])


def test_properties_are_told_as_networks_see_them_and_unknown_ones_are_nan(no_umap):
    survey = Sample("survey", domain("s", seed=5).values, {"mstar": np.full(240, 1e11)})
    found = landscape.compute([domain("a"), survey], ["mstar", "f_ex", "noise"])
    assert found.properties["mstar"][found.domain == "survey"] == pytest.approx(11)
    assert np.isnan(found.properties["f_ex"][found.domain == "survey"]).all()
    table = found.to_table()
    assert str(table["property.mstar"].unit) == "dex"
    assert len(table) == 480
    assert table.meta["mixing"] == found.together[0]
    axes = landscape.draw(found)
    assert len(axes) == 4
    figure_of(axes).canvas.draw()


def test_one_domain_alone(no_umap):
    found = landscape.compute([domain("a")])
    assert landscape.judge(found).kind == "one domain"
    assert "mixing" not in found.to_table().meta
    figure_of(landscape.draw(found)).canvas.draw()


def test_what_is_refused(no_umap):
    with pytest.raises(DataError, match="30 galaxies are too few"):
        landscape.compute([domain("a", 30)])
    with pytest.raises(DataError, match="different lengths"):
        landscape.compute([domain("a"), domain("b", width=8)])
    with pytest.raises(ConfigError, match="domains are"):
        landscape.compute([domain("a"), domain("a")])
    with pytest.raises(ConfigError, match="domains are"):
        landscape.compute([])
    with pytest.raises(ConfigError, match="no domain has the property 'size'"):
        landscape.compute([domain("a")], ["size"])


def test_samples_refuse_what_has_no_place():
    values = np.zeros((5, 3))
    values[3, 1] = np.nan
    with pytest.raises(DataError, match="1 galaxies is not finite") as caught:
        Sample("a", values)
    assert "row 3" in str(caught.value)
    for wrong in (np.zeros((0, 3)), np.zeros(4), np.array([["x"]])):
        with pytest.raises(DataError, match="representations of shape"):
            Sample("a", wrong)
    with pytest.raises(DataError, match="'f_ex' has shape"):
        Sample("a", np.ones((5, 3)), {"f_ex": np.ones(4)})
    with pytest.raises(DataError, match="'galaxies' has shape"):
        Sample("a", np.ones((5, 3)), galaxies=np.array(["x"]))
    with pytest.raises(DataError, match="nothing is known of 'mstar'"):
        Sample("a", np.ones((5, 3))).seen("mstar")
    with pytest.raises(DataError, match="all representations are equal"):
        together([np.ones((5, 3)), np.ones((2, 3))])


def test_standardising_is_of_all_rows_together():
    one, two = together([np.array([[0.0, 7.0], [2.0, 7.0]]), np.array([[4.0, 7.0], [6.0, 7.0]])])
    joined = np.concatenate([one, two])
    assert joined.shape == (4, 1)
    np.testing.assert_allclose([joined.mean(), joined.std()], [0, 1], atol=1e-12)


def test_names_of_properties():
    assert as_seen("mstar", np.array([1e9, 0.0])).tolist()[0] == pytest.approx(9)
    assert property_unit("mstar") == "dex"
    assert property_unit("anything") == ""
    assert property_label("my_own $x") == r"my own \$x"


def test_mixing_counts_neighbours(rng):
    values = rng.standard_normal((200, 4))
    names = np.where(np.arange(200) < 100, "a", "b")
    values[100:, 0] += 100
    assert foreign_share(values, names).max() == 0
    assert mixing(values, names) == 0
    assert np.isnan(mixing(values, np.full(200, "a")))


@pytest.mark.slow
@pytest.mark.parametrize("n", [120, 4200])
def test_umap_gives_the_same_places_twice(n, rng):
    pytest.importorskip("umap")
    values = rng.standard_normal((n, 12))
    values[: n // 2, 0] += 30
    (one, method), (two, _) = (placed(values, neighbours=15, min_dist=0.3, seed=4) for _ in range(2))
    assert method == "UMAP"
    np.testing.assert_array_equal(one, two)
    # what is far apart stays apart: the nearest on the plane are of the same half
    names = np.where(np.arange(n) < n // 2, "a", "b")
    assert foreign_share(one, names).mean() < 0.01
