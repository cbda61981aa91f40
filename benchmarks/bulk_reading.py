"""Reading many galaxies from TNG-layout files, in one pass against one call for each galaxy and field; scaling of maps.

The peer is illustris_python's ``loadSubhalo``, called as the authors' map maker does: once for each field. Both have
read before which galaxies there are; one row shows what that adds to ours.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import alternate, finish, median, options, ratio

from galineage.sources.native import TngSource
from galineage.sources.native.bulk import Wanted, read_rows
from galineage.stars import Galaxy
from galineage.toy import write_tng_box

FIELDS = (
    "Coordinates",
    "Velocities",
    "Masses",
    "GFM_Metallicity",
    "GFM_StellarFormationTime",
    "GFM_InitialMass",
    "Potential",
)
REPEATS = 5
"""Ours is done so many times in a turn, whose mean counts: it takes a hundredth of what the peer does."""

SCALED = """
import resource, sys, time
from galineage.sources.native import TngSource
from galineage.store.prepare import prepare
from galineage.store.settings import StoreConfig
from galineage.views import MapConfig
source = TngSource(sys.argv[1], 99, "toy-a")
start = time.perf_counter()
config = StoreConfig(maps=MapConfig(pixels=64), views=4)
store = prepare(source, source.catalogue(), sys.argv[2], config, progress=False)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(store))
"""


def planned(box: Path) -> TngSource:
    """Return the source with its catalogue and headers read, which the peer's numbers leave out too."""
    source = TngSource(box, 99, "toy-a")
    _ = source.subhaloes, source.chunks
    return source


def rows_only(source: TngSource) -> int:
    """Read every galaxy's rows in one pass, as they are in the files: what the peer does."""
    every = source.subhaloes
    wanted = [Wanted(k, int(every.first_star[k]), int(every.stars[k])) for k in range(len(every))]
    return sum(len(found["Masses"]) for _, found in read_rows(source.chunks, "PartType4", FIELDS, wanted) if found)


def ours(source: TngSource) -> int:
    """Read every galaxy in one pass, into physical units; each is let go of, as the peer does."""
    return sum(len(one.stars) for one in source.galaxies(source.subhaloes.id) if isinstance(one, Galaxy))


def peer(box: Path, ids: list[int]) -> int:
    """Read every field of every galaxy with a call of its own; nothing is converted."""
    import illustris_python as il

    total = 0
    for number in ids:
        for field in FIELDS:
            found = il.snapshot.loadSubhalo(str(box / "output"), 99, number, "stars", fields=[field])
        total += len(found)
    return total


def reading(arguments: Any, folder: Path) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Compare the two on contiguous and on compressed files."""
    results: dict[str, Any] = {}
    rows = [("reading", "galaxies", "ours s", "peer s", "times", "lowest", "highest", "ours ns/star")]
    ways = {"rows": rows_only, "galaxies in physical units, checked": ours}
    for name, compression in (("raw", None), ("gzip", "gzip")):
        box = write_tng_box(
            folder / name, "toy-a", arguments.galaxies, 1, stars=arguments.stars, chunks=16, compression=compression
        )
        source = planned(box)
        ids = [int(one) for one in source.subhaloes.id]
        stars = ours(source)
        works = {way: lambda source=source, work=work: work(source) for way, work in ways.items()}
        works["rows, catalogue and headers too"] = lambda box=box: rows_only(planned(box))
        turns = {way: lambda work=work: [work() for _ in range(REPEATS)] for way, work in works.items()}
        taken = alternate({**turns, "peer": lambda box=box, ids=ids: peer(box, ids)}, arguments.rounds)
        for way in works:
            taken[way] = [one / REPEATS for one in taken[way]]
            times = ratio(taken["peer"], taken[way])
            results[f"{name}, {way}"] = {"seconds": taken[way], "peer": taken["peer"], "ratio": times, "stars": stars}
            mine, theirs = median(taken[way]), median(taken["peer"])
            rows.append((
                f"{name}: {way}", str(len(ids)), f"{mine:.2f}", f"{theirs:.2f}", f"{times['median']:.1f}",
                f"{times['low']:.1f}", f"{times['high']:.1f}", f"{mine / stars * 1e9:.0f}",
            ))  # fmt: skip
    return results, rows


def scaling(arguments: Any, folder: Path) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Seconds and peak memory of making a store, from few galaxies to many, each in a process of its own."""
    results: dict[str, Any] = {}
    rows = [("maps", "galaxies", "s", "ms per galaxy", "peak MiB", "", "", "")]
    for count in arguments.counts:
        box = write_tng_box(folder / f"scale{count}", "toy-a", count, 1, stars=2000, chunks=16)
        start = time.perf_counter()
        run = [sys.executable, "-c", SCALED, str(box), str(folder / f"maps{count}")]
        seconds, peak, maps = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
        results[str(count)] = {
            "seconds": float(seconds), "peak MiB": float(peak), "maps": int(maps), "wall": time.perf_counter() - start
        }  # fmt: skip
        each = 1e3 * float(seconds) / count
        rows.append(
            ("store of maps", str(count), f"{float(seconds):.1f}", f"{each:.1f}", f"{float(peak):.0f}", "", "", "")
        )
    return results, rows


def main() -> None:
    """Run, write, print."""
    parser = options(__doc__)
    parser.add_argument("--galaxies", type=int, default=200)
    parser.add_argument("--stars", type=int, default=29_000, help="of each galaxy")
    parser.add_argument("--counts", type=int, nargs="+", default=[200, 600, 2000], help="galaxies of the stores")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found, rows = reading(arguments, Path(name))
        scaled, more = scaling(arguments, Path(name))
    finish(arguments.out, "bulk_reading", {"reading": found, "scaling": scaled}, [*rows, *more])


if __name__ == "__main__":
    main()
