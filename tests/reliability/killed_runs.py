"""Kill training runs and saves with SIGKILL at random moments; print what each kill left as JSON lines.

One process imports torch once; every run is a fork of it that trains in one thread, so that a kill costs
milliseconds. The fork reports before and after each checkpoint through a pipe, which tells how much was finished when
it died.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1")

import lines
import numpy as np
import torch
from safetensors import safe_open

from galineage.models.bundle import Bundle, load, save
from galineage.training import fit_estimator
from galineage.training.checkpoint import Checkpoint

EPOCHS = 100_000
X, Y = lines.draw(40)


def estimator():
    return lines.tiny(members=2)


def config():
    # patience without end: the run would go on for hours if nobody killed it
    return lines.quick(max_epochs=EPOCHS, patience=EPOCHS, checkpoint_every=1)


def reporting(pipe):
    """Make `Checkpoint.write` say which epoch it begins (B) and has finished (A)."""
    write = Checkpoint.write

    def told(self, path):
        os.write(pipe, f"B{self.facts['epoch']}\n".encode())
        write(self, path)
        os.write(pipe, f"A{self.facts['epoch']}\n".encode())

    Checkpoint.write = told


def train_forever(folder, pipe):
    torch.set_num_threads(1)
    reporting(pipe)
    fit_estimator(estimator(), X, Y, config(), folder=folder, progress=False)


def save_forever(folder, pipe):
    versions = [bundle(seed) for seed in (1, 2)]
    for number in range(EPOCHS):
        os.write(pipe, f"B{number + 1}\n".encode())
        save(versions[number % 2], folder)
        os.write(pipe, f"A{number + 1}\n".encode())


def bundle(seed):
    return Bundle(lines.tiny(members=2, seed=seed).eval(), {"model": f"seed {seed}"})


def killed(work, folder, wait):
    """Fork, let it work for ``wait`` seconds after its first sign of life, kill it; return what it had reported."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            work(folder, writer)
        finally:
            os._exit(3)
    os.close(writer)
    heard = b""
    if select.select([reader], [], [], 60)[0]:
        time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while part := os.read(reader, 2**16):
        heard += part
    os.close(reader)
    marks = heard.decode().split()
    begun = max((int(mark[1:]) for mark in marks if mark[0] == "B"), default=0)
    done = max((int(mark[1:]) for mark in marks if mark[0] == "A"), default=0)
    return {"signal": status & 127, "begun": begun, "done": done, "in write": begun > done}


def opened(path):
    """Read a checkpoint, whichever run it is of, with all its checks; None if there is none."""
    if not path.exists():
        return None
    with safe_open(path, "pt") as stream:
        facts = json.loads(stream.metadata()["galineage"])
    return Checkpoint.read(path, facts["identity"])


def checkpoint_kills(folder, count, rng):
    """Kill one run again and again; after each kill read its checkpoint."""
    path = folder / "checkpoint.safetensors"
    for _ in range(count):
        row = killed(train_forever, folder, float(rng.uniform(0, 0.06)))
        found = opened(path)
        facts = {} if found is None else found.facts
        epochs = [line["epoch"] for line in facts.get("history", [])]
        row |= {"epoch": facts.get("epoch", 0), "history whole": epochs == list(range(1, len(epochs) + 1))}
        row["left over"] = len(list(folder.glob(".checkpoint.*")))
        print(json.dumps({"kind": "checkpoint", **row}), flush=True)
    finish(folder, opened(path).facts["epoch"] + 3)


def finish(folder, epochs):
    """Go on in the much killed folder to a given epoch, and train the same without a break; compare."""

    class StopError(Exception):
        pass

    def stopping(self, path):
        write(self, path)
        if self.facts["epoch"] == epochs:
            raise StopError

    write, Checkpoint.write = Checkpoint.write, stopping
    for place in (folder, folder.with_name("unbroken")):
        with contextlib.suppress(StopError):
            fit_estimator(estimator(), X, Y, config(), folder=place, progress=False)
    Checkpoint.write = write
    first, second = (opened(place / "checkpoint.safetensors") for place in (folder, folder.with_name("unbroken")))
    equal = first.tensors.keys() == second.tensors.keys() and all(
        torch.equal(value, second.tensors[name]) for name, value in first.tensors.items()
    )
    print(json.dumps({"kind": "end", "equal": equal, "history": first.facts["history"] == second.facts["history"]}))


def save_kills(folder, count, rng):
    """Kill a process that saves two bundles in turn; after each kill load what is there."""
    versions = {seed: bundle(seed).estimator.state_dict() for seed in (1, 2)}
    save(bundle(1), folder)
    for _ in range(count):
        row = killed(save_forever, folder, float(rng.uniform(0, 0.1)))
        found = load(folder)
        seed = int(found.card["model"].removeprefix("seed "))
        row["whole"] = all(torch.equal(v, found.estimator.state_dict()[k]) for k, v in versions[seed].items())
        print(json.dumps({"kind": "bundle", **row}), flush=True)


if __name__ == "__main__":
    place, kills = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    fit_estimator(estimator(), X, Y, lines.quick(max_epochs=1), folder=place / "warm", progress=False)
    checkpoint_kills(place / "run", kills, np.random.default_rng(1))
    save_kills(place / "bundle", kills, np.random.default_rng(2))
