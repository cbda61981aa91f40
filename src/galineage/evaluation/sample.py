"""Representations of the galaxies of one domain, and what is known of them: the input of every look at them."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.evaluation.tabulate import target_unit
from galineage.fields import known_field, to_feature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Sample", "as_seen", "check_samples", "property_label", "property_unit", "together"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Representations of n galaxies or images of one domain.

    Attributes
    ----------
    name : str
        The domain.
    values : array (n, d)
        Representations, no unit (or any other features of one scale); finite.
    properties : mapping of str to array (n,)
        Registry fields in their unit, or anything else by name; NaN where unknown.
    galaxies : array (n,) of str
        Whose row each is: its z=0 descendant where that is known, unique over domains. Default: each row is a galaxy of
        its own.

    Raises
    ------
    DataError
        If there are no rows, values are not finite, or lengths differ.
    """

    name: str
    values: Array
    properties: Mapping[str, NDArray[Any]] = default(default_factory=dict)
    galaxies: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu":
            raise DataError(
                f"representations of shape {values.shape} were given",
                where=f"domain {self.name!r}",
                expected="numbers (galaxies, coordinates), 1 or more of either",
            )
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise DataError(
                f"the representation of {int(bad.sum())} galaxies is not finite",
                where=f"domain {self.name!r}, first at row {int(np.argmax(bad))}",
                advice="leave such rows out (Catalogue.complete): they belong on the skip list",
            )
        columns = {name: np.asarray(column) for name, column in self.properties.items()}
        galaxies = self.galaxies
        if galaxies is None:
            galaxies = np.array([f"{self.name}/{row}" for row in range(len(values))])
        for name, column in {**columns, "galaxies": np.asarray(galaxies)}.items():
            if column.shape != (len(values),):
                raise DataError(
                    f"{name!r} has shape {column.shape}", where=f"domain {self.name!r}", expected=f"({len(values)},)"
                )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "properties", MappingProxyType(columns))
        object.__setattr__(self, "galaxies", np.asarray(galaxies).astype(str))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    @property
    def whose(self) -> NDArray[np.str_]:
        """Galaxy of each row, shape (n,), also where none was given."""
        return np.asarray(self.galaxies)

    def one_each(self, seed: int = 0, most: int | None = None) -> NDArray[np.int64]:
        """Choose one random row of every galaxy, at most ``most`` of them; ascending rows of shape (m,)."""
        order = np.random.default_rng(seed).permutation(len(self))
        first = order[np.sort(np.unique(self.whose[order], return_index=True)[1])]
        return np.sort(first[:most])

    def seen(self, name: str) -> Array:
        """Return a property (n,) as networks see it: in its unit, dex where the registry is logarithmic.

        Raises
        ------
        DataError
            If it is not known here.
        """
        if name not in self.properties:
            raise DataError(
                f"nothing is known of {name!r}",
                where=f"domain {self.name!r}",
                expected="one of " + ", ".join(self.properties),
            )
        return as_seen(name, self.properties[name])


def as_seen(name: str, values: NDArray[Any]) -> Array:
    """Return a property (n,) in dex where the registry is logarithmic, else in its unit; unknown ones as they are."""
    if known_field(name) is None:
        return np.asarray(values, dtype=np.float64)
    return to_feature(name, values)


def property_label(name: str) -> str:
    """Axis label of a property: that of the registry, or its name."""
    item = known_field(name)
    return name.replace("_", " ").replace("$", r"\$") if item is None else item.axis


def property_unit(name: str) -> str:
    """Return the unit of a property as networks see it: dex where it is logarithmic; empty if not known."""
    return "" if known_field(name) is None else target_unit(name)


def check_samples(samples: Sequence[Sample], fewest: int = 1) -> tuple[Sample, ...]:
    """Return the samples after comparing them with each other.

    Raises
    ------
    ConfigError
        If there are none, or two have one name.
    DataError
        If their representations differ in length, or one has fewer than ``fewest`` galaxies.
    """
    found = tuple(samples)
    names = [item.name for item in found]
    if not found or len(set(names)) < len(names):
        raise ConfigError(f"the domains are {names}", expected="one or more with different names")
    widths = {item.name: item.values.shape[1] for item in found}
    if len(set(widths.values())) > 1:
        raise DataError(f"representations have different lengths: {widths}", expected="those of one network")
    for item in found:
        count = len(np.unique(item.whose))
        if count < fewest:
            raise DataError(f"{count} galaxies are too few", where=f"domain {item.name!r}", expected=f"{fewest}")
    return found


def together(parts: Sequence[NDArray[Any]]) -> list[Array]:
    """Standardise representations by one mean and variance, as Eisert+2024, leaving out what never changes.

    Parameters
    ----------
    parts : sequence of array (n, d), any unit, finite

    Returns
    -------
    list of array (n, e)
        In units of the standard deviation over all rows; e coordinates are not the same everywhere.

    Raises
    ------
    DataError
        If no coordinate changes.
    """
    rows = np.concatenate(parts).astype(np.float64)
    center, spread = rows.mean(axis=0), rows.std(axis=0)
    keep = spread > 1e-10 * (np.abs(center) + 1e-300)
    if not keep.any():
        raise DataError("all representations are equal", advice="look at the training of the network: it collapsed")
    scaled = (rows[:, keep] - center[keep]) / spread[keep]
    return np.split(scaled, np.cumsum([len(part) for part in parts])[:-1])
