"""One network on several devices of one machine: a process for each, which Lightning Fabric starts.

Every process holds the same weights and does its share of every batch; gradients are summed before each step, so that
all take the same one. Weights travel in safetensors files, there and back.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage import errors
from galineage.atomic import write_json
from galineage.errors import ConfigError, GalineageError, MissingDependencyError, TrainingError
from galineage.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from galineage.models.base import Estimator

__all__ = ["Share", "spread_out"]


@dataclass(frozen=True)
class Share:
    """What one of several equal processes does; by default there is one, which does all.

    Attributes
    ----------
    device : torch.device
        Its own.
    rank : int
        Its number, from 0; the first alone writes.
    size : int
        How many processes there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    def of(self, values: Tensor, batch: int) -> Tensor:
        """Return this process's values (m,) of all (n,): of every batch the rows ``rank``, ``rank + size``, ..."""
        if self.size == 1:
            return values
        return torch.cat([part[self.rank :: self.size] for part in values.split(batch)])

    def rows(self, batch: int) -> int:
        """Return how many rows of a full batch are this process's."""
        return len(range(self.rank, batch, self.size))

    def mean(self, values: Tensor, whole: int) -> Tensor:
        """Return this process's part of the mean, a scalar in the unit of the values (b,), over ``whole`` rows."""
        return values.mean() if self.size == 1 else values.sum() / whole

    def total(self, values: Tensor) -> Tensor:
        """Sum contiguous values, any shape and unit, over the processes, in place; NaN spreads to all."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes: one message for all of them."""
        if self.size == 1:
            return
        found = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        flat = self.total(torch.cat([each.flatten() for each in found]))
        for parameter, part in zip(parameters, flat.split([each.numel() for each in found]), strict=True):
            parameter.grad = part.view(parameter.shape).clone(memory_format=torch.preserve_format)

    def average(self, module: nn.Module) -> None:
        """Replace running statistics of batch normalisation by their means over the processes; other buffers stay."""
        if self.size == 1:
            return
        for name, buffer in module.named_buffers():
            if name.rpartition(".")[2] in ("running_mean", "running_var"):
                buffer.copy_(self.total(buffer.clone()) / self.size)

    def reseed(self, *numbers: int) -> None:
        """Seed what dropout draws from, in each process otherwise, by these numbers (0 or more)."""
        if self.size == 1:
            return
        seed = int(np.random.SeedSequence((*numbers, self.rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)


def spread_out(
    work: Callable[..., dict[str, Any]], estimator: Estimator, arguments: tuple[Any, ...], kind: str, count: int
) -> dict[str, Any]:
    """Run work in a process for each device, and put the weights that it finds into the estimator.

    Parameters
    ----------
    work : callable
        Of a module, so that other processes find it. Called as ``work(share, estimator, *arguments)``; returns JSON
        values, of which those of the first process count, as do its estimator's weights.
    estimator : Estimator
        Remade in each process from its settings and tensors.
    arguments : tuple
        Sent to each process.
    kind : str
        Of the devices: ``cpu`` or ``cuda``.
    count : int
        How many, 2 or more.

    Returns
    -------
    dict

    Raises
    ------
    MissingDependencyError
        If Lightning is not installed.
    ConfigError
        If there are fewer devices, or processes cannot be started here (from a notebook).
    GalineageError
        What a process raised; all of them end then.
    TrainingError
        If a process fails in another way, or is killed.
    """
    fabric = _fabric(kind, count)
    with tempfile.TemporaryDirectory(prefix="galineage-") as name, _tidy():
        folder = Path(name)
        Checkpoint(estimator.state_dict(), {"identity": {}}).write(folder / _START)
        # in one piece: Fabric looks into what it is given, and refuses frozen dataclasses
        task = partial(
            _process,
            folder=folder,
            kind=type(estimator),
            settings=estimator.settings(),
            work=work,
            arguments=arguments,
        )
        try:
            fabric.launch(task)
        except Exception as error:
            raise _told(folder, error) from error
        found = Checkpoint.read(folder / _END, {})
    if found is None:
        raise TrainingError("the processes ended without a result")
    estimator.load_tensors(found.tensors)
    result: dict[str, Any] = found.facts["result"]
    return result


_START, _END = "start.safetensors", "end.safetensors"


def _fabric(kind: str, count: int) -> Any:
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.plugins.environments import LightningEnvironment
    except ImportError as error:
        raise MissingDependencyError(
            f"training on {count} devices needs the package lightning", advice="pip install 'galineage[train]'"
        ) from error
    if kind == "cuda" and torch.cuda.device_count() < count:
        raise ConfigError(f"{count} devices were asked for", expected=f"at most {torch.cuda.device_count()} GPUs")
    try:
        # its own environment: one machine, whatever scheduler started this process
        return Fabric(accelerator=kind, devices=count, strategy="ddp_spawn", plugins=[LightningEnvironment()])
    except Exception as error:
        raise ConfigError(
            f"{count} training processes cannot be started here: {_last_line(error)}",
            advice="train in a script or with `galineage train`, not in a notebook, or with devices=1",
        ) from error


def _process(
    fabric: Any,
    *,
    folder: Path,
    kind: type[Estimator],
    settings: dict[str, Any],
    work: Callable[..., dict[str, Any]],
    arguments: tuple[Any, ...],
) -> None:
    """Do one process's work; leave its error, or the first one's result, in the folder."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    share = Share(fabric.device, fabric.global_rank, fabric.world_size)
    try:
        start = Checkpoint.read(folder / _START, {})
        estimator: Any = kind(**settings)
        estimator.load_tensors({} if start is None else start.tensors)
        result = work(share, estimator, *arguments)
        if not share.rank:
            Checkpoint(estimator.state_dict(), {"identity": {}, "result": result}).write(folder / _END)
    except GalineageError as error:
        parts = {name: getattr(error, name) for name in ("what", "where", "expected", "advice")}
        write_json(folder / f"error-{share.rank}.json", {"kind": type(error).__name__, **parts})
        raise


def _end_with_parent() -> None:
    """Wait for the process that started this one; once it is gone, nobody asks for the result, and its lock is free."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _told(folder: Path, error: Exception) -> GalineageError:
    """Return the error that a process raised."""
    for path in sorted(folder.glob("error-*.json")):
        parts = json.loads(path.read_text(encoding="utf-8"))
        kind: Any = getattr(errors, parts.pop("kind"), TrainingError)
        found: GalineageError = kind(parts.pop("what"), **parts)
        return found
    return TrainingError(
        f"a training process failed: {_last_line(error)}",
        advice="run the same command again: it goes on where it stopped. A script that trains on several devices does "
        "so under `if __name__ == '__main__':`",
    )


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


@contextlib.contextmanager
def _tidy() -> Iterator[None]:
    """Leave no process behind, nor the address by which they met, which the next run would take for its own."""
    before, children = dict(os.environ), set(multiprocessing.active_children())
    try:
        yield
    finally:
        for child in set(multiprocessing.active_children()) - children:
            child.terminate()
            child.join()
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
