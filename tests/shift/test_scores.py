"""Shift scores: five per cent of false alarms on fresh galaxies, alarms where something changed, and safe files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from galineage.errors import ConfigError, DataError
from galineage.shift import FEWEST, SHIFT_SCORES, MahalanobisScore, NeighbourScore, nearest, set_score
from galineage.shift.mahalanobis import _left_out
from galineage.sources import open_source

FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
QUICK = ("neighbours", "mahalanobis")


def draws(kind, n, seed):
    """Rows of a known kind: the same distribution for every seed."""
    rng = np.random.default_rng([seed, 11])
    if kind == "normal":
        return rng.standard_normal((n, 5)) * [1, 10, 0.1, 1, 1] + 3
    if kind == "wide normal":
        return rng.standard_normal((n, 256))
    if kind == "heavy tails":
        return rng.standard_t(2, (n, 5))
    if kind == "banana":
        u = rng.standard_normal((n, 3))
        return np.stack([u[:, 0], u[:, 0] ** 2 + 0.2 * u[:, 1], u[:, 2], u[:, 2] + 0.05 * u[:, 1]], axis=1)
    two = rng.random(n) < 0.2
    return rng.standard_normal((n, 4)) * np.where(two, 0.1, 1.0)[:, None] + 6 * two[:, None]


@pytest.fixture(scope="module")
def real(catalogs):
    """Features of the real z = 0 galaxies, in random order."""

    def read(name):
        galaxies = open_source(catalogs / f"properties_{name}.h5py").read("z0").complete(FEATURES)
        features = galaxies.features(FEATURES)
        return features[np.random.default_rng(0).permutation(len(features))]

    return {name: read(name) for name in ("tng", "eagle")}


def alarms(kind, reference, fresh, seed=0):
    return float((SHIFT_SCORES[kind].fit(reference, seed).score(fresh) > 1).mean())


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("data", ["normal", "heavy tails", "banana", "two groups"])
def test_fresh_galaxies_raise_five_per_cent_of_false_alarms(kind, data):
    found = [alarms(kind, draws(data, 1500, seed), draws(data, 1500, 100 + seed)) for seed in range(6)]
    assert abs(np.mean(found) - 0.05) < 0.01, found
    assert max(abs(one - 0.05) for one in found) < 0.03, found


@pytest.mark.parametrize("kind", QUICK)
def test_also_in_256_dimensions(kind):
    found = [alarms(kind, draws("wide normal", 900, s), draws("wide normal", 900, 50 + s)) for s in range(4)]
    assert abs(np.mean(found) - 0.05) < 0.015, found


@pytest.mark.data
@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("name", ["tng", "eagle"])
def test_also_on_real_galaxies(kind, name, real):
    found = []
    for seed in range(6):
        rows = real[name][np.random.default_rng(seed).permutation(len(real[name]))]
        found.append(alarms(kind, rows[: len(rows) // 2], rows[len(rows) // 2 :]))
    assert abs(np.mean(found) - 0.05) < 0.01, found


@pytest.mark.slow
@pytest.mark.parametrize("data", ["normal", "heavy tails", "two groups"])
def test_also_for_the_flow_however_much_it_overfits(data):
    found = [alarms("flow", draws(data, 1500, s), draws(data, 1500, 100 + s), s) for s in range(4)]
    assert abs(np.mean(found) - 0.05) < 0.02, found


@pytest.mark.parametrize("data", ["normal", "heavy tails", "wide normal", "banana"])
def test_half_of_a_set_against_the_other_half(data):
    n, seeds, splits = (3000, 4, 3) if data == "wide normal" else (3000, 6, 6)
    found = []
    for seed in range(seeds):
        rows = draws(data, n, seed)
        found.append(set_score(rows[: n // 2], rows[n // 2 :], splits=splits, seed=seed).fraction)
    assert abs(np.mean(found) - 0.05) < 0.01, found


@pytest.mark.data
@pytest.mark.parametrize("name", ["tng", "eagle"])
def test_half_of_the_real_galaxies_against_the_other_half(name, real):
    found = []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(len(real[name]))
        half = len(order) // 2
        found.append(set_score(real[name][order[:half]], real[name][order[half:]], seed=seed).fraction)
    assert abs(np.mean(found) - 0.05) < 0.01, found


def test_the_set_score_is_the_published_recipe():
    x, y = draws("normal", 300, 1), draws("normal", 200, 2) + 0.5
    found = set_score(x, y, k=8, published=True, seed=5)
    # once more, in the plainest words
    rng = np.random.default_rng(5)
    both = np.concatenate([x, y])
    center, spread = both.mean(axis=0), both.std(axis=0)
    others, rows = np.sort(rng.permutation(200)[:200]), np.sort(rng.permutation(300)[:200])
    mine, theirs = (x[rows] - center) / spread, (y[others] - center) / spread

    def kth(a, b, k):
        return np.sort(np.abs(a[:, None] - b[None]).sum(-1), axis=1)[:, k - 1]

    order = rng.permutation(200)
    one, two = mine[order[:100]], mine[order[100:]]
    factor = np.quantile(kth(one, two, 8) / kth(one, one, 9), 0.95)
    np.testing.assert_array_equal(found.rows, rows)
    assert found.factor == pytest.approx(factor, rel=1e-5)
    np.testing.assert_allclose(found.scores, kth(mine, theirs, 8) / kth(mine, mine, 9) / factor, rtol=1e-5)
    assert found.fraction == (found.scores > 1).mean()


def test_the_published_recipe_too_gives_five_per_cent_where_dimensions_are_few():
    found = []
    for seed in range(8):
        rows = draws("normal", 3000, seed)
        found.append(set_score(rows[:1500], rows[1500:], published=True, seed=seed).fraction)
    assert abs(np.mean(found) - 0.05) < 0.015, found


@pytest.mark.parametrize(("n", "m"), [(400, 150), (150, 400), (301, 301)])
def test_sets_of_different_size(n, m):
    found = set_score(draws("normal", n, 0), draws("normal", m, 1))
    assert len(found.rows) == len(found.scores) == 2 * min(n // 2, m)
    assert len(set(found.rows.tolist())) == len(found.rows)
    assert (np.diff(found.rows) > 0).all()


def test_the_set_score_sees_another_set():
    x = draws("normal", 1500, 1)
    assert set_score(x + 1.5 * x.std(axis=0), draws("normal", 1500, 2)).fraction > 0.3
    assert set_score(x, draws("normal", 1500, 2)).fraction < 0.08


def test_training_galaxies_are_scored_as_if_they_were_fresh():
    rows = draws("banana", 200, 3)
    score = NeighbourScore.fit(rows)
    scaled = score.scaler.scaled(rows).astype(np.float32)
    raw = []
    for i in range(len(rows)):  # the slow twin: each galaxy against a reference without it
        others = np.delete(scaled, i, axis=0)
        radius = nearest(others, others, 8, exclude_self=True)[0][:, -1]
        distance, index = nearest(scaled[i : i + 1], others, 8)
        raw.append(distance[0, -1] / radius[index[0]].mean())
    assert score.unit == pytest.approx(np.quantile(raw, 0.95), rel=1e-6)
    np.testing.assert_allclose(score.own, np.quantile(raw, np.linspace(0, 1, 201)) / score.unit, rtol=1e-5)


def test_left_out_mahalanobis_distances():
    x = np.random.default_rng(0).standard_normal((50, 4)) @ np.random.default_rng(1).standard_normal((4, 4))
    center, inverse = x.mean(axis=0), np.linalg.inv(np.cov(x.T))
    inside = np.einsum("ij,jk,ik->i", x - center, inverse, x - center)
    for i, found in enumerate(_left_out(inside, 50)):
        others = np.delete(x, i, axis=0)
        gap = x[i] - others.mean(axis=0)
        assert found == pytest.approx(gap @ np.linalg.inv(np.cov(others.T)) @ gap)


def test_mahalanobis_distance_is_the_textbook_one():
    x = draws("normal", 400, 1)
    score = MahalanobisScore.fit(x)
    gap = draws("normal", 7, 2) - x.mean(axis=0)
    wanted = np.sqrt(np.einsum("ij,jk,ik->i", gap, np.linalg.inv(np.cov(x.T)), gap))
    np.testing.assert_allclose(score.score(gap + x.mean(axis=0)) * score.unit, wanted, rtol=1e-9)


SHIFTS = {
    "wider": lambda x: x.mean(axis=0) + 1.4 * (x - x.mean(axis=0)),
    "moved": lambda x: x + 0.5 * x.std(axis=0),
    "far": lambda x: x + 6 * x.std(axis=0),
    "columns exchanged between galaxies": lambda x: np.stack(
        [np.random.default_rng(i).permutation(x[:, i]) for i in range(x.shape[1])], axis=1
    ),
}


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("shift", SHIFTS)
def test_known_shifts_raise_more_alarms(kind, shift):
    rng = np.random.default_rng(4)
    mixing = rng.standard_normal((5, 5))
    x, fresh = (rng.standard_normal((2000, 5)) @ mixing for _ in range(2))
    score = SHIFT_SCORES[kind].fit(x)
    rate = (score.score(SHIFTS[shift](fresh)) > 1).mean()
    # all five columns are moved by half a standard deviation of theirs
    least = {"wider": 0.12, "moved": 0.08, "far": 0.999, "columns exchanged between galaxies": 0.3}[shift]
    assert rate > least
    assert (score.score(fresh) > 1).mean() < 0.08


@pytest.mark.data
@pytest.mark.parametrize("kind", QUICK)
def test_wrong_units_on_real_galaxies_are_noticed(kind, real):
    rows = real["tng"]
    score = SHIFT_SCORES[kind].fit(rows[:3000])
    fresh = rows[3000:]
    linear, months = fresh.copy(), fresh.copy()
    linear[:, 1] = 10 ** fresh[:, 1]  # metallicity as it is instead of its logarithm
    months[:, 2] = 1000 * fresh[:, 2]  # age in Myr
    for wrong in (linear, months):
        assert (score.score(wrong) > 1).mean() > 0.99


@pytest.mark.parametrize("kind", SHIFT_SCORES)
class TestEveryScore:
    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls):
        return {name: item.fit(draws("normal", 300, 0), seed=1) for name, item in SHIFT_SCORES.items()}

    def test_rows_are_scored_one_by_one(self, kind, fitted):
        score, x = fitted[kind], draws("normal", 60, 1)
        whole = score.score(x)
        assert whole.shape == (60,)
        assert whole.dtype == np.float64
        assert (whole >= 0).all()
        np.testing.assert_allclose([score.score(row[None])[0] for row in x], whole, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(score.score(x[::-1])[::-1], whole, rtol=1e-5, atol=1e-5)
        assert score.score(x[:0]).shape == (0,)

    def test_what_cannot_be_scored_is_nan_and_alone(self, kind, fitted):
        x = draws("normal", 10, 1)
        wanted = fitted[kind].score(x)
        x[3, 1], x[5, 0], x[6, 4] = np.nan, np.inf, -np.inf
        found = fitted[kind].score(x)
        assert np.isnan(found[[3, 5, 6]]).all()
        np.testing.assert_allclose(np.delete(found, [3, 5, 6]), np.delete(wanted, [3, 5, 6]), rtol=1e-5, atol=1e-5)

    def test_numbers_of_any_size_give_a_number(self, kind, fitted):
        x = np.repeat(draws("normal", 1, 1), 4, axis=0)
        x[:, 2] = [1e10, -1e10, 1e300, -1e300]
        found = fitted[kind].score(x)
        assert np.isfinite(found).all()
        assert (found > 1).all()

    def test_other_widths_are_refused(self, kind, fitted):
        for x in (np.zeros((3, 4)), np.zeros(5), np.zeros((2, 3, 5))):
            with pytest.raises(DataError, match="shape"):
                fitted[kind].score(x)

    def test_arrays_give_the_same_score_back(self, kind, fitted):
        score, x = fitted[kind], draws("normal", 50, 2)
        again = SHIFT_SCORES[kind].from_tensors({name: np.array(value) for name, value in score.tensors().items()})
        np.testing.assert_array_equal(again.score(x), score.score(x))
        np.testing.assert_array_equal(again.own, score.own)
        assert again.columns == 5

    def test_damaged_arrays_are_refused(self, kind, fitted):
        good = {name: np.array(value) for name, value in fitted[kind].tensors().items()}
        for name in good:
            with pytest.raises(DataError):
                SHIFT_SCORES[kind].from_tensors({key: value for key, value in good.items() if key != name})
            with pytest.raises(DataError):
                SHIFT_SCORES[kind].from_tensors(good | {name: np.zeros((2, 3, 4))})
            if good[name].dtype.kind == "f" and not name.startswith("flow."):
                with pytest.raises(DataError):
                    SHIFT_SCORES[kind].from_tensors(good | {name: np.full_like(good[name], np.nan)})
        with pytest.raises(DataError):
            SHIFT_SCORES[kind].from_tensors(good | {"spread": -good["spread"]})

    def test_quantiles_of_the_own_galaxies(self, kind, fitted):
        own = fitted[kind].own
        assert (np.diff(own) >= 0).all()
        assert own[190] == pytest.approx(1, abs=0.02)

    def test_the_same_seed_gives_the_same_score(self, kind):
        rows = draws("normal", 120, 0)
        state = torch.random.get_rng_state()
        first, second = (SHIFT_SCORES[kind].fit(rows, seed=3).score(rows) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert torch.equal(state, torch.random.get_rng_state())

    def test_what_no_score_can_be_fitted_to_is_refused(self, kind):
        fit = SHIFT_SCORES[kind].fit
        rows = draws("normal", 100, 0)
        with pytest.raises(DataError, match="too few"):
            fit(rows[: FEWEST - 1])
        with pytest.raises(DataError, match="single value"):
            fit(np.where(np.arange(5) == 2, 7.0, rows))
        bad = rows.copy()
        bad[4, 4] = np.inf
        with pytest.raises(DataError, match="not finite") as caught:
            fit(bad)
        assert "row 4" in caught.value.where
        with pytest.raises(DataError):
            fit(rows[:, 0])


def test_repeated_galaxies_have_finite_scores():
    rows = np.repeat(draws("normal", 30, 0), 10, axis=0)
    score = NeighbourScore.fit(rows)
    assert np.isfinite(score.score(rows)).all()
    assert np.isfinite(score.score(rows + 0.01)).all()


def test_large_training_sets_are_thinned(monkeypatch):
    monkeypatch.setattr("galineage.shift.neighbour_score._MOST_ROWS", 200)
    score = NeighbourScore.fit(draws("normal", 1000, 0), seed=2)
    assert score.reference.shape == (200, 5)
    assert abs((score.score(draws("normal", 3000, 5)) > 1).mean() - 0.05) < 0.03


def test_wrong_sets_are_refused():
    x = draws("normal", 100, 0)
    for bad in (x[:30], x[:, :3], np.full_like(x, np.nan)):
        with pytest.raises(DataError):
            set_score(x, bad)
    with pytest.raises(ConfigError, match="splits"):
        set_score(x, x, splits=0)
    with pytest.raises(DataError, match="too few for neighbour"):
        set_score(x, x, k=60)


def test_dependent_columns_have_no_covariance():
    x = draws("normal", 100, 0)
    with pytest.raises(DataError, match="combination"):
        MahalanobisScore.fit(np.column_stack([x, x[:, 0] - 3 * x[:, 2]]))
    with pytest.raises(DataError, match="covariance"):
        MahalanobisScore.fit(np.random.default_rng(0).standard_normal((50, 60)))
