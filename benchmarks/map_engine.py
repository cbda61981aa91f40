"""Maps from stars: the engine against the authors' route with scipy and numpy, and its inner loop against C.

The authors' route is written after their public code: six times for each view project, `numpy.histogram2d`,
`scipy.stats.binned_statistic_2d` and a percentile by `collections.Counter`; then logarithm, clip, fill, smoothing with
`scipy.ndimage` and standardising of five maps. One thread, BLAS too (rotations are fastest so), and processor time.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import alternate, finish, median, options, peak_mib, ratio, seconds
from scipy import stats
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits

from galineage.stars import Galaxy, Stars
from galineage.views import make_maps, polyhedron, refine
from galineage.views.kernel import deposit_fast, deposit_plain, new_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from galineage.views import View

SIDE, VIEWS = 128, 12
SOURCE = Path(__file__).parent / "peers" / "deposit.c"


def galaxy(count: int, seed: int = 0) -> Galaxy:
    """Exponential disc that turns, and a Hernquist spheroid of a third of the stars."""
    rng = np.random.default_rng(seed)
    disc = count * 2 // 3
    radius, angle = rng.gamma(2.0, 2.0, disc), rng.uniform(0, 2 * np.pi, disc)
    speed = 200 * np.tanh(radius / 2)
    position, velocity = np.zeros((count, 3)), rng.normal(0, 60, (count, 3))
    position[:disc] = np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.normal(0, 0.4, disc)], axis=1)
    velocity[:disc] += np.stack([-speed * np.sin(angle), speed * np.cos(angle), np.zeros(disc)], axis=1)
    way = rng.standard_normal((count - disc, 3))
    root = np.sqrt(rng.uniform(0, 0.95, count - disc))
    position[disc:] = way / np.linalg.norm(way, axis=1, keepdims=True) * (1.2 * root / (1 - root))[:, np.newaxis]
    order = rng.permutation(count)
    stars = Stars(
        position=position[order],
        velocity=velocity[order],
        mass=rng.uniform(0.5e6, 2e6, count),
        metallicity=rng.uniform(0.001, 0.04, count),
        age=rng.uniform(0, 13, count),
    )
    return Galaxy(id=f"made-up-{count}", domain="benchmark", r_half=4.0, stars=stars)


# ---- the authors' route


def nearest_rank(count: Any) -> float:
    """75th percentile of the counts in all pixels, found as they do: by counting values, for every percentile."""
    values = sorted(Counter(count.flat).items())
    number, at, position = count.size, 0, values[0][1]
    found = {}
    for percent in range(100):
        while position <= percent / 100 * number and at < len(values) - 1:
            at += 1
            position += values[at][1]
        found[percent] = values[at][0]
    return float(found[75])


def authors_map(stars: Stars, view: View, r_half: float, values: Any, statistic: str) -> Any:
    """One map: project, count, bin, mask."""
    place = np.matmul(view.matrix, stars.position.transpose()).transpose()
    bins = np.linspace(-2 * r_half, 2 * r_half, SIDE + 1)
    count = np.histogram2d(place[:, 1], place[:, 0], bins=[bins, bins])[0]
    image = stats.binned_statistic_2d(place[:, 1], place[:, 0], values, statistic=statistic, bins=[bins, bins])[0]
    image[count <= max(nearest_rank(count), 2)] = np.nan
    return image


def authors_maps(one: Galaxy, view: View) -> list[Any]:
    """Six maps of one view."""
    stars = one.stars
    systemic = np.zeros((len(stars), 3))  # a row for each star, as theirs

    def velocities() -> Any:
        return -np.matmul(view.matrix, (stars.velocity - systemic).transpose()).transpose()[:, 2]

    mass = authors_map(stars, view, one.r_half, stars.mass, "sum")
    velocity = authors_map(stars, view, one.r_half, velocities(), "mean")
    sigma = authors_map(stars, view, one.r_half, velocities(), "std")
    metals = authors_map(stars, view, one.r_half, stars.mass * stars.metallicity / 0.0127, "sum") / mass
    formation = authors_map(stars, view, one.r_half, stars.mass * stars.age, "sum") / mass
    age = authors_map(stars, view, one.r_half, stars.mass * stars.age, "sum") / mass
    return [mass, velocity, sigma, metals, age, formation]


def authors_refined(maps: list[Any]) -> Any:
    """Five maps of one view, ready for the network."""
    out = []
    for index, image in enumerate(maps[:5]):
        if index in (0, 3):
            image[image == 0] = 1
            image = np.log10(image)
        limit = min(abs(np.nanmin(image)), abs(np.nanmax(image)), 250) if index == 1 else None
        low, high = {1: (-limit if limit else None, limit), 2: (None, 350), 3: (-1, 1)}.get(index, (None, None))
        image = image.clip(low, high) if low is not None or high is not None else image
        image[~np.isfinite(image)] = 0
        smooth = gaussian_filter(image, sigma=0.6).astype(np.float32)
        out.append((smooth - smooth.mean(dtype=float)) / max(smooth.std(dtype=float), 1 / SIDE))
    return np.stack(out)


# ---- C


def compiled_c(folder: Path) -> dict[str, Callable[..., Callable[[], None]]]:
    """Return the C versions, compiled by the system's compiler; empty where there is none.

    Without ``-fno-trapping-math`` GCC finds no vector instructions for the projection: with it, C is at its best.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return {}
    found = {}
    for name, symbol, more in (
        ("C", "deposit_loop", []),
        ("C, no traps", "deposit_loop", ["-fno-trapping-math"]),
        ("C, vector types", "deposit_vectors", ["-fno-trapping-math"]),
    ):
        library = folder / f"deposit{len(found)}.so"
        flags = ["-O3", "-march=native", "-shared", "-fPIC", *more]
        subprocess.run([compiler, *flags, str(SOURCE), "-o", str(library)], check=True)
        found[name] = foreign(getattr(ctypes.CDLL(str(library)), symbol))
    return found


def foreign(function: Any) -> Callable[..., Callable[[], None]]:
    """Return what binds a C function to its arrays, so that a call costs as little as it can from Python."""
    function.restype = None

    def bind(motion: Any, record: Any, camera: Any, grid: Any) -> Callable[[], None]:
        arrays = [ctypes.c_void_p(array.ctypes.data) for array in (motion, record, camera, grid)]
        given = (*arrays[:3], ctypes.c_int64(len(record)), ctypes.c_int64(SIDE), arrays[3])
        return lambda: function(*given)

    return bind


def ours(function: Any) -> Callable[..., Callable[[], None]]:
    """Return what binds one of our kernels to its arrays."""
    return lambda motion, record, camera, grid: lambda: function(motion, record, camera, SIDE, grid)


def as_kernels_want(count: int) -> tuple[Any, Any, list[Any]]:
    """Return stars and six cameras as arrays of float32."""
    stars = galaxy(count).stars
    motion = np.ascontiguousarray(np.concatenate([stars.position.T, stars.velocity.T]), dtype=np.float32)
    record = np.stack([np.ones(count), stars.mass, stars.mass * stars.metallicity, stars.mass * stars.age], axis=1)
    offset = [[SIDE / 2], [SIDE / 2], [0]]
    cameras = [np.concatenate([view.matrix * 8, offset], axis=1) for view in polyhedron(6, seed=1)]
    return motion, record.astype(np.float32), [camera.astype(np.float32) for camera in cameras]


def kernels(counts: list[int], rounds: int) -> list[dict[str, Any]]:
    """Nanoseconds for each star and view of every kernel; all make the same grid."""
    with tempfile.TemporaryDirectory() as folder:
        variants = {"engine": ours(deposit_fast), "fallback": ours(deposit_plain), **compiled_c(Path(folder))}
        return [kernels_at(count, variants, rounds) for count in counts]


def kernels_at(count: int, variants: dict[str, Callable[..., Callable[[], None]]], rounds: int) -> dict[str, Any]:
    """Compare the kernels at one number of stars."""
    motion, record, cameras = as_kernels_want(count)
    repeats = max(1, 3_000_000 // count // len(cameras))
    grids = {name: new_grid(SIDE, SIDE) for name in variants}
    calls = {name: [bind(motion, record, camera, grids[name]) for camera in cameras] for name, bind in variants.items()}
    for name, bound in calls.items():
        bound[0]()
        # multiplications fused with additions may put a star on an edge into the pixel beside
        if np.abs(grids[name][:, 0] - grids["engine"][:, 0]).sum() > 2 + count / 50_000:
            raise RuntimeError(f"{name} disagrees with the engine")

    def run(name: str) -> None:
        for _ in range(repeats):
            for call in calls[name]:
                call()

    work = {name: (lambda name=name: run(name)) for name in variants}
    taken = alternate(work, rounds, time.process_time)
    best = min((name for name in variants if name.startswith("C")), key=lambda name: median(taken[name]), default="")
    each = repeats * len(cameras) * count
    return {
        "stars": count,
        "ns per star and view": {name: median(values) / each * 1e9 for name, values in taken.items()},
        "fastest C": best,
        "engine over fastest C": ratio(taken["engine"], taken[best]) if best else None,
    }


# ---- whole


def compare(count: int, rounds: int) -> dict[str, Any]:
    """Processor seconds of twelve views of one galaxy by both routes, and how far their maps agree."""
    one, views = galaxy(count), polyhedron(VIEWS)
    found: dict[str, Any] = {"their maps": [], "their refined": []}

    def engine() -> None:
        maps = make_maps(one, views)
        found["maps"], found["refined"] = maps, refine(maps)

    def authors(view: View) -> None:
        maps = authors_maps(one, view)
        found["their maps"].append([image.copy() for image in maps[:5]])
        found["their refined"].append(authors_refined(maps))

    engine()
    taken: dict[str, list[float]] = {"authors": [], "engine": []}
    for turn in range(rounds + 1):
        found["their maps"], found["their refined"] = [], []
        slow, quick = 0.0, []
        # the engine makes all views in the time of a tenth of one of theirs: it takes a few turns after each of them
        for view in views:
            slow += seconds(lambda view=view: authors(view), time.process_time)
            quick += [seconds(engine, time.process_time) for _ in range(4)]
        if turn:
            taken["authors"].append(slow)
            taken["engine"].append(median(quick))
    found["their maps"], found["their refined"] = np.array(found["their maps"]), np.array(found["their refined"])
    maps, refined = found["maps"], found["refined"]
    kept = ~np.isnan(found["their maps"][:, 0])
    same = kept == refined.mask
    both = kept & refined.mask
    # a star on an edge between two pixels changes both; what is compared is the bulk
    apart = np.abs(np.stack([maps["velocity"], maps["sigma"]], axis=1) - found["their maps"][:, 1:3])
    difference = np.abs(refined.values - found["their refined"]).max(axis=1)
    parts = {"maps": median([seconds(lambda: make_maps(one, views), time.process_time) for _ in range(25)]),
             "refinement": median([seconds(lambda: refine(maps), time.process_time) for _ in range(25)])}  # fmt: skip
    return {
        "stars": count, "views": VIEWS, "seconds": {name: median(values) for name, values in taken.items()},
        "times faster": ratio(taken["authors"], taken["engine"]), "engine seconds": parts,
        "pixels of the masks that differ": int((~same).sum()),
        "velocity and dispersion, 99.9 % within km/s": float(np.quantile(np.moveaxis(apart, 1, -1)[both], 0.999))
        if both.any() else 0.0,
        "refined, 99.9 % within": float(np.quantile(difference, 0.999)),
    }  # fmt: skip


def threads(count: int, number: int, rounds: int) -> dict[str, Any]:
    """Galaxies a second on one thread and on ``number``: the loops let other threads run."""
    many, views = [galaxy(count, seed) for seed in range(24)], polyhedron(VIEWS)

    def one(each: Galaxy) -> None:
        refine(make_maps(each, views))

    def alone() -> None:
        for each in many:
            one(each)

    with ThreadPoolExecutor(number) as pool:
        taken = alternate({"one": alone, "all": lambda: list(pool.map(one, many))}, rounds)
    return {
        "stars": count, "threads": number, "galaxies per second on one": len(many) / median(taken["one"]),
        "times faster on all": ratio(taken["one"], taken["all"]),
    }  # fmt: skip


def main() -> None:
    """Run the comparisons and write ``map_engine.json``."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000], help="kernel")
    parser.add_argument("--whole", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="twelve views")
    arguments = parser.parse_args()
    with threadpool_limits(1):
        inner = kernels(arguments.stars, arguments.rounds)
        whole = [compare(count, arguments.rounds) for count in arguments.whole]
        together = threads(30_000, arguments.threads, arguments.rounds)
    table = [("kernel, stars", *inner[0]["ns per star and view"], "engine / C", "range")]
    for each in inner:
        over = each["engine over fastest C"]
        table.append((
            f"{each['stars']:,}", *(f"{value:.2f} ns" for value in each["ns per star and view"].values()),
            f"{over['median']:.2f}" if over else "-", f"{over['low']:.2f}-{over['high']:.2f}" if over else "-",
        ))  # fmt: skip
    lines = [("12 views x 5 maps, stars", "authors", "engine", "times faster", "range", "masks differ")]
    for each in whole:
        s, fast = each["seconds"], each["times faster"]
        lines.append((
            f"{each['stars']:,}", f"{s['authors']:.2f} s", f"{s['engine'] * 1e3:.2f} ms", f"{fast['median']:.0f}",
            f"{fast['low']:.0f}-{fast['high']:.0f}", str(each["pixels of the masks that differ"]),
        ))  # fmt: skip
    width = max(len(table[0]), len(lines[0]))
    rows = [tuple(row) + ("",) * (width - len(row)) for row in (*table, *lines)]
    finish(
        arguments.out, "map_engine",
        {"kernel": inner, "whole": whole, "threads": together, "peak MiB": peak_mib()}, rows,
    )  # fmt: skip
    print(f"{together['threads']} threads over galaxies: {together['times faster on all']['median']:.2f} times one, "
          f"{together['galaxies per second on one']:.0f} galaxies a second on one")  # fmt: skip


if __name__ == "__main__":
    main()
