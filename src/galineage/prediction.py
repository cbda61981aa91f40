"""Predictions for many galaxies: summaries of posteriors in bounded memory, and the table that a user opens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from galineage import __version__
from galineage.errors import DataError
from galineage.fields import field
from galineage.posterior import Posterior
from galineage.progress import bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from astropy.table import Table
    from numpy.typing import NDArray
    from torch import Tensor

    from galineage.galaxy import Catalogue
    from galineage.models.base import Estimator
    from galineage.models.bundle import Bundle

__all__ = ["FLAGS", "predict", "summarise"]

FLAGS: dict[int, str] = {
    1: "an input is missing: no prediction",
    2: "an input lies outside the central 98 % of the training galaxies",
    4: "an input lies outside the whole range of the training galaxies: extrapolation",
    8: "the galaxy comes from a domain the model was not trained on",
    16: "the 16-84 % interval is wider than half the training prior's central 95 % range: little information",
}
"""Bits of the ``flag`` column and what they mean."""

_BATCH = 4096
_LEVELS = {"p025": 0.025, "p16": 0.16, "p50": 0.5, "p84": 0.84, "p975": 0.975}


def summarise(
    estimator: Estimator,
    x: NDArray[np.float64],
    levels: Sequence[float] = tuple(_LEVELS.values()),
    *,
    moments: bool = True,
    mode: bool = True,
    extra: Callable[[Posterior, slice], dict[str, Tensor]] | None = None,
    progress: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Summarise the posteriors of many galaxies in batches, so that memory does not grow with their number.

    Parameters
    ----------
    estimator : Estimator
        In evaluation mode, on the CPU.
    x : array (n, d)
        Features, registry units, dex where logarithmic; finite.
    levels : sequence of float, length q
        Probabilities of the quantiles.
    moments, mode : bool
        Whether to compute mean, std, aleatoric and epistemic; and the mode.
    extra : callable, optional
        Called with each batch's posterior and its rows; returns more columns. It may draw samples, whose
        random state belongs to the process, so with it the batches run one after another.
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
    rows = torch.from_numpy(np.array(x, dtype=np.float32))

    @torch.inference_mode()
    def one_batch(start: int) -> dict[str, Tensor]:
        posterior = Posterior(estimator(rows[start : start + _BATCH]))
        columns = {"quantiles": posterior.quantile(levels)}
        if moments:
            columns |= {name: getattr(posterior, name) for name in ("mean", "std", "aleatoric", "epistemic")}
        if mode:
            columns["map"] = posterior.map()
        if extra is not None:
            columns |= extra(posterior, slice(start, start + len(posterior)))
        return columns

    parts: dict[str, list[Tensor]] = {}
    starts = range(0, len(rows), _BATCH)
    threads = 1 if extra is not None else min(torch.get_num_threads(), len(starts))
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
    """Infer the target of every galaxy of a catalogue.

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
        ``id`` and ``domain`` as given; ``<target>_p025 ... _p975``, ``_mean``, ``_std``, ``_map``, ``_aleatoric``,
        ``_epistemic`` in the target's unit; ``flag`` with the bits of `FLAGS`. Units, descriptions and provenance in
        the table. The prefix of f_ex is ``fexsitu``.

    Raises
    ------
    DataError
        If a feature column is missing, or no row has all of them.
    """
    estimator = bundle.estimator
    x = catalogue.features(estimator.features)
    usable = np.asarray(np.isfinite(x).all(axis=1))
    if not usable.any():
        raise DataError(
            "no galaxy has all the inputs of the model",
            where=str(catalogue.meta.get("file", "in memory")),
            expected="finite " + ", ".join(estimator.features),
        )
    found = summarise(estimator, x[usable], progress=progress)
    columns = dict(zip(_LEVELS, found.pop("quantiles"), strict=True)) | found
    flags = _flags(bundle, catalogue, x, usable, columns["p84"] - columns["p16"])
    return _as_table(bundle, catalogue, usable, columns, flags)


def _flags(
    bundle: Bundle, catalogue: Catalogue, x: NDArray[np.float64], usable: NDArray[np.bool_], width: NDArray[np.float64]
) -> NDArray[np.int32]:
    flags = np.where(usable, 0, 1).astype(np.int32)
    ranges = bundle.card.get("ranges", {})
    for column, name in enumerate(bundle.estimator.features):
        if name in ranges:
            mark, value = ranges[name], x[:, column]
            flags[(value < mark["p01"]) | (value > mark["p99"])] |= 2
            flags[(value < mark["min"]) | (value > mark["max"])] |= 4
    flags[~np.isin(catalogue.domain, list(bundle.card.get("domains", [])))] |= 8
    prior = bundle.card.get("prior_width")
    if prior:
        flags[np.flatnonzero(usable)[width > 0.5 * prior]] |= 16
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
    columns: dict[str, NDArray[np.float64]],
    flags: NDArray[np.int32],
) -> Table:
    from astropy.table import Column, MaskedColumn, Table

    target = field(bundle.estimator.target)
    prefix = "fexsitu" if target.name == "f_ex" else target.name
    table = Table()
    table["id"] = Column(catalogue.ids, description="identifier as in the input")
    table["domain"] = Column(np.asarray(catalogue.domain, dtype=str), description="where the galaxy comes from")
    for name, text in _COLUMN_TEXT.items():
        values = np.full(len(catalogue), np.nan)
        values[usable] = columns[name]
        table[f"{prefix}_{name}"] = MaskedColumn(
            values, mask=~usable, unit=target.unit or None, description=f"{text} of {target.meaning}"
        )
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
