"""Which galaxies of a snapshot are taken, and from how many sides each is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["EAGLE_VIEWS", "TNG_VIEWS", "Selection", "view_counts"]

TNG_VIEWS = ((0.1, 1), (0.3, 2), (0.5, 4), (0.6, 6), (0.7, 8), (np.inf, 12))
"""Views of a TNG galaxy whose f_ex is below each number: read off the authors' table (column ``Aligns``)."""

EAGLE_VIEWS = ((0.1, 2), (0.2, 3), (0.3, 2), (0.4, 3), (0.5, 4), (0.6, 6), (0.7, 10), (np.inf, 20))
"""The same for EAGLE."""


@dataclass(frozen=True)
class Selection:
    """Galaxies that are taken (Angeloudi+2023, section 2.3).

    Attributes
    ----------
    mstar_min : float, Msun
        Smallest stellar mass.
    f_ex_min, f_ex_max : float
        Range of the ex-situ fraction, lower end included. Published: 0 at z = 0 and 0.2 in earlier snapshots, which
        were added to have more large fractions; the authors' code leaves out 0.85 and more.
    flagged : bool
        Whether to keep subhaloes that are not of cosmological origin (SubhaloFlag 0).
    """

    mstar_min: float = 1e10
    f_ex_min: float = 0.0
    f_ex_max: float = np.inf
    flagged: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.mstar_min < np.inf and self.f_ex_min < self.f_ex_max):
            raise ConfigError(
                f"a selection of mstar > {self.mstar_min}, {self.f_ex_min} <= f_ex < {self.f_ex_max}",
                expected="a mass of zero or more, and a range that is not empty",
            )

    @classmethod
    def published(cls, *, latest: bool, code: bool = False) -> Selection:
        """Return the published cut of the last snapshot or of earlier ones; ``code``: with the limit of the code."""
        return cls(f_ex_min=0.0 if latest else 0.2, f_ex_max=0.85 if code else np.inf)


def view_counts(f_ex: ArrayLike, table: tuple[tuple[float, int], ...] = TNG_VIEWS) -> NDArray[np.int64]:
    """Count the views of each galaxy: more for large fractions, which are rare.

    Parameters
    ----------
    f_ex : array (n,), no unit
        Ex-situ fractions; NaN gets the smallest number of views in the table.
    table : tuple of (limit, views)
        Limits rise; a galaxy gets the views of the first limit above its fraction.

    Returns
    -------
    array (n,) of int

    Raises
    ------
    ConfigError
        If the limits do not rise up to infinity.
    """
    values = np.asarray(f_ex, dtype=np.float64)
    limits, views = np.array([limit for limit, _ in table]), np.array([count for _, count in table])
    if not (np.diff(limits) > 0).all() or limits[-1] < np.inf:
        raise ConfigError("limits of a view table must rise up to infinity")
    found = views[np.searchsorted(limits, np.nan_to_num(values, nan=-1.0), side="right").clip(0, len(views) - 1)]
    return np.where(np.isnan(values), views.min(), found)
