"""Quantiles of many posteriors: ours against pooled samples and against a root finder galaxy by galaxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from measuring import alternate, finish, median, options, peak_mib, ratio, seconds
from scipy.optimize import brentq
from scipy.special import ndtr

from galineage.models import Estimator, make_estimator
from galineage.prediction import summarise
from galineage.training import TrainConfig, fit_estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
LEVELS = (0.16, 0.5, 0.84)
DRAWS = 1000


def trained(x: NDArray[np.float64], seed: int) -> Estimator:
    """Return a five-member ``mdn`` with a few epochs on made-up data, so that its posteriors have shapes."""
    rng = np.random.default_rng(seed)
    middle = 1 / (1 + np.exp(-1.5 * x[:, 0] - 0.5 * x[:, 1] * x[:, 2]))
    low_branch = rng.random(len(x)) < 0.3
    y = np.clip(np.where(low_branch, 0.4 * middle, middle) + 0.05 * rng.standard_normal(len(x)), 0, 1)
    estimator = make_estimator("mdn", FEATURES, members=5, seed=seed)
    fit_estimator(estimator, x, y, TrainConfig(max_epochs=15, device="cpu", seed=seed), progress=False)
    return estimator


class Mixture:
    """The pooled mixture of each galaxy in float64, from the same network outputs."""

    def __init__(self, estimator: Estimator, x: NDArray[np.float64]) -> None:
        with torch.inference_mode():
            found: Any = estimator(torch.from_numpy(x.astype(np.float32)))
        weights, loc, scale = (
            part.double().movedim(0, 1).flatten(1).numpy() for part in (found.log_weights.exp(), found.loc, found.scale)
        )
        self.link, self.loc, self.scale = found.link, loc, scale
        self.below = ndtr((-self.link.limit - loc) / scale)
        mass = ndtr((self.link.limit - loc) / scale) - self.below
        self.share = weights / weights.sum(1, keepdims=True) / mass

    def cdf(self, y: Any, rows: Any = slice(None)) -> Any:
        """Exact distribution function of some rows at y."""
        margin = self.link.margin
        u = np.log((y + margin) / (1 - y + margin))
        part = ndtr((u - self.loc[rows]) / self.scale[rows]) - self.below[rows]
        return (self.share[rows] * part).sum(-1)

    def inverted(self) -> NDArray[np.float64]:
        """Quantiles (q, n) by 50 bisections in float64: the reference."""
        found = []
        for level in LEVELS:
            low, high = np.zeros((len(self.loc), 1)), np.ones((len(self.loc), 1))
            for _ in range(50):
                middle = 0.5 * (low + high)
                under = (self.cdf(middle) < level)[:, None]
                low, high = np.where(under, middle, low), np.where(under, high, middle)
            found.append(0.5 * (low + high)[:, 0])
        return np.stack(found)


def exact(estimator: Estimator, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quantiles (q, n) with galineage."""
    return summarise(estimator, x, LEVELS, moments=False, mode=False)["quantiles"]


def one_by_one(mixture: Mixture) -> NDArray[np.float64]:
    """Return quantiles (q, n) with scipy's root finder, galaxy by galaxy; the network's share is not counted."""
    return np.array(
        [
            [brentq(lambda y, row=row, level=level: mixture.cdf(y, row) - level, 0, 1, xtol=1e-7) for level in LEVELS]
            for row in range(len(mixture.loc))
        ]
    ).T


class Sampler:
    """The published route: 1,000 samples of each member, pooled, and their percentiles; remembers the last ones."""

    def __init__(self, estimator: Estimator, x: NDArray[np.float64]) -> None:
        self.estimator, self.x = estimator, x
        self.percentile_seconds: list[float] = []
        self.found = np.empty((len(LEVELS), 0))

    def run(self) -> None:
        """Find quantiles (q, n)."""
        parts, spent = [], 0.0
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for rows in torch.from_numpy(self.x.astype(np.float32)).split(500):
                pooled = self.estimator(rows).sample((DRAWS,)).flatten(0, 1).numpy()
                spent += seconds(lambda pooled=pooled: parts.append(np.percentile(pooled, [16, 50, 84], axis=0)))
        self.percentile_seconds.append(spent)
        self.found = np.concatenate(parts, axis=1)


def accuracy(found: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    """Return root mean square and largest distance from the reference."""
    apart = np.abs(found - truth)
    return {"rms": float(np.sqrt((apart**2).mean())), "largest": float(apart.max())}


def main() -> None:
    """Run, write, print."""
    parser = options(__doc__)
    parser.add_argument("--n", type=int, default=1_000_000, help="galaxies of the large run")
    parser.add_argument("--sampled", type=int, default=20_000, help="galaxies sampled, over all rounds that count")
    parser.add_argument("--rooted", type=int, default=300, help="galaxies of the root finder, each round")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rng = np.random.default_rng(1)
    estimator = trained(rng.standard_normal((5000, len(FEATURES))), seed=1)
    x = rng.standard_normal((chosen.n, len(FEATURES)))
    exact(estimator, x[:10_000])

    before = peak_mib()
    whole = seconds(lambda: exact(estimator, x))
    peak = peak_mib()
    part = min(chosen.n, 100_000)
    full = seconds(lambda: summarise(estimator, x[:part]))
    flow, flow_part = make_estimator("flow", FEATURES, members=5, seed=1).eval(), min(chosen.n, 20_000)
    flow_wall = seconds(lambda: exact(flow, x[:flow_part]))

    ours = min(chosen.n, 50_000)
    size = max(1, min(ours, chosen.sampled // chosen.rounds))
    few = max(1, min(size, chosen.rooted, 2000))
    sampler, mixture = Sampler(estimator, x[:size]), Mixture(estimator, x[:few])
    turns = {
        "galineage": lambda: exact(estimator, x[:ours]),
        "samples": sampler.run,
        "brentq": lambda: one_by_one(mixture),
    }
    taken = alternate(turns, chosen.rounds)
    counts = {"galineage": ours, "samples": size, "brentq": few}
    each = {name: [wall / counts[name] for wall in walls] for name, walls in taken.items()}

    # accuracy is measured on as many galaxies as the reference needs seconds for
    check = min(size, 2000)
    truth = Mixture(estimator, x[:check]).inverted()
    errors = {
        "galineage": accuracy(exact(estimator, x[:check]), truth),
        "samples": accuracy(sampler.found[:, :check], truth),
        "brentq": accuracy(one_by_one(mixture), truth[:, :few]),
    }
    percentile = median(value / size for value in sampler.percentile_seconds)
    results = {
        "galaxies": chosen.n,
        "levels": LEVELS,
        "seconds_whole": whole,
        "peak_mib": peak,
        "peak_mib_before": before,
        "full_summary_seconds_per_million": full / part * 1e6,
        "full_summary_galaxies": part,
        "flow_quantiles_seconds_per_million": flow_wall / flow_part * 1e6,
        "flow_galaxies": flow_part,
        "seconds_per_galaxy": each,
        "percentile_alone_seconds_per_galaxy": percentile,
        "ratio_to_galineage": {name: ratio(each[name], each["galineage"]) for name in ("samples", "brentq")},
        "distance_from_float64_inversion": errors,
        "galaxies_per_round": counts,
    }
    rows = [("route", "s per million", "times galineage", "rms error", "largest error")]
    for name, values in each.items():
        times = ratio(values, each["galineage"])["median"]
        error = errors[name]
        rows.append(
            (name, f"{median(values) * 1e6:.1f}", f"{times:.1f}", f"{error['rms']:.1e}", f"{error['largest']:.1e}")
        )
    rows.append(("samples: np.percentile alone", f"{percentile * 1e6:.1f}", "", "", ""))
    finish(chosen.out, "posterior_quantiles", results, rows)
    print(f"{chosen.n:,} galaxies: {whole:.1f} s wall on {chosen.threads} threads; peak memory {peak:.0f} MiB")
    print(f"(before: {before:.0f} MiB). Five quantiles, moments and mode: {full / part * 1e6:.1f} s per million.")
    print(f"Preset flow (untrained, {flow_part:,} galaxies): {flow_wall / flow_part * 1e6:.0f} s per million.")


if __name__ == "__main__":
    main()
