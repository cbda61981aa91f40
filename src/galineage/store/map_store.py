"""Reading a map store: refined and raw maps of galaxies, see `galineage.store.row_store` for what stores share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from galineage.errors import ConfigError
from galineage.store.row_store import PLAN, RowStore, StoredMaps
from galineage.views import Refinement

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["PLAN", "MapStore", "StoredMaps"]


class MapStore(RowStore):
    """Maps of many galaxies on disk, larger than memory if need be.

    Parameters
    ----------
    path : path
        Folder that `galineage.store.prepare` wrote.

    Attributes
    ----------
    settings : dict
        With which it was made.
    rows : tuple of dict
        What each map is: ``id``, ``domain``, ``snapshot``, ``root``, ``view`` of ``views``, ``los`` and ``up``,
        ``r_half`` (kpc), ``pixel`` (kpc), ``stars``, ``missing`` channels, ``truth`` and what was ``measured`` on the
        stars by field name.
    skipped : tuple of dict
        Galaxies that have no maps, and why.

    Raises
    ------
    FileFormatError
        If the folder is no store.
    """

    CALLED: ClassVar[str] = "map store"
    WRITTEN_BY: ClassVar[str] = "`galineage prepare`"
    SETTING: ClassVar[str] = "maps"
    PER_SHARD: ClassVar[str] = "galaxies_per_shard"
    DEFAULT: ClassVar[str] = "refined"
    HELD: ClassVar[str] = "maps"
    LISTED: ClassVar[tuple[str, ...]] = (*RowStore.LISTED, "pixel", "stars")

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of the refined maps."""
        return self.refinement.channels

    @property
    def refinement(self) -> Refinement:
        """How the maps were refined.

        Raises
        ------
        ConfigError
            If the store has raw maps only.
        """
        known = self.settings["refinement"]
        if known is None:
            raise ConfigError("the store has raw maps only", where=str(self.path))
        return Refinement(**known)

    @property
    def recipe(self) -> dict[str, Any]:
        """Settings that decide what a map looks like: not which views there are, nor how they are kept."""
        return {name: self.settings[name] for name in ("maps", "refinement")}

    @property
    def pixels(self) -> int:
        """Side of a map."""
        return int(self.settings["maps"]["pixels"])

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of maps that there are, of ``refined`` and ``raw``."""
        there = {"refined": self.settings["refinement"] is not None, "raw": self.settings["raw"]}
        return tuple(name for name, has in there.items() if has)

    def _add_columns(self, found: Table) -> None:
        for name in ("los", "up"):
            found[name] = np.array([row[name] for row in self.rows]).reshape(-1, 3)
