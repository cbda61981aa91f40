"""Predictions beside the truth, one row per galaxy: everything that any diagnostic needs, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.tabulate import target_unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from astropy.table import Table
    from numpy.typing import NDArray

__all__ = ["SCORES_FORMAT", "Scores", "join"]

SCORES_FORMAT = 2
"""Number of the layout of score files; a study scores again what has another. 2 added the shift score."""


@dataclass(frozen=True)
class Scores:
    """Point estimates, intervals and calibration quantities of galaxies whose truth is known.

    All arrays have shape (n,). Quantities named after the target are in the target's unit (none for f_ex), in dex where
    the registry is logarithmic.

    Attributes
    ----------
    ids : array of str
        Original identifiers.
    truth : array
        True value of the target.
    mstar : array
        Stellar mass in Msun, for trends with mass.
    p025, p16, p50, p84, p975 : array
        Posterior quantiles.
    mean, std, map : array
        Posterior mean, standard deviation and mode.
    aleatoric, epistemic : array
        Standard deviations within and between the members of the ensemble; their squares add up to ``std**2``.
    pit : array
        Posterior probability below the truth, in [0, 1].
    log_prob : array
        Natural logarithm of the posterior density at the truth.
    crps : array
        Continuous ranked probability score, in the target's unit.
    rank : array of int
        How many of ``draws`` posterior samples lie below the truth: 0 to ``draws``.
    tarp : array
        Fraction of posterior samples nearer to a random reference point than the truth is (Lemos+2023), in [0, 1].
    draws : int
        Number of posterior samples behind ``rank`` and ``tarp``.
    target : str
        Field name of the target.
    model, train, test : str
        Which estimator, trained on which domain, tested on which: for labels.
    shift : array or None
        How unlike the training galaxies each galaxy's inputs are (`galineage.shift`), no unit; None if the model has no
        such score.
    """

    ids: NDArray[np.str_]
    truth: NDArray[np.float64]
    mstar: NDArray[np.float64]
    p025: NDArray[np.float64]
    p16: NDArray[np.float64]
    p50: NDArray[np.float64]
    p84: NDArray[np.float64]
    p975: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    map: NDArray[np.float64]
    aleatoric: NDArray[np.float64]
    epistemic: NDArray[np.float64]
    pit: NDArray[np.float64]
    log_prob: NDArray[np.float64]
    crps: NDArray[np.float64]
    rank: NDArray[np.int64]
    tarp: NDArray[np.float64]
    draws: int
    target: str = "f_ex"
    model: str = ""
    train: str = ""
    test: str = ""
    shift: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        n = len(self.truth)
        for name in self.arrays:
            values = np.asarray(getattr(self, name))
            if values.shape != (n,):
                raise DataError(f"scores column {name!r} has shape {values.shape}", expected=f"({n},)")
            if name != "ids" and not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                raise DataError(
                    f"scores column {name!r} holds {values[row]}",
                    where=f"row {row}, id {self.ids[row]}, model {self.model or 'unnamed'}",
                    expected="finite numbers",
                    advice="look at the inputs of this galaxy with `galineage inspect`",
                )
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self.truth)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the per-galaxy arrays that there are."""
        return ARRAYS if self.shift is None else (*ARRAYS, "shift")

    @property
    def label(self) -> str:
        """``train → test`` for titles."""
        return f"{self.train} → {self.test}"

    def to_table(self) -> Table:
        """Return the rows as a table with units, descriptions and labels, as the files beside a report hold them."""
        from astropy.table import Table

        unit = target_unit(self.target) or None
        table = Table({name: getattr(self, name) for name in self.arrays})
        for name in self.arrays:
            table[name].description = _MEANING.get(name, f"posterior {name} of {self.target}")
            if name not in _PURE:
                table[name].unit = "Msun" if name == "mstar" else unit
        table.meta.update({name: getattr(self, name) for name in ("draws", "target", "model", "train", "test")})
        return table

    def write(self, path: Path) -> None:
        """Write the rows to a table file (format by suffix); raises as `galineage.tables.write_table` does."""
        from galineage.tables import write_table

        write_table(self.to_table(), path)

    @classmethod
    def read(cls, path: Path) -> Scores:
        """Read what `write` wrote.

        Raises
        ------
        FileFormatError, DataError
            If the file cannot be read or lacks a column.
        """
        from galineage.tables import read_table

        table = read_table(path)
        missing = [name for name in ARRAYS if name not in table.colnames]
        if missing:
            raise DataError(f"the scores lack {', '.join(missing)}", where=str(path), advice="run the study again")
        names = [name for name in (*ARRAYS, "shift") if name in table.colnames]
        columns: dict[str, Any] = {name: np.asarray(table[name]) for name in names}
        columns |= {name: str(table.meta[name]) for name in ("target", "model", "train", "test")}
        return cls(**columns, draws=int(table.meta["draws"]))

    def select(self, which: NDArray[Any]) -> Scores:
        """Return the rows ``which`` (boolean mask of shape (n,) or indices)."""
        return replace(self, **{name: getattr(self, name)[which] for name in self.arrays})


ARRAYS: tuple[str, ...] = tuple(
    item.name
    for item in fields(Scores)
    if item.name
    not in {
        "draws",
        "target",
        "model",
        "train",
        "test",
        "shift",
    }
)
"""Names of the per-galaxy arrays of `Scores` that are always there."""


_PURE = frozenset({"ids", "pit", "log_prob", "rank", "tarp", "shift"})
_MEANING = {
    "ids": "identifier as in the input",
    "truth": "true value",
    "mstar": "stellar mass",
    "pit": "posterior probability below the truth",
    "log_prob": "natural logarithm of the posterior density at the truth",
    "crps": "continuous ranked probability score",
    "rank": "posterior samples below the truth",
    "tarp": "fraction of posterior samples nearer to a random point than the truth",
    "shift": "how unlike the training galaxies the inputs are; of their own like, 5 % are above 1",
}


def join(parts: Sequence[Scores]) -> Scores:
    """Join the scores of several folds of one test: arrays are concatenated, labels come from the first."""
    names = ARRAYS if any(part.shift is None for part in parts) else parts[0].arrays
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    if "shift" not in names:
        columns["shift"] = None
    return replace(parts[0], **columns)
