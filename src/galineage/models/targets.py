"""The space in which joint flows see their targets: logarithm, range, bounded map, standardisation, and "never"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from galineage.errors import ConfigError, DataError
from galineage.fields import FIELDS, MERGER_TARGETS, field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["SENTINELS", "VALID", "Never", "TargetSpace", "check_target_names"]

Never = Literal["bernoulli", "sentinel"]

SENTINELS = {"t_last_major": 15.0, "mstar_last_major": 6.0}
"""What stands for "no major merger" in training: 15 Gyr, 1e6 Msun (log10); the authors' code of Eisert+2023."""

VALID = {"t_last_major": (0.0, 13.7), "mstar_last_major": (7.0, 11.5)}
"""Draws outside mean "no major merger": Gyr, log10 Msun; the authors' code of Eisert+2023."""

_EDGE = 1e-3


def check_target_names(names: Sequence[str] | str) -> tuple[str, ...]:
    """Return target names as a tuple after refusing unknown, repeated and unusable ones.

    Raises
    ------
    ConfigError
        If there is none, a name is unknown or repeated, or a logarithmic field may be zero.
    """
    chosen = (names,) if isinstance(names, str) else tuple(names)
    if not chosen:
        raise ConfigError("no targets given", expected="at least one field name", advice="e.g. f_ex t_last_major")
    for name in chosen:
        item = field(name)
        if item.kind != "float" or (item.scale == "log" and item.low <= 0):
            raise ConfigError(
                f"{name!r} cannot be a target of a flow", expected="a continuous field, above 0 if it is logarithmic"
            )
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"a target is listed twice: {', '.join(chosen)}")
    return chosen


class TargetSpace(nn.Module):
    """Maps targets in registry units to the standardised real line and back.

    A target's *feature* is its value, or its base-10 logarithm where the registry says so. With ``bounded`` the feature
    is mapped from the registry's range to the line by the logit of its part of the range; features within 1e-3 of the
    range's width of a bound are moved to that distance first. Then mean and standard deviation of the training rows
    are taken out.

    Parameters
    ----------
    names : sequence of str, length T
        Field names.
    never : {"bernoulli", "sentinel"}
        With ``sentinel``, NaN in a target of the last major merger is replaced by its `SENTINELS` value, those targets
        are not mapped by a logit, and on the way back a draw with one of them outside its `VALID` range is NaN in all.
    bounded : bool
        Whether to use the logit.
    """

    center: Tensor
    spread: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, names: Sequence[str], never: Never = "bernoulli", bounded: bool = True) -> None:
        super().__init__()
        self.names = check_target_names(names)
        self.never: Never = never
        self.merger = tuple(name in MERGER_TARGETS for name in self.names)
        self.logarithmic = tuple(field(name).scale == "log" for name in self.names)
        self.bounded = tuple(bounded and not (never == "sentinel" and merger) for merger in self.merger)
        ranges = []
        for name, logarithmic in zip(self.names, self.logarithmic, strict=True):
            item = FIELDS[name]
            ranges.append((math.log10(item.low), math.log10(item.high)) if logarithmic else (item.low, item.high))
        low, high = torch.tensor(ranges).unbind(1)
        self.register_buffer("center", torch.zeros(len(self.names)))
        self.register_buffer("spread", torch.ones(len(self.names)))
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("width", high - low, persistent=False)

    def check(self, y: NDArray[np.float64]) -> None:
        """Raise `DataError` unless y, (n, T), or (n,) for one target, in registry units, can be trained on.

        NaN is allowed in the targets of the last major merger, and then in all of a row.
        """
        table = y[:, None] if y.ndim == 1 and len(self.names) == 1 else y
        if table.ndim != 2 or table.shape[1] != len(self.names):
            raise DataError(
                f"the targets have shape {y.shape}", expected=f"(n, {len(self.names)}): " + ", ".join(self.names)
            )
        merger = np.array(self.merger)
        never = np.isnan(table[:, merger])
        mixed = np.flatnonzero(never.any(axis=1) & ~never.all(axis=1))
        if len(mixed):
            raise DataError(
                f"{len(mixed)} rows have some targets of the last major merger and lack others",
                where=f"first at row {int(mixed[0])}: {dict(zip(self.names, table[mixed[0]].tolist(), strict=True))}",
                expected="all of them, or NaN in all: never had a major merger",
            )
        for column, name in enumerate(self.names):
            values, item = table[:, column], field(name)
            allowed = item.in_range(values) & (np.isfinite(values) | (np.isnan(values) & merger[column]))
            bad = np.flatnonzero(~allowed)
            if len(bad):
                raise DataError(
                    f"{len(bad)} rows have an impossible {name}",
                    where=f"first at row {int(bad[0])}: {values[bad[0]]:g}",
                    expected=item.range_text + (", or NaN" if merger[column] else ", finite"),
                    advice="leave such rows out",
                )

    def _features(self, y: Tensor) -> list[Tensor]:
        return [torch.log10(part) if log else part for part, log in zip(y.unbind(-1), self.logarithmic, strict=True)]

    def _mapped(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return places (..., T, n) on the line before standardisation, and logarithms of their slopes."""
        columns, slopes = [], []
        for index, part in enumerate(self._features(y)):
            if self.never == "sentinel" and self.merger[index]:
                part = torch.where(part.isnan(), SENTINELS[self.names[index]], part)
            if self.bounded[index]:
                share = ((part - self.low[index]) / self.width[index]).clamp(_EDGE, 1 - _EDGE)
                other = 1 - share
                part = torch.log(share) - torch.log(other)
                slope = -torch.log(share * other * self.width[index])
            else:
                slope = torch.zeros_like(part)
            columns.append(part)
            slopes.append(slope)
        return torch.stack(columns, -2), torch.stack(slopes, -2)

    def fit(self, y: Tensor) -> None:
        """Set the standardisation from training rows (n, T), registry units; NaN is left out, column by column.

        Raises
        ------
        DataError
            If a target has one single value.
        """
        place = self._mapped(y)[0].double()
        for index, (name, column) in enumerate(zip(self.names, place.unbind(-2), strict=True)):
            known = column[~column.isnan()]
            spread = known.std(unbiased=False) if len(known) else torch.tensor(0.0)
            if not float(spread) > 1e-6:
                raise DataError(f"target {name!r} has one single value, or none", advice="leave it out of the targets")
            self.center[index], self.spread[index] = known.mean(), spread

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map targets (..., n, T), registry units, to the line, as columns.

        Returns
        -------
        (Tensor (..., T, n), Tensor (..., T, n))
            Standardised places, and the natural logarithm of their slope over the feature. NaN stays NaN, except that
            the targets of the last major merger get their sentinels where that is chosen.
        """
        place, slope = self._mapped(y)
        center, spread = self.center.unsqueeze(-1), self.spread.unsqueeze(-1)
        return (place - center) / spread, slope - torch.log(spread)

    def inverse(self, u: Tensor) -> Tensor:
        """Map standardised columns (E, T, ...) back to registry units, same shape; NaN where a draw means "never"."""
        found, outside = [], None
        for index, part in enumerate(u.unbind(1)):
            name, part = self.names[index], torch.addcmul(self.center[index], part, self.spread[index])
            if self.bounded[index]:
                part = torch.addcmul(self.low[index], torch.sigmoid(part), self.width[index])
            elif self.never == "sentinel" and self.merger[index]:
                low, high = VALID[name]
                out = (part < low) | (part > high)
                outside = out if outside is None else outside | out
            if self.logarithmic[index]:
                part = 10**part
            if self.bounded[index]:  # the last digit of a power may lie beyond the range
                part = part.clamp(FIELDS[name].low, FIELDS[name].high)
            found.append(part)
        if outside is not None:
            found = [
                part.masked_fill(outside, torch.nan) if merger else part
                for part, merger in zip(found, self.merger, strict=True)
            ]
        return torch.stack(found, 1)
