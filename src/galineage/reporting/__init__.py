"""Reports: figures, numbers and verdicts on one self-contained page, with every number beside it as a table."""

from galineage.reporting.contents import Grid, Panel, Section, Statement
from galineage.reporting.writer import write_report

__all__ = ["Grid", "Panel", "Section", "Statement", "write_report"]
