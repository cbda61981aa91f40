"""Reading many galaxies out of a snapshot in many files: each file opened once, each dataset read in few pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import FileFormatError
from galineage.sources.native.files import attributes, opened, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

__all__ = ["Chunks", "Wanted", "chunks_of", "read_rows"]

GAP = 65_536
"""Rows between two galaxies that are read along rather than skipped: a seek and a new read cost about as much."""

LARGEST = 4_000_000
"""Rows read at once at most, whatever lies between: 4 million rows of all fields are 300 MB."""


@dataclass(frozen=True)
class Chunks:
    """The files that hold one particle type of a snapshot, in its order.

    Attributes
    ----------
    paths : tuple of Path
        Files that are there.
    start, stop : array (n,) of int
        First row of the whole snapshot in each file, and the one after its last.
    total : int
        Rows in the whole snapshot.
    """

    paths: tuple[Path, ...]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    total: int


@dataclass(frozen=True)
class Wanted:
    """Rows of one galaxy: ``key`` says which, ``first`` and ``count`` where in the snapshot."""

    key: int
    first: int
    count: int


def chunks_of(files: Mapping[int, Path], kind: int) -> Chunks:
    """Find out which rows of a particle type (0 to 5) each file holds.

    Rows of files after absent ones are counted from the end, so that one gap does no harm; a file that cannot be opened
    counts as absent. Counts beyond 2^32 are put
    together from the two words of the header.

    Raises
    ------
    FileFormatError
        If no file can be opened, or headers contradict each other.
    """
    counts: dict[int, int] = {}
    total = expected = 0
    broken: list[FileFormatError] = []
    for chunk, path in sorted(files.items()):
        try:
            with opened(path) as file:
                header = attributes(file)
        except FileFormatError as error:
            broken.append(error)
            continue
        counts[chunk] = _count(header, "NumPart_ThisFile", kind, path)
        expected = int(header.get("NumFilesPerSnapshot", len(files)))
        total = _count(header, "NumPart_Total", kind, path)
        total += _count(header, "NumPart_Total_HighWord", kind, path) << 32 if "NumPart_Total_HighWord" in header else 0
    if not counts:
        raise broken[0]
    gaps = _gaps(counts, expected)
    if not gaps and sum(counts.values()) != total:
        raise FileFormatError(
            f"files hold {sum(counts.values())} particles of type {kind}, headers promise {total}",
            where=str(next(iter(files.values())).parent),
        )
    start: dict[int, int] = {}
    row = 0
    for chunk in sorted(counts):
        if gaps and chunk > gaps[0]:
            break
        start[chunk] = row
        row += counts[chunk]
    row = total
    for chunk in sorted(counts, reverse=True):
        if not gaps or chunk < gaps[-1]:
            break
        row -= counts[chunk]
        start[chunk] = row
    known = sorted(start)
    first = np.array([start[chunk] for chunk in known], dtype=np.int64)
    last = first + np.array([counts[chunk] for chunk in known], dtype=np.int64)
    return Chunks(tuple(files[chunk] for chunk in known), first, last, total)


def _count(header: Mapping[str, Any], name: str, kind: int, path: Path) -> int:
    try:
        value = int(np.asarray(header[name])[kind])
    except (KeyError, IndexError, TypeError, ValueError):
        value = -1
    if value < 0:
        raise FileFormatError(f"the header's {name} is not six counts", where=str(path))
    return value


def _gaps(counts: Mapping[int, int], expected: int) -> list[int]:
    absent = [chunk for chunk in range(expected) if chunk not in counts]
    if absent and absent[-1] - absent[0] + 1 == len(absent):
        return absent
    if absent:
        # between two gaps nothing tells which rows a file holds: those files are left out
        return list(range(absent[0], absent[-1] + 1))
    return []


def read_rows(
    chunks: Chunks, group: str, fields: Sequence[str], wanted: Sequence[Wanted]
) -> Iterator[tuple[Wanted, dict[str, NDArray[Any]] | FileFormatError]]:
    """Read the rows of many galaxies, each file once, in the order of the snapshot.

    Parameters
    ----------
    chunks : Chunks
        From `chunks_of`.
    group : str
        HDF5 group, for example ``PartType4``.
    fields : sequence of str
        Datasets; one that a file lacks (a mini snapshot) is left out of what is returned.
    wanted : sequence of Wanted
        Galaxies; they may not overlap.

    Yields
    ------
    Wanted, and dict of str to array (count, ...) in the file's unit
        Or, in place of the rows, the error that says why this galaxy cannot be read; the others go on.
    """
    pending = sorted(wanted, key=lambda one: one.first)
    held: dict[int, tuple[int, list[dict[str, NDArray[Any]]]]] = {}
    failed: set[int] = set()
    for path, start, stop in zip(chunks.paths, chunks.start, chunks.stop, strict=True):
        if start == stop:
            continue
        here = [one for one in pending if one.first < stop and one.first + one.count > start and one.count]
        pending = [one for one in pending if one.first + one.count > stop or one.first >= stop or not one.count]
        for piece in _pieces(here, int(start), int(stop)):
            for one, found in _read_piece(path, int(start), group, fields, piece, held):
                if one.key not in failed:
                    yield one, found
                if isinstance(found, FileFormatError):
                    failed.add(one.key)
    for one in pending:
        if not one.count:
            yield one, {}
    for one in [one for one in wanted if one.count and one.key not in failed and _unread(one, chunks)]:
        yield (
            one,
            FileFormatError(
                f"rows {one.first} to {one.first + one.count} lie in a file that is absent or broken: "
                + _between(chunks, one),
                where=str(chunks.paths[0].parent) if chunks.paths else "",
                advice="download it again",
            ),
        )


def _unread(one: Wanted, chunks: Chunks) -> bool:
    inside = np.minimum(chunks.stop, one.first + one.count) - np.maximum(chunks.start, one.first)
    return int(inside.clip(0).sum()) < one.count


def _between(chunks: Chunks, one: Wanted) -> str:
    before = [path.name for path, stop in zip(chunks.paths, chunks.stop, strict=True) if stop <= one.first + one.count]
    return f"after {before[-1]}" if before else "the first"


def _pieces(here: Sequence[Wanted], start: int, stop: int) -> list[list[Wanted]]:
    """Divide the galaxies of a file into runs that are read at once."""
    pieces: list[list[Wanted]] = []
    begin = end = 0
    for one in here:
        low, high = max(one.first, start), min(one.first + one.count, stop)
        if pieces and low - end <= GAP and high - begin <= LARGEST:
            pieces[-1].append(one)
        else:
            pieces.append([one])
            begin = low
        end = high
    return pieces


def _read_piece(
    path: Path,
    start: int,
    group: str,
    fields: Sequence[str],
    piece: Sequence[Wanted],
    held: dict[int, tuple[int, list[dict[str, NDArray[Any]]]]],
) -> Iterator[tuple[Wanted, dict[str, NDArray[Any]] | FileFormatError]]:
    low = max(piece[0].first - start, 0)
    try:
        with opened(path) as file:
            high = min(max(one.first + one.count for one in piece) - start, _rows(file, group))
            read = {name: part(file, f"{group}/{name}", low, high) for name in fields if f"{group}/{name}" in file}
    except FileFormatError as error:
        for one in piece:
            yield one, error
        return
    for one in piece:
        begin, end = max(one.first - start, 0) - low, min(one.first + one.count - start, high) - low
        mine = {name: values[begin:end] for name, values in read.items()}
        if end - begin == one.count:
            yield one, mine
            continue
        have, parts = held.pop(one.key, (0, []))
        have, parts = have + end - begin, [*parts, {name: values.copy() for name, values in mine.items()}]
        if have < one.count:
            held[one.key] = have, parts
            continue
        shared = [name for name in parts[0] if all(name in other for other in parts)]
        yield one, {name: np.concatenate([other[name] for other in parts]) for name in shared}


def _rows(file: h5py.File, group: str) -> int:
    if group not in file:
        raise FileFormatError(f"there is no group {group}, but the header promises rows of it", where=file.filename)
    return int(max((len(values) for values in file[group].values() if hasattr(values, "shape")), default=0))
