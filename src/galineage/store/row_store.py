"""Reading a store of arrays: one table of rows, arrays mapped into memory, random batches, splits by root."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from galineage.errors import ConfigError, DataError, FileFormatError
from galineage.fields import FIELDS
from galineage.galaxy import Catalogue
from galineage.guard import parse_json
from galineage.progress import bar
from galineage.store.shards import Shard, read_shard, shard_path
from galineage.store.splits import folds

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from astropy.table import Table
    from numpy.typing import NDArray

__all__ = ["PLAN", "RowStore", "StoredMaps"]

PLAN = "plan.json"

_MAPPED = 4096
"""Files mapped into memory at once: opening one takes as long as reading ten maps."""


_FACTS = frozenset({"id", "domain", "snapshot", "root", "view", "views", "redshift", "r_half", "truth"})


class RowStore(ABC):
    """Arrays of many galaxies on disk, larger than memory if need be: what stores of maps and of images share.

    Parameters
    ----------
    path : path
        Folder of the store.

    Attributes
    ----------
    settings : dict
        With which it was made.
    rows : tuple of dict
        What each row is: ``id``, ``domain``, ``snapshot``, ``root``, ``view`` of ``views``, ``redshift``, ``r_half``
        (kpc), ``missing`` channels, ``truth`` and what was ``measured``, by field name.
    skipped : tuple of dict
        What is not there, and why.
    unfinished : dict of str to int
        Shards that are not there yet, by part.

    Raises
    ------
    FileFormatError
        If the folder is no such store.
    """

    CALLED: ClassVar[str] = "store"
    """What messages call it."""
    WRITTEN_BY: ClassVar[str] = "galineage"
    """Who writes it, for messages."""
    SETTING: ClassVar[str] = ""
    """The setting by which it is known."""
    PER_SHARD: ClassVar[str] = ""
    """The setting that says how many of a plan's identifiers are in one shard."""
    DEFAULT: ClassVar[str] = ""
    """Which arrays are read where nothing is said."""
    HELD: ClassVar[str] = "arrays"
    """What it holds, for messages."""
    LISTED: ClassVar[tuple[str, ...]] = ("id", "domain", "snapshot", "root", "view", "views", "redshift", "r_half")
    """Facts of a row that its table has as columns."""
    VIEWS_DIFFER: ClassVar[bool] = False
    """Whether what is measured differs between the views of a galaxy."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            known = parse_json((self.path / "store.json").read_text(encoding="utf-8"))
            self.settings: dict[str, Any] = known["settings"]
            if self.SETTING not in self.settings:
                raise KeyError(self.SETTING)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(
                f"the folder is no {self.CALLED}", where=str(path), expected=f"what {self.WRITTEN_BY} writes"
            ) from error
        self._shards: list[Shard] = []
        self.unfinished: dict[str, int] = {}
        folder = self.path / "parts"
        for part in sorted(folder.iterdir()) if folder.is_dir() else ():
            self._add(part)
        self.rows: tuple[dict[str, Any], ...] = tuple(dict(row) for shard in self._shards for row in shard.rows)
        self.skipped: tuple[dict[str, Any], ...] = tuple(dict(one) for shard in self._shards for one in shard.skipped)
        counts = [len(shard.rows) for shard in self._shards]
        self._start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._checked: set[int] = set()
        self._mapped: dict[tuple[int, str], NDArray[Any]] = {}
        self._digests: dict[str | None, str] = {}

    def _add(self, part: Path) -> None:
        try:
            plan = parse_json((part / PLAN).read_text(encoding="utf-8"))
            wanted = -(-len(plan["ids"]) // int(self.settings[self.PER_SHARD]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"the plan of part {part.name} cannot be read", where=str(part)) from error
        whole = [read_shard(shard_path(part, number)) for number in range(wanted)]
        for shard in whole:
            if shard is not None:
                self._require_facts(shard)
                self._shards.append(shard)
        if missing := sum(shard is None for shard in whole):
            self.unfinished[part.name] = missing

    @staticmethod
    def _require_facts(shard: Shard) -> None:
        for row in shard.rows:
            if not (
                row.keys() >= _FACTS and all(isinstance(row.get(name, {}), dict) for name in ("truth", "measured"))
            ):
                raise FileFormatError(
                    "a row of the store lacks facts that every row has",
                    where=str(shard.path),
                    expected=", ".join(sorted(_FACTS)),
                )

    def __reduce__(self) -> tuple[Any, ...]:
        # to another process goes the place; mapped files would travel with all they hold
        return (type(self), (str(self.path),))

    def __len__(self) -> int:
        """Return the number of rows: galaxies times views."""
        return len(self.rows)

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """Names along the second axis of the arrays."""

    @property
    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Settings that decide what an array looks like: not which views there are, nor how they are kept."""

    @property
    @abstractmethod
    def pixels(self) -> int:
        """Side of an array."""

    def kinds(self) -> tuple[str, ...]:
        """Return the names of the arrays that each row has."""
        return (self.DEFAULT,)

    def table(self) -> Table:
        """Return the rows as an astropy table, truths as columns, with units."""
        from astropy.table import Table

        found = Table()
        for name in self.LISTED:
            values = [row[name] for row in self.rows]
            found[name] = np.array(["" if value is None else value for value in values])
        for name in {"r_half", "pixel"} & set(self.LISTED):
            found[name].unit = "kpc"
        self._add_columns(found)
        facts = [{**row["truth"], **(row["measured"] if self.VIEWS_DIFFER else {})} for row in self.rows]
        for name in sorted({name for one in facts for name in one}):
            values = [one.get(name) for one in facts]
            column = f"truth_{name}" if name in found.colnames else name
            found[column] = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            found[column].unit = (FIELDS[name].unit or None) if name in FIELDS else None
        return found

    def _add_columns(self, found: Table) -> None:
        """Add columns that only this kind of store has; none by default."""
        del found

    def galaxies(self, domain: str | None = None) -> Catalogue:
        """Return the galaxies as a catalogue, a row each: what a network for tables learns from.

        Parameters
        ----------
        domain : str, optional
            Only this one's.

        Returns
        -------
        Catalogue
            Catalogued values and truths, and what they do not tell measured on the stars (`galineage.stars.measure`),
            in registry units; ``n_views``. What a galaxy lacks is NaN (a column of int64 or bool is float64 then); what
            all lack is no column. Where NaN means something (no merger), a galaxy of which nothing is said keeps the
            column away. What differs between views is that of the first. ``root`` is None if any is unknown.

        Raises
        ------
        DataError
            If there is none.
        """
        first: dict[tuple[str, Any, str], dict[str, Any]] = {}
        for row in self.rows:
            if domain in (None, row["domain"]):
                first.setdefault(_name(row), row)
        if not first:
            known = sorted({str(row["domain"]) for row in self.rows})
            raise DataError(
                f"the store has no galaxy of {domain or 'any domain'}",
                where=str(self.path),
                expected=", ".join(known) or "galaxies: see its skip list",
            )
        return self._listed(list(first.values()), domain)

    def _listed(self, rows: Sequence[dict[str, Any]], domain: str | None) -> Catalogue:
        """Return rows as a catalogue."""
        every = [_known(row) for row in rows]
        columns = {}
        for name, about in FIELDS.items():
            told = [name in one for one in every]
            if not (all(told) if about.missing else any(told)):
                continue
            values = self._numbers(name, [one.get(name) for one in every])
            known = np.isfinite(values)
            if about.missing or known.any():
                columns[name] = values.astype(about.kind) if about.kind != "float" and known.all() else values
        roots = [row["root"] for row in rows]
        return Catalogue(
            columns=columns,
            ids=np.array([row["id"] for row in rows], dtype=str),
            domain=np.array([row["domain"] for row in rows], dtype=str),
            root=None if None in roots else np.array(roots, dtype=str),
            meta={"file": str(self.path), "sha256": self._digest(domain)},
        )

    def _numbers(self, name: str, values: list[Any]) -> NDArray[np.float64]:
        """Return values of a field (n,), in its unit; NaN for None."""
        try:
            return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"{name} of a row is no number: {error}", where=str(self.path)) from error

    def views(self, domain: str | None = None) -> Catalogue:
        """Return the views as a catalogue with maps, a row each: what a network for maps learns from.

        Columns are those of `galaxies`, and ``view``, its number; what is measured on images is that of each view.
        Identifiers repeat, and views of one galaxy share its root. Where roots are unknown each galaxy is its own,
        unless there are several snapshots of a domain: a galaxy at two of them has two identifiers, so ``root`` is None
        then.

        Parameters
        ----------
        domain : str, optional
            Only this one's.

        Raises
        ------
        DataError
            If there is none.
        """
        galaxies = self.galaxies(domain)
        rows = np.array([k for k, row in enumerate(self.rows) if domain in (None, row["domain"])], dtype=np.int64)
        names = [_name(self.rows[k]) for k in rows]
        place = {name: k for k, name in enumerate(dict.fromkeys(names))}  # the order of `galaxies`
        if self.VIEWS_DIFFER:
            found = self._listed([self.rows[k] for k in rows], domain)
        else:
            found = galaxies.select(np.array([place[name] for name in names], dtype=np.int64))
        view = np.array([self.rows[k]["view"] for k in rows], dtype=np.int64)
        found = replace(found, columns={**found.columns, "view": view})
        times = {name[:2] for name in place}
        alone = len(times) == len({domain for domain, _ in times})
        root = self.groups[rows] if found.root is None and alone else found.root
        return replace(found, root=root, maps=StoredMaps(self, rows))

    def truth(self, name: str) -> NDArray[np.float64]:
        """Return a truth of every row (n,), in the registry's unit; NaN where it is not known."""
        values = [row["truth"].get(name) for row in self.rows]
        return np.array([np.nan if value is None else float(value) for value in values])

    def read(self, index: Sequence[int] | NDArray[np.int64], kind: str | None = None) -> NDArray[Any]:
        """Read some rows.

        The first time a shard is touched its files are compared with their checksums.

        Parameters
        ----------
        index : sequence of int, length b
            Rows.
        kind : str, optional
            Which arrays, of `kinds`. Of maps ``refined``, which is the default, or ``raw``.

        Returns
        -------
        array (b, channels, s, s)
            Refined maps and images: no unit, float32 or float16. Raw maps: units of `galineage.views.UNITS`, float32;
            channels that a galaxy lacks are NaN.

        Raises
        ------
        DataError
            If there is no such row or kind.
        FileFormatError
            If a file is not what was written.
        """
        wanted = np.asarray(index, dtype=np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise DataError(
                f"there is no row {wanted.min() if wanted.min() < 0 else wanted.max()}",
                expected=f"0 to {len(self) - 1}",
            )
        kind = kind or self.DEFAULT
        if kind not in self.kinds():
            raise DataError(f"the store has no {kind!r} {self.HELD}", where=str(self.path))
        whose = np.searchsorted(self._start, wanted, side="right") - 1
        out: NDArray[Any] | None = None
        for number in np.unique(whose):
            values = self._array(int(number), kind)
            here = whose == number
            if out is None:
                out = np.empty((len(wanted), *values.shape[1:]), dtype=values.dtype)
            out[here] = values[wanted[here] - self._start[number]]
        if out is None:
            channels = len(self.channels) if kind == self.DEFAULT else 0
            return np.zeros((0, channels, self.pixels, self.pixels), dtype=np.float32)
        return out

    def _array(self, number: int, kind: str) -> NDArray[Any]:
        if number not in self._checked:
            self._shards[number].check()
            self._checked.add(number)
        if (number, kind) not in self._mapped:
            if len(self._mapped) >= _MAPPED:
                self._mapped.pop(next(iter(self._mapped)))
            self._mapped[number, kind] = self._shards[number].array(kind)
        return self._mapped[number, kind]

    def check(self, *, progress: bool = False) -> None:
        """Compare every file with its checksum.

        Raises
        ------
        FileFormatError
            Names the first file that is not what was written.
        """
        for number, shard in enumerate(bar(self._shards, label="checksums", show=progress)):
            shard.check()
            self._checked.add(number)

    @property
    def checksums(self) -> dict[str, str]:
        """Checksum of every array, by its place in the store."""
        return {
            str((shard.path / name).relative_to(self.path)): known
            for shard in self._shards
            for name, known in shard.files.items()
        }

    @property
    def digest(self) -> str:
        """Checksum of all arrays, and of what is known of each row."""
        return self._digest(None)

    def _digest(self, domain: str | None) -> str:
        """Checksum of all shards, or of those with maps of a domain."""
        if domain not in self._digests:
            mine = [s for s in self._shards if domain is None or any(row["domain"] == domain for row in s.rows)]
            told = [[dict(shard.files), [dict(row) for row in shard.rows]] for shard in mine]
            self._digests[domain] = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return self._digests[domain]

    @cached_property
    def groups(self) -> NDArray[Any]:
        """What splits keep together, labels of every row (n,): the root, or where it is unknown the galaxy."""
        return np.array([row["root"] or f"{row['domain']}:{row['snapshot']}:{row['id']}" for row in self.rows])

    def folds(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        """Assign every row to one of ``count`` test folds (n,), whole roots together; indices, no unit."""
        return folds(self.groups, count, seed)

    def batches(
        self, size: int, seed: int, rows: NDArray[np.int64] | None = None, kind: str | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Yield the rows once in random order, without ever holding more than a batch.

        Parameters
        ----------
        size : int
            Rows in a batch; the last one may be smaller.
        seed : int
            Of the order: another one for every epoch.
        rows : array of int, optional
            Rows to choose from, for example those of a fold. Default: all.
        kind : str, optional
            Which arrays.

        Yields
        ------
        array (b,) of int, array (b, channels, s, s)
            Rows and arrays; see `read`.
        """
        if size < 1:
            raise ConfigError(f"batches of {size}", expected="1 or more")
        every = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        order = np.random.default_rng(seed).permutation(every)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield chosen, self.read(chosen, kind)


def _name(row: dict[str, Any]) -> tuple[str, Any, str]:
    """Return what tells a galaxy from every other one: numbers begin again in each domain and snapshot."""
    return row["domain"], row["snapshot"], row["id"]


@dataclass(frozen=True)
class StoredMaps:
    """Arrays of some rows of a store, read when they are asked for (`galineage.galaxy.RowMaps`).

    Attributes
    ----------
    store : RowStore
    rows : array (n,) of int
    """

    store: RowStore
    rows: NDArray[np.int64]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names along the second axis of the maps."""
        return self.store.channels

    @property
    def recipe(self) -> dict[str, Any]:
        """Settings that decide what a map looks like: not which views there are, nor how they are kept."""
        return self.store.recipe

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def select(self, which: NDArray[Any]) -> StoredMaps:
        """Return the rows ``which`` (boolean mask (n,) or integer indices)."""
        return StoredMaps(self.store, self.rows[which])

    def lacks(self, channels: Iterable[str]) -> NDArray[np.bool_]:
        """Tell which rows (n,) lack one of these channels."""
        wanted = set(channels)
        return np.array([not wanted.isdisjoint(self.store.rows[row]["missing"]) for row in self.rows], dtype=bool)

    def read(self, which: NDArray[np.int64]) -> NDArray[Any]:
        """Return the maps (b, channels, s, s) of rows by their number here; see `RowStore.read`."""
        return self.store.read(self.rows[which])


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Everything known of a galaxy by field name; what a catalogue says goes before what was measured."""
    truth = {name: value for name, value in row["truth"].items() if value is not None}
    about = {name: row[name] for name in ("snapshot", "redshift", "r_half") if row[name] is not None}
    return {**row["truth"], **row.get("measured", {}), **about, **truth, "n_views": row["views"]}
