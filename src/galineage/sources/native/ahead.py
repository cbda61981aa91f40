"""Work in threads, a bounded stretch ahead of whoever takes the results, which come in order."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = ["in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 4
"""Threads at most: more share one disk and one memory."""

AHEAD = 32
"""Items in hand at most, however small: each may keep a file open, of which a process may have few."""


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], rows: Callable[[Item], int], room: int
) -> Generator[tuple[Item, Result]]:
    """Do ``work`` on each item in threads, as many as there are cores, up to four.

    Parameters
    ----------
    work : callable
        What takes long and lets other threads run.
    items : iterable
        Taken one by one by the caller's thread, when there is room.
    rows : callable
        How many rows an item's result holds.
    room : int
        Rows in hand at most, of results that wait or are being made; one item may exceed it alone.

    Yields
    ------
    item, result
        In the order of the items.

    Raises
    ------
    Exception
        What ``work`` raised, in the place of its result.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    waiting: deque[tuple[Item, Future[Result], int]] = deque()
    held = 0
    with ThreadPoolExecutor(min(THREADS, cores)) as pool:
        try:
            for item in items:
                more = rows(item)
                while waiting and (held + more > room or len(waiting) >= AHEAD):
                    first, future, size = waiting.popleft()
                    held -= size
                    yield first, future.result()
                waiting.append((item, pool.submit(work, item), more))
                held += more
            while waiting:
                first, future, _ = waiting.popleft()
                yield first, future.result()
        finally:  # also when the caller stops early
            for _, future, _ in waiting:
                future.cancel()
