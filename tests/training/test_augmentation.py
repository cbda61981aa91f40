"""Random looks at galaxies: what is drawn, and that it is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from galineage.errors import ConfigError
from galineage.training.augmentation import Augmentation, augment

STILL = {"rotation": 0.0, "shift": 0.0, "zoom": 1.0, "flips": False, "blur": (0.0, 0.0), "noise": (0.0, 0.0)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_any_change_an_image_stays_as_it_is():
    images = torch.rand(3, 2, 16, 16, generator=generator())
    torch.testing.assert_close(augment(images, Augmentation(**STILL), generator()), images)


def test_flips_are_flips():
    image = torch.rand(1, 1, 8, 8, generator=generator())
    seen = set()
    found = augment(image.expand(64, -1, -1, -1), Augmentation(**{**STILL, "flips": True}), generator())
    for one in found:
        same = [
            axes for axes in ((), (1,), (2,), (1, 2)) if torch.allclose(one, image[0].flip(axes) if axes else image[0])
        ]
        assert same
        seen.add(same[0])
    assert len(seen) == 4


def test_a_turn_keeps_a_round_galaxy_and_its_light():
    place = torch.linspace(-1, 1, 33)
    radius = torch.hypot(place[:, None], place[None, :])
    round_one = torch.exp(-8 * radius**2)[None, None].expand(20, 1, -1, -1)
    found = augment(round_one, Augmentation(**{**STILL, "rotation": 180.0}), generator())
    torch.testing.assert_close(found, round_one, atol=0.02, rtol=0)


def test_shifts_stay_within_their_limit():
    image = torch.zeros(200, 1, 32, 32)
    image[:, 0, 15:17, 15:17] = 1
    found = augment(image, Augmentation(**{**STILL, "shift": 0.25}), generator())
    mass = found.sum((1, 2, 3))
    pixel = torch.arange(32.0)
    moved = torch.stack([(found.sum((1, axis)) * pixel).sum(1) / mass - 15.5 for axis in (2, 3)])
    assert float(moved.abs().max()) <= 8.01
    assert float(moved.abs().max()) > 7
    assert float(moved.mean(1).abs().max()) < 1


def test_blur_is_a_gaussian_of_its_own_width_for_each_image():
    images = torch.rand(2, 3, 24, 24, generator=generator())
    config = Augmentation(**{**STILL, "blur": (0.5, 1.5)})
    draws = generator(5)
    torch.rand((6, 2), generator=draws)  # what turns, shifts and zooms draw first
    sigma = 0.5 + torch.rand(2, generator=draws)
    found = augment(images, config, generator(5))
    for one, image, width in zip(found, images, sigma, strict=True):
        wanted = [gaussian_filter(band.numpy(), float(width), mode="nearest", truncate=6.5) for band in image]
        np.testing.assert_allclose(one.numpy(), wanted, atol=2e-4)


def test_noise_has_the_width_that_was_asked_for():
    found = augment(torch.zeros(50, 1, 40, 40), Augmentation(**{**STILL, "noise": (0.02, 0.06)}), generator())
    spread = found.std((1, 2, 3))
    assert 0.018 < float(spread.min()) < 0.03
    assert 0.05 < float(spread.max()) < 0.062


def test_gains_change_each_band_by_a_factor():
    image = torch.full((100, 3, 4, 4), 0.5)
    found = augment(image, Augmentation(**{**STILL, "gain": 0.4}), generator())
    factor = (found / image)[:, :, 0, 0]
    torch.testing.assert_close(found, image * factor[:, :, None, None])
    assert 0.6 <= float(factor.min()) < 0.63
    assert 1.37 < float(factor.max()) <= 1.4
    assert abs(float(torch.corrcoef(factor.T)[0, 1])) < 0.3


def test_every_image_is_shown_in_another_way_and_a_seed_says_how():
    image = torch.rand(1, 3, 16, 16, generator=generator()).expand(4, -1, -1, -1)
    found = augment(image, Augmentation(), generator(1))
    assert len({tuple(one.flatten()[:50].tolist()) for one in found}) == 4
    torch.testing.assert_close(found, augment(image, Augmentation(), generator(1)), rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotation": 200},
        {"shift": -0.1},
        {"zoom": 0.5},
        {"blur": (1.0, 0.5)},
        {"noise": (0.1,)},
        {"noise": (-1, 0)},
        {"gain": 1.0},
    ],
)
def test_impossible_augmentations_are_refused(wrong):
    with pytest.raises(ConfigError):
        Augmentation(**wrong)
