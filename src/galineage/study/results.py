"""What a finished study knows: scores by experiment, model and domains, and the catalogues behind them."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from typing import TYPE_CHECKING

import numpy as np

from galineage.errors import ConfigError
from galineage.study.adapting import TOGETHER, all_but
from galineage.study.jobs import map_store, read_complete, read_domain, read_joint_scores, read_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from galineage.evaluation import Scores
    from galineage.evaluation.joint_scores import JointScores
    from galineage.galaxy import Catalogue
    from galineage.store.map_store import MapStore
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
    _joint: dict[str, list[JointScores]] = default(default_factory=dict)

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

    def joint(self, experiment: str) -> list[JointScores]:
        """Return every test of the joint models of an experiment, folds joined.

        Raises
        ------
        ConfigError
            If a job of it is not finished.
        """
        if experiment not in self._joint:
            spec = self.study.experiment(experiment)
            self._joint[experiment] = read_joint_scores(self.study, self.data, self.out, spec)
        return self._joint[experiment]

    def score(self, experiment: str, model: str, train: str, test: str, target: str = "") -> Scores:
        """Return one test, of the experiment's first target if none is named.

        Raises
        ------
        ConfigError
            If it was not run.
        """
        target = target or self.study.targets(self.study.experiment(experiment))[0]
        for item in self.scores(experiment):
            if (item.model, item.train, item.test, item.target) == (model, train, test, target):
                return item
        raise ConfigError(f"experiment {experiment!r} has no test of {model} {train} → {test}", where=str(self.out))

    def pairs(self, experiment: str, which: str) -> list[tuple[str, str]]:
        """Return (train, test) pairs: ``within`` a domain, ``across`` domains, or ``all``."""
        spec = self.study.experiment(experiment)
        every = [(a, b) for a in spec.train_domains for b in spec.domains if a == b or b in spec.test_domains]
        if any(model.adaptation == "sources" for model in spec.models):
            every += [(all_but(name), name) for name in spec.test_domains]
        if any(model.adaptation == "together" for model in spec.models):
            every += [(TOGETHER, name) for name in spec.domains]
        if which == "all":
            return every
        return [(a, b) for a, b in every if (a == b) == (which == "within")]

    def usable(self, experiment: str) -> dict[str, tuple[Catalogue, int]]:
        """Return, by domain, the galaxies that an experiment can use, and how many lack something it needs."""
        spec = self.study.experiment(experiment)
        found = {}
        for name in spec.domains:
            every = read_domain(self.study, name, self.data, spec.rows)
            whole = read_complete(self.study, spec, name, self.data)
            found[name] = whole, len(every) - len(whole)
        return found

    def maps(self, domains: Sequence[str]) -> tuple[MapStore, NDArray[np.int64]]:
        """Return the map store of some domains, and which of its rows (n,) are theirs.

        Raises
        ------
        ConfigError
            If the study names no store for one of them, or several.
        """
        if len({self.study.domain(name).maps for name in domains}) != 1:
            raise ConfigError(
                f"domains {', '.join(domains)} have no map store in common",
                where=self.study.name,
                advice="prepare them into one folder, and name it as maps = ... in each domain of the study",
            )
        store = map_store(self.study.domain(domains[0]), self.data)
        mine = np.array([row["domain"] in domains for row in store.rows], dtype=bool)
        return store, np.flatnonzero(mine)

    def catalogue(self, domain: str, rows: str | None = None) -> Catalogue:
        """Return the galaxies of a domain, with the domain's row filter or another one."""
        return read_domain(self.study, domain, self.data, rows)
