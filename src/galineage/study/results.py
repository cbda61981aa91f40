"""What a finished study knows: scores by experiment, model and domains, and the catalogues behind them."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from typing import TYPE_CHECKING

from galineage.errors import ConfigError
from galineage.study.jobs import read_domain, read_scores

if TYPE_CHECKING:
    from pathlib import Path

    from galineage.evaluation import Scores
    from galineage.galaxy import Catalogue
    from galineage.study.spec import Study

__all__ = ["Results"]


@dataclass
class Results:
    """Read access to a study's output.

    Attributes
    ----------
    study : Study
        The declared experiment.
    data, out : Path
        Folder of the tables; folder of the output.
    """

    study: Study
    data: Path
    out: Path
    _scores: dict[str, list[Scores]] = default(default_factory=dict)

    def scores(self, experiment: str) -> list[Scores]:
        """Return every test of an experiment, folds joined.

        Raises
        ------
        ConfigError
            If a job of it is not finished.
        """
        if experiment not in self._scores:
            self._scores[experiment] = read_scores(self.study, self.data, self.out, self.study.experiment(experiment))
        return self._scores[experiment]

    def score(self, experiment: str, model: str, train: str, test: str) -> Scores:
        """Return one test.

        Raises
        ------
        ConfigError
            If it was not run.
        """
        for item in self.scores(experiment):
            if (item.model, item.train, item.test) == (model, train, test):
                return item
        raise ConfigError(f"experiment {experiment!r} has no test of {model} {train} → {test}", where=str(self.out))

    def pairs(self, experiment: str, which: str) -> list[tuple[str, str]]:
        """Return (train, test) pairs: ``within`` a domain, ``across`` domains, or ``all``."""
        domains = self.study.experiment(experiment).domains
        every = [(a, b) for a in domains for b in domains]
        if which == "all":
            return every
        return [(a, b) for a, b in every if (a == b) == (which == "within")]

    def catalogue(self, domain: str, rows: str | None = None) -> Catalogue:
        """Return the galaxies of a domain, with the domain's row filter or another one."""
        return read_domain(self.study, domain, self.data, rows)
