"""Integral-field observations: kinematic maps of MaNGA's pipeline and of spaxel tables, laid out as simulated ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.errors import ConfigError, DataError, FileFormatError

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["SkyMaps", "read_dap", "read_spaxels"]

UNOBSERVED = ("mass", "metallicity", "age")
"""Channels of simulated maps that kinematic pipelines do not give; they are never made up."""


@dataclass(frozen=True, eq=False)
class SkyMaps:
    """What an integral-field unit saw of one galaxy.

    Attributes
    ----------
    velocity, sigma : array (rows, columns), km/s
        Line-of-sight velocity relative to the galaxy's own, positive receding, and dispersion without the instrument's.
        NaN where masked. Rows go up to the north, columns to the west, as in the file.
    flux : array (rows, columns) or None
        Mean flux in each spaxel, the file's unit.
    pixel : float, arcsec
        Side of a spaxel.
    r_e : float, arcsec
        Effective radius, along the major axis.
    centre : (float, float)
        Row and column of the galaxy's centre, in spaxels.
    id, domain : str
        Which galaxy; which survey.
    meta : dict
        Provenance.
    """

    velocity: Array
    sigma: Array
    flux: Array | None
    pixel: float
    r_e: float
    centre: tuple[float, float]
    id: str
    domain: str
    meta: dict[str, Any]

    def __post_init__(self) -> None:
        if self.velocity.ndim != 2 or self.sigma.shape != self.velocity.shape:
            raise DataError(
                f"maps have shapes {self.velocity.shape} and {self.sigma.shape}", expected="one, of two axes"
            )
        if not (0 < self.pixel < np.inf and 0 < self.r_e < np.inf):
            raise DataError(
                f"a spaxel of {self.pixel} and an effective radius of {self.r_e} arcsec", expected="above 0"
            )

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Spaxels with velocity and dispersion, a mask (rows, columns)."""
        return np.isfinite(self.velocity) & np.isfinite(self.sigma)

    @property
    def missing(self) -> tuple[str, ...]:
        """Channels of simulated maps that this one does not have."""
        return UNOBSERVED

    def layout(self, pixels: int = 128, half_width: float = 2.0) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Put the maps on the grid that simulated maps have.

        Every pixel takes the spaxel that it lies in: nothing is interpolated, and nothing is added beyond the field.

        Parameters
        ----------
        pixels : int
            On each side.
        half_width : float
            From the centre to the edge, in effective radii.

        Returns
        -------
        array (1, 3, pixels, pixels) of float32
            ``count`` (1 where there is a spaxel, 0 elsewhere; no unit), ``velocity`` and ``sigma`` in km/s, NaN where
            there is none. To be refined with ``Refinement(percentile=0, least=0)``: counts of stars are not known.
        tuple of str
            Names of the channels.

        Raises
        ------
        ConfigError
            If the grid is not possible.
        """
        if pixels < 1 or not 0 < half_width < np.inf:
            raise ConfigError(f"a grid of {pixels} pixels, {half_width} effective radii", expected="positive numbers")
        step = 2 * half_width * self.r_e / pixels
        offset = (np.arange(pixels) + 0.5 - pixels / 2) * step / self.pixel
        rows, columns = (np.rint(offset + middle).astype(np.int64) for middle in self.centre)
        inside = ((rows >= 0) & (rows < self.velocity.shape[0]))[:, None] & (
            (columns >= 0) & (columns < self.velocity.shape[1])
        )[None, :]
        at = np.ix_(rows.clip(0, self.velocity.shape[0] - 1), columns.clip(0, self.velocity.shape[1] - 1))
        kept = inside & self.valid[at]
        values = np.full((1, 3, pixels, pixels), np.nan, dtype=np.float32)
        values[0, 0] = kept
        values[0, 1] = np.where(kept, self.velocity[at], np.nan)
        values[0, 2] = np.where(kept, self.sigma[at], np.nan)
        return values, ("count", "velocity", "sigma")


def read_dap(path: str | os.PathLike[str]) -> SkyMaps:
    """Read stellar kinematics from a MAPS file of MaNGA's data analysis pipeline (Westfall+2019).

    Extensions are found by name, because their order changes between releases. The dispersion is
    ``sqrt(sigma^2 - correction^2)`` with the last plane of ``STELLAR_SIGMACORR`` (one plane in older files, two in
    newer ones, of which the second is recommended); spaxels in which the correction is larger than what was measured
    are masked, since their dispersion is only an upper limit.

    Raises
    ------
    FileFormatError
        If the file is no such MAPS file, or lacks an extension or header entry that is needed.
    """
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as file:
            planes = {name: np.asarray(file[name].data, dtype=np.float64) for name in _PLANES if name in file}
            header = dict(file[0].header)
            grid = dict(file["STELLAR_VEL"].header) if "STELLAR_VEL" in file else {}
    except (OSError, TypeError, ValueError, EOFError) as error:
        raise FileFormatError(f"{Path(path).name} cannot be read as FITS: {error}", where=str(path)) from error
    absent = [name for name in _PLANES[:5] if name not in planes]
    if absent:
        raise FileFormatError(
            f"the file has no {', '.join(absent)}", where=str(path), expected="a MAPS file of the MaNGA DAP"
        )
    correction = planes["STELLAR_SIGMACORR"]
    correction = correction[-1] if correction.ndim == 3 else correction
    good = (planes["STELLAR_VEL_MASK"] == 0) & (planes["STELLAR_SIGMA_MASK"] == 0)
    square = planes["STELLAR_SIGMA"] ** 2 - correction**2
    good &= np.isfinite(square) & (square > 0) & np.isfinite(planes["STELLAR_VEL"])
    with np.errstate(invalid="ignore"):
        sigma = np.where(good, np.sqrt(square), np.nan)
    scale = abs(_number(grid, "PC2_2", _number(grid, "CD2_2", np.nan)) * _number(grid, "CDELT2", 1.0)) * 3600
    radius = _number(header, "REFF", np.nan)
    if not np.isfinite(scale * radius):
        raise FileFormatError(
            "the header has no pixel scale or no REFF", where=str(path), expected="both, in degrees and arcsec"
        )
    return SkyMaps(
        velocity=np.where(good, planes["STELLAR_VEL"], np.nan),
        sigma=sigma,
        flux=planes.get("SPX_MFLUX"),
        pixel=float(scale),
        r_e=float(radius),
        centre=(_number(grid, "CRPIX2", np.nan) - 1, _number(grid, "CRPIX1", np.nan) - 1),
        id=str(header.get("PLATEIFU", Path(path).name)),
        domain="MaNGA",
        meta={
            "file": str(path),
            "cz_km_s": _number(header, "SCINPVEL", np.nan),
            "analysis": str(header.get("DAPTYPE", "")),
            "mangaid": str(header.get("MANGAID", "")),
            "sigma": "corrected for the instrument; spaxels below the correction are masked",
        },
    )


_PLANES = (
    "STELLAR_VEL",
    "STELLAR_VEL_MASK",
    "STELLAR_SIGMA",
    "STELLAR_SIGMA_MASK",
    "STELLAR_SIGMACORR",
    "SPX_MFLUX",
)


def read_spaxels(
    path: str | os.PathLike[str],
    *,
    r_e: float,
    pixel: float = 0.5,
    id: str = "",  # noqa: A002 - the word users know
    domain: str = "MaNGA",
) -> SkyMaps:
    """Read a table of spaxels, such as kinemetry takes: place, velocity, its error, dispersion, its error.

    Parameters
    ----------
    path : path
        Text with a header line that names XBIN, YBIN (whole spaxels from the centre), VEL, ER_VEL, SIG, ER_SIG (km/s)
        and rows that begin with their number. A spaxel whose error is not a positive finite number is masked.
    r_e : float, arcsec
        Effective radius, which the table does not hold.
    pixel : float, arcsec
        Side of a spaxel.
    id, domain : str
        Which galaxy, which survey.

    Raises
    ------
    FileFormatError
        If it is no such table.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        names = lines[0].lstrip("#").split()
        columns = dict(
            zip(names, np.array([line.split()[1:] for line in lines[1:] if line], dtype=np.float64).T, strict=True)
        )
        x, y = (np.asarray(columns[name]) for name in ("XBIN", "YBIN"))
        velocity, sigma = columns["VEL"].copy(), columns["SIG"].copy()
        errors = columns["ER_VEL"], columns["ER_SIG"]
    except (OSError, UnicodeDecodeError, IndexError, KeyError, ValueError) as error:
        raise FileFormatError(
            f"{Path(path).name} is no table of spaxels: {error}",
            where=str(path),
            expected="XBIN YBIN VEL ER_VEL SIG ER_SIG",
        ) from error
    if not len(x) or (x != np.rint(x)).any() or (y != np.rint(y)).any():
        raise FileFormatError("places are not whole spaxels", where=str(path))
    masked = ~(np.isfinite(errors[0]) & np.isfinite(errors[1]) & (errors[0] > 0) & (errors[1] > 0) & (sigma > 0))
    velocity[masked], sigma[masked] = np.nan, np.nan
    low = int(y.min()), int(x.min())
    shape = int(y.max()) - low[0] + 1, int(x.max()) - low[1] + 1
    maps = np.full((2, *shape), np.nan)
    at = (y - low[0]).astype(np.int64), (x - low[1]).astype(np.int64)
    maps[0][at], maps[1][at] = velocity, sigma
    centre = float(-low[0]), float(-low[1])
    name = id or Path(path).stem
    return SkyMaps(maps[0], maps[1], None, pixel, r_e, centre, name, domain, {"file": str(path)})


def _number(header: dict[str, Any], name: str, otherwise: float) -> float:
    try:
        return float(header[name])
    except (KeyError, TypeError, ValueError):
        return otherwise
