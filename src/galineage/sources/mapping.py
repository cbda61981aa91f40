"""Table mappings: which column of a file is which field, in which unit; TOML in, frozen dataclasses out.

A mapping is data, never code: nothing in it is evaluated. The keys, by example:

.. code-block:: toml

    name = "my-survey"                # how the command line calls it
    domain = "MySurvey"               # "{stem}" stands for the file name without suffix (and without domain_strip)
    reference = "Author et al. 2030"
    match = ["my_survey_*.fits"]      # file names that this mapping is for
    key = "data"                      # optional: HDF5 group or FITS extension
    id = "GalaxyID"
    snapshot = "Snapshot"             # optional
    optional_snapshot = true          # a file may lack that column: a survey has no snapshots (default: false)
    root = "id"                       # "id": each row is its own z=0 descendant; or a column; absent: unknown
    default_filter = "z0"
    representation = 512              # columns rep_000 ... that a file may have, see `galineage represent` (default: 0)

    [filters.z0]
    column = "Snapshot"
    equals = [99]

    [columns]
    f_ex = "ExsituF"                  # the registry's unit
    mstar = { column = "Stellar_Mass", unit = "1e10 Msun", h = 0.6711 }
    metallicity = { column = "Metallicity", scale = "log10", relative_to = "solar" }
    t_last_major = { column = "Lookback", unit = "Gyr", sentinel = -1, optional = true }
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from dataclasses import field as default
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from galineage.errors import ConfigError
from galineage.fields import SOLAR_METALLICITY, field, representation_features, with_ingredients
from galineage.guard import parse_toml, read_text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["ColumnSpec", "RowFilter", "TableMapping", "load_mapping", "parse_mapping", "shipped_mappings"]

MAPPINGS = Path(__file__).parent / "mappings"
"""Folder of the shipped mappings."""


@dataclass(frozen=True)
class ColumnSpec:
    """How one column becomes one field.

    Attributes
    ----------
    field : str
        Name in the field registry.
    column : str
        Name in the file.
    unit : str or None
        Unit of the file's values as an astropy unit string, scaled ones included (``1e10 Msun``). None: the
        registry's unit.
    h : float or None
        Divide by this Hubble parameter: the file's unit has a factor 1/h that ``unit`` does not name.
    scale : {"linear", "log10"}
        ``log10``: the file holds the base-10 logarithm.
    relative_to : "solar" or None
        ``solar``: multiply by `galineage.fields.SOLAR_METALLICITY`.
    sentinel : float or None
        This value in the file means missing and becomes NaN.
    optional : bool
        Whether a file may lack the column.
    """

    field: str
    column: str
    unit: str | None = None
    h: float | None = None
    scale: Literal["linear", "log10"] = "linear"
    relative_to: Literal["solar"] | None = None
    sentinel: float | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        field(self.field)
        where = f"columns.{self.field}"
        _typed(self.column, str, f"{where}.column", "the name of a column")
        _typed(self.optional, bool, f"{where}.optional", "true or false")
        if self.scale not in ("linear", "log10"):
            raise ConfigError(f"scale is {self.scale!r}", where=where, expected='"linear" or "log10"')
        if self.relative_to not in (None, "solar"):
            raise ConfigError(f"relative_to is {self.relative_to!r}", where=where, expected='"solar", or leave it out')
        if self.relative_to == "solar" and (self.field != "metallicity" or self.unit):
            raise ConfigError(
                'relative_to = "solar" is for metallicity without a unit', where=where, advice="remove one of the two"
            )
        for name, low in (("h", 0.0), ("sentinel", -math.inf)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= low):
                raise ConfigError(f"{name} is {value!r}", where=where, expected="a number" + " > 0" * (name == "h"))
        self.factor()

    def factor(self) -> float:
        """Return the number that turns linear values of the file into the registry's unit.

        Raises
        ------
        ConfigError
            If the unit is unknown or of another kind than the field's.
        """
        from astropy import units

        wanted = field(self.field).unit
        if self.relative_to == "solar":
            return SOLAR_METALLICITY
        if self.unit is None or self.unit == wanted:
            return 1.0 / (self.h or 1.0)
        try:
            return float(units.Unit(self.unit).to(units.Unit(wanted))) / (self.h or 1.0)
        except (ValueError, TypeError, units.UnitsError) as error:
            raise ConfigError(
                f"unit is {self.unit!r}: {str(error).splitlines()[0]}",
                where=f"columns.{self.field}",
                expected=f"an astropy unit that converts to {wanted or 'a pure number'!r}, for example '1e10 {wanted}'",
                advice="factors of h do not belong in the unit: give h = 0.6774 or the like beside it",
            ) from error

    def convert(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Convert the file's values to the registry's unit.

        Parameters
        ----------
        values : array (n,), in the file's unit
            NaN stays NaN; the sentinel becomes NaN.

        Returns
        -------
        array (n,) of float64, in the registry's unit
        """
        values = np.asarray(values, dtype=np.float64)
        if self.sentinel is not None:
            values = np.where(values == self.sentinel, np.nan, values)
        factor = self.factor()
        with np.errstate(over="ignore"):  # what overflows is out of every field's range, and refused as that
            if self.scale == "log10":
                values = 10.0**values
            return np.asarray(values if factor == 1.0 else values * factor, dtype=np.float64)


@dataclass(frozen=True)
class RowFilter:
    """A named choice of rows.

    Attributes
    ----------
    name : str
        How the user calls it.
    column : str or None
        Column that decides; None keeps every row.
    equals : tuple of int
        Values that are kept.
    description : str
        One line for listings.
    """

    name: str
    column: str | None = None
    equals: tuple[int, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        where = f"filters.{self.name}"
        object.__setattr__(self, "equals", tuple(_typed(self.equals, list | tuple, f"{where}.equals", "a list")))
        _typed(self.description, str, f"{where}.description", "text")
        if self.column is not None:
            _typed(self.column, str, f"{where}.column", "the name of a column")
        if (self.column is None) != (not self.equals):
            raise ConfigError("a filter needs both column and equals, or neither", where=where)
        if not all(isinstance(value, int) for value in self.equals):
            raise ConfigError(f"equals is {list(self.equals)!r}", where=where, expected="whole numbers")


@dataclass(frozen=True)
class TableMapping:
    """Everything needed to read one kind of table; the keys are those of the TOML file (see the module).

    Attributes
    ----------
    name, domain, reference : str
        Name of the mapping; domain of its galaxies; citation of the data.
    columns : mapping of str to ColumnSpec
        By field name.
    id : str
        Column of the identifiers.
    match : tuple of str
        Globs of file names; one without wildcards beats one with.
    format : str
        ``auto``, or the only format accepted.
    key : str or None
        HDF5 group or FITS extension.
    snapshot : str or None
        Column of snapshot numbers.
    optional_snapshot : bool
        Whether a file may lack that column.
    root : str or None
        ``id``, a column, or None if unknown.
    filters : mapping of str to RowFilter
        Named row choices; empty means ``all`` only.
    default_filter : str
        The one used if none is asked for.
    domain_strip : str
        Leading text of the file name that ``{stem}`` leaves out.
    representation : int
        Columns ``rep_000`` and so on that a table may have beside those listed; 0 for none.
    """

    name: str
    domain: str
    columns: Mapping[str, ColumnSpec]
    id: str
    reference: str = ""
    match: tuple[str, ...] = ()
    format: str = "auto"
    key: str | None = None
    snapshot: str | None = None
    root: str | None = None
    filters: Mapping[str, RowFilter] = default(default_factory=dict)
    default_filter: str = "all"
    domain_strip: str = ""
    representation: int = 0
    optional_snapshot: bool = False

    def __post_init__(self) -> None:
        for name in ("name", "domain", "id", "reference", "format", "default_filter", "domain_strip"):
            _typed(getattr(self, name), str, name, "text")
        for name in ("key", "snapshot", "root"):
            if getattr(self, name) is not None:
                _typed(getattr(self, name), str, name, "text")
        _typed(self.optional_snapshot, bool, "optional_snapshot", "true or false")
        object.__setattr__(self, "match", tuple(_typed(self.match, list | tuple, "match", "a list of file names")))
        object.__setattr__(self, "columns", MappingProxyType(self._with_representation()))
        object.__setattr__(self, "filters", MappingProxyType(dict(self.filters) or {"all": RowFilter("all")}))
        if not self.columns:
            raise ConfigError("the mapping names no columns", where=self.name, expected="[columns] with field = column")
        formats = ("auto", "csv", "ecsv", "fits", "votable", "parquet", "hdf5")
        if self.format not in formats:
            raise ConfigError(f"format is {self.format!r}", where=self.name, expected="one of " + ", ".join(formats))
        if self.default_filter not in self.filters:
            raise _unknown("default_filter", self.default_filter, self.filters)
        if not self.domain or re.sub(r"\{stem\}", "", self.domain).count("{"):
            raise ConfigError(f"domain is {self.domain!r}", where=self.name, expected='text with "{stem}" or without')

    def _with_representation(self) -> dict[str, ColumnSpec]:
        count = _typed(self.representation, int, "representation", "a number of columns")
        names = representation_features(count) if count else ()
        return {**dict(self.columns), **{name: ColumnSpec(name, name, optional=True) for name in names}}

    def filter(self, name: str | None = None) -> RowFilter:
        """Return a named filter, or the default one.

        Raises
        ------
        ConfigError
            If there is no filter of that name.
        """
        name = self.default_filter if name is None else name
        if name not in self.filters:
            raise _unknown("filter", name, self.filters)
        return self.filters[name]

    def domain_of(self, path: str | os.PathLike[str]) -> str:
        """Domain of the galaxies in a file: ``{stem}`` replaced by the file's name.

        Examples
        --------
        >>> shipped_mappings()["camels"].domain_of("dataset_1P_1_0.hdf5")
        'CAMELS-1P_1_0'
        """
        return self.domain.replace("{stem}", Path(path).name.split(".")[0].removeprefix(self.domain_strip))

    def matches(self, path: str | os.PathLike[str]) -> int:
        """Tell how well a file's name fits: 0 no, 1 by wildcard, 2 by its full name."""
        file = Path(path).name
        return max((2 if file == glob else int(fnmatchcase(file, glob)) for glob in self.match), default=0)

    def chosen(self, only: Iterable[str] | None = None) -> dict[str, ColumnSpec]:
        """Return the columns of the fields ``only`` that this mapping has, by field; None: of all.

        For a field that is a difference and need not have a column of its own, those of the two fields that make it.

        Raises
        ------
        ConfigError
            If a name is not in the field registry.
        """
        if only is None:
            return dict(self.columns)
        names = list(only)
        made = [name for name in names if name not in self.columns or self.columns[name].optional]
        wanted = {*names, *with_ingredients(made)}
        return {name: spec for name, spec in self.columns.items() if name in wanted}

    def needed(self, filter_name: str | None = None, only: Iterable[str] | None = None) -> dict[str, str]:
        """Columns that a file must have to read the fields ``only`` (None: all), each with what it is needed for."""
        needed = {self.id: "id"}
        snapshot = None if self.optional_snapshot else self.snapshot
        for column, use in ((snapshot, "snapshot"), (self.root, "root")):
            if column is not None and column != "id":
                needed.setdefault(column, use)
        chosen = self.filter(filter_name)
        if chosen.column is not None:
            needed.setdefault(chosen.column, f"filter {chosen.name!r}")
        for spec in self.chosen(only).values():
            if not spec.optional:
                needed.setdefault(spec.column, spec.field)
        return needed


def parse_mapping(text: str, where: str = "mapping") -> TableMapping:
    """Read a mapping from TOML text.

    Parameters
    ----------
    text : str
        TOML; the keys are described at the top of this module.
    where : str
        File name for messages.

    Raises
    ------
    ConfigError
        If the TOML is broken, or a key is unknown, missing or of the wrong kind; says which, and what was expected.
    """
    try:
        raw = parse_toml(text)
    except ValueError as error:
        raise ConfigError(f"the mapping is not valid TOML: {error}", where=where) from error
    try:
        _known(raw, TableMapping, "the mapping", required=("name", "domain", "id", "columns"))
        columns = {name: _column(name, value) for name, value in _table(raw, "columns").items()}
        filters = {name: _filter(name, value) for name, value in _table(raw, "filters").items()}
        return TableMapping(**{**raw, "columns": columns, "filters": filters})
    except ConfigError as error:
        raise ConfigError(
            error.what,
            where=where if error.where is None else f"{where}, {error.where}",
            expected=error.expected,
            advice=error.advice,
        ) from error


def load_mapping(path: str | os.PathLike[str]) -> TableMapping:
    """Read a mapping from a TOML file; raises ConfigError as `parse_mapping` does, and if the file cannot be read."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the mapping cannot be read: {getattr(error, 'strerror', None) or error}",
            where=str(path),
            expected="a TOML file, or one of the names " + ", ".join(shipped_mappings()),
        ) from error
    return parse_mapping(text, str(path))


def shipped_mappings() -> dict[str, TableMapping]:
    """Every mapping that comes with the package, by name, sorted."""
    found = [load_mapping(path) for path in MAPPINGS.glob("*.toml")]
    return {mapping.name: mapping for mapping in sorted(found, key=lambda mapping: mapping.name)}


def _column(name: str, value: Any) -> ColumnSpec:
    if isinstance(value, str):
        return ColumnSpec(name, value)
    where = f"columns.{name}"
    _typed(value, dict, where, 'a column name, or a table such as { column = "Stellar_Mass", unit = "1e10 Msun" }')
    _known(value, ColumnSpec, where, required=("column",), hidden=("field",))
    return ColumnSpec(field=name, **value)


def _filter(name: str, value: Any) -> RowFilter:
    where = f"filters.{name}"
    _known(_typed(value, dict, where, 'a table such as { column = "Snapshot", equals = [99] }'), RowFilter, where)
    return RowFilter(**{**value, "name": name})


def _table(raw: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(_typed(raw.get(name, {}), dict, name, "a TOML table"))


def _known(
    raw: dict[str, Any], kind: type, where: str, required: tuple[str, ...] = (), hidden: tuple[str, ...] = ()
) -> None:
    """Refuse keys that the dataclass does not have, and missing ones."""
    names = [item.name for item in fields(kind) if item.name not in hidden]
    for key in raw:
        if key not in names:
            raise _unknown("key", key, names, where)
    for key in required:
        if key not in raw:
            raise ConfigError(f"the key {key!r} is missing", where=where)


def _typed(value: Any, kind: Any, where: str, expected: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"the value is {value!r}", where=where, expected=expected)
    return value


def _unknown(what: str, name: str, known: Any, where: str | None = None) -> ConfigError:
    near = get_close_matches(name, list(known), n=1)
    advice = f"did you mean {near[0]}?" if near else None
    return ConfigError(
        f"there is no {what} {name!r}", where=where, expected="one of " + ", ".join(known), advice=advice
    )
