"""Maps of where images are unusual, as arrays and as pictures over the images."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from diffusion_ood.data.inputs import Reader
from diffusion_ood.data.pictures import planes
from diffusion_ood.data.transforms import flip
from diffusion_ood.errors import UserError
from diffusion_ood.runtime.files import atomic_write
from diffusion_ood.screening.inputs import Item
from diffusion_ood.screening.volume_maps import volume_map

COLOURS = "inferno"
OPACITY = 0.75  # of the most unusual places
VOLUMES = ".nii.gz"


def picture(image: Tensor, of_image: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    """An image `(C, *S)` in [0, 1] as `(H, W, C)`; of a volume the planes where its map peaks."""
    flat = planes(image, _peak(of_image)) if image.ndim == 4 else image
    return (flat.movedim(0, -1) * 255).round().byte().numpy()


def overlay(image: Tensor, of_image: NDArray[np.float32], limit: float) -> NDArray[np.uint8]:
    """The map of an image over it in grey, `(H, W, 3)`; of a volume the planes where it peaks.

    Args:
        image: `(C, *S)` in [0, 1].
        of_image: its map, `(*S)`.
        limit: the value with the brightest colour; half of it and less has none.
    """
    values = of_image
    if of_image.ndim == 3:
        values = planes(torch.from_numpy(of_image), _peak(of_image)).numpy()
    share = np.clip(2 * values / limit - 1, 0, 1)[..., None]
    colours = mpl.colormaps[COLOURS](0.35 + 0.65 * share[..., 0])[..., :3]
    grey = picture(image, of_image).mean(-1, keepdims=True) / 255
    mixed = grey * (1 - OPACITY * share) + colours * OPACITY * share
    return (mixed * 255).round().astype(np.uint8)


def _peak(of_image: NDArray[np.float32] | None) -> list[int] | None:
    """The middle of the box, of a quarter of each side, with the greatest mean of a map.

    A single voxel, in air perhaps, would show nothing.
    """
    if of_image is None:
        return None
    boxes = [max(1, side // 4) for side in of_image.shape]
    means = ndimage.uniform_filter(of_image, boxes, mode="constant")
    return [int(i) for i in np.unravel_index(means.argmax(), of_image.shape)]


def map_path(folder: Path, within: str, shape: Sequence[int]) -> Path:
    """Where the map of an image lies, whose path within its folder or split this is.

    Args:
        folder: of all maps.
        within: ends with `.npy`, as an array does, or with anything else.
        shape: (C, *S) of the model's images; maps of volumes in files of their own are NIfTI.
    """
    # Names of slices go to other systems, too: `scan.nii.gz_axial=12.npy`.
    within = within.replace("::", "_")
    parts = [part for part in PurePosixPath(within).parts if part not in ("/", "..")]
    name = f"{parts[-1]}.npy"
    if len(shape) == 4 and not parts[-1].lower().endswith(".npy"):
        name = re.sub(r"(\.nii(\.gz)?)?$", VOLUMES, parts[-1], count=1, flags=re.IGNORECASE)
    return folder.joinpath(*parts[:-1], name)


def save_map(
    path: Path,
    image: Tensor,
    of_image: NDArray[np.float32],
    limit: float,
    item: Item,
    reader: Reader,
) -> None:
    """Write an array, or NIfTI in the volume's grid, and beside it a picture, each atomically.

    A volume that can no longer be read, for its grid, gets no map, aloud; the next run makes it.
    """
    if path.name.endswith(VOLUMES):
        upright = flip(torch.from_numpy(of_image)[None], item.edit, reader.options)[0].numpy()
        try:
            data = volume_map(upright, limit, item.path, reader.options)
        except UserError as error:
            print(f"no map: {error}", file=sys.stderr)
            return
        with atomic_write(path, "wb") as file:
            file.write(data)
    else:
        with atomic_write(path, "wb") as file:
            np.save(file, of_image)
    with atomic_write(path.with_suffix(".png"), "wb") as file:
        Image.fromarray(overlay(image, of_image, limit)).save(file, format="png")
