"""Predictions for many galaxies: summaries of posteriors in bounded memory, and the table that a user opens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage import __version__
from galineage.calibration import RecalibratedPosterior
from galineage.errors import DataError
from galineage.fields import MERGER_TARGETS, field, is_representation, listed, to_feature
from galineage.joint_posterior import summarise_joint
from galineage.posterior import Posterior
from galineage.progress import bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from astropy.table import Table
    from numpy.typing import NDArray
    from torch import Tensor

    from galineage.calibration import Recalibration
    from galineage.galaxy import Catalogue
    from galineage.models.base import Estimator
    from galineage.models.bundle import Bundle
    from galineage.models.map_inputs import MapInputs

__all__ = ["FLAGS", "LEVELS", "predict", "summarise"]

FLAGS: dict[int, str] = {
    1: "an input is missing or impossible: no prediction",
    2: "an input lies outside the central 98 % of the training galaxies",
    4: "an input lies outside the whole range of the training galaxies: extrapolation",
    8: "the galaxy comes from a domain the model was not trained on",
    16: "the 16-84 % interval (of every target) is wider than half the training prior's central 95 % range: little "
    "information",
    32: "the galaxy is unlike the training galaxies: shift score above 1, as 5 % of their own like have",
    64: "P(no major merger) is above 1/2: what is said of the last major merger holds only if there was one",
}
"""Bits of the ``flag`` column and what they mean."""

_BATCH = 4096
_MAP_BATCH = 256
_MAP_THREADS = 4
"""Batches of maps at a time: each takes up to 1.5 GB of activations, and cores may be many."""
LEVELS = {"p025": 0.025, "p16": 0.16, "p50": 0.5, "p84": 0.84, "p975": 0.975}
"""Quantiles of every table, by column name."""


def summarise(
    estimator: Estimator,
    x: NDArray[np.float64] | MapInputs,
    levels: Sequence[float] = tuple(LEVELS.values()),
    *,
    moments: bool = True,
    mode: bool = True,
    extra: Callable[[Posterior | RecalibratedPosterior, slice], dict[str, Tensor]] | None = None,
    recalibration: Recalibration | None = None,
    progress: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Summarise the posteriors of many galaxies in batches, so that memory does not grow with their number.

    Parameters
    ----------
    estimator : Estimator
        In evaluation mode, on the CPU.
    x : array (n, d), or MapInputs
        As `galineage.models.Estimator.inputs` gives them: features, registry units, dex where logarithmic; finite.
    levels : sequence of float, length q
        Probabilities of the quantiles.
    moments, mode : bool
        Whether to compute mean, std, aleatoric and epistemic; and the mode.
    extra : callable, optional
        Called with each batch's posterior and its rows; returns more columns. It may draw samples, whose
        random state belongs to the process, so with it the batches run one after another.
    recalibration : Recalibration, optional
        Map that the levels of the posteriors go through (`galineage.calibration.RecalibratedPosterior`).
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    dict of str to array
        ``quantiles`` (q, n), and of shape (n,) ``mean``, ``std``, ``aleatoric``, ``epistemic``, ``map``, all in the
        target's unit, and the extra columns.

    Raises
    ------
    DataError
        If a posterior is NaN.
    """
    rows = torch.from_numpy(np.array(x, dtype=np.float32)) if isinstance(x, np.ndarray) else x
    # maps of 4096 galaxies would be gigabytes of activations
    size = _BATCH if isinstance(x, np.ndarray) else _MAP_BATCH

    @torch.inference_mode()
    def one_batch(start: int) -> dict[str, Tensor]:
        plain = Posterior(estimator(rows[start : start + size]))
        posterior = plain if recalibration is None else RecalibratedPosterior(plain, recalibration)
        columns = {"quantiles": posterior.quantile(levels)}
        if moments:
            columns |= {name: getattr(posterior, name) for name in ("mean", "std", "aleatoric", "epistemic")}
        if mode:
            columns["map"] = posterior.map()
        if extra is not None:
            columns |= extra(posterior, slice(start, start + len(posterior)))
        return columns

    parts: dict[str, list[Tensor]] = {}
    starts = range(0, len(rows), size)
    most = torch.get_num_threads() if isinstance(x, np.ndarray) else min(torch.get_num_threads(), _MAP_THREADS)
    threads = 1 if extra is not None else min(most, len(starts))
    for columns in _in_threads(one_batch, starts, threads, progress):
        for name, value in columns.items():
            parts.setdefault(name, []).append(value)
    return {name: torch.cat(values, dim=-1).double().numpy() for name, values in parts.items()}


def _in_threads(
    work: Callable[[int], dict[str, Tensor]], starts: Sequence[int], threads: int, progress: bool
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches' results in order; threads take a batch each instead of sharing every operation.

    Sharing means waiting for each other some hundred times a batch, which on a busy machine costs more than the work
    (docs/performance.md).
    """
    if threads < 2:
        yield from map(work, bar(starts, label="predict", show=progress))
        return
    whole = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from bar(pool.map(work, starts), total=len(starts), label="predict", show=progress)
    finally:
        pool.shutdown(cancel_futures=True)
        # each thread sets the number for itself, and for threads that start later
        torch.set_num_threads(whole)


def predict(bundle: Bundle, catalogue: Catalogue, *, progress: bool = False) -> Table:
    """Infer the target, or targets, of every galaxy of a catalogue.

    Parameters
    ----------
    bundle : Bundle
        A trained model.
    catalogue : Catalogue
        n galaxies with the model's features. A row in which one is missing stays in the table, masked and flagged.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    astropy.table.Table of n rows
        ``id`` and ``domain`` as given; ``snapshot`` and ``view``, where there are several; for each target
        ``<target>_p025 ... _p975``, ``_mean``, ``_std``, ``_map``, ``_aleatoric``, ``_epistemic`` in its unit;
        ``p_no_major``, the probability of no major merger, where a target needs one: its columns are conditional on a
        merger, and masked where that is nearly excluded; ``shift``, the score of `galineage.shift.NeighbourScore`, if
        the bundle has one; ``flag`` with the bits of `FLAGS`. Units, descriptions and provenance in the table. The
        prefix of f_ex is ``fexsitu``.

    Raises
    ------
    DataError
        If a feature column is missing, or no row has all of them.
    """
    estimator = bundle.estimator
    x = catalogue.features(estimator.features)
    for column, name in enumerate(estimator.features):
        x[~field(name).in_range(catalogue[name]), column] = np.nan  # readers refuse such values; a caller may not
    usable = estimator.usable(catalogue)
    if not usable.any():
        raise DataError(
            "no galaxy has all the inputs of the model",
            where=str(catalogue.meta.get("file", "in memory")),
            expected=f"finite {listed(estimator.features)}" if estimator.features else "maps of every channel seen",
        )
    inputs = estimator.inputs(catalogue.select(usable)) if estimator.sees_maps else x[usable]
    columns, never, intervals = _summaries(bundle, inputs, progress)
    widths = {name: to_feature(name, part["p84"]) - to_feature(name, part["p16"]) for name, part in columns.items()}
    flags = _flags(bundle, catalogue, x, usable, widths)
    if never is not None:
        flags[np.flatnonzero(usable)[never > 0.5]] |= 64
    table = _as_table(bundle, catalogue, usable, columns, never, flags)
    if bundle.conformal is not None:
        _add_conformal(table, bundle, usable, intervals)
    if bundle.shift is not None:
        shift = np.full(len(catalogue), np.nan)
        shift[usable] = bundle.shift.score(estimator.likeness(inputs))
        _add_shift(table, shift)
    return table


def _add_shift(table: Table, shift: NDArray[np.float64]) -> None:
    """Put the shift score before the flags, and its bit into them."""
    from astropy.table import MaskedColumn

    text = (
        "how unlike the training galaxies the inputs are, by nearest neighbours; 5 % of training-domain galaxies: > 1"
    )
    column = MaskedColumn(shift, mask=~np.isfinite(shift), description=text)
    table.add_column(column, name="shift", index=table.colnames.index("flag"))
    table["flag"][shift > 1] |= 32


def _add_conformal(table: Table, bundle: Bundle, usable: NDArray[np.bool_], quantiles: NDArray[np.float64]) -> None:
    """Put the conformal intervals after the summaries of the posterior."""
    from astropy.table import MaskedColumn

    conformal, target = bundle.conformal, field(bundle.estimator.target)
    if conformal is None:
        return
    low, high, _ = conformal.intervals(quantiles)
    prefix = "fexsitu" if target.name == "f_ex" else target.name
    for row, level in enumerate(conformal.levels):
        for end, values in (("low", low[row]), ("high", high[row])):
            whole = np.full(len(usable), np.nan)
            whole[usable] = values
            text = f"{end}er end of the {100 * level:g} % conformal interval of {target.meaning}, which holds on the"
            column = MaskedColumn(
                whole,
                mask=~np.isfinite(whole),
                unit=target.unit or None,
                description=f"{text} average over galaxies if this is true: {conformal.assumption}",
            )
            name = f"{prefix}_conf{100 * level:g}_{end}".replace(".", "p")
            table.add_column(column, name=name, index=table.colnames.index("flag"))


def _summaries(
    bundle: Bundle, x: NDArray[np.float64] | MapInputs, progress: bool
) -> tuple[dict[str, dict[str, NDArray[np.float64]]], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Columns of every target, the probability of no major merger (n,) if a target needs one, conformal quantiles."""
    estimator, extra = bundle.estimator, np.empty((0, len(x)))
    if len(estimator.targets) == 1 and not estimator.joint:
        more = () if bundle.conformal is None else tuple(bundle.conformal.needed())
        part = summarise(estimator, x, (*LEVELS.values(), *more), recalibration=bundle.recalibration, progress=progress)
        part["quantiles"], extra = part["quantiles"][: len(LEVELS)], part["quantiles"][len(LEVELS) :]
        found, never = {estimator.target: part}, None
    else:
        found, never = summarise_joint(estimator, x, tuple(LEVELS.values()), progress=progress)
        never = never if set(estimator.targets) & set(MERGER_TARGETS) else None
    columns = {name: dict(zip(LEVELS, part.pop("quantiles"), strict=True)) | part for name, part in found.items()}
    return columns, never, extra


def _flags(
    bundle: Bundle,
    catalogue: Catalogue,
    x: NDArray[np.float64],
    usable: NDArray[np.bool_],
    widths: Mapping[str, NDArray[np.float64]],
) -> NDArray[np.int32]:
    flags = np.where(usable, 0, 1).astype(np.int32)
    ranges = bundle.card.get("ranges", {})
    for column, name in enumerate(bundle.estimator.features):
        # of hundreds of coordinates some is beyond for nearly every galaxy: the shift score sees them together
        if name in ranges and not is_representation(name):
            mark, value = ranges[name], x[:, column]
            flags[(value < mark["p01"]) | (value > mark["p99"])] |= 2
            flags[(value < mark["min"]) | (value > mark["max"])] |= 4
    flags[~np.isin(catalogue.domain, list(bundle.card.get("domains", [])))] |= 8
    prior = bundle.card.get("prior_width")
    if prior:
        # one number for one target, a mapping for several
        priors = prior if isinstance(prior, dict) else {bundle.estimator.target: prior}
        wide = np.stack([~(width <= 0.5 * priors.get(name, np.inf)) for name, width in widths.items()])
        flags[np.flatnonzero(usable)[wide.all(axis=0)]] |= 16
    return flags


_COLUMN_TEXT = {
    "p025": "posterior 2.5 % quantile",
    "p16": "posterior 16 % quantile",
    "p50": "posterior median",
    "p84": "posterior 84 % quantile",
    "p975": "posterior 97.5 % quantile",
    "mean": "posterior mean",
    "std": "posterior standard deviation",
    "map": "posterior mode",
    "aleatoric": "standard deviation within the ensemble's members",
    "epistemic": "standard deviation between the ensemble's members",
}


def _as_table(
    bundle: Bundle,
    catalogue: Catalogue,
    usable: NDArray[np.bool_],
    columns: Mapping[str, Mapping[str, NDArray[np.float64]]],
    never: NDArray[np.float64] | None,
    flags: NDArray[np.int32],
) -> Table:
    from astropy.table import Column, MaskedColumn, Table

    def spread_out(values: NDArray[np.float64], unit: str, description: str) -> MaskedColumn:
        whole = np.full(len(catalogue), np.nan)
        whole[usable] = values
        return MaskedColumn(whole, mask=~np.isfinite(whole), unit=unit or None, description=description)

    table = Table()
    table["id"] = Column(catalogue.ids, description="identifier as in the input")
    table["domain"] = Column(np.asarray(catalogue.domain, dtype=str), description="where the galaxy comes from")
    for name in ("snapshot", "view"):
        # what tells rows of one galaxy apart
        if name in catalogue and len(np.unique(catalogue[name])) > 1:
            table[name] = Column(catalogue[name], description=field(name).meaning)
    for target in map(field, columns):
        prefix = "fexsitu" if target.name == "f_ex" else target.name
        condition = ", given that there was one" if target.name in MERGER_TARGETS and never is not None else ""
        for name, text in _COLUMN_TEXT.items():
            table[f"{prefix}_{name}"] = spread_out(
                columns[target.name][name], target.unit, f"{text} of {target.meaning}{condition}"
            )
    if never is not None:
        table["p_no_major"] = spread_out(never, "", "posterior probability that the galaxy never had a major merger")
    table["flag"] = Column(flags, description="; ".join(f"{bit}: {text}" for bit, text in FLAGS.items()))
    table.meta.update(_provenance(bundle, catalogue))
    return table


def _provenance(bundle: Bundle, catalogue: Catalogue) -> dict[str, Any]:
    data = bundle.card.get("data", {})
    return {
        "creator": f"galineage {__version__}",
        "model": bundle.name,
        "features": " ".join(bundle.estimator.features),
        "trained_on": str(data.get("file", "in memory")),
        "trained_on_sha256": str(data.get("sha256", "")),
        "input": str(catalogue.meta.get("file", "in memory")),
        "input_sha256": str(catalogue.meta.get("sha256", "")),
        "skipped_rows": len(catalogue.skipped),
    }
