"""Checks of converted columns: a bad row goes to the skip list with its reason, a bad file is an error.

Everything is vectorised; Python loops run over bad rows only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as default
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.fields import field
from galineage.galaxy import Skip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table
    from numpy.typing import NDArray

    from galineage.sources.mapping import ColumnSpec

__all__ = ["RowChecks", "check_column", "require_columns", "skip_table", "to_numbers"]

MOST = 0.2
"""Above this fraction of impossible values a column is called wrong as a whole."""

NEGATIVE = 0.01
"""Above this fraction of negative values a positive quantity is called a logarithm."""

_NUMBER = r"^\s*[+-]?(\d+\.?\d*([eEdD][+-]?\d+)?|\.\d+([eEdD][+-]?\d+)?|inf(inity)?|nan|Inf(inity)?|NaN)\s*$"

_UNITS = {
    "Msun": ("1e10 Msun", "kg", "g"),
    "Gyr": ("Myr", "yr"),
    "kpc": ("pc", "Mpc"),
    "kpc km / s": ("pc km / s", "Mpc km / s"),
    "km / s": ("m / s",),
    "": ("percent",),
}
"""Units that a column of each registry unit is often given in by mistake."""


def require_columns(names: Sequence[str], needed: Mapping[str, str], where: str, mapping: str) -> None:
    """Raise unless every needed column is there.

    Parameters
    ----------
    names : sequence of str
        Columns of the file.
    needed : mapping of str to str
        Column name to what it is needed for.
    where, mapping : str
        File and name of the mapping, for the message.

    Raises
    ------
    DataError
        Names the missing columns and near ones.
    """
    missing = {name: use for name, use in needed.items() if name not in names}
    if not missing:
        return
    lower = {name.lower(): name for name in names}
    near = []
    for name in missing:
        close = get_close_matches(name.lower(), lower, n=2, cutoff=0.6)
        if close:
            near.append(f"{name}: perhaps {' or '.join(lower[item] for item in close)}?")
    shown = ", ".join(list(names)[:30]) + (", ..." if len(names) > 30 else "")
    raise DataError(
        "the table lacks " + ", ".join(f"{name!r} (for {use})" for name, use in missing.items()),
        where=where,
        expected=f"the columns of mapping {mapping!r}; the table has {shown or 'none'}",
        advice="; ".join(near) or "give another mapping, or mark the column optional in a mapping of your own",
    )


def to_numbers(
    values: NDArray[Any], mask: NDArray[np.bool_] | None, column: str, where: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Turn a raw column into floats.

    Parameters
    ----------
    values : array (n,), any dtype, any unit
        As the file has it.
    mask : array (n,) of bool or None
        True where the file says missing.
    column, where : str
        For messages.

    Returns
    -------
    numbers : array (n,) of float64
        NaN where masked, empty, or not a number.
    bad : array (n,) of bool
        True where there is text that is not a number.

    Raises
    ------
    DataError
        If the column is not one-dimensional, of a type that holds no numbers, or mostly text.
    """
    if values.ndim != 1:
        raise DataError(f"column {column!r} has shape {values.shape}", where=where, expected="one value per row")
    bad = np.zeros(len(values), bool)
    if values.dtype.kind in "biuf":
        numbers = values.astype(np.float64)
    elif values.dtype.kind in "OSU":
        numbers, bad = _parsed(values.astype(str), mask)
        if len(bad) and bad.mean() > MOST:
            row = int(np.argmax(bad))
            raise DataError(
                f"column {column!r} holds text: {str(values[row])!r} in row {row}",
                where=where,
                expected="numbers",
                advice="check that the mapping names the right column, and the file's decimal sign",
            )
    else:
        raise DataError(f"column {column!r} has type {values.dtype}", where=where, expected="numbers")
    if mask is not None:
        numbers[mask] = np.nan
    return numbers, bad


def _parsed(text: NDArray[np.str_], mask: NDArray[np.bool_] | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    number = np.asarray(pc.match_substring_regex(pa.array(text, pa.string()), _NUMBER))
    numbers = np.full(len(text), np.nan)
    if number.any():
        numbers[number] = np.char.replace(np.char.lower(text[number]), "d", "e").astype(float)
    nothing = np.isin(np.char.lower(np.char.strip(text)), ("", "none", "null", "na", "n/a"))
    bad = ~(number | nothing)
    return numbers, bad if mask is None else bad & ~mask


def check_column(
    spec: ColumnSpec,
    raw: NDArray[np.float64],
    values: NDArray[np.float64],
    rows: NDArray[np.integer],
    where: str,
) -> None:
    """Raise if a whole column is impossible: probably a wrong unit.

    Parameters
    ----------
    spec : ColumnSpec
        How the column was read.
    raw : array (n,), in the file's unit
        Before conversion; NaN is ignored.
    values : array (n,), in the registry's unit
        After conversion; NaN is ignored.
    rows : array (n,) of int
        Row of the file that each value comes from.
    where : str
        File, for the message.

    Raises
    ------
    DataError
        If more than 20 % of the values are out of the field's range, or more than 1 % of a quantity that is
        logarithmic in the registry are negative; suggests units or scales that would make them fit.
    """
    about = field(spec.field)
    known = ~np.isnan(values)
    if not known.any():
        return
    outside = known & ~about.in_range(values)
    share = outside.sum() / known.sum()
    negative = (
        about.scale == "log"
        and spec.scale == "linear"
        and (np.isfinite(values) & (values < 0)).sum() > NEGATIVE * known.sum()
    )
    if share <= MOST and not negative:
        return
    row = int(np.argmax(outside))
    raise DataError(
        f"column {spec.column!r} looks like a wrong unit: {share:.0%} of its values are impossible as {about.name}, "
        f"for example {f'{values[row]:.4g} {about.unit}'.strip()} ({raw[row]:.6g} in the file) in row {rows[row]}",
        where=where,
        expected=f"{about.range_text}; the mapping reads it as {_reading(spec)}",
        advice=_repair(spec, raw[known]),
    )


def _reading(spec: ColumnSpec) -> str:
    unit = "Z/Zsun" if spec.relative_to else spec.unit or field(spec.field).unit or "a pure number"
    text = unit + (f" / h with h = {spec.h}" if spec.h else "")
    return f"log10 of {text}" if spec.scale == "log10" else text


def _repair(spec: ColumnSpec, raw: NDArray[np.float64]) -> str:
    """Say which usual mistakes would explain the values, by converting them that way."""
    fitting = [
        _reading(other) for other in _alternatives(spec) if field(spec.field).in_range(other.convert(raw)).mean() > 0.95
    ]
    if not fitting:
        return "check which column and unit the source documents, and correct its entry in the mapping"
    factors = " (a factor of h cannot be told from the values)" if "Msun" in fitting[0] else ""
    return f"the values would fit {', or '.join(fitting[:3])}: correct the column's entry in the mapping{factors}"


def _alternatives(spec: ColumnSpec) -> list[ColumnSpec]:
    if spec.field == "metallicity":
        return [
            replace(spec, scale=scale, relative_to=relative, unit=None)
            for relative in ("solar", None)
            for scale in ("linear", "log10")
            if (scale, relative) != (spec.scale, spec.relative_to)
        ]
    other = replace(spec, scale="linear" if spec.scale == "log10" else "log10")
    about = field(spec.field)
    plain = replace(spec, unit=None, h=None)
    units = [replace(spec, unit=unit) for unit in _UNITS.get(about.unit, ())]
    return [*([other] if about.scale == "log" else []), plain, *units]


@dataclass
class RowChecks:
    """Collects which rows are usable, and why the others are not.

    Attributes
    ----------
    rows : array (n,) of int
        Zero-based rows of the file.
    ids : array (n,)
        Identifiers, for the skip list.
    keep : array (n,) of bool
        Rows that passed every check so far.
    keep_missing : bool
        Let NaN pass in every field, also where the registry gives it no meaning.
    skips : list of Skip
        One per row that failed, with the first check it failed.
    """

    rows: NDArray[np.integer]
    ids: NDArray[Any]
    keep_missing: bool = False
    keep: NDArray[np.bool_] = default(init=False)
    skips: list[Skip] = default(default_factory=list)

    def __post_init__(self) -> None:
        self.keep = np.ones(len(self.rows), bool)

    def skip(self, bad: NDArray[np.bool_], name: str, values: Sequence[Any] | NDArray[Any], reason: str) -> None:
        """Skip rows that are not skipped yet.

        Parameters
        ----------
        bad : array (n,) of bool
            Rows that fail.
        name : str
            Field.
        values : sequence of length n
            The values to show, in the registry's unit.
        reason : str
            What was expected.
        """
        for i in np.flatnonzero(bad & self.keep).tolist():
            self.skips.append(Skip(int(self.rows[i]), str(self.ids[i]), name, str(values[i]), reason))
        self.keep &= ~bad

    def field(self, name: str, values: NDArray[np.float64], text: NDArray[np.bool_] | None, raw: NDArray[Any]) -> None:
        """Check one converted column.

        Parameters
        ----------
        name : str
            Field name.
        values : array (n,), in the registry's unit
            NaN passes where the registry gives it a meaning, and everywhere with ``keep_missing``.
        text : array (n,) of bool, or None
            Cells that were not numbers.
        raw : array (n,)
            The column as the file has it, for messages.
        """
        about = field(name)
        if text is not None:
            self.skip(text, name, raw, "not a number")
        missing = np.isnan(values)
        if not (about.missing or self.keep_missing):
            self.skip(missing, name, values, "missing (NaN)")
        self.skip(np.isinf(values), name, values, "not finite")
        self.skip(~about.in_range(values) & ~missing, name, values, f"out of range: {about.range_text}")
        if about.kind != "float":
            with np.errstate(invalid="ignore"):
                self.skip((values != np.rint(values)) & ~missing, name, values, "not a whole number")

    def duplicates(self, snapshot: NDArray[Any] | None, view: NDArray[Any] | None = None) -> None:
        """Skip a row whose identifier (and snapshot, and view) occurred before; the first stays.

        Parameters
        ----------
        snapshot, view : array (n,) or None
            Snapshot number of each row; number of the line of sight, where the rows are views.
        """
        kept = np.flatnonzero(self.keep)
        _, code = np.unique(self.ids[kept], return_inverse=True)
        for part in (snapshot, view):
            if part is not None:
                _, moment = np.unique(part[kept], return_inverse=True)
                code = code * (int(moment.max(initial=0)) + 1) + moment
        _, first = np.unique(code, return_index=True)
        again = np.zeros(len(self.keep), bool)
        again[np.delete(kept, first)] = True
        self.skip(again, "id", self.ids, "the same id and snapshot came before; the first row is kept")

    def finish(self, where: str) -> tuple[Skip, ...]:
        """Return the skip list in file order.

        Raises
        ------
        DataError
            If no row is left; says the commonest reason.
        """
        if len(self.keep) and not self.keep.any():
            reasons = [f"{skip.field}: {skip.reason}" for skip in self.skips]
            worst = max(set(reasons), key=reasons.count)
            first = self.skips[0]
            raise DataError(
                f"no usable row is left: all {len(self.keep)} were skipped, most because of {worst}",
                where=f"{where}, for example row {first.row} (id {first.id}) with {first.field} = {first.value}",
                expected="at least one row that passes every check",
                advice="check the units in the mapping, or take the column out of it",
            )
        return tuple(sorted(self.skips, key=lambda skip: skip.row))


def skip_table(skips: Sequence[Skip]) -> Table:
    """Turn a skip list into a table for `galineage.tables.write_table`.

    Parameters
    ----------
    skips : sequence of Skip
        May be empty.

    Returns
    -------
    astropy.table.Table
        Columns ``row`` (int64, zero-based), ``id``, ``field``, ``value``, ``reason`` (text), one row per skipped row.
    """
    from astropy.table import Column, Table

    table = Table()
    table["row"] = Column(
        np.array([skip.row for skip in skips], dtype=np.int64), description="zero-based row of the input file"
    )
    meanings = {
        "id": "original identifier",
        "field": "quantity that was wrong",
        "value": "offending value, in the registry's unit",
        "reason": "what was expected",
    }
    for name, meaning in meanings.items():
        cells = np.array([getattr(skip, name) for skip in skips], dtype=str)
        table[name] = Column(cells, description=meaning)
    return table
