"""Shards of a map store: a folder with arrays, what each row is, and the checksums of all of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.atomic import sha256, writing
from galineage.errors import DataError, FileFormatError
from galineage.guard import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["CARD", "Shard", "read_shard", "shard_path", "write_shard"]

CARD = "card.json"
FORMAT = 1


def shard_path(part: Path, number: int) -> Path:
    """Return the folder of a shard of a part."""
    return part / "shards" / f"{number:06d}"


@dataclass(frozen=True)
class Shard:
    """A shard that is whole, as far as names and sizes tell.

    Attributes
    ----------
    path : Path
        Folder.
    rows : tuple of mapping
        What each row of the arrays is.
    skipped : tuple of mapping
        Galaxies that are not there, and why.
    files : mapping of str to str
        Checksums (SHA-256) of the arrays by file name.
    """

    path: Path
    rows: tuple[Mapping[str, Any], ...]
    skipped: tuple[Mapping[str, Any], ...]
    files: Mapping[str, str]

    def array(self, name: str) -> NDArray[Any]:
        """Map an array (rows, channels, s, s) into memory; nothing is read yet.

        Raises
        ------
        FileFormatError
            If the file is damaged or has another number of rows.
        """
        path = self.path / f"{name}.npy"
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise FileFormatError(f"{path.name} cannot be read: {error}", where=str(path), advice=_ADVICE) from error
        if len(found) != len(self.rows):
            raise FileFormatError(f"{path.name} has {len(found)} rows, its card {len(self.rows)}", where=str(path))
        return np.asarray(found)

    def check(self) -> None:
        """Compare every file with its checksum.

        Raises
        ------
        FileFormatError
            If one is not what was written.
        """
        for name, known in self.files.items():
            path = self.path / name
            if sha256(path) != known:
                raise FileFormatError(
                    f"{name} is not what was written: its checksum differs", where=str(path), advice=_ADVICE
                )


_ADVICE = "remove the shard's folder and prepare again: only this shard is made anew"


def write_shard(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    rows: Sequence[Mapping[str, Any]],
    skipped: Sequence[Mapping[str, Any]],
) -> Shard:
    """Write a shard so that it is there as a whole or not at all.

    Parameters
    ----------
    path : Path
        Folder; what is left of an unfinished one is replaced.
    arrays : mapping of str to array (rows, channels, s, s)
        Any unit; the rows say which.
    rows, skipped : sequence of mapping
        JSON values.

    Raises
    ------
    DataError
        If an array has another number of rows.
    FileFormatError
        If it cannot be written.
    """
    for name, values in arrays.items():
        if len(values) != len(rows):
            raise DataError(f"array {name!r} has {len(values)} rows", expected=f"{len(rows)}")
    files = {}
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    for name, values in arrays.items():
        with writing(path / f"{name}.npy") as temporary, temporary.open("wb") as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(values), allow_pickle=False)
        files[f"{name}.npy"] = sha256(path / f"{name}.npy")
    card = {"format": FORMAT, "rows": list(rows), "skipped": list(skipped), "files": files}
    # the card comes last: a shard without one is not there
    with writing(path / CARD) as temporary:
        temporary.write_text(json.dumps(card, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    return Shard(path, tuple(rows), tuple(skipped), files)


def read_shard(path: Path) -> Shard | None:
    """Return a shard if it is whole as far as its card and the sizes of its files tell, else None."""
    try:
        card = parse_json((path / CARD).read_text(encoding="utf-8"))
        rows, skipped, files = card["rows"], card["skipped"], card["files"]
        if card["format"] != FORMAT or not all(isinstance(one, dict) for one in (*rows, *skipped)):
            return None
        shard = Shard(path, tuple(rows), tuple(skipped), dict(files))
        for name in files:
            if Path(name).name != name:  # of another folder
                return None
            shard.array(str(name).removesuffix(".npy"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, FileFormatError):
        return None
    return shard
