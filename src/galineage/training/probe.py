"""What a representation is worth while it is learned: nearest neighbours infer what is known of some galaxies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import DataError
from galineage.fields import to_feature
from galineage.shift import nearest
from galineage.store.splits import split_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue
    from galineage.models.contrastive import ContrastiveNetwork
    from galineage.models.map_inputs import MapInputs

__all__ = ["Probe", "neighbour_regression"]

_MOST = 2000
_NEIGHBOURS = 10


def neighbour_regression(
    values: NDArray[np.floating], truth: NDArray[np.float64], fold: NDArray[np.int64], k: int = _NEIGHBOURS
) -> NDArray[np.float64]:
    """Infer a number of each galaxy from its nearest ones in the other fold.

    Parameters
    ----------
    values : array (n, d)
        Representations, any unit, each column standardised here.
    truth : array (n,)
        Any unit, finite.
    fold : array (n,) of int
        0 or 1: neighbours come from the other one.
    k : int
        Neighbours, whose mean is the answer; they are the nearest by the sum of squares.

    Returns
    -------
    array (n,)
        In the unit of ``truth``.
    """
    scaled = ((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12)).astype(np.float32)
    answer = np.empty(len(truth))
    for side in (0, 1):
        mine, others = np.flatnonzero(fold == side), np.flatnonzero(fold != side)
        _, near = nearest(scaled[mine], scaled[others], min(k, len(others)), p=2)
        answer[mine] = truth[others][near].mean(axis=1)
    return answer


class Probe:
    """Fields of some galaxies of each domain, and who may be whose neighbour.

    Parameters
    ----------
    catalogues : sequence of Catalogue
        Views; a domain that does not know a field is not asked about it.
    names : sequence of str
        Fields.
    seed : int
        Of the choice of galaxies and of the two folds, which keep roots whole.

    Raises
    ------
    DataError
        If no domain knows a field.
    """

    def __init__(self, catalogues: Sequence[Catalogue], names: Sequence[str], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._rows = [np.sort(rng.permutation(len(one))[:_MOST]) for one in catalogues]
        self._truth: dict[str, list[tuple[int, NDArray[np.int64], NDArray[np.float64]]]] = {name: [] for name in names}
        self._fold = []
        for number, (one, rows) in enumerate(zip(catalogues, self._rows, strict=True)):
            groups = split_labels(one, "root" if one.root is not None else "row")[rows]
            labels, index = np.unique(groups, return_inverse=True)
            self._fold.append((rng.permutation(len(labels)) % 2)[index])
            for name in names:
                if name not in one:
                    continue
                values = to_feature(name, one[name][rows])
                known = np.flatnonzero(np.isfinite(values))
                if min(np.bincount(self._fold[number][known], minlength=2)) >= 2:
                    self._truth[name].append((number, known, values[known]))
        for name, found in self._truth.items():
            if not found:
                raise DataError(f"no galaxy's {name} is known, which was to be probed", advice="leave it out")

    def nothing(self) -> dict[str, float]:
        """Return a row of NaN, for an epoch in which nothing is asked."""
        return {f"probe_{name}": math.nan for name in self._truth}

    def ask(self, network: ContrastiveNetwork, inputs: Sequence[MapInputs]) -> dict[str, float]:
        """Return for each field 1 - (mean squared error) / variance, no unit, mean over the domains that know it."""
        seen = [network.represent(_Some(one, rows)) for one, rows in zip(inputs, self._rows, strict=True)]  # type: ignore[arg-type]
        found = {}
        for name, parts in self._truth.items():
            scores = []
            for number, known, truth in parts:
                answer = neighbour_regression(seen[number][known], truth, self._fold[number][known])
                scores.append(1 - np.mean((answer - truth) ** 2) / max(float(np.var(truth)), 1e-300))
            found[f"probe_{name}"] = float(np.mean(scores))
        return found


class _Some:
    """Some rows of inputs, as a network asks for them."""

    def __init__(self, inputs: MapInputs, rows: NDArray[np.int64]) -> None:
        self._inputs, self._rows, self.maps = inputs, rows, inputs.maps
        self.pixels = inputs.pixels

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice) -> object:
        return self._inputs.take(self._rows[part])
