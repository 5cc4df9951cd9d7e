"""In what order the trajectories of many images run, and how many of them in a network call."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from diffusion_ood.trajectories.grid import Grid


def in_order(images: int, steps: Sequence[int], width: int) -> Iterator[tuple[int, int]]:
    """Every (image, start point), so that images end one after the other and the batch stays full.

    Image by image, and within one the longest trajectory first. Only of the last images, as many
    as fill the batch twice for as long as the longest trajectory takes, all of the longest come
    first, so that none is left to run in small batches at the end.

    Args:
        images: their number.
        steps: from each start point, rising with it.
        width: trajectories in one network call.
    """
    longest_first = range(len(steps))[::-1]
    last = min(images, 2 * -(-width * max(steps) // sum(steps)))
    for image in range(images - last):
        yield from ((image, k) for k in longest_first)
    for k in longest_first:
        yield from ((image, k) for image in range(images - last, images))


def batch_width(grid: Grid, images: int, max_batch: int) -> int:
    """The fewest rows that a network call can have without there being more calls.

    With more rows than these, what is left after most trajectories have ended would run in smaller
    batches, and a compiled call pads these.

    Args:
        grid: the trajectories of an image.
        images: how many run together.
        max_batch: most rows.
    """
    steps = [len(grid.times(start)) - 1 for start in grid.starts]
    widths = range(1, max_batch + 1)
    fewest = _num_calls(images, steps, max_batch)
    return widths[bisect_left(widths, -fewest, key=lambda width: -_num_calls(images, steps, width))]


def _num_calls(images: int, steps: Sequence[int], width: int) -> int:
    """Network calls after which all trajectories have ended, when each frees its row as it ends."""
    ends = [0] * width
    for _, k in in_order(images, steps, width):
        heapq.heapreplace(ends, ends[0] + steps[k])
    return max(ends)
