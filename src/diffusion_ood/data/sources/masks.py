"""Masks: files that say which pixels of an image are not as they were."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from diffusion_ood.data.readers import ARRAY_SUFFIX, PICTURE_SUFFIXES, image_suffix


def mask_folder(images: Path) -> Path:
    """The folder of the masks of the images in a folder, beside it."""
    return images.with_name(f"{images.name}_masks")


def mask_name(image: str) -> str:
    """Of the mask of an image: a PNG file for a picture, an NPY file for an array or NIfTI."""
    suffix = ".png" if image_suffix(image) in PICTURE_SUFFIXES else ARRAY_SUFFIX
    return image if image.lower().endswith(suffix) else image + suffix


def encoded_mask(mask: npt.NDArray[np.bool_], name: str) -> bytes:
    """The bytes of a file of this name: 255 in the mask (*S), else 0."""
    file = io.BytesIO()
    values = 255 * mask.astype(np.uint8)
    if name.lower().endswith(ARRAY_SUFFIX):
        np.save(file, values)
    else:
        Image.fromarray(values).save(file, "PNG")
    return file.getvalue()
