"""Reading a map store: one table of rows, maps mapped into memory, random batches, splits by root."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError, FileFormatError
from galineage.progress import bar
from galineage.store.shards import Shard, read_shard
from galineage.store.splits import folds

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from astropy.table import Table
    from numpy.typing import NDArray

__all__ = ["PLAN", "MapStore"]

PLAN = "plan.json"


class MapStore:
    """Maps of many galaxies on disk, larger than memory if need be.

    Parameters
    ----------
    path : path
        Folder that `galineage.store.prepare` wrote.

    Attributes
    ----------
    settings : dict
        With which it was made.
    rows : tuple of dict
        What each map is: ``id``, ``domain``, ``snapshot``, ``root``, ``view`` of ``views``, ``los`` and ``up``,
        ``r_half`` (kpc), ``pixel`` (kpc), ``stars``, ``missing`` channels, ``truth`` by field name.
    skipped : tuple of dict
        Galaxies that have no maps, and why.

    Raises
    ------
    FileFormatError
        If the folder is no store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            known = json.loads((self.path / "store.json").read_text(encoding="utf-8"))
            self.settings: dict[str, Any] = known["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(
                "the folder is no map store", where=str(path), expected="what `galineage prepare` writes"
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

    def _add(self, part: Path) -> None:
        try:
            plan = json.loads((part / PLAN).read_text(encoding="utf-8"))
            wanted = -(-len(plan["ids"]) // int(self.settings["galaxies_per_shard"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"the plan of part {part.name} cannot be read", where=str(part)) from error
        whole = [read_shard(part / "shards" / f"{number:06d}") for number in range(wanted)]
        self._shards += [shard for shard in whole if shard is not None]
        if missing := sum(shard is None for shard in whole):
            self.unfinished[part.name] = missing

    def __len__(self) -> int:
        """Return the number of maps: galaxies times views."""
        return len(self.rows)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of the refined maps."""
        refinement = self.settings["refinement"]
        if refinement is None:
            raise ConfigError("the store has raw maps only", where=str(self.path))
        return tuple(refinement["channels"])

    def table(self) -> Table:
        """Return the rows as an astropy table, truths as columns, with units."""
        from astropy.table import Table

        from galineage.fields import FIELDS

        found = Table()
        for name in ("id", "domain", "snapshot", "root", "view", "views", "redshift", "r_half", "pixel", "stars"):
            values = [row[name] for row in self.rows]
            found[name] = np.array(["" if value is None else value for value in values])
        for name in ("los", "up"):
            found[name] = np.array([row[name] for row in self.rows]).reshape(-1, 3)
        for name in ("r_half", "pixel"):
            found[name].unit = "kpc"
        for name in sorted({name for row in self.rows for name in row["truth"]}):
            values = [row["truth"].get(name) for row in self.rows]
            column = f"truth_{name}" if name in found.colnames else name
            found[column] = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            found[column].unit = (FIELDS[name].unit or None) if name in FIELDS else None
        return found

    def truth(self, name: str) -> NDArray[np.float64]:
        """Return a truth of every row (n,), in the registry's unit; NaN where it is not known."""
        values = [row["truth"].get(name) for row in self.rows]
        return np.array([np.nan if value is None else float(value) for value in values])

    def read(self, index: Sequence[int] | NDArray[np.int64], kind: str = "refined") -> NDArray[Any]:
        """Read some maps.

        The first time a shard is touched its files are compared with their checksums.

        Parameters
        ----------
        index : sequence of int, length b
            Rows.
        kind : {"refined", "raw"}
            Which maps.

        Returns
        -------
        array (b, channels, s, s)
            Refined: no unit, float32 or float16. Raw: units of `galineage.views.UNITS`, float32; channels that a
            galaxy lacks are NaN.

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
        if kind not in ("refined", "raw") or (kind == "refined" and self.settings["refinement"] is None):
            raise DataError(f"the store has no {kind!r} maps", where=str(self.path))
        if kind == "raw" and not self.settings["raw"]:
            raise DataError("the store has no 'raw' maps", where=str(self.path))
        whose = np.searchsorted(self._start, wanted, side="right") - 1
        out: NDArray[Any] | None = None
        for number in np.unique(whose):
            values = self._array(int(number), kind)
            here = whose == number
            if out is None:
                out = np.empty((len(wanted), *values.shape[1:]), dtype=values.dtype)
            out[here] = values[wanted[here] - self._start[number]]
        if out is None:
            side = int(self.settings["maps"]["pixels"])
            channels = len(self.channels) if kind == "refined" else 0
            return np.zeros((0, channels, side, side), dtype=np.float32)
        return out

    def _array(self, number: int, kind: str) -> NDArray[Any]:
        if number not in self._checked:
            self._shards[number].check()
            self._checked.add(number)
        return self._shards[number].array(kind)

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

    @cached_property
    def groups(self) -> NDArray[Any]:
        """What splits keep together, labels of every row (n,): the root, or where it is unknown the galaxy."""
        return np.array([row["root"] or f"{row['domain']}:{row['snapshot']}:{row['id']}" for row in self.rows])

    def folds(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        """Assign every row to one of ``count`` test folds (n,), whole roots together; indices, no unit."""
        return folds(self.groups, count, seed)

    def batches(
        self, size: int, seed: int, rows: NDArray[np.int64] | None = None, kind: str = "refined"
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Yield the maps once in random order, without ever holding more than a batch.

        Parameters
        ----------
        size : int
            Maps in a batch; the last one may be smaller.
        seed : int
            Of the order: another one for every epoch.
        rows : array of int, optional
            Rows to choose from, for example those of a fold. Default: all.
        kind : {"refined", "raw"}
            Which maps.

        Yields
        ------
        array (b,) of int, array (b, channels, s, s)
            Rows and maps; see `read`.
        """
        if size < 1:
            raise ConfigError(f"batches of {size}", expected="1 or more")
        every = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        order = np.random.default_rng(seed).permutation(every)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield chosen, self.read(chosen, kind)
