"""Cameras: exact bodies, rolls, singular cases, mirrored pairs, the authors' tilted ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galineage.errors import ConfigError, DataError
from galineage.stars import Stars
from galineage.views import (
    View,
    edge_on,
    face_on,
    fibonacci,
    inclined,
    legacy_eagle,
    legacy_tng,
    mirrors,
    polyhedron,
    random_views,
)
from galineage.views.cameras import NUMBERS

numbers = st.floats(-1e3, 1e3, allow_nan=False)
vectors = st.tuples(numbers, numbers, numbers)


@given(los=vectors)
def test_every_matrix_is_a_rotation_and_x_points_right(los):
    if not np.linalg.norm(los) > 1e-6:
        return
    view = View(los)
    np.testing.assert_allclose(view.matrix @ view.matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(view.matrix) == pytest.approx(1)
    np.testing.assert_allclose(view.matrix[2], np.array(los) / np.linalg.norm(los), atol=1e-12)
    # the simulation's x axis, projected: to the right, and not up or down
    assert view.matrix[0, 0] >= -1e-9
    if view.matrix[0, 0] > 1e-6:
        assert abs(view.matrix[1, 0]) < 1e-9 / view.matrix[0, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_singular_line_of_sight_has_y_up(sign):
    np.testing.assert_array_equal(View([sign, 0, 0]).matrix, [[0, 0, -sign], [0, 1, 0], [sign, 0, 0]])


def test_an_up_that_is_no_direction_in_the_image_is_refused():
    for los, up in (([0, 0, 1], [0, 0, -2]), ([1, 2, 3], [2, 4, 6])):
        with pytest.raises(ConfigError, match="parallel"):
            View(los, up)
    for wrong in ([0, 0, 0], [1, 2], [np.nan, 0, 1], [np.inf, 0, 0]):
        with pytest.raises(ConfigError):
            View(wrong)
        with pytest.raises(ConfigError):
            View([0, 0, 1], wrong)
    with pytest.raises(ConfigError, match="sign"):
        View([0, 0, 1], sign=0)


def test_a_roll_turns_the_camera(top):
    turned = top.rolled(np.pi / 2)
    np.testing.assert_allclose(turned.up, [-1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(turned.right, [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(turned.rolled(-np.pi / 2).matrix, top.matrix, atol=1e-15)
    assert View([0, 0, 2], [0, 3, 0]) == top
    assert len({View([0, 0, 2]), top, turned}) == 2
    assert turned != top


@pytest.mark.parametrize("number", NUMBERS)
def test_bodies_are_regular(number):
    los = np.array([view.los for view in polyhedron(number)])
    assert len(los) == number
    np.testing.assert_allclose(np.linalg.norm(los, axis=1), 1, atol=1e-15)
    closest = {4: 109.4712, 6: 90.0, 8: 70.5288, 12: 63.4349, 20: 41.8103}
    whole = {2: 4, 3: 4, 10: 12}.get(number, number)
    if number > 1:
        angles = np.degrees(np.arccos(np.clip(los @ los.T, -1, 1)))[~np.eye(number, dtype=bool)]
        assert angles.min() == pytest.approx(closest[whole], abs=1e-4)
    if number in closest:  # every vertex sees the others alike
        ranked = np.sort(np.round(los @ los.T, 12), axis=1)
        np.testing.assert_allclose(ranked, ranked[[0] * number], atol=1e-12)
        np.testing.assert_allclose(los.sum(axis=0), 0, atol=1e-14)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("seed", [None, 3])
def test_half_of_a_body_with_antipodes_is_mirrored(number, seed):
    pairs = mirrors(polyhedron(number, seed))
    assert sum(pair is not None for pair in pairs) == {6: 3, 8: 4, 10: 4, 12: 6, 20: 10}.get(number, 0)
    if seed is not None:
        assert {pair[1] for pair in pairs if pair} <= {0}


def test_pairs_whose_roll_or_sign_differs_are_not_mirrored():
    view = View([1, 2, 3])
    assert mirrors([view, View([-1, -2, -3])]) == (None, (0, 0))
    assert mirrors([view, View([-1, -2, -3]).rolled(0.1)]) == (None, None)
    assert mirrors([view, View([-1, -2, -3], sign=-1)]) == (None, None)
    # the same up on both sides: left and right change places
    assert mirrors([View([1, 2, 3], [0, 0, 1]), View([-1, -2, -3], [0, 0, 1])]) == (None, (0, 1))
    assert mirrors([view, view]) == (None, None)


def test_a_random_rotation_keeps_the_body_and_is_seeded():
    one, other, again = (np.array([v.los for v in polyhedron(12, seed)]) for seed in (1, 2, 1))
    fixed = np.array([v.los for v in polyhedron(12)])
    np.testing.assert_allclose(one @ one.T, fixed @ fixed.T, atol=1e-14)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


def test_random_rotations_are_uniform():
    # the first vertex falls everywhere alike: mean 0 and variance 1/3 for each coordinate
    los = np.array([polyhedron(6, seed)[0].los for seed in range(2000)])
    assert np.abs(los.mean(axis=0)).max() < 4 * np.sqrt(1 / 3 / 2000)
    np.testing.assert_allclose((los**2).mean(axis=0), 1 / 3, atol=0.03)


def test_random_and_spiral_sets():
    los = np.array([view.los for view in random_views(3000, seed=0)])
    assert np.abs(los.mean(axis=0)).max() < 0.05
    assert random_views(3, 4)[1] == random_views(3, 4)[1]
    rolled = random_views(2, 4, roll=True)
    np.testing.assert_allclose(rolled[0].los, random_views(2, 4)[0].los)
    assert rolled[0] != random_views(2, 4)[0]
    spiral = np.array([view.los for view in fibonacci(50)])
    near = np.sort(spiral @ spiral.T, axis=1)[:, -2]
    assert np.degrees(np.arccos(near)).min() > 0.7 * np.sqrt(4 * np.pi / 50) * 180 / np.pi * 0.8
    for wrong in (lambda: fibonacci(0), lambda: random_views(0, 1), lambda: polyhedron(5)):
        with pytest.raises(ConfigError):
            wrong()


def turning(spin):
    """A ring that turns around a direction."""
    axis = np.array(spin, float) / np.linalg.norm(spin)
    first = np.cross(axis, [0.3, -0.2, 0.9])
    first /= np.linalg.norm(first)
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)[:, np.newaxis]
    position = np.cos(angle) * first + np.sin(angle) * np.cross(axis, first)
    return Stars(position=position, velocity=np.cross(axis, position) * 100, mass=np.ones(100))


@pytest.mark.parametrize("spin", [(0, 0, 1), (1, 0, 0), (-1, 0, 0), (1, -2, 0.5)])
def test_views_by_the_stars_spin(spin):
    axis, stars = np.array(spin) / np.linalg.norm(spin), turning(spin)
    np.testing.assert_allclose(face_on(stars).los, axis, atol=1e-12)
    assert abs(edge_on(stars).los @ axis) < 1e-12
    np.testing.assert_allclose(edge_on(stars).up, axis, atol=1e-12)
    for degrees in (0.0, 1e-7, 30.0, 60.0):
        view = inclined(stars, degrees, azimuth=40.0)
        assert np.degrees(np.arccos(min(view.los @ axis, 1))) == pytest.approx(degrees, abs=1e-5)
        # the spin projects upwards
        assert abs(view.right @ axis) < 1e-9
        assert view.up @ axis >= -1e-12
    # no jump at face-on
    np.testing.assert_allclose(inclined(stars, 0.0, 40.0).matrix, inclined(stars, 1e-7, 40.0).matrix, atol=1e-8)


def test_stars_without_spin_have_no_inclination():
    stars = Stars(position=[[1, 0, 0], [-1, 0, 0]], velocity=[[5, 0, 0], [-5, 0, 0]], mass=[1, 1])
    with pytest.raises(DataError, match="angular momentum"):
        face_on(stars)


def authors(vertex, box, centre):
    """The rotation of the authors' map maker, written as they did: about x, then about y."""
    target = np.asarray(vertex) * 2 * box + centre
    a = np.arctan2(target[1], target[2])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turned = about_x @ target
    b = -np.arctan2(turned[0], turned[2])
    return np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]) @ about_x


def test_legacy_cameras_are_the_authors():
    golden = (1 + np.sqrt(5)) / 2
    vertices = {4: (0, 0, 1), 6: (0, 0, -1), 8: (1, 1, 1), 12: (-golden, 0, -1), 20: (-golden, -1 / golden, 0)}
    centre = np.array([61_000.0, 3_000.0, 80_000.0])
    for number, last in vertices.items():
        view = legacy_eagle(number, centre, 1e5)[-1]
        np.testing.assert_allclose(view.matrix, authors(last, 1e5, centre), atol=1e-12)
        view = legacy_tng(number, centre, 110_717.0, scale_factor=0.9, hubble=0.6774)[-1]
        np.testing.assert_allclose(view.matrix, authors(last, 110_717.0 * 0.9, centre * 0.9 / 0.6774), atol=1e-12)
        assert view.sign == -1
    assert legacy_tng(1, centre, 1e5, scale_factor=1, hubble=0.7)[0].matrix.tolist() == np.eye(3).tolist()


def test_legacy_cameras_deviate_as_they_did():
    # median deviation from the vertices: 30 degrees for the octahedron on TNG, 12 for the cube on EAGLE
    rng = np.random.default_rng(0)
    tng, eagle = [], []
    for centre in rng.uniform(0, 1, (200, 3)):
        views = legacy_tng(6, centre * 110_717, 110_717, scale_factor=1, hubble=0.6774)
        tng += [np.degrees(np.arccos(a.los @ b.los)) for a, b in zip(views, polyhedron(6), strict=True)]
        views = legacy_eagle(8, centre * 1e5, 1e5)
        eagle += [np.degrees(np.arccos(a.los @ b.los)) for a, b in zip(views, polyhedron(8), strict=True)]
    assert np.median(tng) == pytest.approx(30, abs=2)
    assert np.median(eagle) == pytest.approx(12, abs=2)
