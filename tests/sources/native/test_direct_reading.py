"""Reading without the HDF5 library: the same numbers as with it for every layout, and an error for every damage."""

from __future__ import annotations

import os
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.errors import FileFormatError
from galineage.sources.native import ahead, direct
from galineage.sources.native.bulk import Chunks, Wanted, read_rows
from galineage.sources.native.direct import Column, descriptor

ROWS = 1000


def numbers(kind="<f4", width=3, rows=ROWS):
    values = np.random.default_rng(1).integers(0, 200, (rows, width) if width > 1 else rows)
    return values.astype(kind)


def saved(path, values, **how):
    with h5py.File(path, "w") as file:
        file.create_dataset("values", data=values, **how)
    return path


def column(file):
    return Column(file, "values", descriptor(file))


@pytest.fixture(params=["deflate", "zlib"])
def inflater(request, monkeypatch):
    if request.param == "zlib":
        monkeypatch.setattr(direct, "_INFLATE", lambda stored, size: zlib.decompress(stored, bufsize=size))
        monkeypatch.setattr(direct, "_BROKEN", zlib.error)
    else:
        pytest.importorskip("deflate")


LAYOUTS = {
    "contiguous": {},
    "chunks": {"chunks": (64, 2)},
    "chunk larger than the dataset": {"chunks": (1024, 3), "maxshape": (None, 3)},
    "gzip 1": {"compression": "gzip", "compression_opts": 1},
    "gzip 9": {"compression": "gzip", "compression_opts": 9, "chunks": (100, 3)},
    "gzip 0": {"compression": "gzip", "compression_opts": 0, "chunks": (333, 1)},
    "shuffle and gzip": {"compression": "gzip", "shuffle": True, "chunks": (77, 2)},
}
LEFT_TO_THE_LIBRARY = {
    "fletcher32": {"compression": "gzip", "fletcher32": True},
    "shuffle alone": {"shuffle": True},
    "lzf": {"compression": "lzf"},
    "scale and offset": {"scaleoffset": 0},
}


@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4", ">i8", "<u2", "i1", "<f2"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_are_those_of_the_library(tmp_path, inflater, layout, kind):
    values = numbers(kind)
    with h5py.File(saved(tmp_path / "a.hdf5", values, **LAYOUTS[layout]), "r") as file:
        mine = column(file)
        assert mine.direct
        for start, stop in ((0, ROWS), (0, 1), (63, 65), (64, 128), (99, 334), (990, ROWS), (5, 5)):
            found = mine.read(start, stop)
            np.testing.assert_array_equal(found, file["values"][start:stop])
            assert found.dtype == file["values"].dtype


@pytest.mark.parametrize("layout", LEFT_TO_THE_LIBRARY)
def test_other_filters_are_left_to_the_library(tmp_path, layout):
    values = numbers("<i4")
    with h5py.File(saved(tmp_path / "a.hdf5", values, **LEFT_TO_THE_LIBRARY[layout]), "r") as file:
        mine = column(file)
        assert not mine.direct
        np.testing.assert_array_equal(mine.read(10, 900), values[10:900])


def odd_type():
    kind = h5py.h5t.NATIVE_INT32.copy()
    kind.set_precision(20)
    return kind


@pytest.mark.parametrize("which", ["compact", "absent chunks", "never written", "external", "user block", "20 bits"])
def test_unusual_storage_is_left_to_the_library(tmp_path, which):
    path, values = tmp_path / "a.hdf5", numbers("<i4", 1)
    with h5py.File(path, "w", userblock_size=512 if which == "user block" else 0) as file:
        space, plan = h5py.h5s.create_simple((ROWS,)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        kind = odd_type() if which == "20 bits" else h5py.h5t.NATIVE_INT32
        if which == "compact":
            plan.set_layout(h5py.h5d.COMPACT)
        if which == "absent chunks":
            plan.set_chunk((100,))
        if which == "external":
            plan.set_external(os.fsencode(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)
        made = h5py.h5d.create(file.id, b"values", kind, space, plan)
        part = slice(0, 150 if which == "absent chunks" else 0 if which == "never written" else ROWS)
        h5py.Dataset(made)[part] = values[part]
    with h5py.File(path, "r") as file:
        mine = column(file)
        assert not mine.direct
        np.testing.assert_array_equal(mine.read(3, 990), file["values"][3:990])


def test_an_empty_dataset_has_no_rows(tmp_path):
    with h5py.File(saved(tmp_path / "a.hdf5", numbers(rows=0)), "r") as file:
        assert column(file).read(0, 0).shape == (0, 3)
        with pytest.raises(FileFormatError, match=r"values has \(0, 3\) rows"):
            column(file).read(0, 1)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_range_of_any_chunking_is_that_of_the_library(tmp_path_factory, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3), label="shape"))
    chunks = tuple(data.draw(st.integers(1, length), label="chunk") for length in shape)
    how = data.draw(st.sampled_from([{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}]))
    start = data.draw(st.integers(0, shape[0]))
    stop = data.draw(st.integers(start, shape[0]))
    kind = data.draw(st.sampled_from(["<f8", ">f4", "i1"]))
    values = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
    path = saved(tmp_path_factory.mktemp("box") / "a.hdf5", values, chunks=chunks, **how)
    with h5py.File(path, "r") as file:
        mine = column(file)
        assert mine.direct
        np.testing.assert_array_equal(mine.read(start, stop), values[start:stop])


@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}], ids=["contiguous", "gzip"])
def test_a_file_cut_while_it_is_read_is_an_error(tmp_path, how):
    path = saved(tmp_path / "a.hdf5", np.random.default_rng(0).normal(size=(ROWS, 3)), **how)
    with h5py.File(path, "r") as file:
        mine = column(file)
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(FileFormatError, match="values cannot be read: the file ends before") as caught:
            mine.read(0, ROWS)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("how", [{}, {"shuffle": True}, {"fletcher32": True}], ids=["gzip", "shuffle", "fletcher32"])
def test_a_flipped_byte_in_a_chunk_is_an_error(tmp_path, inflater, how):
    path = tmp_path / "a.hdf5"
    saved(path, np.random.default_rng(0).normal(size=(ROWS, 3)), chunks=(100, 3), compression="gzip", **how)
    with h5py.File(path, "r") as file:
        chunk = file["values"].id.get_chunk_info(4)
    content = bytearray(path.read_bytes())
    for at in (1, chunk.size // 3, chunk.size // 2, chunk.size - 1):  # the last is of the checksum
        damaged = content.copy()
        damaged[chunk.byte_offset + at] ^= 16
        path.write_bytes(damaged)
        with h5py.File(path, "r") as file:
            mine = column(file)
            first = chunk.chunk_offset[0]
            with pytest.raises(FileFormatError, match="values cannot be read") as caught:
                mine.read(first + 10, first + 20)
            assert str(path) in str(caught.value)
            assert len(mine.read(first + 100, first + 150)) == 50, "other chunks are whole"


def test_a_dataset_with_a_wrong_fletcher_sum_is_an_error(tmp_path):
    path = saved(tmp_path / "a.hdf5", numbers("<f4", 1), chunks=(ROWS,), fletcher32=True)
    with h5py.File(path, "r") as file:
        chunk = file["values"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 40] ^= 1
    path.write_bytes(content)
    with h5py.File(path, "r") as file, pytest.raises(FileFormatError, match="values cannot be read"):
        column(file).read(0, ROWS)


def test_a_chunk_of_another_length_is_left_to_the_library(tmp_path, inflater):
    path, values = tmp_path / "a.hdf5", numbers("<f4", 1)
    with h5py.File(path, "w") as file:
        made = file.create_dataset("values", (ROWS,), "<f4", chunks=(500,), compression="gzip")
        made[:] = values
        made.id.write_direct_chunk((500,), zlib.compress(values[500:600].tobytes()))
    with h5py.File(path, "r") as file:
        mine = column(file)
        np.testing.assert_array_equal(mine.read(0, 500), values[:500])
        try:
            expected = file["values"][500:600]
        except OSError:
            expected = None
        if expected is None:
            with pytest.raises(FileFormatError, match="values cannot be read"):
                mine.read(500, ROWS)
        else:
            np.testing.assert_array_equal(mine.read(500, 600), expected)


def box(folder, files=4, **how):
    """Files of 50 rows each, whose values count on."""
    paths = []
    for k in range(files):
        with h5py.File(folder / f"{k}.hdf5", "w") as file:
            file.create_dataset("stars/n", data=np.arange(50 * k, 50 * k + 50), **how)
        paths.append(folder / f"{k}.hdf5")
    start = 50 * np.arange(files)
    return Chunks(tuple(paths), start, start + 50, 50 * files)


@pytest.mark.parametrize("held", [1, 60, 10_000])
@pytest.mark.parametrize("threads", [1, 4])
def test_order_and_rows_do_not_depend_on_threads(tmp_path, monkeypatch, held, threads):
    from galineage.sources.native import bulk

    monkeypatch.setattr(bulk, "HELD", held)
    monkeypatch.setattr(bulk, "LARGEST", 20)
    monkeypatch.setattr(ahead, "THREADS", threads)
    wanted = [Wanted(k, first, count) for k, (first, count) in enumerate([(180, 20), (0, 7), (7, 120), (127, 0)])]
    found = list(read_rows(box(tmp_path, compression="gzip"), "stars", ["n"], wanted))
    assert [one.key for one, _ in found] == [1, 2, 0, 3]
    for one, rows in found[:3]:
        np.testing.assert_array_equal(rows["n"], np.arange(one.first, one.first + one.count))


def test_a_caller_may_stop_early(tmp_path):
    chunks = box(tmp_path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    reading = read_rows(chunks, "stars", ["n"], [Wanted(k, 10 * k, 10) for k in range(20)])
    assert next(reading)[0].key == 0
    reading.close()
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after <= before, "files are closed"


def test_a_broken_file_in_between_costs_its_own_galaxies(tmp_path):
    chunks = box(tmp_path, compression="gzip")
    with h5py.File(chunks.paths[1], "r") as file:
        chunk = file["stars/n"].id.get_chunk_info(0)
    content = bytearray(chunks.paths[1].read_bytes())
    content[chunk.byte_offset + 20] ^= 255
    chunks.paths[1].write_bytes(content)
    found = dict(
        read_rows(chunks, "stars", ["n"], [Wanted(0, 0, 30), Wanted(1, 40, 20), Wanted(2, 90, 20), Wanted(3, 150, 9)])
    )
    errors = {one.key for one, rows in found.items() if isinstance(rows, FileFormatError)}
    assert errors == {1, 2}
    assert all("stars/n" in str(rows) for rows in found.values() if isinstance(rows, FileFormatError))


def test_fewer_rows_than_the_header_promises_are_an_error(tmp_path):
    chunks = box(tmp_path)
    with h5py.File(chunks.paths[2], "a") as file:
        del file["stars/n"]
        file["stars/n"] = np.arange(20)
    found = {one.key: rows for one, rows in read_rows(chunks, "stars", ["n"], [Wanted(0, 100, 10), Wanted(1, 115, 10)])}
    assert isinstance(found[1], FileFormatError), "never left out in silence"


def test_results_come_in_order_and_a_failure_in_its_place():
    def work(k):
        if k == 3:
            raise ValueError(k)
        return k * k

    taken = []

    def items():
        for k in range(6):
            taken.append(k)
            yield k

    made = ahead.in_order(work, items(), lambda _: 10, 20)
    assert [next(made) for _ in range(3)] == [(0, 0), (1, 1), (2, 4)]
    assert len(taken) <= 5, "no further ahead than there is room"
    with pytest.raises(ValueError, match="3"):
        next(made)


def test_small_pieces_are_not_read_ahead_without_end():
    """Each may hold a file open, and a process may have 256 of them."""
    taken = []

    def items():
        for number in range(200):
            taken.append(number)
            yield number

    made = ahead.in_order(lambda number: number, items(), lambda _: 1, 10**6)
    assert next(made)[1] == 0
    assert len(taken) <= ahead.AHEAD + 1
    assert [result for _, result in made] == list(range(1, 200))
