"""What a network looks at: integrals that are complete, equal to captum's, and blind where the network is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from galineage.errors import ConfigError
from galineage.evaluation import attribution, figure_of
from galineage.models import make_estimator
from galineage.models.map_inputs import MapInputs


class Held:
    """Maps in memory."""

    channels, recipe = ("mass", "velocity", "sigma"), {}

    def __init__(self, n=40, seed=0):
        self.values = np.random.default_rng(seed).standard_normal((n, 3, 16, 16)).astype(np.float32)

    def __len__(self):
        return len(self.values)

    def read(self, which):
        return self.values[which]


@pytest.fixture(scope="module")
def network():
    made = make_estimator(
        "maps", (), members=2, pixels=16, channels=Held.channels, seen=("mass", "sigma"), aperture=1.5
    )
    with torch.no_grad():
        for one in made.networks:
            one["last"].weight.mul_(30)  # answers that depend on what is seen
    return made.eval()


@pytest.fixture(scope="module")
def found(network):
    return attribution.compute(network, MapInputs(Held(), np.zeros((40, 0))), rings=6, steps=48)


def test_integrated_gradients_are_captums(network):
    captum = pytest.importorskip("captum.attr")
    maps = torch.from_numpy(Held(6).values)

    def answer(part):
        return network(part).mean.mean(dim=0)

    ours = attribution.integrated_gradients(answer, maps, 32)
    theirs = captum.IntegratedGradients(answer).attribute(maps, n_steps=32, method="gausslegendre")
    torch.testing.assert_close(ours, theirs.float(), atol=1e-5, rtol=1e-3)


def test_of_a_linear_answer_every_pixel_gets_its_share():
    weights = torch.linspace(-1, 1, 12).reshape(3, 2, 2)
    maps = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    got = attribution.integrated_gradients(lambda part: (part * weights).sum((1, 2, 3)), maps, 3)
    torch.testing.assert_close(got, maps * weights)


def test_integrals_are_complete_and_blind_where_the_network_is(network, found):
    assert found.completeness < 0.02
    assert found.channels == ("mass", "sigma")
    assert found.edges[-1] == 1.5
    assert (found.gradients > 0).all()


def test_empty_maps_are_no_start_for_a_network_that_sees_shapes_only(network):
    inputs = MapInputs(Held(8), np.zeros((8, 0)))
    assert attribution.compute(network, inputs, rings=1, steps=8, baseline="zero").completeness > 0.5
    assert not attribution.judge(attribution.compute(network, inputs, rings=1, steps=8, baseline="zero")).passed
    published = make_estimator("maps-paper", (), members=1, pixels=16, channels=Held.channels).eval()
    assert attribution.compute(published, inputs, rings=1, steps=64, baseline="zero").completeness < 0.05


def test_it_says_and_draws_it(found):
    verdict = attribution.judge(found)
    assert verdict.passed
    assert "moves the posterior mean most" in verdict.sentence
    assert len(found.to_table()) == 12
    axes = attribution.draw(found)
    assert len(axes) == 3
    figure_of(axes).canvas.draw()


def test_no_rings_are_refused(network):
    with pytest.raises(ConfigError, match="0 rings"):
        attribution.compute(network, MapInputs(Held(), np.zeros((40, 0))), rings=0)
