"""Damaged files: a FileFormatError, or correct data; never a crash, never another shape.

A flipped bit in the data bytes of a format without checksums cannot be seen. Such values may differ, but they have gone
through the row checks: what is read is finite and in range, and every other row is in the skip list.
"""

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from made_up_tables import MAPPING, made_up, write_as

from galineage.errors import DataError, FileFormatError, GalineageError
from galineage.fields import field
from galineage.sources import open_source, sniff
from galineage.tables import write_table

FORMATS = ["hdf5", "fits", "parquet", "votable"]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def whole_file(tmp_path, form):
    if form == "fits":  # as the package writes it, with a checksum
        write_table(made_up(), tmp_path / "whole.fits")
        return (tmp_path / "whole.fits").read_bytes()
    return write_as(made_up(), tmp_path / "whole", form).read_bytes()


def same(got, want):
    return (
        len(got) == len(want)
        and np.array_equal(got.ids, want.ids)
        and all(np.array_equal(got[name], want[name], equal_nan=True) for name in want.columns)
    )


@pytest.mark.parametrize("form", [*FORMATS, "ecsv"])
def test_truncated_at_40_offsets(tmp_path, form, mapping):
    data = whole_file(tmp_path, form)
    (tmp_path / "t").write_bytes(data)
    want = open_source(tmp_path / "t", mapping).read()
    for length in np.linspace(0, len(data) - 1, 40).astype(int):
        (tmp_path / "t").write_bytes(data[:length])
        try:
            got = open_source(tmp_path / "t", mapping).read()
        except FileFormatError:
            continue
        except DataError:
            assert form == "ecsv"  # text that ends at the end of a row is a shorter table; nothing can tell
        else:
            assert same(got, want) or form == "ecsv"


def flip_and_read(folder, form, flips, seed):
    """Read damaged copies; returns how many were refused, equal, and silently different."""
    from galineage.sources import parse_mapping

    mapping = parse_mapping(MAPPING)
    data = (folder / "whole_copy").read_bytes()
    want = open_source(folder / "whole_copy", mapping).read()
    rng = np.random.default_rng(seed)
    counts = {"refused": 0, "same": 0, "different": 0}
    for _ in range(flips):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        (folder / "t").write_bytes(damaged)
        try:
            got = open_source(folder / "t", mapping).read()
        except (FileFormatError, DataError):
            counts["refused"] += 1
            continue
        if same(got, want):
            counts["same"] += 1
            continue
        counts["different"] += 1
        assert form != "fits", "the checksum must find it"
        assert got.meta["rows_in_file"] == want.meta["rows_in_file"]
        assert len(got) + len(got.skipped) == got.meta["rows_selected"]
        for name in got.columns:
            assert field(name).in_range(got[name]).all()
    return counts


@pytest.mark.parametrize("form", FORMATS)
def test_flipped_bits(tmp_path, form):
    (tmp_path / "whole_copy").write_bytes(whole_file(tmp_path, form))
    # in a process of its own: a C library that dies on damage must fail this test, not the run
    code = (
        "import sys, pathlib, warnings; warnings.simplefilter('ignore'); sys.path.insert(0, sys.argv[1]);"
        "from test_damaged_files import flip_and_read;"
        "print(flip_and_read(pathlib.Path(sys.argv[2]), sys.argv[3], 100, 1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path), form],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_such_file_names_near_ones(tmp_path):
    (tmp_path / "galaxies.fits").write_bytes(b"x")
    with pytest.raises(FileFormatError, match="no such file") as caught:
        sniff(tmp_path / "galaxy.fits")
    assert "galaxies.fits" in caught.value.advice
    with pytest.raises(FileFormatError, match="no such file"):
        sniff(tmp_path / "nowhere" / "galaxy.fits")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileFormatError, match="folder"):
        sniff(tmp_path)
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(FileFormatError, match=r"t\.csv"):
        sniff(tmp_path)


def test_permission_denied(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    if os.geteuid() == 0:  # root may read everything

        def denied(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", denied)
    else:
        path.chmod(0)
    with pytest.raises(FileFormatError, match="Permission denied") as caught:
        sniff(path)
    assert "permissions" in caught.value.advice


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_file(tmp_path, content):
    (tmp_path / "t.fits").write_bytes(content)
    with pytest.raises(FileFormatError, match="empty"):
        sniff(tmp_path / "t.fits")


def test_what_is_no_table_is_refused_by_name(tmp_path):
    for content, match in [
        (pickle.dumps([1]), "pickle"),
        (b"\x93NUMPY\x01\x00", "numpy"),
        (b"PK\x03\x04abc", "zip"),
        (b"\x1f\x8babc", "gzip"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not known"),
        (b"<html><body>404</body></html>", "not known"),
    ]:
        (tmp_path / "t.parquet").write_bytes(content)
        with pytest.raises(FileFormatError, match=match):
            sniff(tmp_path / "t.parquet")


def test_the_suffix_does_not_decide(tmp_path, mapping):
    path = write_as(made_up(), tmp_path / "t.csv", "fits")
    assert sniff(path) == "fits"
    assert len(open_source(path, mapping).read()) == 40


@pytest.mark.parametrize("text", ["a,b\n1\n", "a,a\n1,2\n", "# only\n# comments\n", "a\n\xff\n"])
def test_broken_csv(tmp_path, text, mapping):
    (tmp_path / "t.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(GalineageError):
        open_source(tmp_path / "t.csv", mapping).read()


def test_fits_without_a_table(tmp_path, mapping):
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "t.fits")
    with pytest.raises(FileFormatError, match="no table"):
        open_source(tmp_path / "t.fits", mapping).read()
