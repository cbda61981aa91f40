"""Saved models: a folder of weights (safetensors), description (JSON) and card. One writer, one reader."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from galineage import __version__
from galineage.atomic import sha256, write_json, write_text, writing
from galineage.errors import BundleError, GalineageError
from galineage.fields import FIELDS, field
from galineage.models import ESTIMATORS
from galineage.models.heads import make_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from galineage.models.base import Estimator

__all__ = ["FORMAT", "Bundle", "load", "save"]

FORMAT = 1
"""Number of the layout written; older numbers stay readable."""

_DESCRIPTION = "bundle.json"
_MOST_DESCRIPTION_BYTES = 2_000_000
_MOST_WEIGHT_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Bundle:
    """A trained estimator and what a user must know to apply it.

    Attributes
    ----------
    estimator : Estimator
        In evaluation mode, on the CPU.
    card : mapping
        JSON values: ``domains`` (trained on), ``rows``, ``ranges`` (per feature: min, p01, p99, max of the training
        rows, as features), ``data`` (file, sha256, filter), ``training`` (settings and result), ``metrics``,
        ``limits`` (sentences).
    """

    estimator: Estimator
    card: Mapping[str, Any] = default(default_factory=dict)

    @property
    def name(self) -> str:
        """``model trained on domains`` for labels and headers."""
        return f"{self.card.get('model', self.estimator.kind)} trained on {', '.join(self.card.get('domains', ['?']))}"


def save(bundle: Bundle, folder: str | Path) -> Path:
    """Write a bundle.

    The description is written last and names the weights by their checksum, so that a reader sees the old bundle or
    the new one, never a mixture.

    Parameters
    ----------
    bundle : Bundle
        What to save.
    folder : path
        Made if needed; a bundle that is there is replaced.

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
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BundleError("a bundle is a folder, and this is a file", where=str(folder), advice="choose another name")
    if folder.is_dir() and not (folder / _DESCRIPTION).exists() and not _empty_or_unfinished(folder):
        raise BundleError(
            "the folder is not empty and holds no bundle", where=str(folder), advice="choose a new folder"
        )
    try:
        json.dumps(dict(bundle.card), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BundleError(f"the card cannot be written as JSON: {error}", expected="text, finite numbers") from error
    tensors = {name: value.detach().cpu().contiguous() for name, value in bundle.estimator.state_dict().items()}
    staged = folder / "weights.safetensors"
    with writing(staged) as temporary:
        save_file(tensors, temporary, metadata={"format": "galineage bundle"})
    digest = sha256(staged)
    weights = folder / f"weights-{digest[:12]}.safetensors"
    staged.replace(weights)
    write_text(folder / "README.md", card_text(bundle))
    write_json(
        folder / _DESCRIPTION,
        {
            "format": FORMAT,
            "galineage": __version__,
            "torch": torch.__version__.split("+")[0],
            "kind": bundle.estimator.kind,
            "settings": bundle.estimator.settings(),
            "weights": {"file": weights.name, "sha256": digest},
            "fields": {
                name: {"unit": field(name).unit, "scale": field(name).scale, "meaning": field(name).meaning}
                for name in (*bundle.estimator.features, bundle.estimator.target)
            },
            "card": dict(bundle.card),
        },
    )
    for old in (*folder.glob("weights-*.safetensors"), *folder.glob(".weights.*.safetensors")):
        if old != weights:
            old.unlink()
    return folder


def _empty_or_unfinished(folder: Path) -> bool:
    """Whether there is nothing, or what a first `save` that was interrupted before its description left."""
    # names with a leading dot are temporary files of a write that was killed
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    weights = {name for name in names if re.fullmatch(r"weights(-[0-9a-f]{12})?\.safetensors", name)}
    return not names or (bool(weights) and names - weights <= {"README.md"})


def load(folder: str | Path) -> Bundle:
    """Read a bundle that `save` wrote. Nothing is unpickled or evaluated, and there is no fallback.

    Parameters
    ----------
    folder : path
        The bundle's folder.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        If it is no bundle, is damaged, or was written by a newer format.
    """
    folder = Path(folder)
    description = _read_description(folder)
    weights = folder / Path(str(description["weights"]["file"])).name
    if not weights.is_file():
        raise BundleError("the weights are missing", where=str(weights), advice="copy the whole folder again")
    if weights.stat().st_size > _MOST_WEIGHT_BYTES:
        raise BundleError("the weights file is larger than any model of ours", where=str(weights))
    if sha256(weights) != description["weights"]["sha256"]:
        raise BundleError(
            "the weights do not have the checksum that the description names",
            where=str(weights),
            advice="the copy is damaged or mixed from two bundles: copy the folder again",
        )
    tensors = _read_tensors(weights)
    _check_fields(description, folder)
    estimator = _build(description, tensors, folder)
    return Bundle(estimator, description.get("card", {}))


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    try:
        if path.stat().st_size > _MOST_DESCRIPTION_BYTES:
            raise BundleError("the description is far larger than any of ours", where=str(path))
        description = json.loads(path.read_text(encoding="utf-8"))
        known = description["format"]
        if not isinstance(known, int) or known > FORMAT:
            raise BundleError(
                f"the bundle has format {known}", where=str(path), expected=f"up to {FORMAT}", advice="update galineage"
            )
        for part, keys in (("settings", ("features",)), ("weights", ("file", "sha256")), ("card", ())):
            missing = set(keys) - set(dict(description.get(part, {})))
            if missing:
                raise KeyError(f"{part} without {' and '.join(sorted(missing))}")
        description["kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            f"this is not a bundle: {type(error).__name__}: {error}",
            where=str(path),
            expected="a folder written by `galineage train` or galineage.save",
        ) from error
    return description


def _check_fields(description: dict[str, Any], folder: Path) -> None:
    """Refuse a bundle whose fields had another unit or scale when it was written."""
    written = description.get("fields", {})
    for name, facts in written.items() if isinstance(written, dict) else ():
        known = FIELDS.get(name)
        if (
            known is None
            or not isinstance(facts, dict)
            or (known.unit, known.scale) != (facts.get("unit"), facts.get("scale"))
        ):
            raise BundleError(
                f"the bundle was trained on a field {name!r} of another unit or scale: {facts}",
                where=str(folder),
                expected=f"{known.unit or 'no unit'}, {known.scale}" if known else "a field of this version",
                advice="use the version of galineage that wrote it, or train again",
            )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"the weights cannot be read: {error}", where=str(path)) from error


def _build(description: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> Estimator:
    kind = str(description["kind"])
    if kind not in ESTIMATORS:
        raise BundleError(
            f"the bundle holds an estimator of kind {kind!r}",
            where=str(folder),
            expected="one of " + ", ".join(ESTIMATORS),
            advice="update galineage",
        )
    try:
        settings = dict(description["settings"])
        _refuse_giants(settings, tensors, folder)
        estimator = ESTIMATORS[kind](**settings)
        estimator.load_tensors(tensors)
    except BundleError:
        raise
    except (GalineageError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise BundleError(f"description and weights do not fit: {error}", where=str(folder)) from error
    return estimator.eval()


def _refuse_giants(settings: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> None:
    """Refuse settings that would build a network much larger than the weights at hand."""
    widths = [len(settings["features"]), *settings.get("hidden", [])]
    if "head" in settings:
        widths.append(make_head(settings["head"]).outputs)
    wanted = int(settings.get("members", 1)) * sum(a * b for a, b in itertools.pairwise(widths))
    if wanted > 10 * sum(math.prod(tensor.shape) for tensor in tensors.values()) + 10_000:
        raise BundleError("the description asks for a network far larger than the weights", where=str(folder))


def card_text(bundle: Bundle) -> str:
    """Write the model card: what the model predicts, from what, learned where, how well, and its limits (Markdown)."""
    card, estimator = bundle.card, bundle.estimator
    target = field(estimator.target)
    ranges = card.get("ranges", {})
    lines = [f"# {bundle.name}", "", f"Predicts **{target.name}**: {target.meaning}.", "", "## Inputs", ""]
    lines += ["| field | unit | scale | training range (1 to 99 %) | meaning |", "| --- | --- | --- | --- | --- |"]
    for name in estimator.features:
        item = field(name)
        low, high = (ranges.get(name, {}).get(key, float("nan")) for key in ("p01", "p99"))
        lines.append(f"| {name} | {item.unit or '-'} | {item.scale} | {low:.4g} to {high:.4g} | {item.meaning} |")
    lines += ["", "Ranges of logarithmic fields are in dex.", "", "## Training", ""]
    for title, key in (("Domains", "domains"), ("Galaxies", "rows"), ("Data", "data"), ("Settings", "training")):
        lines.append(f"- {title}: {json.dumps(card.get(key), ensure_ascii=False)}")
    lines += ["", "## How good it is", ""]
    metrics = card.get("metrics", {})
    lines += [f"- {name}: {value}" for name, value in metrics.items()] or ["Not measured."]
    lines += ["", "## Limits", "", *[f"- {text}" for text in card.get("limits", [])], ""]
    lines += [f"Written by galineage {__version__}; read it with `galineage.load`.", ""]
    return "\n".join(lines)
