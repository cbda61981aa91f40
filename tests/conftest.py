"""Shared fixtures: seeds, guarded global state, the real tables where they are at hand."""

from __future__ import annotations

import os
import random
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

mpl.use("agg")
# networks here are tiny, and two threads that wait for a busy core are ten times slower than one
torch.set_num_threads(1)
# several folders have a conftest.py; collected for doctests they would be one module of two files
collect_ignore_glob = ["*/conftest.py"]
DATA = Path(os.environ.get("GALINEAGE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the long checks too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="long; run with --slow"))


def pytest_terminal_summary(terminalreporter):
    """Print what the fault suite counted (tests/reliability), also when the tests ran in several processes."""
    counts = {
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "reliability"
    }
    if counts:
        terminalreporter.section("faults counted")
        for line in sorted(counts, key=lambda text: (len(text.partition(":")[0]), text)):
            terminalreporter.write_line(line)


@pytest.fixture
def tally(record_property):
    """Note what a test counted: ``tally("R2", "50 kills", "0 lost")``."""

    def note(*parts):
        record_property("reliability", ": ".join((parts[0], ", ".join(parts[1:]))))

    return note


def _global_state():
    return {
        "torch default dtype": torch.get_default_dtype(),
        "torch threads": torch.get_num_threads(),
        "torch grad mode": torch.is_grad_enabled(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch random state": torch.random.get_rng_state().numpy().tobytes(),
        "numpy random state": str(np.random.get_state()),  # noqa: NPY002 - the legacy global is what must not move
        "numpy errors": np.geterr(),
        "numpy printing": str(np.get_printoptions()),
        "matplotlib settings": dict(mpl.rcParams),
        "matplotlib open figures": _open_figures(),
    }


def _open_figures():
    import matplotlib.pyplot as plt

    return tuple(plt.get_fignums())


@pytest.fixture(autouse=True)
def _seeded_and_clean(request):
    """Seed every generator; fail the test if it leaves global torch, numpy or matplotlib state changed."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    before = _global_state()
    yield
    after = _global_state()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        import matplotlib.pyplot as plt

        plt.close("all")
        pytest.fail(f"{request.node.name} left global state changed: {', '.join(changed)}")


@pytest.fixture(scope="session")
def catalogs():
    """Folder of the real catalogue tables."""
    folder = DATA / "catalogs"
    if not folder.is_dir():
        pytest.skip(f"the real tables are not at hand ({folder}); set GALINEAGE_TEST_DATA")
    return folder


@pytest.fixture
def rng():
    """A seeded numpy generator."""
    return np.random.default_rng(42)
