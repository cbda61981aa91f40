"""Run commands on a disk that is too small: a limit on the size of files, and a small memory file system.

Both are the kernel's own: writes inside any library fail where they would fail on a full disk. Prints JSON lines.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1")

import commands_that_write as writers
import torch

LIMITS = [1, 2_000, 20_000, 80_000]
"""Largest file in bytes."""

SIZES = [16, 100, 400]
"""Room on the file system in KiB."""


def attempt(command, work, out, limit=None):
    """Run a command in a fork, with files of at most ``limit`` bytes; return status, errors, half files."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        torch.set_num_threads(1)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
            try:
                with writers.one_process():
                    status = writers.run(command, work, out)
            except BaseException as error:
                status = f"{type(error).__name__}: {error}"
        try:
            row = {"status": status, "errors": errors.getvalue(), "broken": writers.broken(out)}
            os.write(writer, json.dumps(row).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else {"status": "died", "errors": "", "broken": []}


def start(command, work, out):
    if command == "report":
        shutil.copytree(work / "given" / "study", out / "study", ignore=shutil.ignore_patterns("*.pdf", "*.png"))


def show(kind, command, size, row, again):
    print(json.dumps({"kind": kind, "command": command, "size": size, **row, "again": again}), flush=True)


def limited(work, place):
    """Every command with every limit on the size of a file, then again without."""
    for command in writers.COMMANDS:
        for limit in LIMITS:
            out = place / f"{command} {limit}"
            out.mkdir(parents=True)
            start(command, work, out)
            row = attempt(command, work, out, limit)
            show("limit", command, limit, row, attempt(command, work, out)["status"])


def mounted(work, place):
    """Every command on a file system of every size, then again when there is room."""
    place.mkdir()
    for command in writers.COMMANDS:
        for size in SIZES:
            options = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
            done = subprocess.run(options, capture_output=True, text=True)
            if done.returncode:
                print(json.dumps({"kind": "no mount", "reason": done.stderr.strip() or "mount failed"}))
                return
            try:
                start(command, work, place)
                used = shutil.disk_usage(place).used // 1024
                subprocess.run(["mount", "-o", f"remount,size={used + size}k", str(place)], check=True)
                row = attempt(command, work, place)
                subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
                show("tmpfs", command, size, row, attempt(command, work, place)["status"])
            finally:
                subprocess.run(["umount", "--lazy", str(place)], check=True)


if __name__ == "__main__":
    base = Path(sys.argv[1])
    torch.set_num_threads(1)
    (base / "work").mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        work = writers.prepare(base / "work")
    limited(work, base / "limited")
    if shutil.which("mount"):
        mounted(work, base / "mounted")
