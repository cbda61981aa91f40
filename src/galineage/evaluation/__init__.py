"""Diagnostics of predictions whose truth is known: numbers, then a verdict, then a drawing.

Every diagnostic is a module with three functions. ``compute`` gives a frozen result with bootstrap errors and a
``to_table`` method, ``judge`` says in one sentence what the numbers mean, ``draw`` takes and returns axes::

    from galineage.evaluation import coverage

    result = coverage.compute(scores)
    print(coverage.judge(result))
    coverage.draw(result).figure.savefig("coverage.png")

`DIAGNOSTICS` lists those that need the scores of a single test, `JOINT_DIAGNOSTICS` those of joint posteriors over
several targets; `answers`, `transfer`, `boxes`, `trend` and `joint_errors` compare several scores, `inputs` and
`balance` look at catalogues. A new figure is one module and one line in `DIAGNOSTICS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from galineage.evaluation import (
    accuracy,
    answers,
    balance,
    boxes,
    coverage,
    inputs,
    joint_errors,
    joint_latent,
    joint_never,
    joint_relation,
    ladder,
    pit,
    prediction,
    recalibration,
    relation,
    sbc,
    sharpness,
    shift,
    tarp,
    transfer,
    trend,
)
from galineage.evaluation.joint_scores import JointScores, join_joint
from galineage.evaluation.scores import Scores, join
from galineage.evaluation.style import figure_of, style
from galineage.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from astropy.table import Table
    from matplotlib.figure import Figure

__all__ = [
    "DIAGNOSTICS",
    "Diagnostic",
    "JOINT_DIAGNOSTICS",
    "JointScores",
    "Result",
    "Scores",
    "Verdict",
    "accuracy",
    "answers",
    "balance",
    "boxes",
    "coverage",
    "figure_of",
    "inputs",
    "join",
    "ladder",
    "join_joint",
    "joint_errors",
    "joint_latent",
    "joint_never",
    "joint_relation",
    "pit",
    "prediction",
    "recalibration",
    "relation",
    "sbc",
    "sharpness",
    "shift",
    "style",
    "tarp",
    "transfer",
    "trend",
]


class Result(Protocol):
    """What every ``compute`` returns."""

    def to_table(self) -> Table:
        """Return the numbers behind the figure, with units and descriptions."""
        ...


def _always(_: object) -> bool:
    return True


@dataclass(frozen=True)
class Diagnostic:
    """One diagnostic of one set of scores.

    Attributes
    ----------
    name : str
        Short name, usable as a file name.
    title : str
        Heading of the figure.
    compute : callable
        ``Scores`` to result; further keywords have defaults, among them ``n_boot`` and ``seed``.
    judge : callable
        Result to `Verdict`.
    draw : callable
        Result, and optionally axes, to axes.
    caption : str
        What to see in the figure.
    needs : callable
        Scores to whether the diagnostic makes sense for them.
    """

    name: str
    title: str
    compute: Callable[..., Any]
    judge: Callable[..., Verdict]
    draw: Callable[..., Any]
    caption: str
    needs: Callable[[Any], bool] = _always

    def figure(self, result: Result) -> Figure:
        """Draw a result into a new figure in the house style and return the figure."""
        return figure_of(self.draw(result))


def _registry(*items: Diagnostic) -> Mapping[str, Diagnostic]:
    return MappingProxyType({item.name: item for item in items})


DIAGNOSTICS: Mapping[str, Diagnostic] = _registry(
    Diagnostic(
        "prediction",
        "Prediction against truth",
        prediction.compute,
        prediction.judge,
        prediction.draw,
        "Points should follow the dashed line. Grey: every galaxy; blue: random ones with their 68 % intervals; "
        "orange: running median and 16-84 % range. Below: the error on the same axis. A good posterior mean still "
        "bends towards the average at both ends, the more so the less the inputs say.",
    ),
    Diagnostic(
        "accuracy",
        "Bias and scatter with stellar mass",
        accuracy.compute,
        accuracy.judge,
        accuracy.draw,
        "Median error (should lie on zero) and scatter (the smaller the better) in bins of stellar mass, with "
        "bootstrap errors. Dashed: all galaxies together.",
    ),
    Diagnostic(
        "error_mass",
        "Error against stellar mass",
        partial(trend.compute, along="mstar"),
        trend.judge,
        trend.draw,
        "The median error should lie on zero at every stellar mass; the band holds 68 % of galaxies.",
    ),
    Diagnostic(
        "error_truth",
        "Error against truth",
        partial(trend.compute, along="truth"),
        trend.judge,
        trend.draw,
        "The median error at each true value; the band holds 68 % of galaxies. A fall from positive to negative is the "
        "pull towards the average that every unsharp prediction has.",
    ),
    Diagnostic(
        "coverage",
        "Coverage of central intervals",
        coverage.compute,
        coverage.judge,
        coverage.draw,
        "Intervals of nominal probability x hold the truth in a fraction y of galaxies. On the dashed line error bars "
        "are right, below it they are too narrow, above it too wide. Grey: 99 % of calibrated models stay inside.",
    ),
    Diagnostic(
        "coverage_gaussian",
        "Coverage of mean ± k sigma",
        partial(coverage.compute, method="gaussian"),
        coverage.judge,
        coverage.draw,
        "As coverage, but for mean ± k standard deviations, as if posteriors were Gaussian. If this one fails and the "
        "coverage of central intervals does not, posteriors are skewed and their quantiles should be quoted.",
    ),
    Diagnostic(
        "pit",
        "Place of the truth in its posterior",
        pit.compute,
        pit.judge,
        pit.draw,
        "A calibrated model gives a flat histogram inside the grey band. A valley means too narrow posteriors, a hill "
        "too wide ones, a slope up to the right predictions that are too low, up to the left too high.",
    ),
    Diagnostic(
        "sbc",
        "Ranks of the truth among posterior samples",
        sbc.compute,
        sbc.judge,
        sbc.draw,
        "The curve should stay in the grey band. An arch means posteriors too high, a sag too low; an up-down wave too "
        "narrow, a down-up wave too wide.",
    ),
    Diagnostic(
        "tarp",
        "Expected coverage with random points (TARP)",
        tarp.compute,
        tarp.judge,
        tarp.draw,
        "The curve should follow the dashed line inside the grey band. It needs samples only and holds for joint "
        "posteriors too; it cannot see a model that answers with the prior.",
    ),
    Diagnostic(
        "sharpness",
        "Posterior width over prior width",
        sharpness.compute,
        sharpness.judge,
        sharpness.draw,
        "How much narrower posteriors are than the spread of the truth. At 1 nothing was learned, which no test of "
        "calibration can see.",
    ),
    Diagnostic(
        "relation",
        "Recovered relation with stellar mass",
        relation.compute,
        relation.judge,
        relation.draw,
        "The median of the predictions in bins of stellar mass (coloured) should follow that of the truth (dashed), "
        "and so should the 16-84 % band: the posteriors of each bin are taken together.",
    ),
    Diagnostic(
        "shift",
        "Whom to believe: errors of accepted and flagged galaxies",
        shift.compute,
        shift.judge,
        shift.draw,
        "Above: how unlike the training galaxies the galaxies tested are, by their inputs alone; right of the dashed "
        "line they are flagged, as 5 % of the training galaxies' own like are. Below: the error at each score; it "
        "should be larger where galaxies are flagged.",
        shift.has_shift,
    ),
)
"""Every diagnostic of a single set of scores by name, in the order of a report."""

JOINT_DIAGNOSTICS: Mapping[str, Diagnostic] = _registry(
    Diagnostic(
        "never",
        "P(no major merger) against what happened",
        joint_never.compute,
        joint_never.judge,
        joint_never.draw,
        "Galaxies in bins of the stated probability that they never had a major merger; the fraction that had none "
        "should follow the dashed line. Grey: how many there are altogether.",
        lambda scores: bool(scores.has_never),
    ),
    Diagnostic(
        "tarp",
        "Expected coverage of the joint posterior (TARP)",
        tarp.compute_joint,
        tarp.judge,
        tarp.draw,
        "All targets together, over the galaxies that have all of them: the curve should follow the dashed line inside "
        "the grey band. It can tell right marginals with a wrong correlation, though less sharply than the latent "
        "values do.",
    ),
    Diagnostic(
        "latent",
        "Latent values of the truth",
        joint_latent.compute,
        joint_latent.judge,
        joint_latent.draw,
        "Where each network maps the truth to, which is standard normal if that network is right: curves should stay "
        "in the grey band, the matrix should be the identity. A rise, then a fall below zero, means that single "
        "members are too narrow; the ensemble that predictions come from is wider.",
    ),
    Diagnostic(
        "relation",
        "Two targets at fixed stellar mass",
        joint_relation.compute,
        joint_relation.judge,
        joint_relation.draw,
        "Left: rank correlation in bins of stellar mass of the truth (black), of one joint draw for each galaxy "
        "(blue), and with the two targets taken from different draws (orange), which is all that two separate "
        "posteriors know. "
        "Middle and right: the two targets in the fullest bin of mass, in truth and in joint draws.",
        joint_relation.possible,
    ),
)
"""Every diagnostic of a joint model by name, in the order of a report."""
