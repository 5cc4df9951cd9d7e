"""Lesions: ellipses of changed intensity and patches of another image, at places that are known.

They are what maps are measured on. Foreign patches follow Tan et al. (2020), without blending.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from diffusion_ood.data.faults.base import Image, PairFault, around, object_pixel

RADIUS = (0.05, 0.08, 0.12, 0.16, 0.22)  # shares of a side
CHANGE = (0.15, 0.25, 0.4, 0.6, 0.9)
PATCH = (0.12, 0.18, 0.25, 0.35, 0.5)
MOST = 3
VISIBLE = 0.1
"""A pixel belongs to a lesion where one of its channels differs by so much."""
FILLED = 0.25  # of a patch has to be a lesion, or an ellipse is in its place


def _lesions(image: Image, severity: int, rng: Generator, other: Image) -> Image:
    """One to three lesions, ellipses or patches, around pixels of the object."""
    result = image
    for _ in range(int(rng.integers(1, MOST + 1))):
        middle, source = object_pixel(image, rng), object_pixel(other, rng)
        is_patch = rng.random() < 0.5
        ellipse = _ellipse(image.shape[1:], middle, RADIUS[severity - 1], rng)
        change = CHANGE[severity - 1] * (1 if rng.random() < 0.5 else -1)
        patched, box = _patched(result, other, middle, source, PATCH[severity - 1])
        if is_patch and visible(result, patched)[box].mean() >= FILLED:
            result = patched
        else:
            result = _brightened(result, ellipse, change)
    return result


def visible(before: Image, after: Image) -> npt.NDArray[np.bool_]:
    """Where two images (C, *S) differ so that it can be seen, (*S)."""
    return np.asarray((np.abs(after - before) >= VISIBLE).any(axis=0))


def _ellipse(
    sides: tuple[int, ...], middle: list[int], share: float, rng: Generator
) -> npt.NDArray[np.bool_]:
    """Inside an ellipse or ellipsoid that is turned in the first two sides, (*S)."""
    radii = np.maximum(1, share * np.array(sides) * rng.uniform(0.6, 1.4, len(sides)))
    angle = rng.uniform(0, np.pi)
    first, second, *rest = np.indices(sides) - np.reshape(middle, (-1, *[1] * len(sides)))
    along = np.cos(angle) * first + np.sin(angle) * second
    across = np.cos(angle) * second - np.sin(angle) * first
    places = np.array([along, across, *rest])
    return np.asarray(np.tensordot(1 / radii**2, places**2, axes=1) <= 1)


def _brightened(image: Image, where: npt.NDArray[np.bool_], change: float) -> Image:
    """Brighter or darker there by this much, the other way where most would not show it."""
    brighter, darker = (np.clip(image + sign * change * where, 0, 1) for sign in (1, -1))
    return brighter if visible(image, brighter)[where].mean() >= 0.5 else darker


def _patched(
    image: Image, other: Image, middle: list[int], source: list[int], share: float
) -> tuple[Image, tuple[slice, ...]]:
    """A box of `share` of each side from another image in its place, and where (*S) it lies."""
    wanted = [max(2, round(share * side)) for side in image.shape[1:]]
    sides = np.minimum(wanted, np.minimum(image.shape[1:], other.shape[1:])).tolist()
    target, origin = around(middle, sides, image.shape[1:]), around(source, sides, other.shape[1:])
    piece = other[origin]
    result = image.copy()
    result[target] = piece if len(piece) == len(image) else piece.mean(axis=0)
    return result, target[1:]


lesions = PairFault(_lesions, masked=True)
