"""Train on a map store with a hard limit on the memory of the process; print what it took, as JSON.

Arguments: the store, the limit in bytes above what the libraries take, and ``memory`` of the training in GB.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

import galineage
from galineage.store.map_store import MapStore
from galineage.training import MapTrainConfig


def status(name):
    """Bytes of an entry of the kernel's account of this process."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", text)[1])


def train(views, config):
    # one narrow stage: the point is where maps go, not what is learned
    options = {"members": 1, "widths": (8,), "config": config, "progress": False}
    return galineage.train(views, model="maps", **options)


def main(path, room, memory):
    config = MapTrainConfig(max_epochs=1, batch_size=32, memory=memory, precision="float32", device="cpu")
    store = MapStore(path)
    views = store.views()
    # loads every library, starts every thread, and with galaxies enough for a shift score compiles its search: 300 MB
    train(views.select(np.arange(400)), replace(config, memory=0.0))
    base, data = status("RssAnon"), status("VmData")
    # private memory that can be written to; pages of mapped files, which the system can drop, do not count
    resource.setrlimit(resource.RLIMIT_DATA, (data + room, data + room))
    peak, done = [base], threading.Event()

    def watch():
        while not done.wait(0.02):
            peak.append(max(peak.pop(), status("RssAnon")))

    threading.Thread(target=watch, daemon=True).start()
    found = {"base": base, "finished": False}
    try:
        bundle = train(views, config)
        found |= {"finished": True, "rows": bundle.card["rows"], "epochs": bundle.card["training"]["epochs"]}
    except (MemoryError, RuntimeError) as error:
        found["error"] = str(error)
    done.set()
    print(json.dumps({**found, "peak": max(*peak, status("RssAnon"))}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
