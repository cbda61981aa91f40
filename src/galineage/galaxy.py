"""Galaxies as rows: a frozen catalogue in registry units, and the list of what was skipped and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as default
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from galineage.errors import DataError
from galineage.fields import field, to_feature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Catalogue", "HeldMaps", "RowMaps", "Skip", "concatenate"]


@dataclass(frozen=True)
class Skip:
    """One row that was left out.

    Attributes
    ----------
    row : int
        Zero-based row of the input file.
    id : str
        Original identifier, as text.
    field : str
        The quantity that was wrong.
    value : str
        The offending value, as text, in the unit of the registry.
    reason : str
        What was expected.
    """

    row: int
    id: str
    field: str
    value: str
    reason: str


class RowMaps(Protocol):
    """Maps of the rows of a catalogue, wherever they lie."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names along the second axis of the maps."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How the maps were made, in JSON values."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def select(self, which: NDArray[Any]) -> RowMaps:
        """Return the rows ``which`` (boolean mask (n,) or integer indices)."""

    def lacks(self, channels: Iterable[str]) -> NDArray[np.bool_]:
        """Tell which rows (n,) lack one of these channels: their maps are 0 because nothing is known."""

    def read(self, which: NDArray[np.int64]) -> NDArray[Any]:
        """Return the maps (b, channels, s, s) of some rows, no unit, float32 or float16."""


@dataclass(frozen=True)
class Catalogue:
    """A table of galaxies, one row each, in the units of the field registry.

    Attributes
    ----------
    columns : mapping of str to array (n,)
        Field name to values in the registry's unit. NaN only where the field allows it.
    ids : array (n,)
        Original identifiers, untouched.
    domain : array of str (n,)
        Where each galaxy comes from, for example ``TNG100-1``.
    root : array of str (n,) or None
        The z=0 descendant of each galaxy, unique over domains: the unit of every split. None if unknown.
    skipped : tuple of Skip
        Rows of the file that are not here.
    meta : mapping
        Provenance: file, sha256, mapping, filters.
    maps : RowMaps or None
        The maps of each row, where the rows are views of galaxies.
    """

    columns: Mapping[str, NDArray[Any]]
    ids: NDArray[Any]
    domain: NDArray[np.str_]
    root: NDArray[np.str_] | None = None
    skipped: tuple[Skip, ...] = ()
    meta: Mapping[str, Any] = default(default_factory=dict)
    maps: RowMaps | None = None

    def __post_init__(self) -> None:
        if self.maps is not None and len(self.maps) != len(self.ids):
            raise DataError(f"there are maps of {len(self.maps)} rows", expected=f"{len(self.ids)}")
        frozen = {}
        for name, values in self.columns.items():
            field(name)
            values = np.array(values)
            if values.shape != (len(self.ids),):
                raise DataError(f"column {name!r} has shape {values.shape}", expected=f"({len(self.ids)},)")
            values.setflags(write=False)
            frozen[name] = values
        object.__setattr__(self, "columns", MappingProxyType(frozen))
        for name in ("ids", "domain", "root"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, self._label(name, values))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def _label(self, name: str, values: Any) -> NDArray[Any]:
        """Return labels as a frozen array of the catalogue's length (n,)."""
        labels = np.array(values)
        if name == "domain" and labels.ndim == 0:
            labels = np.full(len(self.ids), labels)
        if labels.shape != (len(self.ids),):
            raise DataError(f"{name} has shape {labels.shape}", expected=f"({len(self.ids)},)")
        labels.setflags(write=False)
        return labels

    def __reduce__(self) -> tuple[Any, ...]:
        # a mapping proxy cannot be sent to another process
        parts = (dict(self.columns), self.ids, self.domain, self.root, self.skipped, dict(self.meta), self.maps)
        return (Catalogue, parts)

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self.ids)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Values of one field, shape (n,), in the registry's unit.

        Raises
        ------
        DataError
            If this catalogue has no such column.
        """
        try:
            return self.columns[name]
        except KeyError:
            raise DataError(
                f"the catalogue has no column {name!r}",
                where=str(self.meta.get("file", "in memory")),
                expected="one of " + ", ".join(self.columns),
                advice="add it to the table's mapping, or leave it out of the features",
            ) from None

    def __contains__(self, name: str) -> bool:
        """Whether the catalogue has this field."""
        return name in self.columns

    def features(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Network inputs.

        Parameters
        ----------
        names : sequence of str, length d
            Field names.

        Returns
        -------
        array (n, d) of float64
            Each field in its registry unit, base-10 logarithm where the registry says ``log``. NaN where the
            value is missing or a logarithm of zero.
        """
        if not names:
            return np.zeros((len(self), 0))
        return np.stack([to_feature(name, self[name]) for name in names], axis=1)

    def select(self, which: NDArray[Any]) -> Catalogue:
        """Return the rows ``which`` (boolean mask (n,) or integer indices) as a new catalogue."""
        return replace(
            self,
            columns={name: values[which] for name, values in self.columns.items()},
            ids=self.ids[which],
            domain=self.domain[which],
            root=None if self.root is None else self.root[which],
            maps=None if self.maps is None else self.maps.select(which),
        )

    def has(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """Tell which rows (n,) have every named field: possible, and finite as a feature."""
        return np.asarray(self._has_each(list(names)).all(axis=1))

    def _has_each(self, names: list[str]) -> NDArray[np.bool_]:
        possible = np.stack([field(name).in_range(self[name]) for name in names], axis=1)
        return np.asarray(np.isfinite(self.features(names)) & possible)

    def complete(self, names: Iterable[str]) -> Catalogue:
        """Return the rows that have every named field, see `has`; the rest is skipped."""
        names, reason = list(names), "needed as an input, and missing, zero or impossible"
        finite = self._has_each(names)
        whole = np.asarray(finite.all(axis=1))
        skips = [
            Skip(int(row), str(self.ids[row]), name, str(self[name][row]), reason)
            for row in np.flatnonzero(~whole)
            for name in names[int(np.argmin(finite[row])) :][:1]
        ]
        return replace(self.select(whole), skipped=(*self.skipped, *skips))


def concatenate(catalogues: Sequence[Catalogue]) -> Catalogue:
    """Join catalogues row by row, keeping the columns that all of them have.

    Parameters
    ----------
    catalogues : sequence of Catalogue
        At least one.

    Returns
    -------
    Catalogue
        ``root`` is None if it is unknown in any of them; skip lists are joined; so are maps, if all have them.

    Raises
    ------
    DataError
        If the maps were made in different ways.
    """
    shared = [name for name in catalogues[0].columns if all(name in other for other in catalogues)]
    roots = [item.root for item in catalogues if item.root is not None]
    return Catalogue(
        columns={name: np.concatenate([item[name] for item in catalogues]) for name in shared},
        ids=np.concatenate([np.asarray(item.ids).astype(str) for item in catalogues]),
        domain=np.concatenate([item.domain for item in catalogues]),
        root=np.concatenate(roots) if len(roots) == len(catalogues) else None,
        skipped=tuple(skip for item in catalogues for skip in item.skipped),
        meta={"parts": [dict(item.meta) for item in catalogues]},
        maps=_joined([item.maps for item in catalogues]),
    )


@dataclass(frozen=True)
class JoinedMaps:
    """Maps of several sets, one after another, chosen by row (`RowMaps`).

    Attributes
    ----------
    parts : tuple of RowMaps
        With the same channels and recipe.
    rows : array (n,) of int
        Which of all rows of the parts.
    """

    parts: tuple[RowMaps, ...]
    rows: NDArray[np.int64]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names along the second axis of the maps."""
        return self.parts[0].channels

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How the maps were made, in JSON values."""
        return self.parts[0].recipe

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def select(self, which: NDArray[Any]) -> JoinedMaps:
        """Return the rows ``which`` (boolean mask (n,) or integer indices)."""
        return JoinedMaps(self.parts, self.rows[which])

    def lacks(self, channels: Iterable[str]) -> NDArray[np.bool_]:
        """Tell which rows (n,) lack one of these channels."""
        wanted = tuple(channels)
        return np.concatenate([part.lacks(wanted) for part in self.parts])[self.rows]

    def read(self, which: NDArray[np.int64]) -> NDArray[Any]:
        """Return the maps (b, channels, s, s) of some rows, no unit, float32 or float16."""
        rows = self.rows[which]
        ends = np.cumsum([len(part) for part in self.parts])
        owner = np.searchsorted(ends, rows, side="right")
        used = np.unique(owner) if len(rows) else np.zeros(1, dtype=int)
        found = {k: self.parts[k].read(rows[owner == k] - (ends[k] - len(self.parts[k]))) for k in used}
        first = next(iter(found.values()))
        out = np.empty((len(rows), *first.shape[1:]), dtype=np.result_type(*(part.dtype for part in found.values())))
        for k, part in found.items():
            out[owner == k] = part
        return out


@dataclass(frozen=True)
class HeldMaps:
    """Maps, or images, in memory (`RowMaps`).

    Attributes
    ----------
    values : array (n, channels, s, s)
        No unit, float32 or float16; nothing is missing.
    channels : tuple of str
        Names along the second axis.
    recipe : mapping
        How they were made, in JSON values.

    Raises
    ------
    DataError
        If there are not as many channels.
    """

    values: NDArray[Any]
    channels: tuple[str, ...]
    recipe: Mapping[str, Any] = default(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if self.values.ndim != 4 or self.values.shape[1] != len(self.channels):
            raise DataError(
                f"images of shape {self.values.shape}", expected=f"(n, {len(self.channels)}: {self.channels}, s, s)"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    def select(self, which: NDArray[Any]) -> HeldMaps:
        """Return the rows ``which`` (boolean mask (n,) or integer indices)."""
        return HeldMaps(self.values[which], self.channels, self.recipe)

    def lacks(self, channels: Iterable[str]) -> NDArray[np.bool_]:
        """Tell which rows (n,) lack one of these channels: none."""
        del channels
        return np.zeros(len(self), dtype=bool)

    def read(self, which: NDArray[np.int64]) -> NDArray[Any]:
        """Return the maps (b, channels, s, s) of some rows, no unit."""
        return self.values[which]


def _joined(maps: Sequence[RowMaps | None]) -> RowMaps | None:
    parts = [item for item in maps if item is not None]
    if len(parts) < len(maps):
        return None
    if any((item.channels, dict(item.recipe)) != (parts[0].channels, dict(parts[0].recipe)) for item in parts):
        raise DataError(
            "maps of these catalogues were made in different ways",
            expected="the same channels, pixels, field and refinement",
            advice="prepare them with the same settings",
        )
    return JoinedMaps(tuple(parts), np.arange(sum(len(item) for item in parts)))
