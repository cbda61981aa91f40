"""How galaxies are turned into the rows of a map store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from galineage.errors import ConfigError
from galineage.views import CHANNELS, PUBLISHED, MapConfig, Refinement, View, fibonacci, polyhedron, random_views

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StoreConfig"]

Cameras = Literal["polyhedron", "fibonacci", "random"]
Number = Literal["float32", "float16"]


@dataclass(frozen=True)
class StoreConfig:
    """Settings of a map store.

    Attributes
    ----------
    maps : MapConfig
        How maps are made; without h3 and h4, for which a store has no place.
    refinement : Refinement or None
        How they are made fit for a network; None: raw maps only.
    views : int or tuple of (limit, views)
        Views of each galaxy, or a table of them by f_ex as `galineage.sources.native.view_counts` takes it.
    cameras : {"polyhedron", "fibonacci", "random"}
        Where they stand.
    rotate : bool
        Whether each galaxy's set of cameras is turned at random, by the seed and the galaxy's name.
    number : {"float32", "float16"}
        How refined maps are kept; raw ones are 32-bit, because masses do not fit into 16.
    raw : bool
        Whether raw maps are kept too.
    galaxies_per_shard : int
        Galaxies in a shard: what is lost at most when a run is stopped.
    seed : int
        Of everything random.

    Raises
    ------
    ConfigError
        If a setting is not possible.
    """

    maps: MapConfig = field(default_factory=MapConfig)
    refinement: Refinement | None = PUBLISHED
    views: int | tuple[tuple[float, int], ...] = 4
    cameras: Cameras = "polyhedron"
    rotate: bool = False
    number: Number = "float32"
    raw: bool = True
    galaxies_per_shard: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("cameras", get_args(Cameras)), ("number", get_args(Number))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}", expected="one of " + ", ".join(allowed))
        if self.galaxies_per_shard < 1:
            raise ConfigError(f"{self.galaxies_per_shard} galaxies per shard", expected="1 or more")
        if self.maps.hermite:
            raise ConfigError(
                "a map store has no place for h3 and h4",
                expected="the six channels " + ", ".join(CHANNELS),
                advice="make them with make_maps, galaxy by galaxy",
            )
        if self.refinement is None and not self.raw:
            raise ConfigError("neither raw nor refined maps are kept")
        if isinstance(self.views, int):
            self.place(self.views, "")  # says if there is no such set

    def place(self, count: int, galaxy: str) -> tuple[View, ...]:
        """Return the cameras of one galaxy."""
        return placed(self.cameras, count, own_seed(self.seed, galaxy), rotate=self.rotate)

    def describe(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        views = self.views if isinstance(self.views, int) else [[_finite(limit), count] for limit, count in self.views]
        return {
            "maps": self.maps.describe(),
            "refinement": None if self.refinement is None else self.refinement.describe(),
            "views": views,
            "cameras": self.cameras,
            "rotate": self.rotate,
            "number": self.number,
            "raw": self.raw,
            "galaxies_per_shard": self.galaxies_per_shard,
            "seed": self.seed,
        }

    @property
    def digest(self) -> str:
        """Checksum of the settings."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()


def own_seed(seed: int, name: str) -> int:
    """Return the seed of one thing among many, from that of all and its name."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")


def placed(cameras: Cameras, count: int, seed: int, *, rotate: bool) -> tuple[View, ...]:
    """Return ``count`` cameras of one galaxy; ``seed`` is that galaxy's own."""
    if cameras == "random":
        return random_views(count, seed)
    if cameras == "fibonacci":
        return fibonacci(count)
    return polyhedron(count, seed if rotate else None)


def _finite(limit: float) -> float | str:
    return limit if np.isfinite(limit) else "inf"


def kept(values: NDArray[np.float32], number: str) -> NDArray[Any]:
    """Return refined maps (any shape), no unit, as they are kept; 16-bit numbers saturate instead of overflowing."""
    if number == "float32":
        return values
    largest = float(np.finfo(np.float16).max)
    return values.clip(-largest, largest).astype(np.float16)
