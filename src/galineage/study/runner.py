"""Run a study: plan, skip what is done, fan out, report progress; killed at any time, it goes on at the next call."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galineage import __version__
from galineage.atomic import write_json
from galineage.errors import ConfigError
from galineage.study.jobs import check_tables, is_done, plan, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galineage.study.spec import Study

__all__ = ["run_jobs"]


def run_jobs(
    study: Study,
    data: Path,
    out: Path,
    *,
    executor: Executor | None = None,
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> int:
    """Do every job of a study that is not done yet.

    Parameters
    ----------
    study : Study
        What to run.
    data, out : Path
        Folder of the tables; folder of the output.
    executor : concurrent.futures.Executor, optional
        Where jobs run: a process pool of your own, or ``dask.distributed.Client(...).get_executor()``.
        Default: a local process pool.
    workers : int
        Processes of the local pool; 0 means one per core, at most eight.
    say : callable
        Gets one line of progress at a time.

    Returns
    -------
    int
        Jobs run now.

    Raises
    ------
    GalineageError
        The first error of a job; what was finished before stays, and the next call goes on from there.
    """
    data, out = Path(data), Path(out)
    if workers < 0:
        raise ConfigError(f"workers is {workers}", expected="0 (one per core) or more")
    check_tables(study, data)
    jobs = plan(study)
    todo = [job for job in jobs if not is_done(study, job, data, out)]
    write_json(
        out / "study.json",
        {"galineage": __version__, "study": study.as_dict(), "data": str(data.resolve()), "jobs": len(jobs)},
    )
    if len(todo) < len(jobs):
        say(f"{len(jobs) - len(todo)} of {len(jobs)} jobs are done already")
    if not todo:
        return 0
    count = min(workers or _cores(), len(todo))
    say(f"{len(todo)} jobs, {'given executor' if executor else f'{count} at a time'}")
    with _pool(executor, count) as pool:
        futures = [pool.submit(run_job, study, job, data, out, threads=1) for job in todo]
        try:
            _follow(futures, say)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    return len(todo)


def _follow(futures: list[Any], say: Callable[[str], None]) -> None:
    start = time.monotonic()
    for number, future in enumerate(as_completed(futures), 1):
        label = future.result()
        spent = time.monotonic() - start
        left = spent / number * (len(futures) - number)
        say(f"[{number}/{len(futures)}] {label} ({_duration(spent)} spent, about {_duration(left)} left)")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _cores() -> int:
    import os

    affinity = getattr(os, "sched_getaffinity", None)
    return min(8, len(affinity(0)) if affinity else os.cpu_count() or 1)


@contextmanager
def _pool(executor: Executor | None, workers: int) -> Iterator[Executor]:
    if executor is not None:
        yield executor
        return
    import multiprocessing

    # spawn: forking a process that has used torch's threads can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        yield pool


def _end_with_parent() -> None:
    """End this worker when the run that started it is killed: it would go on for nobody, and hold its job's lock."""
    import multiprocessing
    import os
    import threading

    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
