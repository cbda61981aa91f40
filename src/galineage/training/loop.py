"""The one training loop: all members of an ensemble at once, early stopping each for itself, exact resume."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from threadpoolctl import threadpool_limits

from galineage.errors import ConfigError, DataError, TrainingError
from galineage.lock import locked
from galineage.models.base import DirectEstimator
from galineage.progress import bar
from galineage.training.checkpoint import Checkpoint, identity
from galineage.training.optimiser import MemberAdam
from galineage.training.records import Board, write_history
from galineage.training.rows import TrainingRows, member_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from galineage.models.base import Estimator
    from galineage.training.alignment import Alignment
    from galineage.training.config import TrainConfig

__all__ = ["TrainingResult", "fit_estimator", "own_random_state", "pick_device"]

_GATHERED = 64


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
        One row per epoch: ``epoch``, ``train_loss``, ``val_loss`` (means over members), ``val_loss_<member>``, and
        ``penalty`` if there is an alignment.
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
    weights: NDArray[np.float64] | None = None,
    alignment: Alignment | None = None,
    unlabelled: NDArray[np.float64] | None = None,
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
    y : array (n,) or (n, T)
        Targets in their registry units; what the estimator's `check_targets` accepts.
    config : TrainConfig
        Settings.
    groups : array (n,), optional
        Rows of one group (root) stay together when validation rows are drawn. Default: every row its own.
    weights : array (n,), optional
        Weight of each row in the loss, in training and in validation; not negative, no unit, any mean.
    alignment : Alignment, optional
        Adds a penalty to the loss for a difference between the estimator's representations (see
        `galineage.models.base.Estimator.represent`) of training rows and of ``unlabelled`` rows, both passed through
        the network as one batch. Early stopping looks at the loss alone.
    unlabelled : array (m, d), optional
        Features of the domain to align with, as ``x``; needed with an alignment.
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
    ConfigError
        If an alignment comes without unlabelled rows or the other way round, or the estimator can use neither.
    DataError
        If there are fewer than 20 rows, or values are not finite, or a target leaves its range.
    TrainingError
        If the loss stops being finite, or the folder holds another run, or one that is still at work.
    """
    rows = TrainingRows.checked(estimator, x, y, groups, weights, unlabelled)
    _check_use(estimator, rows, alignment)
    folder = None if folder is None else Path(folder)
    if isinstance(estimator, DirectEstimator):
        estimator.fit(torch.from_numpy(rows.x), torch.from_numpy(rows.y), config.seed)
        estimator.eval()
        return TrainingResult()
    with locked(folder), _one_thread():
        run = _Run(estimator, rows, config, alignment, folder)
        with own_random_state(run.device, config.seed):
            run.go(label if progress else None)
    return TrainingResult(tuple(run.best_epoch.tolist()), tuple(run.best_loss.tolist()), run.epoch, tuple(run.history))


def _check_use(estimator: Estimator, rows: TrainingRows, alignment: Alignment | None) -> None:
    if (alignment is None) != (rows.unlabelled is None):
        missing = "unlabelled rows" if rows.unlabelled is None else "an alignment"
        raise ConfigError(f"{missing} must be given too", expected="both an alignment and unlabelled rows, or neither")
    if isinstance(estimator, DirectEstimator) and (alignment is not None or rows.weights is not None):
        raise ConfigError(
            f"a {estimator.kind!r} is trained without weights and alignment", advice="use a network: mdn, flow, paper"
        )


@contextlib.contextmanager
def own_random_state(device: torch.device, seed: int) -> Iterator[None]:
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
    import scipy.linalg  # noqa: F401 - brings the BLAS that compiled layers use, which must be there to be limited

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """State of one run: what a checkpoint holds, and the steps that change it."""

    def __init__(
        self,
        estimator: Estimator,
        rows: TrainingRows,
        config: TrainConfig,
        alignment: Alignment | None,
        folder: Path | None,
    ) -> None:
        self.estimator, self.config, self.alignment = estimator, config, alignment
        self.path = None if folder is None else folder / "checkpoint.safetensors"
        self.device = pick_device(config.device)
        self.identity = identity(
            estimator.settings(),
            {**config.decisive(), "device": self.device.type},
            rows.arrays(),
            alignment=None if alignment is None else alignment.settings(),
        )
        estimator.fit_scaling(torch.from_numpy(rows.x))
        estimator.fit_targets(torch.from_numpy(rows.y))
        estimator.to(self.device)
        self.x, self.y = (torch.from_numpy(part).to(self.device) for part in (rows.x, rows.y))
        self.weights, self.unlabelled = (
            None if part is None else torch.from_numpy(part).to(self.device) for part in (rows.weights, rows.unlabelled)
        )
        self.train_rows, self.valid_rows = member_rows(len(rows.y), rows.groups, estimator.members, config)
        self._require_weight()
        modules = [estimator] if alignment is None else [estimator, alignment.to(self.device)]
        parameters = [part for module in modules for part in module.parameters() if part.requires_grad]
        self.optimiser = MemberAdam(parameters, config.weight_decay, config.clip_norm)
        self.generator = torch.Generator().manual_seed(config.seed)
        members = estimator.members
        self.best = {name: value.detach().clone() for name, value in estimator.state_dict().items()}
        self.best_loss = torch.full((members,), torch.inf, dtype=torch.float64)
        self.best_epoch = torch.zeros(members, dtype=torch.int64)
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def _require_weight(self) -> None:
        if self.weights is None:
            return
        for rows, name in ((self.train_rows, "training"), (self.valid_rows, "validation")):
            if not bool((self.weights.cpu()[rows].sum(1) > 0).all()):
                raise DataError(
                    f"all {name} rows of a member have weight zero", advice="use smoother weights, or more rows"
                )

    @property
    def waited(self) -> Tensor:
        """Epochs since each member's best, shape (E,)."""
        return self.epoch - self.best_epoch

    @property
    def finished(self) -> bool:
        """Whether every member has run out of patience, or of epochs."""
        return self.epoch >= self.config.max_epochs or bool((self.waited >= self.config.patience).all())

    def go(self, label: str | None) -> None:
        """Train from the last checkpoint to the end, with a bar on a terminal if there is a label for it."""
        self.resume()
        with Board(None if self.path is None else self.path.parent, self.history) as board:
            epochs = bar(range(self.epoch, self.config.max_epochs), label=label or "", show=label is not None)
            for _ in epochs:
                if self.finished:
                    break
                board.add(self.one_epoch())
                epochs.set_postfix(val=f"{self.history[-1]['val_loss']:.3f}", refresh=False)
            epochs.close()
        self.finish()

    def one_epoch(self) -> dict[str, float]:
        """Train one epoch, validate, keep best weights, checkpoint when due; return the history row."""
        self.epoch += 1
        train_loss, penalty = self._train()
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
        if self.alignment is not None:
            row["penalty"] = penalty
        self.history.append(row)
        if self.epoch % self.config.checkpoint_every == 0:
            self.save()
        return row

    def _train(self) -> tuple[float, float]:
        """Run one epoch; return means over members and steps of the loss and of the penalty."""
        self.estimator.train()
        rate, size = self.config.rate(self.epoch), self.config.batch_size
        rows = torch.stack([part[torch.randperm(len(part), generator=self.generator)] for part in self.train_rows])
        # a very small last batch would be noise; other rows come last in the next epoch
        used = rows.shape[1] if (rows.shape[1] - 1) % size >= size // 2 else rows.shape[1] // size * size
        used = used or rows.shape[1]
        seen: list[Tensor] = []
        for part in rows[:, :used].to(self.device).split(_GATHERED * size, dim=1):
            # fetching many batches at once saves an operation for each
            together = [None if values is None else values[part] for values in (self.x, self.y, self.weights)]
            for start in range(0, part.shape[1], size):
                x, y, weights = (None if values is None else values[:, start : start + size] for values in together)
                losses, penalty = self._losses(x, y, weights, len(seen) * size / used)
                total = losses if penalty is None else losses + penalty
                squares = self.optimiser.take(total.sum())
                self._guard(total.detach(), squares)
                self.optimiser.step(rate)
                seen.append(torch.stack([losses.detach().mean(), (total - losses).detach().mean()]))
        train_loss, penalty = torch.stack(seen).mean(dim=0).tolist()
        return train_loss, penalty

    def _losses(self, x: Any, y: Any, weights: Tensor | None, part: float) -> tuple[Tensor, Tensor | None]:
        """Loss and alignment penalty of each member, (E,), for rows (E, b, ...); ``part`` of the epoch is done."""
        penalty = None
        if self.alignment is None or self.unlabelled is None:
            losses = -self.estimator(x).log_prob(y)
        else:
            drawn = torch.randint(len(self.unlabelled), x.shape[:2], generator=self.generator).to(self.device)
            both = self.estimator.represent(torch.cat([x, self.unlabelled[drawn]], dim=1))
            source, target = both.split(x.shape[1], dim=1)
            losses = -self.estimator.answer(source).log_prob(y)
            progress = (self.epoch - 1 + part) / self.config.max_epochs
            penalty = self.alignment.penalty(source, target, progress)
        return (losses if weights is None else losses * weights).mean(dim=1), penalty

    def _guard(self, losses: Tensor, squares: Tensor) -> None:
        """Stop before the weights take in a loss or a gradient that is not finite, both (E,)."""
        if math.isfinite(float((losses + squares).sum())):
            return
        what, values = ("gradient", squares) if bool(torch.isfinite(losses).all()) else ("loss", losses)
        member = int((~torch.isfinite(values)).nonzero()[0])
        raise TrainingError(
            f"the {what} of member {member} is {float(values[member])}",
            where=f"epoch {self.epoch}",
            expected="a finite number",
            advice="lower learning_rate, or look for outliers in the inputs with `galineage inspect`",
        )

    @torch.no_grad()
    def _validate(self) -> Tensor:
        self.estimator.eval()
        rows = self.valid_rows.to(self.device)
        losses = -self.estimator(self.x[rows]).log_prob(self.y[rows])
        if self.weights is None:
            losses = losses.mean(dim=1)
        else:
            losses = (losses * self.weights[rows]).sum(dim=1) / self.weights[rows].sum(dim=1)
        return torch.where(torch.isfinite(losses), losses, torch.inf).double().cpu()

    def save(self, *, finished: bool = False) -> None:
        """Write checkpoint and history, if there is a folder."""
        if self.path is None:
            return
        tensors = {f"model.{name}": value for name, value in self.estimator.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"adam.{name}": value for name, value in self.optimiser.state().items()}
        tensors |= {"best_loss": self.best_loss, "best_epoch": self.best_epoch}
        tensors |= {"generator": self.generator.get_state(), "torch_random": torch.random.get_rng_state()}
        if self.device.type == "cuda":
            tensors["cuda_random"] = torch.cuda.get_rng_state(self.device)
        if self.alignment is not None:
            tensors |= {f"alignment.{name}": value for name, value in self.alignment.state_dict().items()}
        facts = {"epoch": self.epoch, "history": self.history, "identity": self.identity, "finished": finished}
        Checkpoint(tensors, facts).write(self.path)
        write_history(self.path.with_name("history.csv"), self.history)

    def resume(self) -> None:
        """Go on from the folder's checkpoint if there is one of this very run."""
        found = None if self.path is None else Checkpoint.read(self.path, self.identity)
        if found is None:
            return
        tensors = found.tensors
        self.estimator.load_state_dict(_with_prefix(tensors, "model."))
        if self.alignment is not None:
            self.alignment.load_state_dict(_with_prefix(tensors, "alignment."))
        self.best = {name: value.to(self.device) for name, value in _with_prefix(tensors, "best.").items()}
        self.optimiser.load(_with_prefix(tensors, "adam."))
        self.best_loss, self.best_epoch = tensors["best_loss"], tensors["best_epoch"]
        self.generator.set_state(tensors["generator"])
        torch.random.set_rng_state(tensors["torch_random"])
        if "cuda_random" in tensors:
            torch.cuda.set_rng_state(tensors["cuda_random"], self.device)
        self.epoch, self.history = found.facts["epoch"], found.facts["history"]

    def finish(self) -> None:
        """Put the best weights back and leave the estimator ready for use on the CPU."""
        never = (self.best_epoch == 0).nonzero()
        if len(never):
            raise TrainingError(
                f"the validation loss of member {int(never[0])} was never finite",
                where=f"{self.epoch} epochs",
                advice="lower learning_rate, or look for targets outside their range with `galineage inspect`",
            )
        self.save(finished=True)
        self.estimator.load_state_dict(self.best)
        self.estimator.to("cpu")
        self.estimator.eval()


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
