"""Compile loops once, and keep the result for the next process where there is room for it.

What is kept is made again when its own file changes, not when a compiled function of another file that it calls does:
who works on `views.masks` clears ``__pycache__``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = TypeVar("Work", bound=Callable[..., Any])

__all__ = ["compiled", "compiled_sums", "compiled_with"]


def compiled(work: Work) -> Work:
    """Compile at the first call, strict in its arithmetic; other Python threads go on while it runs."""
    return compiled_with({})(work)


def compiled_sums(work: Work) -> Work:
    """Compile as `compiled`, with leave to add in another order: only then are sums made by vector instructions."""
    return compiled_with({"fastmath": {"reassoc", "contract"}})(work)


def compiled_with(options: dict[str, Any]) -> Callable[[Work], Work]:
    """Return `compiled` with further options of numba."""
    return lambda work: _compile(work, options)


def _compile(work: Any, options: dict[str, Any]) -> Any:
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        ready = njit(cache=True, **options)(work)
    except RuntimeError:  # no folder that can be written
        return njit(**options)(work)
    save = ready._cache.save_overload

    def save_if_possible(*given: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk
            save(*given)

    ready._cache.save_overload = save_if_possible
    return ready
