"""galineage: how a galaxy was assembled, inferred from what can be observed.

The public names below are loaded when they are first used, so that ``import galineage`` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "FIELDS": "galineage.fields",
    "Bundle": "galineage.models.bundle",
    "Catalogue": "galineage.galaxy",
    "ImageStore": "galineage.store.image_store",
    "MapStore": "galineage.store.map_store",
    "Posterior": "galineage.posterior",
    "TrainConfig": "galineage.training.config",
    "adapt": "galineage.adaptation",
    "calibrate": "galineage.evaluation.calibrate",
    "correct_prior": "galineage.adaptation",
    "evaluate": "galineage.evaluation.assess",
    "importance_weights": "galineage.adaptation",
    "load": "galineage.models.bundle",
    "load_representation": "galineage.models.representation_files",
    "make_maps": "galineage.views",
    "make_toy": "galineage.toy",
    "open_snapshot": "galineage.sources.native",
    "open_source": "galineage.sources",
    "predict": "galineage.prediction",
    "prepare": "galineage.store.prepare",
    "prepare_image_store": "galineage.store.image_store",
    "report": "galineage.study.report",
    "represent": "galineage.models.representing",
    "run_study": "galineage.study.report",
    "save": "galineage.models.bundle",
    "save_representation": "galineage.models.representation_files",
    "train": "galineage.training.ensemble",
    "train_representation": "galineage.training.contrastive",
    "write_table": "galineage.tables",
}

__all__ = [*_PUBLIC]

if TYPE_CHECKING:
    from galineage.adaptation import adapt as adapt
    from galineage.adaptation import correct_prior as correct_prior
    from galineage.adaptation import importance_weights as importance_weights
    from galineage.evaluation.assess import evaluate as evaluate
    from galineage.evaluation.calibrate import calibrate as calibrate
    from galineage.fields import FIELDS as FIELDS
    from galineage.galaxy import Catalogue as Catalogue
    from galineage.models.bundle import Bundle as Bundle
    from galineage.models.bundle import load as load
    from galineage.models.bundle import save as save
    from galineage.models.representation_files import load_representation as load_representation
    from galineage.models.representation_files import save_representation as save_representation
    from galineage.models.representing import represent as represent
    from galineage.posterior import Posterior as Posterior
    from galineage.prediction import predict as predict
    from galineage.sources import open_source as open_source
    from galineage.sources.native import open_snapshot as open_snapshot
    from galineage.store.image_store import ImageStore as ImageStore
    from galineage.store.image_store import prepare_image_store as prepare_image_store
    from galineage.store.map_store import MapStore as MapStore
    from galineage.store.prepare import prepare as prepare
    from galineage.study.report import report as report
    from galineage.study.report import run_study as run_study
    from galineage.tables import write_table as write_table
    from galineage.toy import make_toy as make_toy
    from galineage.training.config import TrainConfig as TrainConfig
    from galineage.training.contrastive import train_representation as train_representation
    from galineage.training.ensemble import train as train
    from galineage.views import make_maps as make_maps


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'galineage' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names and the version."""
    return sorted([*_PUBLIC, "__version__"])
