"""The one training loop: all members of an ensemble at once, early stopping each for itself, exact resume."""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.atomic import write_text
from galineage.errors import DataError, MissingDependencyError, TrainingError
from galineage.fields import field
from galineage.models.base import DirectEstimator
from galineage.progress import bar
from galineage.store.splits import held_out_groups
from galineage.training.checkpoint import Checkpoint, identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from galineage.fields import Field
    from galineage.models.base import Estimator
    from galineage.training.config import TrainConfig

__all__ = ["TrainingResult", "fit_estimator", "pick_device"]


@dataclass(frozen=True)
class TrainingResult:
    """What a training run did.

    Attributes
    ----------
    best_epoch : tuple of int, length E
        Epoch whose weights each member keeps, from 1; empty for estimators fitted in one call.
    best_loss : tuple of float, length E
        Validation loss (mean negative log likelihood, natural units) at that epoch.
    epochs : int
        Epochs run.
    history : tuple of dict
        One row per epoch: ``epoch``, ``train_loss``, ``val_loss`` (means over members), ``val_loss_<member>``.
    """

    best_epoch: tuple[int, ...] = ()
    best_loss: tuple[float, ...] = ()
    epochs: int = 0
    history: tuple[dict[str, float], ...] = ()


def pick_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    TrainingError
        If the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(f"device {name!r} was asked for and there is no GPU", advice="use device cpu or auto")
    try:
        device = torch.device(name)
        if device.type == "cuda":
            torch.cuda.get_device_properties(device)
        elif device.type != "cpu":
            raise RuntimeError(f"device type {device.type} is not supported")
        return device
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(f"there is no device {name!r}", expected="auto, cpu, cuda or cuda:N") from error


def fit_estimator(
    estimator: Estimator,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    config: TrainConfig,
    *,
    groups: NDArray[Any] | None = None,
    folder: Path | None = None,
    progress: bool = True,
    label: str = "training",
) -> TrainingResult:
    """Train an estimator in place and leave it in evaluation mode with its best weights.

    Parameters
    ----------
    estimator : Estimator
        Untrained; its input scaling is fitted here, on the rows given.
    x : array (n, d)
        Features, registry units, dex where logarithmic; finite.
    y : array (n,)
        Target in its registry unit; finite.
    config : TrainConfig
        Settings.
    groups : array (n,), optional
        Rows of one group (root) stay together when validation rows are drawn. Default: every row its own.
    folder : Path, optional
        Where ``checkpoint.safetensors`` and ``history.csv`` are kept; a run found there is continued. TensorBoard
        files go there too if tensorboard is installed.
    progress : bool
        Show a bar with time left on a terminal.
    label : str
        Text beside the bar.

    Returns
    -------
    TrainingResult

    Raises
    ------
    DataError
        If there are fewer than 20 rows, or values are not finite, or the target leaves its range.
    TrainingError
        If the loss stops being finite, or the folder holds another run.
    """
    _check_rows(x, y, groups, field(estimator.target))
    folder = None if folder is None else Path(folder)
    rows, target = (torch.from_numpy(np.array(values, dtype=np.float32)) for values in (x, y))
    if isinstance(estimator, DirectEstimator):
        estimator.fit(rows, target, config.seed)
        estimator.eval()
        return TrainingResult()
    run = _Run(estimator, rows, target, config, groups, folder)
    with _own_random_state(run.device, config.seed), _one_thread():
        run.resume()
        with contextlib.closing(_tensorboard(folder)) as board:
            epochs = bar(range(run.epoch, config.max_epochs), label=label, show=progress)
            for _ in epochs:
                if run.finished:
                    break
                board.send(run.one_epoch())
                epochs.set_postfix(val=f"{run.history[-1]['val_loss']:.3f}", refresh=False)
            epochs.close()
        run.finish()
    return TrainingResult(
        tuple(int(value) for value in run.best_epoch),
        tuple(float(value) for value in run.best_loss),
        run.epoch,
        tuple(run.history),
    )


@contextlib.contextmanager
def _own_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch for a block, on the CPU and on the device in use only, and put the old state back."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread on the CPU for a block: networks this small spend more time waiting for each other than working.

    On cores that are busy otherwise two threads were measured 12 times slower than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_rows(x: NDArray[np.float64], y: NDArray[np.float64], groups: NDArray[Any] | None, target: Field) -> None:
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise DataError(f"features have shape {x.shape} and the target {y.shape}", expected="(n, d) and (n,)")
    if groups is not None and len(groups) != len(y):
        raise DataError(f"{len(groups)} group labels for {len(y)} galaxies", expected="one for each")
    if len(y) < 20:
        raise DataError(f"only {len(y)} galaxies to train on", expected="20 or more", advice="relax the row filter")
    for name, values in (("target", y[:, None]), ("feature", x)):
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise DataError(
                f"{int(bad.sum())} rows have a {name} that is not finite",
                where=f"first at row {int(np.flatnonzero(bad)[0])}",
                advice="use Catalogue.complete(features) to leave such rows out",
            )
    impossible = np.flatnonzero(~target.in_range(y))
    if len(impossible):
        raise DataError(
            f"{len(impossible)} rows have an impossible {target.name}",
            where=f"first at row {int(impossible[0])}: {y[impossible[0]]:g}",
            expected=target.range_text,
        )


def _tensorboard(folder: Path | None) -> Any:
    """Return a started coroutine that logs history rows to TensorBoard, or drops them if it is not installed."""

    def log() -> Iterator[None]:
        writer = None
        if folder is not None:
            with contextlib.suppress(ImportError, MissingDependencyError):
                from torch.utils.tensorboard import SummaryWriter

                writer = SummaryWriter(str(folder / "tensorboard"))
        try:
            while True:
                row = yield
                if writer is not None and row is not None:
                    for name in ("train_loss", "val_loss"):
                        writer.add_scalar(name, row[name], int(row["epoch"]))
        finally:
            if writer is not None:
                writer.close()

    coroutine: Any = log()
    next(coroutine)
    return coroutine


class _Run:
    """State of one run: what a checkpoint holds, and the steps that change it."""

    def __init__(
        self, estimator: Estimator, x: Tensor, y: Tensor, config: TrainConfig, groups: Any, folder: Path | None
    ) -> None:
        self.estimator, self.config = estimator, config
        self.path = None if folder is None else folder / "checkpoint.safetensors"
        self.identity = identity(estimator.settings(), config.digest(), x, y, groups)
        self.device = pick_device(config.device)
        estimator.fit_scaling(x)
        estimator.to(self.device)
        self.x, self.y = x.to(self.device), y.to(self.device)
        self.train_rows, self.valid_rows = _member_rows(len(y), groups, estimator.members, config)
        self.parameters = list(estimator.parameters())
        self.optimiser = torch.optim.Adam(
            self.parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        members = estimator.members
        self.best = {name: value.detach().clone() for name, value in estimator.state_dict().items()}
        self.best_loss = torch.full((members,), torch.inf, dtype=torch.float64)
        self.best_epoch = torch.zeros(members, dtype=torch.int64)
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    @property
    def waited(self) -> Tensor:
        """Epochs since each member's best, shape (E,)."""
        return self.epoch - self.best_epoch

    @property
    def finished(self) -> bool:
        """Whether every member has run out of patience, or of epochs."""
        return self.epoch >= self.config.max_epochs or bool((self.waited >= self.config.patience).all())

    def one_epoch(self) -> dict[str, float]:
        """Train one epoch, validate, keep best weights, checkpoint when due; return the history row."""
        self.epoch += 1
        train_loss = self._train()
        losses = self._validate()
        better = (losses < self.best_loss) & (self.waited <= self.config.patience)
        self.best_loss = torch.where(better, losses, self.best_loss)
        self.best_epoch = torch.where(better, self.epoch, self.best_epoch)
        chosen = better.to(self.device)
        for name, value in self.estimator.state_dict().items():
            if value.dim() and len(value) == len(better) and name not in ("center", "spread"):
                self.best[name][chosen] = value[chosen]
        row = {"epoch": self.epoch, "train_loss": train_loss, "val_loss": float(losses.mean())}
        row |= {f"val_loss_{member}": float(loss) for member, loss in enumerate(losses)}
        self.history.append(row)
        if self.epoch % self.config.checkpoint_every == 0:
            self.save()
        return row

    def _train(self) -> float:
        self.estimator.train()
        rows = torch.stack([part[torch.randperm(len(part), generator=self.generator)] for part in self.train_rows])
        size, total, steps = self.config.batch_size, 0.0, 0
        for start in range(0, rows.shape[1], size):
            batch = rows[:, start : start + size]
            if start and batch.shape[1] <= size // 2:
                break  # a very small last batch would be noise; other rows come last in the next epoch
            batch = batch.to(self.device)
            self.optimiser.zero_grad()
            losses = -self.estimator(self.x[batch]).log_prob(self.y[batch]).mean(dim=1)
            losses.sum().backward()
            _clip_by_member(self.parameters, self.config.clip_norm)
            value = float(losses.detach().mean())
            self._guard(value, losses)
            self.optimiser.step()
            total, steps = total + value, steps + 1
        return total / steps

    def _guard(self, value: float, losses: Tensor) -> None:
        if np.isfinite(value):
            return
        member = int((~torch.isfinite(losses)).nonzero()[0])
        raise TrainingError(
            f"the loss of member {member} is {float(losses.detach()[member])}",
            where=f"epoch {self.epoch}",
            expected="a finite number",
            advice="lower learning_rate, or look for outliers in the inputs with `galineage inspect`",
        )

    @torch.no_grad()
    def _validate(self) -> Tensor:
        self.estimator.eval()
        rows = self.valid_rows.to(self.device)
        losses = -self.estimator(self.x[rows]).log_prob(self.y[rows]).mean(dim=1)
        return torch.where(torch.isfinite(losses), losses, torch.inf).double().cpu()

    def save(self, *, finished: bool = False) -> None:
        """Write checkpoint and history, if there is a folder."""
        if self.path is None:
            return
        tensors = {f"model.{name}": value for name, value in self.estimator.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for index, parameter in enumerate(self.parameters):
            for name, value in self.optimiser.state[parameter].items():
                tensors[f"adam.{index}.{name}"] = value
        tensors |= {"best_loss": self.best_loss, "best_epoch": self.best_epoch}
        tensors |= {"generator": self.generator.get_state(), "torch_random": torch.random.get_rng_state()}
        if self.device.type == "cuda":
            tensors["cuda_random"] = torch.cuda.get_rng_state(self.device)
        facts = {"epoch": self.epoch, "history": self.history, "identity": self.identity, "finished": finished}
        Checkpoint(tensors, facts).write(self.path)
        write_text(self.path.with_name("history.csv"), _as_csv(self.history))

    def resume(self) -> None:
        """Go on from the folder's checkpoint if there is one of this very run."""
        found = None if self.path is None else Checkpoint.read(self.path, self.identity)
        if found is None:
            return
        tensors = found.tensors
        self.estimator.load_state_dict(_with_prefix(tensors, "model."))
        self.best = {name: value.to(self.device) for name, value in _with_prefix(tensors, "best.").items()}
        for index, parameter in enumerate(self.parameters):
            state = _with_prefix(tensors, f"adam.{index}.")
            self.optimiser.state[parameter] = {
                name: value if name == "step" and self.device.type == "cpu" else value.to(self.device)
                for name, value in state.items()
            }
        self.best_loss, self.best_epoch = tensors["best_loss"], tensors["best_epoch"]
        self.generator.set_state(tensors["generator"])
        torch.random.set_rng_state(tensors["torch_random"])
        if "cuda_random" in tensors:
            torch.cuda.set_rng_state(tensors["cuda_random"], self.device)
        self.epoch, self.history = found.facts["epoch"], found.facts["history"]

    def finish(self) -> None:
        """Put the best weights back and leave the estimator ready for use on the CPU."""
        self.save(finished=True)
        never = (self.best_epoch == 0).nonzero()
        if len(never):
            raise TrainingError(
                f"the validation loss of member {int(never[0])} was never finite",
                where=f"{self.epoch} epochs",
                advice="lower learning_rate, or look for targets outside their range with `galineage inspect`",
            )
        self.estimator.load_state_dict(self.best)
        self.estimator.to("cpu")
        self.estimator.eval()


def _member_rows(count: int, groups: Any, members: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Training and validation rows of each member, shapes (E, n_train) and (E, n_valid)."""
    labels = np.arange(count) if groups is None else np.asarray(groups)
    different = members if config.validation_split == "own" else 1
    masks = [held_out_groups(labels, config.validation, config.seed + 7919 * draw) for draw in range(different)]
    valid = [np.flatnonzero(mask) for mask in masks]
    train = [np.flatnonzero(~mask) for mask in masks]
    # members are evaluated side by side, so that all need the same number of rows
    fewest = min(map(len, valid)), min(map(len, train))
    shuffle = np.random.default_rng(config.seed)
    stacks = [
        np.stack([shuffle.permutation(part)[:size] for part in parts])
        for parts, size in zip((valid, train), fewest, strict=True)
    ]
    valid_rows, train_rows = (torch.as_tensor(stack).expand(members, -1) for stack in stacks)
    return train_rows, valid_rows


@torch.no_grad()
def _clip_by_member(parameters: list[Any], limit: float) -> None:
    """Scale gradients so that the norm over one member's weights is at most ``limit``: members share nothing."""
    squares = sum(parameter.grad.square().flatten(1).sum(1) for parameter in parameters)
    factor = (limit / (squares.sqrt() + 1e-6)).clamp_max(1.0)
    for parameter in parameters:
        parameter.grad.mul_(factor.view(-1, *([1] * (parameter.dim() - 1))))


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _as_csv(rows: list[dict[str, float]]) -> str:
    stream = io.StringIO()
    if rows:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()
