"""The four real galaxies with stars and a known ex-situ fraction, as a source of galaxies for figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.cosmology import ILLUSTRIS
from galineage.galaxy import Catalogue, Skip
from galineage.sources.native import EagleSource, from_box
from galineage.stars import Galaxy, Stars, half_mass_radius

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Held", "real_galaxies"]

EAGLE_FILE = "native/simspin/EAGLE_RefL0100N1504_z0_group92_sub9_full.hdf5"
BOX_FILE = "particles/illustris1_135_417175_box.txt"
BOX_F_EX = 0.133


@dataclass(frozen=True)
class Held:
    """Galaxies in memory, which `galineage.prepare` takes as any other source.

    Attributes
    ----------
    domain : str
        What to call them together.
    held : tuple of Galaxy
    """

    domain: str
    held: tuple[Galaxy, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.domain

    def galaxies(self, ids: Iterable[Any]) -> Iterator[Galaxy | Skip]:
        """Give the galaxies that are asked for."""
        known = {galaxy.id: galaxy for galaxy in self.held}
        return (known[str(one)] for one in ids)

    @property
    def catalogue(self) -> Catalogue:
        """Identifiers and ex-situ fractions."""
        return Catalogue(
            {"f_ex": np.array([galaxy.truth["f_ex"] for galaxy in self.held])},
            np.array([galaxy.id for galaxy in self.held]),
            np.asarray(self.domain),
            np.array([galaxy.root or f"{galaxy.domain}:{galaxy.id}" for galaxy in self.held]),
        )


def real_galaxies(data: Path) -> tuple[Galaxy, ...]:
    """Read them: TNG100-1 394242 (no ages, no metals), EAGLE 636522, Illustris-1 420815 and 417175."""
    eagle = next(iter(EagleSource(data / EAGLE_FILE, "EAGLE").galaxies()))
    if isinstance(eagle, Skip):
        raise SystemExit(eagle.reason)
    return (
        _plain(data / "particles" / "tng100_099_394242.npz", "TNG100-1"),
        replace(eagle, id="636522", truth={"f_ex": _f_ex(data / "particles" / "eagle_028_636522.npz")}),
        _plain(data / "particles" / "illustris1_135_420815.npz", "Illustris-1"),
        _box(data / BOX_FILE),
    )


def _f_ex(path: Path) -> float:
    with np.load(path) as file:
        return float(file["meta_exsitu_frac"])


def _plain(path: Path, domain: str) -> Galaxy:
    with np.load(path) as file:
        known = {name: file[key] for name, key in (("age", "age_gyr"), ("metallicity", "metallicity_massfrac"))
                 if key in file}  # fmt: skip
        stars = Stars(file["pos_kpc"], file["vel_kms"], file["mass_msun"], **known)
        name = str(int(file["meta_subfind_id"]))
    return Galaxy(name, domain, stars, half_mass_radius(stars), truth={"f_ex": _f_ex(path)})


def _box(path: Path) -> Galaxy:
    columns = np.loadtxt(path).T
    rows = {
        "Coordinates": columns[:3].T, "Velocities": columns[3:6].T, "Masses": columns[6],
        "GFM_StellarFormationTime": columns[7], "GFM_Metallicity": columns[8],
    }  # fmt: skip
    found = from_box(rows, ILLUSTRIS, id="417175", domain="Illustris-1", box=75000)
    return replace(found, truth={"f_ex": BOX_F_EX})
