"""The one way a file is written: temporary neighbour, flush, fsync, rename, fsync of the folder.

A reader therefore sees the old file or the new one, never a part. Everything that galineage writes goes through
`writing` or `write_text`; a machine that loses power is only as safe as its disk's flush.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.errors import FileFormatError, GalineageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rename", "sha256", "write_json", "write_text", "writing"]


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write; rename it to ``path`` if the block succeeds, remove it if not.

    Parameters
    ----------
    path : path
        Final name. Its folder is made if needed. The temporary file keeps the suffix, so that libraries
        which choose a format by suffix work.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    FileFormatError
        If the folder cannot be written, the disk is full, or the block raised an `OSError`.
    """
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{final.stem[:40]}.", suffix=final.suffix, dir=final.parent)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(final, error) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; results are meant to be shared as the user's umask says
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        _sync(temporary)
        temporary.replace(final)
        _sync(final.parent)
    except GalineageError:
        raise  # some are OSErrors, and already say what is wrong
    except OSError as error:
        raise _cannot_write(final, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Give a file that `writing` wrote another name in its folder, replacing what has it.

    Raises
    ------
    FileFormatError
        If the disk refuses.
    """
    try:
        source.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically; raises as `writing` does."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically with sorted keys and no NaN (use None); raises as `writing` does."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def sha256(path: str | os.PathLike[str]) -> str:
    """Checksum of a file's bytes as a hexadecimal string.

    Raises
    ------
    FileFormatError
        If the file cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FileFormatError(f"cannot read the file: {error.strerror}", where=str(path)) from error


def _sync(path: Path) -> None:
    folder = path.is_dir()
    if folder and os.name == "nt":
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> FileFormatError:
    return FileFormatError(
        f"cannot write the file: {error.strerror or error}",
        where=str(path),
        advice="check free space and permissions, then run the same command again: it goes on where it stopped",
    )
