"""Subsets of the inputs for ensembles whose members look at different things."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from galineage.errors import ConfigError
from galineage.models.base import require_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["POOL_KEEP", "check_subsets", "every_subset", "pool_settings"]

POOL_KEEP = ("mstar", "r_half", "spin")
"""Features that every member of the preset ``pool`` sees: size and kinematics carry over best between simulations."""

_MOST_SUBSETS = 64
_PER_SUBSET = 5


def every_subset(features: Sequence[str], keep: Sequence[str] = POOL_KEEP) -> tuple[tuple[str, ...], ...]:
    """List every subset of the features that holds the kept ones.

    Parameters
    ----------
    features : sequence of str
        Field names of the inputs.
    keep : sequence of str
        Field names that are in every subset; those that are no feature are passed over.

    Returns
    -------
    tuple of tuple of str
        Each in the order of the features; larger subsets first, the whole set at the very beginning. Never empty ones.

    Raises
    ------
    ConfigError
        If there would be more than 64.

    Examples
    --------
    >>> every_subset(("mstar", "age", "r_half"), keep=("mstar", "r_half"))
    (('mstar', 'age', 'r_half'), ('mstar', 'r_half'))
    """
    if isinstance(keep, str):
        raise ConfigError(f"keep is the string {keep!r}", expected="a list of field names", advice=f"[{keep!r}]")
    loose = [name for name in features if name not in keep]
    if 2 ** len(loose) > _MOST_SUBSETS:
        raise ConfigError(
            f"{len(loose)} features that may be left out make {2 ** len(loose)} subsets",
            expected=f"at most {_MOST_SUBSETS}",
            advice="name more of them in keep",
        )
    left_out = itertools.chain.from_iterable(itertools.combinations(loose, size) for size in range(len(loose) + 1))
    subsets = [tuple(name for name in features if name not in out) for out in left_out]
    return tuple(subset for subset in subsets if subset)


def check_subsets(
    subsets: Sequence[Sequence[str]], features: Sequence[str], members: int
) -> tuple[tuple[str, ...], ...]:
    """Return subsets as tuples after refusing those that cannot be used.

    Raises
    ------
    ConfigError
        If there is none, one is empty or names what is no feature (or names it twice), or ``members`` is no multiple
        of their number.
    """
    if isinstance(subsets, str) or any(isinstance(subset, str) for subset in subsets):
        raise ConfigError(f"subsets are {subsets!r}", expected="a list of lists of field names")
    found = tuple(tuple(subset) for subset in subsets)
    if not found or not all(found):
        raise ConfigError("there is no subset, or an empty one", expected="at least one feature in each")
    for subset in found:
        unknown = [str(name) for name in subset if name not in features]
        if unknown or len(set(subset)) < len(subset):
            raise ConfigError(
                f"the subset {list(subset)} names what is no feature, or a feature twice",
                where=", ".join(unknown) or None,
                expected="some of " + ", ".join(features),
            )
    if members % len(found):
        raise ConfigError(
            f"{members} members cannot share {len(found)} subsets",
            expected=f"a multiple of {len(found)}",
            advice=f"use {len(found) * -(-members // len(found))}",
        )
    return found


def pool_settings(
    features: Sequence[str], keep: Sequence[str] = POOL_KEEP, members: int | None = None
) -> tuple[int, tuple[tuple[str, ...], ...]]:
    """Return the members and subsets of the preset ``pool``.

    Parameters
    ----------
    features, keep : sequence of str
        See `every_subset`.
    members : int, optional
        Networks in all; rounded up to a multiple of the number of subsets. Default: 5 for each subset.
    """
    subsets = every_subset(features, keep)
    if members is None:
        return _PER_SUBSET * len(subsets), subsets
    require_counts(members=members)
    return len(subsets) * -(-members // len(subsets)), subsets
