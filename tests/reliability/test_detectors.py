"""R15: a right posterior passes and a wrong one is caught and named, at 500 galaxies, counted over many data sets.

Detectors are those of every report: coverage, PIT, SBC and TARP for calibration, sharpness for a model that answers
the prior, which no calibration test can see.
"""

from __future__ import annotations

import numpy as np
import pytest
from known import scores

from galineage.evaluation import coverage, pit, sbc, sharpness, tarp

N = 500
TARGET = 0.95
CALIBRATION = {"coverage": coverage, "pit": pit, "sbc": sbc, "tarp": tarp}
NAMES = {"narrow": "too narrow", "wide": "too wide", "high": "biased high", "low": "biased low"}
TITLES = {
    "right": "right posterior",
    "narrow": "width x 0.7",
    "wide": "width x 1.4",
    "high": "shifted by +0.5 sigma",
    "low": "shifted by -0.5 sigma",
    "prior": "prior only",
}


@pytest.fixture(scope="module")
def repeats(request):
    """Data sets of each kind: 1000 with --slow, otherwise 100."""
    return 1000 if request.config.getoption("--slow") else 100


@pytest.fixture(scope="module")
def outcomes(repeats):
    """Kind of verdict for every sort of posterior, detector and data set."""
    found = {}
    for kind in TITLES:
        for seed in range(repeats):
            known = scores(kind, N, seed)
            for name, module in (CALIBRATION | {"sharpness": sharpness}).items():
                verdict = module.judge(module.compute(known, n_boot=20))
                assert verdict.passed == (verdict.kind in ("calibrated", "sharp", "weak"))
                found.setdefault((kind, name), []).append(verdict.kind)
    return {key: np.array(kinds) for key, kinds in found.items()}


def complaints(outcomes, kind):
    """Whether any calibration detector complains, for each data set."""
    return np.any([outcomes[kind, name] != "calibrated" for name in CALIBRATION], axis=0)


def test_a_right_posterior_passes_all_of_them_together(outcomes, repeats, tally):
    passed = ~complaints(outcomes, "right") & (outcomes["right", "sharpness"] == "sharp")
    assert passed.mean() >= TARGET
    tally("R15", TITLES["right"], f"passes all five verdicts in {passed.sum()} of {repeats}")


@pytest.mark.parametrize("kind", NAMES)
def test_a_wrong_posterior_is_caught_by_all_of_them_together(outcomes, repeats, kind, tally):
    caught = complaints(outcomes, kind)
    assert caught.mean() >= TARGET
    tally("R15", TITLES[kind], f"caught in {caught.sum()} of {repeats}")


def test_a_model_that_answers_the_prior_is_caught_by_its_sharpness(outcomes, repeats, tally):
    caught = outcomes["prior", "sharpness"] == "prior only"
    assert caught.mean() >= TARGET
    tally("R15", TITLES["prior"], f"caught by sharpness in {caught.sum()} of {repeats}")


@pytest.mark.parametrize("detector", CALIBRATION)
def test_a_right_posterior_passes_each(outcomes, detector):
    assert (outcomes["right", detector] == "calibrated").mean() >= TARGET


@pytest.mark.parametrize("detector", CALIBRATION)
@pytest.mark.parametrize("kind", ["narrow", "wide"])
def test_wrong_widths_are_named_by_each(outcomes, kind, detector):
    assert (outcomes[kind, detector] == NAMES[kind]).mean() >= TARGET


@pytest.mark.parametrize("detector", ["coverage", "pit", "sbc"])
@pytest.mark.parametrize("kind", ["high", "low"])
def test_a_shift_of_half_a_width_is_named_by_each_that_can(outcomes, kind, detector):
    """TARP is blind to the sign of a shift: its reference points lie on both sides."""
    assert (outcomes[kind, detector] == NAMES[kind]).mean() >= TARGET


@pytest.mark.parametrize("detector", CALIBRATION)
def test_no_calibration_test_can_see_a_model_that_answers_the_prior(outcomes, detector):
    assert (outcomes["prior", detector] == "calibrated").mean() >= TARGET
