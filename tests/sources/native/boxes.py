"""A tiny box in TNG's layout, written plainly: what the readers must find in it is known."""

from __future__ import annotations

from itertools import pairwise

import h5py
import numpy as np

H, OMEGA, BOX = 0.6774, 0.3089, 75000.0


def write_box(folder, galaxies=7, chunks=3, seed=0, *, naming="new", a=1.0, offsets=True, assembly=True, mini=False):
    """Write a snapshot with its group catalogue; return what is in it, by subhalo, in the units of the files."""
    rng = np.random.default_rng(seed)
    stars = rng.integers(30, 90, galaxies)
    stars[2] = 0  # no stars
    groups = np.array([0] * (galaxies - 3) + [1] * 2 + [2])
    fuzz = 11  # of the first group, behind its last subhalo
    truth, columns = [], []
    for k, count in enumerate(stars):
        centre = rng.uniform(0, BOX, 3) if k else np.array([1.0, BOX - 2.0, 300.0])  # the first one straddles the edge
        formed = rng.uniform(0.2, 0.9 * a, count)
        formed[: count // 10] = -0.5  # wind
        if k == 5:
            formed[:] = -0.1  # only wind
        one = {
            "Coordinates": (centre + rng.normal(0, 4, (count, 3))) % BOX,
            "Velocities": rng.normal(100, 50, (count, 3)).astype(np.float32),
            "Masses": rng.uniform(1e-4, 2e-4, count).astype(np.float32),
            "GFM_StellarFormationTime": formed.astype(np.float32),
            "GFM_Metallicity": rng.uniform(0.001, 0.03, count).astype(np.float32),
            "GFM_InitialMass": rng.uniform(2e-4, 3e-4, count).astype(np.float32),
            "StellarHsml": rng.uniform(0.1, 3, count).astype(np.float32),
            "Potential": rng.uniform(-1e5, 0, count).astype(np.float32),
            "ParticleIDs": rng.integers(0, 2**63, count, dtype=np.uint64),
            "InSitu": np.where(formed <= 0, -1, rng.integers(0, 2, count)),
        }
        columns.append(one)
        truth.append({"centre": centre, **one})
        if k == galaxies - 4:
            columns.append({name: _fuzz(values, fuzz, rng) for name, values in columns[0].items()})
    whole = {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
    _write_snapshot(folder, whole, chunks, naming, a, mini)
    _write_groups(folder, truth, stars, groups, fuzz, naming, a)
    post = folder / "postprocessing"
    first = np.cumsum(stars) - stars + np.where(groups > 0, fuzz, 0)
    if offsets:
        (post / "offsets").mkdir(parents=True)
        with h5py.File(post / "offsets" / "offsets_099.hdf5", "w") as file:
            table = np.zeros((galaxies, 6), dtype=np.int64)
            table[:, 4] = first
            file["Subhalo/SnapByType"] = table
    if assembly:
        (post / "StellarAssembly").mkdir(parents=True)
        with h5py.File(post / "StellarAssembly" / "galaxies_099.hdf5", "w") as file:
            for name, mark in (("InSitu", (1,)), ("ExSitu", (0,)), ("Total", (0, 1))):
                file[f"StellarMass{name}"] = np.array([
                    one["Masses"][np.isin(one["InSitu"], mark)].sum(dtype=np.float64) for one in truth
                ])  # fmt: skip
        with h5py.File(post / "StellarAssembly" / "stars_099.hdf5", "w") as file:
            file["InSitu"] = whole["InSitu"].astype(np.int8)
    return truth


def _fuzz(values, count, rng):
    return values[rng.integers(0, len(values), count)]


def _header(file, a, **more):
    attributes = {"BoxSize": BOX, "HubbleParam": H, "Omega0": OMEGA, "OmegaLambda": 1 - OMEGA, "Time": a, **more}
    for name, value in attributes.items():
        file.require_group("Header").attrs[name] = value


def _write_snapshot(folder, whole, chunks, naming, a, mini):
    place = folder / "snapdir_099"
    place.mkdir(parents=True)
    total = len(whole["Masses"])
    edges = np.linspace(0, total, chunks + 1).astype(int)
    edges = np.insert(edges, 2, edges[1])  # an empty chunk
    for chunk, (low, high) in enumerate(pairwise(edges)):
        stem = "snap" if naming == "new" else "snapshot"
        with h5py.File(place / f"{stem}_099.{chunk}.hdf5", "w") as file:
            here, everywhere = np.zeros(6, dtype=np.int32), np.zeros(6, dtype=np.uint32)
            here[4], everywhere[4] = high - low, total
            _header(file, a, NumPart_ThisFile=here, NumPart_Total=everywhere, NumFilesPerSnapshot=chunks + 1,
                    NumPart_Total_HighWord=np.zeros(6, dtype=np.uint32))  # fmt: skip
            for name, values in whole.items():
                if high > low and name != "InSitu" and not (mini and name in ("StellarHsml", "Potential")):
                    file[f"PartType4/{name}"] = values[low:high]


def _write_groups(folder, truth, stars, groups, fuzz, naming, a):
    place = folder / "groups_099"
    place.mkdir(parents=True)
    stem = "fof_subhalo_tab" if naming == "new" else "groups"
    number = int(groups.max()) + 1
    for chunk in range(number + 1):  # a group each, and an empty chunk in between
        group = {0: 0, 1: None}.get(chunk, chunk - 1)
        rows = np.flatnonzero(groups == group) if group is not None else np.zeros(0, int)
        with h5py.File(place / f"{stem}_099.{chunk}.hdf5", "w") as file:
            _header(file, a, Ngroups_ThisFile=int(group is not None), Nsubgroups_ThisFile=len(rows),
                    Nsubgroups_Total=len(stars), Ngroups_Total=number, NumFiles=number + 1)  # fmt: skip
            if group is None:
                continue
            lengths = np.zeros((1, 6), dtype=np.int32)
            lengths[0, 4] = stars[rows].sum() + (fuzz if group == 0 else 0)
            file["Group/GroupLenType"] = lengths
            file["Group/GroupFirstSub"], file["Group/GroupNsubs"] = np.array([rows[0]]), np.array([len(rows)])
            mine = [truth[row] for row in rows]
            six = np.zeros((len(rows), 6), dtype=np.float32)
            mass, radius, count = six.copy(), six.copy(), six.astype(np.int32)
            mass[:, 4] = [one["Masses"][one["GFM_StellarFormationTime"] > 0].sum() for one in mine]
            radius[:, 4], count[:, 4] = 4.5, stars[rows]
            for name, values in {
                "SubhaloMassType": mass, "SubhaloHalfmassRadType": radius, "SubhaloLenType": count,
                "SubhaloPos": np.array([one["centre"] for one in mine], dtype=np.float32),
                "SubhaloVel": np.full((len(rows), 3), 90, dtype=np.float32),
                "SubhaloSpin": np.full((len(rows), 3), 50, dtype=np.float32),
                "SubhaloGrNr": np.full(len(rows), group), "SubhaloFlag": np.array(rows != 1),
            }.items():  # fmt: skip
                file[f"Subhalo/{name}"] = values
