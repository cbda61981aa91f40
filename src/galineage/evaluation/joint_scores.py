"""Joint posteriors beside the truth, one row per galaxy: what the diagnostics of several targets together need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.evaluation.tabulate import target_unit
from galineage.fields import MERGER_TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from astropy.table import Table
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["JointScores", "join_joint"]

_ROWS = ("ids", "mstar", "truth", "p_never", "draws", "latent", "log_prob", "tarp")
_LABELS = ("model", "train", "test")


@dataclass(frozen=True)
class JointScores:
    """Joint posteriors of n galaxies whose truth is known: T targets, K draws, E members.

    Targets are in the registry's unit, in dex where it is logarithmic.

    Attributes
    ----------
    ids : array of str (n,)
        Original identifiers.
    mstar : array (n,)
        Stellar mass in Msun.
    truth : array (n, T)
        True values; NaN in the targets that need a major merger if there was none.
    p_never : array (n,)
        Posterior probability of no major merger, 0 to 1; no unit.
    draws : array (n, K, T)
        Joint posterior draws, NaN as in ``truth``.
    latent : array (n, E, T)
        Where each member's network maps the truth to: independent standard normal numbers if it is right. NaN where
        the truth is.
    log_prob : array (n,)
        Natural logarithm of the joint posterior density (and probability of a merger or none) at the truth.
    tarp : array (n,)
        Fraction of joint draws with all targets defined that lie nearer to a random point than the truth does; NaN for
        galaxies without a major merger. No unit.
    targets : tuple of str, length T
        Field names.
    model, train, test : str
        Which estimator, trained on which domain, tested on which: for labels.
    """

    ids: NDArray[np.str_]
    mstar: Array
    truth: Array
    p_never: Array
    draws: Array
    latent: Array
    log_prob: Array
    tarp: Array
    targets: tuple[str, ...]
    model: str = ""
    train: str = ""
    test: str = ""

    def __post_init__(self) -> None:
        n, size = len(self.ids), len(self.targets)
        shapes = {"truth": (n, size), "draws": (n, "K", size), "latent": (n, "E", size)}
        for name in _ROWS:
            values = np.asarray(getattr(self, name))
            wanted = shapes.get(name, (n,))
            same = values.ndim == len(wanted) and all(
                a == b for a, b in zip(values.shape, wanted, strict=True) if not isinstance(b, str)
            )
            if not same:
                raise DataError(f"joint scores {name!r} have shape {values.shape}", expected=f"{wanted}")
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self.ids)

    @property
    def label(self) -> str:
        """``train → test`` for titles."""
        return f"{self.train} → {self.test}"

    @property
    def has_never(self) -> bool:
        """Whether a target needs a major merger, so that there is a probability of none."""
        return any(name in MERGER_TARGETS for name in self.targets)

    @property
    def never(self) -> NDArray[np.bool_]:
        """Which galaxies had no major merger, shape (n,)."""
        merger = [index for index, name in enumerate(self.targets) if name in MERGER_TARGETS]
        return np.asarray(np.isnan(self.truth[:, merger]).any(axis=1))

    def column(self, target: str) -> int:
        """Return the place of a target; raises DataError if it is not there."""
        if target not in self.targets:
            raise DataError(f"the joint scores have no target {target!r}", expected=", ".join(self.targets))
        return self.targets.index(target)

    def to_table(self) -> Table:
        """Return the rows as a table: one column for each target, draw and member, with units and descriptions."""
        from astropy.table import Column, Table

        table = Table()
        table["ids"] = Column(self.ids, description="identifier as in the input")
        table["mstar"] = Column(self.mstar, unit="Msun", description="stellar mass")
        table["p_never"] = Column(self.p_never, description="posterior probability of no major merger")
        table["log_prob"] = Column(self.log_prob, description="natural logarithm of the joint density at the truth")
        table["tarp"] = Column(self.tarp, description="fraction of joint draws nearer to a random point than the truth")
        for index, target in enumerate(self.targets):
            unit = target_unit(target) or None
            table[f"truth.{target}"] = Column(self.truth[:, index], unit=unit, description="true value")
            for member in range(self.latent.shape[1]):
                text = f"latent value of the truth in member {member}"
                table[f"latent.{target}.{member}"] = Column(self.latent[:, member, index], description=text)
            for draw in range(self.draws.shape[1]):
                text = f"joint posterior draw {draw}"
                table[f"draw.{target}.{draw}"] = Column(
                    self.draws[:, draw, index].astype(np.float32), unit=unit, description=text
                )
        table.meta.update({name: getattr(self, name) for name in _LABELS})
        table.meta["targets"] = " ".join(self.targets)
        return table

    def write(self, path: Path) -> None:
        """Write the rows to a table file (format by suffix); raises as `galineage.tables.write_table` does."""
        from galineage.tables import write_table

        write_table(self.to_table(), path)

    @classmethod
    def read(cls, path: Path) -> JointScores:
        """Read what `write` wrote.

        Raises
        ------
        FileFormatError, DataError
            If the file cannot be read or lacks a column.
        """
        from galineage.tables import read_table

        table = read_table(path)
        try:
            targets = tuple(str(table.meta["targets"]).split())
            columns: dict[str, Any] = {
                name: np.asarray(table[name]) for name in ("ids", "mstar", "p_never", "log_prob", "tarp")
            }
            columns["truth"] = np.stack([np.asarray(table[f"truth.{name}"]) for name in targets], axis=-1)
            for part, stem in (("latent", "latent"), ("draws", "draw")):
                count = sum(name.startswith(f"{stem}.{targets[0]}.") for name in table.colnames)
                columns[part] = np.stack(
                    [
                        np.stack([np.asarray(table[f"{stem}.{name}.{i}"]) for i in range(count)], axis=1)
                        for name in targets
                    ],
                    axis=-1,
                )
            labels: dict[str, Any] = {name: str(table.meta[name]) for name in _LABELS}
        except (KeyError, ValueError, IndexError) as error:
            raise DataError(
                f"these are no joint scores: {error}", where=str(path), advice="run the study again"
            ) from error
        return cls(**columns, targets=targets, **labels)

    def select(self, which: NDArray[Any]) -> JointScores:
        """Return the rows ``which`` (boolean mask of shape (n,) or indices)."""
        return replace(self, **{name: getattr(self, name)[which] for name in _ROWS})


def join_joint(parts: Sequence[JointScores]) -> JointScores:
    """Join the joint scores of several folds of one test: rows are concatenated, labels come from the first."""
    rows: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS}
    return replace(parts[0], **rows)
