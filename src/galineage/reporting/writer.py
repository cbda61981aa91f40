"""Write a report: figures and tables first, the page last, each file whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage import __version__
from galineage.atomic import write_json, write_text, writing
from galineage.errors import ConfigError
from galineage.progress import bar
from galineage.reporting.cells import printable, table_json
from galineage.reporting.contents import Panel, check_sections, statements
from galineage.reporting.drawing import close, render
from galineage.reporting.page import page
from galineage.tables import write_table

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from astropy.table import Table

    from galineage.reporting.contents import Grid, Section
    from galineage.reporting.drawing import Rendered

__all__ = ["write_report"]


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    facts: Mapping[str, str],
    warning: str = "",
    progress: bool = True,
) -> Path:
    """Write a report that can be read without network and without this package.

    The folder gets ``report.html`` (one page with its images inside), ``figures/NAME.pdf`` and ``.png`` of every
    panel, ``tables/NAME.ecsv`` and ``.json`` of every table, and ``numbers.json`` with verdicts and facts. Files of
    these names are replaced, others left alone. The same input gives the same bytes.

    Parameters
    ----------
    folder : path
        Made if needed.
    title, lead : str
        Heading and first paragraphs; plain text, an empty line starts a new paragraph.
    sections : sequence of Section
        Figures are closed when the function ends, also if it fails.
    facts : mapping of str to str
        What the report was made from: version, data files with checksums, hash of the settings, seeds. Shown at the
        end in this order, and written into every table.
    warning : str
        Shown in a banner at the top, and at the head of every printed page; for toy data, for example.
    progress : bool
        Show a bar on a terminal if it takes longer than two seconds.

    Returns
    -------
    Path
        Of ``report.html``.

    Raises
    ------
    ConfigError
        If the title is empty, there is no section, two items share a name, or a fact is no text.
    DataError
        If a figure cannot be drawn, or a table has columns or provenance that a file cannot hold.
    FileFormatError
        If a file cannot be written. The files written before it are whole; the old page, if any, is untouched.
    """
    out = Path(folder)
    chosen = tuple(sections)
    try:
        check_sections(chosen)
        _check_texts(title, facts)
        items = [item for section in chosen for item in section.items]
        images: dict[str, Rendered] = {}
        for item in bar(items, label="report", show=progress):
            if isinstance(item, Panel):
                images[item.name] = _write_figure(out, item)
            if item.table is not None:
                _write_numbers(out, item, item.table, facts)
        write_json(out / "numbers.json", _summary(title, chosen, facts, warning))
        write_text(out / "report.html", page(title, lead, chosen, images, facts, warning))
    finally:
        for section in chosen:
            for item in section.items:
                if isinstance(item, Panel):
                    close(item.figure)
    return out / "report.html"


def _check_texts(title: str, facts: Mapping[str, str]) -> None:
    if not title.strip():
        raise ConfigError("the report has no title", expected="a few words")
    for key, value in facts.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise ConfigError(f"the fact {key!r} is {value!r}", expected="text, such as '3' or 'sha256 0f3c...'")


def _write_figure(out: Path, panel: Panel) -> Rendered:
    image = render(panel.figure, panel.name)
    for suffix, content in (("pdf", image.pdf), ("png", image.png)):
        with writing(out / "figures" / f"{panel.name}.{suffix}") as temporary:
            temporary.write_bytes(content)
    return image


def _write_numbers(out: Path, item: Panel | Grid, table: Table, facts: Mapping[str, str]) -> None:
    about = {"galineage": __version__, "title": item.title, "caption": item.caption, **facts, **table.meta}
    meta = {key: _plain(value) for key, value in about.items()}
    write_table(table, out / "tables" / f"{item.name}.ecsv", meta=meta)
    write_json(out / "tables" / f"{item.name}.json", table_json(table, meta))


def _plain(value: Any) -> Any:
    """Turn a provenance entry into what every format keeps: numpy scalars to Python's, text to one printable line."""
    if isinstance(value, np.generic):
        value = value.item()
    return " ".join(printable(value).split()) if isinstance(value, str) else value


def _summary(title: str, sections: Sequence[Section], facts: Mapping[str, str], warning: str) -> dict[str, Any]:
    verdicts = [
        {
            "section": section.title,
            "figure": panel.name,
            "passed": bool(verdict.passed),
            "kind": str(getattr(verdict, "kind", "")),
            "sentence": verdict.sentence,
        }
        for section, panel, verdict in statements(sections)
    ]
    items = [item for section in sections for item in section.items]
    return {
        "galineage": __version__,
        "title": title,
        "warning": warning,
        "facts": dict(facts),
        "verdicts": verdicts,
        "passed": sum(verdict["passed"] for verdict in verdicts),
        "failed": sum(not verdict["passed"] for verdict in verdicts),
        "figures": [f"figures/{item.name}.pdf" for item in items if isinstance(item, Panel)],
        "tables": [f"tables/{item.name}.ecsv" for item in items if item.table is not None],
    }
