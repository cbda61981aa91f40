"""Pairs of alike galaxies: greedy as published, and the best ones, against obvious twins."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from galineage.errors import ConfigError, DataError
from galineage.images import MASS_BOX, PUBLISHED_BOX, match_greedy, match_optimal


def sample(rng, size, spread=1.0):
    """Redshifts, magnitudes and R90 (arcsec) of galaxies."""
    return {
        "redshift": rng.uniform(0.1, 0.1 + 0.1 * spread, size),
        "magnitude": rng.uniform(19, 19 + spread, size),
        "r90": rng.uniform(1, 1 + 3 * spread, size),
    }


def slow_greedy(first, second, box, seed):
    """The published recipe, galaxy by galaxy."""
    rng = np.random.default_rng(seed)
    size = len(first["redshift"])
    order, draws = rng.permutation(size), rng.random(size)
    free, pairs = list(range(len(second["redshift"]))), {}
    for row in order:
        near = [k for k in free if all(abs(first[n][row] - second[n][k]) <= box[n] * (1 + 1e-9) for n in box)]
        if near:
            pairs[row] = near[int(draws[row] * len(near))]
            free.remove(pairs[row])
    return dict(sorted(pairs.items()))


@pytest.mark.parametrize(("sizes", "spread"), [((40, 60), 0.4), ((200, 150), 0.5), ((3, 1), 0.01), ((30, 30), 5.0)])
def test_greedy_is_the_published_recipe(rng, sizes, spread):
    first, second = sample(rng, sizes[0], spread), sample(rng, sizes[1], spread)
    found = match_greedy(first, second, PUBLISHED_BOX, seed=7)
    wanted = slow_greedy(first, second, PUBLISHED_BOX, 7)
    assert dict(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted
    assert sorted([*found.first, *found.unmatched]) == list(range(sizes[0]))


@pytest.mark.parametrize("match", [match_greedy, match_optimal])
def test_pairs_are_in_the_box_and_without_replacement(rng, match):
    first, second = sample(rng, 300), sample(rng, 900)
    found = match(first, second, PUBLISHED_BOX)
    assert len(found) > 50
    assert len(set(found.second)) == len(found)
    apart = {name: first[name][found.first] - second[name][found.second] for name in PUBLISHED_BOX}
    for name, size in PUBLISHED_BOX.items():
        assert (np.abs(apart[name]) <= size * (1 + 1e-6)).all()
    squares = sum((apart[name] / size) ** 2 for name, size in PUBLISHED_BOX.items())
    np.testing.assert_allclose(found.distance, np.sqrt(squares), rtol=1e-9)


def test_the_edge_of_the_box_is_in_it():
    first = {"redshift": np.array([0.10]), "magnitude": np.array([20.0]), "r90": np.array([2.0])}
    second = {"redshift": np.array([0.11]), "magnitude": np.array([20.1]), "r90": np.array([2.84])}
    assert len(match_greedy(first, second, PUBLISHED_BOX)) == len(match_optimal(first, second, PUBLISHED_BOX)) == 1


def best(first, second, box):
    """Number of pairs and sum of squares of the best assignment, by trying them all."""
    size, other = len(first["redshift"]), len(second["redshift"])
    cost = np.zeros((size, other))
    for name, unit in box.items():
        cost += ((first[name][:, None] - second[name][None]) / unit) ** 2
    allowed = np.all([np.abs(first[n][:, None] - second[n][None]) <= box[n] for n in box], axis=0)
    found = (0, 0.0)
    for choice in itertools.permutations([*range(other), *[-1] * size], size):
        kept = [(i, j) for i, j in enumerate(choice) if j >= 0]
        if all(allowed[pair] for pair in kept):
            score = (len(kept), -sum(cost[pair] for pair in kept))
            found = max(found, score)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_optimal_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    first, second = sample(rng, 4, 0.25), sample(rng, 4, 0.25)
    found = match_optimal(first, second, PUBLISHED_BOX)
    count, negative = best(first, second, PUBLISHED_BOX)
    assert len(found) == count
    assert np.square(found.distance).sum() == pytest.approx(-negative)


def test_optimal_is_nearer_and_not_fewer(rng):
    first, second = sample(rng, 400), sample(rng, 500)
    greedy, optimal = (
        match_greedy(first, second, PUBLISHED_BOX),
        match_optimal(first, second, PUBLISHED_BOX, nearest=500),
    )
    assert len(optimal) >= len(greedy)
    assert optimal.distance.mean() < greedy.distance.mean()


def test_it_depends_on_the_seed_and_on_nothing_else(rng):
    first, second = sample(rng, 200), sample(rng, 400)
    one, two, three = (match_greedy(first, second, PUBLISHED_BOX, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.second, two.second)
    assert not np.array_equal(one.second, three.second)


@pytest.mark.parametrize("match", [match_greedy, match_optimal])
def test_masses_are_matched_alone(rng, match):
    first, second = {"log_mass": rng.normal(10.5, 0.4, 300)}, {"log_mass": rng.normal(10.9, 0.4, 900)}
    found = match(first, second, MASS_BOX)
    assert abs(first["log_mass"][found.first].mean() - second["log_mass"][found.second].mean()) < 0.02


@pytest.mark.parametrize("match", [match_greedy, match_optimal])
def test_rows_without_a_number_and_empty_samples(rng, match):
    first, second = sample(rng, 30, 0.2), sample(rng, 60, 0.2)
    first["r90"][3] = np.nan
    second["r90"][5] = np.inf
    found = match(first, second, PUBLISHED_BOX)
    assert 3 in found.unmatched
    assert 5 not in found.second
    nothing = {name: np.zeros(0) for name in PUBLISHED_BOX}
    assert len(match(first, nothing, PUBLISHED_BOX)) == len(match(nothing, second, PUBLISHED_BOX)) == 0
    assert len(match(first, nothing, PUBLISHED_BOX).unmatched) == 30


@pytest.mark.parametrize("match", [match_greedy, match_optimal])
def test_what_cannot_be_matched_is_refused(rng, match):
    first = sample(rng, 5)
    with pytest.raises(DataError, match="no 'log_mass'"):
        match(first, first, MASS_BOX)
    with pytest.raises(DataError, match="shapes"):
        match({**first, "r90": np.zeros(4)}, first, PUBLISHED_BOX)
    for box in ({}, {"r90": 0.0}, {"r90": np.nan}):
        with pytest.raises(ConfigError, match="box"):
            match(first, first, box)


@pytest.mark.slow
def test_fifty_thousand_are_matched_in_a_minute(rng):
    first, second = sample(rng, 50_000, 3.0), sample(rng, 100_000, 3.0)
    start = time.perf_counter()
    greedy, optimal = match_greedy(first, second, PUBLISHED_BOX), match_optimal(first, second, PUBLISHED_BOX)
    assert len(optimal) >= len(greedy) > 45_000
    assert time.perf_counter() - start < 60
