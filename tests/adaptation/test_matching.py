"""Quantile matching: ranks are kept, distributions become equal, single galaxies can be mapped."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.adaptation import QuantileMatching, fit_matching
from galineage.errors import ConfigError, DataError

FEATURES = ("mstar", "age", "r_half")
KINDS = [(kind, mass) for kind in ("marginal", "at-mass") for mass in ("match", "keep")]


def source(n=2000, seed=0):
    """Mass in dex of Msun; age that rises with mass; a size that does not."""
    rng = np.random.default_rng(seed)
    m = rng.uniform(10, 12, n)
    return np.stack([m, 7 + 1.5 * (m - 11) + rng.normal(0, 0.5, n), rng.normal(0.6, 0.2, n)], axis=1)


def elsewhere(x):
    """Other units of age and another relation of size to mass, strictly monotone at fixed mass."""
    return np.stack([x[:, 0] - 0.2, 2 + 0.6 * x[:, 1], x[:, 2] * (1.5 + 0.3 * (x[:, 0] - 11)) - 0.1], axis=1)


def mapped(matching, x):
    return matching.transform(torch.as_tensor(x)).numpy()


@pytest.mark.parametrize(("kind", "mass"), KINDS)
def test_equal_domains_are_left_as_they_are(kind, mass):
    x = source()
    matching = fit_matching(x, x, FEATURES, kind=kind, mass=mass)
    wide = np.concatenate([x, x + 30, x - 30])
    np.testing.assert_allclose(mapped(matching, wide), wide, atol=1e-5)


def test_marginal_matching_undoes_any_monotone_change():
    x = source()
    other = np.stack([x[:, 0] + 0.3, np.exp(x[:, 1] / 4), x[:, 2] ** 3], axis=1)
    found = mapped(fit_matching(x, other, FEATURES), other)
    inner = (np.abs(x - x.mean(0)) < 2 * x.std(0)).all(axis=1)
    np.testing.assert_allclose(found[inner], x[inner], atol=0.03)


def test_matching_at_mass_undoes_a_change_that_depends_on_mass():
    x, fresh = source(4000), source(4000, seed=1)
    for mass in ("match", "keep"):
        other = elsewhere(fresh)
        if mass == "keep":
            other[:, 0] = fresh[:, 0]
        found = mapped(fit_matching(x, other, FEATURES, kind="at-mass", mass=mass), other)
        gap = np.abs(found - fresh)
        assert np.quantile(gap[:, 1], 0.9) < 0.2, mass
        assert np.quantile(gap[:, 2], 0.9) < 0.06, mass
    # ranks among all galaxies cannot do it
    flat = np.abs(mapped(fit_matching(x, other, FEATURES, mass="keep"), other) - fresh)
    assert np.mean(flat[:, 2]) > 2 * np.mean(gap[:, 2])


@pytest.mark.parametrize(("kind", "mass"), KINDS)
def test_distributions_become_those_of_the_source(kind, mass):
    x, other = source(), elsewhere(source(900, seed=2))
    found = mapped(fit_matching(x, other, FEATURES, kind=kind, mass=mass), other)
    levels = np.linspace(0.05, 0.95, 19)
    for column in range(3):
        if column == 0 and mass == "keep":
            np.testing.assert_array_equal(found[:, 0], other[:, 0])
        elif kind == "marginal" or mass == "match":
            gap = np.quantile(found[:, column], levels) - np.quantile(x[:, column], levels)
            assert np.abs(gap).max() < 0.12 * x[:, column].std(), column


def test_the_relation_to_mass_becomes_that_of_the_source():
    x, other = source(4000), source(3000, seed=3)
    other[:, 1] = 9 - 1.0 * (other[:, 0] - 11) + np.random.default_rng(0).normal(0, 0.5, 3000)
    slopes = {
        kind: np.polyfit(*mapped(fit_matching(x, other, FEATURES, kind=kind), other)[:, :2].T, 1)[0]
        for kind in ("marginal", "at-mass")
    }
    assert slopes["at-mass"] == pytest.approx(1.5, abs=0.15)
    assert slopes["marginal"] < 0


@pytest.mark.parametrize(("kind", "mass"), KINDS)
@given(seed=st.integers(0, 50), n=st.integers(40, 300), ties=st.booleans())
@settings(max_examples=15, deadline=None)
def test_maps_are_monotone_finite_and_shift_outside(kind, mass, seed, n, ties):
    rng = np.random.default_rng(seed)
    x, other = source(300, seed), elsewhere(source(n, seed + 1))
    if ties:
        other, x = np.round(other, 1), np.round(x, 1)
    matching = fit_matching(x, other, FEATURES, kind=kind, mass=mass)
    galaxy = other[rng.integers(n)]
    for column in (1, 2) if kind == "at-mass" else range(3):
        line = np.sort(np.concatenate([rng.normal(galaxy[column], 5, 60), other[:, column], [-1e4, 1e4]]))
        rows = np.tile(galaxy, (len(line), 1))
        rows[:, column] = line
        found = mapped(matching, rows)[:, column]
        assert np.isfinite(found).all()
        assert (np.diff(found) >= -1e-9).all()
        # far outside only the shift counts
        assert found[-1] - mapped(matching, rows[-1:] + np.eye(3)[column] * 100)[0, column] == pytest.approx(-100)


@pytest.mark.parametrize(("kind", "mass"), KINDS)
def test_each_galaxy_is_mapped_by_itself_and_nan_stays(kind, mass):
    x, other = source(), elsewhere(source(500, seed=2))
    matching = fit_matching(x, other, FEATURES, kind=kind, mass=mass)
    whole = mapped(matching, other)
    np.testing.assert_array_equal(mapped(matching, other[7:8]), whole[7:8])
    np.testing.assert_array_equal(mapped(matching, np.tile(other, (20, 1)))[-1], whole[-1])
    assert matching.transform(torch.as_tensor(other).view(2, 250, 3)).shape == (2, 250, 3)
    assert matching.transform(torch.as_tensor(other, dtype=torch.float32)).dtype == torch.float32
    gap = other[:3].copy()
    gap[1, 2] = np.nan
    found = mapped(matching, gap)
    assert np.isnan(found).sum() == 1
    assert np.isnan(found[1, 2])
    np.testing.assert_array_equal(found[[0, 2]], whole[[0, 2]])


def test_a_row_without_mass_has_no_rank_at_mass():
    x = source()
    found = mapped(fit_matching(x, x, FEATURES, kind="at-mass"), np.array([[np.nan, 7.0, 0.5]]))
    assert np.isnan(found).all()
    found = mapped(fit_matching(x, x, FEATURES), np.array([[np.nan, 7.0, 0.5]]))
    assert np.isnan(found).tolist() == [[True, False, False]]


@pytest.mark.parametrize(("kind", "mass"), KINDS)
def test_a_hundred_galaxies_are_enough_for_the_middle(kind, mass):
    x, fresh = source(), source(100, seed=5)
    other = fresh + np.array([0, 1.0, 0])
    found = mapped(fit_matching(x, other, FEATURES, kind=kind, mass=mass), other)
    assert abs(np.mean(found[:, 1] - fresh[:, 1])) < 0.25
    assert np.abs(found[:, 1] - fresh[:, 1]).mean() < 0.35


def test_incomplete_rows_are_left_out_of_the_fit():
    x, other = source(), elsewhere(source(500, seed=2))
    gaps = np.concatenate([other, np.full((30, 3), np.nan), [[11, np.nan, 3], [np.inf, 1, 1]]])
    for kind in ("marginal", "at-mass"):
        first, second = (fit_matching(x, rows, FEATURES, kind=kind) for rows in (other, gaps))
        assert torch.equal(first.target, second.target)
        assert torch.equal(first.source, second.source)


def test_the_order_of_galaxies_makes_no_difference():
    x, other = source(), elsewhere(source(500, seed=2))
    for kind, mass in KINDS:
        first = fit_matching(x, other, FEATURES, kind=kind, mass=mass)
        second = fit_matching(x[::-1], other[::-1], FEATURES, kind=kind, mass=mass)
        assert torch.equal(first.target, second.target)
        assert torch.equal(first.source, second.source)


def test_the_signature_has_no_place_for_a_truth():
    names = set(inspect.signature(fit_matching).parameters)
    assert names == {"source", "target", "features", "kind", "mass"}


def test_repeated_values_go_to_the_middle_of_their_ranks():
    x = np.stack([np.linspace(10, 12, 1000), np.linspace(0, 1, 1000), np.linspace(0, 1, 1000)], axis=1)
    other = x.copy()
    other[:400, 1] = 0.0
    found = mapped(fit_matching(x, other, FEATURES), other)
    np.testing.assert_allclose(found[:400, 1], 0.2, atol=0.01)
    np.testing.assert_allclose(found[500:, 1], x[500:, 1], atol=0.01)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": np.ones((30, 3))}, DataError, "target domain has 30 galaxies"),
        ({"source": np.full((300, 3), np.nan)}, DataError, "source domain has 0 galaxies"),
        ({"target": np.ones((300, 2))}, DataError, r"target features have shape \(300, 2\)"),
        ({"kind": "at-age"}, ConfigError, "no matching of kind 'at-age'"),
        ({"mass": "drop"}, ConfigError, "mass is 'drop'"),
        ({"kind": "at-mass", "features": ("age", "r_half", "spin")}, ConfigError, "needs the feature 'mstar'"),
    ],
)
def test_what_cannot_be_matched_is_refused(change, error, message):
    arguments = {"source": source(300), "target": source(300), "features": FEATURES, **change}
    with pytest.raises(error, match=message):
        fit_matching(**arguments)


def test_settings_and_tensors_build_an_equal_matching():
    x, other = source(), elsewhere(source(500, seed=2))
    for kind, mass in KINDS:
        first = fit_matching(x, other, FEATURES, kind=kind, mass=mass)
        second = QuantileMatching(**first.settings())
        second.load_state_dict(first.state_dict())
        np.testing.assert_array_equal(mapped(second, other), mapped(first, other))
        numbers = sum(part.numel() for part in first.state_dict().values())
        assert QuantileMatching.count_numbers(first.settings()) == pytest.approx(numbers, rel=0.01)
