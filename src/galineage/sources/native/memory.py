"""Galaxies from arrays in memory and from single cut-outs, in a simulation's own units or in physical ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError, FileFormatError
from galineage.sources.native.eagle import shrinking_centre
from galineage.sources.native.files import attributes, opened, part
from galineage.sources.native.tng_groups import STARS, Frame, frame_of
from galineage.sources.native.tng_stars import FIELDS, PHOTOMETRY, to_stars
from galineage.stars import Galaxy, half_mass_radius

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from galineage.cosmology import Cosmology

__all__ = ["from_box", "read_cutout"]


def from_box(
    rows: Mapping[str, ArrayLike],
    cosmology: Cosmology,
    *,
    id: str,  # noqa: A002 - the word users know
    domain: str,
    box: float = 0.0,
    scale_factor: float = 1.0,
    centre: ArrayLike | None = None,
    velocity: ArrayLike | None = None,
    r_half: float | None = None,
    **about: Any,
) -> Galaxy:
    """Make a galaxy from arrays in the units of TNG and Illustris files.

    Parameters
    ----------
    rows : mapping of str to array (n, ...)
        By the names of TNG's datasets: ``Coordinates`` (ckpc/h), ``Velocities`` (km/s divided by sqrt(a)), ``Masses``
        (1e10 Msun/h), ``GFM_StellarFormationTime`` (scale factor; 0 or less: wind, which is dropped),
        ``GFM_Metallicity`` (mass fraction), ``GFM_InitialMass``, ``StellarHsml``, ``Potential``, ``ParticleIDs``,
        ``GFM_StellarPhotometrics``. The last six may be missing. Arrays in physical units need no function: give them
        to `galineage.stars.Stars`.
    cosmology : Cosmology
        Of the simulation.
    id, domain : str
        Original identifier; simulation run.
    box : float, ckpc/h
        Side of the periodic box; 0: not periodic.
    scale_factor : float
        Of the snapshot.
    centre, velocity : array (3,), ckpc/h and km/s, optional
        Position in the box and peculiar velocity. Default: the densest place of the stars, and the mean velocity of
        their mass.
    r_half : float, physical kpc, optional
        3-D stellar half-mass radius. Default: measured.
    **about
        Further attributes of `galineage.stars.Galaxy`: ``snapshot``, ``root``, ``truth``, ``meta``.

    Returns
    -------
    Galaxy

    Raises
    ------
    DataError, FileFormatError
        If there is no star, something needed is missing, or a value is not possible.
    ConfigError
        If the box or the scale factor is not possible.
    """
    if not (0 < scale_factor <= 1.0001 and box >= 0):
        raise ConfigError(f"scale factor {scale_factor}, box {box}", expected="0 to 1, and 0 or more")
    arrays = {name: np.asarray(values) for name, values in rows.items()}
    frame = Frame(scale_factor, box * scale_factor / cosmology.h, cosmology)
    where = f"{domain}, galaxy {id}"
    middle = None if centre is None else np.asarray(centre, dtype=np.float64) * frame.length
    motion = np.zeros(3) if velocity is None else np.asarray(velocity, dtype=np.float64)
    formed = arrays.get("GFM_StellarFormationTime")
    real = np.ones(0, dtype=bool) if formed is None else ~(formed <= 0)
    if formed is not None and not real.any():
        raise DataError("there is no star" + (", only wind" if len(real) else ""), where=where)
    if middle is None and {"Coordinates", "Masses"} <= arrays.keys() and formed is not None:
        position = arrays["Coordinates"][real].astype(np.float64) * frame.length
        middle = shrinking_centre(position, arrays["Masses"][real].astype(np.float64), frame.box)
    stars = to_stars(arrays, frame, np.zeros(3) if middle is None else middle, motion, where=where)
    galaxy = Galaxy(
        id=id,
        domain=domain,
        stars=stars,
        r_half=half_mass_radius(stars) if r_half is None else r_half,
        redshift=frame.redshift,
        centre=np.zeros(3) if middle is None else middle,
        velocity=motion,
        **about,
    )
    if velocity is None and stars.velocity is not None:
        return galaxy.moved(np.zeros(3), stars.mass @ stars.velocity / stars.mass.sum())
    return galaxy


def read_cutout(path: str | os.PathLike[str], domain: str, id: str | None = None, **known: Any) -> Galaxy:  # noqa: A002
    """Read one galaxy from a cut-out file of the TNG web API.

    Parameters
    ----------
    path : path
        HDF5 file with ``Header`` and ``PartType4``.
    domain : str
        Simulation run.
    id : str, optional
        Subfind number; default: ``CutoutID`` of the header.
    **known
        What the catalogue says, as for `from_box`: ``centre``, ``velocity``, ``r_half``, ``truth``, ``root`` ...

    Returns
    -------
    Galaxy
        Quantities that were not asked for when cutting out are missing.

    Raises
    ------
    FileFormatError, DataError
        If the file is damaged, no cut-out of stars, or holds none.
    """
    file_path = Path(path)
    with opened(file_path) as file:
        header = attributes(file)
        frame = frame_of(header, file_path)
        group = file.get(f"PartType{STARS}")
        if group is None or "Coordinates" not in group:
            raise FileFormatError(
                "the file holds no positions of stars", where=str(path), expected="PartType4/Coordinates"
            )
        count = len(group["Coordinates"])
        rows: dict[str, NDArray[Any]] = {
            name: part(file, f"PartType{STARS}/{name}", 0, count) for name in (*FIELDS, PHOTOMETRY) if name in group
        }
    number = id if id is not None else header.get("CutoutID")
    if number is None:
        raise FileFormatError("the header has no CutoutID", where=str(path), advice="say the galaxy's id")
    return from_box(
        rows,
        frame.cosmology,
        id=str(number),
        domain=domain,
        box=frame.box / frame.length,
        scale_factor=frame.scale_factor,
        **{"meta": {"file": str(path)}, **known},
    )
