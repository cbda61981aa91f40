"""The rows of a run: checked, as tensors, and divided into training and validation rows of each member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage.errors import DataError
from galineage.store.splits import held_out_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from galineage.models.base import Estimator
    from galineage.training.config import TrainConfig

__all__ = ["TrainingRows", "member_rows"]


@dataclass(frozen=True)
class TrainingRows:
    """What a run trains on, checked; float32 inside.

    Attributes
    ----------
    x : array (n, d)
        Features, registry units, dex where logarithmic.
    y : array (n,) or (n, T)
        Targets in their registry units.
    groups : array (n,), optional
        Labels of what stays together when validation rows are drawn.
    weights : array (n,), optional
        Weights of the rows in the loss, no unit, mean 1.
    unlabelled : array (m, d), optional
        Features of the domain to align with.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    groups: NDArray[Any] | None = None
    weights: NDArray[np.float32] | None = None
    unlabelled: NDArray[np.float32] | None = None

    @classmethod
    def checked(
        cls,
        estimator: Estimator,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        groups: NDArray[Any] | None = None,
        weights: NDArray[np.float64] | None = None,
        unlabelled: NDArray[np.float64] | None = None,
    ) -> TrainingRows:
        """Check rows and round them to float32; the weights (n,), no unit, are divided by their mean.

        Parameters
        ----------
        estimator : Estimator
            Knows its targets.
        x, y, groups, weights, unlabelled : array
            Shapes and units as in the class; ``weights`` need no mean of 1.

        Raises
        ------
        DataError
            If shapes do not fit, there are fewer than 20 rows, or a value cannot be trained on.
        """
        count = len(x)
        if x.ndim != 2 or y.shape[:1] != x.shape[:1] or y.ndim > 2:
            raise DataError(f"features have shape {x.shape} and the target {y.shape}", expected="(n, d) and (n,)")
        if groups is not None and len(groups) != count:
            raise DataError(f"{len(groups)} group labels for {count} galaxies", expected="one for each")
        if count < 20:
            raise DataError(f"only {count} galaxies to train on", expected="20 or more", advice="relax the row filter")
        estimator.check_targets(y)
        _require_finite(x, "feature")
        if unlabelled is not None:
            if unlabelled.ndim != 2 or unlabelled.shape[1] != x.shape[1] or not len(unlabelled):
                raise DataError(
                    f"the unlabelled features have shape {unlabelled.shape}", expected=f"(m, {x.shape[1]}), m >= 1"
                )
            _require_finite(unlabelled, "feature in the unlabelled set")
        if weights is not None:
            weights = _normalised(weights, count)
        single = (None if part is None else np.array(part, dtype=np.float32) for part in (weights, unlabelled))
        return cls(np.array(x, dtype=np.float32), np.array(y, dtype=np.float32), groups, *single)

    def arrays(self) -> dict[str, NDArray[Any] | None]:
        """Return the arrays by name: shapes and units as in the class."""
        return {
            "features": self.x,
            "targets": self.y,
            "groups": self.groups,
            "weights": self.weights,
            "unlabelled features": self.unlabelled,
        }


def _require_finite(values: NDArray[np.float64], what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(
            f"{len(bad)} rows have a {what} that is not finite",
            where=f"first at row {int(bad[0])}",
            advice="use Catalogue.complete(features) to leave such rows out",
        )


def _normalised(weights: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (count,):
        raise DataError(f"weights have shape {weights.shape}", expected=f"({count},): one for each galaxy")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        row = int(bad[0])
        raise DataError(f"{len(bad)} weights are negative or not finite", where=f"first at row {row}: {weights[row]:g}")
    if not weights.any():
        raise DataError("all weights are zero", expected="at least one positive weight")
    return weights / weights.mean()


def member_rows(count: int, groups: NDArray[Any] | None, members: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return training and validation rows of each member: indices of shapes (E, n_train) and (E, n_valid).

    Parameters
    ----------
    count : int
        Number of rows.
    groups : array (n,), optional
        Labels of what stays together.
    members : int
        Number of members, E.
    config : TrainConfig
        Gives fraction, kind and seed of the split.
    """
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
