"""Plain pictures (PNG, JPEG) in a folder or a zip archive, with a table that says which galaxy each shows."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.atomic import writing
from galineage.cutouts import Cutout
from galineage.errors import ConfigError, DataError, FileFormatError, GalineageError, MissingDependencyError
from galineage.guard import require_file
from galineage.sources.images.checks import check_content
from galineage.sources.images.limits import check_shape

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["PictureFolder", "open_pictures"]

_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class PictureFolder:
    """Pictures and the rows of their table.

    Attributes
    ----------
    root : path
        Folder or zip archive.
    files : tuple of str
        Names below it, one for each row.
    ids : tuple of str
        Original identifiers.
    bands : (str, str, str)
        Of the red, green and blue channel, in this order.
    pixel_scale : float or array (n,), arcsec
        Of all, or each.
    redshift : array (n,) or None
        No unit; NaN where not known.
    table : mapping of str to array (n,)
        All columns of the table, in its units.
    """

    root: Path
    files: tuple[str, ...]
    ids: tuple[str, ...]
    bands: tuple[str, str, str]
    pixel_scale: float | NDArray[np.float64]
    redshift: NDArray[np.float64] | None
    table: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.files)

    def select(self, rows: Sequence[int]) -> PictureFolder:
        """Return the pictures of some rows."""
        which = np.asarray(rows, dtype=np.int64)
        scale = self.pixel_scale if np.ndim(self.pixel_scale) == 0 else np.asarray(self.pixel_scale)[which]
        return PictureFolder(
            self.root,
            tuple(self.files[k] for k in which),
            tuple(self.ids[k] for k in which),
            self.bands,
            scale,
            None if self.redshift is None else self.redshift[which],
            {name: np.asarray(column)[which] for name, column in self.table.items()},
        )

    def describe(self) -> dict[str, Any]:
        """Return how the pictures are read, in JSON types; where they lie may change."""
        scale, redshift = (
            None if one is None else np.asarray(one, dtype=np.float64) for one in (self.pixel_scale, self.redshift)
        )
        return {
            "files": list(self.files),
            "bands": list(self.bands),
            "pixel_scale": None if scale is None else scale.tolist(),
            "redshift": None if redshift is None else [None if np.isnan(one) else one for one in redshift.tolist()],
        }

    def read(self, row: int) -> Cutout:
        """Read one picture.

        Returns
        -------
        Cutout
            The three bands, blue first, each (rows, columns), with rows going up. Values are those shown, in [0, 1],
            and no fluxes: ``meta["picture"]`` is true, and fluxes measured on it mean nothing.

        Raises
        ------
        FileFormatError
            If the file is missing, no picture, larger than 8192 pixels on a side, grey, or of one colour.
        DataError
            If its pixel scale is not positive.
        """
        where = f"{self.root}, {self.files[row]}"
        values = _decoded(self._bytes(row), where)
        check_content(values, self.bands[::-1], where)
        redshift = None if self.redshift is None or not np.isfinite(self.redshift[row]) else float(self.redshift[row])
        return Cutout(
            values=values,
            bands=self.bands[::-1],
            pixel_scale=float(np.broadcast_to(self.pixel_scale, len(self))[row]),
            redshift=redshift,
            name=self.files[row],
            meta={"format": "picture", "picture": True, "file": self.files[row], "galaxy": self.ids[row]},
        )

    def _bytes(self, row: int) -> bytes:
        name = self.files[row]
        try:
            if self.root.is_dir():
                path = self.root / name
                require_file(path)
                if path.stat().st_size > _MOST_BYTES:
                    raise FileFormatError("the picture has more than 64 MiB", where=str(path))
                return path.read_bytes()
            with zipfile.ZipFile(self.root) as archive, archive.open(name) as stream:
                content = stream.read(_MOST_BYTES + 1)
        except GalineageError:
            raise
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise FileFormatError(f"the picture {name!r} cannot be read: {error}", where=str(self.root)) from error
        if len(content) > _MOST_BYTES:
            raise FileFormatError("the picture unpacks to more than 64 MiB", where=f"{self.root}, {name}")
        return content


def open_pictures(
    root: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str],
    bands: tuple[str, str, str],
    pixel_scale: float | str,
    id: str = "id",  # noqa: A002 - the word users know
    file: str = "file",
    redshift: str | None = None,
) -> PictureFolder:
    """Open a folder, or a zip archive, of pictures.

    Parameters
    ----------
    root : path
        Folder or ``.zip``.
    table : path
        CSV, ECSV, FITS, VOTable, Parquet or HDF5; a name without folders may lie inside of ``root``.
    bands : (str, str, str)
        What the red, green and blue channel show, in this order, such as ``("sdss-i", "sdss-r", "sdss-g")``.
    pixel_scale : float, arcsec, or str
        Of all pictures, or the column that says it.
    id : str
        Column of identifiers.
    file : str
        Column of names below ``root``, or a pattern of columns such as ``"images/galface_{GalaxyID}.png"``.
    redshift : str, optional
        Column of redshifts.

    Returns
    -------
    PictureFolder
        No picture has been read yet.

    Raises
    ------
    ConfigError
        If the settings do not fit the table.
    FileFormatError
        If folder or table cannot be read.
    DataError
        If a name leads out of the folder.
    """
    root = Path(root)
    if not root.is_dir() and not zipfile.is_zipfile(root):
        raise FileFormatError("this is neither a folder nor a zip archive", where=str(root), expected="pictures")
    columns = _table(root, table)
    wanted = [id, *(name for name in (redshift, pixel_scale) if isinstance(name, str))]
    wanted += re.findall(r"\{(\w+)\}", file) if "{" in file else [file]
    missing = [name for name in wanted if name not in columns]
    if missing or len(bands) != 3 or len(set(bands)) != 3:
        what = f"the table has no column {missing[0]!r}" if missing else f"bands are {bands}"
        raise ConfigError(what, where=str(table), expected=", ".join(columns) if missing else "red, green, blue")
    size = len(columns[id])
    rows = [{name: _written(values[k]) for name, values in columns.items() if name in wanted} for k in range(size)]
    names = tuple(file.format(**row) if "{" in file else row[file] for row in rows)
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or "\0" in name or not parts.parts:
            raise DataError(f"the picture {name!r} is not below the folder", where=str(table), expected="a name in it")
    return PictureFolder(
        root=root,
        files=names,
        ids=tuple(row[id] for row in rows),
        bands=bands,
        pixel_scale=columns[pixel_scale].astype(np.float64) if isinstance(pixel_scale, str) else pixel_scale,
        redshift=None if redshift is None else columns[redshift].astype(np.float64),
        table=columns,
    )


def _written(value: Any) -> str:
    """Text of a cell as in the file: a whole number has no decimal point."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _table(root: Path, table: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    from galineage.sources.formats import read_raw

    path = Path(table)
    if path.exists() or len(path.parts) > 1:
        return dict(read_raw(path).columns)
    if root.is_dir():
        return dict(read_raw(root / path).columns)
    import tempfile

    # the readers of tables want a file; it is small, and gone afterwards
    with zipfile.ZipFile(root) as archive, tempfile.TemporaryDirectory() as folder:
        try:
            with archive.open(str(path)) as stream:
                content = stream.read(_MOST_BYTES + 1)
        except (KeyError, OSError, zipfile.BadZipFile, RuntimeError) as error:
            raise FileFormatError(f"the archive has no table {path.name!r}: {error}", where=str(root)) from error
        if len(content) > _MOST_BYTES:
            raise FileFormatError("the table unpacks to more than 64 MiB", where=f"{root}, {path.name}")
        unpacked = Path(folder) / path.name
        with writing(unpacked) as temporary:
            temporary.write_bytes(content)
        return dict(read_raw(unpacked).columns)


def _decoded(content: bytes, where: str) -> NDArray[np.float32]:
    """Decode a picture to (3, rows, columns), values in [0, 1], blue first, rows going up."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "pillow, which reads pictures, is not installed", advice="pip install 'galineage[images]'"
        ) from error
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            check_shape((picture.height, picture.width), where)
            if picture.mode not in ("RGB", "RGBA"):
                raise FileFormatError(f"the picture is of the kind {picture.mode}", where=where, expected="RGB")
            shown = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except GalineageError:
        raise
    except Exception as error:  # damaged pictures fail in many ways
        raise FileFormatError(
            f"this is no picture that can be read: {error}", where=where, expected="a whole PNG or JPEG in colour"
        ) from error
    return np.ascontiguousarray(shown[::-1, :, ::-1].transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
