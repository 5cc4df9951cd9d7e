"""Maps of volumes as NIfTI, in the grid of the volume itself, as MOOD has them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from diffusion_ood.data.places import Place
from diffusion_ood.data.remote import Remote
from diffusion_ood.data.volumes import grid_of, open_volume
from diffusion_ood.detection.pixel_metrics import resized
from diffusion_ood.options import ImageOptions


def volume_map(
    of_image: NDArray[np.float32], limit: float, path: Path | Remote, options: ImageOptions
) -> bytes:
    """A NIfTI file of a map, float32 in [0, 1], with the shape and the affine of its volume.

    A value v of the map becomes v / (v + limit / 2). So 0.5 is what one in 200 voxels of validation
    images exceeds, and no two values become one. Crop, sizes and orientation are undone, linearly;
    what the model did not see is 0.

    Args:
        of_image: the map (*S), at least 0.
        limit: of the detector's maps.
        path: of the volume.
        options: how the volume became the model's image.
    """
    volume = open_volume(path.read() if isinstance(path, Remote) else Place.of(path))
    grid = grid_of(volume, options)
    unit = of_image / (of_image + limit / 2)
    found = grid.restored(resized(unit, grid.sides).astype(np.float32))
    return gzip.compress(nibabel.Nifti1Image(found, volume.affine).to_bytes(), mtime=0)
