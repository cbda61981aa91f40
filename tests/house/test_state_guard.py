"""The guard in tests/conftest.py: seeds every test, and fails one that leaves global state changed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ("pytester",)
CONFTEST = Path(__file__).parents[1] / "conftest.py"

CULPRITS = {
    "torch default dtype": "torch.set_default_dtype(torch.float64)",
    "torch threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "torch grad mode": "torch.set_grad_enabled(False)",
    "torch deterministic": "torch.use_deterministic_algorithms(True)",
    "torch random state": "torch.rand(1)",
    "numpy random state": "np.random.rand()",
    "numpy errors": "np.seterr(all='ignore')",
    "numpy printing": "np.set_printoptions(precision=3)",
    "matplotlib settings": "mpl.rcParams['font.size'] = 31",
    "matplotlib open figures": "plt.figure()",
}

CLEAN = """
def test_clean_local_generators():
    torch.rand(1, generator=torch.Generator().manual_seed(1))
    np.random.default_rng(1).normal()

def test_clean_temporary_settings():
    with mpl.rc_context({"font.size": 31}), np.errstate(all="ignore"), torch.no_grad():
        figure = plt.figure()
    plt.close(figure)
"""

SEEDED = """
import random

@pytest.mark.parametrize("again", [1, 2])
def test_seeded(again):
    # the state of the generators is compared, not drawn from: drawing would change it
    state = (torch.random.get_rng_state().sum().item(), np.random.get_state()[1].sum(), random.getstate())
    first = globals().setdefault("FIRST", state)
    assert state == first
"""

HEADER = "import matplotlib as mpl\nimport matplotlib.pyplot as plt\nimport numpy as np\nimport pytest\nimport torch\n"


@pytest.fixture
def run_guarded(pytester):
    """Run a test file under the project's conftest, in a process of its own."""

    def run(body):
        pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
        pytester.makepyfile(test_inner=HEADER + body)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-rA")

    return run


def test_every_kind_of_changed_state_fails_the_test(run_guarded):
    body = "".join(f"\ndef test_{number}():\n    {statement}\n" for number, statement in enumerate(CULPRITS.values()))
    result = run_guarded(body)
    result.assert_outcomes(passed=len(CULPRITS), errors=len(CULPRITS))
    result.stdout.fnmatch_lines_random(
        [f"*test_{number} left global state changed: {name}*" for number, name in enumerate(CULPRITS)]
    )


def test_clean_and_seeded_tests_pass(run_guarded):
    result = run_guarded(CLEAN + SEEDED)
    result.assert_outcomes(passed=4)


def test_the_list_of_culprits_covers_the_guard(request):
    guard = next(p for p in request.config.pluginmanager.get_plugins() if getattr(p, "__file__", "") == str(CONFTEST))
    assert set(CULPRITS) == set(guard._global_state())
