"""What a network looks at: integrated gradients and occlusion, by channel and by radius, over all views of a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from galineage.errors import ConfigError, DataError
from galineage.evaluation.example_maps import TITLES
from galineage.evaluation.style import colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict
from galineage.progress import bar

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from galineage.models.map_inputs import MapInputs
    from galineage.models.map_network import MapNetwork

    Array = NDArray[np.float64]

__all__ = ["Attribution", "compute", "draw", "integrated_gradients", "judge"]

_BATCH = 64


@dataclass(frozen=True)
class Attribution:
    """How much channels and rings move the posterior mean.

    Attributes
    ----------
    channels : tuple of str
        Those that the network sees.
    edges : array (r + 1,), r_half
        Rings.
    gradients : array (channels, r)
        Mean over views of the absolute integrated gradient of a ring, in the target's unit.
    occlusion : array (channels,)
        Mean absolute change of the posterior mean where a channel is set to 0, in the target's unit.
    ring_occlusion : array (r,)
        The same where a ring of all channels is set to 0.
    error : array (channels,)
        Standard error of ``occlusion``.
    completeness : float
        Median over views of the difference between the sum of all integrated gradients and the change of the answer
        from the baseline to the view, relative to the root mean square change: 0 if the integral is exact.
    views : int
        How many.
    """

    channels: tuple[str, ...]
    edges: Array
    gradients: Array
    occlusion: Array
    ring_occlusion: Array
    error: Array
    completeness: float
    views: int

    def to_table(self) -> Table:
        """Return one row for each channel and ring."""
        n = len(self.edges) - 1
        return make_table(
            [
                ("channel", np.repeat(self.channels, n), "", "channel"),
                ("inner", np.tile(self.edges[:-1], len(self.channels)), "", "inner radius in r_half"),
                ("outer", np.tile(self.edges[1:], len(self.channels)), "", "outer radius in r_half"),
                ("gradient", self.gradients.ravel(), "", "mean absolute integrated gradient"),
                ("occlusion", np.repeat(self.occlusion, n), "", "change where the whole channel is 0"),
            ],
            {"views": self.views, "completeness": self.completeness},
        )


def integrated_gradients(
    answer: Any, maps: torch.Tensor, steps: int = 32, baseline: torch.Tensor | None = None
) -> torch.Tensor:
    """Integrate the gradient of an answer along a straight line from a baseline (Sundararajan+2017).

    Parameters
    ----------
    answer : callable
        Maps (n, ...) in, one number (n,) out; views do not depend on each other.
    maps : Tensor (n, ...)
        Any unit.
    steps : int
        Gauss-Legendre points of the integral.
    baseline : Tensor (1, ...), optional
        Where the line begins. Default: 0, as published.

    Returns
    -------
    Tensor (n, ...)
        In the answer's unit: what each pixel adds. Summed over pixels it is the answer for the maps less that for the
        baseline, up to the error of the integral.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(maps)
    start = torch.zeros_like(maps[:1]) if baseline is None else baseline
    for node, weight in zip(nodes, weights, strict=True):
        point = (start + (maps - start) * float(0.5 * (node + 1))).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(answer(point).sum(), point)
        total += gradient * float(0.5 * weight)
    return total * (maps - start)


def compute(
    network: MapNetwork,
    inputs: MapInputs,
    *,
    rings: int = 8,
    steps: int = 32,
    baseline: Literal["mean", "zero"] = "mean",
    progress: bool = False,
) -> Attribution:
    """Attribute a network's answers to what it sees, over all views.

    Parameters
    ----------
    network : MapNetwork
        In evaluation mode. The mean of all members' means is what is explained.
    inputs : MapInputs
        Views.
    rings : int
        Of equal width, from the centre to the edge of the field or of the aperture.
    steps : int
        See `integrated_gradients`.
    baseline : {"mean", "zero"}
        What a view is compared with: the mean of all views, an average galaxy; or empty maps, as published. A network
        with group normalisation does not see how bright a map is, only its shape, so that on the way from empty maps
        everything happens at the very beginning, where no integral catches it.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Attribution

    Raises
    ------
    DataError
        If there is no view.
    ConfigError
        If there is no ring.
    """
    if not len(inputs):
        raise DataError("there is no view to explain")
    if rings < 1:
        raise ConfigError(f"{rings} rings", expected="1 or more")
    edges = np.linspace(0, network.aperture or network.half_width, rings + 1)
    masks, depth = _rings(network, edges), len(network.channels)
    seen = [network.channels.index(name) for name in network.seen]
    start_at = _mean(inputs, depth) if baseline == "mean" else torch.zeros(1, depth, network.pixels, network.pixels)
    found: list[tuple[torch.Tensor, ...]] = []
    for start in bar(range(0, len(inputs), _BATCH), label="attribution", show=progress):
        context = inputs[start : start + _BATCH].float()
        maps, planes = context[:, :depth], context[:, depth:]

        def answer(part: torch.Tensor, planes: torch.Tensor = planes) -> torch.Tensor:
            return network(torch.cat([part, planes], dim=1)).mean.mean(dim=0)

        each = integrated_gradients(answer, maps, steps, start_at)[:, seen]
        with torch.no_grad():
            whole, empty = answer(maps), answer(start_at.expand_as(maps))
            hidden = [whole - answer(_without(maps, channel)) for channel in seen]
            ringed = [whole - answer(maps * (1 - mask)) for mask in masks]
            sums = torch.stack([each.sum((1, 2, 3)), whole - empty])
        by_ring = torch.einsum("ncyx,ryx->ncr", each, masks).abs()
        found.append((by_ring, torch.stack(hidden, 1), torch.stack(ringed, 1), sums.T))
    gradients, hidden_all, ringed_all, sums_all = (
        torch.cat(part).double().numpy() for part in zip(*found, strict=True)
    )
    return Attribution(
        channels=network.seen,
        edges=edges,
        gradients=gradients.mean(axis=0),
        occlusion=np.abs(hidden_all).mean(axis=0),
        ring_occlusion=np.abs(ringed_all).mean(axis=0),
        error=np.abs(hidden_all).std(axis=0) / np.sqrt(len(hidden_all)),
        completeness=float(np.median(np.abs(np.diff(sums_all))) / np.sqrt((sums_all[:, 1] ** 2).mean())),
        views=len(hidden_all),
    )


def _mean(inputs: MapInputs, depth: int) -> torch.Tensor:
    """Return the mean of all maps (1, depth, s, s), no unit."""
    parts = [inputs[k : k + 256][:, :depth].float().sum(0) for k in range(0, len(inputs), 256)]
    return torch.stack(parts).sum(0, keepdim=True) / len(inputs)


def _rings(network: MapNetwork, edges: Array) -> torch.Tensor:
    """Return masks (r, s, s) of 0 and 1; the last ring reaches into the corners of a square field."""
    side = network.pixels
    place = (np.arange(side) + 0.5 - side / 2) * (2 * network.half_width / side)
    radius = np.hypot(place[:, None], place[None, :])
    which = (np.searchsorted(edges, radius, side="right") - 1).clip(0, len(edges) - 2)
    return torch.from_numpy(np.stack([which == k for k in range(len(edges) - 1)]).astype(np.float32))


def _without(maps: torch.Tensor, channel: int) -> torch.Tensor:
    changed = maps.clone()
    changed[:, channel] = 0
    return changed


def judge(result: Attribution) -> Verdict:
    """Say which channel moves the answer most, and where; passes if the integral is complete to 5 %."""
    first = int(np.argmax(result.occlusion))
    by_ring = result.gradients.sum(axis=0)
    inside = float(by_ring[result.edges[1:] <= 0.5 + 1e-9].sum() / by_ring.sum()) if by_ring.sum() > 0 else float("nan")
    return Verdict(
        f"Taking {result.channels[first]} away moves the posterior mean most, by {result.occlusion[first]:.3f} "
        f"± {result.error[first]:.3f}; {100 * inside:.0f} % of what pixels add lies inside half a half-mass radius "
        f"({result.views} views; integrals complete to {100 * result.completeness:.1f} %).",
        result.completeness < 0.05,
    )


@styled
def draw(result: Attribution, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw integrated gradients against radius, a line for each channel, and occlusion as bars.

    Parameters
    ----------
    result : Attribution
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        Gradients, occlusion of channels, occlusion of rings.
    """
    figure = figure or new_figure(11.0, 3.6)
    axes = list(np.ravel(figure.subplots(1, 3, squeeze=False)))
    middle = 0.5 * (result.edges[1:] + result.edges[:-1])
    for k, name in enumerate(result.channels):
        axes[0].plot(middle, result.gradients[k], "o-", ms=3, color=colour(k), label=TITLES.get(name, name))
    axes[0].set_xlabel(r"radius [$r_{1/2}$]")
    axes[0].set_ylabel(r"integrated gradient of $f_\mathrm{ex}$ per ring")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(loc="best")
    place = np.arange(len(result.channels))
    colours = [colour(k) for k in range(len(place))]
    axes[1].barh(place, result.occlusion, xerr=result.error, color=colours)
    axes[1].set_yticks(place, [TITLES.get(name, name) for name in result.channels])
    axes[1].invert_yaxis()
    axes[1].set_xlabel("change of the posterior mean\nwithout this channel")
    axes[2].stairs(result.ring_occlusion, result.edges, color="0.3", lw=1.8)
    axes[2].set_xlabel(r"radius [$r_{1/2}$]")
    axes[2].set_ylabel("change without this ring")
    axes[2].set_ylim(bottom=0)
    return axes
