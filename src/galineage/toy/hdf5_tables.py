"""HDF5 files written row by row: tables that grow, and one long table cut over several files."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from galineage.atomic import writing
from galineage.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["CutTable", "GrowingTable", "cuts", "new_file"]

ROWS = 4096
"""Rows of a stored chunk in tables that grow."""


def cuts(total: int, files: int) -> NDArray[np.int64]:
    """First row of each file and the end of the last: uneven, the second of three or more files being empty.

    Parameters
    ----------
    total : int
        Rows.
    files : int

    Returns
    -------
    array (files + 1,)

    Raises
    ------
    ConfigError
        If ``files`` is below 1.
    """
    if files < 1:
        raise ConfigError(f"cannot write {files} files", expected="at least 1")
    weight = 1 + 0.3 * (np.arange(files) % 3)
    if files > 2:
        weight[1] = 0.0
    edges = np.concatenate([[0.0], np.cumsum(weight)]) / weight.sum()
    return np.round(edges * total).astype(np.int64)


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """Open a file that takes its name when the block ends without an error.

    Raises
    ------
    FileFormatError
        If it cannot be written.
    """
    with writing(path) as temporary, h5py.File(temporary, "w") as file:
        yield file


class GrowingTable:
    """Columns in one HDF5 file or group that take any number of rows, one after another.

    Parameters
    ----------
    group : h5py.Group
        Open for writing; datasets are made with the first rows.
    """

    def __init__(self, group: h5py.Group) -> None:
        self.group, self.rows = group, 0

    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Append rows; every call gives the same columns, each of shape (n, ...), in the units of the file."""
        count = len(next(iter(columns.values())))
        for name, values in columns.items():
            if name not in self.group:
                shape = values.shape[1:]
                self.group.create_dataset(
                    name, (0, *shape), values.dtype, maxshape=(None, *shape), chunks=(ROWS, *shape)
                )
            data = self.group[name]
            data.resize(self.rows + count, axis=0)
            data[self.rows :] = values
        self.rows += count


class CutTable:
    """One long table in several files; rows go to the file they belong to, and only one file is open at a time.

    Parameters
    ----------
    path : callable of int
        Path of file number c.
    edges : array (c + 1,) of int
        First row of each file, and the number of rows.
    start : callable of (h5py.File, int)
        Writes what a file holds besides the table (headers); called for empty files too.
    name : str
        Group of the table; a file without rows does not have it.
    compression : str or None
        As h5py takes it.
    attributes : mapping of str to mapping, optional
        Attributes of each dataset.
    """

    def __init__(
        self,
        path: Callable[[int], Path],
        edges: NDArray[np.int64],
        start: Callable[[h5py.File, int], None],
        name: str,
        compression: str | None = None,
        attributes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._path, self._edges, self._start, self._name = path, edges, start, name
        self._compression, self._attributes = compression, attributes or {}
        self._row, self._number = 0, -1
        self._file: h5py.File | None = None
        self._open = ExitStack()

    def __enter__(self) -> CutTable:
        self._next()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            while self._number < len(self._edges) - 2:
                self._next()
            if self._row != self._edges[-1]:
                kind, error = ConfigError, ConfigError(f"{self._row} rows were written", expected=str(self._edges[-1]))
        # an exception makes the atomic writer drop the file that is open
        self._open.__exit__(kind, error, trace)
        if trace is None and error is not None:
            raise error

    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Append rows; every call gives the same columns, each of shape (n, ...), in the units of the file."""
        count, done = len(next(iter(columns.values()))), 0
        while done < count:
            while self._row >= self._edges[self._number + 1]:
                self._next()
            take = int(min(count - done, self._edges[self._number + 1] - self._row))
            first = int(self._row - self._edges[self._number])
            for name, values in columns.items():
                self._dataset(name, values)[first : first + take] = values[done : done + take]
            self._row += take
            done += take

    def _next(self) -> None:
        self._open.close()
        self._number += 1
        self._file = self._open.enter_context(new_file(self._path(self._number)))
        self._start(self._file, self._number)

    def _dataset(self, name: str, values: NDArray[Any]) -> h5py.Dataset:
        assert self._file is not None  # noqa: S101 - append comes after _next
        group = self._file.require_group(self._name)
        if name not in group:
            rows = int(self._edges[self._number + 1] - self._edges[self._number])
            data = group.create_dataset(name, (rows, *values.shape[1:]), values.dtype, compression=self._compression)
            for key, value in self._attributes.get(name, {}).items():
                data.attrs[key] = value
        return group[name]
