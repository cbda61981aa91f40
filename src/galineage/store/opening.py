"""Opening a store, whatever it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from galineage.errors import FileFormatError
from galineage.guard import parse_json
from galineage.store.image_store import ImageStore
from galineage.store.map_store import MapStore

if TYPE_CHECKING:
    import os

__all__ = ["is_store", "open_store"]


def is_store(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder looks like a store of maps or images."""
    return (Path(path) / "store.json").is_file()


def open_store(path: str | os.PathLike[str]) -> MapStore | ImageStore:
    """Open a store of maps or of images.

    Parameters
    ----------
    path : path
        Folder.

    Returns
    -------
    MapStore or ImageStore
        Told by its settings.

    Raises
    ------
    FileFormatError
        If the folder is no store.
    """
    try:
        settings = parse_json((Path(path) / "store.json").read_text(encoding="utf-8"))["settings"]
        kinds = [kind for kind in (MapStore, ImageStore) if kind.SETTING in settings]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            "the folder is no store of maps or images",
            where=str(path),
            expected="what `galineage prepare` or `galineage images` writes",
        ) from error
    if len(kinds) != 1:
        raise FileFormatError("the store holds neither maps nor images", where=str(path))
    return kinds[0](path)
