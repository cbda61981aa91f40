"""R4: whichever write fails, of whatever cause, the command says so with the path and leaves no half file behind.

Every file is written through `galineage.atomic.writing`, in four steps: open a temporary neighbour, flush it, rename
it, flush the folder. Here each of these steps fails in turn. In `test_small_disk.py` the disk itself is too small.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import commands_that_write as writers
import pytest

from galineage import atomic
from galineage.errors import FileFormatError
from galineage.models import make_estimator
from galineage.models.bundle import Bundle, load, save
from galineage.tables import write_table
from galineage.toy import make_toy

CAUSES = [errno.ENOSPC, errno.EIO, errno.EACCES]


class Steps:
    """Counts the steps of every write, and lets one of them fail."""

    def __init__(self, failing=0, cause=errno.ENOSPC):
        self.failing, self.cause, self.paths = failing, cause, []

    @property
    def failed(self):
        return 0 < self.failing <= len(self.paths)

    def step(self, path):
        self.paths.append(Path(path))
        if len(self.paths) == self.failing:
            raise OSError(self.cause, os.strerror(self.cause), str(path))

    @contextmanager
    def watched(self):
        """Count, and fail, inside the block."""
        sync, mkstemp, replace = atomic._sync, tempfile.mkstemp, Path.replace

        def open_new(**options):
            self.step(options["dir"])
            return mkstemp(**options)

        def flush(path):
            self.step(path)
            sync(path)

        def rename(path, target):
            self.step(target)
            return replace(path, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(atomic, "tempfile", SimpleNamespace(mkstemp=open_new))
            patch.setattr(atomic, "_sync", flush)
            patch.setattr(Path, "replace", rename)
            yield self


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return writers.prepare(tmp_path_factory.mktemp("work"))


def start(work, out, command):
    """A new output folder; with the finished study in it for a command that needs one."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if command == "report":
        shutil.copytree(work / "given" / "study", out / "study")
    return out


def attempt(command, work, out, capsys, failing, cause):
    """One command with one failing step, checked in all respects, then again without."""
    start(work, out, command)
    with Steps(failing, cause).watched() as steps:
        status = writers.run(command, work, out)
    errors = capsys.readouterr().err
    assert steps.failed, "the step was never reached"
    where = f"{command}, step {failing} ({steps.paths[failing - 1]}), {errno.errorcode[cause]}"
    assert status == 1, where
    assert os.strerror(cause) in errors, f"{where}: {errors}"
    assert str(out) in errors, f"{where}: {errors}"
    assert "Traceback" not in errors
    assert writers.broken(out) == [], where
    assert writers.run(command, work, out) == 0, where
    capsys.readouterr()


@pytest.mark.parametrize("command", writers.COMMANDS)
def test_every_step_of_every_write_may_fail(request, work, tmp_path, capsys, tally, command):
    """Every step with --slow; otherwise a seventh of them, but all of a prediction's."""
    out = start(work, tmp_path / "out", command)
    with writers.one_process():
        with Steps().watched() as steps:
            assert writers.run(command, work, out) == 0
        expected = writers.contents(out)
        total = len(steps.paths)
        assert total >= 4
        every = 1 if request.config.getoption("--slow") or command.startswith("predict") else 7
        tried = range(1, total + 1, every)
        for number in tried:
            attempt(command, work, out, capsys, number, CAUSES[number % len(CAUSES)])
            if number in (tried[0], tried[len(tried) // 2], tried[-1]):
                assert writers.contents(out) == expected
    tally("R4", command, f"{len(tried)} of {total} steps failed in turn", "0 half files", "every rerun succeeded")


@pytest.mark.parametrize("cause", CAUSES, ids=errno.errorcode.get)
def test_every_step_of_saving_a_bundle_may_fail(tmp_path, tally, cause):
    first, second = (Bundle(make_estimator("mdn", ["mstar"], members=1, hidden=(4,), seed=s).eval()) for s in (1, 2))
    with Steps().watched() as steps:
        save(first, tmp_path / "m")
    for number in range(1, len(steps.paths) + 1):
        save(first, tmp_path / "m")
        with Steps(number, cause).watched(), pytest.raises(FileFormatError, match=os.strerror(cause)) as caught:
            save(second, tmp_path / "m")
        assert str(tmp_path / "m") in caught.value.where
        assert load(tmp_path / "m").estimator.seed in (1, 2)
        assert not list((tmp_path / "m").glob(".*"))
        save(second, tmp_path / "m")
        assert load(tmp_path / "m").estimator.seed == 2
        assert len(list((tmp_path / "m").iterdir())) == 3
    tally(
        "R4", f"save, {errno.errorcode[cause]}", f"{len(steps.paths)} steps failed in turn", "old or new bundle whole"
    )


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet", ".vot"])
@pytest.mark.parametrize("cause", CAUSES, ids=errno.errorcode.get)
def test_every_step_of_replacing_a_table_may_fail(tmp_path, suffix, cause):
    old, new = make_toy("toy-a", 20, 1), make_toy("toy-a", 30, 2)
    tables = [writers_table(item) for item in (old, new)]
    path = tmp_path / f"t{suffix}"
    for number in range(1, 5):
        write_table(tables[0], path)
        with Steps(number, cause).watched(), pytest.raises(FileFormatError, match=os.strerror(cause)) as caught:
            write_table(tables[1], path)
        assert str(path) == caught.value.where
        from galineage.tables import read_table

        assert len(read_table(path)) == (30 if number == 4 else 20), "the rename is what counts"
        assert [item.name for item in tmp_path.iterdir()] == [path.name]


def writers_table(catalogue):
    from astropy.table import Table

    return Table({"id": catalogue.ids, "mstar": catalogue["mstar"]})
