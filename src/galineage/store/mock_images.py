"""Mock images of the galaxies of a snapshot, made when they are read: stars, then telescope and sky."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from galineage.errors import ConfigError, DataError, GalineageError
from galineage.galaxy import Skip
from galineage.light import (
    ImageConfig,
    Insertion,
    Observation,
    Seeing,
    hsc_wide,
    insert,
    kpc_per_arcsec,
    make_images,
    observe,
    write_images,
)
from galineage.stars import measure
from galineage.store.parts import plain
from galineage.store.settings import Cameras, own_seed, placed

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from galineage.cutouts import Cutout
    from galineage.images.preparing import Readable
    from galineage.stars import Galaxy
    from galineage.store.prepare import Galaxies
    from galineage.views import View

__all__ = ["MockConfig", "SnapshotImages"]

_KEPT = 4
"""Galaxies whose images are kept, for their other views."""

_WAITING = 64
"""Galaxies that were read before their turn; more than these are read again."""


@dataclass(frozen=True)
class MockConfig:
    """How mock images of a snapshot are made and observed.

    Attributes
    ----------
    images : ImageConfig
        Bands, pixels, smoothing and dust. Its ``redshift`` is not used, and ``half_width`` only up to ``most_pixels``.
    redshift : float, (float, float), or None
        At which galaxies are seen: one for all, or a range from which each draws its own, the same for all its views;
        in steps of 0.001. None: that of the snapshot. Stars keep their ages.
    observation : Observation or None
        Telescope and sky; None: `galineage.light.hsc_wide` in the bands. Not used where real skies are given.
    insertion : Insertion
        How images are put into real skies, where these are given.
    views : int
        Of each galaxy.
    cameras : {"polyhedron", "fibonacci", "random"}
        Where they stand.
    rotate : bool
        Whether each galaxy's set of cameras is turned at random.
    most_pixels : int
        Side of an image at most; the field of a larger galaxy is cut there.
    seed : int
        Of everything random.

    Raises
    ------
    ConfigError
        If a setting is not possible.
    """

    images: ImageConfig = field(default_factory=lambda: ImageConfig(half_width=6.5))
    redshift: float | tuple[float, float] | None = 0.1
    observation: Observation | None = None
    insertion: Insertion = field(default_factory=Insertion)
    views: int = 2
    cameras: Cameras = "polyhedron"
    rotate: bool = True
    most_pixels: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cameras not in get_args(Cameras):
            raise ConfigError(f"cameras is {self.cameras!r}", expected="one of " + ", ".join(get_args(Cameras)))
        placed(self.cameras, self.views, 0, rotate=self.rotate)  # says if there is no such set
        seen = 0.1 if self.redshift is None else self.redshift
        low, high = seen if isinstance(seen, tuple) else (seen, seen)
        if not 0.001 <= low <= high <= 1:
            raise ConfigError(f"redshift of mocks is {self.redshift!r}", expected="0.001 to 1, or a range of it")
        step = self._step
        if not step <= self.most_pixels <= 2048 or self.most_pixels % step:
            raise ConfigError(f"most_pixels is {self.most_pixels}", expected=f"a multiple of {step}, up to 2048")

    @property
    def _step(self) -> int:
        return 1 if self.images.smoothing is None else 2**self.images.smoothing.levels

    @property
    def observed(self) -> Observation:
        """Telescope and sky."""
        return hsc_wide(self.images.bands) if self.observation is None else self.observation

    def redshift_of(self, galaxy: str, snapshot: float) -> float:
        """Return the redshift at which a galaxy is seen; ``snapshot`` is its own."""
        if self.redshift is None:
            return snapshot
        if not isinstance(self.redshift, tuple):
            return self.redshift
        drawn = np.random.default_rng(own_seed(self.seed, f"redshift of {galaxy}")).uniform(*self.redshift)
        return float(np.clip(round(drawn, 3), *self.redshift))

    def image_config(self, r_half: float, redshift: float) -> ImageConfig:
        """Return the settings of the images of one galaxy, of a half-mass radius in kpc."""
        made, step = replace(self.images, redshift=redshift), self._step
        if made.pixels is not None:
            return made
        scale = made.pixel_scale * kpc_per_arcsec(redshift, made.cosmology)
        side = int(np.ceil(2 * made.half_width * r_half / scale / step)) * step
        return replace(made, pixels=min(max(side, step), self.most_pixels))

    def describe(self, *, real_skies: bool = False) -> dict[str, Any]:
        """Return the settings in JSON types; with real skies there is no observation."""
        plain_ones = ("redshift", "views", "cameras", "rotate", "most_pixels", "seed")
        return {
            "images": self.images.describe(),
            "observation": None if real_skies else _described(self.observed),
            "insertion": _described(self.insertion),
            **{name: getattr(self, name) for name in plain_ones},
        }


def _described(config: Any) -> Any:
    if isinstance(config, tuple):
        return [_described(one) for one in config]
    if isinstance(config, Observation | Insertion):
        return {one.name: _described(getattr(config, one.name)) for one in fields(config)}
    return config.describe() if isinstance(config, Seeing) else config


class SnapshotImages:
    """Images of galaxies of a snapshot by row, as `galineage.images.prepare_images` takes them.

    Rows are galaxies times views; the views of a galaxy follow each other and have its identifier. Galaxies are read
    in the order of the rows, each once, as long as the rows are asked for one after another. It can be sent to another
    process, and read by several threads, though each then better has some rows of its own (`select`).

    Parameters
    ----------
    source : Galaxies
        Such as `galineage.sources.native.TngSource`.
    ids : sequence of str
        Identifiers of galaxies, each once, best in the order of the snapshot.
    config : MockConfig, optional
        Settings.
    skies : Readable, optional
        Real pieces of sky with their PSFs, one of which is drawn for each image.
    keep : path, optional
        Folder in which the raw and the observed image of each row are written, as `galineage.light.write_images` does,
        into files called ``DOMAIN-SNAPSHOT-ID-VIEW.fits``.

    Attributes
    ----------
    broken : GalineageError or None
        What went wrong with the snapshot itself and not with one of its galaxies.

    Raises
    ------
    ConfigError
        If there are no real skies, and none is described for the bands.
    DataError
        If an identifier occurs twice, or there is no sky.
    """

    def __init__(
        self,
        source: Galaxies,
        ids: Iterable[Any],
        config: MockConfig | None = None,
        *,
        skies: Readable | None = None,
        keep: str | os.PathLike[str] | None = None,
    ) -> None:
        self.source, self.config, self.skies = source, config or MockConfig(), skies
        self.galaxies = tuple(str(one) for one in ids)
        if len(set(self.galaxies)) < len(self.galaxies):
            raise DataError("a galaxy is listed twice", where=source.name, expected="each once")
        if skies is not None and not len(skies):
            raise DataError("there is no piece of sky", where=source.name)
        if skies is None:
            _ = self.config.observed  # says if HSC does not observe in these bands
        self.keep = None if keep is None else Path(keep)
        self._rows = tuple((name, view) for name in self.galaxies for view in range(self.config.views))
        self._start()

    def _start(self) -> None:
        self.ids = tuple(name for name, _ in self._rows)
        self.broken: GalineageError | None = None
        self._lock = threading.Lock()
        self._stream: Iterator[Galaxy | Skip] | None = None
        self._waiting: OrderedDict[str, Galaxy | Skip] = OrderedDict()
        self._asked: set[str] = set()
        self._made: OrderedDict[str, tuple[tuple[Cutout, ...], dict[str, Any]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: not what has been read."""
        return {name: getattr(self, name) for name in ("source", "config", "skies", "galaxies", "keep", "_rows")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def select(self, rows: Sequence[int]) -> SnapshotImages:
        """Return the images of some rows."""
        found = SnapshotImages(self.source, (), self.config, skies=self.skies, keep=self.keep)
        found._rows = tuple(self._rows[row] for row in rows)
        found.galaxies = tuple(dict.fromkeys(name for name, _ in found._rows))
        found._start()
        return found

    def describe(self) -> dict[str, Any]:
        """Return how the images are made, in JSON types."""
        births = getattr(self.source, "births", None)
        return {
            "snapshot": self.source.name,
            "births": None if births is None else Path(births).name,
            "domain": self.source.domain,
            "mocks": self.config.describe(real_skies=self.skies is not None),
            "skies": None if self.skies is None else list(self.skies.ids),
        }

    def read(self, row: int) -> Cutout:
        """Make an image.

        Parameters
        ----------
        row : int
            Which.

        Returns
        -------
        Cutout
            Observed, nanomaggies. ``meta["facts"]`` says what is known of the galaxy: ``root``, ``snapshot``,
            ``r_half`` (kpc), ``truth``, what was ``measured`` on its stars, and the camera's ``los`` and ``up``.

        Raises
        ------
        DataError
            If the galaxy cannot be read, or its stars give no light.
        """
        name, view = self._rows[row]
        raws, facts = self._images_of(name)
        raw, label = raws[view], f"{self.source.domain}:{name} view {view}"
        seed = own_seed(self.config.seed, label)
        if self.skies is None:
            seen = observe(raw, self.config.observed, seed=seed)
        else:
            # a seed of its own: with that of the place, each sky would be used in one place only
            drawn = np.random.default_rng(own_seed(self.config.seed, f"{label} sky"))
            sky = self.skies.read(int(drawn.integers(len(self.skies))))
            seen = insert(raw, sky, self.config.insertion, seed=seed)
        if self.keep is not None:
            snapshot = "" if facts["snapshot"] is None else f"-{facts['snapshot']:03d}"
            file = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self.source.domain}{snapshot}-{name}-{view}.fits")
            write_images(self.keep / file, {"RAW": raw, "OBSERVED": seen})
        matrix = np.asarray(raw.meta["view"]["matrix"])
        camera = {"los": matrix[2].tolist(), "up": matrix[1].tolist()}
        return replace(seen, meta={**seen.meta, "facts": {**facts, **camera}})

    def _images_of(self, name: str) -> tuple[tuple[Cutout, ...], dict[str, Any]]:
        """Return the raw images of all views of a galaxy, and facts of it."""
        with self._lock:
            if name in self._made:
                return self._made[name]
        galaxy = self._galaxy(name)
        if isinstance(galaxy, Skip):
            raise DataError(galaxy.reason, where=f"{self.source.name}, galaxy {name}")
        config = self.config
        redshift = config.redshift_of(f"{galaxy.domain}:{name}", galaxy.redshift)
        cameras: tuple[View, ...] = placed(
            config.cameras, config.views, own_seed(config.seed, f"{galaxy.domain}:{name}"), rotate=config.rotate
        )
        made = make_images(galaxy, cameras, config.image_config(galaxy.r_half, redshift), warn=False), _facts(galaxy)
        with self._lock:
            self._made[name] = made
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made

    def _galaxy(self, name: str) -> Galaxy | Skip:
        """Return a galaxy: from the stream of all, or, if its turn is over, by itself."""
        with self._lock:
            if self._stream is None:
                self._stream = iter(self.source.galaxies(self.galaxies))
            while name not in self._waiting and name not in self._asked:
                try:
                    item = next(self._stream, None)
                except GalineageError as error:
                    self.broken = error
                    raise
                if item is None:
                    break
                self._waiting[str(item.id)] = item
                if len(self._waiting) > _WAITING:
                    self._asked.add(self._waiting.popitem(last=False)[0])
            self._asked.add(name)
            if name in self._waiting:
                return self._waiting.pop(name)
        found = next(iter(self.source.galaxies([name])), None)
        return Skip(0, name, "id", name, "the source did not give it") if found is None else found


def _facts(galaxy: Galaxy) -> dict[str, Any]:
    measured = measure(galaxy)
    truth = {**({"f_ex": measured["f_ex"]} if "f_ex" in measured else {}), **galaxy.truth}
    return {
        "root": galaxy.root,
        "snapshot": galaxy.snapshot,
        "r_half": galaxy.r_half,
        "truth": {name: plain(value) for name, value in truth.items()},
        "measured": {name: plain(value) for name, value in measured.items()},
    }
