"""Maps as batches on a device: kept there as a whole if they fit, read from their store in time if they do not."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from galineage.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from galineage.galaxy import Catalogue, RowMaps

__all__ = ["MapInputs", "turned"]

_PIECE = 512
_AHEAD = 3


class MapInputs:
    """Contexts of a map network for the rows of a catalogue.

    Parameters
    ----------
    maps : RowMaps
        Maps of n rows.
    features : array (n, d)
        Inputs beside the maps, registry units or dex.

    Examples
    --------
    >>> inputs = MapInputs.of(store.views("TNG100-1"))  # doctest: +SKIP
    >>> inputs[0:16].shape  # doctest: +SKIP
    torch.Size([16, 5, 128, 128])
    """

    def __init__(self, maps: RowMaps, features: NDArray[np.float64]) -> None:
        self.maps = maps
        self.features = torch.from_numpy(np.array(features, dtype=np.float32))
        self._held: Tensor | None = None

    @classmethod
    def of(cls, catalogue: Catalogue, features: Sequence[str] = ()) -> MapInputs:
        """Take maps and features of a catalogue of views.

        Raises
        ------
        DataError
            If it has no maps.
        """
        if catalogue.maps is None:
            raise DataError(
                "the catalogue has no maps",
                where=str(catalogue.meta.get("file", "in memory")),
                advice="prepare a store of maps (`galineage prepare`), and take its views",
            )
        wide = catalogue.features(features) if features else np.zeros((len(catalogue), 0))
        return cls(catalogue.maps, wide)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.maps)

    def __getitem__(self, rows: slice) -> Tensor:
        """Return contexts (b, channels + d, s, s) of rows, on the CPU or where the maps are held."""
        return self.take(np.arange(*rows.indices(len(self))))

    @property
    def pixels(self) -> int:
        """Side of a map."""
        return int(self.maps.read(np.arange(min(1, len(self)))).shape[-1])

    @property
    def nbytes(self) -> int:
        """Memory that all maps would take, as 16-bit numbers."""
        return 2 * len(self) * int(np.prod(self.maps.read(np.arange(min(1, len(self)))).shape[1:]))

    def hold(self, device: torch.device, most: int) -> bool:
        """Keep all maps on a device as 16-bit numbers, if they take no more than ``most`` bytes; tell if they do.

        Maps of 32 bits lose digits beyond the third: of a standardised map 0.1 % of a pixel's value.
        """
        if self.nbytes > most:
            return False
        shape = self.maps.read(np.arange(min(1, len(self)))).shape[1:]
        # filled in place, so that they are never there twice
        held = torch.empty((len(self), *shape), dtype=torch.float16, device=device)
        for k in range(0, len(self), _PIECE):
            part = self.maps.read(np.arange(k, min(k + _PIECE, len(self))))
            held[k : k + _PIECE] = torch.from_numpy(np.asarray(part, dtype=np.float16))
        self._held = held
        self.features = self.features.to(device)
        return True

    def release(self) -> None:
        """Let go of what is held."""
        self._held = None
        self.features = self.features.cpu()

    def take(self, rows: NDArray[np.int64] | Tensor) -> Tensor:
        """Return contexts (b, channels + d, s, s), no unit, of rows (b,), on the CPU or where the maps are held."""
        index = torch.as_tensor(rows)
        if self._held is not None:
            maps = self._held[index.to(self._held.device)]
        else:
            # rounded as the maps that are held are, so that where they lie changes no number
            maps = torch.from_numpy(np.asarray(self.maps.read(index.numpy()), dtype=np.float16))
        features = self.features[index.to(self.features.device)]
        if not features.shape[1]:
            return maps
        planes = features[:, :, None, None].expand(-1, -1, *maps.shape[2:])
        return torch.cat([maps.float(), planes], dim=1)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows (b,) and contexts (b, channels + d, s, s), no unit, in pieces of an order (n,).

        What comes from disk is read while others are used.
        """
        pieces = order.split(size)
        if self._held is not None:
            yield from ((rows, self.take(rows)) for rows in pieces)
            return
        ready: queue.Queue[Any] = queue.Queue(_AHEAD)
        stop = threading.Event()

        def read() -> None:
            try:
                for rows in pieces:
                    if stop.is_set():
                        return
                    _hand_over((rows, self.take(rows)), ready, stop)
                _hand_over(None, ready, stop)
            except BaseException as error:
                _hand_over(error, ready, stop)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()


def _hand_over(item: Any, ready: queue.Queue[Any], stop: threading.Event) -> None:
    """Wait for room, unless whoever takes them has gone."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return
        except queue.Full:
            continue


def turned(maps: Tensor, codes: Tensor) -> Tensor:
    """Flip and turn each map of a batch on the sky.

    The mirror image of a galaxy, with velocities along the line of sight as they are, is a galaxy that could be: the
    reflection turns motions in the sky's plane round and leaves those along the line of sight alone. Velocities
    therefore keep their sign. Turns by 90 degrees move the camera only.

    Parameters
    ----------
    maps : Tensor (b, channels, s, s)
        Any unit.
    codes : Tensor (b,) of int
        0 to 7: bit 1 flips columns, bit 2 rows, bit 4 exchanges both (with the flips, the eight symmetries of a
        square).

    Returns
    -------
    Tensor (b, channels, s, s)
    """
    out = torch.empty_like(maps)
    for code in range(8):
        rows = (codes == code).nonzero()[:, 0]
        if not len(rows):
            continue
        part = maps[rows]
        if code & 4:
            part = part.transpose(2, 3)
        axes = [axis for bit, axis in ((1, 3), (2, 2)) if code & bit]
        out[rows] = part.flip(axes) if axes else part
    return out
