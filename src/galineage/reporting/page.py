"""Compose the page: every text escaped, headings in order, nothing loaded from elsewhere."""

from __future__ import annotations

import functools
import html
import re
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from galineage import __version__
from galineage.reporting.cells import DASH, column_texts, is_text, printable, unit_text
from galineage.reporting.citing import PAPERS, bibtex
from galineage.reporting.contents import Panel, statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from astropy.table import Table

    from galineage.reporting.contents import Grid, Section, Statement
    from galineage.reporting.drawing import Rendered

__all__ = ["DETAIL_ROWS", "GRID_ROWS", "page"]

DETAIL_ROWS = 60
"""Rows shown of the numbers behind a figure; the files hold all."""

GRID_ROWS = 200
"""Rows shown of a table that is part of the page; the files hold all."""

_HYPHENATED = re.compile(r"\b[A-Za-z]\w*-\w{1,3}\b")
_HEADER_LENGTH = 110
_SIDE_WIDTH = 692  # CSS pixels of the left column, as in page.css: the house figure of 7.2 inches
_TALL = 0.95  # height to width above which a figure gets more of a printed page


def page(
    title: str,
    lead: str,
    sections: Sequence[Section],
    images: Mapping[str, Rendered],
    facts: Mapping[str, str],
    warning: str = "",
) -> str:
    """Return the whole HTML page.

    Parameters
    ----------
    title, lead, warning : str
        Plain text; an empty line in lead or warning starts a new paragraph.
    sections : sequence of Section
        With names that are unique.
    images : mapping of str to Rendered
        One for every panel, by name.
    facts : mapping of str to str
        Shown in this order.
    """
    names = _numbered(sections)
    parts = {
        "version": __version__,
        "title": _text(title),
        "heading": _prose(title),
        "css": _resource("page.css"),
        "print_header": _print_header(warning),
        "warning": _warning(warning),
        "lead": _paragraphs(lead),
        "headline": _headline(sections, names),
        "contents": _contents(sections, names),
        "sections": "\n".join(
            _section(number, section, names, images) for number, section in enumerate(sections, start=1)
        ),
        "facts": _facts(facts),
        "cite": _cite(),
    }
    return Template(_resource("page.html")).substitute(parts)


@functools.cache
def _resource(name: str) -> str:
    return resources.files("galineage.reporting").joinpath(name).read_text(encoding="utf-8").strip()


def _text(text: object) -> str:
    return html.escape(printable(str(text)), quote=True)


def _prose(text: object) -> str:
    """Escape text and keep names such as TNG100-1 on one line."""
    return _HYPHENATED.sub(r'<span class="whole">\g<0></span>', _text(text))


def _paragraphs(text: str) -> str:
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return "\n".join(f"<p>{_prose(part)}</p>" for part in parts if part)


def _icon(name: str) -> str:
    return f'<svg class="icon" aria-hidden="true"><use href="#report.{name}"/></svg>'


def _numbered(sections: Iterable[Section]) -> dict[str, str]:
    """Name every item ``Figure 1``, ``Table 1`` and so on, each kind counted over the whole page."""
    names: dict[str, str] = {}
    counts = {"Figure": 0, "Table": 0}
    for section in sections:
        for item in section.items:
            kind = "Figure" if isinstance(item, Panel) else "Table"
            counts[kind] += 1
            names[item.name] = f"{kind} {counts[kind]}"
    return names


def _warning(text: str) -> str:
    if not text.strip():
        return ""
    return f'<div class="warning" role="note">{_icon("warn")}<div>{_paragraphs(text)}</div></div>'


def _print_header(warning: str) -> str:
    """Repeat the start of the warning at the top of every printed page."""
    words = " ".join(warning.split())
    if not words:
        return ""
    short = words if len(words) <= _HEADER_LENGTH else words[:_HEADER_LENGTH].rsplit(" ", 1)[0] + " …"
    # every character that could end the string, the rule or the style element is written as its number
    safe = "".join(c if c == " " or (c.isascii() and c.isalnum()) else f"\\{ord(c):06x} " for c in short)
    return f'@page {{ @top-left {{ content: "{safe}"; font: bold 8pt sans-serif; color: #8a5f00; width: 100%; }} }}'


def _headline(sections: Sequence[Section], names: Mapping[str, str]) -> str:
    found = list(statements(sections))
    if not found:
        return ""
    parts = [
        '<section class="headline" id="report.verdicts">',
        f"<h2>{_summary([bool(verdict.passed) for _, _, verdict in found])}</h2>",
    ]
    for passed, kind, heading in ((False, "fail", "Does not pass"), (True, "pass", "Passes")):
        chosen = [(panel, verdict) for _, panel, verdict in found if bool(verdict.passed) is passed]
        if chosen:
            where = list(dict.fromkeys(panel.name for panel, _ in chosen))
            links = ", ".join(f'<a href="#{name}">{names[name]}</a>' for name in where)
            parts += [
                f'<details><summary class="{kind}">{_icon(kind)}<strong>{heading} ({len(chosen)})</strong></summary>',
                "<ul>",
            ]
            parts += [
                f'<li class="{kind}"><span>{_prose(verdict.sentence)}</span>'
                f'<span><a href="#{panel.name}">{names[panel.name]}</a>: {_prose(panel.title)}</span></li>'
                for panel, verdict in chosen
            ]
            parts.append(f'</ul></details><p class="where">{links}</p>')
    return "\n".join([*parts, "</section>"])


def _summary(outcomes: Sequence[bool]) -> str:
    passing, total = sum(outcomes), len(outcomes)
    if total == 1:
        return "The one check passes" if passing else "The one check does not pass"
    if passing == total:
        return f"All {total} checks pass"
    if passing <= 1:
        return f"{'One' if passing else 'None'} of {total} checks passes"
    return f"{passing} of {total} checks pass"


def _contents(sections: Sequence[Section], names: Mapping[str, str]) -> str:
    parts = ['<nav aria-label="Contents">', "<h2>Contents</h2>", "<ul>"]
    for number, section in enumerate(sections, start=1):
        parts.append(f'<li><a href="#section.{number}">{_prose(section.title)}</a>')
        if section.items:
            parts.append("<ul>")
            for item in section.items:
                marks = "".join(_mark(verdict) for verdict in getattr(item, "verdicts", ()))
                link = f'<a href="#{item.name}">{_prose(item.title)}</a>'
                parts.append(f'<li><span class="number">{names[item.name]}</span> {link}{marks}</li>')
            parts.append("</ul>")
        parts.append("</li>")
    parts.append('<li><a href="#report.facts">What this report was made from</a></li>')
    parts.append('<li><a href="#report.cite">How to cite</a></li>')
    return "\n".join([*parts, "</ul>", "</nav>"])


def _mark(verdict: Statement) -> str:
    kind, word = ("pass", "passes") if verdict.passed else ("fail", "does not pass")
    return f' <span class="{kind}">{_icon(kind)}<span class="hidden">({word})</span></span>'


def _section(number: int, section: Section, names: Mapping[str, str], images: Mapping[str, Rendered]) -> str:
    parts = [f'<section id="section.{number}">', f"<h2>{_prose(section.title)}</h2>", _paragraphs(section.lead)]
    for item in section.items:
        if isinstance(item, Panel):
            parts.append(_panel(item, names[item.name], images[item.name]))
        else:
            parts.append(_grid(item, names[item.name]))
    return "\n".join([*parts, "</section>"])


def _panel(panel: Panel, number: str, image: Rendered) -> str:
    files = [("Figure", "figures", ("pdf", "png"))]
    if panel.table is not None:
        files.append(("Numbers", "tables", ("ecsv", "json")))
    layout = "wide" if panel.wide and image.width > _SIDE_WIDTH else "side"
    parts = [
        f'<figure class="{layout}" id="{panel.name}">',
        f'<h3><span class="number">{number}.</span> {_prose(panel.title)}</h3>',
        _picture(image, panel.caption),
        "<figcaption>",
        _paragraphs(panel.caption),
        _verdicts(panel.verdicts),
        _files(panel.name, files),
        "</figcaption>",
    ]
    if panel.table is not None:
        rows = len(panel.table)
        parts += [
            f"<details><summary>Numbers behind {number} ({rows:,} row{'' if rows == 1 else 's'})</summary>",
            _numbers(panel.table, panel.name, f"Numbers behind {number}", DETAIL_ROWS),
            _columns(panel.table),
            "</details>",
        ]
    return "\n".join([*parts, "</figure>"])


def _picture(image: Rendered, caption: str) -> str:
    shape = "picture tall" if image.height > _TALL * image.width else "picture"
    size = f'width="{image.width}" height="{image.height}"'
    return f'<div class="{shape}"><img src="{image.uri}" {size} alt="{_text(" ".join(caption.split()))}"></div>'


def _grid(grid: Grid, number: str) -> str:
    parts = [
        f'<figure class="grid" id="{grid.name}">',
        f'<h3><span class="number">{number}.</span> {_prose(grid.title)}</h3>',
        f"<figcaption>{_paragraphs(grid.caption)}</figcaption>",
        _numbers(grid.table if grid.shown is None else grid.shown, grid.name, number, GRID_ROWS),
        f"<details><summary>What the columns of {number} mean</summary>{_columns(grid.table)}</details>",
        _files(grid.name, [("Table", "tables", ("ecsv", "json"))]),
        "</figure>",
    ]
    return "\n".join(parts)


def _verdicts(verdicts: Sequence[Statement]) -> str:
    if not verdicts:
        return ""
    items = []
    for verdict in verdicts:
        kind, word = ("pass", "Passes.") if verdict.passed else ("fail", "Does not pass.")
        sentence = f"<span>{_prose(verdict.sentence)}</span>"
        items.append(f'<li class="{kind}">{_icon(kind)} <strong>{word}</strong> {sentence}</li>')
    return '<ul class="verdicts">' + "".join(items) + "</ul>"


def _files(name: str, files: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    parts = []
    for what, folder, suffixes in files:
        links = ", ".join(f'<a href="{folder}/{name}.{suffix}">{suffix.upper()}</a>' for suffix in suffixes)
        parts.append(f"{what}: {links}")
    return f'<p class="files">{" · ".join(parts)}</p>'


def _numbers(table: Table, name: str, label: str, limit: int) -> str:
    texts = [column_texts(table[column], limit) for column in table.colnames]
    words = [is_text(table[column]) for column in table.colnames]
    head = "".join(
        f'<th scope="col"{"" if word else " class=n"}>{_text(column)}{_unit(table[column].unit)}</th>'
        for column, word in zip(table.colnames, words, strict=True)
    )
    rows = [_row(cells, words) for cells in zip(*texts, strict=True)]
    parts = [
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(label)}">',
        f'<table class="numbers"><thead><tr>{head}</tr></thead>',
        "<tbody>",
        *rows,
        "</tbody></table></div>",
    ]
    notes = []
    if len(table) > limit:
        whole = f'<a href="tables/{name}.ecsv">tables/{name}.ecsv</a>'
        notes.append(f"The first {limit} of {len(table):,} rows; all are in {whole}.")
    if any(DASH in column for column in texts):
        notes.append(f"{DASH} means not determined.")
    if not all(words):
        notes.append("Rounded here; the files hold every digit.")
    return "\n".join([*parts, f'<p class="note">{" ".join(notes)}</p>' if notes else ""])


def _row(cells: Sequence[str], words: Sequence[bool]) -> str:
    """Write one row; a first cell of words names it."""
    out = []
    for position, (cell, word) in enumerate(zip(cells, words, strict=True)):
        if word and position == 0:
            out.append(f'<th scope="row">{_text(cell)}</th>')
        else:
            out.append(f'<td class="{"w" if word else "n"}">{_text(cell)}</td>')
    return f"<tr>{''.join(out)}</tr>"


def _unit(unit: object) -> str:
    return f'<span class="unit">{_text(unit_text(unit))}</span>' if unit else ""


def _columns(table: Table) -> str:
    parts = []
    for name in table.colnames:
        unit = f" [{unit_text(table[name].unit)}]" if table[name].unit else ""
        parts.append(
            f"<dt>{_text(name)}</dt><dd>{_text(table[name].info.description or 'not described')}{_text(unit)}</dd>"
        )
    return f"<dl>{''.join(parts)}</dl>"


def _facts(facts: Mapping[str, str]) -> str:
    everything = {**facts} if "galineage" in facts else {"galineage": f"version {__version__}", **facts}
    rows = [f'<tr><th scope="row">{_text(key)}</th><td>{_text(value)}</td></tr>' for key, value in everything.items()]
    return '<table class="facts"><tbody>\n' + "\n".join(rows) + "\n</tbody></table>"


def _cite() -> str:
    papers = "\n".join(
        f'<li>{_text(paper.short)}: {_text(paper.title)}, <a href="{paper.link}">arXiv:{paper.arxiv}</a></li>'
        for paper in PAPERS
    )
    return (
        f"<p>If these results are used in a publication, please cite galineage {_text(__version__)}, the papers whose "
        "method it follows, and the simulation or survey that the data come from, as its makers ask.</p>\n"
        f"<ul>\n{papers}\n</ul>\n"
        f"<details><summary>BibTeX</summary><pre>{_text(bibtex())}</pre></details>"
    )
