"""Pictures of images in [0, 1], as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
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


def middle_slices(panels: Tensor) -> Tensor:
    """`(rows, columns, C, H, W)` of images, and of volumes `(rows, columns, C, D, H, W)`."""
    return panels[:, :, :, panels.shape[3] // 2] if panels.ndim == 6 else panels


def save_sheet(path: Path, panels: Tensor) -> None:
    """A picture with a row an image: `(rows, columns, C, *S)` in [0, 1]."""
    panels = middle_slices(panels)
    sheet = make_grid(panels.flatten(0, 1), nrow=panels.shape[1], padding=1, pad_value=0.5)
    with atomic_write(path, "wb") as file:
        save_image(sheet, file, format="png")
