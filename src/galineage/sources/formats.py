"""Raw columns out of CSV, ECSV, FITS, VOTable, Parquet and HDF5; the format is told by content, not by suffix."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from dataclasses import field as default
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import FileFormatError, GalineageError
from galineage.guard import (
    check_ecsv,
    check_fits_table,
    check_packing,
    check_parquet,
    check_size,
    check_votable,
    require_file,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection

    from astropy.table import Table
    from numpy.typing import NDArray

__all__ = ["RawTable", "read_raw", "sniff"]

_KNOWN = "CSV, ECSV, FITS, VOTable, Parquet or HDF5"
_MASK = ".mask"


@dataclass(frozen=True)
class RawTable:
    """Columns as the file has them, before any conversion.

    Attributes
    ----------
    format : str
        ``csv``, ``ecsv``, ``fits``, ``votable``, ``parquet`` or ``hdf5``.
    names : tuple of str
        Every column of the file.
    columns : dict of str to array (n,)
        The columns asked for, in the file's unit.
    units : dict of str to str
        Units where the file states them.
    masks : dict of str to array (n,) of bool
        True where a value is missing; absent if none is.
    """

    format: str
    names: tuple[str, ...]
    columns: dict[str, NDArray[Any]] = default(default_factory=dict)
    units: dict[str, str] = default(default_factory=dict)
    masks: dict[str, NDArray[np.bool_]] = default(default_factory=dict)


def sniff(path: str | os.PathLike[str]) -> str:
    """Tell a file's format from its first bytes.

    Parameters
    ----------
    path : path
        An existing file.

    Returns
    -------
    str
        ``csv``, ``ecsv``, ``fits``, ``votable``, ``parquet`` or ``hdf5``.

    Raises
    ------
    FileFormatError
        If there is no such file (near names are listed), it is a folder, may not be read, is empty, or is of
        another kind (pickles and numpy archives are refused: they can hold code).
    """
    head = _head(Path(path))
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    if text.startswith(b"<") and b"VOTABLE" in head.upper():
        return "votable"
    if text.startswith(b"# %ECSV"):
        return "ecsv"
    check_packing(path, head)
    if b"\0" in head or text.startswith(b"<"):
        raise FileFormatError(
            f"the file's format is not known (it begins with {head[:8]!r})",
            where=str(path),
            expected=_KNOWN,
            advice="check that the download is complete and is a table",
        )
    return "csv"


_MAGIC = {b"\x89HDF\r\n\x1a\n": "hdf5", b"SIMPLE  =": "fits", b"PAR1": "parquet"}


def read_raw(path: str | os.PathLike[str], key: str | None = None, wanted: Collection[str] | None = None) -> RawTable:
    """Read columns as they are in the file.

    Parameters
    ----------
    path : path
        A table in one of the known formats.
    key : str, optional
        HDF5 group or FITS extension name.
    wanted : collection of str, optional
        Columns to read; those the file lacks are passed over. None reads all.

    Returns
    -------
    RawTable

    Raises
    ------
    FileFormatError
        If the file cannot be opened, is truncated or corrupt, or repeats a column name.

    Notes
    -----
    Damage to the data bytes of a format without checksums (HDF5, Parquet and VOTable as usually written) cannot be
    seen here: such values go through the row checks like all others.
    """
    name = sniff(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deviations from a standard that do not change the numbers
            warnings.filterwarnings("error", message=".*(truncated|[Cc]hecksum|[Dd]atasum).*")
            raw = _READERS[name](Path(path), key, wanted)
    except GalineageError:
        raise
    except Exception as error:  # parsers of third parties fail with any type on damaged bytes
        reason = str(error).strip().splitlines()
        raise FileFormatError(
            f"the {name} file cannot be read: {reason[0] if reason else type(error).__name__}",
            where=str(path),
            expected=f"a whole, undamaged {name} table",
            advice="the file is probably truncated or damaged: compare its size or checksum with the source's"
            + ("; if it was edited, write it without the old CHECKSUM and DATASUM keywords" if name == "fits" else ""),
        ) from error
    repeated = {item for item in raw.names if raw.names.count(item) > 1} if len(set(raw.names)) < len(raw.names) else ()
    if repeated:
        raise FileFormatError(
            f"columns are repeated: {', '.join(sorted(repeated))}", where=str(path), expected="each name once"
        )
    return _without_mask_columns(raw)


def _head(path: Path) -> bytes:
    if path.is_dir():
        inside = sorted(item.name for item in path.iterdir())[:5]
        raise FileFormatError(
            "this is a folder, not a file",
            where=str(path),
            expected=f"one table: {_KNOWN}",
            advice=f"name a file in it, for example {inside[0]}" if inside else "the folder is empty",
        )
    require_file(path)
    try:
        with open(path, "rb") as stream:
            head = stream.read(4096)
    except FileNotFoundError as error:
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, beside, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(near)}?" if near else "check the path"
        raise FileFormatError("there is no such file", where=str(path), advice=advice) from error
    except OSError as error:
        raise FileFormatError(
            f"the file may not be read: {error.strerror or error}", where=str(path), advice="check its permissions"
        ) from error
    if not head.strip():
        raise FileFormatError("the file is empty", where=str(path), expected=_KNOWN, advice="download it again")
    return head


def _chosen(names: Collection[str], wanted: Collection[str] | None) -> list[str]:
    """Columns to read, each with the mask column that may stand beside it."""
    if wanted is None:
        return list(names)
    return [name for name in names if name in wanted or (name.endswith(_MASK) and name[: -len(_MASK)] in wanted)]


def _read_csv(path: Path, key: str | None, wanted: Collection[str] | None) -> RawTable:
    from pyarrow import csv

    del key
    skip, delimiter = _csv_layout(path)
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(skip_rows=skip),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=False),
    )
    return _from_arrow(table, path, "csv", table.column_names, wanted)


def _csv_layout(path: Path) -> tuple[int, str]:
    """Count the comment lines before the header, and tell the delimiter."""
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream):
            if not line.startswith("#"):
                return number, max(",;\t", key=line.count)
    raise FileFormatError("the file holds comments only", where=str(path), expected="a line with the column names")


def _read_parquet(path: Path, key: str | None, wanted: Collection[str] | None) -> RawTable:
    from pyarrow import parquet

    del key
    check_parquet(path)
    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        names = list(file.schema_arrow.names)
        table = file.read(columns=_chosen(names, wanted))
        described = (file.schema_arrow.metadata or {}).get(b"table_meta_yaml")
        if table.num_rows != file.metadata.num_rows:
            raise ValueError(f"{table.num_rows} rows instead of {file.metadata.num_rows}")
    raw = _from_arrow(table, path, "parquet", names, wanted)
    if described:  # astropy's units
        from astropy.table.meta import get_header_from_yaml

        header = get_header_from_yaml(described.decode("utf-8").splitlines())
        raw.units.update({item["name"]: str(item["unit"]) for item in header["datatype"] if item.get("unit")})
    return raw


def _from_arrow(table: Any, path: Path, form: str, names: list[str], wanted: Collection[str] | None) -> RawTable:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns, masks = {}, {}
    for name in _chosen(table.column_names, wanted):
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_null(column.type):
            column = column.cast(pa.float64())
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            column = column if pa.types.is_boolean(column.type) else column.cast(pa.string())
        if column.null_count:
            masks[name] = np.asarray(column.is_null())
            floating = pa.types.is_floating(column.type)
            empty = "" if column.type == pa.string() else float("nan") if floating else 0
            column = column.fill_null(pa.scalar(empty).cast(column.type))
        if column.type == pa.string():  # numpy makes every cell as wide as the longest
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            check_size(path, 4 * longest * len(column), f"column {name!r} with a cell of {longest:,} bytes")
        values = column.to_numpy()
        columns[name] = values.astype(str) if values.dtype.kind == "O" and column.type == pa.string() else values
    return RawTable(form, tuple(names), columns, {}, masks)


def _read_fits(path: Path, key: str | None, wanted: Collection[str] | None) -> RawTable:
    from astropy.io import fits
    from astropy.table import Table

    with path.open("rb") as stream, fits.open(stream, checksum=True) as hdus:
        tables = [i for i, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        named = [i for i in tables if key is None or len(tables) == 1 or hdus[i].name.upper() == key.upper()]
        if not named:
            there = ", ".join(f"{i} {hdu.name}" for i, hdu in enumerate(hdus))
            raise FileFormatError(
                f"the FITS file has no table{f' called {key!r}' if key else ''}", where=str(path), expected=there
            )
        check_fits_table(path, hdus[named[0]], wanted)
        if hdus[named[0]].header["NAXIS2"] and hdus[named[0]].data is None:
            raise ValueError("the table has no data")
        table = Table.read(hdus, hdu=named[0], mask_invalid=False)
        return _from_astropy(table, "fits", wanted)


def _read_ecsv(path: Path, key: str | None, wanted: Collection[str] | None) -> RawTable:
    from astropy.table import Table

    del key
    check_ecsv(path)
    return _from_astropy(Table.read(path, format="ascii.ecsv"), "ecsv", wanted)


def _read_votable(path: Path, key: str | None, wanted: Collection[str] | None) -> RawTable:
    from astropy.io.votable import parse

    del key
    check_votable(path)
    if b"</VOTABLE>" not in _tail(path).replace(b" ", b""):
        raise ValueError("the closing tag </VOTABLE> is missing")
    table = parse(str(path)).get_first_table().to_table(use_names_over_ids=True)
    return _from_astropy(table, "votable", wanted)


def _tail(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4096))
        return stream.read()


def _from_astropy(table: Table, form: str, wanted: Collection[str] | None) -> RawTable:
    columns, units, masks = {}, {}, {}
    for name in _chosen(table.colnames, wanted):
        column = table[name]
        mask = getattr(column, "mask", None)
        if mask is not None and np.any(mask):
            masks[name] = np.array(mask)
        values = np.asarray(getattr(column, "value", column))
        values = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        columns[name] = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
        if column.info.unit is not None:
            units[name] = str(column.info.unit)
    return RawTable(form, tuple(table.colnames), columns, units, masks)


def _read_hdf5(path: Path, key: str | None, wanted: Collection[str] | None) -> RawTable:
    import h5py

    from galineage.sources.pandas_hdf import read_hdf_columns

    with h5py.File(path, "r") as file:
        found = read_hdf_columns(file, key, wanted)
    return RawTable("hdf5", tuple(found.names), found.columns, found.units)


def _without_mask_columns(raw: RawTable) -> RawTable:
    """Turn ``<name>.mask`` columns, as `galineage.tables` and astropy write them, into masks."""
    found = [name for name in raw.names if name.endswith(_MASK) and name[: -len(_MASK)] in raw.names]
    for name in found:
        mask = raw.columns.pop(name, None)
        if mask is not None:
            raw.masks[name[: -len(_MASK)]] = mask.astype(bool)
    return RawTable(raw.format, tuple(n for n in raw.names if n not in found), raw.columns, raw.units, raw.masks)


_READERS: dict[str, Callable[[Path, str | None, Collection[str] | None], RawTable]] = {
    "csv": _read_csv,
    "ecsv": _read_ecsv,
    "fits": _read_fits,
    "hdf5": _read_hdf5,
    "parquet": _read_parquet,
    "votable": _read_votable,
}
