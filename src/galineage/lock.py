"""One run per folder: a lock that the operating system frees when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from galineage.errors import FileFormatError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["locked"]


@contextlib.contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Keep other runs out of ``folder`` for a block; the file ``lock`` in it holds the process id.

    The lock belongs to the open file, not to its existence: one left by a killed process holds nobody up. A file
    system without locks (some network ones) is used without.

    Parameters
    ----------
    folder : Path, optional
        Made if it is not there. None: nothing to lock.

    Raises
    ------
    TrainingError
        If another run is at work in the folder; names its process.
    FileFormatError
        If the folder cannot be written.
    """
    if folder is None:
        yield
        return
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _open_current(path)
    except BlockingIOError as error:
        raise TrainingError(
            f"another run is at work in this folder: process {_owner(path)}",
            where=str(folder),
            advice="wait for it, stop it, or choose another output folder",
        ) from error
    except OSError as error:
        raise FileFormatError(
            f"cannot write into the folder: {error.strerror or error}", where=str(folder), advice="check permissions"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _open_current(path: Path) -> int:
    """Open and lock the file that has this name now; raises BlockingIOError if somebody holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            current = _take(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if current:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> bool:
    """Lock an open file; False if it has lost its name since: its former owner removed it before the lock was ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return True  # no locks on this file system
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "unknown"
    except OSError:
        return "unknown"
