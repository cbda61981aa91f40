"""What a report is made of: panels (figures), grids (tables) and sections, checked when they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from galineage.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from astropy.table import Table
    from matplotlib.figure import Figure

__all__ = ["Grid", "Panel", "Section", "Statement", "check_sections", "statements"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


class Statement(Protocol):
    """Anything with the sentence and the outcome of a test, such as a verdict of a diagnostic."""

    @property
    def sentence(self) -> str:
        """One or two plain sentences with the deciding numbers."""

    @property
    def passed(self) -> bool:
        """Whether the model can be relied on in this respect."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One figure of the report.

    Attributes
    ----------
    name : str
        Stem of the file names: letters, digits, ``_`` and ``-``; unique in the report.
    title : str
        Heading above the figure.
    caption : str
        Says what to see. Plain text; an empty line starts a new paragraph. Also the alternative text of the image.
    figure : matplotlib.figure.Figure
        Shown at its own size in inches (96 pixels each), shrunk where the page is narrower. Closed by `write_report`.
    verdicts : tuple of Statement
        Outcomes of the tests that this figure shows.
    table : astropy.table.Table, optional
        The numbers behind the figure, with units and descriptions; one-dimensional columns.
    wide : bool
        Use the whole width of the page (11.5 inches), with the caption below instead of beside. Figures of at most
        7.2 inches have room for the caption beside them in any case.

    Raises
    ------
    ConfigError
        If a text is empty, the name cannot be a file name, or a part has the wrong type.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    verdicts: tuple[Statement, ...] = ()
    table: Table | None = None
    wide: bool = False

    def __post_init__(self) -> None:
        _check_texts(self)
        if not callable(getattr(self.figure, "savefig", None)):
            raise _wrong_type(self.name, "figure", self.figure, "a matplotlib Figure")
        object.__setattr__(self, "verdicts", tuple(self.verdicts))
        for verdict in self.verdicts:
            if not (isinstance(getattr(verdict, "sentence", None), str) and hasattr(verdict, "passed")):
                raise _wrong_type(self.name, "verdict", verdict, "an object with `sentence` (text) and `passed`")
        if self.table is not None:
            _check_table(self.name, self.table)


@dataclass(frozen=True, eq=False)
class Grid:
    """A table shown on the page.

    Attributes
    ----------
    name, title, caption : str
        As in `Panel`.
    table : astropy.table.Table
        One-dimensional columns with units and descriptions. NaN and masked values are shown as a dash.
    shown : astropy.table.Table, optional
        A shorter form of ``table`` for the page, for example with values and errors as one text; the files hold
        ``table``.

    Raises
    ------
    ConfigError
        As for `Panel`.
    """

    name: str
    title: str
    caption: str
    table: Table
    shown: Table | None = None

    def __post_init__(self) -> None:
        _check_texts(self)
        _check_table(self.name, self.table)


@dataclass(frozen=True, eq=False)
class Section:
    """One section of the report.

    Attributes
    ----------
    title : str
        Heading.
    lead : str
        What the section asks and how. Plain text; may be empty; an empty line starts a new paragraph.
    items : tuple of Panel or Grid
        In the order of the page.

    Raises
    ------
    ConfigError
        If the title is empty or an item is neither a panel nor a grid.
    """

    title: str
    lead: str
    items: tuple[Panel | Grid, ...]

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise ConfigError("a section of the report has no title", expected="a few words")
        object.__setattr__(self, "items", tuple(self.items))
        for item in self.items:
            if not isinstance(item, Panel | Grid):
                raise _wrong_type(self.title, "item", item, "a Panel or a Grid")


def check_sections(sections: Sequence[Section]) -> None:
    """Check that there is a section and that no two items share a file name.

    Names that differ only in case count as the same: some file systems cannot tell them apart.

    Raises
    ------
    ConfigError
        If a name is used twice, or there is no section.
    """
    if not sections:
        raise ConfigError("the report has no section", expected="at least one Section")
    seen: dict[str, str] = {}
    for section in sections:
        for item in section.items:
            if item.name.lower() in seen:
                raise ConfigError(
                    f"two items of the report are called {item.name!r}",
                    where=f"sections {seen[item.name.lower()]!r} and {section.title!r}",
                    expected="a name of its own for every figure and table, as it names the files",
                )
            seen[item.name.lower()] = section.title


def statements(sections: Iterable[Section]) -> Iterator[tuple[Section, Panel, Statement]]:
    """Yield every verdict with its panel and section, in the order of the page."""
    for section in sections:
        for item in section.items:
            if isinstance(item, Panel):
                for verdict in item.verdicts:
                    yield section, item, verdict


def _check_texts(item: Panel | Grid) -> None:
    if not _NAME.fullmatch(item.name):
        raise ConfigError(
            f"{item.name!r} cannot name a file of the report",
            expected="1 to 80 letters, digits, _ and -, starting with a letter or digit",
            advice="for example fig05_tng_to_tng",
        )
    for what, text in (("title", item.title), ("caption", item.caption)):
        if not text.strip():
            raise ConfigError(f"the {what} is empty", where=f"item {item.name!r} of the report", expected="plain text")


def _check_table(name: str, table: Any) -> None:
    if not getattr(table, "colnames", None):
        raise _wrong_type(name, "table", table, "an astropy Table with at least one column")


def _wrong_type(where: str, what: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(
        f"the {what} is a {type(value).__name__}", where=f"item {where!r} of the report", expected=expected
    )
