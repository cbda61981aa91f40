"""What a joint flow says of galaxies: a density over several targets, draws, latents, and the chance of "never"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid
from torch.quasirandom import SobolEngine

from galineage.errors import DataError
from galineage.models.chunks import in_chunks

if TYPE_CHECKING:
    from galineage.models.joint_head import JointParts

__all__ = ["JointDistribution"]

_ROWS = 2048  # at a time where no gradient is wanted, over all members: activations stay in a core's cache
_NEVER_DRAWS = 512
_NEVER_SEED = 20230519
_EDGE = 1e-7  # a uniform number of exactly 0 or 1 has no normal one


class JointDistribution(Distribution):
    """What a `JointParts` says of n galaxies: batch shape (E, n), event shape (T,).

    Densities are over the targets' features: per dex for a field on a logarithmic scale, per registry unit otherwise.
    Values and draws are in registry units. NaN in the targets of the last major merger means that there was none. A
    galaxy with NaN among its features has NaN everywhere.

    Parameters
    ----------
    model : JointParts
        The estimator; its mode (training or evaluation) when it was asked decides about label noise.
    context : Tensor (E, d, n)
        Features in scaled units, as columns.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: JointParts, context: Tensor) -> None:
        self.model, self.context = model, context
        self.noise = model.label_noise if model.training else 0.0
        self.targets = model.targets
        shape = torch.Size((model.members, context.shape[-1]))
        super().__init__(shape, torch.Size((len(model.targets),)), validate_args=False)

    def _values(self, y: Tensor) -> Tensor:
        """Bring y to (E or 1, n, T)."""
        members, n = self.batch_shape
        size = self.event_shape[0]
        if size == 1 and (y.dim() == 1 or (y.dim() == 2 and y.shape[-1] == n)) and tuple(y.shape) != (n, 1):
            y = y.unsqueeze(-1)
        if y.dim() == 2:
            y = y.unsqueeze(0)
        if y.dim() != 3 or y.shape[0] not in (1, members) or y.shape[1:] != (n, size):
            raise DataError(
                f"targets of shape {tuple(y.shape)} were given",
                expected=f"({n}, {size}) or ({members}, {n}, {size}): " + ", ".join(self.targets),
            )
        return y

    def _rows(self, draws: int = 1) -> int:
        """How many galaxies to work on at a time."""
        members, n = self.batch_shape
        if self.context.device.type != "cpu":
            return max(n, 1)
        return max(1, _ROWS // (members * draws))

    def log_prob(self, value: Tensor) -> Tensor:
        """Logarithm of the joint density.

        Parameters
        ----------
        value : Tensor (n, T) or (E, n, T); (n,) or (E, n) too for one target
            Registry units.

        Returns
        -------
        Tensor (E, n)
            Natural logarithm, per dex for logarithmic fields. Rows that never merged (NaN): log P(never) and the
            density of the targets that are defined; with sentinels, the joint density at the sentinel.

        Raises
        ------
        DataError
            If the shape does not fit.
        """
        place, slope = self.model.space(self._values(value))
        if self.noise:
            place = place.expand(self.batch_shape[0], -1, -1)
            place = place + self.noise * torch.randn_like(place)
        if torch.is_grad_enabled():
            return self._log_prob(self.context, place, slope)

        def piece(_: int, rows: slice) -> Tensor:
            return self._log_prob(self.context[..., rows], place[..., rows], slope[..., rows])

        return torch.cat(in_chunks(piece, self.batch_shape[1], self._rows()), dim=-1)

    def _log_prob(self, context: Tensor, place: Tensor, slope: Tensor) -> Tensor:
        model = self.model
        place = place.expand(len(context), -1, -1).unsqueeze(2)
        found, extra, gone = torch.zeros_like(place[:, 0, 0]), None, None
        if model.chance is not None and model.second is not None:
            never = place[:, model.second.columns[:1]].isnan()
            extra, gone = never.to(place.dtype), never.squeeze(2).squeeze(1)
            logit = model.chance(context).squeeze(1)
            found = torch.where(gone, logsigmoid(logit), logsigmoid(-logit))
        for factor in (model.first, model.second):
            if factor is None:
                continue
            columns = factor.columns
            here = place[:, columns]
            if factor is model.second and gone is not None:  # undefined: any finite value will do
                density = factor.condition(context).log_prob(torch.where(never, 0.0, here), extra).squeeze(1)
                found = found + torch.where(gone, 0.0, density + slope[:, columns].sum(dim=1))
            else:
                found = (
                    found + factor.condition(context).log_prob(here, extra).squeeze(1) + slope[:, columns].sum(dim=1)
                )
            extra = here
        return found

    def latent(self, value: Tensor) -> Tensor:
        """Return the latents of targets, standard normal if the model is right.

        Parameters
        ----------
        value : Tensor (n, T) or (E, n, T); (n,) or (E, n) too for one target
            Registry units.

        Returns
        -------
        Tensor (E, n, T)
            No unit, no gradient. The latents of a factor of the density are in the columns of its targets. NaN where a
            target is undefined; with sentinels every row has latents, a never-merged galaxy those of the sentinel.
        """
        model = self.model
        place = model.space(self._values(value))[0].expand(len(self.context), -1, -1)

        def piece(_: int, rows: slice) -> Tensor:
            context, part = self.context[..., rows], place[..., rows].unsqueeze(2)
            found = torch.empty_like(part)
            extra = None if model.second is None else part[:, model.second.columns[:1]].isnan().to(part.dtype)
            for factor in (model.first, model.second):
                if factor is not None:
                    columns = factor.columns
                    found[:, columns] = factor.condition(context).forward(part[:, columns], extra)[0]
                    extra = part[:, columns]
            return found.squeeze(2).mT

        return torch.cat(in_chunks(piece, self.batch_shape[1], self._rows()), dim=1)

    @property
    def exact_never(self) -> bool:
        """Whether `p_never` is exact; else it comes from draws, and those of `sample` are as good."""
        return self.model.chance is not None or not any(self.model.space.merger)

    @property
    def p_never(self) -> Tensor:
        """Probability that there never was a major merger, (E, n), no unit.

        Exact for a Bernoulli factor; with sentinels the fraction of 512 draws (the same latents each time) outside the
        valid ranges; 0 where no target is one of the last major merger. NaN for a galaxy with NaN among its features.
        """
        model = self.model
        if model.chance is not None:
            return torch.sigmoid(model.chance(self.context)).squeeze(1)
        missing = self.context.isnan().any(dim=1)
        if not any(model.space.merger) or model.first is None:
            return torch.zeros(self.batch_shape, device=missing.device).masked_fill_(missing, torch.nan)
        flow, column = model.first, model.space.merger.index(True)
        latents = torch.randn(
            (len(model.targets), _NEVER_DRAWS, 1), generator=torch.Generator().manual_seed(_NEVER_SEED)
        )
        latents = latents.to(missing.device)

        def piece(_: int, rows: slice) -> Tensor:
            context = self.context[..., rows]
            z = latents.expand(len(context), -1, -1, context.shape[-1])
            y = model.space.inverse(flow.condition(context).inverse(z))
            return y[:, column].isnan().float().mean(dim=1)

        found = torch.cat(in_chunks(piece, self.batch_shape[1], self._rows(_NEVER_DRAWS)), dim=1)
        return found.masked_fill_(missing, torch.nan)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 - the signature of torch
        """Draw from the joint distribution.

        Parameters
        ----------
        sample_shape : sequence of int
            Shape (S,), or () for one draw.

        Returns
        -------
        Tensor (S, E, n, T)
            Registry units; NaN in the targets of the last major merger where the draw says that there was none. Memory
            beyond the result does not grow with S or n. The seed comes from torch's default generator, and draws do
            not depend on the number of threads.
        """
        shape = torch.Size(sample_shape)
        found = self._sample(shape.numel(), int(torch.randint(2**62, ())), alike=False)
        return found.view(*shape, *found.shape[1:])

    def sample_alike(self, draws: int, seed: int) -> Tensor:
        """Draw S = ``draws`` times, shape (S, E, n, T), registry units, with the same numbers for every galaxy.

        What is said of one galaxy then does not depend on which others are asked about. The numbers are a scrambled
        Sobol sequence (Owen 1998), another one for every member: as all galaxies share their error, it must be small,
        and it is several times smaller than that of random numbers. Draws of different galaxies are not independent:
        use `sample` for populations.
        """
        return self._sample(draws, seed, alike=True)

    def _sample(self, draws: int, seed: int, *, alike: bool) -> Tensor:
        members, n = self.batch_shape
        device = self.context.device
        found = torch.empty((draws, members, n, len(self.targets)), device=device)
        most = max(1, _ROWS // members) if device.type == "cpu" else max(draws, 1)

        def piece(number: int, rows: slice) -> None:
            generator = torch.Generator(device).manual_seed(seed if alike else seed + number)
            draw = _Draw(self.model, self.context[..., rows], generator, alike=alike)
            for start in range(0, draws, most):
                some = slice(start, min(start + most, draws))
                found[some, :, rows] = draw(some.stop - some.start).permute(2, 0, 3, 1)

        in_chunks(piece, n, self._rows(max(draws, 1)))
        return found


class _Draw:
    """Draws for some galaxies, whose context the networks see once; from the same random numbers for all if alike."""

    def __init__(self, model: JointParts, context: Tensor, generator: torch.Generator, *, alike: bool = False) -> None:
        self.model, self.context, self.generator, self.alike = model, context, generator, alike
        self.chance = None if model.chance is None else torch.sigmoid(model.chance(context))
        factors = [factor for factor in (model.first, model.second) if factor is not None]
        self.flows = [(factor, factor.condition(context)) for factor in factors]
        self.sequences = self._sequences() if alike else []

    def _sequences(self) -> list[Any]:
        """Return a sequence for each member: engines of one seed and dimension would give the same points."""
        width, members = len(self.model.targets) + (self.chance is not None), self.context.shape[0]
        seeds = torch.randint(2**31, (members,), generator=self.generator, device=self.context.device)
        return [SobolEngine(width, scramble=True, seed=seed) for seed in seeds.tolist()]

    def _numbers(self, draws: int) -> tuple[Tensor | None, Tensor]:
        """Uniform numbers (E, S, 1 or n) for "never", and standard normal ones (E, T, S, 1 or n) for the flows."""
        members, _, n = self.context.shape
        size, device = len(self.model.targets), self.context.device
        if self.alike:
            uniform = torch.stack([engine.draw(draws, dtype=torch.float64) for engine in self.sequences])
            normal = torch.special.ndtri(uniform[..., -size:].clamp(_EDGE, 1 - _EDGE)).float()
            first = None if self.chance is None else uniform[..., :1].float().to(device)
            return first, normal.transpose(1, 2).unsqueeze(-1).to(device)
        options: dict[str, Any] = {"generator": self.generator, "device": device}
        first = None if self.chance is None else torch.rand((members, draws, n), **options)
        normal = torch.empty((members, size, draws, n), device=device)
        for factor, _ in self.flows:
            normal[:, factor.columns] = torch.randn((members, len(factor.columns), draws, n), **options)
        return first, normal

    def __call__(self, draws: int) -> Tensor:
        """Return draws (E, T, S, n) in registry units."""
        members, _, n = self.context.shape
        place = torch.empty((members, len(self.model.targets), draws, n), device=self.context.device)
        uniform, normal = self._numbers(draws)
        never = None if uniform is None or self.chance is None else uniform < self.chance
        extra = None if never is None else never.unsqueeze(1).to(place.dtype)
        for factor, flow in self.flows:
            columns = factor.columns
            extra = flow.inverse(normal[:, columns].expand(-1, -1, -1, n).contiguous(), extra)
            place[:, columns] = extra
        y = self.model.space.inverse(place)
        if never is not None and self.model.second is not None:
            late = self.model.second.columns
            y[:, late] = y[:, late].masked_fill(never.unsqueeze(1), torch.nan)
        return y
