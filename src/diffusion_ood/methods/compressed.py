"""How hard an image is to compress."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

FORMATS: tuple[dict[str, Any], ...] = (
    {"format": "PNG", "compress_level": 9},
    {"format": "JPEG2000", "irreversible": False},
)


def compressed_bits(image: Tensor) -> float:
    """The bits of an image's shortest lossless file, PNG or JPEG 2000; of a volume, of its slices.

    Args:
        image: shape `(C, *S)` in [0, 1], which is taken in 8 bits; each of more channels than three
            is a picture of its own.
    """
    pixels = (image * 255).round().byte().numpy()
    if pixels.shape[0] == 3 and pixels.ndim == 3:
        pictures = [pixels.transpose(1, 2, 0)]
    else:
        pictures = list(pixels.reshape(-1, *pixels.shape[-2:]))
    return float(8 * min(sum(_bytes(picture, how) for picture in pictures) for how in FORMATS))


def _bytes(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], how: dict[str, Any]) -> int:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, **how)
    return len(file.getvalue())
