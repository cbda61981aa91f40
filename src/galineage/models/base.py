"""The estimator contract: features of galaxies in, a torch distribution over the target out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from galineage.errors import ConfigError, DataError
from galineage.fields import check_features, field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.distributions import Distribution

__all__ = ["DirectEstimator", "Estimator"]


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
    kind : str
        Name in the list of estimators and in saved models.
    """

    kind: ClassVar[str]
    center: Tensor
    spread: Tensor

    def __init__(self, features: Sequence[str], target: str = "f_ex", members: int = 1) -> None:
        super().__init__()
        self.features = check_features(features)
        self.target = field(target).name
        if not self.features:
            raise ConfigError("no features given", expected="at least one field name", advice="e.g. mstar age r_half")
        if members < 1:
            raise ConfigError(f"members is {members}", expected="1 or more")
        self.members = members
        self.register_buffer("center", torch.zeros(len(self.features)))
        self.register_buffer("spread", torch.ones(len(self.features)))

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

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put saved weights back (by name; scaled units inside).

        Raises
        ------
        RuntimeError
            If names or shapes differ.
        """
        self.load_state_dict(tensors)

    def scaled(self, context: Tensor) -> Tensor:
        """Return the context in scaled units, shape (E, n, d), without copying rows for the members."""
        z = (context - self.center) / self.spread
        return z.expand(self.members, *z.shape) if z.dim() == 2 else z


class DirectEstimator(Estimator):
    """An estimator that is fitted in one call instead of by gradient descent.

    It is single, and its buffers may have any length.
    """

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
