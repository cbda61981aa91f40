"""Supplementary catalogues of TNG and Illustris: stellar assembly and merger history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import FileFormatError
from galineage.sources.native.files import opened, part

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from galineage.sources.native.tng_groups import Frame
    from galineage.sources.native.tng_layout import TngFolder

    Array = NDArray[np.float64]

__all__ = ["assembly", "in_situ_file", "merger_history"]

_HISTORY = (
    *("NumMajorMergersTotal", "SnapNumLastMajorMerger", "MassLastMajorMerger"),
    *("MeanLookbackTime", "MeanMassRatio"),
)

SUM = 1e-3
"""By how much in-situ and ex-situ mass may miss the total, relative: catalogues are in 32 bits."""


def assembly(folder: TngFolder, ids: NDArray[np.int64]) -> dict[str, Array]:
    """Read the ex-situ fraction of subhaloes from StellarAssembly (Rodriguez-Gomez+2016).

    Parameters
    ----------
    folder : TngFolder
    ids : array (n,) of int
        Subfind numbers.

    Returns
    -------
    dict of str to array (n,)
        ``f_ex``, no unit, NaN where a subhalo has no classified star. Empty if there is no such catalogue.

    Raises
    ------
    FileFormatError
        If in-situ and ex-situ mass do not add up to the total.
    """
    path = folder.supplement("StellarAssembly", f"galaxies_{folder.snapshot:03d}.hdf5")
    path = path or folder.supplement("StellarAssembly", f"stellar_assembly_{folder.snapshot:03d}.hdf5")
    if path is None:
        return {}
    with opened(path) as file:
        names = ("StellarMassInSitu", "StellarMassExSitu", "StellarMassTotal")
        inside, outside, total = (_rows(file, name, ids).astype(np.float64) for name in names)
    missed = np.abs(inside + outside - total) > SUM * total
    if missed.any():
        row = int(np.argmax(missed))
        raise FileFormatError(
            f"in-situ {inside[row]:g} and ex-situ {outside[row]:g} of subhalo {ids[row]} are not its total",
            where=str(path),
            expected=f"{total[row]:g}",
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"f_ex": np.where(inside + outside > 0, outside / (inside + outside), np.nan)}


def merger_history(folder: TngFolder, ids: NDArray[np.int64], frame: Frame, ages: Array | None) -> dict[str, Array]:
    """Read the merger statistics of subhaloes from MergerHistory (Rodriguez-Gomez+2017).

    Parameters
    ----------
    folder : TngFolder
    ids : array (n,) of int
        Subfind numbers.
    frame : Frame
        Of this snapshot.
    ages : array (snapshots,), Gyr, or None
        Age of the universe at every snapshot, to turn snapshot numbers into lookback times.

    Returns
    -------
    dict of str to array (n,)
        Those that the file has: ``n_major``; ``t_last_major`` (Gyr before this snapshot, NaN: never);
        ``mstar_last_major`` (Msun, NaN: never); ``t_mean_merger`` (Gyr before this snapshot); ``mu_mean_merger``.
        Empty if there is no such catalogue.

    Raises
    ------
    FileFormatError
        If the file is damaged, or has none of them.
    """
    path = folder.supplement("MergerHistory", f"merger_history_{folder.snapshot:03d}.hdf5")
    if path is None:
        return {}
    now = float(frame.cosmology.age(frame.scale_factor))
    found: dict[str, Array] = {}
    with opened(path) as file:
        if not any(name in file for name in _HISTORY):
            raise FileFormatError("the file is no merger history", where=str(path), expected=", ".join(_HISTORY))
        if "NumMajorMergersTotal" in file:
            found["n_major"] = _rows(file, "NumMajorMergersTotal", ids).astype(np.float64)
        if "SnapNumLastMajorMerger" in file and ages is not None:
            last = _rows(file, "SnapNumLastMajorMerger", ids).astype(np.int64)
            found["t_last_major"] = np.where(last >= 0, now - ages[last.clip(0)], np.nan)
        if "MassLastMajorMerger" in file:
            mass = _rows(file, "MassLastMajorMerger", ids).astype(np.float64)
            found["mstar_last_major"] = np.where(mass > 0, mass * frame.mass, np.nan)
        if "MeanLookbackTime" in file:
            # counted from today in the catalogue, from the galaxy's own redshift here
            today = float(frame.cosmology.age(1.0))
            time = _rows(file, "MeanLookbackTime", ids).astype(np.float64) - (today - now)
            found["t_mean_merger"] = np.where(time >= 0, time, np.nan)
        if "MeanMassRatio" in file:
            ratio = _rows(file, "MeanMassRatio", ids).astype(np.float64)
            found["mu_mean_merger"] = np.where(ratio > 0, ratio, np.nan)
    return found


def in_situ_file(folder: TngFolder) -> Path | None:
    """Return the file that marks every star of the snapshot as in situ or not, if there is one."""
    return folder.supplement("StellarAssembly", f"stars_{folder.snapshot:03d}.hdf5")


def _rows(file: h5py.File, name: str, ids: NDArray[np.int64]) -> NDArray[Any]:
    low = int(ids.min()) if len(ids) else 0
    return part(file, name, low, int(ids.max(initial=low - 1)) + 1)[ids - low]
