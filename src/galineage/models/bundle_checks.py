"""What a bundle from a stranger must pass: sizes before anything is allocated, types before anything is computed."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from galineage.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_card", "check_header", "check_settings"]

_MOST_HEADER_BYTES = 500_000
_MOST_FEATURES = 2000
_MOST_ITEMS = 256
_MOST_NUMBER = 10**6


def check_header(path: Path) -> None:
    """Refuse a safetensors file whose header is huge, or does not fit the file's size; the tensors are not read.

    Raises
    ------
    BundleError
        Saying what does not fit.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as stream:
            head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if length > _MOST_HEADER_BYTES:
            raise BundleError(
                f"the weights cannot be read: the header claims {length:,} bytes",
                where=str(path),
                expected=f"at most {_MOST_HEADER_BYTES:,}",
            )
        with safe_open(path, "pt"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"the weights cannot be read: {error}", where=str(path)) from error


def check_settings(settings: dict[str, Any], folder: Path) -> None:
    """Refuse settings with very long lists or very large numbers (the seed may be any), at any depth.

    Raises
    ------
    BundleError
        Naming the setting.
    """
    for name, value in settings.items():
        items = list(value) if isinstance(value, list | tuple) else [value]
        # a representation is hundreds of features
        if len(items) > (_MOST_FEATURES if name == "features" else _MOST_ITEMS):
            raise BundleError(f"the setting {name!r} has {len(items):,} items", where=str(folder), expected="a network")
        for item in items:
            if isinstance(item, dict):
                check_settings(item, folder)
            elif isinstance(item, int | float) and not abs(item) <= _MOST_NUMBER and name != "seed":
                raise BundleError(
                    f"the setting {name!r} is {item:.6g}: the description asks for a network far larger than any",
                    where=str(folder),
                )


def check_card(card: Any, folder: Path) -> None:
    """Refuse a card whose entries have another kind than those that `galineage.training.train` writes.

    Raises
    ------
    BundleError
        Naming the entry.
    """
    if not isinstance(card, dict):
        raise BundleError(f"the card is a {type(card).__name__}", where=str(folder), expected="names and values")
    kinds: dict[str, type] = {"domains": list, "limits": list, "ranges": dict, "metrics": dict, "calibration": list}
    wrong = [name for name, kind in kinds.items() if name in card and not isinstance(card[name], kind)]
    wrong += [name for name in ("domains", "limits") if name not in wrong and not _texts(card.get(name, []))]
    if "ranges" not in wrong and not all(_marks(item) for item in card.get("ranges", {}).values()):
        wrong.append("ranges")
    prior = card.get("prior_width", 0.0) or 0.0
    # one number for one target, a table by name for several
    if not all(_is_number(value) for value in (prior.values() if isinstance(prior, dict) else [prior])):
        wrong.append("prior_width")
    if wrong:
        raise BundleError(f"the card has unusable {', '.join(wrong)}", where=str(folder), advice="train it again")


def _texts(items: list[Any]) -> bool:
    return all(isinstance(item, str) for item in items)


def _marks(item: Any) -> bool:
    return isinstance(item, dict) and all(_is_number(item.get(mark)) for mark in ("min", "p01", "p99", "max"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
