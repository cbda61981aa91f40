"""Where long work is done: here, or by the workers of a Dask scheduler."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["executor_of"]


@contextmanager
def executor_of(scheduler: str | None) -> Iterator[Any]:
    """Give an executor whose jobs go to a scheduler; None, for work done here, if none is named.

    Parameters
    ----------
    scheduler : str or None
        Address, for example ``tcp://10.0.0.1:8786``. Its workers must see the same folders.

    Raises
    ------
    MissingDependencyError
        If the package distributed is not installed.
    """
    if not scheduler:
        yield None
        return
    from galineage.errors import MissingDependencyError

    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            "a Dask scheduler needs the package distributed", advice="pip install 'galineage[cluster]'"
        ) from error
    with Client(scheduler) as client:
        yield client.get_executor()
