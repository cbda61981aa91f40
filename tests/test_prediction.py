"""The table that a user opens: columns, units, flags, provenance, and memory that stays flat."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch

from galineage import __version__
from galineage.errors import DataError
from galineage.fields import FIELDS
from galineage.galaxy import Catalogue
from galineage.models import make_estimator
from galineage.models.bundle import Bundle
from galineage.posterior import Posterior
from galineage.prediction import _BATCH, FLAGS, predict, summarise
from galineage.tables import FORMATS, read_table, write_table

FEATURES = ("mstar", "age")
COLUMNS = ("p025", "p16", "p50", "p84", "p975", "mean", "std", "map", "aleatoric", "epistemic")


def bundle(**card):
    estimator = make_estimator("mdn", FEATURES, members=3, hidden=(16,), seed=1)
    estimator.fit_scaling(torch.tensor([[9.0, 3.0], [12.0, 12.0]]))
    ranges = {
        "mstar": {"min": 9.0, "p01": 9.5, "p99": 11.5, "max": 12.0},
        "age": {"min": 2.0, "p01": 3.0, "p99": 11.0, "max": 12.0},
    }
    settings = {"model": "mdn", "domains": ["TNG100-1"], "ranges": ranges, "prior_width": 100.0}
    data = {"file": "train.hdf5", "sha256": "12ab"}
    return Bundle(estimator.eval(), {**settings, "data": data, **card})


def catalogue(mass=(10.0, 10.5, 11.0, 11.2), age=(8.0, 7.0, 6.0, 5.0), **changes):
    settings = {"ids": np.arange(len(mass)) + 2**60, "domain": "TNG100-1", "meta": {"file": "in.csv", "sha256": "cd"}}
    columns = {"mstar": 10 ** np.array(mass), "age": np.array(age, dtype=float)}
    return Catalogue(columns, **{**settings, **changes})


def test_columns_are_named_described_and_carry_units():
    table = predict(bundle(), catalogue())
    assert table.colnames == ["id", "domain", *(f"fexsitu_{name}" for name in COLUMNS), "flag"]
    for name in table.colnames:
        assert table[name].description, name
    assert all(table[f"fexsitu_{name}"].unit is None for name in COLUMNS)
    assert "ex-situ" in table["fexsitu_p50"].description
    for bit, text in FLAGS.items():
        assert f"{bit}: {text}" in table["flag"].description
    assert table["flag"].dtype == np.int32
    low, middle, high = (np.asarray(table[f"fexsitu_{name}"]) for name in ("p16", "p50", "p84"))
    assert ((low >= 0) & (low < middle) & (middle < high) & (high <= 1)).all()
    squares = table["fexsitu_aleatoric"] ** 2 + table["fexsitu_epistemic"] ** 2
    np.testing.assert_allclose(squares, table["fexsitu_std"] ** 2, rtol=1e-3)


def test_other_targets_keep_their_name_and_unit():
    estimator = make_estimator("paper", FEATURES, "t_last_major", members=2).eval()
    table = predict(Bundle(estimator, {"domains": ["TNG100-1"]}), catalogue())
    assert str(table["t_last_major_p50"].unit) == "Gyr"
    assert FIELDS["t_last_major"].meaning in table["t_last_major_p50"].description


def test_numbers_are_those_of_the_posterior():
    cat, one = catalogue(), bundle()
    table = predict(one, cat)
    with torch.no_grad():
        posterior = Posterior(one.estimator(torch.tensor(cat.features(FEATURES), dtype=torch.float32)))
    found = dict(zip(COLUMNS, posterior.quantile([0.025, 0.16, 0.5, 0.84, 0.975]), strict=False))
    found |= {"mean": posterior.mean, "std": posterior.std, "map": posterior.map()}
    for name, values in found.items():
        np.testing.assert_allclose(table[f"fexsitu_{name}"], values, atol=1e-6)


@pytest.mark.parametrize(
    "ids", [np.array([5, 2**62, -3, 0]), np.array(["a 1", "b", "Ω", "00012"]), np.arange(4, dtype=np.uint8)]
)
def test_identifiers_are_not_touched(ids):
    table = predict(bundle(), catalogue(ids=ids))
    assert table["id"].dtype == ids.dtype
    assert table["id"].tolist() == ids.tolist()
    assert table["domain"].tolist() == ["TNG100-1"] * 4


def flags(one=None, **changes):
    return predict(one or bundle(), catalogue(**changes))["flag"].tolist()


def test_galaxies_like_those_trained_on_are_not_flagged():
    assert flags() == [0, 0, 0, 0]
    assert flags(mass=(9.5, 9.5, 11.49, 11.49), age=(3.0, 11.0, 3.0, 11.0)) == [0, 0, 0, 0], "limits are inside"


def test_every_flag_is_raised_by_its_own_cause():
    assert flags(age=(8.0, np.nan, 6.0, 5.0)) == [0, 1, 0, 0]
    assert flags(mass=(9.2, 10.5, 11.8, 11.0)) == [2, 0, 2, 0]
    assert flags(mass=(8.5, 10.5, 11.0, 12.5)) == [6, 0, 0, 6]
    assert flags(mass=(8.5, 10.5, 11.0, 11.0), age=(1.0, 2.5, 13.0, 8.0)) == [6, 2, 6, 0]
    assert flags(domain=np.array(["TNG100-1", "EAGLE", "TNG100-1", "EAGLE"])) == [0, 8, 0, 8]
    assert flags(bundle(prior_width=1e-3)) == [16, 16, 16, 16]
    assert flags(bundle(prior_width=1e-3), age=(8.0, np.nan, 6.0, 5.0)) == [16, 1, 16, 16]
    widths = predict(bundle(), catalogue())
    width = np.asarray(widths["fexsitu_p84"] - widths["fexsitu_p16"])
    between = 2 * float(np.median(width))  # half of the galaxies are wider than half of this
    assert flags(bundle(prior_width=between)) == np.where(width > 0.5 * between, 16, 0).tolist()
    everything = flags(bundle(prior_width=1e-3, domains=[]), mass=(8.5, 10, 10, 10))
    assert everything == [2 + 4 + 8 + 16, 24, 24, 24]


def test_flags_are_separate_bits_with_a_meaning_each():
    assert list(FLAGS) == [1 << power for power in range(len(FLAGS))]
    assert all(FLAGS.values())


def test_rows_with_a_missing_input_stay_masked_in_their_place():
    table = predict(bundle(), catalogue(mass=(10.0, 10.5, 11.0, 11.2), age=(np.nan, 7.0, np.nan, 5.0)))
    whole = predict(bundle(), catalogue())
    for name in COLUMNS:
        column = table[f"fexsitu_{name}"]
        assert column.mask.tolist() == [True, False, True, False]
        # a mode is as exact as the top of its peak is flat in single precision
        tolerance = 1e-4 if name == "map" else 1e-6
        np.testing.assert_allclose(column[[1, 3]], whole[f"fexsitu_{name}"][[1, 3]], atol=tolerance)
    assert table["id"].tolist() == whole["id"].tolist()


def test_a_logarithmic_input_of_zero_is_missing():
    cat = Catalogue({"mstar": np.array([1e10, 0.0]), "age": np.array([8.0, 8.0])}, np.arange(2), "TNG100-1")
    assert predict(bundle(), cat)["flag"].tolist() == [0, 1]


def test_a_catalogue_that_cannot_be_predicted_is_refused_in_words():
    with pytest.raises(DataError, match="no galaxy has all the inputs") as caught:
        predict(bundle(), catalogue(age=[np.nan] * 4))
    assert caught.value.where == "in.csv"
    assert "mstar, age" in caught.value.expected
    with pytest.raises(DataError, match="no galaxy"):
        predict(bundle(), catalogue(mass=(), age=()))
    with pytest.raises(DataError, match="no column 'age'"):
        predict(bundle(), Catalogue({"mstar": np.array([1e10])}, np.arange(1), "a"))


def test_provenance_tells_model_training_set_and_input():
    meta = predict(bundle(), catalogue()).meta
    assert meta["creator"] == f"galineage {__version__}"
    assert meta["model"] == "mdn trained on TNG100-1"
    assert meta["features"] == "mstar age"
    assert (meta["trained_on"], meta["trained_on_sha256"]) == ("train.hdf5", "12ab")
    assert (meta["input"], meta["input_sha256"], meta["skipped_rows"]) == ("in.csv", "cd", 0)


@pytest.mark.parametrize("suffix", list(FORMATS))
@pytest.mark.parametrize(
    "ids", [np.array([5, 2**62, -3, 0]), np.array(["a", "b", "TNG 7", "00012"])], ids=["int", "str"]
)
def test_every_format_brings_the_table_back(tmp_path, suffix, ids):
    table = predict(bundle(), catalogue(ids=ids, age=(8.0, np.nan, 1.0, 5.0)))
    write_table(table, tmp_path / f"p{suffix}")
    found = read_table(tmp_path / f"p{suffix}")
    assert found.colnames == table.colnames
    assert dict(found.meta) == dict(table.meta)
    for name in table.colnames:
        assert found[name].description == table[name].description
        assert found[name].unit == table[name].unit
        assert np.array_equal(np.ma.getmaskarray(found[name]), np.ma.getmaskarray(table[name]))
        assert np.ma.asarray(found[name]).tolist() == np.ma.asarray(table[name]).tolist()
    assert found["id"].dtype.kind == ids.dtype.kind


def test_batches_do_not_show_in_the_result():
    x = np.random.default_rng(0).uniform([9, 3], [12, 12], (_BATCH + 7, 2))
    one = bundle().estimator
    found = summarise(one, x, mode=False)
    tail = summarise(one, x[-9:], mode=False)
    for name, values in tail.items():
        np.testing.assert_allclose(found[name][..., -9:], values, atol=1e-6)
    assert found["quantiles"].shape == (5, _BATCH + 7)
    assert found["mean"].shape == (_BATCH + 7,)
    assert found["quantiles"].dtype == np.float64


def test_only_what_is_asked_for_is_computed():
    x = np.array([[10.0, 8.0], [11.0, 7.0]])
    one = bundle().estimator
    assert set(summarise(one, x, [0.5], moments=False, mode=False)) == {"quantiles"}
    seen = []

    def extra(posterior, rows):
        seen.append(rows)
        return {"above_half": 1 - posterior.cdf(torch.tensor(0.5).expand(len(posterior)))}

    found = summarise(one, x, [0.5], moments=False, mode=False, extra=extra)
    assert found["above_half"].shape == (2,)
    assert seen == [slice(0, 2)]


def test_a_posterior_that_is_not_a_number_is_refused():
    with pytest.raises(DataError, match="NaN"):
        summarise(bundle().estimator, np.array([[10.0, 8.0], [np.nan, 7.0]]))


@pytest.mark.slow
def test_a_million_galaxies_pass_in_flat_memory(record_property):
    estimator = make_estimator("mdn", ("mstar", "metallicity", "age", "r_half", "spin"), members=5).eval()
    x = np.random.default_rng(0).standard_normal((1_000_000, 5))
    levels = (0.16, 0.5, 0.84)
    summarise(estimator, x[:50_000], levels, moments=False, mode=False)  # what is allocated once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = summarise(estimator, x, levels, moments=False, mode=False)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    record_property("growth_MiB", growth)
    assert found["quantiles"].shape == (3, 1_000_000)
    assert np.isfinite(found["quantiles"]).all()
    # float32 input (20 MB), parts and their sum (12 MB each), the result in double precision (24 MB), and slack
    assert growth < 150
