"""Weights on disk: safetensors under a name that holds their checksum, which a description in JSON repeats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage.atomic import rename, sha256, writing
from galineage.errors import BundleError
from galineage.models.bundle_checks import check_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["read_tensors", "write_tensors"]

_MOST_WEIGHT_BYTES = 4_000_000_000


def write_tensors(folder: Path, stem: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write tensors (any shape and unit) under a name that holds their checksum.

    Returns what a description says of the file; raises `FileFormatError` if the disk refuses.
    """
    from safetensors.torch import save as packed

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    staged = folder / f"{stem}.safetensors"
    with writing(staged) as temporary:
        # not save_file: on a full disk it raises an error of its own
        temporary.write_bytes(packed(plain, {"format": "galineage bundle"}))
    digest = sha256(staged)
    final = folder / f"{stem}-{digest[:12]}.safetensors"
    rename(staged, final)
    return {"file": final.name, "sha256": digest}


def read_tensors(folder: Path, entry: Mapping[str, Any], what: str) -> dict[str, Tensor]:
    """Read tensors (any shape and unit) of a file that a description names, if its checksum is the one named.

    Raises
    ------
    BundleError
        If the file is missing, damaged, or larger than any of ours.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / Path(str(entry["file"])).name
    if not path.is_file():
        raise BundleError(f"the {what} are missing", where=str(path), advice="copy the whole folder again")
    if path.stat().st_size > _MOST_WEIGHT_BYTES:
        raise BundleError(f"the {what} file is larger than any of ours", where=str(path))
    check_header(path)
    if sha256(path) != entry["sha256"]:
        raise BundleError(
            f"the {what} do not have the checksum that the description names",
            where=str(path),
            advice="the copy is damaged or mixed from two bundles: copy the folder again",
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"the {what} cannot be read: {error}", where=str(path)) from error
