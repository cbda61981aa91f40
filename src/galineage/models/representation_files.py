"""Saved networks of contrastive learning: a folder of weights (safetensors), description (JSON) and card."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from galineage import __version__
from galineage.atomic import write_json, write_text
from galineage.errors import BundleError, GalineageError
from galineage.guard import parse_json, read_text
from galineage.models.bundle_checks import check_settings
from galineage.models.contrastive import ContrastiveNetwork
from galineage.models.tensor_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["load_representation", "representation_text", "save_representation"]

FORMAT = 1
_DESCRIPTION = "representation.json"
_MOST_BYTES = 2_000_000


def save_representation(network: ContrastiveNetwork, folder: str | Path, card: Mapping[str, Any] | None = None) -> Path:
    """Write a network that turns images into representations.

    The description is written last and names the weights by their checksum.

    Parameters
    ----------
    network : ContrastiveNetwork
        Trained.
    folder : path
        Made if needed; a representation that is there is replaced.
    card : mapping, optional
        JSON values for the reader: domains, images, settings of the training.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    BundleError
        If the folder holds something else, or the card holds what JSON cannot say.
    FileFormatError
        If the disk refuses.
    """
    folder = Path(folder)
    others = folder.is_dir() and not (folder / _DESCRIPTION).exists() and (folder / "bundle.json").exists()
    if others or (folder.exists() and not folder.is_dir()):
        raise BundleError("there is something else at this place", where=str(folder), advice="choose a new folder")
    card = dict(card or {})
    try:
        json.dumps(card, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BundleError(f"the card cannot be written as JSON: {error}", expected="text, finite numbers") from error
    entry = write_tensors(folder, "weights", network.state_dict())
    write_text(folder / "README.md", representation_text(network, card))
    write_json(
        folder / _DESCRIPTION,
        {
            "format": FORMAT,
            "galineage": __version__,
            "torch": torch.__version__.split("+")[0],
            "settings": network.settings(),
            "weights": entry,
            "card": card,
        },
    )
    for old in folder.glob("weights-*.safetensors"):
        if old.name != entry["file"]:
            with contextlib.suppress(OSError):
                old.unlink()
    return folder


def load_representation(folder: str | Path) -> tuple[ContrastiveNetwork, dict[str, Any]]:
    """Read a network that `save_representation` wrote, and its card. Nothing is unpickled or evaluated.

    Returns
    -------
    ContrastiveNetwork, dict
        In evaluation mode, on the CPU.

    Raises
    ------
    BundleError
        If it is no representation, is damaged, or was written by a newer format.
    """
    folder = Path(folder)
    path = folder / _DESCRIPTION
    try:
        known = parse_json(read_text(path, _MOST_BYTES))
        number, settings, entry = known["format"], dict(known["settings"]), dict(known["weights"])
        if not isinstance(number, int) or number > FORMAT:
            raise BundleError(
                f"the representation has format {number}", where=str(path), expected=str(FORMAT), advice="update"
            )
        entry["file"], entry["sha256"]
        check_settings(settings, folder)
        card = dict(known.get("card", {}))
    except BundleError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"this is not a representation: {type(error).__name__}: {error}",
            where=str(path),
            expected="a folder written by `galineage contrast`",
        ) from error
    tensors = read_tensors(folder, entry, "weights")
    try:
        if _asked(settings) > 10 * sum(math.prod(tensor.shape) for tensor in tensors.values()) + 10_000:
            raise BundleError("the description asks for a network far larger than the weights", where=str(folder))
        network = ContrastiveNetwork(**settings)
        network.load_state_dict(tensors)
    except BundleError:
        raise
    except (GalineageError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise BundleError(f"description and weights do not fit: {error}", where=str(folder)) from error
    return network.eval(), card


def _asked(settings: Mapping[str, Any]) -> int:
    """Count roughly the weights that settings ask for, without building anything."""
    own = (64, 128, 256, 512) if settings.get("encoder") == "resnet18" else (32, 64, 128)
    widths = [abs(int(width)) for width in settings.get("widths") or own]
    stages = 36 * sum(width**2 for width in widths)  # two blocks of two convolutions of 3 x 3
    return stages + 49 * len(settings["channels"]) * widths[0] + int(settings.get("projection", 1)) ** 2


def representation_text(network: ContrastiveNetwork, card: Mapping[str, Any]) -> str:
    """Write the card: which images the network takes, and what it learned from (Markdown)."""
    lines = [
        "# A representation of images",
        "",
        f"Turns an image of {network.pixels} pixels in {', '.join(network.channels)} into {network.width} numbers.",
        "They were learned without truth (contrastive learning).",
        "",
        f"- Images: {json.dumps(network.recipe, ensure_ascii=False)}",
        *(f"- {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in card.items()),
        "",
        f"Written by galineage {__version__}; read it with `galineage.load_representation`.",
        "",
    ]
    return "\n".join(lines)
