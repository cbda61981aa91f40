"""Galaxies to look at: made up, and the real ones where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from galineage.stars import Galaxy, Stars
from galineage.views import View

DATA = Path(os.environ.get("GALINEAGE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "particles"


def _made_up(count, seed=0, *, r_half=5.0, offset=(0.0, 0.0, 0.0)):
    """A disc that turns, in a round halo of stars."""
    rng = np.random.default_rng(seed)
    disc = count * 2 // 3
    radius, angle = rng.gamma(2.0, r_half / 2.7, disc), rng.uniform(0, 2 * np.pi, disc)
    speed = 200 * np.tanh(radius / 2)
    position = np.zeros((count, 3))
    position[:disc] = np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.normal(0, 0.3, disc)], axis=1)
    velocity = rng.normal(0, 40, (count, 3))
    velocity[:disc] += np.stack([-speed * np.sin(angle), speed * np.cos(angle), np.zeros(disc)], axis=1)
    round_part = rng.standard_normal((count - disc, 3))
    round_part /= np.linalg.norm(round_part, axis=1, keepdims=True)
    root = np.sqrt(rng.uniform(0, 0.95, count - disc))
    position[disc:] = round_part * (r_half / 1.8 * root / (1 - root))[:, np.newaxis]
    velocity[disc:] += rng.normal(0, 100, (count - disc, 3))
    return Galaxy(
        id=f"made-up-{count}",
        domain="test",
        r_half=r_half,
        stars=Stars(
            position=position,
            velocity=velocity + np.asarray(offset),
            mass=rng.uniform(0.5e6, 2e6, count),
            metallicity=rng.uniform(0, 0.04, count),
            age=rng.uniform(0, 13, count),
            potential=-1e5 / (1 + np.linalg.norm(position, axis=1)),
        ),
    )


def _real(name):
    """One of the real galaxies, all their stars."""
    path = DATA / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"the real galaxies are not at hand ({path}); set GALINEAGE_TEST_DATA")
    with np.load(path) as table:
        radius = {"tng100_099_394242": 7.586881, "eagle_028_636522": 2.5156984}.get(name, 8.0)
        optional = {"metallicity": "metallicity_massfrac", "age": "age_gyr"}
        return Galaxy(
            id=name,
            domain="real",
            r_half=radius,
            stars=Stars(
                position=table["pos_kpc"],
                velocity=table["vel_kms"],
                mass=table["mass_msun"],
                **{ours: table[theirs] for ours, theirs in optional.items() if theirs in table},
            ),
        )


def _twin(galaxy, view, *, pixels=128, half_width=2.0, weighting="number", systemic=(0, 0, 0)):
    """The same maps with scipy, one statistic after the other, all in float64: slow and obvious."""
    stars, edge = galaxy.stars, half_width * galaxy.r_half
    right, up, los = view.matrix
    x = right[0] * stars.position[:, 0] + right[1] * stars.position[:, 1] + right[2] * stars.position[:, 2]
    y = up[0] * stars.position[:, 0] + up[1] * stars.position[:, 1] + up[2] * stars.position[:, 2]
    v = -view.sign * ((stars.velocity - np.asarray(systemic)) @ los)
    edges = np.linspace(-edge, edge, pixels + 1)

    def binned(values, statistic):
        return stats.binned_statistic_2d(y, x, values, statistic, bins=[edges, edges])[0]

    count, mass = np.histogram2d(y, x, bins=[edges, edges])[0], binned(stars.mass, "sum")
    found = {"count": count, "mass": mass}
    with np.errstate(invalid="ignore", divide="ignore"):
        if weighting == "number":
            found["velocity"] = np.where(count > 0, binned(v, "mean"), np.nan)
            found["sigma"] = np.where(count > 0, binned(v, "std"), np.nan)
        else:
            mean = binned(stars.mass * v, "sum") / mass
            found["velocity"] = mean
            found["sigma"] = np.sqrt(np.maximum(binned(stars.mass * v**2, "sum") / mass - mean**2, 0))
        for name in ("metallicity", "age"):
            values = getattr(stars, name)
            if values is not None:
                found[name] = binned(stars.mass * values, "sum") / mass
    return found


@pytest.fixture(scope="session")
def disc():
    """A made-up galaxy of 20,000 stars."""
    return _made_up(20_000)


@pytest.fixture(scope="session")
def top():
    """The view from the z axis: x to the right, y up."""
    return View([0, 0, 1])


@pytest.fixture(scope="session")
def made_up():
    """Function (count, seed, r_half, offset) that makes a galaxy up."""
    return _made_up


@pytest.fixture(scope="session")
def real():
    """Function (name) that reads a real galaxy."""
    return _real


@pytest.fixture(scope="session")
def twin():
    """Function (galaxy, view, ...) that makes the maps of one view with scipy."""
    return _twin
