"""The one writer and reader of output tables: FITS, ECSV, Parquet and VOTable.

Units, descriptions, masks, dtypes and a flat provenance dictionary survive the round trip `write_table`, `read_table`
in every format, and plain ``astropy.table.Table.read`` shows units and descriptions. What a format has no place for is
kept as follows.

======== ============================================================================================================
format   how
======== ============================================================================================================
FITS     ``TCOMM`` holds descriptions (ASCII); the card ``GALMETA`` holds provenance and exact descriptions as JSON;
         a column ``<name>.mask`` stands beside a column that has masked values; checksums are written
ECSV     native; a masked text column gets ``<name>.mask``
Parquet  native astropy header; ``<name>.mask`` beside a column with masked values (NaN, 0 or "" under the mask)
VOTable  ``INFO`` elements hold provenance; INFO ``galineage`` holds everything as JSON; ``<name>.mask`` as above,
         because VOTable itself cannot tell NaN from a missing value
======== ============================================================================================================
"""

from __future__ import annotations

import io
import itertools
import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Column, MaskedColumn, Table

from galineage.atomic import writing
from galineage.errors import DataError, FileFormatError
from galineage.fields import field
from galineage.guard import (
    check_ecsv,
    check_fits_table,
    check_packing,
    check_parquet,
    check_votable,
    parse_json,
    require_file,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from galineage.galaxy import Catalogue

__all__ = ["FORMATS", "format_of", "read_table", "write_catalogue", "write_table"]

FORMATS: dict[str, str] = {
    ".fits": "fits",
    ".ecsv": "ecsv",
    ".parquet": "parquet",
    ".vot": "votable",
    ".xml": "votable",
}
"""File suffix to format of output tables."""

_MASK = ".mask"
_CARD = "GALMETA"
_INFO = "galineage"
_DTYPES = frozenset({"bool", "uint8", "int16", "int32", "int64", "float32", "float64"})


def format_of(path: str | os.PathLike[str]) -> str:
    """Tell the format of an output table from its suffix.

    Parameters
    ----------
    path : path
        Name of the table.

    Returns
    -------
    str
        One of ``fits``, ``ecsv``, ``parquet``, ``votable``.

    Raises
    ------
    DataError
        If the suffix is none of `FORMATS`.

    Examples
    --------
    >>> format_of("predictions.vot")
    'votable'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise DataError(
            f"cannot tell the format of an output table from the suffix {suffix!r}",
            where=str(path),
            expected="one of " + ", ".join(FORMATS),
            advice=f"for example {Path(path).stem or 'table'}.ecsv",
        )
    return FORMATS[suffix]


def write_table(table: Table, path: str | os.PathLike[str], *, meta: Mapping[str, Any] | None = None) -> None:
    """Write a table atomically in the format that the suffix names.

    Parameters
    ----------
    table : astropy.table.Table
        One-dimensional columns (n,) of bool, integer, float or str, with units and descriptions. NaN stays NaN,
        masked stays masked. ``n`` may be 0.
    path : path
        ``.fits``, ``.ecsv``, ``.parquet``, ``.vot`` or ``.xml``.
    meta : mapping, optional
        Flat provenance (str to str, int, finite float, bool or None), added to ``table.meta``.

    Raises
    ------
    DataError
        If the suffix is unknown, a column has a type that not every format can hold, text does not fit the format
        (FITS is ASCII only; VOTable has no control characters), or ``meta`` is not flat.
    FileFormatError
        If the file cannot be written.

    Notes
    -----
    FITS and VOTable cannot tell a text cell's trailing blanks from padding: they are dropped there.
    """
    kind = format_of(path)
    prepared = _prepared(table, str(path))
    prepared.meta = _flat({**table.meta, **(meta or {})}, str(path))
    with writing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy warns of what is handled here: long keywords, odd column names
        _WRITERS[kind](prepared, temporary, str(path))


def write_catalogue(catalogue: Catalogue, path: str | os.PathLike[str]) -> None:
    """Write a catalogue as a table with units, descriptions and provenance.

    Parameters
    ----------
    catalogue : Catalogue
        Of one domain.
    path : path
        The suffix says the format. Columns are the field names in registry units, with ``GalaxyID``, ``Snapshot`` and
        ``RootID``; NaN means what the registry says. The mapping ``galineage`` reads it back as it was, if the file is
        called like the domain.

    Raises
    ------
    DataError
        If it is of several domains, or of several snapshots and without roots: galaxies that are one would be two.
    FileFormatError
        As `write_table` does.
    """
    domains = np.unique(catalogue.domain.astype(str))
    if len(domains) > 1:
        raise DataError(f"galaxies of {', '.join(domains)} in one table", where=str(path), expected="one domain")
    if catalogue.root is None and "snapshot" in catalogue and len(np.unique(catalogue["snapshot"])) > 1:
        raise DataError(
            "the z = 0 descendants of galaxies at several snapshots are unknown",
            where=str(path),
            advice="provide merger trees, or write one snapshot at a time",
        )
    table = Table()
    table["GalaxyID"] = Column(catalogue.ids, description="identifier of the galaxy in its domain")
    if "snapshot" in catalogue:
        table["Snapshot"] = Column(catalogue["snapshot"], description=field("snapshot").meaning)
    # readers put the domain in front of the root again
    known = catalogue.ids if catalogue.root is None else catalogue.root
    roots = np.array([str(one).removeprefix(f"{domain}:") for one, domain in zip(known, catalogue.domain, strict=True)])
    table["RootID"] = Column(roots, description="z = 0 descendant: galaxies of one root never straddle a split")
    for name, values in catalogue.columns.items():
        if name != "snapshot":
            item = field(name)
            table[name] = Column(values, unit=item.unit or None, description=item.meaning)
    write_table(table, path, meta=dict(catalogue.meta))


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table that `write_table` wrote (or any plain table of these formats).

    Parameters
    ----------
    path : path
        ``.fits``, ``.ecsv``, ``.parquet``, ``.vot`` or ``.xml``.

    Returns
    -------
    astropy.table.Table
        Columns with units, descriptions and masks; ``meta`` is the flat provenance.

    Raises
    ------
    DataError
        If the suffix is unknown.
    FileFormatError
        If the file does not exist, cannot be read, is truncated or corrupt.
    """
    kind = format_of(path)
    require_file(path)
    try:
        with Path(path).open("rb") as stream:
            check_packing(path, stream.read(8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # a damaged file must not pass as a whole one
            warnings.filterwarnings("error", message=".*(truncated|[Cc]hecksum|[Dd]atasum).*")
            return _READERS[kind](Path(path))
    except FileFormatError:
        raise
    except Exception as error:  # parsers of third parties fail with any type on damaged bytes
        raise FileFormatError(
            f"cannot read the table: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=str(path),
            expected=f"a whole {kind} table",
            advice="check the path; if the file is damaged, write it again",
        ) from error


def _prepared(table: Table, where: str) -> Table:
    """Return a shallow copy with plain columns and a defined value under every mask."""
    out = Table(masked=False)
    for name in table.colnames:
        column = table[name]
        values = np.asarray(getattr(column, "value", column))
        if values.ndim != 1 or not (values.dtype.name in _DTYPES or values.dtype.kind == "U"):
            raise DataError(
                f"column {name!r} has type {values.dtype} and shape {values.shape}",
                where=where,
                expected="one-dimensional columns of bool, integer, float or str",
                advice="split it into plain columns, or convert it",
            )
        if name.endswith(_MASK):
            raise DataError(f"the column name {name!r} ends in {_MASK!r}, which is reserved", where=where)
        mask = np.asarray(getattr(column, "mask", np.zeros(len(values), bool)))
        mask = np.broadcast_to(mask, values.shape)
        label = {"unit": column.info.unit, "description": column.info.description}
        if mask.any():
            filled = np.where(mask, _empty(values.dtype), values).astype(values.dtype)
            out[name] = MaskedColumn(filled, mask=mask, **label)
        else:
            out[name] = Column(values, **label)
    return out


def _empty(dtype: np.dtype[Any]) -> Any:
    return {"f": np.nan, "U": "", "b": False}.get(dtype.kind, 0)


def _flat(meta: Mapping[str, Any], where: str) -> dict[str, Any]:
    flat = {}
    for key, value in meta.items():
        value = value.item() if isinstance(value, np.generic) else value
        finite = not isinstance(value, float) or math.isfinite(value)
        if not (isinstance(key, str) and finite and (value is None or isinstance(value, str | int | float | bool))):
            raise DataError(
                f"the provenance entry {key!r} is {value!r}",
                where=where,
                expected="text keys with text, whole numbers, finite numbers, true/false or none",
                advice="turn lists and nested values into text, for example with json.dumps",
            )
        flat[key] = value
    return flat


def _native_masks(table: Table, kind: str, *, text_only: bool = False) -> Table:
    for column in table.itercols():
        if isinstance(column, MaskedColumn) and (column.dtype.kind == "U" or not text_only):
            column.info.serialize_method = {**column.info.serialize_method, kind: "data_mask"}
    return table


def _description_json(table: Table) -> str:
    columns = {c.name: {"description": c.description, "dtype": c.dtype.name} for c in table.itercols()}
    return json.dumps({"meta": dict(table.meta), "columns": columns}, allow_nan=False)


def _write_ecsv(table: Table, path: Path, where: str) -> None:
    _refuse_text(table, lambda cell: "\r" in cell or "\0" in cell, "a carriage return or NUL", "ECSV", where)
    _native_masks(table, "ecsv", text_only=True).write(path, format="ascii.ecsv", overwrite=True)


def _write_parquet(table: Table, path: Path, where: str) -> None:
    del where
    _native_masks(table, "parquet").write(path, format="parquet", overwrite=True)


def _write_fits(table: Table, path: Path, where: str) -> None:
    from astropy.io import fits

    _refuse_text(table, lambda cell: not _is_fits_text(cell), "characters beyond printable ASCII", "FITS", where)
    # quotes and ampersands are special in cards that CONTINUE: JSON can spell them in hexadecimal
    described = _description_json(table).replace("'", "\\u0027").replace("&", "\\u0026")
    labels = {column.name: column.description for column in table.itercols()}
    for column in table.itercols():
        column.description = _ascii(column.description)
    table.meta = {}
    buffer = io.BytesIO()
    _native_masks(table, "fits").write(buffer, format="fits")
    buffer.seek(0)
    # not mode="update": it makes a temporary file of its own, which stays where the disk is full
    with fits.open(buffer) as hdus:
        header = hdus[1].header
        for number, name in enumerate(hdus[1].columns.names, start=1):
            if labels.get(name):
                header[f"TCOMM{number}"] = _ascii(labels[name])
        header[_CARD] = described
        hdus[1].add_checksum()
        hdus.writeto(path, overwrite=True)


def _is_fits_text(cell: str) -> bool:
    return cell.isascii() and (cell.isprintable() or not cell)


def _ascii(text: str | None) -> str | None:
    """Printable ASCII on one line, as FITS cards need it; the exact text is kept in the JSON card."""
    if text is None:
        return None
    return " ".join(text.encode("ascii", "backslashreplace").decode("ascii").replace("\x7f", " ").split())


def _write_votable(table: Table, path: Path, where: str) -> None:
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    _refuse_text(table, lambda cell: not _is_xml_text(cell), "control characters or outer blanks", "VOTable", where)
    described = _description_json(table)
    meta, table.meta = dict(table.meta), {}
    for name in table.colnames:
        column = table[name]
        column.description = None if column.description is None else _xml(column.description)
        if isinstance(column, MaskedColumn):
            table[name] = Column(column.data.data, unit=column.unit, description=column.description)
            table[name + _MASK] = Column(np.array(column.mask), description=f"{name} is missing")
    votable = from_table(table)
    for key, value in {**meta, _INFO: described}.items():
        text = value if isinstance(value, str) else json.dumps(value)
        votable.resources[0].infos.append(Info(name=_xml(key) or "_", value=_xml(text)))
    votable.to_xml(str(path))


def _is_xml_text(cell: str) -> bool:
    return cell == cell.strip() and _xml(cell) == cell


def _xml(text: str) -> str:
    """Replace what XML 1.0 cannot hold by a blank."""
    return "".join(c if c.isprintable() else " " for c in text)


def _refuse_text(table: Table, wrong: Callable[[str], bool], what: str, form: str, where: str) -> None:
    """Refuse column names and text cells that the format would change or cannot hold."""
    for column in table.itercols():
        cells = np.unique(column.data if not isinstance(column, MaskedColumn) else column.data.data)
        for cell in (column.name, *(cells.tolist() if column.dtype.kind == "U" else ())):
            if wrong(cell):
                raise DataError(
                    f"column {column.name!r} has {what}: {cell[:60]!r}",
                    where=where,
                    expected=f"text that {form} can hold",
                    advice="write .parquet, which holds any text",
                )


def _read_parquet(path: Path) -> Table:
    check_parquet(path)
    return Table.read(path, format="parquet")


def _read_ecsv(path: Path) -> Table:
    from astropy.table.meta import get_header_from_yaml

    check_ecsv(path)
    table = Table.read(path, format="ascii.ecsv")
    with path.open(encoding="utf-8") as stream:
        lines = [line[2:] for line in itertools.takewhile(lambda line: line.startswith("#"), stream)]
    names = {item["name"] for item in get_header_from_yaml(lines[1:])["datatype"]}
    for name in table.colnames:
        column = table[name]
        if isinstance(column, MaskedColumn) and column.dtype.kind == "U" and name + _MASK not in names:
            # astropy masks empty text when it reads
            label = {"unit": column.unit, "description": column.description}
            table.replace_column(name, Column(column.filled(""), **label))
    return table


def _read_fits(path: Path) -> Table:
    from astropy.io import fits

    with path.open("rb") as stream, fits.open(stream, checksum=True) as hdus:
        check_fits_table(path, hdus[1 if len(hdus) > 1 else 0])
        # mask_invalid would mask NaN and "", which are values here
        table = Table.read(hdus, hdu=1 if len(hdus) > 1 else 0, mask_invalid=False)
    described = table.meta.pop(_CARD, None)
    for key in ("CHECKSUM", "DATASUM"):
        table.meta.pop(key, None)
    return _restored(table, described)


def _read_votable(path: Path) -> Table:
    from astropy.io.votable import parse

    check_votable(path)
    votable = parse(str(path))
    infos = {info.name: info.value for resource in votable.resources for info in resource.infos}
    described = infos.get(_INFO)
    table = votable.get_first_table().to_table(use_names_over_ids=True)
    if described is None:
        table.meta = dict(infos)
        return table
    for name in [name for name in table.colnames if not name.endswith(_MASK)]:
        column = table[name]
        values = np.asarray(getattr(column.data, "data", column.data))
        if name + _MASK in table.colnames:
            mask = np.asarray(table[name + _MASK]).astype(bool)
            fresh = MaskedColumn(values, mask=mask, unit=column.unit)
        else:
            fresh = Column(values, unit=column.unit)
        table.replace_column(name, fresh)
    table.remove_columns([name for name in table.colnames if name.endswith(_MASK)])
    return _restored(table, described)


def _restored(table: Table, described: str | None) -> Table:
    if described is None:
        return table
    story = parse_json(described)
    for name, about in story["columns"].items():
        table[name].description = about["description"]
        if not about["dtype"].startswith("str") and table[name].dtype != np.dtype(about["dtype"]):
            label = {"unit": table[name].unit, "description": about["description"]}
            kind = type(table[name])
            table.replace_column(name, kind(table[name].data.astype(about["dtype"]), **label))
    table.meta = story["meta"]
    return table


_WRITERS: dict[str, Callable[[Table, Path, str], None]] = {
    "ecsv": _write_ecsv,
    "fits": _write_fits,
    "parquet": _write_parquet,
    "votable": _write_votable,
}
_READERS: dict[str, Callable[[Path], Table]] = {
    "ecsv": _read_ecsv,
    "fits": _read_fits,
    "parquet": _read_parquet,
    "votable": _read_votable,
}
