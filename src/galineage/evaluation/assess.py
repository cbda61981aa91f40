"""One model on one table with known truth: every diagnostic at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from galineage.errors import DataError
from galineage.evaluation import DIAGNOSTICS
from galineage.evaluation.scoring import score
from galineage.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.evaluation import Scores, Verdict
    from galineage.galaxy import Catalogue
    from galineage.models.bundle import Bundle

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What all diagnostics found.

    Attributes
    ----------
    scores : Scores
        Predictions beside the truth, one row per galaxy.
    results : mapping of str to result
        Numbers of every diagnostic by its name; each has ``to_table()``.
    verdicts : mapping of str to Verdict
        What they mean, one sentence each.
    warning : str
        Why the numbers flatter, if they do; empty otherwise.
    """

    scores: Scores
    results: Mapping[str, Any]
    verdicts: Mapping[str, Verdict]
    warning: str = ""

    def __str__(self) -> str:
        lines = [f"{self.scores.model}: {self.scores.label}, {len(self.scores)} galaxies"]
        lines += [f"WARNING: {self.warning}"] if self.warning else []
        lines += [f"[{'ok' if verdict.passed else '!!'}] {verdict.sentence}" for verdict in self.verdicts.values()]
        return "\n".join(lines)


def evaluate(bundle: Bundle, catalogue: Catalogue, *, seed: int = 0, progress: bool = False) -> Evaluation:
    """Test a model on galaxies whose truth is known.

    Parameters
    ----------
    bundle : Bundle
        A trained model.
    catalogue : Catalogue
        Test galaxies with the model's features, its target and ``mstar``; rows in which one is missing are left out.
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
    needed = dict.fromkeys([*estimator.features, estimator.target, "mstar"])
    usable = catalogue.complete(needed)
    if not len(usable):
        raise DataError(
            "no galaxy has all of the inputs, the truth and the stellar mass",
            where=str(catalogue.meta.get("file", "in memory")),
            expected=", ".join(needed),
        )
    domains = ", ".join(sorted(set(usable.domain.astype(str))))
    scores = score(
        estimator,
        usable,
        model=str(bundle.card.get("model", estimator.kind)),
        train=", ".join(bundle.card.get("domains", [])) or "unknown",
        test=domains,
        seed=seed,
        progress=progress,
    )
    results = {name: diagnostic.compute(scores, seed=seed) for name, diagnostic in DIAGNOSTICS.items()}
    verdicts = {name: DIAGNOSTICS[name].judge(result) for name, result in results.items()}
    return Evaluation(scores, results, verdicts, _warning(bundle, usable))


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
