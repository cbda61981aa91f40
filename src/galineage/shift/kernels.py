"""Compiled loops of the exact neighbour search: a cheap lower bound for every pair, the distance for the few left.

A search walks through the reference in its order and keeps, for each query, the k best so far, as sums of absolute
differences (p = 1) or of squares (p = 2). A pair whose lower bound is above the k-th best cannot enter, and costs
nothing more. Bounds never exceed the distance, so nothing is lost.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numba import njit

from galineage.shift.neighbours import TILE

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = TypeVar("Work", bound=Callable[..., Any])

__all__ = ["byte_search", "code_search", "column_search"]

_SLAB = 64
"""Coordinates after which a distance that is already too large is given up."""

_MOST = 2**31 - 1


def _compiled(work: Work) -> Work:
    """Compile at the first call for the types given; other Python threads go on while it runs."""
    made: Work = njit(nogil=True)(work)
    return made


def _compiled_sums(work: Work) -> Work:
    """Compile as `_compiled`, with leave to add in another order: only then are sums made by vector instructions."""
    made: Work = njit(nogil=True, fastmath={"reassoc", "contract"})(work)
    return made


@_compiled_sums
def _refine(one: Any, other: Any, p: int, place: int, distance: Any, index: Any) -> bool:
    """Put a pair's distance (a sum, no root taken) into the list of the k best, and say whether it belongs there."""
    k, worst, total = distance.shape[0], distance[-1], 0.0
    for start in range(0, one.shape[0], _SLAB):
        a, b = one[start : start + _SLAB], other[start : start + _SLAB]
        part = 0.0
        for j in range(len(a)):
            gap = np.float64(a[j]) - np.float64(b[j])
            part += abs(gap) if p == 1 else gap * gap
        total += part
        if total >= worst:  # equal distances: the lower row came first and stays
            return False
    at = k - 1
    while at > 0 and distance[at - 1] > total:
        distance[at], index[at] = distance[at - 1], index[at - 1]
        at -= 1
    distance[at], index[at] = total, place
    return True


@_compiled
def _least(run: Any) -> Any:
    """Smallest of a run (b,) of numbers; a comparison, not min(), becomes one vector instruction."""
    least = run[0]
    for r in range(len(run)):
        if run[r] < least:
            least = run[r]
    return least


@_compiled
def _column_sums(one: Any, columns: Any, p: int, sums: Any) -> None:
    """Sum up a query (d,) against the columns (d, TILE) of one tile, into sums (TILE,) of 32 bits."""
    sums[:] = np.float32(0.0)
    for c in range(len(one)):
        value, column = one[c], columns[c]
        for r in range(TILE):
            gap = np.float32(value - column[r])
            sums[r] += abs(gap) if p == 1 else np.float32(gap * gap)


@_compiled
def column_search(
    x: Any, y: Any, p: int, x_short: Any, tiles: Any, bounds: Any, own: int, distance: Any, index: Any
) -> None:
    """Search among few coordinates, by sums of 32-bit floats for `TILE` rows at once.

    Parameters
    ----------
    x, y : array (m, d), (n, d)
        Queries and reference.
    p : {1, 2}
        Kind of distance.
    x_short, tiles : array (m, d), (t, d, TILE) of float32
        Both centred and scaled; the reference turned round, its end padded.
    bounds : (margin, scale, grain)
        Rounding errors (m,) in scaled units, the scale, the factor that covers rounding of the sums.
    own : int
        Row of y that the first row of x is, or -1.
    distance, index : array (m, k)
        The k best, filled here.
    """
    margin, scale, grain = bounds
    sums = np.empty(TILE, dtype=np.float32)
    limit = np.full(len(x), np.float32(np.inf))
    for t in range(len(tiles)):
        filled = min(TILE, len(y) - t * TILE)
        for q in range(len(x)):
            _column_sums(x_short[q], tiles[t], p, sums)
            if _least(sums) > limit[q]:
                continue
            for r in range(filled):
                place = t * TILE + r
                if sums[r] > limit[q] or (own >= 0 and place == own + q):
                    continue
                if _refine(x[q], y[place], p, place, distance[q], index[q]):
                    worst = distance[q, -1]
                    reach = worst * scale + margin[q] if p == 1 else (np.sqrt(worst) * scale + margin[q]) ** 2
                    limit[q] = np.float32(reach * grain)


@cache
def byte_search(width: int) -> Callable[..., Any]:
    """Compile the L1 search among rows of bytes, ``width`` coordinates (a number) at a time.

    The inner loop has a constant length and 32-bit sums: only then does the compiler use the machine's instruction for
    sums of absolute differences of bytes. The function takes queries x (m, d), reference y (n, d), their bytes
    (m, c, width) and (n, c, width), the rounding errors (m,), the step between bytes, ``own`` and the lists as
    `column_search` does.
    """

    @_compiled
    def search(
        x: Any, y: Any, x_bytes: Any, y_bytes: Any, margin: Any, step: float, own: int, distance: Any, index: Any
    ) -> None:
        limit = np.full(len(x), np.int64(_MOST))
        chunks = x_bytes.shape[1]
        for start in range(0, len(y), TILE):
            for q in range(len(x)):
                for r in range(start, min(start + TILE, len(y))):
                    total = np.int64(0)
                    for c in range(chunks):
                        one, other, part = x_bytes[q, c], y_bytes[r, c], np.int32(0)
                        for j in range(width):
                            part = np.int32(part + abs(np.int32(np.int32(one[j]) - np.int32(other[j]))))
                        total += part
                        if total > limit[q]:
                            break
                    if total > limit[q] or (own >= 0 and r == own + q):
                        continue
                    if _refine(x[q], y[r], 1, r, distance[q], index[q]):
                        limit[q] = np.int64(min((distance[q, -1] + margin[q]) / step + 1.0, 1.0 * _MOST))

    return search


@_compiled
def _flush(x: Any, y: Any, waiting: Any, values: Any, limit: Any, distance: Any, index: Any) -> None:
    """Compute the distances of the rows that wait, but for those that are out by now."""
    for i in range(len(waiting)):
        if values[i] <= limit:
            _refine(x, y[waiting[i]], 2, waiting[i], distance, index)


@_compiled
def _new_limit(best: Any, value: Any, margin: float, slack: float, grain: float, shift: int, limit: Any) -> Any:
    """Enter a code into the k best (k,) and return above which code a row cannot be among the k nearest."""
    at = len(best) - 1
    if value >= best[at]:
        return limit
    while at > 0 and best[at - 1] > value:
        best[at] = best[at - 1]
        at -= 1
    best[at] = value
    highest = 2 ** (32 - shift) - 1
    if best[-1] == highest:
        return limit
    number = np.empty(1, dtype=np.float32)
    bits = number.view(np.uint32)
    bits[0] = np.uint32(best[-1]) << np.uint32(shift)
    reach = np.sqrt(2.0 * (abs(np.float64(number[0])) * grain + slack)) + 2.0 * margin
    number[0] = (0.5 * reach * reach + slack) * grain
    sign = 2 ** (31 - shift)
    return min((np.int64(bits[0]) >> shift) + sign + 1, highest)


@_compiled
def code_search(
    x: Any, y: Any, codes: Any, start: int, shift: int, bounds: Any, own: int, lists: Any, distance: Any, index: Any
) -> None:
    """Search for L2 among bounds that a matrix product made: minus half the squared distances.

    Floats of one sign, read as unsigned integers, are ordered by size, so that a run of them is passed over by one
    comparison. The k smallest bound the k-th distance from above; what is above that is out, the rest waits in a list,
    because looking at whole rows costs a trip to the memory each.

    Parameters
    ----------
    x, y : array (m, d), (n, d)
        Queries and reference.
    codes : array (m, b) of uint16 or uint32
        Products of all queries with the rows ``start`` to ``start + b`` of y.
    start : int
        First row of the block. Blocks are given in order.
    shift : {16, 0}
        Bits that are missing to 32.
    bounds : (margin, slack, grain)
        Rounding errors of rows (m,) and of sums (m,), in scaled units, and the factor that covers short results.
    own : int
        Row of y that the first row of x is, or -1.
    lists : (limit, best, waiting, values, count)
        Kept from block to block: limits (m,) and the k best codes (m, k); rows that wait (m, room), their codes
        (m, room) and number (m,).
    distance, index : array (m, k)
        The k best, filled here.
    """
    margin, slack, grain = bounds
    limit, best, waiting, values, count = lists
    room = waiting.shape[1]
    for q in range(len(x)):
        for first in range(0, codes.shape[1], TILE):
            run = codes[q, first : first + TILE]
            if _least(run) > limit[q]:
                continue
            for r in range(len(run)):
                place = start + first + r
                if run[r] > limit[q] or (own >= 0 and place == own + q):
                    continue
                if count[q] == room:
                    _flush(x[q], y, waiting[q], values[q], limit[q], distance[q], index[q])
                    count[q] = 0
                waiting[q, count[q]], values[q, count[q]] = place, run[r]
                count[q] += 1
                limit[q] = _new_limit(best[q], run[r], margin[q], slack[q], grain, shift, limit[q])
        if start + codes.shape[1] == len(y):
            _flush(x[q], y, waiting[q, : count[q]], values[q], limit[q], distance[q], index[q])
