"""A catalogue file read through a mapping."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.atomic import sha256
from galineage.errors import DataError, FileFormatError
from galineage.fields import FIELDS, field
from galineage.galaxy import Catalogue
from galineage.sources.checks import RowChecks, check_column, require_columns, to_numbers
from galineage.sources.formats import RawTable, read_raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from galineage.sources.mapping import ColumnSpec, RowFilter, TableMapping

__all__ = ["TableSource"]


@dataclass(frozen=True)
class TableSource:
    """One table and the mapping that explains it.

    Attributes
    ----------
    path : Path
        The file.
    mapping : TableMapping
        Which column is which field, in which unit.

    Examples
    --------
    >>> from galineage.sources import open_source
    >>> catalogue = open_source("properties_tng.h5py").read()  # doctest: +SKIP
    """

    path: Path
    mapping: TableMapping

    @property
    def name(self) -> str:
        """Name of the mapping and the file, for messages."""
        return f"{self.mapping.name} ({self.path.name})"

    @property
    def domain(self) -> str:
        """Domain of the galaxies."""
        return self.mapping.domain_of(self.path)

    @property
    def filters(self) -> Mapping[str, str]:
        """Names and descriptions of the row filters; the default one first."""
        default = self.mapping.default_filter
        names = [default, *(name for name in self.mapping.filters if name != default)]
        return MappingProxyType({name: self.mapping.filters[name].description for name in names})

    def describe(self) -> str:
        """Say in a few lines what will be read: domain, citation, filters, columns with their units."""
        lines = [
            f"{self.path} as {self.mapping.name}: domain {self.domain}",
            f"  reference: {self.mapping.reference or 'none given'}",
        ]
        lines += [f"  filter {name}: {text or 'no description'}" for name, text in self.filters.items()]
        for name, spec in self.mapping.columns.items():
            unit = field(name).unit or "-"
            lines.append(f"  {name:16} [{unit}] from {spec.column}{' (optional)' if spec.optional else ''}")
        return "\n".join(lines)

    def read(
        self,
        filter: str | None = None,  # noqa: A002 - the word users know
        *,
        only: Iterable[str] | None = None,
        keep_missing: bool = False,
    ) -> Catalogue:
        """Read, convert and check the rows that a filter chooses.

        Parameters
        ----------
        filter : str, optional
            Name of a row filter; None takes the mapping's default.
        only : iterable of str, optional
            Read and check only these fields, besides identifiers, snapshots, views and roots; the file need not have
            the columns of others. A field that the mapping does not have is not in the catalogue. None: every field.
        keep_missing : bool
            Keep a value that is missing (NaN, empty or masked) as NaN instead of skipping its row. Impossible and
            infinite values, and rows without an identifier, are skipped all the same.

        Returns
        -------
        Catalogue
            Columns in registry units (float64; int64 and bool where the registry says so), NaN only where the
            registry gives it a meaning, or with ``keep_missing`` (a column of int64 or bool with a missing value is
            float64 then); ``ids`` untouched; ``root`` as ``domain:id``, or None if unknown or if the
            filter mixes snapshots of galaxies that are only known by their id in one snapshot; skipped rows with
            reasons. Of rows with the same id, snapshot and view the first is kept.

        Raises
        ------
        ConfigError
            If there is no such filter, or ``only`` names no known field.
        FileFormatError
            If the file cannot be opened or is damaged.
        DataError
            If a column is missing, mostly impossible (wrong unit) or text, or no row is left.
        """
        mapping, only = self.mapping, None if only is None else set(only)
        chosen, fields = mapping.filter(filter), mapping.chosen(only)
        # as the snapshot: without it views of one galaxy would be taken for the same row again and again
        fields = {**fields, **{name: spec for name, spec in mapping.columns.items() if name == "view"}}
        raw = self._raw(mapping.needed(chosen.name, fields), fields)
        rows = self._rows(raw, chosen)
        ids = _identifiers(raw.columns[mapping.id])
        checks = RowChecks(rows, ids[rows], keep_missing)
        _skip_masked(checks, raw, mapping.id, "id")
        columns = {
            name: self._column(spec, raw, rows, checks) for name, spec in fields.items() if spec.column in raw.columns
        }
        columns |= _differences(columns, only, checks)
        snapshot = self._snapshot(raw, rows, checks)
        if snapshot is not None:
            columns.setdefault("snapshot", snapshot)
        checks.duplicates(snapshot, columns.get("view"))
        root = self._root(raw, rows, checks, snapshot)
        skips, keep = checks.finish(str(self.path)), checks.keep
        return Catalogue(
            columns={name: _typed(name, values[keep]) for name, values in columns.items()},
            ids=checks.ids[keep],
            domain=np.asarray(self.domain),
            root=None if root is None else root[keep],
            skipped=skips,
            meta={
                "file": self.path.name,
                "sha256": sha256(self.path),
                "format": raw.format,
                "mapping": mapping.name,
                "reference": mapping.reference,
                "filter": chosen.name,
                "rows_in_file": len(raw.columns[mapping.id]),
                "rows_selected": len(rows),
                "rows_read": int(keep.sum()),
                "rows_skipped": len(skips),
            },
        )

    def _raw(self, needed: Mapping[str, str], fields: Mapping[str, ColumnSpec]) -> RawTable:
        """Read the columns that are needed or mapped, as they stand in the file."""
        mapping, where = self.mapping, str(self.path)
        known = {column for column in (mapping.snapshot,) if column is not None}
        raw = read_raw(self.path, mapping.key, {*needed, *known, *(spec.column for spec in fields.values())})
        if mapping.format not in ("auto", raw.format):
            raise FileFormatError(f"the file is {raw.format}", where=where, expected=mapping.format)
        require_columns(raw.names, needed, where, mapping.name)
        if len(raw.columns[mapping.id]) == 0:
            raise DataError("the table has no rows", where=where, expected="at least one galaxy")
        return raw

    def _rows(self, raw: RawTable, chosen: RowFilter) -> NDArray[np.integer]:
        total = len(raw.columns[self.mapping.id])
        if chosen.column is None:
            return np.arange(total)
        numbers, _ = to_numbers(raw.columns[chosen.column], raw.masks.get(chosen.column), chosen.column, str(self.path))
        rows = np.flatnonzero(np.isin(numbers, chosen.equals))
        if len(rows) == 0:
            there = np.unique(numbers[np.isfinite(numbers)])[:8]
            raise DataError(
                f"filter {chosen.name!r} leaves no row",
                where=str(self.path),
                expected=f"{chosen.column} in {list(chosen.equals)}; the file has {', '.join(f'{v:g}' for v in there)}",
                advice="choose another filter: " + ", ".join(self.filters),
            )
        return rows

    def _column(
        self, spec: ColumnSpec, raw: RawTable, rows: NDArray[np.integer], checks: RowChecks
    ) -> NDArray[np.float64]:
        where = str(self.path)
        _check_unit(spec, raw.units.get(spec.column), where)
        stored = raw.columns[spec.column][rows]
        mask = raw.masks.get(spec.column)
        numbers, text = to_numbers(stored, None if mask is None else mask[rows], spec.column, where)
        values = spec.convert(numbers)
        check_column(spec, numbers, values, rows, where)
        checks.field(spec.field, values, text, stored)
        return values

    def _snapshot(self, raw: RawTable, rows: NDArray[np.integer], checks: RowChecks) -> NDArray[np.float64] | None:
        column = self.mapping.snapshot
        if column is None or (self.mapping.optional_snapshot and column not in raw.columns):
            return None
        mask = raw.masks.get(column)
        stored = raw.columns[column][rows]
        values, text = to_numbers(stored, None if mask is None else mask[rows], column, str(self.path))
        checks.field("snapshot", values, text, stored)
        return values

    def _root(
        self, raw: RawTable, rows: NDArray[np.integer], checks: RowChecks, snapshot: NDArray[np.float64] | None
    ) -> NDArray[np.str_] | None:
        column = self.mapping.root
        if column is None:
            return None
        if column == "id":
            # an id names a galaxy in its own snapshot only: across snapshots roots would be wrong, and splits leak
            if snapshot is not None and len(np.unique(snapshot[checks.keep])) > 1:
                return None
            names = checks.ids
        else:
            _skip_masked(checks, raw, column, "root")
            names = _identifiers(raw.columns[column])[rows]
        return np.char.add(f"{self.domain}:", names.astype(str))


def _differences(
    columns: Mapping[str, NDArray[np.float64]], only: set[str] | None, checks: RowChecks
) -> dict[str, NDArray[np.float64]]:
    """Make the fields (n,) that are differences of two columns which the table has, in the unit of both."""
    made = {}
    for name, item in FIELDS.items():
        wanted = name not in columns and (only is None or name in only)
        if wanted and item.difference is not None and all(part in columns for part in item.difference):
            first, second = item.difference
            made[name] = columns[first] - columns[second]
            checks.field(name, made[name], None, made[name])
    return made


def _typed(name: str, values: NDArray[np.float64]) -> NDArray[Any]:
    kind = field(name).kind
    # whole numbers have no NaN: a column with missing values stays float
    return (
        values if kind == "float" or np.isnan(values).any() else values.astype(np.int64 if kind == "int" else np.bool_)
    )


_EXACT = 2.0**53
_NONE = (-1, 2**32 - 1, 2**64 - 1)
"""What an index that points nowhere is stored as: -1, also where it was written to an unsigned column."""


def _identifiers(values: NDArray[Any]) -> NDArray[Any]:
    """Return identifiers as stored; whole floats become integers again."""
    if values.dtype.kind == "O":
        return values.astype(str)
    if values.dtype.kind == "f" and np.all(np.isfinite(values)):
        # beyond 2^53 floats have lost digits; -1 as an unsigned number is beyond, and is skipped elsewhere
        known = np.where(values == float(_NONE[-1]), -1.0, values)
        if np.all(known == np.rint(known)) and np.all(np.abs(known) < _EXACT):
            return known.astype(np.int64)
    return values


def _skip_masked(checks: RowChecks, raw: RawTable, column: str, name: str) -> None:
    values = raw.columns[column]
    missing = raw.masks.get(column, np.zeros(len(values), bool))
    if values.dtype.kind == "f":
        missing = missing | ~np.isfinite(values)
    checks.skip(missing[checks.rows], name, values[checks.rows], "missing")
    if values.dtype.kind in "iuf":
        limits = np.finfo(values.dtype) if values.dtype.kind == "f" else np.iinfo(values.dtype)
        none = np.any([values == values.dtype.type(item) for item in _NONE if limits.min <= item <= limits.max], axis=0)
        none = np.broadcast_to(none, values.shape)
        checks.skip(none[checks.rows], name, values[checks.rows], "the index -1, which stands for none")


def _check_unit(spec: ColumnSpec, stated: str | None, where: str) -> None:
    """Refuse a column whose file states another unit than the mapping."""
    if not stated or spec.scale != "linear" or spec.relative_to or spec.h:
        return
    from astropy import units

    declared = field(spec.field).unit if spec.unit is None else spec.unit
    try:
        same = abs(float(units.Unit(stated).to(units.Unit(declared))) - 1.0) < 1e-6
    except (ValueError, TypeError, units.UnitsError):
        same = False
    if not same:
        raise DataError(
            f"the file says that {spec.column!r} is in {stated!r}, the mapping says {declared or 'a pure number'!r}",
            where=where,
            expected="the same unit in both",
            advice=f"set the unit of columns.{spec.field} in the mapping to the right one",
        )
