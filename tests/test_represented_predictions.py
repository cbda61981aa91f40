"""Predictions from representations: which flags look at them."""

from __future__ import annotations

import numpy as np
import pytest

from galineage import Catalogue, TrainConfig, predict, train
from galineage.errors import ConfigError
from galineage.fields import expanded_features, field, listed, representation_features


def galaxies(count: int, seed: int, far: float = 0.0) -> Catalogue:
    rng = np.random.default_rng(seed)
    names = representation_features(30)
    values = rng.standard_normal((count, len(names))) + far
    columns = dict(zip(names, values.T, strict=True))
    columns |= {"mstar": 10 ** rng.uniform(10, 11, count), "f_ex": rng.uniform(0.05, 0.95, count)}
    ids = np.arange(count)
    return Catalogue(columns, ids, np.full(count, "a"), root=np.char.add("a:", ids.astype(str)))


def test_coordinates_of_a_representation_are_judged_together():
    features = expanded_features(["mstar", "representation:30"])
    bundle = train(galaxies(200, 0), features, config=TrainConfig(max_epochs=2), members=1, progress=False)
    like, unlike = (np.asarray(predict(bundle, galaxies(300, 1, far))["flag"]) for far in (0.0, 6.0))
    assert (like & 6 > 0).mean() < 0.1  # of the stellar mass alone: 30 more inputs would flag nearly half
    assert (unlike & 6 > 0).mean() < 0.1
    assert (like & 32 > 0).mean() < 0.15
    assert (unlike & 32 > 0).all()


def test_names_of_representations():
    assert field("rep_017").meaning.startswith("coordinate 17")
    assert listed(expanded_features(["mstar", "representation"])) == "mstar, rep_000 to rep_255"
    for wrong in ("representation:x", "representation:0", "representation:2000"):
        with pytest.raises(ConfigError):
            expanded_features([wrong])
    with pytest.raises(ConfigError):
        field("rep_1")


def test_rows_of_a_galaxy_can_be_told_apart():
    known = galaxies(120, 0)
    bundle = train(known, ["mstar"], config=TrainConfig(max_epochs=1), members=1, progress=False)
    assert "view" not in predict(bundle, known).colnames
    two = known.select(np.repeat(np.arange(10), 2))
    two = Catalogue({**two.columns, "view": np.tile([0, 1], 10), "snapshot": np.full(20, 99)}, two.ids, two.domain)
    found = predict(bundle, two)
    assert found["view"].tolist() == [0, 1] * 10
    assert "snapshot" not in found.colnames, "there is one"
    assert found.colnames.index("view") == 2
