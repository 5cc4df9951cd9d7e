"""Faults of the values: noise, uneven or wrong brightness, lost contrast and sharpness."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre
from numpy.random import Generator
from scipy import ndimage

from diffusion_ood.data.faults.base import Image

BIAS_FIELD = (0.25, 0.5, 1.0, 1.7, 2.6)
NOISE = (0.02, 0.05, 0.1, 0.18, 0.3)
BLUR = (0.5, 0.8, 1.2, 1.9, 3.0)
GAMMA = (1.1, 1.3, 1.7, 2.3, 3.5)
CONTRAST = (0.9, 0.75, 0.55, 0.35, 0.15)
WINDOW = (0.95, 0.8, 0.6, 0.4, 0.2)
RESAMPLING = (1.15, 1.4, 2.0, 3.0, 4.5)
BIAS_DEGREE = 3
BLUR_SIDE, LEAST_SIDE = 64, 32


def bias_field(image: Image, severity: int, rng: Generator) -> Image:
    """Times exp of a random Legendre polynomial of degree 3 whose largest value is ±strength.

    The field is that of Van Leemput et al. (1999), as in MONAI's `RandBiasField`.
    """
    degrees = np.indices((BIAS_DEGREE + 1,) * (image.ndim - 1)).sum(axis=0)
    weights = rng.normal(size=degrees.shape) * ((degrees > 0) & (degrees <= BIAS_DEGREE))
    places = [np.linspace(-1, 1, side) for side in image.shape[1:]]
    field = weights
    for place in places:  # an axis of degrees becomes one of places, behind the others
        field = np.tensordot(field, legendre.legvander(place, BIAS_DEGREE), axes=(0, 1))
    return image * np.exp(BIAS_FIELD[severity - 1] * field / np.abs(field).max())


def noise(image: Image, severity: int, rng: Generator) -> Image:
    """Independent Gaussian noise in every pixel and channel."""
    return image + NOISE[severity - 1] * rng.normal(size=image.shape)


def blur(image: Image, severity: int, rng: Generator) -> Image:
    """A Gaussian filter; its σ in pixels grows with the square root of a side, from 32 on."""
    sides = np.maximum(image.shape[1:], LEAST_SIDE)
    sigmas = BLUR[severity - 1] * np.sqrt(sides / BLUR_SIDE)
    return ndimage.gaussian_filter(image, [0, *sigmas], mode="nearest")


def gamma(image: Image, severity: int, rng: Generator) -> Image:
    """To the power of γ or of 1 / γ: too dark or too bright."""
    power = GAMMA[severity - 1]
    return image ** (power if rng.random() < 0.5 else 1 / power)


def contrast(image: Image, severity: int, rng: Generator) -> Image:
    """All values nearer to their mean: this share of the contrast is left."""
    mean = image.mean()
    return mean + CONTRAST[severity - 1] * (image - mean)


def inversion(image: Image, severity: int, rng: Generator) -> Image:
    """Black is white, at every severity: 1 - x."""
    return 1 - image


def wrong_window(image: Image, severity: int, rng: Generator) -> Image:
    """A window of this share of the range, too far up or down, fills the whole of it."""
    width = WINDOW[severity - 1]
    return (image - rng.random() * (1 - width)) / width


def resampling(image: Image, severity: int, rng: Generator) -> Image:
    """Averaged to fewer pixels, by this factor along every side, each then repeated."""
    factor = RESAMPLING[severity - 1]
    sides = np.array(image.shape[1:])
    coarse = np.maximum(1, np.minimum(np.round(sides / factor), sides - 1))
    smooth = ndimage.gaussian_filter(image, [0, *(sides / coarse - 1) / 2], mode="nearest")
    small = _zoomed(smooth, coarse / sides, order=1)
    return _zoomed(small, sides / coarse, order=0)


def _zoomed(image: Image, factors: np.ndarray, order: int) -> Image:
    """Every side times its factor; pixels are areas, not points."""
    return ndimage.zoom(image, [1, *factors], order=order, mode="nearest", grid_mode=True)
