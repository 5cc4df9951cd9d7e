"""Pictures of images in [0, 1], as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torchvision.utils import make_grid, save_image

from diffusion_ood.runtime.files import atomic_write


def write_png(path: Path, image: Tensor) -> None:
    """An image `(C, H, W)` in [0, 1] as bytes, grey or in colours."""
    pixels = (image * 255).round().to(torch.uint8).movedim(0, 2).squeeze(2).cpu().numpy()
    with atomic_write(path, "wb") as file:
        Image.fromarray(pixels).save(file, format="png")


def read_png(path: Path) -> Tensor:
    """What `write_png` wrote, `(C, H, W)`."""
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image))
    return pixels.reshape(*pixels.shape[:2], -1).movedim(2, 0) / 255


def planes(volumes: Tensor, through: Sequence[int] | None = None) -> Tensor:
    """An axial, a coronal and a sagittal slice side by side, `(…, X, Y, Z)` → `(…, H, W)`.

    As radiologists see volumes in RAS+: the front or the head is up, and the patient's right, or
    in the sagittal slice the front, is left. Lower slices are centred on 0.

    Args:
        volumes: of any leading axes.
        through: the voxel (x, y, z) that all three meet in; None for the middle one.
    """
    sides = volumes.shape[-3:]
    x, y, z = through or [side // 2 for side in sides]
    across = volumes[..., z], volumes[..., y, :], volumes[..., x, :, :]
    upright = [plane.flip(-1, -2).transpose(-1, -2) for plane in across]
    height = max(plane.shape[-2] for plane in upright)
    gaps = [height - plane.shape[-2] for plane in upright]
    padded = [
        pad(p, (0, 0, gap // 2, gap - gap // 2)) for p, gap in zip(upright, gaps, strict=True)
    ]
    return torch.cat(padded, -1)


def flat(panels: Tensor) -> Tensor:
    """`(rows, columns, C, H, W)` of images, and of volumes `(rows, columns, C, X, Y, Z)`."""
    return planes(panels) if panels.ndim == 6 else panels


def save_sheet(path: Path, panels: Tensor) -> None:
    """A picture with a row an image: `(rows, columns, C, *S)` in [0, 1]."""
    panels = flat(panels)
    sheet = make_grid(panels.flatten(0, 1), nrow=panels.shape[1], padding=1, pad_value=0.5)
    with atomic_write(path, "wb") as file:
        save_image(sheet, file, format="png")
