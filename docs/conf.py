"""Sphinx configuration. Build with `make docs`; warnings are errors."""

from __future__ import annotations

from importlib.metadata import version as installed_version

import galineage
from galineage.fields import FIELDS
from galineage.prediction import FLAGS

project = "galineage"
author = "The galineage developers"
copyright = "2026, The galineage developers"  # noqa: A001 - Sphinx's name
release = version = installed_version("galineage")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build", "jupyter_execute", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"galineage {release}"
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
# Notebooks are run by a test, not by the build: a page must not change with the machine that builds it.
nb_execution_mode = "off"

autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False


def _fields_table() -> str:
    """Return the field registry as a Markdown table, so that the page cannot differ from the code."""
    rows = ["| field | unit | range | meaning | network sees |", "| --- | --- | --- | --- | --- |"]
    for item in FIELDS.values():
        scale = "log10" if item.scale == "log" else "value"
        note = f"; NaN: {item.missing}" if item.missing else ""
        meaning = (item.meaning + note).replace("|", r"\|")
        rows.append(f"| `{item.name}` | {item.unit or '-'} | {item.low:g} to {item.high:g} | {meaning} | {scale} |")
    return "\n".join(rows)


def _flags_table() -> str:
    """Return the bits of the flag column as a Markdown table."""
    return "\n".join(["| bit | meaning |", "| --- | --- |", *(f"| {bit} | {text} |" for bit, text in FLAGS.items())])


myst_substitutions = {"fields_table": _fields_table(), "flags_table": _flags_table()}
# The public names are loaded when first used, so autosummary cannot find them by itself.
_public = [name for name in getattr(galineage, "__all__", ()) if callable(getattr(galineage, name))]
autosummary_context = {"public": {"galineage": _public}}
