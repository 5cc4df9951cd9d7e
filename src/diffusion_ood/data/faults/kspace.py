"""Faults that arise where a scanner measures: between the lines of k-space (MRI).

The image that comes of them is a magnitude, as scanners show it. The phase axis, along which lines
are measured one after the other, is one of the first two.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from diffusion_ood.data.faults.base import Image

GHOSTING = (0.08, 0.2, 0.4, 0.65, 1.0)
MOTION = ((0.005, 0.5), (0.015, 1.5), (0.03, 3.0), (0.06, 6.0), (0.12, 12.0))
SPIKE = (0.015, 0.04, 0.09, 0.18, 0.35)
MOVES = 4
MIDDLE = 0.06  # of the lines, between the second move and the third: it is all in one place


def ghosting(image: Image, severity: int, rng: Generator) -> Image:
    """Lines but every n-th (n = 2, 3 or 4) lose a share of their signal: n - 1 copies appear."""
    axis, step = 1 + int(rng.integers(2)), int(rng.integers(2, 5))
    lines = np.fft.fftfreq(image.shape[axis], 1 / image.shape[axis]).round().astype(int)
    gains = np.where(lines % step == 0, 1.0, 1 - GHOSTING[severity - 1])
    spectrum = np.fft.fft(image, axis=axis) * _along(gains, axis, image.ndim)
    return np.abs(np.fft.ifft(spectrum, axis=axis))


def motion(image: Image, severity: int, rng: Generator) -> Image:
    """The object moves four times while the lines are measured; the middle lines are in place."""
    shift, degrees = MOTION[severity - 1]
    axis = 1 + int(rng.integers(2))
    times = (np.arange(MOVES) + rng.random(MOVES)) * (1 - MIDDLE) / MOVES
    times[MOVES // 2 :] += MIDDLE
    poses = np.zeros((MOVES + 1, image.ndim))  # a shift along each side, and a turn
    poses[1:] = rng.uniform(-1, 1, poses[1:].shape)
    lines = (np.arange(image.shape[axis]) + 0.5) / image.shape[axis]
    segments = np.searchsorted(times, lines)
    poses -= poses[segments[len(lines) // 2]]
    spectrum = np.zeros(image.shape, complex)
    for segment, pose in enumerate(poses):
        moved = _moved(image, pose[:-1] * shift, pose[-1] * degrees) if pose.any() else image
        mask = np.fft.ifftshift(segments == segment)
        spectrum += np.fft.fft(moved, axis=axis) * _along(mask, axis, image.ndim)
    return np.abs(np.fft.ifft(spectrum, axis=axis))


def spike(image: Image, severity: int, rng: Generator) -> Image:
    """One point of k-space, and its mirror, is far too strong: a plane wave over the image."""
    direction = rng.normal(size=image.ndim - 1)
    sides = np.array(image.shape[1:])
    frequency = rng.uniform(0.1, 0.4) * direction / np.linalg.norm(direction)
    cycles = np.round(frequency * sides)
    cycles[np.argmax(np.abs(frequency))] += not cycles.any()  # never the mean
    grid = np.indices(image.shape[1:])
    angle = 2 * np.pi * np.tensordot(cycles / sides, grid, axes=1) + rng.uniform(0, 2 * np.pi)
    return np.abs(image + SPIKE[severity - 1] * np.cos(angle))


def _along(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """Values of an axis, in a shape that broadcasts against all of them."""
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _moved(image: Image, shift: np.ndarray, degrees: float) -> Image:
    """Moved by shares of its sides and turned in the first two; edges go on outside."""
    sides = np.array(image.shape[1:])
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(len(sides))
    matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    middle = (sides - 1) / 2
    offset = middle - matrix @ (middle + shift * sides)
    return np.stack(
        [ndimage.affine_transform(c, matrix, offset, order=1, mode="nearest") for c in image]
    )
