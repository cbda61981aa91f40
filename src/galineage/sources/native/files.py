"""HDF5 files of simulations: opened with messages that name file and dataset, read in slices."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from galineage.errors import FileFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["attributes", "number", "opened", "part"]


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    FileFormatError
        If it is absent, cut short, or not HDF5.
    """
    if not path.is_file():
        raise FileFormatError(f"there is no file {path.name}", where=str(path), advice="download it, or check the path")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FileFormatError(
            f"{path.name} cannot be read as HDF5: {error}", where=str(path), advice="download it again"
        ) from error
    with file:
        yield file


def attributes(file: h5py.File, group: str = "Header") -> dict[str, Any]:
    """Return a group's attributes; arrays of one element become plain values."""
    if group not in file:
        raise FileFormatError(
            f"{Path(file.filename).name} has no {group}", where=file.filename, expected="a snapshot or group catalogue"
        )
    found = {name: np.asarray(value) for name, value in file[group].attrs.items()}
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
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise FileFormatError(f"there is no dataset {name}", where=file.filename)
    if dataset.dtype.kind not in "fiub":
        raise FileFormatError(f"{name} holds {dataset.dtype}", where=file.filename, expected="numbers")
    if dataset.ndim == 0 or len(dataset) < stop:
        raise FileFormatError(
            f"{name} has {dataset.shape} rows", where=file.filename, expected=f"at least {stop}, as the header promises"
        )
    try:
        return np.asarray(dataset[start:stop])
    except OSError as error:
        raise FileFormatError(
            f"{name} cannot be read: {error}", where=file.filename, advice="the file is damaged: get it again"
        ) from error
