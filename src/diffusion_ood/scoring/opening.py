"""The images of a split, opened for a model."""

from __future__ import annotations

from pathlib import Path

from diffusion_ood.data.loaders import ImageSet, open_images
from diffusion_ood.data.skipped import report_skipped
from diffusion_ood.data.splits import Split
from diffusion_ood.errors import UserError
from diffusion_ood.model import Diffusion
from diffusion_ood.options import LoadingOptions
from diffusion_ood.runtime import distributed
from diffusion_ood.runtime.words import counted


def open_for(
    diffusion: Diffusion, split: Split, name: str, loading: LoadingOptions, run_dir: Path
) -> ImageSet:
    """The images of a split, which have to be of the model's shape; every process calls this.

    Raises:
        UserError: images that cannot be read, or are of another shape.
    """
    images = open_images(
        split,
        diffusion.image_options,
        loading,
        progress=distributed.is_main(),
        expected=diffusion.image_shape,
    )
    report_skipped(images, name, run_dir)
    if images.shape != diffusion.image_shape:
        raise UserError(
            f"{split.path}: found images of {images.shape}, but the model was trained on "
            f"{diffusion.image_shape}; train with `image_size`, or convert the images"
        )
    return images


def count_trained_on(diffusion: Diffusion, images: ImageSet, purpose: str) -> int:
    """How many of the images the model was trained on.

    Raises:
        UserError: all of them, which serve no purpose such as `test`.
    """
    number = 0 if images.split.edit else diffusion.trained_on(images.digests)
    if number == len(images):
        raise UserError(
            f"{images.split.path}: found {counted(number, 'image')} that training has seen, "
            f"and no others, expected some to {purpose}"
        )
    return number
