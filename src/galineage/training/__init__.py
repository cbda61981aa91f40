"""Training: one loop for every estimator, and one call from a catalogue to a bundle."""

from galineage.training.config import MapTrainConfig, TrainConfig, recommended_config
from galineage.training.ensemble import DEFAULT_FEATURES, needed_fields, train, with_metrics
from galineage.training.loop import TrainingResult, fit_estimator, pick_device

__all__ = [
    "MapTrainConfig",
    "DEFAULT_FEATURES",
    "TrainConfig",
    "TrainingResult",
    "fit_estimator",
    "needed_fields",
    "pick_device",
    "recommended_config",
    "train",
    "with_metrics",
]
