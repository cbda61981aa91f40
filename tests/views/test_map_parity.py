"""Maps agree with scipy's on the same pixels, for every number of views, made-up and real galaxies."""

import numpy as np
import pytest

from galineage.views import MapConfig, legacy_eagle, legacy_tng, make_maps, polyhedron, random_views
from galineage.views.cameras import NUMBERS

EXACT = MapConfig(exact=True)
REAL = ("tng100_099_394242", "eagle_028_636522", "illustris1_135_420815")


@pytest.fixture
def assert_agree(twin):
    """Function that compares all maps of a galaxy with scipy's."""

    def check(galaxy, maps, **how):
        for index, view in enumerate(maps.views):
            wanted = twin(galaxy, view, systemic=maps.systemic, **how)
            assert set(wanted) == set(maps.channels)
            np.testing.assert_array_equal(maps["count"][index], wanted["count"])
            np.testing.assert_allclose(maps["mass"][index], wanted["mass"], rtol=1e-6)
            for channel, tolerance in (("velocity", 1e-4), ("sigma", 1e-4), ("metallicity", 1e-9), ("age", 1e-6)):
                if channel in maps:
                    np.testing.assert_allclose(maps[channel][index], wanted[channel], rtol=1e-7, atol=tolerance)

    return check


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_of_views_is_as_scipy_has_it(number, assert_agree, made_up):
    galaxy = made_up(3_000, seed=number)
    assert_agree(galaxy, make_maps(galaxy, polyhedron(number, seed=5), EXACT))


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n in (1, 6) else pytest.mark.slow) for n in NUMBERS])
def test_real_galaxies_are_as_scipy_has_them(name, number, assert_agree, real):
    galaxy = real(name)
    assert_agree(galaxy, make_maps(galaxy, polyhedron(number), EXACT))


@pytest.mark.parametrize("weighting", ["number", "mass"])
@pytest.mark.parametrize("systemic", ["given", "bound", "inner"])
def test_both_weights_and_every_systemic_velocity(weighting, systemic, assert_agree, disc):
    config = MapConfig(exact=True, weighting=weighting, systemic=systemic, pixels=40, half_width=1.5)
    maps = make_maps(disc, random_views(2, seed=1, roll=True), config)
    assert (systemic == "given") == (not maps.systemic.any())
    assert_agree(disc, maps, weighting=weighting, pixels=40, half_width=1.5)


def test_the_authors_tilted_cameras_too(assert_agree, made_up):
    galaxy = made_up(2_000)
    centre = (60_000.0, 20_000.0, 90_000.0)
    views = (*legacy_tng(4, centre, 110_717.0, scale_factor=0.9, hubble=0.6774), *legacy_eagle(6, centre, 1e5))
    assert_agree(galaxy, make_maps(galaxy, views, EXACT))


@pytest.mark.parametrize("count", [1_000, 30_000])
def test_the_fast_way_differs_only_by_stars_on_an_edge(count, made_up, twin):
    galaxy = made_up(count)
    maps = make_maps(galaxy, polyhedron(3))
    assert maps.values.dtype == np.float32
    for index, view in enumerate(maps.views):
        wanted = twin(galaxy, view)
        same = maps["count"][index] == wanted["count"]
        assert (~same).sum() <= 4
        for channel, tolerance in (
            ("mass", 0),
            ("velocity", 1e-4),
            ("sigma", 1e-4),
            ("metallicity", 1e-8),
            ("age", 1e-5),
        ):
            np.testing.assert_allclose(
                maps[channel][index][same], wanted[channel][same], rtol=1e-6, atol=tolerance, err_msg=channel
            )


def test_the_last_edge_belongs_to_the_last_pixel(made_up, top):
    # as in numpy.histogram2d; a little farther out is outside
    from dataclasses import replace

    from galineage.stars import Stars

    galaxy = made_up(10, r_half=1.0)
    stars = Stars(
        position=[[2, 2, 0], [-2, -2, 0], [2.0001, 0, 0], [0, -2.0001, 0], [0, 0, 0]],
        velocity=np.zeros((5, 3)),
        mass=np.ones(5),
    )
    for config in (MapConfig(), EXACT):
        maps = make_maps(replace(galaxy, stars=stars), [top], config)
        assert maps["count"][0, 127, 127] == maps["count"][0, 0, 0] == maps["count"][0, 64, 64] == 1
        assert maps["count"].sum() == 3
        assert maps.outside == [2]
