"""Reading many galaxies out of a snapshot in many files: each file opened once, each dataset read in few pieces."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import FileFormatError
from galineage.sources.native.ahead import in_order
from galineage.sources.native.direct import Column, descriptor
from galineage.sources.native.files import attributes, opened, stumbling

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Chunks", "Wanted", "chunks_of", "read_rows"]

GAP = 65_536
"""Rows between two galaxies that are read along rather than skipped: a seek and a new read cost about as much."""

LARGEST = 500_000
"""Rows read at once at most, whatever lies between, unless one galaxy has more: 38 MB of all fields."""

HELD = 1_000_000
"""Rows in memory at most, read ahead by threads: 76 MB of all fields."""

_LINE = 64
_COUNTS = ("NumPart_ThisFile", "NumPart_Total", "NumPart_Total_HighWord", "NumFilesPerSnapshot")


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
                header = attributes(file, names=_COUNTS)
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
) -> Generator[tuple[Wanted, dict[str, NDArray[Any]] | FileFormatError]]:
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
    held: dict[int, tuple[int, list[dict[str, NDArray[Any]]]]] = {}
    failed: set[int] = set()
    with ExitStack() as files:
        plans = _plans(chunks, group, fields, wanted, files)
        # threads stop before the files are closed
        with closing(in_order(_load, plans, lambda plan: plan.high - plan.low, HELD)) as loaded:
            for plan, read in loaded:
                for one, found in _handed_out(plan, read, held, failed):
                    yield one, found
                if plan.last:
                    plan.file.close()
    for one in sorted(wanted, key=lambda one: one.first):
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


@dataclass(frozen=True)
class _Plan:
    """A run of galaxies of one file: rows ``low`` to ``high`` of its columns, or the reason why there are none."""

    start: int
    low: int
    high: int
    piece: Sequence[Wanted]
    columns: Mapping[str, Column] | FileFormatError
    file: ExitStack
    last: bool


def _plans(
    chunks: Chunks, group: str, fields: Sequence[str], wanted: Sequence[Wanted], files: ExitStack
) -> Iterator[_Plan]:
    pending = sorted((one for one in wanted if one.count), key=lambda one: one.first)
    for path, start, stop in zip(chunks.paths, chunks.start.tolist(), chunks.stop.tolist(), strict=True):
        here = [one for one in pending if one.first < stop and one.first + one.count > start]
        if start == stop or not here:
            continue
        pending = [one for one in pending if one.first + one.count > stop]
        file = files.enter_context(ExitStack())
        columns = _columns(path, group, fields, file)
        pieces = _pieces(here, start, stop)
        for piece in pieces:
            low = max(piece[0].first, start) - start
            high = min(max(one.first + one.count for one in piece), stop) - start
            yield _Plan(start, low, high, piece, columns, file, piece is pieces[-1])


def _columns(path: Path, group: str, fields: Sequence[str], stack: ExitStack) -> dict[str, Column] | FileFormatError:
    try:
        file, where = stack.enter_context(opened(path)), str(path)
        with stumbling(path):
            if group not in file:
                raise FileFormatError(f"there is no group {group}, but the header promises rows of it", where=where)
            known, place = [name for name in fields if f"{group}/{name}" in file], descriptor(file)
            return {name: Column(file, f"{group}/{name}", place) for name in known}
    except FileFormatError as error:
        return error


def _load(plan: _Plan) -> dict[str, NDArray[Any]] | FileFormatError:
    if isinstance(plan.columns, FileFormatError):
        return plan.columns
    rows, ends = plan.high - plan.low, [0]
    for column in plan.columns.values():
        ends.append(ends[-1] + rows * column.row_bytes + -(rows * column.row_bytes) % _LINE)
    # one piece of memory for all columns: the system hands out large ones faster than many small ones
    room = np.empty(ends[-1], np.uint8)
    try:
        return {
            name: column.read(plan.low, plan.high, room[at : at + rows * column.row_bytes])
            for (name, column), at in zip(plan.columns.items(), ends, strict=False)
        }
    except FileFormatError as error:
        return error


def _handed_out(
    plan: _Plan,
    read: dict[str, NDArray[Any]] | FileFormatError,
    held: dict[int, tuple[int, list[dict[str, NDArray[Any]]]]],
    failed: set[int],
) -> Iterator[tuple[Wanted, dict[str, NDArray[Any]] | FileFormatError]]:
    """Divide what was read among galaxies; parts of one that goes on in the next file are kept in ``held``."""
    for one in plan.piece:
        if one.key in failed:
            continue
        if isinstance(read, FileFormatError):
            failed.add(one.key)
            held.pop(one.key, None)
            yield one, read
            continue
        first = one.first - plan.start
        begin, end = max(first, plan.low) - plan.low, min(first + one.count, plan.high) - plan.low
        mine = {name: values[begin:end] for name, values in read.items()}
        if end - begin == one.count:
            yield one, mine
            continue
        have, parts = held.pop(one.key, (0, []))
        have, parts = have + end - begin, [*parts, mine]
        if have < one.count:
            held[one.key] = have, parts
            continue
        shared = [name for name in parts[0] if all(name in other for other in parts)]
        yield one, {name: np.concatenate([other[name] for other in parts]) for name in shared}
