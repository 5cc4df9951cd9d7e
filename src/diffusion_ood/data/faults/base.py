"""What faults share: their form, their random numbers, and where in an image they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy import ndimage

Image = npt.NDArray[np.float64]
Fault = Callable[[Image, int, Generator], Image]
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class PairFault:
    """A fault that takes something of another image: `apply(image, severity, rng, other)`.

    Attributes:
        masked: whether masks are written of where it changed images.
    """

    apply: Callable[[Image, int, Generator, Image], Image]
    masked: bool = False


def generator(seed: int, key: str) -> Generator:
    """The random numbers of one image, which depend on the seed and its path in the split alone."""
    digest = hashlib.blake2b(b"%d\0%s" % (seed, key.encode("utf-8", "surrogateescape")))
    return np.random.default_rng(int.from_bytes(digest.digest()[:16], "big"))


def with_fault(
    fault: Fault | PairFault,
    image: Image,
    severity: int,
    rng: Generator,
    other: Image | None = None,
) -> Image:
    """The image (C, *S) in [0, 1] with a fault, in [0, 1].

    Args:
        fault: which.
        image: (C, *S) in [0, 1]; it stays as it is.
        severity: 1 to 5.
        rng: where its random numbers come from.
        other: another image, (C', *S') in [0, 1], which a `PairFault` needs.
    """
    if isinstance(fault, PairFault):
        assert other is not None, "a pair of images is needed"
        return np.clip(fault.apply(image, severity, rng, other), 0, 1)
    return np.clip(fault(image, severity, rng), 0, 1)


def object_region(image: Image) -> npt.NDArray[np.bool_]:
    """(C, *S) → (*S): the largest region that is brighter than the mean; all of a flat image.

    Where there is anything to be seen: a fault in a black background, or on the table beside a
    patient, would be none.
    """
    grey = image.mean(axis=0)
    regions, count = ndimage.label(grey > grey.mean())
    if not count:  # flat, also where the mean is rounded up
        return np.ones(grey.shape, bool)
    found: npt.NDArray[np.bool_] = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
    return found


def background(image: Image) -> Image:
    """(C, *S) → (C, 1, …): what comes in from outside, the median of the outermost pixels.

    An image may be darkest far above 0, and a border of zeros would be a fault of its own.
    """
    inner = tuple(slice(1, -1) for _ in image.shape[1:])
    edge = np.ones(image.shape[1:], bool)
    edge[inner] = False
    return np.median(image[:, edge], axis=1).reshape(-1, *[1] * (image.ndim - 1))


def window(image: Image, share: float, rng: Generator) -> tuple[slice, ...]:
    """The index of all channels of a box around a pixel of the object, of `share` of each side."""
    centre = object_pixel(image, rng)
    sides = [max(1, round(share * side)) for side in image.shape[1:]]
    return around(centre, sides, image.shape[1:])


def around(centre: Sequence[int], sides: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """The index of all channels of the box of these sides whose middle is nearest to `centre`."""
    starts = [
        min(max(0, middle - side // 2), whole - side)
        for middle, side, whole in zip(centre, sides, shape, strict=True)
    ]
    return (slice(None), *(slice(a, a + side) for a, side in zip(starts, sides, strict=True)))


def object_pixel(image: Image, rng: Generator) -> list[int]:
    """A pixel of the object of an image (C, *S), one number a side."""
    places = np.argwhere(object_region(image))
    return [int(place) for place in places[int(rng.random() * len(places))]]
