"""The density of the features under a small normalising flow: how rare a galaxy's like are."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from galineage.errors import DataError
from galineage.shift.base import FALSE_ALARMS, Scaler, ShiftScore, finite_rows, own_quantiles, taken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float64]

__all__ = ["FlowScore"]

_HIDDEN = (64, 64)
_TRANSFORMS = 3
_BINS = 8
_BATCH = 256
_RATE = 2e-3
_EPOCHS = 60
_PATIENCE = 8
_MOST_ROWS = 60_000
_FAR = 1e3
_PREFIX = "flow."


@dataclass(frozen=True)
class FlowScore(ShiftScore):
    """Logarithm of the density, turned and scaled: 0 at the densest place, 1 where 5 % of fresh galaxies are rarer.

    A fifth of the training galaxies, which the flow never sees, sets both marks, so the false alarms are those of fresh
    galaxies however much the flow overfits. A density says little in many dimensions: the densest place is far from
    where galaxies typically are, and a set that is shrunk towards it looks *more* ordinary (Nalisnick+2019).

    Attributes
    ----------
    scaler : Scaler
        Mean and standard deviation of the training galaxies.
    flow : Module
        Neural spline flow (Durkan+2019) of the standardised features.
    densest, rare : float
        Log-densities that score 0 and 1.
    own : array (201,)
        Quantiles of the held-out galaxies' scores; see `ShiftScore`.
    """

    kind: ClassVar[str] = "flow"
    scaler: Scaler
    flow: torch.nn.Module
    densest: float
    rare: float
    own: Array

    @classmethod
    def fit(cls, reference: NDArray[np.floating], seed: int = 0) -> FlowScore:
        """Fit to training galaxies (n, d): takes seconds to a minute, not less than a network. See `ShiftScore.fit`."""
        rows = finite_rows(reference)
        order = np.random.default_rng(seed).permutation(len(rows))[:_MOST_ROWS]
        fifth = len(order) // 5
        scaler = Scaler.of(rows[order[fifth:]])
        held, stop, train = (
            torch.from_numpy(scaler.scaled(rows[part]).astype(np.float32))
            for part in (order[:fifth], order[fifth : fifth + fifth // 2], order[fifth + fifth // 2 :])
        )
        flow = _trained(train, stop, seed)
        found = _log_density(flow, held)
        densest, rare = float(np.quantile(found, 0.995)), float(np.quantile(found, FALSE_ALARMS))
        rare = min(rare, densest - 1e-6)
        own = own_quantiles(_turned(found, densest, rare))
        return cls(scaler, flow, densest, rare, own)

    @property
    def columns(self) -> int:
        """Number of features d."""
        return len(self.scaler.center)

    def raw(self, x: NDArray[np.floating]) -> Array:
        """Turn and scale the log-density: (m,), no unit; see `ShiftScore.raw`."""
        scaled = np.clip(self.scaler.scaled(x), -_FAR, _FAR).astype(np.float32)
        return _turned(_log_density(self.flow, torch.from_numpy(scaled)), self.densest, self.rare)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, scaled units inside, shapes as the attributes; see `ShiftScore.tensors`."""
        weights = {_PREFIX + name: value.numpy() for name, value in self.flow.state_dict().items()}
        marks = {"marks": np.array([self.densest, self.rare]), "own": self.own}
        return {"center": self.scaler.center, "spread": self.scaler.spread, **marks, **weights}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> FlowScore:
        """Build from arrays by name; shapes and units as in `ShiftScore.from_tensors`."""
        (center,) = taken(tensors, center=(None,))
        spread, marks, own = taken(tensors, spread=(len(center),), marks=(2,), own=(201,))
        weights = {
            name.removeprefix(_PREFIX): torch.from_numpy(np.array(value))
            for name, value in tensors.items()
            if name.startswith(_PREFIX)
        }
        flow = _new_flow(len(center), 0)
        try:
            flow.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(f"the score's flow has other weights: {error}") from error
        if not (spread > 0).all() or not marks[0] > marks[1]:
            raise DataError("the score's arrays hold impossible values", expected="positive scales")
        return cls(Scaler(center, spread), flow.eval(), float(marks[0]), float(marks[1]), own)


def _turned(log_density: Array, densest: float, rare: float) -> Array:
    return np.maximum(densest - log_density, 0.0) / (densest - rare)


def _new_flow(d: int, seed: int) -> torch.nn.Module:
    import zuko  # scipy and its like come with it: only who asks for a flow waits for them

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return zuko.flows.NSF(d, transforms=_TRANSFORMS, bins=_BINS, hidden_features=_HIDDEN)


@torch.no_grad()
def _log_density(flow: torch.nn.Module, rows: Tensor) -> Array:
    parts = [flow().log_prob(rows[start : start + 8192]).double() for start in range(0, len(rows), 8192)]
    # so far out that a float overflows is as rare as can be told
    return torch.nan_to_num(torch.cat(parts), nan=-1e12, neginf=-1e12).clamp(min=-1e12).numpy()


def _trained(train: Tensor, stop: Tensor, seed: int) -> torch.nn.Module:
    """Fit a flow by maximum likelihood; the weights of the epoch that does best on ``stop`` are kept."""
    flow = _new_flow(train.shape[1], seed)
    optimiser = torch.optim.Adam(flow.parameters(), lr=_RATE)
    generator = torch.Generator().manual_seed(seed)
    best, least, waited = copy.deepcopy(flow.state_dict()), float("inf"), 0
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(train), generator=generator).split(_BATCH):
            loss = -flow().log_prob(train[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
            optimiser.step()
        now = -float(_log_density(flow, stop).mean())
        waited = 0 if now < least else waited + 1
        if now < least:
            best, least = copy.deepcopy(flow.state_dict()), now
        if waited >= _PATIENCE:
            break
    flow.load_state_dict(best)
    return flow.eval()
