"""How every figure looks: one colour-blind-safe palette and one context of settings; nothing global is changed."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from galineage.fields import field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DIVERGING",
    "INK",
    "MUTED",
    "PALETTE",
    "SEQUENTIAL",
    "WIDTH",
    "axis_label",
    "colour",
    "curve_name",
    "figure_of",
    "new_axes",
    "new_figure",
    "style",
    "styled",
]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe & Ito (2008) colours, told apart with every common kind of colour vision, in order of use."""

INK = "#222222"
"""Truth, reference lines, text."""

MUTED = "#B8B8B8"
"""Expectation bands and background points."""

SEQUENTIAL = "cividis"
DIVERGING = "PuOr_r"

WIDTH = 7.2
"""Width of a figure in inches: 864 pixels at 120 dpi, one column of a report."""

_SETTINGS: dict[str, Any] = {
    "figure.dpi": 120,
    "savefig.dpi": 120,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.labelsize": 11.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "axes.axisbelow": True,
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def style() -> Iterator[None]:
    """Use the house settings of matplotlib inside a ``with`` block and put the old ones back afterwards."""
    import matplotlib as mpl

    # rc_context is typed with a literal union of every setting's name
    with cast("AbstractContextManager[None]", mpl.rc_context(cast("Any", _SETTINGS))):
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the house style when no axes are given; in the caller's own style otherwise."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        given = kwargs.get("ax", args[1] if len(args) > 1 else None)
        if given is not None:
            return draw(*args, **kwargs)
        with style():
            return draw(*args, **kwargs)

    return wrapper


def colour(index: int) -> str:
    """Colour of the ``index``-th thing; starts again after the sixth."""
    return PALETTE[index % len(PALETTE)]


def new_figure(width: float = WIDTH, height: float = 4.6) -> Figure:
    """Make a figure that pyplot does not know, so that nothing stays open; size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_axes(ax: Axes | None, width: float = WIDTH, height: float = 4.6) -> Axes:
    """Return ``ax``, or the axes of a new figure of this size in inches."""
    return new_figure(width, height).add_subplot() if ax is None else ax


def figure_of(drawn: Axes | Sequence[Axes]) -> Figure:
    """Return the figure that holds what a ``draw`` function returned."""
    first: Any = drawn if hasattr(drawn, "figure") else drawn[0]
    # the figure of axes in a subfigure is that subfigure, whose figure is the whole
    return cast("Figure", first.figure.figure)


def axis_label(name: str, before: str = "") -> str:
    """Axis label of a field, with its unit and a word in front of it."""
    label = field(name).axis
    return f"{before} {label}" if before else label


def curve_name(model: str, label: str) -> str:
    """Join the model's name and ``train → test`` for titles and legends; empty parts are left out."""
    return " ".join(part for part in (model, label.strip(" →")) if part)
