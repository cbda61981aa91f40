"""What the answers to a reader's first questions say, a sentence for each; see `galineage.evaluation.answers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from galineage.evaluation.calibration import MIN_GALAXIES, TOLERANCE
from galineage.evaluation.shift import EXPECTED
from galineage.evaluation.tabulate import target_unit
from galineage.evaluation.verdict import SMALL_BIAS, Verdict, counted, percent, plus_minus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galineage.evaluation.answers import Answers, Trial

__all__ = ["judge"]


def judge(result: Answers) -> tuple[Verdict, ...]:
    """Answer the questions, a verdict each; those that the tests cannot answer are left out.

    Parameters
    ----------
    result : Answers

    Returns
    -------
    tuple of Verdict
        Their ``kind`` begins with the question:

        - ``inside``: passes if R² of the main model is more than two errors above zero in every domain.
        - ``across``: passes if the main model loses nothing: an RMSE that 97.5 % of the resamples do not put above that
          of training in the domain tested, and a bias that is small (`SMALL_BIAS` of the RMSE) or within two errors of
          zero.
        - ``inputs``: passes if some model is not told from the best both in cross error and in cross bias. Only with
          two models or more.
        - ``error bars``: passes if 68 % and 95 % intervals of the main model hold the truth as often as they say, to
          within two errors or `TOLERANCE`, in every test.
        - ``flags``: passes if flagged rows have the larger errors, in 97.5 % of the resamples, in some test of the main
          model, and the smaller in none. Only with shift scores.
    """
    questions = (_judge_inside, _judge_across, _judge_inputs, _judge_error_bars, _judge_flags)
    return tuple(verdict for question in questions if (verdict := question(result)) is not None)


def _judge_inside(result: Answers) -> Verdict | None:
    tests = result.of(result.main, within=True)
    if not tests:
        return None
    unit = target_unit(result.target)
    parts = [
        f"R² {plus_minus(*item.values['r2'])}, RMSE {plus_minus(*item.values['rmse'], unit)} in {item.test} "
        f"({counted(item.rows, item.galaxies)})"
        for item in tests
    ]
    poor = [item.test for item in tests if not _informative(item)]
    few = min(item.galaxies for item in tests) < MIN_GALAXIES
    answer = "is better than always answering the mean"
    if poor:
        answer = f"is no better in {' and '.join(poor)} than always answering the mean"
    if few:
        answer = "has too few galaxies to judge"
    sentence = f"Inside a simulation {_quoted(result.main)} {answer}: {'; '.join(parts)}."
    return Verdict(sentence, not poor and not few, f"inside: {'too few' if few else 'poor' if poor else 'good'}")


def _informative(item: Trial) -> bool:
    value, error = item.values["r2"]
    return bool(value - 2 * np.nan_to_num(error) > 0)


def _judge_across(result: Answers) -> Verdict | None:
    tests = result.of(result.main, within=False)
    if not tests:
        return None
    unit = target_unit(result.target)
    parts, lost = [], []
    for item in tests:
        bias, bias_error = item.values["bias"]
        text = f"{item.pair} RMSE {plus_minus(*item.values['rmse'], unit)}"
        if np.isfinite(item.values["worse"][0]):
            text += f", {plus_minus(*item.values['worse'])} times that of training on {item.test} itself"
            lost += ["larger errors"] * bool(item.between["worse"][0] > 1)
        parts.append(f"{text}, bias {plus_minus(bias, bias_error, unit, sign=True)}")
        small = max(SMALL_BIAS * item.values["rmse"][0], 2 * float(np.nan_to_num(bias_error)))
        lost += ["a bias"] * bool(abs(bias) > small)
    cost = " and ".join(sorted(set(lost), reverse=True))
    answer = f"costs {_quoted(result.main)} {cost or 'nothing that can be seen'}"
    return Verdict(f"Crossing {answer}: {'; '.join(parts)}.", not lost, f"across: {cost or 'nothing lost'}")


def _judge_inputs(result: Answers) -> Verdict | None:
    if len(result.ranked) < 2:
        return None
    unit = target_unit(result.target)
    least = int(np.argmin(result.offset))
    first, last, straight = result.ranked[0], result.ranked[-1], result.ranked[least]
    where = "across" if result.crossed else "inside"
    both = [name for name in result.level if name in result.unbiased]
    error, most = (plus_minus(float(result.error[k]), float(result.error_error[k]), unit) for k in (0, -1))
    bias = plus_minus(float(result.offset[least]), float(result.offset_error[least]), unit)
    answer = f"Best {where}: {_listed(both)}" if both else f"No model is best {where} in both error and bias"
    return Verdict(
        f"{answer}. The smallest error is {error}, of {_quoted(first)} "
        f"({_others(result.level, first, result.ranked)}), the largest {most}, of {_quoted(last)}; "
        f"the smallest bias is {bias}, of {_quoted(straight)} "
        f"({_others(result.unbiased, straight, result.ranked)}).",
        bool(both),
        "inputs: best in both" if both else "inputs: none is best in both",
    )


def _judge_error_bars(result: Answers) -> Verdict | None:
    mine = [item for item in result.tests if item.model == result.main]
    parts = [
        f"{item.pair} {percent(*item.values['coverage68'])} and {percent(*item.values['coverage95'])}" for item in mine
    ]
    found = {kind: [item.pair for item in mine if _fault(item) == kind] for kind in ("too narrow", "too wide")}
    wrong = [f"{kind} in {' and '.join(pairs)}" for kind, pairs in found.items() if pairs]
    sentence = (
        f"Error bars of {_quoted(result.main)} are {', '.join(wrong) or 'right'}: 68 % and 95 % intervals hold the "
        f"truth {'; '.join(parts)}."
    )
    if len(result.ranked) > 1:
        counts = []
        for where, within in (("inside", True), ("across", False)):
            some = [item for item in result.tests if item.within is within]
            if some:
                counts.append(f"{sum(not _fault(item) for item in some)} of {len(some)} tests {where}")
        sentence += f" Of all models they are right in {' and in '.join(counts)}."
    kinds = " and ".join(kind for kind, pairs in found.items() if pairs)
    return Verdict(sentence, not wrong, f"error bars: {kinds or 'right'}")


def _judge_flags(result: Answers) -> Verdict | None:
    tests = result.of(result.main, within=False) or result.of(result.main, within=True)
    tests = tuple(item for item in tests if np.isfinite(item.values["flagged"][0]))
    if not tests:
        return None
    unit = target_unit(result.target)
    parts, more, less = [], [], []
    for item in tests:
        text = f"{item.pair} {percent(*item.values['flagged'])} are flagged"
        if np.isfinite(item.values["flag_gap"][0]):
            text += f", RMSE {plus_minus(*item.values['rmse_flagged'], unit)} against "
            text += f"{plus_minus(*item.values['rmse_accepted'], unit)} of the others"
        parts.append(text)
        low, high = item.between["flag_gap"]
        more += [item.pair] * bool(low > 0)
        less += [item.pair] * bool(high < 0)
    what = "views" if any(item.rows > item.galaxies for item in tests) else "galaxies"
    answer, kind = "no larger errors that can be seen", "no difference"
    if less:
        answer, kind = f"the smaller errors in {' and '.join(less)}", "smaller errors"
    elif more:
        answer, kind = f"the larger errors in {' and '.join(more)}", "larger errors"
    return Verdict(
        f"Flagged {what} of {_quoted(result.main)} have {answer}: {'; '.join(parts)} ({100 * EXPECTED:g} % of the like "
        "of those trained on are flagged).",
        bool(more) and not less,
        f"flags: {kind}",
    )


def _quoted(name: str) -> str:
    return f"“{name}”"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _others(near: Sequence[str], first: str, every: Sequence[str]) -> str:
    """Which models are not told from the first."""
    rest = [name for name in near if name != first]
    if not rest:
        return "all others are behind"
    if len(rest) == len(every) - 1:
        return "none of the others is told from it"
    return f"not told from it: {_listed(rest)}"


def _fault(item: Trial) -> str:
    """Say what is wrong with the intervals of a test, if anything is."""
    for name, nominal in (("coverage68", 0.68), ("coverage95", 0.95)):
        value, error = item.values[name]
        if abs(value - nominal) > max(TOLERANCE, 2 * float(np.nan_to_num(error))):
            return "too wide" if value > nominal else "too narrow"
    return ""
