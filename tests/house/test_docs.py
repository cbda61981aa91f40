"""The pages are right: links lead somewhere, commands and options exist, examples run, the site builds clean."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    if not {"_build", "generated"} & set(path.parts)
)
NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.ipynb") if "_build" not in path.parts)
# kept out of the environment of examples: their working folder is a new one
QUIET = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


@functools.cache
def help_text(*command):
    code = "import sys; from galineage.cli import main; sys.exit(main())"
    run = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, f"galineage {' '.join(command)} --help: {run.stderr}"
    return run.stdout


def commands_in(text):
    """Yield (subcommand, options) of each `galineage ...` in code blocks and inline code."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("galineage ")]
    for line in lines + re.findall(r"`(galineage [a-z][^`\n]*)`", text):
        words = line.partition("#")[0].split()
        yield words[1], [word for word in words[2:] if word.startswith("--")]


@pytest.mark.parametrize("page", PAGES)
def test_make_commands_exist(page):
    targets = set(re.findall(r"^([a-z][\w-]*):", text_of("Makefile"), re.MULTILINE))
    used = set(re.findall(r"(?:^|`)make ([a-z][\w-]*)", text_of(page), re.MULTILINE))
    assert used - targets == set()


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page):
    missing = []
    for command, options in commands_in(text_of(page)):
        if command not in re.findall(r"[\w-]+", help_text()):
            missing.append(command)
            continue
        missing += [f"{command} {option}" for option in options if option not in help_text(command)]
    assert missing == []


def test_every_command_is_in_the_readme():
    named = {command for command, _ in commands_in(text_of("README.md"))}
    assert named >= {"demo", "toy", "run", "train", "predict", "evaluate", "report", "inspect"}


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", text_of(page))
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_python_example_runs(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    assert blocks
    script = tmp_path / "example.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebook_runs(notebook, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    # in a process of its own: the kernel's event loop leaves warnings that are not ours
    script = (
        "import sys, nbformat, nbclient\n"
        "book = nbformat.read(sys.argv[1], as_version=4)\n"
        "nbclient.NotebookClient(book, timeout=600, kernel_name='python3',"
        " resources={'metadata': {'path': sys.argv[2]}}).execute()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, ROOT / notebook, tmp_path],
        env=os.environ | QUIET | {"JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    outputs = [cell.get("outputs", []) for cell in nbformat.read(ROOT / notebook, as_version=4).cells]
    assert not any(outputs), "commit notebooks without outputs"


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path):
    for module in ("sphinx", "myst_nb", "numpydoc", "furo"):
        pytest.importorskip(module, reason="the docs extra is not installed; make test installs it")
    # generated pages lie beside the sources, so the build gets a copy of its own
    source = tmp_path / "tree" / "docs"
    ignore = ("_build", "generated", "jupyter_execute")
    _copy(DOCS, source, ignore)
    (source.parent / "CHANGELOG.md").write_text(text_of("CHANGELOG.md"), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", source, tmp_path / "html"]
    run = subprocess.run(command, env=os.environ | QUIET, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-4000:]
    assert (tmp_path / "html" / "index.html").exists()


def _copy(source, target, ignore):
    import shutil

    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*ignore))
