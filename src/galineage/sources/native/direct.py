"""Datasets read without the HDF5 library, which lets in one thread at a time: plain ones, and gzip chunk by chunk."""

from __future__ import annotations

import contextlib
import math
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from galineage.sources.native.files import long_enough, numeric, rows_of, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from galineage.errors import FileFormatError

__all__ = ["Column", "descriptor"]

_PIPELINES = ((), (h5py.h5z.FILTER_DEFLATE,), (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE))
"""Filters that are undone here, in the order of writing; the library undoes the others."""


def _inflater() -> tuple[Callable[[Any, int], Any], type[Exception]]:
    """Choose libdeflate, which is twice as fast as zlib, if it is there; both verify the checksum."""
    try:
        import deflate
    except ImportError:
        return lambda stored, size: zlib.decompress(stored, bufsize=size), zlib.error
    return deflate.zlib_decompress, deflate.DeflateError


_INFLATE, _BROKEN = _inflater()


@dataclass(frozen=True)
class Stored:
    """Where a chunk's bytes lie: ``corner`` is the index of its first value, ``offset`` and ``size`` are in bytes."""

    corner: tuple[int, ...]
    offset: int
    size: int


class _UnclearError(Exception):
    """What a chunk holds is not what was expected: the library is asked, and has the last word."""


class Column:
    """A dataset of numbers in an open file, whose rows several threads may read at once.

    Parameters
    ----------
    file : h5py.File
        Open for reading, and kept open.
    name : str
        Dataset.
    place : int or None
        From `descriptor`; None leaves everything to the library.

    Raises
    ------
    FileFormatError
        If it is absent or not numeric.
    """

    def __init__(self, file: h5py.File, name: str, place: int | None) -> None:
        self._dataset, self.name, self._path = numeric(file, name), name, file.filename
        self._type, self._shape = self._dataset.dtype, self._dataset.shape
        self._place = -1 if place is None else place
        self._offset: int | None = None
        self._chunks: Mapping[int, list[Stored]] = {}
        self._block_shape: tuple[int, ...] = ()
        self._filters: tuple[int, ...] = ()
        if place is not None and _plain_type(self._dataset, self._type):
            # damaged: the library will say so; AttributeError: it is too old to list chunks
            with contextlib.suppress(OSError, RuntimeError, ValueError, AttributeError):
                self._find()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the array."""
        return int(math.prod((self._shape or ())[1:]) * self._type.itemsize)

    @property
    def direct(self) -> bool:
        """Whether it is read without the library."""
        return self._offset is not None or bool(self._chunks)

    def read(self, start: int, stop: int, room: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` (n, ...), in the file's unit.

        ``room`` is memory of that many rows in which the array may be put.

        Raises
        ------
        FileFormatError
            If it is shorter than promised, or damaged.
        """
        long_enough(self._shape, self.name, stop, self._path)
        if start >= stop or not self.direct:
            return rows_of(self._dataset, self.name, start, stop)
        room = np.empty((stop - start) * self.row_bytes, np.uint8) if room is None else room
        values = room.view(self._type).reshape(stop - start, *self._shape[1:])
        try:
            if self._offset is not None:
                self._fill(room, self._offset + start * self.row_bytes)
            else:
                self._put(values, start, stop)
        except _UnclearError:
            return rows_of(self._dataset, self.name, start, stop)
        return values

    def _find(self) -> None:
        properties = self._dataset.id.get_create_plist()
        layout = properties.get_layout()
        if layout == h5py.h5d.CONTIGUOUS and not properties.get_external_count():
            self._offset = self._dataset.id.get_offset()
        elif layout == h5py.h5d.CHUNKED:
            self._filters = tuple(properties.get_filter(k)[0] for k in range(properties.get_nfilters()))
            if self._filters in _PIPELINES:
                self._block_shape = properties.get_chunk()
                self._chunks = _table(self._dataset, self._block_shape)

    def _put(self, values: NDArray[Any], start: int, stop: int) -> None:
        height = self._block_shape[0]
        for level in range(start // height, -(-stop // height)):
            low, high = max(level * height, start), min((level + 1) * height, stop)
            rows, mine = slice(low - start, high - start), slice(low - level * height, high - level * height)
            for chunk in self._chunks[level]:
                sides = zip(chunk.corner[1:], self._block_shape[1:], strict=True)
                goal = values[(rows, *(slice(at, at + length) for at, length in sides))]
                # a chunk may stick out of the dataset
                goal[...] = self._block(chunk)[(mine, *(slice(length) for length in goal.shape[1:]))]

    def _block(self, chunk: Stored) -> NDArray[Any]:
        if chunk.offset + chunk.size > os.fstat(self._place).st_size:
            raise self._cut()  # before memory is asked for, whose size a damaged table may say
        stored = np.empty(chunk.size, np.uint8)
        self._fill(stored, chunk.offset)
        size = math.prod(self._block_shape) * self._type.itemsize
        try:
            content: Any = _INFLATE(stored, size) if self._filters else stored
        except _BROKEN as error:
            raise _UnclearError from error
        if len(content) != size:
            raise _UnclearError
        if h5py.h5z.FILTER_SHUFFLE in self._filters:
            # the first bytes of all values came first, then all second ones
            content = np.frombuffer(content, np.uint8).reshape(self._type.itemsize, -1).T.tobytes()
        return np.frombuffer(content, self._type).reshape(self._block_shape)

    def _fill(self, into: NDArray[np.uint8], offset: int) -> None:
        """Fill a buffer with bytes of the file; one that has been cut is damaged, where the library puts zeros."""
        done = 0
        while done < len(into):
            try:
                got = os.preadv(self._place, [into[done:].data], offset + done)
            except OSError as error:
                raise unreadable(self.name, error, self._path) from error
            if not got:
                raise self._cut()
            done += got

    def _cut(self) -> FileFormatError:
        return unreadable(self.name, "the file ends before its values do", self._path)


def descriptor(file: h5py.File) -> int | None:
    """Return the number under which the system has the file open, or None if it is not one file from its first byte."""
    if not hasattr(os, "preadv") or file.driver != "sec2" or file.userblock_size:
        return None
    return int(file.id.get_vfd_handle())


def _plain_type(dataset: h5py.Dataset, kind: np.dtype[Any]) -> bool:
    """Tell whether the bytes in the file are those of the array."""
    return kind.kind in "fiu" and dataset.id.get_type().equal(h5py.h5t.py_create(kind))


def _table(dataset: h5py.Dataset, block: tuple[int, ...]) -> dict[int, list[Stored]]:
    """List the chunks by their place along the rows; empty if some are absent or were written in another way."""
    found: list[Any] = []
    dataset.id.chunk_iter(found.append)
    grid = tuple(-(-length // side) for length, side in zip(dataset.shape, block, strict=True))
    corners = np.array([one.chunk_offset for one in found], dtype=np.int64).reshape(-1, len(grid))
    if any(one.filter_mask or one.byte_offset is None for one in found):
        return {}
    inside = not (corners % block).any() and bool((corners < dataset.shape).all())
    if not inside or len(np.unique(corners, axis=0)) != math.prod(grid):
        return {}
    levels: dict[int, list[Stored]] = {}
    for one in found:
        chunk = Stored(one.chunk_offset, one.byte_offset, one.size)
        levels.setdefault(one.chunk_offset[0] // block[0], []).append(chunk)
    return levels
