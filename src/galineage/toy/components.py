"""Where the stars of a toy galaxy are, and how they move: disc, spheroid with bulge, and accreted stars on orbits.

Everything lives in a logarithmic potential (flat rotation curve), which has no scale: positions can be stretched until
the half-mass radius is the drawn one without disturbing any orbit. Lengths are in kpc, velocities here in units of the
circular velocity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from galineage.toy.cosmology import redshift_at
from galineage.toy.observables import SCALE_LENGTHS, circular_velocity
from galineage.toy.orbits import CIRCULARITY, KPC_PER_KMS, orbit_table
from galineage.toy.profiles import SPHEROID_HALF, disc_radii, spheroid_dispersion, spheroid_radii

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from galineage.toy.assembly import Assembly

    Array = NDArray[np.float64]

__all__ = ["Placed", "place"]

CORE = 0.25
"""Rotation rises as R / sqrt(R^2 + (0.25 h)^2), h being the scale length (adopted)."""

SPHEROID_TURN = 0.12
"""Rotation of the in-situ spheroid over that of the disc (adopted; then set by the spin that is still lacking)."""

MAX_BOOST = 1.25
"""The circular velocity may be raised by this factor where the drawn spin asks for more than a cold disc has."""

MIN_TRIM, MAX_TRIM = 0.8, 1.25
"""How far the circular velocity may then be changed, up or down, to meet the drawn spin (adopted)."""

DISC_SHARE = (0.02, 0.96)
"""Range of the disc's share of the in-situ stars (adopted)."""

BULGE_SHARE, BULGE_SIZE = 0.4, 0.35
"""Share of the spheroid's stars in the bulge, and its radius over the spheroid's (adopted)."""


@dataclass(frozen=True)
class Placed:
    """Phase-space coordinates of n stars.

    Attributes
    ----------
    position : array (n, 3), kpc
        The disc lies in the plane of the first two axes.
    velocity : array (n, 3), km/s
    speed : float, km/s
        Circular velocity of the potential.
    """

    position: Array
    velocity: Array
    speed: float


@dataclass(frozen=True)
class _Orbiting:
    """Stars with velocities in units of the circular velocity, the part around ``axis`` apart from the rest.

    ``spin`` is the angular momentum around ``axis`` (n,), in kpc.
    """

    position: Array
    other: Array
    around: Array
    spin: Array


def place(assembly: Assembly, merger: NDArray[np.int64], birth: Array, mass: Array, rng: np.random.Generator) -> Placed:
    """Give stars places and velocities.

    The half-mass radius is that of the table exactly. The spin comes out as the table has it: the share of in-situ
    stars in a disc is what the drawn angular momentum asks for (the stars that later mergers heated most are the ones
    left out), and stars of the spheroid turn the other way round until the rest is matched, which changes neither
    density nor equilibrium (Lynden-Bell 1960).

    Parameters
    ----------
    assembly : Assembly
    merger : array (n,) of int
        The merger that brought a star; -1: formed in the galaxy itself.
    birth : array (n,), Gyr
        Lookback time of formation.
    mass : array (n,), Msun
    rng : numpy Generator

    Returns
    -------
    Placed
        The mass-weighted mean velocity is zero.
    """
    own = merger < 0
    brought = _accreted(assembly, merger[~own], rng)
    size = float(np.sqrt(assembly.disc * assembly.table["r_half"]))
    heat = _heat(assembly, birth[own])
    disc = _disc(size, heat, birth[own], rng)
    spheroid = _spheroid(size, int(own.sum()), rng)
    weight = mass[own]
    wanted = assembly.insitu_spin * assembly.mstar / assembly.insitu_mass / _flow(assembly)
    stretch = _stretch(assembly, own, disc.position, brought.position, mass)
    cold = stretch * float(weight @ disc.spin / weight.sum())
    boost = float(np.clip(wanted / (0.97 * cold), 1.0, MAX_BOOST))
    share = float(np.clip((wanted / (boost * cold) - SPHEROID_TURN) / (1 - SPHEROID_TURN), *DISC_SHARE))
    score = 1 - np.exp(-2.5 * heat) + 0.5 * rng.random(len(heat))
    flat = score <= np.quantile(score, share)
    inside = _choose(flat, disc, spheroid)
    stretch = _stretch(assembly, own, inside.position, brought.position, mass)
    sign = _turn(flat, inside.spin, weight, wanted / (boost * stretch), rng)
    inside = replace(inside, around=sign[:, None] * inside.around)
    brought = _tamed(assembly, merger[~own], brought, boost * stretch, rng)
    return _joined(assembly, own, inside, brought, mass, stretch, boost)


def _joined(
    assembly: Assembly,
    own: NDArray[np.bool_],
    inside: _Orbiting,
    brought: _Orbiting,
    mass: Array,
    stretch: float,
    boost: float,
) -> Placed:
    position, velocity = np.empty((len(own), 3)), np.empty((len(own), 3))
    position[own], position[~own] = inside.position, brought.position
    velocity[own], velocity[~own] = inside.other + inside.around, brought.other + brought.around
    velocity -= mass @ velocity / mass.sum()
    position *= stretch
    # angular momentum that the components together lack or have too much of: a little in the rotation curve
    spin = _flow(assembly) * float(np.linalg.norm(mass @ np.cross(position, velocity)) / mass.sum())
    speed = _flow(assembly) * float(np.clip(assembly.table["spin"] / spin, boost * MIN_TRIM, boost * MAX_TRIM))
    return Placed(position, velocity * speed, speed)


def _flow(assembly: Assembly) -> float:
    """Circular velocity that the table's relation gives, km/s."""
    return float(circular_velocity(np.array(assembly.mstar)))


def _stretch(assembly: Assembly, own: NDArray[np.bool_], inside: Array, brought: Array, mass: Array) -> float:
    """Factor on all positions that makes the half-mass radius the drawn one."""
    squared = np.empty(len(own))
    squared[own], squared[~own] = np.einsum("ij,ij->i", inside, inside), np.einsum("ij,ij->i", brought, brought)
    radius = np.sqrt(squared)
    order = np.argsort(radius)
    within = np.cumsum(mass[order])
    return assembly.table["r_half"] / float(np.interp(0.5 * within[-1], within, radius[order]))


def _heat(assembly: Assembly, birth: Array) -> Array:
    """Sum of the mass ratios of the mergers that came after each star was born, shape (n,)."""
    summed = np.concatenate([[0.0], np.cumsum(assembly.mu)])
    return np.asarray(summed[np.searchsorted(assembly.lookback, birth)])


def _disc(size: float, heat: Array, birth: Array, rng: np.random.Generator) -> _Orbiting:
    """Exponential disc; older stars lie further in, and mergers after a star's birth thickened its layer.

    Vertical profile sech^2, asymmetric drift after Binney & Tremaine (2008, section 4.8.2); numbers adopted.
    """
    n = len(heat)
    stirred = 1 - np.exp(-1.5 * heat)
    length = size / SCALE_LENGTHS
    radius = length * disc_radii(rng.random(n)) * np.clip(1 + 0.04 * (7.0 - birth), 0.7, 1.3)
    height = length * (0.10 + 0.01 * birth + 0.30 * stirred) * np.arctanh(np.clip(2 * rng.random(n) - 1, -0.999, 0.999))
    angle = 2 * np.pi * rng.random(n)
    circular = radius / np.hypot(radius, CORE * length)
    spread = (0.10 + 0.015 * birth + 0.35 * stirred) * np.exp(-radius / (6 * length))
    noise = rng.standard_normal((n, 3)) * (spread * circular)[:, None]
    drift = np.sqrt(np.clip(circular**2 - spread**2 * (radius / length), 0.05 * circular**2, None))
    cosine, sine = np.cos(angle), np.sin(angle)
    turning = drift + noise[:, 1] / np.sqrt(2)
    position = np.stack([radius * cosine, radius * sine, height], axis=1)
    other = np.stack([noise[:, 0] * cosine, noise[:, 0] * sine, 0.6 * noise[:, 2]], axis=1)
    around = turning[:, None] * np.stack([-sine, cosine, np.zeros(n)], axis=1)
    return _Orbiting(position, other, around, radius * turning)


def _spheroid(size: float, n: int, rng: np.random.Generator) -> _Orbiting:
    """Slightly flattened Hernquist spheroid with isotropic velocities; part of it is a compact bulge."""
    scale = 0.85 * size / SPHEROID_HALF * np.where(rng.random(n) < BULGE_SHARE, BULGE_SIZE, 1.0)
    radius = spheroid_radii(rng.random(n))
    direction = rng.standard_normal((n, 3))
    direction *= (radius * scale / np.sqrt(np.einsum("ij,ij->i", direction, direction)))[:, None]
    position = direction * np.array([1.0, 1.0, 0.75])
    velocity = np.clip(rng.standard_normal((n, 3)), -2.5, 2.5) * spheroid_dispersion(radius)[:, None]
    cylinder = np.maximum(np.hypot(position[:, 0], position[:, 1]), 1e-9)
    ahead = np.stack([-position[:, 1] / cylinder, position[:, 0] / cylinder, np.zeros(n)], axis=1)
    turning = np.einsum("ij,ij->i", ahead, velocity)
    around = turning[:, None] * ahead
    return _Orbiting(position, velocity - around, around, cylinder * turning)


def _choose(first: NDArray[np.bool_], one: _Orbiting, two: _Orbiting) -> _Orbiting:
    wide = first[:, None]
    return _Orbiting(
        np.where(wide, one.position, two.position),
        np.where(wide, one.other, two.other),
        np.where(wide, one.around, two.around),
        np.where(first, one.spin, two.spin),
    )


def _turn(flat: NDArray[np.bool_], spin: Array, weight: Array, wanted: float, rng: np.random.Generator) -> Array:
    """Signs (n,) for the spheroid's rotation, so that disc and spheroid together have the wanted mean spin (kpc)."""
    lacking = wanted * weight.sum() - weight[flat] @ spin[flat]
    available = float(weight[~flat] @ np.abs(spin[~flat]))
    surplus = float(np.clip(lacking / available, -0.5, 0.9)) if available > 0 else 0.0
    ahead = np.where(rng.random(len(spin)) < (1 + surplus) / 2, 1.0, -1.0)
    return np.where(flat, 1.0, ahead * np.sign(spin))


def _accreted(assembly: Assembly, merger: NDArray[np.int64], rng: np.random.Generator) -> _Orbiting:
    """Stars stripped along their satellite's orbit, which have gone round ever since it merged.

    Energy: the orbit's radius is larger for less massive satellites, which dynamical friction lets sink less, and
    smaller for early ones, when the host was (adopted powers of mass ratio and 1 + z). Angular momentum: as drawn for
    the table, which sets the circularity. Massive satellites scatter their stars more in energy, plane and phase. Young
    mergers are therefore streams and shells, old ones mixed.
    """
    table, n = orbit_table(), len(merger)
    ratio, count = assembly.mu, len(assembly.mu)
    wide = ratio ** (1 / 3)
    typical = 1.1 * assembly.table["r_half"] * (1 + redshift_at(assembly.lookback)) ** -0.5 * ratio**-0.2
    radius = typical[merger] * np.exp((0.35 + 0.35 * wide)[merger] * rng.standard_normal(n))
    speed = _flow(assembly)
    momentum = np.linalg.norm(assembly.orbit, axis=1)
    axis = assembly.orbit / momentum[:, None]
    wanted = momentum * assembly.mstar / assembly.merged / speed
    circularity = np.clip(np.clip(wanted / typical, 0.2, 0.9)[merger] + 0.12 * rng.standard_normal(n), *CIRCULARITY)
    # phases: all start near one point of the orbit when their satellite dissolves
    turns = assembly.lookback[merger] / (table.periods(circularity) * radius / speed * KPC_PER_KMS)
    phase = rng.random(count)[merger] + (0.08 + 0.25 * wide)[merger] * rng.standard_normal(n) + turns
    places = table.places(circularity, phase)
    angle = np.floor(phase) * table.advances(circularity) + places.angle
    tilt = (0.12 + 0.6 * wide)[merger, None] * rng.standard_normal((n, 3))
    normal = axis[merger] + tilt
    normal /= np.sqrt(np.einsum("ij,ij->i", normal, normal))[:, None]
    start = rng.standard_normal((count, 3))[merger]
    first = start - np.einsum("ij,ij->i", start, normal)[:, None] * normal
    first /= np.sqrt(np.einsum("ij,ij->i", first, first))[:, None]
    second = np.cross(normal, first)
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    outward, ahead = cosine * first + sine * second, cosine * second - sine * first
    spin = radius * circularity * np.einsum("ij,ij->i", normal, axis[merger])
    return _Orbiting(
        (radius * places.radius)[:, None] * outward,
        places.radial[:, None] * outward,
        places.tangential[:, None] * ahead,
        spin,
    )


def _tamed(
    assembly: Assembly, merger: NDArray[np.int64], stars: _Orbiting, factor: float, rng: np.random.Generator
) -> _Orbiting:
    """Turn some accreted stars the other way round where a merger's would have more angular momentum than was drawn."""
    count = len(assembly.mu)
    number = np.maximum(np.bincount(merger, minlength=count), 1)
    have = factor * np.bincount(merger, stars.spin, minlength=count) / number
    speed = _flow(assembly)
    wanted = np.linalg.norm(assembly.orbit, axis=1) * assembly.mstar / assembly.merged / speed
    back = np.where(have > wanted, (1 - wanted / np.maximum(have, 1e-9)) / 2, 0.0)
    sign = np.where(rng.random(len(merger)) < back[merger], -1.0, 1.0)
    return replace(stars, around=sign[:, None] * stars.around)
