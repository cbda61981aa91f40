"""Damage the files of toy boxes one at a time and run `galineage prepare` on each; print what came of it as JSON lines.

One process imports everything once; every attempt is a fork of it, so that a crash or an endless loop inside the HDF5
library is seen as what it is. Boxes are in TNG's and in EAGLE's files.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1")

import h5py
import numpy as np

from galineage.cli import main
from galineage.store.consistency import doubts
from galineage.store.map_store import MapStore
from galineage.toy import write_eagle_box, write_tng_box

GALAXIES, STARS = 8, 200
CUTS, FLIPS = 40, 50
SHORT_CUTS, SHORT_FLIPS = 2, 3
"""Of every file."""

DEADLINE = 60
"""Seconds after which an attempt is given up and counts as a crash."""

FILES = {
    "tng": {
        "snapshot": "output/snapdir_099/snap_099.1.hdf5",
        "groups": "output/groups_099/fof_subhalo_tab_099.0.hdf5",
        "offsets": "postprocessing/offsets/offsets_099.hdf5",
        "assembly": "postprocessing/StellarAssembly/galaxies_099.hdf5",
        "star origins": "postprocessing/StellarAssembly/stars_099.hdf5",
        "mergers": "postprocessing/MergerHistory/merger_history_099.hdf5",
        "trees": "postprocessing/trees/SubLink/tree_extended.0.hdf5",
    },
    "tng, gzip": {"snapshot": "output/snapdir_099/snap_099.1.hdf5"},
    "eagle": {
        "snapshot": "snapshot_028_z000p000/snap_028_z000p000.1.hdf5",
        "export": "toy-b_SubHalo.csv",
        "star origins": "star_birth_028.hdf5",
    },
}
"""Which file of a box stands for each kind."""


def write(layout, folder):
    """Write the box of a layout; return its folder."""
    if layout != "eagle":
        compression = "gzip" if "gzip" in layout else None
        return write_tng_box(folder / "toy-a", "toy-a", GALAXIES, 5, STARS, chunks=2, compression=compression)
    return write_eagle_box(folder / "toy-b", "toy-b", GALAXIES, 5, stars=STARS, chunks=2)


def arguments(layout, box, out):
    """Arguments of the command that makes a store of a box."""
    files = FILES[layout]
    given = [str(box), "--snapshot", "99"] if layout != "eagle" else [
        str((box / files["snapshot"]).parent), "--snapshot", "28", "--domain", "toy-b",
        "--export", str(box / files["export"]), "--births", str(box / files["star origins"]),
    ]  # fmt: skip
    return ["prepare", *given, "--pixels", "16", "--views", "1", "--workers", "1", "--out", str(out)]


def prepare(layout, box, out):
    """Run the command; return its status and what it said, or the kind of an exception that nobody caught."""
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        try:
            return main(arguments(layout, box, out)), errors.getvalue()
        except BaseException as error:
            return f"{type(error).__name__}: {error}", errors.getvalue()


def look(out):
    """What a store says of every galaxy: checksums of its maps and of its truths, and whether it is in doubt."""
    store = MapStore(out)
    store.check()
    found, doubtful = {}, {one.id for one in doubts(store)}
    for k, row in enumerate(store.rows):
        maps = hashlib.sha256(store.read([k], "raw").tobytes() + repr(row["r_half"]).encode()).hexdigest()
        truth = {**row["truth"], "root": row["root"]}
        found[row["id"]] = {
            "maps": maps,
            "truth": json.dumps(truth, sort_keys=True),
            "doubtful": row["id"] in doubtful,
            "finite": bool(np.isfinite(store.read([k])).all()),
        }
    return {"galaxies": found, "skipped": [one["id"] for one in store.skipped]}


def in_child(work):
    """Fork, and return what the child's work returned, or by which signal it died."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(DEADLINE)
        try:
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else {"status": f"died of signal {status & 127}", "said": ""}


def attempt(layout, box, out):
    """One run of the command in a fork, and what its store says."""
    shutil.rmtree(out, ignore_errors=True)

    def work():
        status, said = prepare(layout, box, out)
        return {"status": status, "said": said, **(look(out) if status == 0 else {})}

    return in_child(work)


def judged(row, clean):
    """Say in a word what a damage led to, and of how many galaxies what is in the store has changed."""
    if row["status"] != 0:
        crashed = row["status"] != 1 or "Traceback" in row["said"] or "where:" not in row["said"]
        return "crashed" if crashed else "refused", 0
    if not all(one["finite"] for one in row["galaxies"].values()):
        return "not finite", 0
    known, found = clean["galaxies"], row["galaxies"]
    gone = [name for name in known if name not in found and name not in row["skipped"]]
    new = [name for name in found if name not in known]
    maps = [name for name in found if name in known and found[name]["maps"] != known[name]["maps"]]
    truth = [name for name in found if name in known and found[name]["truth"] != known[name]["truth"]]
    changed = {*new, *maps, *truth}
    if gone or changed:
        seen = not gone and all(found[name]["doubtful"] for name in changed)
        what = "maps" if maps else "selection" if gone or new else "truth"
        return f"changed {what}, {'doubted' if seen else 'unnoticed'}", len({*gone, *changed})
    return "skipped" if row["skipped"] else "the same", 0


def wrong_types(content, folder):
    """Yield (name, content) of things that are no such file: empty, text, another HDF5 file, one of another layout."""
    yield "empty", b""
    yield "a page", b"<html><body>404 Not Found</body></html>" * 50
    yield "a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
    with h5py.File(folder / "other.hdf5", "w") as file:
        file["something/else"] = np.arange(10)
    yield "another HDF5 file", (folder / "other.hdf5").read_bytes()
    with h5py.File(folder / "text.hdf5", "w") as file:
        for group in ("PartType4", "Subhalo", "Group"):
            file[f"{group}/Masses"] = np.array([b"heavy"] * 10)
        file.create_group("Header").attrs["Time"] = b"now"
    yield "an HDF5 file of text", (folder / "text.hdf5").read_bytes()
    yield "twice over", content[len(content) // 2 :] + content[: len(content) // 2]


def damages(layout, box, cuts, flips, folder):
    """Yield (kind of file, what was done, path, content) of every damage."""
    for kind, name in FILES[layout].items():
        content = (box / name).read_bytes()
        rng = np.random.default_rng([len(content), len(kind)])
        for stop in rng.choice(len(content), cuts, replace=False):
            yield kind, "cut", box / name, content[: int(stop)]
        for place in rng.integers(0, len(content), flips):
            damaged = bytearray(content)
            damaged[int(place)] ^= 1 << int(rng.integers(8))
            yield kind, "flip", box / name, bytes(damaged)
        others = [other for _, other in wrong_types(content, folder)]
        for other in others if cuts >= CUTS else others[::3]:
            yield kind, "wrong type", box / name, other


def run(layout, folder, cuts, flips):
    """Damage every file of a box in every way; print a line for each."""
    box, out = write(layout, folder), folder / "store"
    # imports and compiles here, for all forks; another box, because what was read of one may be kept
    assert prepare(layout, write(layout, folder / "first"), out)[0] == 0
    look(out)
    clean = attempt(layout, box, out)
    assert clean["status"] == 0, clean
    assert len(clean["galaxies"]) == GALAXIES, clean
    assert not any(one["doubtful"] for one in clean["galaxies"].values()), "a whole box is in no doubt"
    assert judged(attempt(layout, box, out), clean) == ("the same", 0)
    for kind, how, path, content in damages(layout, box, cuts, flips, folder):
        whole = path.read_bytes()
        path.write_bytes(content)
        row = attempt(layout, box, out)
        path.write_bytes(whole)
        said = row["said"] or str(row["status"])
        outcome, galaxies = judged(row, clean)
        line = {"layout": layout, "file": kind, "how": how, "outcome": outcome, "galaxies": galaxies}
        print(json.dumps({**line, "said": said[:400]}), flush=True)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
