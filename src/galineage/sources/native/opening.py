"""Opening a snapshot on disk, whichever simulation wrote it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from galineage.errors import ConfigError, FileFormatError
from galineage.sources.native.eagle import EagleSource
from galineage.sources.native.eagle_tables import EagleExport
from galineage.sources.native.files import opened
from galineage.sources.native.tng import TngSource

if TYPE_CHECKING:
    import os

__all__ = ["open_snapshot"]

_EAGLE = re.compile(r"snap_(\d+)_z\d+p\d+\.\d+\.hdf5")
_TNG = re.compile(r"(?:snapdir|groups)_(\d{3})")


def open_snapshot(
    path: str | os.PathLike[str],
    *,
    snapshot: int | None = None,
    domain: str | None = None,
    export: str | os.PathLike[str] | None = None,
) -> TngSource | EagleSource:
    """Open the star particles of a simulation.

    Parameters
    ----------
    path : path
        Folder of a TNG or Illustris run (``output`` or the one above it), or of one EAGLE snapshot; or an EAGLE file.
    snapshot : int, optional
        Number of the snapshot; needed where a folder holds several.
    domain : str, optional
        What the run is called. Default: the name of the folder.
    export : path, optional
        Comma-separated export of the EAGLE database with the galaxies' frames.

    Returns
    -------
    TngSource or EagleSource
        Nothing but names has been read.

    Raises
    ------
    FileFormatError
        If nothing is recognised.
    ConfigError
        If it has several snapshots and none was chosen, or an export is given for a run that needs none.
    """
    place = Path(path)
    if place.is_file() or (place.is_dir() and any(_EAGLE.fullmatch(file.name) for file in place.iterdir())):
        if place.is_file():
            _require_members(place)
        return _eagle(place, snapshot, domain or "EAGLE", export)
    folders = [place, place / "output"]
    found = sorted({
        int(match[1]) for folder in folders if folder.is_dir()
        for item in folder.iterdir() if (match := _TNG.fullmatch(item.name))
    })  # fmt: skip
    if not found:
        raise FileFormatError(
            "no snapshot was found",
            where=str(path),
            expected="snapdir_099/ and groups_099/ (TNG), or snap_028_z000p000.0.hdf5 (EAGLE)",
        )
    if export is not None:
        raise ConfigError("a TNG run has its own group catalogue and needs no export", where=str(path))
    if snapshot is None and len(found) > 1:
        raise ConfigError(
            f"there are {len(found)} snapshots: {', '.join(map(str, found))}", where=str(path), advice="choose one"
        )
    name = domain or (place.parent.name if place.name == "output" else place.name)
    return TngSource(place, found[0] if snapshot is None else snapshot, name)


def _require_members(path: Path) -> None:
    with opened(path) as file:
        if "PartType4/GroupNumber" not in file:
            raise FileFormatError(
                "the file does not say to which galaxy its stars belong",
                where=str(path),
                expected="PartType4/GroupNumber (EAGLE)",
                advice="read a TNG cut-out with galineage.sources.native.read_cutout",
            )


def _eagle(place: Path, snapshot: int | None, domain: str, export: str | os.PathLike[str] | None) -> EagleSource:
    source = EagleSource(place, domain)
    if export is None:
        return source
    number = snapshot if snapshot is not None else source.snapshot
    if number is None:
        raise ConfigError("the files do not tell the number of the snapshot", where=str(place), advice="say it")
    return EagleSource(place, domain, EagleExport.read(export, domain).galaxies(number, mstar_min=0.0))
