"""Images that are read while others are measured."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TypeAlias

from torch import Tensor

from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.remote import Remote
from diffusion_ood.errors import UserError
from diffusion_ood.options.models import CPUS
from diffusion_ood.screening.inputs import Item

THREADS, AHEAD = 4, 2
"""At most so many threads read, and at most so many batches wait; more take memory."""
FAR_THREADS, FAR_AHEAD = 64, 4
"""The same of images at URLs, of which each is waited for, a tenth of a second perhaps."""

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
    """The images of each batch, in order, read by some threads while those before are measured."""
    far = any(isinstance(item.path, Remote) for batch in batches for item in batch)
    number, most = (FAR_THREADS, FAR_AHEAD) if far else (min(THREADS, CPUS), AHEAD)
    threads = ThreadPoolExecutor(number)
    waiting: deque[list[Future[Read]]] = deque()
    try:
        for batch in chain(batches, [()] * most):
            waiting.append([threads.submit(read, item, reader) for item in batch])
            if len(waiting) > most:
                yield [future.result() for future in waiting.popleft()]
    finally:  # who is interrupted waits for the images that are being read alone
        threads.shutdown(cancel_futures=True)
