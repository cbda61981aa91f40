"""Studies of several targets: the toy makes its own table, every joint figure is drawn, galaxies are the same."""
# ruff: noqa: E501 - the items of a study are one line each

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from galineage import load, predict
from galineage.errors import ConfigError
from galineage.study import load_study, run_study
from galineage.study.jobs import Job, is_done, plan, read_complete, read_domain, run_job
from galineage.study.pages import KINDS
from galineage.study.results import Results
from galineage.tables import read_table
from galineage.toy import make_toy

STUDY = """
name = "joint"
title = "Joint"
lead = "For tests."
target = "f_ex"
seed = 4

[domains.toy-a]
toy = 260

[domains.toy-b]
toy = 200

[[experiments]]
name = "j"
title = "joint"
domains = ["toy-a", "toy-b"]
features = ["mstar", "age"]
targets = ["f_ex", "t_last_major"]
models = [{ preset = "cinn", members = 2, options = { blocks = 1, hidden = [8], condition = [8, 4] }, training = { batch_size = 64 } }, { preset = "spline" }]
folds = 2
epochs = 3

[[sections]]
title = "All"
items = [
  { kind = "widths", name = "w", title = "W", caption = "c", experiment = "j", model = "cinn" },
  { kind = "target-errors", name = "e", title = "E", caption = "c", experiments = ["j"] },
  { kind = "never", name = "n", title = "N", caption = "c", experiment = "j", model = "cinn", pairs = "within" },
  { kind = "relation-of-two", name = "r", title = "R", caption = "c", experiment = "j", model = "cinn", pairs = "within" },
  { kind = "joint", name = "o", title = "", caption = "", diagnostics = ["latent"], experiment = "j", model = "cinn", pairs = "within" },
  { kind = "prediction", name = "p", title = "P", caption = "c", experiment = "j", model = "cinn", pairs = "within", target = "t_last_major" },
]
"""
JOINT_KINDS = {"widths", "target-errors", "never", "relation-of-two", "joint"}


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def joint_study(tmp_path_factory):
    path = tmp_path_factory.mktemp("joint") / "joint.toml"
    path.write_text(STUDY)
    return load_study(path)


@pytest.fixture(scope="module")
def done(joint_study, tmp_path_factory):
    out, threads = tmp_path_factory.mktemp("run"), torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as pool:
            page = run_study(joint_study, out / "no-tables", out, executor=pool, say=lambda _: None)
    finally:
        torch.set_num_threads(threads)
    return out, page


def test_every_joint_figure_is_drawn_and_has_its_numbers(done, joint_study):
    out, page = done
    assert {entry.kind for entry in joint_study.figures} == JOINT_KINDS | {"prediction"}
    assert set(KINDS) >= JOINT_KINDS
    for name in ("w", "n", "r", "p", "o_latent_cinn_toy-a_to_toy-a"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 1000
        assert len(read_table(out / "tables" / f"{name}.ecsv"))
    assert "toy universe, 260 galaxies, seed 4" in page.read_text()
    table = read_table(out / "tables" / "e.ecsv")
    # two targets of cinn and the first of the spline, in four pairs
    assert len(table) == 12
    assert set(table["target"][table["model"] == "spline"]) == {"f_ex"}


def test_the_first_target_is_scored_on_the_same_galaxies_by_every_model(done, joint_study):
    results = Results(joint_study, done[0], done[0])
    ids = {model: sorted(results.score("j", model, "toy-a", "toy-a").ids) for model in ("cinn", "spline")}
    assert ids["cinn"] == ids["spline"] == sorted(np.arange(260).astype(str))
    times = results.score("j", "cinn", "toy-a", "toy-a", "t_last_major")
    truth = read_domain(joint_study, "toy-a", done[0])["t_last_major"]
    assert len(times) <= np.isfinite(truth).sum()
    (joint,) = [item for item in results.joint("j") if (item.train, item.test) == ("toy-a", "toy-a")]
    assert len(joint) == 260
    assert joint.never.sum() == np.isnan(truth).sum() > 0


def test_scores_of_the_bundle_are_those_of_the_study_in_value(done, joint_study):
    bundle = load(done[0] / "bundles" / "j-cinn-toy-a")
    assert any("t_last_major" in name for name in bundle.card["metrics"])
    table = predict(bundle, read_domain(joint_study, "toy-b", done[0]))
    scores = Results(joint_study, done[0], done[0]).score("j", "cinn", "toy-a", "toy-b")
    width = scores.p84 - scores.p16
    assert np.median(np.abs(np.asarray(table["fexsitu_p50"]) - scores.p50) / width) < 0.1


def test_a_toy_domain_is_made_by_the_run(joint_study, tmp_path):
    found, made = read_domain(joint_study, "toy-a", tmp_path), make_toy("toy-a", 260, 4)
    np.testing.assert_array_equal(found["mstar"], made["mstar"])
    assert not list(tmp_path.iterdir())


def test_more_toys_make_a_job_new(done, joint_study):
    job = Job("j", "spline", "toy-a", "fold-0")
    assert is_done(joint_study, job, done[0], done[0])
    more = replace(joint_study, domains=tuple(replace(item, toy=item.toy + 1) for item in joint_study.domains))
    assert not is_done(more, job, done[0], done[0])


def test_a_job_twice_gives_the_same_scores(joint_study, done, tmp_path):
    job = next(job for job in plan(joint_study) if job.model == "cinn" and job.part == "fold-1")
    run_job(joint_study, job, tmp_path, tmp_path)
    for path in (tmp_path / job.folder).glob("*.parquet"):
        one, two = read_table(path), read_table(done[0] / job.folder / path.name)
        for name in one.colnames:
            np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(two[name]), err_msg=name)


def test_smaller_has_fewer_toys(joint_study):
    assert [item.toy for item in joint_study.smaller(epochs=1, folds=2, members=1, toys=100).domains] == [100, 100]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"t_last_major"]', '"nothing"]'), "no field called"),
        (("toy = 260", ""), "has no table"),
        (("toy = 260", "toy = -1"), "-1 toy galaxies"),
        (("batch_size = 64", "batches = 64"), "unknown training settings"),
    ],
)
def test_wrong_settings_are_explained(tmp_path, change, message):
    path = tmp_path / "wrong.toml"
    path.write_text(STUDY.replace(*change, 1))
    with pytest.raises(ConfigError, match=message):
        load_study(path)


@pytest.mark.data
def test_galaxies_without_photometry_are_left_out_and_counted(catalogs):
    study = load_study("eisert2023")
    for experiment in study.experiments:
        if experiment.domains != ("TNG100-1",):
            continue
        every = read_domain(study, "TNG100-1", catalogs)
        usable = read_complete(study, experiment, "TNG100-1", catalogs)
        assert (len(every), len(usable), len(usable.skipped)) == (6477, 5639, 838)
        assert np.isnan(usable["t_last_major"]).sum() == 163


@pytest.mark.slow
@pytest.mark.data
def test_the_real_table_gives_what_the_docs_say(catalogs, tmp_path):
    """Five folds by galaxy, three members: R2 of f_ex from photometry and size, and with dynamics; calibration."""
    from galineage.evaluation import accuracy, coverage, joint_relation, sharpness

    study = load_study("eisert2023")
    chosen = tuple(
        replace(item, models=(replace(item.models[0], members=3),))
        for item in study.experiments
        if item.name in ("photometry", "dynamics")
    )
    study = replace(study, experiments=chosen, figures=())
    with ThreadPoolExecutor(1) as pool:
        run_study(study, catalogs, tmp_path, executor=pool, say=lambda _: None)
    results = Results(study, catalogs, tmp_path)
    for name, least in (("photometry", 0.685), ("dynamics", 0.765)):
        assert accuracy.compute(results.score(name, "cinn", "TNG100-1", "TNG100-1")).values["r2"][0] > least
        times = results.score(name, "cinn", "TNG100-1", "TNG100-1", "t_last_major")
        assert 0.75 < sharpness.compute(times).ratio < 0.95
        assert coverage.judge(coverage.compute(times)).passed
        (joint,) = results.joint(name)
        assert joint_relation.judge(joint_relation.compute(joint)).passed
