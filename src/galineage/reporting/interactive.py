"""A map of galaxies to walk about in: one HTML file with their images, which loads nothing from the network."""

from __future__ import annotations

import base64
import html
import io
import json
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage import __version__
from galineage.atomic import write_text
from galineage.errors import ConfigError, DataError
from galineage.reporting.cells import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["MOST_BYTES", "write_interactive"]

MOST_BYTES = 28_000_000
"""Size of the file at most; images are shrunk to fit."""

_SIDE = 32
_PER_SPRITE = _SIDE * _SIDE
_DIGITS = 5
# size of the images on the page, and the quality of their compression, from the best on
_TRIES = ((96, 88), (64, 88), (64, 75), (48, 75), (48, 60), (32, 60), (24, 50), (16, 40))


def write_interactive(
    path: str | os.PathLike[str],
    places: NDArray[np.floating],
    thumbnails: NDArray[Any] | None,
    columns: Mapping[str, NDArray[Any]],
    domains: NDArray[Any],
    title: str,
    *,
    ids: NDArray[Any] | None = None,
    lead: str = "",
    start: int | None = None,
) -> None:
    """Write a page on which one can zoom, move, look at galaxies, colour them, and find one by its identifier.

    Parameters
    ----------
    path : path
        The HTML file; written whole or not at all.
    places : array (n, 2)
        Where each galaxy lies, no unit; finite.
    thumbnails : array (n, rows, columns, 3) of uint8, or of floats in 0 to 1; or None
        Image of each galaxy: red, green, blue, first row at the top. They are cut to squares about the middle, and
        shrunk and compressed until the file is below `MOST_BYTES`. NaN is black.
    columns : mapping of str to array (n,)
        What is known of them, name (with unit) to numbers or texts; NaN or infinite where unknown.
    domains : array (n,) of str
        Domain of each.
    title : str
        Heading of the page.
    ids : array (n,), optional
        Identifiers; row numbers if left out. Any text: nothing of it is taken for HTML or script.
    lead : str
        A sentence below the heading.
    start : int, optional
        Row whose card is open at first.

    Raises
    ------
    DataError
        If there are no galaxies, lengths differ, a place is not finite, or so many images do not fit.
    ConfigError
        If there is no title, or ``start`` is no row.
    FileFormatError
        If the file cannot be written.
    """
    at = np.asarray(places, dtype=np.float64)
    if not title.strip():
        raise ConfigError("the page has no title", expected="a few words")
    if at.ndim != 2 or at.shape[1:] != (2,) or not len(at) or not np.isfinite(at).all():
        raise DataError(f"places of shape {at.shape}, or not finite", expected="finite numbers (n, 2), n at least 1")
    n = len(at)
    if start is not None and not 0 <= start < n:
        raise ConfigError(f"row {start} was to be open at first", expected=f"0 to {n - 1}")
    named = np.arange(n) if ids is None else np.asarray(ids)
    for name, values in {**columns, "domains": domains, "ids": named}.items():
        if np.shape(values) != (n,):
            raise DataError(f"{name!r} has shape {np.shape(values)}", expected=f"({n},)")
    data = _numbers(at, columns, np.asarray(domains), named, start)
    room = MOST_BYTES - len(_json(data))
    data |= _sprites(thumbnails, n, room)
    write_text(path, _page(title, lead, data))


def _numbers(
    places: NDArray[np.float64],
    columns: Mapping[str, NDArray[Any]],
    domains: NDArray[Any],
    ids: NDArray[Any],
    start: int | None,
) -> dict[str, Any]:
    """Everything but the images as JSON values."""
    # imported here: whoever writes no map needs no colour map
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    from galineage.evaluation.style import PALETTE, SEQUENTIAL

    names = list(dict.fromkeys(domains.astype(str).tolist()))
    index = {name: k for k, name in enumerate(names)}
    which = [index[name] for name in domains.astype(str).tolist()]
    return {
        "x": _rounded(places[:, 0]),
        "y": _rounded(places[:, 1]),
        "ids": [printable(str(value)) for value in ids.tolist()],
        "domains": [printable(name) for name in names],
        "domain": which,
        "counts": np.bincount(which, minlength=len(names)).tolist(),
        "columns": [_column(name, np.asarray(values)) for name, values in columns.items()],
        # drawn in random order, so that no domain lies on top
        "order": np.random.default_rng(0).permutation(len(places)).tolist(),
        "palette": list(PALETTE),
        "ramp": [to_hex(colormaps[SEQUENTIAL](share)) for share in np.linspace(0, 1, 32)],
        "start": start,
    }


def _column(name: str, values: NDArray[Any]) -> dict[str, Any]:
    if values.dtype.kind in "fiub":
        return {"name": printable(name), "kind": "number", "values": _rounded(values.astype(np.float64))}
    return {"name": printable(name), "kind": "text", "values": [printable(str(value)) for value in values.tolist()]}


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    """Numbers to five digits; None where not finite."""
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]


def _sprites(thumbnails: NDArray[Any] | None, n: int, room: int) -> dict[str, Any]:
    """Images as JPEG sheets of 32 x 32 in ``data:`` addresses, in ``room`` bytes."""
    if thumbnails is None:
        return {"sprites": [], "tile": 0, "side": _SIDE, "per_sprite": _PER_SPRITE}
    images = np.asarray(thumbnails)
    if images.ndim != 4 or len(images) != n or images.shape[3] != 3 or 0 in images.shape:
        raise DataError(f"images of shape {images.shape} were given", expected=f"({n}, rows, columns, 3)")
    own = min(images.shape[1:3])
    sprites: list[str]
    for tile, quality in dict.fromkeys((min(tile, own), quality) for tile, quality in _TRIES):
        sprites = []
        for start in range(0, n, _PER_SPRITE):
            sprites.append(_sheet(images[start : start + _PER_SPRITE], tile, quality))
            if sum(map(len, sprites)) > room:
                break
        else:
            return {"sprites": sprites, "tile": tile, "side": _SIDE, "per_sprite": _PER_SPRITE}
    raise DataError(
        f"{n} images do not fit into a page of {MOST_BYTES / 1e6:.0f} MB",
        advice="show fewer galaxies, chosen at random",
    )


def _sheet(images: NDArray[Any], tile: int, quality: int) -> str:
    """Put up to 1024 images (m, rows, columns, 3) on one sheet; its JPEG as a ``data:`` address."""
    from PIL import Image

    rows = -(-len(images) // _SIDE)
    sheet = np.zeros((rows * tile, _SIDE * tile, 3), dtype=np.uint8)
    for place, image in enumerate(images):
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        square = _bytes(image[top : top + side, left : left + side])
        if side != tile:
            square = np.asarray(Image.fromarray(square).resize((tile, tile), Image.Resampling.BOX))
        i, j = divmod(place, _SIDE)
        sheet[i * tile : (i + 1) * tile, j * tile : (j + 1) * tile] = square
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image (rows, columns, 3) as bytes; floats are fractions of full light."""
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    return np.rint(255 * np.clip(np.nan_to_num(image, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)).astype(np.uint8)


def _page(title: str, lead: str, data: dict[str, Any]) -> str:
    parts = {
        "version": __version__,
        "title": html.escape(printable(title)),
        "heading": html.escape(printable(title)),
        "lead": html.escape(printable(lead)),
        "css": _resource("interactive.css"),
        "script": _resource("interactive.js"),
        "data": _json(data),
    }
    return Template(_resource("interactive.html")).substitute(parts) + "\n"


def _json(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in: no text of a stranger is ever read as HTML."""
    written = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _resource(name: str) -> str:
    return resources.files("galineage.reporting").joinpath(name).read_text(encoding="utf-8").strip()
