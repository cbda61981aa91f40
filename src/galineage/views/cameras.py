"""Where a galaxy is looked at from: single views, and sets of them.

A view is given by ``los``, the direction from the galaxy *to the observer*, and ``up``, the direction that is up in the
image. The rows of its matrix are (right, up, los), a right-handed frame: x to the right, y up, z towards the observer.
A star with velocity v has the line-of-sight velocity ``-(v . los)``: positive recedes.

Where no up is given the roll is that of Angeloudi+2023: the x axis of the simulation, projected on the sky, points to
the right. A line of sight along x has no such projection; there, the simulation's y axis is up.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError, DataError
from galineage.stars import specific_spin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from galineage.stars import Stars

    Array = NDArray[np.float64]

__all__ = [
    "NUMBERS",
    "View",
    "edge_on",
    "face_on",
    "fibonacci",
    "inclined",
    "legacy_eagle",
    "legacy_tng",
    "mirrors",
    "polyhedron",
    "random_views",
]

NUMBERS = (1, 2, 3, 4, 6, 8, 10, 12, 20)
"""Numbers of views that a `polyhedron` has (Angeloudi+2023 and their map maker)."""

_PARALLEL = 1e-9
"""Sine of an angle below which two directions are one."""


@dataclass(frozen=True, eq=False)
class View:
    """One line of sight.

    Attributes
    ----------
    los : array (3,)
        From the galaxy to the observer; any length but zero, kept as a unit vector.
    up : array (3,) or None
        What is up in the image; its part along ``los`` is taken off. None: the roll of Angeloudi+2023 (see the module).
    sign : {1, -1}
        1: positive velocities recede. -1: they approach, as in the maps of Angeloudi+2023.
    name : str
        How the view came about, for tables.
    matrix : array (3, 3)
        Rotation from the simulation's axes to (right, up, to the observer). Not given: it follows.

    Raises
    ------
    ConfigError
        If a direction is not three finite numbers or has no length, or ``up`` is parallel to ``los``.
    """

    los: Array
    up: Array = None  # type: ignore[assignment]
    sign: int = 1
    name: str = ""
    matrix: Array = default(init=False, repr=False)

    def __post_init__(self) -> None:
        los = _unit(self.los, "los")
        up = _default_up(los) if self.up is None else _unit(self.up, "up")
        across = np.cross(up, los)
        if np.linalg.norm(across) < _PARALLEL:
            raise ConfigError(
                f"up is parallel to los = {los}", expected="two directions", advice="leave up out, or give another"
            )
        if self.sign not in (1, -1):
            raise ConfigError(f"sign is {self.sign!r}", expected="1 (positive recedes) or -1 (positive approaches)")
        up = np.cross(los, across / np.linalg.norm(across))
        matrix = np.stack([np.cross(up, los), up, los]) + 0.0  # no -0.0: equal views have equal bits
        matrix.setflags(write=False)
        for name, values in (("los", matrix[2]), ("up", matrix[1]), ("matrix", matrix)):
            object.__setattr__(self, name, values)

    @property
    def right(self) -> Array:
        """Unit vector (3,) to the right of the image."""
        return self.matrix[0]

    def rolled(self, angle: float) -> View:
        """Return the view with the camera turned by ``angle`` radians: the image turns clockwise by it."""
        up = np.cos(angle) * self.up - np.sin(angle) * self.right
        return View(self.los, up, self.sign, self.name)

    def __eq__(self, other: object) -> bool:
        """Tell whether the other view has exactly the same matrix and sign."""
        return self is other or (isinstance(other, View) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[int, bytes]:
        return self.sign, self.matrix.tobytes()


def _unit(values: ArrayLike, name: str) -> Array:
    vector = np.array(values, dtype=np.float64)
    length = float(np.linalg.norm(vector)) if vector.shape == (3,) else np.nan
    if not 0 < length < np.inf:
        raise ConfigError(f"{name} of a view is {values!r}", expected="three finite numbers that are not all zero")
    return vector / length


def _default_up(los: Array) -> Array:
    # los x (x axis): at right angles to both, so that the x axis has no part along it
    up = np.array([0.0, los[2], -los[1]])
    return up if np.linalg.norm(up) > _PARALLEL else np.array([0.0, 1.0, 0.0])


_TURNS = np.array([np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, 1.0, -1.0])])
"""Rotations to the opposite side: about the image's horizontal axis, which flips rows, and about the vertical one."""


def mirrors(views: Sequence[View]) -> tuple[tuple[int, int] | None, ...]:
    """Find views from the opposite side of an earlier one, whose maps are that one's mirrored.

    Parameters
    ----------
    views : sequence of View
        In any order.

    Returns
    -------
    tuple, one entry per view
        None, or (earlier view, axis): every map is that of the earlier view (which is not a mirror itself) flipped
        along the axis (0: rows, up and down; 1: columns, left and right), and velocities change their sign. Two
        opposite views whose rolls do not match have no such relation and are both None.
    """
    return _mirrors(tuple(views))


@lru_cache(maxsize=64)
def _mirrors(views: tuple[View, ...]) -> tuple[tuple[int, int] | None, ...]:
    """Find them; the same views are used for galaxy after galaxy."""
    los = np.array([view.los for view in views])
    # far fewer pairs are opposite than there are pairs
    pairs = np.argwhere(np.tril(los @ los.T < -1 + 1e-9))
    found: list[tuple[int, int] | None] = [None] * len(views)
    if not len(pairs):
        return tuple(found)
    matrices = np.array([view.matrix for view in views])
    between = matrices[pairs[:, 0]] @ matrices[pairs[:, 1]].transpose(0, 2, 1)
    turned = np.abs(between[:, np.newaxis] - _TURNS).max(axis=(2, 3)) < _PARALLEL
    for (index, earlier), about in zip(pairs.tolist(), turned.tolist(), strict=True):
        same = found[index] is None and found[earlier] is None and views[index].sign == views[earlier].sign
        if same and any(about):
            found[index] = earlier, about.index(True)
    return tuple(found)


def _vertices(number: int) -> Array:
    """Return unit vectors (number, 3), in the order of the map maker of Angeloudi+2023."""
    if number not in NUMBERS:
        raise ConfigError(
            f"there is no set of {number!r} views",
            expected="one of " + ", ".join(str(each) for each in NUMBERS),
            advice="use random_views or fibonacci for any other number",
        )
    golden = (1 + np.sqrt(5)) / 2
    if number == 1:
        points = np.array([[0.0, 0.0, 1.0]])
    elif number <= 4:  # a tetrahedron; two and three are parts of it
        low, wide = np.sqrt(2 / 9), np.sqrt(2 / 3)
        points = np.array([[np.sqrt(8 / 9), 0, -1 / 3], [-low, wide, -1 / 3], [-low, -wide, -1 / 3], [0, 0, 1]])
    elif number == 6:
        points = np.array([sign * axis for axis in np.eye(3) for sign in (1, -1)])
    elif number == 8:
        points = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    elif number <= 12:  # an icosahedron; ten are part of it
        base = np.array([[s, t * golden] for t in (1, -1) for s in (1, -1)])
        zero = np.zeros(4)
        points = np.concatenate([
            np.stack([zero, base[:, 0], base[:, 1]], axis=1),
            np.stack([base[:, 0], base[:, 1], zero], axis=1),
            np.stack([base[:, 1], zero, base[:, 0]], axis=1)[[0, 2, 1, 3]],
        ])  # fmt: skip
    else:
        points = _dodecahedron(golden)
    return np.asarray(points[:number] / np.linalg.norm(points[0]))


def _dodecahedron(golden: float) -> Array:
    cube = [[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, -1]]
    pairs = np.array([[golden, 1 / golden], [-golden, 1 / golden], [golden, -1 / golden], [-golden, -1 / golden]])
    zero, (a, b) = np.zeros(4), pairs.T
    swapped = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]]) * np.array([1 / golden, golden])
    return np.concatenate([
        np.array(cube, dtype=np.float64),
        np.stack([zero, a, b], axis=1),
        np.stack([swapped[:, 0], zero, swapped[:, 1]], axis=1),
        np.stack([a, b, zero], axis=1),
    ])  # fmt: skip


def polyhedron(number: int, seed: int | None = None) -> tuple[View, ...]:
    """Return views from the vertices of a regular body, exactly.

    Parameters
    ----------
    number : {1, 2, 3, 4, 6, 8, 10, 12, 20}
        1: the z axis. 4: tetrahedron, of which 2 and 3 are the first vertices; 6: octahedron; 8: cube; 12: icosahedron,
        of which 10 are the first; 20: dodecahedron (Angeloudi+2023, section 2.5.1, and their map maker).
    seed : int, optional
        Turn the whole set by a random rotation, uniform over the sphere of rotations. The roll stays the default one.

    Returns
    -------
    tuple of View
        In the order of the authors' map maker. Sets of 6, 8, 12 and 20 hold each view together with its antipode: half
        of them carry all that can be seen.
    """
    points = _vertices(number)
    if seed is not None:
        points = points @ _random_rotation(seed).T
    return tuple(View(point, name=f"polyhedron {index + 1}/{number}") for index, point in enumerate(points))


def _random_rotation(seed: int) -> Array:
    """Return a rotation (3, 3), uniform: from a random unit quaternion (Shoemake 1992)."""
    w, x, y, z = (q := np.random.default_rng(seed).standard_normal(4)) / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def random_views(number: int, seed: int, *, roll: bool = False) -> tuple[View, ...]:
    """Return views from random directions, uniform over the sphere.

    Parameters
    ----------
    number : int
        How many, at least one.
    seed : int
        Of the generator.
    roll : bool
        Turn each camera at random, too. Otherwise all have the default roll.

    Returns
    -------
    tuple of View
        Unrelated to each other.
    """
    _check_number(number)
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((number, 3))
    angles = rng.uniform(0.0, 2 * np.pi, number) if roll else np.zeros(number)
    views = [View(point, name=f"random {index + 1}/{number}") for index, point in enumerate(points)]
    return tuple(view.rolled(float(angle)) if roll else view for view, angle in zip(views, angles, strict=True))


def fibonacci(number: int) -> tuple[View, ...]:
    """Spread views evenly over the sphere on a golden spiral (Gonzalez 2010), for any number, without antipodes.

    Parameters
    ----------
    number : int
        How many, at least one.

    Returns
    -------
    tuple of View
        From the simulation's +z to its -z.
    """
    _check_number(number)
    height = 1 - (2 * np.arange(number) + 1) / number
    angle = np.arange(number) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    return tuple(View(point, name=f"fibonacci {index + 1}/{number}") for index, point in enumerate(points))


def _check_number(number: int) -> None:
    if number < 1:
        raise ConfigError(f"{number} views are asked for", expected="at least one")


def inclined(stars: Stars, degrees: float, azimuth: float = 0.0) -> View:
    """View at an angle to the stars' angular momentum, which is up in the image.

    Parameters
    ----------
    stars : Stars
        At least one, with angular momentum around the origin.
    degrees : float
        Inclination: 0 is face-on (the spin points to the observer), 90 is edge-on.
    azimuth : float, degrees
        Where around the spin the observer stands; 0 is the side of the simulation's x axis.

    Returns
    -------
    View
        The spin points up; face-on, where it cannot, the side away from ``azimuth`` does.

    Raises
    ------
    DataError
        If there is no angular momentum to go by, or no velocities.
    """
    spin = specific_spin(stars)
    size = float(np.linalg.norm(spin))
    scale = float(np.abs(stars.position).max() * np.abs(np.asarray(stars.velocity)).max())
    if not size > 1e-12 * scale:
        raise DataError(
            "the stars have no angular momentum to tell face-on from edge-on", advice="use views that need none"
        )
    spin = spin / size
    # the side from which an inclined camera looks: x, or y for a spin along x, taken into the plane of the disc
    side = np.eye(3)[0 if abs(spin[0]) < 1 - 1e-6 else 1]
    side = side - (side @ spin) * spin
    side /= np.linalg.norm(side)
    turn, tilt = np.radians(azimuth), np.radians(degrees)
    side = np.cos(turn) * side + np.sin(turn) * np.cross(spin, side)
    los = np.cos(tilt) * spin + np.sin(tilt) * side
    # the projected spin, written so that it has a limit face-on
    up = np.sin(tilt) * spin - np.cos(tilt) * side
    return View(los, up, name=f"inclined {degrees:g} deg")


def face_on(stars: Stars) -> View:
    """Return the view along the stars' angular momentum (see `inclined`): they turn counter-clockwise."""
    return inclined(stars, 0.0)


def edge_on(stars: Stars, azimuth: float = 0.0) -> View:
    """Return a view along the disc, spin up (see `inclined`); ``azimuth`` in degrees around the spin."""
    return inclined(stars, 90.0, azimuth)


def legacy_tng(number: int, centre: ArrayLike, box: float, *, scale_factor: float, hubble: float) -> tuple[View, ...]:
    """Return views as the map maker of Angeloudi+2023 had them for TNG: tilted, positive velocities approaching.

    Their direction is not the vertex but ``vertex x 2 box + centre``, with vertices of unequal length between bodies,
    and on TNG the centre has been multiplied by a/h twice. They deviate from the vertices by 17 to 30 degrees in the
    median.

    Parameters
    ----------
    number : {1, 2, 3, 4, 6, 8, 10, 12, 20}
        1 is untilted: the z axis.
    centre : array (3,), kpc
        Physical position of the galaxy in the box (`galineage.stars.Galaxy.centre`).
    box : float, kpc
        Comoving side of the box, without h: 110,717 for TNG100.
    scale_factor, hubble : float
        a of the snapshot; h.

    Returns
    -------
    tuple of View
        With ``sign`` -1.
    """
    moved = np.asarray(centre, dtype=np.float64) * scale_factor / hubble
    return _legacy(number, moved, box * scale_factor, "legacy_tng")


def legacy_eagle(number: int, centre: ArrayLike, box: float) -> tuple[View, ...]:
    """Return views as the map maker of Angeloudi+2023 had them for EAGLE; see `legacy_tng`.

    Parameters
    ----------
    number : {1, 2, 3, 4, 6, 8, 10, 12, 20}
        1 is untilted: the z axis.
    centre : array (3,), kpc
        Physical position of the galaxy in the box.
    box : float, kpc
        Comoving side of the box, without h: 100,000. It is not made physical, as in their code.

    Returns
    -------
    tuple of View
        With ``sign`` -1.
    """
    return _legacy(number, np.asarray(centre, dtype=np.float64), box, "legacy_eagle")


def _legacy(number: int, centre: Array, box: float, name: str) -> tuple[View, ...]:
    vertices = _vertices(number)
    if number == 1:
        return (View(vertices[0], sign=-1, name=f"{name} 1/1"),)
    golden = (1 + np.sqrt(5)) / 2
    length = np.sqrt({8: 3.0, 10: 1 + golden**2, 12: 1 + golden**2, 20: 3.0}.get(number, 1.0))
    targets = vertices * length * 2 * box + centre
    return tuple(View(each, sign=-1, name=f"{name} {index + 1}/{number}") for index, each in enumerate(targets))
