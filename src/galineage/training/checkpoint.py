"""Full-state checkpoints in one safetensors file: written atomically, read without unpickling anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from galineage.atomic import writing
from galineage.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Checkpoint", "identity"]


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
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        facts = json.dumps(self.facts)
        with writing(path) as temporary:
            save_file(tensors, temporary, metadata={"galineage": facts, "sha256": _checksum(facts, tensors)})

    @classmethod
    def read(cls, path: Path, expected: dict[str, str]) -> Checkpoint | None:
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
            If the file is damaged, or belongs to another configuration, model or data set; says which.
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
            facts = json.loads(metadata["galineage"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise TrainingError(
                f"the checkpoint cannot be read: {error}", where=str(path), advice="delete it to start this run again"
            ) from error
        changed = [name for name, value in expected.items() if facts.get("identity", {}).get(name) != value]
        if changed:
            raise TrainingError(
                f"the checkpoint belongs to a run with another {' and '.join(changed)}",
                where=str(path),
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
    settings: dict[str, Any], config_digest: str, x: Tensor, y: Tensor, groups: NDArray[Any] | None = None
) -> dict[str, str]:
    """Return hashes of what a run depends on.

    Parameters
    ----------
    settings : dict
        Estimator settings.
    config_digest : str
        Hash of the training configuration.
    x : Tensor (n, d)
        Features, registry units, dex where logarithmic.
    y : Tensor (n,)
        Target in its unit.
    groups : array (n,), optional
        What stays together when validation rows are drawn.
    """
    model = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    data = hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()[:16]
    split = hashlib.sha256(b"rows" if groups is None else "\0".join(map(str, groups)).encode()).hexdigest()[:16]
    return {
        "model": model,
        "training configuration": config_digest,
        "data": data,
        "split": split,
        "torch": str(torch.__version__),
    }
