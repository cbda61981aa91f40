"""Work on many rows in pieces that fit a core's cache, a thread for each piece."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_chunks"]

Result = TypeVar("Result")


def in_chunks(work: Callable[[int, slice], Result], rows: int, size: int) -> list[Result]:
    """Do some work for every ``size`` rows of ``rows``, and return the results in order.

    Threads take a piece each instead of sharing every operation: each piece runs on one thread of torch's. No gradient
    is recorded. A caller that is one of several threads itself (one torch thread) works through the pieces alone.

    Parameters
    ----------
    work : callable (int, slice) -> anything
        Gets the number of the piece and its rows. Must not use a random state that pieces share.
    rows, size : int
        How many rows there are, and in a piece; no rows are one empty piece.
    """
    pieces = [slice(start, min(start + size, rows)) for start in range(0, rows, size)] or [slice(0, 0)]

    inference = torch.is_inference_mode_enabled()  # belongs to a thread: tensors made under it need it in every one

    def one(number: int) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return work(number, pieces[number])

    whole = torch.get_num_threads()
    threads = min(whole, len(pieces))
    if threads < 2:
        return [one(number) for number in range(len(pieces))]
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return list(pool.map(one, range(len(pieces))))
    finally:
        pool.shutdown(cancel_futures=True)
        # each thread sets the number for itself, and for threads that start later
        torch.set_num_threads(whole)
