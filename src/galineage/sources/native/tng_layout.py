"""Where the files of a TNG or Illustris run lie: both namings, absent chunks, neighbours of the output folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from galineage.errors import FileFormatError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TngFolder"]


@dataclass(frozen=True)
class TngFolder:
    """The folder of a run as it is downloaded: ``output``, or one above it, or one that holds the chunks themselves.

    Attributes
    ----------
    path : Path
        Folder.
    snapshot : int
        Number of the snapshot.
    """

    path: Path
    snapshot: int

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise FileFormatError(f"there is no folder {self.path.name}", where=str(self.path))

    def group_files(self) -> dict[int, Path]:
        """Chunks of the group catalogue by number, of ``fof_subhalo_tab_NNN.C.hdf5`` or ``groups_NNN.C.hdf5``."""
        return self._chunks("groups_{n:03d}", ("fof_subhalo_tab_{n:03d}", "groups_{n:03d}"), "group catalogue")

    def snapshot_files(self) -> dict[int, Path]:
        """Chunks of the snapshot by number, of ``snap_NNN.C.hdf5`` or ``snapshot_NNN.C.hdf5``."""
        return self._chunks("snapdir_{n:03d}", ("snap_{n:03d}", "snapshot_{n:03d}"), "snapshot")

    def _chunks(self, folder: str, stems: tuple[str, ...], what: str) -> dict[int, Path]:
        names = [stem.format(n=self.snapshot) for stem in stems]
        pattern = re.compile(rf"(?:{'|'.join(names)})(?:\.(\d+))?\.hdf5")
        folders = [self.path / parent / folder.format(n=self.snapshot) for parent in ("", "output")]
        for place in (*folders, self.path):
            found = {}
            for file in sorted(place.iterdir()) if place.is_dir() else ():
                if match := pattern.fullmatch(file.name):
                    found[int(match[1] or 0)] = file
            if found:
                return found
        raise FileFormatError(
            f"no {what} of snapshot {self.snapshot} was found",
            where=str(self.path),
            expected=f"{folder.format(n=self.snapshot)}/{names[0]}.0.hdf5 and so on, in the folder or in its output/",
        )

    def offsets(self) -> Path | None:
        """Return the offsets file of the snapshot, if there is one."""
        return self._beside(f"offsets/offsets_{self.snapshot:03d}.hdf5")

    def supplement(self, catalogue: str, file: str) -> Path | None:
        """Return a supplementary catalogue's file, as in ``supplement("StellarAssembly", "galaxies_099.hdf5")``."""
        return self._beside(f"{catalogue}/{file}")

    def trees(self) -> list[Path]:
        """Return the chunks of the SubLink trees, in order; empty if there are none."""
        for parent in self._parents():
            folder = parent / "postprocessing" / "trees" / "SubLink"
            found = {}
            for file in folder.glob("tree_extended.*.hdf5") if folder.is_dir() else ():
                if match := re.fullmatch(r"tree_extended\.(\d+)\.hdf5", file.name):
                    found[int(match[1])] = file
            if found:
                return [found[chunk] for chunk in sorted(found)]
        return []

    def _beside(self, name: str) -> Path | None:
        for parent in self._parents():
            if (path := parent / "postprocessing" / name).is_file():
                return path
        return None

    def _parents(self) -> tuple[Path, Path]:
        return self.path, self.path.parent
