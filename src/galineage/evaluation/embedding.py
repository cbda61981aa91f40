"""What a network makes of its inputs, on a plane: are two simulations alike to it? (Angeloudi+2023, Fig. 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.placing import mixing, placed, principal_components
from galineage.evaluation.style import SEQUENTIAL, colour, new_figure, styled
from galineage.evaluation.tabulate import make_table
from galineage.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Embedding", "compute", "draw", "judge", "mixing"]

_COMPONENTS = 32


@dataclass(frozen=True)
class Embedding:
    """Places of views on a plane.

    Attributes
    ----------
    place : array (n, 2)
        No unit; only who is near whom means something.
    truth : array (n,)
        f_ex.
    domain : array (n,) of str
        Of each view; the network was trained on the first domain.
    mixing : float
        Share of the nearest neighbours that come from another domain, over the share expected if domains did not
        matter: 1 for domains that cannot be told apart, 0 for separate ones.
    method : str
        How the places were found.
    """

    place: Array
    truth: Array
    domain: NDArray[np.str_]
    mixing: float
    method: str

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains in the order of their first view."""
        return tuple(dict.fromkeys(self.domain.tolist()))

    def to_table(self) -> Table:
        """Return one row for each view."""
        return make_table(
            [
                ("domain", self.domain, "", "domain of the view"),
                ("f_ex", self.truth, "", "true ex-situ fraction"),
                ("x", self.place[:, 0], "", "place on the plane"),
                ("y", self.place[:, 1], "", "place on the plane"),
            ],
            {"method": self.method, "mixing": self.mixing},
        )


def compute(values: Array, truth: Array, domain: NDArray[np.str_], *, seed: int = 0) -> Embedding:
    """Place views on a plane so that those stay near each other which a network makes alike.

    Parameters
    ----------
    values : array (n, k)
        What the network makes of each view, any unit: reduced to its 32 principal components.
    truth : array (n,)
        f_ex.
    domain : array (n,) of str
        Domains.
    seed : int
        Of UMAP (McInnes+2018). Without the package umap-learn the first two principal components are taken.

    Returns
    -------
    Embedding

    Raises
    ------
    DataError
        If there are fewer than 50 views, or a value is not finite.
    """
    if len(values) < 50 or not np.isfinite(values).all():
        raise DataError(f"{len(values)} views cannot be placed", expected="50 or more, with finite values")
    reduced = principal_components(values, _COMPONENTS)
    place, method = placed(reduced, seed=seed)
    return Embedding(place, truth, domain, mixing(reduced, domain), method)


def judge(result: Embedding) -> Verdict:
    """Say how far the domains overlap; passes if at least half as much as if they did not matter."""
    alike = result.mixing >= 0.5
    word = "largely overlap" if alike else "lie apart"
    return Verdict(
        f"{' and '.join(result.domains)} {word} in what the network makes of them: {100 * result.mixing:.0f} % of the "
        "mixing expected if it did not tell them apart.",
        bool(alike),
        "overlap" if alike else "apart",
    )


@styled
def draw(result: Embedding, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw each domain coloured by f_ex, and all together coloured by domain.

    Parameters
    ----------
    result : Embedding
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    list of Axes
        One for each domain, and the common one.
    """
    domains = result.domains
    figure = figure or new_figure(3.6 * (len(domains) + 1), 3.5)
    axes = list(np.ravel(figure.subplots(1, len(domains) + 1, sharex=True, sharey=True, squeeze=False)))
    size = 6 if len(result.truth) < 4000 else 3
    shown = None
    for k, name in enumerate(domains):
        mine = result.domain == name
        axes[k].plot(*result.place[~mine].T, ".", ms=2, color="0.87", zorder=0, rasterized=True)
        shown = axes[k].scatter(
            *result.place[mine].T, c=result.truth[mine], s=size, cmap=SEQUENTIAL, vmin=0, vmax=1, lw=0, rasterized=True
        )
        axes[k].set_title(name + (" (trained on)" if k == 0 else ""))
    order = np.random.default_rng(0).permutation(len(result.truth))
    index = np.array([domains.index(name) for name in result.domain])
    axes[-1].scatter(
        *result.place[order].T, c=[colour(one) for one in index[order]], s=size, lw=0, alpha=0.6, rasterized=True
    )
    for k, name in enumerate(domains):
        axes[-1].plot([], [], "o", color=colour(k), label=name)
    axes[-1].legend(loc="best")
    axes[-1].set_title("both")
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
    if shown is not None:
        figure.colorbar(shown, ax=axes, label=r"$f_\mathrm{ex}$", shrink=0.9, pad=0.01)
    return axes
