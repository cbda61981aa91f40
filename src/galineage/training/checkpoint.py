"""Full-state checkpoints in one safetensors file: written atomically, read without unpickling anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.atomic import writing
from galineage.errors import TrainingError
from galineage.guard import parse_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Checkpoint", "changes", "identity"]


@dataclass
class Checkpoint:
    """Everything a run needs to go on as if it had never stopped.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Weights, best weights, optimiser moments, random states, early-stopping counters.
    facts : dict
        JSON values: epoch, history rows, identity of the run, whether it is finished.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write to ``path`` atomically; raises `FileFormatError` if the disk refuses."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        facts = json.dumps(self.facts)
        with writing(path) as temporary:
            # not save_file: on a full disk it raises an error of its own
            temporary.write_bytes(save(tensors, {"galineage": facts, "sha256": _checksum(facts, tensors)}))
        for old in path.parent.glob(f".{path.stem}.*{path.suffix}"):  # of writes that were killed
            old.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path, expected: dict[str, Any]) -> Checkpoint | None:
        """Read a checkpoint of the same run.

        Parameters
        ----------
        path : Path
            File; if there is none the run starts at the beginning.
        expected : dict
            Result of `identity` for the run at hand.

        Returns
        -------
        Checkpoint or None

        Raises
        ------
        TrainingError
            If the file is damaged, or belongs to another configuration, model or data set; says what changed.
        """
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as stream:
                metadata = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            if _checksum(metadata["galineage"], tensors) != metadata["sha256"]:
                raise ValueError("its checksum is wrong")
            facts = parse_json(metadata["galineage"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise TrainingError(
                f"the checkpoint cannot be read: {error}", where=str(path), advice="delete it to start this run again"
            ) from error
        different = changes(facts.get("identity", {}), json.loads(json.dumps(expected)))
        if different:
            raise TrainingError(
                f"the checkpoint belongs to another run: {'; '.join(different)}",
                where=str(path),
                expected="the same model, settings, data and torch: a run goes on bit for bit or not at all",
                advice="choose another output folder, or delete the checkpoint to start again",
            )
        return cls(tensors, facts)


def _checksum(facts: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def identity(
    estimator: dict[str, Any], training: dict[str, Any], arrays: dict[str, NDArray[Any] | None], **parts: Any
) -> dict[str, Any]:
    """Return what a run depends on, as JSON values: settings in full, arrays by shape and checksum.

    Parameters
    ----------
    estimator, training : dict
        Settings of the estimator and of the training.
    arrays : dict of str to array
        Every array the run uses, any shapes, in its field's unit; None where there is none.
    **parts
        More settings, such as those of an alignment.
    """
    return {
        "estimator": estimator,
        "training": training,
        **{name.replace("_", " "): _fingerprint(values) for name, values in arrays.items()},
        **parts,
        "torch": str(torch.__version__),
    }


def changes(old: dict[str, Any], new: dict[str, Any], owner: str = "") -> list[str]:
    """Say in words what differs between two results of `identity`, one phrase each, those of settings with values."""
    found = []
    for name in [*new, *(name for name in old if name not in new)]:
        before, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            same_kind = before.keys() == now.keys() == {"shape", "sha256"}
            found += [_array_change(name, before, now)] if same_kind else changes(before, now, f"{owner}{name} ")
        else:
            found.append(f"{owner}{name} was {_shown(before)} and is {_shown(now)}")
    return found


_ABSENT = object()


def _shown(value: Any) -> str:
    if value is _ABSENT or value is None:
        return "not given"
    return "given" if isinstance(value, dict) and "sha256" in value else json.dumps(value)


def _array_change(name: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    if before["shape"] != now["shape"]:
        return f"{name} had shape {tuple(before['shape'])} and have {tuple(now['shape'])}"
    return f"{name} have other values"


def _fingerprint(values: NDArray[Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    # labels of any kind are hashed as text: 7 and "7" make the same groups
    numbers = values.dtype.kind == "f"
    content = np.ascontiguousarray(values).tobytes() if numbers else "\0".join(map(str, values.tolist())).encode()
    return {"shape": list(values.shape), "sha256": hashlib.sha256(content).hexdigest()[:16]}
