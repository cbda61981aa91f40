"""Representations of the images of a catalogue, as columns of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from galineage.fields import representation_features
from galineage.models.map_inputs import MapInputs

if TYPE_CHECKING:
    from galineage.galaxy import Catalogue
    from galineage.models.contrastive import ContrastiveNetwork

__all__ = ["represent"]


def represent(network: ContrastiveNetwork, catalogue: Catalogue) -> Catalogue:
    """Add the representation of its image to every row of a catalogue.

    Parameters
    ----------
    network : ContrastiveNetwork
        From `galineage.train_representation` or `galineage.load_representation`.
    catalogue : Catalogue
        Views with images, as ``ImageStore.views`` gives them.

    Returns
    -------
    Catalogue
        The same rows and images, with columns ``rep_000`` ... (no unit), which models take as features, and tables
        keep.

    Raises
    ------
    DataError
        If there are no images, or other ones than the network knows.
    """
    values = network.represent(MapInputs.of(catalogue)).astype(np.float64)
    names = representation_features(network.width)
    columns = {**catalogue.columns, **{name: values[:, number] for number, name in enumerate(names)}}
    return replace(catalogue, columns=columns)
