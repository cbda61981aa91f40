"""The toy suites as catalogues: ranges, anchors, determinism, and how the two differ."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestRegressor

from galineage.errors import ConfigError
from galineage.fields import field
from galineage.tables import write_catalogue
from galineage.toy.compare import LOG_MASS_EDGES, TNG100, bands
from galineage.toy.observables import virial_growth
from galineage.toy.suites import BLOCK, SUITES, Suite, make_toy

FEATURES = ["mstar", "metallicity", "age", "r_half", "spin"]


@pytest.fixture(scope="module")
def pair():
    return {name: make_toy(name, 12_000, 11) for name in ("toy-a", "toy-b")}


@pytest.mark.parametrize("name", SUITES)
def test_every_value_is_in_the_registry_range(name):
    catalogue = make_toy(name, 6000, 3)
    for column, values in catalogue.columns.items():
        assert field(column).in_range(values.astype(float)).all(), column
    assert (catalogue["mstar"] >= 1e10).all()


@pytest.mark.parametrize("name", SUITES)
def test_catalogue_says_it_is_a_toy(name):
    catalogue = make_toy(name, 5, 0)
    assert catalogue.meta["toy"] is True
    assert set(catalogue.domain) == {name}
    assert catalogue.ids.tolist() == [0, 1, 2, 3, 4]
    assert len(set(catalogue.root)) == 5
    assert catalogue.root[0] == f"{name}:0"
    assert catalogue["redshift"].tolist() == [0.0] * 5


@given(n=st.integers(1, 60), seed=st.integers(0, 2**40), name=st.sampled_from(sorted(SUITES)))
@settings(max_examples=15, deadline=None)
def test_any_number_and_seed_give_the_same_numbers_twice(n, seed, name):
    first, second = make_toy(name, n, seed), make_toy(name, n, seed)
    assert len(first) == n
    for column in first.columns:
        np.testing.assert_array_equal(first[column], second[column])
        assert field(column).in_range(first[column].astype(float)).all()


def test_seeds_and_suites_are_independent():
    masses = [make_toy(*which)["mstar"] for which in (("toy-a", 50, 0), ("toy-a", 50, 1), ("toy-b", 50, 0))]
    assert not set(masses[0]) & set(masses[1])
    assert not set(masses[0]) & set(masses[2])


def test_blocks_join_without_a_seam():
    catalogue = make_toy("toy-a", BLOCK + 3, 0)
    assert len(catalogue) == BLOCK + 3
    assert len(np.unique(catalogue["mstar"])) == BLOCK + 3


def test_exsitu_medians_match_tng100(pair):
    """Anchors within 0.04 below 10^10.75 Msun and within 0.15 above (the toy overshoots at the massive end)."""
    found = bands(pair["toy-a"], "f_ex").quantiles[1]
    tolerance = np.where(LOG_MASS_EDGES[:-1] < 10.75, 0.04, 0.15)
    assert (np.abs(found - TNG100["f_ex"]) < tolerance).all()
    assert (np.diff(found) > 0).all()


def test_exsitu_scatter_is_that_of_tng100(pair):
    # measured on the real table: 16 to 84 % is 0.143 wide at 10^10 to 10^10.25 Msun and 0.354 at 10^10.75 to 10^11
    low, _, high = bands(pair["toy-a"], "f_ex").quantiles
    assert high[0] - low[0] == pytest.approx(0.143, abs=0.06)
    assert high[3] - low[3] == pytest.approx(0.354, abs=0.09)


def test_observables_follow_the_real_medians(pair):
    for name, tolerance in (("age", 1.6), ("r_half", 0.10), ("metallicity", 0.09)):
        toy, real = bands(pair["toy-a"], name).quantiles[1], TNG100[name]
        if field(name).scale == "log":
            toy, real = np.log10(toy), np.log10(real)
        assert (np.abs(toy - real) < tolerance).all(), name


def test_few_never_had_a_major_merger(pair):
    for catalogue in pair.values():
        never = np.isnan(catalogue["t_last_major"])
        assert 0.01 < never.mean() < 0.06
        assert (never == (catalogue["n_major"] == 0)).all()
        assert (never == np.isnan(catalogue["mstar_last_major"])).all()


def test_suites_share_merger_statistics_and_differ_in_observables(pair):
    a, b = pair["toy-a"], pair["toy-b"]
    assert a["n_major"].mean() == pytest.approx(b["n_major"].mean(), rel=0.15)
    assert np.nanmedian(a["t_last_major"]) == pytest.approx(np.nanmedian(b["t_last_major"]), abs=0.3)
    assert a["central"].mean() == pytest.approx(b["central"].mean(), abs=0.03)
    small = [item["mstar"] < 10**10.5 for item in (a, b)]
    assert np.median(b["r_half"][small[1]]) > 1.2 * np.median(a["r_half"][small[0]])
    assert np.median(b["age"][small[1]]) > np.median(a["age"][small[0]]) + 0.5


def test_recent_mergers_mean_more_accreted_stars(pair):
    a = pair["toy-a"]
    typical = (a["mstar"] < 10**10.6) & ~np.isnan(a["t_last_major"])
    late = a["t_last_major"] < 7
    assert np.median(a["f_ex"][typical & late]) > 2 * np.median(a["f_ex"][typical & ~late])


def test_mergers_puff_up_galaxies(pair):
    a = pair["toy-a"]
    bin_ = (a["mstar"] > 10**10.5) & (a["mstar"] < 10**10.7)
    rich = a["f_ex"] > 0.3
    assert np.median(a["r_half"][bin_ & rich]) > 1.2 * np.median(a["r_half"][bin_ & ~rich])


def test_virial_growth_limits():
    assert virial_growth(np.array([1.0]))[0] == pytest.approx(np.log(2))  # equal partners double the radius
    assert virial_growth(np.array([1e-3]))[0] == pytest.approx(2e-3, rel=0.05)  # small ones count twice


def test_a_regressor_reads_exsitu_inside_a_suite_and_is_worse_across(pair):
    scores = {}
    for source, catalogue in pair.items():
        forest = RandomForestRegressor(60, min_samples_leaf=5, random_state=0)
        forest.fit(catalogue.features(FEATURES)[:5000], catalogue["f_ex"][:5000])
        for target, other in pair.items():
            error = forest.predict(other.features(FEATURES)[6000:]) - other["f_ex"][6000:]
            scores[source, target] = np.sqrt(np.mean(error**2)), 1 - error.var() / other["f_ex"][6000:].var()
    for name in pair:
        assert 0.68 < scores[name, name][1] < 0.86
        assert 0.08 < scores[name, name][0] < 0.115
    assert scores["toy-a", "toy-b"][0] > 1.08 * scores["toy-b", "toy-b"][0]
    assert scores["toy-b", "toy-a"][0] > 1.08 * scores["toy-a", "toy-a"][0]


@pytest.mark.slow
def test_a_hundred_thousand_galaxies_in_under_a_minute():
    from time import perf_counter

    start = perf_counter()
    catalogue = make_toy("toy-a", 100_000, 0)
    assert perf_counter() - start < 60
    for column, values in catalogue.columns.items():
        assert field(column).in_range(values.astype(float)).all(), column


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("toy-z", 5, 0), "toy-a, toy-b"), (("toy-a", 0, 0), "n >= 1"), (("toy-a", 5, -1), "seed >= 0")],
)
def test_bad_requests_say_what_is_accepted(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_toy(*arguments)


@pytest.mark.parametrize(
    "change", [{"size_norm": -1.0}, {"puffing": float("nan")}, {"satellite_age": 1.5}, {"satellite_quench_time": 0.0}]
)
def test_suites_validate_themselves(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        dataclasses.replace(SUITES["toy-a"], **change)


def test_a_suite_is_one_entry(monkeypatch):
    monkeypatch.setitem(SUITES, "toy-test", dataclasses.replace(SUITES["toy-b"], size_norm=2.0))
    assert isinstance(SUITES["toy-test"], Suite)
    assert set(make_toy("toy-test", 3, 0).domain) == {"toy-test"}


@pytest.mark.parametrize("suffix", ["ecsv", "parquet"])
def test_written_table_has_units_and_descriptions(tmp_path, pair, suffix):
    from galineage.tables import read_table

    catalogue = pair["toy-a"].select(np.arange(40))
    write_catalogue(catalogue, tmp_path / f"toy-a.{suffix}")
    table = read_table(tmp_path / f"toy-a.{suffix}")
    assert table.colnames[:3] == ["GalaxyID", "Snapshot", "RootID"]
    assert str(table["r_half"].unit) == "kpc"
    assert table["f_ex"].description == field("f_ex").meaning
    assert table.meta["toy"]


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "parquet", "vot"])
def test_readers_give_the_suite_back(tmp_path, pair, suffix):
    from galineage.sources import open_source

    catalogue = pair["toy-b"].select(np.arange(60))
    write_catalogue(catalogue, tmp_path / f"toy-b.{suffix}")
    back = open_source(tmp_path / f"toy-b.{suffix}").read()
    assert set(back.columns) == set(catalogue.columns)
    assert not back.skipped
    for column, values in catalogue.columns.items():
        np.testing.assert_array_equal(back[column], values)
    assert list(back.root) == list(catalogue.root)
    assert list(back.domain) == list(catalogue.domain)
