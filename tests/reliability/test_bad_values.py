"""R6, tables: whatever stands in a cell, a galaxy is read, skipped with a reason, or flagged; no answer is made of it.

Stars and their maps are in `test_faulty_stars.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_tables import write_as

from galineage.errors import DataError, GalineageError
from galineage.fields import field
from galineage.galaxy import Catalogue
from galineage.models import make_estimator
from galineage.models.bundle import Bundle
from galineage.prediction import predict
from galineage.sources import open_source, parse_mapping
from galineage.training import TrainConfig, train

FEATURES = ("mstar", "age", "vmax")
MAPPING = """
name = "faulty"
domain = "Faulty"
id = "GalaxyID"
snapshot = "Snapshot"
root = "RootID"
[columns]
mstar = { column = "Mass", unit = "Msun" }
age = { column = "Age", unit = "Gyr" }
vmax = { column = "Vmax", unit = "km / s" }
f_ex = { column = "ExsituF", optional = true }
"""
BAD = {
    "Mass": [np.nan, np.inf, -np.inf, -1e10, 0.0, 1e300, 5e-324],
    "Age": [np.nan, np.inf, -np.inf, -3.0, 1e300, 15.0],
    "Vmax": [np.nan, np.inf, 0.0, -200.0, 1e300],
    "ExsituF": [np.nan, np.inf, -0.1, 1.5],
}
INDICES = [-1, 2**32 - 1, 2**64 - 1]
EXAMPLES = 60
SLOW_EXAMPLES = 600


def table(n=24, seed=0):
    """A table without faults."""
    rng = np.random.default_rng(seed)
    found = Table({"GalaxyID": np.arange(n) + 100, "Snapshot": np.full(n, 99), "RootID": np.arange(n) + 500})
    found["Mass"] = 10 ** rng.uniform(9.5, 11.5, n)
    found["Age"], found["Vmax"] = rng.uniform(4, 11, n), 10 ** rng.uniform(2, 2.7, n)
    found["ExsituF"] = rng.uniform(0, 1, n)
    return found


FAULTS = st.lists(
    st.one_of(
        *[st.tuples(st.just(column), st.integers(0, 23), st.sampled_from(values)) for column, values in BAD.items()],
        st.tuples(st.just("duplicate"), st.integers(1, 23), st.just(0)),
        st.tuples(st.sampled_from(["GalaxyID", "RootID"]), st.integers(0, 23), st.sampled_from(INDICES)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda fault: fault[1],
)


def broken(faults):
    """Put faults into a table; text for ids where a signed column cannot hold them."""
    found = table()
    for column in ("GalaxyID", "RootID"):
        wide = [value for name, _, value in faults if name == column and value == 2**64 - 1]
        if wide:
            found[column] = found[column].astype(np.uint64)
    for column, row, value in faults:
        if column == "duplicate":
            found["GalaxyID"][row] = found["GalaxyID"][row - 1]
        elif value == -1 and found[column].dtype.kind == "u":
            found[column][row] = 2**64 - 1
        else:
            found[column][row] = value
    return found


@pytest.fixture(scope="module")
def bundle():
    """A small model of every kind of input field."""
    estimator = make_estimator("mdn", FEATURES, members=2, hidden=(8,), seed=1)
    import torch

    with torch.no_grad():
        estimator.center.copy_(torch.tensor([10.5, 7.0, 2.3]))
    ranges = {name: {"min": 0.0, "p01": 0.0, "p99": 13.0, "max": 13.0} for name in FEATURES}
    return Bundle(estimator.eval(), {"domains": ["Faulty"], "ranges": ranges})


def check_predictions(found):
    """No answer without all digits in place, unless the row says that there is none."""
    flags = np.asarray(found["flag"])
    for name in found.colnames:
        if name.startswith("fexsitu"):
            values = np.ma.asarray(found[name])
            missing = np.ma.getmaskarray(values)
            assert np.isfinite(values.data[~missing]).all(), name
            assert (flags[missing] & 1).all(), name
            assert not (flags[~missing] & 1).any(), name
    assert (np.ma.asarray(found["fexsitu_p50"]).compressed() >= 0).all()


def read_and_predict(path, bundle, faults):
    """Read and predict as the command does; check that every row is accounted for. Returns what became of the rows."""
    try:
        catalogue = open_source(path, parse_mapping(MAPPING)).read(only=FEATURES, keep_missing=True)
    except GalineageError:
        return "refused"
    assert len(catalogue) + len(catalogue.skipped) == 24
    for name in FEATURES:
        values = catalogue[name]
        assert (np.isnan(values) | field(name).in_range(values)).all()
    assert len(np.unique(catalogue.ids)) == len(catalogue.ids)
    assert not np.isin(catalogue.ids.astype(np.float64), np.array(INDICES, dtype=np.float64)).any()
    skipped = {skip.row for skip in catalogue.skipped}
    assert all(skip.reason for skip in catalogue.skipped)
    kept = [row for row in range(24) if row not in skipped]
    try:
        found = predict(bundle, catalogue)
    except DataError:
        return "refused"
    check_predictions(found)
    flagged = {kept[place] for place in np.flatnonzero(np.asarray(found["flag"]) & 1)}
    # of two rows with one id the second stays where the first is faulty itself
    for column, row, _ in faults:
        if column in ("Mass", "Age", "Vmax", "GalaxyID", "RootID"):
            assert row in skipped | flagged, (column, row)
    return "explained"


@pytest.fixture
def examples(request):
    return SLOW_EXAMPLES if request.config.getoption("--slow") else EXAMPLES


@pytest.mark.parametrize("form", ["csv", "parquet", "fits", "hdf5"])
def test_faulty_rows_of_a_file_are_skipped_or_flagged(tmp_path, bundle, form, examples, tally):
    outcomes = []

    @settings(deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(faults=FAULTS)
    def every(faults):
        path = write_as(broken(faults), tmp_path / f"t-{len(outcomes)}", form)
        outcomes.append(read_and_predict(path, bundle, faults))
        path.unlink()

    every()
    # a whole file is refused only where faults are so many in 24 rows that the column as a whole looks wrong
    assert outcomes.count("explained") > 0.75 * len(outcomes)
    tally(
        "R6",
        f"{form}: {len(outcomes)} faulty tables read and predicted",
        f"{outcomes.count('refused')} refused, in the others every faulty row is skipped or flagged",
        "0 answers that are not numbers",
    )


VALUES = st.one_of(st.floats(), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 3e38, 1e-300]))
COLUMN = st.lists(VALUES, min_size=6, max_size=6)


def test_faulty_catalogues_are_flagged(bundle, examples, tally):
    """Past the readers: a catalogue made in Python may hold anything."""
    outcomes = []

    @settings(deadline=None, max_examples=3 * examples)
    @given(columns=st.tuples(COLUMN, COLUMN, COLUMN))
    def every(columns):
        good = {"mstar": 1e10, "age": 7.0, "vmax": 200.0}
        values = {name: np.append(column, good[name]) for name, column in zip(FEATURES, columns, strict=True)}
        found = predict(bundle, Catalogue(values, np.arange(7), "Faulty"))
        check_predictions(found)
        assert found["flag"][6] == 0
        outcomes.append(int((found["flag"] & 1 > 0).sum()))

    every()
    tally("R6", f"{len(outcomes)} faulty catalogues predicted", f"{sum(outcomes)} rows flagged", "0 not a number")


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_training_leaves_faulty_rows_out_or_refuses(data):
    """A model trained on faulty rows is the model trained without them."""
    source = table(60, 1)
    faults = data.draw(
        st.lists(
            st.one_of(*[st.tuples(st.just(name), st.sampled_from(values)) for name, values in BAD.items()]), max_size=5
        )
    )
    columns = {"mstar": source["Mass"], "age": source["Age"], "vmax": source["Vmax"], "f_ex": source["ExsituF"]}
    names = dict(zip(BAD, columns, strict=True))
    bad = {name: np.append(values, np.full(len(faults), np.median(values))) for name, values in columns.items()}
    for place, (column, value) in enumerate(faults):
        bad[names[column]][60 + place] = value
    total = 60 + len(faults)
    root = np.arange(total).astype(str)
    config = TrainConfig(max_epochs=2, batch_size=32, device="cpu")
    options = {"members": 1, "hidden": (4,), "config": config, "progress": False}
    try:
        found = train(Catalogue(bad, np.arange(total), "Faulty", root), FEATURES, **options)
    except GalineageError:
        return
    assert found.card["rows"] <= total
    assert all(bool(np.isfinite(values.numpy()).all()) for values in found.estimator.state_dict().values())
    good = Catalogue({name: np.asarray(values) for name, values in columns.items()}, np.arange(60), "Faulty")
    check_predictions(predict(found, good))


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("form", ["csv", "parquet", "hdf5"])
def test_the_index_that_means_none_is_no_galaxy(tmp_path, form, index):
    """-1 in an unsigned column is a large number, and would make one galaxy or one root of many."""
    found = table()
    for column in ("GalaxyID", "RootID"):
        found[column] = found[column].astype(np.uint64 if index > 2**63 else np.int64)
    found["RootID"][[3, 4]] = index
    found["GalaxyID"][7] = index
    catalogue = open_source(write_as(found, tmp_path / "t", form), parse_mapping(MAPPING)).read()
    assert [skip.row for skip in catalogue.skipped] == [3, 4, 7] or {skip.row for skip in catalogue.skipped} == {
        3,
        4,
        7,
    }
    assert all("index -1" in skip.reason for skip in catalogue.skipped)
    assert catalogue.ids.dtype.kind in "iu"
