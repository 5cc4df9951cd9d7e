"""Phantoms: ellipsoids with the size, grid and grey values of MNI152's heads; only a test set.

A large one is filled with twelve to twenty others, as in the phantom of Shepp and Logan (1974).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from diffusion_ood.data.sources.base import ImageArray, RawFiles, Source, SplitImages
from diffusion_ood.data.sources.mni152 import CENTRE, NOISE, Points, affine

SIDE = 32
COUNT = 100
HEAD = np.array([70.0, 88.0, 75.0])  # radii of the large one, mm
GREY = (0.35, 0.75)


def _read(raw: RawFiles, seed: int) -> SplitImages:
    rng = np.random.default_rng(seed)
    volumes = np.stack([_phantom(rng) for _ in range(COUNT)])
    return {"test": ImageArray(volumes, affine=affine(SIDE))}


def _phantom(rng: Generator) -> npt.NDArray[np.uint8]:
    volume = np.zeros((SIDE,) * 3)
    whole = _ellipsoid(np.zeros(3), HEAD * rng.uniform(0.9, 1.1, 3), rng)
    volume[whole] = rng.uniform(*GREY)
    for _ in range(int(rng.integers(12, 21))):
        middle = HEAD * rng.uniform(-0.6, 0.6, 3)
        volume[_ellipsoid(middle, rng.uniform(8, 35, 3), rng) & whole] = rng.uniform(*GREY)
    noisy = np.abs(volume + NOISE * rng.normal(size=volume.shape))
    return np.clip(255 * noisy, 0, 255).astype(np.uint8)


def _ellipsoid(middle: Points, radii: Points, rng: Generator) -> npt.NDArray[np.bool_]:
    """The voxels within an ellipsoid, turned at random; all in mm from the middle of a head."""
    matrix = affine(SIDE)
    places = np.tensordot(matrix[:3, :3], np.indices((SIDE,) * 3), 1)
    places += (matrix[:3, 3] - CENTRE - middle).reshape(3, 1, 1, 1)
    turned = np.tensordot(Rotation.random(rng=rng).as_matrix(), places, 1)
    inside: npt.NDArray[np.bool_] = (np.square(turned / radii.reshape(3, 1, 1, 1))).sum(axis=0) <= 1
    return inside


SOURCE = Source(
    read=_read, counts={"test": COUNT}, is_grayscale=True, options={"spatial_dimension": 3}
)
