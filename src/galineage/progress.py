"""Progress on long work: a bar with time left on a terminal, silence elsewhere or on request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["bar"]


def bar(items: Iterable[Any] | None = None, *, total: int | None = None, label: str = "", show: bool = True) -> Any:
    """Wrap an iterable (or count to ``total``) in a progress bar on standard error.

    The bar appears after two seconds of work, and not at all where standard error is no terminal.
    """
    from tqdm import tqdm

    return tqdm(
        items,
        total=total,
        desc=label,
        disable=not (show and sys.stderr.isatty()),
        leave=False,
        delay=2,
        dynamic_ncols=True,
    )
