"""What all formats of volumes share: voxels in space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diffusion_ood.data.formats.base import Array


@dataclass(frozen=True)
class Volume:
    """A volume as its file, or the files of its series, declare it.

    Attributes:
        shape: voxels along the three axes, as stored; the fourth, if any, is the channels.
        affine: voxel index to millimetres towards the patient's right, front and head (RAS+),
            float64 (4, 4).
        load: the values of a box, (x, y, z) or (x, y, z, c), slope and intercept applied; only the
            box is read where the format allows it.
        unranged: why the user has to say which values become 0 and 1; empty where their type
            tells it.
    """

    shape: tuple[int, ...]
    affine: npt.NDArray[np.float64]
    load: Callable[[tuple[slice, ...]], Array]
    unranged: str = ""
