"""In what order the trajectories of many images run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

LEAST_WIDTH = 64  # a guess: calls of fewer rows would save no time that counts


def full_width(images: int, steps: Sequence[int], most: int) -> int:
    """Trajectories to run at a time, so that the batch stays full to the end.

    The longest takes as many calls as it has steps in any case. Of more trajectories beside it many
    would be done before it, and its last calls would have few rows.

    Args:
        images: their number.
        steps: from each start point.
        most: how many may run at a time.
    """
    return min(most, max(LEAST_WIDTH, -(-images * sum(steps) // max(steps))))


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
