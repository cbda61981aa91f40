"""A study runs once, is found again, survives kills and tampering, and ends in one page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from galineage import load, predict, report
from galineage.errors import ConfigError, FileFormatError
from galineage.study import available_studies, load_study, run_jobs
from galineage.study.jobs import Job, is_done, plan, read_domain, run_job
from galineage.study.pages import KINDS
from galineage.study.results import Results
from galineage.study.spec import Study


def whole(study, name, tables):
    """Return the galaxies of a domain that the experiments can use."""
    return read_domain(study, name, tables).complete(["mstar", "age", "f_ex"])


def run_here(study, tables, out):
    """Run what is left in this process, without changing its threads; return what was said."""
    said = []
    with ThreadPoolExecutor(1) as pool:
        count = run_jobs(study, tables, out, executor=pool, say=said.append)
    return count, said


@pytest.fixture(autouse=True)
def _threads():
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_job_is_planned_once(study):
    jobs = plan(study)
    assert len(jobs) == len(set(jobs)) == 2 * 2 * 3 + 2
    assert {job.part for job in jobs if job.experiment == "h"} == {"holdout"}
    assert len({job.folder for job in jobs}) == len(jobs)


def test_the_report_holds_every_kind_of_figure(finished, study):
    out, page, _ = finished
    text = page.read_text()
    # those of several targets are drawn in test_eisert_study.py
    several = {"widths", "target-errors", "never", "relation-of-two", "joint"}
    # those of several ways to cross are drawn in test_transfer_study.py
    several |= {"ladder", "error-bars"}
    # those of networks for maps are drawn in test_map_study.py
    several |= {"umap", "attribution"}
    # those of images are drawn by the demo, in tests/cli/test_cli.py
    several |= {"landscape", "domain-overlap", "shift-power", "property-transfer", "population"}
    assert {entry.kind for entry in study.figures} == set(KINDS) - several - {"toy-relations"}
    for entry in study.figures:
        if entry.kind not in ("diagnostics", "accuracy", "published"):
            assert (out / "figures" / f"{entry.options['name']}.png").stat().st_size > 1000
            assert entry.options["title"] in text
    assert "toy" in text
    numbers = json.loads((out / "numbers.json").read_text())
    assert numbers


def test_progress_tells_jobs_done_and_time_left(finished):
    _, _, said = finished
    lines = [line for line in said if line.startswith("[")]
    assert len(lines) == 14
    assert lines[-1].startswith("[14/14]")
    assert "left" in lines[0]


def test_a_finished_study_is_not_run_again(finished, study, tables):
    out, _, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()}
    count, said = run_here(study, tables, out)
    assert count == 0
    assert said == ["14 of 14 jobs are done already"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_damage_is_noticed_and_mended(study, tables, tmp_path):
    job = Job("e", "spline", "toy-a", "fold-0")
    run_job(study, job, tables, tmp_path)
    assert is_done(study, job, tables, tmp_path)
    scores = next((tmp_path / job.folder).glob("scores-*.parquet"))
    good = scores.read_bytes()
    scores.write_bytes(good[:-10])
    assert not is_done(study, job, tables, tmp_path)
    run_job(study, job, tables, tmp_path)
    assert is_done(study, job, tables, tmp_path)
    (tmp_path / job.folder / "done.json").write_text("{")
    assert not is_done(study, job, tables, tmp_path)


def test_a_changed_setting_or_table_makes_a_job_new(study, tables, tmp_path):
    job = Job("e", "spline", "toy-a", "fold-0")
    run_job(study, job, tables, tmp_path)
    assert not is_done(replace(study, seed=6), job, tables, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    for path in tables.glob("*.parquet"):
        (other / path.name).write_bytes(path.read_bytes())
    table = Table.read(other / "toy-b.parquet")
    from galineage.tables import write_table

    write_table(table[:250], other / "toy-b.parquet")
    assert not is_done(study, job, other, tmp_path)


def test_all_test_rows_are_scored_once_and_never_trained_on(finished, study, tables):
    out, _, _ = finished
    results = Results(study, tables, out)
    for domain in ("toy-a", "toy-b"):
        scores = results.score("e", "mdn", domain, domain)
        ids = whole(study, domain, tables).ids.astype(str)
        assert sorted(scores.ids) == sorted(ids)  # five folds: every galaxy once
    across = results.score("e", "mdn", "toy-a", "toy-b")
    assert len(across) == 300
    held = results.score("h", "spline", "toy-a", "toy-a")
    assert len(held) == 45


def test_who_lacks_what_nobody_needs_stays(finished, study, tables):
    out, page, _ = finished
    known = read_domain(study, "toy-a", tables)
    assert len(known) == 302
    assert [int(np.isnan(known[name]).sum()) for name in ("metallicity", "age", "f_ex")] == [1, 1, 1]
    scores = Results(study, tables, out).scores("e")
    assert {len(item) for item in scores} == {300}
    assert "300 of 302 galaxies of toy-a" in page.read_text()


def test_bundles_of_a_study_predict_and_carry_their_quality(finished, study, tables):
    out, _, _ = finished
    bundle = load(out / "bundles" / "e-mdn-toy-a")
    assert "2-fold inside toy-a" in bundle.card["metrics"]
    assert "tested on toy-b" in bundle.card["metrics"]
    catalogue = whole(study, "toy-b", tables)
    table = predict(bundle, catalogue)
    scores = Results(study, tables, out).score("e", "mdn", "toy-a", "toy-b")
    np.testing.assert_allclose(np.asarray(table["fexsitu_p50"]), scores.p50, atol=1e-6)
    assert ((table["flag"] & 8) > 0).all()


def test_every_number_lies_beside_the_report(finished):
    out, _, _ = finished
    table = Table.read(out / "tables" / "a.ecsv")
    assert (out / "tables" / "a.json").exists()
    assert {"all", "truth", "mstar"} == set(table["bins"])
    table = table[table["bins"] == "all"]
    assert len(table) == 8
    assert set(table["train"]) == {"toy-a", "toy-b"}
    for name in ("bias_median", "scatter", "rmse", "coverage68"):
        assert np.isfinite(table[name]).all()
        assert (np.asarray(table[f"{name}_error"]) > 0).all()


def test_the_report_can_be_made_again_from_the_folder_alone(finished):
    out, page, _ = finished
    before = page.read_text()
    page.unlink()
    assert report(out, say=lambda _: None) == page
    assert page.read_text() == before


def test_report_of_something_else_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no study"):
        report(tmp_path)


def test_a_study_survives_its_own_json(study):
    assert Study.from_dict(json.loads(json.dumps(study.as_dict()))) == replace(
        study,
        experiments=tuple(study.experiments),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('target = "f_ex"', 'target = "nothing"'), "no field called"),
        (('preset = "spline"', 'preset = "nothing"'), "no model called"),
        (('features = ["mstar", "age"]', 'features = ["mstar", "n_views"]'), "computed from the truth"),
        (('domains = ["toy-a", "toy-b"]', 'domains = ["toy-a", "toy-z"]'), "unknown domains"),
        (("folds = 2", "folds = 1"), "folds is 1"),
        (('title = "Tiny study"', ""), "lacks 'title'|missing 1 required"),
        (("seed = 5", "seed = 5\nspeed = 3"), "unknown settings"),
        (("epochs = 12", "epoks = 12"), "wrong setting"),
        (("seed = 5", "seed = = 5"), "not valid TOML"),
    ],
)
def test_a_wrong_study_file_is_explained(study_file, tmp_path, change, message):
    path = tmp_path / "wrong.toml"
    path.write_text(study_file.read_text().replace(*change))
    with pytest.raises(ConfigError, match=message):
        load_study(path)


def test_an_unknown_study_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match="angeloudi2023-catalogue"):
        load_study("nothing")
    for name in available_studies():
        assert load_study(name).name == name


def test_missing_tables_are_named_before_anything_runs(study, tmp_path):
    with pytest.raises(FileFormatError, match=r"toy-[ab]\.parquet"):
        run_jobs(study, tmp_path, tmp_path / "out", say=lambda _: None)
    assert not (tmp_path / "out" / "cells").exists()


@pytest.mark.slow
def test_killed_at_random_a_study_ends_as_if_unbroken(finished, study_file, tables, tmp_path):
    """kill -9 several times, then let it end: the scores are those of the unbroken run, bit for bit."""
    reference, _, _ = finished
    out = tmp_path / "run"
    code = (
        "from galineage.study import load_study, run_jobs; import sys\n"
        "if __name__ == '__main__': run_jobs(load_study(sys.argv[1]), sys.argv[2], sys.argv[3], workers=1)"
    )
    script = tmp_path / "go.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(study_file), str(tables), str(out)]
    rng = np.random.default_rng(3)
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            time.sleep(float(rng.uniform(6, 16)))
            os.killpg(process.pid, signal.SIGKILL)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    names = sorted(path.relative_to(reference) for path in reference.glob("cells/**/scores-*.parquet"))
    assert names == sorted(path.relative_to(out) for path in out.glob("cells/**/scores-*.parquet"))
    for name in names:
        one, two = Table.read(reference / name), Table.read(out / name)
        for column in one.colnames:
            assert (one[column] == two[column]).all(), (name, column)


@pytest.mark.slow
@pytest.mark.data
def test_the_networks_reach_a_bagged_perceptron_on_the_real_tables(catalogs, tmp_path):
    """z = 0 rows, five folds by galaxy: R2 and coverage as stated in the docs, with room for other machines."""
    study = load_study("angeloudi2023-catalogue")
    five = study.experiment("five")
    flow = replace(next(model for model in five.models if model.preset == "flow"), members=5)
    study = replace(study, experiments=(replace(five, models=(flow,), across=False),), figures=())
    study = replace(study, experiments=(replace(study.experiments[0], domains=("TNG100-1",)),))
    count, _ = run_here(study, catalogs, tmp_path)
    assert count == 6
    from galineage.evaluation import accuracy

    scores = Results(study, catalogs, tmp_path).score("five", "flow", "TNG100-1", "TNG100-1")
    values = accuracy.compute(scores).values
    assert len(scores) == 6477
    assert values["r2"][0] > 0.76
    assert abs(values["coverage68"][0] - 0.68) < 0.025
