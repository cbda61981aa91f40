"""A network for images that starts from the encoder of a representation: equal at first, moved by training, saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import galineage
from galineage.errors import ConfigError, DataError, TrainingError
from galineage.galaxy import Catalogue, HeldMaps
from galineage.models.contrastive import ContrastiveNetwork
from galineage.models.map_network import MapNetwork
from galineage.training import MapTrainConfig, map_loop

BANDS, RECIPE = ("g", "r"), {"images": "made up"}
CONFIG = MapTrainConfig(max_epochs=2, batch_size=16, device="cpu", precision="float32", checkpoint_every=1, seed=5)
TARGETS = ("f_ex", "t_last_major")
FLOW = {"coupling": "spline", "blocks": 2, "hidden": (8,), "condition": (8, 8)}


def views(count=60, seed=0, recipe=None):
    """Two images of each galaxy, whose size tells the fraction."""
    rng = np.random.default_rng(seed)
    f_ex = np.repeat(rng.uniform(0.05, 0.95, count // 2), 2)
    place = np.linspace(-1, 1, 16)
    light = np.exp(-np.hypot(place[:, None], place) / (0.2 + f_ex[:, None, None]))[:, None].repeat(2, axis=1)
    images = (light + 0.02 * rng.standard_normal(light.shape)).astype(np.float32)
    root = np.char.add("a:", np.repeat(np.arange(count // 2), 2).astype(str))
    columns = {"f_ex": f_ex, "t_last_major": 10 * f_ex, "mstar": np.full(count, 1e10)}
    maps = HeldMaps(images, BANDS, RECIPE if recipe is None else recipe)
    return Catalogue(columns, np.repeat(np.arange(count // 2), 2), np.asarray("a"), root, maps=maps)


def representation(seed=3, **options):
    return ContrastiveNetwork(BANDS, 16, **{"widths": (8, 8), "recipe": RECIPE, "seed": seed, **options}).eval()


def trained(start, config=CONFIG, folder=None, catalogue=None, **options):
    catalogue = views() if catalogue is None else catalogue
    return galineage.train(
        catalogue, model="maps-cinn", target=TARGETS, members=2, start=start, config=config, folder=folder,
        progress=False, **{"flow": FLOW, **options},
    )  # fmt: skip


def encoder(bundle, member):
    return bundle.estimator.networks[member]["encoder"].state_dict()


def test_every_member_starts_equal_to_the_representation_and_is_moved(monkeypatch):
    network = representation()
    first, start_from = [], MapNetwork.start_from

    def spied(estimator, given):
        start_from(estimator, given)
        for member in range(estimator.members):
            part = estimator.networks[member]["encoder"].state_dict()
            first.append({name: value.clone() for name, value in part.items()})

    monkeypatch.setattr(MapNetwork, "start_from", spied)
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    bundle = trained(network)
    assert bundle.estimator.encoder == "representation"
    assert bundle.estimator.widths == (8, 8)
    assert len(first) == 2
    for member, weights in enumerate(first):
        assert weights.keys() == before.keys()
        for name, value in before.items():
            assert torch.equal(weights[name], value), name
        moved = encoder(bundle, member)
        assert not torch.equal(moved["dense.0.weight"], before["dense.0.weight"]), "it is trained on"
    assert not torch.equal(encoder(bundle, 0)["dense.0.weight"], encoder(bundle, 1)["dense.0.weight"])
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, before[name]), "the representation itself stays as it is"


def test_another_start_ends_elsewhere():
    one, other, none = trained(representation()), trained(representation(seed=4)), trained(representation())
    assert not torch.equal(encoder(one, 0)["dense.0.weight"], encoder(other, 0)["dense.0.weight"])
    assert torch.equal(encoder(one, 0)["dense.0.weight"], encoder(none, 0)["dense.0.weight"])


def test_the_bundle_is_saved_and_predicts(tmp_path):
    bundle = trained(representation())
    assert "encoder representation of a representation" in bundle.card["training"]["start"]
    galineage.save(bundle, tmp_path / "model")
    again = galineage.load(tmp_path / "model")
    table, expected = (galineage.predict(one, views(20, 1)) for one in (again, bundle))
    assert len(table) == 20
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            np.testing.assert_array_equal(np.ma.filled(table[name], 0), np.ma.filled(expected[name], 0))
    with pytest.raises(DataError, match="made otherwise"):
        galineage.predict(again, views(20, 1, recipe={"images": "others"}))


def test_a_residual_encoder_can_be_started_from():
    bundle = trained(representation(encoder="resnet18", widths=(4, 4, 4, 4)), replace(CONFIG, max_epochs=1))
    assert bundle.estimator.encoder == "resnet18"
    assert bundle.estimator.widths == (4, 4, 4, 4)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"recipe": {"images": "others"}}, DataError, "made otherwise"),
        ({"channels": ("g", "i")}, DataError, "bands"),
        ({"pixels": 24}, DataError, "16 pixels"),
    ],
)
def test_a_representation_of_other_images_is_refused(change, kind, words):
    settings = {"channels": BANDS, "pixels": 16, "widths": (8, 8), "recipe": RECIPE, **change}
    with pytest.raises(kind, match=words):
        trained(ContrastiveNetwork(settings.pop("channels"), settings.pop("pixels"), **settings))


def test_an_encoder_of_another_kind_is_refused():
    estimator = trained(representation(), replace(CONFIG, max_epochs=1)).estimator
    with pytest.raises(ConfigError, match="another one than the network's"):
        estimator.start_from(representation(widths=(16, 16)).encoder)
    with pytest.raises(ConfigError, match="sees no images"):
        galineage.train(views(), ["mstar"], "mdn", start=representation(), progress=False)


def test_a_training_goes_on_from_the_same_start_only(tmp_path, monkeypatch):
    whole = trained(representation())
    epoch = map_loop._Run._one_epoch

    def killed(run, *given):
        if run.state.member == 0 and run.state.epoch == 1:
            raise KeyboardInterrupt
        return epoch(run, *given)

    with monkeypatch.context() as patch:
        patch.setattr(map_loop._Run, "_one_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(representation(), folder=tmp_path)
    with pytest.raises(TrainingError, match="start"):
        trained(representation(seed=4), folder=tmp_path)
    with pytest.raises(TrainingError, match="start"):
        trained(None, folder=tmp_path, encoder="representation", widths=(8, 8))
    resumed = trained(representation(), folder=tmp_path)
    for member in range(2):
        for name, value in encoder(whole, member).items():
            assert torch.equal(value, encoder(resumed, member)[name])
