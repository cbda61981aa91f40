"""Quantile matching: a monotone map of each feature from one domain's distribution to another's, given its knots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError
from galineage.fields import check_features
from galineage.models.base import require_counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["QuantileMatching"]

_KINDS = ("marginal", "at-mass")
_BATCH = 4096


class QuantileMatching(nn.Module):
    """Maps features of a target domain onto the distribution that they have in a source domain.

    A value between two knots of the target is put at the same place between the source's knots of the same rank;
    outside the knots it is shifted as the nearest knot is. It is monotone in the feature, and the identity where both
    domains agree. `galineage.adaptation.fit_matching` finds the knots.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs.
    kind : {"marginal", "at-mass"}
        ``marginal``: every feature by its rank among all galaxies. ``at-mass``: every feature but the stellar mass by
        its rank among galaxies of like mass, so that its relation to mass is matched too.
    mass : {"match", "keep"}
        Whether the stellar mass itself is mapped by its rank, or left as it is.
    knots : int
        Knots K of each map.
    nodes : int
        Stellar masses M at which the maps of the kind ``at-mass`` are held; between them maps are interpolated in
        mass. 1 for the kind ``marginal``.

    Attributes
    ----------
    target, source : Tensor (M, d, K)
        Knots in features' units, registry unit or dex. The column of the mass is the same at all nodes.
    masses : Tensor (M,)
        Stellar masses of the nodes in the target domain, dex of Msun; rising.

    Raises
    ------
    ConfigError
        If a setting is unknown, or the kind ``at-mass`` is asked for without the feature ``mstar``.
    """

    target: Tensor
    source: Tensor
    masses: Tensor

    def __init__(
        self, features: Sequence[str], kind: str = "marginal", mass: str = "match", *, knots: int = 201, nodes: int = 1
    ) -> None:
        super().__init__()
        self.features, self.kind, self.mass = check_features(features), kind, mass
        if kind not in _KINDS:
            raise ConfigError(f"there is no matching of kind {kind!r}", expected="one of " + ", ".join(_KINDS))
        if mass not in ("match", "keep"):
            raise ConfigError(f"mass is {mass!r}", expected="match or keep")
        if kind == "at-mass" and "mstar" not in self.features:
            raise ConfigError("matching at mass needs the feature 'mstar'", advice="use the kind marginal")
        require_counts(2, knots=knots)
        require_counts(nodes=nodes)
        self.knots, self.nodes = knots, nodes
        start = torch.linspace(-1, 1, knots).expand(nodes, len(self.features), knots).clone()
        self.register_buffer("target", start)
        self.register_buffer("source", start.clone())
        self.register_buffer("masses", torch.linspace(9, 12, nodes))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {
            "features": list(self.features),
            "kind": self.kind,
            "mass": self.mass,
            "knots": self.knots,
            "nodes": self.nodes,
        }

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count the knots that settings ask for."""
        return 2 * len(settings["features"]) * int(settings.get("knots", 201)) * int(settings.get("nodes", 1))

    def transform(self, x: Tensor) -> Tensor:
        """Map features.

        Parameters
        ----------
        x : Tensor (..., d)
            Features of target-domain galaxies, registry units, dex where logarithmic.

        Returns
        -------
        Tensor (..., d)
            As if they came from the source domain, same units and type. NaN stays NaN; of the kind ``at-mass`` a row
            without a mass is NaN in all features that depend on it. Each row is mapped by itself.
        """
        rows = x.reshape(-1, x.shape[-1])
        return torch.cat([self._transform(part) for part in rows.split(_BATCH)]).reshape(x.shape)

    forward = transform

    def _transform(self, rows: Tensor) -> Tensor:
        low, part = self._between(rows)
        mapped = self._map(rows, low)
        if self.nodes > 1:
            mapped = torch.lerp(mapped, self._map(rows, low + 1), part.unsqueeze(1))
        if self.mass == "keep" and "mstar" in self.features:
            column = self.features.index("mstar")
            mapped = torch.cat([mapped[:, :column], rows[:, column : column + 1], mapped[:, column + 1 :]], dim=1)
        return mapped

    def _between(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Node below each row, (n,), and how far the row's mass is on the way to the next, 0 to 1, (n,)."""
        if self.nodes == 1:
            return torch.zeros(len(rows), dtype=torch.int64, device=rows.device), rows.new_zeros(len(rows))
        mass, masses = rows[:, self.features.index("mstar")].contiguous(), self.masses.to(rows.dtype)
        low = (torch.searchsorted(masses, mass) - 1).clamp(0, self.nodes - 2)
        width = (masses[low + 1] - masses[low]).clamp_min(torch.finfo(rows.dtype).tiny)
        return low, ((mass - masses[low]) / width).clamp(0, 1)

    def _map(self, rows: Tensor, node: Tensor) -> Tensor:
        """Map rows (n, d) with the knots of the given nodes (n,)."""
        target, source = (part.to(rows.dtype)[node] for part in (self.target, self.source))
        place = torch.searchsorted(target, rows.unsqueeze(-1).contiguous()).clamp(1, self.knots - 1)
        ends = torch.cat([place - 1, place], dim=-1)
        (t0, t1), (s0, s1) = (part.gather(-1, ends).unbind(-1) for part in (target, source))
        part = ((rows - t0) / (t1 - t0).clamp_min(torch.finfo(rows.dtype).tiny)).clamp(0, 1)
        # NaN goes through the clamp; beyond the knots the rest of the way is kept as it is
        beyond = (rows - target[..., -1]).clamp_min(0) + (rows - target[..., 0]).clamp_max(0)
        return torch.lerp(s0, s1, part) + beyond
