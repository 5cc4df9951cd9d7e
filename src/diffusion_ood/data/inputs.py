"""Images in whichever form they come, files, arrays or a split's, as the model sees them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_ood.data.loaders import ImageSet, image_batches
from diffusion_ood.data.patients import patients
from diffusion_ood.data.readers import as_image, read_image, read_image_bytes
from diffusion_ood.data.slices import parts
from diffusion_ood.data.transforms import preparation, prepared_size
from diffusion_ood.errors import UserError
from diffusion_ood.options import ImageOptions

BATCH, BATCH_VALUES = 64, 2**24  # images, and numbers in them, that are read at a time

Images: TypeAlias = (
    "Sequence[str | Path] | Sequence[NDArray[Any]] | NDArray[Any] | Tensor | ImageSet"
)
"""Files; or arrays `(N, *S)`, `(N, *S, C)` or `(N, C, *S)` of the values that files would hold."""


class Reader:
    """Makes images of one model of files and arrays.

    Args:
        options: how a file becomes an image.
        shape: (C, *S) of the model's images.
    """

    def __init__(self, options: ImageOptions, shape: tuple[int, ...]) -> None:
        self.options, self.shape = options, shape
        self._prepare = preparation(options)

    def read(self, path: str | Path) -> Tensor:
        """A file as the model sees it, float32 `(C, *S)` in [0, 1].

        Raises:
            UserError: it cannot be read, or is not of the model's size.
        """
        return self._prepared(read_image(Path(path), self.options), str(path))

    def content(self, data: bytes, name: str, max_pixels: int) -> Tensor:
        """The content of a file of this name, as `read`; images of more pixels are refused."""
        return self._prepared(read_image_bytes(data, name, self.options, max_pixels), name)

    def array(self, values: NDArray[Any], name: str) -> Tensor:
        """An array of what a file of this name would hold, as `read`."""
        return self._prepared(as_image(values, name, self.options), name)

    def _prepared(self, stored: NDArray[Any], name: str) -> Tensor:
        try:
            sides = prepared_size(stored.shape[1:], self.options)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        if sides != self.shape[1:]:
            found, expected = (" x ".join(map(str, s)) for s in (sides, self.shape[1:]))
            raise UserError(
                f"{name}: found {found} pixels, expected {expected} as of the model's images"
            )
        return torch.as_tensor(self._prepare(stored))

    def batches(self, images: Images) -> Iterator[Tensor]:
        """Images as the model sees them, `(B, C, *S)`, at most `BATCH` at a time, volumes fewer.

        Raises:
            UserError: as `read`.
        """
        if isinstance(images, (str, Path)):
            raise UserError(f"found {images}, expected a list of images, as in [{str(images)!r}]")
        size = max(1, min(BATCH, BATCH_VALUES // math.prod(self.shape)))
        if isinstance(images, ImageSet):
            numbers = [part.tolist() for part in torch.arange(len(images)).split(size)]
            yield from image_batches(images, numbers, num_workers=0)
            return
        given = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
        for start in range(0, len(given), size):
            part = enumerate(given[start : start + size], start)
            yield torch.stack([self._one(image, number) for number, image in part])

    def _one(self, image: str | Path | NDArray[Any], number: int) -> Tensor:
        if isinstance(image, (str, Path)):
            return self.read(image)
        return self.array(np.asarray(image), f"image {number}")


def slices_of(images: Images, options: ImageOptions) -> Images:
    """The images, each volume replaced by its slices where the options ask for them.

    `names_of` says which they are.
    """
    if options.slices is None or isinstance(images, (str, Path, ImageSet, np.ndarray, Tensor)):
        return images
    found: list[Any] = []
    for image in images:
        if isinstance(image, (str, Path)):
            found += [f"{image}{part}" for part in parts(Path(image), options)]
        else:
            found.append(image)
    return found


def names_of(images: Images) -> list[str]:
    """What the images are called, where they are files."""
    if isinstance(images, ImageSet):
        return list(images.split.images)
    if isinstance(images, (np.ndarray, Tensor)):
        return []
    return [str(image) for image in images if isinstance(image, (str, Path))]


def patients_of(images: Images) -> list[int]:
    """Which of DICOM files are of one patient: a number from 0 on; empty unless all are DICOM."""
    if isinstance(images, ImageSet):
        paths = [images.split.image_path(i) for i in range(len(images))]
    else:
        paths = [Path(name) for name in names_of(images)]
    numbers: dict[str, int] = {}
    found = []
    for patient in patients(paths):
        if patient is None:
            return []
        found.append(numbers.setdefault(patient, len(numbers)))
    return found
