"""Putting the members of several distributions side by side, so that they are one ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

from galineage.errors import ConfigError
from galineage.models.bounded import Histogram, TruncatedMixture, TruncatedSplineFlow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["join_members"]


def join_members(distributions: Sequence[Distribution]) -> Distribution:
    """Join distributions of one kind along their first batch dimension.

    Parameters
    ----------
    distributions : sequence of Distribution
        Batch shapes (E_1, n), (E_2, n), ...; all of one class, and with equal fixed parts (link, bin edges).

    Returns
    -------
    Distribution
        Batch shape (E_1 + E_2 + ..., n), of the same class: what is fast for it stays fast.

    Raises
    ------
    ConfigError
        If they are of different classes, or of one that cannot be joined.
    """
    first = distributions[0]
    if len(distributions) == 1:
        return first
    join = _JOINERS.get(type(first))
    if join is None or any(type(other) is not type(first) for other in distributions):
        names = ", ".join(sorted({type(item).__name__ for item in distributions}))
        raise ConfigError(
            f"distributions of the kind {names} cannot be joined",
            expected="several of one kind among " + ", ".join(kind.__name__ for kind in _JOINERS),
        )
    for name in ("link", "edges"):
        fixed = [getattr(item, name, None) for item in distributions]
        if any(not _same(fixed[0], other) for other in fixed):
            raise ConfigError(f"distributions with different {name} cannot be joined", expected="parts of one model")
    return join(distributions)


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def _cat(parts: Sequence[Any], name: str) -> Tensor:
    return torch.cat([getattr(part, name) for part in parts])


def _mixtures(parts: Sequence[Any]) -> Distribution:
    return TruncatedMixture(_cat(parts, "log_weights"), _cat(parts, "loc"), _cat(parts, "scale"), parts[0].link)


def _flows(parts: Sequence[Any]) -> Distribution:
    widths, heights, slopes = (torch.cat(pieces) for pieces in zip(*(part.raw for part in parts), strict=True))
    return TruncatedSplineFlow(_cat(parts, "loc"), _cat(parts, "scale"), widths, heights, slopes, parts[0].link)


def _normals(parts: Sequence[Any]) -> Distribution:
    return Normal(_cat(parts, "loc"), _cat(parts, "scale"), validate_args=False)


def _histograms(parts: Sequence[Any]) -> Distribution:
    return Histogram(_cat(parts, "probabilities"), parts[0].edges)


def _normal_mixtures(parts: Sequence[Any]) -> Distribution:
    logits = _cat([part.mixture_distribution for part in parts], "logits")
    inner = join_members([part.component_distribution for part in parts])
    return MixtureSameFamily(Categorical(logits=logits, validate_args=False), inner, validate_args=False)


_JOINERS = {
    TruncatedMixture: _mixtures,
    TruncatedSplineFlow: _flows,
    Normal: _normals,
    Histogram: _histograms,
    MixtureSameFamily: _normal_mixtures,
}
