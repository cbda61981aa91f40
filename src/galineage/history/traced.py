"""A source whose galaxies' histories are computed from merger trees, where no catalogue of them exists."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError, GalineageError
from galineage.fields import MERGER_TARGETS
from galineage.galaxy import Catalogue, Skip
from galineage.history.mergers import MAJOR, find_mergers, statistics
from galineage.history.origin import classify, ex_situ_fraction
from galineage.sources.native import EagleExport, EagleSource, StarBirths

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from galineage.sources.native import Selection
    from galineage.stars import Galaxy

__all__ = ["TracedEagle"]

UNLISTED = 0.01
"""Largest part of a galaxy's stars whose birth may be unknown: their mass goes to the ex-situ fraction."""

_READING = threading.Lock()


@dataclass(frozen=True)
class TracedEagle:
    """An EAGLE snapshot whose galaxies know their mergers, and, where births are given, which stars are accreted.

    It takes the place of the source it wraps, and can be sent to another process: files are read again there.

    Attributes
    ----------
    source : EagleSource
        Galaxies with their stars.
    export : path
        Comma-separated export of the database, with all progenitors.
    births : path, optional
        See `galineage.sources.native.StarBirths`.
    """

    source: EagleSource
    export: str | os.PathLike[str]
    births: str | os.PathLike[str] | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.source.name

    @property
    def domain(self) -> str:
        """Domain of its galaxies."""
        return self.source.domain

    def catalogue(self, selection: Selection | None = None) -> Catalogue:
        """Select galaxies, and walk their trees.

        Parameters
        ----------
        selection : Selection, optional
            As `EagleSource.catalogue` takes it. Ex-situ fractions are not known before stars are read.

        Returns
        -------
        Catalogue
            With the columns of `galineage.history.statistics`: Gyr before the galaxy's own redshift, Msun. A galaxy
            that is in no tree is skipped.
        """
        chosen = self.source.catalogue(selection)
        trees = _export(str(self.export), self.domain)
        ages = trees.ages(self.source.cosmology)
        found: list[dict[str, float]] = []
        kept, skipped = [], list(chosen.skipped)
        for k, name in enumerate(chosen.ids):
            try:
                tree, row = trees.branch(str(name))
                found.append(statistics(find_mergers(tree, row, ages), MAJOR))
                kept.append(k)
            except DataError as error:
                skipped.append(Skip(k, str(name), MERGER_TARGETS[0], "", str(error)))
        whole = chosen.select(np.array(kept, dtype=np.int64))
        new = {name: np.array([one[name] for one in found]) for name in (found[0] if found else ())}
        return replace(whole, columns={**whole.columns, **new}, skipped=tuple(skipped))

    def galaxies(self, ids: Iterable[Any] | None = None) -> Iterator[Galaxy | Skip]:
        """Read galaxies as `EagleSource.galaxies` does; their stars say whether they are accreted, if births are given.

        Yields
        ------
        Galaxy or Skip
            ``truth`` has ``f_ex``, ``stars.ex_situ`` is set.
        """
        for galaxy in self.source.galaxies(ids):
            if isinstance(galaxy, Skip) or self.births is None:
                yield galaxy
                continue
            try:
                yield self._marked(galaxy)
            except GalineageError as error:
                yield Skip(0, galaxy.id, "f_ex", "", str(error))

    def _marked(self, galaxy: Galaxy) -> Galaxy:
        if galaxy.stars.ids is None:
            raise DataError("its stars have no identifiers, and births go by those")
        tree, row = _export(str(self.export), self.domain).branch(galaxy.id)
        with _READING:  # one thread reads the table, the others wait for it
            births = _births(str(self.births))
        snapshot, host = births.of(galaxy.stars.ids)
        unlisted = float(np.mean(snapshot < 0))
        if unlisted > UNLISTED:
            raise DataError(
                f"where {100 * unlisted:.3g} % of its stars were born is not told",
                where=str(self.births),
                expected=f"all but {100 * UNLISTED:g} %: a star of unknown birth counts as accreted",
                advice="make the table of births from the snapshots of this very run",
            )
        accreted: NDArray[np.bool_] = classify(tree, row, snapshot, host)
        fraction = ex_situ_fraction(galaxy.stars.mass, accreted)
        return replace(galaxy, stars=replace(galaxy.stars, ex_situ=accreted), truth={**galaxy.truth, "f_ex": fraction})


@lru_cache(maxsize=2)
def _export(path: str, domain: str) -> EagleExport:
    return EagleExport.read(path, domain)


@lru_cache(maxsize=1)
def _births(path: str) -> StarBirths:
    return StarBirths.read(path)
