"""Views of a galaxy are no independent galaxies: errors that count them so are too small."""

from __future__ import annotations

import numpy as np
import pytest

from galineage.evaluation.bootstrap import bootstrap, spread


def mean(values):
    return values.mean(axis=-1)


def test_repeated_rows_do_not_shrink_the_error():
    values = np.random.default_rng(0).standard_normal(200)
    one = spread(bootstrap(mean, values, n_boot=800), 200)
    eight = np.repeat(values, 8)
    naive = spread(bootstrap(mean, eight, n_boot=800), 1600)
    right = spread(bootstrap(mean, eight, n_boot=800, galaxies=np.repeat(np.arange(200), 8)), 1600)
    assert naive == pytest.approx(one / 8**0.5, rel=0.1)
    assert right == pytest.approx(one, rel=0.1)


def test_one_row_each_is_the_plain_bootstrap():
    values = np.random.default_rng(1).standard_normal(50)
    np.testing.assert_array_equal(
        bootstrap(mean, values, seed=3), bootstrap(mean, values, seed=3, galaxies=np.arange(50))
    )
