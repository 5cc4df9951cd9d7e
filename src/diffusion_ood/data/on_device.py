"""A training's images where they are trained on: on a GPU as they are packed, if they fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diffusion_ood.data.loaders import ImageSet, image_batches
from diffusion_ood.data.packed import Packed
from diffusion_ood.data.transforms import to_unit
from diffusion_ood.runtime.transfers import to_device

LARGEST_SHARE = 0.25  # of the memory that is free, which activations need, too
SLICE_BYTES = 2**26  # of pinned memory at a time
AHEAD = 2  # batches that wait in pinned memory

Order = Sequence[Sequence[int]]


class HeldImages:
    """Packed images on a device, whose batches are those of their `ImageSet` to the bit."""

    def __init__(self, images: ImageSet, packed: Packed, device: torch.device) -> None:
        rows = packed.images
        step = max(1, SLICE_BYTES * len(rows) // rows.nbytes)
        parts = (torch.from_numpy(np.array(rows[k : k + step])) for k in range(0, len(rows), step))
        dtype = torch.uint8 if rows.dtype == np.uint8 else torch.float32
        self._rows = torch.empty(rows.shape, dtype=dtype, device=device)
        for stored, part in zip(self._rows.split(step), parts, strict=True):
            stored.copy_(to_device(part, device))
        self._unit: Tensor | None = None  # what each stored byte stands for
        if dtype == torch.uint8:
            every_byte = np.arange(256, dtype=np.uint8)
            self._unit = torch.from_numpy(to_unit(every_byte, images.options)).to(device)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """The images of these indices, float32 in [0, 1], (B, C, *S); B may be 0."""
        chosen = to_device(torch.tensor(indices, dtype=torch.long), self._rows.device)
        rows = self._rows.index_select(0, chosen)
        return rows if self._unit is None else self._unit[rows.int()]


def training_batches(
    images: ImageSet, device: torch.device, num_workers: int
) -> Callable[[Order], Iterator[Tensor]]:
    """What yields the batches (B, C, *S) of an order, on a GPU if that is the device.

    Others get them on the CPU, where a packed file costs no memory and has nothing to be copied.
    """
    packed, room = images.images, LARGEST_SHARE * free_bytes(device)
    if isinstance(packed, Packed) and packed.images.nbytes <= room and not images.split.edit:
        return partial(map, HeldImages(images, packed, device).batch)
    if device.type == "cuda":
        return lambda order: _sent_ahead(image_batches(images, order, num_workers), device)
    return partial(image_batches, images, num_workers=num_workers)


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU of its own that is free; 0 of other devices."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _sent_ahead(batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The batches on a CUDA device, of which at most so many wait in pinned memory."""
    copies: deque[torch.cuda.Event] = deque()
    for batch in batches:
        if len(copies) == AHEAD:
            copies.popleft().synchronize()
        images = to_device(batch, device)
        copies.append(torch.cuda.current_stream(device).record_event())
        yield images
