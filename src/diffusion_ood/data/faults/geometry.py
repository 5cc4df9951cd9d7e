"""Faults of the place: what lies elsewhere, is cut off, is covered or comes from another image.

What comes in from outside the image is its background, the median of its outermost pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from diffusion_ood.data.faults.base import (
    Image,
    PairFault,
    around,
    background,
    object_region,
    window,
)

SHIFT = (0.04, 0.08, 0.15, 0.25, 0.4)
CROPPED = (0.06, 0.12, 0.22, 0.35, 0.55)
BOX = (0.07, 0.12, 0.22, 0.35, 0.55)
SLAB = (0.04, 0.07, 0.12, 0.2, 0.35)
FOREIGN_PATCH = (0.12, 0.2, 0.3, 0.45, 0.65)


def rotation(image: Image, severity: int, rng: Generator) -> Image:
    """Turned by 90° in the first two sides, at every severity.

    Of sides that differ, what reaches out of them is cut off, and the rest is filled.
    """
    turned = np.rot90(image, axes=(1, 2))
    sides = np.minimum(image.shape[1:3], turned.shape[1:3]).tolist()
    result = np.broadcast_to(background(image), image.shape).copy()
    result[_middle(result, sides)] = turned[_middle(turned, sides)]
    return result


def shift(image: Image, severity: int, rng: Generator) -> Image:
    """Moved by this share of the sides into a random direction."""
    direction = rng.uniform(-1, 1, image.ndim - 1)
    shares = SHIFT[severity - 1] * direction / np.abs(direction).max()
    steps = np.round(shares * image.shape[1:]).astype(int)
    if not steps.any():
        main = np.argmax(np.abs(direction))
        steps[main] = np.sign(direction[main])
    result = np.broadcast_to(background(image), image.shape).copy()
    result[_overlap(image, steps)] = image[_overlap(image, -steps)]
    return result


def cropped(image: Image, severity: int, rng: Generator) -> Image:
    """The field of view ends too early at one side: this share of the object is background."""
    axis, from_end = int(rng.integers(image.ndim - 1)), bool(rng.integers(2))
    others = tuple(other for other in range(image.ndim - 1) if other != axis)
    (places,) = np.nonzero(object_region(image).any(axis=others))
    first, last = int(places[0]), int(places[-1])
    depth = max(1, round(CROPPED[severity - 1] * (last - first + 1)))
    cut = slice(last - depth + 1, None) if from_end else slice(None, first + depth)
    result = image.copy()
    view = np.moveaxis(result, axis + 1, 0)
    view[cut] = np.moveaxis(background(image), axis + 1, 0)
    return result


def box(image: Image, severity: int, rng: Generator) -> Image:
    """A box of zeros around a pixel of the object, of this share of each side."""
    result = image.copy()
    result[window(image, BOX[severity - 1], rng)] = 0
    return result


def missing_slab(image: Image, severity: int, rng: Generator) -> Image:
    """Neighbouring slices of zeros across the last side, this share of them, through the object."""
    result = image.copy()
    result[..., window(image, SLAB[severity - 1], rng)[-1]] = 0
    return result


def flip_lr(image: Image, severity: int, rng: Generator) -> Image:
    """Left and right exchanged, at every severity: a volume's first side, a picture's last."""
    return np.flip(image, 1 if image.ndim == 4 else -1)


def swapped_quarters(image: Image, severity: int, rng: Generator) -> Image:
    """The quarters of the first two sides, each swapped with that across, at every severity."""
    result = image.copy()
    rows, columns = (side // 2 for side in image.shape[1:3])
    top, bottom = slice(rows), slice(image.shape[1] - rows, None)
    left, right = slice(columns), slice(image.shape[2] - columns, None)
    for one, across in (((top, left), (bottom, right)), ((top, right), (bottom, left))):
        for into, of in ((one, across), (across, one)):
            result[:, into[0], into[1]] = image[:, of[0], of[1]]
    return result


def _foreign_patch(image: Image, severity: int, rng: Generator, other: Image) -> Image:
    """A piece of another image, from around a pixel of its object to around one of this."""
    share = FOREIGN_PATCH[severity - 1]
    target, source = window(image, share, rng), window(other, share, rng)
    piece = other[source]
    if len(piece) != len(image):
        piece = np.repeat(piece.mean(axis=0, keepdims=True), len(image), axis=0)
    result = image.copy()
    place = result[target]  # a view; images may have different sides
    common = tuple(map(slice, np.minimum(place.shape, piece.shape)))
    place[common] = piece[common]
    return result


def _middle(image: Image, sides: list[int]) -> tuple[slice, ...]:
    """The index of a rectangle of these sides in the middle of the first two."""
    wholes = image.shape[1:3]
    return around([whole // 2 for whole in wholes], sides, wholes)


def _overlap(image: Image, steps: np.ndarray) -> tuple[slice, ...]:
    """The index of what an image that was moved by these steps covers of its old place."""
    sides = zip(steps.tolist(), image.shape[1:], strict=True)
    return (slice(None), *(slice(max(0, step), side + min(0, step)) for step, side in sides))


foreign_patch = PairFault(_foreign_patch)
