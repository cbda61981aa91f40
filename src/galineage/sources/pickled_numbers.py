"""Numbers out of a pickled numpy object array, without unpickling.

PyTables stores an object column as a pickle stream. Unpickling runs whatever the stream asks for, so this module walks
the stream with `pickletools.genops` (which only *parses*) and a small symbolic stack machine. Names are never imported:
a name outside `_NAMES` is refused, and the few calls that numpy's own pickles make are understood symbolically.

Layout understood (numpy ``ndarray.__reduce__``, protocols 2 to 5): ``_reconstruct(ndarray, (0,), b"b")``, then state
``(version, shape, dtype, is_fortran, data)`` where ``data`` is a list of numbers (object dtype) or raw bytes
(numeric dtype).
"""

from __future__ import annotations

import math
import pickletools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import FileFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["decode_names", "decode_numbers"]

MAX_ITEMS = 200_000_000
"""Largest number of cells accepted."""

MAX_MEMO = 1_000_000
"""Largest number of remembered objects accepted."""

_NAMES = {
    **{f"numpy.{core}.multiarray {name}": name for core in ("core", "_core") for name in ("_reconstruct", "scalar")},
    **{f"numpy.{core}.numeric _frombuffer": "_frombuffer" for core in ("core", "_core")},
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_MARK = object()
_CELLS = {float, int, bool, type(None), str}
_NUMERIC = "?bhilqBHILQefdg"


class _RefusedError(ValueError):
    """The stream holds something that is not a plain array of numbers."""


@dataclass
class _Name:
    """A permitted global name; never resolved to the object."""

    what: str


@dataclass
class _Type:
    """A numpy dtype under construction."""

    code: str
    order: Any = "|"

    def resolve(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind != "O" and dtype.char not in _NUMERIC:
            raise _RefusedError(f"an array of type {self.code!r}")
        return dtype if self.order not in "<>" else dtype.newbyteorder(self.order)


@dataclass
class _Array:
    """An ndarray under construction."""

    values: NDArray[Any] | None = None


class _Machine:
    """Symbolic stack machine over pickle opcodes; holds numbers, text, tuples, lists and the tokens above."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def to_mark(self) -> list[Any]:
        """Pop everything above the last mark."""
        items: list[Any] = []
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                items = self.stack[position + 1 :]
                del self.stack[position:]
                return items
        raise _RefusedError("a stream without the mark it refers to")

    def pop(self, count: int) -> tuple[Any, ...]:
        """Pop ``count`` values, none of which may be a mark."""
        if len(self.stack) < count:
            raise _RefusedError("a stream that takes more than it has")
        taken = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        if any(item is _MARK for item in taken):
            raise _RefusedError("a stream with a mark out of place")
        return taken

    def remember(self, key: int) -> None:
        """Store the top of the stack."""
        if len(self.memo) >= MAX_MEMO or not self.stack:
            raise _RefusedError("a stream that remembers too much or nothing")
        self.memo[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        """Push a stored value."""
        if key not in self.memo:
            raise _RefusedError("a stream that refers to what it never stored")
        self.stack.append(self.memo[key])


def _push(machine: _Machine, arg: Any) -> None:
    machine.stack.append(arg)


def _append(machine: _Machine, items: list[Any]) -> None:
    (target,) = machine.pop(1)
    if not isinstance(target, list):
        raise _RefusedError("an APPEND to something that is no list")
    if len(target) + len(items) > MAX_ITEMS:
        raise _RefusedError(f"more than {MAX_ITEMS} cells")
    target.extend(items)
    machine.stack.append(target)


def _named(machine: _Machine, arg: str) -> None:
    if arg not in _NAMES:
        raise _RefusedError(f"the name {arg!r}, which is no part of a table of numbers")
    machine.stack.append(_Name(_NAMES[arg]))


def _stack_global(machine: _Machine) -> None:
    module, name = machine.pop(2)
    _named(machine, f"{module} {name}")


def _call(machine: _Machine) -> None:
    target, args = machine.pop(2)
    if not isinstance(target, _Name) or not isinstance(args, tuple) or target.what not in _CALLS:
        raise _RefusedError("a call of something that is no part of a table of numbers")
    machine.stack.append(_CALLS[target.what](*args))


def _make_array(kind: Any, shape: Any, code: Any) -> _Array:
    if kind != _Name("ndarray") or shape != (0,) or code not in (b"b", "b"):
        raise _RefusedError("an array of an unusual kind")
    return _Array()


def _make_type(code: Any, align: Any, copy: Any) -> _Type:
    del align, copy
    # the code is checked when it is used: O8, f8, i4, b1 and their like
    if not isinstance(code, str) or not 1 <= len(code) <= 4 or not code.isalnum():
        raise _RefusedError(f"a numpy type {code!r}")
    return _Type(code)


def _encode(text: Any, codec: Any) -> bytes:
    if codec != "latin1" or not isinstance(text, str):
        raise _RefusedError("text in an unusual encoding")
    return text.encode("latin1")


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _Type) or not isinstance(raw, bytes):
        raise _RefusedError("a numpy number of an unusual kind")
    kind = dtype.resolve()
    if kind.kind == "O" or kind.itemsize != len(raw):
        raise _RefusedError("a numpy number of the wrong length")
    return np.frombuffer(raw, kind)[0].item()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    if not isinstance(dtype, _Type):
        raise _RefusedError("an array of an unusual kind")
    if order not in ("C", "F") or not isinstance(raw, bytes | bytearray):
        raise _RefusedError("an array of an unusual order")
    return _Array(_filled(dtype.resolve(), shape, order == "F", bytes(raw)))


_CALLS: dict[str, Callable[..., Any]] = {
    "_reconstruct": _make_array,
    "dtype": _make_type,
    "encode": _encode,
    "scalar": _scalar,
    "_frombuffer": _frombuffer,
}


def _build(machine: _Machine) -> None:
    target, state = machine.pop(2)
    if not isinstance(state, tuple):
        raise _RefusedError("a state that is no tuple")
    if isinstance(target, _Type) and len(state) >= 3 and state[1] in ("<", ">", "|", "=") and state[2] is None:
        target.order = state[1]
    elif isinstance(target, _Array) and len(state) == 5 and isinstance(state[2], _Type):
        target.values = _filled(state[2].resolve(), state[1], bool(state[3]), state[4])
    else:
        raise _RefusedError("a state of an unusual kind")
    machine.stack.append(target)


def _cell_text(cell: Any) -> str:
    return cell if isinstance(cell, str) else "" if cell is None else repr(float(cell))


def _filled(dtype: np.dtype[Any], shape: Any, fortran: bool, data: Any) -> NDArray[Any]:
    """Return numbers (None becomes NaN), or text if a cell is text, in the right shape."""
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n <= MAX_ITEMS for n in shape):
        raise _RefusedError(f"an array of shape {shape!r}")
    if dtype.kind != "O":
        if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
            raise _RefusedError("raw numbers of the wrong length")
        return np.frombuffer(data, dtype).astype(float).reshape(shape, order="F" if fortran else "C")
    if not isinstance(data, list) or len(data) != math.prod(shape):
        raise _RefusedError("a list of the wrong length")
    kinds = set(map(type, data))
    if not kinds <= _CELLS:
        odd = next(cell for cell in data if type(cell) not in _CELLS)
        raise _RefusedError(f"a cell of type {type(odd).__name__.strip('_')} ({odd!r:.60})")
    try:
        if str in kinds:
            return np.array([_cell_text(cell) for cell in data], dtype=str).reshape(shape)
        # numpy lists objects in C order whatever the flag says; only raw bytes follow it
        return np.array(data, dtype=float).reshape(shape)
    except OverflowError:
        raise _RefusedError("a whole number too large for a float") from None


_WITH_ARGUMENT: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("BINFLOAT", "BININT", "BININT1", "BININT2", "LONG1", "LONG4"), _push),
    **dict.fromkeys(("INT", "LONG", "FLOAT"), _push),
    **dict.fromkeys(("UNICODE", "STRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, arg: machine.remember(int(arg))),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, arg: machine.recall(int(arg))),
    "GLOBAL": _named,
}
_WITHOUT: dict[str, Callable[[_Machine], None]] = {
    "NONE": lambda machine: machine.stack.append(None),
    "NEWTRUE": lambda machine: machine.stack.append(True),
    "NEWFALSE": lambda machine: machine.stack.append(False),
    "EMPTY_LIST": lambda machine: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine: machine.stack.append(()),
    "LIST": lambda machine: machine.stack.append(machine.to_mark()),
    "MARK": lambda machine: machine.stack.append(_MARK),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.to_mark())),
    "TUPLE1": lambda machine: machine.stack.append(machine.pop(1)),
    "TUPLE2": lambda machine: machine.stack.append(machine.pop(2)),
    "TUPLE3": lambda machine: machine.stack.append(machine.pop(3)),
    "APPEND": lambda machine: _append(machine, list(machine.pop(1))),
    "APPENDS": lambda machine: _append(machine, machine.to_mark()),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _call,
    "BUILD": _build,
    "MEMOIZE": lambda machine: machine.remember(len(machine.memo)),
}


def decode_numbers(stream: bytes, where: str = "pickled column") -> NDArray[Any]:
    """Decode a pickled numpy array of numbers without executing anything.

    Parameters
    ----------
    stream : bytes
        Pickle of a numpy array (object dtype with float, int, bool, None or numpy numbers; or a numeric dtype).
    where : str
        File and column, for messages.

    Returns
    -------
    array of float64, or of str if a cell is text, the shape stored in the stream; unit as stored
        None becomes NaN, or empty text. Numbers among text are written so that they read back exactly.

    Raises
    ------
    FileFormatError
        If the stream is truncated or corrupt, larger than the limits, or holds anything but numbers and text
        (a name, a call, a list): it is refused by name and never executed.

    Examples
    --------
    >>> import pickle
    >>> decode_numbers(pickle.dumps(np.array([1.5, None], dtype=object)))
    array([1.5, nan])
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in damaged text
        result = _run(stream, where)
    if not isinstance(result, _Array) or result.values is None:
        raise _error("the object column holds something that is no array", where)
    return result.values


def decode_names(stream: bytes, where: str = "pickled list of names") -> list[str]:
    """Decode a pickled list of column names without executing anything.

    Parameters
    ----------
    stream : bytes
        Pickle of a list or tuple of str, as PyTables stores in attributes.
    where : str
        File and attribute, for messages.

    Raises
    ------
    FileFormatError
        If the stream is truncated, corrupt, or holds anything but text.
    """
    result = _run(stream, where)
    if not isinstance(result, list | tuple) or not all(isinstance(name, str) for name in result):
        raise _error("the list of column names holds something that is no text", where)
    return list(result)


def _run(stream: bytes, where: str) -> Any:
    """Walk the whole stream and return what is left on the stack."""
    machine = _Machine()
    try:
        for opcode, arg, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                break
            if opcode.name in _WITH_ARGUMENT:
                _WITH_ARGUMENT[opcode.name](machine, arg)
            elif opcode.name in _WITHOUT:
                _WITHOUT[opcode.name](machine)
            elif opcode.name not in ("PROTO", "FRAME"):
                raise _RefusedError(f"the instruction {opcode.name}")
        (result,) = machine.pop(len(machine.stack))
    except _RefusedError as error:
        raise _error(f"the object column holds {error}", where) from error
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError, RecursionError, KeyError) as error:
        raise _error(f"the object column is truncated or corrupt ({error})", where) from error
    return result


def _error(what: str, where: str) -> FileFormatError:
    return FileFormatError(
        what,
        where=where,
        expected="a pickled numpy array of numbers; nothing else is decoded, and nothing is ever executed",
        advice="turn the column into plain numbers in the program that wrote it, and write the table again",
    )
