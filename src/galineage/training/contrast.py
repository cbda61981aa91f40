"""Contrastive losses with nearest neighbours (NNCLR), and the queue that the neighbours come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from galineage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Form", "Queue", "Variant", "contrast", "nnclr", "swapped"]

Form = Literal["one-way", "two-way"]
Variant = Literal["nnclr", "published", "simclr"]


class Queue(nn.Module):
    """The newest rows that were put in, first in, first out: a ring.

    Parameters
    ----------
    size, width : int
        Rows, and numbers in each.
    images : (int, int, int), optional
        Shape of an image that is kept beside each row, as 16-bit numbers; for the published variant.
    seed : int
        Of the rows at the start, which are random and normalised (Dwibedi+2021).

    Raises
    ------
    ConfigError
        If it would hold nothing.
    """

    rows: Tensor
    place: Tensor
    images: Tensor | None

    def __init__(self, size: int, width: int, images: tuple[int, int, int] | None = None, *, seed: int = 0) -> None:
        super().__init__()
        if min(size, width) < 1:
            raise ConfigError(f"a queue of {size} rows of {width}", expected="1 or more")
        first = torch.randn(size, width, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("rows", functional.normalize(first, dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.register_buffer("images", None if images is None else torch.zeros(size, *images, dtype=torch.float16))

    @torch.no_grad()
    def push(self, rows: Tensor, images: Tensor | None = None) -> None:
        """Put rows (n, width), any unit, in the place of the oldest; of more rows than fit the last ones stay.

        Raises
        ------
        DataError
            If the queue keeps images and there are none (n, bands, s, s), or the other way round.
        """
        if (images is None) != (self.images is None):
            raise DataError("rows without their images, or images for a queue that keeps none")
        size = len(self.rows)
        kept = rows.detach()[-size:]
        start = int(self.place) + len(rows) - len(kept)
        index = torch.arange(start, start + len(kept), device=self.rows.device) % size
        self.rows[index] = functional.normalize(kept.to(self.rows.dtype), dim=1)
        if self.images is not None and images is not None:
            self.images[index] = images.detach()[-size:].to(torch.float16)
        self.place.fill_((int(self.place) + len(rows)) % size)

    @torch.no_grad()
    def nearest(self, rows: Tensor, p: int = 2) -> Tensor:
        """Return the number (n,) of the nearest row for each of (n, width), any unit.

        ``p`` 2 compares directions by their angle; 1 by absolute differences of normalised rows, as the authors' code
        does.
        """
        wanted = functional.normalize(rows.detach().to(self.rows.dtype), dim=1)
        if p == 2:
            return (wanted @ self.rows.T).argmax(dim=1)
        return torch.cdist(wanted, self.rows, p=1).argmin(dim=1)


def contrast(first: Tensor, second: Tensor, temperature: float, form: Form = "two-way") -> Tensor:
    """Cross entropy of finding each row's partner among the others (InfoNCE).

    Parameters
    ----------
    first, second : Tensor (n, width)
        Partners row by row, any unit: only directions count.
    temperature : float
        Cosines are divided by it.
    form : {"two-way", "one-way"}
        ``two-way``: among all 2n - 1 other rows of both, in both directions (NT-Xent of SimCLR, Chen+2020, eq. 1; what
        ``lightly`` computes). ``one-way``: each of ``first`` among the n of ``second`` (Dwibedi+2021, eq. 2).

    Returns
    -------
    Tensor ()
        Nats, mean over rows.
    """
    first, second = (functional.normalize(rows.float(), dim=1) for rows in (first, second))
    count = len(first)
    number = torch.arange(count, device=first.device)
    if form == "one-way":
        return functional.cross_entropy(first @ second.T / temperature, number)
    both = torch.cat([first, second])
    cosines = both @ both.T / temperature
    cosines.fill_diagonal_(-torch.inf)
    return functional.cross_entropy(cosines, torch.cat([number + count, number]))


def nnclr(first: Tensor, second: Tensor, queue: Queue, temperature: float, form: Form = "one-way") -> Tensor:
    """Canonical loss of Dwibedi+2021: each view's neighbour in the queue is to find the other view.

    Parameters
    ----------
    first, second : Tensor (n, width)
        Projections of two looks at the same galaxies, any unit. The queue does not change.
    queue : Queue
        Where neighbours come from; no gradient goes there.
    temperature : float
        See `contrast`.
    form : {"one-way", "two-way"}
        See `contrast`.

    Returns
    -------
    Tensor ()
        Mean of both directions, nats.
    """
    near = [queue.rows[queue.nearest(rows)] for rows in (first, second)]
    return 0.5 * (contrast(near[0], second, temperature, form) + contrast(near[1], first, temperature, form))


def swapped(images: Tensor, project: Callable[[Tensor], Tensor], queue: Queue) -> tuple[Tensor, Tensor]:
    """Projections (2n, width) of the authors' variant, and of the rows that go into the queue.

    Their views are one block after the other, and every second row is swapped: of odd-numbered galaxies both views are
    replaced by the image of their nearest neighbour (absolute differences) in the queue, which is encoded anew with its
    gradient; of even-numbered ones none is, and only these enter the queue (reference: their public code). Their queue
    forgets the second-oldest batch instead of the oldest; ours the oldest.

    Parameters
    ----------
    images : Tensor (2n, bands, s, s)
        First views, then second ones; n even. No unit.
    project : callable
        From images to projections.
    queue : Queue
        With images.

    Returns
    -------
    Tensor (2n, width), Tensor (n, width)

    Raises
    ------
    DataError
        If n is odd: it would be other galaxies whose second view is swapped.
    """
    if len(images) % 4:
        raise DataError(f"{len(images) // 2} galaxies in a batch", expected="an even number, for the published variant")
    found = project(images)
    odd = torch.arange(1, len(images), 2, device=images.device)
    if queue.images is None:
        raise DataError("the queue keeps no images")
    near = project(queue.images[queue.nearest(found[odd], p=1)].to(images.dtype))
    return found.index_copy(0, odd, near.to(found.dtype)), found[::2]
