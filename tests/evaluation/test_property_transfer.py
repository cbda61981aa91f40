"""Properties of nearest neighbours: what the representation knows, and no galaxy as its own neighbour."""

from __future__ import annotations

import numpy as np
import pytest
from represented import domain

from galineage.errors import ConfigError, DataError
from galineage.evaluation import figure_of, property_transfer
from galineage.evaluation.sample import Sample


def item(result, source, test, name):
    return next(one for one in result.items if (one.source, one.test, one.name) == (source, test, name))


@pytest.fixture(scope="module")
def found():
    return property_transfer.compute([domain("a", 500), domain("b", 400, seed=1)], ["mstar", "f_ex", "noise"])


def test_what_the_representation_knows_is_taken_over(found):
    for pair in (("a", "a"), ("a", "b"), ("b", "a")):
        known, noise = (item(found, *pair, name) for name in ("mstar", "noise"))
        assert known.values["gain"] > 0.4
        assert known.values["rmse_many"] < known.values["rmse_one"] < known.values["rmse_random"]
        assert known.values["rmse_mean"] == pytest.approx(0.4, abs=0.05)  # dex
        assert abs(noise.values["gain"]) < 0.15
        # a truth among nine fair draws is neither the lowest nor the highest in 7 of 9 cases
        assert noise.values["held"] == pytest.approx(7 / 9, abs=4 * noise.errors["held"])


def test_verdict_names_what_is_not_known(found):
    verdict = property_transfer.judge(found)
    assert (verdict.passed, verdict.kind) == (False, "some taken over")
    assert "noise (a)" in verdict.sentence
    whole = property_transfer.judge(property_transfer.compute([domain("a")], ["mstar"]))
    assert (whole.passed, whole.kind) == (True, "all taken over")


def test_against_a_slow_twin():
    one, two = domain("a", 60), domain("b", 50, seed=1)
    result = item(property_transfer.compute([one, two], ["f_ex"], k=3), "a", "b", "f_ex")
    joined = np.concatenate([one.values, two.values])
    use = joined.std(axis=0) > 0
    scaled = (joined[:, use] - joined[:, use].mean(axis=0)) / joined[:, use].std(axis=0)
    for row in range(50):
        near = np.argsort(np.abs(scaled[:60] - scaled[60 + row]).sum(axis=1), kind="stable")[:3]
        values = one.properties["f_ex"][near]
        assert result.one[row] == values[0]
        assert result.many[row] == pytest.approx(values.mean())
        assert result.scatter[row] == pytest.approx(values.std(ddof=1))


def test_a_galaxys_own_images_are_no_neighbours():
    """Views of one galaxy are all but equal: with them as neighbours the noise would be known."""
    sample = domain("a", 300, views=3, seed=2)
    noise = np.repeat(np.random.default_rng(0).standard_normal(100), 3)
    kept = Sample("a", sample.values, {"noise": noise}, sample.galaxies)
    blind = Sample("a", sample.values, {"noise": noise})
    honest, fooled = (property_transfer.compute([one], ["noise"], k=2).items[0] for one in (kept, blind))
    assert fooled.values["gain"] > 0.5
    assert honest.values["gain"] < 0.1
    assert honest.errors["gain"] > 0


def test_rows_without_the_property_neither_lend_nor_ask():
    one, two = domain("a", 200), domain("b", 100, seed=1)
    truth = one.properties["f_ex"].copy()
    truth[::2] = np.nan
    survey = Sample("b", two.values, {"mstar": two.properties["mstar"]})
    found = property_transfer.compute([Sample("a", one.values, {"f_ex": truth, "mstar": one.properties["mstar"]}),
                                       survey], ["f_ex", "mstar"])  # fmt: skip
    assert len(item(found, "a", "a", "f_ex").truth) == 100
    assert {(one.source, one.test) for one in found.items if one.name == "f_ex"} == {("a", "a")}
    assert len([one for one in found.items if one.name == "mstar"]) == 4


def test_table_and_figure(found):
    table = found.to_table()
    assert len(table) == 12
    assert table.meta["k"] == 8
    assert set(table["unit"][table["property"] == "mstar"]) == {"dex"}
    axes = property_transfer.draw(found)
    assert len(axes) == 12
    figure_of(axes).canvas.draw()


def test_what_is_refused():
    with pytest.raises(ConfigError, match="cannot be taken over"):
        property_transfer.compute([domain("a")], [])
    with pytest.raises(ConfigError, match="cannot be taken over"):
        property_transfer.compute([domain("a")], ["f_ex"], pairs=[("a", "b")])
    with pytest.raises(ConfigError, match="no pair of domains knows"):
        property_transfer.compute([domain("a")], ["age"])
    truth = np.full(240, np.nan)
    truth[:5] = 0.5
    with pytest.raises(DataError, match="known of 5 galaxies"):
        property_transfer.compute([Sample("a", domain("a").values, {"f_ex": truth})], ["f_ex"])
    same = Sample("a", domain("a").values, {"f_ex": np.zeros(240)}, np.repeat([str(k) for k in range(24)], 10))
    with pytest.raises(DataError, match="fewer than 235 neighbours"):
        property_transfer.compute([same], ["f_ex"], k=235)
