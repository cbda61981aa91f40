"""What the benchmarks share: alternating rounds, the machine in general words, results as a file and as a table."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage import __version__
from galineage.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


def options(text: str) -> argparse.ArgumentParser:
    """Return a parser with ``--out``, ``--rounds`` and ``--threads``."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    return parser


def seconds(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, by the wall unless another clock is given."""
    start = clock()
    work()
    return clock() - start


def alternate(
    variants: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each variant, one value per round; the variants take turns, so that a busy minute hits all.

    A first turn is not counted: it pays for memory and for what is built on first use. What runs on one thread can be
    timed with ``time.process_time``, which leaves out the waiting for a core that other work holds.
    """
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, work in variants.items():
            wall = seconds(work, clock)
            if turn:
                taken[name].append(wall)
    return taken


def median(values: Iterable[float]) -> float:
    """Median."""
    return statistics.median(values)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """How many times longer ``slow`` takes: the median, least and largest ratio of the rounds."""
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return {"median": median(ratios), "low": min(ratios), "high": max(ratios)}


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def machine() -> dict[str, Any]:
    """Cores, vector instructions, load and versions: what a number must be read with."""
    import numpy as np
    import torch

    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "load average at the end": round(os.getloadavg()[0], 2),
        "torch threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "galineage": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }


def finish(out: Path, name: str, results: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> None:
    """Write ``<out>/<name>.json`` and print the rows as a table; the first row is its head."""
    write_json(out / f"{name}.json", {"machine": machine(), **results})
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; wrote {out / f'{name}.json'}")
