"""One model on one table with known truth: every diagnostic at once."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from typing import TYPE_CHECKING, Any

from galineage.errors import DataError
from galineage.evaluation import DIAGNOSTICS, JOINT_DIAGNOSTICS
from galineage.evaluation.joint_scoring import score_joint
from galineage.evaluation.scoring import score, with_shift
from galineage.evaluation.verdict import counted
from galineage.fields import FIELDS
from galineage.training import needed_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.evaluation import Diagnostic, JointScores, Scores, Verdict
    from galineage.galaxy import Catalogue
    from galineage.models.bundle import Bundle

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What all diagnostics found.

    Attributes
    ----------
    scores : Scores
        Predictions of the (first) target beside the truth, one row per galaxy.
    results : mapping of str to result
        Numbers of every diagnostic by its name; each has ``to_table()``. Those of a joint model's further targets are
        called ``target.diagnostic``, those of all targets together ``joint.diagnostic``.
    verdicts : mapping of str to Verdict
        What they mean, one sentence each, by the same names.
    warning : str
        Why the numbers flatter, if they do; empty otherwise.
    others : mapping of str to Scores
        Scores of a joint model's further targets by name.
    joint : JointScores or None
        Joint posteriors beside the truth, for a joint model.
    """

    scores: Scores
    results: Mapping[str, Any]
    verdicts: Mapping[str, Verdict]
    warning: str = ""
    others: Mapping[str, Scores] = default(default_factory=dict)
    joint: JointScores | None = None

    def __str__(self) -> str:
        ids = (self.joint or self.scores).ids
        lines = [f"{self.scores.model}: {self.scores.label}, {counted(len(ids), len(set(ids.tolist())))}"]
        lines += [f"WARNING: {self.warning}"] if self.warning else []
        for name, verdict in self.verdicts.items():
            whose = f"{name.partition('.')[0]}: " if "." in name else ""
            lines.append(f"[{'ok' if verdict.passed else '!!'}] {whose}{verdict.sentence}")
        return "\n".join(lines)


def evaluate(bundle: Bundle, catalogue: Catalogue, *, seed: int = 0, progress: bool = False) -> Evaluation:
    """Test a model on galaxies whose truth is known.

    Parameters
    ----------
    bundle : Bundle
        A trained model.
    catalogue : Catalogue
        Test galaxies with the model's features, its targets and ``mstar``; rows in which one is missing are left out,
        but for what a galaxy without a major merger cannot have. So are views that lack a channel which it sees.
    seed : int
        Of bootstrap, posterior samples and reference points.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Evaluation
        Print it for the verdicts; give it to `galineage.report` for a page of figures.

    Raises
    ------
    DataError
        If a column is missing or no row is complete.
    """
    estimator = bundle.estimator
    needed = dict.fromkeys([*needed_fields(estimator), "mstar"])
    usable = catalogue.complete(needed)
    usable = usable.select(estimator.usable(usable))
    if not len(usable):
        raise DataError(
            "no galaxy has all of the inputs, the truth and the stellar mass",
            where=str(catalogue.meta.get("file", "in memory")),
            expected=", ".join(needed),
        )
    domains = ", ".join(sorted(set(usable.domain.astype(str))))
    labels: dict[str, Any] = {
        "model": str(bundle.card.get("model", estimator.kind)),
        "train": ", ".join(bundle.card.get("domains", [])) or "unknown",
        "test": domains,
    }
    warning = _warning(bundle, usable)
    if not estimator.joint:
        mended = bundle.recalibration
        scores = score(estimator, usable, seed=seed, recalibration=mended, progress=progress, **labels)
        scores = with_shift(scores, bundle, usable)
        return Evaluation(scores, *_judged(scores, DIAGNOSTICS, seed), warning)
    joint, each = score_joint(estimator, usable, seed=seed, progress=progress, **labels)
    each = {target: with_shift(scores, bundle, usable) for target, scores in each.items()}
    results, verdicts = _judged(each[estimator.target], DIAGNOSTICS, seed)
    others = {target: scores for target, scores in each.items() if target != estimator.target}
    parts = {f"{target}.": _judged(scores, DIAGNOSTICS, seed) for target, scores in others.items()}
    for mark, found in {**parts, "joint.": _judged(joint, JOINT_DIAGNOSTICS, seed)}.items():
        results |= {mark + name: result for name, result in found[0].items()}
        verdicts |= {mark + name: verdict for name, verdict in found[1].items()}
    return Evaluation(each[estimator.target], results, verdicts, warning, others, joint)


def _judged(
    scores: Scores | JointScores, diagnostics: Mapping[str, Diagnostic], seed: int
) -> tuple[dict[str, Any], dict[str, Verdict]]:
    """Results and verdicts of the diagnostics that make sense for the scores, by name."""
    used = {name: item for name, item in diagnostics.items() if item.needs(scores)}
    results = {name: item.compute(scores, seed=seed) for name, item in used.items()}
    return results, {name: used[name].judge(result) for name, result in results.items()}


def _warning(bundle: Bundle, catalogue: Catalogue) -> str:
    seen = bundle.card.get("data", {})
    if seen.get("sha256") and seen.get("sha256") == catalogue.meta.get("sha256"):
        target = FIELDS[bundle.estimator.target].name
        return (
            f"The model was trained on this very file ({catalogue.meta.get('file')}), so its {target} look better than "
            "they are. Test it on galaxies it has not seen."
        )
    shared = sorted(set(bundle.card.get("domains", [])) & set(catalogue.domain.astype(str)))
    if shared:
        return (
            f"The model was trained on galaxies of {', '.join(shared)}, too. If these are the same galaxies, the "
            "numbers look better than they are; this cannot be told from the files."
        )
    return ""
