"""Exact nearest neighbours: ours against scikit-learn's brute force, L1 and L2, on rows as wide as representations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from measuring import finish, median, options, peak_mib, seconds
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from galineage.shift import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = {1: "manhattan", 2: "euclidean"}


def rows(kind: str, count: int, width: int, seed: int) -> NDArray[np.float32]:
    """Made-up rows: independent normals, the hardest case; or 16 latent numbers seen through a bend."""
    rng = np.random.default_rng(seed)
    if kind == "normal":
        return rng.standard_normal((count, width), dtype=np.float32)
    mixing = np.random.default_rng(7).standard_normal((16, width))
    latent = rng.standard_normal((count, 16)) @ mixing
    return np.tanh(latent / 4 + 0.1 * rng.standard_normal((count, width))).astype(np.float32)


def compare(kind: str, p: int, arguments: Any, queries: int) -> dict[str, Any]:
    """Alternate both on parts of the queries; check that they agree; sum up the seconds of the parts."""
    reference, x = (
        rows(kind, count, arguments.width, seed) for seed, count in ((1, arguments.reference), (2, queries))
    )
    k = arguments.k
    peer = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=METRICS[p], n_jobs=-1).fit(reference)
    nearest(x[:10], reference[:100], k, p=p)  # compiles
    taken: dict[str, list[float]] = {"galineage": [], "scikit-learn": []}
    spent: dict[str, list[float]] = {"galineage": [], "scikit-learn": []}
    found: dict[str, Any] = {}
    worst, alike = 0.0, 0.0
    for start in range(0, queries, arguments.part):
        part = x[start : start + arguments.part]

        def ours(part: Any = part) -> None:
            found["galineage"] = nearest(part, reference, k, p=p)

        def theirs(part: Any = part) -> None:
            found["scikit-learn"] = peer.kneighbors(part)

        for name, work in (("galineage", ours), ("scikit-learn", theirs)):
            before = time.process_time()
            taken[name].append(seconds(work))
            spent[name].append(time.process_time() - before)
        (d, i), (d_peer, i_peer) = found["galineage"], found["scikit-learn"]
        worst = max(worst, float(np.abs(d / d_peer - 1).max()))
        alike += float((np.sort(i, axis=1) == np.sort(i_peer, axis=1)).all(axis=1).sum())
        print(f"{kind} p={p}: {start + len(part)} of {queries}: "
              + ", ".join(f"{name} {taken[name][-1]:.1f} s ({spent[name][-1]:.1f} s of processors)" for name in taken),
              flush=True)  # fmt: skip
    ratios = [slow / fast for slow, fast in zip(taken["scikit-learn"], taken["galineage"], strict=True)]
    return {
        "rows": kind, "p": p, "queries": queries, "reference": arguments.reference, "width": arguments.width, "k": k,
        "seconds": {name: sum(values) for name, values in taken.items()},
        "processor seconds": {name: sum(values) for name, values in spent.items()},
        "ratio": {"whole": sum(taken["scikit-learn"]) / sum(taken["galineage"]), "median of parts": median(ratios),
                  "low": min(ratios), "high": max(ratios),
                  "of processor seconds": sum(spent["scikit-learn"]) / sum(spent["galineage"])},
        "largest relative difference of distances": worst, "same neighbour sets": alike / queries,
    }  # fmt: skip


def main() -> None:
    """Run the comparisons and write ``neighbours.json``."""
    parser = options(__doc__)
    parser.add_argument("--reference", type=int, default=60_000, help="reference rows")
    parser.add_argument("--queries", type=int, default=3_000, help="queries; 60000 takes a quarter of an hour for L1")
    parser.add_argument("--part", type=int, default=1_500, help="queries at a time: the two take turns")
    parser.add_argument("--p", type=int, nargs="+", choices=(1, 2), default=[1, 2], help="kinds of distance")
    parser.add_argument("--rows", nargs="+", choices=("normal", "latent"), default=["normal", "latent"], help="data")
    parser.add_argument("--width", type=int, default=256, help="columns")
    parser.add_argument("--k", type=int, default=8, help="neighbours")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = [
        (
            "rows",
            "p",
            "queries",
            "galineage s",
            "scikit-learn s",
            "times",
            "range",
            "times, processors",
            "distances within",
        )
    ]
    results = []
    with threadpool_limits(arguments.threads):
        for kind in arguments.rows:
            for p in arguments.p:
                one = compare(kind, p, arguments, arguments.queries if kind == "normal" else arguments.queries // 2)
                results.append(one)
                s, ratio = one["seconds"], one["ratio"]
                table.append((
                    kind, str(p), str(one["queries"]), f"{s['galineage']:.1f}", f"{s['scikit-learn']:.1f}",
                    f"{ratio['whole']:.1f}", f"{ratio['low']:.1f}-{ratio['high']:.1f}",
                    f"{ratio['of processor seconds']:.1f}",
                    f"{one['largest relative difference of distances']:.0e}",
                ))  # fmt: skip
    finish(arguments.out, "neighbours", {"comparisons": results, "peak MiB": peak_mib()}, table)


if __name__ == "__main__":
    main()
