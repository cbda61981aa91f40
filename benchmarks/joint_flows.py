"""Conditional coupling flows: galineage against FrEIA and nflows, at equal numbers and sizes of coupling networks.

The peers are no dependencies (their last releases are of 2022 and 2020). For the comparison:

    pip install --no-deps FrEIA==0.2 nflows==0.14 umnn==1.71

Without them only galineage is timed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from measuring import alternate, finish, median, options, peak_mib, ratio
from torch import Tensor, nn

from galineage.models.chunks import in_chunks
from galineage.models.coupling import CouplingFlow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TARGETS = 5
BLOCKS = 8  # each of two coupling networks; AllInOneBlock and nflows' couplings have one, so they get twice as many
HIDDEN = (128, 128)
BATCH = 128
ROWS = 8192
DRAWS = 400
GALAXIES = 10_000
CHUNK = 2048
LOG_2PI = 1.8378770664093453


def dense(inputs: int, outputs: int) -> nn.Sequential:
    """Return the network of a peer's block."""
    widths = (inputs, *HIDDEN)
    layers = [part for a, b in zip(widths, HIDDEN, strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], outputs))


class Ours:
    """A flow of ours, used as `JointFlow` does: pieces that fit the cache, a thread each."""

    chunk = 1  # galaxies at a time are its own affair

    def __init__(self, coupling: Any, context: int, members: int = 1) -> None:
        self.members = members
        self.flow = CouplingFlow(members, TARGETS, context, coupling=coupling, blocks=BLOCKS, hidden=HIDDEN)
        self.flow.reset(torch.Generator().manual_seed(0))

    def parameters(self) -> Iterable[nn.Parameter]:
        """Weights."""
        return self.flow.parameters()

    def columns(self, rows: Tensor) -> Tensor:
        """Turn (n, k) into (E, k, n)."""
        return rows.mT.expand(self.members, -1, -1)

    def log_prob(self, y: Tensor, context: Tensor) -> Tensor:
        """Density of y (n, 5) given context (n, C)."""
        if torch.is_grad_enabled():
            return self.flow.condition(self.columns(context)).log_prob(self.columns(y).unsqueeze(2))[:, 0]

        def piece(_: int, rows: slice) -> Tensor:
            flow = self.flow.condition(self.columns(context[rows]))
            return flow.log_prob(self.columns(y[rows]).unsqueeze(2))[:, 0]

        return torch.cat(in_chunks(piece, len(y), max(1, CHUNK // self.members)), dim=1)

    def sample(self, context: Tensor) -> Tensor:
        """Draws for context (n, C)."""
        n = len(context)
        found = torch.empty((DRAWS, self.members, n, TARGETS))
        # of several members a galaxy's draws fill more than one piece
        most = max(1, CHUNK // self.members)

        def piece(number: int, rows: slice) -> None:
            generator = torch.Generator().manual_seed(number)
            flow = self.flow.condition(self.columns(context[rows]))
            for start in range(0, DRAWS, most):
                draws = min(most, DRAWS - start)
                z = torch.randn((self.members, TARGETS, draws, rows.stop - rows.start), generator=generator)
                found[start : start + draws, :, rows] = flow.inverse(z).permute(2, 0, 3, 1)

        in_chunks(piece, n, max(1, CHUNK // (DRAWS * self.members)))
        return found


class Freia:
    """FrEIA's blocks in a SequenceINN, each with a hard permutation."""

    chunk = 20

    def __init__(self, block: str, context: int) -> None:
        import FrEIA.framework as framework
        import FrEIA.modules as modules

        self.flow = framework.SequenceINN(TARGETS)
        shared: dict[str, Any] = {"cond": 0, "cond_shape": (context,), "subnet_constructor": dense}
        for number in range(BLOCKS if block == "GLOWCouplingBlock" else 2 * BLOCKS):
            if block == "GLOWCouplingBlock":
                self.flow.append(modules.GLOWCouplingBlock, clamp=1.0, **shared)
                self.flow.append(modules.PermuteRandom, seed=number)
            else:
                self.flow.append(modules.AllInOneBlock, **shared)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Weights."""
        return self.flow.parameters()

    def log_prob(self, y: Tensor, context: Tensor) -> Tensor:
        """Density of y (n, 5) given context (n, C)."""
        z, slope = self.flow(y, c=[context])
        return slope - 0.5 * z.square().sum(dim=1) - 0.5 * TARGETS * LOG_2PI

    def sample(self, context: Tensor) -> Tensor:
        """Draws for context (n, C)."""
        z = torch.randn(DRAWS * len(context), TARGETS)
        return self.flow(z, c=[context.repeat(DRAWS, 1)], rev=True)[0].view(DRAWS, len(context), TARGETS)


class Nflows:
    """nflows' couplings with alternating masks and random permutations."""

    chunk = 20

    def __init__(self, kind: str, context: int) -> None:
        from nflows.distributions import StandardNormal
        from nflows.flows import Flow
        from nflows.transforms import (
            AffineCouplingTransform,
            CompositeTransform,
            PiecewiseRationalQuadraticCouplingTransform,
            RandomPermutation,
        )

        class Net(nn.Module):
            hidden_features = HIDDEN[0]

            def __init__(self, inputs: int, outputs: int) -> None:
                super().__init__()
                self.net = dense(inputs + context, outputs)

            def forward(self, x: Tensor, given: Tensor) -> Tensor:
                return self.net(torch.cat([x, given], dim=1))

        parts: list[Any] = []
        for number in range(2 * BLOCKS):
            mask = torch.tensor([2 * ((column + number) % 2) - 1 for column in range(TARGETS)])
            if kind == "affine":
                parts.append(AffineCouplingTransform(mask, Net))
            else:
                spline: dict[str, Any] = {"num_bins": 8, "tails": "linear", "tail_bound": 5.0}
                parts.append(PiecewiseRationalQuadraticCouplingTransform(mask, Net, **spline))
            parts.append(RandomPermutation(TARGETS))
        self.flow = Flow(CompositeTransform(parts), StandardNormal([TARGETS]))

    def parameters(self) -> Iterable[nn.Parameter]:
        """Weights."""
        return self.flow.parameters()

    def log_prob(self, y: Tensor, context: Tensor) -> Tensor:
        """Density of y (n, 5) given context (n, C)."""
        return self.flow.log_prob(y, context=context)

    def sample(self, context: Tensor) -> Tensor:
        """Draws for context (n, C)."""
        return self.flow.sample(DRAWS, context=context)


@dataclass
class Jobs:
    """The three things that are timed, for one model."""

    model: Any
    context: int
    sampled: int

    def __post_init__(self) -> None:
        draw = torch.Generator().manual_seed(1)
        self.y, self.given = (torch.randn((ROWS, k), generator=draw) for k in (TARGETS, self.context))
        self.optimiser = torch.optim.Adam(self.model.parameters(), 1e-3, fused=True)

    def train(self) -> None:
        """Take one training step."""
        self.optimiser.zero_grad()
        members = getattr(self.model, "members", 1)
        (-self.model.log_prob(self.y[:BATCH], self.given[:BATCH]).mean() * members).backward()
        self.optimiser.step()

    @torch.inference_mode()
    def log_prob(self) -> None:
        """Evaluate the density of all rows."""
        self.model.log_prob(self.y, self.given)

    @torch.inference_mode()
    def sample(self) -> None:
        """Draw for some galaxies; the peers get as many at a time as suits them."""
        size = self.sampled if isinstance(self.model, Ours) else self.model.chunk
        for start in range(0, self.sampled, size):
            self.model.sample(self.given[start : min(start + size, self.sampled)])


def models(context: int) -> dict[str, Callable[[], Any]]:
    """Return every model by its label; peers only where they are installed."""
    found: dict[str, Callable[[], Any]] = {
        "galineage, affine": lambda: Ours("affine", context),
        "galineage, affine, five members": lambda: Ours("affine", context, 5),
    }
    if find_spec("FrEIA"):
        found["FrEIA, GLOWCouplingBlock"] = lambda: Freia("GLOWCouplingBlock", context)
        found["FrEIA, AllInOneBlock"] = lambda: Freia("AllInOneBlock", context)
    if find_spec("nflows"):
        found["nflows, affine coupling"] = lambda: Nflows("affine", context)
    found["galineage, spline"] = lambda: Ours("spline", context)
    found["galineage, spline, five members"] = lambda: Ours("spline", context, 5)
    if find_spec("nflows"):
        found["nflows, spline coupling"] = lambda: Nflows("spline", context)
    return found


def own(label: str) -> str:
    """Return the model of ours that a model is compared with."""
    return "galineage, spline" if "spline" in label else "galineage, affine"


def repeat(work: Callable[[], None], times: int) -> None:
    """Do something several times."""
    for _ in range(times):
        work()


def compare(context: int, threads: int, rounds: int, sampled: int) -> dict[str, Any]:
    """Time all models at one width of the context and one number of threads: one by CPU seconds, more by the wall."""
    torch.set_num_threads(threads)
    jobs = {label: Jobs(make(), context, sampled) for label, make in models(context).items()}
    repeats = {"train": 10, "log_prob": 1, "sample": 1}
    result: dict[str, Any] = {"parameters": {}}
    for label, job in jobs.items():
        result["parameters"][label] = sum(part.numel() for part in job.model.parameters())
    for what, times in repeats.items():
        work = {label: partial(repeat, getattr(job, what), times) for label, job in jobs.items()}
        taken = alternate(work, rounds, time.process_time if threads == 1 else time.perf_counter)
        walls = {label: [wall / times for wall in values] for label, values in taken.items()}
        result[what] = {
            label: {"seconds": values, "times_galineage": ratio(values, walls[own(label)])}
            for label, values in walls.items()
        }
    return result


def whole_job(context: int) -> dict[str, float]:
    """Draw for all galaxies at once: seconds, and how much memory it takes beyond its result."""
    from measuring import seconds

    model = Ours("affine", context)
    given = torch.randn((GALAXIES, context), generator=torch.Generator().manual_seed(2))
    before = peak_mib()

    @torch.inference_mode()
    def work() -> None:
        model.sample(given)

    wall = seconds(work)
    result_mib = DRAWS * GALAXIES * TARGETS * 4 / 2**20
    return {"seconds": wall, "result_mib": result_mib, "peak_growth_mib": peak_mib() - before}


def main() -> None:
    """Run, write, print."""
    parser = options(__doc__)
    parser.add_argument("--galaxies", type=int, default=40, help="galaxies sampled in a round; scaled to 10,000")
    parser.add_argument("--contexts", type=int, nargs="+", default=[16, 256], help="widths of the context")
    parser.set_defaults(threads=0, rounds=5)
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    rows = [("8 blocks, 128 x 2, 5 targets", "train ms", "x", "log_prob ms", "x", "sample s", "x")]
    for threads in [chosen.threads] if chosen.threads else [1, 2]:
        for context in chosen.contexts:
            result = compare(context, threads, chosen.rounds, chosen.galaxies)
            found[f"context {context}, threads {threads}"] = result
            rows.append((f"context {context}, {threads} thread{'s' * (threads > 1)}", *[""] * 6))
            for label in result["parameters"]:
                cells = []
                scales = {"train": 1e3, "log_prob": 1e3, "sample": GALAXIES / chosen.galaxies}
                for what, scale in scales.items():
                    entry = result[what][label]
                    cells += [f"{median(entry['seconds']) * scale:.1f}", f"{entry['times_galineage']['median']:.2f}"]
                rows.append((label, *cells))
    found["10,000 galaxies in one call"] = whole_job(16)
    finish(chosen.out, "joint_flows", {"blocks": BLOCKS, "draws": DRAWS, "results": found}, rows)
    if not (find_spec("FrEIA") and find_spec("nflows")):
        print("FrEIA or nflows is not installed: the head of this file says how to add them")


if __name__ == "__main__":
    main()
