"""Coupling blocks against slow obvious twins: loops over members and blocks, autograd, zuko, FrEIA's formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from zuko.transforms import MonotonicRQSTransform

from galineage.errors import ConfigError
from galineage.models.chunks import in_chunks
from galineage.models.coupling import ColumnNet, CouplingFlow
from galineage.models.monotone import Affine, RationalQuadratic

KINDS = ("affine", "spline")
SIZES = (1, 2, 3, 5)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def flow(coupling, size, extra=0, *, members=2, context=3, blocks=3, **options):
    """A flow whose weights are large enough for the map to be far from the identity."""
    made = CouplingFlow(members, size, context, extra, coupling=coupling, blocks=blocks, hidden=(9, 7), **options)
    made.reset(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for part in made.subnets:
            part.weights[-1].mul_(8)
            part.biases[-1].mul_(8)
    return made.double()


def columns(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# -- the twin: one member, one galaxy, one block at a time, as FrEIA writes it ---------------------------------------


def twin_subnet(part, member, block, seen, context):
    h = part.start[member, block, :, 0] + part.context[member, block] @ context
    if part.enter is not None:
        h = h + part.enter[member, block] @ seen
    for weight, bias in zip(part.weights, part.biases, strict=True):
        h = weight[member, block] @ torch.relu(h) + bias[member, block, :, 0]
    return h


def twin_transform(made, x, raw):
    if isinstance(made.transform, Affine):
        s = made.transform.clamp * 0.636 * torch.atan(raw[: len(x)])
        return x * torch.exp(s) + raw[len(x) :], s.sum()
    bins = made.transform.bins
    y, total = [], 0.0
    for value, outputs in zip(x, raw.view(len(x), -1), strict=True):
        one, slope = durkan(value, outputs[:bins], outputs[bins : 2 * bins], outputs[2 * bins :], 5.0)
        y.append(one)
        total = total + slope
    return torch.stack(y), total


def durkan(x, widths, heights, slopes, bound):
    """Durkan+2019 equations 4 and 5 for one number, with their floors."""
    bins = len(widths)
    if abs(float(x)) >= bound:
        return x, torch.zeros_like(x)
    sizes = [torch.softmax(part, 0) * (1 - 1e-3 * bins) + 1e-3 for part in (widths, heights)]
    xs, ys = (2 * bound * torch.cat([part.new_zeros(1), part.cumsum(0)]) - bound for part in sizes)
    inner = torch.nn.functional.softplus(slopes + 0.5413) + 1e-3
    ends = torch.cat([inner.new_ones(1), inner, inner.new_ones(1)])
    k = int((x >= xs[1:-1]).sum())
    s = (ys[k + 1] - ys[k]) / (xs[k + 1] - xs[k])
    xi = (x - xs[k]) / (xs[k + 1] - xs[k])
    below = s + (ends[k + 1] + ends[k] - 2 * s) * xi * (1 - xi)
    y = ys[k] + (ys[k + 1] - ys[k]) * (s * xi**2 + ends[k] * xi * (1 - xi)) / below
    above = s**2 * (ends[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + ends[k] * (1 - xi) ** 2)
    return y, torch.log(above) - 2 * torch.log(below)


def twin(made, member, x, context, extra):
    """Map one galaxy's quantities (T,), with its context (C,) and extra (X,)."""
    split, total = made.size // 2, 0.0
    for block in range(made.blocks):
        a, b = x[:split], x[split:]
        if split:
            raw = twin_subnet(made.subnets[0], member, block, torch.cat([b, extra]), context)
            a, slope = twin_transform(made, a, raw)
            total = total + slope
        raw = twin_subnet(made.subnets[-1], member, block, torch.cat([a, extra]), context)
        b, slope = twin_transform(made, b, raw)
        total = total + slope
        x = torch.cat([a, b])[made.orders[block]]
    return x, total


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("coupling", KINDS)
def test_the_flow_is_its_twin_galaxy_by_galaxy(coupling, size, extra, generator):
    made = flow(coupling, size, extra)
    x, context = 2 * columns(generator, 2, size, 2, 3), columns(generator, 2, 3, 3)
    more = columns(generator, 2, extra, 2, 3)
    with torch.no_grad():
        z, slope = made.condition(context).forward(x, more if extra else None)
        for member in range(2):
            for draw in range(2):
                for row in range(3):
                    where = (member, slice(None), draw, row)
                    want, total = twin(made, member, x[where], context[member, :, row], more[where])
                    torch.testing.assert_close(z[where], want)
                    torch.testing.assert_close(slope[member, draw, row], total)


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("coupling", KINDS)
def test_the_log_determinant_is_that_of_the_jacobian(coupling, size, extra, generator):
    made = flow(coupling, size, extra, members=1)
    x, context = 1.5 * columns(generator, 1, size, 1, 3), columns(generator, 1, 3, 3)
    more = columns(generator, 1, extra, 1, 3) if extra else None
    with torch.no_grad():
        _, slope = made.condition(context).forward(x, more)

    for row in range(3):
        part = slice(row, row + 1)
        here = made.condition(context[..., part])

        def mapped(u, here=here, part=part):
            return here.forward(u.view(1, size, 1, 1), None if more is None else more[..., part])[0].flatten()

        jacobian = torch.autograd.functional.jacobian(mapped, x[0, :, 0, row])
        torch.testing.assert_close(slope[0, 0, row].double(), torch.linalg.slogdet(jacobian)[1].detach())


@pytest.mark.parametrize("coupling", KINDS)
def test_a_single_block_has_the_log_determinant_of_its_own_jacobian(coupling, generator):
    made = flow(coupling, 5, members=1, blocks=1)
    context = columns(generator, 1, 3, 1)
    x = columns(generator, 5)
    here = made.condition(context)
    jacobian = torch.autograd.functional.jacobian(lambda u: here.forward(u.view(1, 5, 1, 1))[0].flatten(), x)
    slope = here.forward(x.view(1, 5, 1, 1))[1].detach()
    torch.testing.assert_close(slope.flatten()[0], torch.linalg.slogdet(jacobian)[1].detach())


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("coupling", KINDS)
@torch.no_grad()
def test_inverse_undoes_forward_and_forward_inverse(coupling, size, extra, draws, generator):
    made = flow(coupling, size, extra)
    here = made.condition(columns(generator, 2, 3, 20))
    more = columns(generator, 2, extra, draws, 20) if extra else None
    x = 2.5 * columns(generator, 2, size, draws, 20)
    torch.testing.assert_close(here.inverse(here.forward(x, more)[0], more), x, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(here.forward(here.inverse(x, more), more)[0], x, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("coupling", KINDS)
def test_the_gradient_written_out_is_torchs(coupling, size, extra, generator):
    made = flow(coupling, size, extra, members=3)
    context = columns(generator, 3, 3, 30).requires_grad_()
    x = (3 * columns(generator, 3, size, 1, 30)).requires_grad_()
    more = columns(generator, 3, extra, 1, 30) if extra else None
    weight, lift = columns(generator, 3, size, 1, 30), columns(generator, 3, 1, 30)
    inputs = [x, context, *made.parameters()]

    def gradients(z, slope):
        return torch.autograd.grad((z * weight).sum() + (slope * lift).sum(), inputs)

    found = gradients(*made.condition(context).forward(x, more))
    here = made.condition(context)
    passing = here._passing(x, more)
    z, slope = passing.forward(x.flatten(2))
    for mine, torchs in zip(found, gradients(z.view(x.shape), slope.view(3, 1, 30)), strict=True):
        torch.testing.assert_close(mine, torchs, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("coupling", KINDS)
def test_draws_can_be_differentiated_too(coupling, size, extra, generator):
    made = flow(coupling, size, extra)
    context = columns(generator, 2, 3, 4).requires_grad_()
    z = columns(generator, 2, size, 5, 4)
    more = columns(generator, 2, extra, 5, 4).requires_grad_() if extra else None
    assert torch.autograd.gradcheck(lambda c: made.condition(c).inverse(z, more), context, fast_mode=True)
    assert torch.autograd.gradcheck(lambda c: made.condition(c).forward(z, more), context, fast_mode=True)
    if extra:
        only = more[:, :, :1].detach().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda e: made.condition(context.detach()).forward(z[:, :, :1], e), only, fast_mode=True
        )


@pytest.mark.parametrize("coupling", KINDS)
@torch.no_grad()
def test_members_share_nothing(coupling, generator):
    made = flow(coupling, 3, members=2)
    context, x = columns(generator, 2, 3, 8), columns(generator, 2, 3, 1, 8)
    before = made.condition(context).forward(x)[0]
    for parameter in made.parameters():
        assert len(parameter) == 2
        parameter[1].add_(0.1)
    after = made.condition(context).forward(x)[0]
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


@pytest.mark.parametrize("coupling", KINDS)
@torch.no_grad()
def test_every_quantity_is_moved_by_every_other(coupling, generator):
    made = flow(coupling, 5, members=1, blocks=3)
    here = made.condition(columns(generator, 1, 3, 1))
    x = columns(generator, 5)
    with torch.enable_grad():
        jacobian = torch.autograd.functional.jacobian(lambda u: here.forward(u.view(1, 5, 1, 1))[0].flatten(), x)
    assert (jacobian != 0).all()


def test_permutations_come_from_the_seed_and_are_not_weights():
    first, same, other = (CouplingFlow(1, 5, 2, blocks=6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.orders, same.orders)
    assert not torch.equal(first.orders, other.orders)
    assert (first.orders.sort(dim=1).values == torch.arange(5)).all()
    assert not [name for name in first.state_dict() if "order" in name or "return" in name]


@pytest.mark.parametrize("clamp", [0.5, 1.0, 2.0])
def test_the_affine_block_is_softly_clamped(clamp):
    raw = torch.cat([torch.linspace(-1e4, 1e4, 101), torch.zeros(101)]).view(1, 2, 101)
    _, slope, _ = Affine(clamp).map(torch.ones(1, 1, 101), raw)
    assert float(slope.abs().max()) <= clamp
    assert float(slope.max()) > 0.998 * clamp


@pytest.mark.parametrize("bins", [2, 3, 8, 16])
def test_the_spline_is_zukos(bins, generator):
    spline = RationalQuadratic(bins)
    x = columns(generator, 2, 3, 200) * 2
    raw = columns(generator, 2, spline.outputs(3), 200) * 2
    y, slope, _ = spline.map(x, raw)
    widths, heights, slopes = raw.unflatten(1, (3, -1)).movedim(2, -1).split([bins, bins, bins - 1], dim=-1)
    # zuko has other floors: give it logarithms of our sizes and slopes, and make its own floors vanish
    sizes = [torch.log(torch.softmax(part, -1) * (1 - bins * 1e-3) + 1e-3) for part in (widths, heights)]
    steep = torch.log(torch.nn.functional.softplus(slopes + 0.5413) + 1e-3)

    class Plain(MonotonicRQSTransform):
        def __init__(self):
            super().__init__(*sizes, steep, bound=5.0)
            for name, part in (("horizontal", sizes[0]), ("vertical", sizes[1])):
                edges = 5.0 * (2 * torch.nn.functional.pad(part.exp(), (1, 0)).cumsum(-1) - 1)
                setattr(self, name, edges)
            self.derivatives = torch.nn.functional.pad(steep, (1, 1)).exp()

    want, ladj = Plain().call_and_ladj(x)
    torch.testing.assert_close(y, want, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(slope, ladj, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(spline.inverse(y, raw), x, atol=1e-8, rtol=1e-8)


def test_a_spline_with_outputs_of_zero_is_nearly_the_identity_and_exactly_outside():
    spline = RationalQuadratic(8)
    x = torch.linspace(-7, 7, 1401).view(1, 1, -1)
    y, slope, _ = spline.map(x, torch.zeros(1, spline.outputs(1), 1401))
    torch.testing.assert_close(y, x, atol=1e-3, rtol=0)
    outside = x.abs() >= 5
    assert torch.equal(y[outside], x[outside])
    assert (slope[outside] == 0).all()
    assert (slope.abs() < 2e-3).all()


def test_splines_rise_whatever_the_outputs(generator):
    spline = RationalQuadratic(8)
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64).expand(1, 50, -1)
    for size in (0.1, 3.0, 30.0):
        raw = size * columns(generator, 1, spline.outputs(50), 1)
        y, slope, _ = spline.map(x, raw.expand(-1, -1, 4001))
        assert (y.diff(dim=-1) > 0).all()
        assert torch.isfinite(slope).all()
        assert (y.abs() <= 6.0001).all()


def test_nan_passes_through_and_stays_in_its_row(generator):
    for coupling in KINDS:
        made = flow(coupling, 3, members=1)
        context = columns(generator, 1, 3, 6)
        context[0, 1, 2] = torch.nan
        x = columns(generator, 1, 3, 1, 6)
        with torch.no_grad():
            density = made.condition(context).log_prob(x)
            back = made.condition(context).inverse(x)
        assert density[0, 0].isnan().tolist() == [row == 2 for row in range(6)]
        assert back.isnan().all(dim=1)[0, 0].tolist() == [row == 2 for row in range(6)]


def test_a_column_net_is_a_plain_network_per_member(generator):
    net = ColumnNet(2, (3, 5, 4, 2))
    net.reset(generator)
    x = torch.randn(2, 3, 7, generator=generator)
    for member in range(2):
        h = x[member].T
        for index, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            h = torch.nn.functional.linear(torch.relu(h) if index else h, weight[member], bias[member, :, 0])
        torch.testing.assert_close(net(x)[member], h.T)


@pytest.mark.parametrize(
    "options",
    [
        {"coupling": "cubic"},
        {"clamp": 0.0},
        {"clamp": float("nan")},
        {"bins": 1},
        {"blocks": 0},
        {"blocks": 2.0},
        {"size": 0},
        {"context": 0},
    ],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        CouplingFlow(**{"members": 1, "size": 2, "context": 3, **options})


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "size"), [(0, 4), (3, 4), (4, 4), (9, 4), (9, 1)])
def test_pieces_come_in_order_on_one_thread_each_and_leave_torch_as_it_was(rows, size, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = in_chunks(lambda number, part: (number, part, torch.get_num_threads()), rows, size)
        with pytest.raises(ZeroDivisionError):
            in_chunks(lambda number, part: 1 // 0, rows, size)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert [number for number, _, _ in seen] == list(range(len(seen)))
    covered = [row for _, part, _ in seen for row in range(part.start, part.stop)]
    assert covered == list(range(rows))
    if len(seen) > 1:
        assert {count for _, _, count in seen} == {1}
    assert np.all([part.stop - part.start <= size for _, part, _ in seen])
