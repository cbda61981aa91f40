"""HDF5 files of simulations: opened with messages that name file and dataset, read in slices."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from galineage.errors import FileFormatError, GalineageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

__all__ = ["attributes", "long_enough", "number", "numeric", "opened", "part", "rows_of", "stumbling", "unreadable"]

_STUMBLES = (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError)
"""What h5py raises where the file's own description of itself is damaged: anything, as the bytes happen to fall."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    FileFormatError
        If it is absent, cut short, or not HDF5; or if the HDF5 library stumbles over it later, in the block.
    """
    if not path.is_file():
        raise FileFormatError(f"there is no file {path.name}", where=str(path), advice="download it, or check the path")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FileFormatError(
            f"{path.name} cannot be read as HDF5: {error}", where=str(path), advice="download it again"
        ) from error
    with file, stumbling(path):
        yield file


@contextmanager
def stumbling(path: Path) -> Iterator[None]:
    """Say which file is damaged where the HDF5 library stumbles over it in the block.

    Raises
    ------
    FileFormatError
    """
    try:
        yield
    except GalineageError:
        raise
    except _STUMBLES as error:
        raise FileFormatError(
            f"{path.name} is damaged: {error or type(error).__name__}", where=str(path), advice="download it again"
        ) from error


def attributes(file: h5py.File, group: str = "Header", names: Collection[str] | None = None) -> dict[str, Any]:
    """Return a group's attributes, all or those of ``names``; arrays of one element become plain values."""
    if group not in file:
        raise FileFormatError(
            f"{Path(file.filename).name} has no {group}", where=file.filename, expected="a snapshot or group catalogue"
        )
    every = file[group].attrs
    found = {name: np.asarray(every[name]) for name in every if names is None or name in names}
    return {name: value.reshape(-1)[0] if value.size == 1 else value for name, value in found.items()}


def number(header: dict[str, Any], name: str, where: object) -> float:
    """Return a finite number of a header.

    Raises
    ------
    FileFormatError
        If it is absent or not a finite number.
    """
    try:
        value = float(header[name])
    except (KeyError, TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise FileFormatError(f"the header has no usable {name}", where=str(where), expected="a finite number")
    return value


def part(file: h5py.File, name: str, start: int, stop: int) -> NDArray[Any]:
    """Read rows ``start`` to ``stop`` of a dataset (n, ...), in the file's unit.

    Raises
    ------
    FileFormatError
        If the dataset is absent, shorter than promised, not numeric, or damaged.
    """
    dataset = numeric(file, name)
    long_enough(dataset.shape, name, stop, file.filename)
    return rows_of(dataset, name, start, stop)


def numeric(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset of numbers.

    Raises
    ------
    FileFormatError
        If it is absent or not numeric.
    """
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise FileFormatError(f"there is no dataset {name}", where=file.filename)
    if dataset.dtype.kind not in "fiub":
        raise FileFormatError(f"{name} holds {dataset.dtype}", where=file.filename, expected="numbers")
    return dataset


def long_enough(shape: tuple[int, ...] | None, name: str, stop: int, where: str) -> None:
    """Refuse a dataset of fewer than ``stop`` rows.

    Raises
    ------
    FileFormatError
    """
    if not shape or shape[0] < stop:
        raise FileFormatError(
            f"{name} has {shape} rows", where=where, expected=f"at least {stop}, as the header promises"
        )


def rows_of(dataset: h5py.Dataset, name: str, start: int, stop: int) -> NDArray[Any]:
    """Read rows ``start`` to ``stop`` of a dataset (n, ...), in the file's unit, with the HDF5 library.

    Raises
    ------
    FileFormatError
        If it is damaged.
    """
    try:
        return np.asarray(dataset[start:stop])
    except _STUMBLES as error:
        raise unreadable(name, error, dataset.file.filename) from error


def unreadable(name: str, why: object, where: str) -> FileFormatError:
    """Return the error for a dataset whose values cannot be had."""
    return FileFormatError(f"{name} cannot be read: {why}", where=where, advice="the file is damaged: get it again")
