"""One galaxy's star particles in its own frame, and what is measured on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as default
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import DataError
from galineage.fields import field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["PHOTOMETRY", "Galaxy", "Stars", "half_mass_radius", "measure", "specific_spin"]

RANGES = {
    "position": (-1e6, 1e6, "kpc"),
    "velocity": (-2e4, 2e4, "km/s"),
    "mass": (0.0, 1e12, "Msun"),
    "initial_mass": (0.0, 1e12, "Msun"),
    "metallicity": (0.0, 1.0, "mass fraction"),
    "age": (0.0, 14.5, "Gyr"),
    "smoothing": (0.0, 1e5, "kpc"),
    "potential": (-1e9, 1e9, "(km/s)^2"),
    "photometry": (-40.0, 40.0, "mag"),
}
"""What is possible for one star: lowest, highest, unit. A million kpc or a hundredth of c is a unit gone wrong."""

SMALLEST = 1e-6
"""Smallest half-mass radius, kpc: stars at one place have none."""

PHOTOMETRY = ("U", "B", "V", "K", "g", "r", "i", "z")
"""Bands of ``GFM_StellarPhotometrics`` of TNG: Buser's U, B, V and K (Vega), SDSS g, r, i, z at airmass 1.3 (AB)."""

_COLUMNS = {"position": 3, "velocity": 3, "photometry": len(PHOTOMETRY)}


@dataclass(frozen=True)
class Stars:
    """Star particles of one galaxy; wind particles are not among them.

    Attributes
    ----------
    position : array (n, 3), kpc
        Physical, relative to the galaxy's centre, along the axes of the simulation.
    velocity : array (n, 3), km/s, or None
        Physical, peculiar (no Hubble flow), relative to the galaxy's systemic velocity. Cut-outs may come without.
    mass : array (n,), Msun
        Present mass.
    metallicity : array (n,) or None
        Mass fraction of metals. None: the source does not have it; it is never made up.
    age : array (n,), Gyr, or None
        Time since formation, at the galaxy's own redshift.
    initial_mass : array (n,), Msun, or None
        Mass at formation, from which light is computed.
    smoothing : array (n,), kpc, or None
        Radius that holds the nearest 32 stars.
    potential : array (n,), (km/s)^2, or None
        Specific gravitational potential.
    ids : array (n,) of int or None
        Particle identifiers, untouched.
    ex_situ : array (n,) of bool or None
        Whether a star formed outside the main progenitor, where the source or a tree tells.
    photometry : array (n, 8), mag, or None
        Absolute magnitudes at rest in the bands of `PHOTOMETRY`, as the simulation gives them, without dust.
    """

    position: Array
    velocity: Array | None
    mass: Array
    metallicity: Array | None = None
    age: Array | None = None
    initial_mass: Array | None = None
    smoothing: Array | None = None
    potential: Array | None = None
    ids: NDArray[Any] | None = None
    ex_situ: NDArray[np.bool_] | None = None
    photometry: Array | None = None

    def __post_init__(self) -> None:
        mass = np.asarray(self.mass)
        for name in self.__dataclass_fields__:
            values = getattr(self, name)
            if values is None:
                continue
            shape = (*mass.shape, _COLUMNS[name]) if name in _COLUMNS else mass.shape
            # a view of one's own, which can be frozen without a copy
            values = np.asarray(values, dtype=None if name in ("ids", "ex_situ") else np.float64).view()
            if values.shape != shape or mass.ndim != 1:
                raise DataError(f"{name} of stars has shape {values.shape}", expected=str(shape))
            _check(name, values)
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        """Return the number of stars."""
        return len(self.mass)

    def select(self, which: NDArray[Any]) -> Stars:
        """Return the stars ``which`` (boolean mask (n,) or integer indices)."""
        present = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return replace(self, **{name: values[which] for name, values in present.items() if values is not None})

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the quantities that the source does not have; photometry, which follows from others, is not one."""
        names = (name for name in self.__dataclass_fields__ if name != "photometry")
        return tuple(name for name in names if getattr(self, name) is None)


def _check(name: str, values: NDArray[Any]) -> None:
    if name not in RANGES:
        return
    low, high, unit = RANGES[name]
    if not values.size or (values.min() >= low and values.max() <= high):  # a NaN is neither
        return
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        where = np.argwhere(wrong)[0]
        raise DataError(
            f"{name} of star {where[0]} is {values[tuple(where)]:g} ({int(wrong.sum())} such values)",
            expected=f"{low:g} to {high:g} {unit}",
            advice="look at the units of the source: factors of h and a, 1e10 Msun, logarithms",
        )


@dataclass(frozen=True)
class Galaxy:
    """A simulated galaxy: its stars, where it was in its box, and what is known of its history.

    Attributes
    ----------
    id : str
        Original identifier in its snapshot, as text.
    domain : str
        Simulation run or toy suite.
    stars : Stars
        In the frame given by ``centre`` and ``velocity``.
    r_half : float, kpc
        3-D stellar half-mass radius, of the catalogue where there is one.
    redshift : float
        Of the snapshot.
    snapshot : int or None
        Number of the snapshot.
    centre : array (3,), kpc
        Physical position in the box.
    velocity : array (3,), km/s
        Systemic peculiar velocity.
    root : str or None
        The z = 0 descendant, unique over domains.
    truth : mapping of str to float
        Targets and catalogue values by field name, in registry units; NaN: not defined for this galaxy.
    meta : mapping
        Provenance.
    """

    id: str
    domain: str
    stars: Stars
    r_half: float
    redshift: float = 0.0
    snapshot: int | None = None
    centre: Array = default(default_factory=lambda: np.zeros(3))
    velocity: Array = default(default_factory=lambda: np.zeros(3))
    root: str | None = None
    truth: Mapping[str, float] = default(default_factory=dict)
    meta: Mapping[str, Any] = default(default_factory=dict)

    def __post_init__(self) -> None:
        if not SMALLEST <= self.r_half <= RANGES["position"][1]:
            raise DataError(
                f"r_half of galaxy {self.id} is {self.r_half}",
                expected=f"{SMALLEST:g} to {RANGES['position'][1]:g} kpc",
                advice="look at the units of the source",
            )
        for name in ("centre", "velocity"):
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.shape != (3,) or not np.isfinite(values).all():
                raise DataError(f"{name} of galaxy {self.id} is {values}", expected="three numbers")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        for name in self.truth:
            field(name)
        object.__setattr__(self, "truth", MappingProxyType(dict(self.truth)))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def __reduce__(self) -> tuple[Any, ...]:
        # a mapping proxy cannot be sent to another process
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return (_rebuilt, ({**parts, "truth": dict(self.truth), "meta": dict(self.meta)},))

    def moved(self, centre: ArrayLike, velocity: ArrayLike) -> Galaxy:
        """Return the galaxy in another frame; arguments (3,) kpc and (3,) km/s, in the frame it has now."""
        shift, boost = np.asarray(centre, dtype=np.float64), np.asarray(velocity, dtype=np.float64)
        motion = None if self.stars.velocity is None else self.stars.velocity - boost
        stars = replace(self.stars, position=self.stars.position - shift, velocity=motion)
        return replace(self, stars=stars, centre=self.centre + shift, velocity=self.velocity + boost)


def _rebuilt(parts: dict[str, Any]) -> Galaxy:
    return Galaxy(**parts)


def half_mass_radius(stars: Stars) -> float:
    """Radius in kpc around the origin that holds half of the stellar mass, interpolated between stars.

    Raises
    ------
    DataError
        If there is no star, or no mass.
    """
    if not len(stars) or not stars.mass.sum() > 0:
        raise DataError("a galaxy without stars has no half-mass radius", advice="leave it out")
    radius = np.sqrt(np.einsum("ij,ij->i", stars.position, stars.position))
    order = np.argsort(radius)
    inside = np.cumsum(stars.mass[order])
    return float(np.interp(0.5 * inside[-1], inside, radius[order]))


def specific_spin(stars: Stars) -> Array:
    """Specific angular momentum (3,) of the stars around the origin, kpc km/s.

    Velocities are taken relative to the mass-weighted mean, as in the spin of a Subfind group (Springel+2001).

    Raises
    ------
    DataError
        If there is no star, no mass, or no velocity.
    """
    if stars.velocity is None:
        raise DataError("stars without velocities have no spin", advice="ask for Velocities when cutting out")
    total = float(stars.mass.sum())
    if not total > 0:
        raise DataError("a galaxy without stars has no spin", advice="leave it out")
    motion = stars.velocity - stars.mass @ stars.velocity / total
    return np.asarray(stars.mass @ np.cross(stars.position, motion) / total)


def measure(galaxy: Galaxy, aperture: float | None = 2.0) -> dict[str, float]:
    """Integrated properties of a galaxy, measured on its stars.

    Parameters
    ----------
    galaxy : Galaxy
        At least one star with mass.
    aperture : float or None
        Radius in r_half inside which age and metallicity are averaged (Angeloudi+2023, Table A3: 2); None: all stars.

    Returns
    -------
    dict of str to float
        By field name, in registry units: ``mstar`` (Msun) and ``r_half`` (kpc); ``spin`` (kpc km/s) and the
        mass-weighted ``age`` (Gyr) and ``metallicity`` (mass fraction) where the stars have what it takes; ``f_ex``
        where they are marked.
    """
    stars = galaxy.stars
    found = {
        "mstar": float(stars.mass.sum()),
        "r_half": half_mass_radius(stars),
    }
    if stars.velocity is not None:
        found["spin"] = float(np.linalg.norm(specific_spin(stars)))
    radius = np.sqrt(np.einsum("ij,ij->i", stars.position, stars.position))
    weight = stars.mass * (True if aperture is None else radius <= aperture * galaxy.r_half)
    for name in ("age", "metallicity"):
        values = getattr(stars, name)
        if values is not None:
            found[name] = float(weight @ values / weight.sum()) if weight.sum() > 0 else np.nan
    if stars.ex_situ is not None:
        found["f_ex"] = float(stars.mass @ stars.ex_situ / stars.mass.sum())
    return found
