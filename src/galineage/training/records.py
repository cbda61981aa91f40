"""What a run leaves beside its checkpoint: the history as a table, and for TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import time
from typing import TYPE_CHECKING, Any

from galineage.atomic import write_text
from galineage.errors import FileFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Board", "write_history"]


def write_history(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write history rows as CSV, atomically; raises `FileFormatError` if the disk refuses."""
    stream = io.StringIO()
    if rows:
        # what is measured may grow when a run goes on
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(path, stream.getvalue())


class Board:
    """TensorBoard files of a run, if tensorboard is installed; use as a context manager.

    The files of an earlier part of the run are replaced by its history: they may hold epochs after the last
    checkpoint, which will be trained again, and lack those that were not flushed before a kill.

    Parameters
    ----------
    folder : Path, optional
        The run's folder; None writes nothing.
    history : sequence of dict
        Rows of the epochs already done.
    """

    def __init__(self, folder: Path | None, history: Sequence[dict[str, float]] = ()) -> None:
        self._writer: Any = None
        self._place = None if folder is None else folder / "tensorboard"
        if self._place is None or importlib.util.find_spec("tensorboard") is None:
            return
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._explained():
            self._place.mkdir(parents=True, exist_ok=True)
            for old in self._place.glob("events.out.tfevents.*"):
                old.unlink()
            # not torch's SummaryWriter: its thread dies on a full disk without telling anybody
            path = self._place / f"events.out.tfevents.{time.time():.0f}.galineage"
            self._writer = RecordWriter(open(path, "xb"))  # noqa: SIM115 - `close` closes it
            self._write(file_version="brain.Event:2")
            for row in history:
                self.add(row)

    def add(self, row: dict[str, float]) -> None:
        """Add one history row; raises `FileFormatError` if the disk refuses."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=row[name]) for name in ("train_loss", "val_loss")]
        with self._explained():
            self._write(step=int(row["epoch"]), summary=Summary(value=values))

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time.time(), **event).SerializeToString())
        self._writer.flush()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            raise FileFormatError(
                f"cannot write TensorBoard files: {error.strerror or error}",
                where=str(self._place),
                advice="check free space and permissions, then run the same command again: it goes on where it stopped",
            ) from error

    def close(self) -> None:
        """Close the file; what was added is in it already."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # on a full disk closing tries to flush once more
                self._writer.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()
