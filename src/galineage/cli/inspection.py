"""What a table holds: counts, ranges, gaps, and what it could be used for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from galineage.fields import FIELDS, LEAKS, field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from galineage.galaxy import Catalogue
    from galineage.store.image_store import ImageStore

__all__ = ["describe", "draw", "draw_images"]

_ROOTS = {True: "known", False: "unknown: splits by galaxy cannot be made"}
_NOTHING = "nothing: there is no truth here, use it with `galineage predict`"
_COLUMNS = 8
_DRAWN = ("mstar", "metallicity", "age", "r_half", "spin")


def describe(catalogue: Catalogue) -> str:
    """Describe a catalogue in lines of text: columns with unit, range and gaps, skipped rows, possible uses."""
    domains = Counter(catalogue.domain.astype(str).tolist())
    lines = [
        "domains: " + ", ".join(f"{name} ({count})" for name, count in sorted(domains.items())),
        f"roots (z = 0 descendants): {_ROOTS[catalogue.root is not None]}",
        "",
        f"{'field':17}{'unit':13}{'min':>11}{'median':>11}{'max':>11}  missing  meaning",
    ]
    for name, values in catalogue.columns.items():
        item = field(name)
        numbers = np.asarray(values, dtype=float)
        known = numbers[np.isfinite(numbers)]
        marks = [known.min(), np.median(known), known.max()] if len(known) else [np.nan] * 3
        texts = "".join(f"{mark:>11.4g}" for mark in marks)
        lines.append(f"{name:17}{item.unit or '-':13}{texts}{len(numbers) - len(known):>9}  {item.meaning}")
    targets = [name for name in catalogue.columns if name in LEAKS and FIELDS[name].kind == "float"]
    inputs = [name for name in catalogue.columns if name not in LEAKS and FIELDS[name].kind == "float"]
    lines += [
        "",
        f"could be inferred: {', '.join(targets) or _NOTHING}",
    ]
    lines += [f"could be inputs: {', '.join(inputs)}"]
    reasons = Counter((skip.field, skip.reason) for skip in catalogue.skipped)
    lines += ["", f"skipped rows: {len(catalogue.skipped)}"]
    lines += [f"  {count} x {name}: {reason}" for (name, reason), count in reasons.most_common(10)]
    return "\n".join(lines)


def draw(catalogue: Catalogue) -> Figure:
    """Draw the usual inputs (and f_ex, where it is known) against each other; not registered with pyplot."""
    from galineage.evaluation import figure_of, inputs

    names = [name for name in _DRAWN if name in catalogue]
    target = "f_ex" if "f_ex" in catalogue else names.pop()
    label = ", ".join(sorted(set(catalogue.domain.astype(str))))
    found = inputs.compute([(label, catalogue)], names, target=target)
    return figure_of([ax for ax in np.ravel(inputs.draw(found)) if ax is not None])


def draw_images(store: ImageStore, domain: str | None = None) -> Figure:
    """Draw some images of each domain of a store, as a network sees them; not registered with pyplot.

    The first three bands are blue, green and red; of fewer bands the first is drawn in grey.
    """
    from matplotlib.figure import Figure

    domains = [domain] if domain else sorted({row["domain"] for row in store.rows})
    views = store.views(domain)
    rows = np.array([k for k, row in enumerate(store.rows) if domain in (None, row["domain"])], dtype=np.int64)
    figure = Figure(figsize=(1.5 * _COLUMNS, 1.75 * 2 * len(domains)), layout="constrained")
    axes = figure.subplots(2 * len(domains), _COLUMNS, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for k, name in enumerate(domains):
        mine = np.flatnonzero(views.domain == name)
        chosen = mine[np.linspace(0, len(mine) - 1, min(len(mine), 2 * _COLUMNS)).astype(int)]
        shown = np.asarray(store.read(rows[chosen]), dtype=np.float64)
        for ax, row, image in zip(axes[2 * k : 2 * k + 2].flat, chosen, shown, strict=False):
            colour = np.moveaxis(image[2::-1], 0, -1) if len(image) > 2 else image[0]
            ax.imshow(colour, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set_title(f"{name} {views.ids[row]}", fontsize=7)
            label = f'{views["r90"][row]:.3g}" R90'
            ax.text(0.03, 0.03, label, transform=ax.transAxes, color="white", fontsize=6)
    wide = f"{store.settings['images']['times']:g} R90 wide"
    figure.suptitle(f"{store.path.name}: {', '.join(store.channels)}, {store.pixels} pixels, {wide}")
    return figure
