"""What numbers mean, in one sentence, and how numbers with errors are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

from galineage.errors import DataError

__all__ = ["SMALL_BIAS", "Verdict", "counted", "percent", "plus_minus"]

SMALL_BIAS = 0.15
"""A median error of the posterior median up to this part of the scatter is called small; a calibrated one has zero."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one diagnostic.

    Attributes
    ----------
    sentence : str
        One or two plain sentences with the deciding numbers and their errors.
    passed : bool
        Whether the model can be relied on in this respect. False too if there is too little data to tell.
    kind : str
        Short machine-readable outcome such as ``calibrated``, ``too narrow``, ``biased high``; empty where the
        diagnostic has no kinds.
    """

    sentence: str
    passed: bool
    kind: str = ""

    def __post_init__(self) -> None:
        if not self.sentence.strip():
            raise DataError("a verdict has no sentence", expected="one plain sentence with numbers")

    def __str__(self) -> str:
        return self.sentence


def counted(rows: int, galaxies: int) -> str:
    """Write how many galaxies there are, and how many views of them if each may have several.

    Examples
    --------
    >>> counted(120, 60)
    '120 views of 60 galaxies'
    >>> counted(60, 60)
    '60 galaxies'
    """
    return f"{rows} galaxies" if rows == galaxies else f"{rows} views of {galaxies} galaxies"


def plus_minus(value: float, error: float, unit: str = "", *, sign: bool = False) -> str:
    """Write a number with its error, rounded so that the error keeps two digits at most.

    Parameters
    ----------
    value, error : float
        In ``unit``. A NaN value is written ``unknown``; a NaN or zero error is left out.
    unit : str
        Written after the numbers.
    sign : bool
        Write ``+`` before positive values.

    Examples
    --------
    >>> plus_minus(0.01234, 0.0021)
    '0.0123 ± 0.0021'
    >>> plus_minus(61.23, 0.64, "%", sign=True)
    '+61.2 ± 0.6 %'
    """
    if not math.isfinite(value):
        return "unknown"
    flag = "+" if sign else ""
    tail = f" {unit}" if unit else ""
    if not math.isfinite(error) or error <= 0:
        return f"{value:{flag}.3g}{tail}"
    leading = math.floor(math.log10(error))
    # two digits of an error of 0.0021, one of 0.64: a second digit says something only if the first is small
    digits = max(0, -leading + (1 if error / 10**leading < 3 else 0))
    return f"{value:{flag}.{digits}f} ± {error:.{digits}f}{tail}"


def percent(value: float, error: float, *, sign: bool = False) -> str:
    """Write a fraction with its error in per cent.

    Examples
    --------
    >>> percent(0.612, 0.006)
    '61.2 ± 0.6 %'
    """
    return plus_minus(100 * value, 100 * error, "%", sign=sign)
