"""Table columns as text for a reader, and as JSON values for a program."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from astropy.table import Column, Table
    from numpy.typing import NDArray

__all__ = ["DASH", "column_texts", "is_text", "printable", "table_json", "unit_text"]

DASH = "–"
"""Shown where a number could not be determined (NaN) or is missing (masked)."""

# what neither HTML, YAML nor a UTF-8 file can hold
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DIGITS = 4
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def column_texts(column: Column, rows: int) -> list[str]:
    """Write the first rows of a column for reading: about four significant digits, one number of decimals.

    Parameters
    ----------
    column : astropy.table.Column (n,)
        Any type, in any unit. NaN and masked values become `DASH`.
    rows : int
        How many to write.

    Returns
    -------
    list of str, length min(n, rows)

    Examples
    --------
    >>> from astropy.table import Column
    >>> column_texts(Column([0.74312, 0.1, float("nan"), 3e-9]), 9)
    ['0.7431', '0.1000', '–', '3.0 × 10⁻⁹']
    """
    values, missing = _values_and_missing(column)
    values, missing = values[:rows], missing[:rows]
    if values.dtype.kind == "f":
        texts = _float_texts(values)
    elif values.dtype.kind == "b":
        texts = ["yes" if value else "no" for value in values]
    elif values.dtype.kind in "iu":
        texts = [str(int(value)).replace("-", "−") for value in values]
    else:
        texts = [str(value) for value in values]
    return [DASH if gone else text for text, gone in zip(texts, missing, strict=True)]


def is_text(column: Column) -> bool:
    """Tell whether a column holds words rather than numbers."""
    return _values_and_missing(column)[0].dtype.kind not in "fiu"


def printable(text: str) -> str:
    """Replace control characters and lone surrogates, which no file of a report can hold."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def table_json(table: Table, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a table with all its numbers as a JSON value.

    Parameters
    ----------
    table : astropy.table.Table
        Columns (n,) in any unit.
    meta : mapping
        Goes in as it is; JSON values.

    Returns
    -------
    dict
        ``meta``, ``rows`` (n), and ``columns``: a list in the table's order of ``name``, ``unit`` (astropy unit string
        or null), ``description``, ``dtype`` and ``values``. NaN and masked values are null. JSON has no infinity:
        it is the text ``inf`` or ``-inf``, which Python's ``float`` reads.
    """
    columns = []
    for name in table.colnames:
        column = table[name]
        values, missing = _values_and_missing(column)
        columns.append(
            {
                "name": name,
                "unit": str(column.unit) if column.unit else None,
                "description": column.info.description or "",
                "dtype": "str" if values.dtype.kind == "U" else values.dtype.name,
                "values": [_json(value, gone) for value, gone in zip(values.tolist(), missing, strict=True)],
            }
        )
    return {"meta": dict(meta), "rows": len(table), "columns": columns}


def _values_and_missing(column: Column) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values = np.asarray(getattr(column, "value", column))
    missing = np.broadcast_to(np.asarray(getattr(column, "mask", False)), values.shape)
    return values, missing | np.isnan(values) if values.dtype.kind == "f" else missing


def unit_text(unit: Any) -> str:
    """Write a unit for reading.

    Examples
    --------
    >>> from astropy.units import Unit
    >>> unit_text(Unit("Msun / yr"))
    'M☉ yr⁻¹'
    """
    return str(unit.to_string("unicode") if hasattr(unit, "to_string") else unit).replace("⊙", "☉")


def _json(value: Any, missing: bool) -> Any:
    if missing:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    return value


def _float_texts(values: NDArray[np.floating]) -> list[str]:
    """Use one number of decimals, so that a reader can compare; powers of ten where that would show nothing."""
    finite = np.abs(values[np.isfinite(values)].astype(float))
    largest = float(finite.max(initial=0.0))
    if largest >= 1e6:
        enough = (d for d in range(2, _DIGITS) if np.all(_rounded(finite, d) == _rounded(finite, _DIGITS)))
        digits = next(enough, _DIGITS)
        return [_scientific(float(value), digits) for value in values]
    decimals = _DIGITS if largest == 0 else min(6, max(0, _DIGITS - 1 - math.floor(math.log10(largest))))
    while decimals and np.all(finite.round(decimals - 1) == finite.round(decimals)):
        decimals -= 1
    return [_fixed(float(value), decimals) for value in values]


def _rounded(values: NDArray[np.floating], digits: int) -> NDArray[np.float64]:
    return np.array([float(f"{value:.{digits - 1}e}") for value in values])


def _fixed(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return _scientific(value, 2)
    if value and abs(value) < 0.95 * 10.0**-decimals:
        return f"{value:.2g}".replace("-", "−") if abs(value) >= 1e-4 else _scientific(value, 2)
    return f"{value:.{decimals}f}".replace("-", "−")


def _scientific(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return DASH if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−")
