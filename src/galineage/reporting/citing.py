"""How to cite: the software and the papers whose method it follows. The same entries as CITATION.cff."""

from __future__ import annotations

from dataclasses import dataclass

from galineage import __version__

__all__ = ["PAPERS", "Paper", "bibtex"]


@dataclass(frozen=True)
class Paper:
    """One paper: BibTeX key, authors as ``Family, Given``, year, title, arXiv number."""

    key: str
    authors: tuple[str, ...]
    year: int
    title: str
    arxiv: str

    @property
    def short(self) -> str:
        """First author and year, as in running text."""
        return f"{self.authors[0].partition(',')[0]} et al. ({self.year})"

    @property
    def link(self) -> str:
        """Address of the preprint."""
        return f"https://arxiv.org/abs/{self.arxiv}"


PAPERS = (
    Paper(
        "Angeloudi2023",
        (
            "Angeloudi, Eirini",
            "Falcón-Barroso, Jesús",
            "Huertas-Company, Marc",
            "Sarmiento, Regina",
            "Pillepich, Annalisa",
            "Walo-Martín, Daniel",
            "Eisert, Lukas",
        ),
        2023,
        "ERGO-ML: Towards a robust machine learning model for inferring the fraction of accreted stars in galaxies "
        "from integral-field spectroscopic maps",
        "2306.01056",
    ),
    Paper(
        "Eisert2026",
        (
            "Eisert, Lukas",
            "Bottrell, Connor",
            "Pillepich, Annalisa",
            "Nelson, Dylan",
            "Shimakawa, Rhythm",
            "Huertas-Company, Marc",
            "Klessen, Ralf S.",
        ),
        2026,
        "ERGO-ML: The assembly histories of HSC galaxy images via invertible neural networks, contrastive learning, "
        "and cosmological simulations",
        "2601.19148",
    ),
)
"""The papers whose method this package follows."""


def bibtex() -> str:
    """Return BibTeX entries of the software, in this version, and of `PAPERS`."""
    title = "galineage: how a galaxy was assembled, inferred from what can be observed"
    software = (
        "@software{galineage,\n"
        "  author  = {{The galineage developers}},\n"
        f"  title   = {{{{{title}}}}},\n"
        f"  version = {{{__version__}}}\n"
        "}"
    )
    papers = [
        f"@article{{{paper.key},\n"
        f"  author = {{{' and '.join(paper.authors)}}},\n"
        f"  title  = {{{{{paper.title}}}}},\n"
        f"  year   = {{{paper.year}}},\n"
        f"  eprint = {{{paper.arxiv}}},\n"
        "  archivePrefix = {arXiv}\n"
        "}"
        for paper in PAPERS
    ]
    return "\n\n".join([software, *papers])
