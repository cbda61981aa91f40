"""Draw docs/figures/shift_power.png, shift_errors.png and write shift_power.txt: what shift scores see, and miss.

Needs the real tables: python docs/make_shift_figures.py --data DIR [--errors]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.atomic import write_text, writing
from galineage.evaluation.style import INK, colour, new_figure, style
from galineage.shift import SHIFT_SCORES
from galineage.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Rows = NDArray[np.float64]

FEATURES = ("mstar", "metallicity", "age", "r_half", "spin")
FOLDER = Path(__file__).parent / "figures"
NAMES = {"neighbours": "neighbours", "mahalanobis": "Mahalanobis", "flow": "flow density"}


def column(index: int, change: Callable[[Rows], Rows]) -> Callable[[Rows, Rows], Rows]:
    """Change one feature of the fresh galaxies."""

    def changed(x: Rows, _: Rows) -> Rows:
        made = x.copy()
        made[:, index] = change(x[:, index])
        return made

    return changed


def exchanged(x: Rows, _: Rows) -> Rows:
    """Take each feature from another galaxy: every single column stays as it is."""
    return np.stack([np.random.default_rng(i).permutation(x[:, i]) for i in range(x.shape[1])], axis=1)


CHANGES: dict[str, Callable[[Rows, Rows], Rows]] = {
    "nothing: fresh galaxies of TNG100": lambda x, _: x,
    "one feature (age) + 0.5 sigma": lambda x, fit: x + 0.5 * fit.std(axis=0) * (np.arange(x.shape[1]) == 2),
    "every feature + 0.5 sigma": lambda x, fit: x + 0.5 * fit.std(axis=0),
    "spread times 1.4": lambda x, fit: fit.mean(axis=0) + 1.4 * (x - fit.mean(axis=0)),
    "no correlation between features": exchanged,
    "sizes in kpc/h": column(3, lambda v: v + np.log10(0.6774)),
    "masses in Msun/h": column(0, lambda v: v + np.log10(0.6774)),
    "masses in 1e10 Msun": column(0, lambda v: v - 10),
    "metallicity in units of the Sun's": column(1, lambda v: v - np.log10(0.0127)),
    "logarithm of the metallicity forgotten": column(1, lambda v: 10**v),
    "age in Myr": column(2, lambda v: 1000 * v),
}


def read(data: Path, name: str) -> Rows:
    """Features of the z = 0 galaxies of a table, above 1e10 Msun."""
    galaxies = open_source(data / f"{name}.h5py").read("z0").complete(FEATURES)
    return galaxies.select(galaxies["mstar"] >= 1e10).features(FEATURES)


def rates(data: Path, rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Fraction flagged (mean and its error over random halves) by change and kind of score."""
    own, others = read(data, "properties_tng"), {
        "the same galaxies, age and Z of all stars": read(data, "properties_tng_updated"),
        "another simulation: EAGLE": read(data, "properties_eagle"),
    }  # fmt: skip
    found: dict[str, dict[str, list[float]]] = {name: {} for name in (*CHANGES, *others)}
    for seed in range(rounds):
        order = np.random.default_rng(seed).permutation(len(own))
        fit, fresh = own[order[: len(own) // 2]], own[order[len(own) // 2 :]]
        for kind, score in SHIFT_SCORES.items():
            fitted = score.fit(fit, seed)
            tests = {name: change(fresh, fit) for name, change in CHANGES.items()} | others
            for name, rows in tests.items():
                found[name].setdefault(kind, []).append(float((fitted.score(rows) > 1).mean()))
    return {
        name: {kind: (float(np.mean(v)), float(np.std(v) / np.sqrt(len(v)))) for kind, v in by_kind.items()}
        for name, by_kind in found.items()
    }


def draw(table: dict[str, dict[str, tuple[float, float]]]) -> Any:
    """One row per change, one point per score."""
    with style():
        figure = new_figure(7.6, 5.2)
        ax = figure.add_subplot()
        for i, (kind, name) in enumerate(NAMES.items()):
            values = [100 * row[kind][0] for row in table.values()]
            ax.plot(values, np.arange(len(table)) + 0.2 * (i - 1), "os^"[i], color=colour(i), ms=6, label=name)
        for place in range(1, len(table)):
            ax.axhline(place - 0.5, color="#DDDDDD", lw=0.6)
        ax.axvline(5, color=INK, ls="--", lw=1)
        ax.text(5.3, -0.72, "5 %", fontsize=9.5, va="center")
        ax.set_xscale("log")
        ax.set_xlim(2, 130)
        ax.set_xticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
        ax.set_xticks([], minor=True)
        ax.set_yticks(range(len(table)), list(table))
        ax.set_ylim(len(table) - 0.5, -1)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("Galaxies flagged [%]")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    return figure


def as_text(table: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Write the numbers as a Markdown table."""
    lines = ["| what was changed | " + " | ".join(NAMES.values()) + " |", "| --- |" + " --- |" * len(NAMES)]
    for name, row in table.items():
        cells = [f"{100 * row[kind][0]:.1f} ± {100 * row[kind][1]:.1f} %" for kind in NAMES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def errors(data: Path) -> Any:
    """Errors of accepted and flagged galaxies, inside TNG100 and EAGLE and across in both directions."""
    from galineage import evaluate, train
    from galineage.evaluation import shift

    tables = {name: open_source(data / f"properties_{name}.h5py").read("z0") for name in ("tng", "eagle")}
    tables = {name: item.select(item["mstar"] >= 1e10) for name, item in tables.items()}
    scores = []
    for one, other in (("tng", "eagle"), ("eagle", "tng")):
        home = tables[one]
        fifth = np.random.default_rng(0).permutation(len(home)) < len(home) // 5
        inside = train(home.select(~fifth), FEATURES, "mdn", progress=False)
        across = train(home, FEATURES, "mdn", progress=False)
        scores += [evaluate(inside, home.select(fifth)).scores, evaluate(across, tables[other]).scores]
    found = shift.compute(scores)
    print(shift.judge(found))
    return shift.draw(found)[0].figure


def main() -> None:
    """Write figures and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real tables")
    parser.add_argument("--rounds", type=int, default=5, help="random halves of TNG100")
    parser.add_argument("--errors", action="store_true", help="train on TNG100 and EAGLE too (minutes)")
    options = parser.parse_args()
    table = rates(options.data, options.rounds)
    print(as_text(table))
    write_text(FOLDER / "shift_power.txt", as_text(table))
    figures = {"shift_power": draw(table)} | ({"shift_errors": errors(options.data)} if options.errors else {})
    for name, figure in figures.items():
        with writing(FOLDER / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=100)


if __name__ == "__main__":
    main()
