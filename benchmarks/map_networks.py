"""Table A2 on maps: a training step and inference against Keras and TensorFlow; the input path; the small encoder.

Peers need an interpreter that has Keras and TensorFlow: --keras-python PYTHON.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import finish, median, options, ratio

from galineage.galaxy import Catalogue
from galineage.models import make_estimator
from galineage.models.bundle import Bundle
from galineage.models.map_inputs import MapInputs, turned
from galineage.posterior import Posterior
from galineage.prediction import predict
from galineage.training import MapTrainConfig
from galineage.training.allocator import keep_memory
from galineage.training.map_loop import _Run, has_fast_bfloat16

PEER = Path(__file__).parent / "peers" / "keras_maps.py"
BATCH = 128
FORWARD = 3.74e8
"""Floating-point operations of one image through Table A2, forwards; training takes 2.65 times as many."""


class Maps:
    """Made-up maps in memory, whose widths tell the target."""

    channels, recipe = ("mass", "velocity", "sigma", "metallicity", "age"), {}

    def __init__(self, count: int, pixels: int = 128, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.y = rng.uniform(0.05, 0.95, count)
        place = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, pixels)] * 2))
        shape = np.exp(-place[None] / (0.05 + 0.5 * self.y[:, None, None])).astype(np.float32)
        noise = rng.standard_normal((count, 5, pixels, pixels), dtype=np.float32)
        self.values = (3 * shape[:, None] + 0.5 * noise).astype(np.float16)

    def __len__(self) -> int:
        """Return the number of maps."""
        return len(self.values)

    def read(self, which: Any) -> Any:
        """Return maps."""
        return self.values[which]


class Again(Maps):
    """The same maps over and over, as many as are asked for."""

    def __init__(self, maps: Maps, count: int) -> None:
        self.values, self.rows = maps.values, np.arange(count)

    def __len__(self) -> int:
        """Return the number of maps."""
        return len(self.rows)

    def select(self, which: Any) -> Again:
        """Return some of them."""
        return Again(self, len(self.rows[which]))

    def lacks(self, channels: Any) -> Any:
        """No map lacks a channel."""
        del channels
        return np.zeros(len(self), dtype=bool)

    def read(self, which: Any) -> Any:
        """Return maps."""
        return self.values[np.asarray(which) % len(self.values)]


def run_of(maps: Maps, preset: str, precision: str, device: str) -> _Run:
    """Make a run of one member whose steps can be timed."""
    estimator = make_estimator(preset, (), members=1, seed=1)
    config = MapTrainConfig.published(precision=precision, device=device)
    return _Run(estimator, MapInputs(maps, np.zeros((len(maps), 0))), torch.tensor(maps.y).float(), config, None, None)


WARM = 3
"""Steps before the clock starts, in which a process first touches its memory; nor do the peer's first steps count."""


def training(run: _Run, steps: int) -> tuple[float, float]:
    """Return seconds per step, and the part of it that making the batch takes."""
    run.estimator.train()
    whole, path = [], []
    order = torch.arange((WARM + steps) * BATCH) % len(run.inputs)
    for rows in order.split(BATCH):
        start = time.perf_counter()
        context = turned(run.inputs.take(rows), run._codes(len(rows)).to(run.device))
        path.append(_done(run.device) - start)
        run._step(rows, context, None, 0.0, len(rows))
        whole.append(_done(run.device) - start)
    return median(whole[WARM:]), median(path[WARM:]) / median(whole[WARM:])


GRID = 90 * 500 * 24_000
"""Views that pass in the whole grid of the paper: 90 networks, 500 epochs, 24,000 views."""


def inference(run: _Run, count: int) -> float:
    """Return images per second through one member."""
    run.estimator.eval()
    with torch.inference_mode():
        run.estimator.member(0, run.inputs[0:BATCH], precise=run.precise)
        start = time.perf_counter()
        for k in range(0, count, BATCH):
            run.estimator.member(0, run.inputs[k : min(k + BATCH, count)], precise=run.precise)
        return count / (_done(run.device) - start)


def _done(device: torch.device) -> float:
    """Return the time when a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def gemm(kind: torch.dtype) -> float:
    """Return floating-point operations per second of a large matrix product: the peak that one can hope for."""
    a, b = torch.randn(2048, 2048).to(kind), torch.randn(2048, 2048).to(kind)
    best = np.inf
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def peer(python: str, maps: Maps, epochs: int, *, mixed: bool) -> dict[str, Any]:
    """Train and predict with Keras."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "maps.npz", maps=maps.values.astype(np.float32), y=maps.y.astype(np.float32))
        (Path(folder) / "s.json").write_text(json.dumps({"batch": BATCH, "epochs": epochs, "mixed": mixed}))
        command = [python, str(PEER), f"{folder}/maps.npz", f"{folder}/s.json"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"the peer failed:\n{found.stderr[-800:]}")
    return dict(json.loads(found.stdout.splitlines()[-1]))


def predictions(maps: Maps, count: int) -> float:
    """Return seconds that `galineage.predict` takes for ``count`` maps and five recommended networks."""
    bundle = Bundle(make_estimator("maps", (), members=5, seed=1).eval(), {"domains": ["made"]})
    catalogue = Catalogue(
        {"mstar": np.full(count, 1e10)}, np.arange(count), np.asarray("made"), maps=Again(maps, count)
    )
    start = time.perf_counter()
    predict(bundle, catalogue)
    return time.perf_counter() - start


def posteriors(count: int, members: int = 5) -> tuple[float, float, float]:
    """Return seconds of an ensemble's exact posterior and of pooled samples, and their largest difference in sigma."""
    rng = torch.Generator().manual_seed(0)
    loc, scale = torch.rand(members, count, generator=rng), 0.02 + 0.1 * torch.rand(members, count, generator=rng)
    start = time.perf_counter()
    found = Posterior(torch.distributions.Normal(loc, scale, validate_args=False))
    exact = found.mean, found.std
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    part = 1000
    means, spreads = [], []
    for k in range(0, count, part):
        draws = loc[:, k : k + part, None] + scale[:, k : k + part, None] * torch.randn(
            members, min(part, count - k), 1000, generator=rng
        )
        pooled = draws.movedim(1, 0).flatten(1)
        means.append(pooled.mean(1))
        spreads.append(pooled.std(1))
    sampled = time.perf_counter() - start
    off = (torch.cat(means) - exact[0]).abs() / (exact[1] / (1000 * members) ** 0.5)
    return seconds, sampled, float(off.max())


def said(times: dict[str, float]) -> str:
    """Write a ratio with its range."""
    return f"{times['median']:.1f} ({times['low']:.1f}-{times['high']:.1f})"


def main() -> None:
    """Measure."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--predict", type=int, default=2000, metavar="N", help="maps for galineage.predict; 0 for none")
    parser.add_argument("--keras-python", help="interpreter with Keras and TensorFlow")
    arguments = parser.parse_args()
    keep_memory()
    torch.set_num_threads(arguments.threads)
    maps, rounds = Maps(5 * BATCH), max(1, arguments.rounds)
    results: dict[str, Any] = {"threads": arguments.threads, "fast bfloat16": has_fast_bfloat16()}
    lines = [("", "training step", "input path", "inference", "")]
    runs = {
        "Table A2, bfloat16": run_of(maps, "maps-paper", "bfloat16", arguments.device),
        "Table A2, float32": run_of(maps, "maps-paper", "float32", arguments.device),
        "small, bfloat16": run_of(maps, "maps", "bfloat16", arguments.device),
        "small, float32": run_of(maps, "maps", "float32", arguments.device),
    }
    peers: dict[str, list[dict[str, Any]]] = {}
    timed: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            timed[name].append((*training(run, 5), inference(run, len(maps))))
        if arguments.keras_python:
            for name, mixed in (("Keras, float32", False), ("Keras, bfloat16", True)):
                peers.setdefault(name, []).append(peer(arguments.keras_python, maps, 2, mixed=mixed))
    peak = {"bfloat16": gemm(torch.bfloat16), "float32": gemm(torch.float32)}
    for name, found in timed.items():
        step, path, rate = (median([one[k] for one in found]) for k in range(3))
        share = ""
        if name.startswith("Table"):
            share = f"{100 * 2.65 * FORWARD * BATCH / step / peak[name.split()[-1]]:.0f} % of GEMM"
        results[name] = {"step": step, "input path": path, "rate": rate, "grid, hours": GRID * step / BATCH / 3600}
        lines.append((name, f"{1e3 * step:.0f} ms", f"{100 * path:.1f} %", f"{rate:.0f}/s", share))
    for name, found in peers.items():
        results[name] = {"step": median([one["step"] for one in found]), "rate": median([one["rate"] for one in found])}
        lines.append((name, f"{1e3 * results[name]['step']:.0f} ms", "", f"{results[name]['rate']:.0f}/s", ""))
        for precision in dict.fromkeys((name.split()[-1], "bfloat16")):
            ours = timed[f"Table A2, {precision}"]
            train = ratio([one["step"] for one in found], [one[0] for one in ours])
            infer = ratio([one[2] for one in ours], [one["rate"] for one in found])
            results[f"{precision} over {name}"] = {"training": train, "inference": infer}
            lines.append((f"{precision}: times {name}", said(train), "", said(infer), ""))
    if arguments.predict:
        results["predict"] = {"maps": arguments.predict, "seconds": (taken := predictions(maps, arguments.predict))}
        rate = f"{arguments.predict / taken:.0f}/s"
        lines.append((f"predict {arguments.predict} maps, five small networks", "", f"{taken:.0f} s", rate, ""))
    seconds, sampled, off = posteriors(100_000)
    results["posterior"] = {"exact": seconds, "sampled": sampled, "largest difference in standard errors": off}
    times = f"{sampled / seconds:.0f} times"
    told = f"5 x 1000 samples {sampled:.1f} s"
    lines.append(("posterior of 1e5 maps, five members", f"{1e3 * seconds:.1f} ms", told, times, f"{off:.1f} sigma"))
    finish(arguments.out, "map_networks", results, lines)


if __name__ == "__main__":
    main()
