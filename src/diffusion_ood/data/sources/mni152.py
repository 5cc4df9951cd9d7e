"""MNI152: heads of many shapes, warped from the T1 template that nilearn's package holds.

The template is the ICBM 152 nonlinear average of 2009, symmetric, skull-stripped (Fonov et al.
2009, 2011). Every head is another smooth warp of it, with another pose, size, contrast, bias field
and noise. A symmetric head could not show that it is mirrored, so that all heads get what brains
have on average, the Yakovlevian torque: the right frontal lobe reaches further to the front, the
left occipital lobe further back and over the midline. Here it is `TORQUE`, two or three times as
much as in people, as a voxel measures 7 mm.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy import ndimage
from scipy.spatial.transform import Rotation

from diffusion_ood.data.faults.intensity import bias_field
from diffusion_ood.data.sources.base import PARTS, ImageArray, Part, RawFiles, Source, SplitImages
from diffusion_ood.errors import UserError

COUNTS: dict[Part, int] = {"train": 400, "val": 100, "test": 100}
TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
FIELD_OF_VIEW = 224.0  # mm along each axis
CENTRE = (0.0, -17.0, 5.0)  # of the brain, mm in MNI space
TORQUE = 8.0  # mm
WARP, WAVES = 4.0, 6  # mm (standard deviation), and cosines along an axis
TURN, ZOOM, SHIFT = 5.0, 0.05, 4.0  # degrees, share, mm (standard deviations)
GAIN, GAMMA, NOISE = (0.75, 1.0), (0.8, 1.25), 0.015

Points = npt.NDArray[np.float64]


def affine(side: int) -> Points:
    """Voxel index to mm in MNI space (RAS+) of a volume of `side` voxels a side, (4, 4)."""
    step = FIELD_OF_VIEW / side
    matrix = np.diag([step, step, step, 1.0])
    matrix[:3, 3] = np.array(CENTRE) - step * (side - 1) / 2
    return matrix


def _read(raw: RawFiles, seed: int, side: int) -> SplitImages:
    template, to_voxel = _template(FIELD_OF_VIEW / side)
    rng = np.random.default_rng(seed)
    parts = {}
    for part in PARTS:
        heads = np.stack([_head(template, to_voxel, side, rng) for _ in range(COUNTS[part])])
        parts[part] = ImageArray(heads, affine=affine(side))
    return parts


def _template(step: float) -> tuple[Points, Points]:
    """The template in [0, 1], smoothed for voxels of `step` mm, and mm to its voxel index."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None or importlib.util.find_spec("nibabel") is None:
        raise UserError(
            "MNI152: nilearn or nibabel is not installed, expected pip install nilearn nibabel"
        )
    import nibabel

    stored = nibabel.load(Path(found.origin).parent / TEMPLATE)
    values = np.asarray(stored.dataobj, np.float64) / 255
    return ndimage.gaussian_filter(values, step / 2.5), np.linalg.inv(stored.affine)


def _head(template: Points, to_voxel: Points, side: int, rng: Generator) -> npt.NDArray[np.uint8]:
    """One head, (side, side, side)."""
    matrix = affine(side)
    places = np.tensordot(matrix[:3, :3], np.indices((side,) * 3), 1)
    places += matrix[:3, 3].reshape(3, 1, 1, 1) - np.reshape(CENTRE, (3, 1, 1, 1))
    turn = Rotation.from_euler("xyz", TURN * rng.normal(size=3), degrees=True).as_matrix()
    zoom = np.exp(ZOOM * rng.normal(size=(3, 1, 1, 1)))
    moved = np.tensordot(turn, places, 1) * zoom + SHIFT * rng.normal(size=(3, 1, 1, 1))
    moved += _warp(side, rng) + rng.uniform(0.6, 1.4) * _torque(moved)
    moved += np.reshape(CENTRE, (3, 1, 1, 1))
    index = np.tensordot(to_voxel[:3, :3], moved, 1) + to_voxel[:3, 3].reshape(3, 1, 1, 1)
    head = ndimage.map_coordinates(template, index, order=1)
    head = bias_field(head[None] ** rng.uniform(*GAMMA), 1, rng)[0] * rng.uniform(*GAIN)
    return np.clip(255 * np.abs(head + NOISE * rng.normal(size=head.shape)), 0, 255).astype(
        np.uint8
    )


def _warp(side: int, rng: Generator) -> Points:
    """A smooth displacement in mm, (3, side, side, side)."""
    waves = np.cos(np.pi / side * np.outer(np.arange(side) + 0.5, np.arange(WAVES)))
    weights = rng.normal(size=(3, *[WAVES] * 3))
    warp = np.einsum("cijk,xi,yj,zk->cxyz", weights, waves, waves, waves, optimize=True)
    return WARP * warp / warp.std()


def _torque(places: Points) -> Points:
    """Where in the symmetric template a place of a head is found, less the place, in mm.

    Args:
        places: (3, X, Y, Z), mm from the middle of the brain, RAS.
    """
    x, y, _ = places / np.reshape((35.0, 60.0, 60.0), (3, 1, 1, 1))
    front, right = np.tanh(y), np.tanh(x)
    longer = -TORQUE / 2 * right * np.abs(front)  # forward at the right, backward at the left
    bent = -TORQUE / 2 * np.maximum(-front, 0) * np.exp(-(x**2))  # the midline, at the back
    return np.stack([bent, longer, np.zeros_like(x)])


SOURCE = Source(
    read=partial(_read, side=32), counts=COUNTS, is_grayscale=True, options={"spatial_dimension": 3}
)
LARGER = replace(SOURCE, read=partial(_read, side=64))
