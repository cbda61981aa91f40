"""Rules of the source that ruff cannot say: safe reading, one way of writing, shapes and units, sizes, names."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "galineage"
FILES = sorted(PACKAGE.rglob("*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# import name -> name on the package index, where they differ
DISTRIBUTION = {"sklearn": "scikit-learn", "umap": "umap-learn", "PIL": "pillow"}
UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "torch.load", "torch.save", "yaml.load", "pd.read_pickle", "os.system"}
FILE_WRITERS = {
    *("write_text", "write_bytes", "savefig", "tofile", "dump", "save_file", "write_table", "writeto", "imsave"),
    *(
        "to_csv",
        "to_json",
        "to_hdf",
        "to_parquet",
        "savetxt",
        "savez",
        "savez_compressed",
        "copyfile",
        "copy2",
        "replace",
    ),
}
# calls of these names that write no file
NOT_FILES = re.compile(r"^(sys\.(stdout|stderr)|atomic|dataclasses)\b")
IN_MEMORY = re.compile(r"buffer|memory|BytesIO|StringIO")
# "file.py:function" that may write outside `atomic.writing`, with the reason
WRITES_ALLOWED = {
    "training/records.py:__init__": "a log that grows: TensorBoard reads it while it is written",
    **{f"tables.py:_write_{kind}": "given the temporary path" for kind in ("ecsv", "parquet", "fits", "votable")},
    "lock.py:_open_current": "the process id, in the lock that it holds",
}
# "file.py:function" whose docstring needs no shape or no unit, with the reason
DOCSTRING_ALLOWED = {
    "models/layers.py:MemberBatchNorm.forward": "hidden values of a network: no unit",
    "models/layers.py:MemberDropout.forward": "hidden values of a network: no unit",
    "models/base.py:DirectEstimator.load_tensors": "a state dict: weights have no unit",
}

ARRAY = re.compile(r"NDArray|\bArray\b|Tensor\b|ArrayLike|ndarray")
UNITLESS_ARRAY = re.compile(r"NDArray\[np\.(bool_?|int\d*|intp|integer|str_)\]|BoolTensor|LongTensor")
INHERITED = re.compile(r"[Ss]ee [`:]|[Aa]s in `")
SHAPE = re.compile(
    r"\(\)|\([\w.*]+(?: ?[-+*/] ?\w+)*,(?: ?[\w.*+-]+(?: ?[-+*/] ?\w+)*,?)*\)"  # (), (n,), (n, d), (..., k + 1)
    r"|\([nkdm]\)|\b[Ss]hapes?\b|\b[Ss]calars?\b|\blength\b|\([\w ,]+\) of "
)
UNITS = (
    *(r"units?\b", "unitless", "dimensionless", "dex", "Msun", "Gyr", "kpc", "km ?/ ?s", "mag", r"per ?cent\b"),
    *("fraction", "probabilit", "density", "densities", "nats?", r"bits?\b", "log-", "logit", "pure number"),
    *("standardi", "counts?", "numbers? of", "masks?", "bool", r"int(eger|64)?s?\b", "weights?"),
    *("features?", r"groups?\b", r"in \[0, 1\]", r"redshifts?"),
    *(r"(index|indices|ids?|identifiers?|ranks?|labels?|str)\b", "in ``", "in the field"),
)
UNIT = re.compile(r"%|\b(" + "|".join(UNITS) + ")", re.IGNORECASE)


def dotted(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts))


def where(path, node, name=""):
    return f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno} {name}".rstrip()


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(node, owner=""):
    """Yield (qualified name, definition) of functions and methods; not those defined inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            yield owner + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{owner}{child.name}.")
        elif isinstance(child, (ast.If, ast.Try)):
            yield from functions(child, owner)


# --- reading ------------------------------------------------------------------------------------------------------


def unsafe_places(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0]}
        else:
            names = set()
        for name in sorted(names & UNSAFE_MODULES):
            yield node, f"imports {name}"
        if isinstance(node, ast.Call):
            if dotted(node.func) in UNSAFE_CALLS:
                yield node, f"calls {dotted(node.func)}"
            for word in node.keywords:
                if word.arg == "allow_pickle" and not (
                    isinstance(word.value, ast.Constant) and word.value.value is False
                ):
                    yield node, "allow_pickle"
                if word.arg == "shell" and not (isinstance(word.value, ast.Constant) and word.value.value is False):
                    yield node, "shell=True"


def test_nothing_can_run_code_from_a_file():
    assert [where(path, node, what) for path in FILES for node, what in unsafe_places(parsed(path))] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval(x)",
        "torch.load(p)",
        "np.load(p, allow_pickle=True)",
        "exec(x)",
    ],
)
def test_the_reading_rule_sees(line):
    assert len(list(unsafe_places(ast.parse(line)))) == 1


def test_the_reading_rule_lets_pass():
    assert (
        list(unsafe_places(ast.parse("model.eval()\nmake().eval()\nnp.load(p, allow_pickle=False)\nload_file(p)\n")))
        == []
    )


# --- writing ------------------------------------------------------------------------------------------------------


def _mode(call):
    """Return the mode of an `open`-like call, or '' if it has none."""
    named = [word.value for word in call.keywords if word.arg == "mode"]
    given = named or [arg for arg in call.args if isinstance(arg, ast.Constant)][:1]
    texts = [arg.value for arg in given if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return texts[0] if texts else "r"


def _writes(call):
    name = dotted(call.func)
    last = name.rpartition(".")[2]
    if last in {"open", "File", "memmap", "NamedTemporaryFile", "ZipFile"}:
        return re.fullmatch(r"[rwaxbt+U-]+", _mode(call)) is not None and any(c in _mode(call) for c in "wax+")
    if not isinstance(call.func, ast.Attribute) or NOT_FILES.match(name):
        return False
    if last == "save":
        return name in {"np.save", "numpy.save"}
    if last == "write":  # a table's, not a stream's
        return bool(call.keywords) or len(call.args) > 1
    if last == "replace":  # Path.replace(target); str.replace has two arguments, dataclasses.replace keywords
        return len(call.args) == 1 and not call.keywords
    return last in FILE_WRITERS


def stray_writes(tree):
    """Yield calls that write a file whose path is not the temporary one of `atomic.writing`.

    The temporary path is the name bound by ``with writing(...) as NAME``, or a parameter called ``temporary``.
    """

    def walk(node, safe, function):
        if isinstance(node, FUNCTIONS):
            function = node.name
            safe = safe | {arg.arg for arg in node.args.args + node.args.kwonlyargs if arg.arg == "temporary"}
        if isinstance(node, ast.With):
            for item in node.items:
                call, name = item.context_expr, item.optional_vars
                if isinstance(call, ast.Call) and isinstance(name, ast.Name):
                    used = {part.id for part in ast.walk(call) if isinstance(part, ast.Name)}
                    # a stream or HDF5 file opened on the temporary path is safe too
                    if dotted(call.func).rpartition(".")[2] == "writing" or used & safe:
                        safe = safe | {name.id}
        if isinstance(node, ast.Call) and _writes(node):
            text = ast.unparse(node)
            used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            if not used & safe and not IN_MEMORY.search(text):
                yield node, function
        for child in ast.iter_child_nodes(node):
            yield from walk(child, safe, function)

    yield from walk(tree, frozenset(), "module")


def test_every_file_is_written_through_atomic():
    stray = [
        where(path, node, ast.unparse(node)[:80])
        for path in FILES
        if path.name != "atomic.py"
        for node, function in stray_writes(parsed(path))
        if f"{path.relative_to(PACKAGE).as_posix()}:{function}" not in WRITES_ALLOWED
    ]
    assert stray == []


@pytest.mark.parametrize(
    "line",
    [
        "open(p, 'w')",
        "open(p, mode='ab')",
        "path.open('w')",
        "path.write_text(t)",
        "figure.savefig(p)",
        "np.save(p, a)",
        "h5py.File(p, 'w')",
        "table.write(p, format='fits')",
        "json.dump(v, open_file)",
        "safetensors.torch.save_file(t, p)",
        "old.replace(new)",
    ],
)
def test_the_writing_rule_sees(line):
    assert len(list(stray_writes(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "with writing(p) as t:\n    figure.savefig(t)",
        "with writing(p) as t, h5py.File(t, 'w') as f:\n    f.write(1, 2)",
        "def put(table, temporary):\n    table.write(temporary, format='fits')",
        "figure.savefig(buffer, format='png')",
        "open(p)",
        "open(p, 'rb')",
        "text.replace('a', 'b')",
        "dataclasses.replace(config, seed=1)",
        "atomic.write_text(p, t)",
        "write_text(p, t)",
    ],
)
def test_the_writing_rule_lets_pass(code):
    assert list(stray_writes(ast.parse(code))) == []


# --- docstrings ---------------------------------------------------------------------------------------------------


def array_annotations(node):
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    annotations = [argument.annotation for argument in arguments] + [node.returns]
    texts = [ast.unparse(item) for item in annotations if item is not None]
    return [text for text in texts if ARRAY.search(text)]


def unclear_docstrings(tree):
    """Yield public functions of arrays whose docstring lacks a shape or a unit and names no docstring that has them."""
    for name, node in functions(tree):
        arrays = array_annotations(node)
        if any(part.startswith("_") for part in name.split(".")) or not arrays:
            continue
        text = ast.get_docstring(node) or ""
        needed = {"shape": SHAPE, "unit": UNIT}
        if all(UNITLESS_ARRAY.search(array) for array in arrays):
            del needed["unit"]
        missing = [what for what, pattern in needed.items() if not pattern.search(text)]
        if missing and not INHERITED.search(text):
            yield node, name, " and ".join(missing)


def test_docstrings_of_arrays_give_shape_and_unit():
    unclear = [
        where(path, node, f"{name}: says no {missing}")
        for path in FILES
        for node, name, missing in unclear_docstrings(parsed(path))
        if f"{path.relative_to(PACKAGE).as_posix()}:{name}" not in DOCSTRING_ALLOWED
    ]
    assert unclear == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Masses, shape (n,), in Msun.", []),
        ("Masses (n, d), in the field's unit.", []),
        ("A scalar probability.", []),
        ("Masses in Msun.", ["shape"]),
        ("Masses (n,).", ["unit"]),
        ("Masses (see below).", ["shape and unit"]),
        ("Masses; see `Field.mass`.", []),
    ],
)
def test_the_docstring_rule(text, missing):
    code = f'def mass(x: NDArray) -> Tensor:\n    """{text}"""'
    assert [what for _, _, what in unclear_docstrings(ast.parse(code))] == missing


# --- imports, sizes, names ----------------------------------------------------------------------------------------


def test_only_declared_packages_are_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [
        *project["optional-dependencies"]["train"],
        *(name for extra in ("cluster", "fast", "images", "viz") for name in project["optional-dependencies"][extra]),
    ]
    declared = {re.match(r"[\w.-]+", item)[0].lower() for item in wanted} | {"galineage"}
    foreign = []
    for path in FILES:
        for node in ast.walk(parsed(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
            foreign += [where(path, node, top) for top in tops if DISTRIBUTION.get(top, top).lower() not in declared]
    assert foreign == []


def test_functions_and_files_stay_small():
    lengths = {
        where(path, node, node.name): node.end_lineno - node.lineno + 1
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, FUNCTIONS)
    }
    assert {name: length for name, length in lengths.items() if length > 80} == {}
    assert np.quantile(list(lengths.values()), 0.9) <= 40
    lines = {path.name: path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {name: count for name, count in lines.items() if count > 600} == {}


def test_no_file_has_an_empty_name():
    empty = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert [path for path in FILES if empty & {*path.relative_to(PACKAGE).parts[:-1], path.stem}] == []


def test_no_path_of_one_machine():
    suffixes = {".py", ".md", ".toml", ".txt", ".cff", ".ipynb", ""}
    folders = [ROOT / name for name in ("src", "docs", "benchmarks", "tests", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix in suffixes]
    files += [path for path in ROOT.glob("*") if path.is_file() and path.suffix in suffixes]
    machine = re.compile(r"(?<![\w.:/])/(?:home|root|work|Users|mnt)/\w+")
    skipped = {"_build", "__pycache__", "generated", "jupyter_execute"}
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files
        if not skipped & set(path.parts)
        for match in [machine.search(path.read_text(encoding="utf-8", errors="replace"))]
        if match
    ]
    assert found == []
