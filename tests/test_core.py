"""The ground floor: errors, the field registry, catalogues, and the one way a file is written."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import stat
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser

from galineage import atomic, errors
from galineage.errors import ConfigError, DataError, FileFormatError, GalineageError
from galineage.fields import FIELDS, LEAKS, Field, check_features, field, to_feature
from galineage.galaxy import Catalogue, Skip, concatenate

# ---- errors


def test_every_error_is_one_of_ours_and_of_a_builtin_kind():
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "GalineageError"]
    for kind in kinds:
        assert issubclass(kind, GalineageError)
        assert any(issubclass(kind, builtin) for builtin in (ValueError, OSError, RuntimeError, ImportError))
        assert kind.__doc__


def test_an_error_says_what_where_expected_and_next():
    error = DataError("age is -3 Gyr", where="row 7", expected="0 to 14 Gyr", advice="check the unit")
    assert str(error).splitlines() == [
        "age is -3 Gyr",
        "  where:    row 7",
        "  expected: 0 to 14 Gyr",
        "  next:     check the unit",
    ]
    assert str(DataError("age is -3 Gyr")) == "age is -3 Gyr"
    assert (error.what, error.where, error.expected, error.advice) == (
        "age is -3 Gyr",
        "row 7",
        "0 to 14 Gyr",
        "check the unit",
    )


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__])
def test_an_error_survives_the_way_from_a_worker_process(kind):
    first = kind("wrong", where="row 7", expected="right", advice="look")
    again = pickle.loads(pickle.dumps(first))
    assert type(again) is kind
    assert str(again) == str(first)
    assert again.where == "row 7"


# ---- fields


@pytest.mark.parametrize("item", FIELDS.values(), ids=str)
def test_every_field_is_whole(item):
    units.Unit(item.unit)
    assert item.low < item.high
    assert item.meaning
    assert item.meaning[0] != " "
    assert item.name.isidentifier()
    parser = MathTextParser("path")
    for label in (f"${item.label}$", item.axis):
        width, height, *_ = parser.parse(label)
        assert width > 0
        assert height > 0
    assert item.range_text.endswith(item.unit)
    if item.scale == "log":
        assert item.low >= 0


@pytest.mark.parametrize("item", FIELDS.values(), ids=str)
def test_ranges_include_their_ends_and_nan_only_with_a_meaning(item):
    beyond = np.array([np.nextafter(item.low, -np.inf), item.low, item.high, np.nextafter(item.high, np.inf)])
    assert item.in_range(beyond).tolist() == [False, True, True, False]
    assert bool(item.in_range(np.array(np.nan))) == bool(item.missing)
    assert not item.in_range(np.array([np.inf, -np.inf])).any()


def test_the_registry_is_keyed_by_name_and_leaks_are_fields():
    assert all(name == item.name for name, item in FIELDS.items())
    assert set(FIELDS) >= LEAKS
    with pytest.raises(FrozenInstanceError):
        FIELDS["age"].unit = "s"


def test_axes_carry_scale_and_unit():
    assert FIELDS["age"].axis == r"$\mathrm{Age}\ [\mathrm{Gyr}]$"
    assert FIELDS["mstar"].axis == r"$\log_{10}\,M_\star\ [\mathrm{M_\odot}]$"
    assert FIELDS["f_ex"].axis == r"$f_\mathrm{ex}$"


@pytest.mark.parametrize(
    ("wrong", "near"), [("mstars", "mstar"), ("r_halff", "r_half"), ("metalicity", "metallicity"), ("fex", "f_ex")]
)
def test_a_misspelt_field_is_answered_with_the_nearest(wrong, near):
    with pytest.raises(ConfigError, match=f"no field called '{wrong}'") as caught:
        field(wrong)
    assert near in caught.value.advice


@pytest.mark.parametrize("name", sorted(LEAKS))
def test_what_knows_the_truth_is_never_a_feature(name):
    with pytest.raises(ConfigError, match="computed from the truth"):
        check_features(["mstar", name])


def test_features_are_a_list_of_different_known_names():
    assert check_features(name for name in ("mstar", "age")) == ("mstar", "age")
    for wrong, message in (("mstar", "is the string"), (["mstar", "mstar"], "twice"), (["colour"], "no field")):
        with pytest.raises(ConfigError, match=message):
            check_features(wrong)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
def test_logarithms_never_warn_and_never_invent(values):
    values = np.array(values)
    found = to_feature("mstar", values)
    assert found.shape == values.shape
    assert np.isnan(found[~(values > 0)]).all()
    good = values > 0
    np.testing.assert_allclose(found[good], np.log10(values[good]))
    np.testing.assert_array_equal(to_feature("age", values), values)


def test_a_field_of_ones_own_is_checked_by_the_same_rules():
    own = Field("colour", "mag", -1, 2, "a colour", "g-r")
    assert own.in_range(np.array([0.0, 3.0, np.nan])).tolist() == [True, False, False]


# ---- catalogues


def catalogue(n=6, **changes):
    columns = {"mstar": np.full(n, 1e10), "age": np.arange(n, dtype=float), "gas_mass": np.full(n, 1e9)}
    columns |= changes.pop("columns", {})
    settings = {"ids": np.arange(n) + 100, "domain": "toy-a", "root": np.array([f"r{i // 2}" for i in range(n)])}
    return Catalogue(columns, **{**settings, **changes})


def test_a_catalogue_cannot_be_changed_by_anyone():
    ages, ids, meta = np.arange(6.0), np.arange(6), {"file": "t.csv"}
    roots, domains = np.array(list("abcdef")), np.array(["x"] * 6)
    cat = Catalogue({"age": ages}, ids, domains, roots, meta=meta)
    ages[0], ids[0], roots[0], domains[0], meta["file"] = 99, 99, "z", "z", "other"
    assert (cat["age"][0], cat.ids[0], cat.root[0], cat.domain[0], cat.meta["file"]) == (0, 0, "a", "x", "t.csv")
    for array in (cat["age"], cat.ids, cat.root, cat.domain):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    with pytest.raises(TypeError):
        cat.columns["mstar"] = ages
    with pytest.raises(TypeError):
        cat.meta["file"] = "other"
    with pytest.raises(FrozenInstanceError):
        cat.ids = ids


def test_a_catalogue_survives_the_way_to_a_worker_process():
    first = catalogue(skipped=(Skip(1, "a", "age", "-3", "0 to 13.9 Gyr"),), meta={"file": "t.csv"})
    for again in (pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
        assert again.skipped == first.skipped
        assert again.meta == first.meta
        assert np.array_equal(again.ids, first.ids)
        assert np.array_equal(again["age"], first["age"])
        assert np.array_equal(again.root, first.root)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"columns": {"age": np.arange(5.0)}}, DataError),
        ({"columns": {"age": np.zeros((6, 2))}}, DataError),
        ({"columns": {"colour": np.zeros(6)}}, ConfigError),
        ({"root": np.array(["a"])}, DataError),
        ({"domain": np.array(["a", "b"])}, DataError),
        ({"ids": np.arange(7)}, DataError),
    ],
)
def test_columns_of_another_length_or_name_are_refused(changes, error):
    with pytest.raises(error):
        catalogue(**changes)


def test_a_missing_column_is_named_with_what_there_is():
    cat = catalogue(meta={"file": "t.csv"})
    assert "age" in cat
    assert "spin" not in cat
    with pytest.raises(DataError, match="no column 'spin'") as caught:
        cat["spin"]
    assert caught.value.where == "t.csv"
    assert "mstar, age" in caught.value.expected


def test_features_are_columns_in_order_with_logarithms():
    found = catalogue().features(("age", "mstar"))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.stack([np.arange(6.0), np.full(6, 10.0)], axis=1))


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_selecting_keeps_rows_together(mask):
    cat, mask = catalogue(), np.array(mask)
    part = cat.select(mask)
    assert len(part) == mask.sum()
    assert part.ids.tolist() == (part["age"] + 100).tolist()
    assert part.root.tolist() == [f"r{int(age) // 2}" for age in part["age"]]
    assert cat.select(np.flatnonzero(mask)).ids.tolist() == part.ids.tolist()


def test_selecting_by_place_may_repeat_and_reorder():
    assert catalogue().select(np.array([5, 0, 0])).ids.tolist() == [105, 100, 100]


def test_complete_moves_unusable_rows_to_the_skip_list_with_their_reason():
    old = Skip(77, "x", "age", "-3", "0 to 13.9 Gyr")
    cat = catalogue(
        columns={"sfr": np.array([1, np.nan, 1, 0, np.inf, 1.0]), "gas_mass": np.array([1e9, 0, 1e9, 1e9, 1e9, 0])},
        skipped=(old,),
    )
    part = cat.complete(["sfr", "gas_mass"])
    assert part.ids.tolist() == [100, 102]
    assert part.skipped[0] == old
    assert [(skip.id, skip.field, skip.value) for skip in part.skipped[1:]] == [
        ("101", "sfr", "nan"),
        ("103", "sfr", "0.0"),
        ("104", "sfr", "inf"),
        ("105", "gas_mass", "0.0"),
    ]
    assert all(skip.reason for skip in part.skipped)
    assert len(cat) == 6
    assert len(cat.complete(name for name in ["age"])) == 6


def test_joining_keeps_shared_columns_rows_and_skips():
    one = catalogue(meta={"file": "a"}, skipped=(Skip(0, "s", "age", "-1", "no"),))
    two = catalogue(domain="toy-b", columns={"spin": np.ones(6)}, meta={"file": "b"})
    both = concatenate([one, two])
    assert len(both) == 12
    assert list(both.columns) == ["mstar", "age", "gas_mass"]
    assert both.domain.tolist() == ["toy-a"] * 6 + ["toy-b"] * 6
    assert both.root.tolist() == [*one.root, *two.root]
    assert both.skipped == one.skipped
    assert [part["file"] for part in both.meta["parts"]] == ["a", "b"]
    assert concatenate([one, catalogue(root=None)]).root is None
    assert concatenate([one]).ids.tolist() == [str(value) for value in one.ids]


# ---- writing


def left_over(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_appears_whole_with_its_folder_and_suffix(tmp_path):
    path = tmp_path / "new" / "folder" / "a.table.csv"
    with atomic.writing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert left_over(path.parent) == []


def test_a_file_is_as_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "a.txt", "x")
        assert os.umask(0o027) == 0o027, "the umask itself is put back"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), FileFormatError("theirs", where="b.csv")])
def test_a_block_that_fails_leaves_the_old_file_and_its_own_error(tmp_path, error):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def write():
        with atomic.writing(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert path.read_text() == "old"
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "close"])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_whichever_system_call_fails_a_reader_sees_old_or_new(tmp_path, monkeypatch, call, failing):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    calls, real = [], getattr(os, call)

    def full_disk(descriptor):
        calls.append(descriptor)
        if call == "close":
            real(descriptor)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        if call != "close":
            real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full_disk)
        done = failing > {"fsync": 2, "close": 3}[call]
        with contextlib.nullcontext() if done else pytest.raises(FileFormatError, match="No space left") as caught:
            atomic.write_text(path, "new")
    if not done:
        assert caught.value.where == str(path)
        assert "free space" in caught.value.advice
    assert path.read_text() in ("old", "new")
    assert left_over(tmp_path) == [] or (call == "close" and failing == 1)


def test_a_rename_that_fails_is_reported_and_cleaned_up(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(FileFormatError, match="Permission denied"):
            atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert left_over(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(FileFormatError, match="cannot write") as caught:
        atomic.write_text(tmp_path / "locked" / "a.txt", "x")
    assert "a.txt" in caught.value.where


def test_a_path_that_cannot_be_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for wrong in (tmp_path / "file" / "below.txt", tmp_path / "folder", Path("/dev/null/x.txt")):
        with pytest.raises(FileFormatError, match="cannot write"):
            atomic.write_text(wrong, "x")
    assert left_over(tmp_path) == []
    assert (tmp_path / "file").read_text() == "x"


def test_json_is_sorted_ends_with_a_newline_and_knows_no_nan(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"b": 1, "a": [None, "Ω"]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": [None, "Ω"], "b": 1}
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic.write_json(tmp_path / "a.json", {"b": float("nan")})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


def test_checksums_are_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert atomic.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(FileFormatError, match="cannot read"):
        atomic.sha256(tmp_path / "absent")
