"""Posterior samples of two populations along mass and size, beside the truth where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from galineage.errors import DataError
from galineage.evaluation import figure_of, population
from galineage.evaluation.hexagons import hexagons
from galineage.evaluation.population import Members


def members(name, n=600, offset=0.0, seed=0, *, known=True, wrong=0.0, mean_mass=10.5):
    rng = np.random.default_rng(seed)
    log_mass = mean_mass + 0.35 * rng.standard_normal(n)
    residual = rng.standard_normal(n)
    truth = np.clip(0.3 + 0.3 * (log_mass - 10.5) + 0.05 * residual + offset, 0.01, 0.99)
    std = rng.uniform(0.03, 0.1, n)
    centre = truth + std * rng.standard_normal(n) + wrong
    draws = np.clip(centre[:, None] + std[:, None] * rng.standard_normal((n, 60)), 0, 1)
    size = 10 ** (0.6 + 0.3 * (log_mass - 10.5) + 0.1 * residual)
    return Members(name, draws, 10**log_mass, size, np.clip(centre, 0, 1), std, truth if known else None)


def test_an_offset_at_fixed_mass_is_found():
    found = population.compute(members("survey", offset=-0.1), members("mocks", seed=1))
    value, error = found.offset
    assert value == pytest.approx(-0.1, abs=4 * error)
    assert 0.001 < error < 0.02
    verdict = population.judge(found)
    assert (verdict.passed, verdict.kind) == (True, "lies below")
    assert "survey lies below that of mocks" in verdict.sentence


def test_populations_that_are_alike():
    found = population.compute(members("survey", known=False), members("mocks", seed=1))
    value, error = found.offset
    assert abs(value) < 4 * error
    assert population.judge(found).passed
    assert np.isnan(found.to_table()["true_p50"][0])


def test_a_truth_that_is_missed_does_not_pass():
    verdict = population.judge(population.compute(members("survey", wrong=0.2), members("mocks", seed=1)))
    assert (verdict.passed, verdict.kind) == (False, "truth missed")


def test_size_at_fixed_mass_correlates_where_it_should():
    found = population.compute(members("survey"), members("mocks", seed=1))
    for value, error in found.at_fixed_mass.values():
        assert value > 5 * error > 0
    rng = np.random.default_rng(3)
    lone = members("survey")
    shuffled = Members("survey", rng.permutation(lone.draws), lone.mstar, lone.size, lone.mode, lone.std)
    value, error = population.compute(shuffled, members("mocks", seed=1), matched=False).at_fixed_mass["survey"]
    assert abs(value) < 4 * error


def test_quantiles_are_those_of_all_draws_of_a_bin():
    one = members("survey")
    edges = [9.6, 10.2, 10.5, 10.8, 11.4]
    found = population.compute(one, members("mocks", seed=1), matched=False, bins=edges)
    track = found.tracks["survey", "mstar"]
    log_mass = np.log10(one.mstar)
    for i in range(4):
        inside = (log_mass >= edges[i]) & (log_mass < edges[i + 1])
        expected = np.quantile(one.draws[inside], [0.1, 0.5, 0.9])
        np.testing.assert_allclose(track.values[:, i], expected, atol=1 / 200)
        assert track.n[i] == inside.sum()
        assert track.truth[i] == np.median(one.truth[inside])
    # the error of a median agrees with many drawings of the population
    medians = [
        population.compute(members("s", seed=s), one, matched=False, bins=edges, n_boot=2)
        .tracks["s", "mstar"]
        .values[1]
        for s in range(100, 125)
    ]
    np.testing.assert_allclose(np.std(medians, axis=0, ddof=1), track.errors[1], rtol=0.6)


def test_matching_makes_masses_alike():
    found = population.compute(members("survey", mean_mass=10.9), members("mocks", 900, seed=1))
    assert found.numbers["survey"] == found.numbers["mocks"] < 600
    one, two = (found.tracks[name, "mstar"] for name in found.names)
    assert np.abs(one.n - two.n).max() <= 0.2 * one.n.max()
    free = population.compute(members("survey", mean_mass=10.9), members("mocks", 900, seed=1), matched=False)
    assert free.numbers == {"survey": 600, "mocks": 900}


def test_truth_may_stand_for_the_simulations_posteriors():
    mocks = members("mocks", seed=1)
    exact = Members("mocks", mocks.truth[:, None], mocks.mstar, mocks.size, mocks.truth, np.zeros(600))
    value, error = population.compute(members("survey"), exact).offset
    assert abs(value) < 4 * error


def test_undefined_draws_are_left_out():
    one = members("survey")
    draws = one.draws.copy()
    draws[:, ::2] = np.nan
    found = population.compute(
        Members("survey", draws, one.mstar, one.size, one.mode, one.std), members("mocks", seed=1)
    )
    assert np.isfinite(found.offset).all()
    np.testing.assert_allclose(np.nansum(found.tracks["survey", "mstar"].histogram, axis=1)[2:5], 1)


def test_table_and_figure():
    found = population.compute(members("survey"), members("mocks", seed=1))
    table = found.to_table()
    assert len(table) == 32
    assert {"p10", "p50_error", "true_p50"} <= set(table.colnames)
    axes = population.draw(found)
    assert len(axes) == 4
    figure_of(axes).canvas.draw()
    assert [ax.get_title() for ax in axes[2:]] == ["survey: posterior modes", "survey: posterior medians"]
    cells = found.hexagons.medians
    assert np.abs(cells["median"] - cells["mode"]).max() < 0.1, "of these both are the centre"


def test_what_is_refused():
    one = members("survey")
    with pytest.raises(DataError, match="population of 30 galaxies"):
        one.select(np.arange(30))
    with pytest.raises(DataError, match="other lengths of size"):
        Members("s", one.draws, one.mstar, one.size[:5], one.mode, one.std)
    with pytest.raises(DataError, match="mstar is not a positive number"):
        Members("s", one.draws, np.where(np.arange(600) == 3, 0.0, one.mstar), one.size, one.mode, one.std)
    with pytest.raises(DataError, match="no posterior draw"):
        Members("s", np.full((600, 4), np.nan), one.mstar, one.size, one.mode, one.std)
    with pytest.raises(DataError, match="population of 0 galaxies"):
        population.compute(one, members("mocks", mean_mass=20.0))


def test_hexagons_are_those_of_matplotlib(rng):
    from matplotlib.figure import Figure

    x, y = rng.uniform(0, 1, (2, 4000))
    z = rng.standard_normal(4000)
    found = hexagons(x, y, {"z": z}, across=10, fewest=1)
    (left, right), (bottom, top) = found.limits
    drawn = (
        Figure()
        .add_subplot()
        .hexbin(x, y, z, gridsize=10, reduce_C_function=np.median, extent=(left, right, bottom, top))
    )
    theirs = {
        tuple(np.round(place, 6)): value for place, value in zip(drawn.get_offsets(), drawn.get_array(), strict=True)
    }
    inner = (found.x > left + 0.1) & (found.x < right - 0.1) & (found.y > bottom + 0.1) & (found.y < top - 0.1)
    assert inner.sum() > 40
    for place, value in zip(zip(found.x[inner], found.y[inner], strict=True), found.medians["z"][inner], strict=True):
        assert theirs[tuple(np.round(place, 6))] == value
