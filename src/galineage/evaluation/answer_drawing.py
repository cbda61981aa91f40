"""The figure that answers a reader's first questions; see `galineage.evaluation.answers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.evaluation.calibration import TOLERANCE
from galineage.evaluation.style import INK, MUTED, axis_label, colour, figure_of, new_figure, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from galineage.evaluation.answers import Answers, Trial

__all__ = ["draw"]


@styled
def draw(result: Answers, figure: Figure | SubFigure | None = None) -> list[Axes]:
    """Draw a row for each model, the one that crosses best on top, and a panel for each question.

    Colours tell the domain tested; open circles are models trained there, filled ones models trained elsewhere. Green:
    models that are not told from the best. The last panel, of tests across domains, is left out where there
    are no shift scores.

    Parameters
    ----------
    result : Answers
        From `compute`.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure of the width of a page if left out.

    Returns
    -------
    list of Axes
        Error, bias, coverage, and, if there are scores, flagged galaxies.
    """
    flags = any(np.isfinite(item.values["flag_gap"][0]) for item in result.tests)
    own = figure is None
    figure = figure or new_figure(11.5, 1.9 + 0.46 * len(result.ranked))
    widths = [1.5, 1.1, 1.45, 1.1][: 4 if flags else 3]
    axes = list(figure.subplots(1, len(widths), sharey=True, width_ratios=widths))
    domains = list(dict.fromkeys(item.test for item in result.tests))
    rows = {name: float(k) for k, name in enumerate(result.ranked)}
    step = 0.5 / max(len(domains), 2)
    places = {
        (name, domain): rows[name] + (d - 0.5 * (len(domains) - 1)) * step
        for name in rows
        for d, domain in enumerate(domains)
    }
    for item in result.tests:
        place, shade = places[item.model, item.test], colour(domains.index(item.test))
        _dot(axes[0], item, "rmse", place, shade)
        _dot(axes[1], item, "bias", place, shade)
        _dot(axes[2], item, "coverage68", place, shade, 100)
        _dot(axes[2], item, "coverage95", place, shade, 100, marker="D")
        if flags and not item.within:
            _flagged(axes[3], item, place, shade)
    _join(axes[0], result, places, domains)
    _finish(axes, result, rows)
    _legend(figure, domains, result, flags=flags)
    if own:
        _settle(axes)
    return axes


def _dot(ax: Axes, item: Trial, name: str, place: float, shade: str, factor: float = 1, marker: str = "o") -> None:
    value, error = (factor * number for number in item.values[name])
    ax.errorbar(
        value, place, xerr=float(np.nan_to_num(error)), fmt=marker, color=shade, mfc="white" if item.within else shade,
        ms=5.5 if marker == "o" else 4.5, mew=1.3, elinewidth=1.1, zorder=4 if item.within else 3,
    )  # fmt: skip


def _flagged(ax: Axes, item: Trial, place: float, shade: str) -> None:
    accepted, flagged = item.values["rmse_accepted"], item.values["rmse_flagged"]
    for (value, error), marker, size in ((accepted, "|", 8), (flagged, "^", 6)):
        ax.errorbar(
            value, place, xerr=float(np.nan_to_num(error)), fmt=marker, color=shade, ms=size, mew=1.3, elinewidth=1.1
        )
    ax.plot([accepted[0], flagged[0]], [place, place], color=shade, lw=0.8, alpha=0.5)
    ax.text(
        0.985, place, f"{100 * item.values['flagged'][0]:.0f} %", color=shade, fontsize=8.5, ha="right", va="center",
        transform=ax.get_yaxis_transform(),
    )  # fmt: skip


def _join(ax: Axes, result: Answers, places: Mapping[tuple[str, str], float], domains: Sequence[str]) -> None:
    """Join the errors of a model in one domain: trained there, and elsewhere."""
    for (model, domain), place in places.items():
        mine = [item.values["rmse"][0] for item in result.tests if (item.model, item.test) == (model, domain)]
        if len(mine) > 1:
            ax.plot(
                [min(mine), max(mine)], [place, place], color=colour(domains.index(domain)), lw=3, alpha=0.25, zorder=1
            )


def _finish(axes: Sequence[Axes], result: Answers, rows: Mapping[str, float]) -> None:
    label = axis_label(result.target)
    titles = (
        ("How wrong?", f"RMS error of {label}"),
        ("Biased?", f"median error of {label}"),
        ("Error bars right?", "truths inside intervals [%]\n○ of 68 %, ◇ of 95 %"),
        ("Whom not to trust?", "RMS error across"),
    )
    for ax, (title, below) in zip(axes, titles, strict=False):
        ax.set_title(title, fontsize=12, fontweight="bold")
        ax.set_xlabel(below)
        ax.grid(axis="x", alpha=0.3)
        ax.tick_params(axis="y", length=0)
        for edge in np.arange(len(rows) - 1) + 0.5:
            ax.axhline(edge, color=MUTED, lw=0.6)
    axes[0].set_yticks(list(rows.values()), list(rows))
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    for text in axes[0].get_yticklabels():
        text.set_fontweight("bold" if text.get_text() == result.main else "normal")
    axes[0].set_xlim(left=0)
    for ax, near in ((axes[0], result.level), (axes[1], result.unbiased)):
        for name in near if len(rows) > 1 else ():
            ax.axhspan(rows[name] - 0.5, rows[name] + 0.5, color=colour(2), alpha=0.15, lw=0, zorder=0)
    axes[1].axvline(0, color=INK, lw=0.8, ls="--")
    for nominal in (68, 95):
        axes[2].axvline(nominal, color=INK, lw=0.8, ls="--")
        axes[2].axvspan(nominal - 100 * TOLERANCE, nominal + 100 * TOLERANCE, color=MUTED, alpha=0.35, lw=0, zorder=0)
    if len(axes) > 3:
        low, high = axes[3].get_xlim()
        axes[3].set_xlim(min(0, low), high + 0.22 * (high - min(0, low)))  # room for the fractions


def _settle(axes: Sequence[Axes]) -> None:
    """Lay out once and round: the solver of layouts differs in the last digit from call to call, and so would files."""
    from matplotlib.transforms import Bbox

    figure = figure_of(axes)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in axes:
        ax.set_position(Bbox.from_bounds(*(round(float(edge), 5) for edge in ax.get_position().bounds)))


def _legend(figure: Figure | SubFigure, domains: Sequence[str], result: Answers, *, flags: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=colour(d), lw=5, label=f"tested on {name}") for d, name in enumerate(domains)
    ]
    circle: dict[str, Any] = {"marker": "o", "ls": "", "color": INK}
    if any(item.within for item in result.tests):
        handles.append(Line2D([], [], **circle, mfc="white", label="trained there too"))
    if result.crossed:
        handles.append(Line2D([], [], **circle, label="trained elsewhere"))
    if len(result.ranked) > 1:
        handles.append(Patch(color=colour(2), alpha=0.15, label="not told from the best"))
    if flags:
        handles.append(Line2D([], [], marker="|", ms=9, ls="", color=INK, label="accepted"))
        handles.append(Line2D([], [], marker="^", ls="", color=INK, label="flagged (how many: %)"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=9, columnspacing=1.4)
