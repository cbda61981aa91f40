"""The commands that write files, small enough to be run a hundred times, and what their files must look like."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from safetensors import safe_open

from galineage.cli import main
from galineage.reporting import writer
from galineage.study import runner
from galineage.tables import FORMATS, read_table, write_catalogue
from galineage.toy import make_toy, write_tng_box

STUDY = """
name = "small"
title = "Small"
lead = "For tests."
target = "f_ex"
warning = "toy"
[domains.toy-a]
file = "toy-a.parquet"
mapping = "galineage"
rows = "all"
[[experiments]]
name = "e"
title = "one"
domains = ["toy-a"]
features = ["mstar", "age"]
models = [{ preset = "spline" }]
folds = 0
across = false
[[sections]]
title = "All"
lead = "One of each."
items = [
  { kind = "accuracy", name = "a", title = "A", caption = "c", experiment = "e", pairs = "all" },
  { kind = "coverage", name = "c", title = "C", caption = "c", experiment = "e", model = "spline" },
]
"""


DRAWN = {}
"""Figures by name: what is tested is writing them, not drawing them."""


@contextmanager
def one_process():
    """Let a study run its jobs in a thread of this process, where faults can reach them, and draw each figure once."""
    pool, render = runner._pool, writer.render
    threads = torch.get_num_threads()

    def drawn_once(figure, name):
        if name not in DRAWN:
            DRAWN[name] = render(figure, name)
        return DRAWN[name]

    @contextmanager
    def thread(executor, workers):
        with ThreadPoolExecutor(1) as found:
            yield executor or found

    runner._pool, writer.render = thread, drawn_once
    try:
        yield
    finally:
        runner._pool, writer.render = pool, render
        torch.set_num_threads(threads)


def prepare(folder):
    """Write tables and a box, and make a trained model and a finished study to start from; return the folder."""
    write_tng_box(folder / "box", "toy-a", 3, 1, stars=60, chunks=1)
    write_catalogue(make_toy("toy-a", 150, 1), folder / "toy-a.parquet")
    (folder / "small.toml").write_text(STUDY)
    assert run("train", folder, folder / "given") == 0
    (folder / "given" / "model").rename(folder / "model")
    with one_process():
        assert run("run", folder, folder / "given") == 0
    return folder


def arguments(command, work, out):
    """Arguments of a command that reads from ``work`` and writes below ``out``."""
    table = str(work / "toy-a.parquet")
    name, _, suffix = command.partition(" ")
    return {
        "train": [
            *["train", table, "--features", "mstar", "age", "--model", "mdn", "--members", "1", "--epochs", "12"],
            *["--device", "cpu", "--out", str(out / "model")],
        ],
        "predict": ["predict", str(work / "model"), table, "--out", str(out / f"p{suffix}")],
        "run": ["run", str(work / "small.toml"), "--data", str(work), "--out", str(out / "study"), "--workers", "1"],
        "report": ["report", str(out / "study")],
        "prepare": [
            *["prepare", str(work / "box"), "--snapshot", "99", "--pixels", "16", "--views", "1", "--workers", "1"],
            *["--mstar-min", "0", "--out", str(out / "maps")],
        ],
    }[name]


PREDICT = [f"predict {suffix}" for suffix in FORMATS if suffix != ".xml"]
COMMANDS = ["train", *PREDICT, "run", "report", "prepare"]


def run(command, work, out):
    """Run a command as a user does; return its exit status."""
    return main(arguments(command, work, out))


def broken(out):
    """Name every file below ``out`` that is there under its final name and is not whole, and every left-over."""
    return [str(path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file() and not _whole(path)]


def _whole(path):
    if path.name.startswith(".") or path.name == "lock":
        return False
    if path.name.startswith("events.out.tfevents"):
        return True  # a log that grows, not a result
    if path.name == "checkpoint.safetensors":
        with safe_open(path, "pt") as stream:
            return len(list(stream.keys())) > 0
    content = path.read_bytes().rstrip() + b"\n"
    ends = {".html": b"</html>\n", ".png": b"IEND\xaeB`\x82\n", ".pdf": b"%%EOF\n", ".csv": b"\n", ".md": b"\n"}
    if path.suffix in ends:
        return content.endswith(ends[path.suffix])
    if path.suffix == ".json":
        return isinstance(json.loads(content), dict)
    if path.suffix == ".npy":
        return np.load(path).ndim == 4
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as stream:
            return len(list(stream.keys())) > 0
    return path.suffix in FORMATS and len(read_table(path).colnames) > 0


def contents(out):
    """What the results below ``out`` say: names of all files, rows of the tables, checksums of the maps."""
    files = {str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: _content(path) for name, path in files.items() if "events.out" not in name}


def _content(path):
    if path.suffix in FORMATS:
        return str(read_table(path).as_array().tolist())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".npy" else ""
