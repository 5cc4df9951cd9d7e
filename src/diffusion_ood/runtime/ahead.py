"""What the next items need, made by threads while the items before are used."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

THREADS = 4
"""One makes noise for some 10,000 images of 3 × 32 × 32 a second, NumPy letting others run."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def threads_for(device: torch.device) -> int:
    """How many threads make ahead for a device: none where it is the CPU that they would use."""
    return THREADS if device.type == "cuda" else 0


def made_ahead(
    items: Iterable[Item], make: Callable[[Item], Made], most: int, threads: int, chunk: int = 1
) -> Iterator[tuple[Item, Made]]:
    """Every item, in order, with what is made of it.

    Args:
        items: asked for as their turn to be made comes.
        make: makes it; of several items at a time.
        most: how many items may be made ahead, at least.
        threads: that make; with none an item is made when it is asked for.
        chunk: items that a thread makes in turn, more where one is soon made.
    """
    if not threads:
        yield from ((item, make(item)) for item in items)
        return
    coming = iter(items)
    chunks = iter(lambda: list(itertools.islice(coming, chunk)), [])
    pool = ThreadPoolExecutor(threads)

    def submitted(number: int) -> Iterator[tuple[list[Item], Callable[[], list[Made]]]]:
        for part in itertools.islice(chunks, number):
            yield part, pool.submit(lambda given: [*map(make, given)], part).result

    try:
        waiting = deque(submitted(-(-most // chunk)))
        while waiting:
            part, made = waiting.popleft()
            waiting.extend(submitted(1))
            yield from zip(part, made(), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
