"""Training of map networks: one member after another, batches from wherever the maps lie, exact resume."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import ConfigError, DataError, TrainingError
from galineage.lock import locked
from galineage.models.map_inputs import turned
from galineage.progress import bar
from galineage.training.alignment import make_alignment
from galineage.training.allocator import keep_memory
from galineage.training.checkpoint import Checkpoint, identity
from galineage.training.loop import TrainingResult, own_random_state, pick_device
from galineage.training.records import Board, write_history
from galineage.training.rows import member_rows
from galineage.training.spreading import Share, spread_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from galineage.models.map_inputs import MapInputs
    from galineage.models.map_network import MapNetwork
    from galineage.training.alignment import Alignment
    from galineage.training.config import MapTrainConfig

__all__ = ["fit_map_network", "has_fast_bfloat16"]


def has_fast_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 numbers in hardware (AMX or AVX-512 BF16)."""
    known: Any = torch.cpu
    tests = (getattr(known, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(test() for test in tests if test is not None)


def fit_map_network(
    estimator: MapNetwork,
    inputs: MapInputs,
    y: NDArray[np.float64],
    config: MapTrainConfig,
    *,
    groups: NDArray[Any] | None = None,
    weights: NDArray[np.float64] | None = None,
    alignment: Alignment | str | None = None,
    unlabelled: MapInputs | None = None,
    folder: Path | None = None,
    progress: bool = True,
    label: str = "training",
) -> TrainingResult:
    """Train a map network in place and leave it in evaluation mode, on the CPU, with its best weights.

    Parameters
    ----------
    estimator : MapNetwork
        Untrained.
    inputs : MapInputs
        Contexts of n views.
    y : array (n,) or (n, T)
        Targets in their registry units; what the estimator's `check_targets` accepts.
    config : MapTrainConfig
        Settings.
    groups : array (n,), optional
        Views of one group (root) stay together when validation rows are drawn. Default: every row its own.
    weights : array (n,), optional
        Weight of each view in the loss, in training and in validation; not negative, no unit, any mean.
    alignment : Alignment or str, optional
        Adds a penalty to the loss for a difference between what a member's last layer sees of training views and of
        ``unlabelled`` ones, both passed through the network as one batch. Each member has its own, made anew with the
        settings of the one given. Early stopping looks at the loss alone.
    unlabelled : MapInputs, optional
        Contexts of views of the domain to align with; needed with an alignment.
    folder : Path, optional
        Where ``checkpoint.safetensors`` and ``history.csv`` are kept; a run found there is continued, and ends with the
        same numbers.
    progress : bool
        Show a bar with time left on a terminal.
    label : str
        Text beside the bar.

    Returns
    -------
    TrainingResult
        Its history has a row for each epoch of each member.

    Raises
    ------
    ConfigError
        If an alignment comes without unlabelled views, or the other way round; if there are fewer devices.
    DataError
        If there are fewer than 20 rows, weights are not finite or negative, or a target leaves its range.
    TrainingError
        If the loss stops being finite, or the folder holds another run, or one that is still at work.
    MissingDependencyError
        If there are to be several devices, and Lightning is not installed.
    """
    values = np.asarray(y, dtype=np.float32)
    if (alignment is None) != (unlabelled is None):
        missing = "unlabelled views" if unlabelled is None else "an alignment"
        raise ConfigError(f"{missing} must be given too", expected="both an alignment and unlabelled views, or neither")
    if len(inputs) != len(values) or len(values) < 20:
        raise DataError(f"{len(inputs)} maps and {len(values)} targets", expected="as many, and 20 or more")
    estimator.check_targets(np.asarray(y, dtype=np.float64))
    estimator.fit_targets(torch.from_numpy(values))
    extra = _Extra(_checked(weights, len(values)), _settings(alignment, config.seed), unlabelled)
    if estimator.features:
        estimator.fit_scaling(inputs.features.cpu())
    folder = None if folder is None else Path(folder)
    arguments = (inputs, values, config, groups, folder, extra, label if progress else None)
    device = pick_device(config.device)
    with locked(folder):
        if config.devices == 1:
            return _result(_fit(Share(device), estimator, *arguments))
        found = spread_out(_fit, estimator, arguments, device.type, config.devices)
    estimator.train(mode=False)
    return _result(found)


def _fit(
    share: Share,
    estimator: MapNetwork,
    inputs: MapInputs,
    values: NDArray[np.float32],
    config: MapTrainConfig,
    groups: NDArray[Any] | None,
    folder: Path | None,
    extra: _Extra,
    label: str | None,
) -> dict[str, Any]:
    """Train in place, in this process alone or as one of several; return `TrainingResult` as JSON values."""
    run = _Run(estimator, inputs, torch.from_numpy(values), config, groups, folder, extra, share)
    keep_memory()  # after the maps are held: these are to go back to the system
    try:
        with own_random_state(run.device, config.seed):
            run.go(label)
    finally:
        for each in (inputs, extra.unlabelled):
            if each is not None:
                each.release()
    return asdict(run.result())


def _result(found: dict[str, Any]) -> TrainingResult:
    epochs = tuple(found["best_epoch"]), tuple(found["best_loss"])
    return TrainingResult(*epochs, found["epochs"], tuple(found["history"]))


@dataclass(frozen=True)
class _Extra:
    """What a run is given beside labelled views: weights (n,) of mean 1, settings of a penalty, views without truth."""

    weights: Tensor | None = None
    alignment: dict[str, Any] | None = None
    unlabelled: MapInputs | None = None


def _checked(weights: NDArray[np.float64] | None, count: int) -> Tensor | None:
    if weights is None:
        return None
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (count,) or not np.isfinite(found).all() or found.min() < 0 or not found.any():
        raise DataError(f"weights of shape {found.shape}", expected=f"({count},): finite, not negative, not all 0")
    return torch.from_numpy(found / found.mean()).float()


def _settings(alignment: Alignment | str | None, seed: int) -> dict[str, Any] | None:
    if alignment is None:
        return None
    return make_alignment(alignment, 1, 1, seed=seed).settings() if isinstance(alignment, str) else alignment.settings()


@dataclass
class _State:
    """What a checkpoint holds beside tensors."""

    member: int = 0
    epoch: int = 0
    best_epoch: list[int] = field(default_factory=list)
    best_loss: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)


class _Run:
    """One run: members in turn, each from its first epoch to its last."""

    def __init__(
        self,
        estimator: MapNetwork,
        inputs: MapInputs,
        y: Tensor,
        config: MapTrainConfig,
        groups: NDArray[Any] | None,
        folder: Path | None,
        extra: _Extra | None = None,
        share: Share | None = None,
    ) -> None:
        self.estimator, self.inputs, self.config, self.groups = estimator, inputs, config, groups
        self.extra = extra or _Extra()
        self.path = None if folder is None else folder / "checkpoint.safetensors"
        self.share = share or Share(pick_device(config.device))
        self.device = self.share.device
        fast = self.device.type == "cuda" or has_fast_bfloat16()
        self.precise = config.precision == "float32" or (config.precision == "auto" and not fast)
        self.identity = self._identity(y)
        room = int(config.memory * 1e9)
        for each in (inputs, self.extra.unlabelled):
            if each is not None and each.hold(self.device, room):
                room -= each.nbytes
        estimator.to(self.device)
        self.y = y.to(self.device)
        self.weights = None if self.extra.weights is None else self.extra.weights.to(self.device)
        self.train_rows, self.valid_rows = member_rows(len(y), groups, estimator.members, config)
        fewest = min(self.train_rows.shape[1], self.valid_rows.shape[1])
        if fewest < self.share.size:
            raise DataError(f"{fewest} rows for {self.share.size} devices", advice="use fewer devices")
        self.state = _State()
        self.generator = torch.Generator().manual_seed(config.seed)
        self._start_member()

    def _identity(self, y: Tensor) -> dict[str, Any]:
        extra = self.extra
        parts: dict[str, Any] = {}
        arrays = {
            "first_maps": _first(self.inputs),
            "features": self.inputs.features.cpu().numpy(),
            "targets": y.numpy(),
            "groups": self.groups,
        }
        if self.estimator.started_from:
            parts["start"] = self.estimator.started_from
        if extra.weights is not None:
            arrays["weights"] = extra.weights.numpy()
        if extra.unlabelled is not None:
            arrays |= {"first_unlabelled": _first(extra.unlabelled), "there": extra.unlabelled.features.cpu().numpy()}
            parts |= {"alignment": extra.alignment, "unlabelled": len(extra.unlabelled)}
        training = {**self.config.decisive(), "device": self.device.type, "precise": self.precise}
        return identity(self.estimator.settings(), training, arrays, rows=len(self.inputs), **parts)

    def _start_member(self) -> None:
        config = self.config
        self.state.epoch = 0
        self.module: Any = self.estimator.networks[self.state.member]
        self.alignment = self._alignment()
        modules = [self.module] if self.alignment is None else [self.module, self.alignment]
        self.parameters = [part for module in modules for part in module.parameters() if part.requires_grad]
        self.optimiser = torch.optim.Adam(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.best_loss, self.best_epoch = math.inf, 0

    def _alignment(self) -> Alignment | None:
        """Return a member's own penalty."""
        if self.extra.alignment is None:
            return None
        settings = {**self.extra.alignment, "seed": self.extra.alignment["seed"] + self.state.member}
        width = self.estimator.hidden_width(self.state.member)
        return make_alignment(settings.pop("kind"), 1, width, **settings).to(self.device)

    def go(self, label: str | None) -> None:
        """Train from the last checkpoint to the end."""
        self._resume()
        members, most = self.estimator.members, self.config.max_epochs
        folder = None if self.path is None or self.share.rank else self.path.parent
        label = None if self.share.rank else label
        done = self.state.member * most + self.state.epoch
        with (
            Board(folder, self.state.history) as board,
            bar(total=members * most, label=label or "", show=label is not None) as shown,
        ):
            shown.update(done)
            while self.state.member < members:
                if self.state.epoch >= most or self.state.epoch - self.best_epoch >= self.config.patience:
                    shown.update(most - self.state.epoch)
                    self._end_member()
                    continue
                row = self._one_epoch()
                board.add(row)
                shown.update(1)
                shown.set_postfix(member=self.state.member, val=f"{row['val_loss']:.3f}", refresh=False)
                if self.state.epoch % self.config.checkpoint_every == 0:
                    self._save()
        self._save(finished=True)
        self.estimator.to("cpu").train(mode=False)

    def _end_member(self) -> None:
        if not self.best_epoch:
            raise TrainingError(
                f"the validation loss of member {self.state.member} was never finite",
                where=f"{self.state.epoch} epochs",
                advice="lower learning_rate, or use precision float32",
            )
        self.module.load_state_dict(self.best)
        self.state.best_epoch.append(self.best_epoch)
        self.state.best_loss.append(self.best_loss)
        self.state.member += 1
        if self.state.member < self.estimator.members:
            self._start_member()
        self._save()

    def _one_epoch(self) -> dict[str, float]:
        self.state.epoch += 1
        self.share.reseed(self.config.seed, self.state.member, self.state.epoch)
        train, penalty = self._train()
        self.share.average(self.module)
        loss = self._validate()
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.state.epoch
            self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        count = len(self.state.history) + 1
        row = {"epoch": count, "train_loss": train, "val_loss": loss, "member": self.state.member}
        if self.alignment is not None:
            row["penalty"] = penalty
        self.state.history.append(row)
        return row

    def _train(self) -> tuple[float, float]:
        """Run one epoch; return means over steps of the loss and of the alignment's penalty."""
        config, member = self.config, self.state.member
        self.estimator.train()
        rate = config.rate(self.state.epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        rows = self.train_rows[member][torch.randperm(self.train_rows.shape[1], generator=self.generator)]
        size = config.batch_size
        # a very small last batch would be noise; other rows come last in the next epoch
        used = len(rows) if (len(rows) - 1) % size >= size // 2 else len(rows) // size * size
        used = used or len(rows)
        total = torch.zeros(2, device=self.device)
        here = self._turned(self.inputs, rows[:used])
        steps = 0
        for (chosen, context), other in zip(here, self._others(used), strict=False):
            total += self._step(chosen, context, other, steps * size / used, min(size, used - steps * size))
            steps += 1
        mean, penalty = (self.share.total(total) / steps).tolist()
        if not math.isfinite(mean + penalty):
            raise TrainingError(
                f"the loss of member {member} is {mean + penalty}",
                where=f"epoch {self.state.epoch}",
                expected="a finite number",
                advice="lower learning_rate, or use precision float32",
            )
        return mean, penalty

    def _others(self, count: int) -> Iterator[Tensor | None]:
        """Yield contexts of as many unlabelled views, drawn at random; None for each batch where there are none."""
        unlabelled = self.extra.unlabelled
        if unlabelled is None:
            return itertools.repeat(None)
        rows = torch.randint(len(unlabelled), (count,), generator=self.generator)
        return (context for _, context in self._turned(unlabelled, rows))

    def _turned(self, inputs: MapInputs, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Return an iterator over rows (b,) and their contexts on the device, turned and flipped at random.

        Of rows (n,) these are the ones that are this process's.
        """
        codes, size = self._codes(len(rows)), self.config.batch_size
        return self._batches(inputs, self.share.of(rows, size), self.share.of(codes, size), self.share.rows(size))

    def _batches(self, inputs: MapInputs, rows: Tensor, codes: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for index, (chosen, context) in enumerate(inputs.batches(rows, size)):
            part = codes[index * size : index * size + len(chosen)]
            yield chosen, turned(context.to(self.device), part.to(self.device))

    def _codes(self, count: int) -> Tensor:
        """Draw for each row which of the eight symmetries it is shown with (count,)."""
        flips = torch.randint(4, (count,), generator=self.generator) if self.config.flips else torch.zeros(count).long()
        turn = torch.randint(2, (count,), generator=self.generator) if self.config.turns else torch.zeros(count).long()
        return flips + 4 * turn

    def _step(self, rows: Tensor, context: Tensor, other: Tensor | None, part: float, whole: int) -> Tensor:
        """Take a step; return this process's part of loss and penalty (2,), nats.

        ``other`` are as many views without truth; ``part`` of the epoch is done; ``whole`` rows are in the batch.
        """
        loss, penalty = self._losses(rows.to(self.device), context, other, part, whole)
        self.optimiser.zero_grad(set_to_none=True)
        weights = self.estimator.penalty(self.state.member) / self.share.size
        (loss + penalty + weights).backward()  # type: ignore[no-untyped-call]
        self.share.add_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)
        self.optimiser.step()
        return torch.stack([loss.detach(), penalty.detach()])

    def _losses(
        self, rows: Tensor, context: Tensor, other: Tensor | None, part: float, whole: int
    ) -> tuple[Tensor, Tensor]:
        member = self.state.member
        if self.alignment is None or other is None:
            found = self.estimator.member(member, context, precise=self.precise)
            penalty = torch.zeros((), device=self.device)
        else:
            both = self.estimator.hidden(member, torch.cat([context, other]), precise=self.precise)
            source, target = both.split([len(context), len(other)])
            found = self.estimator.answer_of(member, source)
            progress = (self.state.epoch - 1 + part) / self.config.max_epochs
            # each process compares its own views; the penalty is the mean of what they find
            penalty = self.alignment.penalty(source[None], target[None], progress)[0] / self.share.size
        losses = -found.log_prob(self.y[rows])
        return self.share.mean(losses if self.weights is None else losses * self.weights[rows], whole), penalty

    @torch.no_grad()
    def _validate(self) -> float:
        self.estimator.eval()
        total = weight = 0.0
        size = 2 * self.config.batch_size
        order = self.share.of(self.valid_rows[self.state.member], size)
        for chosen, context in self.inputs.batches(order, self.share.rows(size)):
            found = self.estimator.member(self.state.member, context.to(self.device), precise=self.precise)
            rows = chosen.to(self.device)
            each = torch.ones(len(rows), device=self.device) if self.weights is None else self.weights[rows]
            total -= float((each * found.log_prob(self.y[rows])).sum(dtype=torch.float64))
            weight += float(each.sum(dtype=torch.float64))
        both = torch.tensor([total, weight], dtype=torch.float64, device=self.device)
        total, weight = self.share.total(both).tolist()
        return total / weight if math.isfinite(total) and weight else math.inf

    def _save(self, *, finished: bool = False) -> None:
        if self.path is None or self.share.rank:
            return
        tensors = {f"model.{name}": value for name, value in self.estimator.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, parameter in enumerate(self.parameters):
            known = self.optimiser.state.get(parameter, {})
            tensors |= {f"adam.{number}.{name}": value for name, value in known.items()}
        if self.alignment is not None:
            tensors |= {f"alignment.{name}": value for name, value in self.alignment.state_dict().items()}
        tensors |= {"generator": self.generator.get_state(), "torch_random": torch.random.get_rng_state()}
        if self.device.type == "cuda":
            tensors["cuda_random"] = torch.cuda.get_rng_state(self.device)
        facts = {
            **vars(self.state),
            "member_best": [self.best_loss if math.isfinite(self.best_loss) else None, self.best_epoch],
            "identity": self.identity,
            "finished": finished,
        }
        Checkpoint(tensors, facts).write(self.path)
        write_history(self.path.with_name("history.csv"), self.state.history)

    def _resume(self) -> None:
        found = None if self.path is None else Checkpoint.read(self.path, self.identity)
        if found is None:
            return
        tensors, facts = found.tensors, found.facts
        self.state = _State(**{name: facts[name] for name in vars(_State())})
        self.estimator.load_state_dict(_under(tensors, "model."))
        if self.state.member < self.estimator.members:
            epoch = self.state.epoch
            self._start_member()
            self.state.epoch = epoch
            self.best = {name: value.to(self.device) for name, value in _under(tensors, "best.").items()}
            if self.alignment is not None:
                self.alignment.load_state_dict(_under(tensors, "alignment."))
            loss, self.best_epoch = facts["member_best"]
            self.best_loss = math.inf if loss is None else loss
            for number, parameter in enumerate(self.parameters):
                known = _under(tensors, f"adam.{number}.")
                if known:
                    self.optimiser.state[parameter] = {name: value.to(self.device) for name, value in known.items()}
        self.generator.set_state(tensors["generator"])
        torch.random.set_rng_state(tensors["torch_random"])
        if "cuda_random" in tensors:
            torch.cuda.set_rng_state(tensors["cuda_random"], self.device)

    def result(self) -> TrainingResult:
        """Return what the run did."""
        state = self.state
        return TrainingResult(tuple(state.best_epoch), tuple(state.best_loss), len(state.history), tuple(state.history))


def _first(inputs: MapInputs) -> NDArray[np.float32]:
    """Return the contexts of the first eight views, by which another set of maps is known."""
    return np.asarray(inputs.take(np.arange(min(8, len(inputs)))).float())


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
