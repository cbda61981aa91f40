"""Is a galaxy like those the model was trained on? Scores of single galaxies and of sets, from their inputs alone.

`SHIFT_SCORES` lists the kinds; each is fitted on training galaxies and gives 1 where 5 % of their like lie above. The
neighbour score is the one that models carry.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from galineage.shift.base import FALSE_ALARMS, FEWEST, ShiftScore
from galineage.shift.flow_density import FlowScore
from galineage.shift.mahalanobis import MahalanobisScore
from galineage.shift.neighbour_score import NEIGHBOURS, NeighbourScore, SetScore, set_score
from galineage.shift.neighbours import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FALSE_ALARMS",
    "FEWEST",
    "NEIGHBOURS",
    "SHIFT_SCORES",
    "FlowScore",
    "MahalanobisScore",
    "NeighbourScore",
    "SetScore",
    "ShiftScore",
    "nearest",
    "set_score",
]

SHIFT_SCORES: Mapping[str, type[ShiftScore]] = MappingProxyType(
    {item.kind: item for item in (NeighbourScore, MahalanobisScore, FlowScore)}
)
"""Every kind of shift score by name."""
