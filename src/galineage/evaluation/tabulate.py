"""The numbers behind a figure as a table with units and descriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galineage.fields import field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from astropy.table import Table

__all__ = ["make_table", "target_unit"]

Column = tuple[str, Any, str, str]


def make_table(columns: Sequence[Column], meta: Mapping[str, Any] | None = None) -> Table:
    """Build an astropy table.

    Parameters
    ----------
    columns : sequence of (name, values, unit, description)
        Values of shape (rows,) in ``unit`` (astropy unit string, empty for none). NaN means that the number could not
        be determined.
    meta : mapping, optional
        Entries that are not None go to ``table.meta``.

    Returns
    -------
    astropy.table.Table
    """
    from astropy.table import Column as AstropyColumn
    from astropy.table import Table

    made = [
        AstropyColumn(values, name=name, unit=unit or None, description=description)
        for name, values, unit, description in columns
    ]
    return Table(made, meta={key: value for key, value in (meta or {}).items() if value is not None})


def target_unit(target: str) -> str:
    """Return the unit of a target's column: its registry unit, ``dex`` for fields that networks see as logarithms."""
    item = field(target)
    return "dex" if item.scale == "log" else item.unit
