"""The only place that knows file formats: tables of galaxies in, catalogues in registry units out.

A new simulation is one TOML file in ``mappings/``; a new kind of source is one module and one line in `SOURCES`.
"""

from __future__ import annotations

import os
from pathlib import Path

from galineage.errors import ConfigError
from galineage.sources.base import Source
from galineage.sources.checks import skip_table
from galineage.sources.formats import RawTable, read_raw, sniff
from galineage.sources.mapping import (
    ColumnSpec,
    RowFilter,
    TableMapping,
    load_mapping,
    parse_mapping,
    shipped_mappings,
)
from galineage.sources.table import TableSource

__all__ = [
    "SOURCES",
    "ColumnSpec",
    "RawTable",
    "RowFilter",
    "Source",
    "TableMapping",
    "TableSource",
    "available_mappings",
    "load_mapping",
    "open_source",
    "parse_mapping",
    "read_raw",
    "skip_table",
    "sniff",
]

SOURCES: tuple[type[TableSource], ...] = (TableSource,)
"""Every kind of source; the shared contract test runs over it."""


def available_mappings() -> dict[str, TableMapping]:
    """Every mapping that comes with the package, by name.

    Examples
    --------
    >>> list(available_mappings())[:2]
    ['camels', 'camels-1e10']
    """
    return shipped_mappings()


def open_source(
    path: str | os.PathLike[str], mapping: str | os.PathLike[str] | TableMapping | None = None
) -> TableSource:
    """Open a table of galaxies.

    Parameters
    ----------
    path : path
        CSV, ECSV, FITS, VOTable, Parquet or HDF5; told by content.
    mapping : str, path or TableMapping, optional
        Name of a shipped mapping, a TOML file of your own, or a mapping. None: the shipped one whose ``match`` fits
        the file's name (a full name beats a wildcard).

    Returns
    -------
    TableSource
        Nothing but the first bytes has been read; call ``read()``.

    Raises
    ------
    FileFormatError
        If the file does not exist, is a folder, may not be read, or is of an unknown kind.
    ConfigError
        If the mapping is unknown or broken, or none or several fit the file's name. Files are never told apart by
        their columns alone: the same columns come in different units.
    """
    sniff(path)
    if isinstance(mapping, TableMapping):
        return TableSource(Path(path), mapping)
    if mapping is not None:
        known = available_mappings()
        text = os.fspath(mapping)
        if text in known:
            return TableSource(Path(path), known[text])
        if not text.endswith(".toml"):
            raise ConfigError(f"there is no mapping {text!r}", expected=_listing(known), advice=_HOW)
        return TableSource(Path(path), load_mapping(text))
    return TableSource(Path(path), _fitting(path))


_HOW = (
    "write a mapping of your own: a TOML file with name, domain, id and [columns] (see galineage.sources.mapping), "
    "and give its path"
)


def _fitting(path: str | os.PathLike[str]) -> TableMapping:
    known = available_mappings()
    scores = {name: item.matches(path) for name, item in known.items()}
    best = max(scores.values())
    fitting = [name for name, score in scores.items() if score == best]
    if best == 0:
        raise ConfigError(
            f"no mapping is meant for a file called {Path(path).name!r}",
            where=str(path),
            expected=_listing(known),
            advice=f"name the mapping that fits, or {_HOW}",
        )
    if len(fitting) > 1:
        # files of one name are told apart by the columns they must have
        names = set(read_raw(path, known[fitting[0]].key, ()).names)
        fitting = [name for name in fitting if names.issuperset(known[name].needed())] or fitting
    if len(fitting) > 1:
        raise ConfigError(
            f"several mappings fit a file called {Path(path).name!r}: {', '.join(fitting)}",
            where=str(path),
            advice="name one of them",
        )
    return known[fitting[0]]


def _listing(known: dict[str, TableMapping]) -> str:
    return "one of " + ", ".join(f"{name} ({', '.join(item.match)})" for name, item in known.items())
