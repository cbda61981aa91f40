"""Exact nearest neighbours in many dimensions, by L1 or L2 distance, on every core and in bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["nearest"]

TILE = 64
"""Reference rows that are compared with every query before the next ones: 64 x 256 bytes stay in the first cache."""

BYTES = 256
"""Coordinates whose bytes are summed before the sum is compared with its limit."""

_QUERIES = 512
"""Queries that a thread works on at a time."""

_BLOCK = 2048
"""Reference rows in one matrix product: 512 x 2048 16-bit numbers are 2 MiB."""

_FEW = 32
"""Columns up to which plain sums of 32-bit floats are the fastest bound."""

_FAR = 1e6
"""Queries farther from the centre than this many times the farthest reference row are compared without a bound."""

_MOST = 1e150
"""Largest value whose square is still a number."""

_CLIP = 99.5
"""Percentile of the distances from the centre that bytes cover; beyond it the bound is weaker, and still a bound."""


def nearest(
    x: NDArray[np.floating], reference: NDArray[np.floating], k: int, *, p: int = 1, exclude_self: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the k nearest reference rows of every row, exactly.

    For every pair a lower bound of the distance is computed in short arithmetic (bytes for L1; a matrix product of
    16-bit floats, where the machine has them, for L2) from rounded rows, whose rounding errors are known and allowed
    for. The distance itself, in 64 bits, is computed where the bound leaves it open. Threads are as many as torch uses.

    Parameters
    ----------
    x : array (m, d), any unit, finite
        Queries. Columns should be of like scale, or the largest decides alone, as in any such distance.
    reference : array (n, d) in the same unit, finite
        Where to look. Rows that are 32-bit floats in both are not copied.
    k : int
        Number of neighbours, at most n (n - 1 with ``exclude_self``).
    p : {1, 2}
        Sum of absolute differences, or root of the sum of squares.
    exclude_self : bool
        ``x`` is the reference itself, row by row, and no row is its own neighbour.

    Returns
    -------
    distances : array (m, k) of float64
        Ascending, in the unit given.
    indices : array (m, k) of int64
        Reference rows; among equal distances the lower index comes first.

    Raises
    ------
    DataError
        If shapes do not fit or a value is not finite.
    ConfigError
        If there is no such p, or k is not between 1 and the number of rows.

    Examples
    --------
    >>> distances, indices = nearest(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 1.0]]), 2, p=2)
    >>> indices.tolist(), distances.round(3).tolist()
    ([[1, 0]], [[1.414, 5.0]])
    """
    x, reference = _checked(x, reference, exclude_self)
    _check_settings(len(reference) - exclude_self, k, p)
    distances = np.full((len(x), k), np.inf)
    indices = np.full((len(x), k), -1, dtype=np.int64)
    if not len(x):
        return distances, indices
    search: _Columns | _Bytes | _Product
    if x.shape[1] <= _FEW:
        search = _Columns.of(reference, p)
    else:
        search = _Bytes.of(reference) if p == 1 else _Product.of(reference)

    def one_block(start: int) -> None:
        rows = slice(start, start + _QUERIES)
        search.run(x[rows], start if exclude_self else -1, distances[rows], indices[rows])

    _in_threads(one_block, range(0, len(x), _QUERIES))
    return (distances if p == 1 else np.sqrt(distances)), indices


def _checked(x: Any, reference: Any, exclude_self: bool) -> tuple[Any, Any]:
    short = {np.asarray(rows).dtype for rows in (x, reference)} == {np.dtype(np.float32)} and _moderate(reference)
    x, reference = (np.ascontiguousarray(rows, dtype=np.float32 if short else np.float64) for rows in (x, reference))
    if x.ndim != 2 or reference.ndim != 2 or x.shape[1] != reference.shape[1] or not x.shape[1]:
        raise DataError(
            f"rows of shapes {x.shape} and {reference.shape} cannot be compared",
            expected="(m, d) and (n, d) with the same d, 1 or more",
        )
    if exclude_self and len(x) != len(reference):
        raise DataError(
            f"{len(x)} rows cannot be the {len(reference)} reference rows themselves", advice="exclude_self=False"
        )
    for name, rows in (("x", x), ("reference", reference)):
        bad = ~(np.abs(rows) < np.float64(_MOST)).all(axis=1)
        if bad.any():
            raise DataError(
                f"{name} holds a value that is not a finite number of reasonable size",
                where=f"row {int(np.argmax(bad))}",
                expected=f"absolute values below {_MOST:g}",
                advice="leave such rows out: they have no distance",
            )
    return x, reference


def _moderate(rows: NDArray[Any]) -> bool:
    """Whether differences and scales of rows stay well inside what 32 bits can hold."""
    largest = float(np.abs(rows).max(initial=0.0))
    return largest == 0.0 or 1e-15 < largest < 1e15


def _check_settings(most: int, k: int, p: int) -> None:
    if p not in (1, 2):
        raise ConfigError(f"p is {p!r}", expected="1 (absolute differences) or 2 (squares)")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= most:
        raise ConfigError(f"k is {k!r}", expected=f"1 to {most}, the number of reference rows to choose from")


def _in_threads(work: Callable[[int], None], starts: range) -> None:
    """Do every block of queries; a thread takes a block of its own, and torch inside it keeps to one core."""
    whole = torch.get_num_threads()
    if min(whole, len(starts)) < 2:
        for start in starts:
            work(start)
        return
    pool = ThreadPoolExecutor(min(whole, len(starts)), initializer=torch.set_num_threads, initargs=(1,))
    try:
        for _ in pool.map(work, starts):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(whole)


@dataclass(frozen=True)
class _Columns:
    """Reference rows as centred 32-bit floats, turned round so that a column of `TILE` rows lies together."""

    rows: NDArray[Any]
    tiles: NDArray[np.float32]
    center: NDArray[np.float64]
    scale: float
    longest: float
    p: int

    @classmethod
    def of(cls, rows: NDArray[Any], p: int) -> _Columns:
        center = np.median(rows, axis=0).astype(np.float64)
        scale = 1.0 / (float(np.abs(rows - center).max()) or 1.0)
        n, d = rows.shape
        padded = np.zeros((-(-n // TILE) * TILE, d), dtype=np.float32)
        padded[:n] = (rows - center) * scale
        tiles = np.ascontiguousarray(padded.reshape(-1, TILE, d).transpose(0, 2, 1))
        return cls(rows, tiles, center, scale, _lengths(padded).max(), p)

    def run(self, x: NDArray[Any], own: int, distance: NDArray[Any], index: NDArray[Any]) -> None:
        # numba takes a noticeable time to load: only who searches waits for it
        from galineage.shift.kernels import column_search

        near, far = _near((x - self.center) * self.scale)
        short = near.astype(np.float32)
        unit = (short.shape[1] + 4) * 2.0**-23
        margin = np.where(far, np.inf, unit * (_lengths(short) + self.longest))
        bounds = (margin, self.scale, 1 + 2 * unit)
        column_search(x, self.rows, self.p, short, self.tiles, bounds, own, distance, index)


def _lengths(rows: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.abs(rows).sum(axis=1, dtype=np.float64))


def _near(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Put zeros for rows so far out that short numbers could overflow, and mark them: they are compared in full."""
    far = np.abs(rows).max(axis=1) > _FAR
    if far.any():
        rows[far] = 0
    return rows, far


@dataclass(frozen=True)
class _Bytes:
    """Reference rows rounded to bytes: absolute differences of bytes, less both rounding errors, bound L1 from below.

    Clipping to what bytes cover brings any two rows nearer to each other, never farther.
    """

    rows: NDArray[Any]
    bytes: NDArray[np.uint8]
    center: NDArray[Any]
    step: float
    error: float

    @classmethod
    def of(cls, rows: NDArray[Any]) -> _Bytes:
        center = np.median(rows[:: max(1, len(rows) // 4096)], axis=0).astype(rows.dtype)
        sample = np.abs(rows[:: max(1, len(rows) // 4096)] - center)
        # a step of zero (all rows equal) is as good as any
        step = float(np.percentile(sample, _CLIP)) / 127 or float(sample.max()) / 127 or 1.0
        made, errors = _to_bytes(rows, center, step)
        return cls(rows, made, center, step, float(errors.max(initial=0.0)))

    def run(self, x: NDArray[Any], own: int, distance: NDArray[Any], index: NDArray[Any]) -> None:
        from galineage.shift.kernels import byte_search

        made, errors = _to_bytes(x, self.center, self.step)
        search = byte_search(made.shape[2])
        margin = (errors + self.error) * (1 + 1e-9)
        search(x, self.rows, made, self.bytes, margin, self.step, own, distance, index)


def _to_bytes(rows: NDArray[Any], center: NDArray[Any], step: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Round rows to bytes (n, chunks, width) in units of ``step``; also the rounding error (n,) of each row in L1."""
    n, d = rows.shape
    width = min(BYTES, -(-d // 16) * 16)
    chunks = -(-d // width)
    made = np.zeros((n, chunks * width), dtype=np.uint8)
    errors = np.empty(n)
    for start in range(0, n, 4096):
        part = slice(start, start + 4096)
        inside = np.clip((rows[part] - center) * rows.dtype.type(1 / step), -127, 127)
        whole = np.rint(inside)
        # the last term is what 32-bit rows add: 127 x 2^-23 for each coordinate
        errors[part] = step * (np.abs(inside - whole).sum(axis=1, dtype=np.float64) + 4e-5 * d)
        made[part, :d] = (whole + 127).astype(np.uint8)
    return made.reshape(n, chunks, width), errors


@dataclass(frozen=True)
class _Product:
    """Reference rows as the right side of a matrix product that gives minus half the squared distance of every pair.

    Rows are centred and scaled to at most 1 before they are shortened, then get their squared length in further
    columns. ``error`` is the largest distance of a shortened row from itself.
    """

    rows: NDArray[Any]
    short: torch.Tensor
    center: NDArray[Any]
    scale: float
    error: float
    longest: float

    @classmethod
    def of(cls, rows: NDArray[Any]) -> _Product:
        center = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
        scale = 1.0 / (float(max((rows.max(axis=0) - center).max(), (center - rows.min(axis=0)).max())) or 1.0)
        short, errors, half = _shortened(rows, center, scale, left=False)
        return cls(rows, short, center, scale, float(errors.max()), float(half.max()))

    def run(self, x: NDArray[Any], own: int, distance: NDArray[Any], index: NDArray[Any]) -> None:
        from galineage.shift.kernels import code_search

        short, errors, half = _shortened(x, self.center, self.scale, left=True)
        kind, unit = _arithmetic()
        shift, grain = (16, 1 / (1 - 2**-7)) if kind == torch.bfloat16 else (0, 1 + 1e-5)
        view = np.uint16 if shift else np.uint32
        # every rounding of a sum of products is at most `unit` of the sum of their sizes
        slack = 4 * short.shape[1] * unit * (half + self.longest) + 1e-30
        bounds = (errors + self.error, slack, grain)
        m, k = distance.shape
        limit, best = np.full(m, np.iinfo(view).max, dtype=view), np.full((m, k), np.iinfo(view).max, dtype=view)
        room = 16 * k + 256
        lists = (limit, best, np.empty((m, room), dtype=np.int64), np.empty((m, room), dtype=view), np.zeros(m, int))
        for start in range(0, len(self.rows), _BLOCK):
            product = torch.mm(short, self.short[start : start + _BLOCK].t())
            codes = product.view(torch.int16 if shift else torch.int32).numpy().view(view)
            code_search(x, self.rows, codes, start, shift, bounds, own, lists, distance, index)


def _shortened(
    rows: NDArray[Any], center: NDArray[Any], scale: float, *, left: bool
) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Shorten rows for the product (n, d + 6); also their errors (n,) in L2 and half their squared lengths (n,)."""
    kind, _ = _arithmetic()
    n, d = rows.shape
    made = torch.empty(n, d + 6, dtype=kind)
    ones, lengths = (slice(d + 3, d + 6), range(d, d + 3)) if left else (slice(d, d + 3), range(d + 3, d + 6))
    made[:, ones] = 1
    errors, halves = np.empty(n), np.empty(n)
    for start in range(0, n, 2048):
        part = slice(start, start + 2048)
        # a difference of two floats is right to its last digit, so 32-bit rows can stay as they are
        near, far = _near((rows[part] - center) * rows.dtype.type(scale))
        exact = torch.from_numpy(near).float()
        made[part, :d] = exact
        short = made[part, :d].float()
        long = short.norm(dim=1).double()
        error = (exact - short).norm(dim=1).double() + 2.0**-21 * long
        errors[part] = np.where(far, np.inf, error.numpy())
        half = 0.5 * long**2
        halves[part] = half.numpy()
        # three short numbers hold the half length to 24 bits; each meets a one on the other side
        for column in lengths:
            made[part, column] = -half
            half = half + made[part, column].double()
    return made, errors, halves


@cache
def _arithmetic() -> tuple[torch.dtype, float]:
    """Return the type of the products and the rounding unit of their sums: 16-bit floats only where they are native."""
    machine: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if machine.get("avx512_bf16") or machine.get("amx_bf16"):
        return torch.bfloat16, 2.0**-24
    # a user may have allowed torch to shorten the products of 32-bit floats itself
    exact = torch.get_float32_matmul_precision() == "highest"
    return torch.float32, 2.0**-24 if exact else 2.0**-9
