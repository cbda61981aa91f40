"""What a file from a stranger must pass before a parser sees it: kind, size against content, depth.

Parsers of third parties allocate what a file claims, follow links to other files, and unpack without end. The checks
here are cheap, and come first. Memory may grow to `allowance` of a file: so much that no table of galaxies notices.
"""

from __future__ import annotations

import json
import re
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.errors import FileFormatError

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

__all__ = [
    "allowance",
    "check_ecsv",
    "check_fits_table",
    "check_packing",
    "check_parquet",
    "check_size",
    "check_votable",
    "parse_json",
    "parse_toml",
    "read_text",
    "require_file",
]

_FLOOR = 64 * 2**20
_RATIO = 50
_MOST_SETTINGS = 512 * 1024
_LONGEST_LINE = 4000
_DEEPEST = 100
_MOST_ALIASES = 100
_MOST_HEADER = 2**20

_PACKED = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\x1f\x9d": "compressed with compress",
    b"\x80": "a pickle, which can run code and is never read",
    b"\x93NUMPY": "a numpy array, not a table",
}


def require_file(path: str | os.PathLike[str]) -> None:
    """Refuse what is there and is no ordinary file: reading a pipe or a device may never end.

    Raises
    ------
    FileFormatError
        If it is a pipe, a socket or a device. What is not there, and folders, pass: their readers say it better.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FileFormatError("this is no ordinary file", where=str(path), advice="save its content as a file first")


def check_packing(path: str | os.PathLike[str], head: bytes) -> None:
    """Refuse archives and compressed files, which can unpack without end, and files that hold code.

    Raises
    ------
    FileFormatError
        Naming the kind.
    """
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            raise FileFormatError(
                f"the file is {name}",
                where=str(path),
                expected="a plain table",
                advice="unpack or convert it first" if "compressed" in name or "zip" in name else "convert it first",
            )


def allowance(path: str | os.PathLike[str]) -> int:
    """Bytes of memory that the content of a file may take: 64 MiB, or 50 times the file if that is more."""
    return max(_FLOOR, _RATIO * Path(path).stat().st_size)


def check_size(path: str | os.PathLike[str], wanted: int, what: str) -> None:
    """Refuse content that takes more memory than `allowance` gives the file.

    Parameters
    ----------
    path : path
        The file.
    wanted : int
        Bytes of memory.
    what : str
        What would take them, for the message.

    Raises
    ------
    FileFormatError
        If it is too much.
    """
    most = allowance(path)
    if wanted > most:
        raise FileFormatError(
            f"{what} would take {wanted / 2**20:,.0f} MiB of memory",
            where=str(path),
            expected=f"at most {most / 2**20:,.0f} MiB for a file of {Path(path).stat().st_size:,} bytes",
            advice="the file is damaged, or made to do harm",
        )


def read_text(path: str | os.PathLike[str], most: int = _MOST_SETTINGS) -> str:
    """Read UTF-8 text of at most ``most`` bytes from an ordinary file.

    Raises
    ------
    OSError, UnicodeDecodeError
        As `Path.read_text` does.
    ValueError
        If it is no ordinary file, or too long.
    """
    require_file(path)
    if Path(path).stat().st_size > most:
        raise ValueError(f"the file is longer than {most:,} bytes")
    return Path(path).read_text(encoding="utf-8")


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML text.

    Raises
    ------
    ValueError
        Of which `tomllib.TOMLDecodeError` is a kind: if it is no TOML, or longer, wider or deeper than any settings.
    """
    if len(text) > _MOST_SETTINGS or max(map(len, text.splitlines()), default=0) > _LONGEST_LINE:
        raise ValueError(f"settings of more than {_MOST_SETTINGS:,} characters, or {_LONGEST_LINE:,} in a line")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def parse_json(text: str) -> Any:
    """Parse JSON; raises ValueError if it is none, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def check_ecsv(path: str | os.PathLike[str]) -> None:
    """Refuse an ECSV file whose header or cells would cost far more than the file's size.

    Raises
    ------
    FileFormatError
        If brackets of the header are nested deeply, aliases multiply, or one long line would widen a whole column.
    """
    header, longest, count = 0, 0, 0
    depth, aliases = 0, 0
    with Path(path).open("rb") as stream:
        for line in stream:
            if not line.startswith(b"#"):
                longest, count = max(longest, len(line)), count + 1
                continue
            header += len(line)
            depth += sum(line.count(letter) for letter in (b"[", b"{")) - sum(line.count(end) for end in (b"]", b"}"))
            aliases += len(re.findall(rb"(?<![\w*])\*\w+", line))
            if header > _MOST_HEADER or depth > _DEEPEST or aliases > _MOST_ALIASES:
                raise FileFormatError("the header is too long or too deep", where=str(path), expected="columns, units")
    check_size(path, 4 * longest * count, f"{count} rows as wide as the longest")


_TAG = rb"<(?:[\w.-]+:)?%s\b((?:\s+[\w:.-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)"
_STREAM, _FIELD, _TABLE = (re.compile(_TAG % name) for name in (b"STREAM", b"FIELD", b"TABLE"))
_ATTRIBUTE = re.compile(rb"([\w:.-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


def check_votable(path: str | os.PathLike[str]) -> None:
    """Refuse a VOTable that defines entities, reads other files, or claims more than it holds.

    Raises
    ------
    FileFormatError
        Saying which.
    """
    content = Path(path).read_bytes()
    if re.search(rb"<!ENTITY|<!DOCTYPE[^>]*\[", content):
        raise FileFormatError("the VOTable defines entities", where=str(path), advice="write it without a DOCTYPE")
    if any(b"href" in _attributes(found) for found in _STREAM.finditer(content)):
        raise FileFormatError(
            "the VOTable keeps its rows in another file", where=str(path), advice="save it with its rows inside"
        )
    rows = len(re.findall(rb"<(?:[\w.-]+:)?TR\b", content))
    for found in _TABLE.finditer(content):
        claimed = _attributes(found).get(b"nrows", b"0")
        rows = max(rows, int(claimed) if claimed.isdigit() and len(claimed) < 20 else 0)
    width = 0
    for found in _FIELD.finditer(content):
        sizes = [int(n) for n in re.findall(rb"\d{1,18}", _attributes(found).get(b"arraysize", b"1"))]
        cell = 8
        for size in sizes:
            cell *= max(size, 1)
        width += cell
    check_size(path, rows * width, f"{rows} rows of {width} bytes")


def _attributes(found: re.Match[bytes]) -> dict[bytes, bytes]:
    return {name: first or second for name, first, second in _ATTRIBUTE.findall(found[1])}


def check_parquet(path: str | os.PathLike[str]) -> None:
    """Refuse a Parquet file whose cells would cost far more than the file's size, or that names Python types.

    Raises
    ------
    FileFormatError
        If there are too many cells, one long text would widen a whole column, or a column holds pickled types.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        schema, facts = file.schema_arrow, file.metadata
        groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
        cells = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
        packed = sum(group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns))
    check_size(path, max(8 * cells, packed), f"{cells:,} cells")
    for item in schema:
        if (item.metadata or {}).get(b"ARROW:extension:name") == b"arrow.py_extension_type":
            raise FileFormatError(f"column {item.name!r} is of a Python type, a pickle", where=str(path))
    texts = [item.name for item in schema if pa.types.is_string(item.type) or pa.types.is_binary(item.type)]
    if not texts:
        return
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        for name, column in zip(texts, file.read(columns=texts).columns, strict=True):
            words = [chunk.dictionary if pa.types.is_dictionary(column.type) else chunk for chunk in column.chunks]
            longest = max((pc.max(pc.binary_length(part)).as_py() or 0 for part in words), default=0)
            check_size(path, 4 * longest * len(column), f"column {name!r} with a cell of {longest:,} bytes")


def check_fits_table(path: str | os.PathLike[str], hdu: Any, names: Collection[str] | None = None) -> None:
    """Refuse a FITS table of rows without bytes, or whose columns have cells of any length.

    Parameters
    ----------
    path : path
        The file.
    hdu : astropy.io.fits.BinTableHDU or TableHDU
        Its table.
    names : collection of str, optional
        Columns that will be read; None for all.

    Raises
    ------
    FileFormatError
        Naming the column.
    """
    if hdu.header["NAXIS2"] > Path(path).stat().st_size:
        raise FileFormatError(f"the table claims {hdu.header['NAXIS2']:,} rows", where=str(path))
    for column in hdu.columns:
        if (names is None or column.name in names) and re.match(r"\d*[PQ]", str(column.format)):
            raise FileFormatError(
                f"column {column.name!r} has cells of variable length", where=str(path), expected="one value per row"
            )
