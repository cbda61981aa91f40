"""The house stands: quick start, one version everywhere, a complete wheel, README commands that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest

import galineage

ROOT = Path(__file__).parents[2]
# each takes a noticeable part of the second that the help text may take
HEAVY = ("torch", "sklearn", "matplotlib", "astropy", "scipy", "pandas", "pyarrow", "zuko")
SHOW_HELP = """
import json, sys
import galineage, galineage.cli
sys.argv = ["galineage", "--help"]
try:
    code = galineage.cli.main()
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code or 0, "modules": sorted(sys.modules)}))
"""


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def make_targets():
    return set(re.findall(r"^([a-z][\w-]*):", read("Makefile"), re.MULTILINE))


def test_help_loads_no_heavy_library():
    run = subprocess.run([sys.executable, "-c", SHOW_HELP], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    text, _, last = run.stdout.rstrip().rpartition("\n")
    answer = json.loads(last)
    assert answer["code"] == 0
    assert "galineage" in text
    assert [name for name in HEAVY if name in answer["modules"]] == []


def test_no_room_hides_a_public_name():
    # importing galineage.x sets the attribute x of galineage, whatever the lazy loader would have returned
    code = (
        "import importlib, inspect, pkgutil, galineage\n"
        "rooms = [room.name for room in pkgutil.iter_modules(galineage.__path__)]\n"
        "for room in rooms: importlib.import_module('galineage.' + room)\n"
        "print([name for name in galineage.__all__ if inspect.ismodule(getattr(galineage, name))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_pages_name_the_rooms_in_the_order_of_the_import_rule():
    (contract,) = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    rooms = [room for layer in contract["layers"] for room in re.findall(r"galineage\.(\w+)", layer)]
    drawing = re.search(r"^```text\n(.*?)^```", read("docs/architecture.md"), re.MULTILINE | re.DOTALL)[1]
    drawn = [room for line in drawing.splitlines() for room in re.split(r"\s{2,}", line)[0].split(" | ")]
    listed = re.search(r"`cli`.*?`errors`", read("CONTRIBUTING.md"), re.DOTALL)[0]
    assert drawn == rooms
    assert re.findall(r"`(\w+)`", listed) == rooms


def test_one_version_everywhere():
    project = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    found = {
        "__init__.py": galineage.__version__,
        "installed package": installed_version("galineage"),
        "CITATION.cff": re.search(r'^version: "(.+)"$', read("CITATION.cff"), re.MULTILINE)[1],
        "CHANGELOG.md, newest entry": re.search(r"^## \[(\d[^\]]*)\]", read("CHANGELOG.md"), re.MULTILINE)[1],
    }
    assert {where: value for where, value in found.items() if value != project} == {}


def test_python_versions_agree():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    listed = {item.rsplit(" ", 1)[1] for item in project["classifiers"] if "Python :: 3." in item}
    assert project["requires-python"] == ">=3.11,<3.14"
    assert listed == {"3.11", "3.12", "3.13"}
    assert "(3, 11) <= sys.version_info[:2] < (3, 14)" in read("Makefile")


def test_constraints_pin_every_dependency_exactly():
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.match(r"[\w.-]+", item)[0].lower() for item in wanted}
    assert names - pinned - {"galineage"} == set()


def test_readme_names_both_commands():
    text = read("README.md")
    assert "make demo" in text
    assert "make test" in text
    assert {"demo", "test"} <= make_targets()


def test_ci_runs_the_readme_commands_in_new_environments():
    script = read(".ci/run")
    assert "set -euo pipefail" in script
    assert 'make test VENV_TEST="$work/' in script
    assert 'make demo VENV_DEMO="$work/' in script
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0


@pytest.mark.slow
def test_wheel_holds_the_data_files(tmp_path):
    pytest.importorskip("hatchling", reason="the build back end is not installed; make test installs it")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "galineage"
    files = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - inside == set()
    assert "galineage/py.typed" in inside
    for folder in ("mappings", "studies"):
        assert [name for name in inside if f"/{folder}/" in name and name.endswith(".toml")], f"no {folder}/*.toml"
    assert [name for name in inside if name.endswith("/licenses/LICENSE")]
