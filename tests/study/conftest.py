"""A study small enough for tests: two toy suites, tiny networks, two folds."""
# ruff: noqa: E501 - the items of a study are one line each

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from galineage.study import load_study
from galineage.study.universe import Box, make_universe
from galineage.tables import write_catalogue
from galineage.toy import make_toy

STUDY = """
name = "tiny"
title = "Tiny study"
lead = "For tests."
target = "f_ex"
seed = 5
warning = "toy"

[domains.toy-a]
file = "toy-a.parquet"
mapping = "galineage"
maps = "maps"
rows = "all"

[domains.toy-b]
file = "toy-b.parquet"
mapping = "galineage"
maps = "maps"
rows = "all"

[[experiments]]
name = "e"
title = "two inputs"
domains = ["toy-a", "toy-b"]
features = ["mstar", "age"]
models = [{ preset = "mdn", members = 2, options = { hidden = [8] } }, { preset = "spline" }]
folds = 2
epochs = 12

[[experiments]]
name = "h"
title = "hold-out"
domains = ["toy-a", "toy-b"]
features = ["mstar", "age"]
models = [{ preset = "spline" }]
folds = 0
split = "row"

[[sections]]
title = "All"
lead = "Every kind of figure."
items = [
  { kind = "answers", name = "o", title = "O", caption = "c", experiment = "e" },
  { kind = "prediction", name = "p", title = "P", caption = "c", experiment = "e", model = "mdn", pairs = "within" },
  { kind = "accuracy", name = "a", title = "A", caption = "c", experiment = "e", pairs = "all" },
  { kind = "transfer", name = "t", title = "T", caption = "c", experiment = "e", model = "mdn", pairs = "all" },
]

[[sections]]
title = "A second one, before the first in the alphabet"
items = [
  { kind = "shift", name = "s", title = "S", caption = "c", experiment = "e", model = "mdn", train = "toy-a" },
  { kind = "boxes", name = "b", title = "B", caption = "c", experiment = "e", models = ["mdn", "spline"], pairs = "all" },
  { kind = "relation", name = "r", title = "R", caption = "c", experiment = "e", model = "mdn", pairs = "all" },
  { kind = "error-mass", name = "m", title = "M", caption = "c", experiment = "e", models = ["mdn", "spline"], pairs = "all" },
  { kind = "coverage", name = "c", title = "C", caption = "c", experiment = "e", model = "mdn" },
  { kind = "balance", name = "n", title = "N", caption = "c", domains = ["toy-a", "toy-b"], rows = "all" },
  { kind = "example-maps", name = "x", title = "X", caption = "c", domains = ["toy-a", "toy-b"], f_ex = [0.2, 0.5] },
  { kind = "pixel-sums", name = "u", title = "U", caption = "c", domains = ["toy-a", "toy-b"] },
  { kind = "gradients", name = "g", title = "G", caption = "c", domains = ["toy-a", "toy-b"], bins = 3 },
  { kind = "corner", name = "k", title = "K", caption = "c", domains = ["toy-a", "toy-b"], features = ["mstar", "age"] },
  { kind = "diagnostics", name = "d", title = "", caption = "", diagnostics = ["pit"], experiment = "e", model = "mdn", pairs = "within" },
  { kind = "published", name = "q", title = "Q", caption = "c", columns = [{ title = "ours", experiment = "e", model = "mdn", meaning = "ours" }], published = [{ train = "toy-a", test = "toy-b", reading = "about 0.1" }] },
]
"""


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """Folder with two toy tables, 300 of 302 galaxies whole, and maps of other galaxies of the same suites."""
    folder = tmp_path_factory.mktemp("tables")
    made = (Box("toy-a", "tng", 12, 200, 1), Box("toy-b", "eagle", 12, 200, 2))
    make_universe(made, folder, pixels=16, say=lambda _: None)
    for seed, name in enumerate(("toy-a", "toy-b")):
        known = make_toy(name, 302, seed)
        columns = {key: values.astype(float) for key, values in known.columns.items()}
        # of these a galaxy lacks what nothing needs, an input, and the target
        for row, key in enumerate(("metallicity", "age", "f_ex")):
            columns[key][row] = np.nan
        write_catalogue(replace(known, columns=columns), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def study_file(tmp_path_factory):
    """TOML file of the tiny study."""
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="session")
def study(study_file):
    """The tiny study."""
    return load_study(study_file)


@pytest.fixture(scope="session")
def finished(study, tables, tmp_path_factory):
    """The tiny study, run in this process; and what it said."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from galineage.study import run_study

    out = tmp_path_factory.mktemp("run")
    said = []
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as pool:
            page = run_study(study, tables, out, executor=pool, say=said.append)
    finally:
        torch.set_num_threads(threads)
    return out, page, said
