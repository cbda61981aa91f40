"""Local files of TNG and Illustris: a catalogue of galaxies, and their stars read in one pass over the snapshot."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cosmology import TNG_REDSHIFTS
from galineage.errors import DataError, FileFormatError, GalineageError
from galineage.galaxy import Catalogue, Skip
from galineage.sources.native.bulk import Chunks, Wanted, chunks_of, read_rows
from galineage.sources.native.direct import Column, descriptor
from galineage.sources.native.files import opened
from galineage.sources.native.selection import Selection
from galineage.sources.native.sublink import SubLink
from galineage.sources.native.supplements import assembly, in_situ_file, merger_history
from galineage.sources.native.tng_groups import STARS, Subhaloes, read_subhaloes
from galineage.sources.native.tng_layout import TngFolder
from galineage.sources.native.tng_stars import FIELDS, PHOTOMETRY, to_stars
from galineage.stars import Galaxy

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import h5py
    from numpy.typing import ArrayLike, NDArray

__all__ = ["TngSource"]


class TngSource:
    """A snapshot of TNG or Illustris on disk.

    Parameters
    ----------
    path : path
        Folder of the run: ``output``, or the one above it, or one that holds the chunks themselves. Supplementary
        catalogues, offsets and trees are looked for in ``postprocessing`` in it or beside it.
    snapshot : int
        Number of the snapshot.
    domain : str
        What the run is called, for example ``TNG100-1``.
    times : array (snapshots,), scale factors, optional
        Of all snapshots of the run, to turn the snapshot of a merger into a lookback time. Default: those of TNG, if
        the snapshot has the redshift that it has there.
    photometry : bool
        Read the stars' magnitudes too (`galineage.stars.PHOTOMETRY`); half as much again is then read.

    Raises
    ------
    FileFormatError
        If the folder is absent.

    Examples
    --------
    >>> source = TngSource("sims.TNG/TNG100-1/output", 99, "TNG100-1")  # doctest: +SKIP
    >>> for galaxy in source.galaxies(source.catalogue().ids):  # doctest: +SKIP
    ...     print(galaxy.id, galaxy.r_half)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        snapshot: int,
        domain: str,
        *,
        times: ArrayLike | None = None,
        photometry: bool = False,
    ) -> None:
        self.folder = TngFolder(Path(path), snapshot)
        self.domain, self.snapshot, self.photometry = domain, snapshot, bool(photometry)
        self._times = None if times is None else np.asarray(times, dtype=np.float64)

    @property
    def name(self) -> str:
        """What messages and reports call it."""
        return f"{self.domain}, snapshot {self.snapshot}"

    @cached_property
    def chunks(self) -> Chunks:
        """Which stars each file of the snapshot holds, found out once."""
        return chunks_of(self.folder.snapshot_files(), STARS)

    def __reduce__(self) -> tuple[Any, ...]:
        # to another process go the settings; it reads the catalogue itself
        return (_again, (str(self.folder.path), self.snapshot, self.domain, self._times, self.photometry))

    @cached_property
    def trees(self) -> SubLink | None:
        """The merger trees of the run, if they and offsets into them are there."""
        if not self.folder.trees() or self.folder.offsets() is None:
            return None
        return SubLink(self.folder, self.subhaloes.frame.mass)

    def roots(self, numbers: NDArray[np.int64]) -> list[str | None]:
        """Name the final descendants of subhaloes (n,): by the trees, else at z = 0 by themselves, else not at all."""
        if self.trees is not None:
            found = self.trees.roots(numbers.tolist())
            return [None if one is None else f"{self.domain}:tree-{one}" for one in found]
        if abs(self.subhaloes.frame.redshift) < 1e-6:
            return [f"{self.domain}:{number}" for number in numbers]
        return [None] * len(numbers)

    @cached_property
    def subhaloes(self) -> Subhaloes:
        """The group catalogue, read once."""
        return read_subhaloes(self.folder)

    def catalogue(self, selection: Selection | None = None) -> Catalogue:
        """Select galaxies.

        Parameters
        ----------
        selection : Selection, optional
            Default: stellar mass above 1e10 Msun, of cosmological origin.

        Returns
        -------
        Catalogue
            ``mstar``, ``r_half``, ``total_spin``, ``central``, ``snapshot``, and the history as far as there are
            catalogues of it; ``root`` as `roots` has it, None if it is unknown for any. Subhaloes that the
            selection's mass admits and its flags or fractions do not are in the skip list.
        """
        selection = selection or Selection()
        every = self.subhaloes
        rows = np.flatnonzero(every.mstar > selection.mstar_min)
        ids = every.id[rows]
        truth = self._truth(ids)
        f_ex = truth.get("f_ex", np.zeros(len(ids)))
        reasons = np.where(every.flag[rows] | selection.flagged, "", "not of cosmological origin (SubhaloFlag)")
        outside = ~((f_ex >= selection.f_ex_min) & (f_ex < selection.f_ex_max))
        reasons = np.where((reasons == "") & outside, "outside the range of f_ex", reasons)
        take = reasons == ""
        skipped = tuple(
            Skip(int(rows[k]), str(ids[k]), "f_ex" if outside[k] else "id", str(f_ex[k]), str(reasons[k]))
            for k in np.flatnonzero(~take)
        )
        kept, roots = rows[take], self.roots(ids[take])
        columns = {
            "mstar": every.mstar[kept],
            "r_half": every.r_half[kept],
            "total_spin": np.linalg.norm(every.spin[kept], axis=1),
            "central": every.central[kept],
            "snapshot": np.full(len(kept), self.snapshot),
            **{name: values[take] for name, values in truth.items()},
        }
        text = ids[take].astype(str)
        root = None if None in roots else np.array(roots, dtype=str)
        meta = {"file": str(self.folder.path), "snapshot": self.snapshot, "redshift": every.frame.redshift}
        return Catalogue(columns, text, np.full(len(kept), self.domain), root, skipped, meta)

    def _scale_factors(self) -> NDArray[np.float64] | None:
        """Return those of all snapshots, given or TNG's own if this snapshot is where TNG has it; else None."""
        number, redshift = self.snapshot, self.subhaloes.frame.redshift
        if self._times is None and number < len(TNG_REDSHIFTS) and abs(TNG_REDSHIFTS[number] - redshift) < 0.01:
            return np.asarray(1 / (1 + np.array(TNG_REDSHIFTS)))
        return self._times

    def _truth(self, ids: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        frame = self.subhaloes.frame
        ages = None if (times := self._scale_factors()) is None else frame.cosmology.age(times)
        return {**assembly(self.folder, ids), **merger_history(self.folder, ids, frame, ages)}

    def galaxies(self, ids: Iterable[Any]) -> Iterator[Galaxy | Skip]:
        """Read the stars of many galaxies in one pass over the snapshot.

        Parameters
        ----------
        ids : iterable of int or str
            Subfind numbers.

        Yields
        ------
        Galaxy or Skip
            In the order of the snapshot; a galaxy that cannot be read, or has no star, is a `Skip` that says why.

        Raises
        ------
        DataError
            If a number is not in the catalogue.
        FileFormatError
            If there is no snapshot.
        """
        every = self.subhaloes
        numbers = np.array([int(one) for one in ids], dtype=np.int64)
        order = np.argsort(every.id)
        place = np.searchsorted(every.id[order], numbers).clip(0, len(every) - 1)
        rows = order[place]
        if (every.id[rows] != numbers).any():
            absent = numbers[every.id[rows] != numbers][0]
            raise DataError(
                f"there is no subhalo {absent}", where=str(self.folder.path), expected="one of the catalogue"
            )
        truth = self._truth(numbers)
        roots = self.roots(numbers)
        known = {int(row): ({name: float(v[k]) for name, v in truth.items()}, roots[k]) for k, row in enumerate(rows)}
        chunks = self.chunks
        wanted, marks = [], in_situ_file(self.folder)
        for row in np.unique(rows):
            if every.first_star[row] < 0 and every.stars[row]:
                yield self._skip(int(row), "the chunks and offsets at hand do not tell where its stars are")
            elif every.first_star[row] + every.stars[row] > chunks.total:
                yield self._skip(int(row), "its stars lie beyond the end of the snapshot")
            else:
                wanted.append(Wanted(int(row), int(every.first_star[row]), int(every.stars[row])))
        with opened(marks) if marks else nullcontext() as file:
            in_situ = None if file is None else _column(file, "InSitu")
            fields = (*FIELDS, PHOTOMETRY) if self.photometry else FIELDS
            for one, found in read_rows(chunks, f"PartType{STARS}", fields, wanted):
                try:
                    yield self._galaxy(one, found, in_situ, *known[one.key])
                except GalineageError as error:
                    yield self._skip(one.key, str(error))

    def _skip(self, row: int, reason: str) -> Skip:
        return Skip(row, str(self.subhaloes.id[row]), "stars", str(self.subhaloes.stars[row]), reason)

    def _galaxy(
        self,
        one: Wanted,
        found: dict[str, NDArray[Any]] | FileFormatError,
        marks: Column | FileFormatError | None,
        truth: dict[str, float],
        root: str | None,
    ) -> Galaxy:
        if isinstance(found, FileFormatError):
            raise found
        every, row = self.subhaloes, one.key
        if not one.count:
            raise DataError("it has no stars")
        if isinstance(marks, FileFormatError):
            raise marks
        in_situ = None if marks is None else marks.read(one.first, one.first + one.count)
        where = f"{self.name}, subhalo {every.id[row]}"
        stars = to_stars(found, every.frame, every.position[row], every.velocity[row], in_situ, where)
        if not len(stars):
            raise DataError("it has no stars, only wind")
        name = str(every.id[row])
        return Galaxy(
            id=name,
            domain=self.domain,
            stars=stars,
            r_half=float(every.r_half[row]),
            redshift=every.frame.redshift,
            snapshot=self.snapshot,
            centre=every.position[row],
            velocity=every.velocity[row],
            root=root,
            truth={"mstar": float(every.mstar[row]), **truth},
            meta={"file": str(self.folder.path)},
        )


def _column(file: h5py.File, name: str) -> Column | FileFormatError:
    try:
        return Column(file, name, descriptor(file))
    except FileFormatError as error:  # every galaxy says so
        return error


@lru_cache(maxsize=4)
def _kept(path: str, snapshot: int, domain: str, times: tuple[float, ...] | None, photometry: bool) -> TngSource:
    return TngSource(path, snapshot, domain, times=times, photometry=photometry)


def _again(
    path: str, snapshot: int, domain: str, times: NDArray[np.float64] | None, photometry: bool = False
) -> TngSource:
    """Return the source in another process, the same one for every piece of work that comes to it."""
    return _kept(path, snapshot, domain, None if times is None else tuple(times.tolist()), photometry)
