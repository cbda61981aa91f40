"""FITS images of strangers, parsed within limits: size against content, packing, damage."""

from __future__ import annotations

import io
import threading
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import FileFormatError, GalineageError
from galineage.guard import allowance, check_packing, require_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Plane", "check_shape", "number", "read_planes", "text"]

MOST_SIDE = 8192
"""Pixels on a side at most: a cutout, not a plate."""

MOST_PLANES = 32
MOST_EXTENSIONS = 128
_GZIP = b"\x1f\x8b"
_BLOCK = 2**22
_ONE_AT_A_TIME = threading.Lock()  # what is done with warnings holds for all threads


@dataclass(frozen=True)
class Plane:
    """One extension of a FITS file.

    Attributes
    ----------
    name : str
        ``EXTNAME`` in capitals, or nothing.
    header : mapping of str to value
        Cards without comments and history.
    values : array (rows, columns) or (planes, rows, columns), or None
        In the file's unit and of a native type; None if the extension holds no image.
    comments, history : str
        Those cards, joined.
    """

    name: str
    header: Mapping[str, Any]
    values: NDArray[Any] | None
    comments: str = ""
    history: str = ""


def read_planes(path: str | os.PathLike[str]) -> tuple[Plane, ...]:
    """Read the images of a FITS file, plain or packed with gzip.

    Parameters
    ----------
    path : path
        A file from anywhere. What it unpacks to may take 64 MiB, or 50 times the file if that is more.

    Returns
    -------
    tuple of Plane
        All extensions; tables are there without their content.

    Raises
    ------
    FileFormatError
        If there is no such file, it is no FITS file, is cut off or damaged, unpacks without end, claims more pixels
        than it holds or more than 8192 on a side, or its images are compressed inside.
    """
    path = Path(path)
    stream = _opened(path)
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings(), stream:
            warnings.simplefilter("ignore")  # deviations from the standard that do not change the numbers
            warnings.filterwarnings("error", message=".*(truncated|[Cc]hecksum|[Dd]atasum).*")
            return _parsed(path, stream)
    except GalineageError:
        raise
    except Exception as error:  # parsers of third parties fail with any type on damaged bytes
        reason = str(error).strip().splitlines()
        raise FileFormatError(
            f"the FITS file cannot be read: {reason[0] if reason else type(error).__name__}",
            where=str(path),
            expected="a whole, undamaged FITS file",
            advice="the file is probably cut off or damaged: fetch it again",
        ) from error


def _opened(path: Path) -> Any:
    require_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(_GZIP):
            return io.BytesIO(_unpacked(path))
        check_packing(path, head)
        if not head.startswith(b"SIMPLE  ="):
            raise FileFormatError(
                f"this is no FITS file (it begins with {head[:9]!r})", where=str(path), expected="a FITS image"
            )
        return path.open("rb")
    except GalineageError:
        raise
    except (OSError, zlib.error) as error:
        raise FileFormatError(f"the file cannot be opened: {error}", where=str(path)) from error


def _unpacked(path: Path) -> bytes:
    """Unpack gzip up to the allowance of the file, and no further."""
    most, parts, total = allowance(path), [], 0
    with path.open("rb") as file:
        data = file.read()
    while data:  # a file may hold several members, one after another
        machine = zlib.decompressobj(wbits=31)
        while True:
            part = machine.decompress(data, _BLOCK)
            total += len(part)
            parts.append(part)
            if total > most:
                raise FileFormatError(
                    f"the file unpacks to more than {most / 2**20:,.0f} MiB",
                    where=str(path),
                    expected=f"at most that for {path.stat().st_size:,} bytes",
                    advice="the file is damaged, or made to do harm",
                )
            data = machine.unconsumed_tail
            if machine.eof or (not data and not part):
                break
        if not machine.eof:
            raise FileFormatError("the packed file is cut off", where=str(path), advice="fetch it again")
        data = machine.unused_data
    return b"".join(parts)


def _parsed(path: Path, stream: Any) -> tuple[Plane, ...]:
    from astropy.io import fits

    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    planes: list[Plane] = []
    with fits.open(stream, memmap=False, checksum=True, lazy_load_hdus=True, disable_image_compression=True) as hdus:
        while True:
            try:
                hdu = hdus[len(planes)]
            except IndexError:
                break
            if len(planes) >= MOST_EXTENSIONS:
                raise FileFormatError(f"the file has more than {MOST_EXTENSIONS} extensions", where=str(path))
            planes.append(_plane(path, hdu, length))
    return tuple(planes)


def _plane(path: Path, hdu: Any, length: int) -> Plane:
    from astropy.io import fits

    header = {key: hdu.header[key] for key in hdu.header if key not in ("", "COMMENT", "HISTORY")}
    if header.get("ZIMAGE"):
        raise FileFormatError(
            f"the image {hdu.name} is compressed", where=str(path), advice="unpack it first: funpack FILE.fits.fz"
        )
    values = None
    place = hdu.fileinfo()
    if isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU) and header.get("NAXIS"):
        check_shape(hdu.shape, f"{path}, {hdu.name}")
        if place["datLoc"] + hdu.size > length:
            raise FileFormatError(
                f"{hdu.name} claims {' x '.join(map(str, hdu.shape))} pixels, and the file ends before",
                where=str(path),
                advice="the file is cut off: fetch it again",
            )
        values = np.asarray(hdu.data)
        values = values.astype(values.dtype.newbyteorder("="))
    notes = {key: "".join(map(str, hdu.header.get(key, ()))) for key in ("COMMENT", "HISTORY")}
    return Plane(str(hdu.name).upper(), header, values, notes["COMMENT"], notes["HISTORY"])


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Refuse what is no image of at most 8192 pixels on a side and 32 planes.

    Raises
    ------
    FileFormatError
        Saying what it is.
    """
    most = (*(MOST_PLANES,) * (len(shape) - 2), MOST_SIDE, MOST_SIDE)
    if len(shape) not in (2, 3) or not all(1 <= side <= top for side, top in zip(shape, most, strict=False)):
        raise FileFormatError(
            f"an image of {' x '.join(map(str, shape))}",
            where=where,
            expected=f"rows and columns, at most {MOST_SIDE:,} each, in at most {MOST_PLANES} planes",
        )


def number(header: Mapping[str, Any], name: str) -> float | None:
    """Return a header's number; None if it is absent or no finite number."""
    value = header.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def text(header: Mapping[str, Any], name: str) -> str:
    """Return a header's text without spaces around it; nothing if it is absent."""
    value = header.get(name)
    return "" if value is None else str(value).strip()
