"""Galaxies whose stars are not what the catalogue says: damaged files, wrong units, chunks of another run."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.stars import Galaxy, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from galineage.store.map_store import MapStore

__all__ = ["TOLERANCES", "Doubt", "doubts"]

TOLERANCES: Mapping[str, float] = MappingProxyType({"mstar": 1e-3, "r_half": 0.05})
"""By how much stars and catalogue may differ, relative. Masses are sums of the same stars (1e-5 in TNG100-1 files);
half-mass radii agree to 1.5 % there, and with few stars it matters how one interpolates between them."""


@dataclass(frozen=True)
class Doubt:
    """A number that stars and catalogue do not agree on.

    Attributes
    ----------
    id, domain : str
        Which galaxy.
    field : str
        ``mstar`` (Msun) or ``r_half`` (kpc).
    measured, catalogued : float
        On the stars, and in the catalogue; NaN where it is not a number.
    """

    id: str
    domain: str
    field: str
    measured: float
    catalogued: float

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.field} of its stars is {self.measured:.4g}, of the catalogue {self.catalogued:.4g}"


def doubts(store: MapStore | Galaxy, tolerances: Mapping[str, float] = TOLERANCES) -> tuple[Doubt, ...]:
    """Compare what is measured on the stars of a galaxy, or of all of a store, with what its catalogue says.

    HDF5 files of simulations have no checksums: a damaged mass reads as another mass, and kpc pass for kpc/h. The sum
    of the stars and their half-mass radius notice what concerns many stars, or one by much; not what concerns
    velocities, ages and metallicities, for which catalogues have no such number.

    Parameters
    ----------
    store : MapStore or Galaxy
    tolerances : mapping of str to float
        Relative, by field name: ``mstar``, ``r_half``, or any other that is both measured and in the truth.

    Returns
    -------
    tuple of Doubt
        In the order of the store. A quantity that the catalogue does not have is in no doubt; nor is the radius of a
        galaxy without a catalogue, which was measured on the stars.
    """
    if isinstance(store, Galaxy):
        known = {**store.truth, "r_half": store.r_half}
        return tuple(_compared(store.id, store.domain, measure(store), known, tolerances))
    found: dict[tuple[str, Any, str], tuple[Doubt, ...]] = {}
    for row in store.rows:
        key = row["domain"], row["snapshot"], row["id"]
        if key not in found:
            known = {**row["truth"], "r_half": row["r_half"]}
            found[key] = tuple(_compared(row["id"], row["domain"], row.get("measured", {}), known, tolerances))
    return tuple(one for each in found.values() for one in each)


def _compared(
    name: str,
    domain: str,
    measured: Mapping[str, float | None],
    known: Mapping[str, float | None],
    tolerances: Mapping[str, float],
) -> Iterator[Doubt]:
    for field, tolerance in tolerances.items():
        expected = known.get(field)
        if field not in measured or expected is None or np.isnan(expected):
            continue
        found = measured[field]
        value = np.nan if found is None else float(found)
        if not abs(value - expected) <= tolerance * abs(expected):
            yield Doubt(name, domain, field, value, float(expected))
