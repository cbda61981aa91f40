"""How stores are written: settings that agree, and parts whose shards are made by whoever is there."""

from __future__ import annotations

import re
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.atomic import write_json
from galineage.errors import ConfigError, FileFormatError
from galineage.guard import parse_json
from galineage.progress import bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from galineage.galaxy import Catalogue

__all__ = ["agree", "part_name", "part_path", "plain", "work_through"]


def part_name(domain: str, catalogue: Catalogue | None) -> str:
    """Return what a part of a store is called: its domain, with the snapshot if the catalogue's galaxies have one."""
    if catalogue is None or "snapshot" not in catalogue:
        return domain
    snapshots = np.unique(catalogue["snapshot"])
    return f"{domain}-{int(snapshots[0]):03d}" if len(snapshots) == 1 and np.isfinite(snapshots[0]) else domain


def part_path(root: Path, name: str) -> Path:
    """Return the folder of a part of a store, whatever characters its name has."""
    return root / "parts" / re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def agree(path: Path, wanted: dict[str, Any], what: str) -> None:
    """Write down what is to be made, or compare it with what was written down before.

    Parameters
    ----------
    path : Path
        JSON file.
    wanted : dict
        Settings, in JSON types.
    what : str
        Whose they are, for messages.

    Raises
    ------
    ConfigError
        If other settings were written down; says which.
    FileFormatError
        If the file cannot be read or written.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
        return
    try:
        known = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path.name} cannot be read: {error}", where=str(path)) from error
    changed = sorted(_changes(known, wanted))
    if changed:
        raise ConfigError(
            f"{what} was made with other settings: {', '.join(changed[:6])}",
            where=str(path),
            advice="use the same settings, or another folder",
        )


def _changes(known: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(known, dict) and isinstance(wanted, dict):
        for key in sorted({*known, *wanted}):
            yield from _changes(known.get(key), wanted.get(key), f"{name}.{key}" if name else key)
    elif known != wanted:
        yield f"{name}: {known} was, {wanted} is" if len(f"{known}{wanted}") < 80 else name


def plain(value: Any) -> Any:
    """Return a number as a JSON value: None if it is not finite."""
    one = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(one, float) and not np.isfinite(one) else one


def work_through(
    pool: Executor,
    make: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    ahead: int,
    total: int,
    label: str,
    show: bool,
) -> None:
    """Make shards, never more than ``ahead`` at a time; the first failure stops what has not begun.

    Parameters
    ----------
    pool : Executor
        Who makes them.
    make : callable
        Called with the arguments of each job.
    jobs : sequence of tuple
        What is missing.
    ahead : int
        Jobs that are handed out at once.
    total : int
        Shards, those that are there among them.
    label, show : str, bool
        Of the progress bar.
    """
    pending: set[Future[Any]] = set()
    queue = iter(jobs)
    with bar(total=total, label=label, show=show) as shown:
        shown.update(total - len(jobs))
        try:
            while True:
                for job in queue:
                    pending.add(pool.submit(make, *job))
                    if len(pending) >= ahead:
                        break
                if not pending:
                    return
                done, pending = _first(pending)
                for one in done:
                    one.result()
                    shown.update(1)
        finally:
            for one in pending:
                one.cancel()


def _first(pending: set[Future[Any]]) -> tuple[set[Future[Any]], set[Future[Any]]]:
    """Wait for at least one; futures of Dask are not those of the standard library."""
    if all(isinstance(one, Future) for one in pending):
        finished = wait(pending, return_when=FIRST_COMPLETED)
        return set(finished.done), set(finished.not_done)
    one = next(iter(pending))
    one.result()
    return {one}, pending - {one}
