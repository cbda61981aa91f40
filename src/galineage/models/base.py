"""The estimator contract: features of galaxies in, a torch distribution over the target out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from galineage.errors import ConfigError, DataError
from galineage.fields import check_features, field, listed
from galineage.models.trees import TreeTables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch.distributions import Distribution

    from galineage.galaxy import Catalogue
    from galineage.models.map_inputs import MapInputs

    Inputs = NDArray[np.float64] | MapInputs

__all__ = ["DirectEstimator", "Estimator", "require_counts"]


def require_counts(least: int = 1, **values: Any) -> None:
    """Raise `ConfigError` unless every named setting is a whole number (no unit) and not below ``least``."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name} is {value!r}", expected=f"a whole number, {least} or more")


class Estimator(nn.Module, ABC):
    """A conditional distribution of one target given features, with its input scaling inside.

    Parameters
    ----------
    features : sequence of str, length d
        Field names of the inputs, in order.
    target : str
        Field name of the target.
    members : int
        How many networks are held and evaluated together.

    Attributes
    ----------
    targets : tuple of str
        Field names of all targets; ``target`` is the first.
    kind : str
        Name in the list of estimators and in saved models.
    joint : bool
        Whether it infers several targets together: its distribution has the event shape (T,).
    sees_maps : bool
        Whether its context holds maps.
    targets : tuple of str
        Field names of all targets; ``target`` is the first.
    """

    kind: ClassVar[str]
    sees_maps: ClassVar[bool] = False
    joint: ClassVar[bool] = False
    center: Tensor
    spread: Tensor

    def __init__(self, features: Sequence[str], target: str = "f_ex", members: int = 1) -> None:
        super().__init__()
        self.features = check_features(features)
        self.target = field(target).name
        self.targets: tuple[str, ...] = (self.target,)
        if not self.features and not self.sees_maps:
            raise ConfigError("no features given", expected="at least one field name", advice="e.g. mstar age r_half")
        require_counts(members=members)
        self.members = members
        self.register_buffer("center", torch.zeros(len(self.features)))
        self.register_buffer("spread", torch.ones(len(self.features)))

    def require_fraction(self) -> None:
        """Raise `ConfigError` if the target is not bounded by 0 and 1, for estimators that live there."""
        target = field(self.target)
        if target.low < 0 or target.high > 1:
            raise ConfigError(
                f"the target {target.name!r} is not a fraction, and this estimator lives on [0, 1]",
                expected=f"a field with the range 0 to 1; this one has {target.range_text}",
                advice="use model 'paper', whose Gaussian head is unbounded",
            )

    @abstractmethod
    def forward(self, context: Tensor) -> Distribution:
        """Condition on features.

        Parameters
        ----------
        context : Tensor (n, d), or (E, n, d) to give each of the E members its own rows
            Features as `galineage.galaxy.Catalogue.features` gives them: registry units, dex where logarithmic.
            NaN in a row gives NaN for that row.

        Returns
        -------
        Distribution
            Batch shape (E, n), event shape (); over the target in its registry unit.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what is needed to build an equal, untrained estimator: JSON values by parameter name."""

    @classmethod
    def count_numbers(cls, settings: Mapping[str, Any]) -> int:
        """Count roughly the weights that `settings` ask for, without building anything; 0 where they decide nothing."""
        del settings
        return 0

    def fit_scaling(self, x: Tensor) -> None:
        """Set the input scaling to zero mean and unit variance of the training rows.

        Parameters
        ----------
        x : Tensor (n, d)
            Features of the training split only.

        Raises
        ------
        DataError
            If a feature is not finite or does not vary.
        """
        self.refuse_other_width(x)
        if not torch.isfinite(x).all():
            row = int((~torch.isfinite(x).all(dim=1)).nonzero()[0])
            raise DataError(
                "a training feature is not finite",
                where=f"row {row}: {dict(zip(self.features, x[row].tolist(), strict=True))}",
                advice="use Catalogue.complete(features) to leave such rows out",
            )
        spread = x.double().std(dim=0, unbiased=False)
        if bool((spread < 1e-10).any()):
            name = self.features[int(spread.argmin())]
            raise DataError(f"feature {name!r} has one single value", advice="leave it out of the features")
        self.center.copy_(x.double().mean(dim=0))
        self.spread.copy_(spread)

    def inputs(self, catalogue: Catalogue) -> Inputs:
        """Return what `forward` takes, for the rows of a catalogue.

        Parameters
        ----------
        catalogue : Catalogue
            With the features, and for a network that sees maps with those.

        Returns
        -------
        array (n, d), or MapInputs
            Slices of it, as tensors, are contexts.
        """
        return catalogue.features(self.features)

    def describe_inputs(self) -> list[str]:
        """Return lines (Markdown) that say what the estimator looks at beside its features."""
        return []

    def usable(self, catalogue: Catalogue) -> NDArray[np.bool_]:
        """Tell which rows (n,) have every input: features in their range, and the channels that a network sees."""
        if not self.features:
            return np.ones(len(catalogue), dtype=bool)
        possible = [field(name).in_range(catalogue[name]) for name in self.features]
        return np.asarray(np.isfinite(catalogue.features(self.features)).all(axis=1) & np.all(possible, axis=0))

    def likeness(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the numbers (n, k), any unit, by which galaxies are compared with the training galaxies.

        Features as they are; of a network that sees maps, how these look in rings.
        """
        return np.asarray(inputs, dtype=np.float64)

    @property
    def likeness_width(self) -> int:
        """How many numbers `likeness` gives for a galaxy."""
        return len(self.features)

    def represent(self, context: Tensor) -> Tensor:
        """Return what the last layer sees, shape (E, n, h), scaled units: ``answer(represent(x))`` is ``forward(x)``.

        Parameters
        ----------
        context : Tensor (n, d) or (E, n, d)
            As for `forward`.

        Raises
        ------
        ConfigError
            If the estimator has no such layer.
        """
        del context
        raise ConfigError(f"a {self.kind!r} has no hidden representation", expected="a perceptron (paper, mdn, flow)")

    def answer(self, representation: Tensor) -> Distribution:
        """Turn a representation of shape (E, n, h), scaled units, into the distribution; see `represent`."""
        del representation
        raise ConfigError(f"a {self.kind!r} has no hidden representation", expected="a perceptron (paper, mdn, flow)")

    def check_targets(self, y: NDArray[np.float64]) -> None:
        """Raise `DataError` unless every target value can be trained on.

        Parameters
        ----------
        y : array (n,)
            Target in its registry unit; must be finite and in the field's range.
        """
        target = field(self.target)
        if y.ndim != 1:
            raise DataError(f"the target has shape {y.shape}", expected=f"(n,): one value of {target.name}")
        bad = np.flatnonzero(~np.isfinite(y))
        if len(bad):
            raise DataError(
                f"{len(bad)} rows have a target that is not finite",
                where=f"first at row {int(bad[0])}",
                advice="use Catalogue.complete([target]) to leave such rows out",
            )
        impossible = np.flatnonzero(~target.in_range(y))
        if len(impossible):
            raise DataError(
                f"{len(impossible)} rows have an impossible {target.name}",
                where=f"first at row {int(impossible[0])}: {y[impossible[0]]:g}",
                expected=target.range_text,
            )

    def fit_targets(self, y: Tensor) -> None:
        """Set whatever scaling of the targets the estimator has from training rows; nothing by default.

        Parameters
        ----------
        y : Tensor (n,) or (n, T)
            Targets in their registry units, as `check_targets` accepts them.
        """

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put saved weights back (by name; scaled units inside).

        Raises
        ------
        RuntimeError
            If names or shapes differ.
        """
        self.load_state_dict(tensors)

    def refuse_other_width(self, context: Tensor) -> None:
        """Raise `DataError` unless the context has one column (..., d) for each feature."""
        if context.dim() < 2 or context.shape[-1] != len(self.features):
            raise DataError(
                f"features of shape {tuple(context.shape)} were given",
                expected=f"(galaxies, {len(self.features)}): {listed(self.features)}",
            )

    def scaled(self, context: Tensor) -> Tensor:
        """Return the context in scaled units, shape (E, n, d), without copying rows for the members."""
        self.refuse_other_width(context)
        z = (context - self.center) / self.spread
        return z.expand(self.members, *z.shape) if z.dim() == 2 else z


class DirectEstimator(Estimator):
    """An estimator that is fitted in one call instead of by gradient descent.

    It is single, lives on [0, 1], and its buffers may have any length.
    """

    def __init__(self, features: Sequence[str], target: str = "f_ex") -> None:
        super().__init__(features, target)
        self.require_fraction()

    def rows(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context as rows (n, d), registry units or dex, and which rows (n,) hold a NaN."""
        self.refuse_other_width(context)
        x = context.reshape(-1, context.shape[-1])
        return x, x.isnan().any(dim=1)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put saved buffers back, whatever their length; raises RuntimeError if names or kinds differ."""
        mine = self.state_dict()
        if mine.keys() != tensors.keys():
            raise RuntimeError(f"tensors {sorted(mine.keys() ^ tensors.keys())} are missing or not known")
        for name, value in tensors.items():
            if value.dim() != mine[name].dim() or value.dtype != mine[name].dtype:
                raise RuntimeError(f"tensor {name} has {value.dim()} dimensions of {value.dtype}")
            owner, _, leaf = name.rpartition(".")
            self.get_submodule(owner).register_buffer(leaf, value)
        for part in self.modules():
            if isinstance(part, TreeTables):
                part.check(len(self.features))

    @abstractmethod
    def fit(self, x: Tensor, y: Tensor, seed: int) -> None:
        """Fit to training rows.

        Parameters
        ----------
        x : Tensor (n, d)
            Features, registry units, dex where logarithmic; finite.
        y : Tensor (n,)
            Target in its registry unit; finite.
        seed : int
            Seed of whatever is random.
        """
