"""Studies of several ways to cross: every adaptation runs, none sees the truth of the tested domain, all are drawn."""
# ruff: noqa: E501 - the items of a study are one line each

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from galineage.errors import ConfigError
from galineage.galaxy import Catalogue
from galineage.study import load_study, run_study
from galineage.study.adapting import TRAINED, _inputs, joined_sources, training_options
from galineage.study.jobs import plan
from galineage.study.results import Results
from galineage.study.spec import ModelSpec
from galineage.toy import make_toy

TINY = "members = 2, options = { hidden = [8] }"
STUDY = f"""
name = "crossing"
title = "Crossing"
lead = "For tests."
target = "f_ex"
seed = 4

[domains.toy-a]
toy = 200

[domains.toy-b]
toy = 160

[[experiments]]
name = "c"
title = "ways"
domains = ["toy-a", "toy-b"]
features = ["mstar", "age", "r_half"]
models = [
  {{ preset = "mdn", {TINY}, variants = ["matching", "raw and matching"] }},
  {{ preset = "pool", name = "half", {TINY[:-2]}, keep = ["mstar", "age"] }}, features = ["mstar", "age", "r_half"] }},
  {{ preset = "mdn", name = "weights", {TINY}, adaptation = "weights" }},
  {{ preset = "mdn", name = "coral", {TINY}, adaptation = "coral" }},
  {{ preset = "mdn", name = "dann", {TINY}, adaptation = "dann" }},
  {{ preset = "mdn", name = "others", {TINY}, adaptation = "sources" }},
]
folds = 2
epochs = 3

[[sections]]
title = "All"
items = [
  {{ kind = "ladder", name = "l", title = "L", caption = "c", experiment = "c", pairs_shown = [["toy-a", "toy-b"], ["toy-a", "toy-a"]], goals = {{ "toy-a to toy-b" = {{ rmse = 0.1, bias = 0.01 }} }} }},
  {{ kind = "error-bars", name = "e", title = "E", caption = "c", experiment = "c", model = "mdn", pairs_shown = [["toy-a", "toy-b"]] }},
  {{ kind = "accuracy", name = "a", title = "A", caption = "c", experiment = "c", pairs = "all" }},
  {{ kind = "coverage", name = "v", title = "V", caption = "c", experiment = "c", model = "mdn + matching", pairs = "across" }},
]
"""


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "crossing.toml"
    path.write_text(STUDY)
    return load_study(path)


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    before = torch.get_num_threads()
    out = tmp_path_factory.mktemp("out")
    with ThreadPoolExecutor(1) as pool:
        page = run_study(study, out, out, executor=pool, say=lambda _: None)
    torch.set_num_threads(before)
    return out, page


def test_every_way_is_drawn_and_tabulated(finished, study):
    out, page = finished
    assert {path.stem for path in (out / "figures").glob("*.png")} >= {"l_1", "l_2", "e_1"}
    text = page.read_text()
    for label in ("mdn + matching", "mdn + raw and matching", "weights", "coral", "dann", "others"):
        assert label in text
    results = Results(study, out, out)
    tests = {(item.model, item.train, item.test) for item in results.scores("c")}
    assert ("others", "all but toy-b", "toy-b") in tests
    assert ("mdn + matching", "toy-a", "toy-b") in tests
    assert ("mdn + matching", "toy-a", "toy-a") not in tests  # there is nothing to match at home
    assert ("weights", "toy-a", "toy-a") in tests  # what it costs at home, on one fold
    for item in results.scores("c"):
        assert len(item) == {"toy-a": 200, "toy-b": 160}[item.test] or item.train == item.test


def test_jobs_of_adapted_trainings_have_one_target_domain(study):
    parts = {(job.model, job.train, job.part) for job in plan(study)}
    assert ("dann", "toy-a", "to-toy-b") in parts
    assert ("dann", "toy-a", "fold-0") in parts
    assert ("dann", "toy-a", "fold-1") not in parts
    assert ("others", "all but toy-a", "to-toy-a") in parts


class _Sealed(Catalogue):
    """A catalogue that notices when somebody looks at the truth."""

    def __getitem__(self, name):
        if name == "f_ex":
            raise AssertionError("the truth of the tested domain was looked at")
        return super().__getitem__(name)


@pytest.mark.parametrize("adaptation", [name for name in TRAINED if name not in ("sources", "together")])
def test_the_truth_of_the_tested_domain_is_never_looked_at(adaptation):
    here, there = make_toy("toy-a", 120, 1), make_toy("toy-b", 90, 2)
    sealed = _Sealed(**{name: getattr(there, name) for name in ("columns", "ids", "domain", "root")})
    features = ("mstar", "age")
    given = training_options(ModelSpec("mdn", adaptation=adaptation), here, [sealed], features, 0)
    if adaptation != "weights":
        assert set(given["unlabelled"].columns) == set(features)
    joined_sources([here], sealed, features, "f_ex")
    assert set(_inputs(sealed, features).columns) == set(features)


def test_sources_are_put_in_the_ranks_of_the_tested_domain():
    parts = [make_toy("toy-a", 300, 1), make_toy("toy-b", 100, 2)]
    test = make_toy("toy-b", 400, 3)
    joined, weights = joined_sources(parts, test, ("mstar", "age"), "f_ex")
    assert len(joined) == len(weights) == 400
    assert weights[:300].sum() == pytest.approx(300**0.5)
    assert weights[300:].sum() == pytest.approx(100**0.5)
    for rows in (slice(None, 300), slice(300, None)):
        assert np.median(joined["age"][rows]) == pytest.approx(np.median(test["age"]), rel=0.03)
    np.testing.assert_array_equal(joined["f_ex"][:300], parts[0]["f_ex"])


@pytest.mark.parametrize(
    ("change", "words"),
    [({"adaptation": "magic"}, "unknown adaptation 'magic'"), ({"variants": ["magic"]}, "unknown adaptation 'magic'")],
)
def test_unknown_ways_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        ModelSpec("mdn", **change)


def test_equal_names_and_unknown_domains_are_refused(study):
    experiment = study.experiments[0]
    with pytest.raises(ConfigError, match="lists a model twice"):
        replace(experiment, models=(experiment.models[0],) * 2)
    with pytest.raises(ConfigError, match="does not have"):
        replace(experiment, tests=("elsewhere",))
    with pytest.raises(ConfigError, match="all but one domain"):
        replace(experiment, folds=0)
