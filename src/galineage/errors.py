"""The one family of exceptions: each says what is wrong, where, what was expected, and what to do next."""

from __future__ import annotations

__all__ = [
    "BundleError",
    "ConfigError",
    "DataError",
    "FileFormatError",
    "GalineageError",
    "MissingDependencyError",
    "TrainingError",
]


class GalineageError(Exception):
    """Base of every error that galineage raises on purpose.

    Parameters
    ----------
    what : str
        The problem in one sentence, with the offending value.
    where : str, optional
        File, row, galaxy id, column or setting.
    expected : str, optional
        What would have been accepted.
    advice : str, optional
        The next step for the user: a command, an option, a page.

    Examples
    --------
    >>> print(DataError("age is -3 Gyr", where="t.csv, row 7", expected="0 to 14 Gyr", advice="check the unit"))
    age is -3 Gyr
      where:    t.csv, row 7
      expected: 0 to 14 Gyr
      next:     check the unit
    """

    def __init__(
        self, what: str, *, where: str | None = None, expected: str | None = None, advice: str | None = None
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.advice = advice
        parts = [what]
        for label, text in (("where", where), ("expected", expected), ("next", advice)):
            if text:
                parts.append(f"  {label + ':':9} {text}")
        super().__init__("\n".join(parts))


class DataError(GalineageError, ValueError):
    """A value, row or column of the user's data cannot be used."""


class FileFormatError(GalineageError, OSError):
    """A file cannot be opened, is truncated or corrupt, or has an unknown layout."""


class ConfigError(GalineageError, ValueError):
    """A setting, study file or mapping is wrong."""


class BundleError(GalineageError, ValueError):
    """A saved model cannot be read, or does not fit the data given to it."""


class TrainingError(GalineageError, RuntimeError):
    """Training cannot go on (loss not finite, no data, checkpoint of another run)."""


class MissingDependencyError(GalineageError, ImportError):
    """An optional package is needed and not installed."""
