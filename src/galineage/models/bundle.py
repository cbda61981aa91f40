"""Saved models: a folder of weights (safetensors), description (JSON) and card. One writer, one reader."""

from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import dataclass, replace
from dataclasses import field as default
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage import __version__
from galineage.atomic import write_json, write_text
from galineage.errors import BundleError, GalineageError
from galineage.fields import field, known_field
from galineage.guard import parse_json, read_text
from galineage.models import ESTIMATORS
from galineage.models.bundle_checks import check_card, check_settings
from galineage.models.tensor_files import read_tensors, write_tensors
from galineage.shift import SHIFT_SCORES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from galineage.calibration import ConformalIntervals, Recalibration
    from galineage.models.base import Estimator
    from galineage.shift import ShiftScore

__all__ = ["CALIBRATED", "FORMAT", "Bundle", "load", "save"]

FORMAT = 2
"""Number of the layout written; older numbers stay readable. 2 added the shift score."""

CALIBRATED = "Calibrated error bars"
"""How the card's lines about `galineage.calibration` begin."""

_DESCRIPTION = "bundle.json"
_STEMS = ("weights", "shift")
_MOST_DESCRIPTION_BYTES = 2_000_000


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
    shift : ShiftScore or None
        How unlike the training galaxies a galaxy is; fitted on the estimator's features. Bundles of format 1 have none.
    recalibration : Recalibration or None
        Map of probability levels that predictions go through; for one target only.
    conformal : ConformalIntervals or None
        Intervals given beside the quantiles; for one target only.
    """

    estimator: Estimator
    card: Mapping[str, Any] = default(default_factory=dict)
    shift: ShiftScore | None = None
    recalibration: Recalibration | None = None
    conformal: ConformalIntervals | None = None

    @property
    def name(self) -> str:
        """``model trained on domains`` for labels and headers."""
        return f"{self.card.get('model', self.estimator.kind)} trained on {', '.join(self.card.get('domains', ['?']))}"

    def uncalibrated(self) -> Bundle:
        """Return the bundle without recalibration and conformal intervals, and with nothing about them on the card."""
        card = {name: value for name, value in self.card.items() if name != "calibration"}
        if "limits" in card:
            card["limits"] = [line for line in card["limits"] if not line.startswith(CALIBRATED)]
        return replace(self, card=card, recalibration=None, conformal=None)


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
    files = {"weights": write_tensors(folder, "weights", bundle.estimator.state_dict())}
    if bundle.shift is not None:
        arrays = {name: torch.from_numpy(np.array(value)) for name, value in bundle.shift.tensors().items()}
        files["shift"] = {"kind": bundle.shift.kind, **write_tensors(folder, "shift", arrays)}
    write_text(folder / "README.md", card_text(bundle))
    write_json(
        folder / _DESCRIPTION,
        {
            "format": FORMAT,
            "galineage": __version__,
            "torch": torch.__version__.split("+")[0],
            "kind": bundle.estimator.kind,
            "settings": bundle.estimator.settings(),
            **files,
            **{
                name: part.settings()
                for name, part in (("recalibration", bundle.recalibration), ("conformal", bundle.conformal))
                if part is not None
            },
            "fields": {
                name: {"unit": field(name).unit, "scale": field(name).scale, "meaning": field(name).meaning}
                for name in (*bundle.estimator.features, *bundle.estimator.targets)
            },
            "card": dict(bundle.card),
        },
    )
    kept = {entry["file"] for entry in files.values()}
    for old in (path for stem in _STEMS for mark in (f"{stem}-*", f".{stem}.*") for path in folder.glob(mark)):
        if old.suffix == ".safetensors" and old.name not in kept:
            with contextlib.suppress(OSError):  # the new bundle is whole, whatever of the old one stays
                old.unlink()
    return folder


def _empty_or_unfinished(folder: Path) -> bool:
    """Whether there is nothing, or what a first `save` that was interrupted before its description left."""
    # names with a leading dot are temporary files of a write that was killed
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    weights = {name for name in names if re.fullmatch(rf"({'|'.join(_STEMS)})(-[0-9a-f]{{12}})?\.safetensors", name)}
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
    tensors = read_tensors(folder, description["weights"], "weights")
    _check_fields(description, folder)
    estimator = _build(description, tensors, folder)
    shift = _shift(description, estimator.likeness_width, folder)
    return Bundle(estimator, description.get("card", {}), shift, *_calibrations(description, estimator, folder))


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    try:
        description = parse_json(read_text(path, _MOST_DESCRIPTION_BYTES))
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
        check_card(description.get("card", {}), folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
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
        known = known_field(name)
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


def _shift(description: Mapping[str, Any], columns: int, folder: Path) -> ShiftScore | None:
    """Read the shift score, if the description names one."""
    entry = description.get("shift")
    if entry is None:
        return None
    whole = isinstance(entry, dict) and {"kind", "file", "sha256"} <= set(entry)
    if not whole or str(entry["kind"]) not in SHIFT_SCORES:
        raise BundleError(
            f"the bundle has a shift score that is not known: {entry}",
            where=str(folder),
            expected="one of " + ", ".join(SHIFT_SCORES),
            advice="update galineage",
        )
    tensors = read_tensors(folder, entry, "shift score's arrays")
    try:
        score = SHIFT_SCORES[str(entry["kind"])].from_tensors({name: value.numpy() for name, value in tensors.items()})
    except (GalineageError, TypeError, ValueError) as error:
        raise BundleError(f"the shift score cannot be used: {error}", where=str(folder)) from error
    if score.columns != columns:
        raise BundleError(f"the shift score has {score.columns} features", where=str(folder), expected=str(columns))
    return score


def _calibrations(
    description: Mapping[str, Any], estimator: Estimator, folder: Path
) -> tuple[Recalibration | None, ConformalIntervals | None]:
    """Read recalibration and conformal intervals, where the description has them."""
    from galineage.calibration import ConformalIntervals, Recalibration

    entries = [description.get("recalibration"), description.get("conformal")]
    if any(entry is not None for entry in entries) and len(estimator.targets) > 1:
        raise BundleError("calibrated error bars of several targets are not known", where=str(folder))
    try:
        return (
            None if entries[0] is None else Recalibration.from_settings(entries[0]),
            None if entries[1] is None else ConformalIntervals.from_settings(entries[1]),
        )
    except (GalineageError, TypeError, ValueError) as error:
        raise BundleError(f"the calibration cannot be used: {error}", where=str(folder)) from error


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
        check_settings(settings, folder)
        _refuse_giants(ESTIMATORS[kind], settings, tensors, folder)
        estimator = ESTIMATORS[kind](**settings)
        estimator.load_tensors(tensors)
    except BundleError:
        raise
    except (GalineageError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise BundleError(f"description and weights do not fit: {error}", where=str(folder)) from error
    return estimator.eval()


def _refuse_giants(kind: type[Estimator], settings: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> None:
    """Refuse settings that would build a network much larger than the weights at hand."""
    wanted = kind.count_numbers(settings)
    if wanted > 10 * sum(math.prod(tensor.shape) for tensor in tensors.values()) + 10_000:
        raise BundleError("the description asks for a network far larger than the weights", where=str(folder))


def card_text(bundle: Bundle) -> str:
    """Write the model card: what the model predicts, from what, learned where, how well, and its limits (Markdown)."""
    card, estimator = bundle.card, bundle.estimator
    targets = [field(name) for name in estimator.targets]
    ranges = card.get("ranges", {})
    lines = [f"# {bundle.name}", "", *(f"Predicts **{item.name}**: {item.meaning}." for item in targets)]
    lines += ["", "## Inputs", "", *estimator.describe_inputs()]
    if estimator.features:
        lines += ["| field | unit | scale | training range (1 to 99 %) | meaning |", "| --- | --- | --- | --- | --- |"]
    for name in estimator.features:
        item = field(name)
        low, high = (ranges.get(name, {}).get(key, float("nan")) for key in ("p01", "p99"))
        lines.append(f"| {name} | {item.unit or '-'} | {item.scale} | {low:.4g} to {high:.4g} | {item.meaning} |")
    lines += ["", "Ranges of logarithmic fields are in dex."] if estimator.features else []
    lines += ["", "## Training", ""]
    rows = "Views" if estimator.sees_maps else "Galaxies"
    for title, key in (("Domains", "domains"), (rows, "rows"), ("Data", "data"), ("Settings", "training")):
        lines.append(f"- {title}: {json.dumps(card.get(key), ensure_ascii=False)}")
    lines += ["", "## How good it is", ""]
    metrics = card.get("metrics", {})
    lines += [f"- {name}: {value}" for name, value in metrics.items()] or ["Not measured."]
    lines += ["", "## Limits", "", *[f"- {text}" for text in card.get("limits", [])], ""]
    lines += [f"Written by galineage {__version__}; read it with `galineage.load`.", ""]
    return "\n".join(lines)
