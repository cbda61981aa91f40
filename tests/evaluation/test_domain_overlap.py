"""Every domain against every other: 5 % against its own other half, both directions, rows for thumbnails."""

from __future__ import annotations

import numpy as np
import pytest
from represented import domain

from galineage.errors import DataError
from galineage.evaluation import domain_overlap, figure_of
from galineage.evaluation.sample import Sample


@pytest.fixture(scope="module")
def found():
    samples = [domain("a", 320, seed=1), domain("b", 280, seed=2), domain("c", 320, shift=4.0, seed=3)]
    return domain_overlap.compute(samples, splits=4, halvings=2)


def test_halves_of_a_set_are_alike_and_shifted_sets_are_not(found):
    matrix = found.matrix()
    assert matrix.shape == (3, 3, 2)
    own = np.diagonal(matrix[..., 0])
    np.testing.assert_allclose(own, 0.05, atol=0.05)
    assert (matrix[..., 1] > 0).all()
    assert matrix[0, 1, 0] < 0.2
    assert min(matrix[0, 2, 0], matrix[2, 0, 0]) > 0.8
    verdict = domain_overlap.judge(found)
    assert (verdict.passed, verdict.kind) == (False, "apart")
    assert "out of domain (5 % expected)" in verdict.sentence


def test_over_many_sets_five_per_cent_are_out_of_their_own_domain():
    own = [
        domain_overlap.compute([domain("a", 400, seed=seed)], splits=3, halvings=0, seed=seed).matrix()[0, 0]
        for seed in range(12)
    ]
    fractions, errors = np.array(own).T
    assert fractions.mean() == pytest.approx(0.05, abs=0.015)
    # the mean over several halvings scatters less than its error says, which is that of counting galaxies once
    assert 0.8 < errors.mean() / fractions.std(ddof=1) < 4


def test_sets_that_are_alike_pass():
    verdict = domain_overlap.judge(domain_overlap.compute([domain("a", 320), domain("b", 320, seed=9)], splits=4))
    assert (verdict.passed, verdict.kind) == (True, "overlap")


def test_rows_for_thumbnails_are_those_of_the_sample():
    strange = domain("a", 200, seed=4)
    values = strange.values.copy()
    values[:40] += 3.0  # a clump of its own: a lone oddity is far from its own set, too
    found = domain_overlap.compute([Sample("a", values), domain("b", 200, seed=5)], splits=2, halvings=0)
    assert (found.unlike("a", "b") < 40).all()
    assert (found.typical("a", "b") >= 40).all()
    scores = found.against["a", "b"]
    order = [scores.scores[scores.rows.tolist().index(row)] for row in found.typical("a", "b", 5)]
    assert order == sorted(order)
    assert order[0] == scores.scores.min()


def test_table_and_figure(found):
    table = found.to_table()
    assert len(table) == 9
    assert set(table["scored"]) == {"a", "b", "c"}
    assert all(str(name).startswith("c/") for name in table["least_typical"][table["scored"] == "c"])
    axes = domain_overlap.draw(found)
    assert [ax.get_title() for ax in axes] == ["Out of domain [%]", "a against", "b against", "c against"]
    figure_of(axes).canvas.draw()


def test_views_of_one_galaxy_are_no_neighbours():
    found = domain_overlap.compute([domain("a", 480, views=4, seed=6)], splits=3, halvings=0)
    assert len(found.against["a", "a"].rows) == 120
    assert found.matrix()[0, 0, 0] < 0.2


def test_too_few_are_refused():
    with pytest.raises(DataError, match="60 galaxies are too few"):
        domain_overlap.compute([domain("a", 60)])
