"""Turn a matplotlib figure into bytes: the same figure gives the same bytes, with no date and no program name."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl

from galineage.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

__all__ = ["CSS_DPI", "EMBEDDED_DPI", "FILE_DPI", "Rendered", "close", "render"]

CSS_DPI = 96
"""Pixels per inch of a web page by definition: a figure is shown at its own size in inches."""

EMBEDDED_DPI = 2 * CSS_DPI
"""Resolution of images on the page: sharp on screens with two pixels per CSS pixel, and in print."""

FILE_DPI = 300
"""Resolution of the PNG beside the page, for slides: 2,160 pixels for a figure of 7.2 inches."""

# fixed ids and text as outlines: the drawing looks the same on machines without the fonts
_SETTINGS = {"svg.hashsalt": "galineage", "svg.fonttype": "path", "pdf.fonttype": 42}


@dataclass(frozen=True)
class Rendered:
    """One figure as bytes.

    Attributes
    ----------
    pdf, png : bytes
        The files beside the page; PNG at `FILE_DPI`.
    uri : str
        The image for the page as a ``data:`` address: SVG where it is smaller than the PNG at `EMBEDDED_DPI`.
    width, height : int
        Size on the page in CSS pixels.
    """

    pdf: bytes
    png: bytes
    uri: str
    width: int
    height: int


def render(figure: Figure, name: str) -> Rendered:
    """Draw a figure in every form that the report needs.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Left open and unchanged.
    name : str
        Its name, for the error.

    Raises
    ------
    DataError
        If matplotlib cannot draw the figure (broken mathtext, for example).
    """
    width, height = (round(CSS_DPI * float(inches)) for inches in figure.get_size_inches())
    # rc_context is typed with a literal union of every setting's name
    with mpl.rc_context(cast("Any", _SETTINGS)):
        try:
            small = _saved(figure, "png", {"Software": None}, dpi=EMBEDDED_DPI)
            pdf = _saved(figure, "pdf", {"CreationDate": None})
            # a drawing of so many artists that not even its compressed PDF is small is no candidate for the page
            svg = _saved(figure, "svg", {"Date": None, "Creator": None}) if len(pdf) <= len(small) else None
            png = _saved(figure, "png", {"Software": None}, dpi=FILE_DPI)
        except Exception as error:  # artists may fail with any type
            raise DataError(
                f"the figure cannot be drawn: {error}",
                where=f"figure {name!r} of the report",
                advice="draw it alone with figure.savefig to see where it fails",
            ) from error
    kind, content = ("svg+xml", svg) if svg and len(svg) <= len(small) else ("png", small)
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Rendered(pdf, png, uri, width, height)


def close(figure: Figure) -> None:
    """Let pyplot forget a figure; a figure that pyplot does not know is left alone."""
    import matplotlib.pyplot as plt

    plt.close(figure)


def _saved(figure: Figure, form: str, metadata: Mapping[str, None], dpi: int = CSS_DPI) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=dpi, metadata=dict(metadata))
    return buffer.getvalue()
