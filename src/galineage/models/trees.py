"""Decision trees as plain tensors: fitted by scikit-learn, stored and evaluated without it (and without pickle)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TreeTables"]


class TreeTables(nn.Module):
    """A set of binary decision trees, padded to equal length.

    Buffers, all of shape (T, M) for T trees of at most M nodes: ``feature`` (split column, -1 at a leaf),
    ``threshold`` (in the feature's unit, go left if smaller or equal), ``left``, ``right`` (node numbers) and
    ``value`` (output of a leaf, in the target's unit).
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, dtype in _COLUMNS.items():
            self.register_buffer(name, torch.zeros((1, 1), dtype=dtype))
        self.feature.fill_(-1)

    def fill(self, trees: Sequence[Any]) -> None:
        """Copy fitted scikit-learn trees.

        Parameters
        ----------
        trees : sequence of sklearn.tree._tree.Tree
            The ``tree_`` attributes of fitted estimators.
        """
        nodes = max(tree.node_count for tree in trees)
        columns = {
            name: torch.full((len(trees), nodes), -1 if name == "feature" else 0, dtype=dtype)
            for name, dtype in _COLUMNS.items()
        }
        for row, tree in enumerate(trees):
            size, leaf = tree.node_count, tree.children_left < 0
            columns["feature"][row, :size] = torch.as_tensor(np.where(leaf, -1, tree.feature))
            columns["threshold"][row, :size] = torch.as_tensor(tree.threshold)
            columns["left"][row, :size] = torch.as_tensor(np.where(leaf, 0, tree.children_left))
            columns["right"][row, :size] = torch.as_tensor(np.where(leaf, 0, tree.children_right))
            columns["value"][row, :size] = torch.as_tensor(tree.value[:, 0, 0])
        for name, tensor in columns.items():
            self.register_buffer(name, tensor)

    def check(self, features: int) -> None:
        """Raise RuntimeError unless every node leads downwards to leaves, for rows of ``features`` columns.

        Children come after their parent, as scikit-learn numbers them, so that no walk goes round.
        """
        shape = self.feature.shape
        if any(getattr(self, name).shape != shape for name in _COLUMNS):
            raise RuntimeError("the trees' columns have different shapes")
        inner, node = self.feature >= 0, torch.arange(shape[1])
        for child in (self.left, self.right):
            if bool((inner & ((child <= node) | (child >= shape[1]))).any()):
                raise RuntimeError("a tree leads back to a node above, or nowhere")
        if bool((self.feature >= features).any()):
            raise RuntimeError(f"a tree asks for a feature beyond the {features} there are")
        level = torch.zeros(shape, dtype=torch.bool)
        level[:, :1] = inner[:, :1]
        for _ in range(_DEEPEST):
            rows, nodes = level.nonzero(as_tuple=True)
            if not len(rows):
                return
            level = torch.zeros_like(level)
            for child in (self.left, self.right):
                level[rows, child[rows, nodes].long()] = True
            level &= inner
        raise RuntimeError(f"a tree is deeper than {_DEEPEST} levels")

    def leaves(self, x: Tensor) -> Tensor:
        """Find the leaf of each row in each tree.

        Parameters
        ----------
        x : Tensor (n, d)
            Features in their units; rounded to single precision and compared in double, as scikit-learn does. NaN
            goes right.

        Returns
        -------
        Tensor (T, n) of int64
        """
        columns = x.float().double().T
        node = torch.zeros((len(self.feature), len(x)), dtype=torch.int64, device=x.device)
        for _ in range(self.feature.shape[1]):  # no path is longer than the tree has nodes
            split = self.feature.gather(1, node).long()
            inner = split >= 0
            if not inner.any():
                break
            value = columns.gather(0, split.clamp_min(0))
            go_left = value <= self.threshold.gather(1, node)
            child = torch.where(go_left, self.left.gather(1, node).long(), self.right.gather(1, node).long())
            node = torch.where(inner, child, node)
        return node

    def forward(self, x: Tensor) -> Tensor:
        """Sum the leaf values over the trees: (n, d) features to (n,) in the target's unit, double precision."""
        return self.value.gather(1, self.leaves(x)).sum(0)


_DEEPEST = 1000
_COLUMNS: dict[str, torch.dtype] = {
    "feature": torch.int16,
    "threshold": torch.float64,
    "left": torch.int32,
    "right": torch.int32,
    "value": torch.float64,
}
