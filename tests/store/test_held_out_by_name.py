"""What is held out by name: each root where it is, whoever else is there."""

from __future__ import annotations

import numpy as np
import pytest

from galineage import Catalogue
from galineage.errors import DataError
from galineage.store.splits import held_out_by_name


def galaxies(names: list[str], domain: str = "a") -> Catalogue:
    return Catalogue({}, np.arange(len(names)), np.full(len(names), domain), root=np.array(names))


def test_a_root_stays_where_it_is():
    names = [f"a:{k}" for k in range(400)]
    whole = dict(zip(names, held_out_by_name(galaxies(names), 0.2, 1).tolist(), strict=True))
    assert 0.14 < np.mean(list(whole.values())) < 0.26
    some = names[::-1][:250]
    assert [whole[name] for name in some] == held_out_by_name(galaxies(some), 0.2, 1).tolist()
    views = [name for name in names for _ in range(2)]
    assert [whole[name] for name in views] == held_out_by_name(galaxies(views), 0.2, 1).tolist()
    plain = [name.removeprefix("a:") for name in names]  # as a store may have them
    assert list(whole.values()) == held_out_by_name(galaxies(plain), 0.2, 1).tolist()
    assert list(whole.values()) != held_out_by_name(galaxies(names), 0.2, 2).tolist()
    assert list(whole.values()) != held_out_by_name(galaxies(plain, "b"), 0.2, 1).tolist()


def test_nothing_held_out_is_refused():
    with pytest.raises(DataError, match="roots would be held out"):
        held_out_by_name(galaxies(["a:1", "a:2"]), 0.001, 0)
