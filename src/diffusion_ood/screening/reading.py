"""Images that are read while others are measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from torch import Tensor

from diffusion_ood.data.inputs import Reader
from diffusion_ood.errors import UserError
from diffusion_ood.screening.inputs import Item

Read: TypeAlias = tuple[Tensor | UserError, float]
"""An image, or why it cannot be read, and the seconds that this took."""


def read(item: Item, reader: Reader) -> Read:
    """Read an image; one that cannot be read is a reason."""
    begin = time.perf_counter()
    try:
        image: Tensor | UserError = item.read(reader)
    except UserError as error:
        image = error
    return image, time.perf_counter() - begin


def ahead(batches: Sequence[Sequence[Item]], reader: Reader) -> Iterator[list[Read]]:
    """The images of each batch, read while the one before is measured."""
    with ThreadPoolExecutor(1) as threads:  # one, as decoders log and warn by process
        waiting: list[list[Future[Read]]] = []
        for batch in (*batches, ()):
            waiting.append([threads.submit(read, item, reader) for item in batch])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.pop(0)]
