"""What can five numbers tell of f_ex inside one simulation? Other estimators, averages, and fewer galaxies, same folds.

Needs the tables of `galineage run angeloudi2023-catalogue`; takes about ten minutes for both simulations.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from measuring import finish, options
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

import galineage
from galineage.store.splits import folds, split_labels
from galineage.training import TrainConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue

    Array = NDArray[np.float64]

FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
TABLES = {
    "TNG100-1": ("properties_tng.h5py", "tng100", 99),
    "EAGLE": ("properties_eagle.h5py", "eagle", 28),
}
KERNEL_ROWS = 1000
"""Galaxies that the kernel of the Gaussian process is fitted to; the process itself gets all of them."""


def read(folder: Path, simulation: str) -> Catalogue:
    """Return the z = 0 galaxies above 1e10 Msun."""
    file, mapping, snapshot = TABLES[simulation]
    table = galineage.open_source(folder / file, mapping=mapping).read()
    table = table.select((np.asarray(table["snapshot"]) == snapshot) & (np.asarray(table["mstar"]) > 1e10))
    return table.complete([*FEATURES, "f_ex"])


def trained(
    table: Catalogue, part: NDArray[np.int64], preset: str, seed: int, share: float = 1.0, **made: Any
) -> Array:
    """Out-of-fold posterior means (n,) of a preset that learns from a share of the galaxies of the other folds."""
    found = np.full(len(table), np.nan)
    for fold in np.unique(part):
        rows = np.flatnonzero(part != fold)
        rows = np.random.default_rng([seed, fold]).choice(rows, round(share * len(rows)), replace=False)
        rows = np.isin(np.arange(len(table)), rows)
        config = TrainConfig(seed=seed, device="cpu")
        bundle = galineage.train(table.select(rows), FEATURES, preset, config=config, progress=False, **made)
        found[part == fold] = galineage.predict(bundle, table.select(part == fold))["fexsitu_mean"]
    return found


def gaussian_process(table: Catalogue, part: NDArray[np.int64], seed: int) -> Array:
    """Out-of-fold means (n,) of a Gaussian process with one length scale for each input and noise."""
    z, y = table.features(FEATURES), np.asarray(table["f_ex"], dtype=np.float64)
    z = (z - z.mean(0)) / z.std(0)
    few = np.random.default_rng(seed).choice(np.flatnonzero(part != 0), KERNEL_ROWS, replace=False)
    start = ConstantKernel() * Matern([1.0] * z.shape[1], nu=1.5) + ConstantKernel() * RBF([5.0] * z.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound: an input without effect
        kernel = GaussianProcessRegressor(start + WhiteKernel(0.3), normalize_y=True).fit(z[few], y[few]).kernel_
    found = np.full(len(y), np.nan)
    for fold in np.unique(part):
        process = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=None)
        found[part == fold] = process.fit(z[part != fold], y[part != fold]).predict(z[part == fold])
    return found


def ladder(table: Catalogue, seed: int) -> dict[str, float]:
    """R2 of every rung."""
    part = folds(split_labels(table, "root"), 5, 2023)
    y = np.asarray(table["f_ex"], dtype=np.float64)
    made: dict[str, Array] = {}

    def say(name: str, predicted: Array) -> None:
        made[name] = predicted
        print(f"  {name}: R2 {score(predicted):.4f}", flush=True)

    def score(predicted: Array) -> float:
        return float(1 - np.mean((predicted - y) ** 2) / np.var(y))

    say("boosting", trained(table, part, "boosting", seed))
    say("Gaussian process", gaussian_process(table, part, seed))
    say("mdn", trained(table, part, "mdn", seed, members=10))
    for share in (0.125, 0.25, 0.5, 1.0):
        name = "flow" if share == 1 else f"flow, {share:g} of the galaxies"
        say(name, trained(table, part, "flow", seed, share, members=10))
    for names in (("flow", "mdn"), ("flow", "Gaussian process"), ("flow", "mdn", "Gaussian process", "boosting")):
        say("mean of " + ", ".join(names), np.mean([made[name] for name in names], axis=0))
    return {name: score(predicted) for name, predicted in made.items()}


def main() -> None:
    """Climb it for both simulations."""
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("GALINEAGE_TEST_DATA"), help="folder of the tables")
    parser.add_argument("--seed", type=int, default=2023, help="seed of everything but the folds")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = Path(arguments.data) / "catalogs" if arguments.data else None
    if folder is None or not folder.is_dir():
        print("inside_ladder: give the folder of the tables with --data (or GALINEAGE_TEST_DATA); nothing measured")
        return
    found = {}
    for simulation in TABLES:
        table = read(folder, simulation)
        print(f"{simulation}: {len(table)} galaxies")
        found[simulation] = ladder(table, arguments.seed)
    rows = [("R2", *found)]
    rows += [(name, *(f"{found[simulation][name]:.3f}" for simulation in found)) for name in found["EAGLE"]]
    finish(arguments.out, "inside_ladder", {"r2": found}, rows)


if __name__ == "__main__":
    main()
