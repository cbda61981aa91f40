"""One way in: a file or folder of images is told by its content and becomes cutouts."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, FileFormatError, GalineageError
from galineage.galaxy import Skip
from galineage.sources.images.checks import check_cutout
from galineage.sources.images.cube import read_archive, read_cube
from galineage.sources.images.hsc_ssp import is_hsc_ssp, read_hsc_ssp
from galineage.sources.images.legacy import is_legacy, read_legacy
from galineage.sources.images.limits import read_planes
from galineage.sources.images.own import is_own, read_own
from galineage.sources.images.skirt_hsc import is_skirt_hsc, read_skirt_hsc

if TYPE_CHECKING:
    from galineage.cutouts import Cutout

__all__ = ["ImageFiles", "open_images", "read_cutout"]

_ENDING = re.compile(r"\.(fits(\.gz)?|fit|npz)$", re.IGNORECASE)
_MOCK = re.compile(r"(shalo_\d+-\d+)_v\d+_HSC_GRIZY")


def read_cutout(
    path: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
    *,
    bands: Sequence[str] | None = None,
    pixel_scale: float | None = None,
    zero_point: float | None = None,
    psf: Any = None,
    redshift: float | None = None,
    role: str | None = None,
    need_psf: bool = False,
) -> Cutout:
    """Read the image of one galaxy, whatever survey it is from.

    Parameters
    ----------
    path : path, or mapping of str to path
        A released SKIRT + HSC mock, a cube of the Legacy Surveys, an image of `galineage.light.write_images`, HSC-SSP
        cutouts (a folder, or a file for each band), a FITS cube or a numpy archive. FITS may be packed with gzip.
    bands : sequence of str, optional
        Wanted, in this order; None: all. Files that do not name their bands need them, in the file's order.
    pixel_scale : float, arcsec, optional
        Needed where the header has none; a header that says another one is refused.
    zero_point : float, AB mag of one count, optional
        Likewise.
    psf : array (bands, p, q), path, or mapping of bands to those, optional
        No unit, sum 1. None: what the file has.
    redshift : float, optional
        Of the galaxy; None: what the file says.
    role : str, optional
        Which image of a file that galineage wrote, for example ``RAW``.
    need_psf : bool
        Refuse a cutout without a PSF.

    Returns
    -------
    Cutout
        Nanomaggies per pixel, with mask, variance and PSF where the survey gives them.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is damaged, or contradicts itself.
    DataError
        If a band is missing, or pixels or zero point are not as expected.
    """
    options: dict[str, Any] = {
        "bands": bands, "pixel_scale": pixel_scale, "zero_point": zero_point, "psf": psf, "redshift": redshift
    }  # fmt: skip
    if isinstance(path, Mapping) or Path(path).is_dir():
        cutout = read_hsc_ssp(path, **options)
    else:
        cutout = _read_file(Path(path), role, options)
    check_cutout(cutout, bands=bands, psf=need_psf)
    return cutout


def _read_file(path: Path, role: str | None, options: dict[str, Any]) -> Cutout:
    if not path.exists():
        raise FileFormatError("there is no such file", where=str(path), expected="an image")
    if path.suffix == ".npz":
        return read_archive(path, **options)
    planes = read_planes(path)
    if is_skirt_hsc(planes):
        return read_skirt_hsc(path, planes, **options)
    if is_own(planes):
        return read_own(path, planes, role=role, **options)
    if is_legacy(planes):
        return read_legacy(path, planes, **options)
    if is_hsc_ssp(planes):
        return read_hsc_ssp(path, **options)
    return read_cube(path, planes, **options)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images of many galaxies, a file or folder each, read when they are needed.

    Attributes
    ----------
    paths : tuple of path
        One for each row.
    ids : tuple of str
        Identifiers; the files' names without their ending, those of released mocks (``shalo_084-97_v3_HSC_GRIZY``)
        without the camera (``shalo_084-97``): one identifier for all views of a galaxy.
    options : mapping
        For `read_cutout`.
    """

    paths: tuple[Path, ...]
    ids: tuple[str, ...]
    options: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self.paths)

    def read(self, row: int) -> Cutout:
        """Read one; raises as `read_cutout`."""
        return read_cutout(self.paths[row], **self.options)

    def select(self, rows: Sequence[int]) -> ImageFiles:
        """Return the images of some rows."""
        return ImageFiles(tuple(self.paths[k] for k in rows), tuple(self.ids[k] for k in rows), self.options)

    def describe(self) -> dict[str, Any]:
        """Return how the files are read, in JSON types; where they lie may change."""
        return {"files": [path.name for path in self.paths], "options": {k: _told(v) for k, v in self.options.items()}}

    def __iter__(self) -> Iterator[Cutout | Skip]:
        """Yield every cutout, or why it was skipped."""
        for row in range(len(self)):
            try:
                yield self.read(row)
            except GalineageError as error:
                yield Skip(row, self.ids[row], "image", self.paths[row].name, error.what)


def _told(value: Any) -> Any:
    """Return an option in JSON types; of a PSF its content."""
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value, dtype=np.float64).tobytes()).hexdigest()
    if isinstance(value, Mapping):
        return {str(name): _told(one) for name, one in value.items()}
    if isinstance(value, os.PathLike):
        return Path(value).name
    return list(value) if isinstance(value, tuple | list) else value


def open_images(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **options: Any) -> ImageFiles:
    """Open images of many galaxies.

    Parameters
    ----------
    paths : path or sequence of path
        A folder, in which every FITS file (or every folder, if there is no file) is one galaxy, in the order of their
        names; or the paths themselves.
    **options
        As `read_cutout` has them, for all.

    Returns
    -------
    ImageFiles
        Nothing but names has been read.

    Raises
    ------
    ConfigError
        If an option is unknown.
    FileFormatError
        If there is no image.
    """
    known = {"bands", "pixel_scale", "zero_point", "psf", "redshift", "role", "need_psf"}
    if set(options) - known:
        raise ConfigError(
            f"unknown options: {', '.join(sorted(set(options) - known))}", expected=", ".join(sorted(known))
        )
    if isinstance(paths, str | os.PathLike):
        folder = Path(paths)
        if not folder.is_dir():
            raise FileFormatError("there is no such folder", where=str(folder), expected="one with images")
        inside = sorted(folder.iterdir())
        found = [path for path in inside if path.name.lower().endswith((".fits", ".fits.gz", ".fit", ".npz"))]
        found = found or [path for path in inside if path.is_dir() and any(path.glob("*.fits*"))]
        if not found:
            raise FileFormatError("there are no images", where=str(folder), expected="FITS files, or folders of them")
    else:
        found = [Path(path) for path in paths]
    return ImageFiles(tuple(found), tuple(_identifier(path) for path in found), dict(options))


def _identifier(path: Path) -> str:
    """Return whose image it is: cameras of a released mock look at one galaxy."""
    name = _ENDING.sub("", path.name)
    found = _MOCK.fullmatch(name)
    return found[1] if found else name
