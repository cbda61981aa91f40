"""HDF5 tables read with h5py: pandas "fixed" and "table" layouts, plain 1-D datasets, compound datasets.

``pandas.read_hdf`` unpickles whatever lies in the file; this module never does. Layouts follow pandas/io/pytables.py
(``BlockManagerFixed``, ``AppendableFrameTable``) and the PyTables attribute conventions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from galineage.errors import FileFormatError
from galineage.guard import check_size
from galineage.sources.pickled_numbers import decode_names, decode_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

__all__ = ["HdfColumns", "read_hdf_columns"]


@dataclass
class HdfColumns:
    """What an HDF5 table holds.

    Attributes
    ----------
    names : list of str
        Every column of the table.
    columns : dict of str to array (n,)
        The columns asked for, as stored.
    units : dict of str to str
        Units where the file states them.
    """

    names: list[str] = field(default_factory=list)
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


def read_hdf_columns(file: h5py.File, key: str | None, wanted: Collection[str] | None) -> HdfColumns:
    """Read the columns of one table.

    Parameters
    ----------
    file : h5py.File
        Open for reading.
    key : str or None
        Group or compound dataset; None if the file has only one table.
    wanted : collection of str or None
        Columns to read; None for all of them.

    Returns
    -------
    HdfColumns

    Raises
    ------
    FileFormatError
        If there is no such table, several and no key, columns of different length, an object column that is not
        made of numbers, links to other files, or more values than the file can hold. h5py's own errors on damaged
        files pass through.
    """
    _refuse_links(file)
    node = _table_node(file, key)
    found = HdfColumns()

    def take(name: str, read: Callable[[], NDArray[Any]]) -> None:
        found.names.append(name)
        if wanted is None or name in wanted:
            found.columns[name] = read()
            taken = sum(values.nbytes for values in found.columns.values())
            check_size(file.filename, taken, f"{len(found.columns)} columns")

    kind = _text(node.attrs.get("pandas_type", ""))
    if isinstance(node, h5py.Dataset):
        _read_compound(node, take, found)
    elif kind == "frame":
        _read_fixed(node, take)
    elif kind == "frame_table":
        _read_appendable(node["table"], take)
    elif kind:
        raise _layout(node, f"a pandas object of type {kind!r}", "a pandas DataFrame")
    else:
        _read_plain(node, take, found)
    lengths = {len(values) for values in found.columns.values()}
    if len(lengths) > 1:
        raise _layout(node, f"columns of different lengths ({sorted(lengths)[:4]})", "columns of one length")
    return found


def _refuse_links(file: h5py.File) -> None:
    """Refuse links that leave the file, before any is followed: they can name whatever the user may read."""
    kinds: dict[str, int] = {}

    def note(name: bytes, info: Any) -> None:
        kinds[name.decode("utf-8", "replace")] = info.type

    file.id.links.visit(note, info=True)
    outside = [name for name, kind in kinds.items() if kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)]
    if outside:
        raise _layout(file, f"a link to another file ({outside[0]})", "all of the table in one file")


def _table_node(file: h5py.File, key: str | None) -> h5py.Group | h5py.Dataset:
    if key is not None:
        if key not in file:
            raise _layout(file, f"no group {key!r}", "one of " + (", ".join(_tables(file)) or "no table at all"))
        return file[key]
    tables = _tables(file)
    if len(tables) != 1:
        there = f"{len(tables)} tables: {', '.join(tables[:8])}" if tables else "no table"
        raise _layout(file, there, "one table, or the mapping's key = naming the group")
    return file[tables[0]]


def _tables(file: h5py.File) -> list[str]:
    """List groups of the file (two levels deep) and compound datasets that look like a table."""
    nodes = {"/": file, **{f"/{name}": file[name] for name in file}}
    found = []
    for name, node in nodes.items():
        if isinstance(node, h5py.Dataset):
            if node.dtype.names and not name.endswith("__table_column_meta__"):
                found.append(name)
        elif "pandas_type" in node.attrs or any(_is_column(node[child]) for child in node):
            found.append(name)
    return found


def _is_column(node: Any) -> bool:
    return isinstance(node, h5py.Dataset) and node.ndim == 1 and not node.dtype.names and "__table" not in node.name


def _read_fixed(group: h5py.Group, take: Callable[[str, Callable[[], NDArray[Any]]], None]) -> None:
    rows = len(group["axis1"]) if "shape" not in group["axis1"].attrs else 0
    for number in range(int(group.attrs["nblocks"])):
        names = _strings(group[f"block{number}_items"])
        node = group[f"block{number}_values"]
        block: list[NDArray[Any]] = []  # read once, and only if a column of the block is wanted
        for position, name in enumerate(names):

            def read(
                position: int = position, node: Any = node, names: list[str] = names, block: list[Any] = block
            ) -> NDArray[Any]:
                if not block:
                    block.append(_block(node, len(names), rows))
                return block[0][:, position]

            take(name, read)


def _block(node: h5py.Dataset, items: int, rows: int) -> NDArray[Any]:
    """Values (rows, items) of one pandas block."""
    if "shape" in node.attrs:  # pandas stores an empty block as a placeholder with its shape beside it
        return np.zeros((0, items))
    if _text(node.attrs.get("PSEUDOATOM", "")) == "object":
        values: NDArray[Any] = decode_numbers(_bounded(node)[0].tobytes(), f"{node.file.filename}, {node.name}")
    else:
        values = _values(node)
    if values.ndim == 2 and not bool(node.attrs.get("transposed", 0)):
        values = values.T
    if values.shape != (rows, items):
        raise _layout(node, f"a block of shape {values.shape}", f"({rows}, {items})")
    return values


def _read_appendable(node: h5py.Dataset, take: Callable[[str, Callable[[], NDArray[Any]]], None]) -> None:
    for column in node.dtype.names:
        if column == "index":
            continue
        stored = node.attrs.get(f"{column}_kind")
        if column.startswith("values_block_") and stored is not None:
            names = decode_names(bytes(stored), f"{node.file.filename}, {column}_kind")
            for position, name in enumerate(names):
                take(name, _later(node, column, position))
        else:
            take(column, _later(node, column))


def _read_compound(
    node: h5py.Dataset, take: Callable[[str, Callable[[], NDArray[Any]]], None], found: HdfColumns
) -> None:
    if not node.dtype.names or node.ndim != 1:
        raise _layout(node, "a dataset that is no table", "a group of columns, or a compound dataset")
    for column in node.dtype.names:
        take(column, _later(node, column))
    described = f"{node.name}.__table_column_meta__"
    if described in node.file:  # astropy writes units beside its tables
        from astropy.table.meta import get_header_from_yaml

        header = get_header_from_yaml([_text(line) for line in _bounded(node.file[described])])
        found.units.update({item["name"]: str(item["unit"]) for item in header["datatype"] if item.get("unit")})


def _read_plain(group: h5py.Group, take: Callable[[str, Callable[[], NDArray[Any]]], None], found: HdfColumns) -> None:
    columns = [name for name in group if _is_column(group[name])]
    if not columns:
        raise _layout(group, "a group without columns", "1-D datasets, or a pandas table")
    for name in columns:
        take(name, _later(group[name]))
        unit = group[name].attrs.get("unit", group[name].attrs.get("units"))
        if unit is not None:
            found.units[name] = _text(unit)


def _later(node: h5py.Dataset, column: str | None = None, position: int | None = None) -> Callable[[], NDArray[Any]]:
    """Put off reading a dataset, or a column of a compound one, until it is wanted."""

    def read() -> NDArray[Any]:
        values = _values(node) if column is None else _bounded(node, column)
        return _plain_text(values if position is None else values[:, position], node.file.filename)

    return read


def _values(node: h5py.Dataset) -> NDArray[Any]:
    """Values as stored; PyTables' bit fields become bool."""
    values = _bounded(node)
    is_bool = node.id.get_type().get_class() == h5py.h5t.BITFIELD and values.dtype == np.uint8
    return values.astype(bool) if is_bool else values


def _bounded(node: h5py.Dataset, column: str | None = None) -> NDArray[Any]:
    """Read a dataset after checking that its values lie in this file, and that its stated size can be true."""
    plist = node.id.get_create_plist()
    if node.is_virtual or plist.get_external_count():
        raise _layout(node, "a dataset whose values lie in another file", "all of the table in one file")
    # text becomes four bytes a letter
    width = node.dtype.itemsize * (5 if node.dtype.kind == "S" else 1)
    check_size(node.file.filename, node.size * max(width, 1), f"dataset {node.name}")
    return node[column] if column is not None else node[()]


def _plain_text(values: NDArray[Any], filename: str) -> NDArray[Any]:
    if values.dtype.kind == "O":
        cells = [_text(cell) for cell in values]
        check_size(filename, 4 * len(cells) * max(map(len, cells), default=0), "text with one long cell")
        return np.array(cells, dtype=str)
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    return values


def _strings(node: h5py.Dataset) -> list[str]:
    return [_text(cell) for cell in _bounded(node)]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _layout(node: Any, there: str, expected: str) -> FileFormatError:
    return FileFormatError(
        f"the HDF5 file holds {there}",
        where=f"{node.file.filename}, {node.name}",
        expected=expected,
        advice="look into it with h5dump -n or h5py, and set key and columns in the table's mapping",
    )
