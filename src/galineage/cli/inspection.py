"""What a table holds: counts, ranges, gaps, and what it could be used for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from galineage.fields import FIELDS, LEAKS, field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from galineage.galaxy import Catalogue

__all__ = ["describe", "draw"]

_ROOTS = {True: "known", False: "unknown: splits by galaxy cannot be made"}
_NOTHING = "nothing: there is no truth here, use it with `galineage predict`"
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
