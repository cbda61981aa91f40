"""What every source of galaxies can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galineage.galaxy import Catalogue

__all__ = ["Source"]


@runtime_checkable
class Source(Protocol):
    """A place that galaxies come from.

    Attributes
    ----------
    name : str
        What messages and reports call it.
    domain : str
        Domain of its galaxies.
    """

    @property
    def name(self) -> str:
        """What messages and reports call it."""

    @property
    def domain(self) -> str:
        """Domain of its galaxies."""

    def read(
        self,
        filter: str | None = None,  # noqa: A002 - the word users know
        *,
        only: Iterable[str] | None = None,
        keep_missing: bool = False,
    ) -> Catalogue:
        """Read every usable galaxy.

        Parameters
        ----------
        filter : str, optional
            Name of a choice of rows; None takes the source's default.
        only : iterable of str, optional
            Read and check only these fields; None: all.
        keep_missing : bool
            Keep missing values as NaN instead of skipping their rows.

        Returns
        -------
        Catalogue
            Columns in registry units; rows that cannot be used are in its skip list.

        Raises
        ------
        FileFormatError, DataError
            If no galaxy can be read.
        """
