"""The field registry: for every quantity its name, unit, allowed range, meaning and axis label.

Readers convert at the border; inside the package arrays are plain floats in the unit given here
(physical kpc, km/s, Msun, Gyr, metallicity as mass fraction). Nothing else in the package defines a unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = [
    "FIELDS",
    "MERGER_TARGETS",
    "SOLAR_METALLICITY",
    "Field",
    "expanded_features",
    "feature_range",
    "field",
    "from_feature",
    "representation_features",
    "to_feature",
]

SOLAR_METALLICITY = 0.0127
"""Solar metal mass fraction used by the TNG and EAGLE tables (TNG data specification; Wiersma+2009)."""


@dataclass(frozen=True)
class Field:
    """One quantity.

    Attributes
    ----------
    name : str
        Name inside the package and in written tables.
    unit : str
        Unit as an astropy unit string; empty for pure numbers.
    low, high : float
        Inclusive range of physically possible values, in ``unit``.
    meaning : str
        One line for table descriptions and docs.
    label : str
        Axis label in matplotlib mathtext, without the unit.
    scale : {"linear", "log"}
        How networks and axes see it: ``log`` means the base-10 logarithm.
    missing : str
        What NaN means; empty if NaN is not allowed.
    kind : {"float", "int", "bool"}
        Type of the column.
    difference : (str, str) or None
        The field is the first of these minus the second; readers make it where a table has both and not the field.
    """

    name: str
    unit: str
    low: float
    high: float
    meaning: str
    label: str
    scale: Literal["linear", "log"] = "linear"
    missing: str = ""
    kind: Literal["float", "int", "bool"] = "float"
    difference: tuple[str, str] | None = None

    @property
    def axis(self) -> str:
        """Axis label with its unit (``log10`` written out if the scale is logarithmic)."""
        unit = rf"\ [\mathrm{{{_MATHTEXT_UNIT.get(self.unit, self.unit)}}}]" if self.unit else ""
        if self.scale == "log":
            return rf"$\log_{{10}}\,{self.label}{unit}$"
        return rf"${self.label}{unit}$"

    @property
    def range_text(self) -> str:
        """The allowed range with its unit, for messages."""
        return f"{self.low:g} to {self.high:g} {self.unit}".rstrip()

    def in_range(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which values are possible.

        Parameters
        ----------
        values : array, any shape, in ``unit``
            Values to test. NaN passes only where this field gives it a meaning.

        Returns
        -------
        array of bool, same shape
        """
        values = np.asarray(values, dtype=float)
        inside = (values >= self.low) & (values <= self.high)
        return np.asarray(inside | np.isnan(values) if self.missing else inside)


_MATHTEXT_UNIT = {
    "Msun": r"M_\odot",
    "kpc km / s": r"kpc\,km\,s^{-1}",
    "km / s": r"km\,s^{-1}",
    "Msun / yr": r"M_\odot\,yr^{-1}",
}


def _photometry() -> tuple[Field, ...]:
    return tuple(
        Field(
            f"mag_{band}",
            "mag",
            -32.0,
            -5.0,
            f"absolute {band} magnitude ({'Vega' if band in 'UBVK' else 'AB'}, no dust)",
            f"M_{band}",
            missing="no photometry",
        )
        for band in "UBVKgriz"
    )


def _colours() -> tuple[Field, ...]:
    return tuple(
        Field(
            f"colour_{first}{second}",
            "mag",
            -3.0,
            6.0,
            f"colour: absolute {first} minus {second} magnitude (AB, no dust)",
            f"{first}-{second}",
            missing="no photometry",
            difference=(f"mag_{first}", f"mag_{second}"),
        )
        for first, second in ("gr", "ri")
    )


def _images() -> tuple[Field, ...]:
    """Fields that are measured on images (`galineage.images`)."""
    apparent = tuple(
        Field(
            f"app_{band}",
            "mag",
            -10.0,
            45.0,
            f"apparent AB magnitude in {band}, of all light in the crop of an image",
            f"m_{band}",
            missing="no positive flux",
        )
        for band in "ugrizy"
    )
    return (
        *apparent,
        Field("app_petro", "mag", -10.0, 45.0, "apparent AB magnitude within the Petrosian aperture", r"m_\mathrm{P}"),
        Field("r_petro", "arcsec", 1e-3, 1e5, "Petrosian radius, along the major axis", r"r_\mathrm{P}", "log"),
        Field("r50", "arcsec", 1e-3, 1e5, "semi-major axis that holds half of the Petrosian flux", "R_{50}", "log"),
        Field("r90", "arcsec", 1e-3, 1e5, "semi-major axis that holds 90 % of the Petrosian flux", "R_{90}", "log"),
        Field("r90_kpc", "kpc", 1e-4, 1e5, "r90 at the galaxy's redshift", "R_{90}", "log", "redshift unknown"),
        Field("concentration", "", 1.0, 1e3, "r90 over r50", "C"),
        Field("axis_ratio", "", 0.0, 1.0, "minor over major axis of an image, with the PSF in it", "b/a"),
    )


_NEVER = "no major merger in the tree"

_ALL: tuple[Field, ...] = (
    Field("mstar", "Msun", 1e6, 1e14, "stellar mass of all bound star particles", r"M_\star", "log"),
    Field("metallicity", "", 1e-6, 0.2, "stellar metal mass fraction, mass-weighted", "Z", "log"),
    Field("age", "Gyr", 0.0, 13.9, "stellar age, mass-weighted", r"\mathrm{Age}"),
    Field("r_half", "kpc", 0.05, 1000.0, "3-D stellar half-mass radius", r"r_{1/2}", "log"),
    Field("spin", "kpc km / s", 0.05, 1e6, "specific angular momentum of the stars", r"j_\star", "log"),
    Field(
        "total_spin",
        "kpc km / s",
        0.05,
        1e6,
        "specific angular momentum as catalogued (TNG, CAMELS: all matter; EAGLE: stars + gas): not comparable",
        r"j_\mathrm{tot}",
        "log",
    ),
    Field("gas_mass", "Msun", 0.0, 1e16, "gas mass of the subhalo; 0 allowed", r"M_\mathrm{gas}", "log"),
    Field("dm_mass", "Msun", 0.0, 1e17, "dark-matter mass of the subhalo; 0 allowed", r"M_\mathrm{DM}", "log"),
    Field("bh_mass", "Msun", 0.0, 1e12, "black-hole mass of the subhalo; 0 allowed", r"M_\mathrm{BH}", "log"),
    Field("f_ex", "", 0.0, 1.0, "ex-situ (accreted) stellar mass fraction", r"f_\mathrm{ex}"),
    Field(
        "t_last_major",
        "Gyr",
        0.0,
        13.9,
        "lookback time of the last major merger (stellar mass ratio >= 1/4) from the galaxy's redshift",
        r"t_\mathrm{last\ major}",
        missing=_NEVER,
    ),
    Field(
        "mstar_last_major",
        "Msun",
        1e3,
        1e13,
        "stellar mass of the last major merger's secondary",
        r"M_{\star,\mathrm{last\ major}}",
        "log",
        missing=_NEVER,
    ),
    Field(
        "t_mean_merger",
        "Gyr",
        0.0,
        13.9,
        "mean lookback time of all mergers, weighted by the secondary's stellar mass",
        r"\langle t_\mathrm{merger}\rangle",
        missing="no merger in the tree",
    ),
    Field(
        "mu_mean_merger",
        "",
        0.0,
        1.0,
        "mean stellar mass ratio of all mergers, weighted by the secondary's stellar mass",
        r"\langle\mu_\mathrm{merger}\rangle",
        missing="no merger in the tree",
    ),
    Field("n_major", "", 0, 1000, "number of major mergers in the whole tree", r"N_\mathrm{major}", kind="int"),
    Field("sfr", "Msun / yr", 0.0, 1e4, "star-formation rate; 0 allowed", r"\mathrm{SFR}", "log", "not matched"),
    Field("vmax", "km / s", 1.0, 5000.0, "maximum circular velocity", r"V_\mathrm{max}", "log", "not matched"),
    Field("sigma", "km / s", 1.0, 3000.0, "velocity dispersion of all matter", r"\sigma", "log", "not matched"),
    Field("p_late", "", 0.0, 1.0, "probability of late-type morphology", r"P_\mathrm{late}", missing="not matched"),
    *_photometry(),
    *_colours(),
    *_images(),
    Field("central", "", 0, 1, "central galaxy of its halo", r"\mathrm{central}", kind="bool"),
    Field("snapshot", "", 0, 1000, "snapshot number of the simulation", r"\mathrm{snapshot}", kind="int"),
    Field("redshift", "", 0.0, 20.0, "redshift of the snapshot, or at which an image shows the galaxy", "z"),
    Field("view", "", 0, 10_000, "number of the line of sight, among those of the galaxy", "view", kind="int"),
    Field("n_views", "", 1, 200, "lines of sight drawn from f_ex: leaks the target", "N_\\mathrm{views}", kind="int"),
)

FIELDS: dict[str, Field] = {item.name: item for item in _ALL}
"""Every known quantity by name."""

MERGER_TARGETS = tuple(item.name for item in _ALL if item.missing == _NEVER)
"""Properties of the last major merger: undefined, NaN, for a galaxy that never had one."""

LEAKS = frozenset({"n_views", "f_ex", "t_last_major", "mstar_last_major", "t_mean_merger", "mu_mean_merger", "n_major"})
"""Fields that are, or were computed from, the truth: never an input of a network."""


def field(name: str) -> Field:
    """Look a field up by name.

    Parameters
    ----------
    name : str
        A key of `FIELDS`.

    Raises
    ------
    ConfigError
        If there is no such field; names the nearest ones.

    Examples
    --------
    >>> field("age").unit
    'Gyr'
    """
    if (number := _REPRESENTATION.fullmatch(name)) is not None:
        return _representation(int(number[1]))
    try:
        return FIELDS[name]
    except KeyError:
        from difflib import get_close_matches

        near = get_close_matches(name, FIELDS, n=3) or list(FIELDS)[:8]
        raise ConfigError(
            f"there is no field called {name!r}",
            expected="one of " + ", ".join(FIELDS),
            advice="did you mean " + " or ".join(near) + "?",
        ) from None


_REPRESENTATION = re.compile(r"rep_([0-9]{3})")


@cache
def _representation(number: int) -> Field:
    meaning = f"coordinate {number} of what a network learned to see in an image, without truth"
    return Field(f"rep_{number:03d}", "", -1e9, 1e9, meaning, rf"\mathrm{{rep}}_{{{number}}}")


def is_representation(name: str) -> bool:
    """Tell whether a field is a coordinate of a representation of images."""
    return _REPRESENTATION.fullmatch(name) is not None


def known_field(name: str) -> Field | None:
    """Return the field called ``name``, or None if there is none."""
    try:
        return field(name)
    except ConfigError:
        return None


def representation_features(width: int = 256) -> tuple[str, ...]:
    """Return the field names of a representation of an image: ``rep_000`` and so on.

    Parameters
    ----------
    width : int
        Numbers in a representation; 256 as in Eisert+2024.

    Raises
    ------
    ConfigError
        If there are fewer than 1 or more than 1000.

    Examples
    --------
    >>> representation_features(2)
    ('rep_000', 'rep_001')
    """
    if not 1 <= width <= 1000:
        raise ConfigError(f"a representation has {width} numbers", expected="1 to 1000")
    return tuple(f"rep_{number:03d}" for number in range(width))


def expanded_features(names: Iterable[str]) -> tuple[str, ...]:
    """Return feature names, with ``representation`` or ``representation:N`` written out as its coordinates.

    Examples
    --------
    >>> expanded_features(["mstar", "representation:2"])
    ('mstar', 'rep_000', 'rep_001')

    Raises
    ------
    ConfigError
        If N is no number of coordinates.
    """
    found: list[str] = []
    for name in names:
        word, _, width = name.partition(":")
        if word != "representation":
            found.append(name)
            continue
        if width and not width.isdecimal():
            raise ConfigError(f"{name!r} names no representation", expected="representation, or representation:N")
        found += representation_features(int(width or 256))
    return tuple(found)


def listed(names: Iterable[str]) -> str:
    """Return field names as text, those of a representation as one.

    Examples
    --------
    >>> listed(["mstar", "rep_000", "rep_001", "rep_002"])
    'mstar, rep_000 to rep_002'
    """
    chosen = list(names)
    ours = [name for name in chosen if is_representation(name)]
    if len(ours) > 1:
        place = chosen.index(ours[0])
        chosen = [name for name in chosen if name not in set(ours)]
        chosen.insert(place, f"{ours[0]} to {ours[-1]}")
    return ", ".join(chosen)


def with_ingredients(names: Iterable[str]) -> tuple[str, ...]:
    """Return field names followed by those of the fields that they are differences of.

    Raises
    ------
    ConfigError
        If a name is unknown.

    Examples
    --------
    >>> with_ingredients(["age", "colour_gr"])
    ('age', 'colour_gr', 'mag_g', 'mag_r')
    """
    chosen = list(names)
    parts = [part for name in chosen for part in field(name).difference or ()]
    return tuple(dict.fromkeys([*chosen, *parts]))


def check_features(names: Iterable[str]) -> tuple[str, ...]:
    """Return feature names as a tuple after refusing unknown fields and fields that leak the target.

    Raises
    ------
    ConfigError
        If a name is unknown, repeated, or leaks the truth.
    """
    chosen = tuple(names)
    if isinstance(names, str):
        raise ConfigError(f"features is the string {names!r}", expected="a list of field names", advice=f"[{names!r}]")
    for name in chosen:
        field(name)
        if name in LEAKS:
            raise ConfigError(f"feature {name!r} is computed from the truth", advice="remove it from the features")
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"a feature is listed twice: {', '.join(chosen)}")
    return chosen


def to_feature(name: str, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn a field into a network input: base-10 logarithm where the registry says so.

    Parameters
    ----------
    name : str
        Field name.
    values : array, any shape, in the field's unit
        NaN stays NaN; zero of a logarithmic field becomes NaN.

    Returns
    -------
    array of float64, same shape, in dex or in the field's unit

    Examples
    --------
    >>> float(to_feature("mstar", 1e10))
    10.0
    """
    values = np.asarray(values, dtype=np.float64)
    if field(name).scale == "linear":
        return np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log10(values), np.nan)


def from_feature(name: str, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Undo `to_feature`: values in dex, or in the field's unit where it is linear, back to the field's unit.

    Parameters
    ----------
    name : str
        Field name.
    values : array, any shape, in dex or in the field's unit
        NaN stays NaN.

    Returns
    -------
    array of float64, same shape, in the field's unit

    Examples
    --------
    >>> float(from_feature("mstar", 10.0))
    10000000000.0
    """
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values if field(name).scale == "linear" else 10.0**values, dtype=np.float64)


def feature_range(name: str) -> tuple[float, float]:
    """Return the possible range of a field as a network sees it: in dex, or in the field's unit where it is linear.

    Examples
    --------
    >>> feature_range("mstar")
    (6.0, 14.0)
    """
    item = field(name)
    low, high = to_feature(name, np.array([item.low, item.high]))
    return float(low), float(high)
