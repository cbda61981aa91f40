"""Which pixels of an image are the galaxy in its middle, and which are others."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from galineage.compiling import compiled
from galineage.errors import MissingDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["CentralSource", "find_central", "sky_level"]

DULL = 1e-3
"""Part of the brightest pixel that counts as light where an image has no noise to compare with."""


@dataclass(frozen=True, eq=False)
class CentralSource:
    """The galaxy in the middle of an image.

    Attributes
    ----------
    row, column : float
        Of its centre, pixels from the middle of the first one.
    axis_ratio : float
        Minor over major axis, from second moments, at most 1.
    angle : float, degrees
        Of the major axis, from the columns' direction (to the right) towards the rows' (up).
    own, others : array (rows, columns) of bool
        Its pixels above the threshold, and those of other sources.
    """

    row: float
    column: float
    axis_ratio: float
    angle: float
    own: NDArray[np.bool_]
    others: NDArray[np.bool_]


def sky_level(image: Array, valid: NDArray[np.bool_]) -> tuple[float, float]:
    """Median and standard deviation of an image (rows, columns) of any unit, clipped at 3 sigma; no light: 0 and 0."""
    values = np.sort(np.asarray(image[valid], dtype=np.float64))
    low, high = _clipped(values)
    return float(np.median(values[low:high])), float(values[low:high].std())


@compiled
def _clipped(values: Any) -> Any:
    """Return the first and the one after the last of sorted values (n,), of any unit, that clipping at 3 sigma keeps.

    Sigma is 1.4826 times the median distance from the median: found by walking from there to both sides.
    """
    low, high = 0, len(values)
    for _ in range(10):
        count = high - low
        if count < 2:
            break
        left = low + (count - 1) // 2
        right = left + 1
        middle = 0.5 * (values[left] + values[low + count // 2])
        before, last = 0.0, 0.0
        for _ in range(count // 2 + 1):
            before = last
            if right >= high or (left >= low and middle - values[left] <= values[right] - middle):
                last = middle - values[left]
                left -= 1
            else:
                last = values[right] - middle
                right += 1
        most = 3 * 1.4826 * (last if count % 2 else 0.5 * (before + last))
        while middle - values[low] > most:
            low += 1
        while values[high - 1] - middle > most:
            high -= 1
        if high - low == count:
            break
    return low, high


def find_central(
    image: Array,
    valid: NDArray[np.bool_],
    *,
    sigmas: float,
    connected: int,
    kernel: float,
    contrast: float | None,
    reach: float,
) -> CentralSource | str:
    """Find the most central source of an image.

    Parameters
    ----------
    image : array (rows, columns)
        Any unit, finite where valid.
    valid : array (rows, columns) of bool
        Pixels that can be used.
    sigmas : float
        Threshold above the sky, in standard deviations of its pixels.
    connected : int
        Pixels above it, at least.
    kernel : float, pixels
        Full width at half maximum of the Gaussian that the image is smoothed with before.
    contrast : float or None
        Part of the flux that a peak of its own has at least (`photutils.segmentation.deblend_sources`). None: peaks
        are not told apart.
    reach : float, pixels
        From the image's middle to the source, at most.

    Returns
    -------
    CentralSource or str
        Or why there is none.
    """
    tools = _tools(contrast is not None)
    sky, noise = sky_level(image, valid)
    above = np.where(valid, image - sky, 0.0)
    if not above.max() > 0:
        return "no source at the centre"
    side = 2 * int(np.ceil(kernel)) + 1
    smooth = _smoothed(above, np.asarray(tools.make_2dgaussian_kernel(kernel, size=side).array))
    threshold = max(sigmas * noise, DULL * float(smooth.max()) if noise == 0 else 0.0)
    bright = valid & (smooth > threshold)
    if not _largest(bright) >= connected:  # asked beforehand: photutils answers with a warning
        return "no source at the centre"
    found = tools.detect_sources(smooth, threshold, n_pixels=connected, mask=~valid)
    label = _nearest(tools.SourceCatalog(smooth, found, progress_bar=False), found.data, reach)
    if label and contrast is not None:
        found = tools.deblend_sources(
            smooth, found, n_pixels=connected, labels=[label], contrast=contrast, relabel=False, progress_bar=False
        )
        label = _nearest(tools.SourceCatalog(smooth, found, progress_bar=False), found.data, reach)
    if not label:
        return "no source at the centre"
    with np.errstate(all="ignore"):
        source = tools.SourceCatalog(above, found, progress_bar=False).select_label(label)
        axes = float(source.semiminor_axis.value), float(source.semimajor_axis.value)
        place, angle = np.asarray(source.centroid, dtype=float), float(source.orientation.value)
    if not np.isfinite(place).all():  # smoothed light of its neighbours, and none of its own
        return "no source at the centre"
    own = found.data == label
    ratio = axes[0] / axes[1] if np.isfinite(axes).all() and axes[1] > 0 else 1.0
    return CentralSource(
        row=float(place[1]),
        column=float(place[0]),
        axis_ratio=float(np.clip(ratio, 0.1, 1.0)),
        angle=angle if np.isfinite(angle) else 0.0,
        own=own,
        others=(found.data > 0) & ~own,
    )


def _tools(deblending: bool) -> Any:
    try:
        from photutils import segmentation
    except ImportError as error:
        raise MissingDependencyError(
            "photutils, which finds galaxies in images, is not installed", advice="pip install 'galineage[images]'"
        ) from error
    if deblending and find_spec("skimage") is None:
        raise MissingDependencyError(
            "scikit-image, which takes neighbours apart, is not installed",
            advice="pip install 'galineage[images]', or contrast=None",
        )
    return segmentation


def _smoothed(image: Array, kernel: Array) -> Array:
    from scipy.ndimage import convolve

    return np.asarray(convolve(image, kernel, mode="constant"))


def _largest(bright: NDArray[np.bool_]) -> int:
    """Count the pixels of the largest connected group in a mask (rows, columns)."""
    from scipy.ndimage import label

    groups, count = label(bright, structure=np.ones((3, 3)))
    return int(np.bincount(groups.ravel())[1:].max()) if count else 0


def _nearest(sources: Any, labels: NDArray[np.int_], reach: float) -> int:
    """Label of the source over the image's middle, or the nearest within reach, pixels; 0: none."""
    middle = (np.array(labels.shape) - 1) / 2
    places = np.stack([np.atleast_1d(sources.y_centroid), np.atleast_1d(sources.x_centroid)], axis=1)
    away = np.hypot(*(places - middle).T)
    away = np.where(np.isfinite(away), away, np.inf)
    here = labels[tuple(np.rint(middle).astype(int))]
    nearest = int(np.argmin(away))
    if here:
        return int(here)
    return int(np.atleast_1d(sources.labels)[nearest]) if away[nearest] <= reach else 0
