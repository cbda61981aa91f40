"""Training on the TNG100 table: five members at once against five Keras networks one after another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import finish, median, options, ratio

from galineage.models import make_estimator
from galineage.sources import open_source
from galineage.training import DEFAULT_FEATURES, fit_estimator, recommended_config
from galineage.training.rows import member_rows

MEMBERS = 5
PEER = Path(__file__).parent / "peers" / "keras_networks.py"
# how a Keras user may compile a model: the default, with XLA, with all steps of an epoch in one call, and on JAX
WAYS = {
    "TensorFlow": ("tensorflow", False, False),
    "TensorFlow, XLA": ("tensorflow", True, False),
    "TensorFlow, whole epochs": ("tensorflow", False, True),
    "JAX": ("jax", True, False),
}


@dataclass
class Task:
    """One preset on the table: the same rows, split, epochs and batches for everybody."""

    preset: str
    epochs: int
    folder: Path

    def __post_init__(self) -> None:
        table = np.load(self.folder / "table.npz")
        self.x, self.y = table["x"], table["y"]
        config = recommended_config(self.preset)
        # patience beyond the last epoch: nobody stops early
        self.config = replace(
            config, max_epochs=self.epochs, patience=self.epochs + 1, validation_split="shared", device="cpu"
        )
        train, valid = (rows[0].numpy() for rows in member_rows(len(self.y), None, MEMBERS, self.config))
        scaled = ((self.x - self.x.mean(0)) / self.x.std(0)).astype(np.float32)
        y = self.y.astype(np.float32)
        np.savez(
            self.folder / f"{self.preset}.npz", x=scaled[train], y=y[train], x_valid=scaled[valid], y_valid=y[valid]
        )
        self.steps = len(train) // self.config.batch_size + (len(train) % self.config.batch_size > 0)

    def ours(self) -> dict[str, Any]:
        """Train the ensemble."""
        estimator = make_estimator(self.preset, DEFAULT_FEATURES, members=MEMBERS, seed=1)
        start, used = time.perf_counter(), time.process_time()
        result = fit_estimator(estimator, self.x, self.y, self.config, progress=False)
        seconds, used = time.perf_counter() - start, time.process_time() - used
        losses = [result.history[-1][f"val_loss_{member}"] for member in range(MEMBERS)]
        return {"seconds": seconds, "cpu": used, "epoch": seconds / self.epochs / MEMBERS, "losses": losses}

    def peer(self, python: str, way: str) -> dict[str, Any] | None:
        """Train five Keras networks in their own interpreter; None if that backend is not there."""
        backend, jit, whole = WAYS[way]
        estimator: Any = make_estimator(self.preset, DEFAULT_FEATURES, members=MEMBERS)
        settings = {
            **estimator.settings(),
            "features": len(DEFAULT_FEATURES),
            "outputs": estimator.head.outputs,
            "learning_rate": self.config.learning_rate,
            "clip_norm": self.config.clip_norm,
            "batch_size": self.config.batch_size,
            "epochs": self.epochs,
            "jit": jit,
            "steps_per_execution": self.steps if whole else 1,
        }
        path = self.folder / "settings.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        arguments = [python, str(PEER), str(self.folder / f"{self.preset}.npz"), str(path)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{way}: not measured ({done.stderr.strip().splitlines()[-1]})", file=sys.stderr)
            return None
        return json.loads(done.stdout.strip().splitlines()[-1])


def compare(task: Task, python: str, ways: list[str], rounds: int) -> dict[str, Any]:
    """Let everybody train in turn, as often as there are rounds."""
    ways = list(ways)
    found: dict[str, list[dict[str, Any]]] = {}
    task.ours()  # the first run loads and, once for a machine, compiles
    for _ in range(rounds):
        found.setdefault("galineage", []).append(task.ours())
        for way in list(ways):
            answer = task.peer(python, way)
            if answer is None:
                ways.remove(way)
            else:
                found.setdefault(way, []).append(answer)
    return {
        name: {
            "seconds": [run["seconds"] for run in runs],
            "cpu_seconds": [run["cpu"] for run in runs],
            "seconds_per_epoch_of_five": [run["epoch"] * MEMBERS for run in runs],
            "validation_losses": [loss for run in runs for loss in run["losses"]],
            "versions": runs[0].get("versions", {}),
        }
        for name, runs in found.items()
    }


def early_stopping(preset: str, folder: Path) -> dict[str, Any]:
    """Train an ensemble as `galineage train` does, until every member has stopped."""
    table = np.load(folder / "table.npz")
    config = replace(recommended_config(preset), device="cpu")
    estimator = make_estimator(preset, DEFAULT_FEATURES, members=MEMBERS, seed=1)
    start = time.perf_counter()
    result = fit_estimator(estimator, table["x"], table["y"], config, progress=False)
    return {
        "seconds": time.perf_counter() - start,
        "epochs": result.epochs,
        "validation_loss": float(np.mean(result.best_loss)),
    }


def table_of(presets: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows to print: seconds and ratios in all, the same for an epoch once compiled, losses with their scatter."""
    rows = [
        (
            "five networks",
            "s in all",
            "times",
            "low",
            "high",
            "CPU s",
            "times",
            "ms per epoch",
            "times",
            "validation loss",
            "scatter",
        )
    ]
    for preset, result in presets.items():
        ours = result["ways"]["galineage"]
        for name, way in result["ways"].items():
            whole = ratio(way["seconds"], ours["seconds"])
            epoch = ratio(way["seconds_per_epoch_of_five"], ours["seconds_per_epoch_of_five"])
            losses = way["validation_losses"]
            rows.append(
                (
                    f"{preset}, {result['epochs']} epochs of batches of {result['batch_size']}: {name}",
                    f"{median(way['seconds']):.1f}",
                    *(f"{whole[key]:.1f}" for key in ("median", "low", "high")),
                    f"{median(way['cpu_seconds']):.1f}",
                    f"{median(way['cpu_seconds']) / median(ours['cpu_seconds']):.1f}",
                    f"{median(way['seconds_per_epoch_of_five']) * 1e3:.0f}",
                    f"{epoch['median']:.1f}",
                    f"{np.mean(losses):.3f}",
                    f"{np.std(losses):.3f}",
                )
            )
    return rows


def main() -> None:
    """Run, write, print."""
    parser = options(__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GALINEAGE_TEST_DATA", beside)))
    parser.add_argument("--keras-python", help="interpreter with Keras, TensorFlow and, if wanted, JAX")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--presets", nargs="+", choices=("paper", "mdn"), default=["paper", "mdn"])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    chosen = parser.parse_args()
    path = chosen.data / "catalogs" / "properties_tng.h5py"
    if not path.exists() or not chosen.keras_python:
        missing = "--keras-python PYTHON (pip install tensorflow keras jax)" if path.exists() else f"the table {path}"
        print(f"not measured: needs {missing}")
        return
    torch.set_num_threads(chosen.threads)
    galaxies = open_source(path).read().complete([*DEFAULT_FEATURES, "f_ex"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "table.npz", x=galaxies.features(DEFAULT_FEATURES), y=np.asarray(galaxies["f_ex"]))
        found: dict[str, Any] = {}
        for preset in chosen.presets:
            task = Task(preset, chosen.epochs, folder)
            ways = compare(task, chosen.keras_python, chosen.ways, chosen.rounds)
            found[preset] = {"epochs": chosen.epochs, "batch_size": task.config.batch_size, "ways": ways}
        stopped = {preset: early_stopping(preset, folder) for preset in ("paper", "mdn", "flow")}
    finish(
        chosen.out,
        "keras_ensemble",
        {"galaxies": len(galaxies), "presets": found, "early stopping": stopped},
        table_of(found),
    )
    for preset, result in stopped.items():
        print(f"{preset} with early stopping: {result['seconds']:.1f} s, {result['epochs']} epochs")


if __name__ == "__main__":
    main()
