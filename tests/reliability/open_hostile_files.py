"""Open every hostile file in every way a user can, each in a process of its own; print what happened as JSON lines.

Libraries are imported first, and a harmless file of every format is read before the clock starts: what is measured is
the time and memory that the hostile file takes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
warnings.simplefilter("ignore")

import hostile_files  # noqa: E402
import lines  # noqa: E402
from made_up_tables import made_up, write_as  # noqa: E402

import galineage.cli.commands  # noqa: E402
import galineage.cli.inspection  # noqa: E402
import galineage.images  # noqa: E402
import galineage.models.bundle  # noqa: E402
import galineage.models.representation_files  # noqa: E402
import galineage.prediction  # noqa: E402
import galineage.sources.images  # noqa: E402
import galineage.store.opening  # noqa: E402
import galineage.study.report  # noqa: E402
import galineage.tables  # noqa: E402
from galineage.cli import main  # noqa: E402
from galineage.errors import DataError, GalineageError  # noqa: E402

FORMATS = {"hdf5": ".h5", "fits": ".fits", "parquet": ".parquet", "votable": ".vot", "csv": ".csv", "ecsv": ".ecsv"}
MAPPING = """
name = "two"
domain = "Stranger"
id = "GalaxyID"
[columns]
age = { column = "Age", unit = "Gyr" }
mstar = { column = "Stellar_Mass", unit = "Msun", optional = true }
"""
DEADLINE = 20
"""Seconds after which an attempt is given up and counts as a failure."""


def ways(opened_as, path, harmless):
    """Name to function of every way to open a thing."""
    mapping, table = str(harmless / "m.toml"), str(harmless / "t.csv")
    if opened_as == "table":
        found = {
            "open_source": lambda: galineage.sources.open_source(path, mapping).read(),
            "inspect": lambda: ["inspect", str(path), "--mapping", mapping],
        }
        if path.suffix in galineage.tables.FORMATS:
            found["read_table"] = lambda: galineage.tables.read_table(path)
        return found
    if opened_as == "bundle":
        arguments = [table, "--mapping", mapping, "--out", str(harmless / "out.ecsv")]
        return {
            "load": lambda: galineage.prediction.predict(
                galineage.models.bundle.load(path), galineage.sources.open_source(table, mapping).read()
            ),
            "inspect": lambda: ["inspect", str(path)],
            "predict": lambda: ["predict", str(path), *arguments],
        }
    if opened_as == "representation":
        return {
            "load_representation": lambda: galineage.models.representation_files.load_representation(path),
            "inspect": lambda: ["inspect", str(path)],
        }
    if opened_as == "image":
        said = {"bands": ("r",), "zero_point": 22.5, "pixel_scale": 0.2}
        return {
            "read_cutout": lambda: galineage.sources.images.read_cutout(path, **said),
            "prepare_images": lambda: none_skipped(galineage.sources.images.open_images([path], **said)),
        }
    if opened_as == "store":
        return {
            "open_store": lambda: galineage.store.opening.open_store(path).views().maps.read([0]),
            "inspect": lambda: ["inspect", str(path)],
        }
    return {
        "mapping": {
            "open_source": lambda: galineage.sources.open_source(table, path).read(),
            "inspect": lambda: ["inspect", table, "--mapping", str(path)],
        },
        "study": {
            "load_study": lambda: galineage.study.load_study(path),
            "run": lambda: ["run", str(path), "--data", str(harmless)],
        },
        "run": {
            "report": lambda: galineage.study.report.report(path),
            "command report": lambda: ["report", str(path)],
        },
        "checkpoint": {"fit_estimator": lambda: resumed(path)},
    }[opened_as]


def resumed(folder):
    """Train in a folder that holds a checkpoint of someone else."""
    x, y = lines.draw(40)
    return galineage.training.fit_estimator(lines.tiny(), x, y, lines.quick(), folder=folder, progress=False)


def none_skipped(images):
    """Prepare images for a network; a skipped one counts as refused."""
    found = galineage.images.prepare_images(images, galineage.images.ImageRecipe(("r",), pixels=16))
    for skip in found.skipped:
        raise DataError(skip.reason)
    return found


def attempt(way):
    """Open once; return (outcome, first line of the message)."""
    try:
        found = way()
        if isinstance(found, list):  # a command
            with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
                status = main(found)
            return {0: "accepted", 1: "refused"}.get(status, f"status {status}"), errors.getvalue().split("\n")[0]
    except GalineageError as error:
        return "refused", str(error).split("\n")[0]
    except BaseException as error:
        return f"crashed with {type(error).__name__}", str(error)[:200]
    return "accepted", type(found).__name__


def resident():
    """Memory of this process now, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def in_child(way):
    """Fork, then time one attempt; return what the child found."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        before = resident()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        start = time.perf_counter()
        signal.alarm(DEADLINE)
        outcome, message = attempt(way)
        seconds = time.perf_counter() - start
        found = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
        peak = max(0.0, int(found) / 1024 - before)
        row = {"outcome": outcome, "message": message, "seconds": seconds, "MiB": peak}
        os.write(writer, json.dumps(row).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if not answer:
        return {"outcome": f"died of signal {status & 127}", "message": "", "seconds": DEADLINE, "MiB": 0.0}
    return json.loads(answer)


def run(folder, names):
    """Make and open every named item below ``folder``; print a line for each way."""
    harmless = folder / "harmless"
    harmless.mkdir(parents=True)
    (harmless / "m.toml").write_text(MAPPING)
    for form, suffix in FORMATS.items():
        write_as(made_up(), harmless / f"t{suffix}", form)
    for suffix in FORMATS.values():
        galineage.sources.open_source(harmless / f"t{suffix}", str(harmless / "m.toml")).read()
    resumed(harmless / "run")  # torch imports half of itself when it first trains
    resource.setrlimit(resource.RLIMIT_AS, (64 * 2**30, 64 * 2**30))
    for name in names:
        opened_as, path = hostile_files.make(name, folder / name)
        for way, function in ways(opened_as, path, harmless).items():
            row = in_child(function)
            row |= {"item": name, "way": way, "canary": (folder / name / "canary").exists()}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:] or list(hostile_files.ITEMS))
