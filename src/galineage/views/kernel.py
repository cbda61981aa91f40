"""The loop under every map: project stars, find their pixels, add eight numbers to each pixel's record.

A pixel's record is one cache line of float64, in the order of `LANES`. One pass over the stars makes one view; every
map is a quotient of these sums. Stars are taken in blocks: the arithmetic of a block is vector instructions, and what
remains is one load, add and store of eight numbers for each star. That step is written as LLVM instructions
(`add_record_fast`), because compilers do not find it; `add_record_plain` says the same in plain code, gives the
same bits, and is what runs where the other cannot be compiled.

Stars outside the field are added to one spare record behind the last pixel, which costs less than asking each star.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit, types
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from galineage.compiling import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "LANES",
    "aligned",
    "arrange",
    "deposit_exact",
    "deposit_fast",
    "deposit_function",
    "deposit_plain",
    "new_grid",
]

LANES = ("n", "m", "m Z", "m age", "v", "v2", "m v", "m v2")
"""What the eight numbers of a pixel's record sum, for a star record {1, m, m Z, m age}."""

BLOCK = 512
"""Stars at a time: their pixels and velocities stay in the first-level cache."""

_LINE, _PAGE = 64, 2 * 2**20
"""Bytes of a cache line and of a large page of memory."""


def aligned(shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    """Return uninitialised memory of a shape and number type, without a unit yet, where access costs least.

    It begins with a cache line: a record that lies across two costs twice. What is large begins with a large page, in
    an array for which numpy asks the system for such (4 MiB and more, on Linux): each star's pixel is another place.
    """
    size = prod(shape) * np.dtype(kind).itemsize
    large = size >= _PAGE // 4
    line = _PAGE if large else _LINE
    raw = np.empty(max(size + line, 2 * _PAGE) if large else size + line, np.uint8)
    start = -raw.ctypes.data % line
    return raw[start : start + size].view(kind).reshape(shape)


def new_grid(rows: int, columns: int) -> NDArray[np.float64]:
    """Return a record of zeros for each pixel, row by row, and the spare one for outside.

    Shape (pixels + 1, 8), in the order and units of `LANES`: counts, Msun, Gyr and km/s and their products.
    """
    grid = aligned((rows * columns + 1, len(LANES)), np.float64)
    grid.fill(0.0)
    return grid


@intrinsic  # type: ignore[untyped-decorator]
def add_record_fast(typingctx: Any, grid: Any, pixel: Any, record: Any, star: Any, v: Any) -> Any:
    """Add a star's record (4,) float32 and velocity to a pixel's record, in eight-wide instructions.

    Memory is touched without bounds checks: ``grid`` (pixels, 8) float64 and ``record`` (n, 4) float32 must be
    C-contiguous, ``pixel`` and ``star`` inside them. ``v`` is a float32.
    """
    del typingctx
    from numba.core.cgutils import ir

    signature = types.void(grid, pixel, record, star, v)
    single, double, i32 = ir.FloatType(), ir.DoubleType(), ir.IntType(32)
    four, eight = ir.VectorType(double, 4), ir.VectorType(double, 8)

    def place(context: Any, builder: Any, kind: Any, value: Any, row: Any, width: int, row_type: Any) -> Any:
        data = context.make_array(kind)(context, builder, value).data
        row = context.cast(builder, row, row_type, types.intp)
        return builder.gep(data, [builder.mul(row, ir.Constant(row.type, width))])

    def shuffle(builder: Any, one: Any, other: Any, lanes: tuple[int, ...]) -> Any:
        chosen = ir.Constant(ir.VectorType(i32, len(lanes)), [ir.Constant(i32, lane) for lane in lanes])
        return builder.shuffle_vector(one, other, chosen)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        into = place(context, builder, kinds[0], arguments[0], arguments[1], 8, kinds[1])
        of = place(context, builder, kinds[2], arguments[2], arguments[3], 4, kinds[3])
        into = builder.bitcast(into, eight.as_pointer())
        of = builder.bitcast(of, ir.VectorType(single, 4).as_pointer())
        weights = builder.fpext(builder.load(of, align=4), four)
        velocity = builder.fpext(arguments[4], double)
        square = builder.fmul(velocity, velocity)
        factors: Any = ir.Constant(four, [ir.Constant(double, 1.0)] * 4)
        for lane, value in enumerate((velocity, square)):
            factors = builder.insert_element(factors, value, ir.Constant(i32, lane))
        # {1, m, mZ, mA, 1, 1, m, m} x {1, 1, 1, 1, v, v2, v, v2}; factors hold v and v2 in front of two ones
        weights = shuffle(builder, weights, weights, (0, 1, 2, 3, 0, 0, 1, 1))
        factors = shuffle(builder, factors, factors, (2, 2, 2, 2, 0, 1, 0, 1))
        total = builder.fadd(builder.load(into, align=8), builder.fmul(weights, factors))
        builder.store(total, into, align=8)
        return context.get_dummy_value()

    return signature, generate


@njit(inline="always")  # type: ignore[untyped-decorator]
def add_record_plain(grid: Any, pixel: Any, record: Any, star: Any, v: Any) -> None:
    """Do the same as `add_record_fast`, to the last bit."""
    n, m = np.float64(record[star, 0]), np.float64(record[star, 1])
    velocity = np.float64(v)
    square = velocity * velocity
    grid[pixel, 0] += n
    grid[pixel, 1] += m
    grid[pixel, 2] += np.float64(record[star, 2])
    grid[pixel, 3] += np.float64(record[star, 3])
    grid[pixel, 4] += n * velocity
    grid[pixel, 5] += n * square
    grid[pixel, 6] += m * velocity
    grid[pixel, 7] += m * square


@compiled
def _locate(motion: Any, camera: Any, side: int, start: int, pixel: Any, velocity: Any) -> None:
    """Pixels (b,) and line-of-sight velocities (b,) of the stars from ``start`` on; all vector instructions."""
    stop = start + len(pixel)
    x, y, z = motion[0, start:stop], motion[1, start:stop], motion[2, start:stop]
    vx, vy, vz = motion[3, start:stop], motion[4, start:stop], motion[5, start:stop]
    r0, r1, r2, r3 = camera[0, 0], camera[0, 1], camera[0, 2], camera[0, 3]
    u0, u1, u2, u3 = camera[1, 0], camera[1, 1], camera[1, 2], camera[1, 3]
    l0, l1, l2 = camera[2, 0], camera[2, 1], camera[2, 2]
    zero, width = np.float32(0.0), np.float32(side)
    last, outside = np.float32(side - 1), np.float32(side * side)
    for i in range(len(pixel)):
        across = r0 * x[i] + r1 * y[i] + r2 * z[i] + r3
        up = u0 * x[i] + u1 * y[i] + u2 * z[i] + u3
        velocity[i] = l0 * vx[i] + l1 * vy[i] + l2 * vz[i]
        inside = (across >= zero) & (across <= width) & (up >= zero) & (up <= width)
        column, row = np.floor(across), np.floor(up)
        # the last edge belongs to the last pixel, as in numpy.histogram2d
        column = column if column < width else last
        row = row if row < width else last
        # the index stays a float32 until here (exact below 2^24), so that the loop needs one kind of number
        pixel[i] = np.int32(row * width + column if inside else outside)


@compiled
def deposit_fast(motion: Any, record: Any, camera: Any, side: int, grid: Any) -> None:
    """Add all stars of one view to a square grid.

    Parameters
    ----------
    motion : array (6, n) of float32, C order
        Positions x, y, z (kpc) and velocities (km/s).
    record : array (n, 4) of float32, C order
        What is summed: {1, m, m Z, m age}, or {light, ...}. Not checked: see `add_record_fast`.
    camera : array (3, 4) of float32
        Rows: across and up in pixels (last column: offset), and velocity away from the observer (last column unused).
    side : int
        Pixels on each side of the grid, at most 4,000.
    grid : array (side x side + 1, 8) of float64, C order
        Sums in the order of `LANES`, added to; the last record takes what is outside.
    """
    pixel, velocity = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for start in range(0, len(record), BLOCK):
        size = min(BLOCK, len(record) - start)
        _locate(motion, camera, side, start, pixel[:size], velocity[:size])
        for i in range(size):
            add_record_fast(grid, pixel[i], record, start + i, velocity[i])


@compiled
def deposit_plain(motion: Any, record: Any, camera: Any, side: int, grid: Any) -> None:
    """Do what `deposit_fast` does, to the last bit, without its hand-written instructions."""
    pixel, velocity = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for start in range(0, len(record), BLOCK):
        size = min(BLOCK, len(record) - start)
        _locate(motion, camera, side, start, pixel[:size], velocity[:size])
        for i in range(size):
            add_record_plain(grid, pixel[i], record, start + i, velocity[i])


@compiled
def deposit_exact(motion: Any, record: Any, camera: Any, edges: Any, grid: Any) -> None:
    """Do what `deposit_plain` does in float64 throughout: a star falls where `numpy.histogram2d` puts it.

    Parameters
    ----------
    motion, record : arrays (6, n), (n, 4) of float64
        As in `deposit_fast`.
    camera : array (3, 3) of float64
        Rows: right, up (kpc remain kpc), and velocity away from the observer.
    edges : array (side + 1,) of float64, kpc
        Pixel edges of both axes, equally spaced; the last one is inclusive.
    grid : array (side x side + 1, 8) of float64
        Sums, added to.
    """
    side = len(edges) - 1
    for i in range(len(record)):
        x, y, z = motion[0, i], motion[1, i], motion[2, i]
        column = _bin(camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z, edges)
        row = _bin(camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z, edges)
        v = camera[2, 0] * motion[3, i] + camera[2, 1] * motion[4, i] + camera[2, 2] * motion[5, i]
        add_record_plain(grid, row * side + column if row >= 0 and column >= 0 else side * side, record, i, v)


@njit(inline="always")  # type: ignore[untyped-decorator]
def _bin(value: Any, edges: Any) -> Any:
    """Bin of a value among edges (m + 1,): a guess by division, set right against the edges; -1: outside."""
    many = len(edges) - 1
    if not (edges[0] <= value <= edges[many]):
        return -1
    guess = min(int((value - edges[0]) / (edges[many] - edges[0]) * many), many - 1)
    while guess > 0 and value < edges[guess]:
        guess -= 1
    while guess < many - 1 and value >= edges[guess + 1]:
        guess += 1
    return guess


@compiled
def arrange(position: Any, velocity: Any, reference: Any, columns: Any, motion: Any, record: Any) -> None:
    """Write stars as the deposit wants them, in the number type of what is filled.

    Parameters
    ----------
    position, velocity : arrays (n, 3), kpc and km/s, C order
        As in `galineage.stars.Stars`.
    reference : array (3,), km/s
        Taken off every velocity before it is rounded.
    columns : tuple of three arrays (n,)
        Mass (Msun), metallicity and age (Gyr); zeros for what the stars do not have.
    motion, record : arrays (6, n), (n, 4), C order
        Filled.
    """
    mass, metallicity, age = columns
    nowhere = np.zeros(3)
    places, velocities, flat = position.ravel(), velocity.ravel(), record.ravel()
    for start in range(0, len(mass), 4 * BLOCK):
        stop = min(start + 4 * BLOCK, len(mass))
        of, block = slice(3 * start, 3 * stop), slice(start, stop)
        _split(places[of], nowhere, motion[0, block], motion[1, block], motion[2, block])
        _split(velocities[of], reference, motion[3, block], motion[4, block], motion[5, block])
        _weigh(mass[block], metallicity[block], age[block], flat[4 * start : 4 * stop])


@compiled
def _split(flat: Any, origin: Any, x: Any, y: Any, z: Any) -> None:
    """Write vectors x, y, z, x, y, z, ... relative to an origin into their columns; vector instructions."""
    a, b, c = origin
    for i in range(len(x)):
        x[i] = flat[3 * i] - a
        y[i] = flat[3 * i + 1] - b
        z[i] = flat[3 * i + 2] - c


@compiled
def _weigh(mass: Any, metallicity: Any, age: Any, flat: Any) -> None:
    """Write records 1, m, m Z, m age, 1, ... of stars; vector instructions."""
    for i in range(len(mass)):
        flat[4 * i] = 1.0
        flat[4 * i + 1] = mass[i]
        flat[4 * i + 2] = mass[i] * metallicity[i]
        flat[4 * i + 3] = mass[i] * age[i]


@cache
def deposit_function() -> Callable[..., None]:
    """Return `deposit_fast` if it compiles here and agrees with `deposit_plain` on a few stars, else that one."""
    stars = np.arange(24, dtype=np.float32).reshape(6, 4), np.ones((4, 4), np.float32), np.eye(3, 4, dtype=np.float32)
    wanted, found = new_grid(4, 4), new_grid(4, 4)
    deposit_plain(*stars, 4, wanted)
    try:
        deposit_fast(*stars, 4, found)
    except (NumbaError, RuntimeError, NotImplementedError, ImportError):
        return deposit_plain
    return deposit_fast if np.array_equal(found, wanted) else deposit_plain
