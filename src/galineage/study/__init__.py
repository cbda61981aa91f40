"""Studies: declared experiments that run, resume, and end in one report."""

from galineage.study.report import build_report, run_study
from galineage.study.results import Results
from galineage.study.runner import run_jobs
from galineage.study.spec import Study, available_studies, load_study

__all__ = ["Results", "Study", "available_studies", "build_report", "load_study", "run_jobs", "run_study"]
