"""Object columns: numbers come out, and nothing is ever executed."""

import contextlib
import os
import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from galineage.errors import FileFormatError
from galineage.sources.pickled_numbers import decode_numbers

CELLS = st.one_of(
    st.floats(),
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.integers(-(2**31), 2**31 - 1).map(np.int32),
    st.integers(0, 255).map(np.uint8),
    st.booleans().map(np.bool_),
)
PROTOCOLS = st.sampled_from([2, 3, 4, 5])


def object_array(cells, shape, order="C"):
    out = np.empty(len(cells), object)
    out[:] = cells
    return np.array(out.reshape(shape), order=order)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@settings(deadline=None)
@given(st.lists(CELLS, max_size=30), PROTOCOLS, st.sampled_from("CF"))
def test_numbers_are_those_that_unpickling_gives(cells, protocol, order):
    shape = (2, len(cells) // 2)
    array = object_array(cells[: 2 * shape[1]], shape, order)
    got = decode_numbers(pickle.dumps(array, protocol))
    np.testing.assert_array_equal(got, array.astype(float))
    assert got.shape == array.shape


@settings(deadline=None)
@given(hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.dtype(">f8"), np.bool_]), (3, 2)), PROTOCOLS)
def test_numeric_arrays_are_read_too(array, protocol):
    np.testing.assert_array_equal(decode_numbers(pickle.dumps(array, protocol)), array.astype(float))
    turned = np.asfortranarray(array)
    np.testing.assert_array_equal(decode_numbers(pickle.dumps(turned, protocol)), array.astype(float))


def test_a_shared_number_is_recalled_from_the_memo():
    shared = np.float32(2.5)
    array = object_array([shared, shared, 1.0], (3,))
    np.testing.assert_array_equal(decode_numbers(pickle.dumps(array)), [2.5, 2.5, 1.0])


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_canary_never_runs(tmp_path, protocol):
    trap = Canary(tmp_path / "pwned")
    for payload in (trap, object_array([1.0, trap], (2,)), [trap], (trap, 1)):
        with pytest.raises(FileFormatError, match="holds"):
            decode_numbers(pickle.dumps(payload, protocol))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'false'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05false\x85R.",
        b"(S'false'\nios\nsystem\n.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02Pabc\n.",
    ],
)
def test_anything_but_numbers_is_refused(code):
    with pytest.raises(FileFormatError):
        decode_numbers(code)


def test_the_refused_name_is_in_the_message():
    with pytest.raises(FileFormatError, match="system"):
        decode_numbers(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05false\x85R.")


@pytest.mark.parametrize("cell", [b"raw", [1.0], (1.0,), {}, {1.0}, 1j, np.array([1.0]), np.str_("x")])
def test_cells_that_are_no_numbers_are_refused(cell):
    with pytest.raises(FileFormatError):
        decode_numbers(pickle.dumps(object_array([1.0, cell], (2,))))


def test_text_among_numbers_is_handed_on_as_text():
    got = decode_numbers(pickle.dumps(object_array([0.1, None, "unknown", True, np.float32(2.5)], (5,))))
    assert got.tolist() == ["0.1", "", "unknown", "1.0", "2.5"]


def test_too_large_shapes_and_whole_numbers_are_refused():
    good = pickle.dumps(object_array([1.0, 2.0], (2,)), 2)
    with pytest.raises(FileFormatError):
        decode_numbers(good.replace(b"K\x02\x85", b"K\x03\x85"))
    with pytest.raises(FileFormatError, match="too large"):
        decode_numbers(pickle.dumps(object_array([10**400, 1.0], (2,))))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_truncated_stream_is_refused_at_every_length(protocol):
    whole = pickle.dumps(object_array([1.0, None, np.float32(2), 3], (2, 2)), protocol)
    for length in range(len(whole)):
        with pytest.raises(FileFormatError):
            decode_numbers(whole[:length])


@settings(deadline=None, max_examples=300)
@given(st.data(), PROTOCOLS)
def test_damaged_streams_never_crash(data, protocol):
    whole = bytearray(pickle.dumps(object_array([1.0, None, np.float32(2), 3], (2, 2)), protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FileFormatError):
        assert isinstance(decode_numbers(bytes(whole)), np.ndarray)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_noise_never_crashes(noise):
    with contextlib.suppress(FileFormatError):
        assert isinstance(decode_numbers(noise), np.ndarray)


@pytest.mark.data
@pytest.mark.parametrize("name", ["properties_tng.h5py", "properties_eagle.h5py"])
def test_real_object_columns_hold_numbers_only(catalogs, name):
    import h5py

    with h5py.File(catalogs / name) as file:
        block = next(k for k in file["data"] if file["data"][k].attrs.get("PSEUDOATOM") == b"object")
        stream = file["data"][block][0].tobytes()
    assert {op.name for op, _, _ in pickletools.genops(stream)} >= {"BINFLOAT", "REDUCE"}
    assert decode_numbers(stream).shape[1] == 2
