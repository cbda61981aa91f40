"""Memory that a process keeps instead of giving it back after every step."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_memory"]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_memory() -> bool:
    """Tell the C library to keep freed memory for the rest of the process; return whether it could be told.

    Activations of a convolutional network are hundreds of megabytes, which glibc returns to the system after each step
    and has to clear page by page in the next one: without that a training step takes about 0.7 of the time, and
    prediction half (docs/performance.md). The process keeps its largest size to its end.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):  # another C library
        return False
